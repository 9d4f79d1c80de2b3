//! State that all workers and both stages share: records in the host's shared data, changed by
//! compare-and-swap.
//!
//! The host's shared data has no delete, no expiry and no iteration, so the names of the slots are fixed
//! by the configuration. They carry the version of the encoding (`keyward/1/…`): a filter of another
//! version does not see these records. A record that cannot be decoded counts as absent.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The one port of the core: shared data of the host.
pub trait SharedData {
    /// The value and the token that a later [`Self::set`] has to present; `None` where there is none.
    fn get(&self, slot: &str) -> Option<(Vec<u8>, u32)>;

    /// Writes if nobody else has since `token` was read; [`ABSENT`] for a slot that was absent.
    fn set(&self, slot: &str, value: &[u8], token: u32) -> Result<(), SetError>;
}

/// The token of an absent slot. Envoy takes any token for an absent slot and zero as "overwrite", so
/// creation races are lost unless the token is one that no written slot has.
pub const ABSENT: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetError {
    /// Somebody else wrote first.
    Mismatch,
    /// The host did not take the value.
    Failed,
}

/// What a change to a record comes to.
#[derive(Debug)]
pub enum Edit<R> {
    /// Nothing to write.
    Keep(R),
    Write(R),
}

/// The record could not be written: the host refused, or others were faster every time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritten;

/// Tries of one change. Four workers that do nothing else need two on average.
const TRIES: usize = 1_000;

pub fn read<T: DeserializeOwned + Default>(shared: &dyn SharedData, slot: &str) -> T {
    shared.get(slot).map(|(bytes, _)| decode(&bytes)).unwrap_or_default()
}

/// A slot as it was found: its value and token.
#[derive(Debug)]
pub struct Found {
    bytes: Vec<u8>,
    token: u32,
}

impl Found {
    pub fn in_slot(shared: &dyn SharedData, slot: &str) -> Self {
        let (bytes, token) = shared.get(slot).unwrap_or((Vec::new(), ABSENT));
        Self { bytes, token }
    }

    pub fn record<T: DeserializeOwned + Default>(&self) -> T {
        decode(&self.bytes)
    }
}

/// Reads a record, changes it, and writes it unless it was changed in between: then once more from the
/// start. `change` may run several times and must depend on nothing but the record.
pub fn update<T, R>(
    shared: &dyn SharedData,
    slot: &str,
    change: impl FnMut(&mut T) -> Edit<R>,
) -> Result<R, Unwritten>
where
    T: Serialize + DeserializeOwned + Default,
{
    update_found(shared, slot, Found::in_slot(shared, slot), change)
}

/// As [`update`], for a slot that has just been read.
pub fn update_found<T, R>(
    shared: &dyn SharedData,
    slot: &str,
    mut found: Found,
    mut change: impl FnMut(&mut T) -> Edit<R>,
) -> Result<R, Unwritten>
where
    T: Serialize + DeserializeOwned + Default,
{
    for _ in 0..TRIES {
        let mut record = found.record();
        let Found { mut bytes, token } = found;
        let result = match change(&mut record) {
            Edit::Keep(result) => return Ok(result),
            Edit::Write(result) => result,
        };
        // Into what it was read from: the new value is about as long.
        bytes.clear();
        let bytes = postcard::to_extend(&record, bytes).map_err(|_| Unwritten)?;
        match shared.set(slot, &bytes, token) {
            Ok(()) => return Ok(result),
            Err(SetError::Mismatch) => found = Found::in_slot(shared, slot),
            Err(SetError::Failed) => return Err(Unwritten),
        }
    }
    Err(Unwritten)
}

/// As [`update`], on bytes and compiled once: `change` gets what is there, nothing where there is nothing, and returns
/// what is to be there, `None` to leave it.
pub fn update_bytes(
    shared: &dyn SharedData,
    slot: &str,
    change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Result<(), Unwritten> {
    for _ in 0..TRIES {
        let (bytes, token) = shared.get(slot).unwrap_or((Vec::new(), ABSENT));
        let Some(changed) = change(&bytes) else { return Ok(()) };
        match shared.set(slot, &changed, token) {
            Ok(()) => return Ok(()),
            Err(SetError::Mismatch) => {}
            Err(SetError::Failed) => return Err(Unwritten),
        }
    }
    Err(Unwritten)
}

fn decode<T: DeserializeOwned + Default>(bytes: &[u8]) -> T {
    postcard::from_bytes(bytes).unwrap_or_default()
}

/// A double of the host's shared data for tests of all kinds, with the host's own semantics.
#[doc(hidden)]
#[cfg(not(target_arch = "wasm32"))]
pub mod memory {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    #[derive(Default)]
    pub struct Memory {
        slots: RefCell<HashMap<String, (Vec<u8>, u32)>>,
        next: Cell<u32>,
        /// How many of the coming writes are refused as if another worker had been faster.
        pub mismatches: Cell<u32>,
        pub writes: Cell<u32>,
    }

    impl Memory {
        /// How many slots there are, and the bytes of their names and values.
        pub fn size(&self) -> (usize, usize) {
            let slots = self.slots.borrow();
            let bytes = slots.iter().map(|(name, (value, _))| name.len() + value.len()).sum();
            (slots.len(), bytes)
        }
    }

    impl SharedData for Memory {
        fn get(&self, slot: &str) -> Option<(Vec<u8>, u32)> {
            // An empty value reads as absent, and is not.
            self.slots.borrow().get(slot).filter(|(value, _)| !value.is_empty()).cloned()
        }

        fn set(&self, slot: &str, value: &[u8], token: u32) -> Result<(), SetError> {
            if self.mismatches.get() > 0 {
                self.mismatches.set(self.mismatches.get() - 1);
                return Err(SetError::Mismatch);
            }
            let mut slots = self.slots.borrow_mut();
            // Zero overwrites; an absent slot takes any token.
            if let Some((_, current)) = slots.get(slot)
                && token != 0
                && *current != token
            {
                return Err(SetError::Mismatch);
            }
            self.next.set(self.next.get() + 1);
            self.writes.set(self.writes.get() + 1);
            slots.insert(slot.to_owned(), (value.to_vec(), self.next.get()));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::memory::Memory;
    use super::*;

    fn add(memory: &Memory, by: u64) -> Result<u64, Unwritten> {
        update(memory, "n", |n: &mut u64| {
            *n += by;
            Edit::Write(*n)
        })
    }

    #[test]
    fn a_change_is_made_again_on_what_others_wrote() {
        let memory = Memory::default();
        assert_eq!(add(&memory, 1), Ok(1));
        memory.mismatches.set(3);
        assert_eq!(add(&memory, 1), Ok(2));
        assert_eq!(read::<u64>(&memory, "n"), 2);
    }

    #[test]
    fn a_lost_creation_race_is_noticed() {
        let memory = Memory::default();
        memory.set("n", &[1], ABSENT).unwrap();
        assert_eq!(memory.set("n", &[1], ABSENT), Err(SetError::Mismatch));
    }

    #[test]
    fn endless_contention_ends() {
        let memory = Memory::default();
        memory.mismatches.set(u32::MAX);
        assert_eq!(add(&memory, 1), Err(Unwritten));
    }

    #[test]
    fn a_record_of_unknown_encoding_counts_as_absent() {
        let memory = Memory::default();
        memory.set("n", &[0xff; 40], ABSENT).unwrap();
        assert_eq!(add(&memory, 5), Ok(5));
    }
}
