//! How often the filter calls out for a request, which is most of what it costs: bounds that a careless change breaks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::message::{End, Script};
use crate::scene::{Worker, chat, completion, document};

/// Host calls by name.
type Calls = BTreeMap<String, usize>;

/// The calls of one exchange that is not the first.
fn calls(worker: &mut Worker, stream: bool, answer: &Script) -> Calls {
    // The first requests define metrics and make records.
    for _ in 0..4 {
        worker.exchange(&chat("fast", stream), |_| answer.clone());
    }
    let calls = Rc::new(RefCell::new(Calls::new()));
    let seen = Rc::clone(&calls);
    worker.vm.set_faults(Box::new(move |name, _| {
        *seen.borrow_mut().entry(name.to_owned()).or_default() += 1;
        None
    }));
    let got = worker.exchange(&chat("fast", stream), |_| answer.clone());
    worker.vm.clear_faults();
    assert_eq!(got.status, 200);
    calls.take()
}

/// Checks that no call is made more often than `most` says.
#[track_caller]
fn check(calls: &Calls, most: &[(&str, usize)]) {
    for (name, count) in calls {
        let most = most.iter().find(|(known, _)| known == name).map_or(0, |(_, most)| *most);
        assert!(*count <= most, "{count} times {name}, at most {most} are needed: {calls:#?}");
    }
}

#[test]
fn a_chat_calls_out_as_often_as_it_needs() {
    let calls = calls(&mut Worker::new(&document()), false, &completion());
    check(
        &calls,
        &[
            ("proxy_get_buffer_bytes", 3),
            ("proxy_get_current_time_nanoseconds", 7),
            ("proxy_get_header_map_pairs", 4),
            ("proxy_get_property", 4),
            ("proxy_get_shared_data", 14),
            ("proxy_increment_metric", 6),
            ("proxy_remove_header_map_value", 3),
            ("proxy_replace_header_map_value", 13),
            ("proxy_set_buffer_bytes", 1),
            ("proxy_set_property", 2),
            ("proxy_set_shared_data", 9),
        ],
    );
}

#[test]
fn an_event_of_a_stream_is_fetched_and_that_is_all() {
    const EVENTS: usize = 100;
    let event = |text: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let mut worker = Worker::new(&document());
    let mut of_a_stream = |events: usize| {
        let mut chunks: Vec<Vec<u8>> = (0..events).map(|n| event(&n.to_string()).into()).collect();
        chunks.push(b"data: [DONE]\n\n".to_vec());
        calls(&mut worker, true, &Script::stream(chunks, End::WithLastChunk))
    };
    let (short, long) = (of_a_stream(2), of_a_stream(2 + EVENTS));
    for (name, count) in &long {
        let expected = if name == "proxy_get_buffer_bytes" { EVENTS } else { 0 };
        assert_eq!(count - short[name], expected, "{name}");
    }
}
