//! The world around the core: clients, Envoy's router, providers, time.
//!
//! [`World::ask`] plays one request to its end with the answers that were scripted for each key;
//! [`World::send`] stops at every call to a provider, so that a test says what happens meanwhile. What must
//! hold for every exchange is asserted for every exchange, in `Call::check` and `Got::check`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyward::effect::{Cx, Effect};
use keyward::ledger::memory::Memory;
use keyward::ledger::{SetError, SharedData};
use keyward::limit::account::Leases;
use keyward::plan::ProcessKey;
use keyward::random::Random;
use keyward::runtime::{self, Runtime};
use keyward::time::UnixTime;
use serde_json::{Value, json};

pub(crate) use super::router::Flight;

/// Noon of a Sunday.
pub(crate) const START: UnixTime = UnixTime(1_795_348_800_000);
pub(crate) const ADMIN: &str = "sesame";

pub(crate) struct World {
    pub(crate) memory: Memory,
    now: Cell<UnixTime>,
    random: RefCell<Random>,
    process_key: ProcessKey,
    /// The stages are configured apart: an update reaches one of them first.
    runtime: RefCell<Rc<Runtime>>,
    attempt_runtime: RefCell<Rc<Runtime>>,
    script: RefCell<HashMap<String, VecDeque<Answer>>>,
    pub(crate) log: RefCell<Vec<String>>,
    counts: RefCell<BTreeMap<String, u64>>,
    measured: RefCell<Vec<(String, u64)>>,
    /// Request headers that a `credential_injector` fills before the attempt stage.
    injected: RefCell<BTreeMap<String, String>>,
    /// The shipped clusters lead the third attempt of a round to an endpoint that stands in for the provider.
    pub(crate) replan: Cell<bool>,
    /// What the router is willing to do; a circuit breaker or a route without the policy says 0.
    pub(crate) retries: Cell<u32>,
    pub(crate) redirects: Cell<u32>,
    /// Requests of other workers, run between any two accesses to shared data.
    pub(crate) meanwhile: RefCell<Vec<Request>>,
    pub(crate) answered_meanwhile: RefCell<Vec<Got>>,
    depth: Cell<u32>,
    /// Where clients call from.
    pub(crate) address: RefCell<String>,
    /// What the requests under way hold.
    pub(crate) leases: RefCell<Leases>,
    /// The last state that travelled with an internal redirect.
    pub(crate) seen_state: RefCell<Option<String>>,
}

impl World {
    pub(crate) fn new(document: &Value) -> Self {
        let memory = Memory::default();
        let process_key = ProcessKey::obtain(&memory, [7; 32]).unwrap();
        let runtime = Rc::new(load(document));
        Self {
            memory,
            now: Cell::new(START),
            random: RefCell::new(Random::new(1)),
            process_key,
            attempt_runtime: RefCell::new(Rc::new(load_for_attempts(document))),
            runtime: RefCell::new(runtime),
            script: RefCell::default(),
            log: RefCell::default(),
            counts: RefCell::default(),
            measured: RefCell::default(),
            injected: RefCell::default(),
            replan: Cell::new(false),
            retries: Cell::new(u32::MAX),
            redirects: Cell::new(10),
            meanwhile: RefCell::default(),
            answered_meanwhile: RefCell::default(),
            depth: Cell::new(0),
            address: RefCell::default(),
            leases: RefCell::default(),
            seen_state: RefCell::default(),
        }
    }

    pub(crate) fn seeded(self, seed: u64) -> Self {
        self.random.replace(Random::new(seed));
        self
    }

    pub(crate) fn reload(&self, document: &Value) {
        self.reload_attempts(document);
        self.runtime.replace(Rc::new(load(document)));
    }

    /// The update has reached the clusters, not yet the listener.
    pub(crate) fn reload_attempts(&self, document: &Value) {
        self.attempt_runtime.replace(Rc::new(load_for_attempts(document)));
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.now.get()
    }

    pub(crate) fn pass(&self, seconds: f64) {
        self.now.set(self.now().after(Duration::from_secs_f64(seconds)));
    }

    pub(crate) fn wait_until(&self, moment: UnixTime) {
        self.now.set(self.now().max(moment));
    }

