//! Wall-clock time as an argument: milliseconds since the Unix epoch, UTC.
//!
//! Also the spellings of moments and durations that configurations and providers use. Parsers answer
//! `None` for what they do not understand; a malformed value is never an error here.

use core::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::limit::Per;

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

    /// `2026-12-01T00:00:00Z`, with any offset and fraction (RFC 3339). `None` before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` and the two obsolete forms (RFC 9110, section 5.6.7).
    pub fn parse_http_date(value: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(value).ok()?;
        let moment = httpdate::parse_http_date(text.trim()).ok()?;
        Some(Self(millis(moment.duration_since(std::time::UNIX_EPOCH).ok()?)))
    }

    /// `2026-12-01T00:00:00Z`: whole seconds, rounded down; the last second of the year 9999 for
    /// everything later, since RFC 3339 has no way to write it.
    pub fn rfc3339(self) -> String {
        let Some(moment) = self.calendar() else {
            return "9999-12-31T23:59:59Z".to_owned();
        };
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second) = moment.to_hms();
        format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
    }

    /// Start of the calendar window (UTC) that holds `self`; `self` where the calendar has ended.
    #[must_use]
    pub fn window_start(self, per: Per) -> Self {
        match (per, per.length()) {
            // The epoch was a Thursday; the week that it fell in began before it.
            (Per::Week, Some(length)) => {
                Self(self.0.saturating_sub(self.0.saturating_add(THURSDAY) % length))
            }
            (_, Some(length)) => Self(self.0 - self.0 % length),
            (_, None) => self.month_start(0).unwrap_or(self),
        }
    }

    /// Start of the next window, which is when this one has ended; [`Self::NEVER`] where the calendar
    /// has ended.
    #[must_use]
    pub fn window_end(self, per: Per) -> Self {
        match (per, per.length()) {
            (Per::Week, Some(length)) => {
                let gone = self.0.saturating_add(THURSDAY) % length;
                Self(self.0.saturating_add(length - gone))
            }
            (_, Some(length)) => Self(self.window_start(per).0.saturating_add(length)),
            (_, None) => self.month_start(1).unwrap_or(Self::NEVER),
        }
    }

    /// Midnight of the first day, `ahead` (0 or 1) months from the month of `self`.
    fn month_start(self, ahead: u8) -> Option<Self> {
        let date = self.calendar()?.date();
        let (year, month) = match (ahead, date.month()) {
            (0, month) => (date.year(), month),
            (_, time::Month::December) => (date.year() + 1, time::Month::January),
            (_, month) => (date.year(), month.next()),
        };
        let first = time::Date::from_calendar_date(year, month, 1).ok()?;
        let seconds = u64::try_from(first.midnight().assume_utc().unix_timestamp()).ok()?;
        seconds.checked_mul(1000).map(Self)
    }

    /// `None` after the year 9999.
    fn calendar(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(i64::try_from(self.0 / 1000).ok()?).ok()
    }
}

/// Milliseconds from Monday to Thursday.
const THURSDAY: u64 = 3 * 86_400_000;

/// Whole milliseconds, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration as Go writes it (`6m0s`, `1h2m3.5s`, `12ms`), with days besides (`7d`). The whole text has
/// to match: no sign, no space, no bare number.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (duration, rest) = components(text, false, |unit| {
        Some(match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            "d" => 86_400 * SECOND,
            _ => return None,
        })
    })?;
    rest.is_empty().then_some(duration)
}

/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The sum of the leading run of `NUMBER UNIT`, and the text after it; `None` where there is no such run
/// or it overflows. `unit` tells the nanoseconds of a unit, which may be the empty word; with `spaces`,
/// single spaces may stand between words.
pub(crate) fn components(
    text: &str,
    spaces: bool,
    unit: impl Fn(&str) -> Option<u64>,
) -> Option<(Duration, &str)> {
    let skip = |text| if spaces { str::strip_prefix(text, ' ').unwrap_or(text) } else { text };
    let mut sum = Duration::ZERO;
    let mut rest = text;
    loop {
        let component = decimal(skip(rest)).and_then(|(billionths, after)| {
            let after = skip(after);
            let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (word, after) = after.split_at_checked(end)?;
            Some((billionths, unit(word)?, after))
        });
        let Some((billionths, nanoseconds, after)) = component else { break };
        let total = billionths.checked_mul(nanoseconds.into())? / u128::from(SECOND);
        let whole = u64::try_from(total / u128::from(SECOND)).ok()?;
        let part = u32::try_from(total % u128::from(SECOND)).ok()?;
        sum = sum.checked_add(Duration::new(whole, part))?;
        rest = after;
    }
    // Nothing was taken: a run has at least one component.
    (rest.len() < text.len()).then_some((sum, rest))
}

