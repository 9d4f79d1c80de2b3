//! One request on its way through a double of Envoy's router: the gateway stage, then attempts with the
//! original body and the headers that the last attempt left, retries, internal redirects.

use std::collections::HashMap;
use std::rc::Rc;

use keyward::attempt::{self, Attempt};
use keyward::consumer::identify::Caller;
use keyward::effect::{Effect, Flow};
use keyward::gateway::{CLUSTER_HEADER, Gateway, Local, RETRY_HEADER};
use keyward::headers::Headers;
use keyward::limit::toll::SPENT;
use keyward::plan::{FILTER_STATE, STATE_HEADER};
use keyward::reply::Reply;
use keyward::runtime::Runtime;

use crate::world::{Answer, Call, End, Got, Request, World};

/// A header section as the host keeps it.
#[derive(Clone, Default)]
pub(crate) struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    pub(crate) fn new(fields: Vec<(String, Vec<u8>)>) -> Self {
        Self(fields)
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let value = self.0.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(&value.1).into_owned())
    }

    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.0.push((name.to_owned(), value.to_vec()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(crate) fn headers(&self) -> Headers {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    pub(crate) fn texts(&self) -> std::collections::BTreeMap<String, String> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.0.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }
}

/// What a callback did to one message.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) reply: Option<Reply>,
}

pub(crate) struct Flight<'w> {
    world: &'w World,
    /// As the filters left them; they persist from attempt to attempt and from round to round.
    request: Fields,
    body: Vec<u8>,
    gateway: Gateway,
    gateway_runtime: Rc<Runtime>,
    filter_state: HashMap<&'static str, Vec<u8>>,
    round: Round,
    redirects_left: u32,
    attempt: Option<(Attempt, Rc<Runtime>)>,
    answer: Fields,
    buffered: Vec<u8>,
    /// The answer's headers have gone on to the client.
    open: bool,
    got: Got,
}

/// What the router read of the request's headers.
#[derive(Default)]
struct Round {
    cluster: String,
    number: u32,
    retries_left: u32,
    on_reset: bool,
}

impl<'w> Flight<'w> {
    pub(crate) fn start(world: &'w World, request: &Request) -> Self {
        let mut flight = Self {
            world,
            request: Fields::new(request.headers.clone()),
            body: request.body.clone().into_bytes(),
            gateway: Gateway::default(),
            gateway_runtime: world.runtime(),
            filter_state: HashMap::new(),
            round: Round::default(),
            redirects_left: world.redirects.get(),
            attempt: None,
            answer: Fields::default(),
            buffered: Vec::new(),
            open: false,
            got: Got::default(),
        };
        flight.run_round();
        flight
    }

    /// The call that a provider has to answer.
    pub(crate) fn call(&self) -> Option<&Call> {
        self.attempt.as_ref().and(self.got.calls.last())
    }

    pub(crate) fn got(mut self) -> Got {
        assert!(self.attempt.is_none(), "a provider has still to answer");
        self.finish_round();
        self.got.check();
        std::mem::take(&mut self.got)
    }

    /// The client goes away.
    pub(crate) fn leave(mut self) -> Got {
        // The filters of the listener end before those of the cluster.
        self.finish_round();
        if let Some((mut attempt, runtime)) = self.attempt.take() {
            self.world.run(&runtime, |cx| attempt.on_done(cx, true));
        }
        std::mem::take(&mut self.got)
    }

    fn finish_round(&mut self) {
        let spent = self.filter_state.get(SPENT).cloned();
        self.world.run(&self.gateway_runtime, |cx| self.gateway.on_done(cx, spent.as_deref()));
    }

    fn run_round(&mut self) {
        self.gateway = Gateway::default();
        self.gateway_runtime = self.world.runtime();
        self.filter_state.clear();
        self.round = Round::default();
        let headers = self.request.headers();
        let (world, runtime) = (self.world, Rc::clone(&self.gateway_runtime));
        let empty = self.body.is_empty();
        let address = Some(world.address.borrow().clone()).filter(|address| !address.is_empty());
        let caller = Caller { address, ..Caller::default() };
        let (mut flow, effects) =
            world.run(&runtime, |cx| self.gateway.on_request_headers(cx, &headers, &caller, empty));
        let mut done = self.apply_to_request(effects);
        // Two pieces, as the host hands them over: all that has come so far.
        for (part, last) in [(self.body.len() / 2, false), (self.body.len(), true)] {
            if done.reply.is_some() || empty {
                break;
            }
            let wanted = self.gateway.wants_request_body(last);
            let body = if wanted { self.body[..part].to_vec() } else { Vec::new() };
            let (next, effects) =
                world.run(&runtime, |cx| self.gateway.on_request_body(cx, &body, last));
            flow = next;
            done = self.apply_to_request(effects);
        }
        if let Some(reply) = done.reply {
            return self.local_reply(reply);
        }
        assert_eq!(flow, Flow::Continue, "the gateway stage neither sent nor answered");
        let take = |request: &mut Fields, name: &str| {
            let value = request.get(name);
            request.remove(name);
            value.unwrap_or_default()
        };
        let retries: u32 = take(&mut self.request, "x-envoy-max-retries").parse().unwrap();
        assert_eq!(take(&mut self.request, "x-envoy-retriable-header-names"), RETRY_HEADER);
        self.round = Round {
            cluster: self.request.get(CLUSTER_HEADER).unwrap(),
            number: 0,
            retries_left: retries.min(world.retries.get()),
            on_reset: take(&mut self.request, "x-envoy-retry-on").contains("reset"),
        };
        self.run_attempt();
    }

