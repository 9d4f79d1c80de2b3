//! Every stream fixture, in every spelling the standard allows and cut everywhere: the same bytes go on, the same
//! is understood.
//!
//! The fixtures are written by hand after what the services document and what has been reported of them.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

use std::collections::BTreeSet;
use std::path::Path;

use keyward::observe::{Class, Outcome, Output, StreamObserver};
use keyward::usage::Usage;

struct Expected {
    file: &'static str,
    opening: Option<Class>,
    outcome: Outcome,
    usage: Option<Usage>,
    /// A part of the error, where there is one.
    error: Option<&'static str>,
    /// A part of the event that a client that did not ask for usage does not get.
    hidden: Option<&'static str>,
}

const fn stream(file: &'static str, opening: Option<Class>, outcome: Outcome) -> Expected {
    Expected { file, opening, outcome, usage: None, error: None, hidden: None }
}

const fn usage(prompt: u64, completion: u64, cached: u64, reasoning: u64) -> Usage {
    Usage { prompt, completion, cached, reasoning, cache_write: 0 }
}

const STREAMS: &[Expected] = &[
    stream("azure-stream.sse", Some(Class::Content), Outcome::Complete),
    stream("chat-stream.sse", Some(Class::Content), Outcome::Complete),
    Expected {
        usage: Some(usage(31, 12, 16, 8)),
        hidden: Some(r#""choices":[],"usage":{"#),
        ..stream("chat-stream-usage.sse", Some(Class::Content), Outcome::Complete)
    },
    stream("chat-tools.sse", Some(Class::Content), Outcome::Complete),
    Expected {
        usage: Some(usage(5, 2, 0, 0)),
        hidden: Some(r#""choices":[],"usage":{"#),
        ..stream("completions-stream.sse", Some(Class::Content), Outcome::Complete)
    },
    Expected {
        error: Some(r#""code":"insufficient_quota""#),
        ..stream("error-first.sse", Some(Class::Error), Outcome::Failed)
    },
    Expected {
        error: Some(r#"{"code":502"#),
        ..stream("error-midstream.sse", Some(Class::Content), Outcome::Failed)
    },
    Expected {
        usage: Some(usage(4, 1, 0, 0)),
        hidden: Some(r#""choices" : [ ] , "usage""#),
        ..stream("odd-lines.sse", Some(Class::Content), Outcome::Complete)
    },
    Expected {
        usage: Some(Usage { cache_write: 20, ..usage(25, 1, 0, 0) }),
        hidden: Some(r#""choices":[],"usage":{"#),
        ..stream("openrouter-comments.sse", Some(Class::Content), Outcome::Complete)
    },
    Expected {
        error: Some(r#""code":"server_error""#),
        ..stream("responses-error.sse", Some(Class::Error), Outcome::Failed)
    },
    Expected {
        error: Some(r#"{"code":"rate_limit_exceeded""#),
        ..stream("responses-failed.sse", Some(Class::Error), Outcome::Failed)
    },
    Expected {
        usage: Some(usage(40, 9, 32, 4)),
        ..stream("responses-stream.sse", Some(Class::Content), Outcome::Complete)
    },
    stream("truncated.sse", Some(Class::Content), Outcome::Open),
    Expected {
        usage: Some(usage(20, 3, 15, 0)),
        ..stream("usage-with-finish.sse", Some(Class::Content), Outcome::Complete)
    },
];

type Spell = fn(&str) -> String;

/// Spellings of one stream that mean the same.
const SPELLINGS: &[(&str, Spell)] = &[
    ("as it is", str::to_owned),
    ("CRLF", |text| text.replace('\n', "\r\n")),
    ("CR", |text| text.replace('\n', "\r")),
    ("byte order mark", |text| format!("\u{feff}{text}")),
    ("no space", |text| text.replace("data: ", "data:")),
];

#[test]
fn every_fixture_has_its_expectation() {
    let files = std::fs::read_dir(fixtures()).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let streams: BTreeSet<String> =
        files.into_iter().filter(|name| name.ends_with(".sse")).collect();
    let expected: BTreeSet<String> = STREAMS.iter().map(|e| e.file.to_owned()).collect();
    assert_eq!(streams, expected);
}

#[test]
fn the_client_that_asked_gets_every_byte() {
    each_spelling(|case, input, _| case.check_all_cuts(false, input, input));
}

#[test]
fn the_client_that_did_not_ask_gets_every_byte_but_the_usage_event() {
    each_spelling(|case, input, without_usage| case.check_all_cuts(true, input, without_usage));
}

fn each_spelling(check: impl Fn(&Case<'_>, &[u8], &[u8])) {
    for expected in STREAMS {
        let text = std::fs::read_to_string(fixtures().join(expected.file)).unwrap();
        let without_usage = match expected.hidden {
            None => text.clone(),
            Some(part) => {
                let events = text.split_inclusive("\n\n");
                let (hidden, rest): (Vec<&str>, Vec<&str>) =
                    events.partition(|event| event.contains(part));
                assert_eq!(hidden.len(), 1, "{}", expected.file);
                rest.concat()
            }
        };
        for (spelling, spell) in SPELLINGS {
            let case = Case { expected, spelling };
            check(&case, spell(&text).as_bytes(), spell(&without_usage).as_bytes());
        }
    }
}

#[test]
fn broken_streams_are_the_same_in_every_cut_too() {
    let mut seed = 1_u32;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    let observe = |pieces: &[&[u8]], hide_usage: bool| {
        let mut observer = StreamObserver::new(hide_usage);
        let passed = pass(&mut observer, pieces);
        (passed, observer.opening(), observer.outcome(), observer.usage())
    };
    let mut hidden = 0;
    for expected in STREAMS {
        let text = std::fs::read_to_string(fixtures().join(expected.file)).unwrap();
        for round in 0..300 {
            let (_, spell) = SPELLINGS[round % SPELLINGS.len()];
            let mut input = spell(&text).into_bytes();
            for _ in 0..3 {
                let at = random(input.len());
                input[at] = b"\r\n:{}[]\",\\ \xEF0"[random(13)];
            }
            let (head, tail) = input.split_at(random(input.len()));
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            for hide_usage in [false, true] {
                let whole = observe(&[&input], hide_usage);
                assert!(hide_usage || whole.0 == input);
                assert_eq!(observe(&[head, tail], hide_usage), whole);
                assert_eq!(observe(&bytes, hide_usage), whole);
                hidden += usize::from(whole.0 != input);
            }
        }
    }
    assert!(hidden > 300, "{hidden}");
}

struct Case<'a> {
    expected: &'a Expected,
    spelling: &'a str,
}

impl Case<'_> {
    fn check_all_cuts(&self, hide_usage: bool, input: &[u8], output: &[u8]) {
        self.check(hide_usage, &[input], output, "whole");
        self.check(hide_usage, &[input, b""], output, "whole, then the end");
        for cut in 1..input.len() {
            let (head, tail) = input.split_at(cut);
            self.check(hide_usage, &[head, tail], output, "cut once");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        self.check(hide_usage, &bytes, output, "byte by byte");
        let (mut events, mut rest) = (Vec::new(), input);
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            let (event, after) = rest.split_at(end + 2);
            events.push(event);
            rest = after;
        }
        events.push(rest);
        self.check(hide_usage, &events, output, "event by event");
        let mut seed = 1_u32;
        for _ in 0..50 {
            let (mut pieces, mut rest) = (Vec::new(), input);
            while !rest.is_empty() {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (piece, after) = rest.split_at(rest.len().min((seed >> 8) as usize % 200));
                pieces.push(piece);
                rest = after;
            }
            self.check(hide_usage, &pieces, output, "cut at random");
        }
    }

    fn check(&self, hide_usage: bool, pieces: &[&[u8]], output: &[u8], how: &str) {
        let mut observer = StreamObserver::new(hide_usage);
        let passed = pass(&mut observer, pieces);
        let Expected { file, opening, outcome, usage, error, .. } = self.expected;
        let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).take(2).collect();
        let context = format!("{file}, {}, {how}: {lengths:?}", self.spelling);
        assert!(passed == output, "{context}: {}", String::from_utf8_lossy(&passed));
        assert_eq!(observer.opening(), *opening, "{context}");
        assert_eq!(observer.outcome(), *outcome, "{context}");
        assert_eq!(observer.usage(), *usage, "{context}");
        let found = observer.error().map(String::from_utf8_lossy);
        match (&found, error) {
            (Some(found), Some(part)) => assert!(found.contains(part), "{context}: {found}"),
            (found, part) => assert_eq!(found.as_deref(), *part, "{context}"),
        }
    }
}

/// What goes on of the pieces. A delta is not fed, as in the host.
fn pass(observer: &mut StreamObserver, pieces: &[&[u8]]) -> Vec<u8> {
    let mut passed = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let last = number + 1 == pieces.len();
        if !last && observer.is_delta(piece) {
            passed.extend_from_slice(piece);
            continue;
        }
        match observer.feed(piece, last) {
            Output::Unchanged => passed.extend_from_slice(piece),
            Output::Replace(bytes) => passed.extend_from_slice(&bytes),
        }
    }
    passed
}

fn fixtures() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openai"))
}
