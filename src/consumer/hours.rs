//! Hours of the week, UTC.

use crate::time::UnixTime;

const MINUTE: u64 = 60_000;
/// Minutes of a day.
const DAY: u64 = 24 * 60;

/// The same hours on some days of the week, the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Bit 0 is Monday: the days on which it starts.
    days: u8,
    /// Minutes of the day.
    from: u64,
    /// At most a day; not later than `from` where it is on the next day.
    until: u64,
}

impl Hours {
    /// `08:00-18:00`, `mon-fri 08:00-18:00`, `sat,sun 00:00-24:00`. Hours that end before they start end on
    /// the next day: `fri 22:00-06:00` until Saturday morning.
    pub fn parse(text: &str) -> Option<Self> {
        let (days, hours) = match text.split_once(' ') {
            Some((days, hours)) => (parse_days(days)?, hours),
            None => (0x7f, text),
        };
        let (from, until) = hours.split_once('-')?;
        let (from, until) = (parse_minutes(from)?, parse_minutes(until)?);
        (from < DAY && from != until && until > 0).then_some(Self { days, from, until })
    }

    pub fn contain(&self, now: UnixTime) -> bool {
        let minutes = now.0 / MINUTE;
        let (day, minute) = (minutes / DAY, minutes % DAY);
        if self.from < self.until {
            return self.starts_on(day) && (self.from..self.until).contains(&minute);
        }
        self.starts_on(day) && minute >= self.from
            || day.checked_sub(1).is_some_and(|day| self.starts_on(day)) && minute < self.until
    }

    /// `day`: since 1970-01-01, which was a Thursday.
    fn starts_on(&self, day: u64) -> bool {
        self.days & (1 << ((day + 3) % 7)) != 0
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Days and ranges of days; a range may go over the end of the week.
fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + DAYS.len() - first) % DAYS.len();
        for offset in 0..=count {
            days |= 1 << ((first + offset) % DAYS.len());
        }
    }
    Some(days)
}

/// `HH:MM`, to `24:00`.
fn parse_minutes(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |text: &str| {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u64>().ok())?
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixTime {
        UnixTime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn hours_of_the_week() {
        // 2026-11-20 is a Friday.
        for (hours, inside, outside) in [
            ("08:00-18:00", "2026-11-20T08:00:00Z", "2026-11-20T18:00:00Z"),
            ("08:00-18:00", "2026-11-22T17:59:59Z", "2026-11-22T07:59:59Z"),
            ("mon-fri 08:00-18:00", "2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z"),
            ("sat,sun 00:00-24:00", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("fri 22:00-06:00", "2026-11-20T22:00:00Z", "2026-11-20T05:00:00Z"),
            ("fri 22:00-06:00", "2026-11-21T05:59:00Z", "2026-11-21T06:00:00Z"),
            ("fri 22:00-06:00", "2026-11-21T00:00:00Z", "2026-11-21T22:00:00Z"),
            ("sun 22:00-06:00", "2026-11-23T03:00:00Z", "2026-11-22T03:00:00Z"),
            ("sat-mon 00:00-24:00", "2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z"),
        ] {
            let parsed = Hours::parse(hours).expect(hours);
            assert!(parsed.contain(at(inside)), "{hours} {inside}");
            assert!(!parsed.contain(at(outside)), "{hours} {outside}");
        }
        assert!(Hours::parse("thu 22:00-06:00").unwrap().contain(UnixTime(22 * 60 * MINUTE)));
        assert!(!Hours::parse("wed 22:00-06:00").unwrap().contain(UnixTime(0)), "before all days");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "08:00",
            "8:00-18:00",
            "08:00-18:60",
            "08:00-24:01",
            "24:00-08:00",
            "08:00-08:00",
            "22:00-00:00",
            "Mon 08:00-18:00",
            "mon- 08:00-18:00",
            "mon  08:00-18:00",
            "+8:00-18:00",
        ] {
            assert_eq!(Hours::parse(text), None, "{text:?}");
        }
    }
}
