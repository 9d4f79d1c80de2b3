//! Where the limits of temporary keys are counted.
//!
//! The names of records in shared data are there for good, so keys cannot each have their own: `PLACES` gives a key
//! one of 4,096 for its life, and the record there begins anew with each key ([`Subject::owner`]). A key looks at up to
//! eight places; that all eight are taken happens to 0.4 % of the keys when half of all are, and such a key is not issued,
//! or refused on an Envoy that did not issue it.

use std::borrow::Cow;

use super::Temporary;
use crate::limit::{Kind, Limits, Subject};
use crate::runtime::SLOTS;
use crate::table::{Change, Full, Place, Refused, Table};
use crate::time::UnixTime;

const PLACES: Table =
    Table { name: "temporary-key-limits", buckets: 4096, ways: 1, full: Full::Refuse };
const PROBES: u32 = 8;

/// Keeps a place for a key with limits, so that it will not lack one.
///
/// # Errors
/// There is no place.
pub fn reserve(place: Place<'_>, id: &str, expires: UnixTime) -> Result<(), Refused> {
    find(place, id, expires).map(drop)
}

/// Whom to charge for a request with a key; `None` where it has no limits.
///
/// # Errors
/// There is no place to count.
pub fn subject(place: Place<'_>, key: &Temporary) -> Result<Option<Subject<'static>>, Refused> {
    if key.scope.limits.is_empty() {
        return Ok(None);
    }
    let bucket = find(place, &key.id, key.expires)?;
    Ok(Some(Subject {
        kind: Kind::Key,
        name: Cow::Owned(key.id.clone()),
        slot: Cow::Owned(format!("{SLOTS}/limit/temporary-key/{bucket}")),
        owner: PLACES.fingerprint(place, key.id.as_bytes()),
        limits: Cow::<Limits>::Owned(key.scope.limits.clone()),
    }))
}

/// The place of a key, which is taken for it if it has none yet.
fn find(place: Place<'_>, id: &str, expires: UnixTime) -> Result<u32, Refused> {
    let probes = || (0..PROBES).map(|probe| format!("{id}/{probe}"));
    let bucket = |probe: &str| PLACES.bucket_of(place, probe.as_bytes());
    // One who comes second finds what the first has taken, as long as both look in the same order.
    if let Some(own) = probes().find(|probe| PLACES.read::<()>(place, probe.as_bytes()).is_some()) {
        return Ok(bucket(&own));
    }
    for probe in probes() {
        match PLACES.update(place, probe.as_bytes(), |_| (Change::Put((), expires), ())) {
            Ok(()) => return Ok(bucket(&probe)),
            Err(Refused::Full) => {}
            Err(Refused::Unwritten) => return Err(Refused::Unwritten),
        }
    }
    Err(Refused::Full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;
    use crate::limit::{Limit, Per, Unit};
    use crate::token::scope::Scope;
    use std::collections::HashSet;

    fn key(id: &str, max: u64) -> Temporary {
        let limit =
            Limit { unit: Unit::Requests, max, per: Per::Day, algorithm: Default::default() };
        let limits = Limits { list: vec![limit], concurrency: None };
        let scope = Scope { limits, ..Scope::default() };
        let expires = UnixTime(9_000);
        Temporary { id: id.to_owned(), consumer: "acme".to_owned(), expires, scope }
    }

    fn at(memory: &Memory, now: u64) -> Place<'_> {
        Place { shared: memory, key: None, now: UnixTime(now) }
    }

    #[test]
    fn no_two_living_keys_share_a_place() {
        let memory = Memory::default();
        let mut slots = HashSet::new();
        let count = 2048;
        let found =
            (0..count).filter_map(|n| subject(at(&memory, 1), &key(&n.to_string(), 1)).ok());
        let found: Vec<_> = found.flatten().collect();
        assert!(found.len() > count * 995 / 1000, "{}", found.len());
        assert!(found.iter().all(|subject| slots.insert(subject.slot.clone())));
        let again = subject(at(&memory, 1), &key("7", 1)).unwrap().unwrap();
        assert_eq!(again, found[7], "kept");
        let free = Temporary { scope: Scope::default(), ..key("x", 1) };
        assert_eq!(subject(at(&memory, 1), &free), Ok(None));
    }

    #[test]
    fn a_full_table_refuses_until_keys_end() {
        let memory = Memory::default();
        let mut ids = (0..).map(|n: u32| n.to_string());
        let lost = ids.find(|id| reserve(at(&memory, 1), id, UnixTime(9_000)).is_err()).unwrap();
        assert_eq!(subject(at(&memory, 1), &key(&lost, 1)), Err(Refused::Full));
        assert!(
            subject(at(&memory, 9_000), &Temporary { expires: UnixTime(9_001), ..key(&lost, 1) })
                .is_ok()
        );
    }
}
