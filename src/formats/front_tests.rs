//! Requests of clients of Messages and Responses, by table.

use serde_json::{Value, json};

use super::*;

fn upstream(kind: &str, model: &'static str) -> Upstream<'static> {
    Upstream { kind: crate::provider::find(kind).unwrap(), model, include_usage: true }
}

fn written(to: &Upstream<'_>, endpoint: Endpoint, body: &str) -> Result<Value, Unsupported> {
    let written = request(to, endpoint, body.as_bytes())?;
    Ok(serde_json::from_slice(&written.body).unwrap())
}

const MESSAGES: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hi"}]"#;
const RESPONSES: &str = r#"{"model":"fast","input":"hi""#;

/// A member, its value, and what becomes of it; a text that is no object is the member that is refused.
type Row = (&'static str, &'static str, &'static str);

fn check(to: &Upstream<'_>, endpoint: Endpoint, head: &str, rows: &[Row]) {
    let plain = written(to, endpoint, &format!("{head}}}")).unwrap();
    for (name, value, expected) in rows {
        let found = written(to, endpoint, &format!("{head},\"{name}\":{value}}}"));
        if expected.starts_with('{') {
            let found = found.unwrap_or_else(|error| panic!("{name}: {value}: {error}"));
            let mut with = plain.clone();
            let expected: Value = serde_json::from_str(expected).unwrap();
            with.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
            assert_eq!(found, with, "{name}: {value}");
        } else {
            let param = if *expected == "refused" { *name } else { *expected };
            assert_eq!(found.unwrap_err().param, param, "{name}: {value}");
        }
        if !matches!(*name, "messages" | "input") {
            let null = written(to, endpoint, &format!("{head},\"{name}\":null}}")).unwrap();
            assert_eq!(null, plain, "{name}: null");
        }
    }
}

/// Members of Messages, in chat completions.
const OF_MESSAGES: &[Row] = &[
    ("max_tokens", "7", r#"{"max_tokens":7}"#),
    ("max_tokens", "32000", r#"{"max_tokens":16384}"#),
    ("stream", "true", r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
    ("stream", "false", "{}"),
    ("temperature", "0", r#"{"temperature":0}"#),
    ("temperature", "\"hot\"", "refused"),
    ("top_p", "0.0", r#"{"top_p":0.0}"#),
    ("top_k", "5", "{}"),
    ("stop_sequences", r#"["a","b"]"#, r#"{"stop":["a","b"]}"#),
    (
        "system",
        r#""be brief""#,
        r#"{"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}]}"#,
    ),
    (
        "system",
        r#"[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h","scope":"org"}},{"type":"text","text":"b"}]"#,
        r#"{"messages":[{"role":"system","content":"a\n\nb"},{"role":"user","content":"hi"}]}"#,
    ),
    (
        "system",
        r#"[{"type":"image","source":{"type":"url","url":"https://x.example/a.png"}}]"#,
        "system[0].type",
    ),
    (
        "tools",
        r#"[{"name":"f","description":"d","input_schema":{"type":"object","z":1,"a":1e2},"strict":true,"cache_control":{"type":"ephemeral"}}]"#,
        r#"{"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","z":1,"a":1e2},"strict":true}}]}"#,
    ),
    ("tools", r#"[{"type":"web_search_20250305","name":"web_search"}]"#, "tools[0].type"),
    ("tools", r#"[{"type":"custom"}]"#, "tools[0].name"),
    ("tool_choice", r#"{"type":"any"}"#, "{}"),
    ("tool_choice", r#"{"type":"some"}"#, "tool_choice.type"),
    ("thinking", r#"{"type":"enabled","budget_tokens":2048}"#, "{}"),
    ("thinking", r#"{"type":"enabled","effort":1}"#, "thinking.effort"),
    ("output_config", r#"{"effort":"low"}"#, "{}"),
    (
        "output_config",
        r#"{"format":{"type":"json_schema","schema":{"type":"object","additionalProperties":false}}}"#,
        r#"{"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object","additionalProperties":false},"strict":true}}}"#,
    ),
    (
        "output_format",
        r#"{"type":"json_schema","schema":{"type":"object"}}"#,
        r#"{"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"},"strict":false}}}"#,
    ),
    ("metadata", r#"{"user_id":"u-1"}"#, r#"{"user":"u-1"}"#),
    (
        "metadata",
        r#"{"user_id":"u-1234567890123456789012345678901234567890123456789012345678901234567890"}"#,
        "{}",
    ),
    ("service_tier", r#""standard_only""#, r#"{"service_tier":"default"}"#),
    ("service_tier", r#""auto""#, "{}"),
    ("mcp_servers", "[]", "{}"),
    ("mcp_servers", r#"[{"type":"url"}]"#, "refused"),
    ("cache_control", r#"{"type":"ephemeral"}"#, "{}"),
    ("context_management", r#"{"edits":[]}"#, "{}"),
    ("speed", r#""fast""#, "{}"),
    ("diagnostics", "{}", "{}"),
    ("user_profile_id", r#""p""#, "{}"),
    ("workspace_id", r#""w""#, "{}"),
    ("container", r#""c""#, "refused"),
    ("inference_geo", r#""eu""#, "refused"),
    ("frobnicate", "1", "refused"),
];

/// Members of Responses, in Messages.
const OF_RESPONSES: &[Row] = &[
    ("instructions", r#""be brief""#, r#"{"system":[{"type":"text","text":"be brief"}]}"#),
    ("stream", "true", r#"{"stream":true}"#),
    (
        "tools",
        r#"[{"type":"function","name":"f","description":"d","parameters":{"type":"object","z":1},"strict":false}]"#,
        r#"{"tools":[{"name":"f","description":"d","input_schema":{"type":"object","z":1}}]}"#,
    ),
    ("tools", r#"[{"type":"web_search","external_web_access":false}]"#, "{}"),
    (
        "tools",
        r#"[{"type":"tool_search","execution":"client","parameters":{"type":"object"}}]"#,
        "{}",
    ),
    ("tools", r#"[{"type":"file_search","vector_store_ids":["v"]}]"#, "tools[0].type"),
    ("tools", r#"[{"type":"mcp","server_label":"m"}]"#, "tools[0].type"),
    ("tools", r#"[{"type":"function"}]"#, "tools[0].name"),
    ("tool_choice", r#""required""#, "{}"),
    ("tool_choice", r#"{"type":"web_search"}"#, "tool_choice.type"),
    ("parallel_tool_calls", "false", "{}"),
    ("max_output_tokens", "7", r#"{"max_tokens":7}"#),
    ("temperature", "0", r#"{"temperature":0}"#),
    ("top_p", "0.5", r#"{"top_p":0.5}"#),
    ("text", r#"{"format":{"type":"text"},"verbosity":"low"}"#, "{}"),
    (
        "text",
        r#"{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"type":"object","additionalProperties":false}}}"#,
        r#"{"output_config":{"format":{"type":"json_schema","schema":{"type":"object","additionalProperties":false}}}}"#,
    ),
    ("text", r#"{"format":{"type":"grammar"}}"#, "text.format.type"),
    (
        "reasoning",
        r#"{"effort":"high","summary":"auto"}"#,
        r#"{"thinking":{"type":"adaptive"},"output_config":{"effort":"high"}}"#,
    ),
    ("reasoning", r#"{"summary":"auto"}"#, "{}"),
    ("reasoning", r#"{"effort":"extreme"}"#, "reasoning.effort"),
    ("user", r#""u-1""#, r#"{"metadata":{"user_id":"u-1"}}"#),
    ("safety_identifier", r#""u-2""#, r#"{"metadata":{"user_id":"u-2"}}"#),
    ("service_tier", r#""default""#, r#"{"service_tier":"standard_only"}"#),
    ("include", r#"["reasoning.encrypted_content"]"#, "{}"),
    ("include", r#"["message.output_text.logprobs"]"#, "include[0]"),
    ("store", "true", "{}"),
    ("metadata", r#"{"a":"b"}"#, "{}"),
    ("truncation", r#""auto""#, "{}"),
    ("stream_options", r#"{"include_obfuscation":false}"#, "{}"),
    ("max_tool_calls", "3", "{}"),
    ("client_metadata", "{}", "{}"),
    ("prompt_cache_key", r#""k""#, "{}"),
    ("prompt_cache_retention", r#""24h""#, "{}"),
    ("prompt_cache_options", "{}", "{}"),
    ("background", "false", "{}"),
    ("background", "true", "refused"),
    ("top_logprobs", "0", "{}"),
    ("top_logprobs", "2", "refused"),
    ("previous_response_id", r#""resp_1""#, "refused"),
    ("conversation", r#""conv_1""#, "refused"),
    ("prompt", r#"{"id":"p"}"#, "refused"),
    ("context_management", "[]", "refused"),
    ("moderation", "{}", "refused"),
    ("frobnicate", "1", "refused"),
];

#[test]
fn every_member_is_mapped_dropped_or_refused_by_name() {
    check(&upstream("openai", "gpt-4o-mini"), Endpoint::Messages, MESSAGES, OF_MESSAGES);
    check(&upstream("anthropic", "claude-sonnet-4-5"), Endpoint::Messages, MESSAGES, &[]);
    check(
        &upstream("anthropic", "claude-sonnet-4-6"),
        Endpoint::Responses,
        RESPONSES,
        OF_RESPONSES,
    );
}

#[test]
fn the_documented_tables_are_complete() {
    let tables = [
        (include_str!("anthropic.rs"), OF_MESSAGES, ["model", "messages"]),
        (include_str!("responses.rs"), OF_RESPONSES, ["model", "input"]),
    ];
    for (documentation, rows, read) in tables {
        let table = documentation.split("//! | member | |").nth(1).unwrap();
        let table = table.split("//!\n").next().unwrap();
        let names: Vec<&str> = table
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        for (name, ..) in rows.iter().filter(|(name, ..)| *name != "frobnicate") {
            assert!(names.contains(name), "{name} is not in the table");
        }
        for name in names.iter().filter(|name| !read.contains(name)) {
            assert!(rows.iter().any(|(known, ..)| known == name), "{name} is not tested");
        }
    }
}

#[test]
fn every_field_of_the_model_has_a_row_for_chat_completions() {
    let source = include_str!("../conversation/request.rs");
    let fields = |of: &str| {
        let (_, rest) = source.split_once(&format!("pub struct {of}<'a> {{")).unwrap();
        let (body, _) = rest.split_once("\n}").unwrap();
        let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        fields.map(|field| field.split(':').next().unwrap()).collect::<Vec<_>>()
    };
    let table = include_str!("openai.rs").split("of other APIs").nth(1).unwrap();
    for name in [fields("Request"), fields("Sampling")].concat() {
        let is_place = matches!(name, "sampling" | "preamble" | "list");
        assert!(is_place || table.contains(&format!("`{name}`")), "{name} is not in the table");
    }
}

#[test]
fn what_a_service_takes_decides_on_names_and_thinking() {
    let asked = |members: &str| format!("{MESSAGES},\"max_tokens\":40000,{members}}}");
    let thinking = asked(r#""temperature":1,"thinking":{"type":"enabled","budget_tokens":31999}"#);
    let low = asked(r#""thinking":{"type":"adaptive"},"output_config":{"effort":"low"}"#);
    let max = asked(r#""thinking":{"type":"adaptive"},"output_config":{"effort":"max"}"#);
    let none = asked(r#""thinking":{"type":"disabled"}"#);
    for (kind, model, body, expected) in [
        (
            "openai",
            "gpt-5.1",
            &thinking,
            json!({"max_completion_tokens": 40_000, "reasoning_effort": "high"}),
        ),
        (
            "openai",
            "gpt-5",
            &none,
            json!({"max_completion_tokens": 40_000, "reasoning_effort": "minimal"}),
        ),
        (
            "openai",
            "gpt-5.2",
            &none,
            json!({"max_completion_tokens": 40_000, "reasoning_effort": "none"}),
        ),
        (
            "openai",
            "gpt-5.2",
            &max,
            json!({"max_completion_tokens": 40_000, "reasoning_effort": "xhigh"}),
        ),
        ("azure", "o3", &max, json!({"max_completion_tokens": 40_000, "reasoning_effort": "high"})),
        ("openai", "gpt-4.1", &low, json!({"max_tokens": 32_768})),
        ("groq", "openai/gpt-oss-120b", &low, json!({"reasoning_effort": "low"})),
        ("mistral", "mistral-large-latest", &low, json!({"max_tokens": 40_000})),
        ("deepseek", "deepseek-chat", &thinking, json!({"max_tokens": 40_000, "temperature": 1})),
    ] {
        let mut found = written(&upstream(kind, model), Endpoint::Messages, body).unwrap();
        let members = found.as_object_mut().unwrap();
        members.retain(|name, _| !matches!(name.as_str(), "model" | "messages"));
        if expected.get("max_tokens").or(expected.get("max_completion_tokens")).is_none() {
            members.retain(|name, _| !name.starts_with("max_"));
        }
        assert_eq!(found, expected, "{kind} {model}");
    }
}

#[test]
fn a_conversation_of_messages_in_chat_completions() {
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "QUJD"});
    let asked = json!({"model": "fast", "tools": [{"name": "w"}], "tool_choice": {"type": "tool", "name": "w", "disable_parallel_tool_use": true},
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "weather?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
            {"type": "document", "source": pdf, "title": "a.pdf", "citations": {"enabled": true}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}, "title": "b.txt"},
            {"type": "search_result", "source": "https://x.example/", "title": "X", "content": [{"type": "text", "text": "found"}]},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "w", "input": {"city": "Köln", "n": 1e2}},
            {"type": "tool_use", "id": "toolu_2", "name": "w", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                {"type": "text", "text": "rain"}, {"type": "image", "source": {"type": "url", "url": "https://x.example/r.png"}}]},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such city", "is_error": true},
            {"type": "text", "text": "thanks"},
        ]},
    ]});
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let text = |text: &str| json!({"type": "text", "text": text});
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "w", "arguments": arguments}});
    let mut expected = json!([
        {"role": "user", "content": [
            text("weather?"), image("data:image/png;base64,QUJD"), image("https://x.example/a.png"),
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
            text("b.txt\n\nplain"), text("X\nhttps://x.example/\n\nfound"),
        ]},
        {"role": "assistant", "content": "I look.", "tool_calls": [call("toolu_1", r#"{"city":"Köln","n":100.0}"#), call("toolu_2", "{}")]},
        {"role": "tool", "content": "rain", "tool_call_id": "toolu_1"},
        {"role": "tool", "content": "The tool failed: no such city", "tool_call_id": "toolu_2"},
        {"role": "user", "content": [text("Result of the tool call toolu_1:"), image("https://x.example/r.png"), text("thanks")]},
    ]);
    let found =
        written(&upstream("openai", "gpt-4o"), Endpoint::Messages, &asked.to_string()).unwrap();
    assert_eq!(found["messages"], expected);
    assert_eq!(found["tool_choice"], json!({"type": "function", "function": {"name": "w"}}));
    assert_eq!(found["parallel_tool_calls"], false);

    // Thinking goes back within a tool loop, to whom takes it; the loop is over with the user's next word.
    let mut in_loop = asked.clone();
    in_loop["messages"][2]["content"].as_array_mut().unwrap().pop();
    let found =
        written(&upstream("deepseek", "m"), Endpoint::Messages, &in_loop.to_string()).unwrap();
    expected[1]["reasoning_content"] = "hm".into();
    assert_eq!(found["messages"][1], expected[1]);
    let found =
        written(&upstream("openrouter", "m"), Endpoint::Messages, &in_loop.to_string()).unwrap();
    assert_eq!(
        found["messages"][1]["reasoning_details"],
        json!([
            {"type": "reasoning.text", "index": 0, "text": "hm", "signature": "sig", "format": "anthropic-claude-v1"},
            {"type": "reasoning.encrypted", "index": 1, "data": "x", "format": "anthropic-claude-v1"},
        ])
    );
    for kind in ["deepseek", "openrouter"] {
        let found = written(&upstream(kind, "m"), Endpoint::Messages, &asked.to_string()).unwrap();
        assert!(found["messages"][1].get("reasoning_content").is_none(), "{kind}");
        assert!(found["messages"][1].get("reasoning_details").is_none(), "{kind}");
    }
}

#[test]
fn what_blocks_cannot_say_is_refused_by_its_place() {
    for (block, param) in [
        (
            json!({"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}),
            "messages[1].content[0].type",
        ),
        (
            json!({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[1].content[0]",
        ),
        (
            json!({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}),
            "messages[1].content[0]",
        ),
        (json!({"type": "text"}), "messages[1].content[0].text"),
        (json!({"type": "text", "text": "t", "surprise": 1}), "messages[1].content[0].surprise"),
        (
            json!({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "tool_reference"}]}),
            "messages[1].content[0].content[0].tool_name",
        ),
    ] {
        let asked = json!({"model": "fast", "system": "s",
            "messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": [block]}]});
        let error = written(&upstream("openai", "m"), Endpoint::Messages, &asked.to_string());
        assert_eq!(error.unwrap_err().param, param);
    }
    let asked = json!({"model": "fast", "instructions": "s", "input": [
        {"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]});
    let error = written(&upstream("anthropic", "m"), Endpoint::Responses, &asked.to_string());
    assert_eq!(error.unwrap_err().param, "input[1].content[0]");
    for (item, param) in [
        (json!({"type": "item_reference", "id": "msg_1"}), "input[0]"),
        (json!({"type": "function_call", "name": "f"}), "input[0].call_id"),
        (json!({"role": "user"}), "input[0].content"),
        (json!({"type": "message", "role": "robot", "content": "x"}), "input[0].role"),
    ] {
        let asked = json!({"model": "fast", "input": [item]}).to_string();
        let error = written(&upstream("anthropic", "m"), Endpoint::Responses, &asked);
        assert_eq!(error.unwrap_err().param, param);
    }
}

fn answered(written: Written, format: Format, endpoint: Endpoint, body: &Value) -> Value {
    let setup = Setup {
        endpoint,
        format,
        include_usage: false,
        created: 7,
        nonce: 1,
        model: String::new(),
        echo: written.echo,
    };
    let out = Translation::new(setup, false).feed(body.to_string().as_bytes(), true);
    serde_json::from_slice(&out).unwrap()
}

/// Custom tools and namespaces, and thinking that comes back with its proof: a turn of a coding agent.
#[test]
fn a_turn_of_responses_goes_to_anthropic_and_back() {
    let to = upstream("anthropic", "claude-sonnet-4-6");
    let tools = json!([
        {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
        {"type": "namespace", "name": "agents", "description": "d", "tools": [
            {"type": "function", "name": "spawn", "parameters": {"type": "object"}, "strict": false}]},
        {"type": "function", "name": "exec", "parameters": {"type": "object"}},
        {"type": "web_search"},
    ]);
    let asked = json!({"model": "fast", "input": "go", "tools": tools, "metadata": {"k": "v"}, "store": true});
    let sent = request(&to, Endpoint::Responses, asked.to_string().as_bytes()).unwrap();
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    let names: Vec<_> =
        body["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["apply_patch", "agents__spawn", "exec"]);
    assert_eq!(
        body["tools"][0]["description"],
        "Edits.\n\nThe input has to follow this grammar:\nstart: x"
    );
    assert_eq!(body["tools"][0]["input_schema"]["required"], json!(["input"]));

    let content = json!([
        {"type": "thinking", "thinking": "hm", "signature": "EqQB=="},
        {"type": "thinking", "thinking": "", "signature": "omitted"},
        {"type": "redacted_thinking", "data": "EmwK"},
        {"type": "text", "text": "I edit."},
        {"type": "tool_use", "id": "toolu_1", "name": "apply_patch", "input": {"input": "*** \"a\"\n"}},
        {"type": "tool_use", "id": "toolu_2", "name": "agents__spawn", "input": {"n": 1}},
        {"type": "tool_use", "id": "toolu_3", "name": "exec", "input": {}},
    ]);
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": content,
        "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 2}});
    let answer = answered(sent, Format::Anthropic, Endpoint::Responses, &message);
    assert_eq!((&answer["status"], &answer["store"]), (&json!("completed"), &json!(false)));
    assert_eq!((&answer["tools"], &answer["metadata"]), (&tools, &json!({"k": "v"})));
    assert_eq!(
        (&answer["tool_choice"], &answer["parallel_tool_calls"]),
        (&json!("auto"), &json!(true))
    );
    assert_eq!(answer["usage"]["total_tokens"], 3);
    let output = answer["output"].as_array().unwrap();
    assert_eq!(
        output[4],
        json!({"id": "ctc_msg_1_4", "type": "custom_tool_call", "call_id": "toolu_1", "name": "apply_patch", "input": "*** \"a\"\n"})
    );
    assert_eq!((&output[5]["name"], &output[5]["namespace"]), (&json!("spawn"), &json!("agents")));
    assert_eq!((&output[6]["name"], &output[6]["arguments"]), (&json!("exec"), &json!("{}")));

    let mut input = vec![json!({"role": "user", "content": "go"})];
    input.extend(output.iter().cloned());
    for (kind, id) in [
        ("custom_tool_call_output", "toolu_1"),
        ("function_call_output", "toolu_2"),
        ("function_call_output", "toolu_3"),
    ] {
        input.push(json!({"type": kind, "call_id": id, "output": "fine"}));
    }
    let back = json!({"model": "fast", "input": input, "tools": tools}).to_string();
    let back = written(&to, Endpoint::Responses, &back).unwrap();
    assert_eq!(back["messages"][1], json!({"role": "assistant", "content": content}));
    let results = back["messages"][2]["content"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(
        results[0],
        json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "fine"}]})
    );
    // To whom it is not, thinking does not go.
    let elsewhere = json!({"model": "fast", "input": input, "tools": tools}).to_string();
    let elsewhere =
        written(&upstream("openai", "gpt-4o"), Endpoint::Responses, &elsewhere).unwrap();
    assert_eq!(elsewhere["messages"].as_array().unwrap().len(), 5, "one turn: {elsewhere}");
    assert!(!elsewhere.to_string().contains("EqQB"));
}

#[test]
fn answers_of_chat_completions_in_the_words_of_messages() {
    let to = upstream("openai", "m");
    for (message, finish, content, stop) in [
        (
            json!({"content": "hi"}),
            "stop",
            json!([{"type": "text", "text": "hi", "citations": null}]),
            "end_turn",
        ),
        (
            json!({"content": null, "refusal": "no"}),
            "stop",
            json!([{"type": "text", "text": "no", "citations": null}]),
            "refusal",
        ),
        (
            json!({"content": "hi"}),
            "length",
            json!([{"type": "text", "text": "hi", "citations": null}]),
            "max_tokens",
        ),
        (json!({"content": ""}), "content_filter", json!([]), "refusal"),
        (
            json!({"content": "", "reasoning_content": "hm", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1e2}"}},
                {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{\"a\": "}},
                {"id": "call_3", "type": "function", "function": {"name": "h", "arguments": ""}}]}),
            "stop",
            json!([
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1e2}},
                {"type": "tool_use", "id": "call_2", "name": "g", "input": {"malformed_arguments": "{\"a\": "}},
                {"type": "tool_use", "id": "call_3", "name": "h", "input": {}},
            ]),
            "tool_use",
        ),
        (
            json!({"content": "hi"}),
            "brand_new",
            json!([{"type": "text", "text": "hi", "citations": null}]),
            "end_turn",
        ),
    ] {
        let sent = request(&to, Endpoint::Messages, format!("{MESSAGES}}}").as_bytes()).unwrap();
        let body = json!({"id": "chatcmpl-1", "model": "m-1", "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}});
        let answer = answered(sent, Format::OpenAi, Endpoint::Messages, &body);
        assert_eq!(
            (&answer["content"], &answer["stop_reason"]),
            (&content, &json!(stop)),
            "{message}"
        );
        assert_eq!(
            answer["usage"],
            json!({"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 2})
        );
        assert_eq!((&answer["id"], &answer["model"]), (&json!("msg_chatcmpl-1"), &json!("m-1")));
    }
}

#[test]
fn an_answer_that_is_none_is_an_error_in_the_clients_words() {
    for (endpoint, head, kind) in [
        (Endpoint::Messages, MESSAGES, r#"{"type":"error","error":{"type":"api_error","#),
        (Endpoint::Responses, RESPONSES, r#"{"error":{"message":"#),
    ] {
        for body in [
            "<html>secret</html>",
            "{\"choices\":[]}",
            "",
            "{\"error\":{\"message\":\"m\",\"type\":\"server_error\"}}",
        ] {
            let sent = request(&upstream("openai", "m"), endpoint, format!("{head}}}").as_bytes())
                .unwrap();
            let setup = Setup {
                endpoint,
                format: Format::OpenAi,
                include_usage: false,
                created: 7,
                nonce: 1,
                model: String::new(),
                echo: sent.echo,
            };
            let out = String::from_utf8(Translation::new(setup, false).feed(body.as_bytes(), true))
                .unwrap();
            assert!(out.starts_with(kind) && !out.contains("secret"), "{body}: {out}");
        }
    }
    for (status, error_body, kind) in [
        (
            400,
            json!({"error": {"message": "m", "type": "invalid_request_error", "param": "x", "code": null}}),
            "invalid_request_error",
        ),
        (404, json!({"error": {"message": "m", "code": "model_not_found"}}), "not_found_error"),
        (413, json!({"detail": "m"}), "request_too_large"),
        (422, json!({"detail": "m"}), "invalid_request_error"),
        (500, json!({"error": {"message": "m", "type": "server_error"}}), "api_error"),
    ] {
        let (told, out) = error(Dialect::Anthropic, status, error_body.to_string().as_bytes());
        let expected = json!({"type": "error", "error": {"type": kind, "message": "m"}});
        assert_eq!((told, serde_json::from_slice::<Value>(&out).unwrap()), (status, expected));
    }
}

#[test]
fn a_request_for_a_count_need_not_be_whole() {
    let body = json!({"model": "m", "system": "abcdefgh", "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
    assert_eq!(count_tokens(body.to_string().as_bytes()), Ok(4 + 2 + 4 + 2 + 4 + 1 + 5));
    assert_eq!(count_tokens(b"{\"model\":\"m\"}").unwrap_err().param, "messages");
}
