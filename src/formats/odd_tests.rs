//! What clients and providers send that nobody documents: bounded, refused by name, never a panic.

use serde_json::{Value, json};

use super::*;

fn upstream(kind: &str, model: &'static str) -> Upstream<'static> {
    Upstream { kind: crate::provider::find(kind).unwrap(), model, include_usage: true }
}

/// A kind of provider for each format.
const PROVIDERS: [(&str, &str); 6] = [
    ("openai", "gpt-4o"),
    ("anthropic", "claude-haiku-4-5"),
    ("gemini", "gemini-2.5-flash"),
    ("vertex", "gemini-2.5-flash"),
    ("bedrock", "anthropic.claude-haiku-4-5-v1:0"),
    ("cohere", "command-a-03-2025"),
];

#[test]
fn nesting_does_not_grow_the_stack() {
    const DEEP: usize = 100_000;
    let nested = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(DEEP), close.repeat(DEEP))
    };
    let results = nested(r#"[{"type":"tool_result","tool_use_id":"1","content":"#, "[]", "}]");
    let documents =
        nested(r#"[{"type":"document","source":{"type":"content","content":"#, "\"x\"", "}}]");
    for content in [results, documents] {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
        let error = request(&upstream("openai", "m"), Endpoint::Messages, body.as_bytes());
        let Unsupported { param, message } = error.unwrap_err();
        assert!(param.starts_with("messages[0].content[0].") && param.len() < 100, "{param}");
        assert_eq!(message, "is nested too deeply");
    }
    let schema = nested(r#"{"items":"#, "{}", "}");
    for (kind, model) in PROVIDERS {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        let tool = format!(
            r#""tools":[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{schema}}}}}]"#
        );
        let body = body.to_string().replacen('{', &format!("{{{tool},"), 1);
        let to = Upstream { model, ..upstream(kind, "m") };
        // Taken or refused, but over.
        let _ = request(&to, Endpoint::ChatCompletions, body.as_bytes());
    }
    let thoughts = nested(r#"[{"type":"thinking","thinking":"#, "[]", "}]");
    let answer = format!(r#"{{"choices":[{{"message":{{"content":{thoughts}}}}}]}}"#);
    let setup = Setup {
        endpoint: Endpoint::Messages,
        format: Format::OpenAi,
        model: "m".to_owned(),
        include_usage: false,
        created: 7,
        nonce: 1,
        echo: Echo::default(),
    };
    let out = Translation::new(setup, false).feed(answer.as_bytes(), true);
    assert!(out.starts_with(b"{\"id\":"));
}

fn written(kind: &str, model: &'static str, messages: &Value) -> Result<Value, Unsupported> {
    let body = json!({"model": "m", "messages": messages}).to_string();
    let to = Upstream { model, ..upstream(kind, "m") };
    let written = request(&to, Endpoint::ChatCompletions, body.as_bytes())?;
    Ok(serde_json::from_slice(&written.body).unwrap())
}

/// The conversation, its roles and the text of each turn, whatever the format calls them.
fn turns(body: &Value) -> Vec<(String, String)> {
    let turns = body.get("messages").or(body.get("contents")).unwrap().as_array().unwrap();
    let turn = |turn: &Value| {
        let parts = turn.get("content").or(turn.get("parts")).unwrap();
        let text = |part: &Value| {
            let kind = part.as_object().unwrap().keys().find(|k| k.to_lowercase().contains("res"));
            let is_result = part["type"] == "tool_result" || kind.is_some();
            let text = part["text"].as_str().map(str::to_owned);
            text.unwrap_or(if is_result { "RESULT" } else { "CALL" }.to_owned())
        };
        let texts: Vec<_> = parts.as_array().unwrap().iter().map(text).collect();
        (turn["role"].as_str().unwrap().replace("model", "assistant"), texts.join("|"))
    };
    turns.iter().map(turn).collect()
}

/// Formats whose services refuse what chat completions take.
const STRICT: [(&str, &str); 4] = [
    ("anthropic", "claude-haiku-4-5"),
    ("gemini", "gemini-2.5-flash"),
    ("vertex", "gemini-2.5-flash"),
    ("bedrock", "anthropic.claude-haiku-4-5-v1:0"),
];

#[test]
fn turns_that_are_refused_are_put_in_order() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "r"});
    let user = |text: &str| json!({"role": "user", "content": text});
    let assistant = |text: &str| json!({"role": "assistant", "content": text});
    for (messages, expected) in [
        // It begins with a greeting; what is left of a long one.
        (
            json!([{"role": "system", "content": "s"}, assistant("hello"), user("hi")]),
            &["…", "hello", "hi"][..],
        ),
        (json!([user(""), assistant("hello"), user("hi")]), &["…", "hello", "hi"]),
        (
            json!([{"role": "assistant", "tool_calls": [call("1")]}, result("1")]),
            &["…", "CALL", "RESULT"],
        ),
        // What is said while tools run.
        (
            json!([user("a"), {"role": "assistant", "tool_calls": [call("1"), call("2")]},
                user("wait"), result("1"), user("now"), result("2")]),
            &["a", "CALL|CALL", "RESULT|RESULT|wait|now"],
        ),
        // Turns that say nothing.
        (
            json!([user("a"), {"role": "assistant"}, {"role": "assistant", "content": []}, user("b")]),
            &["a|b"],
        ),
        (json!([user("a"), {"role": "assistant", "content": null, "refusal": "no"}]), &["a", "no"]),
    ] {
        for (kind, model) in STRICT {
            let found = turns(&written(kind, model, &messages).unwrap());
            let roles = ["user", "assistant"].iter().cycle().map(|role| (*role).to_owned());
            let expected: Vec<_> =
                roles.zip(expected.iter().map(|text| (*text).to_owned())).collect();
            assert_eq!(found, expected, "{kind}: {messages}");
        }
    }
}

#[test]
fn a_conversation_of_nothing_is_refused_by_its_name() {
    for (kind, model) in STRICT.into_iter().chain([("cohere", "command-a-03-2025")]) {
        for content in [json!(""), json!([]), json!(" \n"), json!([{"type": "text", "text": ""}])] {
            let found = written(kind, model, &json!([{"role": "user", "content": content}]));
            // Gemini alone takes blanks.
            if content == " \n" && matches!(kind, "gemini" | "vertex") {
                assert!(found.is_ok());
                continue;
            }
            let refused = Unsupported::new("messages", "must be more than empty texts");
            assert_eq!(found, Err(refused), "{kind}: {content}");
        }
        let to = Upstream { model, ..upstream(kind, "m") };
        let found = request(&to, Endpoint::Responses, br#"{"model":"m","input":""}"#);
        assert_eq!(found.unwrap_err().param, "input", "{kind}");
    }
}

#[test]
fn arguments_that_are_no_object_do_not_end_a_conversation() {
    for arguments in ["{\"a\": ", "[1]", "7", "null", "not json", "{} {}"] {
        let messages = json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": "1", "content": "These arguments are no JSON."},
        ]);
        let wrapped = json!({"malformed_arguments": arguments});
        for (kind, model, place) in [
            ("anthropic", "claude-haiku-4-5", "/messages/1/content/0/input"),
            ("gemini", "gemini-2.5-flash", "/contents/1/parts/0/functionCall/args"),
            ("bedrock", "amazon.nova-pro-v1:0", "/messages/1/content/0/toolUse/input"),
        ] {
            let found = written(kind, model, &messages).unwrap();
            assert_eq!(found.pointer(place), Some(&wrapped), "{kind}: {arguments}");
        }
    }
}

