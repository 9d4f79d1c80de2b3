//! Broken connections, and a request that is kept until its provider is back.

use serde_json::{Value, json};

use crate::host::stream::{FilterState, Message};
use crate::message::{Answer, End, Script};
use crate::router::feed;
use crate::scene::{Worker, alpha_alone, chat, completion, document};

/// Between two looks at the gauges, and while requests wait.
const IDLE_PERIOD_MS: u32 = 5_000;
const WAIT_PERIOD_MS: u32 = 50;

/// Nowhere to move to.
fn lone_key() -> Value {
    alpha_alone(&[json!({"id": "a", "secret": {"inline": "sk-a"}})])
}

fn overloaded() -> Script {
    Script::json(503, &[("retry-after", "1")], r#"{"error":{"message":"overloaded"}}"#)
}

/// Runs a request that meets `first`, and then good answers; the answer and the number of attempts.
fn meet(worker: &mut Worker, first: &Script) -> (Answer, usize) {
    let mut attempts = 0;
    let answer = worker.exchange(&chat("fast", true), |_| {
        attempts += 1;
        if attempts == 1 { first.clone() } else { completion() }
    });
    (answer, attempts)
}

#[test]
fn a_connection_that_breaks_before_the_first_event_is_made_up_for() {
    let comment = b": OPENROUTER PROCESSING\n\n".to_vec();
    for document in [document(), lone_key()] {
        for first in [
            Script::Refused,
            Script::stream(Vec::new(), End::Reset),
            Script::stream(vec![comment.clone()], End::Reset),
            Script::stream(vec![comment.clone()], End::WithTrailers),
        ] {
            let (answer, attempts) = meet(&mut Worker::new(&document), &first);
            assert_eq!((answer.status, answer.complete, attempts), (200, true, 2), "{first:?}");
        }
    }
}

#[test]
fn a_connection_that_breaks_after_content_is_not() {
    let content = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".to_vec();
    let first = Script::stream(vec![content.clone()], End::Reset);
    let (answer, attempts) = meet(&mut Worker::new(&document()), &first);
    assert_eq!((answer.status, answer.complete, attempts), (200, false, 1));
    assert_eq!(answer.body, content);
}

#[test]
fn a_request_is_kept_until_its_provider_is_back() {
    let mut worker = Worker::new(&lone_key());
    assert_eq!(worker.vm.tick_period_ms(worker.stages.attempt), IDLE_PERIOD_MS);
    let start = worker.process.now_ms();
    let (answer, attempts) = meet(&mut worker, &overloaded());
    assert_eq!((answer.status, attempts), (200, 2));
    let waited = worker.process.now_ms() - start;
    assert!((1_000..1_000 + 2 * u64::from(WAIT_PERIOD_MS)).contains(&waited), "{waited} ms");
    assert_eq!(worker.vm.tick_period_ms(worker.stages.attempt), IDLE_PERIOD_MS);
}

#[test]
fn a_request_may_end_while_it_is_kept() {
    for calls_done in [true, false] {
        let mut worker = Worker::new(&lone_key());
        let (stages, request) = (worker.stages, chat("fast", true));
        let vm = &mut worker.vm;
        let state = FilterState::default();
        let gateway = vm.open(stages.gateway, &state).unwrap();
        feed(vm, gateway, Message::Request, &request.headers, &request.chunks, request.end)
            .unwrap();
        let headers = vm.stream(gateway).request.out.headers.clone().unwrap();
        let body = core::mem::take(&mut vm.stream(gateway).request.out.body);
        let mut attempts = (1..=2_u64).map(|number| {
            let attempt = vm.open(stages.attempt, &state).unwrap();
            let count = ["upstream", "request_attempt_count"];
            vm.stream(attempt).property(&count, number.to_le_bytes());
            let chunks = core::slice::from_ref(&body);
            feed(vm, attempt, Message::Request, &headers, chunks, End::WithLastChunk).unwrap();
            if number == 1 {
                let Script::Answer { headers, chunks, end } = overloaded() else { panic!() };
                feed(vm, attempt, Message::Response, &headers, &chunks, end).unwrap();
                vm.close(attempt, true).unwrap();
            }
            attempt
        });
        let kept = attempts.nth(1).unwrap();
        assert!(vm.stream(kept).request.out.headers.is_none());
        assert_eq!(vm.tick_period_ms(stages.attempt), WAIT_PERIOD_MS);
        if calls_done {
            vm.close(kept, true).unwrap();
        } else {
            vm.delete(kept).unwrap();
        }
        vm.close(gateway, false).unwrap();
        worker.process.advance_ms(2_000);
        worker.vm.tick(stages.attempt).unwrap();
        assert_eq!(worker.vm.tick_period_ms(stages.attempt), IDLE_PERIOD_MS);
        worker.process.advance_ms(3_600_000);
        assert_eq!(meet(&mut worker, &completion()).0.status, 200);
    }
}
