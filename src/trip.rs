//! A request that a key was put into, from its start to the last byte of its answer.
//!
//! What the `attempt` and the `standalone` stage have in common; where the two differ, in what becomes of
//! an answer that is no success, each decides for itself.

use core::time::Duration;

use crate::answer::{Answer, MAX_ERROR, Shown, Step};
use crate::effect::{Cx, Effect};
use crate::endpoint::Endpoint;
use crate::filter_state;
use crate::formats::{self, Call, Echo, Setup, Way};
use crate::gateway::ANSWERED_HEADER;
use crate::headers::Headers;
use crate::hint::{self, Reported};
use crate::keys;
use crate::limit::Amounts;
use crate::limit::toll::{SPENT, Spent};
use crate::members::{self, Ask, Changes, LimitName, Spans};
use crate::observe::Outcome;
use crate::plan::{FILTER_STATE, Plan};
use crate::reply::Refusal;
use crate::routing::{self, Resolved};
use crate::runtime::{Key, KeyIndex, Runtime};
use crate::settle::{self, Sent};
use crate::signal::{self, Scope, Signal, Verdict};
use crate::time::UnixTime;
use crate::upstream::{self, Own};
use crate::usage::{Meter, Usage};

#[derive(Debug)]
pub struct Trip {
    pub plan: Plan,
    /// Of the secret that was sent.
    fingerprint: u64,
    sent_at: UnixTime,
    /// How the provider takes the request.
    way: Way,
    /// Random: for an answer without an id.
    nonce: u64,
    echo: Echo,
    /// The body is not what the client sent: another model name, `include_usage`, another format.
    pub patches_body: bool,
    hide_usage: bool,
    /// As the row's.
    errors_in_success: bool,
    reported: Reported,
    pub status: u16,
    /// As the provider sent them, until it is decided what becomes of the answer.
    pub headers: Headers,
    /// What the answer has reported.
    meter: Meter,
    /// What of that the records were told, and when.
    recorded: Meter,
    recorded_at: UnixTime,
    /// What the records were told of an answer that is no success.
    judged: Option<Signal>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// No answer yet.
    Waiting,
    /// An answer that is no success; the body says more.
    ErrorBody,
    Answer(Box<Answer>),
    /// The client has got something in its place; what still comes is dropped.
    Replaced,
    /// Nothing more to decide or to count.
    Over,
}

/// What a part of the answer comes to.
#[derive(Debug)]
pub enum Progress {
    /// Too early to say: keep it.
    Held,
    /// It has just turned out to be an answer: headers and body may go on.
    Opened,
    /// More of an answer that is on its way already.
    Flowing,
    /// No success. With the body, or the error that stood in place of an answer.
    Refused(Signal, Vec<u8>),
}

/// Between two records of what one answer has used.
const RECORD_PERIOD: Duration = Duration::from_secs(1);

impl Trip {
    /// Puts the claimed key into the request and addresses it. `Err`: it cannot be sent.
    pub fn start(cx: &mut Cx<'_>, headers: &Headers, mut plan: Plan) -> Result<Self, Refusal> {
        let runtime = cx.runtime;
        settle::rotated(cx, headers);
        // A key whose secret Envoy did not supply cannot be sent; another one may.
        let credentials = loop {
            if plan.resolve(runtime).is_none() {
                return Err(reconfigured());
            }
            // A reload may have taken the claimed key away, too.
            if let Some((_, key)) = plan.claimed_key(runtime) {
                if let Some(credentials) = upstream::credentials(headers, key) {
                    break credentials;
                }
                routing::release(cx, &mut plan);
                settle::missing_secret(cx, key);
            }
            if let Err(shortage) = routing::claim(cx, &mut plan) {
                return Err(routing::refusal(cx, &plan, &shortage));
            }
            cx.effects.push(Effect::SetFilterState(FILTER_STATE, plan.encode()));
        };
        let fingerprint = credentials.fingerprint;
        let Some(target) = plan.resolve(runtime) else { return Err(reconfigured()) };
        let way = target.provider.way(plan.endpoint);
        let addressed = way.and_then(|way| {
            let (endpoint, model) = (plan.endpoint, target.upstream_model);
            let call = Call { endpoint, way, model, stream: plan.stream };
            let own = Own::of(&plan.path, &plan.own_headers, &call);
            upstream::address(cx, headers, target.provider, &call, &own, &credentials)
        });
        if addressed.is_none() {
            routing::release(cx, &mut plan);
            return Err(unaddressable());
        }
        let trip = Self::with_key(cx, fingerprint, plan)?;
        // The body starts anew with every attempt, its length does not.
        let is_left_over = trip.plan.attempts > 1 && !trip.patches_body;
        if is_left_over && headers.contains("content-length") {
            cx.set_header("content-length", trip.plan.body_length.to_string());
        }
        Ok(trip)
    }

