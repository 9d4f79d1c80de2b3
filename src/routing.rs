//! Which target of a model a request goes to next, and what the client is told when there is none.

use crate::effect::Cx;
use crate::formats::Format;
use crate::keys::{self, Want};
use crate::ledger;
use crate::limit::Unit;
use crate::plan::Plan;
use crate::record::Record;
use crate::reply::{Quota, Refusal};
use crate::runtime::{Model, Provider, Runtime, Target};
use crate::shortage::{Lack, Shortage};
use crate::time::UnixTime;

/// A target with its names resolved.
#[derive(Debug, Clone, Copy)]
pub struct Resolved<'a> {
    pub model: &'a Model,
    pub provider: &'a Provider,
    /// What the provider calls the model.
    pub upstream_model: &'a str,
}

impl Plan {
    /// The target of this round; `None` if a reload of the configuration took it away.
    pub fn resolve<'a>(&'a self, runtime: &'a Runtime) -> Option<Resolved<'a>> {
        self.resolve_target(runtime, self.target)
    }

    fn resolve_target<'a>(&'a self, runtime: &'a Runtime, target: u32) -> Option<Resolved<'a>> {
        let model = runtime.models.find(&self.model)?;
        let Target { provider, model: name } = model.targets.get(usize::try_from(target).ok()?)?;
        let provider = runtime.providers.get(*provider)?;
        Some(Resolved { model, provider, upstream_model: name.as_deref().unwrap_or(&self.model) })
    }

    fn want<'a>(&'a self, upstream_model: &'a str, tried: &'a [u64]) -> Want<'a> {
        Want { model: upstream_model, tokens: self.tokens, session: self.session, tried }
    }

    /// Whether one more attempt may start.
    pub fn may_go_on(&self, runtime: &Runtime, now: UnixTime) -> bool {
        self.attempts < runtime.failover.max_attempts && now < self.deadline
    }

    /// Turns to a target; what was tried with another one does not count there.
    fn enter(&mut self, target: u32) {
        if target != self.target {
            self.target = target;
            self.tried.clear();
            self.failures = 0;
        }
    }

    /// Done with the target of this round.
    pub fn give_up_target(&mut self) {
        if !self.done.contains(&self.target) {
            self.done.push(self.target);
        }
    }
}

/// Leaves out the targets that cannot be asked this: their format has no word for it, or nothing like the endpoint.
///
/// Decided before anything is sent, so that a request goes to a target that can take it, whatever the order.
///
/// # Errors
///
/// No target is left: the client's fault, by the name of the member.
pub fn leave_out_unfit(runtime: &Runtime, plan: &mut Plan, body: &[u8]) -> Result<(), Refusal> {
    let mut verdicts: Vec<(Format, Option<Refusal>)> = Vec::new();
    let mut refusal = None;
    for target in 0..target_count(runtime, plan) {
        let Some(resolved) = plan.resolve_target(runtime, target) else { continue };
        let format = resolved.provider.kind.format;
        if !format.is_foreign() || plan.done.contains(&target) {
            continue;
        }
        if !verdicts.iter().any(|(known, _)| *known == format) {
            let verdict = unfit(format, plan, resolved.upstream_model, body);
            verdicts.push((format, verdict));
        }
        let verdict = verdicts.iter().find(|(known, _)| *known == format);
        if let Some((_, Some(unfit))) = verdict {
            refusal.get_or_insert_with(|| unfit.clone());
            plan.done.push(target);
            plan.unfit.push(target);
        }
    }
    let any_left = (0..target_count(runtime, plan)).any(|target| !plan.done.contains(&target));
    match refusal {
        Some(refusal) if !any_left => Err(refusal),
        _ => Ok(()),
    }
}

fn unfit(format: Format, plan: &Plan, model: &str, body: &[u8]) -> Option<Refusal> {
    if format.path(plan.endpoint).is_none() {
        let message = format!("The model \"{}\" cannot be used with this endpoint.", plan.model);
        return Some(Refusal::client(400, "unsupported_endpoint", message).param("model"));
    }
    let error = format.request(body, model).err()?;
    let message = format!("{error}.");
    Some(Refusal::client(400, "unsupported_parameter", message).param(error.param))
}

