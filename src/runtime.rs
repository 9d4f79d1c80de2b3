//! The configuration as it is used: names resolved, secrets read, everything checked.
//!
//! Built once per plugin load by [`Runtime::compile`] from the document of [`crate::config`]; immutable
//! afterwards. Keys, providers and models are indices into it, so nothing on the way of a request looks
//! up a name twice.

mod compile;

use core::time::Duration;
use std::borrow::Cow;

use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::compile::load;
use crate::address::Guard;
use crate::config::decode::{Decode, FromText, Place, fields, word};
use crate::config::error::{Errors, Invalid};
use crate::config::values::Whole;
use crate::consumer::{Consumer, Consumers};
use crate::endpoint::{Endpoint, Endpoints};
use crate::formats::{Call, Format, Way};
use crate::limit::{Limit, Limits};
use crate::price::{Price, Prices};
use crate::provider::Kind;
use crate::providers::azure::ApiVersion;
use crate::time::UnixTime;

/// Version of the records in shared data, which outlive a reload and are seen by older and newer code.
pub(crate) const SLOTS: &str = "keyward/1";

/// Index into [`Runtime::keys`].
pub type KeyIndex = usize;
/// Index into [`Runtime::providers`].
pub type ProviderIndex = usize;

#[derive(Debug)]
pub struct Runtime {
    pub providers: Vec<Provider>,
    /// Every key of every provider and pool, each once.
    pub keys: Vec<Key>,
    /// Some key has a limit on cost.
    pub keys_count_cost: bool,
    pub models: Models,
    pub admin: Vec<KeyDigest>,
    pub consumers: Consumers,
    pub client_address: Option<Guard>,
    pub failover: Failover,
    pub mode: Mode,
    /// Adds `x-keyward-provider`, `-model`, `-key` and `-attempts` to answers.
    pub response_headers: bool,
    /// Tells Envoy's other filters what a request used.
    pub filter_state: bool,
    /// The session header that keeps a session on one key, in lower case.
    pub sticky: Option<String>,
    /// Largest request body in bytes; a larger one is refused with 413 before it is read.
    pub max_body: u64,
    /// What is not wrong but hardly meant, a sentence each: a pool or provider that nothing uses, one
    /// secret under two ids.
    pub warnings: Vec<String>,
}

impl Runtime {
    /// Drops what the attempt stage does not look at, which is most of it where there are many consumers.
    pub fn keep_for_attempts(&mut self) {
        self.consumers.keep_own_keys();
        (self.admin, self.client_address) = (Vec::new(), None);
    }

    /// Whether a consumer may use any key at a provider.
    pub fn has_keys_for(&self, consumer: &Consumer, provider: ProviderIndex) -> bool {
        consumer.own_keys(provider).is_some()
            || self.providers.get(provider).is_some_and(|provider| !provider.levels.is_empty())
    }
}

#[derive(Debug)]
pub struct Provider {
    pub name: String,
    pub kind: &'static Kind,
    /// The Envoy cluster that a request is sent to.
    pub cluster: String,
    pub host: String,
    /// Without a trailing slash; may be empty.
    pub base_path: String,
    /// Of Azure.
    pub api_version: Option<ApiVersion>,
    /// What it takes in the client's own words.
    pub endpoints: Endpoints,
    /// Where to look for a key, best first: own keys by tier, then each pool's by tier. Empty where consumers
    /// bring all the keys.
    pub levels: Vec<Vec<KeyIndex>>,
    pub select: Select,
    pub rest: Rest,
    pub maintenance: Vec<Window>,
    /// Whether streams get `stream_options.include_usage` injected.
    pub include_usage: bool,
    /// Record of the provider itself in shared data (overload).
    pub slot: String,
    /// Record of what was used of the provider.
    pub usage_slot: String,
    /// What the configuration says of its prices.
    pub prices: Prices,
}

