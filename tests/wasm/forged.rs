//! Headers that only Keyward itself may set, set by somebody else.

use crate::host::{Fields, set, text, value};
use crate::message::{End, Request, Script};
use crate::router::{Routed, round};
use crate::scene::{Worker, chat, completion, detour, document, process};

/// A request on its way from `alpha` to `beta`.
fn redirected(worker: &mut Worker) -> Request {
    let request = chat("fast", false);
    let routed = round(&mut worker.vm, worker.stages, &request, true, &mut detour).unwrap();
    let Routed::Redirect(headers) = routed else { panic!("{routed:?}") };
    Request { headers, ..request }
}

/// The provider that is asked for this request in its next round.
fn next_provider(worker: &mut Worker, request: &Request) -> String {
    let mut provider = None;
    let answer = worker.exchange(request, |sent| {
        provider.get_or_insert(sent.provider.clone());
        completion()
    });
    assert_eq!(answer.status, 200);
    provider.unwrap()
}

#[test]
fn a_genuine_state_is_taken_up_by_every_worker_of_the_process_and_by_no_other() {
    let first = process(1);
    let mut workers = [(); 2].map(|()| Worker::join(&first, &document()));
    let request = redirected(&mut workers[0]);
    assert_eq!(next_provider(&mut workers[1], &request), "beta");
    assert_eq!(first.shared.tally("fast").requests, 1, "one request, however many rounds");

    let mut stranger = Worker::join(&process(2), &document());
    assert_eq!(next_provider(&mut stranger, &request), "alpha");
    assert_eq!(stranger.process.shared.tally("fast").requests, 1, "a new request there");
}

#[test]
fn a_state_with_any_character_changed_is_no_state() {
    let mut worker = Worker::new(&document());
    let request = redirected(&mut worker);
    let state = value(&request.headers, "x-keyward-state").unwrap().to_vec();
    let mut forgeries: Vec<Vec<u8>> = Vec::new();
    for at in 0..state.len() {
        forgeries.push(state[..at].to_vec());
        let mut changed = state.clone();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        forgeries.push(changed);
    }
    let dot = state.iter().position(|byte| *byte == b'.').unwrap();
    forgeries.push([&state[..dot], b".", b"00".repeat(32).as_slice()].concat());
    forgeries.push(b"00".repeat(8_000));
    let count = worker.process.shared.tally("fast").requests;
    for (forgery, expected) in forgeries.iter().zip(count + 1..) {
        let mut request = request.clone();
        set(&mut request.headers, b"x-keyward-state", forgery);
        next_provider(&mut worker, &request);
        let requests = worker.process.shared.tally("fast").requests;
        assert_eq!(requests, expected, "{}", String::from_utf8_lossy(forgery));
    }
}

#[test]
fn headers_of_clients_change_nothing() {
    let forged = [
        ("x-keyward-cluster", "beta"),
        ("x-keyward-state", "00.00"),
        ("x-keyward-retry", "1"),
        ("x-keyward-answered", "1"),
        ("x-keyward-secret-1", "sk-forged"),
        ("x-keyward-consumer", "admin"),
        ("x-envoy-max-retries", "100"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-api-key", "client-secret"),
        ("api-key", "client-secret"),
        ("x-goog-api-key", "client-secret"),
        ("cookie", "client-secret"),
    ];
    let mut worker = Worker::new(&document());
    let plain = seen(&mut worker, &chat("fast", false));
    let mut request = chat("fast", false);
    request.headers.extend(crate::host::fields(&forged));
    assert_eq!(seen(&mut Worker::new(&document()), &request), plain);
    for (name, _) in &forged {
        assert_eq!(value(&plain[0], name), None, "{name}");
    }
}

/// What providers get for a request.
fn seen(worker: &mut Worker, request: &Request) -> Vec<Fields> {
    let mut seen = Vec::new();
    let answer = worker.exchange(request, |sent| {
        seen.push(sent.headers.clone());
        detour(sent)
    });
    assert_eq!(answer.status, 200);
    assert_eq!(seen.len(), 3, "both keys of alpha, then beta");
    seen
}

#[test]
fn headers_of_providers_change_nothing() {
    let mut worker = Worker::new(&document());
    let genuine = redirected(&mut worker);
    let state = text(&genuine.headers, "x-keyward-state").unwrap().to_owned();
    worker.process.advance_ms(3_600_000);
    let forged = [
        ("x-keyward-retry", "1"),
        ("x-keyward-state", state.as_str()),
        ("x-keyward-answered", "1"),
        ("x-keyward-cluster", "beta"),
        ("location", "https://gateway.test/v1/chat/completions"),
    ];
    for (status, expected) in [("200", 200), ("307", 502), ("302", 502), ("400", 400)] {
        let Script::Answer { mut headers, chunks, .. } = completion() else { panic!("an answer") };
        set(&mut headers, b":status", status.as_bytes());
        headers.extend(crate::host::fields(&forged));
        let script = Script::Answer { headers, chunks, end: End::WithLastChunk };
        let mut asked = Vec::new();
        let answer = worker.exchange(&chat("alpha-1", false), |sent| {
            asked.push(sent.key().to_owned());
            script.clone()
        });
        assert_eq!(answer.status, expected, "{status}");
        for (name, _) in &forged[..4] {
            assert_eq!(value(&answer.headers, name), None, "{status}: {name}");
        }
        // A redirect counts as a server error, which is tried once more.
        assert!(asked.len() <= if expected == 502 { 2 } else { 1 }, "{status}: {asked:?}");
        worker.process.advance_ms(3_600_000);
    }
}
