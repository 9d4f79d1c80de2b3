//! The `gateway` stage: once per request and round, before the router.
//!
//! Decides who calls, for which model, and which provider is asked; answers itself when nothing can be
//! sent. An internal redirect runs it again for the same request, recognised by an authentic
//! `x-keyward-state`: then nothing is authenticated, limited or counted a second time.

use core::time::Duration;

use crate::address::Source;
use crate::admin;
use crate::consumer::identify::Caller;
use crate::effect::{Cx, Effect, Flow};
use crate::filter_state;
use crate::headers::Headers;
use crate::intake::{self, Pending};
use crate::limit::account::Statement;
use crate::limit::refusal;
use crate::limit::toll::{self, End, Spent};
use crate::plan::{FILTER_STATE, Plan, STATE_HEADER};
use crate::reply::{LONGEST_WAIT, Refusal, Reply};
use crate::routing;
use crate::shortage::{Lack, Shortage};
use crate::time::millis;

/// Names the cluster of the route; the route has `cluster_header: x-keyward-cluster`.
pub const CLUSTER_HEADER: &str = "x-keyward-cluster";
/// Set by the attempt stage on an answer that another key could better; Envoy then retries. The value is
/// the plan of that attempt, sealed.
pub const RETRY_HEADER: &str = "x-keyward-retry";
/// Set by the attempt stage on every answer that it has let through.
pub const ANSWERED_HEADER: &str = "x-keyward-answered";

/// One request in one round.
#[derive(Debug, Default)]
pub struct Gateway {
    state: State,
    /// As [`Pending::source`].
    source: Option<Source>,
    /// How the limits stood that the request was charged on.
    statements: Vec<Statement>,
    answer: Option<Given>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    AwaitingBody(Box<Pending>),
    /// Of a call of Keyward's own API.
    AwaitingOrder(Box<admin::Pending>),
    Planned(Box<Plan>),
    /// Answered here, or passed on with nothing more to do.
    Done,
}

/// What goes to the client of what a provider gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Answer,
    Error,
}

impl Gateway {
    pub fn on_request_headers(
        &mut self,
        cx: &mut Cx<'_>,
        headers: &Headers,
        caller: &Caller,
        end_of_stream: bool,
    ) -> Flow {
        intake::sanitize(cx, headers, |_| false);
        if let Some(mut plan) = resumed(cx, headers) {
            plan.round_attempt = 1;
            toll::take_over(cx, &plan);
            return self.plan(cx, plan);
        }
        match intake::arrive(cx, headers, caller) {
            Ok((source, statements)) => (self.source, self.statements) = (source, statements),
            Err(reply) => return self.answer(cx, reply),
        }
        if let Some(call) = admin::head(cx, headers, caller, end_of_stream) {
            return match call {
                Ok(pending) => {
                    self.state = State::AwaitingOrder(Box::new(pending));
                    Flow::Pause
                }
                Err(reply) => self.answer(cx, reply),
            };
        }
        match intake::head(cx, headers, caller, self.source, end_of_stream) {
            Ok(pending) => {
                self.state = State::AwaitingBody(Box::new(pending));
                Flow::Pause
            }
            Err(reply) => self.answer(cx, reply),
        }
    }

    /// Whether [`Self::on_request_body`] needs the bytes.
    pub fn wants_request_body(&self, end_of_stream: bool) -> bool {
        end_of_stream && matches!(self.state, State::AwaitingBody(_) | State::AwaitingOrder(_))
    }

