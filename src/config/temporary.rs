//! `temporary_keys`, `access` and the second factor as the operator writes them.

use core::time::Duration;

use serde_json::Value;

use super::decode::{Decode, FromText, Place, fields, word};
use super::error::{Errors, Invalid};
use super::secrets::{EnvironmentName, Hidden};
use super::values::{List, Name};
use crate::runtime::Window;
use crate::time::UnixTime;

/// Signing secrets: a rotation needs two.
const MAX_SECRETS: usize = 8;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fields! {
    /// Keys that are issued by Keyward.
    #[derive(Debug)]
    pub struct TemporaryKeys {
        /// The first that is valid signs, all that have not ended verify.
        pub secrets: List<SigningSecret, 1, MAX_SECRETS>,
        /// Longest life of a key, and its life where the request says nothing.
        pub max_ttl: Duration = DAY,
    }
}

fields! {
    /// Consumers may ask for roles and models.
    #[derive(Debug)]
    pub struct AccessRequests {
        /// Longest life of a grant, and its life where nobody says.
        pub max_ttl: Duration = DAY,
    }
}

#[derive(Debug)]
pub struct SigningSecret {
    /// Goes into the keys as `kid`.
    pub id: Name,
    pub secret: KeptSecret,
    pub valid: Window,
}

impl Decode for SigningSecret {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        fields! {
            struct Written {
                id: Name,
                env: Option<EnvironmentName> = None,
                inline: Option<Hidden> = None,
                valid_from: Option<UnixTime> = None,
                valid_until: Option<UnixTime> = None,
            }
        }
        let written = Written::decode(value, location)?;
        let secret = KeptSecret::of(written.env, written.inline, location)?;
        let valid = Window::between(written.valid_from, written.valid_until).ok_or_else(|| {
            Errors::one(location.member("valid_until"), "not later than valid_from")
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
        location: Place<'_>,
    ) -> Result<Self, Errors> {
        match (env, inline) {
            (Some(name), None) => Ok(Self::Environment(name)),
            (None, Some(text)) => Ok(Self::Inline(text)),
            _ => Err(Errors::one(location, "expected exactly one of env, inline")),
        }
    }
}

impl Decode for KeptSecret {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        fields! {
            struct Written {
                env: Option<EnvironmentName> = None,
                inline: Option<Hidden> = None,
            }
        }
        let written = Written::decode(value, location)?;
        Self::of(written.env, written.inline, location)
    }
}

/// What else than its key somebody needs to issue temporary keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondFactor {
    Totp,
}

impl FromText for SecondFactor {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        word(text, &[("totp", Self::Totp)])
    }
}