    /// Like [`Self::start`] for a request whose headers are gone with that key.
    pub fn resume(cx: &mut Cx<'_>, headers: &Headers, plan: Plan) -> Result<Self, Refusal> {
        let Some((_, key)) = plan.claimed_key(cx.runtime) else { return Err(reconfigured()) };
        let fingerprint = upstream::credentials(headers, key).map_or(0, |c| c.fingerprint);
        Self::with_key(cx, fingerprint, plan)
    }

    fn with_key(cx: &mut Cx<'_>, fingerprint: u64, plan: Plan) -> Result<Self, Refusal> {
        let runtime = cx.runtime;
        let Some(target) = plan.resolve(runtime) else { return Err(reconfigured()) };
        let Some(way) = target.provider.way(plan.endpoint) else { return Err(unaddressable()) };
        let translates = way == Way::Translated;
        let hide_usage = plan.stream
            && !translates
            && plan.endpoint.takes_stream_options()
            && target.provider.include_usage
            && !plan.wants_usage;
        let limit = plan.limit_name(&target).filter(|_| !translates);
        let renamed = plan.renamed(&target).is_some();
        let wrapped = target.provider.kind.format.wraps() || plan.renamed_inside(&target);
        let patches_body = hide_usage || translates || limit.is_some() || renamed || wrapped;
        let sent_at = cx.now.max(plan.not_before);
        let trip = Self {
            fingerprint,
            sent_at,
            way,
            nonce: cx.random.next_u64(),
            echo: Echo::default(),
            patches_body,
            hide_usage,
            errors_in_success: target.provider.kind.errors_in_success,
            reported: Reported::default(),
            status: 0,
            headers: Headers::default(),
            meter: Meter::default(),
            recorded: Meter::default(),
            recorded_at: UnixTime(0),
            judged: None,
            phase: Phase::Waiting,
            plan,
        };
        trip.with_sent(runtime, |sent| settle::sent(cx, sent));
        Ok(trip)
    }

    /// The body for the provider. `None`: it is not the body that was planned for.
    pub fn patched(&mut self, runtime: &Runtime, body: &[u8]) -> Option<Vec<u8>> {
        let target = self.plan.resolve(runtime)?;
        if self.translates() {
            let written = formats::request(&target.upstream(), self.plan.endpoint, body).ok()?;
            self.echo = written.echo;
            return Some(written.body);
        }
        let model = self.plan.renamed(&target);
        let limit = self.plan.limit_name(&target);
        let changes = Changes { model, include_usage: self.hide_usage, limit };
        let patch =
            |spans: &Spans| members::patch(body, spans, changes).map(std::borrow::Cow::into_owned);
        let patched = patch(&self.plan.spans).or_else(|| {
            // Another filter changed the body: read it again, if it is still about the same model.
            let default = self.plan.endpoint.default_model();
            let ask =
                Ask::read_or(body, default).ok().filter(|ask| ask.model == self.plan.model)?;
            patch(&ask.spans)
        });
        let (format, patched) = (target.provider.kind.format, patched?);
        if self.plan.renamed_inside(&target) {
            return format.rename(&patched, target.upstream_model);
        }
        format.wrap(patched)
    }