    /// `body` is all that has come so far.
    pub fn on_request_body(&mut self, cx: &mut Cx<'_>, body: &[u8], end_of_stream: bool) -> Flow {
        let pending = match &self.state {
            State::AwaitingBody(_) | State::AwaitingOrder(_) if !end_of_stream => {
                return Flow::Pause;
            }
            State::AwaitingBody(pending) => pending,
            State::AwaitingOrder(pending) => {
                let reply = admin::body(cx, pending, body);
                return self.answer(cx, reply);
            }
            State::Start | State::Planned(_) | State::Done => return Flow::Continue,
        };
        let plan = intake::body(cx, pending, body).and_then(|mut plan| {
            intake::leave_out_unfit(cx, &mut plan, body)?;
            Ok(plan)
        });
        match plan {
            Ok(mut plan) => {
                match intake::charge(cx, pending, &mut plan) {
                    Ok(statements) => self.statements.extend(statements),
                    Err(refusal) => return self.answer(cx, refusal.reply(plan.endpoint.dialect())),
                }
                intake::count_request(cx, &plan);
                self.plan(cx, plan)
            }
            Err(reply) => self.answer(cx, reply),
        }
    }

    pub fn on_response_headers(
        &mut self,
        cx: &mut Cx<'_>,
        headers: &Headers,
        local: Local,
    ) -> Flow {
        for (name, _) in headers.iter() {
            let ours = [STATE_HEADER, RETRY_HEADER, ANSWERED_HEADER];
            if let Some(name) = ours.iter().find(|ours| ours.as_bytes() == name) {
                cx.remove_header(*name);
            }
        }
        let State::Planned(plan) = &mut self.state else { return Flow::Continue };
        let status = headers.text(":status").and_then(|s| s.parse::<u16>().ok()).unwrap_or(502);
        if headers.contains(RETRY_HEADER) || headers.contains(STATE_HEADER) {
            // Envoy did not move on although the attempt stage asked for it: no retries or redirects
            // are left, a circuit breaker is open, or the route lacks the policy.
            cx.count("moves_refused", &[("model", model_label(cx, plan))]);
            let unsent = headers.text(RETRY_HEADER).zip(cx.process_key);
            if let Some(mut unsent) = unsent.and_then(|(sealed, key)| Plan::open(sealed, key)) {
                routing::release(cx, &mut unsent);
            }
            let mut shortage = routing::shortage(cx, plan);
            if shortage.ready_at().is_none() {
                shortage.note(Lack::Tried, cx.now.after(Duration::from_secs(1)));
            }
            let reply = routing::refusal(cx, plan, &shortage).reply(plan.endpoint.dialect());
            toll::settle(cx, plan, End::Failed);
            return self.answer(cx, reply);
        }
        if is_answered(headers) || status < 400 {
            self.answer = Some(if status < 400 { Given::Answer } else { Given::Error });
            // A refusal has its own hints.
            if status < 400 {
                if self.statements.is_empty() {
                    self.statements = toll::statements(cx, plan);
                }
                for (name, value) in refusal::fields(&self.statements, cx.now) {
                    cx.set_header(name, value);
                }
            }
            return Flow::Continue;
        }
        // Envoy's own answer: no attempt got one from a provider.
        let refusal = match status {
            429 => limited_elsewhere(headers),
            _ if local.undecided => undecided(),
            _ => local_reply(status, &plan.model),
        };
        let reply = refusal.reply(plan.endpoint.dialect());
        if local.unsent {
            routing::release(cx, plan);
        }
        toll::settle(cx, plan, if local.unsent { End::Unsent } else { End::Failed });
        self.answer(cx, reply)
    }

    /// Whether [`Self::on_done`] has anything left to do; it wants the filter state [`SPENT`](toll::SPENT) then.
    pub fn is_open(&self) -> bool {
        matches!(&self.state, State::Planned(plan) if plan.toll.is_some())
    }

    /// The stream is over, however it ended, or goes on in another round. `spent`: what the attempt stage left.
    pub fn on_done(&mut self, cx: &mut Cx<'_>, spent: Option<&[u8]>) {
        let State::Planned(plan) = &mut self.state else { return };
        let spent = spent.and_then(Spent::decode);
        match (self.answer, spent) {
            (None, Some(Spent::Moved)) => toll::hand_on(cx, plan),
            (Some(Given::Error), None | Some(Spent::Moved)) => toll::settle(cx, plan, End::Failed),
            (_, Some(Spent::Used(used))) => toll::settle(cx, plan, End::Answered(Some(used))),
            (_, None | Some(Spent::Moved)) => toll::settle(cx, plan, End::Answered(None)),
        }
        self.state = State::Done;
    }

