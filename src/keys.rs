//! Which key a request goes out with: what each key of a provider can take now, the choice among those
//! that can, and the claim on the chosen one.
//!
//! The choice is made on headroom known before the request is sent; time alone brings a key back, and
//! then one request at a time may try it (half-open).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::consumer::OwnKeys;
use crate::ledger::{self, Edit, Found, SharedData};
use crate::limit::{Amounts, Limit};
use crate::random::{Random, fraction, hash, ln};
use crate::record::{PROBE_LEASE, Reason, Record, Rest, Standing};
use crate::runtime::{Key, KeyIndex, Provider, Runtime, Select};
use crate::shortage::{Lack, Shortage};
use crate::tally::Tally;
use crate::time::UnixTime;

/// What a request needs of a key.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// What the provider calls the model.
    pub model: &'a str,
    /// What the request may take, reserved on limits of the key.
    pub need: Amounts,
    /// Hash of the session that should stay on one key.
    pub session: Option<u64>,
    /// [`key_hash`] of keys that this request must not use again.
    pub tried: &'a [u64],
    /// The consumer's own keys at the provider: they come first.
    pub own: Option<&'a OwnKeys>,
}

/// Where to look for a key, best first, and the record of turns among those of a level.
#[derive(Debug, Clone, Copy)]
pub struct Level<'a> {
    pub keys: &'a [KeyIndex],
    turn_slot: &'a str,
    number: usize,
}

/// The levels of a consumer, then those of the provider.
pub fn levels<'a>(
    provider: &'a Provider,
    own: Option<&'a OwnKeys>,
) -> impl Iterator<Item = Level<'a>> {
    let level = |turn_slot: &'a str| {
        move |(number, keys): (usize, &'a Vec<KeyIndex>)| Level { keys, turn_slot, number }
    };
    let of_consumer = own
        .into_iter()
        .flat_map(move |own| own.levels.iter().enumerate().map(level(&own.turn_slot)));
    let shared = own.is_none_or(|own| own.shared).then_some(&provider.levels);
    let of_provider = shared.into_iter().flatten().enumerate().map(level(&provider.slot));
    of_consumer.chain(of_provider)
}

/// A key that was claimed for one attempt, and what has to be given back if it comes to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub key: KeyIndex,
    /// Reserved on own limits of the key.
    pub reserved: Amounts,
    /// The attempt has the one turn that a key, model or provider gets which has just come back.
    pub probe: bool,
    /// In which windows of own limits it was counted.
    pub at: UnixTime,
}

/// With less left than this, a key is used only when no other has more.
const LOW: f64 = 0.1;

/// How soon to come back while somebody else tries out the only key: long before the lease ends.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Names a key across a reload of the configuration, where its index may change.
pub fn key_hash(key: &Key) -> u64 {
    hash(&[key.slot.as_bytes()])
}

/// Claims the best key of `provider`, or says why there is none.
pub fn claim(
    shared: &dyn SharedData,
    runtime: &Runtime,
    provider: &Provider,
    want: &Want<'_>,
    now: UnixTime,
    random: &mut Random,
) -> Result<Claim, Shortage> {
    let mut shortage = Shortage::default();
    let probing = provider_standing(shared, provider, now, &mut shortage)?;
    for level in levels(provider, want.own) {
        let mut candidates = candidates(shared, runtime, level.keys, want, now, &mut shortage);
        while let Some(position) =
            choose(shared, provider, &level, &candidates, want.session, now, random)
        {
            let candidate = candidates.swap_remove(position);
            match take(shared, candidate.key, candidate.found, want, now) {
                Ok(probe) => {
                    let claim = Claim { key: candidate.index, reserved: want.need, probe, at: now };
                    if !probing {
                        return Ok(claim);
                    }
                    if take_turn(shared, provider, now) {
                        return Ok(Claim { probe: true, ..claim });
                    }
                    give_back(shared, candidate.key, want.model, claim);
                    shortage.note(Lack::Tried, now.after(PROBE_WAIT));
                    return Err(shortage);
                }
                // Another worker was faster; the next candidate.
                Err((lack, until)) => shortage.note(lack, until),
            }
        }
    }
    Err(shortage)
}

/// Whether [`claim`] would find a key, without claiming it.
pub fn available(
    shared: &dyn SharedData,
    runtime: &Runtime,
    provider: &Provider,
    want: &Want<'_>,
    now: UnixTime,
) -> Result<(), Shortage> {
    let mut shortage = Shortage::default();
    provider_standing(shared, provider, now, &mut shortage)?;
    let any = levels(provider, want.own)
        .any(|level| !candidates(shared, runtime, level.keys, want, now, &mut shortage).is_empty());
    if any { Ok(()) } else { Err(shortage) }
}