    /// The answer begins. `hold`: nothing of it may go on before [`Progress::Opened`].
    pub fn answered(&mut self, runtime: &Runtime, headers: &Headers, hold: bool, now: UnixTime) {
        self.status = headers.text(":status").and_then(|s| s.parse().ok()).unwrap_or_default();
        self.reported = hint::headroom(headers, now);
        self.headers = headers.clone();
        self.phase = if (200..300).contains(&self.status) {
            let target = self.plan.resolve(runtime).filter(|_| self.translates());
            let translation = target.map(|target| Setup {
                endpoint: self.plan.endpoint,
                format: target.provider.kind.format,
                model: target.upstream_model.to_owned(),
                include_usage: self.plan.wants_usage,
                created: now.0 / 1_000,
                nonce: self.nonce,
                echo: core::mem::take(&mut self.echo).with(headers),
            });
            let (hide_usage, errors_in_success) = (self.hide_usage, self.errors_in_success);
            let shown = Shown { hide_usage, translation, errors_in_success };
            let answer = Answer::new(headers, self.plan.endpoint, shown, hold, now);
            Phase::Answer(Box::new(answer))
        } else {
            Phase::ErrorBody
        };
    }

    /// `body` is all that was held back, or else the chunk that has come.
    pub fn feed(&mut self, cx: &mut Cx<'_>, body: &[u8], end_of_stream: bool) -> Progress {
        match &mut self.phase {
            Phase::Waiting | Phase::Over => Progress::Flowing,
            Phase::Replaced => {
                cx.set_body(Vec::new());
                Progress::Flowing
            }
            Phase::ErrorBody => {
                if end_of_stream || self.is_whole(body) {
                    Progress::Refused(self.classify(cx, body), body.to_vec())
                } else {
                    Progress::Held
                }
            }
            Phase::Answer(answer) => {
                let was_held = answer.is_held();
                match answer.feed(cx, body, end_of_stream) {
                    Step::Held => Progress::Held,
                    Step::Failed(error) => {
                        Progress::Refused(self.classify_event(cx, &error), error)
                    }
                    Step::Pass => {
                        if was_held {
                            self.succeeded(cx);
                            self.measure_start(cx);
                        }
                        self.count_usage(cx, end_of_stream);
                        if end_of_stream {
                            self.finish(cx);
                        }
                        if was_held { Progress::Opened } else { Progress::Flowing }
                    }
                }
            }
        }
    }

    /// Whether [`Self::feed`] would do nothing with a chunk that is not the last: nearly all of a stream.
    pub fn is_delta(&self, chunk: &[u8]) -> bool {
        matches!(&self.phase, Phase::Answer(answer) if answer.is_delta(chunk))
    }

    /// Whether [`Self::feed`] is to see all that was held back, not only what is new.
    pub fn holds(&self) -> bool {
        match &self.phase {
            Phase::ErrorBody => true,
            Phase::Answer(answer) => answer.is_held(),
            Phase::Waiting | Phase::Replaced | Phase::Over => false,
        }
    }

    /// An answer that is no success by its status.
    pub fn is_error(&self) -> bool {
        matches!(self.phase, Phase::ErrorBody)
    }

    /// Whether an error body has all come, before its end is announced: the sooner the request moves on.
    fn is_whole(&self, body: &[u8]) -> bool {
        let length = self.headers.text("content-length").and_then(|l| l.parse::<usize>().ok());
        let json = |body| members::parse::<serde::de::IgnoredAny>(body).is_some();
        body.len() >= MAX_ERROR || length.map_or_else(|| json(body), |length| length <= body.len())
    }

    /// Whether [`Self::feed`] has any use for more of the answer.
    pub fn wants_body(&self) -> bool {
        !matches!(self.phase, Phase::Over)
    }

    /// The answer was judged; nothing more is to be learnt from it.
    pub fn close(&mut self) {
        self.phase = Phase::Over;
    }

    /// What is known from status and headers alone.
    pub fn classify_head(&self, cx: &Cx<'_>) -> Signal {
        let signal = self.classify(cx, &[]);
        // Of a 403 only the body tells whether it is the key's fault or the client's.
        if self.status == 403 && signal.verdict == Verdict::KeyRejected {
            return server_error();
        }
        signal
    }

