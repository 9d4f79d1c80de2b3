use serde_json::{Value, json};

use crate::conversation::Unsupported;
use crate::endpoint::Endpoint;
use crate::formats::{Upstream, Written, request};
use crate::provider;

const COMMAND: &str = "command-a-03-2025";
const REASONING: &str = "command-a-reasoning-08-2025";
const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","z":1e2}}},{"type":"function","function":{"name":"g"}}]"#;
const F: &str =
    r#"{"type":"function","function":{"name":"f","parameters":{"type":"object","z":1e2}}}"#;
const G: &str = r#"{"type":"function","function":{"name":"g","parameters":{"type":"object"}}}"#;

fn ask(endpoint: Endpoint, body: &[u8], model: &str) -> Result<Written, Unsupported> {
    let kind = provider::find("cohere").unwrap();
    request(&Upstream { kind, model, include_usage: false }, endpoint, body)
}

fn written(members: &str, model: &str) -> Result<String, Unsupported> {
    let body =
        format!(r#"{{"model":"fast","messages":[{{"role":"user","content":"hi"}}]{members}}}"#);
    raw(&body, model)
}

fn raw(body: &str, model: &str) -> Result<String, Unsupported> {
    let written = ask(Endpoint::ChatCompletions, body.as_bytes(), model)?;
    Ok(String::from_utf8(written.body).unwrap())
}

fn messages(messages: &Value) -> Result<Value, Unsupported> {
    let body = json!({"model": "fast", "messages": messages});
    let told = raw(&body.to_string(), COMMAND)?;
    Ok(serde_json::from_str::<Value>(&told).unwrap()["messages"].clone())
}

/// Members of a request, the model, and what they add; or the one that is refused.
const MEMBERS: &[(&str, &str, &str)] = &[
    (r#""stream":true"#, COMMAND, r#""stream":true"#),
    (r#""max_tokens":7"#, COMMAND, r#""max_tokens":7"#),
    (r#""temperature":0"#, COMMAND, r#""temperature":0"#),
    (r#""top_p":0.5,"top_k":0"#, COMMAND, r#""p":0.5,"k":0"#),
    (r#""top_p":1"#, COMMAND, r#""p":0.99"#),
    (r#""top_p":0"#, COMMAND, r#""p":0.01"#),
    (r#""seed":0"#, COMMAND, r#""seed":0"#),
    (
        r#""presence_penalty":0.50,"frequency_penalty":-1"#,
        COMMAND,
        r#""presence_penalty":0.50,"frequency_penalty":0"#,
    ),
    (r#""logit_bias":{}"#, COMMAND, ""),
    (r#""logit_bias":{"7":-100}"#, COMMAND, "! logit_bias"),
    (r#""n":2"#, COMMAND, "! n"),
    (r#""logprobs":true"#, COMMAND, "! logprobs"),
    (r#""stop":"END""#, COMMAND, r#""stop_sequences":["END"]"#),
    (
        r#""response_format":{"type":"json_object"}"#,
        COMMAND,
        r#""response_format":{"type":"json_object"}"#,
    ),
    (
        r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","z":1e2}}}"#,
        COMMAND,
        r#""response_format":{"type":"json_object","json_schema":{"type":"object","z":1e2}}"#,
    ),
    (r#""reasoning_effort":"high""#, COMMAND, ""),
    (r#""reasoning_effort":"high""#, REASONING, r#""thinking":{"type":"enabled"}"#),
    (r#""reasoning_effort":"none""#, REASONING, r#""thinking":{"type":"disabled"}"#),
    (
        r#""thinking":{"type":"enabled","budget_tokens":900}"#,
        REASONING,
        r#""thinking":{"type":"enabled","token_budget":900}"#,
    ),
    (r#""user":"u","service_tier":"flex","verbosity":"low""#, COMMAND, ""),
];

#[test]
fn every_member_is_mapped_dropped_or_refused_by_name() {
    for (members, model, expected) in MEMBERS {
        let found = written(&format!(",{members}"), model);
        if let Some(param) = expected.strip_prefix("! ") {
            assert_eq!(found.unwrap_err().param, param, "{members}");
            continue;
        }
        let comma = if expected.is_empty() { "" } else { "," };
        let content = r#"[{"role":"user","content":[{"type":"text","text":"hi"}]}]"#;
        let whole = format!(r#"{{"model":"{model}","messages":{content}{comma}{expected}}}"#);
        assert_eq!(found.unwrap(), whole, "{members}");
    }
}

#[test]
fn tools_and_the_choice_of_one() {
    for (more, expected) in [
        ("", format!(r#""tools":[{F},{G}]}}"#)),
        (r#","tool_choice":"auto""#, format!(r#""tools":[{F},{G}]}}"#)),
        (
            r#","tool_choice":"required""#,
            format!(r#""tools":[{F},{G}],"tool_choice":"REQUIRED"}}"#),
        ),
        (r#","tool_choice":"none""#, format!(r#""tools":[{F},{G}],"tool_choice":"NONE"}}"#)),
        (
            r#","tool_choice":{"type":"function","function":{"name":"g"}}"#,
            format!(r#""tools":[{G}],"tool_choice":"REQUIRED"}}"#),
        ),
    ] {
        let found = written(&format!(",{TOOLS}{more}"), COMMAND).unwrap();
        assert!(found.ends_with(&expected), "{more}: {found}");
    }
    for (more, param) in [
        (r#","response_format":{"type":"json_object"}"#, "response_format"),
        (r#","tool_choice":{"type":"function","function":{"name":"h"}}"#, "tool_choice"),
    ] {
        assert_eq!(written(&format!(",{TOOLS}{more}"), COMMAND).unwrap_err().param, param);
    }
    let strict = r#","tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object"}}}]"#;
    assert!(written(strict, COMMAND).unwrap().ends_with(r#""strict_tools":true}"#));
}

#[test]
fn messages_keep_their_places() {
    let told = messages(&json!([
        {"role": "developer", "content": "one"},
        {"role": "user", "content": [
            {"type": "text", "text": "what?", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        ]},
        {"role": "assistant", "content": "see",
         "reasoning_details": [
            {"type": "reasoning.text", "text": "I will look.", "format": "cohere-tool-plan-v2", "index": 0},
            {"type": "reasoning.text", "text": "hm", "format": "cohere-thinking-v2", "index": 1},
            {"type": "reasoning.text", "text": "of another", "signature": "s", "format": "anthropic-claude-v1", "index": 2}],
         "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "1", "content": ""},
        {"role": "system", "content": "two"},
    ]));
    assert_eq!(
        told.unwrap(),
        json!([
            {"role": "system", "content": [{"type": "text", "text": "one"}]},
            {"role": "user", "content": [
                {"type": "text", "text": "what?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            ]},
            {"role": "assistant", "tool_plan": "I will look.",
             "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
             "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "see"}]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": ""}]},
            {"role": "system", "content": [{"type": "text", "text": "two"}]},
        ])
    );
}

#[test]
fn what_cohere_cannot_read_is_refused_by_name() {
    for part in [
        json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD"}}),
        json!({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}),
    ] {
        let refused = messages(&json!([{"role": "user", "content": [part]}])).unwrap_err();
        assert_eq!(refused.param, "messages[0].content[0]");
        let result = json!({"role": "tool", "tool_call_id": "1", "content": [part]});
        let refused = messages(&json!([result])).unwrap_err();
        assert_eq!(refused.param, "messages[0].content[0][0]");
    }
}

#[test]
fn embeddings() {
    let body = br#"{"model":"e","input":"a","encoding_format":"base64"}"#;
    let written = ask(Endpoint::Embeddings, body, "embed-v4.0").unwrap();
    assert_eq!(
        String::from_utf8(written.body).unwrap(),
        r#"{"model":"embed-v4.0","texts":["a"],"input_type":"search_document","embedding_types":["float"],"truncate":"NONE"}"#
    );
    let answer =
        br#"{"id":"1","embeddings":{"float":[[1, 2]]},"meta":{"billed_units":{"input_tokens":4}}}"#;
    let answer = super::embeddings::read(answer).unwrap();
    assert_eq!((answer.vectors[0].get(), answer.usage.unwrap().prompt), ("[1, 2]", 4));
}
