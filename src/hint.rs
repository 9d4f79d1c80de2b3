//! When to come back, and how much is left: what an answer's headers and error body say.
//!
//! | source | who | format |
//! |---|---|---|
//! | `retry-after` | all | seconds or HTTP date (RFC 9110, section 10.2.3); floats are taken too |
//! | `retry-after-ms` | OpenAI, Azure | milliseconds |
//! | `x-ratelimit-{limit,remaining,reset}[-WHAT[-WINDOW]]` | OpenAI and its kin, Mistral, Together, Cerebras, Moonshot | reset as Go duration, seconds, epoch seconds or milliseconds, RFC 3339 |
//! | `x-ratelimit-renewalperiod-WHAT` | Azure | seconds; bounds the reset, whose unit Azure does not tell |
//! | `x-tokenlimit-{limit,remaining,reset}` | Together | as above, tokens |
//! | `ratelimitbysize-{limit,remaining,reset}` | Mistral, older | as above, tokens |
//! | `anthropic-ratelimit-WHAT-{limit,remaining,reset}` | Anthropic | reset in RFC 3339 |
//! | `ratelimit`, `ratelimit-policy` | IETF draft 10, Hugging Face | list of strings with parameters |
//! | `ratelimit-{limit,remaining,reset}` | IETF drafts 03 to 06, Replicate | seconds |
//! | body | Google, OpenRouter | `RetryInfo.retryDelay`; `metadata.resets_at` |
//! | body | OpenAI, Groq, Azure, Google, Anthropic | "try again in 5.289s", "retry after 86400 seconds", "regain access on 2026-12-01" |
//!
//! A value that is not understood is skipped. A wait of zero is no hint: Azure sends `retry-after-ms: 0`
//! beside `retry-after: 1`, and whoever believes it asks again at once.

use core::time::Duration;

use crate::error_body::ErrorBody;
use crate::headers::Headers;
use crate::time::{SECOND, UnixTime, components, decimal, parse_duration};

/// The longest wait that is believed. Callers cap far lower.
pub const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Requests,
    /// Prompt, completion or both together.
    Tokens,
    Images,
    /// The answer does not say, or something else.
    Unknown,
}

/// What is left of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    pub remaining: u64,
    /// Never 0.
    pub limit: u64,
    /// Until the limit is whole again.
    pub reset: Option<Duration>,
}

/// What an answer reports to be left; of several limits on one dimension, the one nearest to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    pub requests: Option<Headroom>,
    pub tokens: Option<Headroom>,
}

/// What the headers of any answer say is left. One pass; allocates only where there are such headers.
pub fn headroom(headers: &Headers, now: UnixTime) -> Reported {
    let fields = Fields::collect(headers);
    let tightest = |dimension| {
        let of = fields.buckets.iter().filter(|bucket| bucket.dimension == dimension);
        tightest(of).and_then(|bucket| bucket.headroom(now))
    };
    Reported { requests: tightest(Dimension::Requests), tokens: tightest(Dimension::Tokens) }
}

/// How long an exhausted key has to rest, as its provider says; the latest reset that applies, at most
/// [`LONGEST`]. `exhausted` is what the error names: the reset of another dimension applies only where
/// nothing is left of it. Not for answers that succeed: some carry `retry-after` as well.
pub fn retry_hint(
    headers: &Headers,
    body: &[u8],
    exhausted: Dimension,
    now: UnixTime,
) -> Option<Duration> {
    hint_of(headers, &ErrorBody::parse(body), exhausted, now)
}

/// [`retry_hint`] of a body that is parsed already.
pub(crate) fn hint_of(
    headers: &Headers,
    error: &ErrorBody,
    exhausted: Dimension,
    now: UnixTime,
) -> Option<Duration> {
    let fields = Fields::collect(headers);
    let resets_at = error.resets_at.as_deref().and_then(|text| reset(text, now));
    [
        fields.retry_after.and_then(|value| reset(value, now)),
        fields.retry_after_ms.and_then(milliseconds),
        fields.reset(exhausted, now),
        error.retry_delay,
        resets_at,
        in_text(&error.message, now),
        in_text(&error.inner, now),
    ]
    .into_iter()
    .flatten()
    .filter(|wait| !wait.is_zero())
    .max()
    .map(|wait| wait.min(LONGEST))
}

