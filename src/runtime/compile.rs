//! From the document as written to the configuration as used.

mod auto;
mod consumers;
mod costs;
mod environment;
mod temporary;

use std::collections::HashMap;

use self::environment::unread_variables;
use super::{
    Key, KeyDigest, KeyIndex, Model, Models, Provider, ProviderIndex, Runtime, SLOTS, Secret,
    Target, fingerprint,
};
use crate::config::addresses::ClientAddress;
use crate::config::decode::Place;
use crate::config::error::{ConfigError, Errors, LoadError, known, quoted};
use crate::config::secrets::{EnvironmentName, SecretSource};
use crate::config::source::Document;
use crate::config::{self, Config, Entry, MAX_KEYS};
use crate::endpoint::{Endpoints, Operation};
use crate::formats::Format;
use crate::price::Prices;
use crate::provider::{self, Kind};
use crate::providers::azure::ApiVersion;
use crate::providers::vertex;
use crate::sorted;

const ROOT: Place<'static> = Place::Root;
/// Bytes of a secret: it travels in one header.
const MAX_SECRET: usize = 16 << 10;

/// An environment variable by name.
type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The runtime for a configuration as the host hands it over.
///
/// # Errors
/// Everything that is wrong with it, in document order.
pub fn load(bytes: &[u8], environment: Environment<'_>) -> Result<Runtime, LoadError> {
    let document = Document::read(bytes)?;
    let config = Config::decode(&document);
    // With many consumers it takes four times the memory of all that is made of it: it makes room for that.
    drop(document);
    Runtime::compile(config, environment).map_err(|errors| {
        let document = Document::read(bytes).unwrap_or_default();
        let mut errors = Errors(errors);
        errors.add_news(unread_variables(&document.value, environment));
        LoadError::new(errors.0, &document.value)
    })
}

impl Runtime {
    /// Resolves names, reads secrets and names the records of shared data.
    ///
    /// # Errors
    /// What [`Config::decode`] found, and what is wrong between the parts that it could read.
    pub fn compile(
        mut config: Config,
        environment: Environment<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut compiler = Compiler::new(environment, core::mem::take(&mut config.errors));
        compiler.check_names(&config.providers, &config.key_pools);
        compiler.check_unique("models", &mut config.models.iter().map(Named::name));
        compiler.check_unique("consumers", &mut config.consumers.iter().map(Named::name));
        compiler.check_unique("teams", &mut config.teams.iter().map(Named::name));
        compiler.check_unique("roles", &mut config.roles.iter().map(Named::name));
        compiler.check_key_count(&config);

        let admin = compiler.admin(&config.admin);
        let pools = compiler.pools(&config.key_pools);
        let brought = brought(&config.consumers);
        let mut providers = compiler.providers(&config.providers, &pools, &brought);
        compiler.prices(&config, &mut providers);
        let mut models = compiler.models(&config.models, &config.providers);
        if config.models.iter().any(|entry| matches!(entry, Entry::Auto)) {
            compiler.auto_models(&mut models, &config.providers, &providers);
        }
        let mut consumers = compiler.consumers(&config, &admin);
        compiler.check_costs(&config, &providers, &models, &consumers);
        let client_address = config.client_address.take().map(ClientAddress::into_guard);
        consumers.asks.address |= client_address.is_some();
        compiler.warn_of_unused(&config, &models, &providers);
        compiler.warn_of_shared_secrets();

        if !compiler.errors.0.is_empty() {
            return Err(compiler.errors.0);
        }
        let keys_count_cost = compiler.keys_count_cost();
        Ok(Self {
            providers,
            keys_count_cost,
            keys: compiler.keys,
            models,
            admin,
            consumers,
            client_address,
            failover: config.failover,
            mode: config.mode,
            response_headers: config.response_headers,
            filter_state: config.filter_state,
            sticky: config.sticky.map(|sticky| sticky.header.0),
            max_body: config.max_body.0,
            warnings: compiler.warnings,
        })
    }
}

struct Compiler<'e> {
    environment: Environment<'e>,
    errors: Errors,
    keys: Vec<Key>,
    warnings: Vec<String>,
}

/// Where to look for a key, best first.
type Levels = Vec<Vec<KeyIndex>>;
/// The keys of pools by their names.
type Pools<'n> = Vec<(&'n str, Levels)>;

impl<'e> Compiler<'e> {
    const fn new(environment: Environment<'e>, errors: Errors) -> Self {
        Self { environment, errors, keys: Vec::new(), warnings: Vec::new() }
    }

