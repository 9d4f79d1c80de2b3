//! `POST /keyward/keys` and `DELETE /keyward/keys/{id}`: temporary keys are issued and revoked.

use core::time::Duration;

use serde_json::{Value, json};

use super::{Origin, Who, json as reply, note, read, unavailable};
use crate::consumer::Consumer;
use crate::consumer::access::denied;
use crate::consumer::identify::{By, MAX_KEY, unauthenticated};
use crate::effect::Cx;
use crate::reply::{Refusal, Reply};
use crate::runtime::Runtime;
use crate::table::Place;
use crate::time::UnixTime;
use crate::token::scope::{KeyRequest, Scope};
use crate::token::state::{self, MOST, NoMore};
use crate::token::{Draft, Signing, limits};
use crate::totp;

pub(super) fn issue(
    cx: &mut Cx<'_>,
    who: &Who,
    origin: &Origin,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let runtime = cx.runtime;
    let signing = signing(cx)?;
    let (request, written) = read::<KeyRequest>(body)?;
    let named = request.consumer.as_ref().map(|name| name.0.as_str());
    let (consumer, until) = recipient(runtime, who, named)?;
    let name = consumer.name.as_str();
    let ttl = bounded(request.ttl, signing.max_ttl)?;
    if let Who::Consumer(..) = who {
        let code = request.totp.as_ref().map(|code| code.0.as_str());
        second_factor(cx, consumer, code)?;
    }
    let Some(drawn) = (cx.entropy)() else {
        return Err(unavailable("Envoy has no randomness to make a key of."));
    };
    let claim = Scope::claim(&written);
    let draft = Draft { consumer: name, ttl, until, scope: &claim, drawn };
    let Some(issued) = signing.issue(&draft, cx.now) else {
        return Err(unavailable("No signing secret is valid at the moment."));
    };
    if issued.key.len() > MAX_KEY {
        let message = format!(
            "The key would be longer than {MAX_KEY} bytes: name fewer models or addresses."
        );
        return Err(Refusal::client(400, "key_too_long", message));
    }
    let (id, expires) = (issued.id.as_str(), issued.expires);
    if let Who::Consumer(..) = who {
        state::count_issued(cx.shared, name, expires, cx.now)
            .map_err(|why| no_more(why, cx.now))?;
    }
    let mut reserved = Ok(());
    if request.uses.is_some() {
        reserved = state::reserve(Place::of(cx), id, expires);
    }
    if !request.limits.is_empty() {
        reserved = reserved.and_then(|()| limits::reserve(Place::of(cx), id, expires));
    }
    reserved.map_err(|_| {
        let message = "As many keys with uses or limits are alive as Keyward can count.";
        unavailable(message).header("retry-after", "60")
    })?;
    let expires = issued.expires.rfc3339();
    let more = [
        ("consumer", name.into()),
        ("expires_at", expires.as_str().into()),
        ("scope", claim.clone()),
    ];
    note(cx, "issue", who.name(), &issued.id, origin, &more);
    let mut body =
        json!({"id": issued.id, "key": issued.key, "consumer": name, "expires_at": expires});
    if let (Value::Object(body), Value::Object(claim)) = (&mut body, claim) {
        body.extend(claim);
    }
    Ok(reply(201, &body))
}

/// For whom a key is, and when it has to end.
fn recipient<'r>(
    runtime: &'r Runtime,
    who: &Who,
    named: Option<&str>,
) -> Result<(&'r Consumer, UnixTime), Refusal> {
    let (name, until) = match who {
        Who::Admin(_) => {
            let missing =
                || Refusal::client(400, "invalid_body", "consumer: missing").param("consumer");
            (named.ok_or_else(missing)?, UnixTime::NEVER)
        }
        Who::Consumer(access, _) if named.is_some_and(|name| name != access.consumer) => {
            let message =
                format!("Consumer \"{}\" may issue keys for itself only.", access.consumer);
            return Err(denied(message).param("consumer"));
        }
        // A key does not outlive the one that it was issued with.
        Who::Consumer(access, By::Key(until)) => (access.consumer.as_str(), *until),
        Who::Consumer(access, _) => (access.consumer.as_str(), UnixTime::NEVER),
    };
    let found = runtime.consumers.named(name).ok_or_else(|| {
        let message = format!("consumer: \"{name}\" is not a consumer");
        Refusal::client(400, "invalid_body", message).param("consumer")
    })?;
    Ok((found, until))
}