    fn classify(&self, cx: &Cx<'_>, body: &[u8]) -> Signal {
        let Some(target) = self.plan.resolve(cx.runtime) else { return server_error() };
        if (300..400).contains(&self.status) {
            return server_error();
        }
        let (kind, model) = (target.provider.kind, target.upstream_model);
        signal::classify(kind, self.status, &self.headers, body, model, cx.now)
    }

    /// A good answer.
    pub fn succeeded(&self, cx: &mut Cx<'_>) {
        self.with_sent(cx.runtime, |sent| settle::succeeded(cx, sent, &self.reported));
    }

    /// An answer that is none, or no answer.
    pub fn failed(&mut self, cx: &mut Cx<'_>, signal: &Signal) {
        self.judged = Some(*signal);
        self.with_sent(cx.runtime, |sent| settle::failed(cx, sent, signal, &self.reported));
        self.end_turn(cx);
    }

    /// The body of a failed answer. Where the headers were judged before, it may say more.
    pub fn learned(&mut self, cx: &mut Cx<'_>, signal: &Signal) {
        match self.judged {
            None => {
                self.failed(cx, signal);
                self.give_back(cx);
            }
            Some(judged) if judged == *signal => {}
            Some(judged) => {
                let reported = &self.reported;
                self.with_sent(cx.runtime, |sent| match judged.verdict {
                    // It was not counted as a failure yet.
                    Verdict::ClientFault => settle::failed(cx, sent, signal, reported),
                    _ => settle::learned(cx, sent, signal, reported),
                });
            }
        }
    }

    /// Nothing was used of what was reserved.
    pub fn give_back(&self, cx: &Cx<'_>) {
        self.reconcile(cx, &Usage::default());
    }

    /// The attempt is over, however it ended. `client_gone`: the client went away first.
    pub fn done(&mut self, cx: &mut Cx<'_>, client_gone: bool) {
        self.record_usage(cx);
        match &self.phase {
            Phase::Replaced | Phase::Over => {}
            Phase::ErrorBody if self.judged.is_some() => {}
            Phase::ErrorBody => {
                let signal = self.classify_head(cx);
                self.failed(cx, &signal);
                self.give_back(cx);
            }
            Phase::Waiting if client_gone => {
                self.give_back(cx);
                self.end_turn(cx);
            }
            Phase::Answer(answer) if client_gone => {
                if answer.is_held() {
                    self.end_turn(cx);
                }
                self.settle_tokens(cx);
            }
            Phase::Waiting => {
                self.failed(cx, &server_error());
                self.give_back(cx);
            }
            Phase::Answer(_) => {
                self.failed(cx, &server_error());
                self.settle_tokens(cx);
            }
        }
        self.phase = Phase::Over;
    }

    /// Makes the headers of an answer the client's.
    pub fn pass(&mut self, cx: &mut Cx<'_>) {
        upstream::clean_answer(cx, &self.headers);
        let changes = self.translates()
            || matches!(&self.phase, Phase::Answer(answer) if answer.may_change());
        if changes && self.headers.contains("content-length") {
            cx.remove_header("content-length");
        }
        if let Phase::Answer(answer) = &self.phase
            && let Some(streamed) = answer.translated()
        {
            let kind = if streamed { "text/event-stream" } else { "application/json" };
            cx.set_header("content-type", kind);
        }
        cx.set_header(ANSWERED_HEADER, "1");
        if (300..400).contains(&self.status) {
            // Envoy would follow a provider's redirect with the key still in the request.
            cx.set_header(":status", "502");
            cx.remove_header("location");
        }
        if cx.runtime.response_headers {
            let attempts = self.plan.attempts;
            self.with_sent(cx.runtime, |sent| {
                cx.set_header("x-keyward-provider", sent.provider.name.as_bytes());
                cx.set_header("x-keyward-model", sent.model.as_bytes());
                cx.set_header("x-keyward-key", sent.key.id.as_bytes());
                cx.set_header("x-keyward-attempts", attempts.to_string());
            });
        }
        self.headers = Headers::default();
    }

    /// Whether the provider does not speak the client's format.
    pub fn translates(&self) -> bool {
        self.way == Way::Translated
    }