    /// Keys of a provider and of a pool are both spoken of as `NAME/ID`, so these share their names.
    fn check_names(
        &mut self,
        providers: &[Entry<config::Provider>],
        pools: &[Entry<config::KeyPool>],
    ) {
        self.check_unique("providers", &mut providers.iter().map(Named::name));
        self.check_unique("key_pools", &mut pools.iter().map(Named::name));
        for (index, name) in pools.iter().map(Named::name).enumerate() {
            let first = name.and_then(|n| providers.iter().position(|p| p.name() == Some(n)));
            if let (Some(name), Some(first)) = (name, first) {
                let message = format!("{} is also the name of providers[{first}]", quoted(name));
                let pools = ROOT.member("key_pools");
                self.errors.push(pools.element(index).member("name"), message);
            }
        }
    }

    fn check_unique(
        &mut self,
        section: &'static str,
        names: &mut dyn Iterator<Item = Option<&str>>,
    ) {
        let mut seen = Positions::default();
        for (index, name) in names.enumerate() {
            let Some(name) = name else { continue };
            if let Some(first) = seen.note(name, index) {
                let message = format!("{} is also the name of {section}[{first}]", quoted(name));
                let location = ROOT.member(section);
                self.errors.push(location.element(index).member("name"), message);
            }
        }
    }

    fn check_key_count(&mut self, config: &Config) {
        let own = config.providers.iter().filter_map(Entry::read).map(|p| p.keys.0.len());
        let shared = config.key_pools.iter().filter_map(Entry::read).map(|pool| pool.keys.0.len());
        let consumers = config.consumers.iter().filter_map(Entry::read);
        let brought = consumers.flat_map(|c| &c.provider_keys.0).map(|own| own.keys.0.len());
        let count: usize = own.chain(shared).chain(brought).sum();
        if count > MAX_KEYS {
            let message = format!(
                "{count} keys in all providers, key_pools and provider_keys; at most {MAX_KEYS}"
            );
            self.errors.push(ROOT, message);
        }
    }

    fn admin(&mut self, admin: &config::Admin) -> Vec<KeyDigest> {
        let keys = ROOT.member("admin");
        let keys = keys.member("keys");
        let mut digests = Vec::new();
        for (index, key) in admin.keys.0.iter().enumerate() {
            let location = keys.element(index);
            digests.extend(self.presented_key(key, location));
        }
        digests
    }

