//! The shapes in which services say what went wrong, brought to one.
//!
//! | who | shape |
//! |---|---|
//! | OpenAI and most others | `{"error":{"message","type","code","param"}}` |
//! | Anthropic, OpenAI Responses events | `{"type":"error","error":{"type","message","details":{"error_code"}}}` |
//! | OpenAI Responses | `{"type":"error","code","message"}`, `{"type":"response.failed","response":{"error":{…}}}` |
//! | Google | `{"error":{"code":429,"message","status","details":[{"@type",…}]}}`, also inside an array |
//! | OpenRouter | `{"error":{"code":429,"message","metadata":{"provider_name","raw","error_type","limit_source"}}}` |
//! | xAI, Hugging Face | `{"code","error":"text"}`, `{"error":"text","error_type"}` |
//! | Mistral, vLLM | `{"object":"error","message","type","code"}`, `{"detail":"text"}` |
//! | Alibaba | `{"code","message","request_id"}` |
//! | AWS | `{"message"}`, `{"Message"}`; the code is in the header `x-amzn-errortype` |
//! | MiniMax | `{"base_resp":{"status_code","status_msg"}}`, with status 200 |
//!
//! Members that are absent or of another type are skipped. No `Debug`: an error body may quote a prompt
//! or a part of a key.

use core::time::Duration;

use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::members;
use crate::time::parse_duration;

/// What an error body says. Empty where the body is not understood.
#[derive(Default)]
pub(crate) struct ErrorBody {
    /// Machine-readable words (codes, types, reasons), the most specific first. Numbers as text.
    pub(crate) words: Vec<String>,
    /// For people; where the body is plain text, its beginning.
    pub(crate) message: String,
    /// The error of the service behind an aggregator, as text (OpenRouter's `metadata.raw`).
    pub(crate) inner: String,
    /// Google's `RetryInfo.retryDelay`.
    pub(crate) retry_delay: Option<Duration>,
    /// When an exhausted budget is filled up again, RFC 3339 (OpenRouter's `metadata.resets_at`).
    pub(crate) resets_at: Option<String>,
    /// The model that a quota is about (Google's `QuotaFailure`).
    pub(crate) quota_model: Option<String>,
    /// Whether a quota of a whole day is used up (Google's `quotaId …PerDay…`).
    pub(crate) daily_quota: bool,
    /// A page for people, from a proxy or firewall before the service.
    pub(crate) html: bool,
}

/// The members that tell errors apart. Raw, so that one of an unexpected type does not spoil the others and
/// an answer's content is skipped, not built.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    base_resp: Option<&'a RawValue>,
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    error_type: Option<&'a RawValue>,
    #[serde(borrow, alias = "Message")]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

/// How much of a plain-text body is looked at, in bytes.
const TEXT_LIMIT: usize = 2048;

