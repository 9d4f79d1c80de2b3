//! What an answer does to the records: rest, refusal, recovery, headroom, counts.
//!
//! One compare-and-swap a transition, and one log line: the hundred answers of a burst are one transition.

use core::time::Duration;
use std::borrow::Cow;

use crate::consumer::usage_slots;
use crate::effect::Cx;
use crate::headers::Headers;
use crate::hint::{Headroom, Reported};
use crate::keys::{self, Claim};
use crate::ledger::{self, Edit};
use crate::limit::Amounts;
use crate::plan::Plan;
use crate::random::Random;
use crate::record::{Cause, Gauge, Reason, Record};
use crate::runtime::{Key, Provider};
use crate::signal::{Scope, Signal, Verdict};
use crate::tally;
use crate::time::UnixTime;
use crate::upstream;
use crate::usage::Usage;

/// An attempt that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    pub provider: &'a Provider,
    pub key: &'a Key,
    /// What the provider calls the model.
    pub model: &'a str,
    /// Record of what was used of the model that the client asked for.
    pub model_slot: &'a str,
    /// Who asked, and that one's team; empty where there is none.
    pub consumer: &'a str,
    pub team: &'a str,
    pub at: UnixTime,
    /// Of the secret that was sent.
    pub fingerprint: u64,
}

/// Server errors and broken connections in a row after which a provider rests: more than the two that one
/// request can cause, so that no single client rests it.
const FAILURES: u8 = 5;

/// Remaining counts without a reset are believed this long: the window that most providers use.
const UNDATED: Duration = Duration::from_secs(60);

/// An attempt leaves.
pub fn sent(cx: &mut Cx<'_>, sent: &Sent<'_>) {
    for slot in [&sent.key.usage_slot, &sent.provider.usage_slot] {
        let written = tally::request(cx.shared, slot, cx.now);
        cx.lost(written);
    }
    let labels = [("provider", sent.provider.name.as_str()), ("key", sent.key.name.as_str())];
    cx.count("attempts", &labels);
}

/// A good answer: what was over is forgotten, and what the provider says is left is kept.
pub fn succeeded(cx: &mut Cx<'_>, sent: &Sent<'_>, reported: &Reported) {
    let key = sent.key;
    let alone = key.slot == key.group_slot;
    let now = cx.now;
    let recovered = ledger::update(cx.shared, &key.group_slot, |record: &mut Record| {
        let mut write = alone && record.adopt(sent.fingerprint);
        let recovered = record.clear(sent.model, sent.at, now);
        write |= take_gauges(record, sent.provider, reported, now);
        if write || recovered { Edit::Write(recovered) } else { Edit::Keep(false) }
    });
    let mut recovered = recovered.unwrap_or_default();
    if !alone {
        let own = ledger::update(cx.shared, &key.slot, |record: &mut Record| {
            let adopted = record.adopt(sent.fingerprint);
            let cleared = record.clear(sent.model, sent.at, now);
            if adopted || cleared { Edit::Write(cleared) } else { Edit::Keep(false) }
        });
        recovered |= own.unwrap_or_default();
    }
    if recovered {
        cx.log(log::Level::Info, format!("key {}: ready again", key.name));
        cx.count("recoveries", &[("provider", sent.provider.name.as_str()), ("key", &key.name)]);
    }
    wake(cx, sent);
}

/// The provider has answered, and is neither overloaded nor failing.
fn wake(cx: &mut Cx<'_>, sent: &Sent<'_>) {
    let now = cx.now;
    let woken = ledger::update(cx.shared, &sent.provider.slot, |record: &mut Record| {
        let woken = record.rest.clear(sent.at, now);
        if woken || record.failures > 0 {
            record.failures = 0;
            Edit::Write(woken)
        } else {
            Edit::Keep(false)
        }
    });
    if woken.unwrap_or_default() {
        cx.log(log::Level::Info, format!("provider {}: ready again", sent.provider.name));
    }
}

/// An answer that is not good, or none at all.
pub fn failed(cx: &mut Cx<'_>, sent: &Sent<'_>, signal: &Signal, reported: &Reported) {
    if signal.verdict != Verdict::ClientFault {
        for slot in [&sent.key.usage_slot, &sent.provider.usage_slot] {
            let written = tally::failure(cx.shared, slot, signal.verdict, cx.now);
            cx.lost(written);
        }
    }
    learned(cx, sent, signal, reported);
}

