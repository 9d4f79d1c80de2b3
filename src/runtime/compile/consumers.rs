//! Consumers, teams and roles: names resolved, keys digested, what the host has to tell collected.

use std::collections::HashMap;

use crate::config::decode::Place;

use super::{Compiler, Entry, Named, Owner, Positions, ROOT};
use crate::config::Config;
use crate::config::consumers::{self as written, Anonymous};
use crate::config::error::{known, quoted};
use crate::config::rules as conditions;
use crate::config::secrets::PresentedKey;
use crate::config::values::Name;
use crate::consumer::identify::MAX_KEY;
use crate::consumer::rule::{HeaderRule, Pattern, Rule, Rules};
use crate::consumer::{
    Asks, Consumer, ConsumerIndex, ConsumerKey, Consumers, OwnKeys, Role, Source, Team,
};
use crate::runtime::{KeyDigest, SLOTS};

/// Names that a warning lists.
const LISTED: usize = 8;

/// What parts of consumers refer to.
struct References<'c> {
    providers: Names<'c>,
    roles: Names<'c>,
    teams: Names<'c>,
    /// Names of the roles that ask for a second factor, and of the teams that have one of them.
    asking_roles: Positions<'c>,
    asking_teams: Positions<'c>,
}

impl<'c> References<'c> {
    fn of(config: &'c Config) -> Self {
        let roles = config.roles.iter().filter_map(Entry::read).filter(|role| role.mfa.is_some());
        let asking_roles = Positions::of(&mut roles.map(|role| role.name.0.as_str()));
        let asks = |roles: &[Name]| roles.iter().any(|role| asking_roles.contains(role.0.as_str()));
        let teams = config.teams.iter().filter_map(Entry::read).filter(|team| asks(&team.roles.0));
        let asking_teams = Positions::of(&mut teams.map(|team| team.name.0.as_str()));
        Self {
            asking_roles,
            asking_teams,
            providers: Names::new("a provider", &config.providers),
            roles: Names::new("a role", &config.roles),
            teams: Names::new("a team", &config.teams),
        }
    }
}

/// Names of one kind and their positions.
struct Names<'c> {
    what: &'static str,
    list: Vec<&'c str>,
    positions: Positions<'c>,
}

impl<'c> Names<'c> {
    fn new<T>(what: &'static str, entries: &'c [Entry<T>]) -> Self
    where
        Entry<T>: Named,
    {
        let list: Vec<&str> = entries.iter().filter_map(Named::name).collect();
        let positions = Positions::of(&mut list.iter().copied());
        Self { what, list, positions }
    }
}

