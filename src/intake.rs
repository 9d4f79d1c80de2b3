//! A request comes in: what it is for, what must not go further, what is answered here.
//!
//! Shared by the stages that see the client: `gateway` and `standalone`.

use crate::address::{self, Offence, Source};
use crate::consumer;
use crate::consumer::access::Access;
use crate::consumer::identify::{By, CREDENTIALS, Caller, Identity, identify, unauthenticated};
use crate::effect::{Cx, Effect};
use crate::endpoint::{self, Dialect, Endpoint, Operation, Route, RouteError};
use crate::formats::Way;
use crate::headers::Headers;
use crate::limit::Subject;
use crate::limit::account::Statement;
use crate::limit::toll::{self, End};
use crate::members::{Ask, BodyError};
use crate::multipart::Boundary;
use crate::plan::Plan;
use crate::random::hash;
use crate::reply::{Refusal, Reply};
use crate::runtime::{Model, Runtime};
use crate::table::Place;
use crate::time::UnixTime;
use crate::token::limits;
use crate::token::state::{self, Unusable};
use crate::usage::Usage;
use crate::{formats, grant, members, multipart, routing, tally, upstream};

/// Envoy's own request headers that steer the router. Envoy ignores them from outside only if it knows
/// where outside is; Keyward sets them itself.
const ROUTER: [&str; 10] = [
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-alt-response",
];

/// A request whose body is still to come.
#[derive(Debug, Clone)]
pub struct Pending {
    pub endpoint: Endpoint,
    pub scheme: String,
    pub host: String,
    pub path: String,
    /// What the path says that other paths leave to the body: the model, and whether the answer is streamed.
    pub named: Option<(String, bool)>,
    /// Of an upload.
    pub boundary: Option<Boundary>,
    pub access: Access,
    /// Whom the request is charged on besides its address, its consumer, that one's team and the model.
    pub charged: Vec<Subject<'static>>,
    /// Where it comes from, if that is limited or may be blocked.
    pub source: Option<Source>,
    pub session: Option<u64>,
    /// As [`Plan::own_headers`].
    pub own_headers: Vec<(String, String)>,
    pub started: UnixTime,
}

/// Removes what a client must not set. `keep` names headers that Envoy's own filters set for Keyward.
pub fn sanitize(cx: &mut Cx<'_>, headers: &Headers, keep: impl Fn(&str) -> bool) {
    for (name, _) in headers.iter() {
        let Ok(name) = core::str::from_utf8(name) else { continue };
        let ours = name.starts_with("x-keyward-") && !keep(name);
        let identity = CREDENTIALS.contains(&name) || cx.runtime.consumers.is_identity_header(name);
        if ours || identity || ROUTER.contains(&name) {
            cx.remove_header(name);
        }
    }
    // Access logs have the path.
    if let Some(path) = headers.text(":path").and_then(endpoint::without_key) {
        cx.set_header(":path", path);
    }
}

/// Before anything else: whether the address that a request comes from may ask at all, and how its limits stand.
/// `Err` is the answer.
pub fn arrive(
    cx: &mut Cx<'_>,
    headers: &Headers,
    caller: &Caller,
) -> Result<(Option<Source>, Vec<Statement>), Reply> {
    address::arrive(cx, caller).map_err(|refusal| {
        let path = headers.text(":path").unwrap_or_default();
        refusal.reply(endpoint::dialect(path, headers))
    })
}