/// What a failure says about key, model or provider.
pub fn learned(cx: &mut Cx<'_>, sent: &Sent<'_>, signal: &Signal, reported: &Reported) {
    let reason = match signal.verdict {
        Verdict::Success | Verdict::ClientFault => return succeeded(cx, sent, reported),
        Verdict::ServerError => return server_error(cx, sent),
        Verdict::RateLimited => Reason::RateLimited,
        Verdict::OutOfQuota => Reason::OutOfQuota,
        Verdict::KeyRejected => Reason::KeyRejected,
        Verdict::Overloaded => Reason::Overloaded,
    };
    let (slot, model) = match (reason, signal.scope) {
        (Reason::Overloaded, Scope::Model) => (&sent.key.group_slot, Some(sent.model)),
        (Reason::Overloaded, _) | (_, Scope::Provider) => (&sent.provider.slot, None),
        (Reason::KeyRejected, Scope::Model) => (&sent.key.slot, Some(sent.model)),
        (Reason::KeyRejected, _) => (&sent.key.slot, None),
        (_, Scope::Model) => (&sent.key.group_slot, Some(sent.model)),
        (_, Scope::Key) => (&sent.key.group_slot, None),
    };
    let (now, seed) = (cx.now, cx.random.clone());
    let adopts = slot == &sent.key.slot;
    let entered = ledger::update(cx.shared, slot, |record: &mut Record| {
        if adopts {
            record.adopt(sent.fingerprint);
        }
        take_gauges(record, sent.provider, reported, now);
        let rest = match model {
            Some(model) => record.model_entry(model),
            None => &mut record.rest,
        };
        let cause = cause(sent, reason, signal.hint, rest.level, now, &mut seed.clone());
        let news = rest.enter(cause, sent.at, now);
        Edit::Write((news, rest.until, rest.hinted))
    });
    let Ok((news, until, hinted)) = entered else { return cx.lost(Err(ledger::Unwritten)) };
    if news {
        transition(cx, sent, reason, slot == &sent.provider.slot, model, until, hinted);
    }
    if reason != Reason::Overloaded {
        wake(cx, sent);
    }
}

/// The request goes on: to another key of the provider, or to another provider.
pub fn moved(cx: &mut Cx<'_>, plan: &Plan, to: &'static str) {
    let runtime = cx.runtime;
    if let Some(target) = plan.resolve(runtime) {
        cx.count("failovers", &[("provider", &target.provider.name), ("to", to)]);
    }
}

/// Envoy did not supply the secret of a key in its header.
pub fn missing_secret(cx: &mut Cx<'_>, key: &Key) {
    let now = cx.now;
    let cause = Cause { reason: Reason::KeyRejected, until: now.after(RECHECK), hinted: false };
    let news = ledger::update(cx.shared, &key.slot, |record: &mut Record| {
        let news = record.rest.enter(cause, now, now);
        Edit::Write(news)
    });
    if news.unwrap_or(true) {
        cx.log(log::Level::Error, format!("key {}: its header carries no secret", key.name));
    }
}

/// Secrets by header show here alone: a key whose secret has changed since it was put to rest is ready.
pub fn rotated(cx: &mut Cx<'_>, headers: &Headers) {
    let runtime = cx.runtime;
    for key in runtime.keys.iter().filter(|key| key.secret.is_by_header()) {
        let record: Record = ledger::read(cx.shared, &key.slot);
        if record.rest.reason.is_none() && record.models.is_empty() {
            continue;
        }
        let Some(credentials) = upstream::credentials(headers, key) else { continue };
        let adopted = ledger::update(cx.shared, &key.slot, |record: &mut Record| {
            if record.adopt(credentials.fingerprint) {
                Edit::Write(true)
            } else {
                Edit::Keep(false)
            }
        });
        if adopted.unwrap_or_default() {
            cx.log(log::Level::Info, format!("key {}: a new secret, ready", key.name));
        }
    }
}