    /// The keys of each pool by tier. A broken pool has none, and is an error already.
    fn pools<'c>(&mut self, pools: &'c [Entry<config::KeyPool>]) -> Pools<'c> {
        let location = ROOT.member("key_pools");
        let mut compiled = Pools::new();
        for (index, entry) in pools.iter().enumerate() {
            let levels = entry.read().map_or_else(Levels::new, |pool| {
                self.keys(&Owner::Pool(&pool.name.0), &pool.keys.0, location.element(index))
            });
            compiled.extend(entry.name().map(|name| (name, levels)));
        }
        compiled
    }

    fn providers(
        &mut self,
        providers: &[Entry<config::Provider>],
        pools: &Pools<'_>,
        brought: &Positions<'_>,
    ) -> Vec<Provider> {
        let location = ROOT.member("providers");
        let mut compiled = Vec::new();
        for (index, entry) in providers.iter().enumerate() {
            let Some(provider) = entry.read() else { continue };
            compiled.extend(self.provider(provider, pools, brought, location.element(index)));
        }
        compiled
    }

    fn provider(
        &mut self,
        written: &config::Provider,
        pools: &Pools<'_>,
        brought: &Positions<'_>,
        location: Place<'_>,
    ) -> Option<Provider> {
        let name = written.name.0.as_str();
        let mut levels = self.keys(&Owner::Provider(name), &written.keys.0, location);
        levels.extend(self.shared_levels(&written.pools.0, pools, location));
        if written.keys.0.is_empty() && written.pools.0.is_empty() && !brought.contains(name) {
            self.errors.push(location, "has neither keys nor pools");
        }
        let Some(kind) = written.kind.or_else(|| provider::find(name)) else {
            let known = known(provider::names());
            let message =
                format!("{} is not a kind of provider, so set kind; {known}", quoted(name));
            self.errors.push(location.member("name"), message);
            return None;
        };
        let version = written.api_version.as_ref();
        if version.is_some() && !ApiVersion::is_for(kind) {
            let message = format!("the kind {} has no versions; azure has", kind.name);
            self.errors.push(location.member("api_version"), message);
        }
        let stream_options =
            kind.stream_options && version.is_none_or(ApiVersion::takes_stream_options);
        let (host, base_path) = self.address(written, kind, location);
        Some(Provider {
            name: name.to_owned(),
            kind,
            cluster: written.cluster.as_ref().map_or(name, |cluster| cluster.0.as_str()).to_owned(),
            host,
            base_path,
            api_version: version.cloned(),
            endpoints: self.endpoints(written, kind, location),
            levels,
            select: written.select,
            rest: written.rest,
            maintenance: written.maintenance.0.clone(),
            include_usage: written.include_usage.unwrap_or(stream_options),
            slot: format!("{SLOTS}/provider/{name}"),
            usage_slot: format!("{SLOTS}/usage/provider/{name}"),
            prices: Prices::default(),
        })
    }

    /// Host and base path: as written, or those of project and location, or the row's.
    fn address(
        &mut self,
        written: &config::Provider,
        kind: &Kind,
        location: Place<'_>,
    ) -> (String, String) {
        let in_project = kind.format.is_in_project();
        let project = written.project.as_ref().map(|project| project.0.as_str());
        let place = written.location.as_ref().map(|place| place.0.as_str());
        let (host, base_path) = (written.host.as_ref(), written.base_path.as_ref());
        let told = [
            ("project", project, base_path.is_none()),
            ("location", place, host.is_none() || base_path.is_none()),
        ];
        for (member, value, needed) in told {
            if in_project && needed && value.is_none() {
                let message = format!(
                    "missing; host and base path of the kind {} are made of project and location",
                    kind.name
                );
                self.errors.push(location.member(member), message);
            } else if !in_project && value.is_some() {
                let message = format!("the kind {} has none: it is of Vertex AI", kind.name);
                self.errors.push(location.member(member), message);
            }
        }
        let host = match (host, place) {
            (Some(host), _) => host.0.clone(),
            (None, Some(place)) if in_project => vertex::host(place),
            (None, _) => kind.host.to_owned(),
        };
        if host.is_empty() && !in_project {
            let message = format!("missing; the kind {} has none of its own", kind.name);
            self.errors.push(location.member("host"), message);
        }
        let base_path = match (base_path, project.zip(place)) {
            (Some(path), _) => path.0.clone(),
            (None, Some((project, place))) => vertex::base_path(project, place),
            (None, None) => {
                let version = written.api_version.as_ref();
                version.map_or(kind.base_path, ApiVersion::base_path).to_owned()
            }
        };
        (host, base_path)
    }

    fn endpoints(
        &mut self,
        written: &config::Provider,
        kind: &Kind,
        location: Place<'_>,
    ) -> Endpoints {
        let Some(operations) = &written.endpoints else {
            return written.api_version.as_ref().map_or(kind.endpoints, ApiVersion::endpoints);
        };
        let location = location.member("endpoints");
        if kind.format != Format::OpenAi {
            let message = format!("the kind {} has its own format and endpoints", kind.name);
            self.errors.push(location, message);
        }
        let mut endpoints = Endpoints::NONE;
        for (index, operation) in operations.0.iter().enumerate() {
            match operation {
                Operation::Api(endpoint) if endpoint.names_model() => {
                    let message = "only the kinds gemini and vertex have it";
                    self.errors.push(location.element(index), message);
                }
                Operation::Api(endpoint) => endpoints = endpoints.with(*endpoint),
                Operation::Models => {
                    let message = "models are listed from the configuration, not by providers";
                    self.errors.push(location.element(index), message);
                }
            }
        }
        endpoints
    }

    fn shared_levels(
        &mut self,
        names: &[config::values::Name],
        pools: &Pools<'_>,
        location: Place<'_>,
    ) -> Levels {
        let location = location.member("pools");
        let mut levels = Levels::new();
        for (index, name) in names.iter().enumerate() {
            let location = location.element(index);
            if names.iter().take(index).any(|earlier| earlier == name) {
                self.errors.push(location, format!("{} is listed twice", quoted(&name.0)));
            } else if let Some((_, shared)) = pools.iter().rfind(|(pool, _)| *pool == name.0) {
                levels.extend(shared.iter().cloned());
            } else {
                let mut pools: Vec<&str> = pools.iter().map(|(pool, _)| *pool).collect();
                sorted::by_key(&mut pools, |pool| *pool);
                let message = format!("{} is not a key pool; {}", quoted(&name.0), known(pools));
                self.errors.push(location, message);
            }
        }
        levels
    }

    /// Adds the keys of one owner; their indices by tier, the lowest first.
    fn keys(&mut self, owner: &Owner<'_>, keys: &[config::Key], location: Place<'_>) -> Levels {
        let location = location.member("keys");
        let mut seen = Positions::default();
        let mut tiers: Vec<(u32, Vec<KeyIndex>)> = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let at = location.element(index);
            if let Some(first) = seen.note(key.id.0.as_str(), index) {
                let message = format!("{} is also the id of keys[{first}]", quoted(&key.id.0));
                self.errors.push(at.member("id"), message);
            }
            let Some(secret) = self.secret(&key.secret, at) else { continue };
            let tier = key.tier.to_u32();
            match tiers.iter_mut().find(|(known, _)| *known == tier) {
                Some((_, level)) => level.push(self.keys.len()),
                None => tiers.push((tier, vec![self.keys.len()])),
            }
            self.keys.push(owner.key(key, secret));
        }
        sorted::by_key(&mut tiers, |(tier, _)| *tier);
        tiers.into_iter().map(|(_, level)| level).collect()
    }

    fn secret(&mut self, source: &SecretSource, location: Place<'_>) -> Option<Secret> {
        let location = location.member("secret");
        match source {
            SecretSource::None => return Some(Secret::None),
            SecretSource::Header(name) => return Some(Secret::Header(name.0.clone())),
            SecretSource::Environment(name) => {
                self.environment_secret(name, location.member("env"))
            }
            SecretSource::Inline(text) => self.header_secret(&text.0, location.member("inline")),
        }
        .map(Secret::Value)
    }

    fn environment_secret(
        &mut self,
        name: &EnvironmentName,
        location: Place<'_>,
    ) -> Option<String> {
        let Some(text) = (self.environment)(&name.0).filter(|text| !text.is_empty()) else {
            let message = format!(
                "environment variable {} is not set; list it in Envoy's \
                 environment_variables.host_env_keys",
                name.shown()
            );
            self.errors.push(location, message);
            return None;
        };
        self.header_secret(&text, location)
    }

    /// A secret without the line break that ends a file, if a header can carry it.
    fn header_secret(&mut self, text: &str, location: Place<'_>) -> Option<String> {
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            self.errors.push(location, "the secret is empty");
        } else if secret.len() > MAX_SECRET {
            self.errors.push(location, format!("the secret is longer than {MAX_SECRET} bytes"));
        } else if !secret.bytes().all(|b| b.is_ascii_graphic()) {
            self.errors.push(location, "the secret has other characters than visible ASCII");
        } else {
            return Some(secret.to_owned());
        }
        None
    }

    fn models(
        &mut self,
        models: &[Entry<config::Model>],
        providers: &[Entry<config::Provider>],
    ) -> Models {
        let names: Vec<&str> = providers.iter().filter_map(Named::name).collect();
        let location = ROOT.member("models");
        let mut compiled = Models::default();
        for (index, entry) in models.iter().enumerate() {
            let Some(model) = entry.read() else { continue };
            let name = model.name.0.as_str();
            let location = location.element(index);
            let place = compiled.list.len();
            match name.strip_suffix('*') {
                Some(prefix) => compiled.prefixes.push((prefix.to_owned(), place)),
                None => {
                    compiled.exact.insert(name.to_owned(), place);
                }
            }
            compiled.list.push(Model {
                name: name.to_owned(),
                targets: self.targets(&model.targets.0, &names, location),
                limits: model.limits.clone(),
                usage_slot: format!("{SLOTS}/usage/model/{name}"),
            });
        }
        sorted::by_key(&mut compiled.prefixes, |(prefix, _)| core::cmp::Reverse(prefix.len()));
        compiled
    }

    fn targets(
        &mut self,
        targets: &[config::Target],
        providers: &[&str],
        location: Place<'_>,
    ) -> Vec<Target> {
        let location = location.member("targets");
        let mut compiled = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let name = target.provider.0.as_str();
            let model = target.model.as_ref().map(|model| model.0.clone());
            // The index is right only where every provider compiles; all else is an error already.
            let provider: Option<ProviderIndex> = providers.iter().position(|known| *known == name);
            compiled.extend(provider.map(|provider| Target { provider, model }));
            // Where there are no providers at all, that is the error.
            if provider.is_none() && !providers.is_empty() {
                let known = known(providers.iter().copied());
                let message = format!("{} is not a provider; {known}", quoted(name));
                let location = location.element(index);
                self.errors.push(location.member("provider"), message);
            }
        }
        compiled
    }

    fn warn_of_unused(&mut self, config: &Config, models: &Models, compiled: &[Provider]) {
        let targets = models.list.iter().flat_map(|model| &model.targets);
        let targets = targets.filter_map(|target| compiled.get(target.provider));
        let targets = Positions::of(&mut targets.map(|provider| provider.name.as_str()));
        let providers = config.providers.iter().filter_map(Entry::read);
        let pools = providers.flat_map(|p| &p.pools.0);
        let pools = Positions::of(&mut pools.map(|pool| pool.0.as_str()));
        for name in config.providers.iter().filter_map(Named::name) {
            if !targets.contains(name) {
                self.warnings.push(format!("no model uses the provider {name}"));
            }
        }
        for name in config.key_pools.iter().filter_map(Named::name) {
            if !pools.contains(name) {
                self.warnings.push(format!("no provider uses the key pool {name}"));
            }
        }
    }

    /// Two records for one key at the provider: each rests on its own, so the other is tried in vain.
    fn warn_of_shared_secrets(&mut self) {
        let keys = self.keys.iter().enumerate();
        for (index, key) in keys.filter(|(_, key)| key.secret != Secret::None) {
            let earlier = self.keys.iter().take(index).find(|other| other.secret == key.secret);
            if let Some(other) = earlier {
                let names = (&other.name, &key.name);
                self.warnings.push(format!("{} and {} have the same secret", names.0, names.1));
            }
        }
    }
}

