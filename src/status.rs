//! `GET /keyward/status`: every provider, key and model, and who has called, as the records say, for
//! operators.

use serde::Serialize;

use crate::address;
use crate::effect::Cx;
use crate::ledger;
use crate::limit::Amounts;
use crate::record::{Record, Rest, Standing};
use crate::runtime::{Key, Model, Provider};
use crate::tally::Tally;
use crate::time::UnixTime;

#[derive(Serialize)]
struct Status<'a> {
    time: String,
    providers: Vec<ProviderStatus<'a>>,
    keys: Vec<KeyStatus<'a>>,
    models: Vec<ModelStatus<'a>>,
    /// Those that have called.
    consumers: Vec<CallerStatus<'a>>,
    teams: Vec<CallerStatus<'a>>,
    /// Client addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked: Vec<BlockedStatus>,
}

#[derive(Serialize)]
struct BlockedStatus {
    address: String,
    reason: &'static str,
    until: String,
}

#[derive(Serialize)]
struct ProviderStatus<'a> {
    name: &'a str,
    state: &'static str,
    reason: Option<&'static str>,
    until: Option<String>,
    #[serde(flatten)]
    use_: Use,
}

#[derive(Serialize)]
struct KeyStatus<'a> {
    key: &'a str,
    state: &'static str,
    reason: Option<&'static str>,
    until: Option<String>,
    headroom: f64,
    #[serde(flatten)]
    use_: Use,
    models: Vec<ModelRestStatus>,
}

#[derive(Serialize)]
struct ModelRestStatus {
    model: String,
    state: &'static str,
    reason: Option<&'static str>,
    until: Option<String>,
}

#[derive(Serialize)]
struct ModelStatus<'a> {
    name: &'a str,
    requests: u64,
    tokens: Tokens,
}

#[derive(Serialize)]
struct CallerStatus<'a> {
    name: &'a str,
    requests: u64,
}

#[derive(Serialize)]
struct Use {
    requests: u64,
    failures: u64,
    last_error: Option<LastError>,
    tokens: Tokens,
}

#[derive(Serialize)]
struct LastError {
    kind: &'static str,
    time: String,
}

#[derive(Serialize)]
struct Tokens {
    prompt: u64,
    completion: u64,
    cached: u64,
    reasoning: u64,
}

pub fn render(cx: &Cx<'_>) -> Vec<u8> {
    let callers = &cx.runtime.consumers;
    let status = Status {
        time: cx.now.rfc3339(),
        providers: cx.runtime.providers.iter().map(|provider| of_provider(cx, provider)).collect(),
        keys: cx.runtime.keys.iter().map(|key| of_key(cx, key)).collect(),
        models: cx.runtime.models.list.iter().map(|model| of_model(cx, model)).collect(),
        consumers: callers
            .list
            .iter()
            .map(|consumer| of_caller(cx, &consumer.name, &consumer.usage_slot()))
            .filter(|consumer| consumer.requests > 0)
            .collect(),
        teams: callers
            .teams
            .iter()
            .map(|team| of_caller(cx, &team.name, &team.usage_slot()))
            .collect(),
        blocked: address::blocked(cx)
            .into_iter()
            .map(|blocked| BlockedStatus {
                address: blocked.source.to_string(),
                reason: blocked.offence.as_str(),
                until: blocked.until.rfc3339(),
            })
            .collect(),
    };
    // Strings and numbers only: this cannot fail.
    serde_json::to_vec(&status).unwrap_or_default()
}

