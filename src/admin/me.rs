//! `GET /keyward/me`: who is asking, what that one may, what is left.

use serde_json::{Map, Value, json};

use super::{Who, access, dollars, json as reply};
use crate::consumer::access::Access;
use crate::consumer::identify::By;
use crate::consumer::rule::OPERATIONS;
use crate::effect::Cx;
use crate::grant;
use crate::limit::account::{Statement, statement};
use crate::limit::{Kind, Subject, Unit};
use crate::reply::Reply;
use crate::table::Place;
use crate::token::{Temporary, limits, state};

pub(super) fn render(cx: &Cx<'_>, who: &Who) -> Reply {
    match who {
        Who::Admin(name) => reply(200, &json!({"admin": name})),
        Who::Consumer(access, by) => reply(200, &Value::Object(of_consumer(cx, access, by))),
    }
}

fn of_consumer(cx: &Cx<'_>, access: &Access, by: &By) -> Map<String, Value> {
    let runtime = cx.runtime;
    let consumers = &runtime.consumers;
    let consumer = consumers.named(&access.consumer);
    let team = consumer.and_then(|consumer| consumers.team_of(consumer));
    let of_consumer = consumer.map(|consumer| consumer.roles.as_slice()).unwrap_or_default();
    let of_team = team.map(|team| team.roles.as_slice()).unwrap_or_default();
    let roles = of_consumer.iter().chain(of_team);
    let roles = roles.filter_map(|role| Some(consumers.roles.get(*role)?.name.as_str()));
    let permitted = OPERATIONS.iter().filter(|(_, known)| access.check(runtime, *known).is_ok());
    let models = runtime.models.list.iter().filter(|m| access.sees(runtime, m, &m.name));

    let subject = |kind, name, limits| Subject::configured(kind, name, limits);
    let mut subjects = Vec::with_capacity(3);
    subjects.extend(consumer.map(|c| subject(Kind::Consumer, &c.name, &c.limits)));
    subjects.extend(team.map(|team| subject(Kind::Team, &team.name, &team.limits)));

    let mut me = Map::new();
    let mut tell = |name: &str, value: Value| me.insert(name.to_owned(), value);
    tell("consumer", access.consumer.as_str().into());
    tell("team", team.map(|team| team.name.as_str()).into());
    tell("roles", roles.collect());
    tell("endpoints", permitted.map(|(name, _)| *name).collect());
    tell("models", models.map(|model| model.name.as_str()).collect());
    tell("second_factor", consumer.is_some_and(|c| c.second_factor.is_some()).into());
    if let By::Temporary(key) = by {
        let place = Place::of(cx);
        tell("key", of_key(place, key));
        subjects.extend(limits::subject(place, key).ok().flatten());
    }
    if consumers.access_ttl.is_some() {
        let requests = grant::all(cx.shared, &access.consumer);
        let granted = requests.iter().filter(|request| request.is_granted(cx.now));
        tell("granted", granted.map(|r| access::shown(&access.consumer, r, cx.now)).collect());
    }
    let statements = subjects.iter().map(|subject| statement(cx.shared, subject, cx.now));
    tell("limits", statements.flat_map(|statement| of_limits(&statement)).collect());
    me
}

fn of_key(place: Place<'_>, key: &Temporary) -> Value {
    let used = state::read(place, key).used;
    json!({
        "id": key.id,
        "expires_at": key.expires.rfc3339(),
        "uses": key.scope.uses,
        "uses_left": key.scope.uses.map(|uses| uses.saturating_sub(used)),
    })
}

/// How each limit stands; `resets_at`: when all of it is there again if nothing more is used.
fn of_limits(statement: &Statement) -> Vec<Value> {
    let of = statement.kind.as_str();
    let mut told: Vec<Value> = statement
        .limits
        .iter()
        .map(|standing| {
            let limit = &standing.limit;
            let amount = |amount| match limit.unit {
                Unit::Cost => dollars(amount),
                _ => Value::from(amount),
            };
            json!({
                "of": of,
                "unit": limit.unit.as_str().replace('-', "_"),
                "max": amount(limit.max),
                "per": limit.per.as_str(),
                "left": amount(standing.left),
                "resets_at": standing.reset.rfc3339(),
            })
        })
        .collect();
    told.extend(statement.concurrency.map(|(max, held)| {
        json!({"of": of, "unit": "concurrency", "max": max, "left": max.saturating_sub(held)})
    }));
    told
}
