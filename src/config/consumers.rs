//! `consumers`, `teams`, `roles`, `identify` and `anonymous` as the operator writes them.

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};

use super::error::Errors;
use super::rules::{RuleList, Text, not_a_credential, text};
use super::secrets::{Digest, EnvironmentName, Hidden, PresentedKey};
use super::temporary::{KeptSecret, SecondFactor};
use super::values::{HeaderName, List, Name};
use super::{Key, MAX_KEYS, MAX_PROVIDERS};
use crate::limit::Limits;
use crate::runtime::Window;
use crate::time::UnixTime;

/// Keys of one consumer: a rotation needs two.
const MAX_CONSUMER_KEYS: usize = 16;
const MAX_IDENTITIES: usize = 16;
const MAX_GIVEN_ROLES: usize = 16;
/// Parts of the path of an attribute.
const MAX_PATH: usize = 16;

#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields)]
pub struct Consumer {
    pub name: Name,
    #[deserr(default)]
    pub team: Option<Name>,
    #[deserr(default = true)]
    pub enabled: bool,
    #[deserr(default)]
    pub keys: List<ConsumerKey, 0, MAX_CONSUMER_KEYS>,
    /// What sources of `identify` may call it, besides its name.
    #[deserr(default)]
    pub identities: List<Text, 0, MAX_IDENTITIES>,
    #[deserr(default)]
    pub roles: List<Name, 0, MAX_GIVEN_ROLES>,
    #[deserr(default)]
    pub allow: RuleList,
    #[deserr(default)]
    pub deny: RuleList,
    #[deserr(default)]
    pub limits: Limits,
    /// Its own keys at providers.
    #[deserr(default)]
    pub provider_keys: List<ProviderKeys, 0, MAX_PROVIDERS>,
    /// Whether issuing a temporary key needs a code besides the key; also where one of its roles says so.
    #[deserr(default)]
    pub mfa: Option<SecondFactor>,
    /// What the codes come from, in base32.
    #[deserr(default)]
    pub totp: Option<KeptSecret>,
}

#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields)]
pub struct Team {
    pub name: Name,
    #[deserr(default = true)]
    pub enabled: bool,
    /// Of all its consumers together.
    #[deserr(default)]
    pub limits: Limits,
    #[deserr(default)]
    pub roles: List<Name, 0, MAX_GIVEN_ROLES>,
    #[deserr(default)]
    pub allow: RuleList,
    #[deserr(default)]
    pub deny: RuleList,
}

/// A named set of permissions.
#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields)]
pub struct Role {
    pub name: Name,
    #[deserr(default)]
    pub allow: RuleList,
    #[deserr(default)]
    pub deny: RuleList,
    /// As of a consumer, for all that have the role.
    #[deserr(default)]
    pub mfa: Option<SecondFactor>,
}

#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields)]
pub struct ProviderKeys {
    pub provider: Name,
    pub keys: List<Key, 1, MAX_KEYS>,
    /// Whether the provider's other keys follow when these are exhausted; default: yes.
    #[deserr(default = true)]
    pub shared: bool,
}

/// A key that a consumer presents: its `sha256`, `env` or `inline`, and when it may be used.
#[derive(Debug)]
pub struct ConsumerKey {
    pub key: PresentedKey,
    pub enabled: bool,
    pub valid: Window,
}

impl Deserr<Errors> for ConsumerKey {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        #[derive(Deserr)]
        #[deserr(error = Errors, deny_unknown_fields)]
        struct Written {
            #[deserr(default)]
            sha256: Option<Digest>,
            #[deserr(default)]
            env: Option<EnvironmentName>,
            #[deserr(default)]
            inline: Option<Hidden>,
            #[deserr(default = true)]
            enabled: bool,
            #[deserr(default)]
            valid_from: Option<UnixTime>,
            #[deserr(default)]
            valid_until: Option<UnixTime>,
        }
        let written = Written::deserialize_from_value(value, location)?;
        let key = match (written.sha256, written.env, written.inline) {
            (Some(digest), None, None) => PresentedKey::Sha256(digest),
            (None, Some(name), None) => PresentedKey::Environment(name),
            (None, None, Some(text)) => PresentedKey::Inline(text),
            _ => return Err(Errors::one(location, "expected exactly one of sha256, env, inline")),
        };
        let valid = Window::between(written.valid_from, written.valid_until).ok_or_else(|| {
            Errors::one(location.push_key("valid_until"), "not later than valid_from")
        })?;
        Ok(Self { key, enabled: written.enabled, valid })
    }
}

/// Where an identity is looked for: `key`, `{header: NAME}` or `{property: PATH}`.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    Key,
    Header(HeaderName),
    Property(Vec<String>),
}

impl Deserr<Errors> for Source {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        #[derive(Deserr)]
        #[deserr(error = Errors, deny_unknown_fields)]
        struct Written {
            #[deserr(default)]
            header: Option<HeaderName>,
            #[deserr(default)]
            property: Option<PropertyPath>,
        }
        match value {
            Value::String(word) if word == "key" => Ok(Self::Key),
            Value::Map(_) => {
                let written = Written::deserialize_from_value(value, location)?;
                match (written.header, written.property) {
                    (Some(name), None) => {
                        not_a_credential(&name, location)?;
                        Ok(Self::Header(name))
                    }
                    (None, Some(path)) => Ok(Self::Property(path.0)),
                    _ => Err(Errors::one(location, "expected exactly one of header, property")),
                }
            }
            _ => Err(Errors::one(location, "expected key or an object with header or property")),
        }
    }
}

/// `connection.uri_san_peer_certificate`, or a list where a part has a dot of its own.
struct PropertyPath(Vec<String>);

impl Deserr<Errors> for PropertyPath {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        let path = match value {
            Value::String(text) => text.split('.').map(str::to_owned).collect(),
            other => List::<String, 1, MAX_PATH>::deserialize_from_value(other, location)?.0,
        };
        let part = |part: &String| text(part.clone()).is_ok();
        if path.len() <= MAX_PATH && path.iter().all(part) {
            return Ok(Self(path));
        }
        let message = "expected an attribute of Envoy's, such as \
                       connection.uri_san_peer_certificate or [filter_state, name]";
        Err(Errors::one(location, message))
    }
}

/// Requests that bring no identity: `refuse`, or `{consumer: NAME}`, for whom they count then.
#[derive(Debug, Default)]
pub enum Anonymous {
    #[default]
    Refuse,
    Consumer(Name),
}

impl Deserr<Errors> for Anonymous {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        #[derive(Deserr)]
        #[deserr(error = Errors, deny_unknown_fields)]
        struct Written {
            consumer: Name,
        }
        match value {
            Value::String(word) if word == "refuse" => Ok(Self::Refuse),
            Value::Map(_) => {
                let Written { consumer } = Written::deserialize_from_value(value, location)?;
                Ok(Self::Consumer(consumer))
            }
            _ => Err(Errors::one(location, "expected refuse or an object with consumer")),
        }
    }
}
