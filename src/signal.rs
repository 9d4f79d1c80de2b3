//! What an answer says about the key that was used.
//!
//! Four things mean different things under one status (429 is a rate limit, an empty account, an overload
//! or a request too large), so the verdict comes from, in this order:
//!
//! 1. statuses that are about the request whatever else is said: 404, 405, 413, 415, 422;
//! 2. messages that begin in a known way, for services without a code (`PHRASES`). Only the beginning
//!    counts: messages quote the request, and no client may talk a key into a rest;
//! 3. the provider's own codes ([`Kind::codes`]), then the codes known for all (`CODES`);
//! 4. the provider's own statuses ([`Kind::statuses`]), then the status.
//!
//! Decisions where 403 could go either way: content policies are the client's fault; a model that the key
//! may not use is the key's fault, for that model; a region that is not served concerns neither (every key
//! would be refused, another provider would not), so it counts as the provider being unavailable; an HTML
//! page comes from a firewall in between and says nothing about the key.
//!
//! Sources: <https://developers.openai.com/docs/guides/error-codes>, <https://docs.anthropic.com/en/api/errors>,
//! <https://ai.google.dev/gemini-api/docs/troubleshooting>, and the pages that the rows of
//! [`crate::providers::compatible`] name.

use core::time::Duration;

use crate::error_body::ErrorBody;
use crate::headers::Headers;
use crate::hint::{exhausted_dimension, hint_of};
use crate::limit::Per;
use crate::provider::Kind;
use crate::time::UnixTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    pub verdict: Verdict,
    /// How long the provider asks to wait, not capped by configuration; never zero. Only for
    /// [`Verdict::RateLimited`], [`Verdict::OutOfQuota`] and [`Verdict::Overloaded`].
    pub hint: Option<Duration>,
    pub scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    Success,
    /// Too much for now.
    RateLimited,
    /// The account is empty or its budget is spent.
    OutOfQuota,
    /// The key is unknown, revoked or not allowed; nothing but an operator brings it back.
    KeyRejected,
    /// The service, not the key, cannot take the request.
    Overloaded,
    /// The service failed; nothing is known about the key.
    ServerError,
    /// No other key would do better.
    ClientFault,
}

/// What a verdict holds for. Without meaning for [`Verdict::Success`] and [`Verdict::ClientFault`], which
/// carry [`Scope::Key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The key with all its models.
    Key,
    /// The model that was asked for, with this key.
    Model,
    /// All keys of the provider.
    Provider,
}

impl Verdict {
    /// The word for logs, metrics and the status page. Stable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RateLimited => "rate_limited",
            Self::OutOfQuota => "out_of_quota",
            Self::KeyRejected => "key_rejected",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::ClientFault => "client_fault",
        }
    }
}

/// What a whole answer says. `model` is what the provider was asked for. An answer with status 200 can
/// carry an error too; of a stream, [`classify_event`] looks at the first event.
pub fn classify(
    kind: &Kind,
    status: u16,
    headers: &Headers,
    body: &[u8],
    model: &str,
    now: UnixTime,
) -> Signal {
    let status = Some(status).filter(|status| !(200..300).contains(status));
    let mut error = match status {
        Some(_) => Some(ErrorBody::parse(body)),
        None => ErrorBody::in_success(body),
    };
    if let Some(error) = &mut error
        && let Some(kind) = headers.text("x-amzn-errortype")
    {
        // AWS: `ThrottlingException:http://internal.amazon.com/coral/…`; the body has the message alone.
        let name = kind.split(':').next().unwrap_or_default();
        error.words.push(name.to_owned());
    }
    error.map_or(Signal { verdict: Verdict::Success, hint: None, scope: Scope::Key }, |error| {
        signal(kind, status, headers, &error, model, now)
    })
}

/// What one event of a stream with status 200 says (`data` is the event's data); `None` where it is no
/// error. An error of an unknown kind is a [`Verdict::ServerError`].
pub fn classify_event(kind: &Kind, data: &[u8], model: &str, now: UnixTime) -> Option<Signal> {
    let error = ErrorBody::in_success(data)?;
    Some(signal(kind, None, &Headers::default(), &error, model, now))
}

