//! Every fixture of a translated format, in every spelling the standard allows and cut everywhere: the client gets the
//! same bytes.
//!
//! `KEYWARD_BLESS=1 cargo test --test translation` writes what is expected anew, to be read in the diff.

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
    usage: Option<Usage>,
    /// A part of the error, where there is one.
    error: Option<&'static str>,
}

const fn usage(prompt: u64, completion: u64) -> Option<Usage> {
    Some(Usage { prompt, completion, cached: 0, reasoning: 0, cache_write: 0 })
}

const fn answer(file: &'static str, usage: Option<Usage>) -> Expected {
    Expected { file, opening: Some(Class::Content), outcome: Outcome::Complete, usage, error: None }
}

const fn failure(file: &'static str, opening: Class, usage: Option<Usage>) -> Expected {
    let error = Some(r#""type":"overloaded_error""#);
    Expected { file, opening: Some(opening), outcome: Outcome::Failed, usage, error }
}

const STREAMS: &[Expected] = &[
    answer(
        "chat.sse",
        Some(Usage { prompt: 4039, completion: 12, cached: 4000, reasoning: 0, cache_write: 30 }),
    ),
    Expected {
        error: Some("null"),
        outcome: Outcome::Failed,
        ..answer("corrupt.sse", usage(25, 1))
    },
    failure("error-after-start.sse", Class::Error, usage(25, 1)),
    failure("error-first.sse", Class::Error, None),
    failure("error-midstream.sse", Class::Content, usage(25, 1)),
    answer("interleaved.sse", usage(25, 9)),
    answer("length.sse", usage(25, 2)),
    answer("refusal.sse", usage(25, 1)),
    answer(
        "thinking.sse",
        Some(Usage { prompt: 25, completion: 60, cached: 0, reasoning: 41, cache_write: 0 }),
    ),
    answer("tools.sse", usage(25, 89)),
    Expected { outcome: Outcome::Open, ..answer("truncated.sse", usage(25, 1)) },
    answer("unknown.sse", usage(25, 7)),
];

const CREATED: u64 = 1_790_000_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/anthropic")
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

fn translation(streamed: bool, include_usage: bool) -> Translation {
    let setup = Setup {
        endpoint: Endpoint::ChatCompletions,
        format: Format::Anthropic,
        include_usage,
        model: "model".to_owned(),
        created: CREATED,
        nonce: 1,
        echo: Echo::default(),
    };
    Translation::new(setup, streamed)
}

fn stream() -> Translation {
    translation(true, true)
}

fn fed(translation: &mut Translation, pieces: &[&[u8]]) -> Vec<u8> {
    let last = pieces.len() - 1;
    pieces.iter().enumerate().flat_map(|(i, piece)| translation.feed(piece, i == last)).collect()
}

fn check(expected: &Expected, pieces: &[&[u8]], client: &[u8], how: &str) {
    let mut translation = stream();
    let out = fed(&mut translation, pieces);
    let file = expected.file;
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(client), "{file}, {how}");
    assert_eq!(translation.opening(), expected.opening, "{file}, {how}");
    assert_eq!(translation.outcome(), expected.outcome, "{file}, {how}");
    assert_eq!(translation.usage(), expected.usage, "{file}, {how}");
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
        .filter(|name| name.ends_with(".sse") && !name.ends_with(".openai.sse"))
        .collect();
    let expected = STREAMS.iter().map(|stream| stream.file.to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn however_it_is_cut_and_spelled() {
    for expected in STREAMS {
        let bytes = read(expected.file);
        let client = golden(expected.file, &fed(&mut stream(), &[&bytes]));
        let text = String::from_utf8(bytes.clone()).unwrap();
        let spellings = [
            ("as it is", text.clone()),
            ("CRLF", text.replace('\n', "\r\n")),
            ("CR", text.replace('\n', "\r")),
            ("no space", text.replace("\ndata: ", "\ndata:").replace("\nevent: ", "\nevent:")),
            (
                "no names",
                text.lines()
                    .filter(|l| !l.starts_with("event:"))
                    .map(|l| format!("{l}\n"))
                    .collect(),
            ),
            ("byte order mark", format!("\u{feff}{text}")),
        ];
        for (how, text) in &spellings {
            check(expected, &[text.as_bytes()], &client, how);
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            check(expected, &single, &client, &format!("{how}, byte by byte"));
        }
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            check(expected, &[head, tail], &client, &format!("cut at {cut}"));
        }
    }
}

#[test]
fn no_token_waits_for_the_next() {
    let text = String::from_utf8(read("chat.sse")).unwrap();
    let mut translation = stream();
    for event in text.split_inclusive("\n\n") {
        let out = String::from_utf8(translation.feed(event.as_bytes(), false)).unwrap();
        if event.contains("text_delta") {
            assert!(out.contains(r#""content":""#), "{event}");
        }
        assert!(!out.contains("[DONE]") || event.contains("message_stop"));
    }
    assert_eq!(
        translation.feed(b"event: ping\ndata: {\"type\":\"ping\"}\n\n", true),
        b"",
        "over is over"
    );
}

#[test]
fn the_usage_chunk_is_there_only_if_asked_for() {
    for expected in STREAMS {
        let bytes = read(expected.file);
        let mut translation = translation(true, false);
        let out = String::from_utf8(fed(&mut translation, &[&bytes])).unwrap();
        assert!(!out.contains("usage"), "{}: {out}", expected.file);
        assert_eq!(translation.usage(), expected.usage);
        let done = out.matches("data: [DONE]").count();
        assert_eq!(done, usize::from(expected.outcome == Outcome::Complete), "{}", expected.file);
        let errors = out.matches("data: {\"error\":").count();
        assert_eq!(errors, usize::from(expected.outcome != Outcome::Complete), "{}", expected.file);
    }
}

#[test]
fn two_streams_do_not_mix() {
    let (one, two) = (read("tools.sse"), read("thinking.sse"));
    let (mut first, mut second) = (stream(), stream());
    let (mut out_one, mut out_two) = (Vec::new(), Vec::new());
    let pieces = one.chunks(7).map(Some).chain(core::iter::repeat(None));
    for (a, b) in pieces.zip(two.chunks(5)) {
        out_one.extend(a.map(|a| first.feed(a, false)).unwrap_or_default());
        out_two.extend(second.feed(b, false));
    }
    out_one.extend(first.feed(one.get(two.len().div_ceil(5) * 7..).unwrap_or_default(), true));
    out_two.extend(second.feed(b"", true));
    assert_eq!(out_one, read("tools.openai.sse"));
    assert_eq!(out_two, read("thinking.openai.sse"));
}

#[test]
fn an_event_without_end_is_an_error() {
    let mut translation = stream();
    assert_eq!(translation.feed(b"data: ", false), b"");
    let out = fed(
        &mut translation,
        &[&vec![b'x'; 2 * 1024 * 1024], b"data: {\"type\":\"message_stop\"}\n\n"],
    );
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.matches("data: ").count(), 1, "{out}");
    assert!(out.contains("could not be understood") && translation.outcome() == Outcome::Failed);
}

#[test]
fn a_document_is_whole_or_nothing() {
    let bytes = read("tools.json");
    let whole = |pieces: &[&[u8]]| {
        let mut translation = translation(false, false);
        let out = fed(&mut translation, pieces);
        (out, translation)
    };
    let (out, translation) = whole(&[&bytes]);
    let client = golden("tools.json", &out);
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&client));
    assert_eq!(
        translation.usage(),
        Some(Usage { prompt: 4039, completion: 60, cached: 4000, reasoning: 41, cache_write: 30 })
    );
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(whole(&[head, tail]).0, client, "cut at {cut}");
        if cut + 1 < bytes.len() {
            let (out, translation) = whole(&[head]);
            assert_eq!(translation.outcome(), Outcome::Failed, "cut off at {cut}");
            assert_eq!(translation.opening(), Some(Class::Error));
            assert!(out.starts_with(br#"{"error":{"message":"The provider's answer could not"#));
        }
    }
}

#[test]
fn what_is_no_answer_shows_nothing_of_itself() {
    for (body, message, error) in [
        ("<html>502</html>", "could not be understood", "null"),
        (r#"{"type":"message","content":"text"}"#, "could not be understood", "null"),
        (r#"{"content":[{"type":"text"}]}"#, "could not be understood", "null"),
        (r#"{"choices":[]}"#, "could not be understood", "null"),
        ("", "could not be understood", "null"),
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "Overloaded",
            r#"{"type":"overloaded_error","message":"Overloaded"}"#,
        ),
    ] {
        let mut translation = translation(false, false);
        let out = String::from_utf8(translation.feed(body.as_bytes(), true)).unwrap();
        assert!(out.starts_with("{\"error\":{") && out.contains(message), "{out}");
        assert_eq!(translation.error(), Some(error.as_bytes()));
    }
}
