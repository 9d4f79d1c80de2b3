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
    let month = || millis(now.window_start(Per::Month).until(now.window_end(Per::Month)));
    let window = limit.per.length().unwrap_or_else(month) / 1_000;
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
            let (dollars, micros) = (limit.max / 1_000_000_000, limit.max / MICRO % 1_000_000);
            match micros % 10_000 {
                0 => format!("{dollars}.{:02} USD", micros / 10_000),
                _ => format!("{dollars}.{micros:06} USD"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Algorithm;
    use std::collections::HashMap;

    /// Half past noon and a half second on a Sunday.
    const NOW: UnixTime = UnixTime(1_795_350_600_500);

    fn limit(unit: Unit, max: u64, per: Per) -> Limit {
        Limit { unit, max, per, algorithm: Algorithm::FixedWindow }
    }

    fn told(what: Full, wait_ms: u64) -> (Refusal, HashMap<&'static str, String>) {
        let until = if wait_ms == u64::MAX { UnixTime::NEVER } else { UnixTime(NOW.0 + wait_ms) };
        let exceeded = Exceeded { kind: Kind::Consumer, name: "acme".to_owned(), what, until };
        let refusal = of(&exceeded, NOW);
        let headers = refusal.headers.iter().cloned().collect();
        (refusal, headers)
    }

    #[test]
    fn a_refusal_says_when_to_come_back_or_not_to() {
        let requests = |per| Full::Limit(limit(Unit::Requests, 60, per));
        for (what, wait_ms, code, retry_after, milliseconds, should_retry) in [
            (requests(Per::Minute), 12_300, "rate_limit_exceeded", Some("13"), Some("12300"), None),
            (requests(Per::Second), 1, "rate_limit_exceeded", Some("1"), Some("1"), None),
            (requests(Per::Second), 0, "rate_limit_exceeded", Some("1"), Some("1"), None),
            // What the SDKs wait for at the most.
            (
                requests(Per::Hour),
                1_800_000,
                "rate_limit_exceeded",
                Some("60"),
                Some("60000"),
                None,
            ),
            (requests(Per::Day), 1_500, "quota_exceeded", Some("2"), None, Some("false")),
            (
                requests(Per::Week),
                600_000_000,
                "quota_exceeded",
                Some("600000"),
                None,
                Some("false"),
            ),
            (
                Full::Limit(limit(Unit::Cost, 1, Per::Minute)),
                59_001,
                "quota_exceeded",
                Some("60"),
                None,
                Some("false"),
            ),
            (Full::Concurrency(4), 1_000, "rate_limit_exceeded", Some("1"), Some("1000"), None),
            (requests(Per::Minute), u64::MAX, "rate_limit_exceeded", None, None, Some("false")),
        ] {
            let (refusal, headers) = told(what, wait_ms);
            let header = |name| headers.get(name).map(String::as_str);
            assert_eq!((refusal.status, refusal.code), (429, code), "{what:?}");
            assert_eq!(header("retry-after"), retry_after, "{what:?}");
            assert_eq!(header("retry-after-ms"), milliseconds, "{what:?}");
            assert_eq!(header("x-should-retry"), should_retry, "{what:?}");
            let quota = code == "quota_exceeded";
            let kind = if quota { "insufficient_quota" } else { "rate_limit_error" };
            assert_eq!(refusal.kind, kind);
        }
    }

    #[test]
    fn messages_name_subject_and_limit() {
        let message = |unit, max, per, wait| {
            let refusal = told(Full::Limit(limit(unit, max, per)), wait).0;
            assert_eq!(refusal.wait, (wait < u64::MAX).then(|| Duration::from_millis(wait)));
            refusal.message
        };
        assert_eq!(
            message(Unit::Requests, 60, Per::Minute, 12_300),
            "The limit of consumer \"acme\" (60 requests per minute) is reached; try again in 13 s."
        );
        assert_eq!(
            message(Unit::CompletionTokens, 500, Per::Hour, 1_900_000),
            "The limit of consumer \"acme\" (500 completion tokens per hour) is reached for this \
             request; try again in 32 min."
        );
        assert_eq!(
            message(Unit::Cost, 25_500_000_000, Per::Month, 86_400_000),
            "The budget of consumer \"acme\" (25.50 USD per month) is used up for this request; it \
             is back in 24 h."
        );
        assert_eq!(
            message(Unit::Cost, 1_234_000, Per::Day, 1_000),
            "The budget of consumer \"acme\" (0.001234 USD per day) is used up for this request; it \
             is back in 1 s."
        );
        assert_eq!(
            message(Unit::Tokens, 100, Per::Minute, u64::MAX),
            "The request may take more than the limit of consumer \"acme\" allows at all: 100 tokens \
             per minute. Shorten it, or lower its max_tokens."
        );
        assert_eq!(
            told(Full::Concurrency(4), 1_000).0.message,
            "Too many requests at the same time for consumer \"acme\": 4 are under way, which is the \
             limit."
        );
    }

    #[test]
    fn fields_of_the_draft_and_of_openai() {
        let (_, headers) = told(Full::Limit(limit(Unit::Tokens, 200_000, Per::Day)), 41_399_500);
        for (name, value) in [
            ("ratelimit", "\"tokens-day\";r=0;t=41400"),
            ("ratelimit-policy", "\"tokens-day\";q=200000;w=86400"),
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "41399500ms"),
        ] {
            assert_eq!(headers.get(name).map(String::as_str), Some(value), "{name}");
        }
        // The window of a month is as long as that month is: November has 30 days.
        let cost = limit(Unit::Cost, 25_000_000_000, Per::Month);
        let (_, headers) = told(Full::Limit(cost), 1_000);
        assert_eq!(headers["ratelimit-policy"], "\"microdollars-month\";q=25000000;w=2592000");
        assert!(!headers.contains_key("x-ratelimit-limit-requests"));
    }

    #[test]
    fn an_answer_tells_the_tightest_and_nothing_of_the_model() {
        let standing = |unit, max, per, left, wait| Standing {
            limit: limit(unit, max, per),
            left,
            reset: UnixTime(NOW.0 + wait),
        };
        let statement = |kind, limits, concurrency| Statement { kind, limits, concurrency };
        let fields = |statements: &[Statement]| -> HashMap<_, _> {
            fields(statements, NOW).into_iter().collect()
        };
        let said = fields(&[
            statement(
                Kind::Consumer,
                vec![
                    standing(Unit::Requests, 60, Per::Minute, 20, 30_000),
                    standing(Unit::Requests, 100, Per::Day, 7, 90_000),
                    standing(Unit::PromptTokens, 9, Per::Day, 8, 90_000),
                ],
                Some((4, 1)),
            ),
            statement(Kind::Team, vec![standing(Unit::Tokens, 500, Per::Hour, 450, 1)], None),
            statement(
                Kind::Model,
                vec![standing(Unit::Requests, 3, Per::Hour, 1, 1)],
                Some((1, 1)),
            ),
        ]);
        for (name, value) in [
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-remaining-requests", "7"),
            ("x-ratelimit-reset-requests", "90000ms"),
            ("x-ratelimit-limit-tokens", "500"),
            ("x-ratelimit-remaining-tokens", "450"),
            ("x-ratelimit-reset-tokens", "1ms"),
            (
                "ratelimit",
                "\"requests-minute\";r=20;t=30, \"requests-day\";r=7;t=90, \"prompt-tokens-day\";r=8;t=90, \
                 \"team-tokens-hour\";r=450;t=1, \"concurrency\";r=3",
            ),
            (
                "ratelimit-policy",
                "\"requests-minute\";q=60;w=60, \"requests-day\";q=100;w=86400, \
                 \"prompt-tokens-day\";q=9;w=86400, \"team-tokens-hour\";q=500;w=3600, \
                 \"concurrency\";q=4;qu=\"concurrent-requests\"",
            ),
        ] {
            assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(said.len(), 8);
        assert!(fields(&[]).is_empty());
        assert!(fields(&[statement(Kind::Model, Vec::new(), Some((1, 0)))]).is_empty());
    }
}
