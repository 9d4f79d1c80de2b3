//! The `attempt` stage: once per attempt, after Envoy has chosen the endpoint.
//!
//! Puts the key in, and decides on the answer: success, the client's fault, or a reason to try again with
//! another key (Envoy's retry) or another provider (an internal redirect back to the `gateway` stage).
//! Answer headers are held until the first event, so nothing has reached the client while that is open.

use core::time::Duration;

use crate::effect::{Cx, Effect, Flow};
use crate::endpoint::Dialect;
use crate::gateway::{ANSWERED_HEADER, RETRY_HEADER};
use crate::headers::Headers;
use crate::intake;
use crate::keys::{self, Claim};
use crate::limit::Amounts;
use crate::limit::toll::{SPENT, Spent};
use crate::plan::{FILTER_STATE, Plan, STATE_HEADER};
use crate::reply::{Refusal, Reply};
use crate::routing;
use crate::runtime::Runtime;
use crate::settle;
use crate::signal::{Scope, Signal, Verdict};
use crate::time::UnixTime;
use crate::trip::{Progress, Trip};
use crate::upstream;

/// What the host knows of an attempt besides its headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host<'a> {
    /// Filter state of the gateway stage.
    pub plan: Option<&'a [u8]>,
    /// Endpoint metadata `keyward.provider`.
    pub provider: Option<&'a str>,
    /// Endpoint metadata `keyward.replan`: the endpoint stands in for a provider that cannot be reached.
    pub replan: bool,
    /// Envoy's number of the attempt in this round, from 1.
    pub attempt: u32,
    /// An Envoy before 1.37: what is left of an answer after its retry or redirect crashes it.
    pub leaves_early: bool,
}

/// One attempt.
#[derive(Debug, Default)]
pub struct Attempt {
    state: State,
    number: u32,
    dialect: Dialect,
    leaves_early: bool,
    /// Some of the answer's body is kept by the host.
    body_held: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    /// On its way to the endpoint that answers in a provider's stead.
    Replan(Box<Plan>),
    Sent(Box<Trip>),
    Done,
}

/// An overloaded provider with no alternative is asked once more if it is back within this.
const SHORT_WAIT: Duration = Duration::from_secs(2);

/// Server errors and broken connections of one request at one target: the first is tried once more.
const FAILURES: u32 = 2;

impl Attempt {
    pub fn on_request_headers(
        &mut self,
        cx: &mut Cx<'_>,
        headers: &Headers,
        host: &Host<'_>,
        end_of_stream: bool,
    ) -> Flow {
        self.number = host.attempt;
        self.leaves_early = host.leaves_early;
        let Some(mut plan) = host.plan.and_then(Plan::decode) else {
            let message =
                "Keyward's attempt stage got a request that its gateway stage has not seen.";
            return self.reply(cx, Refusal::server(500, "internal_error", message));
        };
        self.dialect = plan.endpoint.dialect();
        let missed = plan.missed(host.attempt);
        if host.replan {
            upstream::strip(cx, headers);
            self.state = State::Replan(Box::new(plan));
            return Flow::Continue;
        }
        if missed && plan.failures >= FAILURES {
            return self.reply(cx, unreachable(&plan));
        }
        if host.provider.is_some_and(|name| plan.is_barred_from(cx.runtime, name)) {
            return self.reply(cx, intake::no_model(&plan.model));
        }
        let moved = host.provider.is_some_and(|name| plan.move_to(cx, name));
        if host.provider.is_some_and(|name| plan.is_elsewhere(cx.runtime, name)) {
            // No key leaves to an endpoint of another provider than it belongs to.
            routing::release(cx, &mut plan);
            let message = "The cluster leads to a provider that the model has no target for.";
            return self.reply(cx, Refusal::server(500, "internal_error", message));
        }
        if missed || moved {
            let last = plan.tried.last().copied();
            if let Err(shortage) = routing::claim_again(cx, &mut plan)
                // With another provider left, any answer moves the request on; a refusal here would not.
                && !(routing::has_other_target(cx, &plan) && plan.insist(cx, last))
            {
                let refusal = routing::refusal(cx, &plan, &shortage);
                return self.reply(cx, refusal);
            }
            cx.effects.push(Effect::SetFilterState(FILTER_STATE, plan.encode()));
        }
        if plan.not_before > cx.now {
            cx.effects.push(Effect::Wait(plan.not_before));
        }
        match Trip::start(cx, headers, plan) {
            Ok(trip) => {
                let holds = trip.patches_body && !end_of_stream;
                self.state = State::Sent(Box::new(trip));
                if holds { Flow::Pause } else { Flow::Continue }
            }
            Err(refusal) => self.reply(cx, refusal),
        }
    }

