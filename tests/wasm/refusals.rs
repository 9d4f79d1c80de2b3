//! Configurations that are refused: with every error, without a secret, and with no effect on what runs.

use serde_json::{Value, json};

use crate::host::fields;
use crate::host::stream::{FilterState, Message};
use crate::host::vm::Vm;
use crate::scene::{Worker, as_struct, chat, completion, document, leaked, process};

const STAGES: [&str; 4] = ["gateway", "attempt", "standalone", ""];
const ERROR: u32 = 4;

/// [`document`] with a mistake in many places, and where they are.
fn many_mistakes() -> (Value, [&'static str; 9]) {
    let mut document = document();
    document["key_pools"] = json!([{"name": "shared", "keys": [{"id": "a", "secret": null}]}]);
    let mistakes = [
        ("/providers/0/kind", json!("opnai"), "providers[0].kind"),
        ("/providers/0/select", json!("best"), "providers[0].select"),
        ("/providers/0/keys/0/id", json!(""), "providers[0].keys[0].id"),
        ("/key_pools/0/keys/0/secret", json!({"env": "MISSING"}), "key_pools[0].keys[0].secret"),
        ("/providers/1/keys/0/secret", json!("sk-beta-only"), "providers[1].keys[0].secret"),
        ("/models/0/targets/0/provider", json!("gamma"), "models[0].targets[0].provider"),
        ("/anonymous", json!({"consumer": "nobody"}), "anonymous"),
        ("/admin/keys/0", json!({"inlined": "admin-secret"}), "admin.keys[0]"),
        ("/max_body", json!("plenty"), "max_body"),
    ];
    for (pointer, value, _) in &mistakes {
        *document.pointer_mut(pointer).unwrap() = value.clone();
    }
    (document, mistakes.map(|(_, _, path)| path))
}

#[test]
fn every_mistake_is_named_by_its_path() {
    let (document, paths) = many_mistakes();
    for configuration in [document.to_string().into_bytes(), as_struct(&document)] {
        for root_id in STAGES {
            let process = process(1);
            let (_, taken) = Vm::new(&process).start(root_id, &configuration).unwrap();
            assert!(!taken);
            let log = process.log();
            let [(ERROR, message)] = log.as_slice() else { panic!("one error: {log:?}") };
            for path in paths {
                assert!(message.contains(path), "{path} is not in {message}");
            }
            assert!(message.contains("MISSING"), "{message}");
            assert_eq!(leaked(message.as_bytes()), None, "{message}");
            assert!(process.shared.slots().is_empty(), "a refused document leaves nothing behind");
        }
    }
}

#[test]
fn an_unknown_stage_is_refused() {
    let process = process(1);
    let document = document().to_string();
    let (_, taken) = Vm::new(&process).start("gatweay", document.as_bytes()).unwrap();
    assert!(!taken);
    let log = process.log();
    assert!(log.iter().any(|(level, message)| *level == ERROR && message.contains("gatweay")));
}

#[test]
fn no_broken_document_traps_or_brings_a_secret_out() {
    let process = process(1);
    let mut vm = Vm::new(&process);
    let json = document().to_string().into_bytes();
    let mut refused = 0;
    let mut start = |bytes: &[u8]| {
        let (root, taken) = vm.start("gateway", bytes).unwrap();
        vm.delete(root).unwrap();
        refused += usize::from(!taken);
        taken
    };
    for whole in [json, as_struct(&document())] {
        assert!(start(&whole));
        for length in (0..whole.len()).step_by(3) {
            // Some prefixes of a Struct are one.
            let cut = &whole[..length];
            assert!(!start(cut) || whole[0] != b'{', "{}", String::from_utf8_lossy(cut));
            let mut flipped = whole.clone();
            flipped[length] ^= 1 << (length % 8);
            start(&flipped);
        }
    }
    for nonsense in [b"\xff".repeat(1 << 16), b"[".repeat(1 << 16), b"{\"a\":".repeat(1 << 14)] {
        assert!(!start(&nonsense));
    }
    let log = process.log();
    let errors = log.iter().filter(|(level, _)| *level == ERROR);
    assert_eq!(errors.count(), refused);
    for (_, message) in &log {
        assert_eq!(leaked(message.as_bytes()), None, "{message}");
    }
}

#[test]
fn without_a_configuration_nothing_goes_on() {
    let process = process(1);
    let mut vm = Vm::new(&process);
    for root_id in STAGES {
        let (root, false) = vm.start(root_id, b"{}").unwrap() else { panic!("taken") };
        vm.tick(root).unwrap();
        let stream = vm.open(root, &FilterState::default()).unwrap();
        vm.headers(stream, Message::Request, chat("fast", false).headers, false).unwrap();
        assert_eq!(vm.stream(stream).reply.as_ref().unwrap().status, 503);
        assert!(vm.stream(stream).request.out.headers.is_none());
        let answer = fields(&[(":status", "503")]);
        vm.headers(stream, Message::Response, answer, true).unwrap();
        vm.close(stream, false).unwrap();
    }
}

#[test]
fn what_runs_goes_on_while_a_bad_document_is_refused() {
    let mut worker = Worker::new(&document());
    assert_eq!(worker.exchange(&chat("fast", false), |_| completion()).status, 200);
    let bad = many_mistakes().0.to_string();
    for root_id in STAGES {
        assert!(!worker.vm.start(root_id, bad.as_bytes()).unwrap().1);
        assert_eq!(worker.exchange(&chat("fast", false), |_| completion()).status, 200);
    }
    assert_eq!(worker.process.shared.tally("fast").requests, 5);
}

#[test]
fn struct_and_json_are_the_same_configuration() {
    let process = process(1);
    let mut vm = Vm::new(&process);
    let mut worker = Worker::join(&process, &document());
    let [gateway, attempt] = ["gateway", "attempt"].map(|root_id| {
        let (root, taken) = vm.start(root_id, &as_struct(&document())).unwrap();
        assert!(taken, "{:?}", process.log());
        root
    });
    let stages = crate::router::Stages { gateway, attempt };
    let mut other = Worker { process: process.clone(), vm, stages };
    let answers = [&mut worker, &mut other].map(|worker| {
        let sent = &mut None;
        let answer = worker.exchange(&chat("fast", true), |request| {
            *sent = Some(request.body.clone());
            completion()
        });
        (answer.status, answer.body, sent.take())
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(worker.status(), other.status());
}
