//! Every fixture of Gemini, cut everywhere: a client of chat completions gets the same bytes.
//!
//! `KEYWARD_BLESS=1 cargo test --test gemini` writes what is expected anew, to be read in the diff.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keyward::endpoint::Endpoint;
use keyward::formats::{Echo, Format, Setup, Translation};
use keyward::observe::{Class, Outcome};
use keyward::usage::Usage;

struct Expected {
    file: &'static str,
    opening: Option<Class>,
    outcome: Outcome,
    /// prompt, completion, cached, reasoning
    usage: Option<[u64; 4]>,
    /// A part of the error, where there is one.
    error: Option<&'static str>,
}

const fn answer(file: &'static str, usage: [u64; 4]) -> Expected {
    let usage = Some(usage);
    Expected { file, opening: Some(Class::Content), outcome: Outcome::Complete, usage, error: None }
}

const fn failure(
    file: &'static str,
    opening: Class,
    usage: Option<[u64; 4]>,
    error: &'static str,
) -> Expected {
    let (opening, error) = (Some(opening), Some(error));
    Expected { file, opening, outcome: Outcome::Failed, usage, error }
}

const HALF: Option<[u64; 4]> = Some([25, 1, 0, 0]);
const OVERLOADED: &str = "UNAVAILABLE";

const FIXTURES: &[Expected] = &[
    answer("blocked.sse", [25, 0, 0, 0]),
    answer("chat.sse", [4039, 12, 4000, 0]),
    failure("corrupt.sse", Class::Content, HALF, "null"),
    failure("error-first.sse", Class::Error, None, OVERLOADED),
    failure("error-midstream.sse", Class::Content, HALF, OVERLOADED),
    failure("error-raw.sse", Class::Content, HALF, OVERLOADED),
    answer("every-finish.sse", [9, 3, 0, 0]),
    answer("grounded.json", [110, 8, 0, 0]),
    answer("grounded.sse", [110, 8, 0, 0]),
    answer("length.sse", [25, 2, 0, 0]),
    failure("malformed-call.sse", Class::Error, Some([80, 0, 0, 0]), "null"),
    answer("safety.sse", [25, 1, 0, 0]),
    answer("thinking.sse", [25, 47, 0, 41]),
    answer("tools.json", [4039, 50, 4000, 30]),
    answer("tools.sse", [80, 61, 0, 30]),
    Expected { outcome: Outcome::Open, ..answer("truncated.sse", [25, 1, 0, 0]) },
    answer("unknown.sse", [25, 7, 0, 0]),
    answer("vertex.sse", [8, 4, 0, 0]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemini")
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(file)).unwrap()
}

/// What the client is to get.
fn golden(file: &str, found: &[u8]) -> Vec<u8> {
    let (name, extension) = file.rsplit_once('.').unwrap();
    let file = format!("{name}.openai.{extension}");
    if std::env::var_os("KEYWARD_BLESS").is_some() {
        std::fs::write(folder().join(&file), found).unwrap();
    }
    read(&file)
}

fn translation(file: &str) -> Translation {
    let setup = Setup {
        endpoint: Endpoint::ChatCompletions,
        format: if file.starts_with("vertex") { Format::Vertex } else { Format::Gemini },
        include_usage: true,
        model: "model".to_owned(),
        created: 1_790_000_000,
        nonce: 1,
        echo: Echo::default(),
    };
    Translation::new(setup, file.ends_with(".sse"))
}

fn check(expected: &Expected, pieces: &[&[u8]], client: &[u8], how: &str) {
    let file = expected.file;
    let mut translation = translation(file);
    let mut out = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        out.extend(translation.feed(piece, index + 1 == pieces.len()));
    }
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(client), "{file}, {how}");
    assert_eq!(translation.opening(), expected.opening, "{file}, {how}");
    assert_eq!(translation.outcome(), expected.outcome, "{file}, {how}");
    let usage = expected.usage.map(|[prompt, completion, cached, reasoning]| Usage {
        prompt,
        completion,
        cached,
        reasoning,
        cache_write: 0,
    });
    assert_eq!(translation.usage(), usage, "{file}, {how}");
    let error = translation.error().map(|error| String::from_utf8(error.to_vec()).unwrap());
    let fits = match (&error, expected.error) {
        (Some(error), Some(part)) => error.contains(part),
        (found, expected) => found.is_none() && expected.is_none(),
    };
    assert!(fits, "{file}, {how}: {error:?}");
}

#[test]
fn every_fixture_is_expected() {
    let found: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".md") && !name.contains(".openai."))
        .collect();
    assert_eq!(found, FIXTURES.iter().map(|fixture| fixture.file.to_owned()).collect());
}

#[test]
fn however_it_is_cut_and_spelled() {
    for expected in FIXTURES {
        let bytes = read(expected.file);
        let client = golden(expected.file, &translation(expected.file).feed(&bytes, true));
        let text = String::from_utf8(bytes.clone()).unwrap();
        check(expected, &[&bytes], &client, "as it is");
        check(expected, &[text.replace('\n', "\r\n").as_bytes()], &client, "CRLF");
        check(expected, &[text.replace("data: ", "data:").as_bytes()], &client, "no space");
        check(expected, &bytes.chunks(1).collect::<Vec<_>>(), &client, "byte by byte");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            check(expected, &[head, tail], &client, &format!("cut at {cut}"));
        }
    }
}

#[test]
fn the_end_is_told_once_and_only_of_what_is_complete() {
    for expected in FIXTURES.iter().filter(|expected| expected.file.ends_with(".sse")) {
        let out = translation(expected.file).feed(&read(expected.file), true);
        let out = String::from_utf8(out).unwrap();
        let complete = expected.outcome == Outcome::Complete;
        assert_eq!(out.matches("data: [DONE]").count(), usize::from(complete), "{}", expected.file);
        let errors = out.matches("data: {\"error\":").count();
        assert_eq!(errors, usize::from(!complete), "{}", expected.file);
    }
}

#[test]
fn a_token_leaves_in_the_callback_it_came_in() {
    let text = String::from_utf8(read("chat.sse")).unwrap();
    let mut translation = translation("chat.sse");
    for event in text.split_inclusive("\n\n") {
        let out = String::from_utf8(translation.feed(event.as_bytes(), false)).unwrap();
        assert!(out.contains(r#""content":""#), "{event}");
    }
    let end = String::from_utf8(translation.feed(b"", true)).unwrap();
    assert!(
        end.ends_with("data: [DONE]\n\n") && end.contains(r#""finish_reason":"stop""#),
        "{end}"
    );
}

#[test]
fn a_document_that_is_cut_off_is_no_answer() {
    let bytes = read("tools.json");
    for cut in 0..bytes.trim_ascii_end().len() {
        let (head, _) = bytes.split_at(cut);
        let mut translation = translation("tools.json");
        let out = translation.feed(head, true);
        assert_eq!(translation.outcome(), Outcome::Failed, "cut off at {cut}");
        assert!(out.starts_with(br#"{"error":{"message":"The provider's answer could not"#));
    }
}
