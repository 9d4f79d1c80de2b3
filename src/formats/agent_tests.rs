//! What coding agents ask for beside plain conversations: tools that come and go, and wishes for one turn.

use serde_json::{Value, json};

use super::*;

fn written(kind: &str, endpoint: Endpoint, asked: &Value) -> Result<Value, Unsupported> {
    let kind = crate::provider::find(kind).unwrap();
    let to = Upstream { kind, model: "openai/gpt-oss-120b", include_usage: false };
    let written = request(&to, endpoint, asked.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&written.body).unwrap())
}

fn names(tools: &Value) -> Vec<&str> {
    let names = tools.as_array().into_iter().flatten();
    names
        .map(|tool| {
            tool["function"].as_object().map_or(&tool["name"], |function| &function["name"])
        })
        .map(|name| name.as_str().unwrap())
        .collect()
}

// --- Responses ---

/// Codex gives newer models all of their tools in an item.
#[test]
fn tools_in_items_are_tools() {
    let exec = json!({"type": "custom", "name": "exec", "description": "Runs.", "format": {"type": "text"}});
    let wait = json!({"type": "function", "name": "wait", "strict": false, "parameters": {"type": "object"}});
    let input = json!([
        {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": [
            {"type": "namespace", "name": "functions", "description": "", "tools": [exec, wait]},
            {"type": "function", "name": "sleep", "description": "old"}, {"type": "web_search"}]},
        {"role": "user", "content": "go"},
        {"type": "tool_search_call", "call_id": "s1", "execution": "client", "arguments": {"query": "x"}},
        {"type": "tool_search_output", "call_id": "s1", "execution": "client", "tools": [
            {"type": "function", "name": "found"}, {"type": "function", "name": "sleep", "description": "new"}]},
        {"type": "item_reference", "id": "rs_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "custom_tool_call", "call_id": "c1", "namespace": "functions", "name": "exec", "input": "text(1)"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "1"}]},
    ]);
    let asked =
        json!({"model": "fast", "input": input, "tools": [{"type": "function", "name": "own"}]});
    let sent = written("anthropic", Endpoint::Responses, &asked).unwrap();
    assert_eq!(
        names(&sent["tools"]),
        ["functions__exec", "functions__wait", "found", "sleep", "own"]
    );
    assert_eq!(sent["tools"][0]["input_schema"]["required"], json!(["input"]));
    assert_eq!(sent["tools"][3]["description"], "new");
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "go"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "c1", "name": "functions__exec", "input": {"input": "text(1)"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "1"}]}]},
        ])
    );
}

#[test]
fn a_custom_tool_in_a_namespace_is_called_as_what_it_is() {
    let kind = crate::provider::find("openai").unwrap();
    let to = Upstream { kind, model: "m", include_usage: false };
    let tools = json!([{"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}]);
    let asked = json!({"model": "fast", "input": [
        {"type": "additional_tools", "role": "developer", "tools": tools}, {"role": "user", "content": "go"}]});
    let sent = request(&to, Endpoint::Responses, asked.to_string().as_bytes()).unwrap();
    let setup = Setup {
        endpoint: Endpoint::Responses,
        format: Format::OpenAi,
        include_usage: false,
        created: 7,
        nonce: 1,
        model: String::new(),
        echo: sent.echo,
    };
    let call = json!({"id": "c1", "type": "function",
        "function": {"name": "functions__exec", "arguments": "{\"input\":\"text(1)\"}"}});
    let answer = json!({"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": null, "tool_calls": [call]}}]});
    let out = Translation::new(setup, false).feed(answer.to_string().as_bytes(), true);
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        out["output"],
        json!([{"id": "ctc_1_0", "type": "custom_tool_call", "call_id": "c1", "namespace": "functions",
            "name": "exec", "input": "text(1)"}])
    );
    assert_eq!(out["tools"], json!([]), "as the client gave them");
}