pub(super) fn revoke(
    cx: &mut Cx<'_>,
    who: &Who,
    origin: &Origin,
    id: &str,
) -> Result<Reply, Refusal> {
    if let Who::Consumer(_, By::Temporary(key)) = who
        && key.id != id
    {
        return Err(denied("A temporary key may revoke itself only.".to_owned()));
    }
    // Of keys of others a consumer does not learn whether there are any.
    let owner = signing(cx)?.owner(id, cx.now).filter(|(owner, _)| match who {
        Who::Admin(_) => true,
        Who::Consumer(access, _) => access.consumer == *owner,
    });
    let Some((consumer, expires)) = owner else {
        return Err(Refusal::client(404, "key_not_found", "No temporary key has this id."));
    };
    if cx.now < expires {
        state::revoke(Place::of(cx), id, expires).map_err(|_| {
            let message = "As many keys are revoked as Keyward can remember: the key goes on working. Changing the \
                           signing secret ends all keys that were signed with it.";
            unavailable(message)
        })?;
    }
    note(cx, "revoke", who.name(), id, origin, &[("consumer", consumer.into())]);
    Ok(reply(200, &json!({"id": id, "revoked": true, "expires_at": expires.rfc3339()})))
}

/// A life as asked for; the longest where nobody asked.
pub(super) fn bounded(asked: Option<Duration>, max: Duration) -> Result<Duration, Refusal> {
    match asked {
        Some(ttl) if ttl > max => {
            let message = format!("ttl: longer than {max:?}, the longest that is allowed");
            Err(Refusal::client(400, "invalid_body", message).param("ttl"))
        }
        Some(ttl) if ttl < Duration::from_secs(1) => {
            let message = "ttl: expected at least one second";
            Err(Refusal::client(400, "invalid_body", message).param("ttl"))
        }
        asked => Ok(asked.unwrap_or(max)),
    }
}

fn second_factor(cx: &mut Cx<'_>, consumer: &Consumer, code: Option<&str>) -> Result<(), Refusal> {
    let Some(secret) = &consumer.second_factor else { return Ok(()) };
    let Some(code) = code else {
        let message = "Issuing a key needs totp, the current code of your second factor.";
        return Err(unauthenticated(message, true).param("totp"));
    };
    let taken = secret.take(cx.shared, &consumer.second_factor_slot(), code, cx.now);
    taken.map_err(|refused| match refused {
        totp::Refused::Wrong => {
            let message = "The code is wrong, or was used before.";
            unauthenticated(message, true).param("totp")
        }
        totp::Refused::Blocked(until) => {
            let seconds = cx.now.until(until).as_secs().max(1);
            let message = format!("Too many wrong codes: none is looked at for {seconds} s.");
            let refusal = Refusal::client(429, "too_many_codes", message).param("totp");
            refusal.header("retry-after", seconds.to_string()).header("x-should-retry", "false")
        }
        totp::Refused::Unwritten => unavailable("The code cannot be checked at the moment."),
    })
}

fn no_more(why: NoMore, now: UnixTime) -> Refusal {
    match why {
        NoMore::Until(until) => {
            let message =
                format!("{MOST} keys that you have issued are alive, and no more can be.");
            let seconds = now.until(until).as_secs().max(1);
            let refusal = Refusal::client(429, "too_many_keys", message);
            refusal.header("retry-after", seconds.to_string()).header("x-should-retry", "false")
        }
        NoMore::Unwritten => unavailable("The key cannot be counted at the moment."),
    }
}

fn signing<'a>(cx: &Cx<'a>) -> Result<&'a Signing, Refusal> {
    let signing = cx.runtime.consumers.signing.as_ref();
    // Gone with a reload between head and body.
    signing.ok_or_else(|| unavailable("There are no temporary keys any more."))
}
