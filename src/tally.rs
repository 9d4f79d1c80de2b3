//! Counts of use of one provider, key, model, consumer or team: of all time, and of the current and the previous hour,
//! day and month.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ledger::{self, Edit, SharedData, Unwritten};
use crate::limit::Per;
use crate::signal::Verdict;
use crate::time::UnixTime;
use crate::usage::Usage;

/// Every request changes several: in shared data they are [`WORDS`] numbers of eight bytes, which is sooner read and
/// written than numbers of any length.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Attempts sent, or for a model, consumer or team: requests of clients.
    pub requests: u64,
    /// Of those, how many did not end in a good answer.
    pub failures: u64,
    /// What the last of those was, and when.
    pub last_error: Option<(Verdict, UnixTime)>,
    pub tokens: Usage,
    /// Billionths of a US dollar, of what has a price.
    pub cost: u64,
    /// Of `tokens`, those that have no price: if there are any, `cost` is not all of it.
    pub unpriced: u64,
    hour: Span,
    day: Span,
    month: Span,
    /// Start of the minute of `current`; `previous` is the one before.
    minute: UnixTime,
    current: u64,
    previous: u64,
}

/// Numbers in a [`Tally`].
const WORDS: usize = 47;

/// What was used in a window of the calendar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub prompt: u64,
    pub completion: u64,
    /// Billionths of a US dollar, of what has a price.
    pub cost: u64,
    /// Tokens that have no price.
    pub unpriced: u64,
}

/// The window that ends at `end`, and the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Span {
    end: UnixTime,
    current: Counts,
    previous: Counts,
}

/// Milliseconds, more than two months: a clock that was so far ahead was wrong.
const FAR: u64 = 63 * 86_400_000;

impl Tally {
    /// Requests of about the last minute: the sliding-window estimate from two fixed windows.
    pub fn recent(&self, now: UnixTime) -> f64 {
        let mut tally = *self;
        tally.turn(now);
        let gone = now.0.saturating_sub(tally.minute.0).min(60_000) as f64 / 60_000.0;
        tally.current as f64 + tally.previous as f64 * (1.0 - gone)
    }

    /// What was used in the current window of the calendar and in the previous one; [`Per::Hour`], [`Per::Day`] and
    /// [`Per::Month`] are kept.
    pub fn of(&self, per: Per, now: UnixTime) -> Option<(Counts, Counts)> {
        let mut span = match per {
            Per::Hour => self.hour,
            Per::Day => self.day,
            Per::Month => self.month,
            Per::Second | Per::Minute | Per::Week => return None,
        };
        span.turn(per, now);
        Some((span.current, span.previous))
    }

    fn request(&mut self, now: UnixTime) {
        self.turn(now);
        self.requests = self.requests.saturating_add(1);
        self.current = self.current.saturating_add(1);
        self.count(now, |counts| counts.requests = counts.requests.saturating_add(1));
    }

    fn used(&mut self, usage: &Usage, cost: Option<u64>, now: UnixTime) {
        let (cost, unpriced) = cost.map_or((0, usage.total()), |cost| (cost, 0));
        self.tokens = self.tokens.plus(*usage);
        self.cost = self.cost.saturating_add(cost);
        self.unpriced = self.unpriced.saturating_add(unpriced);
        self.count(now, |counts| {
            counts.prompt = counts.prompt.saturating_add(usage.prompt);
            counts.completion = counts.completion.saturating_add(usage.completion);
            counts.cost = counts.cost.saturating_add(cost);
            counts.unpriced = counts.unpriced.saturating_add(unpriced);
        });
    }

    fn count(&mut self, now: UnixTime, add: impl Fn(&mut Counts)) {
        for (per, span) in
            [(Per::Hour, &mut self.hour), (Per::Day, &mut self.day), (Per::Month, &mut self.month)]
        {
            span.turn(per, now);
            add(&mut span.current);
        }
    }

    fn turn(&mut self, now: UnixTime) {
        let minute = now.window_start(Per::Minute);
        if self.minute.0.saturating_sub(minute.0) > FAR {
            self.minute = minute;
        }
        if minute > self.minute {
            let adjacent = self.minute.window_end(Per::Minute) == minute;
            self.previous = if adjacent { self.current } else { 0 };
            self.current = 0;
            self.minute = minute;
        }
    }
}

