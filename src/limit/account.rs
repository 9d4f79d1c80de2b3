//! The record of one subject: what it used of all of its limits, and what it has under way.
//!
//! One record, one compare-and-swap: either all limits of a subject leave room for a request and all count it, or none
//! does. Of several subjects each is charged in turn; where one refuses, those before it are given back what they were
//! charged. Until then another request may be refused by them although there is room in the end; none is let through
//! that should not be.
//!
//! # Requests at the same time
//!
//! Who has how many under way is kept per *holder*, a VM of one worker, and a holder's counts are good for
//! [`LEASE`]. Each VM knows what it holds and says so again every [`RENEWAL`] ([`Leases`]), for as long as the
//! requests last: a stream of an hour is held for an hour, whether bytes move or not. Ended requests give their place
//! back at once, however they end. A VM that traps holds nothing any more, but says nothing either: what it held is
//! free after [`LEASE`].

use core::time::Duration;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::window::{Standing, Windows};
use super::{Amounts, Kind, Limit, Limits, Subject};
use crate::address;
use crate::effect::{Cx, Effect};
use crate::ledger::{self, Edit, SharedData, Unwritten};
use crate::time::UnixTime;

/// How long what a holder said it holds is believed.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often a holder says it again; the host asks every five seconds, or a little sooner.
pub const RENEWAL: Duration = Duration::from_secs(4);
/// Holders that a record keeps, one a worker: those that were silent longest make room.
const MAX_HOLDERS: usize = 256;
/// When to come back for a place that may become free at any moment.
const PLACE_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// As of the subject.
    owner: u64,
    windows: Windows,
    holders: Vec<Holder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    id: u64,
    held: u32,
    renewed: UnixTime,
}

/// Why a request may not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    pub kind: Kind,
    /// Of the subject.
    pub name: String,
    pub what: Full,
    /// When there is room for the request; [`UnixTime::NEVER`]: it asks for more than the whole limit.
    pub until: UnixTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Limit(Limit),
    Concurrency(u32),
}

/// How the limits of a subject stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub kind: Kind,
    pub limits: Vec<Standing>,
    /// Places for requests at the same time, and how many are taken.
    pub concurrency: Option<(u32, u32)>,
}

/// What a request was charged, to be settled when it is over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub at: UnixTime,
    pub reserved: Amounts,
    /// Who holds places for it, and in which slots.
    holder: u64,
    held: Vec<String>,
}

/// Charges every subject for one request, or none.
///
/// # Errors
/// The first subject that has no room.
pub fn charge(
    cx: &mut Cx<'_>,
    subjects: &[Subject<'_>],
    reserved: Amounts,
) -> Result<(Charge, Vec<Statement>), Box<Exceeded>> {
    let mut charge = Charge { at: cx.now, reserved, holder: cx.holder, held: Vec::new() };
    let mut statements = Vec::with_capacity(subjects.len());
    for (position, subject) in subjects.iter().enumerate() {
        match charge_one(cx, subject, &reserved) {
            Ok(statement) => {
                if statement.concurrency.is_some() {
                    let slot = subject.slot.clone().into_owned();
                    cx.effects.push(Effect::Hold(slot.clone()));
                    charge.held.push(slot);
                }
                statements.push(statement);
            }
            Err(exceeded) => {
                let charged = subjects.get(..position).unwrap_or_default();
                settle(cx, charged, &charge, &Amounts::default());
                return Err(exceeded);
            }
        }
    }
    Ok((charge, statements))
}

/// The request is over: what it `really` took takes the place of what was reserved, and its places are free.
pub fn settle(cx: &mut Cx<'_>, subjects: &[Subject<'_>], charge: &Charge, really: &Amounts) {
    let now = cx.now;
    for subject in subjects {
        let limits = &subject.limits.list;
        let differs = |limit: &Limit| charge.reserved.of(limit.unit) != really.of(limit.unit);
        let held = charge.held.iter().any(|slot| *slot == subject.slot);
        if !held && !limits.iter().any(differs) {
            continue;
        }
        let written = update(cx, subject, |account: &mut Account| {
            if account.owner != subject.owner {
                // It has passed to another subject meanwhile: nothing of this one is left in it.
                return Edit::Keep(());
            }
            account.windows.correct(limits, &charge.reserved, really, charge.at, now);
            if held {
                account.release(charge.holder);
            }
            Edit::Write(())
        });
        // What cannot be written stays on the safe side: reserved, and held until the lease ends.
        cx.lost(written);
    }
    // A reload may have taken a subject away: what it holds then ends with the lease.
    let_go(cx, charge);
}

/// The VM holds the places of a request no more, but they are not free: another round of it takes them over.
pub fn let_go(cx: &mut Cx<'_>, charge: &Charge) {
    if charge.holder == cx.holder {
        cx.effects.extend(charge.held.iter().cloned().map(Effect::Release));
    }
}

/// Takes over what the round before has let go.
pub fn take_over(cx: &mut Cx<'_>, charge: &Charge) {
    if charge.holder == cx.holder {
        cx.effects.extend(charge.held.iter().cloned().map(Effect::Hold));
    }
}

/// How the limits of `subject` stand now.
pub fn statement(shared: &dyn SharedData, subject: &Subject<'_>, now: UnixTime) -> Statement {
    let mut account: Account = ledger::read(shared, &subject.slot);
    account.adopt(subject.owner);
    account.statement(subject.kind, &subject.limits, now)
}

