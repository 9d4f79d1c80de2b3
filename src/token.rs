//! Temporary keys: JSON Web Tokens (RFC 7519) that Keyward signs, so that every Envoy with the same signing secret
//! knows them without being told.
//!
//! A temporary key is for one consumer, ends, and may be narrowed ([`scope`]); it can take away from what its consumer may do
//! and never give. It is signed with HS256 and nothing else: a token that names another algorithm, or none, is refused
//! before its signature is looked at. What an Envoy has to remember of keys, the revoked and the counted ones, is in [`state`]; where their own
//! limits are counted, in [`limits`].
//!
//! | claim | holds |
//! |---|---|
//! | `iss` | `keyward` |
//! | `sub` | name of the consumer |
//! | `jti` | id of the key; see [`Signing::owner`] |
//! | `iat`, `exp` | whole seconds |
//! | `keyward` | models, endpoints, cidrs, limits and uses, as in the request for the key |

pub mod limits;
pub mod scope;
pub mod state;

use core::time::Duration;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use jwt_compact::alg::{Hs256, Hs256Key};
use jwt_compact::{AlgorithmExt, Claims, Header, UntrustedToken};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use self::scope::Scope;
use crate::config::secrets::Hidden;
use crate::plan::{hex, unhex};
use crate::runtime::Window;
use crate::time::UnixTime;

/// Clocks of Envoys may differ: a key is taken this long before it was issued.
const LEEWAY: Duration = Duration::from_secs(30);
const ISSUER: &str = "keyward";
/// Bytes of an id besides the name: drawn, end, tag.
const ID: usize = 16 + 4 + TAG;
const TAG: usize = 8;

/// What keys are signed with.
#[derive(Debug)]
pub struct Signing {
    pub secrets: Vec<Secret>,
    /// Longest life of a key.
    pub max_ttl: Duration,
}

#[derive(Debug)]
pub struct Secret {
    /// `kid` of the keys.
    pub id: String,
    /// At least 32 bytes (RFC 7518, section 3.2).
    pub secret: Hidden,
    /// It signs in this window, and verifies until its end.
    pub valid: Window,
}

/// A key to be issued.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    pub consumer: &'a str,
    pub ttl: Duration,
    /// It ends with what it was issued for.
    pub until: UnixTime,
    /// As in the request: [`scope::KeyRequest`].
    pub scope: &'a Value,
    pub drawn: [u8; 16],
}

/// No `Debug`: it holds the key.
pub struct Issued {
    pub id: String,
    pub key: String,
    pub expires: UnixTime,
}

/// A key that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temporary {
    pub id: String,
    pub consumer: String,
    pub expires: UnixTime,
    pub scope: Scope,
}

/// Why a presented text is no key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unverified {
    /// Not issued with one of the secrets, or changed since.
    Foreign,
    NotYet,
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Own {
    iss: String,
    sub: String,
    jti: String,
    keyward: Value,
}

/// Whether it is worth parsing: everything else is a permanent key.
pub fn looks_like_one(key: &[u8]) -> bool {
    key.starts_with(b"ey") && memchr::memchr_iter(b'.', key).count() == 2
}

impl Signing {
    /// `None` where no secret is valid now.
    pub fn issue(&self, draft: &Draft<'_>, now: UnixTime) -> Option<Issued> {
        let secret = self.secrets.iter().find(|secret| secret.valid.contains(now))?;
        let ttl = draft.ttl.min(self.max_ttl);
        let end = now.after(ttl).min(draft.until).min(secret.valid.until);
        let expires = UnixTime(end.0 - end.0 % 1000);
        let id = secret.name(draft.consumer, draft.drawn, expires);
        let mut claims = Claims::new(Own {
            iss: ISSUER.to_owned(),
            sub: draft.consumer.to_owned(),
            jti: id.clone(),
            keyward: draft.scope.clone(),
        });
        claims.issued_at = date(now);
        claims.expiration = date(expires);
        let header = Header::empty().with_token_type("JWT").with_key_id(secret.id.as_str());
        let key = Hs256.token(&header, &claims, &secret.key()).ok()?;
        Some(Issued { id, key, expires })
    }

