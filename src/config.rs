//! The configuration as the operator writes it: fields, defaults, units, bounds.
//!
//! Strict: an unknown field is an error, and so is a second member of the same name. All errors are
//! collected ([`Config::errors`]), and what could be read is kept beside them, so that
//! [`Runtime::compile`](crate::runtime::Runtime::compile) can check the rest of a document that has a
//! typing error somewhere. A field that is left out has its default; `null` counts as left out at the top
//! level and for fields without a default of their own.

pub mod addresses;
pub mod consumers;
pub mod decode;
pub mod error;
pub mod limits;
pub mod prices;
pub mod rules;
pub mod secrets;
pub mod source;
pub mod temporary;
pub mod values;

use serde_json::{Map, Value};

use self::addresses::ClientAddress;
use self::consumers::{Anonymous, Consumer, Role, Source, Team};
use self::decode::{Decode, FromText as _, Place, fields};
use self::error::{Errors, Invalid, unknown_field, wrong_kind};
use self::prices::{MAX_PRICES, Price};
use self::secrets::{PresentedKey, SecretSource};
use self::source::Document;
use self::temporary::{AccessRequests, TemporaryKeys};
use self::values::{
    BasePath, Bytes, Cluster, HeaderName, Host, List, Location, ModelPattern, Name, Project,
    TargetModel, Whole, check_length,
};
use crate::consumer::rule::OPERATIONS;
use crate::endpoint::Operation;
use crate::limit::Limits;
use crate::provider::Kind;
use crate::providers::azure::ApiVersion;
use crate::runtime::{Failover, Mode, Rest, Select, Window};
use crate::time::UnixTime;

/// Providers of a document, and also its key pools.
pub const MAX_PROVIDERS: usize = 64;
/// Keys of all providers and pools together.
pub const MAX_KEYS: usize = 1024;
pub const MAX_MODELS: usize = 1024;
pub const MAX_TARGETS: usize = 16;
pub const MAX_CONSUMERS: usize = 20_000;
pub const MAX_TEAMS: usize = 1024;
pub const MAX_ROLES: usize = 256;
const MAX_SOURCES: usize = 8;
const MAX_WINDOWS: usize = 64;
const MAX_ADMIN_KEYS: usize = 64;
/// Largest weight; those of all keys together fit 32 bits.
const MAX_WEIGHT: u64 = 1_000_000;
const MAX_TIER: u64 = 1_000_000;

#[derive(Debug, Default)]
pub struct Config {
    /// At least one.
    pub providers: Vec<Entry<Provider>>,
    pub key_pools: Vec<Entry<KeyPool>>,
    /// At least one; one may be [`Entry::Auto`].
    pub models: Vec<Entry<Model>>,
    pub consumers: Vec<Entry<Consumer>>,
    pub teams: Vec<Entry<Team>>,
    pub roles: Vec<Entry<Role>>,
    /// What models cost, instead of and besides the built-in table.
    pub prices: Vec<Entry<Price>>,
    /// Where an identity is looked for, the first that a request has decides; default: in a key, if any consumer
    /// has one.
    pub identify: Option<List<Source, 0, MAX_SOURCES>>,
    pub anonymous: Anonymous,
    /// Limits and blocks of client addresses.
    pub client_address: Option<ClientAddress>,
    pub temporary_keys: Option<TemporaryKeys>,
    pub access: Option<AccessRequests>,
    /// Who may read the status.
    pub admin: Admin,
    pub failover: Failover,
    /// What the `standalone` stage may do.
    pub mode: Mode,
    /// Adds `x-keyward-provider`, `-model`, `-key` and `-attempts` to answers; default: no.
    pub response_headers: bool,
    /// Writes what a request used as filter state, for Envoy's `ratelimit` filter and access logs; default: no.
    pub filter_state: bool,
    pub sticky: Option<Sticky>,
    /// Largest request body; default: 32 MiB.
    pub max_body: Bytes,
    /// What is wrong with the document so far.
    pub errors: Errors,
}

/// An element of one of the document's lists.
#[derive(Debug)]
pub enum Entry<T> {
    Read(T),
    /// The word `auto`, among models: every known model of every provider.
    Auto,
    /// In [`Config::errors`]. Its name is kept: references to it are not wrong.
    Broken {
        name: Option<Name>,
    },
}