    fn plan(&mut self, cx: &mut Cx<'_>, mut plan: Plan) -> Flow {
        if !plan.may_go_on(cx.runtime, cx.now) {
            let shortage = routing::shortage(cx, &plan);
            return self.exhausted(cx, plan, &shortage);
        }
        if let Err(shortage) = routing::advance(cx, &mut plan) {
            cx.count("exhausted", &[("model", model_label(cx, &plan))]);
            return self.exhausted(cx, plan, &shortage);
        }
        filter_state::planned(cx, &plan, plan.attempts == 0);
        plan.attempts += 1;
        let Some(target) = plan.resolve(cx.runtime) else {
            toll::settle(cx, &mut plan, End::Unsent);
            return self
                .answer(cx, internal("The model has no target.").reply(plan.endpoint.dialect()));
        };
        let failover = &cx.runtime.failover;
        cx.effects.push(Effect::SetHeader(
            CLUSTER_HEADER.into(),
            target.provider.cluster.clone().into_bytes(),
        ));
        // Whether a failed attempt is retried is the attempt stage's decision, told by a header.
        cx.set_header("x-envoy-retry-on", "retriable-headers,connect-failure,refused-stream,reset");
        cx.set_header("x-envoy-retriable-header-names", RETRY_HEADER);
        let retries = failover.max_attempts.saturating_sub(plan.attempts);
        cx.set_header("x-envoy-max-retries", retries.to_string());
        if let Some(timeout) = failover.per_try_timeout {
            cx.set_header("x-envoy-upstream-rq-per-try-timeout-ms", millis(timeout).to_string());
        }
        cx.effects.push(Effect::SetFilterState(FILTER_STATE, plan.encode()));
        self.state = State::Planned(Box::new(plan));
        Flow::Continue
    }

    /// Nothing can be sent, or not once more.
    fn exhausted(&mut self, cx: &mut Cx<'_>, mut plan: Plan, shortage: &Shortage) -> Flow {
        let end = if plan.attempts == 0 { End::Unsent } else { End::Failed };
        toll::settle(cx, &mut plan, end);
        let refusal = routing::refusal(cx, &plan, shortage);
        self.answer(cx, refusal.reply(plan.endpoint.dialect()))
    }

    fn answer(&mut self, cx: &mut Cx<'_>, reply: Reply) -> Flow {
        intake::refuse(cx, reply, self.source);
        self.state = State::Done;
        Flow::Pause
    }
}

/// Whether an attempt stage has let this answer through.
pub fn is_answered(headers: &Headers) -> bool {
    headers.contains(ANSWERED_HEADER)
}

/// What the host knows of an answer that no provider gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local {
    /// The router was not reached: a filter between it and this stage answered.
    pub unsent: bool,
    /// Envoy's `ratelimit` filter did not get to know whether the request may pass.
    pub undecided: bool,
}

/// The plan of an earlier round of this request, if the header is authentic.
fn resumed(cx: &Cx<'_>, headers: &Headers) -> Option<Plan> {
    let plan = Plan::open(headers.text(STATE_HEADER)?, cx.process_key?)?;
    // Claims of the last round were settled there.
    Some(Plan { claim: None, ..plan })
}

/// The configured name of the model, so that the label is bounded.
fn model_label<'a>(cx: &Cx<'a>, plan: &Plan) -> &'a str {
    cx.runtime.models.find(&plan.model).map_or("other", |model| model.name.as_str())
}

