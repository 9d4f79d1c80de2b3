//! What most tests start from: a configuration, a worker that runs it, and a client's request.

use std::sync::Arc;

use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Value, json};

use super::host::vm::Vm;
use super::host::{Process, fields};
use super::message::{Answer, End, Request, Script, Sent};
use super::router::{self, Stages};

/// Everything that must never leave Envoy but towards its provider.
pub const SECRETS: [&str; 5] =
    ["sk-alpha-first", "sk-alpha-second", "sk-beta-only", "admin-secret", "client-secret"];
const ENVIRONMENT: [(&str, &str); 2] =
    [("ALPHA_SECOND", "sk-alpha-second"), ("BETA_ONLY", "sk-beta-only")];

/// Two providers: `alpha` with two keys, then `beta` with one.
pub fn document() -> Value {
    json!({
        "providers": [
            {"name": "alpha", "kind": "openai", "select": "round_robin", "keys": [
                {"id": "first", "secret": {"inline": "sk-alpha-first"}},
                {"id": "second", "secret": {"env": "ALPHA_SECOND"}},
            ]},
            {"name": "beta", "kind": "groq", "keys": [
                {"id": "only", "secret": {"env": "BETA_ONLY"}},
            ]},
        ],
        "models": [
            {"name": "fast", "targets": [
                {"provider": "alpha", "model": "gpt-4o-mini"},
                {"provider": "beta"},
            ]},
            {"name": "alpha-*", "targets": [{"provider": "alpha"}]},
        ],
        "consumers": [{"name": "everybody"}],
        "anonymous": {"consumer": "everybody"},
        "admin": {"keys": [{"inline": "admin-secret"}]},
        "response_headers": true,
        "sticky": {"header": "x-session"},
        "max_body": "32MiB",
    })
}

/// [`document`] with one provider, which has these keys.
pub fn alpha_alone(keys: &[Value]) -> Value {
    let mut document = document();
    document["providers"] = json!([{"name": "alpha", "kind": "openai", "keys": keys}]);
    document["models"] = json!([{"name": "fast", "targets": [{"provider": "alpha"}]}]);
    document
}

/// A document as Envoy hands over a `google.protobuf.Struct`.
pub fn as_struct(document: &Value) -> Vec<u8> {
    let Kind::StructValue(document) = protobuf(document) else { panic!("an object") };
    document.encode_to_vec()
}

fn protobuf(value: &Value) -> Kind {
    let wrapped = |value| prost_types::Value { kind: Some(protobuf(value)) };
    match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(elements) => {
            let values = elements.iter().map(wrapped).collect();
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(members) => {
            let fields = members.iter().map(|(name, value)| (name.clone(), wrapped(value)));
            Kind::StructValue(prost_types::Struct { fields: fields.collect() })
        }
    }
}

/// [`document`] for the single stage.
pub fn standalone_document(mode: &str) -> Value {
    let mut document = document();
    document["mode"] = json!(mode);
    document
}

pub fn process(seed: u64) -> Arc<Process> {
    Arc::new(Process::new(seed, &ENVIRONMENT))
}

/// One worker with both stages.
pub struct Worker {
    pub process: Arc<Process>,
    pub vm: Vm,
    pub stages: Stages,
}

impl Worker {
    pub fn new(document: &Value) -> Self {
        Self::join(&process(1), document)
    }

    /// One more worker of the process.
    pub fn join(process: &Arc<Process>, document: &Value) -> Self {
        let mut vm = Vm::new(process);
        let bytes = document.to_string().into_bytes();
        let mut start = |root_id| match vm.start(root_id, &bytes).unwrap() {
            (context, true) => context,
            (_, false) => panic!("refused: {:?}", process.log()),
        };
        let stages = Stages { gateway: start("gateway"), attempt: start("attempt") };
        Self { process: Arc::clone(process), vm, stages }
    }

    pub fn exchange(
        &mut self,
        request: &Request,
        mut provider: impl FnMut(&Sent) -> Script,
    ) -> Answer {
        let answer = router::exchange(&mut self.vm, self.stages, request, &mut provider).unwrap();
        assert_ne!(answer.status, 0, "the filter holds the message");
        answer
    }

    pub fn status(&mut self) -> Value {
        let mut request = get("/keyward/status");
        request.headers.extend(fields(&[("authorization", "Bearer admin-secret")]));
        let answer = self.exchange(&request, |_| panic!("the status is nobody else's business"));
        assert_eq!(answer.status, 200);
        serde_json::from_slice(&answer.body).unwrap()
    }
}

/// One worker with the single stage.
pub struct Single {
    pub vm: Vm,
    pub root: u32,
}

impl Single {
    pub fn new(process: &Arc<Process>, mode: &str) -> Self {
        let mut vm = Vm::new(process);
        let bytes = standalone_document(mode).to_string().into_bytes();
        let (root, true) = vm.start("standalone", &bytes).unwrap() else {
            panic!("refused: {:?}", process.log());
        };
        Self { vm, root }
    }

    pub fn exchange(
        &mut self,
        request: &Request,
        mut provider: impl FnMut(&Sent) -> Script,
    ) -> Answer {
        let provider = &mut provider;
        let answer =
            router::exchange_standalone(&mut self.vm, self.root, "alpha", request, provider);
        let answer = answer.unwrap();
        assert_ne!(answer.status, 0, "the filter holds the message");
        answer
    }
}

pub fn get(path: &str) -> Request {
    let headers = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gateway.test"),
        (":path", path),
    ]);
    Request { headers, chunks: Vec::new(), end: End::WithLastChunk }
}

pub fn post(path: &str, body: &str) -> Request {
    let headers = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gateway.test"),
        (":path", path),
        ("content-type", "application/json"),
        ("content-length", &body.len().to_string()),
        ("authorization", "Bearer client-secret"),
    ]);
    Request { headers, chunks: vec![body.as_bytes().to_vec()], end: End::WithLastChunk }
}

pub fn chat(model: &str, stream: bool) -> Request {
    let body = json!({
        "model": model, "stream": stream, "messages": [{"role": "user", "content": "naïve ☕"}],
    });
    post("/v1/chat/completions", &body.to_string())
}

/// A provider's answer that took 5 prompt tokens and 2 completion tokens.
pub fn completion() -> Script {
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7});
    let body = json!({"id": "chatcmpl-1", "object": "chat.completion", "usage": usage});
    Script::json(200, &[], &body.to_string())
}

/// A rate limit with a hint of 20 seconds.
pub fn rate_limited() -> Script {
    let body =
        r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    Script::json(429, &[("retry-after", "20")], body)
}

/// [`rate_limited`] at one provider, a good answer elsewhere: two keys and a provider more are tried.
pub fn detour(sent: &Sent) -> Script {
    if sent.provider == "alpha" { rate_limited() } else { completion() }
}

/// Every way to cut `bytes` in two.
pub fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<Vec<u8>>> {
    (1..bytes.len()).map(|at| vec![bytes[..at].to_vec(), bytes[at..].to_vec()])
}

pub fn single_bytes(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

/// The first secret in `bytes`.
pub fn leaked(bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    SECRETS.into_iter().find(|secret| text.contains(secret))
}
