//! The `standalone` stage: both decisions in one HTTP filter, where upstream filters cannot be loaded
//! (Istio `WasmPlugin`, Envoy Gateway policies).
//!
//! It sends on known key state and cannot try again within the request: an exhausted key costs one
//! request a 429 whose hint says "at once", and the next request goes out with another key. Where the
//! route has a fixed cluster, the provider is that cluster's; with `cluster_header` it is chosen.
//!
//! In [`Mode::Headers`] nothing is ever held at the headers, so it works without
//! `allow_on_headers_stop_iteration`: the key is chosen before the model is known, and a body is patched
//! on its way.

use crate::address::Source;
use crate::admin;
use crate::consumer::identify::Caller;
use crate::effect::{Cx, Effect, Flow};
use crate::endpoint::{Dialect, Endpoint};
use crate::filter_state;
use crate::formats::Call;
use crate::gateway::{ANSWERED_HEADER, CLUSTER_HEADER};
use crate::headers::Headers;
use crate::intake::{self, Pending};
use crate::keys::{self, Want};
use crate::limit::account::Statement;
use crate::limit::toll::{self, End};
use crate::limit::{Amounts, refusal};
use crate::reply::{Refusal, Reply};
use crate::routing;
use crate::runtime::{Mode, Provider, ProviderIndex, Runtime, Secret};
use crate::signal::{Signal, Verdict};
use crate::trip::{Progress, Trip};
use crate::upstream::{self, Own};

/// What the host knows of the route.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host<'a> {
    /// Route metadata `keyward.provider`.
    pub provider: Option<&'a str>,
    /// Where the route leads, if that is fixed.
    pub cluster: Option<&'a str>,
}

/// One request.
#[derive(Debug, Default)]
pub struct Standalone {
    state: State,
    /// As [`Pending::source`].
    source: Option<Source>,
    dialect: Dialect,
    /// Of the answer, where headers went on before the body was there.
    refusal: Option<Reply>,
    /// How the limits stood that the request was charged on.
    statements: Vec<Statement>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    /// Headers are held, and kept here to be changed when the body is known.
    AwaitingBody(Box<Pending>, Headers, Option<ProviderIndex>),
    /// Of a call of Keyward's own API.
    AwaitingOrder(Box<admin::Pending>),
    /// Headers are gone with a key; the body still needs to be read and patched.
    Ahead(Box<Pending>, Ahead),
    Sent(Box<Trip>),
    Done,
}

/// What was decided before the body was known.
#[derive(Debug)]
struct Ahead {
    provider: ProviderIndex,
    claim: keys::Claim,
    headers: Headers,
}

impl Ahead {
    /// Nothing is sent after all.
    fn release(&self, cx: &Cx<'_>) {
        let runtime = cx.runtime;
        let provider = runtime.providers.get(self.provider);
        if let (Some(provider), Some(key)) = (provider, runtime.keys.get(self.claim.key)) {
            keys::release(cx.shared, provider, key, "", self.claim);
        }
    }
}

impl Standalone {
    pub fn on_request_headers(
        &mut self,
        cx: &mut Cx<'_>,
        headers: &Headers,
        host: &Host<'_>,
        caller: &Caller,
        end_of_stream: bool,
    ) -> Flow {
        let runtime = cx.runtime;
        intake::sanitize(cx, headers, |name| is_secret_header(runtime, name));
        match intake::arrive(cx, headers, caller) {
            Ok((source, statements)) => (self.source, self.statements) = (source, statements),
            Err(reply) => return self.answer(cx, reply),
        }
        if let Some(call) = admin::head(cx, headers, caller, end_of_stream) {
            let reply = match call {
                Ok(pending) if runtime.mode == Mode::Body => {
                    self.state = State::AwaitingOrder(Box::new(pending));
                    return Flow::Pause;
                }
                Ok(pending) => admin::without_body(cx, &pending),
                Err(reply) => reply,
            };
            return self.answer(cx, reply);
        }
        let pending = match intake::head(cx, headers, caller, self.source, end_of_stream) {
            Ok(pending) => pending,
            Err(reply) => return self.answer(cx, reply),
        };
        self.dialect = pending.endpoint.dialect();
        let provider = pinned(runtime, host);
        match runtime.mode {
            Mode::Body => {
                self.state = State::AwaitingBody(Box::new(pending), headers.clone(), provider);
                Flow::Pause
            }
            Mode::Headers => self.go_ahead(cx, pending, headers, provider),
        }
    }