/// Claims `key`, whatever else there is, for an attempt that starts at `at`.
pub fn claim_key(
    shared: &dyn SharedData,
    (index, key): (KeyIndex, &Key),
    want: &Want<'_>,
    at: UnixTime,
) -> Option<Claim> {
    let found = Found::in_slot(shared, &key.slot);
    let probe = take(shared, key, found, want, at).ok()?;
    Some(Claim { key: index, reserved: want.need, probe, at })
}

/// Undoes a claim on `key` that was never sent.
pub fn release(shared: &dyn SharedData, provider: &Provider, key: &Key, model: &str, claim: Claim) {
    give_back(shared, key, model, claim);
    if claim.probe {
        end_turn_at(shared, &provider.slot, model);
    }
}

/// Lets the next request try what this one had the turn of: it went away without a word about that.
pub fn end_turn(shared: &dyn SharedData, provider: &Provider, key: &Key, model: &str) {
    end_key_turn(shared, key, model);
    end_turn_at(shared, &provider.slot, model);
}

/// Counts what an attempt really took in place of what was reserved.
pub fn reconcile(
    shared: &dyn SharedData,
    key: &Key,
    claim: Claim,
    really: &Amounts,
    now: UnixTime,
) {
    let differs = |limit: &Limit| claim.reserved.of(limit.unit) != really.of(limit.unit);
    if !key.limits.iter().any(differs) {
        return;
    }
    // A record that cannot be written stays on the safe side: the reservation.
    let _ = ledger::update(shared, &key.slot, |record: &mut Record| {
        record.windows.correct(&key.limits, &claim.reserved, really, claim.at, now);
        Edit::Write(())
    });
}

/// Whether the provider needs its one turn to be taken; `Err` while nothing may be sent to it.
fn provider_standing(
    shared: &dyn SharedData,
    provider: &Provider,
    now: UnixTime,
    shortage: &mut Shortage,
) -> Result<bool, Shortage> {
    let record: Record = ledger::read(shared, &provider.slot);
    if let Some(until) = provider.maintained_until(now) {
        shortage.note(Lack::Maintenance, until);
        return Err(core::mem::take(shortage));
    }
    match usable(&record.rest, now) {
        Ok(probing) => Ok(probing),
        Err((lack, until)) => {
            shortage.note(lack, until);
            Err(core::mem::take(shortage))
        }
    }
}

struct Candidate<'a> {
    index: KeyIndex,
    key: &'a Key,
    headroom: f64,
    /// Its record.
    found: Found,
}

fn candidates<'a>(
    shared: &dyn SharedData,
    runtime: &'a Runtime,
    keys: &[KeyIndex],
    want: &Want<'_>,
    now: UnixTime,
    shortage: &mut Shortage,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::with_capacity(keys.len());
    for &index in keys {
        let Some(key) = runtime.keys.get(index) else { continue };
        if !want.tried.is_empty() && want.tried.contains(&key_hash(key)) {
            shortage.note(Lack::Tried, now.after(PROBE_WAIT));
            continue;
        }
        match look(shared, key, want, now) {
            Ok((headroom, record)) => {
                found.push(Candidate { index, key, headroom, found: record });
            }
            Err((lack, until)) => shortage.note(lack, until),
        }
    }
    found
}

type Lacking = (Lack, UnixTime);

/// Headroom of a key that can take the request, and its record.
fn look(
    shared: &dyn SharedData,
    key: &Key,
    want: &Want<'_>,
    now: UnixTime,
) -> Result<(f64, Found), Lacking> {
    let found = Found::in_slot(shared, &key.slot);
    let mut own: Record = found.record();
    valid(key, now)?;
    own.adopt(key.fingerprint);
    if key.slot == key.group_slot {
        own_standing(&own, key, want, now)?;
        group_standing(&own, want, now)?;
        return Ok((own.headroom(&key.limits, now), found));
    }
    own_standing(&own, key, want, now)?;
    let group: Record = ledger::read(shared, &key.group_slot);
    group_standing(&group, want, now)?;
    Ok((own.headroom(&key.limits, now).min(group.headroom(&[], now)), found))
}