/// Another filter of Envoy's, such as `ratelimit`, had enough; its headers say until when, if it is told to.
fn limited_elsewhere(headers: &Headers) -> Refusal {
    let message = "The rate limit of the gateway is used up.";
    let mut refusal = Refusal {
        kind: "rate_limit_error",
        ..Refusal::client(429, "rate_limit_exceeded", message)
    };
    for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
        if let Some(value) = headers.text(name) {
            refusal = refusal.header(name, value);
        }
    }
    // `DRAFT_VERSION_03` of Envoy's filter: whole seconds.
    let told = ["retry-after", "x-ratelimit-reset"].iter().find_map(|name| headers.text(name));
    match told {
        Some(told) => {
            refusal.wait = told.parse().ok().map(Duration::from_secs);
            let soon = refusal.wait.is_none_or(|wait| wait <= LONGEST_WAIT);
            refusal = refusal.header("retry-after", told);
            // Else SDKs that do not wait that long try again at once.
            if soon { refusal } else { refusal.header("x-should-retry", "false") }
        }
        None => refusal,
    }
}

/// The rate limit service did not answer, and the filter is told to deny then.
fn undecided() -> Refusal {
    let message = "The rate limit service of the gateway does not answer.";
    Refusal::server(503, "rate_limit_unavailable", message).header("retry-after", "1")
}

fn local_reply(status: u16, model: &str) -> Refusal {
    match status {
        413 => Refusal::client(
            413,
            "request_too_large",
            "The request body is larger than Envoy buffers.",
        ),
        408 | 504 => Refusal::server(
            504,
            "provider_timeout",
            format!("The provider of model \"{model}\" did not answer in time."),
        ),
        _ => Refusal::server(
            503,
            "provider_unreachable",
            format!("The provider of model \"{model}\" could not be reached."),
        )
        .header("retry-after", "1"),
    }
}