    pub(crate) fn draw(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    /// What the provider says to the next requests with this key; then, and without any, it answers.
    pub(crate) fn on(&self, key: &str, answers: impl IntoIterator<Item = Answer>) {
        self.script.borrow_mut().entry(key.to_owned()).or_default().extend(answers);
    }

    pub(crate) fn inject(&self, header: &str, secret: &str) {
        self.injected.borrow_mut().insert(header.to_owned(), secret.to_owned());
    }

    pub(crate) fn injected(&self) -> BTreeMap<String, String> {
        self.injected.borrow().clone()
    }

    pub(crate) fn forget_script(&self) {
        self.script.borrow_mut().clear();
    }

    pub(crate) fn scripted(&self, call: &Call) -> Answer {
        let mut script = self.script.borrow_mut();
        script.get_mut(&call.key).and_then(VecDeque::pop_front).unwrap_or_else(Answer::ok)
    }

    pub(crate) fn send(&self, request: &Request) -> Flight<'_> {
        Flight::start(self, request)
    }

    pub(crate) fn ask(&self, request: &Request) -> Got {
        let mut flight = self.send(request);
        while let Some(call) = flight.call().cloned() {
            flight.answer(self.scripted(&call));
        }
        flight.got()
    }

    /// Asks `count` times; how often each key answered, in the order of their names.
    pub(crate) fn spread(&self, request: &Request, count: usize) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for _ in 0..count {
            let got = self.ask(request);
            assert_eq!(got.status, 200, "{}", got.body);
            *spread.entry(got.keys().last().unwrap().to_string()).or_default() += 1;
        }
        spread
    }

    /// What a stage that starts now is configured with, to its end.
    pub(crate) fn runtime(&self) -> Rc<Runtime> {
        Rc::clone(&self.runtime.borrow())
    }

    pub(crate) fn attempt_runtime(&self) -> Rc<Runtime> {
        Rc::clone(&self.attempt_runtime.borrow())
    }

    /// Runs a callback of a stage; what it leaves for the router to do.
    pub(crate) fn run<R>(
        &self,
        runtime: &Runtime,
        callback: impl FnOnce(&mut Cx<'_>) -> R,
    ) -> (R, Vec<Effect>) {
        let mut cx = Cx::new(runtime, self, Some(&self.process_key), self.now(), self.draw());
        cx.entropy = drawn;
        let result = callback(&mut cx);
        let mut rest = Vec::new();
        for effect in cx.effects {
            match effect {
                Effect::Log(level, line) => {
                    assert!(!line.contains("sk-"), "a secret in the log: {line}");
                    self.log.borrow_mut().push(format!("{level} {line}"));
                }
                Effect::Count(counter, by) => {
                    let name = counter.split(';').next().unwrap_or_default().to_owned();
                    *self.counts.borrow_mut().entry(name).or_default() += by;
                }
                Effect::Measure(histogram, value) => {
                    self.measured.borrow_mut().push((histogram, value));
                }
                Effect::Hold(slot) => self.leases.borrow_mut().hold(slot),
                Effect::Release(slot) => self.leases.borrow_mut().release(&slot),
                effect => rest.push(effect),
            }
        }
        (result, rest)
    }

    pub(crate) fn count(&self, metric: &str) -> u64 {
        self.counts.borrow().get(metric).copied().unwrap_or_default()
    }

    /// What histograms were given since the last look.
    pub(crate) fn take_measured(&self) -> Vec<(String, u64)> {
        self.measured.take()
    }

    /// The lines logged since the last look.
    pub(crate) fn take_log(&self) -> Vec<String> {
        self.log.take()
    }

    pub(crate) fn status(&self) -> Value {
        let request = Request::get("/keyward/status").header("authorization", &bearer(ADMIN));
        let got = self.ask(&request);
        assert_eq!(got.status, 200);
        serde_json::from_str(&got.body).unwrap()
    }

    /// What the status says of a key, a provider or a model.
    pub(crate) fn status_of(&self, list: &str, name: &str) -> Value {
        let status = self.status();
        let named = |entry: &&Value| entry["key"] == name || entry["name"] == name;
        status[list].as_array().unwrap().iter().find(named).unwrap().clone()
    }

    /// `ready`, or `resting rate_limited 20`: state, reason, seconds that are left.
    pub(crate) fn state(&self, key: &str) -> String {
        self.in_words(&self.status_of("keys", key))
    }

    pub(crate) fn provider_state(&self, provider: &str) -> String {
        self.in_words(&self.status_of("providers", provider))
    }

    pub(crate) fn model_state(&self, key: &str, model: &str) -> String {
        let key = self.status_of("keys", key);
        let named = |entry: &&Value| entry["model"] == model;
        let found = key["models"].as_array().unwrap().iter().find(named);
        found.map_or_else(|| "ready".to_owned(), |entry| self.in_words(entry))
    }

    fn in_words(&self, entry: &Value) -> String {
        let text = |member: &str| entry[member].as_str().map(str::to_owned);
        let left = text("until").map(|until| {
            // The status tells whole seconds.
            let now = UnixTime(self.now().0 / 1000 * 1000);
            now.until(UnixTime::parse_rfc3339(&until).unwrap()).as_secs().to_string()
        });
        [text("state"), text("reason"), left].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Lets other workers run, as they might between any two host calls of this one.
    fn interleave(&self) {
        const DEEPEST: u32 = 6;
        if self.depth.get() >= DEEPEST
            || self.meanwhile.borrow().is_empty()
            || !self.draw().is_multiple_of(4)
        {
            return;
        }
        let Some(request) = self.meanwhile.borrow_mut().pop() else { return };
        self.depth.set(self.depth.get() + 1);
        let got = self.ask(&request);
        self.answered_meanwhile.borrow_mut().push(got);
        self.depth.set(self.depth.get() - 1);
    }
}

impl SharedData for World {
    fn get(&self, slot: &str) -> Option<(Vec<u8>, u32)> {
        self.interleave();
        self.memory.get(slot)
    }

    fn set(&self, slot: &str, value: &[u8], token: u32) -> Result<(), SetError> {
        self.interleave();
        self.memory.set(slot, value, token)
    }
}

/// Never the same twice.
#[expect(clippy::unnecessary_wraps, reason = "the core asks for an option: a host may have none")]
fn drawn() -> Option<[u8; 16]> {
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    let number = DRAWN.fetch_add(1, Ordering::Relaxed);
    Some(((u128::from(number) << 64) | u128::from(number)).to_be_bytes())
}

fn load(document: &Value) -> Runtime {
    runtime::load(document.to_string().as_bytes(), &|_| None)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn load_for_attempts(document: &Value) -> Runtime {
    let mut runtime = load(document);
    runtime.keep_for_attempts();
    runtime
}

/// A document with the model `fast`, which each of the providers serves, in order.
pub(crate) fn document(providers: Value) -> Value {
    let names = providers.as_array().unwrap().iter().map(|provider| provider["name"].clone());
    let targets: Vec<_> = names.map(|name| json!({"provider": name})).collect();
    json!({
        "providers": providers,
        "models": [{"name": "fast", "targets": targets}, {"name": "gpt-*", "targets": targets}],
        "consumers": [{"name": "anyone"}],
        "anonymous": {"consumer": "anyone"},
        "admin": {"keys": [{"inline": ADMIN}]},
        "response_headers": true,
    })
}

/// One provider named `a` with these keys.
pub(crate) fn one(keys: Value) -> Value {
    document(json!([provider("a", keys)]))
}

pub(crate) fn provider(name: &str, keys: Value) -> Value {
    json!({"name": name, "kind": "openai", "host": format!("{name}.test"), "keys": keys})
}

/// A key whose secret tells its id.
pub(crate) fn key(id: &str) -> Value {
    json!({"id": id, "secret": {"inline": format!("sk-{id}")}})
}

pub(crate) fn keys<const N: usize>(ids: [&str; N]) -> Value {
    ids.map(key).to_vec().into()
}

/// `value` with other members set.
pub(crate) fn with(mut value: Value, members: Value) -> Value {
    let Value::Object(members) = members else { panic!("not an object") };
    value.as_object_mut().unwrap().extend(members);
    value
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// What a client sends.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: String,
}

impl Request {
    fn new(method: &str, path: &str, body: String) -> Self {
        let headers = [
            (":method", method),
            (":path", path),
            (":scheme", "http"),
            (":authority", "gateway.test"),
            ("accept-encoding", "gzip"),
            ("cookie", "mine=1"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.into())).to_vec();
        Self { headers, body }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path, String::new())
    }

    pub(crate) fn delete(path: &str) -> Self {
        Self::new("DELETE", path, String::new())
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this credential and no other.
    pub(crate) fn by(mut self, key: &str) -> Self {
        self.headers.retain(|(name, _)| name != "authorization" && name != "api-key");
        self.header("authorization", &bearer(key))
    }
}

pub(crate) fn post(path: &str, body: &Value) -> Request {
    let body = body.to_string();
    let length = body.len().to_string();
    Request::new("POST", path, body)
        .header("authorization", "Bearer sk-of-the-client")
        .header("api-key", "sk-of-the-client")
        .header("content-length", &length)
}

pub(crate) fn chat(model: &str) -> Request {
    post("/v1/chat/completions", &json!({"model": model, "max_tokens": 100, "messages": []}))
}

pub(crate) fn streamed_chat(model: &str) -> Request {
    post("/v1/chat/completions", &json!({"model": model, "stream": true, "messages": []}))
}

/// What a provider does with a call.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// 0: the connection cannot be made, or breaks before any answer.
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the last chunk.
    Whole,
    /// After the last chunk.
    Apart,
    /// The connection breaks.
    Reset,
    /// There is more to come.
    Open,
}

/// Of a complete answer: 30 tokens in, of which 10 were cached, and 12 out, of which 5 were reasoning.
pub(crate) const USAGE: &str = r#"{"prompt_tokens":30,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":10},"completion_tokens_details":{"reasoning_tokens":5}}"#;

impl Answer {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, chunks: vec![body.into()], end: End::Whole }
    }

    pub(crate) fn ok() -> Self {
        Self::json(200, &format!(r#"{{"id":"c","choices":[],"usage":{USAGE}}}"#))
    }

    pub(crate) fn events(events: &[&str]) -> Self {
        let chunks = events.iter().map(|data| format!("data: {data}\n\n").into_bytes()).collect();
        let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        Self { status: 200, headers, chunks, end: End::Whole }
    }

    pub(crate) fn stream() -> Self {
        let usage = format!(r#"{{"choices":[],"usage":{USAGE}}}"#);
        Self::events(&[DELTA, DELTA, &usage, "[DONE]"])
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::json(status, &json!({"error": {"message": "no", "code": code}}).to_string())
    }

    pub(crate) fn unreachable() -> Self {
        Self { status: 0, headers: Vec::new(), chunks: Vec::new(), end: End::Reset }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

pub(crate) const DELTA: &str = r#"{"choices":[{"delta":{"content":"a"}}]}"#;

/// 429 with a hint.
pub(crate) fn limited(seconds: impl ToString) -> Answer {
    limited_without_hint().header("retry-after", seconds)
}

pub(crate) fn limited_without_hint() -> Answer {
    Answer::error(429, "rate_limit_exceeded")
}

pub(crate) fn rejected() -> Answer {
    Answer::error(401, "invalid_api_key")
}

/// A request as a provider gets it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) cluster: String,
    /// Id of the key, as its secret tells.
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) at: UnixTime,
    /// Whether it got to a provider.
    pub(crate) arrived: bool,
}

impl Call {
    pub(crate) fn check(&self) {
        for name in ["x-api-key", "cookie", "accept-encoding", "x-envoy-max-retries"] {
            assert!(!self.headers.contains_key(name), "{name} reached the provider");
        }
        // One credential, in the header of its kind.
        let carriers = ["authorization", "api-key"].map(|name| self.headers.contains_key(name));
        assert_ne!(carriers, [true, true]);
        let text = format!("{:?}", self.headers);
        assert!(!text.contains("sk-of-the-client"), "{text}");
        assert_eq!(text.matches("sk-").count(), 1, "{text}");
        let stray = self.headers.keys().find(|name| name.starts_with("x-keyward-"));
        assert_eq!(stray, None);
        if let Some(length) = self.headers.get("content-length") {
            assert_eq!(*length, self.body.len().to_string());
        }
    }
}

/// What the client gets, and how it came to that.
#[derive(Debug, Default)]
pub(crate) struct Got {
    /// 0: nothing.
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// The stream ended before its end.
    pub(crate) cut: bool,
    pub(crate) calls: Vec<Call>,
}

impl Got {
    pub(crate) fn check(&self) {
        let text = format!("{:?} {}", self.headers, self.body);
        assert!(!text.contains("sk-"), "a secret in an answer: {text}");
        for name in ["x-keyward-state", "x-keyward-retry", "x-keyward-answered"] {
            assert!(!self.headers.contains_key(name), "{name} reached the client");
        }
        assert_ne!(self.headers.get("retry-after-ms").map(String::as_str), Some("0"));
        assert_ne!(self.status, 307);
    }

    /// Ids of the keys that were used, in order.
    pub(crate) fn keys(&self) -> Vec<&str> {
        self.calls.iter().map(|call| call.key.as_str()).collect()
    }

    /// `200`, or the status and the code of an error.
    pub(crate) fn outcome(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        match body["error"]["code"].as_str() {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }

    pub(crate) fn retry_after(&self) -> u64 {
        self.headers["retry-after"].parse().unwrap()
    }
}
