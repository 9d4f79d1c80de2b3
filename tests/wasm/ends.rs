//! Streams that end at any point, and callbacks in an order that no host should have.

use keyward::random::Random;

use crate::host::fields;
use crate::host::stream::{FilterState, Message};
use crate::host::vm::Vm;
use crate::message::{End, Script};
use crate::router::{exchange, exchange_standalone, feed};
use crate::scene::{Worker, chat, completion, document, rate_limited, standalone_document};

#[derive(Debug, Clone)]
enum Event {
    Headers(Message, bool),
    Body(Message, Vec<u8>, bool),
    Trailers(Message),
    Tick,
}

/// The plugins that a stream can belong to.
struct Plugins {
    worker: Worker,
    /// `mode: headers` and `mode: body`.
    standalone: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Gateway,
    Attempt,
    Standalone(usize),
}

const STAGES: [Stage; 4] =
    [Stage::Gateway, Stage::Attempt, Stage::Standalone(0), Stage::Standalone(1)];

/// What Envoy calls at the end, in any order and number.
const ENDS: [&[&str]; 5] = [
    &["proxy_on_done", "proxy_on_log"],
    &["proxy_on_log", "proxy_on_done"],
    &["proxy_on_done", "proxy_on_done"],
    &["proxy_on_log"],
    &[],
];

/// `DownstreamConnectionTermination` in `response.flags`.
const CLIENT_GONE: u64 = 1 << 14;

impl Plugins {
    fn new() -> Self {
        let mut worker = Worker::new(&document());
        let standalone = ["headers", "body"].map(|mode| {
            let document = standalone_document(mode).to_string();
            let (root, taken) = worker.vm.start("standalone", document.as_bytes()).unwrap();
            assert!(taken);
            root
        });
        Self { worker, standalone }
    }

    /// A stream of the stage, and the stream of the gateway stage that it needs.
    fn open(&mut self, stage: Stage) -> (u32, Option<u32>) {
        let (vm, stages) = (&mut self.worker.vm, self.worker.stages);
        let state = FilterState::default();
        let root = match stage {
            Stage::Gateway => stages.gateway,
            Stage::Standalone(mode) => self.standalone[mode],
            Stage::Attempt => {
                let gateway = vm.open(stages.gateway, &state).unwrap();
                let request = chat("fast", true);
                let message = Message::Request;
                feed(vm, gateway, message, &request.headers, &request.chunks, request.end).unwrap();
                let attempt = vm.open(stages.attempt, &state).unwrap();
                return (attempt, Some(gateway));
            }
        };
        (vm.open(root, &state).unwrap(), None)
    }

    fn play(&mut self, context: u32, event: &Event, script: &Script) {
        let vm = &mut self.worker.vm;
        let Script::Answer { headers, .. } = script else { panic!("an answer") };
        match event {
            Event::Headers(Message::Request, end) => {
                vm.headers(context, Message::Request, chat("fast", true).headers, *end)
            }
            Event::Headers(Message::Response, end) => {
                vm.headers(context, Message::Response, headers.clone(), *end)
            }
            Event::Body(message, chunk, end) => vm.body(context, *message, chunk, *end),
            Event::Trailers(message) => vm.trailers(context, *message),
            Event::Tick => {
                self.worker.process.advance_ms(50);
                vm.tick(self.worker.stages.attempt)
            }
        }
        .unwrap_or_else(|trap| panic!("{event:?}: {trap}"));
    }

    /// Ends a stream with these callbacks.
    fn end(&mut self, context: u32, gateway: Option<u32>, calls: &[&str], client_gone: bool) {
        let vm = &mut self.worker.vm;
        let flags = if client_gone { CLIENT_GONE } else { 0 };
        vm.stream(context).property(&["response", "flags"], flags.to_le_bytes());
        for call in calls {
            end_call(vm, context, call);
        }
        vm.delete(context).unwrap();
        if let Some(gateway) = gateway {
            vm.close(gateway, false).unwrap();
        }
    }

    /// Both ways through the filter still work.
    fn assert_alive(&mut self) {
        self.worker.process.advance_ms(48 * 3_600_000);
        let (vm, stages) = (&mut self.worker.vm, self.worker.stages);
        let (request, provider) = (chat("fast", false), &mut |_: &_| completion());
        assert_eq!(exchange(vm, stages, &request, provider).unwrap().status, 200);
        for root in self.standalone {
            let answer = exchange_standalone(vm, root, "alpha", &request, provider).unwrap();
            assert_eq!(answer.status, 200);
        }
    }
}