#[test]
fn places_are_the_clients_own() {
    let image = json!({"type": "image", "source": {"type": "file", "file_id": "f"}});
    let asked = json!({"model": "m", "max_tokens": 9, "system": "s",
        "messages": [{"role": "assistant", "content": "hello"}, {"role": "user", "content": [image]}]});
    let file = json!({"type": "input_image", "file_id": "f"});
    let input = json!({"model": "m", "instructions": "s", "input": [
        {"role": "assistant", "content": "hello"}, {"role": "user", "content": [file]}]});
    for (kind, model) in PROVIDERS {
        let to = Upstream { model, ..upstream(kind, "m") };
        for (endpoint, body, param) in [
            (Endpoint::Messages, &asked, "messages[1].content[0]"),
            (Endpoint::Responses, &input, "input[1].content[0]"),
        ] {
            let error = request(&to, endpoint, body.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.param, param, "{kind}");
        }
    }
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    for (kind, member, value, param) in [
        ("gemini", "stop_sequences", json!(["a", "b", "c", "d", "e", "f"]), "stop_sequences"),
        (
            "gemini",
            "output_config",
            json!({"format": {"type": "json_schema", "schema": {}}}),
            "output_config.format",
        ),
    ] {
        let mut asked = json!({"model": "m", "max_tokens": 9, "tools": [tool],
            "messages": [{"role": "user", "content": "x"}]});
        asked[member] = value;
        let to = upstream(kind, "gemini-2.5-flash");
        let error = request(&to, Endpoint::Messages, asked.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.param, param);
    }
    let asked = json!({"model": "m", "input": "x", "tools": [{"type": "function", "name": "f"}],
        "text": {"format": {"type": "json_object"}}});
    let to = upstream("cohere", "command-a-03-2025");
    let error = request(&to, Endpoint::Responses, asked.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.param, "text.format");
}

