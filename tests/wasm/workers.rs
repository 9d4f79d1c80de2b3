//! Several workers over one shared data, which take turns at every access to it in an order drawn at random.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use keyward::random::Random;
use serde_json::{Value, json};

use crate::host::Process;
use crate::host::status::CAS_MISMATCH;
use crate::host::vm::Fault;
use crate::message::Request;
use crate::router::{Routed, round};
use crate::scene::{
    Worker, alpha_alone, chat, completion, detour, document, process, rate_limited,
};

const WORKERS: usize = 3;
const SCHEDULES: u64 = 25;

thread_local! {
    /// Of the worker that runs on this thread.
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Lets one worker run at a time, and another one whenever it touches shared data.
struct Baton {
    turn: Mutex<Turn>,
    changed: Condvar,
}

struct Turn {
    random: Random,
    running: usize,
    left: BTreeSet<usize>,
}

impl Baton {
    fn new(seed: u64) -> Self {
        let turn = Turn { random: Random::new(seed), running: 0, left: (0..WORKERS).collect() };
        Self { turn: Mutex::new(turn), changed: Condvar::new() }
    }

    /// Hands the turn to somebody, perhaps to oneself, and waits for the next one.
    fn pass(&self, number: usize) {
        self.turn.lock().unwrap().draw();
        self.changed.notify_all();
        self.wait(number);
    }

    fn wait(&self, number: usize) {
        const LONGEST: Duration = Duration::from_secs(60);
        let turn = self.turn.lock().unwrap();
        let waited = self.changed.wait_timeout_while(turn, LONGEST, |turn| turn.running != number);
        assert!(!waited.unwrap().1.timed_out(), "a worker keeps the turn");
    }
}

impl Turn {
    fn draw(&mut self) {
        let count = u64::try_from(self.left.len()).unwrap();
        if let Some(drawn) = self.random.next_u64().checked_rem(count) {
            self.running = *self.left.iter().nth(usize::try_from(drawn).unwrap()).unwrap();
        }
    }
}

/// A worker that is done, or has panicked, holds nobody up.
struct Leave<'a>(&'a Baton, usize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut turn = self.0.turn.lock().unwrap();
        turn.left.remove(&self.1);
        turn.draw();
        self.0.changed.notify_all();
    }
}

/// Runs `life` on every worker at once, from the start of its instance.
fn interleave(
    process: &Arc<Process>,
    seed: u64,
    document: &Value,
    life: impl Fn(u64, &mut Worker) + Sync,
) {
    let baton = Arc::new(Baton::new(seed));
    let gate = Arc::clone(&baton);
    let pass = move || {
        if let Some(number) = NUMBER.get() {
            gate.pass(number);
        }
    };
    assert!(process.shared.gate.set(Box::new(pass)).is_ok());
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let (baton, life) = (&baton, &life);
            scope.spawn(move || {
                NUMBER.set(Some(number));
                baton.wait(number);
                let _leave = Leave(baton, number);
                life(number as u64, &mut Worker::join(process, document));
            });
        }
    });
}

#[test]
fn an_own_limit_is_reached_and_never_exceeded() {
    let limits = json!([{"requests": 3, "per": "minute"}]);
    let alone = json!({"id": "a", "secret": {"inline": "sk-a"}, "limits": limits});
    let grouped = |id, secret| json!({"id": id, "secret": {"inline": secret}, "limits": limits, "quota_group": "account"});
    for (keys, capacity) in
        [(vec![alone], 3), (vec![grouped("a", "sk-a"), grouped("b", "sk-b")], 6)]
    {
        let document = alpha_alone(&keys);
        for seed in 0..SCHEDULES {
            let (sent, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let process = process(seed);
            interleave(&process, seed, &document, |_, worker| {
                for _ in 0..3 {
                    let answer = worker.exchange(&chat("fast", false), |_| {
                        sent.fetch_add(1, Ordering::Relaxed);
                        completion()
                    });
                    assert!([200, 429].contains(&answer.status));
                    refused.fetch_add(usize::from(answer.status == 429), Ordering::Relaxed);
                }
            });
            let requests = 3 * WORKERS;
            assert_eq!(sent.into_inner(), capacity, "seed {seed}");
            assert_eq!(refused.into_inner(), requests - capacity, "seed {seed}");
            assert_eq!(process.shared.tally("fast").requests, requests as u64);
            assert_eq!(process.metrics.sum("keyward.records_unwritten"), 0);
        }
    }
}

#[test]
fn no_count_is_lost() {
    for seed in 0..SCHEDULES {
        let process = process(seed);
        interleave(&process, seed, &document(), |number, worker| {
            // The host says now and then that somebody else was faster, although nobody was.
            let mut random = Random::new(seed * 100 + number);
            worker.vm.set_faults(Box::new(move |name, _| {
                let fails = name == "proxy_set_shared_data" && random.unit() < 0.3;
                fails.then_some(Fault::Status(CAS_MISMATCH))
            }));
            for _ in 0..3 {
                let answer = worker.exchange(&chat("fast", false), |_| completion());
                assert_eq!(answer.status, 200);
            }
        });
        let tally = process.shared.tally("fast");
        let requests = 3 * WORKERS as u64;
        assert_eq!(tally.requests, requests, "seed {seed}");
        assert_eq!(tally.tokens.prompt, 5 * requests, "seed {seed}");
        assert_eq!(tally.tokens.completion, 2 * requests, "seed {seed}");
    }
}

#[test]
fn workers_that_start_at_once_agree_on_the_key_of_the_process() {
    for seed in 0..SCHEDULES {
        let process = process(seed);
        let states = Mutex::new(Vec::new());
        interleave(&process, seed, &document(), |_, worker| {
            let request = chat("fast", false);
            let routed = round(&mut worker.vm, worker.stages, &request, true, &mut detour).unwrap();
            // Who comes last finds `alpha` exhausted already.
            if let Routed::Redirect(headers) = routed {
                states.lock().unwrap().push(Request { headers, ..request });
            }
        });
        let states = states.into_inner().unwrap();
        assert!(!states.is_empty());
        // One that comes later takes up what any of them sent on its way.
        let requests = process.shared.tally("fast").requests;
        let mut worker = Worker::join(&process, &document());
        for request in states {
            assert_eq!(worker.exchange(&request, |_| completion()).status, 200);
            assert_eq!(process.shared.tally("fast").requests, requests, "seed {seed}");
        }
    }
}

#[test]
fn a_key_that_has_just_come_back_is_tried_by_one_worker_alone() {
    let document = alpha_alone(&[json!({"id": "a", "secret": {"inline": "sk-a"}})]);
    for seed in 0..SCHEDULES {
        let process = process(seed);
        let mut first = Worker::join(&process, &document);
        assert_eq!(first.exchange(&chat("fast", false), |_| rate_limited()).status, 429);
        process.advance_ms(20_000);
        let sent = AtomicUsize::new(0);
        interleave(&process, seed, &document, |_, worker| {
            let answer = worker.exchange(&chat("fast", false), |_| {
                sent.fetch_add(1, Ordering::Relaxed);
                rate_limited()
            });
            assert_eq!(answer.status, 429);
        });
        assert_eq!(sent.into_inner(), 1, "seed {seed}");
    }
}
