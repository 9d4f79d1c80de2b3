//! What a client is told about limits: the refusal, and the fields by which it can pace itself.
//!
//! `RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-10: lists of policies by name,
//! `q` the quota and `w` the window in seconds, `r` what is left and `t` the seconds until it is whole again. Costs are
//! in millionths of a US dollar there, since structured fields (RFC 9651) have integers only for these.
//! `x-ratelimit-*` are OpenAI's (<https://platform.openai.com/docs/guides/rate-limits>): of all limits on requests, and
//! of all on tokens, the one that leaves least.
//!
//! Of a model's own limits a client learns nothing but the refusal: others use them up, too.

use core::time::Duration;

use super::account::{Exceeded, Full, Statement};
use super::window::Standing;
use super::{Kind, Limit, Per, Unit};
use crate::reply::{LONGEST_WAIT, Refusal, in_words, whole_seconds};
use crate::time::{UnixTime, millis};

/// Billionths in a millionth.
const MICRO: u64 = 1_000;

/// The refusal of a request that exceeds a limit.
///
/// A limit that is over soon is `rate_limit_exceeded`, with a `Retry-After` that official SDKs obey: at most 60 s, where
/// the window lasts longer, too. A budget (cost, or a day and longer) is `quota_exceeded`: waiting is of no use, so
/// `x-should-retry` is `false`, and `Retry-After` tells all of the wait. So it is where a request asks for more than the
/// whole limit; no `Retry-After` could help then.
pub fn of(exceeded: &Exceeded, now: UnixTime) -> Refusal {
    let whose = format!("{} \"{}\"", exceeded.kind.as_str(), exceeded.name);
    let limit = match exceeded.what {
        Full::Concurrency(most) => {
            let message = format!(
                "Too many requests at the same time for {whose}: {most} are under way, which is the limit."
            );
            let name = format!("{}concurrency", prefix(exceeded.kind));
            let refusal = told(rate_limited(message), now.until(exceeded.until));
            return refusal.header("ratelimit", format!("\"{name}\";r=0")).header(
                "ratelimit-policy",
                format!("\"{name}\";q={most};qu=\"concurrent-requests\""),
            );
        }
        Full::Limit(limit) => limit,
    };
    let quota = format!("{} per {}", amount(&limit), limit.per.as_str());
    if exceeded.until == UnixTime::NEVER {
        let message = format!(
            "The request may take more than the limit of {whose} allows at all: {quota}. \
             Shorten it, or lower its max_tokens."
        );
        let refusal = rate_limited(message).header("x-should-retry", "false");
        return refusal.header("ratelimit-policy", policy(exceeded.kind, &limit, now));
    }
    let wait = now.until(exceeded.until);
    let back = in_words(wait);
    let left = if limit.unit == Unit::Requests { "" } else { " for this request" };
    let refusal = if limit.is_budget() {
        let message =
            format!("The budget of {whose} ({quota}) is used up{left}; it is back in {back}.");
        let mut refusal = Refusal {
            kind: "insufficient_quota",
            ..Refusal::client(429, "quota_exceeded", message)
        };
        refusal.wait = Some(wait);
        refusal
            .header("x-should-retry", "false")
            .header("retry-after", whole_seconds(wait).to_string())
    } else {
        let message =
            format!("The limit of {whose} ({quota}) is reached{left}; try again in {back}.");
        told(rate_limited(message), wait)
    };
    let standing = Standing { limit, left: 0, reset: exceeded.until };
    let refusal = refusal
        .header("ratelimit", state(exceeded.kind, &standing, now))
        .header("ratelimit-policy", policy(exceeded.kind, &limit, now));
    openai(&[standing], now)
        .into_iter()
        .fold(refusal, |refusal, (name, value)| refusal.header(name, value))
}

/// What an answer tells of the limits that it was charged on.
pub fn fields(statements: &[Statement], now: UnixTime) -> Vec<(&'static str, String)> {
    let shown = || statements.iter().filter(|statement| statement.kind != Kind::Model);
    let limits = || shown().flat_map(|s| s.limits.iter().map(|standing| (s.kind, standing)));
    let mut states: Vec<String> = limits().map(|(kind, s)| state(kind, s, now)).collect();
    let mut policies: Vec<String> =
        limits().map(|(kind, standing)| policy(kind, &standing.limit, now)).collect();
    for (kind, (most, held)) in shown().filter_map(|s| Some((s.kind, s.concurrency?))) {
        let name = format!("{}concurrency", prefix(kind));
        states.push(format!("\"{name}\";r={}", most.saturating_sub(held)));
        policies.push(format!("\"{name}\";q={most};qu=\"concurrent-requests\""));
    }
    if states.is_empty() {
        return Vec::new();
    }
    let standings: Vec<Standing> = limits().map(|(_, standing)| *standing).collect();
    let mut fields = openai(&standings, now);
    fields.push(("ratelimit", states.join(", ")));
    fields.push(("ratelimit-policy", policies.join(", ")));
    fields
}