fn setup(endpoint: Endpoint, format: Format) -> Setup {
    Setup {
        endpoint,
        format,
        model: "m".to_owned(),
        include_usage: false,
        created: 7,
        nonce: 1,
        echo: Echo::default(),
    }
}

#[test]
fn citations_are_about_the_text_that_each_client_counts_in() {
    let cited = |text: &str, url: &str| {
        let citation = json!({"title": "T", "location": {"web": {"url": url}}});
        json!({"citationsContent": {"content": [{"text": text}], "citations": [citation]}})
    };
    let content = [
        json!({"text": "Öl "}),
        cited("is wet", "https://a.example"),
        cited(".", "https://b.example"),
    ];
    let body = json!({"output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 2}});
    let document = |endpoint| -> Value {
        let mut translation = Translation::new(setup(endpoint, Format::Bedrock), false);
        serde_json::from_slice(&translation.feed(body.to_string().as_bytes(), true)).unwrap()
    };
    let spans = |list: &Value, of: &dyn Fn(&Value) -> Value| -> Vec<Vec<Value>> {
        let span =
            |item: &Value| vec![of(item)["start_index"].clone(), of(item)["end_index"].clone()];
        list.as_array().unwrap().iter().map(span).collect()
    };
    let chat = document(Endpoint::ChatCompletions);
    let message = &chat["choices"][0]["message"];
    assert_eq!(message["content"], "Öl is wet.");
    let found = spans(&message["annotations"], &|item| item["url_citation"].clone());
    assert_eq!(found, [[3, 9], [9, 10]]);
    let responses = document(Endpoint::Responses);
    for (index, end) in [(1, 6), (2, 1)] {
        let part = &responses["output"][index]["content"][0];
        assert_eq!(spans(&part["annotations"], &Value::clone), [[0, end]], "{part}");
    }
    let messages = document(Endpoint::Messages);
    assert_eq!(messages["content"][1]["citations"][0]["url"], "https://a.example");
}

/// What services that follow OpenAI's format send of a call, and of answers that nobody asked for.
#[test]
fn chunks_that_say_nothing_are_no_nonsense() {
    let piece = |call: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
    let chunks = [
        json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "delta": {}}]}),
        json!({"choices": [{"index": 0, "delta": null, "finish_reason": ""}], "error": null}),
        piece(json!({"index": 0})),
        piece(json!({"index": 0, "function": {"arguments": ""}})),
        piece(json!({"index": 0, "id": "1", "function": {"name": "f", "arguments": null}})),
        json!({"choices": [{"index": 1, "delta": {"content": "another answer"}, "finish_reason": "stop"}]}),
        piece(json!({"index": 0, "id": "", "function": {"name": "", "arguments": "{}"}})),
        json!({"choices": [{"index": 0, "delta": {"content": null, "tool_calls": null}, "finish_reason": "tool_calls"}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
    ];
    let stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let mut translation = Translation::new(setup(Endpoint::Messages, Format::OpenAi), true);
    let out = translation.feed(format!("{stream}data: [DONE]\n\n").as_bytes(), true);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(translation.outcome(), crate::observe::Outcome::Complete, "{out}");
    assert_eq!(translation.usage().map(|usage| usage.completion), Some(4));
    assert!(!out.contains("another answer"), "{out}");
    assert_eq!(out.matches("content_block_start").count(), 2, "one block, in name and data: {out}");
    assert!(out.contains(r#""stop_reason":"tool_use""#), "{out}");
}
