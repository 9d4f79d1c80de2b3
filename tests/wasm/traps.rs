//! A trap at any point: the instance is lost, what it had counted is not.

use crate::host::vm::Fault;
use crate::router::exchange;
use crate::scene::{Worker, chat, completion, detour, document, leaked, process};

#[test]
fn a_fresh_instance_goes_on_where_the_trapped_one_stopped() {
    let served = {
        let mut worker = Worker::new(&document());
        // The first request defines metrics besides.
        worker.exchange(&chat("fast", false), |_| completion());
        worker.vm.set_faults(Box::new(|_, _| None));
        worker.exchange(&chat("fast", false), detour);
        worker.vm.calls().0
    };
    assert!(served > 100, "{served} host calls");
    for trapping in 0..served {
        let process = process(1);
        let mut worker = Worker::join(&process, &document());
        assert_eq!(worker.exchange(&chat("fast", false), |_| completion()).status, 200);
        let before = process.shared.tally("fast");
        assert_eq!((before.requests, before.tokens.prompt), (1, 5));

        let at = move |_, number| (number == trapping).then_some(Fault::Trap);
        worker.vm.set_faults(Box::new(at));
        let request = chat("fast", false);
        exchange(&mut worker.vm, worker.stages, &request, &mut detour).unwrap_err();
        drop(worker);

        let slots = process.shared.slots();
        let mut worker = Worker::join(&process, &document());
        // One key may have been claimed for a first try after its rest; its lease ends.
        process.advance_ms(120_000);
        assert_eq!(worker.exchange(&request, |_| completion()).status, 200, "after {trapping}");
        let after = process.shared.tally("fast");
        assert!((2..=3).contains(&after.requests), "{after:?} after {trapping}");
        assert!([10, 15].contains(&after.tokens.prompt), "{after:?} after {trapping}");
        assert!(process.shared.slots().is_superset(&slots));
        let other = Worker::join(&process, &document()).status();
        assert_eq!(other["models"][0]["requests"], after.requests);
        for (_, message) in process.log() {
            assert_eq!(leaked(message.as_bytes()), None);
        }
    }
}

#[test]
fn other_workers_do_not_notice() {
    let process = process(1);
    let mut workers = [(); 2].map(|()| Worker::join(&process, &document()));
    let [trapped, other] = &mut workers;
    trapped
        .vm
        .set_faults(Box::new(|name, _| (name == "proxy_set_shared_data").then_some(Fault::Trap)));
    let request = chat("fast", false);
    exchange(&mut trapped.vm, trapped.stages, &request, &mut detour).unwrap_err();
    let answer = other.exchange(&request, detour);
    assert_eq!((answer.status, process.shared.tally("fast").requests), (200, 1));
}
