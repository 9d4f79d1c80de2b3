use serde_json::{Value, json};

use super::*;
use crate::conversation::{Event, FinishReason, Opened, Unsupported};
use crate::formats::openai;
use crate::formats::stream::{Frame, StreamReader as _};

const MODEL: &str = "gemini-2.5-flash";
const NEWER: &str = "gemini-3-flash-preview";

fn body(members: Value) -> String {
    let mut body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body.to_string()
}

fn bytes(body: &str, model: &str, service: Service) -> Result<String, Unsupported> {
    let bytes = write(&openai::read(body)?, model, service)?;
    Ok(String::from_utf8(bytes).unwrap())
}

fn written(members: Value, model: &str) -> Result<Value, Unsupported> {
    let text = bytes(&body(members), model, Service::AiStudio)?;
    Ok(serde_json::from_str(&text).unwrap())
}

/// What Gemini gets of these messages.
fn messages(messages: Value, model: &str) -> Value {
    let written = written(json!({"messages": messages}), model).unwrap();
    json!({"system": written["systemInstruction"], "contents": written["contents"]})
}

/// Every member of a request: a value, and what becomes of it, at the top or in `generationConfig`.
const MEMBERS: &[(&str, &str, &str)] = &[
    ("stream", "true", "{}"),
    ("stream_options", r#"{"include_usage":true}"#, "{}"),
    (
        "tools",
        r#"[{"type":"function","function":{"name":"f","description":"d","strict":true,"parameters":{"type":"object","z":1,"a":1e2}}},{"type":"function","function":{"name":"g"}}]"#,
        r#"{"tools":[{"functionDeclarations":[{"name":"f","description":"d","parametersJsonSchema":{"type":"object","z":1,"a":1e2}},{"name":"g"}]}]}"#,
    ),
    ("tool_choice", r#""required""#, "{}"),
    ("parallel_tool_calls", "false", "{}"),
    ("max_completion_tokens", "7", r#"{"maxOutputTokens":7}"#),
    ("max_tokens", "0", r#"{"maxOutputTokens":0}"#),
    ("max_tokens", "128000", r#"{"maxOutputTokens":65535}"#),
    ("temperature", "0", r#"{"temperature":0}"#),
    ("temperature", "1.70", r#"{"temperature":1.70}"#),
    ("top_p", "0.0", r#"{"topP":0.0}"#),
    ("top_k", "0", r#"{"topK":0}"#),
    ("seed", "0", r#"{"seed":0}"#),
    ("seed", "99999999999", "{}"),
    ("presence_penalty", "0.5", r#"{"presencePenalty":0.5}"#),
    ("presence_penalty", "0.0", "{}"),
    ("frequency_penalty", "-0.5", r#"{"frequencyPenalty":-0.5}"#),
    ("logit_bias", "{}", "{}"),
    ("logit_bias", r#"{"50256":-100}"#, "refused"),
    ("stop", r#""END""#, r#"{"stopSequences":["END"]}"#),
    ("stop", r#"["a","b"]"#, r#"{"stopSequences":["a","b"]}"#),
    ("stop", r#"["1","2","3","4","5","6"]"#, "refused"),
    ("n", "1", "{}"),
    ("n", "2", "refused"),
    ("logprobs", "false", "{}"),
    ("logprobs", "true", "refused"),
    ("top_logprobs", "2", "logprobs"),
    ("response_format", r#"{"type":"text"}"#, "{}"),
    ("response_format", r#"{"type":"json_object"}"#, r#"{"responseMimeType":"application/json"}"#),
    (
        "response_format",
        r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object","additionalProperties":false,"z":1}}}"#,
        r#"{"responseMimeType":"application/json","responseJsonSchema":{"type":"object","additionalProperties":false,"z":1}}"#,
    ),
    (
        "reasoning_effort",
        r#""medium""#,
        r#"{"thinkingConfig":{"includeThoughts":true,"thinkingBudget":8192}}"#,
    ),
    (
        "reasoning_effort",
        r#""none""#,
        r#"{"thinkingConfig":{"includeThoughts":false,"thinkingBudget":0}}"#,
    ),
    (
        "thinking",
        r#"{"type":"enabled","budget_tokens":2000}"#,
        r#"{"thinkingConfig":{"includeThoughts":true,"thinkingBudget":2000}}"#,
    ),
    ("user", r#""u-1""#, "{}"),
    ("service_tier", r#""auto""#, "{}"),
    ("service_tier", r#""default""#, r#"{"serviceTier":"standard"}"#),
    ("service_tier", r#""flex""#, r#"{"serviceTier":"flex"}"#),
    ("service_tier", r#""priority""#, r#"{"serviceTier":"priority"}"#),
];

#[test]
fn every_member_is_mapped_dropped_or_refused_by_name() {
    const HEAD: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hi"}]"#;
    let plain = written(json!({}), MODEL).unwrap();
    assert_eq!(
        bytes(&format!("{HEAD}}}"), MODEL, Service::AiStudio).unwrap(),
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{}}"#
    );
    for (name, value, expected) in MEMBERS {
        let found = bytes(&format!("{HEAD},\"{name}\":{value}}}"), MODEL, Service::AiStudio);
        let Some(members) = expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))
        else {
            let param = if *expected == "refused" { *name } else { *expected };
            assert_eq!(found.unwrap_err().param, param, "{name}: {value}");
            continue;
        };
        let text = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains(members), "to the byte: {name}: {text}");
        let mut with = plain.clone();
        let is_top = members.starts_with("\"tools\"") || members.starts_with("\"serviceTier\"");
        let place = if is_top { &mut with } else { &mut with["generationConfig"] };
        let expected: Value = serde_json::from_str(expected).unwrap();
        place.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), with, "{name}: {value}");
    }
}

#[test]
fn every_field_of_the_model_has_a_row() {
    let source = include_str!("../../conversation/request.rs");
    let fields = |of: &str| {
        let (_, rest) = source.split_once(&format!("pub struct {of}<'a> {{")).unwrap();
        let (body, _) = rest.split_once("\n}").unwrap();
        let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        fields.map(|field| field.split(':').next().unwrap()).collect::<Vec<_>>()
    };
    let table: String =
        include_str!("../gemini.rs").lines().filter(|line| line.starts_with("//! | `")).collect();
    let names = [fields("Request"), fields("Sampling")].concat();
    assert!(names.len() > 20);
    for name in names.iter().filter(|name| !matches!(**name, "sampling" | "preamble" | "list")) {
        assert!(table.contains(&format!("`{name}`")), "{name} is not in the table");
    }
}

#[test]
fn finish_reasons_are_as_the_table_says() {
    let table = include_str!("../gemini.rs").lines().skip_while(|l| !l.contains("`finishReason`"));
    let mut words = 0;
    for row in table.skip(2).take_while(|line| line.starts_with("//! |")) {
        let cells: Vec<&str> = row.split('|').collect();
        for word in cells[1].split('`').skip(1).step_by(2) {
            words += 1;
            let found = answer::finish(word.into(), false).reason;
            let expected = match cells[2].split_whitespace().next().unwrap() {
                "stop," => FinishReason::Stop,
                "length" => FinishReason::Length,
                "filtered" => FinishReason::Filtered,
                _ => FinishReason::Other,
            };
            assert_eq!(found, expected, "{word}");
            assert_eq!(answer::broken(word).is_some(), cells[2].contains("no answer"), "{word}");
        }
    }
    assert_eq!(words, 20);
    assert_eq!(answer::finish("STOP".into(), true).reason, FinishReason::ToolUse);
    assert_eq!(answer::finish("OTHER".into(), false).reason, FinishReason::Other);
}

#[test]
fn tool_choices() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (choice, expected) in [
        (json!(null), json!(null)),
        (json!("auto"), json!({"mode": "AUTO"})),
        (json!("none"), json!({"mode": "NONE"})),
        (json!("required"), json!({"mode": "ANY"})),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ),
    ] {
        let written = written(json!({"tools": tools, "tool_choice": choice}), MODEL).unwrap();
        assert_eq!(written["toolConfig"]["functionCallingConfig"], expected);
    }
    let both = json!({"tools": tools, "response_format": {"type": "json_object"}});
    assert_eq!(written(both.clone(), MODEL).unwrap_err().param, "response_format");
    let held = written(both, NEWER).unwrap();
    assert_eq!(held["generationConfig"]["responseMimeType"], "application/json");
}

#[test]
fn all_instructions_stay_and_neighbours_are_one_content() {
    let asked = json!([
        {"role": "system", "content": "one"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "name": "bob", "content": [{"type": "text", "text": "there"}, {"type": "text", "text": ""}]},
        {"role": "assistant", "content": "", "refusal": "no"},
        {"role": "assistant", "content": "never"},
        {"role": "user", "content": ""},
    ]);
    assert_eq!(
        messages(asked.clone(), MODEL),
        json!({
            "system": {"parts": [{"text": "one"}, {"text": "two"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}, {"text": "there"}]},
                {"role": "model", "parts": [{"text": "no"}, {"text": "never"}]},
            ],
        })
    );
    let gemma = messages(asked, "gemma-3-27b-it");
    assert_eq!(gemma["system"], json!(null));
    let first = json!([{"text": "one"}, {"text": "two"}, {"text": "hi"}, {"text": "there"}]);
    assert_eq!(gemma["contents"][0]["parts"], first);
    let alone = messages(json!([{"role": "system", "content": "say hi"}]), MODEL);
    let told = json!([{"role": "user", "parts": [{"text": "say hi"}]}]);
    assert_eq!(alone, json!({"system": null, "contents": told}));
    let nothing = json!({"messages": [{"role": "user", "content": ""}]});
    assert_eq!(written(nothing, MODEL).unwrap_err().param, "messages");
}

fn loop_of(calls: Value) -> Value {
    json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": null, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "12345678901234567890"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "s"}, {"type": "text", "text": "un"}]},
        {"role": "user", "content": "thanks"},
    ])
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

#[test]
fn parallel_calls_and_their_results_go_there_by_name() {
    let asked = loop_of(json!([
        call("call_1", "w", r#"{"city": "Köln", "n": 1e2}"#),
        call("call_2", "v", "")
    ]));
    let told = messages(asked.clone(), MODEL);
    let response = |id: &str, name: &str, text: &str| json!({"functionResponse": {"id": id, "name": name, "response": {"output": text}}});
    assert_eq!(
        told["contents"],
        json!([
            {"role": "user", "parts": [{"text": "weather?"}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "call_1", "name": "w", "args": {"city": "Köln", "n": 1e2}}},
                {"functionCall": {"id": "call_2", "name": "v", "args": {}}},
            ]},
            {"role": "user", "parts": [
                response("call_1", "w", "12345678901234567890"),
                response("call_2", "v", "sun"),
                {"text": "thanks"},
            ]},
        ])
    );
    let body = body(json!({"messages": asked}));
    let vertex = bytes(&body, MODEL, Service::Vertex).unwrap();
    assert!(!vertex.contains("call_1"), "its first version refuses ids: {vertex}");
}

#[test]
fn calls_without_a_signature_get_the_word_for_none_where_one_is_demanded() {
    let asked = loop_of(json!([call("call_1", "w", "{}"), call("call_2", "w", "{}")]));
    let older = messages(asked.clone(), MODEL);
    assert_eq!(older["contents"][1]["parts"][0]["thoughtSignature"], json!(null));
    let newer = messages(asked, NEWER);
    let parts = &newer["contents"][1]["parts"];
    assert_eq!(parts[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(parts[1]["thoughtSignature"], json!(null), "only the first of a turn is signed");

    // As Google's own layer has it, and as another provider's thinking is not.
    let mut signed = call("call_1", "w", "{}");
    signed["extra_content"] = json!({"google": {"thought_signature": "c2ln"}});
    let mut asked = loop_of(json!([signed, call("call_2", "w", "{}")]));
    asked[1]["reasoning_details"] = json!([
        {"type": "reasoning.text", "text": "hm", "signature": "x", "format": "anthropic-claude-v1"},
        {"type": "reasoning.text", "text": "hm", "format": "google-gemini-v1"},
        {"type": "reasoning.text", "text": "hm", "signature": "", "format": "google-gemini-v1"},
    ]);
    let signed = messages(asked, NEWER);
    let parts = &signed["contents"][1]["parts"];
    assert_eq!(parts.as_array().unwrap().len(), 2, "{parts}");
    assert_eq!(parts[0]["thoughtSignature"], "c2ln");
    assert_eq!(parts[1]["thoughtSignature"], json!(null));
}

#[test]
fn media() {
    let content = json!([
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.JPG?w=1"}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,QQ=="}},
        {"type": "file", "file": {"file_id": "https://generativelanguage.googleapis.com/v1beta/files/x"}},
        {"type": "file", "file": {"file_id": "gs://bucket/x.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
    ]);
    let told = messages(json!([{"role": "user", "content": content}]), MODEL);
    let blob = |kind: &str, data: &str| json!({"inlineData": {"mimeType": kind, "data": data}});
    assert_eq!(
        told["contents"][0]["parts"],
        json!([
            blob("image/png", "QUJD"),
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/a.JPG?w=1"}},
            {"fileData": {"fileUri": "https://x.example/a"}},
            blob("application/pdf", "QUJD"),
            blob("text/plain", "QQ=="),
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}},
            {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://bucket/x.pdf"}},
            blob("audio/wav", "QQ=="),
        ])
    );
    let url = body(json!({"messages": [{"role": "user", "content": [content[2]]}]}));
    let refused = bytes(&url, MODEL, Service::Vertex).unwrap_err();
    assert_eq!(refused.param, "messages[0].content[0]");
}

#[test]
fn media_of_a_result_follows_all_results() {
    let mut asked = loop_of(json!([call("call_1", "w", "{}"), call("call_2", "w", "{}")]));
    asked[2]["content"] = json!([
        {"type": "text", "text": "a map"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
    ]);
    let told = messages(asked, MODEL);
    let parts = told["contents"][2]["parts"].as_array().unwrap();
    assert_eq!(parts[0]["functionResponse"]["response"], json!({"output": "a map"}));
    assert_eq!(parts[1]["functionResponse"]["response"], json!({"output": "sun"}));
    assert_eq!(parts[2]["inlineData"]["data"], "QUJD");
    assert_eq!(parts[3], json!({"text": "thanks"}));
}

#[test]
fn content_that_cannot_be_said_is_refused_where_it_stands() {
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let message = |message: Value| json!({"messages": [{"role": "user", "content": "x"}, message]});
    for (members, param) in [
        (part(json!({"type": "file", "file": {"file_id": "file-1"}})), "messages[0].content[0]"),
        (
            message(json!({"role": "tool", "tool_call_id": "1", "content": "x"})),
            "messages[1].content[0]",
        ),
        (
            json!({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}]}]}),
            "messages[0].content",
        ),
    ] {
        assert_eq!(written(members.clone(), MODEL).unwrap_err().param, param, "{members}");
    }
}

/// An answer of a thinking model that calls two functions.
fn thoughtful() -> Value {
    json!({
        "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "I weigh it.\n\"Hm\"", "thought": true},
            {"text": "I look."},
            {"functionCall": {"id": "fc-1", "name": "w", "args": {"city": "Köln", "n": 1e2}}, "thoughtSignature": "c2ln+/=="},
            {"functionCall": {"name": "w"}},
            {"executableCode": {"language": "PYTHON", "code": "1"}},
        ]}}],
        "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 9, "thoughtsTokenCount": 30,
            "cachedContentTokenCount": 12, "toolUsePromptTokenCount": 3, "totalTokenCount": 62},
        "modelVersion": "gemini-3-flash-preview", "responseId": "r-1",
    })
}

#[test]
fn signatures_survive_the_way_to_the_client_and_back() {
    let answer = thoughtful().to_string();
    let answer = read(answer.as_bytes(), 1).unwrap();
    assert_eq!(answer.finish.reason, FinishReason::ToolUse);
    let usage = answer.usage.unwrap();
    assert_eq!(
        (usage.prompt, usage.completion, usage.cached, usage.reasoning, usage.cache_write),
        (23, 39, 12, 30, 0)
    );
    let completion: Value = serde_json::from_slice(&openai::write(&answer, 7)).unwrap();
    let message = &completion["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "I weigh it.\n\"Hm\"");
    assert_eq!(completion["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        message["tool_calls"][0]["extra_content"],
        json!({"google": {"thought_signature": "c2ln+/=="}})
    );
    assert_eq!(message["tool_calls"][1]["extra_content"], json!(null));
    let id = message["tool_calls"][1]["id"].as_str().unwrap();
    assert!(id.starts_with("call_") && id.len() == 21, "{id}");

    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "rain"});
    let mut kept = message.clone();
    // The details alone, as clients of OpenRouter keep them, or the member of the call alone.
    for gone in ["none", "extra_content", "reasoning_details"] {
        if gone == "reasoning_details" {
            kept = message.clone();
            kept.as_object_mut().unwrap().remove(gone);
        } else {
            kept["tool_calls"][0].as_object_mut().unwrap().remove(gone);
        }
        let asked = json!([{"role": "user", "content": "?"}, kept, result("fc-1"), result(id)]);
        let told = messages(asked, NEWER);
        let parts = told["contents"][1]["parts"].as_array().unwrap();
        assert_eq!(parts[0], json!({"text": "I look."}), "without {gone}");
        let expected = &thoughtful()["candidates"][0]["content"]["parts"][2];
        assert_eq!(parts[1], *expected, "without {gone}");
        assert_eq!(parts[2], json!({"functionCall": {"id": id, "name": "w", "args": {}}}));
    }
}

#[test]
fn arguments_come_without_googles_indentation() {
    let (indented, told) = (
        "{\n  \"a\": \"x \\\" \\\\\",\r\n  \"b \\n\": [1e2,\n 2]\n}",
        r#"{"a":"x \" \\","b \n":[1e2,2]}"#,
    );
    for (args, expected) in [(indented, told), (r#"{"a": 1}"#, r#"{"a": 1}"#)] {
        let part = format!(r#"{{"functionCall":{{"name":"f","args":{args}}}}}"#);
        let body = format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}"#);
        let answer = read(body.as_bytes(), 1).unwrap();
        let [part] = answer.parts.as_slice() else { panic!("{body}") };
        let crate::conversation::Block::ToolUse { arguments, .. } = &part.block else { panic!() };
        assert_eq!(arguments, expected);
    }
}

#[test]
fn a_signature_of_text_is_that_of_the_last() {
    let answer = json!({"candidates": [{"finishReason": "STOP", "content": {"parts": [
        {"text": "a"}, {"text": "b", "thoughtSignature": "c2ln"},
    ]}}], "responseId": "r"});
    let answer = answer.to_string();
    let completion = openai::write(&read(answer.as_bytes(), 1).unwrap(), 7);
    let completion: Value = serde_json::from_slice(&completion).unwrap();
    let message = &completion["choices"][0]["message"];
    assert_eq!(message["content"], "ab");
    let told = messages(json!([{"role": "user", "content": "?"}, message]), MODEL);
    let parts = &told["contents"][1]["parts"];
    assert_eq!(*parts, json!([{"text": "ab", "thoughtSignature": "c2ln"}]));
}

#[test]
fn what_is_blocked_is_a_refusal_and_what_is_broken_no_answer() {
    let blocked = |message: Value| {
        let feedback = json!({"blockReason": "SAFETY", "blockReasonMessage": message});
        json!({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}}).to_string()
    };
    for (message, expected) in
        [(json!("Not this."), "Not this."), (json!(null), "The prompt was blocked: SAFETY.")]
    {
        let body = blocked(message);
        let answer = read(body.as_bytes(), 1).unwrap();
        assert_eq!(answer.finish.reason, FinishReason::Filtered);
        let completion: Value = serde_json::from_slice(&openai::write(&answer, 7)).unwrap();
        let choice = &completion["choices"][0];
        assert_eq!(choice["message"]["refusal"], expected);
        assert_eq!(choice["finish_reason"], "content_filter");
        assert_eq!(completion["usage"]["prompt_tokens"], 4);
    }
    for body in [
        r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"f("}]}"#,
        r#"{"candidates":[]}"#,
        r#"{"promptFeedback":{"safetyRatings":[]}}"#,
        r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}"#,
        r#"{"candidates":"x"}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}"#,
        "[]",
        "",
    ] {
        assert!(read(body.as_bytes(), 1).is_none(), "{body}");
    }
    // What proto3 leaves out is empty.
    for body in [
        r#"{"candidates":[{"finishReason":"MAX_TOKENS","content":{"role":"model"}}]}"#,
        r#"{"candidates":[{}]}"#,
    ] {
        assert!(read(body.as_bytes(), 1).unwrap().parts.is_empty(), "{body}");
    }
}

