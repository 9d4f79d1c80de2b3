//! Why nothing could be sent, and when something can be sent again.

use crate::record::Reason;
use crate::time::UnixTime;

/// Collected over every key and provider that a request might have used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shortage {
    /// The earliest moment at which anything is ready.
    ready_at: Option<UnixTime>,
    /// The same, among those whose rest has a known end.
    pub limited: bool,
    pub out_of_quota: bool,
    /// Some account's quota comes back at a time that its provider named (or by an own limit).
    pub quota_reset_known: bool,
    pub rejected: bool,
    pub overloaded: bool,
    pub maintenance: bool,
    /// Usable keys exist, but this request has used up its attempts.
    pub tried: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    Rest {
        reason: Reason,
        hinted: bool,
    },
    /// An own limit of the key.
    OwnLimit,
    Maintenance,
    /// Outside of the key's validity.
    NotValid,
    /// Used by this request already.
    Tried,
}

/// What a shortage amounts to for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Rate limits: comes back by itself, soon.
    Exhausted,
    /// Every account is out of quota; `reset_known`: and it is known until when.
    OutOfQuota {
        reset_known: bool,
    },
    Maintenance,
    Overloaded,
    /// Every key was rejected by its provider, or none is valid now: an operator has to act.
    NoUsableKey,
}

impl Shortage {
    pub fn note(&mut self, lack: Lack, until: UnixTime) {
        match lack {
            Lack::Rest { reason: Reason::RateLimited, .. } | Lack::OwnLimit => self.limited = true,
            Lack::Rest { reason: Reason::OutOfQuota, hinted } => {
                self.out_of_quota = true;
                self.quota_reset_known |= hinted;
            }
            Lack::Rest { reason: Reason::KeyRejected, .. } | Lack::NotValid => self.rejected = true,
            Lack::Rest { reason: Reason::Overloaded | Reason::Failing, .. } => {
                self.overloaded = true
            }
            Lack::Maintenance => self.maintenance = true,
            Lack::Tried => self.tried = true,
        }
        self.ready_by(until);
    }

    pub fn merge(&mut self, other: &Self) {
        self.limited |= other.limited;
        self.out_of_quota |= other.out_of_quota;
        self.quota_reset_known |= other.quota_reset_known;
        self.rejected |= other.rejected;
        self.overloaded |= other.overloaded;
        self.maintenance |= other.maintenance;
        self.tried |= other.tried;
        if let Some(at) = other.ready_at {
            self.ready_by(at);
        }
    }

    /// When the first of them is ready; `None` if that is never.
    pub fn ready_at(&self) -> Option<UnixTime> {
        self.ready_at
    }

    /// What comes back soonest decides: a rate limit before overload, maintenance, quota, rejection.
    pub fn verdict(&self) -> Verdict {
        if self.limited || self.tried {
            Verdict::Exhausted
        } else if self.overloaded {
            Verdict::Overloaded
        } else if self.maintenance {
            Verdict::Maintenance
        } else if self.out_of_quota {
            Verdict::OutOfQuota { reset_known: self.quota_reset_known }
        } else {
            Verdict::NoUsableKey
        }
    }

    fn ready_by(&mut self, at: UnixTime) {
        if at != UnixTime::NEVER {
            self.ready_at = Some(self.ready_at.map_or(at, |known| known.min(at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_moment_and_the_mildest_reason_win() {
        let rest = |reason| Lack::Rest { reason, hinted: false };
        let mut shortage = Shortage::default();
        assert_eq!((shortage.verdict(), shortage.ready_at()), (Verdict::NoUsableKey, None));
        shortage.note(rest(Reason::KeyRejected), UnixTime(90));
        shortage.note(Lack::NotValid, UnixTime::NEVER);
        assert_eq!(shortage.verdict(), Verdict::NoUsableKey);
        shortage.note(rest(Reason::OutOfQuota), UnixTime(80));
        assert_eq!(shortage.verdict(), Verdict::OutOfQuota { reset_known: false });
        shortage.note(Lack::Maintenance, UnixTime(70));
        assert_eq!(shortage.verdict(), Verdict::Maintenance);
        let mut all = Shortage::default();
        all.note(rest(Reason::RateLimited), UnixTime(75));
        all.merge(&shortage);
        assert_eq!((all.verdict(), all.ready_at()), (Verdict::Exhausted, Some(UnixTime(70))));
    }
}