    /// # Errors
    /// [`Unverified`].
    pub fn verify(&self, key: &[u8], now: UnixTime) -> Result<Temporary, Unverified> {
        let text = core::str::from_utf8(key).map_err(|_| Unverified::Foreign)?;
        let token = UntrustedToken::new(text).map_err(|_| Unverified::Foreign)?;
        let secret =
            self.alive(now).find(|secret| token.header().key_id.as_ref() == Some(&secret.id));
        let secret = secret.ok_or(Unverified::Foreign)?;
        let key = secret.key();
        let token =
            Hs256.validator::<Own>(&key).validate(&token).map_err(|_| Unverified::Foreign)?;
        let (_, claims) = token.into_parts();
        let own = claims.custom;
        let scope = Scope::from_claim(&own.keyward).filter(|_| own.iss == ISSUER);
        let (issued, expires) =
            moment(claims.issued_at).zip(moment(claims.expiration)).ok_or(Unverified::Foreign)?;
        // Also where the operator has shortened the lives of keys since.
        let expires = expires.min(issued.after(self.max_ttl));
        if now >= expires {
            return Err(Unverified::Expired);
        }
        if now.after(LEEWAY) < issued {
            return Err(Unverified::NotYet);
        }
        let scope = scope.ok_or(Unverified::Foreign)?;
        Ok(Temporary { id: own.jti, consumer: own.sub, expires, scope })
    }

    /// The consumer that a key with this id was issued to, and when the key ends; `None` where no secret made the id.
    ///
    /// `CONSUMER.HEX`: 16 bytes of the host's randomness, the end in seconds, a tag over all of it. So nobody can fill
    /// the table of revoked keys with ids that were never issued.
    pub fn owner<'i>(&self, id: &'i str, now: UnixTime) -> Option<(&'i str, UnixTime)> {
        let (consumer, _) = id.rsplit_once('.')?;
        let bytes = unhex(id.get(consumer.len() + 1..)?)?;
        let (drawn, rest) = bytes.split_first_chunk::<16>()?;
        let (end, _) = rest.split_first_chunk::<4>().filter(|_| bytes.len() == ID)?;
        let expires = UnixTime(u64::from(u32::from_be_bytes(*end)) * 1000);
        let known = self.alive(now).any(|secret| {
            secret.name(consumer, *drawn, expires).as_bytes().ct_eq(id.as_bytes()).into()
        });
        known.then_some((consumer, expires))
    }

    fn alive(&self, now: UnixTime) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().filter(move |secret| now < secret.valid.until)
    }
}

impl Secret {
    fn key(&self) -> Hs256Key {
        Hs256Key::new(self.secret.0.as_bytes())
    }

    fn name(&self, consumer: &str, drawn: [u8; 16], expires: UnixTime) -> String {
        let end = u32::try_from(expires.0 / 1000).unwrap_or(u32::MAX).to_be_bytes();
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.0.as_bytes())
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        for part in [b"keyward/key-id\0".as_slice(), consumer.as_bytes(), b"\0", &drawn, &end] {
            mac.update(part);
        }
        let tag = mac.finalize().into_bytes();
        let bytes: Vec<u8> =
            drawn.into_iter().chain(end).chain(tag.into_iter().take(TAG)).collect();
        format!("{consumer}.{}", hex(&bytes))
    }
}

fn date(time: UnixTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(time.0 / 1000).ok()?, 0)
}

fn moment(date: Option<DateTime<Utc>>) -> Option<UnixTime> {
    let seconds = u64::try_from(date?.timestamp()).ok()?;
    seconds.checked_mul(1000).map(UnixTime)
}

#[cfg(test)]
mod tests;