/// Claims a key in its records, of which its own was `found`; whether that is the turn of a key that has just come back.
fn take(
    shared: &dyn SharedData,
    key: &Key,
    found: Found,
    want: &Want<'_>,
    now: UnixTime,
) -> Result<bool, Lacking> {
    let alone = key.slot == key.group_slot;
    let probe = edit(shared, &key.slot, found, |record| {
        let mut write = record.adopt(key.fingerprint);
        let mut probe = own_standing(record, key, want, now)?;
        if alone {
            probe |= group_standing(record, want, now)?;
        }
        write |= lease(record, want.model, now);
        if !key.limits.is_empty() {
            record.windows.add(&key.limits, &want.need, now);
            write = true;
        }
        Ok((probe, write))
    })?;
    if alone {
        return Ok(probe);
    }
    let group = Found::in_slot(shared, &key.group_slot);
    let group = edit(shared, &key.group_slot, group, |record| {
        let probe = group_standing(record, want, now)?;
        Ok((probe, lease(record, want.model, now)))
    });
    match group {
        Ok(group_probe) => Ok(probe || group_probe),
        Err(lacking) => {
            let claim = Claim { key: 0, reserved: want.need, probe, at: now };
            give_back(shared, key, want.model, claim);
            Err(lacking)
        }
    }
}

/// One compare-and-swap that may find, on the record of the moment, that the claim cannot be had.
fn edit(
    shared: &dyn SharedData,
    slot: &str,
    found: Found,
    mut change: impl FnMut(&mut Record) -> Result<(bool, bool), Lacking>,
) -> Result<bool, Lacking> {
    let outcome = ledger::update_found(shared, slot, found, |record| match change(record) {
        Ok((probe, true)) => Edit::Write(Ok(probe)),
        Ok((probe, false)) => Edit::Keep(Ok(probe)),
        Err(lacking) => Edit::Keep(Err(lacking)),
    });
    // Shared data that takes no writes must not stop traffic: the claim is then not remembered.
    outcome.unwrap_or(Ok(false))
}

fn give_back(shared: &dyn SharedData, key: &Key, model: &str, claim: Claim) {
    if !key.limits.is_empty() {
        let (limits, nothing) = (&key.limits, Amounts::default());
        let _ = ledger::update(shared, &key.slot, |record: &mut Record| {
            record.windows.correct(limits, &claim.reserved, &nothing, claim.at, claim.at);
            Edit::Write(())
        });
    }
    if claim.probe {
        end_key_turn(shared, key, model);
    }
}

fn end_key_turn(shared: &dyn SharedData, key: &Key, model: &str) {
    end_turn_at(shared, &key.slot, model);
    if key.slot != key.group_slot {
        end_turn_at(shared, &key.group_slot, model);
    }
}

fn end_turn_at(shared: &dyn SharedData, slot: &str, model: &str) {
    // A turn that cannot be given back ends with its lease.
    let _ = ledger::update(shared, slot, |record: &mut Record| {
        if record.end_turn(model) { Edit::Write(()) } else { Edit::Keep(()) }
    });
}

fn take_turn(shared: &dyn SharedData, provider: &Provider, now: UnixTime) -> bool {
    let taken = ledger::update(shared, &provider.slot, |record: &mut Record| {
        match record.rest.standing(now) {
            Standing::Ready => Edit::Keep(true),
            Standing::Recovering => {
                record.rest.probe = now.after(PROBE_LEASE);
                Edit::Write(true)
            }
            Standing::Probing(_) | Standing::Resting(..) => Edit::Keep(false),
        }
    });
    taken.unwrap_or(true)
}

fn valid(key: &Key, now: UnixTime) -> Result<(), Lacking> {
    if key.valid.contains(now) {
        return Ok(());
    }
    let from = if now < key.valid.from { key.valid.from } else { UnixTime::NEVER };
    Err((Lack::NotValid, from))
}

/// Refusal, also for the model, and own limits. `Ok(true)`: usable, and this is its one turn.
fn own_standing(
    record: &Record,
    key: &Key,
    want: &Want<'_>,
    now: UnixTime,
) -> Result<bool, Lacking> {
    let probe = usable_for(record, want.model, now)?;
    match record.limited_until(&key.limits, &want.need, now) {
        Some(until) => Err((Lack::OwnLimit, until)),
        None => Ok(probe),
    }
}

/// Rest of the account, of the model, and what the provider says is left.
fn group_standing(record: &Record, want: &Want<'_>, now: UnixTime) -> Result<bool, Lacking> {
    let probe = usable_for(record, want.model, now)?;
    let requests = record.requests.empty_until(1, now);
    match requests.max(record.tokens.empty_until(want.need.tokens(), now)) {
        Some(until) => Err((Lack::Rest { reason: Reason::RateLimited, hinted: true }, until)),
        None => Ok(probe),
    }
}