    /// After [`Self::pass`] of an answer that is no success: its body in the client's format, and nothing else.
    pub fn translate_error(&mut self, cx: &mut Cx<'_>, error: &[u8]) {
        let disguised = self.errors_in_success && (200..300).contains(&self.status);
        if !self.translates() && !disguised {
            return;
        }
        let dialect = self.plan.endpoint.dialect();
        // Disguised, what is passed on is the client's fault; all else has been replaced.
        let status = if disguised { 400 } else { self.status };
        let (status, body) = formats::error(dialect, status, error);
        if status != self.status {
            cx.set_header(":status", status.to_string());
        }
        // Without a body there is none to replace.
        if !error.is_empty() {
            if disguised {
                cx.set_header("content-length", body.len().to_string());
            }
            cx.set_header("content-type", "application/json");
            cx.set_body(body);
        }
        self.phase = Phase::Replaced;
    }

    /// What the client is told where nothing is left to try; `None`: the provider's own answer.
    pub fn refusal(&self, cx: &mut Cx<'_>, signal: &Signal, error: &[u8]) -> Option<Refusal> {
        match signal.verdict {
            Verdict::Success | Verdict::ClientFault => None,
            Verdict::ServerError => {
                let json = self.headers.text("content-type").is_some_and(|t| t.contains("json"));
                if self.status >= 400 && json && !error.is_empty() {
                    return None;
                }
                let status = if self.status == 504 { 504 } else { 502 };
                let message = format!("The provider of model \"{}\" failed.", self.plan.model);
                Some(Refusal::server(status, "provider_error", message))
            }
            _ => {
                let shortage = routing::shortage(cx, &self.plan);
                Some(routing::refusal(cx, &self.plan, &shortage))
            }
        }
    }

    /// How long the client of a stream waits for its first token, of which Envoy has no measure.
    fn measure_start(&self, cx: &mut Cx<'_>) {
        if !self.plan.stream {
            return;
        }
        let Some(target) = self.plan.resolve(cx.runtime) else { return };
        let labels =
            [("provider", target.provider.name.as_str()), ("model", target.model.name.as_str())];
        let waited = cx.now.0.saturating_sub(self.sent_at.0);
        cx.measure("time_to_first_token_milliseconds", &labels, waited);
    }

