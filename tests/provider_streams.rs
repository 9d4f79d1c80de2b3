//! Streams of Bedrock and Cohere, cut everywhere: the client gets the same bytes, and nothing of what is broken.
//!
//! `KEYWARD_BLESS=1 cargo test --test provider_streams` writes what is expected anew, to be read in the diff.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keyward::endpoint::Endpoint;
use keyward::formats::{Echo, Format, Setup, Translation};
use keyward::observe::{Class, Outcome};
use keyward::usage::Usage;

#[derive(Clone, Copy)]
struct Expected {
    format: Format,
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

const fn answer(format: Format, file: &'static str, usage: Option<Usage>) -> Expected {
    let opening = Some(Class::Content);
    Expected { format, file, opening, outcome: Outcome::Complete, usage, error: None }
}

const fn bedrock(file: &'static str, usage: Option<Usage>) -> Expected {
    answer(Format::Bedrock, file, usage)
}

const fn cohere(file: &'static str, usage: Option<Usage>) -> Expected {
    answer(Format::Cohere, file, usage)
}

const fn failed(expected: Expected, opening: Class, error: &'static str) -> Expected {
    let (opening, error) = (Some(opening), Some(error));
    Expected { opening, error, outcome: Outcome::Failed, ..expected }
}

const STREAMS: &[Expected] = &[
    bedrock(
        "chat.eventstream",
        Some(Usage { prompt: 4039, completion: 12, cached: 4000, reasoning: 0, cache_write: 30 }),
    ),
    bedrock("cited.eventstream", usage(25, 6)),
    failed(
        bedrock("error-after-start.eventstream", None),
        Class::Error,
        r#"{"code":"serviceUnavailableException","message":"Bedrock is unable"#,
    ),
    failed(
        bedrock("error-first.eventstream", None),
        Class::Error,
        r#"{"code":"throttlingException","message":"Too many requests"#,
    ),
    failed(
        bedrock("error-midstream.eventstream", None),
        Class::Content,
        r#"{"code":"modelStreamErrorException","message":"The model returned"#,
    ),
    failed(
        bedrock("error-unmodeled.eventstream", None),
        Class::Content,
        r#"{"code":"InternalError","message":"The \"server\" encountered an error"}"#,
    ),
    bedrock("guardrail.eventstream", usage(25, 1)),
    bedrock("length.eventstream", usage(25, 2)),
    bedrock("no-metadata.eventstream", None),
    bedrock("thinking.eventstream", usage(25, 60)),
    bedrock("tools.eventstream", usage(25, 89)),
    Expected { outcome: Outcome::Open, ..bedrock("truncated.eventstream", None) },
    bedrock("unknown.eventstream", usage(25, 7)),
    cohere(
        "chat.sse",
        Some(Usage { prompt: 79, completion: 12, cached: 64, reasoning: 0, cache_write: 0 }),
    ),
    cohere("cited.sse", usage(25, 6)),
    failed(cohere("corrupt.sse", None), Class::Error, "null"),
    failed(cohere("error-first.sse", None), Class::Error, "null"),
    failed(cohere("error-midstream.sse", usage(25, 1)), Class::Content, "null"),
    cohere("length.sse", usage(25, 2)),
    cohere("thinking.sse", usage(25, 60)),
    failed(cohere("timeout.sse", None), Class::Error, "null"),
    cohere("tools.sse", usage(90, 31)),
    Expected { outcome: Outcome::Open, ..cohere("truncated.sse", None) },
    cohere("unknown.sse", usage(25, 7)),
];

fn folder(format: Format) -> PathBuf {
    let name = if format == Format::Bedrock { "bedrock" } else { "cohere" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read(format: Format, file: &str) -> Vec<u8> {
    std::fs::read(folder(format).join(file)).unwrap()
}

/// What the client is to get.
fn golden(format: Format, file: &str, found: &[u8]) -> Vec<u8> {
    let (name, extension) = file.rsplit_once('.').unwrap();
    let extension = if extension == "json" { "json" } else { "sse" };
    let file = format!("{name}.openai.{extension}");
    if std::env::var_os("KEYWARD_BLESS").is_some() {
        std::fs::write(folder(format).join(&file), found).unwrap();
    }
    read(format, &file)
}

fn translation(format: Format, streamed: bool) -> Translation {
    let setup = Setup {
        endpoint: Endpoint::ChatCompletions,
        format,
        include_usage: true,
        model: "the-target".to_owned(),
        created: 1_790_000_000,
        nonce: 1,
        echo: Echo::default(),
    };
    Translation::new(setup, streamed)
}

fn fed(translation: &mut Translation, pieces: &[&[u8]]) -> Vec<u8> {
    let last = pieces.len() - 1;
    pieces.iter().enumerate().flat_map(|(i, piece)| translation.feed(piece, i == last)).collect()
}

fn check(expected: &Expected, pieces: &[&[u8]], client: &[u8], how: &str) {
    let mut translation = translation(expected.format, true);
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
    for (format, extension) in [(Format::Bedrock, ".eventstream"), (Format::Cohere, ".sse")] {
        let found: BTreeSet<String> = std::fs::read_dir(folder(format))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(extension) && !name.ends_with(".openai.sse"))
            .collect();
        let of_format = STREAMS.iter().filter(|stream| stream.format == format);
        assert_eq!(found, of_format.map(|stream| stream.file.to_owned()).collect());
    }
}

#[test]
fn however_it_is_cut() {
    for expected in STREAMS {
        let bytes = read(expected.format, expected.file);
        let whole = fed(&mut translation(expected.format, true), &[&bytes]);
        let client = golden(expected.format, expected.file, &whole);
        check(expected, &[&bytes], &client, "whole");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        check(expected, &single, &client, "byte by byte");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            check(expected, &[head, tail], &client, &format!("cut at {cut}"));
        }
    }
}

#[test]
fn a_stream_that_ends_early_is_no_success() {
    for expected in STREAMS.iter().filter(|stream| stream.outcome == Outcome::Complete) {
        let bytes = read(expected.format, expected.file);
        for cut in 0..bytes.len() {
            let mut translation = translation(expected.format, true);
            let out = fed(&mut translation, &[bytes.get(..cut).unwrap()]);
            let done = out.ends_with(b"data: [DONE]\n\n");
            assert_eq!(
                done,
                translation.outcome() == Outcome::Complete,
                "{}, {cut}",
                expected.file
            );
            let finished = String::from_utf8(out).unwrap().contains(r#""finish_reason":""#);
            assert!(finished || !done, "{}, cut off at {cut}", expected.file);
        }
    }
}

/// The checksums find what is flipped; of the rest of it nothing reaches the client.
#[test]
fn a_corrupted_event_stream_is_no_success() {
    let bytes = read(Format::Bedrock, "chat.eventstream");
    let client = read(Format::Bedrock, "chat.openai.sse");
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        *broken.get_mut(at).unwrap() ^= 0x20;
        let mut translation = translation(Format::Bedrock, true);
        let out = fed(&mut translation, &[&broken]);
        assert_eq!(translation.outcome(), Outcome::Failed, "byte {at}");
        let events = out.split_inclusive(|byte| *byte == b'\n').filter(|line| line.len() > 1);
        let foreign = |line: &&[u8]| {
            !line.starts_with(b"data: {\"error\":")
                && !client.windows(line.len()).any(|known| known == *line)
        };
        assert_eq!(events.filter(foreign).count(), 0, "byte {at}");
    }
}

#[test]
fn no_token_waits_for_the_next() {
    let bytes = read(Format::Bedrock, "chat.eventstream");
    let mut translation = translation(Format::Bedrock, true);
    let mut tokens = 0;
    let mut rest = bytes.as_slice();
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (message, after) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let out = String::from_utf8(translation.feed(message, false)).unwrap();
        if message.windows(17).any(|part| part == b"contentBlockDelta") {
            assert!(out.contains(r#""content":""#), "{out}");
            tokens += 1;
        }
        rest = after;
    }
    assert_eq!((tokens, translation.outcome()), (3, Outcome::Complete));
}

#[test]
fn a_document_is_whole_or_nothing() {
    for (format, expected) in [
        (
            Format::Bedrock,
            Usage { prompt: 4039, completion: 60, cached: 4000, reasoning: 0, cache_write: 30 },
        ),
        (
            Format::Cohere,
            Usage { prompt: 90, completion: 31, cached: 64, reasoning: 0, cache_write: 0 },
        ),
    ] {
        let bytes = read(format, "tools.json");
        let whole = |pieces: &[&[u8]]| {
            let mut translation = translation(format, false);
            let out = fed(&mut translation, pieces);
            (out, translation)
        };
        let (out, translation) = whole(&[&bytes]);
        let client = golden(format, "tools.json", &out);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&client));
        assert_eq!(translation.usage(), Some(expected));
        let end = bytes.trim_ascii_end().len();
        for cut in 0..end {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(whole(&[head, tail]).0, client, "cut at {cut}");
            let (out, translation) = whole(&[head]);
            assert_eq!(translation.outcome(), Outcome::Failed, "cut off at {cut}");
            assert!(out.starts_with(br#"{"error":{"message":"The provider's answer could not"#));
        }
    }
}

#[test]
fn what_is_no_answer_shows_nothing_of_itself() {
    for (format, body) in [
        (Format::Bedrock, r#"{"Output":{"message":"secret"}}"#),
        (
            Format::Bedrock,
            r#"{"output":{"message":{"content":[{"text":7}]}},"stopReason":"end_turn"}"#,
        ),
        (Format::Bedrock, "<html>502</html>"),
        (Format::Cohere, r#"{"message":"secret"}"#),
        (Format::Cohere, r#"{"message":{"content":[]},"finish_reason":"ERROR"}"#),
        (Format::Cohere, r#"{"message":{"content":[{"type":"text"}]},"finish_reason":"COMPLETE"}"#),
    ] {
        let mut translation = translation(format, false);
        let out = String::from_utf8(translation.feed(body.as_bytes(), true)).unwrap();
        assert!(out.contains("could not be understood") && !out.contains("secret"), "{out}");
        assert_eq!(translation.outcome(), Outcome::Failed);
    }
}
