//! A small proxy-wasm host: what the filter sees of Envoy, without Envoy.
//!
//! It holds several instances of the module ([`vm::Vm`], a worker's each) over one [`Process`], whose time,
//! randomness and environment are the test's. Where Envoy has quirks that the filter relies on (tokens of
//! shared data, buffers while a stream is held, header maps that are gone once passed on), it has the same.

mod calls;
pub mod stream;
pub mod vm;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use keyward::ledger::{self, SetError};
use keyward::random::Random;
use keyward::tally::Tally;

/// Header fields in order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).collect()
}

/// The first value of `name`.
pub fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.as_slice())
}

pub fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    value(fields, name).and_then(|value| core::str::from_utf8(value).ok())
}

/// Replaces all values of `name` by one.
pub fn set(fields: &mut Fields, name: &[u8], value: &[u8]) {
    let position = fields.iter().position(|(n, _)| n == name).unwrap_or(fields.len());
    fields.retain(|(n, _)| n != name);
    fields.insert(position, (name.into(), value.into()));
}

pub fn remove(fields: &mut Fields, name: &[u8]) {
    fields.retain(|(n, _)| n != name);
}

/// Status of a host call, as ABI 0.2.1 numbers them.
pub mod status {
    pub const OK: u32 = 0;
    pub const NOT_FOUND: u32 = 1;
    pub const BAD_ARGUMENT: u32 = 2;
    pub const CAS_MISMATCH: u32 = 8;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const ALL_BUT_OK: core::ops::RangeInclusive<u32> = NOT_FOUND..=UNIMPLEMENTED;
}

/// What the workers of one Envoy process have in common.
pub struct Process {
    pub shared: SharedData,
    pub metrics: Metrics,
    environment: Vec<(String, String)>,
    now_ms: AtomicU64,
    random: Mutex<Random>,
    log: Mutex<Vec<(u32, String)>>,
}

impl Process {
    pub fn new(seed: u64, environment: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            shared: SharedData::default(),
            metrics: Metrics::default(),
            environment: environment.iter().map(owned).collect(),
            // 2026-11-20T12:00:00Z, the start of a minute, an hour and not of a month.
            now_ms: AtomicU64::new(1_795_176_000_000),
            random: Mutex::new(Random::new(seed)),
            log: Mutex::default(),
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub fn advance_ms(&self, by: u64) {
        self.now_ms.fetch_add(by, Ordering::Relaxed);
    }

    /// Levels (0 trace … 4 error) and messages so far.
    pub fn log(&self) -> Vec<(u32, String)> {
        self.log.lock().unwrap().clone()
    }

    fn write_log(&self, level: u32, message: &[u8]) {
        let message = String::from_utf8_lossy(message).into_owned();
        self.log.lock().unwrap().push((level, message));
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut random = self.random.lock().unwrap();
        bytes.fill_with(|| random.next_u64().to_le_bytes()[0]);
    }
}

/// Shared data with the semantics of Envoy (`shared_data.cc` of proxy-wasm-cpp-host): token zero overwrites,
/// an absent slot takes any token, tokens are numbered across all slots.
#[derive(Default)]
pub struct SharedData {
    slots: Mutex<Slots>,
    /// Runs before every access: lets other workers in between.
    pub gate: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Slots {
    values: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_token: u32,
}

impl SharedData {
    pub fn get(&self, slot: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.enter();
        self.slots.lock().unwrap().values.get(slot).cloned()
    }

    /// Whether the value was taken; if not, the token is out of date.
    pub fn set(&self, slot: &[u8], value: &[u8], token: u32) -> bool {
        self.enter();
        let mut slots = self.slots.lock().unwrap();
        let current = slots.values.get(slot).map(|(_, current)| *current);
        if token != 0 && current.is_some_and(|current| current != token) {
            return false;
        }
        slots.last_token = slots.last_token.wrapping_add(1).max(1);
        let token = slots.last_token;
        slots.values.insert(slot.to_vec(), (value.to_vec(), token));
        true
    }

    pub fn slots(&self) -> BTreeSet<String> {
        let slots = self.slots.lock().unwrap();
        slots.values.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// All values one after the other, for a search in them.
    pub fn all_values(&self) -> Vec<u8> {
        self.slots.lock().unwrap().values.values().flat_map(|(value, _)| value.clone()).collect()
    }

    /// What was counted of a model.
    pub fn tally(&self, model: &str) -> Tally {
        ledger::read(self, &format!("keyward/1/usage/model/{model}"))
    }

    fn enter(&self) {
        if let Some(gate) = self.gate.get() {
            gate();
        }
    }
}

/// As the core sees it.
impl ledger::SharedData for SharedData {
    fn get(&self, slot: &str) -> Option<(Vec<u8>, u32)> {
        self.get(slot.as_bytes())
    }

    fn set(&self, slot: &str, value: &[u8], token: u32) -> Result<(), SetError> {
        let taken = self.set(slot.as_bytes(), value, token);
        if taken { Ok(()) } else { Err(SetError::Mismatch) }
    }
}

/// Metrics of the process; an id is a position.
#[derive(Default)]
pub struct Metrics(Mutex<Vec<(String, i64)>>);

impl Metrics {
    pub fn all(&self) -> Vec<(String, i64)> {
        self.0.lock().unwrap().clone()
    }

    /// Sum over all label values.
    pub fn sum(&self, name: &str) -> i64 {
        let metrics = self.0.lock().unwrap();
        let named = metrics.iter().filter(|(n, _)| n.split(';').next() == Some(name));
        named.map(|(_, count)| count).sum()
    }

    fn define(&self, name: &[u8]) -> u32 {
        let name = String::from_utf8_lossy(name);
        let mut metrics = self.0.lock().unwrap();
        let known = metrics.iter().position(|(n, _)| *n == name);
        let id = known.unwrap_or_else(|| {
            metrics.push((name.into_owned(), 0));
            metrics.len() - 1
        });
        u32::try_from(id).unwrap()
    }

    /// Whether there is such a metric.
    fn change(&self, id: u32, change: impl FnOnce(i64) -> i64) -> bool {
        let mut metrics = self.0.lock().unwrap();
        let metric = metrics.get_mut(usize::try_from(id).unwrap());
        metric.map(|(_, value)| *value = change(*value)).is_some()
    }
}
