//! `GET /keyward/usage`: requests, tokens and cost of the current and the previous hour, day and month (UTC), and of all
//! time since the Envoy process started.

use serde_json::{Map, Value, json};

use super::{Who, dollars, json as reply};
use crate::effect::Cx;
use crate::ledger;
use crate::limit::Per;
use crate::reply::Reply;
use crate::tally::{Counts, Tally};

const WINDOWS: [Per; 3] = [Per::Hour, Per::Day, Per::Month];

/// Admins are told of everybody, consumers of themselves.
pub(super) fn render(cx: &Cx<'_>, who: &Who) -> Reply {
    let runtime = cx.runtime;
    let consumers = &runtime.consumers;
    let list = |entries: &mut dyn Iterator<Item = (&str, String)>| {
        let used = entries.filter_map(|(name, slot)| entry(cx, name, &slot));
        used.collect::<Vec<Value>>()
    };
    let own = match who {
        Who::Admin(_) => None,
        Who::Consumer(access, _) => Some(access.consumer.as_str()),
    };
    let mut callers = consumers
        .list
        .iter()
        .filter(|consumer| own.is_none_or(|own| own == consumer.name))
        .map(|consumer| (consumer.name.as_str(), consumer.usage_slot()));
    let mut usage = json!({"time": cx.now.rfc3339(), "consumers": list(&mut callers)});
    if let (None, Value::Object(usage)) = (own, &mut usage) {
        let mut teams = consumers.teams.iter().map(|team| (team.name.as_str(), team.usage_slot()));
        let models = runtime.models.list.iter();
        let mut models = models.map(|model| (model.name.as_str(), model.usage_slot.clone()));
        let providers = runtime.providers.iter();
        let mut providers = providers.map(|p| (p.name.as_str(), p.usage_slot.clone()));
        let mut keys = runtime.keys.iter().map(|key| (key.name.as_str(), key.usage_slot.clone()));
        let lists: [(&str, &mut dyn Iterator<Item = (&str, String)>); 4] = [
            ("teams", &mut teams),
            ("models", &mut models),
            ("providers", &mut providers),
            ("keys", &mut keys),
        ];
        for (name, entries) in lists {
            usage.insert(name.to_owned(), list(entries).into());
        }
    }
    reply(200, &usage)
}

/// `None`: never used.
fn entry(cx: &Cx<'_>, name: &str, slot: &str) -> Option<Value> {
    let tally: Tally = ledger::read(cx.shared, slot);
    if tally.requests == 0 {
        return None;
    }
    let mut entry = Map::new();
    entry.insert("name".to_owned(), name.into());
    for per in WINDOWS {
        let (current, previous) = tally.of(per, cx.now)?;
        let window = json!({
            "from": cx.now.window_start(per).rfc3339(),
            "current": of_counts(&current),
            "previous": of_counts(&previous),
        });
        entry.insert(per.as_str().to_owned(), window);
    }
    let total = Counts {
        requests: tally.requests,
        prompt: tally.tokens.prompt,
        completion: tally.tokens.completion,
        cost: tally.cost,
        unpriced: tally.unpriced,
    };
    entry.insert("total".to_owned(), of_counts(&total));
    Some(Value::Object(entry))
}

/// `cost` is of what has a price: `null` where nothing of it has, and `unpriced_tokens` are what it leaves out.
fn of_counts(counts: &Counts) -> Value {
    let unknown = counts.cost == 0 && counts.unpriced > 0;
    json!({
        "requests": counts.requests,
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "cost": if unknown { Value::Null } else { dollars(counts.cost) },
        "unpriced_tokens": counts.unpriced,
    })
}
