//! Streams as no provider should send them: a message lost, said twice, too early or late. Whatever comes of it, the
//! client gets a stream by the rules of its protocol, and is told where it is not complete.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

mod bent;
mod protocol;

use std::path::Path;

use keyward::endpoint::Endpoint;
use keyward::formats::{Echo, Format, Setup, Translation};
use keyward::observe::Outcome;
use serde_json::{Value, json};

use bent::bent;

const FORMATS: [(&str, Format); 5] = [
    ("chat", Format::OpenAi),
    ("anthropic", Format::Anthropic),
    ("gemini", Format::Gemini),
    ("cohere", Format::Cohere),
    ("bedrock", Format::Bedrock),
];
const CLIENTS: [Endpoint; 3] = [Endpoint::ChatCompletions, Endpoint::Messages, Endpoint::Responses];

/// The streams of a folder by their names, each as its messages.
fn streams(folder: &str) -> Vec<(String, Vec<Vec<u8>>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let messages = match name.split_once('.').unwrap().1 {
            "sse" => String::from_utf8(bytes)
                .unwrap()
                .split_inclusive("\n\n")
                .map(|event| event.as_bytes().to_vec())
                .collect(),
            "eventstream" => frames(&bytes),
            _ => continue,
        };
        found.push((name, messages));
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// A message of AWS's begins with its length.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, _)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap().min(bytes.len());
        let (frame, rest) = bytes.split_at(length);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}

/// What can become of the messages of a stream, one thing at a time.
fn broken(messages: &[Vec<u8>]) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut all = vec![("as it is".to_owned(), messages.to_vec())];
    for at in 0..messages.len() {
        let mut lost = messages.to_vec();
        lost.remove(at);
        all.push((format!("{at} lost"), lost));
        let mut twice = messages.to_vec();
        twice.insert(at, messages.get(at).unwrap().clone());
        all.push((format!("{at} twice"), twice));
        let mut swapped = messages.to_vec();
        if at + 1 < messages.len() {
            swapped.swap(at, at + 1);
            all.push((format!("{at} after the next"), swapped));
        }
        let mut last = messages.to_vec();
        let moved = last.remove(at);
        last.push(moved);
        all.push((format!("{at} at the end"), last));
        let mut first = messages.to_vec();
        let moved = first.remove(at);
        first.insert(0, moved);
        all.push((format!("{at} first"), first));
    }
    all
}

fn setup(format: Format, endpoint: Endpoint) -> Setup {
    Setup {
        endpoint,
        format,
        include_usage: true,
        created: 1_790_000_000,
        nonce: 0xabc,
        model: "m".to_owned(),
        echo: Echo::default(),
    }
}

/// Feeds a stream and holds what comes of it to the rules.
fn check(format: Format, endpoint: Endpoint, messages: &[Vec<u8>], what: &str) {
    let mut translation = Translation::new(setup(format, endpoint), true);
    let mut out = Vec::new();
    for message in messages {
        out.extend(translation.feed(message, false));
    }
    out.extend(translation.feed(b"", true));
    let complete = translation.outcome() == Outcome::Complete;
    protocol::check(endpoint, &String::from_utf8(out).unwrap(), complete, what);
}

#[test]
fn members_of_events_may_be_anything() {
    for (folder, format) in FORMATS {
        for (name, messages) in streams(folder) {
            if format == Format::Bedrock || !["tools.sse", "thinking.sse"].contains(&name.as_str())
            {
                continue;
            }
            for at in 0..messages.len() {
                let text = core::str::from_utf8(messages.get(at).unwrap()).unwrap();
                let Some((head, data)) = text.split_once("data: ") else { continue };
                let Ok(event) = serde_json::from_str::<Value>(data.trim()) else { continue };
                for other in bent(&event) {
                    let mut messages = messages.clone();
                    *messages.get_mut(at).unwrap() =
                        format!("{head}data: {other}\n\n").into_bytes();
                    for endpoint in CLIENTS {
                        if (format, endpoint) != (Format::OpenAi, Endpoint::ChatCompletions) {
                            let what =
                                format!("{folder}/{name}, {at} is {other}, for {endpoint:?}");
                            check(format, endpoint, &messages, &what);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn members_of_documents_may_be_anything() {
    let chat = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
        "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "t", "refusal": null,
            "reasoning_content": "r", "annotations": [{"type": "url_citation", "url_citation":
                {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}],
            "reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s", "format": "f"}],
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}});
    for (folder, format) in FORMATS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
        let document = match std::fs::read(path.join("tools.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => chat.clone(),
        };
        for other in bent(&document) {
            for endpoint in CLIENTS {
                let mut translation = Translation::new(setup(format, endpoint), false);
                let out = translation.feed(other.to_string().as_bytes(), true);
                let said: Value = serde_json::from_slice(&out).unwrap();
                let complete = translation.outcome() == Outcome::Complete;
                let is_error = said.get("error").is_some_and(|error| !error.is_null());
                assert_eq!(is_error, !complete, "{folder}: {other} for {endpoint:?}: {said}");
            }
        }
    }
}

#[test]
fn whatever_comes_the_rules_are_kept() {
    for (folder, format) in FORMATS {
        for (name, messages) in streams(folder) {
            for (how, messages) in broken(&messages) {
                for endpoint in CLIENTS {
                    // That is no translation.
                    if (format, endpoint) == (Format::OpenAi, Endpoint::ChatCompletions) {
                        continue;
                    }
                    let what = format!("{folder}/{name}, {how}, for {endpoint:?}");
                    check(format, endpoint, &messages, &what);
                }
            }
        }
    }
}