impl Tally {
    /// All numbers, in the order of shared data.
    fn each(&mut self, mut visit: impl FnMut(&mut u64)) {
        let Self { requests, failures, last_error, tokens, cost, unpriced, .. } = self;
        let Usage { prompt, completion, cached, reasoning, cache_write } = tokens;
        let (mut verdict, mut at) =
            last_error.map_or((0, 0), |(verdict, at)| (number_of(verdict), at.0));
        for word in [requests, failures, &mut verdict, &mut at, cost, unpriced] {
            visit(word);
        }
        *last_error = verdict_of(verdict).map(|verdict| (verdict, UnixTime(at)));
        for word in [prompt, completion, cached, reasoning, cache_write] {
            visit(word);
        }
        for span in [&mut self.hour, &mut self.day, &mut self.month] {
            visit(&mut span.end.0);
            for Counts { requests, prompt, completion, cost, unpriced } in
                [&mut span.current, &mut span.previous]
            {
                for word in [requests, prompt, completion, cost, unpriced] {
                    visit(word);
                }
            }
        }
        for word in [&mut self.minute.0, &mut self.current, &mut self.previous] {
            visit(word);
        }
    }
}

const VERDICTS: [Verdict; 7] = [
    Verdict::Success,
    Verdict::RateLimited,
    Verdict::OutOfQuota,
    Verdict::KeyRejected,
    Verdict::Overloaded,
    Verdict::ServerError,
    Verdict::ClientFault,
];

/// From 1; 0 is none.
fn number_of(verdict: Verdict) -> u64 {
    (1..).zip(VERDICTS).find(|(_, known)| *known == verdict).map_or(0, |(number, _)| number)
}

fn verdict_of(number: u64) -> Option<Verdict> {
    (1..).zip(VERDICTS).find(|(known, _)| *known == number).map(|(_, verdict)| verdict)
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [[0; 8]; WORDS];
        let mut places = bytes.iter_mut();
        // A copy, because visitors may write.
        let mut tally = *self;
        tally.each(|word| {
            if let Some(place) = places.next() {
                *place = word.to_le_bytes();
            }
        });
        serializer.serialize_bytes(bytes.as_flattened())
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let (words, rest) = bytes.as_chunks::<8>();
        if words.len() != WORDS || !rest.is_empty() {
            return Err(serde::de::Error::custom("not a tally"));
        }
        let (mut tally, mut words) = (Self::default(), words.iter());
        tally.each(|word| *word = words.next().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
        Ok(tally)
    }
}

impl Span {
    /// A clock that goes back keeps counting in the window that was reached, unless that is far ahead.
    fn turn(&mut self, per: Per, now: UnixTime) {
        if self.end.0.saturating_sub(now.0) > FAR {
            self.end = now.window_end(per);
        }
        if now < self.end {
            return;
        }
        let adjacent = now.window_start(per) == self.end;
        self.previous = if adjacent { self.current } else { Counts::default() };
        self.current = Counts::default();
        self.end = now.window_end(per);
    }
}

/// Counts one request.
pub fn request(shared: &dyn SharedData, slot: &str, now: UnixTime) -> Result<(), Unwritten> {
    change(shared, slot, |tally| tally.request(now))
}

/// Counts that a request counted before did not end in a good answer.
pub fn failure(
    shared: &dyn SharedData,
    slot: &str,
    verdict: Verdict,
    now: UnixTime,
) -> Result<(), Unwritten> {
    change(shared, slot, |tally| {
        tally.failures = tally.failures.saturating_add(1);
        tally.last_error = Some((verdict, now));
    })
}

/// Counts what was used; `cost` in billionths of a US dollar, `None` where the price is not known.
pub fn used(
    shared: &dyn SharedData,
    slot: &str,
    usage: &Usage,
    cost: Option<u64>,
    now: UnixTime,
) -> Result<(), Unwritten> {
    change(shared, slot, |tally| tally.used(usage, cost, now))
}

