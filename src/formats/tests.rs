use serde_json::{Value, json};

use super::*;

const MODEL: &str = "claude-sonnet-4-6";

fn body(members: Value) -> Vec<u8> {
    let mut body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body.to_string().into_bytes()
}

fn to_anthropic(body: &[u8], model: &str) -> Result<Vec<u8>, Unsupported> {
    let kind = crate::provider::find("anthropic").unwrap();
    let upstream = Upstream { kind, model, include_usage: true };
    request(&upstream, Endpoint::ChatCompletions, body).map(|written| written.body)
}

fn translation(format: Format) -> Translation {
    let setup = Setup {
        endpoint: Endpoint::ChatCompletions,
        format,
        model: "model".to_owned(),
        include_usage: false,
        created: 7,
        nonce: 1,
        echo: Echo::default(),
    };
    Translation::new(setup, false)
}

fn written(members: Value, model: &str) -> Result<Value, Unsupported> {
    let bytes = to_anthropic(&body(members), model)?;
    Ok(serde_json::from_slice(&bytes).unwrap())
}

/// What Anthropic gets of these messages.
fn messages(messages: Value) -> Value {
    let written = written(json!({"messages": messages}), MODEL).unwrap();
    json!({"system": written["system"], "messages": written["messages"]})
}

fn refused(members: Value) -> String {
    written(members, MODEL).unwrap_err().param
}

#[test]
fn a_request_becomes_the_least_that_says_the_same() {
    let bytes = to_anthropic(&body(json!({})), MODEL).unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        r#"{"model":"claude-sonnet-4-6","max_tokens":32000,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#
    );
}

