//! Which target of a model a request goes to next, and what the client is told when there is none.

use crate::consumer::OwnKeys;
use crate::conversation::Unsupported;
use crate::effect::Cx;
use crate::formats::{self, Call, Upstream, Way};
use crate::keys::{self, Want};
use crate::ledger;
use crate::limit::{Amounts, Subject, Unit};
use crate::plan::Plan;
use crate::random::hash;
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

impl<'a> Resolved<'a> {
    /// Whether the model's name can stand in the provider's path, where it has to.
    fn has_path(&self, plan: &Plan, way: Way) -> bool {
        let (endpoint, model) = (plan.endpoint, self.upstream_model);
        let call = Call { endpoint, way, model, stream: plan.stream };
        self.provider.kind.format.path(&call).is_some()
    }

    /// As requests are written for it.
    pub fn upstream(&self) -> Upstream<'a> {
        let Provider { kind, include_usage, .. } = *self.provider;
        Upstream { kind, model: self.upstream_model, include_usage }
    }

    /// Names the target across a reload of the configuration, where its index may change.
    pub fn id(&self) -> u64 {
        hash(&[self.provider.name.as_bytes(), self.upstream_model.as_bytes()])
    }
}

impl Plan {
    /// The target of this round; `None` if a reload of the configuration took it away.
    pub fn resolve<'a>(&'a self, runtime: &'a Runtime) -> Option<Resolved<'a>> {
        self.resolve_target(runtime, self.target)
    }

    pub fn resolve_target<'a>(&'a self, runtime: &'a Runtime, target: u32) -> Option<Resolved<'a>> {
        let model = runtime.models.find(&self.model)?;
        let Target { provider, model: name } = model.targets.get(usize::try_from(target).ok()?)?;
        let own = runtime.consumers.own_keys(&self.consumer, *provider);
        let provider = runtime.providers.get(*provider)?;
        let upstream_model = name.as_deref().unwrap_or(&self.model);
        Some(Resolved { model, provider, upstream_model, own })
    }

    fn want<'a>(&self, runtime: &Runtime, target: &Resolved<'a>, tried: &'a [u64]) -> Want<'a> {
        let (model, own) = (target.upstream_model, target.own);
        let price = runtime.keys_count_cost.then(|| target.provider.price(model)).flatten();
        let cost = price.map_or(0, |price| price.of(&self.estimate));
        let need = Amounts::of_request(&self.estimate, cost);
        Want { model, need, session: self.session, tried, own }
    }