/// Changes the account of a subject, wherever that is kept.
fn update<R>(
    cx: &Cx<'_>,
    subject: &Subject<'_>,
    change: impl FnMut(&mut Account) -> Edit<R>,
) -> Result<R, Unwritten> {
    match subject.kind {
        // There may be any number of them: they share a table.
        Kind::Address => address::update_account(cx, subject, change),
        _ => ledger::update(cx.shared, &subject.slot, change),
    }
}

fn charge_one(
    cx: &mut Cx<'_>,
    subject: &Subject<'_>,
    amounts: &Amounts,
) -> Result<Statement, Box<Exceeded>> {
    let (now, holder) = (cx.now, cx.holder);
    let limits = subject.limits.as_ref();
    let outcome = update(cx, subject, |account: &mut Account| {
        account.adopt(subject.owner);
        match account.full(limits, amounts, now) {
            Some(full) => Edit::Keep(Err(full)),
            None => {
                account.windows.add(&limits.list, amounts, now);
                if limits.concurrency.is_some() {
                    account.hold(holder, now);
                }
                Edit::Write(Ok(account.statement(subject.kind, limits, now)))
            }
        }
    });
    match outcome {
        Ok(Ok(statement)) => Ok(statement),
        Ok(Err((what, until))) => {
            let name = subject.name.clone().into_owned();
            Err(Box::new(Exceeded { kind: subject.kind, name, what, until }))
        }
        Err(Unwritten) => {
            // Shared data that takes no writes must not stop traffic.
            cx.lost(Err(Unwritten));
            Ok(Statement { kind: subject.kind, limits: Vec::new(), concurrency: None })
        }
    }
}

impl Account {
    fn adopt(&mut self, owner: u64) {
        if self.owner != owner {
            *self = Self { owner, ..Self::default() };
        }
    }

    fn full(&self, limits: &Limits, need: &Amounts, now: UnixTime) -> Option<(Full, UnixTime)> {
        let full = self.windows.full(&limits.list, need, now);
        let limit = full.map(|(limit, until)| (Full::Limit(limit), until));
        limit.or_else(|| {
            let most = limits.concurrency.filter(|most| self.held(now) >= *most)?;
            Some((Full::Concurrency(most), now.after(PLACE_WAIT)))
        })
    }

    pub(crate) fn statement(&self, kind: Kind, limits: &Limits, now: UnixTime) -> Statement {
        Statement {
            kind,
            limits: self.windows.standing(&limits.list, now).collect(),
            concurrency: limits.concurrency.map(|most| (most, self.held(now))),
        }
    }

    /// When all that was used is forgotten.
    pub(crate) fn idle_from(&self, limits: &Limits, now: UnixTime) -> UnixTime {
        let resets = self.windows.standing(&limits.list, now).map(|standing| standing.reset);
        resets.max().unwrap_or(now)
    }

    fn held(&self, now: UnixTime) -> u32 {
        let live = self.holders.iter().filter(|holder| holder.is_live(now));
        live.fold(0, |sum, holder| sum.saturating_add(holder.held))
    }

    fn hold(&mut self, id: u64, now: UnixTime) {
        let held = self.holders.iter().find(|holder| holder.id == id).map_or(0, |h| h.held);
        self.renew(id, held.saturating_add(1), now);
    }

    fn release(&mut self, id: u64) {
        if let Some(holder) = self.holders.iter_mut().find(|holder| holder.id == id) {
            holder.held = holder.held.saturating_sub(1);
        }
    }

    /// What a holder holds, from itself.
    fn renew(&mut self, id: u64, held: u32, now: UnixTime) {
        self.holders.retain(|holder| holder.id != id && holder.is_live(now) && holder.held > 0);
        if self.holders.len() >= MAX_HOLDERS {
            let silent = self.holders.iter().enumerate().min_by_key(|(_, h)| h.renewed);
            if let Some((index, _)) = silent {
                self.holders.swap_remove(index);
            }
        }
        if held > 0 {
            self.holders.push(Holder { id, held, renewed: now });
        }
    }
}

impl Holder {
    /// A moment that is far ahead is one of a clock that has gone back since.
    fn is_live(&self, now: UnixTime) -> bool {
        self.renewed.until(now) < LEASE && now.until(self.renewed) < LEASE
    }
}

/// What the requests of one VM hold, by slot.
#[derive(Debug, Default)]
pub struct Leases {
    held: HashMap<String, u32>,
    renewed: UnixTime,
}

impl Leases {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn hold(&mut self, slot: String) {
        let held = self.held.entry(slot).or_default();
        *held = held.saturating_add(1);
    }

    pub fn release(&mut self, slot: &str) {
        if let Some(held) = self.held.get_mut(slot) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(slot);
            }
        }
    }

    /// Says again what is held, if it is time to.
    pub fn renew(&mut self, shared: &dyn SharedData, holder: u64, now: UnixTime) {
        let is_early = self.renewed.until(now) < RENEWAL && now.until(self.renewed) < RENEWAL;
        if is_early || self.held.is_empty() {
            return;
        }
        self.renewed = now;
        for (slot, held) in &self.held {
            // A lease that cannot be written is tried again in time, or ends.
            let _ = ledger::update(shared, slot, |account: &mut Account| {
                account.renew(holder, *held, now);
                Edit::Write(())
            });
        }
    }
}

#[cfg(test)]
mod tests;