fields! {
    #[derive(Debug)]
    pub struct Provider {
        /// Also the value of the endpoint metadata `keyward.provider`.
        pub name: Name,
        /// A row of the provider table; default: the name.
        pub kind: Option<&'static Kind> = None,
        /// Envoy cluster; default: the name.
        pub cluster: Option<Cluster> = None,
        /// Default: the row's.
        pub host: Option<Host> = None,
        /// Default: the row's.
        pub base_path: Option<BasePath> = None,
        /// Of Google Cloud: what host and base path of the kinds of Vertex AI are made of.
        pub project: Option<Project> = None,
        pub location: Option<Location> = None,
        pub keys: List<Key, 0, MAX_KEYS> = List::default(),
        /// Shared pools to use after its own keys, in order.
        pub pools: List<Name, 0, MAX_PROVIDERS> = List::default(),
        pub select: Select = Select::default(),
        pub rest: Rest = Rest::default(),
        /// When the provider is known to be away.
        pub maintenance: List<Window, 0, MAX_WINDOWS> = List::default(),
        /// Whether streams get `stream_options.include_usage` injected; default: where the row's service
        /// understands it.
        pub include_usage: Option<bool> = None,
        /// Of Azure: a date chooses the paths with a deployment; default: the v1 API.
        pub api_version: Option<ApiVersion> = None,
        /// What it takes in the client's own words; default: what the row's service documents.
        pub endpoints: Option<List<Operation, 1, { OPERATIONS.len() }>> = None,
        /// What it serves, for [`Entry::Auto`]; default: what is known of the row's service.
        pub models: Option<List<ModelPattern, 1, MAX_MODELS>> = None,
    }
}

fields! {
    #[derive(Debug)]
    pub struct KeyPool {
        pub name: Name,
        pub keys: List<Key, 1, MAX_KEYS>,
    }
}

fields! {
    #[derive(Debug)]
    pub struct Key {
        /// How the key is spoken of; unique in its provider or pool.
        pub id: Name,
        pub secret: SecretSource,
        /// Share of the traffic within the tier.
        pub weight: Whole<1, MAX_WEIGHT> = Whole(1),
        /// A tier is used when all lower ones are exhausted.
        pub tier: Whole<0, MAX_TIER> = Whole(0),
        /// Keys of one account at the provider rest together; default: the key alone.
        pub quota_group: Option<Name> = None,
        /// The key's own limits, without `concurrency`.
        pub limits: Limits = Limits::default(),
        /// Default: always.
        pub valid_from: Option<UnixTime> = None,
        /// Default: for ever.
        pub valid_until: Option<UnixTime> = None,
    } => Key::in_order
}

impl Key {
    pub fn valid(&self) -> Window {
        Window {
            from: self.valid_from.unwrap_or(Window::ALWAYS.from),
            until: self.valid_until.unwrap_or(Window::ALWAYS.until),
        }
    }

    fn in_order(self, location: Place<'_>) -> Result<Self, Errors> {
        let valid = self.valid();
        let mut errors = Errors::default();
        if valid.from >= valid.until {
            errors.push(location.member("valid_until"), "not later than valid_from");
        }
        if self.limits.concurrency.is_some() {
            errors.push(location.member("limits"), "a provider key has no concurrency limit");
        }
        if errors.0.is_empty() { Ok(self) } else { Err(errors) }
    }
}

fields! {
    #[derive(Debug)]
    pub struct Model {
        /// The longest literal prefix wins, an exact name before any.
        pub name: ModelPattern,
        /// In order of preference.
        pub targets: List<Target, 1, MAX_TARGETS>,
        /// Of all its callers together.
        pub limits: Limits = Limits::default(),
    }
}

fields! {
    #[derive(Debug)]
    pub struct Target {
        pub provider: Name,
        /// Default: the name that the client asks for.
        pub model: Option<TargetModel> = None,
    }
}

fields! {
    #[derive(Debug, Default)]
    pub struct Admin {
        pub keys: List<PresentedKey, 0, MAX_ADMIN_KEYS> = List::default(),
    }
}

fields! {
    #[derive(Debug)]
    pub struct Sticky {
        /// The header that names a session.
        pub header: HeaderName,
    }
}

