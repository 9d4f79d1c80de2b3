//! The `gateway` stage: once per request and round, before the router.
//!
//! Decides who calls, for which model, and which provider is asked; answers itself when nothing can be
//! sent. An internal redirect runs it again for the same request, recognised by an authentic
//! `x-keyward-state`: then nothing is authenticated, limited or counted a second time.

use crate::consumer::identify::Caller;
use crate::effect::{Cx, Effect, Flow};
use crate::headers::Headers;
use crate::intake::{self, Pending};
use crate::plan::{FILTER_STATE, Plan, STATE_HEADER};
use crate::reply::{Refusal, Reply};
use crate::routing;
use crate::shortage::Lack;
use crate::time::millis;

/// Names the cluster of the route; the route has `cluster_header: x-keyward-cluster`.
pub const CLUSTER_HEADER: &str = "x-keyward-cluster";
/// Set by the attempt stage on an answer that another key could better; Envoy then retries.
pub const RETRY_HEADER: &str = "x-keyward-retry";
/// Set by the attempt stage on every answer that it has let through.
pub const ANSWERED_HEADER: &str = "x-keyward-answered";

/// One request in one round.
#[derive(Debug, Default)]
pub struct Gateway {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    AwaitingBody(Pending),
    Planned(Box<Plan>),
    /// Answered here, or passed on with nothing more to do.
    Done,
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
            return self.plan(cx, plan);
        }
        match intake::head(cx, headers, caller, end_of_stream) {
            Ok(pending) => {
                self.state = State::AwaitingBody(pending);
                Flow::Pause
            }
            Err(reply) => self.answer(cx, reply),
        }
    }

    /// Whether [`Self::on_request_body`] needs the bytes.
    pub fn wants_request_body(&self, end_of_stream: bool) -> bool {
        end_of_stream && matches!(self.state, State::AwaitingBody(_))
    }

    /// `body` is all that has come so far.
    pub fn on_request_body(&mut self, cx: &mut Cx<'_>, body: &[u8], end_of_stream: bool) -> Flow {
        let State::AwaitingBody(pending) = &self.state else { return Flow::Continue };
        if !end_of_stream {
            return Flow::Pause;
        }
        match intake::body(cx, pending, body) {
            Ok(plan) => {
                intake::count_request(cx, &plan);
                self.plan(cx, plan)
            }
            Err(reply) => self.answer(cx, reply),
        }
    }

    pub fn on_response_headers(&mut self, cx: &mut Cx<'_>, headers: &Headers) -> Flow {
        for (name, _) in headers.iter() {
            let ours = [STATE_HEADER, RETRY_HEADER, ANSWERED_HEADER];
            if let Some(name) = ours.iter().find(|ours| ours.as_bytes() == name) {
                cx.remove_header(*name);
            }
        }
        let State::Planned(plan) = &self.state else { return Flow::Continue };
        let status = headers.text(":status").and_then(|s| s.parse::<u16>().ok()).unwrap_or(502);
        if headers.contains(RETRY_HEADER) || headers.contains(STATE_HEADER) {
            // Envoy did not move on although the attempt stage asked for it: no retries or redirects
            // are left, a circuit breaker is open, or the route lacks the policy.
            cx.count("moves_refused", &[("model", model_label(cx, plan))]);
            let mut shortage = routing::shortage(cx, plan);
            if shortage.ready_at().is_none() {
                shortage.note(Lack::Tried, cx.now.after(core::time::Duration::from_secs(1)));
            }
            let refusal = routing::refusal(cx, plan, &shortage);
            return self.answer(cx, refusal.openai());
        }
        if headers.contains(ANSWERED_HEADER) || status < 400 {
            return Flow::Continue;
        }
        // Envoy's own answer: no attempt got one from a provider.
        let refusal = local_reply(status, &plan.model);
        self.answer(cx, refusal.openai())
    }

    fn plan(&mut self, cx: &mut Cx<'_>, mut plan: Plan) -> Flow {
        if !plan.may_go_on(cx.runtime, cx.now) {
            let shortage = routing::shortage(cx, &plan);
            let refusal = routing::refusal(cx, &plan, &shortage);
            return self.answer(cx, refusal.openai());
        }
        if let Err(shortage) = routing::advance(cx, &mut plan) {
            cx.count("exhausted", &[("model", model_label(cx, &plan))]);
            let refusal = routing::refusal(cx, &plan, &shortage);
            return self.answer(cx, refusal.openai());
        }
        plan.attempts += 1;
        let Some(target) = plan.resolve(cx.runtime) else {
            return self.answer(cx, internal("The model has no target.").openai());
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
        cx.effects.push(Effect::ClearRouteCache);
        self.state = State::Planned(Box::new(plan));
        Flow::Continue
    }

    fn answer(&mut self, cx: &mut Cx<'_>, reply: Reply) -> Flow {
        intake::refuse(cx, reply);
        self.state = State::Done;
        Flow::Pause
    }
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
