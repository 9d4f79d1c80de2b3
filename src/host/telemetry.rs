//! Counters, gauges and histograms: `wasmcustom.keyward.NAME;label=value;…`, which the shipped configurations turn
//! into labels by `stats_tags`.

use std::cell::RefCell;
use std::collections::HashMap;

use super::abi::{self, Metric};
use crate::effect::Cx;
use crate::status;

/// Ids of the metrics that this plugin has defined in this VM. Labels are bounded by the configuration,
/// and so is this.
#[derive(Default)]
pub(super) struct Metrics(RefCell<HashMap<String, u32>>);

impl Metrics {
    pub(super) fn count(&self, counter: &str, by: u64) {
        if let Some(id) = self.id(Metric::Counter, counter) {
            abi::increment_metric(id, by);
        }
    }

    pub(super) fn measure(&self, histogram: &str, value: u64) {
        if let Some(id) = self.id(Metric::Histogram, histogram) {
            abi::record_metric(id, value);
        }
    }

    /// Keys by state, as of now: time alone changes them.
    pub(super) fn gauge_keys(&self, cx: &Cx<'_>) {
        let mut by_state: Vec<(&str, u64)> = STATES.iter().map(|state| (*state, 0)).collect();
        for key in &cx.runtime.keys {
            let (state, ..) = status::key_state(cx, key);
            if let Some((_, count)) = by_state.iter_mut().find(|(name, _)| *name == state) {
                *count += 1;
            }
            self.set(&format!("key_ready;key={}", key.name), u64::from(state == "ready"));
        }
        for (state, count) in by_state {
            self.set(&format!("keys;state={state}"), count);
        }
    }

    fn set(&self, gauge: &str, value: u64) {
        if let Some(id) = self.id(Metric::Gauge, gauge) {
            abi::record_metric(id, value);
        }
    }

    fn id(&self, kind: Metric, name: &str) -> Option<u32> {
        let mut ids = self.0.borrow_mut();
        if let Some(id) = ids.get(name) {
            return Some(*id);
        }
        let id = abi::define_metric(kind, &format!("keyward.{name}"))?;
        ids.insert(name.to_owned(), id);
        Some(id)
    }
}

const STATES: [&str; 7] =
    ["ready", "resting", "recovering", "refused", "limited", "not_yet_valid", "expired"];
