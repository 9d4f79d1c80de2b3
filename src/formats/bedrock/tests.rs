use serde_json::{Value, json};

use crate::conversation::Unsupported;
use crate::endpoint::Endpoint;
use crate::formats::{Call, Upstream, Way, Written, request};
use crate::provider;

const MODEL: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "amazon.nova-2-lite-v1:0";
const LLAMA: &str = "meta.llama3-3-70b-instruct-v1:0";
const TOOLS: &str = r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","z":1,"a":1e2}}}]"#;
const TOOL: &str = r#"{"toolSpec":{"name":"f","description":"d","inputSchema":{"json":{"type":"object","z":1,"a":1e2}}}}"#;

fn ask(endpoint: Endpoint, body: &[u8], model: &str) -> Result<Written, Unsupported> {
    let kind = provider::find("bedrock").unwrap();
    request(&Upstream { kind, model, include_usage: false }, endpoint, body)
}

fn written(members: &str, model: &str) -> Result<String, Unsupported> {
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    let messages = if members.contains("\"messages\"") { "\"store\":false" } else { messages };
    let body = format!(r#"{{"model":"fast",{messages}{members}}}"#);
    let written = ask(Endpoint::ChatCompletions, body.as_bytes(), model)?;
    Ok(String::from_utf8(written.body).unwrap())
}

fn messages(messages: &Value) -> Result<Value, Unsupported> {
    let written = written(&format!(r#","messages":{messages}"#), MODEL)?;
    Ok(serde_json::from_str(&written).unwrap())
}

/// Members of a request, the model, and what they add; or the one that is refused.
const MEMBERS: &[(&str, &str, &str)] = &[
    (r#""stream":true"#, LLAMA, ""),
    (r#""max_completion_tokens":7"#, LLAMA, r#""inferenceConfig":{"maxTokens":7}"#),
    (r#""temperature":0"#, LLAMA, r#""inferenceConfig":{"temperature":0}"#),
    (r#""temperature":0.70"#, MODEL, r#""inferenceConfig":{"temperature":0.70}"#),
    (r#""temperature":1.5"#, LLAMA, r#""inferenceConfig":{"temperature":1}"#),
    (r#""temperature":0,"top_p":0.5"#, LLAMA, r#""inferenceConfig":{"temperature":0,"topP":0.5}"#),
    // Claude takes one of the two.
    (r#""temperature":0,"top_p":0.5"#, MODEL, r#""inferenceConfig":{"temperature":0}"#),
    (r#""top_k":5"#, MODEL, r#""additionalModelRequestFields":{"top_k":5}"#),
    (r#""top_k":5"#, NOVA, r#""additionalModelRequestFields":{"inferenceConfig":{"topK":5}}"#),
    (r#""top_k":5"#, LLAMA, ""),
    (r#""seed":0,"presence_penalty":0.5,"frequency_penalty":0.5"#, LLAMA, ""),
    (r#""logit_bias":{}"#, LLAMA, ""),
    (r#""logit_bias":{"50256":-100}"#, LLAMA, "! logit_bias"),
    (r#""n":1"#, LLAMA, ""),
    (r#""n":2"#, LLAMA, "! n"),
    (r#""logprobs":true"#, LLAMA, "! logprobs"),
    (r#""stop":["END",""]"#, LLAMA, r#""inferenceConfig":{"stopSequences":["END"]}"#),
    (r#""stop":"\n""#, LLAMA, r#""inferenceConfig":{"stopSequences":["\n"]}"#),
    (r#""stop":"\n""#, MODEL, "! stop"),
    (
        r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","additionalProperties":false,"z":1}}}"#,
        MODEL,
        r#""outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{\"type\":\"object\",\"additionalProperties\":false,\"z\":1}"}}}}"#,
    ),
    (
        r#""response_format":{"type":"json_object"}"#,
        LLAMA,
        r#""system":[{"text":"Answer with one JSON object and nothing else."}]"#,
    ),
    (
        r#""reasoning_effort":"low""#,
        MODEL,
        r#""inferenceConfig":{"maxTokens":32000},"additionalModelRequestFields":{"thinking":{"type":"enabled","budget_tokens":2048}}"#,
    ),
    (
        r#""reasoning_effort":"medium","temperature":0.5"#,
        "anthropic.claude-opus-4-6-v1",
        r#""additionalModelRequestFields":{"thinking":{"type":"adaptive"},"output_config":{"effort":"medium"}}"#,
    ),
    (
        r#""reasoning_effort":"high""#,
        NOVA,
        r#""additionalModelRequestFields":{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"high"}}"#,
    ),
    (
        r#""reasoning_effort":"high","max_tokens":7"#,
        NOVA,
        r#""inferenceConfig":{"maxTokens":7},"additionalModelRequestFields":{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"medium"}}"#,
    ),
    (r#""reasoning_effort":"none""#, NOVA, ""),
    (
        r#""reasoning_effort":"minimal""#,
        "openai.gpt-oss-120b-1:0",
        r#""additionalModelRequestFields":{"reasoning_effort":"low"}"#,
    ),
    (r#""reasoning_effort":"high""#, LLAMA, ""),
    (r#""user":"u-1""#, LLAMA, r#""requestMetadata":{"user":"u-1"}"#),
    (r#""user":"Jürgen""#, LLAMA, ""),
    (r#""service_tier":"flex""#, LLAMA, r#""serviceTier":{"type":"flex"}"#),
    (r#""service_tier":"auto""#, LLAMA, ""),
    (r#""metadata":{"a":"b"},"verbosity":"low""#, LLAMA, ""),
];

#[test]
fn every_member_is_mapped_dropped_or_refused_by_name() {
    for (members, model, expected) in MEMBERS {
        let found = written(&format!(",{members}"), model);
        if let Some(param) = expected.strip_prefix("! ") {
            assert_eq!(found.unwrap_err().param, param, "{members}");
            continue;
        }
        let found = found.unwrap();
        assert!(found.contains(expected), "to the byte: {members}: {found}");
        let plain = written("", model).unwrap();
        let joined = format!("{{{expected}{}", if expected.is_empty() { "}" } else { ",\"_\":0}" });
        let mut with: Value = serde_json::from_str(&joined).unwrap();
        with.as_object_mut().unwrap().remove("_");
        let mut all: Value = serde_json::from_str(&plain).unwrap();
        all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), all, "{members}");
    }
}

#[test]
fn tools_and_the_choice_of_one() {
    let choose = |more: &str, model| written(&format!(r#","tools":{TOOLS}{more}"#), model);
    for (more, model, expected) in [
        ("", LLAMA, format!(r#""toolConfig":{{"tools":[{TOOL}]}}"#)),
        (
            r#","tool_choice":"auto""#,
            LLAMA,
            format!(r#""toolConfig":{{"tools":[{TOOL}],"toolChoice":{{"auto":{{}}}}}}"#),
        ),
        (
            r#","tool_choice":"required""#,
            LLAMA,
            format!(r#""toolConfig":{{"tools":[{TOOL}],"toolChoice":{{"any":{{}}}}}}"#),
        ),
        (
            r#","tool_choice":{"type":"function","function":{"name":"f"}}"#,
            LLAMA,
            format!(r#""toolConfig":{{"tools":[{TOOL}],"toolChoice":{{"tool":{{"name":"f"}}}}}}"#),
        ),
        (
            r#","parallel_tool_calls":false,"tool_choice":"required""#,
            MODEL,
            format!(
                r#""toolConfig":{{"tools":[{TOOL}]}},"additionalModelRequestFields":{{"tool_choice":{{"type":"any","disable_parallel_tool_use":true}}}}"#
            ),
        ),
    ] {
        let found = choose(more, model).unwrap();
        assert!(found.contains(&expected), "{more}: {found}");
    }
    assert!(!choose(r#","tool_choice":"none""#, LLAMA).unwrap().contains("toolConfig"));
    let limited = choose(r#","parallel_tool_calls":false"#, LLAMA).unwrap();
    assert_eq!(limited, choose("", LLAMA).unwrap(), "left to the answer");
    assert!(!written(r#","parallel_tool_calls":false"#, LLAMA).unwrap().contains("tool"));

    // Converse refuses a history of calls without tools.
    let history = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "1", "content": "fine"},
    ]);
    let told = messages(&history).unwrap();
    let declared =
        json!([{"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object"}}}}]);
    assert_eq!(told["toolConfig"], json!({"tools": declared}));
    assert_eq!(told["system"], json!([{"text": "Do not call any tool."}]));
    let none = format!(r#","messages":{history},"tools":{TOOLS},"tool_choice":"none""#);
    let none: Value = serde_json::from_str(&written(&none, MODEL).unwrap()).unwrap();
    assert_eq!(none["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
    assert_eq!(none["system"], json!([{"text": "Do not call any tool."}]));
}

#[test]
fn strict_tools_and_cache_marks_only_where_they_are_taken() {
    let tools = r#","tools":[{"type":"function","cache_control":{"type":"ephemeral","ttl":"1h"},"function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"n":{"type":"integer","minimum":1}}}}}]"#;
    let claude = written(tools, MODEL).unwrap();
    assert!(
        claude.contains(r#""additionalProperties":false}},"strict":true}},{"cachePoint":{"type":"default","ttl":"1h"}}]"#),
        "{claude}"
    );
    let llama = written(tools, LLAMA).unwrap();
    assert!(!llama.contains("strict") && !llama.contains("cachePoint"), "{llama}");
}

#[test]
fn messages_alternate_and_instructions_stand_apart() {
    let told = messages(&json!([
        {"role": "system", "content": "one"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]},
        {"role": "developer", "content": "two"},
        {"role": "assistant", "content": "  "},
        {"role": "assistant", "content": "c", "refusal": "no"},
    ]));
    let told = told.unwrap();
    assert_eq!(told["system"], json!([{"text": "one"}, {"text": "two"}]));
    assert_eq!(
        told["messages"],
        json!([
            {"role": "user", "content": [{"text": "a"}, {"text": "b"}, {"cachePoint": {"type": "default"}}]},
            {"role": "assistant", "content": [{"text": "c"}, {"text": "no"}]},
        ])
    );
    let only = messages(&json!([{"role": "system", "content": "one"}])).unwrap();
    assert_eq!(only, json!({"messages": [{"role": "user", "content": [{"text": "one"}]}]}));
}

#[test]
fn media_are_bytes() {
    let part = |part: Value| {
        let told = messages(&json!([{"role": "user", "content": [part]}]));
        told.map(|told| told["messages"][0]["content"][0].clone())
    };
    let image = |url: &str| part(json!({"type": "image_url", "image_url": {"url": url}}));
    for (url, expected) in [
        ("data:image/png;base64,QUJD", json!({"format": "png", "source": {"bytes": "QUJD"}})),
        ("data:image/jpg;base64,QUJD", json!({"format": "jpeg", "source": {"bytes": "QUJD"}})),
        (
            "s3://b/a.webp",
            json!({"format": "webp", "source": {"s3Location": {"uri": "s3://b/a.webp"}}}),
        ),
    ] {
        assert_eq!(image(url).unwrap(), json!({"image": expected}));
    }
    for (url, message) in [
        ("https://x.example/a.png", "is given by a URL"),
        ("data:image/svg+xml;base64,QUJD", "must be a PNG, JPEG, GIF or WebP image"),
    ] {
        let refused = image(url).unwrap_err();
        assert_eq!(refused.param, "messages[0].content[0]");
        assert!(refused.message.starts_with(message), "{refused}");
    }
    let file = |name: &str, data: &str| {
        part(json!({"type": "file", "file": {"filename": name, "file_data": data}}))
    };
    assert_eq!(
        file("Jahres_bericht  2026.pdf", "data:application/pdf;base64,QUJD").unwrap(),
        json!({"document": {"format": "pdf", "name": "Jahres-bericht 2026-pdf", "source": {"bytes": "QUJD"}}})
    );
    assert_eq!(file("a", "data:text/csv;base64,QUJD").unwrap()["document"]["format"], "csv");
    assert!(file("a", "data:application/zip;base64,QUJD").is_err());
    assert!(part(json!({"type": "file", "file": {"file_id": "file-1"}})).is_err());
    assert_eq!(
        part(json!({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}))
            .unwrap(),
        json!({"audio": {"format": "wav", "source": {"bytes": "QQ=="}}})
    );
    let pdf = json!({"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64,QUJD"}});
    let twice = messages(&json!([{"role": "user", "content": [pdf, pdf]}])).unwrap();
    assert_eq!(twice["messages"][0]["content"][1]["document"]["name"], "a (2)");
}

#[test]
fn tool_loops_and_thinking_survive() {
    let turn = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": null,
         "reasoning_details": [
            {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "QUJD", "format": "anthropic-claude-v1", "index": 1},
            {"type": "reasoning.text", "text": "of another", "signature": "s", "format": "google-gemini-v1", "index": 2}],
         "tool_calls": [{"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1e2}"}}]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": ""},
        {"role": "user", "content": "go on"},
    ]);
    let told = messages(&turn).unwrap();
    assert_eq!(
        told["messages"][1]["content"],
        json!([
            {"reasoningContent": {"reasoningText": {"text": "t", "signature": "s"}}},
            {"reasoningContent": {"redactedContent": "QUJD"}},
            {"toolUse": {"toolUseId": "functions.f:0", "name": "f", "input": {"a": 1e2}}},
        ])
    );
    assert_eq!(
        told["messages"][2]["content"],
        json!([{"toolResult": {"toolUseId": "functions.f:0", "content": [{"text": ""}]}}, {"text": "go on"}])
    );
    let foreign = written(&format!(r#","messages":{turn}"#), LLAMA).unwrap();
    assert!(!foreign.contains("reasoningContent"), "{foreign}");
}

#[test]
fn ids_are_spelled_with_what_is_taken() {
    let long = "x".repeat(80);
    for (id, expected) in [("a b/ü", "a_b__"), ("", "_"), (long.as_str(), &"x".repeat(64))] {
        let call =
            json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let told = messages(&json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": id, "content": "x"},
        ]));
        let told = told.unwrap();
        assert_eq!(told["messages"][1]["content"][0]["toolUse"]["toolUseId"], expected);
        assert_eq!(told["messages"][2]["content"][0]["toolResult"]["toolUseId"], expected);
    }
}

#[test]
fn a_model_is_one_segment_of_the_path() {
    for (model, stream, expected) in [
        (MODEL, false, "/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"),
        ("amazon.nova-pro-v1:0", true, "/amazon.nova-pro-v1%3A0/converse-stream"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1",
            false,
            "/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fa1/converse",
        ),
        ("a/../b?c#d%2F", false, "/a%2F..%2Fb%3Fc%23d%252F/converse"),
    ] {
        let call =
            Call { endpoint: Endpoint::ChatCompletions, way: Way::Translated, model, stream };
        assert_eq!(super::path(&call), Some(expected.to_owned()));
        for dots in ["", ".", ".."] {
            assert_eq!(super::path(&Call { model: dots, ..call }), None);
        }
        let embeds = super::path(&Call { endpoint: Endpoint::Embeddings, ..call }).unwrap();
        assert!(embeds.ends_with("/invoke"), "{embeds}");
    }
}

/// Every field and block of the conversation has its row.
#[test]
fn the_documented_tables_are_complete() {
    for documentation in [include_str!("../bedrock.rs"), include_str!("../cohere.rs")] {
        for name in [
            "model",
            "messages",
            "tools",
            "tool_choice",
            "parallel_tools",
            "max_tokens",
            "temperature",
            "top_p",
            "top_k",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "choices",
            "logprobs",
            "stop",
            "output",
            "reasoning",
            "stream",
            "user",
            "service_tier",
        ] {
            let row = |line: &str| {
                line.starts_with("//! | `")
                    && line
                        .split('|')
                        .nth(1)
                        .is_some_and(|cell| cell.contains(&format!("`{name}`")))
                    && line
                        .split('|')
                        .nth(2)
                        .is_some_and(|fate| ["mapped", "dropped", "refused"].contains(&fate.trim()))
            };
            assert!(documentation.lines().any(row), "{name}");
        }
        for block in [
            "text",
            "image",
            "document",
            "audio",
            "tool use",
            "tool result",
            "refusal",
            "cache mark",
        ] {
            assert!(documentation.contains(&format!("//! | {block} |")), "{block}");
        }
    }
}

#[test]
fn embeddings_are_in_the_words_of_the_family() {
    let embed = |model: &str, members: &str| {
        let body = format!("{{\"model\":\"e\",{members}}}");
        let written = ask(Endpoint::Embeddings, body.as_bytes(), model);
        written.map(|written| String::from_utf8(written.body).unwrap())
    };
    const TITAN: &str = "amazon.titan-embed-text-v2:0";
    for (model, members, expected) in [
        (TITAN, r#""input":"é""#, r#"{"inputText":"é"}"#),
        (TITAN, r#""input":["é"],"dimensions":256"#, r#"{"inputText":"é","dimensions":256}"#),
        (
            "cohere.embed-v4:0",
            r#""input":["a","b"],"dimensions":256"#,
            r#"{"texts":["a","b"],"input_type":"search_document","embedding_types":["float"],"output_dimension":256,"truncate":"NONE"}"#,
        ),
    ] {
        assert_eq!(embed(model, members).unwrap(), expected);
    }
    for (model, members, param) in
        [(TITAN, r#""input":["a","b"]"#, "input"), (MODEL, r#""input":"a""#, "model")]
    {
        assert_eq!(embed(model, members).unwrap_err().param, param);
    }
    let read = |body: &str| {
        super::embeddings::read(body.as_bytes()).map(|answer| {
            let vectors: Vec<String> = answer.vectors.iter().map(|v| v.get().to_owned()).collect();
            (vectors, answer.usage.map(|usage| usage.prompt))
        })
    };
    assert_eq!(
        read(r#"{"embedding":[0.1,2e-3],"inputTextTokenCount":3}"#),
        Some((vec!["[0.1,2e-3]".to_owned()], Some(3)))
    );
    assert_eq!(
        read(r#"{"id":"1","embeddings":{"float":[[1],[2]]},"response_type":"embeddings_by_type"}"#),
        Some((vec!["[1]".to_owned(), "[2]".to_owned()], None))
    );
    assert_eq!(read(r#"{"message":"no"}"#), None);
}
