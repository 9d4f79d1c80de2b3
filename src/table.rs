//! Tables of fixed size in shared data, for what no configuration names: addresses, identifiers of temporary keys.
//!
//! Shared data has no delete, no expiry and no iteration, so a table is a fixed number of buckets, each one record
//! of at most [`Table::ways`] entries. An entry is found by a fingerprint of its identifier under the process key, so
//! nobody outside can choose which bucket something falls into. A look costs one read of shared data, a change one
//! compare-and-swap of one bucket.
//!
//! - **Expiry.** An entry counts as absent from its expiry on; the next write to its bucket drops it.
//! - **Full.** When all entries of a bucket live, the table does as [`Full`] says. Of a table that is as full as `load`
//!   (0 to 1), the share of the Poisson distribution with mean `ways × load` that lies above `ways` is affected: with 8 ways 0.015 %
//!   of the entries at a quarter, 0.8 % at a half, 14 % when full.
//! - **False positives.** Two identifiers are one if their fingerprints are equal: a stranger is taken for one of `n`
//!   entries with probability `n / 2^64`, 4e-15 for 65,536.
//! - **Memory.** A bucket costs the host about 160 bytes and each of its entries `18 + payload`. What was written once
//!   is never given back before the process ends: `buckets × (160 + ways × (18 + payload))` bytes at the most.
//! - **Life.** That of the Envoy process, like the process key: nothing survives a restart.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::effect::Cx;
use crate::ledger::{self, SharedData};
use crate::plan::ProcessKey;
use crate::runtime::SLOTS;
use crate::time::UnixTime;

/// The shape of a table. Its size is part of the names of its records: a version of Keyward with another size starts
/// with an empty table and does not misread this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Unique among tables; no slash.
    pub name: &'static str,
    pub buckets: u32,
    /// Entries of a bucket.
    pub ways: usize,
    pub full: Full,
}

/// What happens to an entry that comes into a full bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// It takes the place of the entry that expires first.
    EvictFirstToExpire,
    /// It is refused with [`Refused::Full`].
    Refuse,
}

/// What a change comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<P> {
    /// Nothing to write.
    Keep,
    /// This payload until then, whether the entry was there or not.
    Put(P, UnixTime),
    Remove,
}

/// An entry could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its bucket is full of others.
    Full,
    /// As [`ledger::Unwritten`], or the payload is larger than 64 KB.
    Unwritten,
}

/// Where tables are, and when it is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub shared: &'a dyn SharedData,
    /// Without one, fingerprints can be computed by anybody; everything else holds.
    pub key: Option<&'a ProcessKey>,
    pub now: UnixTime,
}

impl<'a> Place<'a> {
    pub fn of(cx: &Cx<'a>) -> Self {
        Self { shared: cx.shared, key: cx.process_key, now: cx.now }
    }
}

/// An entry as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<P> {
    pub expires: UnixTime,
    pub payload: P,
}

impl Table {
    /// The payload of a live entry.
    pub fn read<P: DeserializeOwned>(&self, place: Place<'_>, id: &[u8]) -> Option<P> {
        let fingerprint = self.fingerprint(place, id);
        let (bytes, _) = place.shared.get(&self.slot(self.bucket(fingerprint)))?;
        let entry = entries(&bytes).find(|entry| entry.is(fingerprint, place.now))?;
        postcard::from_bytes(entry.payload).ok()
    }

    /// Changes, makes or removes an entry. `change` gets the payload of the live entry with its expiry; it may run
    /// several times and must depend on nothing but that. What it returns besides is returned.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed then.
    pub fn update<P: Serialize + DeserializeOwned, R>(
        &self,
        place: Place<'_>,
        id: &[u8],
        mut change: impl FnMut(Option<(P, UnixTime)>) -> (Change<P>, R),
    ) -> Result<R, Refused> {
        let mut result = None;
        self.write(place, id, &mut |entry| {
            let entry = entry
                .and_then(|entry| Some((postcard::from_bytes(entry.payload).ok()?, entry.expires)));
            let (change, returned) = change(entry);
            result = Some(returned);
            Ok(match change {
                Change::Keep => Change::Keep,
                Change::Remove => Change::Remove,
                Change::Put(payload, expires) => {
                    let bytes = postcard::to_allocvec(&payload).map_err(|_| Refused::Unwritten)?;
                    Change::Put(bytes, expires)
                }
            })
        })?;
        result.ok_or(Refused::Unwritten)
    }