/// The leading `DIGITS[.DIGITS]` in billionths, and the text after it. At most 15 digits before the point,
/// so that a product with any unit fits; digits beyond the ninth after it are dropped.
pub(crate) fn decimal(text: &str) -> Option<(u128, &str)> {
    let (whole, mut rest) = digits(text)?;
    if whole.len() > 15 {
        return None;
    }
    let mut billionths = whole.parse::<u128>().ok()? * u128::from(SECOND);
    if let Some((fraction, after)) = rest.strip_prefix('.').and_then(digits) {
        let mut scale = u128::from(SECOND);
        for digit in fraction.bytes().take(9) {
            scale /= 10;
            billionths += u128::from(digit - b'0') * scale;
        }
        rest = after;
    }
    Some((billionths, rest))
}

/// The leading ASCII digits, at least one, and the text after them.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS_OF_DAY: u64 = 86_400;

    #[test]
    fn durations() {
        let cases = [
            ("30s", Some(30_000)),
            ("1h", Some(3_600_000)),
            ("24h", Some(86_400_000)),
            ("7d", Some(7 * 86_400_000)),
            ("0s", Some(0)),
            ("12ms", Some(12)),
            ("6m0s", Some(360_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("10h17m5.7s", Some(37_025_700)),
            ("17.399999999s", Some(17_399)),
            ("48.939935699s", Some(48_939)),
            ("1.5h", Some(5_400_000)),
            ("1000000us", Some(1_000)),
            ("1000µs", Some(1)),
            ("0.0000000009999s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            (".5s", None),
            ("1.s", None),
            ("-5s", None),
            ("+5s", None),
            ("5 s", None),
            (" 5s", None),
            ("5s ", None),
            ("5S", None),
            ("5sec", None),
            ("5s3", None),
            ("1e3s", None),
            ("9999999999999999999h", None),
            ("999999999999999d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text).map(millis), expected, "{text}");
        }
        assert_eq!(parse_duration("17.399999999s"), Some(Duration::new(17, 399_999_999)));
    }

    #[test]
    fn moments() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-12-01T00:00:00Z", Some(1_796_083_200_000)),
            ("2026-12-01T01:00:00+01:00", Some(1_796_083_200_000)),
            ("2026-12-01T00:00:00.25Z", Some(1_796_083_200_250)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-12-01", None),
            ("2026-02-29T00:00:00Z", None),
            ("soon", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(UnixTime::parse_rfc3339(text), expected.map(UnixTime), "{text}");
        }
        let cases: [(&[u8], _); 5] = [
            (b"Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            (b" Sunday, 06-Nov-94 08:49:37 GMT ", Some(784_111_777_000)),
            (b"Sun Nov  6 08:49:37 1994", Some(784_111_777_000)),
            (b"Sun, 06 Nov 1994 08:49:37", None),
            (b"\xff", None),
        ];
        for (value, expected) in cases {
            assert_eq!(UnixTime::parse_http_date(value), expected.map(UnixTime), "{value:?}");
        }
    }

    #[test]
    fn written_moments_read_back() {
        for text in ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(UnixTime::parse_rfc3339(text).unwrap().rfc3339(), text);
        }
        assert_eq!(UnixTime(1_796_083_200_999).rfc3339(), "2026-12-01T00:00:00Z");
        assert_eq!(UnixTime::NEVER.rfc3339(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn calendar_windows() {
        let cases = [
            (Per::Second, "2026-11-22T10:20:30Z", "2026-11-22T10:20:30Z", "2026-11-22T10:20:31Z"),
            (Per::Minute, "2026-11-22T10:20:30Z", "2026-11-22T10:20:00Z", "2026-11-22T10:21:00Z"),
            (Per::Hour, "2026-11-22T10:20:30Z", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"),
            (Per::Day, "2026-11-30T10:20:30Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"),
            (Per::Week, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            (Per::Week, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Per::Week, "2026-12-31T12:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
            (Per::Week, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-05T00:00:00Z"),
            (Per::Month, "2026-11-30T10:20:30Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            (Per::Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Per::Month, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Per::Month, "2100-02-28T12:00:00Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"),
            (Per::Month, "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ];
        for (per, now, start, end) in cases {
            let now = UnixTime::parse_rfc3339(now).unwrap();
            assert_eq!(now.window_start(per).rfc3339(), start, "{per:?}");
            assert_eq!(now.window_end(per).rfc3339(), end, "{per:?}");
        }
    }

    #[test]
    fn windows_hold_their_moment_at_the_extremes() {
        // 9999-12-31: the end of its month has no date any more.
        let last_day = UnixTime(253_402_214_400_000);
        for per in [Per::Second, Per::Minute, Per::Hour, Per::Day, Per::Week, Per::Month] {
            for now in [UnixTime(0), UnixTime(SECONDS_OF_DAY * 1000 - 1), last_day, UnixTime::NEVER]
            {
                assert!(now.window_start(per) <= now, "{per:?} {now:?}");
                assert!(now < now.window_end(per) || now == UnixTime::NEVER, "{per:?} {now:?}");
            }
        }
        assert_eq!(last_day.window_end(Per::Month), UnixTime::NEVER);
        assert_eq!(UnixTime::NEVER.window_end(Per::Day), UnixTime::NEVER);
    }
}
