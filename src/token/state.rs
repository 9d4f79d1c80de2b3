//! What this Envoy remembers of temporary keys: which were revoked, and how often the counted ones were used.
//!
//! A table of fixed size, [`KEYS`], shared by all workers. An entry lives until its key ends. A key without `uses` that
//! was never revoked has none. Nothing that lives is ever dropped for something new: where a bucket is full, the key
//! is not issued, not used or not revoked, and the caller is told.
//!
//! The table is this process's own: other Envoys, and this one after a restart, know nothing of it. There a revoked key
//! works until it ends, and a counted one counts from zero.

use serde::{Deserialize, Serialize};

use super::Temporary;
use crate::ledger::{self, Edit, SharedData, Unwritten};
use crate::runtime::SLOTS;
use crate::table::{Change, Full, Place, Refused, Table};
use crate::time::UnixTime;

/// 16,384 keys, in at most 0.8 MB.
pub const KEYS: Table =
    Table { name: "temporary-keys", buckets: 2048, ways: 8, full: Full::Refuse };

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub revoked: bool,
    pub used: u32,
}

/// Why a key cannot be used although it is genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    Revoked,
    UsedUp,
    /// Its use cannot be counted.
    Table(Refused),
}

/// Keys of one consumer's own issue that live at a time. Nobody fills the tables alone.
pub const MOST: usize = 1024;

/// Why a consumer gets no more keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMore {
    /// Until the first of its keys ends.
    Until(UnixTime),
    Unwritten,
}

/// Counts a key that a consumer issues for itself.
///
/// # Errors
/// [`NoMore`].
pub fn count_issued(
    shared: &dyn SharedData,
    consumer: &str,
    expires: UnixTime,
    now: UnixTime,
) -> Result<(), NoMore> {
    let slot = format!("{SLOTS}/temporary-keys/{consumer}");
    let counted = ledger::update(shared, &slot, |ends: &mut Vec<UnixTime>| {
        ends.retain(|end| now < *end);
        if ends.len() >= MOST {
            let first = ends.iter().min().copied().unwrap_or(now);
            return Edit::Keep(Err(NoMore::Until(first)));
        }
        ends.push(expires);
        Edit::Write(Ok(()))
    });
    match counted {
        Ok(counted) => counted,
        Err(Unwritten) => Err(NoMore::Unwritten),
    }
}

/// Keeps a place for a key whose uses are counted, so that it will not lack one.
///
/// # Errors
/// There is no place.
pub fn reserve(place: Place<'_>, id: &str, expires: UnixTime) -> Result<(), Refused> {
    KEYS.update(place, id.as_bytes(), |entry| match entry {
        Some(_) => (Change::<State>::Keep, ()),
        None => (Change::Put(State::default(), expires), ()),
    })
}

/// # Errors
/// There is no place to remember it; the key goes on working.
pub fn revoke(place: Place<'_>, id: &str, expires: UnixTime) -> Result<(), Refused> {
    KEYS.update(place, id.as_bytes(), |entry| {
        let state = entry.map_or_else(State::default, |(state, _): (State, UnixTime)| state);
        (Change::Put(State { revoked: true, ..state }, expires), ())
    })
}

pub fn read(place: Place<'_>, key: &Temporary) -> State {
    KEYS.read(place, key.id.as_bytes()).unwrap_or_default()
}

/// Whether a key may be used, without using it.
///
/// # Errors
/// [`Unusable::Revoked`], [`Unusable::UsedUp`].
pub fn check(place: Place<'_>, key: &Temporary) -> Result<(), Unusable> {
    usable(read(place, key), key)
}

/// Counts one use. Exact, whatever other workers do.
///
/// # Errors
/// [`Unusable`]; nothing is counted then.
pub fn take(place: Place<'_>, key: &Temporary) -> Result<(), Unusable> {
    if key.scope.uses.is_none() {
        return Ok(());
    }
    let taken = KEYS.update(place, key.id.as_bytes(), |entry: Option<(State, UnixTime)>| {
        let state = entry.map_or_else(State::default, |(state, _)| state);
        match usable(state, key) {
            Ok(()) => {
                let used = state.used.saturating_add(1);
                (Change::Put(State { used, ..state }, key.expires), Ok(()))
            }
            Err(unusable) => (Change::Keep, Err(unusable)),
        }
    });
    taken.map_err(Unusable::Table).and_then(|taken| taken)
}