impl ErrorBody {
    /// The body of an answer whose status already says that it is an error.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let body = body.trim_ascii_start();
        let Some(envelope) = Envelope::parse(body) else {
            let text = body.get(..TEXT_LIMIT).unwrap_or(body);
            return Self {
                message: String::from_utf8_lossy(text).into_owned(),
                html: body.first() == Some(&b'<'),
                ..Self::default()
            };
        };
        envelope.failure().unwrap_or_else(|| envelope.flat())
    }

    /// The error inside an answer with status 200, or inside an event of its stream; `None` where there is
    /// none. Most answers and events have none: a search for the two names decides before any parsing. (A
    /// quotation mark inside of content is escaped, so content does not have them.)
    pub(crate) fn in_success(body: &[u8]) -> Option<Self> {
        if memmem::find(body, b"\"error\"").is_none()
            && memmem::find(body, b"\"base_resp\"").is_none()
        {
            return None;
        }
        Envelope::parse(body.trim_ascii_start())?.failure()
    }

    pub(crate) fn has_word(&self, word: &str) -> bool {
        self.words.iter().any(|w| w.eq_ignore_ascii_case(word))
    }

    /// Whether the message speaks of exactly this model: `gpt-4o` is not named by `gpt-4o-mini`.
    pub(crate) fn names(&self, model: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        !model.is_empty()
            && self.message.match_indices(model).any(|(start, _)| {
                let before = self.message.get(..start).and_then(|text| text.chars().next_back());
                let mut after = self.message.get(start + model.len()..).unwrap_or("").chars();
                // A full stop or colon ends the name, unless the name goes on after it.
                let follows = match after.next() {
                    Some('.' | ':' | '/') => after.next(),
                    next => next,
                };
                !before.is_some_and(|c| part(c) || matches!(c, '.' | ':'))
                    && !follows.is_some_and(part)
            })
    }

    fn read(&mut self, error: &Value) {
        if let Some(text) = error.as_str() {
            self.message = text.to_owned();
            return;
        }
        let details = error.get("details");
        for detail in details.and_then(Value::as_array).into_iter().flatten() {
            self.read_google_detail(detail);
        }
        let metadata = error.get("metadata");
        let specific = [details.and_then(|d| d.get("error_code"))]
            .into_iter()
            .chain(["limit_source", "error_type"].map(|name| metadata.and_then(|m| m.get(name))))
            .chain(["code", "type", "status"].map(|name| error.get(name)));
        self.words.extend(specific.flatten().filter_map(word));
        self.message = string(error.get("message"));
        self.inner = string(metadata.and_then(|m| m.get("raw")));
        self.resets_at = metadata.and_then(|m| m.get("resets_at")).and_then(word);
    }

    /// One of `google.rpc`'s error details, told apart by the end of its `@type`
    /// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>).
    fn read_google_detail(&mut self, detail: &Value) {
        self.words.extend(detail.get("reason").and_then(word));
        if let Some(delay) = detail.get("retryDelay").and_then(Value::as_str) {
            self.retry_delay = parse_duration(delay);
        }
        for violation in detail.get("violations").and_then(Value::as_array).into_iter().flatten() {
            let quota = violation.get("quotaId").and_then(Value::as_str).unwrap_or("");
            self.daily_quota |= quota.contains("PerDay");
            let model = violation.get("quotaDimensions").and_then(|d| d.get("model"));
            self.quota_model = self.quota_model.take().or_else(|| model.and_then(word));
        }
    }
}

impl<'a> Envelope<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        if body.first() == Some(&b'[') {
            // Google's streaming endpoints wrap the object into an array.
            return members::parse::<Vec<Self>>(body)?.into_iter().next();
        }
        members::parse(body)
    }

    /// The failure that the members tell of themselves, whatever the status was.
    fn failure(&self) -> Option<ErrorBody> {
        if let Some(error) = self.error.and_then(value).filter(is_said) {
            let mut body = ErrorBody::default();
            body.read(&error);
            body.words
                .extend([self.code, self.error_type].into_iter().flatten().filter_map(raw_word));
            return Some(body);
        }
        if raw_is(self.r#type, "error") || raw_is(self.object, "error") {
            return Some(self.flat());
        }
        if raw_is(self.r#type, "response.failed") {
            let inner = self.response.and_then(|raw| serde_json::from_str::<Self>(raw.get()).ok());
            return Some(inner.and_then(|inner| inner.failure()).unwrap_or_default());
        }
        let status = self.base_resp.and_then(value)?;
        let code = status.get("status_code").and_then(word).filter(|code| code != "0")?;
        let message = string(status.get("status_msg"));
        Some(ErrorBody { words: vec![code], message, ..ErrorBody::default() })
    }

    /// An error whose members lie at the top.
    fn flat(&self) -> ErrorBody {
        let words = [self.code, self.r#type, self.error_type];
        let texts = [self.message, self.detail];
        ErrorBody {
            words: words.into_iter().flatten().filter_map(raw_word).collect(),
            message: texts.into_iter().flatten().filter_map(raw_word).next().unwrap_or_default(),
            ..ErrorBody::default()
        }
    }
}

/// `null`, `""`, `{}` and `false` say that there is no error.
fn is_said(error: &Value) -> bool {
    match error {
        Value::String(text) => !text.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => false,
    }
}

fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

fn raw_word(raw: &RawValue) -> Option<String> {
    value(raw).as_ref().and_then(word)
}

fn raw_is(raw: Option<&RawValue>, expected: &str) -> bool {
    raw.and_then(raw_word).is_some_and(|text| text == expected)
}