    /// All live entries, in no order that means anything. Reads every bucket: for listings, not for requests.
    pub fn list<P: DeserializeOwned>(&self, place: Place<'_>) -> Vec<Listed<P>> {
        let mut all = Vec::new();
        for bucket in 0..self.buckets {
            let Some((bytes, _)) = place.shared.get(&self.slot(bucket)) else { continue };
            let live = entries(&bytes).filter(|entry| entry.expires > place.now);
            all.extend(live.filter_map(|entry| {
                let payload = postcard::from_bytes(entry.payload).ok()?;
                Some(Listed { expires: entry.expires, payload })
            }));
        }
        all
    }

    /// [`Self::update`] on encoded payloads, compiled once for all of them.
    fn write(
        &self,
        place: Place<'_>,
        id: &[u8],
        change: &mut dyn FnMut(Option<Entry<'_>>) -> Result<Encoded, Refused>,
    ) -> Result<(), Refused> {
        let fingerprint = self.fingerprint(place, id);
        let mut outcome = Ok(());
        let written = ledger::update_bytes(
            place.shared,
            &self.slot(self.bucket(fingerprint)),
            &mut |bytes: &[u8]| {
                let found = entries(bytes).find(|entry| entry.is(fingerprint, place.now));
                let changed = change(found).and_then(|change| match change {
                    Change::Keep => Ok(None),
                    Change::Remove if found.is_none() => Ok(None),
                    Change::Remove => Ok(Some(self.without(bytes, fingerprint, place.now))),
                    Change::Put(payload, expires) => {
                        let put = Entry { fingerprint, expires, payload: &payload };
                        self.with(bytes, &put, place.now).map(Some)
                    }
                });
                changed.unwrap_or_else(|refused| {
                    outcome = Err(refused);
                    None
                })
            },
        );
        written.map_err(|_| Refused::Unwritten).and(outcome)
    }

    /// The live entries of a bucket but one.
    fn without(&self, bytes: &[u8], fingerprint: u64, now: UnixTime) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let others = entries(bytes).filter(|e| e.fingerprint != fingerprint && e.expires > now);
        for entry in others.take(self.ways) {
            entry.encode(&mut out);
        }
        if out.is_empty() {
            // A slot with an empty value reads as absent, and then could not be written again.
            out.push(0);
        }
        out
    }

    /// A bucket with an entry in it.
    fn with(&self, bytes: &[u8], put: &Entry<'_>, now: UnixTime) -> Result<Vec<u8>, Refused> {
        if u16::try_from(put.payload.len()).is_err() {
            return Err(Refused::Unwritten);
        }
        let others =
            || entries(bytes).filter(|e| e.fingerprint != put.fingerprint && e.expires > now);
        let evicted = if others().count() < self.ways {
            None
        } else if self.full == Full::Refuse {
            return Err(Refused::Full);
        } else {
            others().min_by_key(|entry| entry.expires).map(|entry| entry.fingerprint)
        };
        let mut out = Vec::with_capacity(bytes.len() + HEAD + put.payload.len());
        for entry in others().filter(|entry| Some(entry.fingerprint) != evicted) {
            entry.encode(&mut out);
        }
        put.encode(&mut out);
        Ok(out)
    }

    /// Where the entry is, if it is: for what is kept beside a table of one way.
    pub fn bucket_of(&self, place: Place<'_>, id: &[u8]) -> u32 {
        self.bucket(self.fingerprint(place, id))
    }

