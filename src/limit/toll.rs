//! What one request owes to limits, from its admission to its end.
//!
//! The `gateway` stage charges a request once, before anything is sent, whatever attempts and rounds follow: the plan
//! carries the [`Toll`]. It settles when its part of the exchange is over, with what the attempt stage has seen of the
//! usage and left in filter state ([`Spent`]); `standalone` does both itself.
//!
//! | the request | requests | tokens and cost |
//! |---|---|---|
//! | was answered | count | what the answer reports; the reservation where it reports nothing |
//! | was cut short, by either side, after the answer began | count | what was reported until then, else the reservation |
//! | was abandoned by its client before an answer | count | the reservation: the provider is at work on it already |
//! | failed without an answer | count | given back |
//! | was never sent: no usable key | given back | given back |
//! | was refused by a limit | were not counted | were not counted |

use serde::{Deserialize, Serialize};

use super::account::{self, Charge, Statement};
use super::{Amounts, Kind, Subject, refusal};
use crate::address::{self, Offence, Source};
use crate::effect::Cx;
use crate::plan::Plan;
use crate::reply::Refusal;
use crate::routing;
use crate::runtime::Runtime;

/// Filter state in which the attempt stage leaves what was used, for the gateway stage to settle.
pub const SPENT: &str = "keyward.spent";

/// What a request was charged, and whom besides the consumer, its team and the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toll {
    charge: Charge,
    source: Option<Source>,
    others: Vec<Subject<'static>>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing was sent to a provider.
    Unsent,
    /// No attempt got an answer.
    Failed,
    /// Answered, or on the way to it; `None`: nobody said what it took.
    Answered(Option<Amounts>),
}

/// What the attempt stage knows of the use of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spent {
    Used(Amounts),
    /// The request goes on in another round, which settles.
    Moved,
}

impl Spent {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Charges the consumer of `plan`, its team, the model, and `others` for the request, which comes from `source`.
///
/// # Errors
/// The refusal: 429, or 403 where a cost is limited that is not known.
pub fn charge(
    cx: &mut Cx<'_>,
    plan: &mut Plan,
    others: Vec<Subject<'static>>,
    source: Option<Source>,
) -> Result<Vec<Statement>, Refusal> {
    let subjects = subjects(cx.runtime, plan, source, &others);
    let is_told_later = source.is_some_and(|_| address::limits_requests(cx.runtime));
    if subjects.is_empty() && !is_told_later {
        return Ok(Vec::new());
    }
    let costs = subjects.iter().find(|subject| subject.limits.has_cost());
    let cost = match costs {
        Some(subject) => {
            routing::leave_out_unpriced(cx.runtime, plan, subject)?;
            dearest(cx.runtime, plan)
        }
        None => 0,
    };
    let reserved = Amounts::of_request(&plan.estimate, cost);
    match account::charge(cx, &subjects, reserved) {
        Ok((charge, statements)) => {
            plan.toll = Some(Box::new(Toll { charge, source, others }));
            Ok(statements)
        }
        Err(exceeded) => {
            let labels = [("by", exceeded.kind.as_str()), ("limit", &refusal::label(&exceeded))];
            cx.count("limited", &labels);
            if let Some(source) = source.filter(|_| exceeded.kind != Kind::Model) {
                address::strike(cx, source, Offence::Limit);
            }
            Err(refusal::of(&exceeded, cx.now))
        }
    }
}

/// What the request may cost at any of its targets, in billionths of a US dollar.
fn dearest(runtime: &Runtime, plan: &Plan) -> u64 {
    let targets = plan.targets(runtime).filter_map(|target| plan.resolve_target(runtime, target));
    let prices = targets.filter_map(|target| target.provider.price(target.upstream_model));
    prices.map(|price| price.of(&plan.estimate)).max().unwrap_or_default()
}

/// The request is over.
pub fn settle(cx: &mut Cx<'_>, plan: &mut Plan, end: End) {
    let Some(toll) = plan.toll.take() else { return };
    let reserved = toll.charge.reserved;
    let really = match end {
        End::Unsent => Amounts::default(),
        End::Failed => Amounts { requests: reserved.requests, ..Amounts::default() },
        End::Answered(None) => reserved,
        End::Answered(Some(used)) => Amounts { requests: reserved.requests, ..used },
    };
    let subjects = subjects(cx.runtime, plan, toll.source, &toll.others);
    account::settle(cx, &subjects, &toll.charge, &really);
}

/// The request goes on in another round.
pub fn hand_on(cx: &mut Cx<'_>, plan: &Plan) {
    if let Some(toll) = &plan.toll {
        account::let_go(cx, &toll.charge);
    }
}

/// The round before has handed the request on.
pub fn take_over(cx: &mut Cx<'_>, plan: &Plan) {
    if let Some(toll) = &plan.toll {
        account::take_over(cx, &toll.charge);
    }
}

/// How the limits stand that the request was charged on.
pub fn statements(cx: &Cx<'_>, plan: &Plan) -> Vec<Statement> {
    let Some(toll) = &plan.toll else { return Vec::new() };
    let mut statements =
        toll.source.map_or_else(Vec::new, |source| address::statements(cx, source));
    let subjects = subjects(cx.runtime, plan, None, &toll.others);
    statements.extend(subjects.iter().map(|s| account::statement(cx.shared, s, cx.now)));
    statements
}

/// Everybody with limits who is charged for the request.
fn subjects<'a>(
    runtime: &'a Runtime,
    plan: &Plan,
    source: Option<Source>,
    others: &'a [Subject<'static>],
) -> Vec<Subject<'a>> {
    let consumers = &runtime.consumers;
    let consumer = consumers.named(&plan.consumer);
    let team = consumer.and_then(|consumer| consumers.team_of(consumer));
    let model = runtime.models.find(&plan.model);
    let known = [
        consumer.map(|c| (Kind::Consumer, c.name.as_str(), &c.limits)),
        team.map(|t| (Kind::Team, t.name.as_str(), &t.limits)),
        model.map(|m| (Kind::Model, m.name.as_str(), &m.limits)),
    ];
    let known = known.into_iter().flatten().filter(|(_, _, limits)| !limits.is_empty());
    let known = known.map(|(kind, name, limits)| Subject::configured(kind, name, limits));
    let others = others.iter().filter(|subject| !subject.limits.is_empty());
    let others = others.map(Subject::borrowed);
    address::subject(runtime, source).into_iter().chain(others).chain(known).collect()
}