#[test]
fn what_is_wrong_with_tools_in_items_is_said_by_its_place() {
    for (item, param) in [
        (
            json!({"type": "additional_tools", "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]}),
            "input[0].tools[0].tools[0].type",
        ),
        (json!({"type": "additional_tools", "tools": [{"name": "f"}]}), "input[0].tools[0].type"),
        (json!({"type": "additional_tools", "tools": {}}), "input[0].tools"),
        (json!({"role": "user", "content": "x", "tools": []}), "input[0].tools"),
        (json!({"role": "user", "content": "x", "surprise": 1}), "input[0].surprise"),
        (
            json!({"type": "function_call", "call_id": "1", "name": "f", "arguments": {}}),
            "input[0].arguments",
        ),
        (json!({"type": "compaction", "encrypted_content": "x"}), "input[0].type"),
    ] {
        let asked = json!({"model": "fast", "input": [item]});
        let error = written("anthropic", Endpoint::Responses, &asked).unwrap_err();
        assert_eq!(error.param, param);
    }
}

// --- Messages ---

fn messages(messages: &Value, more: &Value) -> Result<Value, Unsupported> {
    let mut asked = json!({"model": "fast", "messages": messages});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    written("groq", Endpoint::Messages, &asked)
}

#[test]
fn the_last_effort_counts() {
    let hi = json!({"role": "user", "content": "hi"});
    for (configs, expected) in [
        (vec![], "medium"),
        (vec![json!({"effort": "low"})], "low"),
        (vec![json!({"effort": "low"}), json!({"effort": "high"}), json!({})], "high"),
        (vec![json!(null)], "medium"),
    ] {
        let mut all = vec![hi.clone()];
        all.extend(
            configs
                .iter()
                .map(|config| json!({"role": "system", "content": "s", "output_config": config})),
        );
        let more = json!({"thinking": {"type": "adaptive"},
            "output_config": {"effort": "medium", "task_budget": {"type": "tokens", "total": 9}}});
        let sent = messages(&all.into(), &more).unwrap();
        assert_eq!(sent["reasoning_effort"], expected, "{configs:?}");
    }
    // Of an effort alone, no message is left.
    let alone = json!({"role": "system", "output_config": {"effort": "low"}});
    let sent = messages(&json!([alone, hi]), &json!({})).unwrap();
    assert_eq!(sent["messages"], json!([hi]));
}

#[test]
fn what_passes_is_gone_with_the_next_word_of_the_user() {
    let note =
        |text: &str, until: &str| json!({"role": "system", "content": text, "clear_at": until});
    let user = |text: &str| json!({"role": "user", "content": text});
    let all = json!([user("1"), note("a", "next_user_message"), note("b", "never"),
        {"role": "assistant", "content": "2"}, user("3"), note("c", "next_user_message")]);
    let sent = messages(&all, &json!({})).unwrap();
    let texts: Vec<_> = sent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["1", "b", "2", "3", "c"]);
}

#[test]
fn tools_come_and_go() {
    let change = |kind: &str, tool: Value| json!({"type": kind, "tool": tool});
    let named = |name: &str| json!({"type": "tool_reference", "name": name});
    let defined =
        json!({"type": "tool_definition", "definition": {"name": "d", "description": "new"}});
    let tools =
        json!([{"name": "a"}, {"name": "b", "defer_loading": true}, {"name": "c"}, {"name": "d"}]);
    let all = json!([
        {"role": "user", "content": "hi"},
        {"role": "system", "content": [
            {"type": "text", "text": "s"}, change("tool_removal", named("a")), change("tool_removal", named("c"))]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [
            {"type": "tool_reference", "tool_name": "b"}]}]},
        {"role": "system", "content": [change("tool_addition", named("c")), change("tool_addition", defined)]},
    ]);
    let sent = messages(&all, &json!({"tools": tools})).unwrap();
    assert_eq!(names(&sent["tools"]), ["b", "c", "d"]);
    assert_eq!(sent["tools"][2]["function"]["description"], "new");
    let said = sent["messages"].as_array().unwrap();
    let roles: Vec<_> = said.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "system", "assistant", "tool"]);
    assert_eq!(
        (&said[1]["content"], &said[3]["content"]),
        (&json!("s"), &json!("The tool b is loaded."))
    );
}