fn usable(state: State, key: &Temporary) -> Result<(), Unusable> {
    if state.revoked {
        return Err(Unusable::Revoked);
    }
    match key.scope.uses {
        Some(uses) if state.used >= uses => Err(Unusable::UsedUp),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;
    use crate::token::scope::Scope;

    const NOW: UnixTime = UnixTime(1_000);

    fn key(id: &str, uses: Option<u32>) -> Temporary {
        let scope = Scope { uses, ..Scope::default() };
        let expires = UnixTime(9_000);
        Temporary { id: id.to_owned(), consumer: "acme".to_owned(), expires, scope }
    }

    fn place(memory: &Memory) -> Place<'_> {
        Place { shared: memory, key: None, now: NOW }
    }

    #[test]
    fn so_many_uses_and_no_more() {
        let memory = Memory::default();
        let two = key("a", Some(2));
        reserve(place(&memory), &two.id, two.expires).unwrap();
        assert_eq!(check(place(&memory), &two), Ok(()));
        for expected in [Ok(()), Ok(()), Err(Unusable::UsedUp), Err(Unusable::UsedUp)] {
            // Other workers write first, now and then.
            memory.mismatches.set(2);
            assert_eq!(take(place(&memory), &two), expected);
        }
        assert_eq!(check(place(&memory), &two), Err(Unusable::UsedUp));
        assert_eq!(read(place(&memory), &two).used, 2);
        assert_eq!(take(place(&memory), &key("b", Some(1))), Ok(()), "its own count");
        reserve(place(&memory), &two.id, two.expires).unwrap();
        assert_eq!(read(place(&memory), &two).used, 2, "kept");
        let free = key("c", None);
        let written = memory.writes.get();
        assert_eq!(take(place(&memory), &free), Ok(()));
        assert_eq!(memory.writes.get(), written, "nothing to count");
    }

    #[test]
    fn revoked_at_once_and_until_the_end() {
        let memory = Memory::default();
        let (counted, free) = (key("a", Some(5)), key("b", None));
        take(place(&memory), &counted).unwrap();
        for key in [&counted, &free] {
            revoke(place(&memory), &key.id, key.expires).unwrap();
            assert_eq!(check(place(&memory), key), Err(Unusable::Revoked));
        }
        assert_eq!(take(place(&memory), &counted), Err(Unusable::Revoked));
        assert_eq!(read(place(&memory), &counted), State { revoked: true, used: 1 });
        assert_eq!(check(place(&memory), &key("c", None)), Ok(()));
    }

    #[test]
    fn a_consumer_s_own_keys_are_bounded() {
        let memory = Memory::default();
        let count = |consumer: &str, expires, now| {
            count_issued(&memory, consumer, UnixTime(expires), UnixTime(now))
        };
        for n in 0..MOST as u64 {
            assert_eq!(count("acme", 5_000 + n, 1_000), Ok(()));
        }
        assert_eq!(count("acme", 9_000, 1_000), Err(NoMore::Until(UnixTime(5_000))));
        assert_eq!(count("beta", 9_000, 1_000), Ok(()));
        assert_eq!(count("acme", 9_000, 5_000), Ok(()), "one has ended");
        assert_eq!(count("acme", 9_000, 5_000), Err(NoMore::Until(UnixTime(5_001))));
    }

    /// Fail closed: what cannot be remembered is refused, and nothing that is remembered is lost.
    #[test]
    fn a_full_table_refuses() {
        let memory = Memory::default();
        let mut ids = (0..).map(|n: u32| n.to_string());
        let full = ids.find(|id| reserve(place(&memory), id, UnixTime(9_000)).is_err()).unwrap();
        assert_eq!(take(place(&memory), &key(&full, Some(1))), Err(Unusable::Table(Refused::Full)));
        assert_eq!(revoke(place(&memory), &full, UnixTime(9_000)), Err(Refused::Full));
        let later = Place { now: UnixTime(9_000), ..place(&memory) };
        assert_eq!(revoke(later, &full, UnixTime(9_001)), Ok(()), "room again");
    }
}
