//! What is remembered of a key, of the keys of one account, of a provider: rest, refusal, headroom, own
//! limits. One record a slot, one compare-and-swap a transition (see [`crate::ledger`]).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limit::window::Windows;
use crate::limit::{Amounts, Limit};
use crate::time::UnixTime;

/// The record of a key, of a group of keys of one account, or of a provider.
///
/// A key that is alone in its account has one record for both; otherwise refusal and own limits are in
/// the key's, rest and headroom in the group's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Of the secret that the record is about; 0 while unknown. Never the secret.
    pub fingerprint: u64,
    /// About all that the record's owner is asked for.
    pub rest: Rest,
    /// About single models, at most [`MAX_MODELS`]; the one that ends first makes room.
    pub models: Vec<ModelRest>,
    pub requests: Gauge,
    pub tokens: Gauge,
    /// Use of the key's own limits.
    pub windows: Windows,
    /// Server errors and broken connections in a row.
    pub failures: u8,
}

/// Models that can rest on one key at the same time.
pub const MAX_MODELS: usize = 16;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRest {
    pub model: String,
    pub rest: Rest,
}

/// Resting until a moment, and how it came to that. The default is "ready".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// `None`: ready.
    pub reason: Option<Reason>,
    /// When the rest began; an answer to a request sent before says nothing new.
    pub since: UnixTime,
    pub until: UnixTime,
    /// After `until`, one request at a time may try; until when that one has the turn.
    pub probe: UnixTime,
    /// How often in a row it had to rest; the exponent of the back-off where there is no hint.
    pub level: u8,
    /// Whether the provider itself said until when.
    pub hinted: bool,
}

/// What puts something to rest.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    pub reason: Reason,
    pub until: UnixTime,
    /// Whether the provider itself said until when.
    pub hinted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    RateLimited,
    OutOfQuota,
    KeyRejected,
    Overloaded,
    /// Several server errors or broken connections in a row.
    Failing,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::OutOfQuota => "out_of_quota",
            Self::KeyRejected => "key_rejected",
            Self::Overloaded => "overloaded",
            Self::Failing => "failing",
        }
    }
}

/// What the provider last said is left, less what was sent since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    pub remaining: u64,
    /// 0: nothing is known.
    pub limit: u64,
    /// When `remaining` was so.
    pub at: UnixTime,
    /// When it is `limit` again. The gauge says nothing any more then.
    pub reset: UnixTime,
    /// Nanoseconds until one more is left, where it fills up steadily; 0 where it does at `reset`.
    pub unit: u64,
}

/// How something stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Ready,
    /// The rest is over: one request may try.
    Recovering,
    /// The rest is over and somebody is trying; until when that one has the turn.
    Probing(UnixTime),
    Resting(UnixTime, Reason),
}

/// How long a probe keeps others away if nothing is heard of it.
pub const PROBE_LEASE: Duration = Duration::from_secs(30);

/// What was learnt by a clock that has gone back by more than this says nothing: that clock was wrong, and might
/// keep a key away for years.
const CLOCK_STEP: Duration = Duration::from_secs(5 * 60);

impl Rest {
    pub fn standing(&self, now: UnixTime) -> Standing {
        match self.reason {
            None => Standing::Ready,
            Some(reason) if !self.is_over(now) => Standing::Resting(self.until, reason),
            Some(_) if now < self.probe && self.probe <= now.after(PROBE_LEASE) => {
                Standing::Probing(self.probe)
            }
            Some(_) => Standing::Recovering,
        }
    }

    fn is_over(&self, now: UnixTime) -> bool {
        now >= self.until || is_from_ahead(self.since, now)
    }

    /// Puts to rest on what was learnt by a request sent at `sent`. Returns whether that is a transition
    /// (and not one more answer to the same burst of requests).
    pub fn enter(&mut self, cause: Cause, sent: UnixTime, now: UnixTime) -> bool {
        let news = self.reason.is_none() || self.is_told_by(sent, now);
        if news {
            self.since = now;
            self.level = self.level.saturating_add(1);
        }
        // A longer rest wins; a shorter one never cuts a longer one. The back-off of a burst is drawn once.
        let drawn = !cause.hinted && self.reason == Some(cause.reason);
        if news || cause.until > self.until && !drawn {
            self.reason = Some(cause.reason);
            self.until = cause.until;
            self.hinted = cause.hinted;
            self.probe = UnixTime(0);
        }
        news
    }

    /// A request sent at `sent` had a good answer. Clears a rest that is over, not one that began after
    /// the request was sent: that answer says nothing about it.
    pub fn clear(&mut self, sent: UnixTime, now: UnixTime) -> bool {
        let over = self.is_told_by(sent, now);
        if over {
            *self = Self::default();
        }
        over
    }

