//! The values that fields of the document take: what is accepted, and the message for what is not.
//!
//! A message echoes the value only where it cannot be a secret that strayed into the field.

use core::time::Duration;

use serde_json::Value;

use super::decode::{Decode, FromText, Place, fields};
use super::error::{Errors, Invalid, known, quoted, wrong_kind};
use crate::provider::{self, Kind};
use crate::providers::azure::ApiVersion;
use crate::runtime::Window;
use crate::time::{UnixTime, parse_duration};

/// Bytes of a header name.
pub(super) const MAX_HEADER_NAME: usize = 128;
/// Bytes of a host, also of a cluster name.
const MAX_HOST: usize = 255;
const MAX_BASE_PATH: usize = 256;
const MAX_MODEL_NAME: usize = 256;
/// Largest `max_body` in bytes: the worker's memory holds several requests at a time.
const LARGEST_BODY: u64 = 256 << 20;

/// Name of a provider, pool, key, quota group or consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

impl FromText for Name {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err("expected 1 to 64 characters of A-Z a-z 0-9 . _ : -".into())
    }
}

/// What clients ask for: an exact name, or a literal prefix and `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPattern(pub String);

impl FromText for ModelPattern {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let literal = text.strip_suffix('*').unwrap_or(text);
        if literal.contains('*') {
            return Err("`*` may only be the last character".into());
        }
        model_name(text).map(Self)
    }
}

/// What a provider calls a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModel(pub String);

impl FromText for TargetModel {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text.contains('*') {
            return Err(
                "expected one model; leave it out to keep the name that the client asks for".into(),
            );
        }
        model_name(text).map(Self)
    }
}

/// Fits a header value and a log line.
fn model_name(text: &str) -> Result<String, Invalid> {
    let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if (1..=MAX_MODEL_NAME).contains(&text.len()) && printable && text.trim_ascii() == text {
        return Ok(text.to_owned());
    }
    Err(Invalid(format!("expected 1 to {MAX_MODEL_NAME} printable ASCII characters")))
}

/// Name of an Envoy cluster; it travels in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster(pub String);

impl FromText for Cluster {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        if (1..=MAX_HOST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid(format!("expected 1 to {MAX_HOST} visible ASCII characters")))
    }
}

/// `host` or `host:port` as in the `Host` field (RFC 9110, section 7.2), in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(pub String);

impl FromText for Host {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        if (1..=MAX_HOST).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err("expected a host, with a port where it is not the default: no scheme, no path".into())
    }
}

/// What paths start with at the provider, without a trailing slash; may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasePath(pub String);

impl FromText for BasePath {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let path = text.trim_end_matches('/');
        // `unreserved`, `sub-delims`, `:`, `@` and `%` of RFC 3986, section 3.3.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
        let absolute = path.is_empty() || path.starts_with('/');
        let upwards = path.split('/').any(|segment| segment == "..");
        if path.len() <= MAX_BASE_PATH && absolute && !upwards && path.bytes().all(allowed) {
            return Ok(Self(path.to_owned()));
        }
        Err("expected a path such as /v1: no query, no `..`".into())
    }
}

/// A project of Google Cloud: its id, which an old domain may precede, or its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project(pub String);

impl FromText for Project {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if text.len() <= MAX_HOST && starts && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err("expected the id of a project such as my-project-1, or its number".into())
    }
}

/// A location of Google Cloud: a region, `us`, `eu` or `global`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(pub String);

impl FromText for Location {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        if text.len() <= 32 && starts && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err("expected a location such as us-central1, eu or global".into())
    }
}

/// A request header that Keyward only reads, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(pub String);

impl FromText for HeaderName {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let name = text.to_ascii_lowercase();
        if name.len() > MAX_HEADER_NAME || !is_token(&name) {
            return Err("expected the name of a header".into());
        }
        if name.starts_with("x-keyward-") {
            return Err("headers that start with x-keyward- are removed on entry".into());
        }
        Ok(Self(name))
    }
}

/// `token` of RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(token)
}

/// A kind is a row of the provider table.
impl FromText for &'static Kind {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        {
            provider::find(text).ok_or_else(|| {
                let known = known(provider::names());
                Invalid(format!("{} is not a kind of provider; {known}", quoted(text)))
            })
        }
    }
}

impl FromText for ApiVersion {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        {
            Self::parse(text).ok_or_else(|| {
                let text = quoted(text);
                Invalid(format!(
                    "{text} is not a version; write it like 2024-10-21, 2025-04-01-preview, \
                     preview, latest or v1"
                ))
            })
        }
    }
}

/// `500ms`, `30s`, `5m`, `1h`, `7d` and sums of them; longer than zero.
impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        match parse_duration(text) {
            Some(Self::ZERO) => Err("expected a duration longer than zero".into()),
            Some(duration) => Ok(duration),
            None => {
                let text = quoted(text);
                let message =
                    format!("{text} is not a duration; write it like 500ms, 30s, 5m, 1h, 7d");
                Err(Invalid(message))
            }
        }
    }
}

/// RFC 3339.
impl FromText for UnixTime {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        {
            Self::parse_rfc3339(text).ok_or_else(|| {
                let text = quoted(text);
                Invalid(format!("{text} is not a time; write it like 2026-12-24T22:00:00Z"))
            })
        }
    }
}

impl Decode for Window {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        fields! {
            struct Written {
                from: UnixTime,
                until: UnixTime,
            }
        }
        let Written { from, until } = Written::decode(value, location)?;
        if from < until {
            return Ok(Self { from, until });
        }
        Err(Errors::one(location.member("until"), "not later than from"))
    }
}