/// Counts tokens as soon as they are known, and what they cost if that is known.
pub fn used(cx: &mut Cx<'_>, sent: &Sent<'_>, usage: &Usage, cost: Option<u64>) {
    let slots = [&sent.key.usage_slot, &sent.provider.usage_slot, sent.model_slot];
    let slots = slots.into_iter().map(Cow::Borrowed);
    for slot in slots.chain(usage_slots(sent.consumer, sent.team).map(Cow::Owned)) {
        let written = tally::used(cx.shared, &slot, usage, cost, cx.now);
        cx.lost(written);
    }
    if let Some(cost) = cost.filter(|cost| *cost > 0) {
        let labels = [("provider", sent.provider.name.as_str()), ("key", &sent.key.name)];
        cx.count_by("cost_nanodollars", &labels, cost);
    }
    for (kind, by) in [
        ("prompt", usage.prompt),
        ("completion", usage.completion),
        ("cached", usage.cached),
        ("reasoning", usage.reasoning),
    ] {
        if by > 0 {
            let labels = [
                ("provider", sent.provider.name.as_str()),
                ("key", &sent.key.name),
                ("kind", kind),
            ];
            cx.count_by("tokens", &labels, by);
        }
    }
}

/// Gives back what was reserved on own limits of the key, or charges what was used beyond it. The request still counts.
pub fn reconcile(cx: &Cx<'_>, sent: &Sent<'_>, claim: Claim, usage: &Usage) {
    let requests = claim.reserved.requests;
    let cost = sent.provider.price(sent.model).map_or(0, |price| price.of(usage));
    let really = Amounts { requests, ..Amounts::of_request(usage, cost) };
    keys::reconcile(cx.shared, sent.key, claim, &really, cx.now);
}

fn server_error(cx: &mut Cx<'_>, sent: &Sent<'_>) {
    let (now, seed) = (cx.now, cx.random.clone());
    let entered = ledger::update(cx.shared, &sent.provider.slot, |record: &mut Record| {
        record.failures = record.failures.saturating_add(1);
        let probing = record.rest.reason.is_some() && now >= record.rest.until;
        if record.failures < FAILURES && !probing {
            return Edit::Write(None);
        }
        let level = record.rest.level;
        let cause = cause(sent, Reason::Failing, None, level, now, &mut seed.clone());
        let news = record.rest.enter(cause, sent.at, now);
        Edit::Write(news.then_some(record.rest.until))
    });
    match entered {
        Ok(Some(until)) => transition(cx, sent, Reason::Failing, true, None, until, false),
        Ok(None) => {}
        Err(unwritten) => cx.lost(Err(unwritten)),
    }
}

fn cause(
    sent: &Sent<'_>,
    reason: Reason,
    hint: Option<Duration>,
    level: u8,
    now: UnixTime,
    random: &mut Random,
) -> Cause {
    let rest = &sent.provider.rest;
    let wait = match (hint, reason) {
        (Some(hint), _) => hint.min(rest.max).max(SHORTEST),
        (None, Reason::RateLimited) => back_off(rest.default, rest.max, level, random),
        (None, Reason::OutOfQuota) => rest.out_of_quota,
        // What rotates elsewhere shows only when it is used, so a refusal must not keep it from being.
        (None, Reason::KeyRejected) if sent.key.secret.is_from_elsewhere() => {
            rest.rejected.min(RECHECK)
        }
        (None, Reason::KeyRejected) => rest.rejected,
        (None, Reason::Overloaded | Reason::Failing) => {
            back_off(rest.overloaded, rest.max, level, random)
        }
    };
    Cause { reason, until: now.after(wait), hinted: hint.is_some() }
}

/// A hint of nothing is still a refusal: the next try is not at once.
const SHORTEST: Duration = Duration::from_millis(100);

/// How soon a rejected key whose secret comes from elsewhere is tried again.
const RECHECK: Duration = Duration::from_secs(60);

/// Doubles with every rest in a row, up to a quarter more at random, never beyond `max`.
fn back_off(base: Duration, max: Duration, level: u8, random: &mut Random) -> Duration {
    let doubled = base.saturating_mul(1_u32.checked_shl(u32::from(level)).unwrap_or(u32::MAX));
    doubled.min(max).mul_f64(1.0 + 0.25 * random.unit()).min(max.max(base))
}

fn take_gauges(
    record: &mut Record,
    provider: &Provider,
    reported: &Reported,
    now: UnixTime,
) -> bool {
    let longest = provider.rest.max;
    let requests = take_gauge(&mut record.requests, reported.requests.as_ref(), longest, now);
    let tokens = take_gauge(&mut record.tokens, reported.tokens.as_ref(), longest, now);
    requests || tokens
}

