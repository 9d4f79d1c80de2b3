//! `temporary_keys`, `access` and the second factor as the operator writes them.

use core::time::Duration;

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};

use super::error::Errors;
use super::secrets::{EnvironmentName, Hidden};
use super::values::{List, Name};
use crate::runtime::Window;
use crate::time::UnixTime;

/// Signing secrets: a rotation needs two.
const MAX_SECRETS: usize = 8;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Keys that are issued by Keyward.
#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields)]
pub struct TemporaryKeys {
    /// The first that is valid signs, all that have not ended verify.
    pub secrets: List<SigningSecret, 1, MAX_SECRETS>,
    /// Longest life of a key, and its life where the request says nothing.
    #[deserr(default = DAY)]
    pub max_ttl: Duration,
}

/// Consumers may ask for roles and models.
#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields)]
pub struct AccessRequests {
    /// Longest life of a grant, and its life where nobody says.
    #[deserr(default = DAY)]
    pub max_ttl: Duration,
}

#[derive(Debug)]
pub struct SigningSecret {
    /// Goes into the keys as `kid`.
    pub id: Name,
    pub secret: KeptSecret,
    pub valid: Window,
}

impl Deserr<Errors> for SigningSecret {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        #[derive(Deserr)]
        #[deserr(error = Errors, deny_unknown_fields)]
        struct Written {
            id: Name,
            #[deserr(default)]
            env: Option<EnvironmentName>,
            #[deserr(default)]
            inline: Option<Hidden>,
            #[deserr(default)]
            valid_from: Option<UnixTime>,
            #[deserr(default)]
            valid_until: Option<UnixTime>,
        }
        let written = Written::deserialize_from_value(value, location)?;
        let secret = KeptSecret::of(written.env, written.inline, location)?;
        let valid = Window::between(written.valid_from, written.valid_until).ok_or_else(|| {
            Errors::one(location.push_key("valid_until"), "not later than valid_from")
        })?;
        Ok(Self { id: written.id, secret, valid })
    }
}

/// A secret that Keyward itself works with: `{env: NAME}` or `{inline: …}`.
#[derive(Debug)]
pub enum KeptSecret {
    Environment(EnvironmentName),
    Inline(Hidden),
}

impl KeptSecret {
    fn of(
        env: Option<EnvironmentName>,
        inline: Option<Hidden>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        match (env, inline) {
            (Some(name), None) => Ok(Self::Environment(name)),
            (None, Some(text)) => Ok(Self::Inline(text)),
            _ => Err(Errors::one(location, "expected exactly one of env, inline")),
        }
    }
}

impl Deserr<Errors> for KeptSecret {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        #[derive(Deserr)]
        #[deserr(error = Errors, deny_unknown_fields)]
        struct Written {
            #[deserr(default)]
            env: Option<EnvironmentName>,
            #[deserr(default)]
            inline: Option<Hidden>,
        }
        let written = Written::deserialize_from_value(value, location)?;
        Self::of(written.env, written.inline, location)
    }
}

/// What else than its key somebody needs to issue temporary keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = Errors, rename_all = lowercase)]
pub enum SecondFactor {
    Totp,
}