    /// Whether [`Self::on_request_body`] needs the bytes.
    pub fn wants_request_body(&self, end_of_stream: bool) -> bool {
        matches!(&self.state, State::Sent(trip) if end_of_stream && trip.patches_body)
    }

    /// `body` is all that has come so far.
    pub fn on_request_body(&mut self, cx: &mut Cx<'_>, body: &[u8], end_of_stream: bool) -> Flow {
        let State::Sent(trip) = &mut self.state else { return Flow::Continue };
        if !trip.patches_body {
            return Flow::Continue;
        }
        if !end_of_stream {
            return Flow::Pause;
        }
        let Some(patched) = trip.patched(cx.runtime, body) else {
            let message = "The request body was changed behind Keyward's gateway stage.";
            return self.reply(cx, Refusal::server(500, "internal_error", message));
        };
        cx.set_header("content-length", patched.len().to_string());
        cx.set_body(patched);
        Flow::Continue
    }

    pub fn on_response_headers(
        &mut self,
        cx: &mut Cx<'_>,
        headers: &Headers,
        end_of_stream: bool,
    ) -> Flow {
        match &mut self.state {
            State::Start | State::Done => Flow::Continue,
            State::Replan(_) => self.replan(cx),
            State::Sent(trip) => {
                trip.answered(cx.runtime, headers, true, cx.now);
                if end_of_stream { self.on_response_body(cx, &[], true) } else { Flow::Pause }
            }
        }
    }

    /// Whether [`Self::on_response_body`] needs the bytes.
    pub fn wants_response_body(&self) -> bool {
        matches!(&self.state, State::Sent(trip) if trip.wants_body())
    }

    /// Whether [`Self::on_response_body`] would do nothing with a chunk that is not the last, and let it go on.
    pub fn is_delta(&self, chunk: &[u8]) -> bool {
        matches!(&self.state, State::Sent(trip) if trip.is_delta(chunk))
    }

    /// `body` is all that was held back, or else the chunk that has come.
    pub fn on_response_body(&mut self, cx: &mut Cx<'_>, body: &[u8], end_of_stream: bool) -> Flow {
        let State::Sent(trip) = &mut self.state else { return Flow::Continue };
        // Where only the first part can be dropped, the decision is made on it.
        let early = self.leaves_early && trip.is_error();
        match trip.feed(cx, body, end_of_stream || early) {
            Progress::Held => {
                self.body_held = true;
                Flow::Pause
            }
            Progress::Flowing => Flow::Continue,
            Progress::Opened => {
                trip.pass(cx);
                Flow::Continue
            }
            Progress::Refused(signal, error) => {
                let is_final = self.leaves_early && (end_of_stream || self.body_held);
                self.decide(cx, &signal, &error, is_final)
            }
        }
    }

    /// Whether [`Self::on_response_body`] is to see all that was held back, not only what is new.
    pub fn holds_response(&self) -> bool {
        matches!(&self.state, State::Sent(trip) if trip.holds())
    }

    /// Whether [`Self::on_done`] has anything left to do.
    pub fn is_open(&self) -> bool {
        self.wants_response_body()
    }

