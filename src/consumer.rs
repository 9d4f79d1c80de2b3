//! Who calls, and what they may.
//!
//! [`identify`] finds the consumer of a request, [`access`] decides what it may do by the [`rule`]s of consumer, team
//! and roles, and [`route`] reads how a route narrows that. Finding a consumer costs the same however many there are.

pub mod access;
pub mod cidr;
pub mod hours;
pub mod identify;
pub mod route;
pub mod rule;

use core::time::Duration;
use std::collections::HashMap;

use self::rule::Rules;
use crate::limit::Limits;
use crate::runtime::{KeyDigest, KeyIndex, ProviderIndex, SLOTS, Window};
use crate::sorted::by_key;
use crate::time::UnixTime;
use crate::token::Signing;
use crate::totp;

/// Index into [`Consumers::list`].
pub type ConsumerIndex = usize;

/// All that may call.
#[derive(Debug, Default)]
pub struct Consumers {
    pub list: Vec<Consumer>,
    pub teams: Vec<Team>,
    pub roles: Vec<Role>,
    /// Whom a request counts for that brings no identity at all; `None`: such requests are refused.
    pub anonymous: Option<ConsumerIndex>,
    /// Where an identity is looked for: the first that a request has decides.
    pub sources: Vec<Source>,
    pub asks: Asks,
    /// Issues and verifies temporary keys; `None`: there are none.
    pub signing: Option<Signing>,
    /// Longest life of what is granted to those who ask for access; `None`: nobody may ask.
    pub access_ttl: Option<Duration>,
    keys: Keys,
    /// By name, and by the other texts that name it.
    names: HashMap<String, ConsumerIndex>,
    has_own_keys: bool,
}

#[derive(Debug)]
pub struct Consumer {
    pub name: String,
    pub enabled: bool,
    /// Index into [`Consumers::teams`].
    pub team: Option<usize>,
    /// Indices into [`Consumers::roles`].
    pub roles: Vec<usize>,
    pub rules: Rules,
    pub limits: Limits,
    pub own_keys: Vec<OwnKeys>,
    /// Where issuing a temporary key needs a code.
    pub second_factor: Option<totp::Secret>,
}

#[derive(Debug)]
pub struct Team {
    pub name: String,
    pub enabled: bool,
    pub limits: Limits,
    pub roles: Vec<usize>,
    pub rules: Rules,
}

/// A named set of permissions.
#[derive(Debug)]
pub struct Role {
    pub name: String,
    pub rules: Rules,
}

/// A consumer's own keys at one provider.
#[derive(Debug)]
pub struct OwnKeys {
    pub provider: ProviderIndex,
    /// By tier, the lowest first.
    pub levels: Vec<Vec<KeyIndex>>,
    /// Whether the provider's other keys follow when these are exhausted.
    pub shared: bool,
    /// Where the records of turns among them start.
    pub turn_slot: String,
}

/// Where an identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A key in one of the headers that carry credentials.
    Key,
    /// A header that one of Envoy's filters sets, in lower case.
    Header(String),
    /// Index into [`Asks::properties`].
    Property(usize),
}

/// What the host has to tell of each request, because a rule or a source asks for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asks {
    pub address: bool,
    pub route: bool,
    /// In lower case.
    pub headers: Vec<String>,
    /// Paths of attributes of Envoy's.
    pub properties: Vec<Vec<String>>,
}

impl Consumers {
    pub fn new(list: Vec<Consumer>, teams: Vec<Team>, roles: Vec<Role>) -> Self {
        let names = list.iter().enumerate().map(|(index, c)| (c.name.clone(), index)).collect();
        let has_own_keys = list.iter().any(|consumer| !consumer.own_keys.is_empty());
        Self { list, teams, roles, names, has_own_keys, ..Self::default() }
    }

    /// Lets a consumer be known by another name, such as the subject of its certificate.
    pub fn alias(&mut self, name: String, consumer: ConsumerIndex) {
        self.names.insert(name, consumer);
    }

    /// Drops all but what keys are claimed by: consumers that bring some of their own.
    pub fn keep_own_keys(&mut self) {
        let list = core::mem::take(&mut self.list).into_iter();
        let list = list.filter(|consumer| !consumer.own_keys.is_empty()).collect();
        *self = Self::new(list, Vec::new(), Vec::new());
    }

    pub fn set_keys(&mut self, keys: Vec<ConsumerKey>) {
        self.keys = Keys::new(keys);
    }

    pub fn get(&self, index: ConsumerIndex) -> Option<&Consumer> {
        self.list.get(index)
    }

    pub fn find(&self, name: &str) -> Option<ConsumerIndex> {
        self.names.get(name).copied()
    }

    /// By its own name, not by another that it is known by.
    pub fn named(&self, name: &str) -> Option<&Consumer> {
        self.get(self.position(name)?)
    }

    /// As [`Self::named`].
    pub fn position(&self, name: &str) -> Option<ConsumerIndex> {
        let index = self.find(name)?;
        self.get(index).filter(|consumer| consumer.name == name).map(|_| index)
    }

