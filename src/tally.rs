//! Counts of use: requests and tokens of one provider, key or model, never reset.

use serde::{Deserialize, Serialize};

use crate::ledger::{self, Edit, SharedData, Unwritten};
use crate::limit::Per;
use crate::signal::Verdict;
use crate::time::UnixTime;
use crate::usage::Usage;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Attempts sent, or for a model: requests of clients.
    pub requests: u64,
    /// Of those, how many did not end in a good answer.
    pub failures: u64,
    /// What the last of those was, and when.
    pub last_error: Option<(Verdict, UnixTime)>,
    pub tokens: Usage,
    /// Start of the minute of `current`; `previous` is the one before.
    minute: UnixTime,
    current: u32,
    previous: u32,
}

impl Tally {
    /// Requests of about the last minute: the sliding-window estimate from two fixed windows.
    pub fn recent(&self, now: UnixTime) -> f64 {
        let mut tally = *self;
        tally.turn(now);
        let gone = now.0.saturating_sub(tally.minute.0).min(60_000) as f64 / 60_000.0;
        f64::from(tally.current) + f64::from(tally.previous) * (1.0 - gone)
    }

    fn request(&mut self, now: UnixTime) {
        self.turn(now);
        self.requests = self.requests.saturating_add(1);
        self.current = self.current.saturating_add(1);
    }

    fn turn(&mut self, now: UnixTime) {
        let minute = now.window_start(Per::Minute);
        if minute > self.minute {
            let adjacent = self.minute.window_end(Per::Minute) == minute;
            self.previous = if adjacent { self.current } else { 0 };
            self.current = 0;
            self.minute = minute;
        }
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

pub fn tokens(shared: &dyn SharedData, slot: &str, usage: &Usage) -> Result<(), Unwritten> {
    change(shared, slot, |tally| {
        let sum = &mut tally.tokens;
        sum.prompt = sum.prompt.saturating_add(usage.prompt);
        sum.completion = sum.completion.saturating_add(usage.completion);
        sum.cached = sum.cached.saturating_add(usage.cached);
        sum.reasoning = sum.reasoning.saturating_add(usage.reasoning);
        sum.cache_write = sum.cache_write.saturating_add(usage.cache_write);
    })
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
    fn tokens_add_up() {
        let memory = Memory::default();
        let usage = Usage { prompt: 3, completion: 4, cached: 1, reasoning: 2, cache_write: 0 };
        tokens(&memory, "t", &usage).unwrap();
        tokens(&memory, "t", &usage).unwrap();
        failure(&memory, "t", Verdict::RateLimited, UnixTime(9)).unwrap();
        let tally: Tally = ledger::read(&memory, "t");
        assert_eq!((tally.tokens.prompt, tally.tokens.reasoning, tally.failures), (6, 4, 1));
        assert_eq!(tally.last_error, Some((Verdict::RateLimited, UnixTime(9))));
    }
}