    /// The attempt is over, however it ended. `client_gone`: the client went away first.
    pub fn on_done(&mut self, cx: &mut Cx<'_>, client_gone: bool) {
        if let State::Sent(trip) = &mut self.state {
            trip.done(cx, client_gone);
        }
        self.state = State::Done;
    }

    /// What becomes of an answer that is no success. `is_final`: nothing can follow it.
    fn decide(&mut self, cx: &mut Cx<'_>, signal: &Signal, error: &[u8], is_final: bool) -> Flow {
        let State::Sent(trip) = &mut self.state else { return Flow::Continue };
        trip.close();
        trip.failed(cx, signal);
        trip.give_back(cx);
        if matches!(signal.verdict, Verdict::Success | Verdict::ClientFault) {
            trip.pass(cx);
            trip.translate_error(cx, error);
            return Flow::Continue;
        }
        // What the client gets if nothing better is found: the answer of this attempt.
        let mut next = trip.plan.clone();
        let may_go_on = !is_final && next.may_go_on(cx.runtime, cx.now);
        if may_go_on && same_target(cx, &mut next, signal) {
            settle::moved(cx, &trip.plan, "key");
            next.attempts += 1;
            next.round_attempt = self.number + 1;
            cx.effects.push(Effect::SetFilterState(FILTER_STATE, next.encode()));
            // Where Envoy does not retry, the gateway stage gives the claim back.
            let sealed = cx.process_key.map_or_else(|| "1".to_owned(), |key| next.seal(key));
            cx.set_header(RETRY_HEADER, sealed);
            return self.leave(cx);
        }
        next.give_up_target(cx.runtime);
        if may_go_on && cx.process_key.is_some() && routing::has_other_target(cx, &next) {
            settle::moved(cx, &trip.plan, "provider");
            return self.redirect(cx, next);
        }
        match trip.refusal(cx, signal, error) {
            Some(refusal) => self.reply(cx, refusal),
            None => {
                trip.pass(cx);
                trip.translate_error(cx, error);
                Flow::Continue
            }
        }
    }

    /// An endpoint has answered in the stead of a provider that cannot be reached.
    fn replan(&mut self, cx: &mut Cx<'_>) -> Flow {
        let State::Replan(plan) = &self.state else { return Flow::Continue };
        let mut plan = plan.as_ref().clone();
        if plan.claim.is_some() {
            // It was claimed for the attempt that came here instead.
            routing::release(cx, &mut plan);
            plan.attempts = plan.attempts.saturating_sub(1);
            plan.tried.pop();
            if self.number == 1 {
                // Envoy knew of no healthy endpoint and did not even try.
                plan.failures = FAILURES;
            }
        }
        if plan.failures >= FAILURES {
            plan.give_up_target(cx.runtime);
        }
        let here = plan.open_targets(cx.runtime).any(|target| target == plan.target);
        let onward = here || routing::has_other_target(cx, &plan);
        if onward && plan.may_go_on(cx.runtime, cx.now) && cx.process_key.is_some() {
            settle::moved(cx, &plan, "provider");
            return self.redirect(cx, plan);
        }
        let refusal = unreachable(&plan);
        self.reply(cx, refusal)
    }

    /// Another provider: Envoy runs the gateway stage again, for the same request.
    fn redirect(&mut self, cx: &mut Cx<'_>, mut plan: Plan) -> Flow {
        plan.claim = None;
        plan.not_before = UnixTime(0);
        let Some(key) = cx.process_key else { return Flow::Continue };
        let location = format!("{}://{}{}", plan.scheme, plan.host, plan.path);
        cx.set_header(":status", "307");
        cx.set_header("location", location);
        cx.set_header(STATE_HEADER, plan.seal(key));
        if plan.toll.is_some() {
            cx.effects.push(Effect::SetFilterState(SPENT, Spent::Moved.encode()));
        }
        self.leave(cx)
    }