impl Compiler<'_> {
    /// `admin`: the digests of the admin keys, in their order.
    pub(super) fn consumers(&mut self, config: &Config, admin: &[KeyDigest]) -> Consumers {
        let references = References::of(config);
        let roles = self.roles(&config.roles, &references);
        let teams = self.teams(&config.teams, &references);
        let mut list = Vec::with_capacity(config.consumers.len());
        let location = ROOT.member("consumers");
        for (index, entry) in config.consumers.iter().enumerate() {
            let Some(consumer) = entry.read() else { continue };
            list.push(self.consumer(consumer, &references, location.element(index)));
        }
        let mut consumers = Consumers::new(list, teams, roles);
        // Indices are right only where every consumer could be read; all else is an error already.
        consumers.set_keys(self.consumer_keys(&config.consumers, admin));
        self.identities(&config.consumers, &mut consumers);
        consumers.anonymous = self.anonymous(&config.anonymous, &config.consumers);
        consumers.signing = config.temporary_keys.as_ref().map(|keys| self.temporary_keys(keys));
        consumers.access_ttl = config.access.as_ref().map(|access| access.max_ttl);
        self.sources(config, &mut consumers);
        collect_asks(&mut consumers);
        self.warn_of_idle(config, &consumers);
        consumers
    }

    fn roles(&mut self, roles: &[Entry<written::Role>], references: &References<'_>) -> Vec<Role> {
        let location = ROOT.member("roles");
        let mut compiled = Vec::new();
        for (index, entry) in roles.iter().enumerate() {
            let Some(role) = entry.read() else { continue };
            let rules = self.rules(&role.allow, &role.deny, references, location.element(index));
            compiled.push(Role { name: role.name.0.clone(), rules });
        }
        compiled
    }

    fn teams(&mut self, teams: &[Entry<written::Team>], references: &References<'_>) -> Vec<Team> {
        let location = ROOT.member("teams");
        let mut compiled = Vec::new();
        for (index, entry) in teams.iter().enumerate() {
            let Some(team) = entry.read() else { continue };
            let at = location.element(index);
            compiled.push(Team {
                name: team.name.0.clone(),
                enabled: team.enabled,
                limits: team.limits.clone(),
                roles: self.given_roles(&team.roles.0, references, at),
                rules: self.rules(&team.allow, &team.deny, references, at),
            });
        }
        compiled
    }

    fn consumer(
        &mut self,
        consumer: &written::Consumer,
        references: &References<'_>,
        at: Place<'_>,
    ) -> Consumer {
        let team = consumer
            .team
            .as_ref()
            .and_then(|team| self.find(&references.teams, team, at.member("team")));
        let roles = self.given_roles(&consumer.roles.0, references, at);
        let asked = consumer.mfa.is_some()
            || consumer.roles.0.iter().any(|r| references.asking_roles.contains(r.0.as_str()))
            || consumer
                .team
                .as_ref()
                .is_some_and(|t| references.asking_teams.contains(t.0.as_str()));
        Consumer {
            name: consumer.name.0.clone(),
            enabled: consumer.enabled,
            team,
            roles,
            second_factor: self.second_factor(consumer, asked, at),
            rules: self.rules(&consumer.allow, &consumer.deny, references, at),
            limits: consumer.limits.clone(),
            own_keys: self.own_keys(consumer, references, at),
        }
    }

    fn own_keys(
        &mut self,
        consumer: &written::Consumer,
        references: &References<'_>,
        at: Place<'_>,
    ) -> Vec<OwnKeys> {
        let at = at.member("provider_keys");
        let name = consumer.name.0.as_str();
        let mut compiled: Vec<OwnKeys> = Vec::new();
        for (index, own) in consumer.provider_keys.0.iter().enumerate() {
            let at = at.element(index);
            let provider_name = own.provider.0.as_str();
            let owner = Owner::Consumer { consumer: name, provider: provider_name };
            let levels = self.keys(&owner, &own.keys.0, at);
            let here = at.member("provider");
            let found = self.find(&references.providers, &own.provider, here);
            let Some(provider) = found else { continue };
            if compiled.iter().any(|earlier| earlier.provider == provider) {
                self.errors.push(here, format!("{} is listed twice", quoted(provider_name)));
            }
            let turn_slot = format!("{SLOTS}/provider/{provider_name}/of/{name}");
            compiled.push(OwnKeys { provider, levels, shared: own.shared, turn_slot });
        }
        compiled
    }

    fn given_roles(
        &mut self,
        roles: &[Name],
        references: &References<'_>,
        at: Place<'_>,
    ) -> Vec<usize> {
        let at = at.member("roles");
        let mut given = Vec::with_capacity(roles.len());
        for (index, role) in roles.iter().enumerate() {
            given.extend(self.find(&references.roles, role, at.element(index)));
        }
        given
    }

    fn rules(
        &mut self,
        allow: &conditions::RuleList,
        deny: &conditions::RuleList,
        references: &References<'_>,
        at: Place<'_>,
    ) -> Rules {
        let mut compile = |rules: &conditions::RuleList, field: &str| {
            let at = at.member(field);
            let mut compiled = Vec::with_capacity(rules.rules.len());
            for (index, rule) in rules.rules.iter().enumerate() {
                let at = if rules.listed { at.element(index) } else { at };
                compiled.push(self.rule(rule, references, at));
            }
            compiled
        };
        Rules { allow: compile(allow, "allow"), deny: compile(deny, "deny") }
    }

    fn rule(
        &mut self,
        rule: &conditions::Rule,
        references: &References<'_>,
        at: Place<'_>,
    ) -> Rule {
        let at = at.member("providers");
        let mut providers = |names: &[Name]| {
            let mut found = Vec::with_capacity(names.len());
            for (index, name) in names.iter().enumerate() {
                let at = at.element(index);
                found.extend(self.find(&references.providers, name, at));
            }
            found.into_iter().collect()
        };
        Rule {
            route: rule.route.as_ref().map(|route| route.0.clone()),
            header: rule.header.as_ref().map(|header| HeaderRule {
                name: header.name.0.clone(),
                value: match (&header.equals, &header.prefix) {
                    (Some(exact), _) => Pattern::Exact(exact.0.clone()),
                    (None, prefix) => {
                        Pattern::Prefix(prefix.as_ref().map(|p| p.0.clone()).unwrap_or_default())
                    }
                },
            }),
            cidrs: rule.cidrs.as_ref().map(|cidrs| cidrs.0.clone()),
            hours: rule.hours.as_ref().map(|hours| hours.0.clone()),
            endpoints: rule.endpoints.as_ref().map(|endpoints| endpoints.0.clone()),
            providers: rule.providers.as_ref().map(|names| providers(&names.0)),
            models: rule
                .models
                .as_ref()
                .map(|models| models.0.iter().map(|m| Pattern::of_model(&m.0)).collect()),
        }
    }

    fn consumer_keys(
        &mut self,
        consumers: &[Entry<written::Consumer>],
        admin: &[KeyDigest],
    ) -> Vec<ConsumerKey> {
        let location = ROOT.member("consumers");
        // Places in `compiled` by the beginning of the digest.
        let mut seen: HashMap<u64, usize> = HashMap::new();
        let mut compiled: Vec<ConsumerKey> = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (consumer, entry) in consumers.iter().enumerate() {
            let Some(written) = entry.read() else { continue };
            let at = location.element(consumer);
            let at = at.member("keys");
            for (index, key) in written.keys.0.iter().enumerate() {
                let at = at.element(index);
                let Some(digest) = self.presented_key(&key.key, at) else { continue };
                let place = *seen.entry(digest.prefix()).or_insert(compiled.len());
                if compiled.get(place).is_some_and(|earlier| earlier.digest == digest)
                    && let Some((other, first)) = places.get(place)
                {
                    let message = format!("the same key as consumers[{other}].keys[{first}]");
                    self.errors.push(at, message);
                    continue;
                }
                if admin.contains(&digest) {
                    self.warnings
                        .push(format!("a key of consumer {} is an admin key, too", written.name.0));
                }
                places.push((consumer, index));
                let (enabled, valid) = (key.enabled, key.valid);
                compiled.push(ConsumerKey { digest, consumer, enabled, valid });
            }
        }
        compiled
    }

    /// The digest of a key that somebody presents.
    pub(super) fn presented_key(&mut self, key: &PresentedKey, at: Place<'_>) -> Option<KeyDigest> {
        let (secret, at) = match key {
            PresentedKey::Sha256(digest) => return Some(KeyDigest(digest.0)),
            PresentedKey::Environment(name) => {
                (self.environment_secret(name, at.member("env"))?, at.member("env"))
            }
            PresentedKey::Inline(text) => {
                (self.header_secret(&text.0, at.member("inline"))?, at.member("inline"))
            }
        };
        if secret.len() > MAX_KEY {
            self.errors.push(at, format!("the key is longer than {MAX_KEY} bytes"));
            return None;
        }
        Some(KeyDigest::of(secret.as_bytes()))
    }

    fn identities(&mut self, entries: &[Entry<written::Consumer>], consumers: &mut Consumers) {
        let location = ROOT.member("consumers");
        for (index, entry) in entries.iter().enumerate() {
            let Some(consumer) = entry.read() else { continue };
            let at = location.element(index);
            let at = at.member("identities");
            for (position, identity) in consumer.identities.0.iter().enumerate() {
                match consumers.find(&identity.0).and_then(|other| consumers.get(other)) {
                    Some(other) => {
                        let identity = quoted(&identity.0);
                        let message =
                            format!("{identity} is also an identity of consumer {}", other.name);
                        self.errors.push(at.element(position), message);
                    }
                    None => consumers.alias(identity.0.clone(), index),
                }
            }
        }
    }

    fn anonymous(
        &mut self,
        anonymous: &Anonymous,
        consumers: &[Entry<written::Consumer>],
    ) -> Option<ConsumerIndex> {
        let Anonymous::Consumer(name) = anonymous else { return None };
        let at = ROOT.member("anonymous");
        self.find(&Names::new("a consumer", consumers), name, at.member("consumer"))
    }

    fn sources(&mut self, config: &Config, consumers: &mut Consumers) {
        let Some(identify) = &config.identify else {
            let keys = consumers.has_keys() || consumers.signing.is_some();
            consumers.sources.extend(keys.then_some(Source::Key));
            return;
        };
        let at = ROOT.member("identify");
        for (index, source) in identify.0.iter().enumerate() {
            if identify.0.iter().take(index).any(|earlier| earlier == source) {
                self.errors.push(at.element(index), "is listed twice");
            }
            consumers.sources.push(match source {
                written::Source::Key => Source::Key,
                written::Source::Header(name) => Source::Header(name.0.clone()),
                written::Source::Property(path) => {
                    consumers.asks.properties.push(path.clone());
                    Source::Property(consumers.asks.properties.len() - 1)
                }
            });
        }
        if consumers.has_keys() && !consumers.sources.contains(&Source::Key) {
            let message =
                "consumers have keys, but identify does not list key: nobody looks at them";
            self.warnings.push(message.to_owned());
        }
        if consumers.signing.is_some() && !consumers.sources.contains(&Source::Key) {
            let message =
                "there are temporary_keys, but identify does not list key: nobody looks at them";
            self.warnings.push(message.to_owned());
        }
    }

    /// The position of a name among those that there are.
    fn find(&mut self, names: &Names<'_>, name: &Name, at: Place<'_>) -> Option<usize> {
        let found = names.positions.get(&name.0);
        if found.is_none() {
            let known = known(names.list.iter().copied());
            self.errors.push(at, format!("{} is not {}; {known}", quoted(&name.0), names.what));
        }
        found
    }

    fn warn_of_idle(&mut self, config: &Config, consumers: &Consumers) {
        let read = || config.consumers.iter().filter_map(Entry::read);
        if matches!(consumers.sources.as_slice(), [] | [Source::Key]) {
            let anonymous = consumers.anonymous.and_then(|index| consumers.get(index));
            let mut nobody = read()
                .filter(|c| c.keys.0.is_empty())
                .map(|c| c.name.0.as_str())
                .filter(|name| anonymous.is_none_or(|anonymous| anonymous.name != *name));
            let mut listed: Vec<&str> = nobody.by_ref().take(LISTED).collect();
            listed.extend(nobody.next().map(|_| "…"));
            if !listed.is_empty() {
                let listed = listed.join(", ");
                self.warnings
                    .push(format!("consumers without a key, whom nobody can be: {listed}"));
            }
        }
        let teams =
            marked(consumers.teams.len(), &mut consumers.list.iter().filter_map(|c| c.team));
        for (team, _) in consumers.teams.iter().zip(teams).filter(|(_, is_used)| !is_used) {
            self.warnings.push(format!("no consumer is in the team {}", team.name));
        }
        let of_consumers = consumers.list.iter().flat_map(|c| &c.roles);
        let of_teams = consumers.teams.iter().flat_map(|team| &team.roles);
        let roles = marked(consumers.roles.len(), &mut of_consumers.chain(of_teams).copied());
        for (role, _) in consumers.roles.iter().zip(roles).filter(|(_, is_used)| !is_used) {
            self.warnings.push(format!("nobody has the role {}", role.name));
        }
    }
}

