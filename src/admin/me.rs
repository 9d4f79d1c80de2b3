//! `GET /keyward/me`: who is asking, what that one may, what is left.

use serde_json::{Value, json};

use super::{Who, json as reply};
use crate::consumer::access::Access;
use crate::consumer::identify::By;
use crate::consumer::rule::OPERATIONS;
use crate::effect::Cx;
use crate::grant;
use crate::reply::Reply;
use crate::table::Place;
use crate::token::{Temporary, state};

pub(super) fn render(cx: &Cx<'_>, who: &Who) -> Reply {
    match who {
        Who::Admin(name) => reply(200, &json!({"admin": name})),
        Who::Consumer(access, by) => reply(200, &of_consumer(cx, access, by)),
    }
}

fn of_consumer(cx: &Cx<'_>, access: &Access, by: &By) -> Value {
    let runtime = cx.runtime;
    let consumers = &runtime.consumers;
    let consumer = consumers.find(&access.consumer).and_then(|index| consumers.get(index));
    let team = consumer.and_then(|consumer| consumers.team_of(consumer));
    let of_consumer = consumer.map(|consumer| consumer.roles.as_slice()).unwrap_or_default();
    let of_team = team.map(|team| team.roles.as_slice()).unwrap_or_default();
    let mut roles: Vec<&str> = of_consumer
        .iter()
        .chain(of_team)
        .filter_map(|role| Some(consumers.roles.get(*role)?.name.as_str()))
        .collect();
    roles.dedup();
    let permitted = |operation| access.check(runtime, operation).is_ok();
    let endpoints: Vec<&str> =
        OPERATIONS.iter().filter(|(_, known)| permitted(*known)).map(|(name, _)| *name).collect();
    let models: Vec<&str> = runtime
        .models
        .list
        .iter()
        .filter(|model| access.sees(runtime, model, &model.name))
        .map(|model| model.name.as_str())
        .collect();
    let mut me = json!({
        "consumer": access.consumer,
        "team": team.map(|team| team.name.as_str()),
        "roles": roles,
        "endpoints": endpoints,
        "models": models,
        "second_factor": consumer.is_some_and(|consumer| consumer.second_factor.is_some()),
    });
    if let By::Temporary(key) = by {
        me["key"] = of_key(cx, key);
    }
    if consumers.access_ttl.is_some() {
        let granted = grant::all(cx.shared, &access.consumer);
        let granted = granted.iter().filter(|request| request.is_granted(cx.now));
        me["granted"] = granted
            .map(|request| super::access::shown(&access.consumer, request, cx.now))
            .collect();
    }
    me
}

fn of_key(cx: &Cx<'_>, key: &Temporary) -> Value {
    let place = Place { shared: cx.shared, key: cx.process_key, now: cx.now };
    let used = state::read(place, key).used;
    json!({
        "id": key.id,
        "expires_at": key.expires.rfc3339(),
        "uses": key.scope.uses,
        "uses_left": key.scope.uses.map(|uses| uses.saturating_sub(used)),
    })
}