/// Which dimension an error names; [`Dimension::Unknown`] where it names none.
pub(crate) fn exhausted_dimension(error: &ErrorBody) -> Dimension {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| error.message.contains(phrase));
    if error.has_word("tokens") {
        Dimension::Tokens
    } else if error.has_word("requests") {
        Dimension::Requests
    } else if error.has_word("input-images") || error.has_word("images") {
        Dimension::Images
    } else if says(&["tokens per ", "token rate limit", "(TPM)", "(TPD)"]) {
        Dimension::Tokens
    } else if says(&["requests per ", "call rate limit", "(RPM)", "(RPD)"]) {
        Dimension::Requests
    } else {
        Dimension::Unknown
    }
}

/// The headers that matter, in one pass.
#[derive(Default)]
struct Fields<'a> {
    retry_after: Option<&'a str>,
    retry_after_ms: Option<&'a str>,
    buckets: Vec<Bucket<'a>>,
}

/// One limit, put together from up to four headers.
struct Bucket<'a> {
    family: Family,
    /// What tells the limits of a family apart: `requests`, `tokens-minute`, a policy's name.
    label: &'a str,
    dimension: Dimension,
    limit: Option<u64>,
    remaining: Option<u64>,
    reset: Option<&'a str>,
    /// Length of the window: bounds `reset`.
    period: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// `x-ratelimit-ROLE-LABEL`
    Vendor,
    /// `x-tokenlimit-ROLE`, `ratelimitbysize-ROLE`
    Size,
    /// `anthropic-ratelimit-LABEL-ROLE`
    Anthropic,
    /// `ratelimit` and `ratelimit-policy`
    Structured,
    /// `ratelimit-ROLE`
    Draft,
}

/// More limits than this are noise; a hostile upstream must not make the search for a bucket slow.
const MOST_BUCKETS: usize = 24;