    /// Whether [`Self::on_request_body`] needs the bytes.
    pub fn wants_request_body(&self, end_of_stream: bool) -> bool {
        end_of_stream && self.awaits_body()
    }

    const fn awaits_body(&self) -> bool {
        matches!(self.state, State::AwaitingBody(..) | State::AwaitingOrder(_) | State::Ahead(..))
    }

    /// `body` is all that has come so far.
    pub fn on_request_body(&mut self, cx: &mut Cx<'_>, body: &[u8], end_of_stream: bool) -> Flow {
        if !self.awaits_body() {
            return Flow::Continue;
        }
        if !end_of_stream {
            return Flow::Pause;
        }
        match core::mem::take(&mut self.state) {
            State::AwaitingBody(pending, headers, provider) => {
                self.send(cx, &pending, &headers, provider, body)
            }
            State::AwaitingOrder(pending) => {
                let reply = admin::body(cx, &pending, body);
                self.answer(cx, reply)
            }
            State::Ahead(pending, ahead) => self.catch_up(cx, &pending, &ahead, body),
            State::Start | State::Sent(_) | State::Done => Flow::Continue,
        }
    }

    pub fn on_response_headers(
        &mut self,
        cx: &mut Cx<'_>,
        headers: &Headers,
        end_of_stream: bool,
    ) -> Flow {
        if headers.contains(ANSWERED_HEADER) {
            cx.remove_header(ANSWERED_HEADER);
        }
        let hold = cx.runtime.mode == Mode::Body;
        let State::Sent(trip) = &mut self.state else { return Flow::Continue };
        trip.answered(cx.runtime, headers, hold, cx.now);
        if hold || end_of_stream {
            return if end_of_stream { self.on_response_body(cx, &[], true) } else { Flow::Pause };
        }
        if trip.status < 300 {
            trip.succeeded(cx);
            trip.pass(cx);
            self.passed(cx);
            return Flow::Continue;
        }
        // The status cannot change once the headers are gone, and the body cannot be waited for.
        let signal = trip.classify_head(cx);
        if trip.status == 403 {
            // Nor can it be judged: a key is not refused for what may be the client's fault.
            trip.pass(cx);
            self.passed(cx);
            return Flow::Continue;
        }
        trip.failed(cx, &signal);
        trip.give_back(cx);
        match trip.refusal(cx, &signal, b"?") {
            Some(refusal) => {
                let reply = refusal.reply(self.dialect);
                upstream::clean_answer(cx, &trip.headers);
                cx.remove_header("content-length");
                cx.set_header(":status", reply.status.to_string());
                for (name, value) in &reply.headers {
                    cx.set_header(name, value.as_bytes());
                }
                self.refusal = Some(reply);
            }
            None => {
                trip.pass(cx);
                self.passed(cx);
            }
        }
        Flow::Continue
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
        match trip.feed(cx, body, end_of_stream) {
            Progress::Held => Flow::Pause,
            Progress::Flowing => Flow::Continue,
            Progress::Opened => {
                trip.pass(cx);
                self.passed(cx);
                Flow::Continue
            }
            Progress::Refused(signal, error) => self.refused(cx, &signal, &error),
        }
    }

