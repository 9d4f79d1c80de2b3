//! Header bytes of every kind: they go through unchanged, and what is read of them brings nothing down.

use std::sync::LazyLock;

use crate::host::{Fields, remove, set, value};
use crate::message::{End, Request, Script, Sent};
use crate::router::{exchange, exchange_standalone};
use crate::scene::{Single, Worker, chat, completion, document, process, rate_limited};

/// Values that some header parser somewhere did not expect.
static ODD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let texts: [&[u8]; 16] = [
        b"",
        b" ",
        b"\xff",
        b"\xc3\x28",
        b"a\0b",
        b"a\r\nb: c",
        b"-1",
        b"0",
        b"1e400",
        b"99999999999999999999999999",
        b"NaN",
        b"0x10",
        b";,=\"",
        b"/v1/chat/completions?%ff=\xff#\xfe",
        b"Bearer ",
        "Fri, 31 Feb 99999 25:61:61 GMT ☃".as_bytes(),
    ];
    let mut values: Vec<_> = texts.into_iter().map(<[u8]>::to_vec).collect();
    values.push(vec![b'7'; 64 << 10]);
    values.push(vec![0xff; 64 << 10]);
    values
});

const READ_OF_REQUESTS: [&str; 24] = [
    ":method",
    ":path",
    ":scheme",
    ":authority",
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "accept-encoding",
    "cookie",
    "x-session",
    "x-keyward-state",
    "x-keyward-cluster",
    "x-keyward-retry",
    "x-keyward-answered",
    "x-keyward-secret-1",
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-original-url",
    "x-request-id",
];

const READ_OF_ANSWERS: [&str; 21] = [
    ":status",
    "content-type",
    "content-length",
    "content-encoding",
    "location",
    "retry-after",
    "retry-after-ms",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-should-retry",
    "x-keyward-retry",
    "x-keyward-state",
    "x-keyward-answered",
    "set-cookie",
    "date",
];

/// Fields that are nobody's business, in an order that must stay.
fn foreign() -> Fields {
    let mut fields: Fields = vec![
        (b"x-odd".into(), b"\xff\xfe".into()),
        (b"\xffname".into(), b"value".into()),
        (b"x-empty".into(), b"".into()),
        (b"x-twice".into(), b"first".into()),
        (b"x-twice".into(), b"second".into()),
        (b"x-zero".into(), b"a\0b".into()),
        (b"x-large".into(), vec![b'v'; 64 << 10]),
        (vec![b'n'; 64 << 10], b"value".into()),
        (b"".into(), b"no name".into()),
    ];
    fields.extend((0..500).map(|n| (format!("x-many-{n}").into_bytes(), b"1".to_vec())));
    fields
}

fn with_foreign(script: Script) -> Script {
    let Script::Answer { mut headers, chunks, end } = script else { return script };
    headers.extend(foreign());
    Script::Answer { headers, chunks, end }
}

fn assert_has_foreign(fields: &Fields) {
    let known = foreign();
    let found: Fields = fields.iter().filter(|field| known.contains(field)).cloned().collect();
    assert_eq!(found.len(), known.len());
    assert!(found == known, "the order changed");
}

#[test]
fn foreign_headers_go_through_unchanged() {
    let mut request = chat("fast", false);
    request.headers.extend(foreign());
    let mut attempts = 0;
    let mut provider = |sent: &Sent| {
        assert_has_foreign(&sent.headers);
        attempts += 1;
        with_foreign(if attempts == 1 { rate_limited() } else { completion() })
    };
    let answer = Worker::new(&document()).exchange(&request, &mut provider);
    assert_eq!(answer.status, 200);
    assert_has_foreign(&answer.headers);
    for mode in ["headers", "body"] {
        let answer = Single::new(&process(1), mode).exchange(&request, &mut provider);
        assert_eq!(answer.status, 200);
        assert_has_foreign(&answer.headers);
    }
    assert_eq!(attempts, 4);
}

#[test]
fn no_value_of_a_request_header_traps_or_brings_a_secret_out() {
    let request = chat("fast", false);
    check(READ_OF_REQUESTS.iter().flat_map(|name| {
        variants(&request.headers, name)
            .map(|headers| (*name, Request { headers, ..request.clone() }, completion()))
    }));
}

#[test]
fn no_value_of_an_answer_header_traps_or_brings_a_secret_out() {
    let stream = Script::stream(vec![b"data: {}\n\n".to_vec()], End::WithTrailers);
    for script in [completion(), rate_limited(), stream] {
        let Script::Answer { headers, chunks, end } = script else { panic!("an answer") };
        check(READ_OF_ANSWERS.iter().flat_map(|name| {
            let chunks = chunks.clone();
            variants(&headers, name).map(move |headers| {
                let script = Script::Answer { headers, chunks: chunks.clone(), end };
                (*name, chat("fast", true), script)
            })
        }));
    }
}

/// The headers without `name`, with each odd value for it, and with two.
fn variants<'a>(headers: &'a Fields, name: &'a str) -> impl Iterator<Item = Fields> + use<'a> {
    let without = || {
        let mut headers = headers.clone();
        remove(&mut headers, name.as_bytes());
        headers
    };
    let one = ODD.iter().map(|value| {
        let mut headers = headers.clone();
        set(&mut headers, name.as_bytes(), value);
        headers
    });
    let two = ODD.iter().take(4).map(move |value| {
        let mut headers = headers.clone();
        headers.push((name.as_bytes().to_vec(), value.clone()));
        headers
    });
    one.chain(two).chain([without()])
}

/// Runs each case on all stages. What becomes of it is open, but it goes by without a trap, and an ordinary
/// request is served afterwards.
fn check(cases: impl Iterator<Item = (&'static str, Request, Script)>) {
    let mut worker = Worker::new(&document());
    let process = worker.process.clone();
    let mut singles = ["headers", "body"].map(|mode| Single::new(&process, mode));
    for (name, request, script) in cases {
        let provider = &mut |_: &Sent| script.clone();
        let mut answers = vec![exchange(&mut worker.vm, worker.stages, &request, provider)];
        for single in &mut singles {
            let (vm, root) = (&mut single.vm, single.root);
            answers.push(exchange_standalone(vm, root, "alpha", &request, provider));
        }
        for answer in answers {
            let answer = answer.unwrap_or_else(|trap| panic!("{name}: {trap}"));
            assert_eq!(answer.leak(), None, "{name}");
            assert_eq!(value(&answer.headers, "x-keyward-state"), None, "{name}");
        }
        process.advance_ms(48 * 3_600_000);
    }
    assert_eq!(worker.exchange(&chat("fast", false), |_| completion()).status, 200);
}