/// An integer from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// Saturates where `MAX` does not fit.
    pub fn to_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Decode for Whole<MIN, MAX> {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        match value.as_u64() {
            Some(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ if MAX == u64::MAX => {
                Err(Errors::one(location, format!("expected an integer of at least {MIN}")))
            }
            _ => Err(Errors::one(location, format!("expected an integer from {MIN} to {MAX}"))),
        }
    }
}

/// A number of bytes: an integer, or `"512KiB"`, `"32MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Default for Bytes {
    fn default() -> Self {
        Self(32 << 20)
    }
}

impl Decode for Bytes {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        let bytes = match value {
            Value::Number(bytes) => bytes.as_u64(),
            Value::String(text) => [("KiB", 10_u32), ("MiB", 20)].into_iter().find_map(|unit| {
                let digits = text.strip_suffix(unit.0)?;
                let plain = digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(1 << unit.1)
            }),
            _ => None,
        };
        match bytes {
            Some(bytes) if (1..=LARGEST_BODY).contains(&bytes) => Ok(Self(bytes)),
            _ => {
                let message =
                    "expected a number of bytes such as 1048576, 512KiB or 32MiB, at most 256MiB";
                Err(Errors::one(location, message))
            }
        }
    }
}

/// An array of `MIN` to `MAX` elements. A longer one is refused before its elements are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T, const MIN: usize, const MAX: usize>(pub Vec<T>);

impl<T, const MIN: usize, const MAX: usize> Default for List<T, MIN, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Decode, const MIN: usize, const MAX: usize> Decode for List<T, MIN, MAX> {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        let elements = elements(value, location, MIN, MAX)?;
        let mut list = Vec::with_capacity(elements.len());
        let mut errors = Errors::default();
        for (index, element) in elements.iter().enumerate() {
            match T::decode(element, location.element(index)) {
                Ok(element) => list.push(element),
                Err(more) => errors.0.extend(more.0),
            }
        }
        if errors.0.is_empty() { Ok(Self(list)) } else { Err(errors) }
    }
}

fn elements<'v>(
    value: &'v Value,
    location: Place<'_>,
    min: usize,
    max: usize,
) -> Result<&'v [Value], Errors> {
    let Value::Array(elements) = value else {
        return Err(Errors::one(location, wrong_kind("an array", value)));
    };
    match check_length(elements.len(), min, max) {
        Ok(()) => Ok(elements),
        Err(Invalid(message)) => Err(Errors::one(location, message)),
    }
}

pub(super) fn check_length(length: usize, min: usize, max: usize) -> Result<(), Invalid> {
    if length < min {
        return Err(Invalid(format!("expected at least {min}")));
    }
    if length > max {
        return Err(Invalid(format!("expected at most {max}, found {length}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T: Decode>(value: &Value) -> Option<T> {
        T::decode(value, Place::Root).ok()
    }

    #[test]
    fn texts_take_their_canonical_form() {
        let hosts = [
            ("API.OpenAI.com", Some("api.openai.com")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("llm_1.internal:8000", Some("llm_1.internal:8000")),
            ("", None),
            ("host/path", None),
            ("user@host", None),
        ];
        for (text, expected) in hosts {
            let host = read::<Host>(&json!(text)).map(|host| host.0);
            assert_eq!(host.as_deref(), expected, "{text:?}");
        }
        let paths = [
            ("", Some("")),
            ("/", Some("")),
            ("/v1//", Some("/v1")),
            ("/openai/v1", Some("/openai/v1")),
            ("/v1beta/models:x@y%20z", Some("/v1beta/models:x@y%20z")),
            ("v1", None),
            ("/v1?api-version=1", None),
            ("/a/../b", None),
            ("/a b", None),
        ];
        for (text, expected) in paths {
            let path = read::<BasePath>(&json!(text)).map(|path| path.0);
            assert_eq!(path.as_deref(), expected, "{text:?}");
        }
        let headers = [
            ("X-Session-Id", Some("x-session-id")),
            ("session_id", Some("session_id")),
            ("a b", None),
            ("", None),
            ("x-keyward-state", None),
        ];
        for (text, expected) in headers {
            let header = read::<HeaderName>(&json!(text)).map(|header| header.0);
            assert_eq!(header.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn model_names_are_literal_but_for_a_last_star() {
        let table = [
            ("*", true, false),
            ("gpt-*", true, false),
            ("meta-llama/Llama-3.1:free", true, true),
            ("two words", true, true),
            ("**", false, false),
            (" padded", false, false),
            ("modèle", false, false),
        ];
        for (text, pattern, target) in table {
            assert_eq!(read::<ModelPattern>(&json!(text)).is_some(), pattern, "{text:?}");
            assert_eq!(read::<TargetModel>(&json!(text)).is_some(), target, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_numbers_or_texts_with_a_unit() {
        let table = [
            (json!(1), Some(1)),
            (json!("512KiB"), Some(512 << 10)),
            (json!("256MiB"), Some(256 << 20)),
            (json!(268_435_457), None),
            (json!("1.5MiB"), None),
            (json!("MiB"), None),
            (json!("18446744073709551615MiB"), None),
            (json!(-1), None),
            (json!(true), None),
        ];
        for (value, expected) in table {
            assert_eq!(read::<Bytes>(&value).map(|bytes| bytes.0), expected, "{value}");
        }
    }
}