impl<'a> Fields<'a> {
    fn collect(headers: &'a Headers) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers.iter() {
            // Nearly all headers of an answer end here.
            if !matches!(name.first(), Some(b'x' | b'r' | b'a')) {
                continue;
            }
            let (Ok(name), Ok(value)) = (core::str::from_utf8(name), core::str::from_utf8(value))
            else {
                continue;
            };
            fields.take(name, value.trim());
        }
        fields
    }

    fn take(&mut self, name: &'a str, value: &'a str) {
        if let Some(rest) = name.strip_prefix("x-ratelimit-") {
            self.take_role_first(Family::Vendor, rest, value);
        } else if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
            if let Some((label, role)) = rest.rsplit_once('-') {
                self.take_role(Family::Anthropic, label, role, value);
            }
        } else if let Some(rest) =
            name.strip_prefix("x-tokenlimit-").or_else(|| name.strip_prefix("ratelimitbysize-"))
        {
            self.take_role_first(Family::Size, rest, value);
        } else {
            match name {
                "retry-after" => self.retry_after = Some(value),
                "retry-after-ms" => self.retry_after_ms = Some(value),
                "ratelimit" => self.take_list(value, "r"),
                "ratelimit-policy" => self.take_list(value, "q"),
                _ => {
                    if let Some(role) = name.strip_prefix("ratelimit-") {
                        self.take_role(Family::Draft, "", role, value);
                    }
                }
            }
        }
    }

    fn take_role_first(&mut self, family: Family, rest: &'a str, value: &'a str) {
        let (role, label) = rest.split_once('-').unwrap_or((rest, ""));
        self.take_role(family, label, role, value);
    }

    fn take_role(&mut self, family: Family, label: &'a str, role: &str, value: &'a str) {
        if !matches!(role, "limit" | "remaining" | "reset" | "renewalperiod") {
            return;
        }
        let Some(bucket) = self.bucket(family, label) else { return };
        match role {
            "limit" => bucket.limit = count(value),
            "remaining" => bucket.remaining = count(value),
            "reset" => bucket.reset = Some(value),
            _ => bucket.period = Some(value),
        }
    }

    /// `"burst";r=0;t=30, "daily";r=100`: a list of strings with parameters (RFC 9651, section 3.1), where
    /// `quantity` names the parameter that counts. Read leniently: Hugging Face's policy has two strings
    /// (`"fixed window";"api";q=1000`), of which the last is the name.
    fn take_list(&mut self, value: &'a str, quantity: &str) {
        for member in unquoted_split(value, b',').take(MOST_BUCKETS) {
            let mut label = "";
            for item in unquoted_split(member, b';') {
                let Some((parameter, argument)) = item.trim().split_once('=') else {
                    label = item.trim().trim_matches('"');
                    continue;
                };
                let Some(bucket) = self.bucket(Family::Structured, label) else { return };
                match parameter {
                    _ if parameter == quantity && quantity == "q" => bucket.limit = count(argument),
                    _ if parameter == quantity => bucket.remaining = count(argument),
                    "t" => bucket.reset = Some(argument),
                    "qu" if argument != "\"requests\"" => bucket.dimension = Dimension::Unknown,
                    _ => {}
                }
            }
        }
    }

    fn bucket(&mut self, family: Family, label: &'a str) -> Option<&mut Bucket<'a>> {
        let known = self.buckets.iter().position(|b| b.family == family && b.label == label);
        let index = known.unwrap_or(self.buckets.len());
        if index >= MOST_BUCKETS {
            return None;
        }
        if known.is_none() {
            self.buckets.push(Bucket {
                family,
                label,
                dimension: dimension(family, label),
                limit: None,
                remaining: None,
                reset: None,
                period: None,
            });
        }
        self.buckets.get_mut(index)
    }

    /// The latest reset of what is exhausted.
    fn reset(&self, exhausted: Dimension, now: UnixTime) -> Option<Duration> {
        let named = |bucket: &&Bucket<'_>| bucket.dimension == exhausted;
        let empty = self.buckets.iter().filter(|bucket| bucket.remaining == Some(0));
        // Without a count, the error that was returned stands for it.
        let uncounted = self.buckets.iter().filter(|bucket| {
            bucket.remaining.is_none()
                && bucket.dimension != Dimension::Unknown
                && (exhausted == Dimension::Unknown || bucket.dimension == exhausted)
        });
        // Some is left of what the error names, but less than the request needs.
        let scarce = if exhausted == Dimension::Unknown || empty.clone().any(|b| named(&b)) {
            None
        } else {
            tightest(self.buckets.iter().filter(named))
        };
        empty.chain(uncounted).chain(scarce).filter_map(|bucket| bucket.wait(now)).max()
    }
}

impl Bucket<'_> {
    fn wait(&self, now: UnixTime) -> Option<Duration> {
        let wait = reset(self.reset?, now)?;
        let period = self.period.and_then(|value| reset(value, now));
        Some(period.map_or(wait, |period| wait.min(period)))
    }

    fn headroom(&self, now: UnixTime) -> Option<Headroom> {
        let limit = self.limit.filter(|limit| *limit > 0)?;
        let reset = self.wait(now).map(|wait| wait.min(LONGEST));
        Some(Headroom { remaining: self.remaining?, limit, reset })
    }
}

/// The bucket with the smallest part left, among those that tell both counts.
fn tightest<'b, 'a: 'b>(buckets: impl Iterator<Item = &'b Bucket<'a>>) -> Option<&'b Bucket<'a>> {
    let counted = buckets.filter_map(|bucket| {
        let limit = bucket.limit.filter(|limit| *limit > 0)?;
        Some((bucket, bucket.remaining?, limit))
    });
    let least = counted.min_by(|(_, remaining, limit), (_, other_remaining, other_limit)| {
        let product = |a: &u64, b: &u64| u128::from(*a) * u128::from(*b);
        product(remaining, other_limit).cmp(&product(other_remaining, limit))
    });
    least.map(|(bucket, ..)| bucket)
}

