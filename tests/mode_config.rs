//! What the standalone stage cannot serve with `mode: headers` is refused when it is loaded, not by every request.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

use keyward::runtime::load;
use keyward::standalone::check;
use serde_json::{Value, json};

fn refusal(mode: &str, providers: &Value) -> Option<String> {
    let target = json!({"provider": "groq"});
    let document = json!({
        "mode": mode, "providers": providers, "models": [{"name": "m", "targets": [target]}],
    });
    check(&load(document.to_string().as_bytes(), &|_| None).unwrap()).err()
}

fn provider(kind: &str, fields: &Value) -> Value {
    let mut provider =
        json!({"name": kind, "kind": kind, "keys": [{"id": "k", "secret": {"inline": "s"}}]});
    provider.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    provider
}

#[test]
fn a_path_with_the_model_needs_the_body() {
    let project = json!({"project": "p-1", "location": "eu"});
    for (kind, fields, works) in [
        ("openai", json!({}), true),
        ("anthropic", json!({}), true),
        ("cohere", json!({}), true),
        ("minimax", json!({}), true),
        ("azure", json!({"host": "a.example"}), true),
        ("azure", json!({"host": "a.example", "api_version": "preview"}), true),
        ("azure", json!({"host": "a.example", "api_version": "2024-10-21"}), false),
        ("gemini", json!({}), false),
        ("vertex", project.clone(), false),
        ("vertex-anthropic", project.clone(), false),
        ("bedrock", json!({"host": "bedrock-runtime.us-east-1.amazonaws.com"}), false),
    ] {
        let providers = json!([provider("groq", &json!({})), provider(kind, &fields)]);
        let message = "providers[1]: its paths name the model, which mode headers does not know: use mode: body";
        let expected = (!works).then(|| message.to_owned());
        assert_eq!(refusal("headers", &providers), expected, "{kind}");
        assert_eq!(refusal("body", &providers), None, "{kind}");
    }
}
