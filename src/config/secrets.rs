//! Where secrets are. No message here echoes a value: a secret in the wrong field stays secret.

use core::fmt;

use serde_json::Value;

use super::decode::{Decode, FromText, Place};
use super::error::{Errors, Invalid, unknown_field};
use super::values::{MAX_HEADER_NAME, is_token};

/// How the request headers that carry a secret begin; the attempt stage strips them all.
const SECRET_HEADER_PREFIX: &str = "x-keyward-secret-";
const MAX_ENVIRONMENT_NAME: usize = 128;

/// Where a provider key is: `{env: NAME}`, `{header: x-keyward-secret-…}`, `{inline: …}`, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Keyward sends no credential: the provider wants none, or another filter signs the request.
    None,
    Environment(EnvironmentName),
    Header(SecretHeader),
    Inline(Hidden),
}

impl Decode for SecretSource {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        if !value.is_object() {
            if value.as_str() == Some("none") {
                return Ok(Self::None);
            }
            let message = "expected an object with one of env, header, inline; or none";
            return Err(Errors::one(location, message));
        }
        let (name, value) = only_member(value, location, &["env", "header", "inline"])?;
        let location = location.member(name);
        match name {
            "env" => Decode::decode(value, location).map(Self::Environment),
            "header" => Decode::decode(value, location).map(Self::Header),
            _ => Decode::decode(value, location).map(Self::Inline),
        }
    }
}

/// A key that is presented to Keyward: its `{sha256: …}`, `{env: NAME}` or `{inline: …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresentedKey {
    Sha256(Digest),
    Environment(EnvironmentName),
    Inline(Hidden),
}

impl Decode for PresentedKey {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        let (name, value) = only_member(value, location, &["sha256", "env", "inline"])?;
        let location = location.member(name);
        match name {
            "sha256" => Decode::decode(value, location).map(Self::Sha256),
            "env" => Decode::decode(value, location).map(Self::Environment),
            _ => Decode::decode(value, location).map(Self::Inline),
        }
    }
}

/// The one member of an object, which is one of `names`.
fn only_member<'v>(
    value: &'v Value,
    location: Place<'_>,
    names: &'static [&'static str],
) -> Result<(&'static str, &'v Value), Errors> {
    let Value::Object(members) = value else {
        let message = format!("expected an object with one of {}", names.join(", "));
        return Err(Errors::one(location, message));
    };
    let mut found = Vec::new();
    let mut errors = Errors::default();
    for (key, value) in members {
        match names.iter().find(|name| *name == key) {
            Some(name) => found.push((*name, value)),
            None => errors.push(location.member(key), unknown_field(names)),
        }
    }
    match found.pop() {
        Some(member) if found.is_empty() && errors.0.is_empty() => Ok(member),
        _ => {
            if errors.0.is_empty() {
                errors.push(location, format!("expected exactly one of {}", names.join(", ")));
            }
            Err(errors)
        }
    }
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl FromText for Hidden {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentName(pub String);

impl FromText for EnvironmentName {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if (1..=MAX_ENVIRONMENT_NAME).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err("expected the name of an environment variable: letters, digits and _".into())
    }
}

impl EnvironmentName {
    /// The name in capitals; another spelling might be a key in the wrong place (`gsk_…`, `AIza…`).
    pub(crate) fn shown(&self) -> &str {
        if self.0.bytes().any(|b| b.is_ascii_lowercase()) { "of that name" } else { &self.0 }
    }
}

/// A request header that Envoy's `credential_injector` fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHeader(pub String);

impl FromText for SecretHeader {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let suffix = text.strip_prefix(SECRET_HEADER_PREFIX).unwrap_or_default();
        let lower = !suffix.bytes().any(|b| b.is_ascii_uppercase());
        if text.len() <= MAX_HEADER_NAME && is_token(suffix) && lower {
            return Ok(Self(text.to_owned()));
        }
        Err("expected a header name that starts with x-keyward-secret-, in lower case".into())
    }
}

/// SHA-256 as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl FromText for Digest {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = |pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        match bytes.and_then(|bytes| bytes.try_into().ok()) {
            Some(digest) if plain && text.len() == 64 => Ok(Self(digest)),
            _ => Err("expected the SHA-256 of the key as 64 hexadecimal digits".into()),
        }
    }
}
