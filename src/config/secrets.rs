//! Where secrets are. No message here echoes a value: a secret in the wrong field stays secret.

use core::fmt;

use deserr::{Deserr, IntoValue, Map, Value, ValuePointerRef};

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

impl Deserr<Errors> for SecretSource {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        if !matches!(value, Value::Map(_)) {
            if let Value::String(text) = &value
                && text == "none"
            {
                return Ok(Self::None);
            }
            let message = "expected an object with one of env, header, inline; or none";
            return Err(Errors::one(location, message));
        }
        let (name, value) = only_member(value, location, &["env", "header", "inline"])?;
        let location = location.push_key(name);
        match name {
            "env" => Deserr::deserialize_from_value(value, location).map(Self::Environment),
            "header" => Deserr::deserialize_from_value(value, location).map(Self::Header),
            _ => Deserr::deserialize_from_value(value, location).map(Self::Inline),
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

impl Deserr<Errors> for PresentedKey {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        let (name, value) = only_member(value, location, &["sha256", "env", "inline"])?;
        let location = location.push_key(name);
        match name {
            "sha256" => Deserr::deserialize_from_value(value, location).map(Self::Sha256),
            "env" => Deserr::deserialize_from_value(value, location).map(Self::Environment),
            _ => Deserr::deserialize_from_value(value, location).map(Self::Inline),
        }
    }
}

/// The one member of an object, which is one of `names`.
fn only_member<V: IntoValue>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
    names: &'static [&'static str],
) -> Result<(&'static str, Value<V>), Errors> {
    let Value::Map(members) = value else {
        let message = format!("expected an object with one of {}", names.join(", "));
        return Err(Errors::one(location, message));
    };
    let mut found = Vec::new();
    let mut errors = Errors::default();
    for (key, value) in members.into_iter() {
        match names.iter().find(|name| **name == key) {
            Some(name) => found.push((*name, value)),
            None => errors.push(location.push_key(&key), unknown_field(names)),
        }
    }
    match found.pop() {
        Some((name, value)) if found.is_empty() && errors.0.is_empty() => {
            Ok((name, value.into_value()))
        }
        _ => {
            if errors.0.is_empty() {
                errors.push(location, format!("expected exactly one of {}", names.join(", ")));
            }
            Err(errors)
        }
    }
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserr)]
#[deserr(error = Errors, from(String) = Hidden)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Deserr)]
#[deserr(error = Errors, try_from(String) = EnvironmentName::new -> Invalid)]
pub struct EnvironmentName(pub String);

impl EnvironmentName {
    fn new(text: String) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if (1..=MAX_ENVIRONMENT_NAME).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text));
        }
        Err("expected the name of an environment variable: letters, digits and _".into())
    }

    /// The name in capitals; another spelling might be a key in the wrong place (`gsk_…`, `AIza…`).
    pub(crate) fn shown(&self) -> &str {
        if self.0.bytes().any(|b| b.is_ascii_lowercase()) { "of that name" } else { &self.0 }
    }
}

/// A request header that Envoy's `credential_injector` fills.
#[derive(Debug, Clone, PartialEq, Eq, Deserr)]
#[deserr(error = Errors, try_from(String) = SecretHeader::new -> Invalid)]
pub struct SecretHeader(pub String);

impl SecretHeader {
    fn new(text: String) -> Result<Self, Invalid> {
        let suffix = text.strip_prefix(SECRET_HEADER_PREFIX).unwrap_or_default();
        let lower = !suffix.bytes().any(|b| b.is_ascii_uppercase());
        if text.len() <= MAX_HEADER_NAME && is_token(suffix) && lower {
            return Ok(Self(text));
        }
        Err("expected a header name that starts with x-keyward-secret-, in lower case".into())
    }
}

/// SHA-256 as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = Errors, try_from(&String) = Digest::new -> Invalid)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    fn new(text: &str) -> Result<Self, Invalid> {
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = |pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        match bytes.and_then(|bytes| bytes.try_into().ok()) {
            Some(digest) if plain && text.len() == 64 => Ok(Self(digest)),
            _ => Err("expected the SHA-256 of the key as 64 hexadecimal digits".into()),
        }
    }
}