    /// Whether there was a rest, it is over, and an answer to a request sent at `sent` tells how it stands.
    fn is_told_by(&self, sent: UnixTime, now: UnixTime) -> bool {
        let told = sent > self.since || is_from_ahead(self.since, now);
        self.reason.is_some() && told && self.is_over(now)
    }
}

fn is_from_ahead(moment: UnixTime, now: UnixTime) -> bool {
    now.until(moment) > CLOCK_STEP
}

impl Record {
    pub fn model(&self, model: &str) -> Option<&Rest> {
        self.models.iter().find(|m| m.model == model).map(|m| &m.rest)
    }

    pub fn model_mut(&mut self, model: &str) -> Option<&mut Rest> {
        self.models.iter_mut().find(|m| m.model == model).map(|m| &mut m.rest)
    }

    /// The rest of `model`, made if there is none.
    pub fn model_entry(&mut self, model: &str) -> &mut Rest {
        let position = match self.models.iter().position(|m| m.model == model) {
            Some(position) => position,
            None => {
                if self.models.len() >= MAX_MODELS {
                    let first = self.models.iter().enumerate().min_by_key(|(_, m)| m.rest.until);
                    if let Some((index, _)) = first {
                        self.models.swap_remove(index);
                    }
                }
                self.models.push(ModelRest { model: model.to_owned(), rest: Rest::default() });
                self.models.len() - 1
            }
        };
        // The position was just found or made; the fallback keeps the core free of panics.
        match self.models.get_mut(position) {
            Some(entry) => &mut entry.rest,
            None => &mut self.rest,
        }
    }

    /// A request about `model` had a good answer ([`Rest::clear`]).
    pub fn clear(&mut self, model: &str, sent: UnixTime, now: UnixTime) -> bool {
        let cleared = self.rest.clear(sent, now);
        let model_cleared = self.model_mut(model).is_some_and(|rest| rest.clear(sent, now));
        if model_cleared {
            self.models.retain(|entry| entry.rest.reason.is_some());
        }
        cleared || model_cleared
    }

    /// Ends the turn of whoever was trying; whether there was one.
    pub fn end_turn(&mut self, model: &str) -> bool {
        let never = UnixTime(0);
        let turn = core::mem::replace(&mut self.rest.probe, never);
        let model_turn = self.model_mut(model).map(|m| core::mem::replace(&mut m.probe, never));
        turn != never || model_turn.is_some_and(|turn| turn != never)
    }

    /// Forgets what was known of another secret behind the same id.
    pub fn adopt(&mut self, fingerprint: u64) -> bool {
        let news = fingerprint != 0 && self.fingerprint != fingerprint;
        if news {
            let windows = core::mem::take(&mut self.windows);
            *self = Self { fingerprint, ..Self::default() };
            self.windows = windows;
        }
        news
    }

    /// When own limits leave room for a request of `need`; `None`: now.
    pub fn limited_until(
        &self,
        limits: &[Limit],
        need: &Amounts,
        now: UnixTime,
    ) -> Option<UnixTime> {
        let full = limits.iter().filter_map(|limit| {
            // A request larger than the whole limit may go when nothing else was counted.
            let need = need.of(limit.unit).min(limit.max);
            self.windows.of(limit, now).room(limit, need).err()
        });
        full.max()
    }

    /// What is left of own limits and of what the provider reported: 1 all, 0 nothing.
    pub fn headroom(&self, limits: &[Limit], now: UnixTime) -> f64 {
        let own = self
            .windows
            .standing(limits, now)
            .map(|standing| standing.left as f64 / standing.limit.max.max(1) as f64);
        let reported = [self.requests, self.tokens].into_iter().filter_map(|g| g.fraction(now));
        own.chain(reported).fold(1.0, f64::min)
    }
}

impl Gauge {
    /// Share that is left; `None` where nothing is known (any more).
    pub fn fraction(&self, now: UnixTime) -> Option<f64> {
        let left = self.left(now)?;
        Some((left as f64 / self.limit as f64).min(1.0))
    }

    /// Until when the provider will refuse a request that takes `need`, by its own account.
    pub fn empty_until(&self, need: u64, now: UnixTime) -> Option<UnixTime> {
        if self.left(now)? > 0 {
            return None;
        }
        let wait = Duration::from_nanos(self.unit.saturating_mul(need.clamp(1, self.limit)));
        let until = if self.unit == 0 { self.reset } else { self.at.after(wait).min(self.reset) };
        (now < until).then_some(until)
    }

