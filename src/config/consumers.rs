//! `consumers`, `teams`, `roles`, `identify` and `anonymous` as the operator writes them.

use serde_json::Value;

use super::decode::{Decode, FromText as _, Place, fields};
use super::error::Errors;
use super::rules::{RuleList, Text, not_a_credential};
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

fields! {
    #[derive(Debug)]
    pub struct Consumer {
        pub name: Name,
        pub team: Option<Name> = None,
        pub enabled: bool = true,
        pub keys: List<ConsumerKey, 0, MAX_CONSUMER_KEYS> = List::default(),
        /// What sources of `identify` may call it, besides its name.
        pub identities: List<Text, 0, MAX_IDENTITIES> = List::default(),
        pub roles: List<Name, 0, MAX_GIVEN_ROLES> = List::default(),
        pub allow: RuleList = RuleList::default(),
        pub deny: RuleList = RuleList::default(),
        pub limits: Limits = Limits::default(),
        /// Its own keys at providers.
        pub provider_keys: List<ProviderKeys, 0, MAX_PROVIDERS> = List::default(),
        /// Whether issuing a temporary key needs a code besides the key; also where one of its roles says so.
        pub mfa: Option<SecondFactor> = None,
        /// What the codes come from, in base32.
        pub totp: Option<KeptSecret> = None,
    }
}

fields! {
    #[derive(Debug)]
    pub struct Team {
        pub name: Name,
        pub enabled: bool = true,
        /// Of all its consumers together.
        pub limits: Limits = Limits::default(),
        pub roles: List<Name, 0, MAX_GIVEN_ROLES> = List::default(),
        pub allow: RuleList = RuleList::default(),
        pub deny: RuleList = RuleList::default(),
    }
}

fields! {
    /// A named set of permissions.
    #[derive(Debug)]
    pub struct Role {
        pub name: Name,
        pub allow: RuleList = RuleList::default(),
        pub deny: RuleList = RuleList::default(),
        /// As of a consumer, for all that have the role.
        pub mfa: Option<SecondFactor> = None,
    }
}

fields! {
    #[derive(Debug)]
    pub struct ProviderKeys {
        pub provider: Name,
        pub keys: List<Key, 1, MAX_KEYS>,
        /// Whether the provider's other keys follow when these are exhausted; default: yes.
        pub shared: bool = true,
    }
}

/// A key that a consumer presents: its `sha256`, `env` or `inline`, and when it may be used.
#[derive(Debug)]
pub struct ConsumerKey {
    pub key: PresentedKey,
    pub enabled: bool,
    pub valid: Window,
}

impl Decode for ConsumerKey {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        fields! {
            struct Written {
                sha256: Option<Digest> = None,
                env: Option<EnvironmentName> = None,
                inline: Option<Hidden> = None,
                enabled: bool = true,
                valid_from: Option<UnixTime> = None,
                valid_until: Option<UnixTime> = None,
            }
        }
        let written = Written::decode(value, location)?;
        let key = match (written.sha256, written.env, written.inline) {
            (Some(digest), None, None) => PresentedKey::Sha256(digest),
            (None, Some(name), None) => PresentedKey::Environment(name),
            (None, None, Some(text)) => PresentedKey::Inline(text),
            _ => return Err(Errors::one(location, "expected exactly one of sha256, env, inline")),
        };
        let valid = Window::between(written.valid_from, written.valid_until).ok_or_else(|| {
            Errors::one(location.member("valid_until"), "not later than valid_from")
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

impl Decode for Source {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        fields! {
            struct Written {
                header: Option<HeaderName> = None,
                property: Option<PropertyPath> = None,
            }
        }
        match value {
            Value::String(word) if word == "key" => Ok(Self::Key),
            Value::Object(_) => {
                let written = Written::decode(value, location)?;
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

impl Decode for PropertyPath {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        let path = match value {
            Value::String(text) => text.split('.').map(str::to_owned).collect(),
            other => List::<String, 1, MAX_PATH>::decode(other, location)?.0,
        };
        let part = |part: &String| Text::from_text(part).is_ok();
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

impl Decode for Anonymous {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        fields! {
            struct Written {
                consumer: Name,
            }
        }
        match value {
            Value::String(word) if word == "refuse" => Ok(Self::Refuse),
            Value::Object(_) => {
                let Written { consumer } = Written::decode(value, location)?;
                Ok(Self::Consumer(consumer))
            }
            _ => Err(Errors::one(location, "expected refuse or an object with consumer")),
        }
    }
}