    fn with_sent<R>(&self, runtime: &Runtime, then: impl FnOnce(&Sent<'_>) -> R) -> Option<R> {
        let target = self.plan.resolve(runtime)?;
        let (_, key) = self.plan.claimed_key(runtime)?;
        Some(then(&Sent {
            provider: target.provider,
            key,
            model: target.upstream_model,
            model_slot: &target.model.usage_slot,
            consumer: &self.plan.consumer,
            team: &self.plan.team,
            at: self.sent_at,
            fingerprint: self.fingerprint,
        }))
    }

    fn reconcile(&self, cx: &Cx<'_>, usage: &Usage) {
        if let Some(claim) = self.plan.claim {
            self.with_sent(cx.runtime, |sent| settle::reconcile(cx, sent, claim, usage));
        }
    }

    /// The turn of whatever had just come back, where the answer did not decide on it.
    fn end_turn(&self, cx: &Cx<'_>) {
        if self.plan.claim.is_some_and(|claim| claim.probe) {
            self.with_sent(cx.runtime, |sent| {
                keys::end_turn(cx.shared, sent.provider, sent.key, sent.model);
            });
        }
    }

    fn classify_event(&self, cx: &Cx<'_>, error: &[u8]) -> Signal {
        let Some(target) = self.plan.resolve(cx.runtime) else { return server_error() };
        let event = [b"{\"error\":", error, b"}"].concat();
        signal::classify_event(target.provider.kind, &event, target.upstream_model, cx.now)
            .unwrap_or_else(server_error)
    }

    /// Notes what has been seen of the usage since the last time. The limits learn of it at once; the records too, but
    /// some services report with every event: from the second report on not all the time.
    fn count_usage(&mut self, cx: &mut Cx<'_>, is_last: bool) {
        let Phase::Answer(answer) = &self.phase else { return };
        let Some(usage) = answer.usage() else { return };
        let is_news = self.meter.report(usage) != Usage::default();
        if is_news && let Some(used) = self.used(cx.runtime) {
            filter_state::used(cx, &used);
            if self.plan.toll.is_some() {
                cx.effects.push(Effect::SetFilterState(SPENT, Spent::Used(used).encode()));
            }
        }
        if is_last || is_news && cx.now >= self.recorded_at.after(RECORD_PERIOD) {
            self.record_usage(cx);
        }
    }

    /// Tells the records what they do not know yet.
    fn record_usage(&mut self, cx: &mut Cx<'_>) {
        let before = self.cost(cx.runtime, &self.recorded);
        let news = self.recorded.report(self.meter.total());
        if news == Usage::default() {
            return;
        }
        self.recorded_at = cx.now;
        // Not the cost of the news: what all of it costs may depend on how much it is.
        let cost = self.cost(cx.runtime, &self.recorded).zip(before);
        let cost = cost.map(|(all, before)| all.saturating_sub(before));
        self.with_sent(cx.runtime, |sent| settle::used(cx, sent, &news, cost));
    }

    /// What the answer has reported so far.
    pub fn used(&self, runtime: &Runtime) -> Option<Amounts> {
        let total = self.meter.total();
        let cost = || self.cost(runtime, &self.meter).unwrap_or_default();
        (total != Usage::default()).then(|| Amounts::of_request(&total, cost()))
    }

    /// `None`: the price is not known.
    fn cost(&self, runtime: &Runtime, meter: &Meter) -> Option<u64> {
        let target = self.plan.resolve(runtime)?;
        Some(target.provider.price(target.upstream_model)?.of(&meter.total()))
    }

    /// Replaces the reservation by what was used; without any report the reservation stands.
    fn settle_tokens(&self, cx: &Cx<'_>) {
        let total = self.meter.total();
        if total != Usage::default() {
            self.reconcile(cx, &total);
        }
    }

    fn finish(&mut self, cx: &mut Cx<'_>) {
        self.settle_tokens(cx);
        let Phase::Answer(answer) = &self.phase else { return };
        if let Some(error) = answer.late_error() {
            let signal = self.classify_event(cx, &error);
            self.failed(cx, &signal);
        } else if matches!(answer.outcome(), Outcome::Open | Outcome::Failed) {
            self.failed(cx, &server_error());
        }
        self.phase = Phase::Over;
    }
}

impl Plan {
    /// What the body has to call the model, where it calls it something else.
    fn renamed<'a>(&self, target: &Resolved<'a>) -> Option<&'a str> {
        let renamed = target.upstream_model != self.model && !self.endpoint.names_model();
        renamed.then_some(target.upstream_model)
    }

    /// Whether the body may repeat the path's name of the model, which the provider calls something else.
    fn renamed_inside(&self, target: &Resolved<'_>) -> bool {
        target.upstream_model != self.model && self.endpoint.embeds_content()
    }

    /// What the provider calls the bound of the answer, where the client calls it something else.
    fn limit_name(&self, target: &Resolved<'_>) -> Option<LimitName> {
        if self.endpoint != Endpoint::ChatCompletions {
            return None;
        }
        let kind = target.provider.kind;
        kind.answer_limit.instead_of(self.spans.limit()?, target.upstream_model)
    }

    /// The key that was claimed for this attempt, wherever a reload has put it.
    pub fn claimed_key<'a>(&self, runtime: &'a Runtime) -> Option<(KeyIndex, &'a Key)> {
        let (claim, wanted) = (self.claim?, self.tried.last()?);
        let matches = |key: &&Key| keys::key_hash(key) == *wanted;
        let at_index = runtime.keys.get(claim.key).filter(matches).map(|key| (claim.key, key));
        at_index.or_else(|| runtime.keys.iter().enumerate().find(|(_, key)| matches(key)))
    }
}

fn server_error() -> Signal {
    Signal { verdict: Verdict::ServerError, hint: None, scope: Scope::Key }
}

fn unaddressable() -> Refusal {
    let message = "The provider has no path for this model and endpoint.";
    Refusal::server(500, "internal_error", message)
}

fn reconfigured() -> Refusal {
    let message = "The configuration changed while the request was on its way.";
    Refusal::server(503, "configuration_changed", message).header("retry-after", "1")
}