    /// Of an identifier, the same for the life of the process.
    pub fn fingerprint(&self, place: Place<'_>, id: &[u8]) -> u64 {
        match place.key {
            Some(key) => key.fingerprint(self.name, id),
            None => crate::random::hash(&[self.name.as_bytes(), id]),
        }
    }

    /// By the high bits: uniform, for a number of buckets of any kind.
    fn bucket(&self, fingerprint: u64) -> u32 {
        let product = u128::from(fingerprint) * u128::from(self.buckets);
        u32::try_from(product >> 64).unwrap_or_default()
    }

    fn slot(&self, bucket: u32) -> String {
        format!("{SLOTS}/table/{}/{}x{}/{bucket}", self.name, self.buckets, self.ways)
    }
}

/// A change with its payload encoded.
type Encoded = Change<Vec<u8>>;

/// Bytes of an entry before its payload: fingerprint, expiry, length of the payload, little endian.
const HEAD: usize = 8 + 8 + 2;

#[derive(Debug, Clone, Copy)]
struct Entry<'b> {
    fingerprint: u64,
    expires: UnixTime,
    payload: &'b [u8],
}

impl Entry<'_> {
    fn is(&self, fingerprint: u64, now: UnixTime) -> bool {
        self.fingerprint == fingerprint && self.expires > now
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(&self.expires.0.to_le_bytes());
        let length = u16::try_from(self.payload.len()).unwrap_or_default();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(self.payload);
    }
}

