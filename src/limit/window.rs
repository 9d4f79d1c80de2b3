//! What was counted against one limit, and whether there is room for more: arithmetic on whole numbers, no clock, no
//! shared data.
//!
//! A clock that goes back keeps counting in the window that was reached: nobody gets a window twice. One that goes
//! back by more than two windows had been wrong before, and counts anew: else a clock that was years ahead for a
//! second would take a budget away for years.

use serde::{Deserialize, Serialize};

use super::{Algorithm, Amounts, Limit};
use crate::time::UnixTime;

/// Windows that a record keeps: those of the limits, and of limits that a reload has just taken away.
const MAX_WINDOWS: usize = 32;
/// Milliseconds of the longest month.
const LONGEST_MONTH: u64 = 31 * 86_400_000;

/// The windows of one record, each found by the tag of its limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows(Vec<Window>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    tag: u8,
    /// Fixed: the end of the window that `used` belongs to. Sliding and bucket: the moment of the last look.
    at: UnixTime,
    /// Of a bucket: its level, times the milliseconds of the limit's window, so that it drains `max` a millisecond.
    used: u64,
    /// Sliding alone: what was used in the window before.
    previous: u64,
}

/// How a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub limit: Limit,
    /// What is left, at most `limit.max`.
    pub left: u64,
    /// When all of it is there again if nothing more is used.
    pub reset: UnixTime,
}

impl Windows {
    pub fn standing<'a>(
        &'a self,
        limits: &'a [Limit],
        now: UnixTime,
    ) -> impl Iterator<Item = Standing> + 'a {
        limits.iter().map(move |limit| self.of(limit, now).standing(limit, now))
    }

    /// The window of `limit` as it is at `now`.
    pub fn of(&self, limit: &Limit, now: UnixTime) -> Window {
        let tag = limit.tag();
        let found = self.0.iter().find(|window| window.tag == tag).copied();
        found.unwrap_or(Window { tag, ..Window::default() }).turned(limit, now)
    }

    /// The limit that keeps a request of `need` away, and until when: the one that lasts longest.
    pub fn full(
        &self,
        limits: &[Limit],
        need: &Amounts,
        now: UnixTime,
    ) -> Option<(Limit, UnixTime)> {
        let mut full: Option<(Limit, UnixTime)> = None;
        for limit in limits {
            let Err(until) = self.of(limit, now).room(limit, need.of(limit.unit)) else { continue };
            if full.is_none_or(|(_, longest)| until > longest) {
                full = Some((*limit, until));
            }
        }
        full
    }

    pub fn add(&mut self, limits: &[Limit], amounts: &Amounts, now: UnixTime) {
        for limit in limits {
            self.change(limit, now, |window| window.add(limit, amounts.of(limit.unit)));
        }
    }

    /// Puts `real` in the place of what was `reserved` at `at`. What is given back goes to the window that it was
    /// taken from, if that still counts; what is needed on top counts now.
    pub fn correct(
        &mut self,
        limits: &[Limit],
        reserved: &Amounts,
        real: &Amounts,
        at: UnixTime,
        now: UnixTime,
    ) {
        for limit in limits {
            let (reserved, real) = (reserved.of(limit.unit), real.of(limit.unit));
            if real > reserved {
                self.change(limit, now, |window| window.add(limit, real - reserved));
            } else if reserved > real {
                self.change(limit, now, |window| {
                    window.give_back(limit, reserved - real, at, now);
                });
            }
        }
    }

    fn change(&mut self, limit: &Limit, now: UnixTime, change: impl FnOnce(&mut Window)) {
        let mut window = self.of(limit, now);
        change(&mut window);
        match self.0.iter_mut().find(|known| known.tag == window.tag) {
            Some(known) => *known = window,
            None => {
                if self.0.len() >= MAX_WINDOWS {
                    let oldest = self.0.iter().enumerate().min_by_key(|(_, window)| window.at);
                    if let Some((index, _)) = oldest {
                        self.0.swap_remove(index);
                    }
                }
                self.0.push(window);
            }
        }
    }
}

impl Window {
    /// Whether `need` more has room; `Err`: from when on, [`UnixTime::NEVER`] where the limit is smaller than that.
    pub fn room(&self, limit: &Limit, need: u64) -> Result<(), UnixTime> {
        if need > limit.max {
            return Err(UnixTime::NEVER);
        }
        // What may be used already.
        let most = limit.max - need;
        match (limit.algorithm, limit.per.length()) {
            (Algorithm::SlidingWindow, Some(length)) => self.room_sliding(most, length),
            (Algorithm::TokenBucket, Some(length)) => {
                let over = wide(self.used).saturating_sub(wide(most) * wide(length));
                if over == 0 {
                    return Ok(());
                }
                Err(UnixTime(self.at.0.saturating_add(narrow(over.div_ceil(wide(limit.max))))))
            }
            _ if self.used <= most => Ok(()),
            _ => Err(self.at),
        }
    }