fn usable_for(record: &Record, model: &str, now: UnixTime) -> Result<bool, Lacking> {
    let probe = usable(&record.rest, now)?;
    let of_model = record.model(model).map_or(Ok(false), |rest| usable(rest, now))?;
    Ok(probe || of_model)
}

fn usable(rest: &Rest, now: UnixTime) -> Result<bool, Lacking> {
    match (rest.standing(now), rest.reason) {
        (Standing::Ready, _) | (_, None) => Ok(false),
        (Standing::Recovering, _) => Ok(true),
        (Standing::Probing(until), Some(reason)) => {
            Err((Lack::Rest { reason, hinted: rest.hinted }, until.min(now.after(PROBE_WAIT))))
        }
        (Standing::Resting(until, reason), _) => {
            Err((Lack::Rest { reason, hinted: rest.hinted }, until))
        }
    }
}

/// Takes the turn of whatever has come back, and one request off what the provider said is left.
fn lease(record: &mut Record, model: &str, now: UnixTime) -> bool {
    let mut write = false;
    let until = now.after(PROBE_LEASE);
    if record.rest.standing(now) == Standing::Recovering {
        record.rest.probe = until;
        write = true;
    }
    if let Some(rest) = record.model_mut(model)
        && rest.standing(now) == Standing::Recovering
    {
        rest.probe = until;
        write = true;
    }
    record.requests.take(now) || write
}

/// The position of the best candidate.
fn choose(
    shared: &dyn SharedData,
    provider: &Provider,
    level: &Level<'_>,
    candidates: &[Candidate<'_>],
    session: Option<u64>,
    now: UnixTime,
    random: &mut Random,
) -> Option<usize> {
    if candidates.len() < 2 {
        return (!candidates.is_empty()).then_some(0);
    }
    if let Some(session) = session {
        // Weighted rendezvous hashing: a session stays where it is while that key can take it.
        return best(candidates, |c| {
            let draw = fraction(hash(&[&session.to_le_bytes(), c.key.slot.as_bytes()]));
            f64::from(c.key.weight) / -ln(draw)
        });
    }
    match provider.select {
        Select::Weighted => best(candidates, |c| spread(f64::from(c.key.weight), random)),
        Select::Headroom => {
            let roomy = candidates.iter().any(|c| c.headroom >= LOW);
            best(candidates, |c| {
                if roomy && c.headroom < LOW {
                    return f64::NEG_INFINITY;
                }
                spread(f64::from(c.key.weight) * c.headroom.max(0.001), random)
            })
        }
        Select::LeastUsed => best(candidates, |c| {
            let tally: Tally = ledger::read(shared, &c.key.usage_slot);
            // Ties in no fixed order.
            -(tally.recent(now) / f64::from(c.key.weight)) + random.unit() * 1e-6
        }),
        Select::RoundRobin => Some(turn(shared, level, candidates)),
    }
}

/// A key to sort by, above zero, that makes each come first in proportion to its weight (Efraimidis, Spirakis 2006).
fn spread(weight: f64, random: &mut Random) -> f64 {
    // Sorts like theirs, whose logarithm is the negative inverse.
    weight / -ln(random.unit())
}

fn best<'a>(
    candidates: &[Candidate<'a>],
    mut score: impl FnMut(&Candidate<'a>) -> f64,
) -> Option<usize> {
    let scored = candidates.iter().enumerate().map(|(position, c)| (position, score(c)));
    scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(position, _)| position)
}

/// Weighted turns, counted across all workers.
fn turn(shared: &dyn SharedData, level: &Level<'_>, candidates: &[Candidate<'_>]) -> usize {
    let slot = format!("{}/turn/{}", level.turn_slot, level.number);
    let counted = ledger::update(shared, &slot, |turn: &mut u64| {
        let mine = *turn;
        *turn = turn.wrapping_add(1);
        Edit::Write(mine)
    });
    let total: u64 = candidates.iter().map(|c| u64::from(c.key.weight)).sum();
    let mut left = counted.unwrap_or_default() % total.max(1);
    for (position, candidate) in candidates.iter().enumerate() {
        let weight = u64::from(candidate.key.weight);
        if left < weight {
            return position;
        }
        left -= weight;
    }
    0
}

#[cfg(test)]
mod tests;