impl Provider {
    /// The path and query of a call, below the base path; `None`: it has none.
    pub fn path(&self, call: &Call<'_>) -> Option<Cow<'static, str>> {
        let path = self.kind.format.path(call)?;
        match &self.api_version {
            Some(version) => version.path(&path, call.model).map(Cow::Owned),
            None => Some(path),
        }
    }

    /// What it takes for a model that it calls so.
    pub fn price(&self, model: &str) -> Option<&Price> {
        self.prices.find(self.kind.name, model)
    }

    /// How it takes what clients send to an endpoint; `None`: not at all.
    pub fn way(&self, endpoint: Endpoint) -> Option<Way> {
        if self.endpoints.has(endpoint) {
            return Some(Way::Native);
        }
        // Another API is translated to chat completions, as far as the service has those.
        let lacks_chat =
            self.kind.format == Format::OpenAi && !self.endpoints.has(Endpoint::ChatCompletions);
        (self.kind.format.translates(endpoint) && !lacks_chat).then_some(Way::Translated)
    }
}

#[derive(Debug)]
pub struct Key {
    /// As configured, unique within its owner.
    pub id: String,
    /// `openai/main-1`, `shared/shared-1` or, of a consumer, `acme/openai/main-1`: how the key is spoken of, and
    /// unique in the document.
    pub name: String,
    pub secret: Secret,
    /// SHA-256 of the secret, first eight bytes; 0 while it is unknown (a secret by header).
    pub fingerprint: u64,
    /// At least 1.
    pub weight: u32,
    pub tier: u32,
    pub limits: Vec<Limit>,
    pub valid: Window,
    /// Record of the key alone: refusal, own limits.
    pub slot: String,
    /// Record of what keys of one account share: rest, headroom. The same as `slot` where the key is alone.
    pub group_slot: String,
    /// Record of what was used of the key.
    pub usage_slot: String,
}

/// From `from` (inclusive) to `until` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from: UnixTime,
    pub until: UnixTime,
}

impl Provider {
    /// The end of the maintenance that it is in; windows that touch are one.
    pub fn maintained_until(&self, now: UnixTime) -> Option<UnixTime> {
        let mut end = now;
        while let Some(window) = self.maintenance.iter().find(|window| window.contains(end)) {
            end = window.until;
        }
        (end > now).then_some(end)
    }
}

impl Window {
    pub const ALWAYS: Self = Self { from: UnixTime(0), until: UnixTime::NEVER };

    /// `None` where it would be empty; an end that is left out is open.
    pub(crate) fn between(from: Option<UnixTime>, until: Option<UnixTime>) -> Option<Self> {
        let from = from.unwrap_or(Self::ALWAYS.from);
        let until = until.unwrap_or(Self::ALWAYS.until);
        (from < until).then_some(Self { from, until })
    }

    pub fn contains(&self, now: UnixTime) -> bool {
        self.from <= now && now < self.until
    }
}

/// Where a secret is. Its `Debug` never shows one.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Value(String),
    /// The request header that Envoy's `credential_injector` fills in the upstream chain, in lower case.
    Header(String),
    /// There is none that Keyward knows of.
    None,
}

impl Secret {
    pub const fn is_by_header(&self) -> bool {
        matches!(self, Self::Header(_))
    }

    /// Whether the credential that is sent is not the configuration's: it may change at any time.
    pub const fn is_from_elsewhere(&self) -> bool {
        matches!(self, Self::Header(_) | Self::None)
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(***)"),
            Self::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Self::None => f.write_str("None"),
        }
    }
}

