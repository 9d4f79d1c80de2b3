//! Which target of a model a request goes to next, and what the client is told when there is none.

use crate::consumer::OwnKeys;
use crate::effect::Cx;
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
    /// The consumer's own keys at the provider.
    pub own: Option<&'a OwnKeys>,
}

impl Plan {
    /// The target of this round; `None` if a reload of the configuration took it away.
    pub fn resolve<'a>(&'a self, runtime: &'a Runtime) -> Option<Resolved<'a>> {
        self.resolve_target(runtime, self.target)
    }

    fn resolve_target<'a>(&'a self, runtime: &'a Runtime, target: u32) -> Option<Resolved<'a>> {
        let model = runtime.models.find(&self.model)?;
        let Target { provider, model: name } = model.targets.get(usize::try_from(target).ok()?)?;
        let own = runtime.consumers.own_keys(&self.consumer, *provider);
        let provider = runtime.providers.get(*provider)?;
        let upstream_model = name.as_deref().unwrap_or(&self.model);
        Some(Resolved { model, provider, upstream_model, own })
    }

    fn want<'a>(&self, target: &Resolved<'a>, tried: &'a [u64]) -> Want<'a> {
        let (model, own) = (target.upstream_model, target.own);
        Want { model, tokens: self.tokens, session: self.session, tried, own }
    }

    /// Targets that are for this request, in order of preference.
    pub fn targets<'p>(&'p self, runtime: &Runtime) -> impl Iterator<Item = u32> + use<'p> {
        let targets = runtime.models.find(&self.model).map_or(0, |model| model.targets.len());
        let count = u32::try_from(targets).unwrap_or(u32::MAX);
        (0..count).filter(|target| !self.barred.contains(target))
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

/// Claims a key for the next attempt: of this target if it is not done with, else of the first other in
/// order of preference.
pub fn advance(cx: &mut Cx<'_>, plan: &mut Plan) -> Result<(), Shortage> {
    let mut shortage = Shortage::default();
    let (here, failures) = (plan.target, plan.failures);
    let open = plan.targets(cx.runtime).filter(|target| !plan.done.contains(target));
    for target in open.collect::<Vec<_>>() {
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
    for done in plan.done.iter().filter(|done| !plan.barred.contains(done)) {
        shortage.merge(&look_again(cx, plan, *done));
    }
    Err(shortage)
}

/// Claims a key of the target of this round that the request has not used yet.
pub fn claim(cx: &mut Cx<'_>, plan: &mut Plan) -> Result<(), Shortage> {
    let found = {
        let Some(target) = plan.resolve(cx.runtime) else { return Err(Shortage::default()) };
        let want = plan.want(&target, &plan.tried);
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
    plan.targets(cx.runtime).any(|target| {
        target != plan.target
            && !plan.done.contains(&target)
            && plan.resolve_target(cx.runtime, target).is_some_and(|target| {
                let want = plan.want(&target, &[]);
                keys::available(cx.shared, cx.runtime, target.provider, &want, cx.now).is_ok()
            })
    })
}

/// What is known now of every target of the model, this request's own attempts included.
pub fn shortage(cx: &Cx<'_>, plan: &Plan) -> Shortage {
    let mut shortage = Shortage::default();
    for target in plan.targets(cx.runtime) {
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
    let Some(target) = plan.resolve_target(cx.runtime, target) else { return Shortage::default() };
    let want = plan.want(&target, &[]);
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

fn quota(cx: &Cx<'_>, plan: &Plan) -> Quota {
    let mut quota = Quota::default();
    for target in plan.targets(cx.runtime) {
        let Some(target) = plan.resolve_target(cx.runtime, target) else { continue };
        for index in keys::levels(target.provider, target.own).flat_map(|level| level.keys) {
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
