//! The rules that a stream for a client has to keep, whatever its provider did.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, not in their helpers"
)]

use keyward::endpoint::Endpoint;
use serde_json::Value;

/// `complete`: the provider has said that it is; anything else the client has to be told of.
pub(crate) fn check(endpoint: Endpoint, stream: &str, complete: bool, what: &str) {
    match endpoint {
        Endpoint::Messages => messages(&events(stream), complete, what),
        Endpoint::Responses => responses(&events(stream), complete, what),
        _ => chat(stream, complete, what),
    }
}

fn events(stream: &str) -> Vec<Value> {
    let blocks = stream.split("\n\n").filter(|block| block.contains("data: "));
    blocks
        .map(|block| {
            let (name, data) = block.split_once("\ndata: ").unwrap();
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(name, format!("event: {}", event["type"].as_str().unwrap()));
            event
        })
        .collect()
}

/// <https://platform.openai.com/docs/api-reference/chat-streaming>
fn chat(stream: &str, complete: bool, file: &str) {
    let (mut finished, mut calls, mut last) = (0, 0, "");
    let blocks: Vec<_> = stream.split_terminator("\n\n").filter(|b| !b.starts_with(':')).collect();
    for (at, block) in blocks.iter().enumerate() {
        last = block.strip_prefix("data: ").unwrap();
        if last == "[DONE]" || last.starts_with("{\"error\":") {
            assert_eq!(at + 1, blocks.len(), "{file}: {block}");
            continue;
        }
        let chunk: Value = serde_json::from_str(last).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk", "{file}");
        let Some(choice) = chunk["choices"].get(0) else { continue };
        let delta = &choice["delta"];
        assert_eq!(choice["index"], 0, "{file}");
        assert_eq!(delta["role"] == "assistant", at == 0, "{file}: {chunk}");
        assert!(finished == 0, "{file}: behind the end: {chunk}");
        finished += usize::from(choice["finish_reason"].is_string());
        if let Some(call) = delta["tool_calls"].get(0) {
            if call["id"].is_string() {
                assert_eq!(call["index"], calls, "{file}: {chunk}");
                assert!(call["function"]["name"].is_string(), "{file}: {chunk}");
                calls += 1;
            }
            assert!(call["index"].as_u64().unwrap() < calls, "{file}: {chunk}");
        }
    }
    assert_eq!(last == "[DONE]", complete, "{file}: {last}");
    assert!(finished == 1 || !complete, "{file}: {finished} ends");
    assert!(complete || last.starts_with("{\"error\":"), "{file}: {last}");
}

/// <https://platform.claude.com/docs/en/build-with-claude/streaming#event-types>
fn messages(events: &[Value], complete: bool, file: &str) {
    let (mut open, mut blocks, mut started) = (None, 0, false);
    for (at, event) in events.iter().enumerate() {
        let is_last = at + 1 == events.len();
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "ping" => assert!(started, "{file}"),
            "message_start" => {
                assert!(!core::mem::replace(&mut started, true), "{file}");
            }
            "content_block_start" => {
                assert!(started && open.is_none() && index == Some(blocks), "{file}: {event}");
                open = index;
                blocks += 1;
            }
            "content_block_delta" => assert!(open.is_some() && index == open, "{file}: {event}"),
            "content_block_stop" => {
                assert!(open.is_some() && index == open, "{file}: {event}");
                open = None;
            }
            "message_delta" => {
                assert!(open.is_none() && event["delta"]["stop_reason"].is_string(), "{file}");
                assert_eq!(events[at + 1]["type"], "message_stop", "{file}");
            }
            "message_stop" => assert!(is_last && complete, "{file}"),
            "error" => assert!(is_last && !complete, "{file}"),
            other => panic!("{file}: {other}"),
        }
    }
    let last = events.last().unwrap()["type"].as_str().unwrap();
    assert_eq!(last, if complete { "message_stop" } else { "error" }, "{file}");
}

/// <https://platform.openai.com/docs/api-reference/responses-streaming>
fn responses(events: &[Value], complete: bool, file: &str) {
    let (mut added, mut done) = (Vec::new(), Vec::new());
    let mut texts = std::collections::HashMap::<String, String>::new();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], at, "{file}: {event}");
        let kind = event["type"].as_str().unwrap();
        match (at, kind) {
            (0, _) => assert_eq!(kind, "response.created"),
            (1, _) => assert_eq!(kind, "response.in_progress"),
            (_, "response.output_item.added") => {
                assert_eq!(event["output_index"], added.len(), "{file}");
                added.push(event["item"]["id"].clone());
            }
            (_, "response.output_item.done") => {
                let index = event["output_index"].as_u64().unwrap();
                assert_eq!(event["item"]["id"], added[usize::try_from(index).unwrap()], "{file}");
                done.push((index, event["item"].clone()));
            }
            _ => {}
        }
        let id = event["item_id"].as_str().unwrap_or_default().to_owned();
        assert!(id.is_empty() || added.contains(&Value::from(id.as_str())), "{file}: {event}");
        if kind.ends_with(".delta") {
            texts.entry(id).or_default().push_str(event["delta"].as_str().unwrap());
        } else if let Some(text) = ["text", "refusal", "arguments", "input"]
            .iter()
            .find_map(|name| event[*name].as_str().filter(|_| kind.ends_with(".done")))
        {
            let told = texts.get(&id).map_or("", String::as_str);
            // No arguments are an empty object in the end.
            assert!(text == told || told.is_empty() && text == "{}", "{file}: {event}");
        }
    }
    let last = events.last().unwrap();
    let kind = last["type"].as_str().unwrap();
    if complete {
        assert!(matches!(kind, "response.completed" | "response.incomplete"), "{file}: {kind}");
        done.sort_by_key(|(index, _)| *index);
        let items: Vec<_> = done.into_iter().map(|(_, item)| item).collect();
        assert_eq!(last["response"]["output"], Value::from(items), "{file}");
        assert_eq!(added.len(), last["response"]["output"].as_array().unwrap().len(), "{file}");
    } else {
        assert_eq!(kind, "response.failed", "{file}");
        assert_eq!(last["response"]["status"], "failed");
    }
    let terminal = |event: &&Value| {
        let kind = event["type"].as_str().unwrap();
        matches!(kind, "response.completed" | "response.incomplete" | "response.failed" | "error")
    };
    assert_eq!(events.iter().filter(terminal).count(), 1, "{file}");
}