/// `longest`: a reset is capped like any other hint.
fn take_gauge(
    gauge: &mut Gauge,
    reported: Option<&Headroom>,
    longest: Duration,
    now: UnixTime,
) -> bool {
    let Some(reported) = reported.filter(|r| r.limit > 0) else { return false };
    let used = reported.limit.saturating_sub(reported.remaining).max(1);
    let taken = match reported.reset {
        Some(reset) => Gauge {
            remaining: reported.remaining,
            limit: reported.limit,
            at: now,
            reset: now.after(reset.min(longest)),
            unit: if reported.refills {
                u64::try_from(reset.as_nanos()).unwrap_or(u64::MAX) / used
            } else {
                0
            },
        },
        // Without a reset nobody could say when an empty key comes back: it is only the last choice.
        None => Gauge {
            remaining: reported.remaining.max(1),
            limit: reported.limit,
            at: now,
            reset: now.after(UNDATED),
            unit: 0,
        },
    };
    let changed = *gauge != taken;
    *gauge = taken;
    changed
}

fn transition(
    cx: &mut Cx<'_>,
    sent: &Sent<'_>,
    reason: Reason,
    provider: bool,
    model: Option<&str>,
    until: UnixTime,
    hinted: bool,
) {
    let what = match (provider, model) {
        (true, _) => format!("provider {}", sent.provider.name),
        (false, Some(model)) => format!("key {} for model {model}", sent.key.name),
        (false, None) => format!("key {}", sent.key.name),
    };
    let source = if hinted { "the provider's hint" } else { "no hint" };
    // A rejected key needs an operator; everything else comes back by itself.
    let level = if reason == Reason::KeyRejected { log::Level::Error } else { log::Level::Warn };
    let reason = reason.as_str();
    cx.log(level, format!("{what}: rests until {} ({reason}, {source})", until.rfc3339()));
    let labels =
        [("provider", sent.provider.name.as_str()), ("key", &sent.key.name), ("reason", reason)];
    cx.count("rests", &labels);
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: UnixTime = UnixTime(1_800_000_000_000);

    #[test]
    fn back_off_doubles_within_its_bounds() {
        let seconds = Duration::from_secs;
        for (level, least, most) in
            [(0, 30, 38), (1, 60, 75), (5, 960, 1_200), (7, 3_600, 3_600), (255, 3_600, 3_600)]
        {
            for seed in 0..50 {
                let wait = back_off(seconds(30), seconds(3_600), level, &mut Random::new(seed));
                assert!((seconds(least)..=seconds(most)).contains(&wait), "{level}: {wait:?}");
            }
        }
        // A base above the bound is what the operator wants.
        let wait = back_off(seconds(90), seconds(60), 3, &mut Random::new(1));
        assert!((seconds(60)..=seconds(90)).contains(&wait), "{wait:?}");
    }

    #[test]
    fn a_report_becomes_a_gauge() {
        let seconds = Duration::from_secs;
        let headroom = |remaining, limit, reset: Option<u64>, refills| Headroom {
            remaining,
            limit,
            reset: reset.map(seconds),
            refills,
        };
        let longest = seconds(3_600);
        for (reported, remaining, reset, unit) in [
            (headroom(5, 10, Some(60), false), 5, 60, 0),
            (headroom(0, 10, Some(86_400), false), 0, 3_600, 0),
            // Three of ten are gone and back in 60 s.
            (headroom(7, 10, Some(60), true), 7, 60, 20_000_000_000),
            (headroom(10, 10, Some(0), true), 10, 0, 0),
            // Nobody could say when an empty one is back: one is always left.
            (headroom(0, 10, None, false), 1, 60, 0),
        ] {
            let mut gauge = Gauge::default();
            assert!(take_gauge(&mut gauge, Some(&reported), longest, T));
            let expected =
                Gauge { remaining, limit: 10, at: T, reset: T.after(seconds(reset)), unit };
            assert_eq!(gauge, expected);
            assert!(!take_gauge(&mut gauge, Some(&reported), longest, T), "no news");
            assert!(!take_gauge(&mut gauge, None, longest, T));
        }
        let none = headroom(0, 0, Some(1), false);
        assert!(!take_gauge(&mut Gauge::default(), Some(&none), longest, T));
    }
}