    /// Whether [`Self::on_response_body`] is to see all that was held back, not only what is new.
    pub fn holds_response(&self) -> bool {
        matches!(&self.state, State::Sent(trip) if trip.holds())
    }

    /// Whether [`Self::on_done`] has anything left to do.
    pub fn is_open(&self) -> bool {
        self.wants_response_body()
            || matches!(self.state, State::Ahead(..))
            || matches!(&self.state, State::Sent(trip) if trip.plan.toll.is_some())
    }

    /// The request is over, however it ended.
    pub fn on_done(&mut self, cx: &mut Cx<'_>, client_gone: bool) {
        match &mut self.state {
            State::Sent(trip) => {
                let end = match (trip.used(cx.runtime), trip.status) {
                    (Some(used), _) => End::Answered(Some(used)),
                    (None, 200..300) => End::Answered(None),
                    (None, 0) if client_gone => End::Answered(None),
                    (None, _) => End::Failed,
                };
                trip.done(cx, client_gone);
                toll::settle(cx, &mut trip.plan, end);
            }
            State::Ahead(_, ahead) => ahead.release(cx),
            State::Start | State::AwaitingBody(..) | State::AwaitingOrder(_) | State::Done => {}
        }
        self.state = State::Done;
    }

    fn send(
        &mut self,
        cx: &mut Cx<'_>,
        pending: &Pending,
        headers: &Headers,
        provider: Option<ProviderIndex>,
        body: &[u8],
    ) -> Flow {
        let plan = intake::body(cx, pending, body).and_then(|mut plan| {
            plan.only = provider;
            if plan.open_targets(cx.runtime).next().is_none() {
                return Err(intake::no_model(&plan.model).reply(plan.endpoint.dialect()));
            }
            intake::leave_out_unfit(cx, &mut plan, body)?;
            Ok(plan)
        });
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(reply) => return self.answer(cx, reply),
        };
        match intake::charge(cx, pending, &mut plan) {
            Ok(statements) => self.statements.extend(statements),
            Err(refusal) => return self.answer(cx, refusal.reply(self.dialect)),
        }
        intake::count_request(cx, &plan);
        if let Err(shortage) = routing::advance(cx, &mut plan) {
            toll::settle(cx, &mut plan, End::Unsent);
            let refusal = routing::refusal(cx, &plan, &shortage);
            return self.answer(cx, refusal.reply(self.dialect));
        }
        filter_state::planned(cx, &plan, true);
        plan.attempts = 1;
        if let Some(target) = plan.resolve(cx.runtime) {
            let cluster = target.provider.cluster.clone();
            let mut unsent = plan.toll.is_some().then(|| plan.clone());
            let trip = match Trip::start(cx, headers, plan) {
                Ok(trip) => trip,
                Err(refusal) => {
                    if let Some(unsent) = &mut unsent {
                        toll::settle(cx, unsent, End::Unsent);
                    }
                    return self.answer(cx, refusal.reply(self.dialect));
                }
            };
            // After `Trip::start`, which strips it.
            cx.effects.push(Effect::SetHeader(CLUSTER_HEADER.into(), cluster.into_bytes()));
            return self.patch(cx, trip, body, true);
        }
        let refusal = Refusal::server(500, "internal_error", "The model has no target.");
        self.answer(cx, refusal.reply(self.dialect))
    }

    /// Everything that can be decided without the body.
    fn go_ahead(
        &mut self,
        cx: &mut Cx<'_>,
        pending: Pending,
        headers: &Headers,
        provider: Option<ProviderIndex>,
    ) -> Flow {
        let runtime = cx.runtime;
        let only = (runtime.providers.len() == 1).then_some(0);
        let Some((index, provider)) = provider
            .or(only)
            .and_then(|index| runtime.providers.get(index).map(|provider| (index, provider)))
        else {
            let message =
                "The route names no provider: set its metadata keyward.provider, or mode: body.";
            return self
                .answer(cx, Refusal::server(500, "internal_error", message).reply(self.dialect));
        };
        let own = runtime.consumers.own_keys(&pending.access.consumer, index);
        // Of the model nothing is known yet: one request.
        let need = Amounts { requests: 1, ..Amounts::default() };
        let want = Want { model: "", need, session: pending.session, tried: &[], own };
        let claimed = keys::claim(cx.shared, runtime, provider, &want, cx.now, &mut cx.random);
        let claim = match claimed {
            Ok(claim) => claim,
            Err(shortage) => {
                let quota = crate::reply::Quota::default();
                let refusal = Refusal::shortage(&shortage, "*", quota, cx.now, &mut cx.random);
                return self.answer(cx, refusal.reply(self.dialect));
            }
        };
        let ahead = Ahead { provider: index, claim, headers: headers.clone() };
        let credentials =
            runtime.keys.get(claim.key).and_then(|key| upstream::credentials(headers, key));
        let Some(credentials) = credentials else {
            ahead.release(cx);
            let message = "Envoy did not supply the secret of a key.";
            return self
                .answer(cx, Refusal::server(503, "no_usable_key", message).reply(self.dialect));
        };
        // A path with the model's name in it cannot be written: nobody knows it yet.
        let (endpoint, stream) = (pending.endpoint, false);
        let addressed = provider.way(endpoint).and_then(|way| {
            let call = Call { endpoint, way, model: "", stream };
            let own = Own::of(&pending.path, &pending.own_headers, &call);
            upstream::address(cx, headers, provider, &call, &own, &credentials)
        });
        if addressed.is_none() {
            ahead.release(cx);
            let message = format!(
                "The provider \"{}\" cannot be used with this endpoint in mode headers.",
                provider.name
            );
            let refusal = Refusal::client(400, "unsupported_endpoint", message);
            return self.answer(cx, refusal.reply(self.dialect));
        }
        // Nobody knows yet how long the patched body will be.
        cx.remove_header("content-length");
        self.state = State::Ahead(Box::new(pending), ahead);
        Flow::Continue
    }

    /// The body of a request whose headers are gone.
    fn catch_up(&mut self, cx: &mut Cx<'_>, pending: &Pending, ahead: &Ahead, body: &[u8]) -> Flow {
        let plan = intake::body(cx, pending, body).and_then(|mut plan| {
            plan.only = Some(ahead.provider);
            intake::leave_out_unfit(cx, &mut plan, body)?;
            let target = plan
                .open_targets(cx.runtime)
                .next()
                .ok_or_else(|| intake::no_model(&plan.model).reply(plan.endpoint.dialect()))?;
            plan.target = target;
            Ok(plan)
        });
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(reply) => {
                ahead.release(cx);
                return self.answer(cx, reply);
            }
        };
        match intake::charge(cx, pending, &mut plan) {
            // Headers of the answer are still to come.
            Ok(statements) => self.statements.extend(statements),
            Err(refusal) => {
                ahead.release(cx);
                return self.answer(cx, refusal.reply(self.dialect));
            }
        }
        intake::count_request(cx, &plan);
        filter_state::planned(cx, &plan, true);
        plan.attempts = 1;
        plan.claim = Some(ahead.claim);
        if let Some(key) = cx.runtime.keys.get(ahead.claim.key) {
            plan.tried.push(keys::key_hash(key));
        }
        let mut unsent = plan.toll.is_some().then(|| plan.clone());
        let trip = match Trip::resume(cx, &ahead.headers, plan) {
            Ok(trip) => trip,
            Err(refusal) => {
                if let Some(unsent) = &mut unsent {
                    toll::settle(cx, unsent, End::Unsent);
                }
                return self.answer(cx, refusal.reply(self.dialect));
            }
        };
        self.patch(cx, trip, body, false)
    }

    fn patch(&mut self, cx: &mut Cx<'_>, mut trip: Trip, body: &[u8], headers_held: bool) -> Flow {
        match trip.patches_body.then(|| trip.patched(cx.runtime, body)) {
            Some(Some(patched)) => {
                if headers_held {
                    cx.set_header("content-length", patched.len().to_string());
                }
                cx.set_body(patched);
            }
            // What cannot be translated does not leave.
            Some(None) if trip.translates() => {
                trip.give_back(cx);
                toll::settle(cx, &mut trip.plan, End::Unsent);
                let message = "The request could not be written for its provider.";
                let refusal = Refusal::server(500, "internal_error", message);
                return self.answer(cx, refusal.reply(self.dialect));
            }
            Some(None) | None => {}
        }
        self.state = State::Sent(Box::new(trip));
        Flow::Continue
    }

    fn refused(&mut self, cx: &mut Cx<'_>, signal: &Signal, error: &[u8]) -> Flow {
        let State::Sent(trip) = &mut self.state else { return Flow::Continue };
        if let Some(reply) = &self.refusal {
            // Judged by its headers before; the body may know more, such as a quota that is used up.
            trip.learned(cx, signal);
            trip.close();
            cx.set_body(reply.body.clone());
            return Flow::Continue;
        }
        trip.close();
        trip.learned(cx, signal);
        if cx.runtime.mode == Mode::Headers {
            trip.translate_error(cx, error);
            return Flow::Continue;
        }
        let refusal = match signal.verdict {
            Verdict::Success | Verdict::ClientFault => None,
            _ => trip.refusal(cx, signal, error),
        };
        match refusal {
            Some(refusal) => {
                toll::settle(cx, &mut trip.plan, End::Failed);
                self.answer(cx, refusal.reply(self.dialect))
            }
            None => {
                trip.pass(cx);
                trip.translate_error(cx, error);
                self.passed(cx);
                Flow::Continue
            }
        }
    }

    /// The headers of an answer go to the client.
    fn passed(&self, cx: &mut Cx<'_>) {
        cx.remove_header(ANSWERED_HEADER);
        if !matches!(&self.state, State::Sent(trip) if trip.status < 400) {
            return;
        }
        for (name, value) in refusal::fields(&self.statements, cx.now) {
            cx.set_header(name, value);
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, reply: Reply) -> Flow {
        intake::refuse(cx, reply, self.source);
        self.state = State::Done;
        Flow::Pause
    }
}