fn signal(
    kind: &Kind,
    status: Option<u16>,
    headers: &Headers,
    error: &ErrorBody,
    model: &str,
    now: UnixTime,
) -> Signal {
    let verdict = verdict(kind, status, error);
    let about_model = error.quota_model.is_some() || error.names(model);
    let scope = match verdict {
        Verdict::Success | Verdict::ClientFault => Scope::Key,
        Verdict::RateLimited if kind.model_scoped_limits || about_model => Scope::Model,
        Verdict::OutOfQuota if error.quota_model.is_some() || is_daily_of_model(error) => {
            Scope::Model
        }
        Verdict::KeyRejected
            if refuses_model(status, error) || (status == Some(403) && about_model) =>
        {
            Scope::Model
        }
        Verdict::Overloaded if overload_is_the_models(status, error) || about_model => Scope::Model,
        Verdict::RateLimited | Verdict::OutOfQuota | Verdict::KeyRejected => Scope::Key,
        Verdict::Overloaded | Verdict::ServerError => Scope::Provider,
    };
    let hint = match verdict {
        Verdict::RateLimited | Verdict::OutOfQuota | Verdict::Overloaded => {
            hint_of(headers, error, exhausted_dimension(error), now)
                .or_else(|| month_end(error, now))
        }
        _ => None,
    };
    Signal { verdict, hint, scope }
}

/// `status` is `None` where the error came with status 200.
fn verdict(kind: &Kind, status: Option<u16>, error: &ErrorBody) -> Verdict {
    if matches!(status, Some(404 | 405 | 413 | 415 | 422)) {
        return Verdict::ClientFault;
    }
    if refuses_model(status, error) {
        return Verdict::KeyRejected;
    }
    if let Some(verdict) = by_phrase(&error.message).or_else(|| by_code(kind, error)) {
        return verdict;
    }
    match status {
        Some(403) if error.html => Verdict::ServerError,
        // Azure: the model is short of capacity, whatever is left of the key's own share.
        Some(429) if error.message.contains("experiencing high demand") => Verdict::Overloaded,
        Some(status) => by_status(kind, status),
        None => without_status(kind, error),
    }
}

fn by_code(kind: &Kind, error: &ErrorBody) -> Option<Verdict> {
    // A day's quota, or none at all, is not a rate: Google calls all of them RESOURCE_EXHAUSTED.
    if error.has_word("RESOURCE_EXHAUSTED") && (error.daily_quota || has_no_quota(&error.message)) {
        return Some(Verdict::OutOfQuota);
    }
    [kind.codes, CODES].into_iter().find_map(|codes| {
        error.words.iter().find_map(|word| {
            let (_, verdict) = codes.iter().find(|(code, _)| code.eq_ignore_ascii_case(word))?;
            Some(*verdict)
        })
    })
}

/// Codes, types and reasons that mean the same wherever they come up, in any case of letters. Those that
/// only repeat the status (`server_error`, `invalid_request_error`) are left to it.
const CODES: &[(&str, Verdict)] = &[
    // OpenAI, for one status 429; the type can still be `insufficient_quota` beside a newer code.
    ("insufficient_quota", Verdict::OutOfQuota),
    ("credit_balance_exhausted", Verdict::OutOfQuota),
    ("organization_spend_limit_exceeded", Verdict::OutOfQuota),
    ("project_spend_limit_exceeded", Verdict::OutOfQuota),
    ("organization_usage_limit_exceeded", Verdict::OutOfQuota),
    ("billing_hard_limit_reached", Verdict::OutOfQuota),
    ("billing_not_active", Verdict::OutOfQuota),
    // Anthropic: under type `rate_limit_error`, and with 402.
    ("enforced_spend_limit_reached", Verdict::OutOfQuota),
    ("billing_error", Verdict::OutOfQuota),
    ("rate_limit_exceeded", Verdict::RateLimited),
    ("rate_limit_error", Verdict::RateLimited),
    ("rate_limited", Verdict::RateLimited),
    ("RateLimitReached", Verdict::RateLimited),
    ("slow_down", Verdict::RateLimited),
    ("RESOURCE_EXHAUSTED", Verdict::RateLimited),
    ("invalid_api_key", Verdict::KeyRejected),
    ("API_KEY_INVALID", Verdict::KeyRejected),
    ("authentication_error", Verdict::KeyRejected),
    ("permission_error", Verdict::KeyRejected),
    ("account_deactivated", Verdict::KeyRejected),
    ("server_is_overloaded", Verdict::Overloaded),
    ("overloaded_error", Verdict::Overloaded),
    ("overloaded", Verdict::Overloaded),
    ("capacity_exceeded", Verdict::Overloaded),
    // The provider does not serve the place that Envoy runs at.
    ("unsupported_country_region_territory", Verdict::Overloaded),
    ("content_policy_violation", Verdict::ClientFault),
    ("content_filter", Verdict::ClientFault),
    ("moderation_blocked", Verdict::ClientFault),
    ("context_length_exceeded", Verdict::ClientFault),
    ("invalid_prompt", Verdict::ClientFault),
    ("model_not_found", Verdict::ClientFault),
];