fn end_call(vm: &mut Vm, context: u32, call: &str) {
    let ended = match call {
        "proxy_on_done" => vm.call::<_, u32>(context, call, context).map(|_| ()),
        _ => vm.call::<_, ()>(context, call, context),
    };
    ended.unwrap_or_else(|trap| panic!("{call}: {trap}"));
}

/// All callbacks of an exchange, bodies in two chunks.
fn events(script: &Script) -> Vec<Event> {
    let Script::Answer { chunks, .. } = script else { panic!("an answer") };
    let body = |message, bytes: &[u8]| {
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        [Event::Body(message, head.into(), false), Event::Body(message, tail.into(), true)]
    };
    let mut events = vec![Event::Headers(Message::Request, false)];
    events.extend(body(Message::Request, &chat("fast", true).chunks.concat()));
    events.extend([Event::Tick, Event::Headers(Message::Response, false)]);
    events.extend(body(Message::Response, &chunks.concat()));
    events
}

fn scripts() -> [Script; 4] {
    let stream = |bytes: &[u8]| Script::stream(vec![bytes.to_vec()], End::WithLastChunk);
    [
        completion(),
        rate_limited(),
        stream(include_bytes!("../fixtures/openai/chat-stream-usage.sse")),
        stream(include_bytes!("../fixtures/openai/error-first.sse")),
    ]
}

#[test]
fn a_stream_may_end_after_every_callback() {
    let mut plugins = Plugins::new();
    for stage in STAGES {
        for script in scripts() {
            let events = events(&script);
            for count in 0..=events.len() {
                for (calls, client_gone) in ENDS.into_iter().zip([false, true, true, false, true]) {
                    let (context, gateway) = plugins.open(stage);
                    for event in events.iter().take(count) {
                        plugins.play(context, event, &script);
                    }
                    plugins.end(context, gateway, calls, client_gone);
                }
            }
        }
        plugins.assert_alive();
    }
}

#[test]
fn callbacks_may_go_on_after_a_local_reply() {
    let mut plugins = Plugins::new();
    for stage in STAGES {
        for script in scripts() {
            let (context, gateway) = plugins.open(stage);
            let unknown_path = fields(&[(":method", "POST"), (":path", "/unknown")]);
            let vm = &mut plugins.worker.vm;
            vm.headers(context, Message::Request, unknown_path, false).unwrap();
            let replied = vm.stream(context).reply.is_some();
            // The attempt stage goes by what the gateway stage has seen.
            assert_eq!(replied, !matches!(stage, Stage::Attempt));
            for event in events(&script).into_iter().skip(1) {
                plugins.play(context, &event, &script);
            }
            plugins.end(context, gateway, ENDS[0], false);
        }
    }
    plugins.assert_alive();
}

#[test]
fn callbacks_may_come_in_any_order() {
    let mut plugins = Plugins::new();
    let mut random = Random::new(7);
    let mut below = |bound: usize| usize::try_from(random.next_u64() % bound as u64).unwrap();
    for round in 0..1_500 {
        let stage = STAGES[below(STAGES.len())];
        let script = scripts()[below(4)].clone();
        let mut pool = events(&script);
        pool.extend([
            Event::Trailers(Message::Request),
            Event::Trailers(Message::Response),
            Event::Headers(Message::Request, true),
            Event::Headers(Message::Response, true),
            Event::Body(Message::Request, Vec::new(), true),
            Event::Body(Message::Response, Vec::new(), true),
            Event::Body(Message::Response, b"\xff".to_vec(), false),
        ]);
        let (context, gateway) = plugins.open(stage);
        for _ in 0..below(10) {
            let event = pool[below(pool.len())].clone();
            plugins.play(context, &event, &script);
            if below(20) == 0 {
                end_call(&mut plugins.worker.vm, context, "proxy_on_done");
            }
        }
        plugins.end(context, gateway, ENDS[below(ENDS.len())], below(2) == 0);
        if round % 100 == 0 {
            plugins.assert_alive();
        }
    }
    plugins.assert_alive();
}
