//! Every answer that Keyward gives itself: the one place where a refusal becomes a status, headers and a
//! body in the client's protocol.
//!
//! Retry hints are what official SDKs obey (measured with openai-python 3.x, openai-node 7.x,
//! anthropic-python 2.x): `Retry-After` of 1 to 60 s for what comes back soon, since openai-node ignores
//! a longer one and retries at once; `x-should-retry: false` where waiting does not help; never
//! `retry-after-ms: 0`, on which openai-node retries without any pause.

use core::time::Duration;

use serde::Serialize;

use crate::endpoint::Dialect;
use crate::formats;
use crate::random::Random;
use crate::shortage::{Shortage, Verdict};
use crate::time::{UnixTime, millis};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Short, stable word for logs and metrics (an error code, or `ok`).
    pub code: &'static str,
}

/// A refusal before it is put into the client's protocol.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    /// OpenAI's `error.type`.
    pub kind: &'static str,
    pub code: &'static str,
    pub message: String,
    /// The member of the request that is at fault.
    pub param: Option<Box<str>>,
    /// Until it makes sense to come back.
    pub wait: Option<Duration>,
    pub headers: Vec<(&'static str, String)>,
}

/// Longest `Retry-After` that every official SDK waits for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is told where nothing is known: the default rest of a rate-limited key.
const UNKNOWN_WAIT: Duration = Duration::from_secs(30);

/// Requests that the keys of a model take together, as far as limits are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    pub keys: u64,
    /// Sum of known request limits per window; 0 if none is known.
    pub requests: u64,
}

impl Reply {
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body, code: "ok" }
    }
}

impl Refusal {
    /// A fault of the request.
    pub fn client(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: "invalid_request_error",
            code,
            message: message.into(),
            param: None,
            wait: None,
            headers: Vec::new(),
        }
    }

    /// A fault on our side or the provider's; `code` says which.
    pub fn server(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: "server_error", ..Self::client(status, code, message) }
    }

    #[must_use]
    pub fn param(mut self, param: impl Into<Box<str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The request could not be sent to anybody, or was refused by everybody.
    pub fn shortage(
        shortage: &Shortage,
        model: &str,
        quota: Quota,
        now: UnixTime,
        random: &mut Random,
    ) -> Self {
        let wait = shortage.ready_at().map(|at| now.until(at));
        let back = |wait: Option<Duration>| match wait {
            Some(wait) => format!("the first is ready again in {}", in_words(wait)),
            None => "it is not known when one will be ready again".to_owned(),
        };
        let verdict = shortage.verdict();
        let mut refusal = match verdict {
            Verdict::Exhausted => Self {
                kind: "rate_limit_error",
                ..Self::client(
                    429,
                    "keys_temporarily_exhausted",
                    format!(
                        "All keys for model \"{model}\" are temporarily exhausted; {}.",
                        back(wait)
                    ),
                )
            },
            Verdict::OutOfQuota { reset_known } => Self {
                kind: "insufficient_quota",
                ..Self::client(
                    if reset_known { 429 } else { 402 },
                    "insufficient_quota",
                    format!(
                        "All accounts for model \"{model}\" are out of quota{}.",
                        if reset_known { format!("; {}", back(wait)) } else { String::new() }
                    ),
                )
            },
            Verdict::Maintenance => Self::server(
                503,
                "provider_maintenance",
                format!("The providers of model \"{model}\" are in maintenance; {}.", back(wait)),
            ),
            Verdict::Overloaded => Self::server(
                503,
                "provider_overloaded",
                format!("The providers of model \"{model}\" are overloaded; {}.", back(wait)),
            ),
            Verdict::NoUsableKey => Self::server(
                503,
                "no_usable_key",
                format!("No key for model \"{model}\" is accepted by its provider at the moment."),
            ),
        };
        let soon = match verdict {
            Verdict::Exhausted | Verdict::Overloaded => true,
            Verdict::Maintenance => wait.is_some_and(|wait| wait <= LONGEST_WAIT),
            Verdict::OutOfQuota { .. } | Verdict::NoUsableKey => false,
        };
        if soon {
            let told = jittered(wait.unwrap_or(UNKNOWN_WAIT), random);
            refusal.wait = Some(wait.map_or(told, |wait| wait.max(told)));
            refusal.headers.push(("retry-after", whole_seconds(told).to_string()));
            refusal.headers.push(("retry-after-ms", millis(told).to_string()));
            if refusal.status == 429 {
                refusal.headers.extend(rate_limit(quota, told));
            }
        } else {
            refusal.wait = wait;
            refusal.headers.push(("x-should-retry", "false".to_owned()));
            if let Some(wait) = wait {
                refusal.headers.push(("retry-after", whole_seconds(wait).to_string()));
            }
        }
        refusal
    }

    /// In the words of the client.
    pub fn reply(self, dialect: Dialect) -> Reply {
        // Strings and numbers only: this cannot fail.
        let body = match dialect {
            Dialect::OpenAi | Dialect::Responses => self.openai(),
            Dialect::Anthropic => self.anthropic(),
            Dialect::Gemini => self.gemini(),
        };
        let mut reply = Reply::json(self.status, body.unwrap_or_default());
        reply.headers.extend(self.headers);
        reply.code = self.code;
        reply
    }

    fn openai(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            message: &'a str,
            #[serde(rename = "type")]
            kind: &'a str,
            code: &'a str,
            param: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after_ms: Option<u64>,
        }
        let error = Error {
            message: &self.message,
            kind: self.kind,
            code: self.code,
            param: self.param.as_deref(),
            retry_after_ms: self.wait.map(millis),
        };
        serde_json::to_vec(&Body { error })
    }

    /// <https://google.aip.dev/193>; the reason is Keyward's own code.
    fn gemini(&self) -> serde_json::Result<Vec<u8>> {
        let reason = self.code.to_ascii_uppercase();
        let mut details = vec![serde_json::json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "keyward",
        })];
        if let Some(wait) = self.wait {
            let delay = format!("{}s", whole_seconds(wait));
            details.push(serde_json::json!({
                "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay,
            }));
        }
        serde_json::to_vec(&serde_json::json!({"error": {
            "code": self.status,
            "message": self.message,
            "status": formats::google_status(self.status),
            "details": details,
        }}))
    }

    /// <https://platform.claude.com/docs/en/api/errors>; `details.error_code` is Keyward's own code.
    fn anthropic(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            message: &'a str,
            details: Details<'a>,
        }
        #[derive(Serialize)]
        struct Details<'a> {
            error_code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            param: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after_ms: Option<u64>,
        }
        let details = Details {
            error_code: self.code,
            param: self.param.as_deref(),
            retry_after_ms: self.wait.map(millis),
        };
        let kind = match self.status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        serde_json::to_vec(&Body {
            kind: "error",
            error: Error { kind, message: &self.message, details },
        })
    }
}

