//! What an instance and the process keep is bounded by the configuration, not by what comes in.

use std::collections::BTreeSet;

use crate::host::stream::{FilterState, Message};
use crate::host::vm::Vm;
use crate::host::{Process, fields, remove, set};
use crate::message::{End, Request, Script};
use crate::router::feed;
use serde_json::json;

use crate::scene::{
    Single, Worker, as_struct, chat, completion, detour, document, get, post, process,
};

const MIB: usize = 1 << 20;

/// Everything that could grow.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    /// Linear memory in bytes.
    memory: usize,
    slots: BTreeSet<String>,
    metrics: usize,
}

fn kept(process: &Process, vm: &Vm) -> Kept {
    Kept {
        memory: vm.memory_size(),
        slots: process.shared.slots(),
        metrics: process.metrics.all().len(),
    }
}

#[test]
fn ten_thousand_requests_take_no_more_than_the_first_thousand() {
    let stream = include_bytes!("../fixtures/openai/usage-with-finish.sse");
    let stream = Script::stream(vec![stream.to_vec()], End::WithEmptyChunk);
    let broken = Script::stream(vec![b"data: {".to_vec()], End::Reset);
    let mut worker = Worker::new(&document());
    let mut before = None;
    for number in 0..10_000 {
        let answer = match number % 10 {
            0 => worker.exchange(&chat("fast", false), detour),
            1 => worker.exchange(&chat("fast", true), |_| broken.clone()),
            _ => worker.exchange(&chat("fast", true), |_| stream.clone()),
        };
        assert!(answer.status >= 200);
        worker.process.advance_ms(30_000);
        if number == 1_000 {
            before = Some(kept(&worker.process, &worker.vm));
        }
    }
    assert_eq!(kept(&worker.process, &worker.vm), before.unwrap());
}

#[test]
fn what_clients_make_up_is_not_remembered() {
    let mut worker = Worker::new(&document());
    let mut before = None;
    for number in 0..50_000 {
        refused(&mut worker, &chat(&format!("made-up-{number}"), false));
        refused(&mut worker, &get(&format!("/v1/made/up/{number}")));
        if number % 10 == 0 {
            let mut session = chat(&format!("alpha-{number}"), false);
            session.headers.extend(fields(&[("x-session", &format!("session-{number}"))]));
            assert_eq!(worker.exchange(&session, |_| completion()).status, 200);
        }
        if number == 1_000 {
            before = Some(kept(&worker.process, &worker.vm));
        }
    }
    assert_eq!(kept(&worker.process, &worker.vm), before.unwrap());
}

/// The gateway stage alone, for it answers itself.
fn refused(worker: &mut Worker, request: &Request) {
    let vm = &mut worker.vm;
    let context = vm.open(worker.stages.gateway, &FilterState::default()).unwrap();
    let message = Message::Request;
    feed(vm, context, message, &request.headers, &request.chunks, request.end).unwrap();
    assert_eq!(vm.stream(context).reply.as_ref().unwrap().status, 404);
    vm.close(context, false).unwrap();
}

#[test]
fn bodies_of_ten_megabytes_move_on_and_are_not_kept() {
    let text = "x".repeat(10 * MIB);
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"model":"fast"}}"#);
    let chunks: Vec<_> = body.as_bytes().chunks(256 << 10).map(<[u8]>::to_vec).collect();
    let request = Request { chunks, ..post("/v1/chat/completions", &body) };
    let mut worker = Worker::new(&document());
    for _ in 0..3 {
        let mut attempts = 0;
        let answer = worker.exchange(&request, |sent| {
            attempts += 1;
            assert!(sent.body.len() > 10 * MIB);
            detour(sent)
        });
        assert_eq!((answer.status, attempts), (200, 3));
        worker.process.advance_ms(3_600_000);
        // The body as it came and as it goes on.
        assert!(worker.vm.memory_size() < 25 * MIB, "{}", worker.vm.memory_size());
    }
    let process = process(1);
    for mode in ["headers", "body"] {
        let mut single = Single::new(&process, mode);
        assert_eq!(single.exchange(&request, |_| completion()).status, 200);
        assert!(single.vm.memory_size() < 25 * MIB, "{}", single.vm.memory_size());
    }
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let mut document = document();
    document["max_body"] = "1KiB".into();
    let mut worker = Worker::new(&document);
    let mut long = chat("fast", false);
    long.chunks = vec![vec![b' '; 1024], long.chunks.concat()];
    // With and without a length to tell it by.
    for keeps_length in [false, true] {
        let mut request = long.clone();
        if keeps_length {
            set(&mut request.headers, b"content-length", b"2000");
        } else {
            remove(&mut request.headers, b"content-length");
        }
        let answer = worker.exchange(&request, |_| panic!("nothing is sent"));
        assert_eq!(answer.status, 413);
    }
}

#[test]
fn twenty_thousand_consumers_fit_a_worker() {
    let consumer = |n: usize| {
        let key = json!({"sha256": format!("{n:064x}")});
        let limit = json!({"requests": 60, "per": "minute"});
        json!({"name": format!("consumer-{n}"), "keys": [key], "limits": [limit]})
    };
    let mut document = document();
    document["consumers"] = (0..20_000).map(consumer).collect();
    document["anonymous"] = "refuse".into();
    let bytes = as_struct(&document);
    let mut vm = Vm::new(&process(1));
    // The second document is read beside what is kept of the first one.
    for (stage, most) in [("gateway", 46), ("attempt", 56)] {
        assert!(vm.start(stage, &bytes).unwrap().1);
        assert!(vm.memory_size() < most * MIB, "{stage}: {} bytes", vm.memory_size());
    }
}
