//! `/keyward/access`: consumers ask for a role or a model, admins decide.

use core::time::Duration;

use serde_json::{Value, json};

use super::keys::bounded;
use super::{Origin, Who, json as reply, note, read, unavailable};
use crate::config::decode::{FromText, fields, word};
use crate::config::error::Invalid;
use crate::config::rules::Text;
use crate::config::values::{Name, TargetModel};
use crate::effect::Cx;
use crate::grant::{self, Decision, Request, State, Wish};
use crate::plan::unhex;
use crate::reply::{Refusal, Reply};
use crate::time::{UnixTime, millis};

fields! {
    /// The body of `POST /keyward/access`.
    #[derive(Debug)]
    struct Asked {
        /// Either this
        role: Option<Name> = None,
        /// or this.
        model: Option<TargetModel> = None,
        reason: Option<Text> = None,
        /// Default: the longest that is allowed.
        ttl: Option<Duration> = None,
    }
}

fields! {
    /// The body of `POST /keyward/access/{id}`.
    #[derive(Debug)]
    struct Decided {
        decision: Word,
        /// Default: what was asked for.
        ttl: Option<Duration> = None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Approve,
    Refuse,
}

impl FromText for Word {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        word(text, &[("approve", Self::Approve), ("refuse", Self::Refuse)])
    }
}

pub(super) fn ask(
    cx: &mut Cx<'_>,
    who: &Who,
    origin: &Origin,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let (asked, _) = read::<Asked>(body)?;
    let wish = match (asked.role, asked.model) {
        (Some(role), None) => {
            // Who asks for a model does not learn which there are; names of roles give nothing away.
            if !cx.runtime.consumers.roles.iter().any(|known| known.name == role.0) {
                let message = format!("role: \"{}\" is not a role", role.0);
                return Err(Refusal::client(400, "invalid_body", message).param("role"));
            }
            Wish::Role(role.0)
        }
        (None, Some(model)) => Wish::Model(model.0),
        _ => {
            let message = "expected exactly one of role, model";
            return Err(Refusal::client(400, "invalid_body", message));
        }
    };
    let ttl = millis(bounded(asked.ttl, longest(cx)?)?);
    let Some([number, _]) = (cx.entropy)().map(halves) else {
        return Err(unavailable("Envoy has no randomness to make an id of."));
    };
    let reason = asked.reason.map(|reason| reason.0).unwrap_or_default();
    let state = State::Pending;
    let request = Request { number, wish, reason, ttl, asked: cx.now, state };
    let consumer = who.name();
    let kept =
        grant::ask(cx.shared, consumer, &request, cx.now).map_err(|refused| match refused {
            grant::Refused::Full => {
                let most = grant::MOST;
                let message = format!(
                    "{most} requests of yours are pending or granted: no more are remembered."
                );
                Refusal::client(409, "too_many_requests_pending", message)
            }
            grant::Refused::Unwritten => unwritten(),
        })?;
    let shown = shown(consumer, &kept, cx.now);
    if kept != request {
        return Ok(reply(200, &shown));
    }
    let (kind, name) = words(&kept.wish);
    let id = grant::id(consumer, number);
    note(cx, "ask", consumer, &id, origin, &[(kind, name.into())]);
    Ok(reply(201, &shown))
}

pub(super) fn list(cx: &Cx<'_>, who: &Who) -> Reply {
    let of = |consumer: &str| {
        let requests = grant::all(cx.shared, consumer);
        requests.iter().map(|request| shown(consumer, request, cx.now)).collect::<Vec<_>>()
    };
    let data: Vec<Value> = match who {
        Who::Admin(_) => cx.runtime.consumers.list.iter().flat_map(|c| of(&c.name)).collect(),
        Who::Consumer(access, _) => of(&access.consumer),
    };
    reply(200, &json!({"object": "list", "data": data}))
}

pub(super) fn decide(
    cx: &mut Cx<'_>,
    who: &Who,
    origin: &Origin,
    id: &str,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let (decided, _) = read::<Decided>(body)?;
    let missing = || {
        let message = "No access request has this id, or there is nothing left to decide about it.";
        Refusal::client(404, "request_not_found", message)
    };
    let (consumer, number) = id.rsplit_once('.').ok_or_else(missing)?;
    let number =
        unhex(number).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).ok_or_else(missing)?;
    // Slots of shared data are there for good, so their names are the configuration's.
    if cx.runtime.consumers.named(consumer).is_none() {
        return Err(missing());
    }
    let longest = longest(cx)?;
    let asked_ttl = || {
        let requests = grant::all(cx.shared, consumer);
        let request = requests.iter().find(|request| request.number == number);
        request.map(|request| Duration::from_millis(request.ttl).min(longest))
    };
    let decision = match (decided.decision, decided.ttl) {
        (Word::Approve, Some(ttl)) => Decision::Approve(cx.now.after(bounded(Some(ttl), longest)?)),
        (Word::Approve, None) => Decision::Approve(cx.now.after(asked_ttl().ok_or_else(missing)?)),
        (Word::Refuse, None) => Decision::Refuse,
        (Word::Refuse, Some(_)) => {
            let message = "ttl: only an approval has one";
            return Err(Refusal::client(400, "invalid_body", message).param("ttl"));
        }
    };
    let outcome = grant::decide(cx.shared, consumer, number, &decision, who.name(), cx.now);
    let request = outcome.map_err(|_| unwritten())?.ok_or_else(missing)?;
    let (kind, name) = words(&request.wish);
    let mut more = vec![("consumer", consumer.into()), (kind, name.into())];
    if let State::Granted { until, .. } = request.state {
        more.push(("expires_at", until.rfc3339().into()));
    }
    let audit = if decided.decision == Word::Approve { "approve" } else { "refuse" };
    note(cx, audit, who.name(), id, origin, &more);
    Ok(reply(200, &shown(consumer, &request, cx.now)))
}

fn longest(cx: &Cx<'_>) -> Result<Duration, Refusal> {
    // Gone with a reload between head and body.
    cx.runtime
        .consumers
        .access_ttl
        .ok_or_else(|| unavailable("Nobody may ask for access any more."))
}

fn unwritten() -> Refusal {
    unavailable("The request cannot be remembered at the moment.")
}

fn halves(drawn: [u8; 16]) -> [[u8; 8]; 2] {
    let (halves, _) = drawn.as_chunks::<8>();
    halves.try_into().unwrap_or_default()
}

const fn words(wish: &Wish) -> (&'static str, &str) {
    match wish {
        Wish::Role(name) => ("role", name.as_str()),
        Wish::Model(name) => ("model", name.as_str()),
    }
}

pub(super) fn shown(consumer: &str, request: &Request, now: UnixTime) -> Value {
    let (kind, name) = words(&request.wish);
    let (state, decided, until) = match &request.state {
        State::Pending => ("pending", None, None),
        State::Refused { by, at } => ("refused", Some((by, at)), None),
        State::Granted { by, at, until } => {
            let state = if request.is_granted(now) { "granted" } else { "expired" };
            (state, Some((by, at)), Some(until))
        }
    };
    json!({
        "id": grant::id(consumer, request.number),
        "consumer": consumer,
        kind: name,
        "reason": request.reason,
        "ttl_seconds": request.ttl / 1000,
        "asked_at": request.asked.rfc3339(),
        "state": state,
        "decided_by": decided.map(|(by, _)| by),
        "decided_at": decided.map(|(_, at)| at.rfc3339()),
        "expires_at": until.map(|until| until.rfc3339()),
    })
}