/// Whether a configuration that is sound can be served by this stage.
///
/// # Errors
/// In [`Mode::Headers`], one line for each provider whose path has the model in it: it is not known in time.
pub fn check(runtime: &Runtime) -> Result<(), String> {
    let endpoint = Endpoint::ChatCompletions;
    let is_reached = |provider: &Provider| {
        provider.way(endpoint).is_none_or(|way| {
            provider.path(&Call { endpoint, way, model: "", stream: false }).is_some()
        })
    };
    let unreached: Vec<String> = (0..)
        .zip(&runtime.providers)
        .filter(|(_, provider)| runtime.mode == Mode::Headers && !is_reached(provider))
        .map(|(index, _): (usize, _)| {
            format!("providers[{index}]: its paths name the model, which mode headers does not know: use mode: body")
        })
        .collect();
    if unreached.is_empty() { Ok(()) } else { Err(unreached.join("\n")) }
}

/// The provider that the route leads to, if it leads to one.
fn pinned(runtime: &Runtime, host: &Host<'_>) -> Option<ProviderIndex> {
    let by = |matches: &dyn Fn(&Provider) -> bool| runtime.providers.iter().position(matches);
    host.provider
        .and_then(|name| by(&|provider| provider.name == name))
        .or_else(|| host.cluster.and_then(|name| by(&|provider| provider.cluster == name)))
}

fn is_secret_header(runtime: &Runtime, name: &str) -> bool {
    runtime.keys.iter().any(|key| matches!(&key.secret, Secret::Header(header) if header == name))
}