/// A label of bounded values: `requests-minute`, `concurrency`.
pub fn label(exceeded: &Exceeded) -> String {
    match exceeded.what {
        Full::Limit(limit) => name(&limit),
        Full::Concurrency(_) => "concurrency".to_owned(),
    }
}

fn rate_limited(message: String) -> Refusal {
    Refusal { kind: "rate_limit_error", ..Refusal::client(429, "rate_limit_exceeded", message) }
}

/// Rounded up to what the header can say, and never zero: openai-node would come back at once.
fn told(mut refusal: Refusal, wait: Duration) -> Refusal {
    let wait = wait.max(Duration::from_millis(1));
    let told = wait.min(LONGEST_WAIT);
    refusal.wait = Some(wait);
    refusal
        .header("retry-after", whole_seconds(told).to_string())
        .header("retry-after-ms", millis(told).to_string())
}

fn openai(standings: &[Standing], now: UnixTime) -> Vec<(&'static str, String)> {
    let tightest = |unit| {
        let of_unit = standings.iter().filter(|standing| standing.limit.unit == unit);
        of_unit.min_by_key(|standing| (standing.left, core::cmp::Reverse(standing.reset)))
    };
    let reset = |standing: &Standing| format!("{}ms", millis(now.until(standing.reset)));
    let mut fields = Vec::new();
    if let Some(standing) = tightest(Unit::Requests) {
        fields.push(("x-ratelimit-limit-requests", standing.limit.max.to_string()));
        fields.push(("x-ratelimit-remaining-requests", standing.left.to_string()));
        fields.push(("x-ratelimit-reset-requests", reset(standing)));
    }
    if let Some(standing) = tightest(Unit::Tokens) {
        fields.push(("x-ratelimit-limit-tokens", standing.limit.max.to_string()));
        fields.push(("x-ratelimit-remaining-tokens", standing.left.to_string()));
        fields.push(("x-ratelimit-reset-tokens", reset(standing)));
    }
    fields
}

fn state(kind: Kind, standing: &Standing, now: UnixTime) -> String {
    let left = in_field(standing.limit.unit, standing.left);
    let reset = millis(now.until(standing.reset)).div_ceil(1_000);
    format!("\"{}{}\";r={left};t={reset}", prefix(kind), name(&standing.limit))
}

fn policy(kind: Kind, limit: &Limit, now: UnixTime) -> String {
    let quota = in_field(limit.unit, limit.max);
    let month = now.window_start(Per::Month).until(now.window_end(Per::Month));
    let window = limit.per.length().unwrap_or_else(|| millis(month)) / 1_000;
    format!("\"{}{}\";q={quota};w={window}", prefix(kind), name(limit))
}

/// Sets the policies of a team apart from a consumer's.
fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Consumer => "",
        Kind::Address => "address-",
        Kind::Key => "key-",
        Kind::Route => "route-",
        Kind::Team => "team-",
        Kind::Model => "model-",
    }
}

fn name(limit: &Limit) -> String {
    let unit = if limit.unit == Unit::Cost { "microdollars" } else { limit.unit.as_str() };
    format!("{unit}-{}", limit.per.as_str())
}

fn in_field(unit: Unit, amount: u64) -> u64 {
    // The largest integer of a structured field (RFC 9651, section 3.3.1).
    const LARGEST: u64 = 999_999_999_999_999;
    let amount = if unit == Unit::Cost { amount / MICRO } else { amount };
    amount.min(LARGEST)
}

fn amount(limit: &Limit) -> String {
    match limit.unit {
        Unit::Requests => format!("{} requests", limit.max),
        Unit::Tokens => format!("{} tokens", limit.max),
        Unit::PromptTokens => format!("{} prompt tokens", limit.max),
        Unit::CompletionTokens => format!("{} completion tokens", limit.max),
        Unit::Cost => {
            let cents = limit.max.div_ceil(10_000_000);
            format!("{}.{:02} USD", cents / 100, cents % 100)
        }
    }
}