/// Decides on the headers alone; `source` as [`Pending::source`]. `Err` is the answer.
pub fn head(
    cx: &Cx<'_>,
    headers: &Headers,
    caller: &Caller,
    source: Option<Source>,
    end_of_stream: bool,
) -> Result<Pending, Reply> {
    let text = |name| headers.text(name).unwrap_or_default();
    let (method, path) = (text(":method"), text(":path"));
    let admit = |operation| admit(cx, headers, caller, operation);
    let asker = endpoint::dialect(path, headers);
    let told = |refusal: Refusal| refusal.reply(asker);
    let (endpoint, named) = match endpoint::route(method, path) {
        Ok(Route::Api(endpoint)) => (endpoint, None),
        Ok(Route::Named { endpoint, model, stream }) => {
            let model = percent_encoding::percent_decode_str(model).decode_utf8_lossy();
            (endpoint, Some((model.into_owned(), stream)))
        }
        Ok(Route::Models) => {
            let listed = admit(Operation::Models).map(|access| models(cx.runtime, &access, asker));
            return Err(listed.unwrap_or_else(told));
        }
        Ok(Route::Model(id)) => {
            let found = admit(Operation::Models)
                .and_then(|access| one_model(cx.runtime, &access, id, asker));
            return Err(found.unwrap_or_else(told));
        }
        Err(error) => return Err(told(unknown(error, method, path))),
    };
    let told = |refusal: Refusal| refusal.reply(endpoint.dialect());
    let access = admit(endpoint.operation()).map_err(told)?;
    body_expected(cx, headers, end_of_stream).map_err(told)?;
    let own_headers = own_headers(cx, endpoint, headers).map_err(told)?;
    let key = access.key.as_ref().map_or(Ok(None), |key| limits::subject(Place::of(cx), key));
    let key = key.map_err(|refused| told(unusable(Unusable::Table(refused))))?;
    let boundary = Boundary::of(text("content-type")).filter(|_| endpoint.takes_forms());
    let boundary = boundary.transpose().map_err(|error| told(unreadable(&error)))?;
    let sticky = cx.runtime.sticky.as_deref();
    let session = sticky.and_then(|name| headers.get(name)).map(|value| hash(&[value]));
    Ok(Pending {
        endpoint,
        scheme: text(":scheme").to_owned(),
        host: text(":authority").to_owned(),
        path: endpoint::without_key(path).unwrap_or_else(|| path.to_owned()),
        named,
        boundary,
        charged: key.into_iter().chain(access.route_limits()).collect(),
        access,
        source,
        session,
        own_headers,
        started: cx.now,
    })
}

impl Pending {
    /// The model that is asked for where the body names none.
    fn default_model(&self) -> Option<&str> {
        let named = self.named.as_ref().map(|(model, _)| model.as_str());
        named.or(self.endpoint.default_model())
    }
}

/// Reads the body of a request. `Err` is the answer.
pub fn body(cx: &Cx<'_>, pending: &Pending, body: &[u8]) -> Result<Plan, Reply> {
    let told = |refusal: Refusal| refusal.reply(pending.endpoint.dialect());
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if u64::from(length) > cx.runtime.max_body {
        return Err(told(too_large(cx.runtime)));
    }
    let ask = match &pending.boundary {
        Some(boundary) => multipart::read(body, boundary),
        None => Ask::read_or(body, pending.default_model()),
    };
    let mut ask = ask.map_err(|error| told(unreadable(&error)))?;
    if let Some((model, stream)) = &pending.named {
        ask.model = model.into();
        ask.stream = *stream;
    }
    let model = ask.model.as_ref();
    let barred =
        cx.runtime.models.find(model).filter(|_| members::is_safe_model_segment(model)).and_then(
            |found| {
                let operation = pending.endpoint.operation();
                pending.access.barred(cx.runtime, operation, found, model)
            },
        );
    let Some(barred) = barred else { return Err(told(no_model(model))) };
    let consumers = &cx.runtime.consumers;
    let team = consumers.named(&pending.access.consumer).and_then(|c| consumers.team_of(c));
    let estimate = estimate(pending.endpoint, &ask);
    let mut plan = Plan {
        endpoint: pending.endpoint,
        scheme: pending.scheme.clone(),
        host: pending.host.clone(),
        path: pending.path.clone(),
        model: model.to_owned(),
        consumer: pending.access.consumer.clone(),
        team: team.map(|team| team.name.clone()).unwrap_or_default(),
        stream: ask.stream,
        wants_usage: ask.include_usage == Some(true),
        spans: ask.spans,
        body_length: length,
        estimate,
        toll: None,
        session: pending.session,
        own_headers: pending.own_headers.clone(),
        only: None,
        started: pending.started,
        deadline: pending.started.after(cx.runtime.failover.budget),
        barred: Vec::new(),
        target: 0,
        attempts: 0,
        round_attempt: 1,
        claim: None,
        tried: Vec::new(),
        done: Vec::new(),
        unfit: Vec::new(),
        failures: 0,
        not_before: UnixTime(0),
    };
    plan.bar(cx.runtime, &barred);
    Ok(plan)
}