#[test]
fn what_is_wrong_with_a_message_of_the_system_is_said_by_its_place() {
    for (message, param) in [
        (json!({"role": "system"}), "content"),
        (
            json!({"role": "system", "content": "s", "output_config": {"format": {}}}),
            "output_config.format",
        ),
        (
            json!({"role": "system", "content": "s", "output_config": {"effort": "wild"}}),
            "output_config.effort",
        ),
        (json!({"role": "system", "content": [{"type": "tool_addition"}]}), "content[0].tool"),
        (
            json!({"role": "system", "content": [{"type": "tool_removal", "tool": {"type": "mcp_tool_reference"}}]}),
            "content[0].tool.type",
        ),
        (
            json!({"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {}}}]}),
            "content[0].tool.definition.name",
        ),
        (
            json!({"role": "user", "content": [{"type": "tool_removal", "tool": {}}]}),
            "content[0].tool",
        ),
    ] {
        let error = messages(&json!([message]), &json!({})).unwrap_err();
        assert_eq!(error.param, format!("messages[0].{param}"));
    }
}

// --- chat completions ---

/// What providers and client libraries put beside the content of an answer comes back with it.
#[test]
fn what_an_answer_had_beside_its_content_is_no_obstacle() {
    let hi = json!({"role": "user", "content": "hi"});
    let answer = json!({"role": "assistant", "content": "yes", "function_call": null, "annotations": [], "audio": {"id": "a"},
        "citations": ["https://x.example/"], "executed_tools": [], "provider_specific_fields": {"refusal": null},
        "tool_calls": [{"id": "1", "type": "function", "index": 0, "provider_specific_fields": {},
            "function": {"name": "f", "arguments": "{}", "provider_specific_fields": {}}}]});
    let sent = |message: Value| {
        let asked = json!({"model": "fast", "messages": [hi, message]});
        written("anthropic", Endpoint::ChatCompletions, &asked)
    };
    assert_eq!(
        sent(answer).unwrap()["messages"][1],
        json!({"role": "assistant", "content": [
            {"type": "text", "text": "yes"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}}]})
    );
    for (message, param) in [
        (json!({"role": "user", "content": "x", "citations": []}), "messages[1].citations"),
        (
            json!({"role": "tool", "tool_call_id": "1", "content": "x", "is_error": true}),
            "messages[1].is_error",
        ),
        (
            json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}),
            "messages[1].function_call",
        ),
        (
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "custom", "custom": {}}]}),
            "messages[1].tool_calls[0].type",
        ),
    ] {
        assert_eq!(sent(message).unwrap_err().param, param);
    }
}

// --- all ---

/// What a client of one call at most gets where a provider calls two, streamed or not.
#[test]
fn who_takes_one_call_gets_one() {
    let part = |name: &str| json!({"functionCall": {"name": name, "args": {"n": 1}}});
    let answer = json!({"candidates": [{"content": {"parts": [{"text": "I look."}, part("f"), part("g")]}, "finishReason": "STOP"}]});
    let kind = crate::provider::find("gemini").unwrap();
    let to = Upstream { kind, model: "gemini-3-flash-preview", include_usage: false };
    for (endpoint, no, yes) in [
        (
            Endpoint::ChatCompletions,
            json!({"parallel_tool_calls": false}),
            json!({"parallel_tool_calls": true}),
        ),
        (
            Endpoint::Responses,
            json!({"parallel_tool_calls": false, "input": "x"}),
            json!({"input": "x"}),
        ),
        (
            Endpoint::Messages,
            json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
            json!({"tool_choice": {"type": "auto"}}),
        ),
    ] {
        for (members, expected) in [(no, [true, false]), (yes, [true, true])] {
            let mut asked = json!({"model": "fast"});
            if endpoint != Endpoint::Responses {
                asked["messages"] = json!([{"role": "user", "content": "x"}]);
            }
            asked.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            for streamed in [false, true] {
                let sent = request(&to, endpoint, asked.to_string().as_bytes()).unwrap();
                let setup = Setup {
                    endpoint,
                    format: Format::Gemini,
                    include_usage: false,
                    created: 7,
                    nonce: 1,
                    model: String::new(),
                    echo: sent.echo,
                };
                let body =
                    if streamed { format!("data: {answer}\n\n") } else { answer.to_string() };
                let out = Translation::new(setup, streamed).feed(body.as_bytes(), true);
                let out = String::from_utf8(out).unwrap();
                let called = ["f", "g"].map(|name| out.contains(&format!("\"name\":\"{name}\"")));
                assert_eq!(called, expected, "{endpoint:?} {streamed}: {out}");
                assert!(out.contains("I look."));
            }
        }
    }
}