    /// Hands the answer to Envoy's router, which drops it for a retry or a redirect.
    fn leave(&mut self, cx: &mut Cx<'_>) -> Flow {
        self.state = State::Done;
        if self.leaves_early {
            // The headers alone go on, now; the part of the body that is here is never kept.
            cx.effects.push(Effect::ResumeResponse);
            return Flow::Pause;
        }
        cx.set_body(Vec::new());
        Flow::Continue
    }

    fn reply(&mut self, cx: &mut Cx<'_>, refusal: Refusal) -> Flow {
        let mut reply: Reply = refusal.reply(self.dialect);
        reply.headers.push((ANSWERED_HEADER, "1".to_owned()));
        intake::refuse(cx, reply, None);
        self.state = State::Done;
        Flow::Pause
    }
}

/// Claims a key of the same target for one more attempt, if another attempt there makes sense.
fn same_target(cx: &mut Cx<'_>, plan: &mut Plan, signal: &Signal) -> bool {
    match signal.verdict {
        Verdict::Success | Verdict::ClientFault => false,
        Verdict::RateLimited | Verdict::OutOfQuota | Verdict::KeyRejected => {
            routing::claim(cx, plan).is_ok()
        }
        Verdict::ServerError => {
            plan.failures += 1;
            // The same key only where there is nobody else: nothing was wrong with it.
            plan.failures < FAILURES
                && (routing::claim(cx, plan).is_ok()
                    || !routing::has_other_target(cx, plan)
                        && routing::claim_again(cx, plan).is_ok())
        }
        Verdict::Overloaded => {
            plan.failures += 1;
            if plan.failures >= FAILURES || routing::has_other_target(cx, plan) {
                return false;
            }
            // Where only the model is full, another account may have room.
            if signal.scope == Scope::Model && routing::claim(cx, plan).is_ok() {
                return true;
            }
            let wait = signal.hint.filter(|hint| *hint <= SHORT_WAIT);
            // The same key: nothing is wrong with it, and the provider is back by then.
            wait.is_some_and(|wait| {
                plan.not_before = cx.now.after(wait);
                routing::claim_same(cx, plan, plan.not_before)
            })
        }
    }
}

impl Plan {
    /// Takes account of attempts that got no answer: Envoy counts on, the plan did not.
    fn missed(&mut self, attempt: u32) -> bool {
        let missed = attempt.saturating_sub(self.round_attempt);
        if missed > 0 {
            self.failures += missed;
            self.attempts += missed;
            self.round_attempt = attempt;
            self.claim = None;
        }
        missed > 0
    }

    /// Takes a key again that can do nothing at the moment: the least bad of all. Against own limits the
    /// attempt that got no answer was counted; this one is in its place.
    fn insist(&mut self, cx: &Cx<'_>, key: Option<u64>) -> bool {
        let keys = &cx.runtime.keys;
        let index = key.and_then(|key| keys.iter().position(|k| keys::key_hash(k) == key));
        self.claim =
            index.map(|key| Claim { key, reserved: Amounts::default(), probe: false, at: cx.now });
        self.tried.extend(key);
        index.is_some()
    }

    /// Planned for another provider.
    fn is_elsewhere(&self, runtime: &Runtime, provider: &str) -> bool {
        self.resolve(runtime).is_some_and(|target| target.provider.name != provider)
    }

    /// Follows an operator's cluster that leads to another provider than planned (an aggregate cluster).
    fn move_to(&mut self, cx: &Cx<'_>, provider: &str) -> bool {
        let runtime: &Runtime = cx.runtime;
        if !self.is_elsewhere(runtime, provider) {
            return false;
        }
        let target = self.targets(runtime).find(|target| {
            let target = self.resolve_target(runtime, *target);
            target.is_some_and(|target| target.provider.name == provider)
        });
        let Some(target) = target else { return false };
        routing::release(cx, self);
        self.target = target;
        self.tried.clear();
        self.failures = 0;
        true
    }
}

fn unreachable(plan: &Plan) -> Refusal {
    let message = format!("The provider of model \"{}\" could not be reached.", plan.model);
    Refusal::server(503, "provider_unreachable", message).header("retry-after", "1")
}