    fn run_attempt(&mut self) {
        self.round.number += 1;
        let replan = self.world.replan.get() && self.round.number > 2;
        let mut attempt = Attempt::default();
        let runtime = self.world.attempt_runtime();
        for (name, secret) in self.world.injected() {
            self.request.set(&name, secret.as_bytes());
        }
        let (headers, plan) =
            (self.request.headers(), self.filter_state.get(FILTER_STATE).cloned());
        let host = attempt::Host {
            plan: plan.as_deref(),
            provider: (!replan).then_some(self.round.cluster.as_str()),
            replan,
            attempt: self.round.number,
            ..attempt::Host::default()
        };
        let (flow, effects) =
            self.world.run(&runtime, |cx| attempt.on_request_headers(cx, &headers, &host, false));
        let done = self.apply_to_request(effects);
        if let Some(reply) = done.reply {
            return self.local_reply(reply);
        }
        let mut body = self.body.clone();
        let wanted = attempt.wants_request_body(true);
        assert!(flow == Flow::Continue || wanted);
        let seen = if wanted { body.clone() } else { Vec::new() };
        let (flow, effects) =
            self.world.run(&runtime, |cx| attempt.on_request_body(cx, &seen, true));
        let done = self.apply_to_request(effects);
        if let Some(reply) = done.reply {
            return self.local_reply(reply);
        }
        assert_eq!(flow, Flow::Continue);
        body = done.body.unwrap_or(body);
        self.attempt = Some((attempt, runtime));
        if replan {
            // It has no key: not a call.
            return self.answer(Answer::json(503, "{}"));
        }
        let headers = self.request.texts();
        let secret = headers
            .get("authorization")
            .or_else(|| headers.get("api-key"))
            .cloned()
            .unwrap_or_default();
        let call = Call {
            cluster: self.round.cluster.clone(),
            key: secret.trim_start_matches("Bearer ").trim_start_matches("sk-").to_owned(),
            headers,
            body: String::from_utf8(body).unwrap(),
            at: self.world.now(),
            arrived: true,
        };
        call.check();
        self.got.calls.push(call);
    }

    /// The provider answers, wholly or up to a point ([`End::Open`]).
    pub(crate) fn answer(&mut self, answer: Answer) {
        if answer.status == 0 {
            if let Some(call) = self.got.calls.last_mut() {
                call.arrived = false;
            }
            self.finish_attempt();
            return self.reset();
        }
        let mut fields = Fields::default();
        fields.set(":status", answer.status.to_string().as_bytes());
        for (name, value) in &answer.headers {
            fields.set(name, value.as_bytes());
        }
        self.answer = fields;
        self.open = false;
        self.buffered.clear();
        let headers = self.answer.headers();
        let ends = answer.chunks.is_empty() && answer.end == End::Whole;
        let Some((attempt, runtime)) = &mut self.attempt else {
            panic!("nobody is waiting for an answer")
        };
        let (flow, effects) =
            self.world.run(runtime, |cx| attempt.on_response_headers(cx, &headers, ends));
        if self.after(flow, effects, ends) {
            self.more(answer.chunks, answer.end);
        }
    }

    /// More of the answer.
    pub(crate) fn more(&mut self, chunks: Vec<Vec<u8>>, end: End) {
        let last = chunks.len();
        let apart = (end == End::Apart).then(Vec::new);
        for (index, chunk) in chunks.into_iter().chain(apart).enumerate() {
            let ends = match end {
                End::Whole => index + 1 == last,
                End::Apart => index == last,
                End::Reset | End::Open => false,
            };
            self.buffered.extend_from_slice(&chunk);
            let Some((attempt, runtime)) = &mut self.attempt else { return };
            let body = if attempt.wants_response_body() { self.buffered.clone() } else { vec![] };
            let is_delta = !ends && attempt.is_delta(&body);
            let (flow, effects) =
                self.world.run(runtime, |cx| attempt.on_response_body(cx, &body, ends));
            // The host does not even ask.
            assert!(!is_delta || flow == Flow::Continue && effects.is_empty());
            if !self.after(flow, effects, ends) {
                return;
            }
        }
        if end == End::Reset {
            self.finish_attempt();
            if self.open {
                self.got.cut = true;
            } else {
                self.reset();
            }
        }
    }

