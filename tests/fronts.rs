//! Streams of providers in the words of clients of Messages and Responses: every fixture cut everywhere, and what comes
//! out held to the rules of its protocol.
//!
//! `KEYWARD_BLESS=1 cargo test --test fronts` writes what is expected anew, to be read in the diff.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, not in their helpers"
)]

use std::path::{Path, PathBuf};

use keyward::endpoint::Endpoint;
use keyward::formats::{Echo, Format, Setup, Translation};
use keyward::observe::Outcome;
use serde_json::Value;

/// Folder of the fixtures, format, endpoint of the client, its name in the names of files.
const WAYS: [(&str, Format, Endpoint, &str); 3] = [
    ("chat", Format::OpenAi, Endpoint::Messages, "anthropic"),
    ("chat", Format::OpenAi, Endpoint::Responses, "responses"),
    ("anthropic", Format::Anthropic, Endpoint::Responses, "responses"),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The streams of providers in a folder.
fn fixtures(name: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder(name)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".sse") && name.matches('.').count() == 1).collect();
    names.sort();
    names
}

fn translation(format: Format, endpoint: Endpoint) -> Translation {
    let setup = Setup {
        endpoint,
        format,
        include_usage: false,
        created: 1_790_000_000,
        nonce: 0xabc,
        model: String::new(),
        echo: Echo::default(),
    };
    Translation::new(setup, true)
}

fn fed(translation: &mut Translation, pieces: &[&[u8]]) -> Vec<u8> {
    let last = pieces.len() - 1;
    pieces.iter().enumerate().flat_map(|(i, piece)| translation.feed(piece, i == last)).collect()
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

#[test]
fn however_it_is_cut() {
    for (source, format, endpoint, client) in WAYS {
        for file in fixtures(source) {
            let bytes = std::fs::read(folder(source).join(&file)).unwrap();
            let whole = fed(&mut translation(format, endpoint), &[&bytes]);
            let stem = file.strip_suffix(".sse").unwrap();
            let golden = folder("front").join(format!("{source}.{stem}.{client}.sse"));
            if std::env::var_os("KEYWARD_BLESS").is_some() {
                std::fs::write(&golden, &whole).unwrap();
            }
            let golden = String::from_utf8(std::fs::read(golden).unwrap()).unwrap();
            assert_eq!(String::from_utf8(whole).unwrap(), golden, "{file}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let out = fed(&mut translation(format, endpoint), &single);
            assert_eq!(String::from_utf8(out).unwrap(), golden, "{file}, byte by byte");
            for cut in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                let out = fed(&mut translation(format, endpoint), &[head, tail]);
                assert!(out == golden.as_bytes(), "{file}, cut at {cut}");
            }
        }
    }
}

#[test]
fn every_stream_keeps_the_rules_of_its_protocol() {
    for (source, format, endpoint, client) in WAYS {
        for file in fixtures(source) {
            let bytes = std::fs::read(folder(source).join(&file)).unwrap();
            // As it is, and cut off anywhere.
            for end in (0..=bytes.len()).rev().step_by(7) {
                let mut translation = translation(format, endpoint);
                let out = fed(&mut translation, &[&bytes[..end]]);
                let events = events(core::str::from_utf8(&out).unwrap());
                let complete = translation.outcome() == Outcome::Complete;
                match client {
                    "anthropic" => messages(&events, complete, &file),
                    _ => responses(&events, complete, &file),
                }
            }
        }
    }
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

#[test]
fn no_token_waits_for_the_next() {
    for (source, format, endpoint, client) in WAYS {
        let text = std::fs::read_to_string(folder(source).join("tools.sse")).unwrap();
        let mut translation = translation(format, endpoint);
        let wanted = if client == "anthropic" { "text_delta" } else { "output_text.delta" };
        let mut seen = 0;
        for event in text.split_inclusive("\n\n") {
            let out = String::from_utf8(translation.feed(event.as_bytes(), false)).unwrap();
            if event.contains(r#"{"content":"I"#) || event.contains(r#""text":"I look"#) {
                assert!(out.contains(wanted), "{event}: {out}");
                seen += 1;
            }
        }
        assert_eq!(seen, 1, "{source} {client}");
    }
}
