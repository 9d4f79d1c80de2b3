//! What clients and providers send that nobody documents: bounded, refused by name, never a panic.

use serde_json::json;

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