/// Providers that consumers bring keys for.
fn brought(consumers: &[Entry<config::consumers::Consumer>]) -> Positions<'_> {
    let keys = consumers.iter().filter_map(Entry::read).flat_map(|c| &c.provider_keys.0);
    Positions::of(&mut keys.map(|own| own.provider.0.as_str()))
}

/// Where a name came first. The one table of this module: another type of keys or values would be its code again.
#[derive(Default)]
struct Positions<'n>(HashMap<&'n str, usize>);

impl<'n> Positions<'n> {
    fn of(names: &mut dyn Iterator<Item = &'n str>) -> Self {
        let mut positions = Self::default();
        for (position, name) in names.enumerate() {
            positions.note(name, position);
        }
        positions
    }

    /// Where the name was before, if it was.
    fn note(&mut self, name: &'n str, position: usize) -> Option<usize> {
        let first = self.get(name);
        if first.is_none() {
            self.0.insert(name, position);
        }
        first
    }

    fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// Who has a key.
enum Owner<'n> {
    Provider(&'n str),
    Pool(&'n str),
    Consumer { consumer: &'n str, provider: &'n str },
}

impl Owner<'_> {
    fn key(&self, written: &config::Key, secret: Secret) -> Key {
        let (owner, name) = match self {
            Self::Provider(name) => (format!("provider:{name}"), (*name).to_owned()),
            Self::Pool(name) => (format!("pool:{name}"), (*name).to_owned()),
            Self::Consumer { consumer, provider } => {
                let name = format!("{consumer}/{provider}");
                (format!("consumer:{name}"), name)
            }
        };
        let id = written.id.0.as_str();
        let slot = format!("{SLOTS}/key/{owner}/{id}");
        let group_slot = match &written.quota_group {
            Some(group) => format!("{SLOTS}/group/{owner}/{}", group.0),
            None => slot.clone(),
        };
        Key {
            id: id.to_owned(),
            name: format!("{name}/{id}"),
            fingerprint: match &secret {
                Secret::Value(value) => fingerprint(value.as_bytes()),
                Secret::Header(_) | Secret::None => 0,
            },
            secret,
            weight: written.weight.to_u32(),
            tier: written.tier.to_u32(),
            limits: written.limits.list.clone(),
            valid: written.valid(),
            slot,
            group_slot,
            usage_slot: format!("{SLOTS}/usage/key/{owner}/{id}"),
        }
    }
}

/// What other parts of the document refer to by name.
trait Named {
    fn name(&self) -> Option<&str>;
}

macro_rules! named {
    ($($entry:ty),*) => {$(
        impl Named for Entry<$entry> {
            fn name(&self) -> Option<&str> {
                match self {
                    Self::Read(entry) => Some(&entry.name.0),
                    Self::Auto => None,
                    Self::Broken { name } => name.as_ref().map(|name| name.0.as_str()),
                }
            }
        }
    )*};
}

named!(
    config::Provider,
    config::KeyPool,
    config::Model,
    config::consumers::Consumer,
    config::consumers::Team,
    config::consumers::Role
);

impl<T> Entry<T> {
    fn read(&self) -> Option<&T> {
        match self {
            Self::Read(entry) => Some(entry),
            Self::Auto | Self::Broken { .. } => None,
        }
    }
}
