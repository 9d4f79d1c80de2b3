//! Requests as no client should send them: any member of any type, or not there. Each is written for its provider as
//! valid JSON, or refused by the name of a member that the client knows.

mod bent;

use bent::bent;
use keyward::endpoint::Endpoint;
use keyward::formats::{Upstream, request};
use keyward::provider::find;
use serde_json::{Value, json};

const PROVIDERS: [(&str, &str); 7] = [
    ("openai", "gpt-5.1"),
    ("anthropic", "claude-sonnet-4-6"),
    ("gemini", "gemini-3-pro-preview"),
    ("vertex", "gemini-2.5-flash"),
    ("vertex-anthropic", "claude-haiku-4-5"),
    ("bedrock", "anthropic.claude-haiku-4-5-v1:0"),
    ("cohere", "command-a-reasoning-08-2025"),
];

const DATA: &str = "data:image/png;base64,QQ==";

fn chat() -> Value {
    json!({
        "model": "m", "stream": true, "max_tokens": 9000, "temperature": 0.5, "top_p": 0.5, "seed": 1, "n": 1,
        "stop": ["a"], "user": "u", "reasoning_effort": "low", "service_tier": "auto", "logit_bias": {},
        "response_format": {"type": "text"}, "tool_choice": {"type": "function", "function": {"name": "f"}},
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "strict": true,
            "parameters": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}}}],
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}}]},
            {"role": "assistant", "content": null, "reasoning_details":
                [{"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0}],
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"},
                    "extra_content": {"google": {"thought_signature": "s"}}}]},
            {"role": "tool", "tool_call_id": "1", "content": "r"},
        ],
    })
}

fn messages() -> Value {
    json!({
        "model": "m", "max_tokens": 9000, "system": [{"type": "text", "text": "s"}], "stop_sequences": ["a"],
        "thinking": {"type": "enabled", "budget_tokens": 2000}, "metadata": {"user_id": "u"},
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "messages": [
            {"role": "user", "content": [{"type": "image", "source":
                {"type": "base64", "media_type": "image/png", "data": "QQ=="}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "is_error": true,
                "content": [{"type": "text", "text": "r"}]}]},
        ],
    })
}

fn responses() -> Value {
    json!({
        "model": "m", "instructions": "i", "max_output_tokens": 9000, "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}, "include": ["x"],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "custom", "name": "c"},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]}],
        "tool_choice": {"type": "function", "name": "f"},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": DATA}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "keyward:x:y"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "r"},
        ],
    })
}

#[test]
fn members_may_be_anything() {
    for (endpoint, whole) in [
        (Endpoint::ChatCompletions, chat()),
        (Endpoint::Messages, messages()),
        (Endpoint::Responses, responses()),
    ] {
        let names = whole.as_object().unwrap();
        for body in bent(&whole).iter().filter(|body| body.is_object()) {
            for (kind, model) in PROVIDERS {
                let upstream = Upstream { kind: find(kind).unwrap(), model, include_usage: true };
                let text = body.to_string();
                match request(&upstream, endpoint, text.as_bytes()) {
                    Ok(written) => {
                        let written: Value = serde_json::from_slice(&written.body).unwrap();
                        assert!(written.is_object(), "{kind}: {text}");
                    }
                    Err(error) => {
                        let end = error.param.find(['.', '[']).unwrap_or(error.param.len());
                        let member = error.param.split_at(end).0;
                        // What is missing is named, too; `output_config` is the newer name of `output_format`.
                        let known = names.contains_key(member)
                            || matches!(
                                member,
                                "messages" | "input" | "output_config" | "parallel_tool_calls"
                            );
                        assert!(known, "{kind}: {text}: {error}");
                        assert!(!error.message.is_empty());
                    }
                }
            }
        }
    }
}