fn change(
    shared: &dyn SharedData,
    slot: &str,
    mut change: impl FnMut(&mut Tally),
) -> Result<(), Unwritten> {
    ledger::update(shared, slot, |tally| {
        change(tally);
        Edit::Write(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;
    use core::time::Duration;

    const USAGE: Usage =
        Usage { prompt: 3, completion: 4, cached: 1, reasoning: 2, cache_write: 0 };

    #[test]
    fn recent_use_fades_over_a_minute() {
        let memory = Memory::default();
        let start = UnixTime(1_800_000_000_000).window_start(Per::Minute);
        for _ in 0..60 {
            request(&memory, "t", start).unwrap();
        }
        let tally: Tally = ledger::read(&memory, "t");
        assert_eq!(tally.requests, 60);
        assert_eq!(tally.recent(start), 60.0);
        assert_eq!(tally.recent(start.after(Duration::from_secs(90))), 30.0);
        assert_eq!(tally.recent(start.after(Duration::from_secs(180))), 0.0);
    }

    #[test]
    fn tokens_and_cost_add_up() {
        let memory = Memory::default();
        let now = UnixTime(9);
        used(&memory, "t", &USAGE, Some(1_000), now).unwrap();
        used(&memory, "t", &USAGE, None, now).unwrap();
        failure(&memory, "t", Verdict::RateLimited, now).unwrap();
        let tally: Tally = ledger::read(&memory, "t");
        assert_eq!((tally.tokens.prompt, tally.tokens.reasoning, tally.failures), (6, 4, 1));
        assert_eq!((tally.cost, tally.unpriced), (1_000, 7));
        assert_eq!(tally.last_error, Some((Verdict::RateLimited, now)));
    }

    #[test]
    fn every_number_comes_back() {
        let mut tally =
            Tally { last_error: Some((Verdict::Success, UnixTime(0))), ..Tally::default() };
        let mut count = 0;
        tally.each(|word| {
            count += 1;
            // Of all verdicts the third word takes one that there is.
            *word = if count == 3 { VERDICTS.len() as u64 } else { u64::MAX - count };
        });
        assert_eq!(count, WORDS as u64);
        assert_eq!(tally.last_error, Some((Verdict::ClientFault, UnixTime(u64::MAX - 4))));
        let bytes = postcard::to_allocvec(&tally).unwrap();
        assert_eq!(postcard::from_bytes::<Tally>(&bytes), Ok(tally));
        assert!(postcard::from_bytes::<Tally>(&bytes[..bytes.len() - 1]).is_err());
        let records_of_before = postcard::to_allocvec(&vec![7_u8; 80]).unwrap();
        assert!(postcard::from_bytes::<Tally>(&records_of_before).is_err());
        for verdict in VERDICTS {
            assert_eq!(verdict_of(number_of(verdict)), Some(verdict));
        }
    }

    #[test]
    fn hours_days_and_months_of_the_calendar() {
        let time = |text| UnixTime::parse_rfc3339(text).unwrap();
        let memory = Memory::default();
        for moment in [
            "2026-11-30T22:59:59Z",
            "2026-11-30T23:00:00Z",
            "2026-12-01T00:00:00Z",
            "2026-12-01T00:59:59Z",
        ] {
            request(&memory, "t", time(moment)).unwrap();
            used(&memory, "t", &USAGE, Some(10), time(moment)).unwrap();
        }
        // The clock goes back: it counts where it was.
        request(&memory, "t", time("2026-11-30T23:30:00Z")).unwrap();
        let tally: Tally = ledger::read(&memory, "t");
        for (now, per, current, previous) in [
            ("2026-12-01T00:59:59Z", Per::Hour, 3, 1),
            ("2026-12-01T01:00:00Z", Per::Hour, 0, 3),
            ("2026-12-01T02:00:00Z", Per::Hour, 0, 0),
            ("2026-12-01T23:59:59Z", Per::Day, 3, 2),
            ("2026-12-02T00:00:00Z", Per::Day, 0, 3),
            ("2026-12-31T23:59:59Z", Per::Month, 3, 2),
            ("2027-01-01T00:00:00Z", Per::Month, 0, 3),
            ("2027-02-01T00:00:00Z", Per::Month, 0, 0),
        ] {
            let (here, before) = tally.of(per, time(now)).unwrap();
            assert_eq!((here.requests, before.requests), (current, previous), "{per:?} {now}");
        }
        // It was years ahead: what it counted there is not lost, and counts where it is.
        let mut ahead = tally;
        ahead.request(time("2038-01-19T03:14:07Z"));
        for per in [Per::Hour, Per::Day, Per::Month] {
            let here = ahead.of(per, time("2026-12-01T12:00:00Z")).unwrap().0;
            assert_eq!(here.requests, 1, "{per:?}");
            let next = ahead.of(per, time("2027-01-01T00:00:00Z")).unwrap().0;
            assert_eq!(next.requests, 1, "nothing was counted in between");
        }
        let (here, before) = tally.of(Per::Day, time("2026-12-01T12:00:00Z")).unwrap();
        assert_eq!((here.prompt, here.completion, here.cost), (6, 8, 20));
        assert_eq!((before.prompt, before.completion, before.cost), (6, 8, 20));
        assert_eq!(tally.of(Per::Week, time("2026-12-01T12:00:00Z")), None);
    }
}