/// A string or a number, as text.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn string(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let cases = [
            (
                r#"{"error":{"message":"m","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
                &["rate_limit_exceeded", "requests"][..],
                "m",
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"e"}}}"#,
                &["e", "rate_limit_error"],
                "m",
            ),
            (
                r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]"#,
                &["API_KEY_INVALID", "400", "INVALID_ARGUMENT"],
                "m",
            ),
            (
                r#"{"error":{"code":429,"message":"m","metadata":{"provider_name":"X","raw":"r","error_type":"t"}}}"#,
                &["t", "429"],
                "m",
            ),
            (r#"{"code":"permission-denied","error":"m"}"#, &["permission-denied"], "m"),
            (r#"{"error":"m","error_type":"overloaded"}"#, &["overloaded"], "m"),
            (
                r#"{"object":"error","message":"m","type":"rate_limited","param":null,"code":"1300"}"#,
                &["1300", "rate_limited"],
                "m",
            ),
            (r#"{"detail":"m"}"#, &[], "m"),
            (r#"{"detail":[{"type":"x"}]}"#, &[], ""),
            (
                r#"{"code":"Throttling.RateQuota","message":"m","request_id":"1"}"#,
                &["Throttling.RateQuota"],
                "m",
            ),
            (r#"{"base_resp":{"status_code":1008,"status_msg":"m"}}"#, &["1008"], "m"),
            (
                r#"{"type":"error","code":"server_error","message":"m","param":null}"#,
                &["server_error", "error"],
                "m",
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"c","message":"m"}}}"#,
                &["c"],
                "m",
            ),
            (r#"{"error":{"message":["odd"],"code":{"odd":1},"type":"t"}}"#, &["t"], ""),
            ("slow down, try again in 5s", &[], "slow down, try again in 5s"),
            ("", &[], ""),
            ("[]", &[], "[]"),
            ("42", &[], "42"),
        ];
        for (body, words, message) in cases {
            let error = ErrorBody::parse(body.as_bytes());
            assert_eq!(error.words, words, "{body}");
            assert_eq!(error.message, message, "{body}");
        }
    }

    #[test]
    fn google_details() {
        let error = ErrorBody::parse(
            br#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[
                {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[
                    {"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                     "quotaDimensions":{"location":"global","model":"gemini-2.0-flash"},"quotaValue":"50"}]},
                {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"48s"}]}}"#,
        );
        assert_eq!(error.retry_delay, Some(Duration::from_secs(48)));
        assert_eq!(error.quota_model.as_deref(), Some("gemini-2.0-flash"));
        assert!(error.daily_quota);
    }

    #[test]
    fn answers_without_an_error() {
        let bodies = [
            r#"{"id":"c","choices":[{"delta":{"content":"the word \"error\" in content"}}]}"#,
            r#"{"object":"response","status":"completed","error":null,"output":[]}"#,
            r#"{"type":"response.created","response":{"id":"r","error":null}}"#,
            r#"{"choices":[],"base_resp":{"status_code":0,"status_msg":""}}"#,
            r#"{"error":{}}"#,
            r#"{"error":""}"#,
            r#"{"output":[{"type":"error"}]}"#,
            r#"{"a":"error"#,
            "[DONE]",
            "",
        ];
        for body in bodies {
            assert!(ErrorBody::in_success(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_model_is_named_whole_or_not_at_all() {
        let cases = [
            ("Rate limit reached for gpt-4o in organization org-1", "gpt-4o", true),
            ("Rate limit reached for gpt-4o-mini in organization org-1", "gpt-4o", false),
            (
                "Rate limit reached for model `llama-3.3-70b-versatile` in",
                "llama-3.3-70b-versatile",
                true,
            ),
            ("no access to gpt-4.1.", "gpt-4", false),
            ("no access to gpt-4.", "gpt-4", true),
            ("x openai/gpt-4o: y", "gpt-4o", true),
            ("my-gpt-4o", "gpt-4o", false),
            ("limit: 0, model: gemini-2.5-pro", "gemini-2.5-pro", true),
            ("anything", "", false),
            ("überlastet: gpt-4o", "gpt-4o", true),
        ];
        for (message, model, expected) in cases {
            let error = ErrorBody { message: message.to_owned(), ..ErrorBody::default() };
            assert_eq!(error.names(model), expected, "{message}");
        }
    }
}