impl Config {
    /// Reads the document as far as it can be read; the rest is in [`Config::errors`].
    pub fn decode(document: &Document) -> Self {
        let mut errors = document.errors.clone();
        let Some(members) = document.value.as_object() else {
            // Missing fields would only repeat it.
            let message = wrong_kind("an object", &document.value);
            errors.push(Place::Root, message);
            return Self { errors, ..Self::default() };
        };
        let mut top = Top { members, known: Vec::new(), errors };
        Self {
            providers: top.entries("providers", 1, MAX_PROVIDERS),
            key_pools: top.entries("key_pools", 0, MAX_PROVIDERS),
            models: top.models(),
            consumers: top.entries("consumers", 0, MAX_CONSUMERS),
            teams: top.entries("teams", 0, MAX_TEAMS),
            roles: top.entries("roles", 0, MAX_ROLES),
            prices: top.entries("prices", 0, MAX_PRICES),
            identify: top.field("identify"),
            anonymous: top.field("anonymous").unwrap_or_default(),
            client_address: top.field("client_address"),
            temporary_keys: top.field("temporary_keys"),
            access: top.field("access"),
            admin: top.field("admin").unwrap_or_default(),
            failover: top.field("failover").unwrap_or_default(),
            mode: top.field("mode").unwrap_or_default(),
            response_headers: top.field("response_headers").unwrap_or_default(),
            filter_state: top.field("filter_state").unwrap_or_default(),
            sticky: top.field("sticky"),
            max_body: top.field("max_body").unwrap_or_default(),
            errors: top.finish(),
        }
    }
}

/// Reads the outermost object member by member; `derive` would give up the whole of it for one error.
struct Top<'d> {
    members: &'d Map<String, Value>,
    /// The fields asked for so far.
    known: Vec<&'static str>,
    errors: Errors,
}

impl Top<'_> {
    fn field<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        self.read(value, Place::Root.member(name))
    }

    /// A list like the others, of which an element may be `auto`, or `auto` alone.
    fn models(&mut self) -> Vec<Entry<Model>> {
        const NAME: &str = "models";
        let is_auto = |value: &Value| value.as_str() == Some("auto");
        let location = Place::Root.member(NAME);
        match self.members.get(NAME) {
            Some(word @ Value::String(_)) => {
                self.known.push(NAME);
                if !is_auto(word) {
                    self.errors.push(location, "expected a list of models, or the word auto");
                }
                return vec![Entry::Auto];
            }
            Some(Value::Array(elements)) => {
                for (index, element) in elements.iter().enumerate() {
                    if element.is_string() && !is_auto(element) {
                        let message = "expected a model, or the word auto";
                        self.errors.push(location.element(index), message);
                    }
                }
            }
            _ => {}
        }
        let is_auto = Value::is_string;
        let models = self.entries_of(NAME, 1, MAX_MODELS, is_auto);
        let autos = || (0..).zip(&models).filter(|(_, entry)| matches!(entry, Entry::Auto));
        if let [(first, _), (second, _), ..] = autos().collect::<Vec<_>>()[..] {
            let message = format!("auto is also models[{first}]");
            self.errors.push(location.element(second), message);
        }
        models
    }

    fn entries<T: Decode>(&mut self, name: &'static str, min: usize, max: usize) -> Vec<Entry<T>> {
        self.entries_of(name, min, max, |_| false)
    }

    fn entries_of<T: Decode>(
        &mut self,
        name: &'static str,
        min: usize,
        max: usize,
        is_auto: impl Fn(&Value) -> bool,
    ) -> Vec<Entry<T>> {
        self.known.push(name);
        let location = Place::Root.member(name);
        let elements = match self.members.get(name) {
            Some(Value::Array(elements)) => elements,
            None | Some(Value::Null) if min == 0 => return Vec::new(),
            None => {
                self.errors.push(location, "missing");
                return Vec::new();
            }
            Some(other) => {
                self.errors.push(location, wrong_kind("an array", other));
                return Vec::new();
            }
        };
        let broken = |element: &Value| {
            let name = element.get("name").and_then(Value::as_str);
            Entry::Broken { name: name.and_then(|name| Name::from_text(name).ok()) }
        };
        if let Err(Invalid(message)) = check_length(elements.len(), min, max) {
            self.errors.push(location, message);
            return elements.iter().map(broken).collect();
        }
        let read = |(index, element): (usize, &Value)| {
            if is_auto(element) {
                return Entry::Auto;
            }
            let read = self.read(element, location.element(index));
            read.map_or_else(|| broken(element), Entry::Read)
        };
        elements.iter().enumerate().map(read).collect()
    }

    fn read<T: Decode>(&mut self, value: &Value, location: Place<'_>) -> Option<T> {
        T::decode(value, location).map_err(|errors| self.errors.0.extend(errors.0)).ok()
    }

    fn finish(mut self) -> Errors {
        for name in self.members.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let message = unknown_field(&self.known);
            self.errors.push(Place::Root.member(name), message);
        }
        self.errors
    }
}