    /// What the router does after a callback for the answer; whether there is more of it to come.
    fn after(&mut self, flow: Flow, effects: Vec<Effect>, ends: bool) -> bool {
        let done = apply(self.world, effects, &mut self.answer, &mut self.filter_state);
        if let Some(reply) = done.reply {
            assert!(!self.open, "a local reply after the headers truncates the answer");
            self.finish_attempt();
            self.local_reply(reply);
            return false;
        }
        if let Some(body) = done.body {
            self.buffered = body;
        }
        if flow == Flow::Pause {
            assert!(!ends, "the answer is held for ever");
            return true;
        }
        if !self.open {
            if self.retried() || self.redirected() {
                return false;
            }
            self.open_to_client();
        }
        self.got.body.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.buffered)));
        if ends {
            self.finish_attempt();
        }
        !ends
    }

    fn retried(&mut self) -> bool {
        if self.answer.get(RETRY_HEADER).is_none() || self.round.retries_left == 0 {
            return false;
        }
        self.round.retries_left -= 1;
        self.finish_attempt();
        self.run_attempt();
        true
    }

    fn redirected(&mut self) -> bool {
        let to = self.answer.get("location");
        let (Some(to), Some("307")) = (to, self.answer.get(":status").as_deref()) else {
            return false;
        };
        if self.redirects_left == 0 {
            return false;
        }
        self.redirects_left -= 1;
        self.finish_attempt();
        let (scheme, rest) = to.split_once("://").unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        for (name, value) in [(":scheme", scheme), (":authority", host), (":path", path)] {
            self.request.set(name, value.as_bytes());
        }
        let state = self.answer.get(STATE_HEADER).unwrap();
        self.world.seen_state.replace(Some(state.clone()));
        self.request.set(STATE_HEADER, state.as_bytes());
        self.request.set("x-envoy-original-url", b"http://gateway.test/");
        self.finish_round();
        self.run_round();
        true
    }

    /// The connection broke before any of the answer went on.
    fn reset(&mut self) {
        if self.round.on_reset && self.round.retries_left > 0 {
            self.round.retries_left -= 1;
            return self.run_attempt();
        }
        let body = b"upstream connect error".to_vec();
        self.local_reply(Reply { status: 503, headers: Vec::new(), body, code: "envoy" });
    }

    fn finish_attempt(&mut self) {
        if let Some((mut attempt, runtime)) = self.attempt.take() {
            self.world.run(&runtime, |cx| attempt.on_done(cx, false));
        }
    }

    /// An answer that no provider gave; the gateway stage sees it, too.
    fn local_reply(&mut self, reply: Reply) {
        self.finish_attempt();
        self.answer = fields_of(&reply);
        self.buffered = reply.body;
        self.open_to_client();
        self.got.body = String::from_utf8(std::mem::take(&mut self.buffered)).unwrap();
    }

    fn open_to_client(&mut self) {
        let headers = self.answer.headers();
        let (_, effects) = self.world.run(&self.gateway_runtime, |cx| {
            self.gateway.on_response_headers(cx, &headers, Local::default())
        });
        let done = apply(self.world, effects, &mut self.answer, &mut self.filter_state);
        if let Some(reply) = done.reply {
            self.finish_attempt();
            self.answer = fields_of(&reply);
            self.buffered = reply.body;
        }
        self.open = true;
        self.got.headers = self.answer.texts();
        self.got.status = self.answer.get(":status").unwrap().parse().unwrap();
    }

    fn apply_to_request(&mut self, effects: Vec<Effect>) -> Done {
        apply(self.world, effects, &mut self.request, &mut self.filter_state)
    }
}

fn fields_of(reply: &Reply) -> Fields {
    let mut fields = Fields::default();
    fields.set(":status", reply.status.to_string().as_bytes());
    for (name, value) in &reply.headers {
        fields.set(name, value.as_bytes());
    }
    fields
}

pub(crate) fn apply(
    world: &World,
    effects: Vec<Effect>,
    message: &mut Fields,
    filter_state: &mut HashMap<&'static str, Vec<u8>>,
) -> Done {
    let mut done = Done::default();
    for effect in effects {
        match effect {
            Effect::SetHeader(name, value) => message.set(&name, &value),
            Effect::RemoveHeader(name) => message.remove(&name),
            Effect::SetBody(bytes) => done.body = Some(bytes),
            Effect::SetFilterState(name, bytes) => {
                filter_state.insert(name, bytes);
            }
            Effect::Reply(reply) => done.reply = Some(reply),
            Effect::Wait(until) => world.wait_until(until),
            Effect::ResumeResponse => {}
            Effect::Count(..)
            | Effect::Measure(..)
            | Effect::Log(..)
            | Effect::Hold(_)
            | Effect::Release(_) => {
                panic!("the world keeps these")
            }
        }
    }
    done
}
