//! Wall-clock time as an argument: milliseconds since the Unix epoch, UTC.

use core::time::Duration;

/// A moment, in milliseconds since the Unix epoch. Zero means "never set".
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The end of time: what is due then never happens.
    pub const NEVER: Self = Self(u64::MAX);

    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// How long from `self` to `later`; zero if that is past.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Whole milliseconds, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