    /// Takes one off.
    pub fn take(&mut self, now: UnixTime) -> bool {
        let Some(left) = self.left(now) else { return false };
        if let Some(refilled) = self.refilled(now).filter(|refilled| *refilled > 0) {
            let filled = Duration::from_nanos(refilled.saturating_mul(self.unit));
            self.at = self.at.after(filled);
        }
        self.remaining = left.saturating_sub(1);
        true
    }

    fn left(&self, now: UnixTime) -> Option<u64> {
        let known = self.limit > 0 && now < self.reset && !is_from_ahead(self.at, now);
        let refilled = self.refilled(now).unwrap_or_default();
        known.then(|| self.remaining.saturating_add(refilled).min(self.limit))
    }

    fn refilled(&self, now: UnixTime) -> Option<u64> {
        let gone = u64::try_from(self.at.until(now).as_nanos()).unwrap_or(u64::MAX);
        gone.checked_div(self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Per, Unit};

    const T: UnixTime = UnixTime(1_800_000_000_000);

    fn cause(reason: Reason, until: UnixTime) -> Cause {
        Cause { reason, until, hinted: true }
    }

    fn limit(unit: Unit, max: u64, per: Per) -> Limit {
        Limit { unit, max, per, algorithm: Algorithm::FixedWindow }
    }

    fn at(seconds: u64) -> UnixTime {
        T.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_rest_ends_and_lets_one_probe_through() {
        let mut rest = Rest::default();
        assert_eq!(rest.standing(T), Standing::Ready);
        assert!(rest.enter(cause(Reason::RateLimited, at(10)), T, T));
        assert_eq!(rest.standing(at(9)), Standing::Resting(at(10), Reason::RateLimited));
        assert_eq!(rest.standing(at(10)), Standing::Recovering);
        rest.probe = at(40);
        assert_eq!(rest.standing(at(10)), Standing::Probing(at(40)));
        assert_eq!(rest.standing(at(40)), Standing::Recovering, "a lost probe gives its turn back");
        assert!(!rest.clear(T, at(41)), "an answer to a request from before the rest");
        assert!(rest.clear(at(40), at(41)));
        assert_eq!(rest, Rest::default());
    }

    #[test]
    fn a_clock_that_was_far_ahead_keeps_no_key_away() {
        let ahead = at(365 * 86_400);
        let until = ahead.after(Duration::from_secs(60));
        let mut rest = Rest::default();
        assert!(rest.enter(cause(Reason::RateLimited, until), ahead, ahead));
        rest.probe = until.after(PROBE_LEASE);
        assert_eq!(rest.standing(ahead), Standing::Resting(until, Reason::RateLimited));
        assert_eq!(rest.standing(at(0)), Standing::Recovering, "one request may try");
        rest.probe = at(30);
        assert_eq!(rest.standing(at(1)), Standing::Probing(at(30)));
        let mut refused = rest;
        assert!(refused.enter(cause(Reason::RateLimited, at(20)), at(0), at(1)));
        assert_eq!(refused.standing(at(2)), Standing::Resting(at(20), Reason::RateLimited));
        assert!(rest.clear(at(0), at(1)), "and its answer is believed");
        // A correction of seconds changes nothing.
        assert!(rest.enter(cause(Reason::RateLimited, at(90)), at(60), at(60)));
        assert_eq!(rest.standing(at(50)), Standing::Resting(at(90), Reason::RateLimited));

        let (remaining, limit, unit) = (0, 9, 0);
        let gauge = Gauge { remaining, limit, at: ahead, reset: until, unit };
        assert_eq!(gauge.empty_until(1, ahead), Some(until));
        assert_eq!((gauge.empty_until(1, at(0)), gauge.fraction(at(0))), (None, None));
    }

    #[test]
    fn a_burst_of_refusals_is_one_transition_and_the_longest_rest_wins() {
        let mut rest = Rest::default();
        assert!(rest.enter(cause(Reason::RateLimited, at(10)), T, T));
        assert!(!rest.enter(cause(Reason::RateLimited, at(5)), T, at(1)));
        assert_eq!(rest.until, at(10));
        assert!(!rest.enter(cause(Reason::OutOfQuota, at(60)), T, at(1)));
        assert_eq!((rest.until, rest.level), (at(60), 1));
        assert!(
            rest.enter(cause(Reason::RateLimited, at(90)), at(61), at(62)),
            "a probe that failed"
        );
        assert_eq!(rest.level, 2);
    }

    #[test]
    fn a_late_success_does_not_wake_a_resting_key() {
        let mut rest = Rest::default();
        rest.enter(cause(Reason::RateLimited, at(10)), T, T);
        assert!(!rest.clear(at(1), at(3)));
        assert_eq!(rest.reason, Some(Reason::RateLimited));
    }

    #[test]
    fn a_back_off_is_drawn_once_a_burst() {
        let unhinted = |reason, until| Cause { reason, until, hinted: false };
        let mut rest = Rest::default();
        assert!(rest.enter(unhinted(Reason::RateLimited, at(30)), T, T));
        rest.enter(unhinted(Reason::RateLimited, at(60)), T, T);
        assert_eq!((rest.until, rest.level), (at(30), 1));
        rest.enter(cause(Reason::RateLimited, at(40)), T, T);
        assert_eq!(rest.until, at(40), "a hint is no draw");
        rest.enter(unhinted(Reason::OutOfQuota, at(90)), T, T);
        assert_eq!(rest.until, at(90), "another reason");
    }

    #[test]
    fn a_turn_ends_for_key_and_model() {
        let mut record = Record::default();
        assert!(!record.end_turn("m"));
        record.model_entry("m").enter(cause(Reason::RateLimited, at(1)), T, T);
        for rest in [&mut record.rest, &mut record.models[0].rest] {
            rest.probe = at(30);
        }
        assert!(record.end_turn("m") && !record.end_turn("m"));
        assert_eq!(record.model("m").unwrap().standing(at(2)), Standing::Recovering);
    }

    #[test]
    fn models_that_rest_are_bounded() {
        let mut record = Record::default();
        for n in 0..40 {
            let until = at(100 + n);
            record.model_entry(&format!("m{n}")).enter(cause(Reason::RateLimited, until), T, T);
        }
        assert_eq!(record.models.len(), MAX_MODELS);
        assert!(record.model("m39").is_some() && record.model("m0").is_none());
    }

    #[test]
    fn own_limits_count_per_window() {
        let limits = [limit(Unit::Requests, 2, Per::Minute), limit(Unit::Tokens, 100, Per::Day)];
        let tokens = |prompt| Amounts { requests: 1, prompt, ..Amounts::default() };
        let mut record = Record::default();
        let until = |record: &Record, prompt| record.limited_until(&limits, &tokens(prompt), T);
        assert_eq!(until(&record, 500), None, "never refused for its size alone");
        record.windows.add(&limits, &tokens(60), T);
        assert_eq!(record.headroom(&limits, T), 0.4);
        assert_eq!(until(&record, 60), Some(T.window_end(Per::Day)));
        assert_eq!(until(&record, 40), None);
        record.windows.correct(&limits, &tokens(60), &tokens(10), T, T);
        record.windows.add(&limits, &tokens(0), T);
        assert_eq!(until(&record, 60), Some(T.window_end(Per::Minute)));
        let next = T.window_end(Per::Minute);
        assert_eq!(record.limited_until(&limits, &tokens(60), next), None);
    }

    #[test]
    fn a_new_secret_starts_ready_but_keeps_its_counts() {
        let limits = [limit(Unit::Requests, 2, Per::Minute)];
        let two = Amounts { requests: 2, ..Amounts::default() };
        let mut record = Record { fingerprint: 7, ..Record::default() };
        record.rest.enter(cause(Reason::KeyRejected, at(1000)), T, T);
        record.windows.add(&limits, &two, T);
        assert!(!record.adopt(7) && !record.adopt(0));
        assert!(record.adopt(8));
        assert_eq!(record.rest.standing(T), Standing::Ready);
        assert!(record.limited_until(&limits, &two, T).is_some());
    }

    #[test]
    fn reported_headroom_is_forgotten_at_its_reset() {
        let gauge = Gauge { remaining: 0, limit: 60, at: T, reset: at(5), unit: 0 };
        assert_eq!(gauge.empty_until(1, T), Some(at(5)));
        assert_eq!(gauge.fraction(T), Some(0.0));
        assert_eq!((gauge.empty_until(1, at(5)), gauge.fraction(at(5))), (None, None));
        assert_eq!(Gauge::default().empty_until(1, T), None);
    }

    #[test]
    fn a_bucket_that_refills_has_room_for_one_before_it_is_whole() {
        let unit = 20_000_000_000;
        let mut gauge = Gauge { remaining: 1, limit: 3, at: T, reset: at(60), unit };
        assert!(gauge.take(T));
        assert_eq!(gauge.empty_until(1, T), Some(at(20)));
        assert_eq!(gauge.empty_until(1, at(20)), None);
        assert!(gauge.take(at(21)));
        assert_eq!(
            gauge.empty_until(1, at(21)),
            Some(at(40)),
            "the next is back after another unit"
        );
        assert_eq!(gauge.empty_until(2, at(21)), Some(at(60)));
    }
}