/// The fields of the current IETF draft (draft-ietf-httpapi-ratelimit-headers) and OpenAI's own.
fn rate_limit(quota: Quota, wait: Duration) -> Vec<(&'static str, String)> {
    let seconds = whole_seconds(wait);
    let (name, known) =
        if quota.requests > 0 { ("requests", quota.requests) } else { ("keys", quota.keys) };
    let mut fields = vec![
        ("ratelimit", format!("\"{name}\";r=0;t={seconds}")),
        ("ratelimit-policy", format!("\"{name}\";q={};w=60", known.max(1))),
        ("x-ratelimit-remaining-requests", "0".to_owned()),
        ("x-ratelimit-reset-requests", format!("{}ms", millis(wait))),
    ];
    if quota.requests > 0 {
        fields.push(("x-ratelimit-limit-requests", quota.requests.to_string()));
    }
    fields
}

/// Up to a tenth later, so that clients told at the same time do not come back at the same time; up to a
/// tenth earlier where they have to come back before anything is ready.
fn jittered(wait: Duration, random: &mut Random) -> Duration {
    if wait > LONGEST_WAIT {
        return LONGEST_WAIT.mul_f64(1.0 - 0.1 * random.unit());
    }
    let told = wait.mul_f64(1.0 + 0.1 * random.unit()).min(LONGEST_WAIT);
    told.max(Duration::from_millis(1))
}

/// Rounded up, at least 1.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    millis(wait).div_ceil(1000).max(1)
}