fn by_phrase(message: &str) -> Option<Verdict> {
    let phrase = PHRASES.iter().find(|(start, contained, _)| {
        message.strip_prefix(start).is_some_and(|rest| rest.contains(contained))
    });
    phrase.map(|(.., verdict)| *verdict)
}

/// How a message begins, and what it contains further on. "You exceeded your current quota" is missing on
/// purpose: it is an empty account at OpenAI, but a limit per minute at Google and Alibaba.
const PHRASES: &[(&str, &str, Verdict)] = &[
    // Anthropic, with 400.
    ("Your credit balance is too low", "", Verdict::OutOfQuota),
    ("You have reached your specified ", "usage limits", Verdict::OutOfQuota),
    // xAI, with 429 or 403; a wrong key with 400.
    ("Your team ", " used all available credits", Verdict::OutOfQuota),
    ("Your newly created team", " credits", Verdict::OutOfQuota),
    ("You have run out of credits", "", Verdict::OutOfQuota),
    ("Incorrect API key provided", "", Verdict::KeyRejected),
    // Bedrock, as `ThrottlingException`.
    (BEDROCK_DAILY, "", Verdict::OutOfQuota),
    // Cohere, with 429.
    ("You are using a Trial key", " / month", Verdict::OutOfQuota),
    // OpenAI, 429 `rate_limit_exceeded`: more than the limit of a whole minute. No wait helps, and no key
    // should rest for it.
    ("Request too large for ", "", Verdict::ClientFault),
];

/// Tokens of a whole day, which AWS counts per model.
const BEDROCK_DAILY: &str = "Too many tokens per day";

fn is_daily_of_model(error: &ErrorBody) -> bool {
    error.message.starts_with(BEDROCK_DAILY)
}

/// OpenAI answers 403 `model_not_found` where the key's project may not use a model that exists; with 404
/// there is none.
fn refuses_model(status: Option<u16>, error: &ErrorBody) -> bool {
    const BEDROCK: &str = "You don't have access to the model";
    status == Some(403) && (error.has_word("model_not_found") || error.message.starts_with(BEDROCK))
}

/// Google: "Quota exceeded for metric: …, limit: 0, model: …" is a model without any quota.
fn has_no_quota(message: &str) -> bool {
    message
        .split("limit: 0")
        .skip(1)
        .any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

/// A tier or deployment is full, not the whole service.
fn overload_is_the_models(status: Option<u16>, error: &ErrorBody) -> bool {
    error.has_word("capacity_exceeded") || matches!(status, Some(429 | 498))
}

fn by_status(kind: &Kind, status: u16) -> Verdict {
    let own = kind.statuses.iter().find(|(own, _)| *own == status);
    if let Some((_, verdict)) = own {
        return *verdict;
    }
    match status {
        401 | 403 => Verdict::KeyRejected,
        402 => Verdict::OutOfQuota,
        429 => Verdict::RateLimited,
        // 529 is Anthropic's.
        503 | 529 => Verdict::Overloaded,
        408 => Verdict::ServerError,
        400..=499 => Verdict::ClientFault,
        // Redirects as well: no provider's endpoint has moved for one request.
        _ => Verdict::ServerError,
    }
}

/// Errors inside a success: a code may be an HTTP status (OpenRouter, vLLM, Azure).
fn without_status(kind: &Kind, error: &ErrorBody) -> Verdict {
    let status = error.words.iter().find_map(|word| word.parse::<u16>().ok());
    match status {
        Some(status @ 400..=599) => by_status(kind, status),
        _ if error.has_word("invalid_request_error") => Verdict::ClientFault,
        _ => Verdict::ServerError,
    }
}

/// A monthly spend limit comes without a hint, and ends with the month (UTC).
fn month_end(error: &ErrorBody, now: UnixTime) -> Option<Duration> {
    const MONTHLY: [&str; 3] = [
        "enforced_spend_limit_reached",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
    ];
    let monthly = MONTHLY.iter().any(|word| error.has_word(word));
    monthly.then(|| now.until(now.window_end(Per::Month)))
}

#[cfg(test)]
mod tests;