#[test]
fn ids_of_calls_differ_by_answer_and_place() {
    let ids = |response: &str, nonce: u64| {
        let calls = json!([{"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}]);
        let event = json!({"candidates": [{"content": {"parts": calls}}], "responseId": response});
        let mut reader = StreamReader::new(nonce);
        let mut ids = Vec::new();
        let event = event.to_string();
        let frame = Frame { name: None, data: event.as_bytes() };
        let mut note = |event: Event<'_>| {
            if let Event::BlockStart { block: Opened::ToolUse { id, .. }, .. } = event {
                ids.push(id.into_owned());
            }
        };
        reader.read(frame, &mut note).unwrap();
        for part in read(event.as_bytes(), nonce + 9).unwrap().parts {
            if let crate::conversation::Block::ToolUse { id, .. } = part.block {
                ids.push(id.into_owned());
            }
        }
        ids
    };
    let [first, other] = [ids("a", 1), ids("b", 1)];
    assert_eq!(
        (&first[..2], &first[..]),
        (&first[2..], &ids("a", 2)[..]),
        "by the answer's own id"
    );
    // Where it has none, no two are alike.
    let all = [first[..2].to_vec(), other[..2].to_vec(), ids("", 1), ids("", 2)].concat();
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 12, "{all:?}");
}

#[test]
fn paths_hold_nothing_but_a_model() {
    use Service::{AiStudio, Vertex};
    for (service, model, expected) in [
        (AiStudio, "gemini-2.5-flash", Some("models/gemini-2.5-flash")),
        (AiStudio, "tunedModels/mine", Some("tunedModels/mine")),
        (AiStudio, "cachedContents/x", None),
        (AiStudio, "gemini-x:countTokens", None),
        (AiStudio, "gemini-x/../files", None),
        (AiStudio, "gemini-x?key=1", None),
        (AiStudio, "", None),
        (Vertex, "gemini-2.5-flash", Some("publishers/google/models/gemini-2.5-flash")),
        (Vertex, "publishers/meta/models/llama-4", Some("publishers/meta/models/llama-4")),
        (Vertex, "endpoints/123", Some("endpoints/123")),
        (Vertex, "tunedModels/mine", None),
    ] {
        assert_eq!(resource(model, service).as_deref(), expected, "{model}");
    }
}

#[test]
fn every_way_leads_to_a_path_with_the_model() {
    use crate::formats::{Call, Format, Way};
    for (format, endpoint, way, stream, expected) in [
        (
            Format::Gemini,
            Endpoint::ChatCompletions,
            Way::Translated,
            false,
            "/models/m:generateContent",
        ),
        (
            Format::Gemini,
            Endpoint::Messages,
            Way::Translated,
            true,
            "/models/m:streamGenerateContent?alt=sse",
        ),
        (
            Format::Gemini,
            Endpoint::GenerateContent,
            Way::Native,
            true,
            "/models/m:streamGenerateContent?alt=sse",
        ),
        (Format::Gemini, Endpoint::CountContentTokens, Way::Native, false, "/models/m:countTokens"),
        (
            Format::Gemini,
            Endpoint::Embeddings,
            Way::Translated,
            false,
            "/models/m:batchEmbedContents",
        ),
        (
            Format::Vertex,
            Endpoint::GenerateContent,
            Way::Native,
            false,
            "/publishers/google/models/m:generateContent",
        ),
        (
            Format::Vertex,
            Endpoint::Embeddings,
            Way::Translated,
            false,
            "/publishers/google/models/m:predict",
        ),
        (
            Format::VertexAnthropic,
            Endpoint::Messages,
            Way::Native,
            true,
            "/publishers/anthropic/models/m:streamRawPredict",
        ),
    ] {
        let call = Call { endpoint, way, model: "m", stream };
        assert_eq!(format.path(&call).as_deref(), Some(expected), "{format:?} {endpoint:?}");
    }
}
