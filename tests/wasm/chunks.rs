//! Bytes come in pieces of any size, and what comes out does not show it.

use keyward::usage::Usage;
use serde_json::Value;

use crate::host::{Process, text};
use crate::message::{Answer, End, Request, Script, Sent};
use crate::scene::{
    Single, Worker, chat, completion, cuts, document, post, process, rate_limited, single_bytes,
};

const STREAMS: [&str; 7] = [
    "chat-stream-usage",
    "error-first",
    "error-midstream",
    "odd-lines",
    "responses-failed",
    "responses-stream",
    "truncated",
];

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openai");
    std::fs::read(format!("{folder}/{name}.sse")).unwrap()
}

fn request_for(stream: &str) -> Request {
    if stream.starts_with("responses") {
        post("/v1/responses", r#"{"model":"fast","stream":true,"input":"Hi"}"#)
    } else {
        chat("fast", true)
    }
}

/// What a client gets and what is counted when the first answer of a provider comes in these chunks.
type Seen = (u16, String, bool, Usage, u64);

fn see(process: &Process, exchange: impl FnOnce() -> Answer) -> Seen {
    // Rests of the exchange before are over.
    process.advance_ms(3_600_000);
    let before = process.shared.tally("fast");
    let answer = exchange();
    let after = process.shared.tally("fast");
    let (now, then) = (after.tokens, before.tokens);
    let usage = Usage {
        prompt: now.prompt - then.prompt,
        completion: now.completion - then.completion,
        cached: now.cached - then.cached,
        reasoning: now.reasoning - then.reasoning,
        cache_write: now.cache_write - then.cache_write,
    };
    let requests = after.requests - before.requests;
    let body = String::from_utf8(answer.body).unwrap();
    // The filter's own hint has jitter.
    let body = body.split("retry_after_ms").next().unwrap().to_owned();
    (answer.status, body, answer.complete, usage, requests)
}

/// Checks that every division of `whole` is seen as the whole is.
fn check(name: &str, whole: &[u8], mut seen: impl FnMut(Vec<Vec<u8>>, End) -> Seen) -> Seen {
    let expected = seen(vec![whole.to_vec()], End::WithLastChunk);
    for end in [End::WithEmptyChunk, End::WithTrailers] {
        assert_eq!(seen(vec![whole.to_vec()], end), expected, "{name}, {end:?}");
        assert_eq!(seen(single_bytes(whole), end), expected, "{name} by bytes, {end:?}");
    }
    for chunks in cuts(whole) {
        let at = chunks[0].len();
        assert_eq!(seen(chunks, End::WithLastChunk), expected, "{name}, cut at {at}");
    }
    expected
}

#[test]
fn streams_through_both_stages() {
    let mut worker = Worker::new(&document());
    let process = worker.process.clone();
    for name in STREAMS {
        let request = request_for(name);
        let seen = check(name, &fixture(name), |chunks, end| {
            let mut first = Some(Script::stream(chunks, end));
            see(&process, || worker.exchange(&request, |_| first.take().unwrap_or_else(completion)))
        });
        let (status, _, complete, _, requests) = seen;
        assert_eq!((status, complete, requests), (200, true, 1), "{name}");
    }
}

#[test]
fn streams_through_a_single_stage() {
    for mode in ["headers", "body"] {
        let process = process(1);
        let mut single = Single::new(&process, mode);
        for name in ["chat-stream-usage", "error-first", "truncated", "odd-lines"] {
            check(name, &fixture(name), |chunks, end| {
                let request = request_for(name);
                let stream = Script::stream(chunks, end);
                see(&process, || single.exchange(&request, |_| stream.clone()))
            });
        }
    }
}

#[test]
fn a_stream_goes_on_byte_for_byte_but_for_the_usage_that_nobody_asked_for() {
    let whole = fixture("chat-stream-usage");
    let hidden = String::from_utf8(whole.clone()).unwrap();
    let hidden: String =
        hidden.split_inclusive("\n\n").filter(|event| !event.contains(r#""choices":[]"#)).collect();
    assert_ne!(hidden.as_bytes(), whole);
    let asking = r#"{"model":"fast","stream":true,"stream_options":{"include_usage":true}}"#;
    let cases = [
        (chat("fast", true), hidden.as_bytes()),
        (post("/v1/chat/completions", asking), whole.as_slice()),
    ];
    let mut worker = Worker::new(&document());
    let process = worker.process.clone();
    for (request, expected) in cases {
        let (_, body, _, usage, _) = see(&process, || {
            worker.exchange(&request, |_| Script::stream(single_bytes(&whole), End::WithEmptyChunk))
        });
        assert_eq!(body.as_bytes(), expected);
        let counted =
            Usage { prompt: 31, completion: 12, cached: 16, reasoning: 8, cache_write: 0 };
        assert_eq!(usage, counted);
    }
}

#[test]
fn json_answers() {
    let bad = r#"{"error":{"message":"no","type":"invalid_request_error","code":null}}"#;
    let client_fault = Script::json(400, &[], bad);
    let mut worker = Worker::new(&document());
    let process = worker.process.clone();
    for (name, script, status, prompt) in [
        ("completion", completion(), 200, 5),
        // The next key gives the good answer.
        ("rate limit", rate_limited(), 200, 5),
        ("client's fault", client_fault, 400, 0),
    ] {
        let Script::Answer { headers, chunks, .. } = script else { panic!("an answer") };
        let seen = check(name, &chunks.concat(), |chunks, end| {
            let mut first = Some(Script::Answer { headers: headers.clone(), chunks, end });
            see(&process, || {
                worker.exchange(&chat("fast", false), |_| first.take().unwrap_or_else(completion))
            })
        });
        assert_eq!((seen.0, seen.3.prompt), (status, prompt), "{name}");
    }
}

#[test]
fn request_bodies() {
    let whole = &chat("fast", true).chunks[0];
    let mut worker = Worker::new(&document());
    let mut divisions: Vec<_> = cuts(whole).map(|chunks| (chunks, End::WithLastChunk)).collect();
    for end in [End::WithLastChunk, End::WithEmptyChunk, End::WithTrailers] {
        divisions.push((single_bytes(whole), end));
        divisions.push((vec![whole.clone()], end));
    }
    let shared = process(1);
    let mut singles = ["headers", "body"].map(|mode| Single::new(&shared, mode));
    for (chunks, end) in divisions {
        let request = Request { chunks, end, ..chat("fast", true) };
        let mut bodies = Vec::new();
        let mut provider = |sent: &Sent| {
            // Right or not there: a wrong one would cut the body off.
            let length = text(&sent.headers, "content-length");
            assert!(length.is_none_or(|length| length == sent.body.len().to_string()));
            bodies.push(sent.body.clone());
            if bodies.len() == 1 { rate_limited() } else { completion() }
        };
        assert_eq!(worker.exchange(&request, &mut provider).status, 200);
        for single in &mut singles {
            assert_eq!(single.exchange(&request, &mut provider).status, 200);
        }
        worker.process.advance_ms(3_600_000);
        shared.advance_ms(3_600_000);
        assert_eq!(bodies.len(), 4);
        for body in bodies {
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["model"], "gpt-4o-mini");
            assert_eq!(body["stream_options"]["include_usage"], true);
            assert_eq!(body["messages"][0]["content"], "naïve ☕");
        }
    }
}