/// Leaves out the targets that cannot be asked this. `Err` is the answer: none is left.
pub fn leave_out_unfit(cx: &Cx<'_>, plan: &mut Plan, body: &[u8]) -> Result<(), Reply> {
    let left = routing::leave_out_unfit(cx.runtime, plan, body);
    if !plan.changes_way(cx.runtime) {
        plan.own_headers.retain(|(name, _)| upstream::ANTHROPIC.contains(&name.as_str()));
    }
    let told = |refusal: Refusal| refusal.reply(plan.endpoint.dialect());
    match left {
        Err(_) if plan.endpoint == Endpoint::CountTokens => {
            Err(estimated(body).unwrap_or_else(told))
        }
        left => left.map_err(told),
    }
}

/// No provider of the model counts tokens: about as many as it would.
fn estimated(body: &[u8]) -> Result<Reply, Refusal> {
    let tokens = formats::count_tokens(body).map_err(|error| routing::unsupported(&error))?;
    let body = serde_json::json!({ "input_tokens": tokens });
    Ok(Reply::json(200, body.to_string().into_bytes()))
}

/// As [`Plan::own_headers`].
fn own_headers(
    cx: &Cx<'_>,
    endpoint: Endpoint,
    headers: &Headers,
) -> Result<Vec<(String, String)>, Refusal> {
    /// In bytes: they travel with the plan. Claude Code's are 300 long.
    const LONGEST: usize = 2_048;
    /// Likewise; Codex' are 700. Of more than that, attempts behind a translated one get none.
    const LONGEST_OTHERS: usize = 4_096;
    let is_anthropics = endpoint.dialect() == Dialect::Anthropic;
    let ways = |way| cx.runtime.providers.iter().any(|p| p.way(endpoint) == Some(way));
    let differs = ways(Way::Translated) && ways(Way::Native);
    if !is_anthropics && !differs {
        return Ok(Vec::new());
    }
    let identifies = |name: &str| cx.runtime.consumers.is_identity_header(name);
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for (name, value) in headers.iter() {
        let pair = (core::str::from_utf8(name), core::str::from_utf8(value));
        let (Ok(name), Ok(value)) = pair else { continue };
        let pair = || (name.to_owned(), value.to_owned());
        if upstream::ANTHROPIC.contains(&name) {
            own.extend(is_anthropics.then(pair));
        } else if differs
            && upstream::is_for_vendor(name)
            && !upstream::is_stripped(name)
            && !identifies(name)
        {
            others.push(pair());
        }
    }
    let length = |pairs: &[(String, String)]| -> usize {
        pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
    };
    if length(&own) > LONGEST {
        let message = format!("The anthropic-* headers are longer than {LONGEST} bytes.");
        return Err(Refusal::client(400, "invalid_header", message));
    }
    if length(&others) <= LONGEST_OTHERS {
        own.append(&mut others);
    }
    Ok(own)
}

/// Tokens to reserve for a request: a token is about four bytes of JSON, and each answer takes what the client allows
/// it, or a short one where it does not say. Reconciled with the real usage afterwards.
fn estimate(endpoint: Endpoint, ask: &Ask<'_>) -> Usage {
    const SHORT_ANSWER: u64 = 256;
    let prompt = u64::try_from(ask.prompt_bytes / 4).unwrap_or(u64::MAX);
    let completion = match endpoint {
        Endpoint::Embeddings | Endpoint::Moderations => 0,
        endpoint if endpoint.embeds_content() => 0,
        _ => ask.max_tokens.unwrap_or(SHORT_ANSWER).saturating_mul(ask.choices),
    };
    Usage { prompt, completion, ..Usage::default() }
}

