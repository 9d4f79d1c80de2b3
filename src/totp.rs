//! A second factor: time-based one-time passwords (RFC 6238) with the parameters that every authenticator knows, HMAC-SHA-1,
//! 6 digits, 30 seconds, one step of skew either way.
//!
//! A code is taken once (section 5.2), and only so many wrong ones are looked at in a while: with three right codes in a
//! million, 5 guesses in 5 minutes need seven months on average, and the key as well. Both is remembered in one record
//! per consumer, shared by all workers of this Envoy process.

use core::time::Duration;

use serde::{Deserialize, Serialize};
use totp_rs::{Builder, Totp};

use crate::ledger::{self, Edit, SharedData};
use crate::time::UnixTime;

/// Wrong codes that are looked at in [`WINDOW`].
const TRIES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Seconds that a code is for.
const STEP: u64 = 30;
/// Steps: a code of one later than that was taken by a clock that has gone back since, and keeps nobody out.
const AHEAD: u64 = 10;

/// What the codes of one consumer come from.
pub struct Secret(Totp);

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Why a code is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not one of the moment, or taken before.
    Wrong,
    /// Too many wrong ones: none is looked at until then.
    Blocked(UnixTime),
    Unwritten,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// The last step whose code was taken; none before it is taken any more.
    step: u64,
    wrong: u32,
    /// When the first of the wrong ones came.
    since: UnixTime,
}

impl Secret {
    /// Base32 (RFC 4648) of at least 16 bytes (RFC 4226, section 4), padded or not, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('=').to_ascii_uppercase();
        let secret = totp_rs::Secret::try_from_base32(text).ok()?;
        Builder::new().with_secret(secret).build().ok().map(Self)
    }

    /// Takes a code, once.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take(
        &self,
        shared: &dyn SharedData,
        slot: &str,
        code: &str,
        now: UnixTime,
    ) -> Result<(), Refused> {
        let step = self.0.check(code, now.0 / 1000);
        let ahead = now.0 / 1000 / STEP + AHEAD;
        let taken = ledger::update(shared, slot, |record: &mut Record| {
            // A clock that went back must not keep anybody out for longer than the window.
            let end = record.since.after(WINDOW);
            if now >= end || now < record.since {
                record.wrong = 0;
            }
            if record.wrong >= TRIES {
                return Edit::Keep(Err(Refused::Blocked(end)));
            }
            let is_new = |step: &u64| *step > record.step || record.step > ahead;
            match step.filter(is_new) {
                Some(step) => {
                    *record = Record { step, ..Record::default() };
                    Edit::Write(Ok(()))
                }
                None => {
                    if record.wrong == 0 {
                        record.since = now;
                    }
                    record.wrong += 1;
                    Edit::Write(Err(Refused::Wrong))
                }
            }
        });
        taken.unwrap_or(Err(Refused::Unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;

    /// `12345678901234567890`, the secret of RFC 6238, appendix B.
    const RFC: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn at(seconds: u64) -> UnixTime {
        UnixTime(seconds * 1000)
    }

    fn take(memory: &Memory, code: &str, seconds: u64) -> Result<(), Refused> {
        Secret::parse(RFC).unwrap().take(memory, "totp", code, at(seconds))
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        // Appendix B, the last six digits.
        for (seconds, code) in [
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(take(&Memory::default(), code, seconds), Ok(()), "{seconds}");
            assert_eq!(take(&Memory::default(), code, seconds + 30), Ok(()), "one step late");
            assert_eq!(take(&Memory::default(), code, seconds - 30), Ok(()), "one step early");
            for off in [seconds + 90, seconds.saturating_sub(90)] {
                assert_eq!(take(&Memory::default(), code, off), Err(Refused::Wrong), "{off}");
            }
        }
        for odd in ["", "28708", "2870820", "94287082", "28708x", "２８７０８２", " 287082"] {
            assert_eq!(take(&Memory::default(), odd, 59), Err(Refused::Wrong), "{odd:?}");
        }
    }

    #[test]
    fn a_code_is_taken_once() {
        let memory = Memory::default();
        assert_eq!(take(&memory, "050471", 1_111_111_111), Ok(()));
        assert_eq!(take(&memory, "050471", 1_111_111_112), Err(Refused::Wrong), "replayed");
        assert_eq!(take(&memory, "081804", 1_111_111_112), Err(Refused::Wrong), "older");
        let secret = Secret::parse(RFC).unwrap();
        let next = secret.0.generate(1_111_111_141).to_string();
        assert_eq!(take(&memory, &next, 1_111_111_141), Ok(()));
        let ahead = secret.0.generate(2_000_000_000).to_string();
        assert_eq!(take(&memory, &ahead, 2_000_000_000), Ok(()));
        let now = secret.0.generate(1_111_111_171).to_string();
        assert_eq!(take(&memory, &now, 1_111_111_171), Ok(()));
        assert_eq!(take(&memory, &now, 1_111_111_172), Err(Refused::Wrong), "replayed");
    }

    #[test]
    fn wrong_codes_are_counted_across_workers() {
        let memory = Memory::default();
        for _ in 0..TRIES {
            memory.mismatches.set(1);
            assert_eq!(take(&memory, "000000", 59), Err(Refused::Wrong));
        }
        let until = at(59 + 300);
        assert_eq!(take(&memory, "287082", 59), Err(Refused::Blocked(until)), "even the right one");
        assert_eq!(take(&memory, "000000", 358), Err(Refused::Blocked(until)));
        let secret = Secret::parse(RFC).unwrap();
        let code = secret.0.generate(359).to_string();
        assert_eq!(take(&memory, &code, 359), Ok(()));
        // A clock that goes back does not keep anybody out.
        for _ in 0..TRIES {
            let _ = take(&memory, "000000", 1_000_000);
        }
        let code = secret.0.generate(900_000).to_string();
        assert_eq!(take(&memory, &code, 900_000), Ok(()));
    }

    #[test]
    fn secrets_are_base32_and_long_enough() {
        assert!(Secret::parse("gezdgnbvgy3tqojqgezdgnbvgy3tqojq").is_some());
        assert!(Secret::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY======").is_some(), "16 bytes");
        for wrong in ["", "GEZDGNBVGY3TQOJQGEZDGNBV", "1".repeat(32).as_str(), "0123-4567"] {
            assert!(Secret::parse(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{:?}", Secret::parse(RFC).unwrap()), "Secret(***)");
    }
}
