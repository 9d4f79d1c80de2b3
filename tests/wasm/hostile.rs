//! A host that fails or answers nonsense: requests may be lost to it, the instance is not.

use keyward::random::Random;

use crate::host::status;
use crate::host::vm::{Fault, Faults, Vm};
use crate::router::{Stages, exchange, exchange_standalone};
use crate::scene::{
    self, chat, completion, detour, document, leaked, process, standalone_document,
};

/// A life of an instance: it is configured, serves a request that moves on twice, and one by itself. Under
/// the faults from the start, or from the first request on.
fn live(from_start: bool, faults: Faults) -> (Vm, usize) {
    let process = process(1);
    let mut vm = Vm::new(&process);
    let mut faults = Some(faults);
    if from_start {
        vm.set_faults(faults.take().unwrap());
    }
    let two_stages = document().to_string().into_bytes();
    let single_stage = standalone_document("body").to_string().into_bytes();
    let mut start = |root_id, document: &[u8]| vm.start(root_id, document).unwrap().0;
    let stages =
        Stages { gateway: start("gateway", &two_stages), attempt: start("attempt", &two_stages) };
    let standalone = start("standalone", &single_stage);
    if let Some(faults) = faults {
        vm.set_faults(faults);
    }
    let request = chat("fast", true);
    let mut answers = vec![exchange(&mut vm, stages, &request, &mut detour).unwrap()];
    vm.tick(stages.gateway).unwrap();
    process.advance_ms(60_000);
    for (name, script) in [("alpha", completion()), ("beta", scene::rate_limited())] {
        let provider = &mut |_: &_| script.clone();
        answers.push(exchange_standalone(&mut vm, standalone, name, &request, provider).unwrap());
    }
    let calls = vm.calls().0;
    for answer in &answers {
        assert_eq!(answer.leak(), None);
    }
    assert_eq!(leaked(&process.shared.all_values()), None);
    for (_, message) in process.log() {
        assert_eq!(leaked(message.as_bytes()), None, "{message}");
    }
    // Once the host is itself again, so is the filter, if only it was configured right.
    vm.clear_faults();
    process.advance_ms(48 * 3_600_000);
    let answer = exchange(&mut vm, stages, &request, &mut |_| completion()).unwrap();
    assert!(from_start || answer.status == 200, "{answer:?}");
    (vm, calls)
}

#[test]
fn every_call_that_always_fails() {
    let (vm, _) = live(true, Box::new(|_, _| None));
    let names = vm.calls().1;
    assert!(names.len() >= 18, "{names:?}");
    for name in names {
        for status in status::ALL_BUT_OK {
            // Without WASI there is no start: the standard library itself gives up then.
            let from_start =
                if name.starts_with("proxy_") { vec![true, false] } else { vec![false] };
            for from_start in from_start {
                live(from_start, always(name, move || Fault::Status(status)));
            }
        }
        // Success without a result.
        live(false, always(name, || Fault::Status(status::OK)));
    }
}

#[test]
fn every_call_that_fails_once() {
    let (_, calls) = live(true, Box::new(|_, _| None));
    for failing in 0..calls {
        let once = move |name: &str, number| {
            let fails = number == failing && name.starts_with("proxy_");
            fails.then_some(Fault::Status(status::UNIMPLEMENTED))
        };
        live(true, Box::new(once));
    }
}

#[test]
fn every_result_that_is_not_what_it_should_be() {
    for name in [
        "proxy_get_buffer_bytes",
        "proxy_get_header_map_pairs",
        "proxy_get_property",
        "proxy_get_shared_data",
    ] {
        for seed in 0..20 {
            for from_start in [true, false] {
                let mut random = Random::new(seed);
                let faults = always(name, move || {
                    let mut random = Random::new(random.next_u64());
                    Fault::Garble(Box::new(move |bytes| garble(bytes, &mut random)))
                });
                live(from_start, faults);
            }
        }
    }
}

fn always(name: &'static str, mut fault: impl FnMut() -> Fault + 'static) -> Faults {
    Box::new(move |called, _| (called == name).then(&mut fault))
}

/// Something near to `bytes`, or far from it.
fn garble(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let mut below =
        |bound: usize| usize::try_from(random.next_u64() % bound.max(1) as u64).unwrap();
    match below(6) {
        0 => bytes.truncate(below(bytes.len())),
        1 => {
            // The counts and sizes of a header map are at its start.
            let at = below(bytes.len().min(64));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = 0xff;
            }
        }
        2 => {
            for _ in 0..8 {
                let (at, value) = (below(bytes.len()), below(256));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(value).unwrap();
                }
            }
        }
        3 => bytes = (0..below(300)).map(|_| u8::try_from(below(256)).unwrap()).collect(),
        4 => bytes.extend_from_slice(&[0xff; 9]),
        _ => bytes = vec![0xff; 4],
    }
    bytes
}