/// Which of `count` positions there are.
fn marked(count: usize, positions: &mut dyn Iterator<Item = usize>) -> Vec<bool> {
    let mut marks = vec![false; count];
    for position in positions {
        if let Some(mark) = marks.get_mut(position) {
            *mark = true;
        }
    }
    marks
}

/// What rules and sources need to be told of each request.
fn collect_asks(consumers: &mut Consumers) {
    let properties = core::mem::take(&mut consumers.asks.properties);
    // A temporary key may be for certain addresses.
    let address = consumers.signing.is_some();
    let mut asks = Asks { properties, address, ..Asks::default() };
    let of_consumers = consumers.list.iter().map(|consumer| &consumer.rules);
    let of_teams = consumers.teams.iter().map(|team| &team.rules);
    let of_roles = consumers.roles.iter().map(|role| &role.rules);
    for rule in of_consumers
        .chain(of_teams)
        .chain(of_roles)
        .flat_map(|rules| rules.allow.iter().chain(&rules.deny))
    {
        asks.address |= rule.cidrs.is_some();
        asks.route |= rule.route.is_some();
        if let Some(header) = &rule.header
            && !asks.headers.contains(&header.name)
        {
            asks.headers.push(header.name.clone());
        }
    }
    consumers.asks = asks;
}