/// State word, reason and end of one key, for the status and the gauges.
pub fn key_state(
    cx: &Cx<'_>,
    key: &Key,
) -> (&'static str, Option<&'static str>, Option<UnixTime>, f64) {
    let now = cx.now;
    let mut own: Record = ledger::read(cx.shared, &key.slot);
    own.adopt(key.fingerprint);
    let alone = key.slot == key.group_slot;
    let group: Record = if alone { own.clone() } else { ledger::read(cx.shared, &key.group_slot) };
    let headroom = own.headroom(&key.limits, now).min(group.headroom(&[], now));
    if now < key.valid.from {
        return ("not_yet_valid", None, Some(key.valid.from), headroom);
    }
    if now >= key.valid.until {
        return ("expired", None, None, headroom);
    }
    let resting = [own.rest, group.rest].into_iter().filter(|rest| rest.reason.is_some());
    let resting = resting.max_by_key(|rest| rest.until);
    if let Some(rest) = resting {
        let (state, reason, until) = of_rest(&rest, now);
        return (state, reason, until, headroom);
    }
    let empty = [group.requests, group.tokens].iter().filter_map(|g| g.empty_until(1, now)).max();
    if let Some(until) = empty {
        return ("resting", Some("rate_limited"), Some(until), headroom);
    }
    let one = Amounts { requests: 1, ..Amounts::default() };
    match own.limited_until(&key.limits, &one, now) {
        Some(until) => ("limited", Some("own_limit"), Some(until), headroom),
        None => ("ready", None, None, headroom),
    }
}

fn of_rest(rest: &Rest, now: UnixTime) -> (&'static str, Option<&'static str>, Option<UnixTime>) {
    let reason = rest.reason.map(crate::record::Reason::as_str);
    match rest.standing(now) {
        Standing::Ready => ("ready", None, None),
        Standing::Recovering | Standing::Probing(_) => ("recovering", reason, None),
        Standing::Resting(until, crate::record::Reason::KeyRejected) => {
            ("refused", reason, Some(until))
        }
        Standing::Resting(until, _) => ("resting", reason, Some(until)),
    }
}

fn of_provider<'a>(cx: &Cx<'_>, provider: &'a Provider) -> ProviderStatus<'a> {
    let record: Record = ledger::read(cx.shared, &provider.slot);
    let (state, reason, until) = match provider.maintained_until(cx.now) {
        Some(until) => ("maintenance", None, Some(until)),
        None => of_rest(&record.rest, cx.now),
    };
    ProviderStatus {
        name: &provider.name,
        state,
        reason,
        until: until.map(UnixTime::rfc3339),
        use_: of_tally(&ledger::read(cx.shared, &provider.usage_slot)),
    }
}

fn of_key<'a>(cx: &Cx<'_>, key: &'a Key) -> KeyStatus<'a> {
    let (state, reason, until, headroom) = key_state(cx, key);
    let mut slots = vec![&key.slot, &key.group_slot];
    slots.dedup();
    let records = slots.into_iter().map(|slot| ledger::read::<Record>(cx.shared, slot));
    let models = records.flat_map(|record| record.models).map(|entry| {
        let (state, reason, until) = of_rest(&entry.rest, cx.now);
        ModelRestStatus { model: entry.model, state, reason, until: until.map(UnixTime::rfc3339) }
    });
    KeyStatus {
        key: &key.name,
        state,
        reason,
        until: until.map(UnixTime::rfc3339),
        headroom: (headroom * 1000.0).round() / 1000.0,
        use_: of_tally(&ledger::read(cx.shared, &key.usage_slot)),
        models: models.collect(),
    }
}

fn of_model<'a>(cx: &Cx<'_>, model: &'a Model) -> ModelStatus<'a> {
    let Use { requests, tokens, .. } = of_tally(&ledger::read(cx.shared, &model.usage_slot));
    ModelStatus { name: &model.name, requests, tokens }
}

fn of_caller<'a>(cx: &Cx<'_>, name: &'a str, slot: &str) -> CallerStatus<'a> {
    let tally: Tally = ledger::read(cx.shared, slot);
    CallerStatus { name, requests: tally.requests }
}

fn of_tally(tally: &Tally) -> Use {
    Use {
        requests: tally.requests,
        failures: tally.failures,
        last_error: tally
            .last_error
            .map(|(verdict, at)| LastError { kind: verdict.as_str(), time: at.rfc3339() }),
        tokens: Tokens {
            prompt: tally.tokens.prompt,
            completion: tally.tokens.completion,
            cached: tally.tokens.cached,
            reasoning: tally.tokens.reasoning,
        },
    }
}