pub(crate) fn in_words(wait: Duration) -> String {
    match whole_seconds(wait) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Reason;
    use crate::shortage::Lack;

    const NOW: UnixTime = UnixTime(1_800_000_000_000);

    fn reply(lack: Lack, seconds: Option<u64>) -> (u16, serde_json::Value, Vec<(String, String)>) {
        let mut shortage = Shortage::default();
        let until = seconds.map_or(UnixTime::NEVER, |s| NOW.after(Duration::from_secs(s)));
        shortage.note(lack, until);
        let quota = Quota { keys: 2, requests: 0 };
        let refusal = Refusal::shortage(&shortage, "fast", quota, NOW, &mut Random::new(1));
        let reply = refusal.reply(Dialect::OpenAi);
        let body = serde_json::from_slice(&reply.body).unwrap();
        let headers = reply.headers.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        (reply.status, body, headers)
    }

    fn header(headers: &[(String, String)], name: &str) -> Option<String> {
        headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    #[test]
    fn a_shortage_says_when_to_come_back() {
        let rest = |reason, hinted| Lack::Rest { reason, hinted };
        for (lack, seconds, status, code, retry_after, should_retry) in [
            (
                rest(Reason::RateLimited, true),
                Some(12),
                429,
                "keys_temporarily_exhausted",
                Some(12..=14),
                None,
            ),
            (
                rest(Reason::RateLimited, true),
                Some(600),
                429,
                "keys_temporarily_exhausted",
                Some(54..=60),
                None,
            ),
            (
                rest(Reason::RateLimited, true),
                Some(0),
                429,
                "keys_temporarily_exhausted",
                Some(1..=1),
                None,
            ),
            (Lack::Tried, Some(1), 429, "keys_temporarily_exhausted", Some(1..=2), None),
            (
                rest(Reason::OutOfQuota, true),
                Some(3600),
                429,
                "insufficient_quota",
                Some(3600..=3600),
                Some("false"),
            ),
            (
                rest(Reason::OutOfQuota, false),
                Some(3600),
                402,
                "insufficient_quota",
                Some(3600..=3600),
                Some("false"),
            ),
            (Lack::Maintenance, Some(30), 503, "provider_maintenance", Some(30..=33), None),
            (
                Lack::Maintenance,
                Some(7200),
                503,
                "provider_maintenance",
                Some(7200..=7200),
                Some("false"),
            ),
            (
                rest(Reason::Overloaded, true),
                Some(5),
                503,
                "provider_overloaded",
                Some(5..=6),
                None,
            ),
            (
                rest(Reason::KeyRejected, false),
                Some(86400),
                503,
                "no_usable_key",
                Some(86400..=86400),
                Some("false"),
            ),
            (Lack::NotValid, None, 503, "no_usable_key", None, Some("false")),
        ] {
            let (got, body, headers) = reply(lack, seconds);
            assert_eq!(got, status, "{lack:?}");
            assert_eq!(body["error"]["code"], code);
            assert_eq!(body["error"]["param"], serde_json::Value::Null);
            let told = header(&headers, "retry-after").map(|v| v.parse::<u64>().unwrap());
            assert_eq!(told.is_some(), retry_after.is_some(), "{lack:?}");
            if let (Some(told), Some(range)) = (told, retry_after) {
                assert!(range.contains(&told), "{lack:?}: {told}");
            }
            assert_eq!(header(&headers, "x-should-retry").as_deref(), should_retry, "{lack:?}");
            assert_ne!(header(&headers, "retry-after-ms").as_deref(), Some("0"));
        }
    }

    #[test]
    fn clients_of_google_get_its_statuses() {
        for (status, word) in [
            (400, "INVALID_ARGUMENT"),
            (401, "UNAUTHENTICATED"),
            (402, "RESOURCE_EXHAUSTED"),
            (403, "PERMISSION_DENIED"),
            (404, "NOT_FOUND"),
            (405, "UNIMPLEMENTED"),
            (413, "INVALID_ARGUMENT"),
            (429, "RESOURCE_EXHAUSTED"),
            (500, "INTERNAL"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "DEADLINE_EXCEEDED"),
        ] {
            let mut refusal = Refusal::client(status, "a_code", "Message.").header("h", "v");
            refusal.wait = (status == 429).then(|| Duration::from_millis(1_200));
            let reply = refusal.reply(Dialect::Gemini);
            assert_eq!((reply.status, reply.code), (status, "a_code"));
            assert!(reply.headers.contains(&("h", "v".to_owned())));
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            let error = &body["error"];
            assert_eq!((&error["code"], &error["status"]), (&status.into(), &word.into()));
            assert_eq!(error["message"], "Message.");
            assert_eq!(error["details"][0]["reason"], "A_CODE");
            let delay = if status == 429 { "2s".into() } else { serde_json::Value::Null };
            assert_eq!(error["details"][1]["retryDelay"], delay);
        }
    }

    #[test]
    fn clients_of_anthropic_get_its_types() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
        ] {
            let refusal = Refusal::client(status, "code", "Message.").param("p").header("h", "v");
            let reply = refusal.reply(Dialect::Anthropic);
            assert_eq!((reply.status, reply.code), (status, "code"));
            assert!(reply.headers.contains(&("h", "v".to_owned())));
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            let error = serde_json::json!({"type": kind, "message": "Message.",
                "details": {"error_code": "code", "param": "p"}});
            assert_eq!(body, serde_json::json!({"type": "error", "error": error}));
        }
    }

    #[test]
    fn a_429_carries_the_rate_limit_fields() {
        let lack = Lack::Rest { reason: Reason::RateLimited, hinted: true };
        let (_, body, headers) = reply(lack, Some(12));
        assert_eq!(body["error"]["type"], "rate_limit_error");
        let milliseconds = body["error"]["retry_after_ms"].as_u64().unwrap();
        assert!((12_000..=13_200).contains(&milliseconds));
        assert_eq!(header(&headers, "retry-after-ms").unwrap(), milliseconds.to_string());
        let seconds = header(&headers, "retry-after").unwrap();
        assert_eq!(header(&headers, "ratelimit").unwrap(), format!("\"keys\";r=0;t={seconds}"));
        assert_eq!(header(&headers, "ratelimit-policy").unwrap(), "\"keys\";q=2;w=60");
        assert_eq!(header(&headers, "x-ratelimit-remaining-requests").unwrap(), "0");
    }
}