/// SHA-256 of a key that somebody presents to Keyward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// The first eight bytes: an address, not a proof.
    pub fn prefix(&self) -> u64 {
        self.0.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// In constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// First eight bytes of the SHA-256 of a secret: tells one secret from another, not what it is.
pub fn fingerprint(secret: &[u8]) -> u64 {
    KeyDigest::of(secret).prefix()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Select {
    /// Most rest of own limits and reported remaining counts.
    #[default]
    Headroom,
    /// At random in proportion to the weights.
    Weighted,
    RoundRobin,
    /// Fewest requests lately, in proportion to the weights.
    LeastUsed,
}

impl FromText for Select {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        const WORDS: [(&str, Select); 4] = [
            ("headroom", Select::Headroom),
            ("weighted", Select::Weighted),
            ("round_robin", Select::RoundRobin),
            ("least_used", Select::LeastUsed),
        ];
        word(text, &WORDS)
    }
}

fields! {
    /// How long a key or provider rests where the provider gives no hint, and at the most where it does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Rest {
        /// First back-off after a rate limit without a hint.
        pub default: Duration = Rest::default().default,
        /// Longest back-off, and what a hint is capped to.
        pub max: Duration = Rest::default().max,
        /// After the provider refused the key.
        pub rejected: Duration = Rest::default().rejected,
        pub out_of_quota: Duration = Rest::default().out_of_quota,
        /// Of the provider, not of a key.
        pub overloaded: Duration = Rest::default().overloaded,
    } => Rest::in_order
}

impl Rest {
    fn in_order(self, location: Place<'_>) -> Result<Self, Errors> {
        if self.default <= self.max {
            return Ok(self);
        }
        let message = format!("shorter than rest.default, {:?}", self.default);
        Err(Errors::one(location.member("max"), message))
    }
}

impl Default for Rest {
    fn default() -> Self {
        const HOUR: u64 = 60 * 60;
        Self {
            default: Duration::from_secs(30),
            max: Duration::from_secs(HOUR),
            rejected: Duration::from_secs(24 * HOUR),
            out_of_quota: Duration::from_secs(HOUR),
            overloaded: Duration::from_secs(5),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// Attempts of one request, the first included.
    pub max_attempts: u32,
    /// Until the first event of an attempt's answer; `None`: no bound.
    pub per_try_timeout: Option<Duration>,
    /// No attempt starts later than this after the request.
    pub budget: Duration,
}

impl Decode for Failover {
    fn decode(value: &Value, place: Place<'_>) -> Result<Self, Errors> {
        fields! {
            struct Written {
                max_attempts: Whole<1, 32> = Whole(Failover::default().max_attempts.into()),
                per_try_timeout: Option<Duration> = None,
                budget: Duration = Failover::default().budget,
            }
        }
        let written = Written::decode(value, place)?;
        Ok(Self {
            max_attempts: written.max_attempts.to_u32(),
            per_try_timeout: written.per_try_timeout,
            budget: written.budget,
        })
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self { max_attempts: 8, per_try_timeout: None, budget: Duration::from_secs(60) }
    }
}

/// What the `standalone` stage may do; the other stages always see the body first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Decides when the headers arrive: works without `allow_on_headers_stop_iteration`.
    #[default]
    Headers,
    /// Holds the headers until the body is there: needs that flag.
    Body,
}

impl FromText for Mode {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        word(text, &[("headers", Self::Headers), ("body", Self::Body)])
    }
}

/// Model names to targets: exact names first, then the longest literal prefix.
#[derive(Debug, Default)]
pub struct Models {
    pub list: Vec<Model>,
    /// Index into `list` by exact name.
    pub exact: std::collections::HashMap<String, usize>,
    /// Literal prefix and index into `list`, longest first.
    pub prefixes: Vec<(String, usize)>,
}

#[derive(Debug)]
pub struct Model {
    /// As configured, `*` included.
    pub name: String,
    /// In order of preference, never empty.
    pub targets: Vec<Target>,
    pub limits: Limits,
    /// Record of what was used of the model.
    pub usage_slot: String,
}

#[derive(Debug)]
pub struct Target {
    pub provider: ProviderIndex,
    /// What the provider calls it; `None`: as the client does.
    pub model: Option<String>,
}

impl Models {
    pub fn find(&self, name: &str) -> Option<&Model> {
        let index = self.exact.get(name).copied().or_else(|| {
            let prefix = self.prefixes.iter().find(|(p, _)| name.starts_with(p.as_str()));
            prefix.map(|(_, index)| *index)
        })?;
        self.list.get(index)
    }
}