/// Counts a request that is to be sent, for its model, its consumer and the consumer's team.
pub fn count_request(cx: &mut Cx<'_>, plan: &Plan) {
    let mut slots = consumer::usage_slots(&plan.consumer, &plan.team).collect::<Vec<_>>();
    if let Some(model) = cx.runtime.models.find(&plan.model) {
        cx.count("requests", &[("model", &model.name)]);
        slots.push(model.usage_slot.clone());
    }
    // Not together with the model: labels multiply, and there may be many consumers.
    let labels = [("consumer", plan.consumer.as_str()), ("team", plan.team.as_str())];
    cx.count("consumer_requests", &labels);
    for slot in slots {
        let written = tally::request(cx.shared, &slot, cx.now);
        cx.lost(written);
    }
}

/// Who calls, if that may be.
fn admit(
    cx: &Cx<'_>,
    headers: &Headers,
    caller: &Caller,
    operation: Operation,
) -> Result<Access, Refusal> {
    let (access, _) = enter(cx, headers, caller)?;
    access.check(cx.runtime, operation)?;
    Ok(access)
}

/// Who calls, and how that is known.
///
/// # Errors
/// 401 where nobody does, or a temporary key cannot be used any more.
pub fn enter(cx: &Cx<'_>, headers: &Headers, caller: &Caller) -> Result<(Access, By), Refusal> {
    let consumers = &cx.runtime.consumers;
    let Identity { consumer, by } = identify(consumers, headers, caller, cx.now)?;
    let mut access = Access::new(consumers, consumer, headers, caller, cx.now)?;
    if let By::Temporary(key) = &by {
        state::check(Place::of(cx), key).map_err(unusable)?;
        access.key = Some(key.clone());
    }
    if consumers.access_ttl.is_some() {
        access.granted = grant::granted(cx.shared, &access.consumer, cx.now);
    }
    Ok((access, by))
}

/// Charges limits for a request that is to be sent, and counts a use of its temporary key.
///
/// # Errors
/// The refusal of a limit, or 401 where the key was used as often as it may be; nothing is charged then.
pub fn charge(
    cx: &mut Cx<'_>,
    pending: &Pending,
    plan: &mut Plan,
) -> Result<Vec<Statement>, Refusal> {
    let statements = toll::charge(cx, plan, pending.charged.clone(), pending.source)?;
    let key = pending.access.key.as_ref();
    match key.map_or(Ok(()), |key| state::take(Place::of(cx), key)) {
        Ok(()) => Ok(statements),
        Err(unusable_now) => {
            toll::settle(cx, plan, End::Unsent);
            Err(unusable(unusable_now))
        }
    }
}

fn unusable(why: Unusable) -> Refusal {
    match why {
        Unusable::Revoked => unauthenticated("The temporary key was revoked.", true),
        Unusable::UsedUp => unauthenticated("The temporary key has no uses left.", true),
        Unusable::Table(_) => {
            let message = "The uses of the temporary key cannot be counted at the moment.";
            Refusal::server(503, "unavailable", message).header("retry-after", "60")
        }
    }
}

/// Whether a body is to come that can be read.
///
/// # Errors
/// 400, 413, 415.
pub fn body_expected(cx: &Cx<'_>, headers: &Headers, end_of_stream: bool) -> Result<(), Refusal> {
    if end_of_stream {
        return Err(Refusal::client(400, "invalid_body", "The request has no body."));
    }
    let coding = headers.text("content-encoding").filter(|c| !c.eq_ignore_ascii_case("identity"));
    if coding.is_some() {
        let message = "Content-Encoding is not supported for requests: send the body uncompressed, \
                       or put Envoy's decompressor filter before Keyward.";
        return Err(Refusal::client(415, "unsupported_content_encoding", message));
    }
    let length = headers.text("content-length").and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > cx.runtime.max_body) {
        return Err(too_large(cx.runtime));
    }
    Ok(())
}

fn too_large(runtime: &Runtime) -> Refusal {
    let message = format!("The request body is larger than {} bytes.", runtime.max_body);
    Refusal::client(413, "request_too_large", message)
}

fn unreadable(error: &BodyError) -> Refusal {
    let refusal = Refusal::client(400, "invalid_body", error.to_string());
    match error.param() {
        Some(param) => refusal.param(param),
        None => refusal,
    }
}