fn dimension(family: Family, label: &str) -> Dimension {
    if family == Family::Size || label.contains("token") {
        return Dimension::Tokens;
    }
    match family {
        _ if label.is_empty() || label.starts_with("req") => Dimension::Requests,
        // A policy's name is free; its unit is requests unless `qu` says otherwise.
        Family::Structured => Dimension::Requests,
        _ if label.contains("image") => Dimension::Images,
        _ => Dimension::Unknown,
    }
}

/// A leading integer; what follows may be a fraction or parameters (`100, 100;w=60` in draft 03).
fn count(value: &str) -> Option<u64> {
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (digits, rest) = value.split_at_checked(end)?;
    matches!(rest.bytes().next(), None | Some(b'.' | b',' | b';' | b' '))
        .then(|| digits.parse().ok())
        .flatten()
}

/// A wait or a moment in any of the known spellings; a moment in the past is a wait of zero.
fn reset(value: &str, now: UnixTime) -> Option<Duration> {
    if let Some((billionths, "")) = decimal(value) {
        let seconds = u64::try_from(billionths / u128::from(SECOND)).ok()?;
        return Some(match seconds {
            // No limit lasts 30 years: a moment, in milliseconds or seconds since the epoch.
            1_000_000_000_000.. => now.until(UnixTime(seconds)),
            1_000_000_000.. => now.until(UnixTime(seconds * 1000)),
            _ => Duration::new(seconds, u32::try_from(billionths % u128::from(SECOND)).ok()?),
        });
    }
    let moment =
        || UnixTime::parse_rfc3339(value).or_else(|| UnixTime::parse_http_date(value.as_bytes()));
    parse_duration(value).or_else(|| moment().map(|moment| now.until(moment)))
}

fn milliseconds(value: &str) -> Option<Duration> {
    let (billionths, "") = decimal(value)? else { return None };
    // A billionth of a millisecond is a thousandth of a nanosecond.
    u64::try_from(billionths / 1000).ok().map(Duration::from_nanos)
}

/// The wait in a message for people: "Please try again in 6m0s.", "Please retry after 86400 seconds."
fn in_text(message: &str, now: UnixTime) -> Option<Duration> {
    const BEFORE_A_WAIT: [&str; 5] =
        ["try again in ", "retry in ", "retry after ", "try again after ", "available in "];
    let message = message.to_ascii_lowercase();
    let after = |phrase: &str| message.split_once(phrase).map(|(_, rest)| rest);
    let waits = BEFORE_A_WAIT.iter().filter_map(|phrase| words_of_time(after(phrase)?));
    // Anthropic: "You will regain access on 2026-12-01 at 00:00 UTC."
    let moment = after("regain access on ").and_then(|rest| {
        let date = rest.get(..10)?;
        UnixTime::parse_rfc3339(&format!("{date}T00:00:00Z")).map(|moment| now.until(moment))
    });
    waits.chain(moment).max()
}

/// `48.9s`, `6m0s`, `20ms`, `86400 seconds`, `1 minute 30 seconds`, `30`.
fn words_of_time(text: &str) -> Option<Duration> {
    let (wait, _) = components(text, true, |unit| {
        Some(match unit {
            "ms" | "millisecond" | "milliseconds" => 1_000_000,
            "" | "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
            "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SECOND,
            "d" | "day" | "days" => 86_400 * SECOND,
            _ => return None,
        })
    })?;
    Some(wait)
}

/// Splits at a separator that is not inside of a quoted string.
fn unquoted_split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && c == char::from(separator)
    })
}

#[cfg(test)]
mod tests;