    /// Keeps targets out of everything that is decided for the request.
    pub fn bar(&mut self, runtime: &Runtime, targets: &[u32]) {
        let ids = targets.iter().filter_map(|t| self.resolve_target(runtime, *t)).map(|t| t.id());
        self.barred = ids.collect();
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
    pub fn give_up_target(&mut self, runtime: &Runtime) {
        let id = self.resolve(runtime).map(|target| target.id());
        self.done.extend(id.filter(|id| !self.done.contains(id)));
    }

    /// Indices of the targets that the request is not done with, in order of preference.
    pub fn open_targets(&self, runtime: &Runtime) -> impl Iterator<Item = u32> {
        self.targets(runtime).filter(|target| {
            let target = self.resolve_target(runtime, *target);
            target.is_some_and(|target| !self.done.contains(&target.id()))
        })
    }

    /// Whether the model has targets at a provider, and the caller may use none of them.
    pub fn is_barred_from(&self, runtime: &Runtime, provider: &str) -> bool {
        let targets = runtime.models.find(&self.model).map_or(&[][..], |model| &model.targets);
        let mut here = (0..)
            .zip(targets)
            .filter_map(|(index, _)| self.resolve_target(runtime, index))
            .filter(|target| target.provider.name == provider)
            .map(|target| self.barred.contains(&target.id()))
            .peekable();
        !self.barred.is_empty() && here.peek().is_some() && here.all(|barred| barred)
    }

    /// Whether some targets take the request as it is and some in other words.
    pub fn changes_way(&self, runtime: &Runtime) -> bool {
        let mut ways = self
            .targets(runtime)
            .filter_map(|target| self.resolve_target(runtime, target)?.provider.way(self.endpoint));
        let first = ways.next();
        ways.any(|way| Some(way) != first)
    }

    /// Indices of all targets that the request may go to, in order of preference.
    pub fn targets(&self, runtime: &Runtime) -> impl Iterator<Item = u32> {
        let targets = runtime.models.find(&self.model).map_or(&[][..], |model| &model.targets);
        let leads_there = |provider| self.only.is_none_or(|only| only == provider);
        let usable = |target: &u32| {
            self.barred.is_empty() && self.unfit.is_empty()
                || self
                    .resolve_target(runtime, *target)
                    .map(|target| target.id())
                    .is_some_and(|id| !self.barred.contains(&id) && !self.unfit.contains(&id))
        };
        (0..)
            .zip(targets)
            .filter(move |(_, target)| leads_there(target.provider))
            .map(|(index, _)| index)
            .filter(usable)
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
    // What a format has no word for, none of its providers has; of some formats the models differ.
    let mut refusals: Vec<(_, Option<Refusal>)> = Vec::new();
    let mut left_out = Vec::new();
    for target in plan.targets(runtime).collect::<Vec<_>>() {
        let Some(resolved) = plan.resolve_target(runtime, target) else { continue };
        let (way, id) = (resolved.provider.way(plan.endpoint), resolved.id());
        let format = resolved.provider.kind.format;
        if way.is_some_and(|way| !resolved.has_path(plan, way)) {
            refusals.push(((format, None, ""), Some(no_endpoint(plan))));
            left_out.push(id);
            continue;
        }
        if way == Some(Way::Native) {
            continue;
        }
        let model = if format.differs_by_model() { resolved.upstream_model } else { "" };
        let what = (format, way, model);
        let known = refusals.iter().find(|(known, _)| *known == what);
        let is_unfit = match known {
            Some((_, refusal)) => refusal.is_some(),
            None => {
                let refusal = unfit(&resolved, way, plan, body);
                let is_unfit = refusal.is_some();
                refusals.push((what, refusal));
                is_unfit
            }
        };
        if is_unfit {
            left_out.push(id);
        }
    }
    // A member by its name says more than an endpoint that is not there.
    let refusals = refusals.into_iter().filter_map(|((_, way, _), refusal)| Some((way, refusal?)));
    let refusal = refusals.min_by_key(|(way, _)| way.is_none()).map(|(_, refusal)| refusal);
    plan.unfit.extend(left_out);
    match refusal {
        Some(refusal) if plan.targets(runtime).next().is_none() => Err(refusal),
        _ => Ok(()),
    }
}

fn unfit(target: &Resolved<'_>, way: Option<Way>, plan: &Plan, body: &[u8]) -> Option<Refusal> {
    if way.is_none() {
        return Some(no_endpoint(plan));
    }
    let error = formats::request(&target.upstream(), plan.endpoint, body).err()?;
    Some(unsupported(&error))
}

/// By the name of the member.
pub fn unsupported(error: &Unsupported) -> Refusal {
    let message = format!("{error}.");
    Refusal::client(400, "unsupported_parameter", message).param(error.param.as_str())
}

fn no_endpoint(plan: &Plan) -> Refusal {
    let message = format!("The model \"{}\" cannot be used with this endpoint.", plan.model);
    Refusal::client(400, "unsupported_endpoint", message).param("model")
}

/// Leaves out the targets whose price is not known: a limit on cost could not be kept.
///
/// # Errors
///
/// No target is left; `subject` has the limit.
pub fn leave_out_unpriced(
    runtime: &Runtime,
    plan: &mut Plan,
    subject: &Subject<'_>,
) -> Result<(), Refusal> {
    let unpriced = |plan: &Plan| {
        let targets = plan.targets(runtime).filter_map(|t| plan.resolve_target(runtime, t));
        let unpriced = targets.filter(|t| t.provider.price(t.upstream_model).is_none());
        unpriced.map(|target| target.id()).collect::<Vec<_>>()
    };
    let ids = unpriced(plan);
    plan.unfit.extend(ids);
    if plan.targets(runtime).next().is_some() {
        return Ok(());
    }
    let message = format!(
        "The price of model \"{}\" is not known, so the limit on cost of {} \"{}\" does not allow it.",
        plan.model,
        subject.kind.as_str(),
        subject.name
    );
    let refusal = Refusal::client(403, "price_unknown", message).param("model");
    Err(Refusal { kind: "permission_error", ..refusal })
}

/// Claims a key for the next attempt: of this target if it is not done with, else of the first other in
/// order of preference.
pub fn advance(cx: &mut Cx<'_>, plan: &mut Plan) -> Result<(), Shortage> {
    let mut shortage = Shortage::default();
    let (here, failures, tried) = (plan.target, plan.failures, plan.tried.clone());
    let open: Vec<u32> = plan.open_targets(cx.runtime).collect();
    for target in &open {
        plan.enter(*target);
        if *target == here {
            plan.failures = failures;
            plan.tried.clone_from(&tried);
        }
        match claim(cx, plan) {
            Ok(()) => return Ok(()),
            Err(lack) => shortage.merge(&lack),
        }
    }
    // After a broken connection the same key may be used again: nothing was wrong with it.
    if failures > 0 && open.contains(&here) {
        plan.enter(here);
        plan.failures = failures;
        plan.tried.clear();
        if claim(cx, plan).is_ok() {
            return Ok(());
        }
    }
    for target in plan.targets(cx.runtime).filter(|target| !open.contains(target)) {
        shortage.merge(&look_again(cx, plan, target));
    }
    Err(shortage)
}

/// Claims a key of the target of this round that the request has not used yet.
pub fn claim(cx: &mut Cx<'_>, plan: &mut Plan) -> Result<(), Shortage> {
    let found = {
        let Some(target) = plan.resolve(cx.runtime) else { return Err(Shortage::default()) };
        let want = plan.want(cx.runtime, &target, &plan.tried);
        keys::claim(cx.shared, cx.runtime, target.provider, &want, cx.now, &mut cx.random)?
    };
    plan.claim = Some(found);
    if let Some(key) = cx.runtime.keys.get(found.key) {
        plan.tried.push(keys::key_hash(key));
    }
    Ok(())
}

/// Claims the key of the last attempt for one that starts at `at`.
pub fn claim_same(cx: &Cx<'_>, plan: &mut Plan, at: UnixTime) -> bool {
    let runtime = cx.runtime;
    let found = plan.resolve(runtime).zip(plan.claimed_key(runtime)).and_then(|(target, key)| {
        let want = plan.want(cx.runtime, &target, &[]);
        keys::claim_key(cx.shared, key, &want, at)
    });
    plan.claim = found;
    found.is_some()
}

/// Undoes the claim for an attempt that is not sent.
pub fn release(cx: &Cx<'_>, plan: &mut Plan) {
    let runtime = cx.runtime;
    let (target, key) = (plan.resolve(runtime), plan.claimed_key(runtime));
    if let (Some(target), Some((_, key)), Some(claim)) = (target, key, plan.claim) {
        keys::release(cx.shared, target.provider, key, target.upstream_model, claim);
    }
    plan.claim = None;
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
    plan.open_targets(cx.runtime).any(|target| {
        target != plan.target
            && plan.resolve_target(cx.runtime, target).is_some_and(|target| {
                let want = plan.want(cx.runtime, &target, &[]);
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
    let want = plan.want(cx.runtime, &target, &[]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::ledger::memory::Memory;
    use crate::runtime::load;
    use crate::usage::Usage;
    use serde_json::json;

    const T: UnixTime = UnixTime(1_800_000_000_000);

    /// Providers `a` and `b` in this order with a key each, and `a` with another model last.
    fn runtime(order: [&str; 2]) -> Runtime {
        let provider = |name: &str| {
            let limits = json!([{"requests": 1, "per": "minute"}, {"requests": 50, "per": "day"}]);
            let keys = json!([{"id": name, "secret": {"inline": name}, "limits": limits}]);
            json!({"name": name, "kind": "openai", "keys": keys})
        };
        let [first, second] = order;
        let document = json!({
            "providers": [provider("a"), provider("b")],
            "models": [{"name": "m", "targets": [
                {"provider": first}, {"provider": second}, {"provider": "a", "model": "spare"},
            ]}],
        });
        load(document.to_string().as_bytes(), &|_| None).unwrap()
    }

    /// Before its first attempt.
    fn plan() -> Plan {
        Plan {
            endpoint: Endpoint::ChatCompletions,
            model: "m".to_owned(),
            stream: false,
            estimate: Usage { prompt: 1, ..Usage::default() },
            session: None,
            started: T,
            deadline: T.after(core::time::Duration::from_secs(10)),
            target: 0,
            attempts: 0,
            claim: None,
            tried: Vec::new(),
            done: Vec::new(),
            failures: 0,
            ..crate::plan::tests::plan()
        }
    }

    #[test]
    fn targets_that_are_done_with_stay_so_in_another_order() {
        let (before, after) = (runtime(["a", "b"]), runtime(["b", "a"]));
        let mut plan = plan();
        let open = |plan: &Plan, runtime| plan.open_targets(runtime).collect::<Vec<_>>();
        assert_eq!(open(&plan, &before), [0, 1, 2]);
        plan.give_up_target(&before);
        plan.give_up_target(&before);
        assert_eq!(plan.done.len(), 1);
        assert_eq!(open(&plan, &before), [1, 2], "another model of the provider is another target");
        assert_eq!(open(&plan, &after), [0, 2]);
        plan.only = Some(0);
        assert_eq!(open(&plan, &before), [2], "the route leads to a alone");
        plan.model = "gone".to_owned();
        assert!(open(&plan, &before).is_empty());
        assert!(plan.resolve(&before).is_none());
    }

    #[test]
    fn advances_in_order_and_comes_back_to_a_broken_connection_last() {
        let (runtime, memory) = (runtime(["a", "b"]), Memory::default());
        let mut cx = Cx::new(&runtime, &memory, None, T, 1);
        let mut plan = plan();
        advance(&mut cx, &mut plan).unwrap();
        assert_eq!((plan.target, plan.tried.len()), (0, 1));
        let claimed = |plan: &Plan| plan.claimed_key(&runtime).map(|(_, key)| key.id.as_str());
        assert_eq!(claimed(&plan), Some("a"));

        // Its connection broke; nothing was sent.
        release(&cx, &mut plan);
        assert_eq!(claimed(&plan), None);
        plan.failures = 1;
        let mut elsewhere = plan.clone();
        advance(&mut cx, &mut elsewhere).unwrap();
        assert_eq!((elsewhere.target, elsewhere.failures, claimed(&elsewhere)), (1, 0, Some("b")));
        elsewhere = plan.clone();
        elsewhere.model = "m".to_owned();
        elsewhere.only = Some(0);
        elsewhere.done.push(elsewhere.resolve_target(&runtime, 2).unwrap().id());
        advance(&mut cx, &mut elsewhere).unwrap();
        assert_eq!((elsewhere.failures, claimed(&elsewhere)), (1, Some("a")), "the same key again");
    }

    #[test]
    fn bounds_and_shortage() {
        let (runtime, memory) = (runtime(["a", "b"]), Memory::default());
        let mut cx = Cx::new(&runtime, &memory, None, T, 1);
        let mut plan = plan();
        assert!(plan.may_go_on(&runtime, T) && !plan.may_go_on(&runtime, plan.deadline));
        plan.attempts = runtime.failover.max_attempts;
        assert!(!plan.may_go_on(&runtime, T));
        assert!(shortage(&cx, &plan).tried, "usable, but not by this request");
        // Both use up their minute.
        for _ in 0..2 {
            advance(&mut cx, &mut plan.clone()).unwrap();
        }
        assert!(!has_other_target(&cx, &plan));
        let lack = advance(&mut cx, &mut plan).unwrap_err();
        assert!(lack.limited && !lack.tried);
        assert_eq!(lack.ready_at(), Some(T.window_end(crate::limit::Per::Minute)));
        assert_eq!(refusal(&mut cx, &plan, &lack).status, 429);
    }

    #[test]
    fn an_endpoint_that_a_provider_lacks_is_not_asked_of_it() {
        let provider =
            |name: &str| json!({"name": name, "keys": [{"id": name, "secret": {"inline": name}}]});
        let target = |name: &str| json!({"provider": name});
        let document = json!({
            "providers": [provider("groq"), provider("openai")],
            "models": [
                {"name": "m", "targets": [target("groq"), target("openai")]},
                {"name": "n", "targets": [target("groq")]},
            ],
        });
        let runtime = load(document.to_string().as_bytes(), &|_| None).unwrap();
        for (model, endpoint, expected) in [
            ("m", Endpoint::ChatCompletions, Some(&[0, 1][..])),
            ("m", Endpoint::Embeddings, Some(&[1])),
            ("n", Endpoint::ChatCompletions, Some(&[0])),
            ("n", Endpoint::Embeddings, None),
            ("m", Endpoint::ImageVariations, None),
        ] {
            let mut plan = Plan { endpoint, model: model.to_owned(), ..plan() };
            let left = leave_out_unfit(&runtime, &mut plan, b"{}");
            let targets: Vec<u32> = plan.targets(&runtime).collect();
            match expected {
                Some(expected) => assert_eq!((left.is_ok(), &targets[..]), (true, expected)),
                None => {
                    let refusal = left.unwrap_err();
                    assert_eq!((refusal.status, refusal.code), (400, "unsupported_endpoint"));
                }
            }
        }
    }
    /// A format can be the same and one model of it take what another refuses.
    #[test]
    fn a_model_that_refuses_does_not_speak_for_its_format() {
        let targets: Vec<_> = ["gemini-2.5-pro", "gemini-3-pro-preview", "gemini-2.5-flash"]
            .map(|model| json!({"provider": "gemini", "model": model}))
            .into();
        let document = json!({
            "providers": [{"name": "gemini", "keys": [{"id": "a", "secret": {"inline": "a"}}]}],
            "models": [{"name": "m", "targets": targets}],
        });
        let runtime = load(document.to_string().as_bytes(), &|_| None).unwrap();
        let body = json!({
            "model": "m", "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_object"},
            "tools": [{"type": "function", "function": {"name": "f"}}],
        });
        let mut plan = plan();
        leave_out_unfit(&runtime, &mut plan, body.to_string().as_bytes()).unwrap();
        assert_eq!(plan.targets(&runtime).collect::<Vec<_>>(), [1]);
    }
}
