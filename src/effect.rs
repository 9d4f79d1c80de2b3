//! What a stage may ask of the host. Values, carried out in order after the callback that returned them.

use std::borrow::Cow;

use crate::ledger::SharedData;
use crate::plan::ProcessKey;
use crate::random::Random;
use crate::reply::Reply;
use crate::runtime::Runtime;
use crate::time::UnixTime;

/// One thing for the host to do. Header effects are about the request while that is on its way and about
/// the answer afterwards.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Of a request, this also makes Envoy choose the route anew: it does so for filters of this ABI version.
    SetHeader(Cow<'static, str>, Vec<u8>),
    RemoveHeader(String),
    /// Replaces the part of the body that this callback was given.
    SetBody(Vec<u8>),
    /// Filter state `wasm.NAME`, read by later attempts of the same round and by access logs.
    SetFilterState(&'static str, Vec<u8>),
    Reply(Reply),
    /// Adds to a counter, named `NAME;label=value;…` with the labels in a fixed order for each name; the
    /// configuration bounds their values.
    Count(String, u64),
    /// Adds one value to a histogram, named as a counter is.
    Measure(String, u64),
    Log(log::Level, String),
    /// Lets the headers of the answer go on after the callback, although its flow is to pause.
    ResumeResponse,
    /// Keeps the request until then, whatever the callback's flow says.
    Wait(UnixTime),
    /// One more, or one less, of what this VM holds in a slot ([`crate::limit::account::Leases`]).
    Hold(String),
    Release(String),
}

/// What the host does with the message after a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    Continue,
    /// Keeps headers and body until a later callback continues.
    Pause,
}

/// All that a stage is given besides the message itself, and where it leaves its effects.
pub struct Cx<'a> {
    pub runtime: &'a Runtime,
    pub shared: &'a dyn SharedData,
    /// Authenticates plans across an internal redirect; without one there is none.
    pub process_key: Option<&'a ProcessKey>,
    /// Names this VM among those that share data, for places that it holds.
    pub holder: u64,
    pub now: UnixTime,
    pub random: Random,
    /// Bytes that nobody can guess; `None`: the host has none.
    pub entropy: fn() -> Option<[u8; 16]>,
    pub effects: Vec<Effect>,
}

impl<'a> Cx<'a> {
    pub fn new(
        runtime: &'a Runtime,
        shared: &'a dyn SharedData,
        process_key: Option<&'a ProcessKey>,
        now: UnixTime,
        seed: u64,
    ) -> Self {
        let random = Random::new(seed);
        let (entropy, effects): (fn() -> _, _) = (|| None, Vec::new());
        Self { runtime, shared, process_key, holder: 0, now, random, entropy, effects }
    }

    pub fn set_header(&mut self, name: &'static str, value: impl Into<Vec<u8>>) {
        self.effects.push(Effect::SetHeader(Cow::Borrowed(name), value.into()));
    }

    pub fn remove_header(&mut self, name: impl Into<String>) {
        self.effects.push(Effect::RemoveHeader(name.into()));
    }

    pub fn set_body(&mut self, body: Vec<u8>) {
        self.effects.push(Effect::SetBody(body));
    }

    pub fn reply(&mut self, reply: Reply) {
        self.effects.push(Effect::Reply(reply));
    }

    pub fn log(&mut self, level: log::Level, message: String) {
        self.effects.push(Effect::Log(level, message));
    }

    pub fn count(&mut self, name: &'static str, labels: &[(&'static str, &str)]) {
        self.count_by(name, labels, 1);
    }

    pub fn count_by(&mut self, name: &'static str, labels: &[(&'static str, &str)], by: u64) {
        self.effects.push(Effect::Count(metric(name, labels), by));
    }

    pub fn measure(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.effects.push(Effect::Measure(metric(name, labels), value));
    }

    /// Notes that shared data did not take a count, so that the loss is seen.
    pub fn lost(&mut self, written: Result<(), crate::ledger::Unwritten>) {
        if written.is_err() {
            self.count("records_unwritten", &[]);
        }
    }
}

fn metric(name: &str, labels: &[(&'static str, &str)]) -> String {
    // Names are about this long: one allocation, on the way of every request.
    let mut metric = String::with_capacity(96);
    metric.push_str(name);
    for (label, value) in labels {
        for part in [";", label, "=", value] {
            metric.push_str(part);
        }
    }
    metric
}