/// Claims a key for the next attempt: of this target if it is not done with, else of the first other in
/// order of preference.
pub fn advance(cx: &mut Cx<'_>, plan: &mut Plan) -> Result<(), Shortage> {
    let mut shortage = Shortage::default();
    let (here, failures) = (plan.target, plan.failures);
    for target in (0..target_count(cx.runtime, plan))
        .filter(|target| !plan.done.contains(target))
        .collect::<Vec<_>>()
    {
        let tried = plan.tried.clone();
        plan.enter(target);
        match claim(cx, plan) {
            Ok(()) => return Ok(()),
            Err(lack) => shortage.merge(&lack),
        }
        if target == here {
            plan.tried = tried;
        }
    }
    // After a broken connection the same key may be used again: nothing was wrong with it.
    if failures > 0 && !plan.done.contains(&here) {
        plan.enter(here);
        plan.failures = failures;
        plan.tried.clear();
        if claim(cx, plan).is_ok() {
            return Ok(());
        }
    }
    for done in &plan.done {
        shortage.merge(&look_again(cx, plan, *done));
    }
    Err(shortage)
}

/// Claims a key of the target of this round that the request has not used yet.
pub fn claim(cx: &mut Cx<'_>, plan: &mut Plan) -> Result<(), Shortage> {
    let found = {
        let Some(target) = plan.resolve(cx.runtime) else { return Err(Shortage::default()) };
        let want = plan.want(target.upstream_model, &plan.tried);
        keys::claim(cx.shared, cx.runtime, target.provider, &want, cx.now, &mut cx.random)?
    };
    plan.claim = Some(found);
    if let Some(key) = cx.runtime.keys.get(found.key) {
        plan.tried.push(keys::key_hash(key));
    }
    Ok(())
}

/// Claims a key again although the request used it before: nothing was wrong with it.
pub fn claim_again(cx: &mut Cx<'_>, plan: &mut Plan) -> Result<(), Shortage> {
    claim(cx, plan).or_else(|_| {
        plan.tried.clear();
        claim(cx, plan)
    })
}

/// Whether another target than this round's has a key for the request.
pub fn has_other_target(cx: &Cx<'_>, plan: &Plan) -> bool {
    (0..target_count(cx.runtime, plan)).any(|target| {
        target != plan.target
            && !plan.done.contains(&target)
            && plan.resolve_target(cx.runtime, target).is_some_and(|target| {
                let want = plan.want(target.upstream_model, &[]);
                keys::available(cx.shared, cx.runtime, target.provider, &want, cx.now).is_ok()
            })
    })
}

/// What is known now of every target of the model, this request's own attempts included.
pub fn shortage(cx: &Cx<'_>, plan: &Plan) -> Shortage {
    let mut shortage = Shortage::default();
    for target in 0..target_count(cx.runtime, plan) {
        shortage.merge(&look_again(cx, plan, target));
    }
    shortage
}

/// The refusal for a request that cannot be sent, or not once more.
pub fn refusal(cx: &mut Cx<'_>, plan: &Plan, shortage: &Shortage) -> Refusal {
    let quota = quota(cx, plan);
    Refusal::shortage(shortage, &plan.model, quota, cx.now, &mut cx.random)
}

fn look_again(cx: &Cx<'_>, plan: &Plan, target: u32) -> Shortage {
    if plan.unfit.contains(&target) {
        return Shortage::default();
    }
    let Some(target) = plan.resolve_target(cx.runtime, target) else { return Shortage::default() };
    let want = plan.want(target.upstream_model, &[]);
    match keys::available(cx.shared, cx.runtime, target.provider, &want, cx.now) {
        Err(shortage) => shortage,
        // Usable again, but this request is done with it: the next one may come at once.
        Ok(()) => {
            let mut shortage = Shortage::default();
            shortage.note(Lack::Tried, cx.now.after(core::time::Duration::from_secs(1)));
            shortage
        }
    }
}

fn target_count(runtime: &Runtime, plan: &Plan) -> u32 {
    let targets = runtime.models.find(&plan.model).map_or(0, |model| model.targets.len());
    u32::try_from(targets).unwrap_or(u32::MAX)
}

fn quota(cx: &Cx<'_>, plan: &Plan) -> Quota {
    let mut quota = Quota::default();
    for target in 0..target_count(cx.runtime, plan) {
        let Some(target) = plan.resolve_target(cx.runtime, target) else { continue };
        for index in target.provider.levels.iter().flatten() {
            let Some(key) = cx.runtime.keys.get(*index) else { continue };
            quota.keys += 1;
            let own = key.limits.iter().filter(|l| l.unit == Unit::Requests).map(|l| l.max).min();
            quota.requests += own.unwrap_or_else(|| {
                ledger::read::<Record>(cx.shared, &key.group_slot).requests.limit
            });
        }
    }
    quota
}