    pub fn team_of(&self, consumer: &Consumer) -> Option<&Team> {
        self.teams.get(consumer.team?)
    }

    /// The keys that the consumer of that name has of its own at a provider.
    pub fn own_keys(&self, name: &str, provider: ProviderIndex) -> Option<&OwnKeys> {
        if !self.has_own_keys {
            return None;
        }
        self.named(name)?.own_keys(provider)
    }

    /// Whether a header tells who calls: it goes no further.
    pub fn is_identity_header(&self, name: &str) -> bool {
        self.sources.iter().any(|source| matches!(source, Source::Header(header) if header == name))
    }

    pub fn has_keys(&self) -> bool {
        !self.keys.sorted.is_empty()
    }

    pub(crate) fn find_key(&self, presented: &[u8]) -> Option<&ConsumerKey> {
        self.keys.find(&KeyDigest::of(presented))
    }
}

impl Consumer {
    pub fn own_keys(&self, provider: ProviderIndex) -> Option<&OwnKeys> {
        self.own_keys.iter().find(|own| own.provider == provider)
    }

    /// Record of what was used by it, in shared data.
    pub fn usage_slot(&self) -> String {
        usage_slot("consumer", &self.name)
    }

    /// Record of the codes that it has presented.
    pub fn second_factor_slot(&self) -> String {
        format!("{SLOTS}/totp/{}", self.name)
    }
}

impl Team {
    /// Record of what was used by all of its consumers, in shared data.
    pub fn usage_slot(&self) -> String {
        usage_slot("team", &self.name)
    }
}

/// Records of what was used by a consumer and by its team, if it has one.
pub fn usage_slots<'a>(consumer: &'a str, team: &'a str) -> impl Iterator<Item = String> + 'a {
    let named = [("consumer", consumer), ("team", team)].into_iter();
    let named = named.filter(|(_, name)| !name.is_empty());
    named.map(|(kind, name)| usage_slot(kind, name))
}

fn usage_slot(kind: &str, name: &str) -> String {
    [SLOTS, "/usage/", kind, "/", name].concat()
}

/// A key that a consumer presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerKey {
    pub digest: KeyDigest,
    pub consumer: ConsumerIndex,
    pub enabled: bool,
    pub valid: Window,
}

impl ConsumerKey {
    pub fn is_usable(&self, now: UnixTime) -> bool {
        self.enabled && self.valid.contains(now)
    }
}

/// Keys by the SHA-256 of what is presented.
#[derive(Debug, Default)]
struct Keys {
    /// By digest, so that equal prefixes are neighbours.
    sorted: Vec<ConsumerKey>,
    /// First eight bytes of a digest to the first key that has them. Whoever presents a key cannot choose them,
    /// so the time that this takes tells nothing; the rest is compared in constant time.
    first: HashMap<u64, usize>,
}

impl Keys {
    fn new(mut sorted: Vec<ConsumerKey>) -> Self {
        by_key(&mut sorted, |key| key.digest.0);
        let mut first = HashMap::with_capacity(sorted.len());
        for (index, key) in sorted.iter().enumerate() {
            first.entry(key.digest.prefix()).or_insert(index);
        }
        Self { sorted, first }
    }

    fn find(&self, digest: &KeyDigest) -> Option<&ConsumerKey> {
        let prefix = digest.prefix();
        let neighbours = self.sorted.get(*self.first.get(&prefix)?..)?;
        let same = neighbours.iter().take_while(|key| key.digest.prefix() == prefix);
        same.fold(None, |found, key| if key.digest.matches(digest) { Some(key) } else { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digest: [u8; 32], consumer: usize) -> ConsumerKey {
        let digest = KeyDigest(digest);
        ConsumerKey { digest, consumer, enabled: true, valid: Window::ALWAYS }
    }

    #[test]
    fn a_key_is_found_by_one_look_at_a_map() {
        let keys = Keys::new(
            (0..20_000).map(|n: usize| key(KeyDigest::of(n.to_string().as_bytes()).0, n)).collect(),
        );
        for n in [0, 1, 9_999, 19_999] {
            let found = keys.find(&KeyDigest::of(n.to_string().as_bytes()));
            assert_eq!(found.map(|key| key.consumer), Some(n));
        }
        assert_eq!(keys.find(&KeyDigest::of(b"20000")), None);
        assert_eq!(
            keys.first.len(),
            keys.sorted.len(),
            "nobody has a neighbour to be compared with"
        );
    }

    #[test]
    fn all_of_a_digest_has_to_match() {
        let digest = |last| core::array::from_fn(|index| if index == 31 { last } else { 7 });
        let keys = Keys::new(vec![key(digest(2), 2), key(digest(0), 0), key([8; 32], 8)]);
        let find = |digest| keys.find(&KeyDigest(digest)).map(|key| key.consumer);
        assert_eq!(find(digest(2)), Some(2));
        assert_eq!(find(digest(0)), Some(0));
        assert_eq!(find(digest(1)), None);
        assert_eq!(find([8; 32]), Some(8));
        assert_eq!(find([9; 32]), None);
    }
}