/// Every member of a request: a value, and what becomes of it. The rows of the tables in the documentation.
const MEMBERS: &[(&str, &str, &str)] = &[
    ("stream", "true", r#"{"stream":true}"#),
    ("stream_options", r#"{"include_usage":true}"#, "{}"),
    (
        "tools",
        r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","z":1,"a":1e2}}}]"#,
        r#"{"tools":[{"name":"f","description":"d","input_schema":{"type":"object","z":1,"a":1e2}}]}"#,
    ),
    ("tool_choice", r#""required""#, "{}"),
    ("parallel_tool_calls", "false", "{}"),
    ("max_completion_tokens", "7", r#"{"max_tokens":7}"#),
    ("max_tokens", "7", r#"{"max_tokens":7}"#),
    ("temperature", "0", r#"{"temperature":0}"#),
    ("temperature", "0.70", r#"{"temperature":0.70}"#),
    ("temperature", "1.5", r#"{"temperature":1}"#),
    ("top_p", "0.0", r#"{"top_p":0.0}"#),
    ("top_k", "0", r#"{"top_k":0}"#),
    ("seed", "0", "{}"),
    ("presence_penalty", "0.5", "{}"),
    ("frequency_penalty", "0.5", "{}"),
    ("logit_bias", "{}", "{}"),
    ("logit_bias", r#"{"50256":-100}"#, "refused"),
    ("stop", r#""END""#, r#"{"stop_sequences":["END"]}"#),
    ("stop", r#"["a","b"]"#, r#"{"stop_sequences":["a","b"]}"#),
    ("stop", r#""\n""#, "refused"),
    ("n", "1", "{}"),
    ("n", "2", "refused"),
    ("logprobs", "false", "{}"),
    ("logprobs", "true", "refused"),
    ("top_logprobs", "0", "{}"),
    ("top_logprobs", "2", "logprobs"),
    ("response_format", r#"{"type":"text"}"#, "{}"),
    (
        "response_format",
        r#"{"type":"json_object"}"#,
        r#"{"system":[{"type":"text","text":"Answer with one JSON object and nothing else."}]}"#,
    ),
    (
        "response_format",
        r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object","additionalProperties":false,"z":1}}}"#,
        r#"{"output_config":{"format":{"type":"json_schema","schema":{"type":"object","additionalProperties":false,"z":1}}}}"#,
    ),
    ("response_format", r#"{"type":"grammar"}"#, "response_format.type"),
    (
        "reasoning_effort",
        r#""medium""#,
        r#"{"thinking":{"type":"adaptive"},"output_config":{"effort":"medium"}}"#,
    ),
    ("reasoning_effort", r#""none""#, r#"{"output_config":{"effort":"low"}}"#),
    ("reasoning_effort", r#""extreme""#, "refused"),
    (
        "thinking",
        r#"{"type":"enabled","budget_tokens":2000}"#,
        r#"{"thinking":{"type":"adaptive"},"output_config":{"effort":"high"}}"#,
    ),
    ("user", r#""u-1""#, r#"{"metadata":{"user_id":"u-1"}}"#),
    ("safety_identifier", r#""u-2""#, r#"{"metadata":{"user_id":"u-2"}}"#),
    ("service_tier", r#""default""#, r#"{"service_tier":"standard_only"}"#),
    ("service_tier", r#""priority""#, r#"{"service_tier":"auto"}"#),
    ("service_tier", r#""flex""#, "{}"),
    ("metadata", r#"{"a":"b"}"#, "{}"),
    ("store", "true", "{}"),
    ("prompt_cache_key", r#""k""#, "{}"),
    ("prompt_cache_retention", r#""24h""#, "{}"),
    ("prediction", r#"{"type":"content","content":"x"}"#, "{}"),
    ("verbosity", r#""low""#, "{}"),
    ("modalities", r#"["text"]"#, "{}"),
    ("modalities", r#"["text","audio"]"#, "refused"),
    ("audio", r#"{"voice":"v","format":"wav"}"#, "refused"),
    ("web_search_options", "{}", "refused"),
    ("functions", "[]", "refused"),
    ("function_call", r#""auto""#, "refused"),
    ("guided_json", "{}", "refused"),
];

#[test]
fn every_member_is_mapped_dropped_or_refused_by_name() {
    const HEAD: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hi"}]"#;
    let plain = written(json!({}), MODEL).unwrap();
    for (name, value, expected) in MEMBERS {
        let body = format!("{HEAD},\"{name}\":{value}}}");
        let bytes = to_anthropic(body.as_bytes(), MODEL);
        if let Some(expected) = expected.strip_prefix('{') {
            let bytes = bytes.unwrap_or_else(|error| panic!("{name}: {error}"));
            let text = String::from_utf8(bytes).unwrap();
            let members = expected.strip_suffix('}').unwrap();
            assert!(text.contains(members), "to the byte: {name}: {text}");
            let mut with = plain.clone();
            let expected: Value = serde_json::from_str(&format!("{{{expected}")).unwrap();
            with.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), with, "{name}: {value}");
        } else {
            let param = if *expected == "refused" { *name } else { *expected };
            assert_eq!(bytes.unwrap_err().param, param, "{name}: {value}");
        }
        let null = format!("{HEAD},\"{name}\":null}}");
        let bytes = to_anthropic(null.as_bytes(), MODEL);
        assert_eq!(serde_json::from_slice::<Value>(&bytes.unwrap()).unwrap(), plain, "{name}");
    }
}

#[test]
fn the_documented_tables_are_complete() {
    let documentation = include_str!("openai.rs").split("of other APIs").next().unwrap();
    let rows: Vec<&str> =
        documentation.lines().filter(|line| line.starts_with("//! | `")).collect();
    let documented = |name: &str| rows.iter().any(|row| row.contains(&format!("`{name}`")));
    for (name, ..) in MEMBERS.iter().filter(|(name, ..)| *name != "guided_json") {
        assert!(documented(name), "{name} is not in the table");
    }
    let tested = |name: &str| MEMBERS.iter().any(|(known, ..)| *known == name);
    for row in rows {
        let names = row.split('|').nth(1).unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(matches!(name, "model" | "messages") || tested(name), "{name} is not tested");
        }
    }
}

#[test]
fn every_field_of_the_model_has_a_row_for_anthropic() {
    let source = include_str!("../conversation/request.rs");
    let fields = |of: &str| {
        let (_, rest) = source.split_once(&format!("pub struct {of}<'a> {{")).unwrap();
        let (body, _) = rest.split_once("\n}").unwrap();
        let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        fields.map(|field| field.split(':').next().unwrap()).collect::<Vec<_>>()
    };
    let table: String =
        include_str!("anthropic.rs").lines().filter(|line| line.starts_with("//! | `")).collect();
    let names = [fields("Request"), fields("Sampling")].concat();
    assert!(names.len() > 20);
    // What says where things are is nothing that is said.
    for name in names.iter().filter(|name| !matches!(**name, "sampling" | "preamble" | "list")) {
        assert!(table.contains(&format!("`{name}`")), "{name} is not in the table");
    }
}

#[test]
fn what_a_model_takes_decides_on_sampling_and_thinking() {
    let sampling = json!({"temperature": 0, "top_p": 0.5, "top_k": 3});
    let effort = |effort: &str| json!({"reasoning_effort": effort, "temperature": 0});
    for (model, members, expected) in [
        ("claude-opus-4-0", sampling.clone(), json!({"temperature": 0, "top_p": 0.5, "top_k": 3})),
        ("claude-haiku-4-5", sampling.clone(), json!({"temperature": 0, "top_k": 3})),
        ("claude-opus-4-7", sampling, json!({})),
        (
            "claude-haiku-4-5",
            effort("high"),
            json!({"thinking": {"type": "enabled", "budget_tokens": 16_000}}),
        ),
        (
            "claude-haiku-4-5",
            effort("low"),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2_048}}),
        ),
        ("claude-haiku-4-5", effort("none"), json!({"temperature": 0})),
        ("claude-3-5-haiku-latest", effort("high"), json!({"temperature": 0, "max_tokens": 8_192})),
        (
            "claude-opus-4-6",
            effort("xhigh"),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
        ),
        (
            "claude-opus-4-7",
            effort("xhigh"),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
        ),
        (
            "claude-haiku-4-5",
            json!({"reasoning_effort": "high", "max_tokens": 2_000}),
            json!({"max_tokens": 2_000}),
        ),
        (
            "claude-haiku-4-5",
            json!({"thinking": {"type": "enabled", "budget_tokens": 3_000}}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 3_000}}),
        ),
    ] {
        let mut with = written(json!({}), model).unwrap();
        with.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
        assert_eq!(written(members.clone(), model).unwrap(), with, "{model}: {members}");
    }
}

#[test]
fn tool_choices() {
    let tools = json!([{"type": "function", "function": {"name": "f", "strict": true,
        "parameters": {"properties": {"n": {"type": "integer", "minimum": 1}}}}}]);
    for (choice, parallel, expected) in [
        (json!("auto"), None, json!({"type": "auto"})),
        (json!("none"), Some(false), json!({"type": "none"})),
        (json!("required"), None, json!({"type": "any"})),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            Some(false),
            json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}),
        ),
        (json!(null), Some(false), json!({"type": "auto", "disable_parallel_tool_use": true})),
        (json!(null), Some(true), json!(null)),
    ] {
        let asked = json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel,
            "reasoning_effort": "high"});
        let written = written(asked, MODEL).unwrap();
        assert_eq!(written["tool_choice"], expected);
        let forced = matches!(expected["type"].as_str(), Some("any" | "tool"));
        assert_eq!(written["thinking"].is_null(), forced, "a forced tool leaves no room to think");
        assert_eq!(
            written["tools"],
            json!([{"name": "f", "strict": true, "input_schema": {"additionalProperties": false,
                "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}}}}])
        );
    }
    assert_eq!(refused(json!({"tool_choice": {"type": "allowed_tools"}})), "tool_choice.type");
    assert_eq!(refused(json!({"tools": [{"type": "custom"}]})), "tools[0].type");
}

#[test]
fn all_instructions_stay_and_neighbours_are_one_message() {
    let told = messages(json!([
        {"role": "system", "content": "one"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"role": "user", "name": "bob", "content": [{"type": "text", "text": "there"}, {"type": "text", "text": " "}]},
        {"role": "assistant", "content": "", "refusal": "no"},
    ]));
    assert_eq!(
        told,
        json!({
            "system": [
                {"type": "text", "text": "one"},
                {"type": "text", "text": "two", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
            ],
        })
    );
    let alone = messages(json!([{"role": "system", "content": "say hi"}]));
    let asked = json!([{"role": "user", "content": [{"type": "text", "text": "say hi"}]}]);
    assert_eq!(alone, json!({"system": null, "messages": asked}));
}

#[test]
fn tool_calls_and_their_results_go_there() {
    let told = messages(json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "w", "arguments": "{\"city\": \"Köln\", \"n\": 1e2}"}},
            {"id": "functions.w:1", "type": "function", "function": {"name": "w", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "functions.w:1", "content": [{"type": "text", "text": "sun"}]},
        {"role": "user", "content": "thanks"},
    ]));
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    assert_eq!(
        told["messages"],
        json!([
            {"role": "user", "content": text("weather?")},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_1", "name": "w", "input": {"city": "Köln", "n": 1e2}},
                {"type": "tool_use", "id": "functions_w_1", "name": "w", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": text("rain")},
                {"type": "tool_result", "tool_use_id": "functions_w_1", "content": text("sun")},
                {"type": "text", "text": "thanks"},
            ]},
        ])
    );
}

#[test]
fn images_and_files() {
    let told = messages(json!([{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}, "cache_control": {"type": "ephemeral"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
        {"type": "file", "file": {"file_data": "QUJD"}},
    ]}]));
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "QUJD"});
    assert_eq!(
        told["messages"][0]["content"],
        json!([
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}, "cache_control": {"type": "ephemeral"}},
            {"type": "document", "source": pdf, "title": "a.pdf"},
            {"type": "document", "source": pdf},
        ])
    );
}

#[test]
fn content_that_cannot_be_said_is_refused_where_it_stands() {
    let user = |part: Value| json!({"messages": [{"role": "user", "content": ["x", part]}]});
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let message = |message: Value| json!({"messages": [{"role": "user", "content": "x"}, message]});
    let call = |call: Value| message(json!({"role": "assistant", "tool_calls": [call]}));
    for (members, param) in [
        (user(json!({})), "messages[0].content[0]"),
        (part(json!({"type": "video_url", "video_url": {}})), "messages[0].content[0].video_url"),
        (part(json!({"type": "text"})), "messages[0].content[0].type"),
        (part(json!({"type": "text", "text": 7})), "messages[0].content[0].text"),
        (
            part(json!({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}})),
            "messages[0].content[0]",
        ),
        (part(json!({"type": "file", "file": {"file_id": "file-1"}})), "messages[0].content[0]"),
        (
            part(json!({"type": "file", "file": {"file_data": "data:text/plain;base64,QQ=="}})),
            "messages[0].content[0]",
        ),
        (message(json!({"role": "function", "name": "f", "content": "x"})), "messages[1].role"),
        (message(json!({"role": "user"})), "messages[1].content"),
        (message(json!({"role": "user", "content": 7})), "messages[1].content"),
        (message(json!({"role": "user", "content": "x", "mood": 1})), "messages[1].mood"),
        (message(json!({"role": "tool", "content": "x"})), "messages[1].tool_call_id"),
        (call(json!({"type": "custom", "id": "1"})), "messages[1].tool_calls[0].type"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "x"}), "messages"),
    ] {
        assert_eq!(refused(members.clone()), param, "{members}");
    }
}

#[test]
fn thinking_survives_the_way_to_the_client_and_back() {
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
        "content": [
            {"type": "thinking", "thinking": "Let me see.\n\"Hm\"", "signature": "EqQB+/=="},
            {"type": "redacted_thinking", "data": "EmwK"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "w", "input": {"city": "Köln"}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 2},
    });
    let mut translation = translation(Format::Anthropic);
    let out = translation.feed(answer.to_string().as_bytes(), true);
    let completion: Value = serde_json::from_slice(&out).unwrap();
    let message = &completion["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Let me see.\n\"Hm\"");
    let results = json!({"role": "tool", "tool_call_id": "toolu_1", "content": "rain"});
    let back = messages(json!([{"role": "user", "content": "?"}, message, results]));
    assert_eq!(back["messages"][1]["content"], answer["content"]);
    let asked = |message: &Value| {
        let all = json!([{"role": "user", "content": "?"}, message, results]);
        written(json!({"messages": all, "reasoning_effort": "high"}), "claude-haiku-4-5").unwrap()
    };
    assert_eq!(asked(message)["thinking"]["type"], "enabled");

    // Another provider's, or text that nobody has signed, cannot be proven.
    let mut other = message.clone();
    other["reasoning_details"] = json!([
        {"type": "reasoning.encrypted", "data": "x", "format": "openai-responses-v1"},
        {"type": "reasoning.text", "text": "x", "signature": "s", "format": "google-gemini-v1"},
        {"type": "reasoning.summary", "summary": "x"},
    ]);
    let back = asked(&other);
    assert_eq!(back["messages"][1]["content"][0]["type"], "text");
    assert!(back["thinking"].is_null(), "a loop that began without thinking goes on without");
}

#[test]
fn errors_are_translated_by_type() {
    for (kind, late, expected, code) in [
        ("invalid_request_error", 400, "invalid_request_error", json!(null)),
        ("not_found_error", 404, "invalid_request_error", json!("model_not_found")),
        ("request_too_large", 413, "invalid_request_error", json!("request_too_large")),
        ("rate_limit_error", 429, "rate_limit_error", json!("rate_limit_exceeded")),
        ("billing_error", 402, "insufficient_quota", json!("insufficient_quota")),
        ("overloaded_error", 503, "server_error", json!("provider_overloaded")),
        ("api_error", 500, "server_error", json!("provider_error")),
        ("brand_new_error", 500, "server_error", json!("provider_error")),
    ] {
        let inner = json!({"type": kind, "message": "m: \"q\""});
        let whole = json!({"type": "error", "error": inner, "request_id": "req_1"});
        let body = json!({"error": {"message": "m: \"q\"", "type": expected, "param": null, "code": code}});
        for (status, error_body, becomes) in
            [(500, &whole, 500), (200, &whole, late), (200, &inner, late)]
        {
            let (status, out) = error(Dialect::OpenAi, status, error_body.to_string().as_bytes());
            assert_eq!((status, serde_json::from_slice(&out).unwrap()), (becomes, body.clone()));
        }
    }
    let (_, page) = error(Dialect::OpenAi, 403, b"<html>sk-ant-secret</html>");
    assert!(!String::from_utf8(page).unwrap().contains("html"), "no foreign bytes");
}