/// The entries of a bucket, up to where it cannot be read.
fn entries(mut bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    core::iter::from_fn(move || {
        let (fingerprint, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (payload, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        bytes = rest;
        Some(Entry {
            fingerprint: u64::from_le_bytes(*fingerprint),
            expires: UnixTime(u64::from_le_bytes(*expires)),
            payload,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;
    use crate::ledger::{ABSENT, SetError};
    use core::cell::Cell;

    const NOW: UnixTime = UnixTime(1_000);
    const TABLE: Table = Table { name: "t", buckets: 16, ways: 4, full: Full::EvictFirstToExpire };
    /// All entries fall into one bucket.
    const ONE: Table = Table { buckets: 1, ..TABLE };

    fn place(shared: &dyn SharedData) -> Place<'_> {
        Place { shared, key: None, now: NOW }
    }

    fn at(shared: &dyn SharedData, now: u64) -> Place<'_> {
        Place { now: UnixTime(now), ..place(shared) }
    }

    fn put(table: &Table, place: Place<'_>, id: &str, n: u32, until: u64) -> Result<(), Refused> {
        table.update(place, id.as_bytes(), |_| (Change::Put(n, UnixTime(until)), ()))
    }

    fn add(table: &Table, place: Place<'_>, id: &str) -> Result<u32, Refused> {
        table.update(place, id.as_bytes(), |entry: Option<(u32, UnixTime)>| {
            let n = entry.map_or(0, |(n, _)| n) + 1;
            (Change::Put(n, UnixTime(9_000)), n)
        })
    }

    fn listed(table: &Table, place: Place<'_>) -> Vec<u32> {
        let mut all: Vec<u32> = table.list(place).into_iter().map(|e| e.payload).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn an_entry_is_there_until_it_expires_or_is_removed() {
        let memory = Memory::default();
        put(&TABLE, place(&memory), "a", 1, 2_000).unwrap();
        assert_eq!(TABLE.read(at(&memory, 1_999), b"a"), Some(1_u32));
        assert_eq!(TABLE.read::<u32>(at(&memory, 2_000), b"a"), None);
        assert_eq!(TABLE.read::<u32>(place(&memory), b"b"), None);
        let seen = TABLE
            .update(place(&memory), b"a", |entry: Option<(u32, UnixTime)>| (Change::Keep, entry));
        assert_eq!(seen, Ok(Some((1_u32, UnixTime(2_000)))));

        TABLE.update(place(&memory), b"a", |_| (Change::<u32>::Remove, ())).unwrap();
        assert_eq!(TABLE.read::<u32>(place(&memory), b"a"), None);
        // As new after its time, whatever it held.
        put(&TABLE, place(&memory), "a", 7, 2_000).unwrap();
        assert_eq!(add(&TABLE, at(&memory, 2_000), "a"), Ok(1));
    }

    #[test]
    fn what_changes_nothing_writes_nothing() {
        let memory = Memory::default();
        TABLE.update(place(&memory), b"a", |_| (Change::<u32>::Keep, ())).unwrap();
        TABLE.update(place(&memory), b"a", |_| (Change::<u32>::Remove, ())).unwrap();
        assert_eq!(memory.writes.get(), 0);
    }

    #[test]
    fn a_full_bucket_loses_what_expires_first() {
        let memory = Memory::default();
        for (id, n, until) in [("a", 1, 5_000), ("b", 2, 3_000), ("c", 3, 4_000), ("d", 4, 6_000)] {
            put(&ONE, place(&memory), id, n, until).unwrap();
        }
        // A change of what is there needs no room.
        put(&ONE, place(&memory), "a", 10, 5_000).unwrap();
        assert_eq!(listed(&ONE, place(&memory)), [2, 3, 4, 10]);
        put(&ONE, place(&memory), "e", 5, 9_000).unwrap();
        assert_eq!(listed(&ONE, place(&memory)), [3, 4, 5, 10]);
        // Expired ones make room first.
        put(&ONE, at(&memory, 4_000), "f", 6, 9_000).unwrap();
        assert_eq!(listed(&ONE, at(&memory, 4_000)), [4, 5, 6, 10]);
    }

    #[test]
    fn or_refuses() {
        let table = Table { full: Full::Refuse, ..ONE };
        let memory = Memory::default();
        for id in ["a", "b", "c", "d"] {
            put(&table, place(&memory), id, 1, 2_000).unwrap();
        }
        assert_eq!(put(&table, place(&memory), "e", 2, 9_000), Err(Refused::Full));
        assert_eq!(put(&table, place(&memory), "a", 3, 2_000), Ok(()));
        assert_eq!(listed(&table, place(&memory)), [1, 1, 1, 3]);
        assert_eq!(put(&table, at(&memory, 2_000), "e", 2, 9_000), Ok(()));
    }

    #[test]
    fn a_bucket_never_grows_beyond_its_ways() {
        let memory = Memory::default();
        for n in 0..10_000_u32 {
            put(&TABLE, place(&memory), &n.to_string(), n, 2_000 + u64::from(n)).unwrap();
        }
        let all = listed(&TABLE, place(&memory));
        assert_eq!(all.len(), 16 * 4);
        for bucket in 0..16 {
            let (bytes, _) = memory.get(&TABLE.slot(bucket)).unwrap();
            assert!(bytes.len() <= 4 * (HEAD + 5), "{}", bytes.len());
        }
        // In each bucket the last ones stay: they expire last.
        assert!(all.iter().all(|n| *n > 9_000), "{all:?}");
    }

    /// The share that the module's documentation tells.
    #[test]
    fn how_much_a_table_loses_when_it_fills_up() {
        let table = Table { name: "t", buckets: 4_096, ways: 8, full: Full::Refuse };
        for (load, most) in [(0.25, 0.000_5), (0.5, 0.012), (1.0, 0.15)] {
            let memory = Memory::default();
            let count = (f64::from(table.buckets) * 8.0 * load) as u32;
            let lost = (0..count)
                .filter(|n| put(&table, place(&memory), &n.to_string(), *n, 2_000).is_err())
                .count();
            let share = lost as f64 / f64::from(count);
            assert!(share <= most, "{load}: {share}");
        }
    }

    /// Another worker writes between the read and the write of this one.
    struct Raced<'m> {
        memory: &'m Memory,
        other: &'m dyn Fn(&Memory),
        left: Cell<u32>,
    }

    impl SharedData for Raced<'_> {
        fn get(&self, slot: &str) -> Option<(Vec<u8>, u32)> {
            let read = self.memory.get(slot);
            if self.left.get() > 0 {
                self.left.set(self.left.get() - 1);
                (self.other)(self.memory);
            }
            read
        }

        fn set(&self, slot: &str, value: &[u8], token: u32) -> Result<(), SetError> {
            self.memory.set(slot, value, token)
        }
    }

    #[test]
    fn no_change_is_lost_to_another_worker() {
        let memory = Memory::default();
        let same = |memory: &Memory| add(&ONE, place(memory), "a").map(drop).unwrap();
        let raced = Raced { memory: &memory, other: &same, left: Cell::new(3) };
        assert_eq!(add(&ONE, place(&raced), "a"), Ok(4));
        let neighbour = |memory: &Memory| add(&ONE, place(memory), "b").map(drop).unwrap();
        let raced = Raced { memory: &memory, other: &neighbour, left: Cell::new(3) };
        assert_eq!(add(&ONE, place(&raced), "a"), Ok(5));
        assert_eq!(ONE.read(place(&memory), b"b"), Some(3_u32));
    }

    /// The last place goes to one of two that come at once.
    #[test]
    fn a_race_for_the_last_place_has_one_winner() {
        let table = Table { full: Full::Refuse, ..ONE };
        let memory = Memory::default();
        for id in ["a", "b", "c"] {
            put(&table, place(&memory), id, 1, 2_000).unwrap();
        }
        let faster = |memory: &Memory| put(&table, place(memory), "d", 4, 2_000).unwrap();
        let raced = Raced { memory: &memory, other: &faster, left: Cell::new(1) };
        assert_eq!(put(&table, place(&raced), "e", 5, 2_000), Err(Refused::Full));
        // And the other way round: refused at first, then somebody makes room.
        let leaves = |memory: &Memory| {
            table.update(place(memory), b"d", |_| (Change::<u32>::Remove, ())).unwrap();
        };
        let raced = Raced { memory: &memory, other: &leaves, left: Cell::new(1) };
        assert_eq!(put(&table, place(&raced), "a", 9, 2_000), Ok(()));
        assert_eq!(put(&table, place(&memory), "e", 5, 2_000), Ok(()));
    }

    #[test]
    fn endless_contention_ends() {
        let memory = Memory::default();
        memory.mismatches.set(u32::MAX);
        assert_eq!(add(&TABLE, place(&memory), "a"), Err(Refused::Unwritten));
    }

    #[test]
    fn a_broken_bucket_counts_as_empty() {
        let memory = Memory::default();
        memory.set(&ONE.slot(0), &[0xff; 40], ABSENT).unwrap();
        assert_eq!(ONE.list::<u32>(place(&memory)), []);
        assert_eq!(add(&ONE, place(&memory), "a"), Ok(1));
        assert_eq!(listed(&ONE, place(&memory)), [1]);
        let large = ONE.update(place(&memory), b"b", |_: Option<(Vec<u8>, UnixTime)>| {
            (Change::Put(vec![0; 70_000], UnixTime(9_000)), ())
        });
        assert_eq!(large, Err(Refused::Unwritten));
    }

    #[test]
    fn where_an_entry_falls_is_the_process_s_secret() {
        let memory = Memory::default();
        let [one, other] =
            [[1; 32], [2; 32]].map(|drawn| ProcessKey::obtain(&Memory::default(), drawn).unwrap());
        let with = |key| Place { key: Some(key), ..place(&memory) };
        put(&TABLE, with(&one), "a", 1, 2_000).unwrap();
        assert_eq!(TABLE.read(with(&one), b"a"), Some(1_u32));
        assert_eq!(TABLE.read::<u32>(with(&other), b"a"), None);
        assert_eq!(TABLE.read::<u32>(place(&memory), b"a"), None);
        assert_ne!(one.fingerprint("t", b"a"), one.fingerprint("u", b"a"));
        assert_ne!(one.fingerprint("t", b"ab"), one.fingerprint("ta", b"b"));
    }
}