fn internal(message: &str) -> Refusal {
    Refusal::server(500, "internal_error", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;
    use crate::runtime::{Runtime, load};
    use crate::time::UnixTime;
    use serde_json::json;

    const BODY: &[u8] = br#"{"model":"m","messages":[]}"#;

    fn runtime() -> Runtime {
        let document = json!({
            "providers": [{"name": "openai", "cluster": "outbound", "keys": [{"id": "a", "secret": {"inline": "s"}}]}],
            "models": [{"name": "m", "targets": [{"provider": "openai"}]}],
            "consumers": [{"name": "c"}],
            "anonymous": {"consumer": "c"},
            "failover": {"max_attempts": 3, "per_try_timeout": "2s"},
        });
        load(document.to_string().as_bytes(), &|_| None).unwrap()
    }

    fn planned(gateway: &mut Gateway, cx: &mut Cx<'_>) {
        let headers: Headers =
            [(":method", "POST"), (":path", "/v1/chat/completions")].into_iter().collect();
        assert_eq!(
            gateway.on_request_headers(cx, &headers, &Caller::default(), false),
            Flow::Pause
        );
        assert!(!gateway.wants_request_body(false) && gateway.wants_request_body(true));
        assert_eq!(gateway.on_request_body(cx, b"", false), Flow::Pause);
        assert_eq!(gateway.on_request_body(cx, BODY, true), Flow::Continue);
    }

    fn header<'e>(effects: &'e [Effect], wanted: &str) -> Option<&'e str> {
        effects.iter().find_map(|effect| match effect {
            Effect::SetHeader(name, value) if name == wanted => core::str::from_utf8(value).ok(),
            _ => None,
        })
    }

    #[test]
    fn a_plan_is_told_to_route_router_and_attempt_stage() {
        let (runtime, memory) = (runtime(), Memory::default());
        let mut cx = Cx::new(&runtime, &memory, None, UnixTime(1_800_000_000_000), 1);
        planned(&mut Gateway::default(), &mut cx);
        for (name, value) in [
            (CLUSTER_HEADER, "outbound"),
            ("x-envoy-retriable-header-names", RETRY_HEADER),
            ("x-envoy-max-retries", "2"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "2000"),
        ] {
            assert_eq!(header(&cx.effects, name), Some(value));
        }
        let plan = cx.effects.iter().find_map(|effect| match effect {
            Effect::SetFilterState(FILTER_STATE, plan) => Plan::decode(plan),
            _ => None,
        });
        assert_eq!(plan.map(|plan| (plan.attempts, plan.tried.len())), Some((1, 1)));
    }

    /// Answers that no attempt stage has let through are Envoy's own.
    #[test]
    fn envoy_s_own_answers_become_openai_s() {
        let (runtime, memory) = (runtime(), Memory::default());
        for (status, answered, expected) in [
            ("503", false, Some((503, "provider_unreachable"))),
            ("504", false, Some((504, "provider_timeout"))),
            ("408", false, Some((504, "provider_timeout"))),
            ("413", false, Some((413, "request_too_large"))),
            ("404", false, Some((503, "provider_unreachable"))),
            ("odd", false, Some((503, "provider_unreachable"))),
            ("200", false, None),
            ("429", true, None),
        ] {
            let mut cx = Cx::new(&runtime, &memory, None, UnixTime(1_800_000_000_000), 1);
            let mut gateway = Gateway::default();
            planned(&mut gateway, &mut cx);
            cx.effects.clear();
            let marker = answered.then_some((ANSWERED_HEADER, "1"));
            let headers: Headers = [(":status", status)].into_iter().chain(marker).collect();
            let flow = gateway.on_response_headers(&mut cx, &headers, Local::default());
            let reply = cx.effects.iter().find_map(|effect| match effect {
                Effect::Reply(reply) => Some((reply.status, reply.code)),
                _ => None,
            });
            assert_eq!((reply, flow == Flow::Pause), (expected, expected.is_some()), "{status}");
            let removed = Effect::RemoveHeader(ANSWERED_HEADER.to_owned());
            assert_eq!(cx.effects.contains(&removed), answered);
        }
    }

    fn answer_of_envoy(
        memory: &Memory,
        local: Local,
        headers: &[(&'static str, &'static str)],
    ) -> Reply {
        let runtime = runtime();
        let mut cx = Cx::new(&runtime, memory, None, UnixTime(1_800_000_000_000), 1);
        let mut gateway = Gateway::default();
        planned(&mut gateway, &mut cx);
        let headers: Headers = headers.iter().copied().collect();
        assert_eq!(gateway.on_response_headers(&mut cx, &headers, local), Flow::Pause);
        let reply = cx.effects.iter().rev().find_map(|effect| match effect {
            Effect::Reply(reply) => Some(reply.clone()),
            _ => None,
        });
        reply.unwrap()
    }

    #[test]
    fn a_limit_of_another_filter_is_told_as_one_of_keyward_s() {
        let unsent = Local { unsent: true, undecided: false };
        for (told, retry_after, final_answer) in [
            (vec![], None, false),
            (vec![("retry-after", "7")], Some("7"), false),
            (vec![("x-ratelimit-reset", "60")], Some("60"), false),
            (vec![("x-ratelimit-reset", "61")], Some("61"), true),
            (vec![("x-ratelimit-reset", "9"), ("retry-after", "8")], Some("8"), false),
        ] {
            let headers = [vec![(":status", "429")], told].concat();
            let reply = answer_of_envoy(&Memory::default(), unsent, &headers);
            assert_eq!((reply.status, reply.code), (429, "rate_limit_exceeded"));
            let header = |name| {
                reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
            };
            assert_eq!(header("retry-after"), retry_after);
            assert_eq!(header("x-should-retry"), final_answer.then_some("false"));
        }
    }

    #[test]
    fn a_rate_limit_service_that_does_not_answer_is_named() {
        let local = Local { unsent: true, undecided: true };
        let reply = answer_of_envoy(&Memory::default(), local, &[(":status", "500")]);
        assert_eq!((reply.status, reply.code), (503, "rate_limit_unavailable"));
    }
}
