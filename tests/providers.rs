//! The provider table in the configuration: which endpoints, which models, and with which words a mistake is refused.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows these in test functions, not in the helpers beside them"
)]

use keyward::endpoint::{Endpoint, Endpoints};
use keyward::runtime::{Runtime, load};
use serde_json::{Value, json};

fn loaded(document: &Value) -> Result<Runtime, String> {
    load(document.to_string().as_bytes(), &|_| None).map_err(|error| error.to_string())
}

/// A provider with a key and some more fields.
fn provider(name: &str, more: &Value) -> Value {
    let mut provider = json!({"name": name, "keys": [{"id": "a", "secret": {"inline": name}}]});
    let members = provider.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    provider
}

#[test]
fn endpoints_are_the_row_s_or_the_operator_s() {
    let with = |kind: &str, endpoints: Value| {
        let mut more = json!({"kind": kind, "host": "p.test"});
        if !endpoints.is_null() {
            more["endpoints"] = endpoints;
        }
        loaded(&json!({
            "providers": [provider("p", &more)],
            "models": [{"name": "m", "targets": [{"provider": "p"}]}],
        }))
        .map(|runtime| runtime.providers[0].endpoints)
    };
    let generic = with("openai-compatible", Value::Null).unwrap();
    assert!(generic.has(Endpoint::Speech) && !generic.has(Endpoint::Responses));
    assert_eq!(
        with("openai-compatible", json!(["chat", "responses"])),
        Ok(Endpoints::of(&[Endpoint::ChatCompletions, Endpoint::Responses]))
    );
    for (kind, endpoints, message) in [
        (
            "openai",
            json!(["chat", "chats"]),
            "providers[0].endpoints[1]: \"chats\" is not an endpoint; known: chat, ",
        ),
        (
            "openai",
            json!(["models"]),
            "providers[0].endpoints[0]: models are listed from the configuration, not by providers",
        ),
        (
            "anthropic",
            json!(["chat"]),
            "providers[0].endpoints: the kind anthropic has its own format and endpoints",
        ),
    ] {
        let refused = with(kind, endpoints).unwrap_err();
        assert!(refused.contains(message), "{refused}");
    }
}