    /// `previous` counts by the share of its window that is less than a window's length ago: at `elapsed` after the
    /// start of the window, `(length - elapsed) / length`.
    fn room_sliding(&self, most: u64, length: u64) -> Result<(), UnixTime> {
        let share = |left: u64, used: u64| {
            // The first `elapsed` at which no more than `left` of `used` counts.
            let gone = wide(left) * wide(length);
            length.saturating_sub(narrow(gone.checked_div(wide(used)).unwrap_or(u128::MAX)))
        };
        let start = self.start(length);
        let elapsed = self.elapsed(length);
        if self.used <= most {
            let needed = share(most - self.used, self.previous);
            if needed <= elapsed {
                return Ok(());
            }
            return Err(UnixTime(start.saturating_add(needed)));
        }
        // Not before the window has ended: then what is in it fades.
        let next = start.saturating_add(length);
        Err(UnixTime(next.saturating_add(share(most, self.used))))
    }

    pub fn standing(&self, limit: &Limit, now: UnixTime) -> Standing {
        let length = limit.per.length().unwrap_or(1);
        let (used, reset) = match limit.algorithm {
            Algorithm::FixedWindow => (self.used, self.at),
            Algorithm::SlidingWindow => {
                let faded = wide(self.previous) * wide(length - self.elapsed(length));
                let used = self.used.saturating_add(narrow(faded.div_ceil(wide(length))));
                let windows = if self.used > 0 { 2 } else { u64::from(self.previous > 0) };
                (used, UnixTime(self.start(length).saturating_add(length.saturating_mul(windows))))
            }
            Algorithm::TokenBucket => {
                let refilled = self.used.div_ceil(limit.max.max(1));
                (self.used.div_ceil(length), UnixTime(self.at.0.saturating_add(refilled)))
            }
        };
        Standing { limit: *limit, left: limit.max.saturating_sub(used), reset: reset.max(now) }
    }

    fn add(&mut self, limit: &Limit, amount: u64) {
        self.used = self.used.saturating_add(scaled(limit, amount));
    }

    fn give_back(&mut self, limit: &Limit, amount: u64, at: UnixTime, now: UnixTime) {
        match limit.algorithm {
            Algorithm::TokenBucket => {
                // What was taken first drains first: only what has not drained yet can be given back.
                let drained = at.0.abs_diff(now.0).saturating_mul(limit.max);
                let left = scaled(limit, amount).saturating_sub(drained);
                self.used = self.used.saturating_sub(left);
            }
            Algorithm::FixedWindow => {
                if at.window_end(limit.per) == self.at {
                    self.used = self.used.saturating_sub(amount);
                }
            }
            Algorithm::SlidingWindow => {
                let start = self.start(limit.per.length().unwrap_or(1));
                if at.window_start(limit.per).0 == start {
                    self.used = self.used.saturating_sub(amount);
                } else if at.window_end(limit.per).0 == start {
                    self.previous = self.previous.saturating_sub(amount);
                }
            }
        }
    }

    /// As it is at `now`.
    fn turned(mut self, limit: &Limit, now: UnixTime) -> Self {
        let length = limit.per.length().unwrap_or(LONGEST_MONTH);
        if self.at.0.saturating_sub(now.0) > 2 * length {
            self = Self { tag: self.tag, ..Self::default() };
        }
        match limit.algorithm {
            Algorithm::TokenBucket => {
                if now > self.at {
                    let drained = (now.0 - self.at.0).saturating_mul(limit.max);
                    self.used = self.used.saturating_sub(drained);
                    self.at = now;
                }
            }
            Algorithm::FixedWindow => {
                if now >= self.at {
                    let at = now.window_end(limit.per);
                    self = Self { tag: self.tag, at, used: 0, previous: 0 };
                }
            }
            Algorithm::SlidingWindow => {
                if now > self.at {
                    let (before, here) = (self.start(length), now.window_start(limit.per).0);
                    if here > before {
                        let adjacent = before.saturating_add(length) == here;
                        self.previous = if adjacent { self.used } else { 0 };
                        self.used = 0;
                    }
                    self.at = now;
                }
            }
        }
        self
    }

    /// Sliding alone: of the window that holds the moment of the last look.
    fn start(&self, length: u64) -> u64 {
        self.at.0 - self.elapsed(length)
    }

    fn elapsed(&self, length: u64) -> u64 {
        self.at.0 % length
    }
}

fn scaled(limit: &Limit, amount: u64) -> u64 {
    match (limit.algorithm, limit.per.length()) {
        (Algorithm::TokenBucket, Some(length)) => amount.saturating_mul(length),
        _ => amount,
    }
}

fn wide(number: u64) -> u128 {
    number.into()
}

fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