/// A path that there is not, or not with this method.
pub fn unknown(error: RouteError, method: &str, path: &str) -> Refusal {
    let path = shortened(path.split('?').next().unwrap_or_default());
    match error {
        RouteError::Unknown => {
            Refusal::client(404, "unknown_url", format!("Unknown request URL: {method} {path}."))
        }
        RouteError::Array => {
            let message = "Streams are passed on as events alone: add ?alt=sse to the URL.";
            Refusal::client(400, "unsupported_parameter", message).param("alt")
        }
        RouteError::Method(allowed) => Refusal::client(
            405,
            "method_not_allowed",
            format!("{path} takes {allowed}, not {method}."),
        )
        .header("allow", allowed),
    }
}

/// What a message or a line of the log shows of a path, which may be as long as Envoy lets headers be.
pub fn shortened(path: &str) -> &str {
    const LONGEST: usize = 256;
    let end = path.char_indices().nth(LONGEST).map(|(end, _)| end);
    end.and_then(|end| path.get(..end)).unwrap_or(path)
}

/// The same answer for a model that does not exist and one that is nobody's business.
pub fn no_model(model: &str) -> Refusal {
    let shown: String = model.chars().filter(|c| !c.is_control()).take(256).collect();
    let message = format!("The model \"{shown}\" does not exist or you do not have access to it.");
    Refusal::client(404, "model_not_found", message).param("model")
}

/// The models that the caller may use.
fn models(runtime: &Runtime, access: &Access, asker: Dialect) -> Reply {
    let data: Vec<_> = runtime
        .models
        .list
        .iter()
        .filter(|model| !model.name.ends_with('*') && access.sees(runtime, model, &model.name))
        .map(|model| model_object(runtime, model, &model.name, asker))
        .collect();
    let body = match asker {
        Dialect::OpenAi | Dialect::Responses => {
            serde_json::json!({"object": "list", "data": data})
        }
        // One page holds them all, whatever the query asks for.
        Dialect::Anthropic => {
            let id = |model: Option<&serde_json::Value>| model.and_then(|m| m.get("id")).cloned();
            let (first, last) = (id(data.first()), id(data.last()));
            serde_json::json!({"data": data, "has_more": false, "first_id": first, "last_id": last})
        }
        Dialect::Gemini => serde_json::json!({"models": data}),
    };
    Reply::json(200, body.to_string().into_bytes())
}

fn one_model(
    runtime: &Runtime,
    access: &Access,
    id: &str,
    asker: Dialect,
) -> Result<Reply, Refusal> {
    let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
    let model = runtime.models.find(&id).filter(|model| access.sees(runtime, model, &id));
    let model = model.ok_or_else(|| no_model(&id))?;
    let body = model_object(runtime, model, &id, asker);
    Ok(Reply::json(200, body.to_string().into_bytes()))
}

/// A model in the words of who asks. Nobody knows when a model name was created: at the beginning of time.
fn model_object(runtime: &Runtime, model: &Model, id: &str, asker: Dialect) -> serde_json::Value {
    match asker {
        Dialect::Anthropic => {
            return serde_json::json!({
                "type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z",
                "lifecycle": "active",
            });
        }
        Dialect::Gemini => {
            return serde_json::json!({"name": format!("models/{id}"), "displayName": id});
        }
        Dialect::OpenAi | Dialect::Responses => {}
    }
    let owner = model.targets.first().and_then(|target| runtime.providers.get(target.provider));
    let owner = owner.map_or("keyward", |provider| provider.name.as_str());
    serde_json::json!({
        "id": id, "object": "model", "created": 0, "owned_by": owner,
        // Mistral's clients read nothing without; what a model can do is not known.
        "type": "base", "capabilities": {},
    })
}

/// Sends a reply and counts it, against its `source`, too, where that failed to authenticate.
pub fn refuse(cx: &mut Cx<'_>, reply: Reply, source: Option<Source>) {
    if let Some(source) = source.filter(|_| reply.status == 401) {
        address::strike(cx, source, Offence::Authentication);
    }
    let status = reply.status.to_string();
    cx.count("local_replies", &[("status", &status), ("code", reply.code)]);
    cx.effects.push(Effect::Reply(reply));
}
