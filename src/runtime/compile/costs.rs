//! Prices of providers, and whether every limit on cost can be kept: a model without a price would cost nothing.

use super::{Compiler, ROOT};
use crate::config::addresses::ClientAddress;
use crate::config::error::{known, quoted};
use crate::config::{Config, Entry};
use crate::consumer::rule::{Pattern, Rule, Rules};
use crate::consumer::{Consumer, Consumers};
use crate::limit::{Limits, Unit};
use crate::price::Price;
use crate::runtime::{Key, Model, Models, Provider, ProviderIndex};
use crate::sorted;

/// Models that an error lists.
const LISTED: usize = 8;

/// A target whose model has no price.
struct Unpriced<'r> {
    model: &'r Model,
    provider: ProviderIndex,
    /// `fast (openai: gpt-x)`.
    name: String,
}

impl Compiler<'_> {
    pub(super) fn prices(&mut self, config: &Config, providers: &mut [Provider]) {
        let location = ROOT.member("prices");
        for (index, entry) in config.prices.iter().enumerate() {
            let Some(written) = entry.read() else { continue };
            let at = location.element(index);
            let name = written.provider.0.as_str();
            let Some(provider) = providers.iter().position(|known| known.name == name) else {
                let known = known(providers.iter().map(|known| known.name.as_str()));
                let message = format!("{} is not a provider; {known}", quoted(name));
                // A provider that could not be read is an error already.
                let is_broken = config.providers.iter().any(|entry| entry.read().is_none());
                if !is_broken {
                    self.errors.push(at.member("provider"), message);
                }
                continue;
            };
            let price = Price {
                input: written.input.0,
                cached_input: written.cached_input.unwrap_or(written.input).0,
                cache_write: written.cache_write.unwrap_or(written.input).0,
                output: written.output.0,
                reasoning: written.reasoning.unwrap_or(written.output).0,
                long: None,
            };
            let Some(Provider { prices, .. }) = providers.get_mut(provider) else { continue };
            let (list, model) = match written.model.0.strip_suffix('*') {
                Some(prefix) => (&mut prices.prefixes, prefix),
                None => (&mut prices.exact, written.model.0.as_str()),
            };
            if list.iter().any(|(earlier, _)| earlier == model) {
                let message = format!("{} of {name} has a price already", quoted(&written.model.0));
                self.errors.push(at.member("model"), message);
            }
            list.push((model.to_owned(), price));
        }
        for Provider { prices, .. } in providers {
            sorted::by_key(&mut prices.prefixes, |(prefix, _)| core::cmp::Reverse(prefix.len()));
        }
    }

    /// Refuses limits on cost of whoever may use a model without a price.
    pub(super) fn check_costs(
        &mut self,
        config: &Config,
        providers: &[Provider],
        models: &Models,
        consumers: &Consumers,
    ) {
        let unpriced = unpriced(providers, models);
        if unpriced.is_empty() || !self.errors.0.is_empty() {
            return;
        }
        let all = unpriced.iter();
        let is_model = |(_, entry): &(usize, &Entry<_>)| !matches!(entry, Entry::Auto);
        let written = config.models.iter().enumerate().filter(is_model);
        // Those of `auto` come last, and have no limits.
        for ((index, written), model) in written.zip(&models.list) {
            let Some(written) = written.read() else { continue };
            let of_model = all.clone().filter(|unpriced| core::ptr::eq(unpriced.model, model));
            self.check_cost(&written.limits, of_model, "models", index);
        }
        for (index, (written, team)) in config.teams.iter().zip(&consumers.teams).enumerate() {
            let Some(written) = written.read().filter(|team| team.limits.has_cost()) else {
                continue;
            };
            let roles = roles(consumers, &team.roles);
            let of_team = all.clone().filter(|u| may_use(&team.rules, &roles, u));
            self.check_cost(&written.limits, of_team, "teams", index);
        }
        for (index, (written, who)) in config.consumers.iter().zip(&consumers.list).enumerate() {
            let Some(written) = written.read().filter(|who| who.limits.has_cost()) else {
                continue;
            };
            let of_consumer = all.clone().filter(|u| consumer_may_use(consumers, who, u));
            self.check_cost(&written.limits, of_consumer, "consumers", index);
        }
        let of_addresses = config.client_address.as_ref().map(ClientAddress::limits);
        if of_addresses.is_some_and(Limits::has_cost)
            && let Some(message) = message(all)
        {
            self.errors.push(ROOT.member("client_address").member("limits"), message);
        }
        self.check_keys(&unpriced, providers, consumers);
    }

    pub(super) fn keys_count_cost(&self) -> bool {
        self.keys.iter().any(has_cost)
    }

    fn check_cost<'u>(
        &mut self,
        limits: &Limits,
        unpriced: impl Iterator<Item = &'u Unpriced<'u>>,
        section: &'static str,
        index: usize,
    ) {
        if limits.has_cost()
            && let Some(message) = message(unpriced)
        {
            let at = ROOT.member(section);
            self.errors.push(at.element(index).member("limits"), message);
        }
    }

    /// Of keys only the name is left: it tells where they are in the document.
    fn check_keys(
        &mut self,
        unpriced: &[Unpriced<'_>],
        providers: &[Provider],
        consumers: &Consumers,
    ) {
        let own = consumers.list.iter().flat_map(|consumer| &consumer.own_keys);
        let own = own.map(|own| (own.provider, &own.levels));
        let levels = providers.iter().map(|provider| &provider.levels).enumerate().chain(own);
        let mut seen = vec![false; self.keys.len()];
        let mut found = Vec::new();
        for (provider, levels) in levels {
            let here = || unpriced.iter().filter(|unpriced| unpriced.provider == provider);
            for index in levels.iter().flatten() {
                let Some(key) = self.keys.get(*index).filter(|key| has_cost(key)) else { continue };
                let Some(seen) = seen.get_mut(*index).filter(|seen| !**seen) else { continue };
                if let Some(message) = message(here()) {
                    *seen = true;
                    found.push(format!("limits of the key {}: {message}", key.name));
                }
            }
        }
        for message in found {
            self.errors.push(ROOT, message);
        }
    }
}

fn has_cost(key: &Key) -> bool {
    key.limits.iter().any(|limit| limit.unit == Unit::Cost)
}

/// Targets of which it is known that they have no price. Which models a prefix stands for shows with each request.
fn unpriced<'r>(providers: &[Provider], models: &'r Models) -> Vec<Unpriced<'r>> {
    let mut found = Vec::new();
    for model in &models.list {
        for target in &model.targets {
            let Some(provider) = providers.get(target.provider) else { continue };
            let name = match &target.model {
                Some(name) => name,
                None if model.name.ends_with('*') => continue,
                None => &model.name,
            };
            if provider.price(name).is_none() {
                let name = format!("{} ({}: {name})", model.name, provider.name);
                found.push(Unpriced { model, provider: target.provider, name });
            }
        }
    }
    found
}

fn message<'u>(unpriced: impl Iterator<Item = &'u Unpriced<'u>>) -> Option<String> {
    let names: Vec<&str> = unpriced.map(|unpriced| unpriced.name.as_str()).collect();
    let shown = names.get(..LISTED).unwrap_or(&names).join(", ");
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty())
        .then(|| format!("a limit on cost, but no price is known for {shown}{more}; see prices"))
}

fn consumer_may_use(consumers: &Consumers, consumer: &Consumer, unpriced: &Unpriced<'_>) -> bool {
    let given = roles(consumers, &consumer.roles);
    may_use(&consumer.rules, &given, unpriced)
        && consumers
            .team_of(consumer)
            .is_none_or(|team| may_use(&team.rules, &roles(consumers, &team.roles), unpriced))
}

fn roles<'c>(consumers: &'c Consumers, given: &[usize]) -> Vec<&'c Rules> {
    given.iter().filter_map(|role| consumers.roles.get(*role)).map(|role| &role.rules).collect()
}

/// Whether some request could be allowed; what depends on more than model and provider could.
fn may_use(own: &Rules, given: &[&Rules], unpriced: &Unpriced<'_>) -> bool {
    let allows = |rules: &mut dyn Iterator<Item = &Rule>| {
        let mut rules = rules.peekable();
        rules.peek().is_none() || rules.any(|rule| speaks_of(rule, unpriced, false))
    };
    let denies = |rule: &Rule| {
        let is_sure = rule.route.is_none()
            && rule.header.is_none()
            && rule.cidrs.is_none()
            && rule.hours.is_none()
            && rule.endpoints.is_none();
        is_sure && speaks_of(rule, unpriced, true)
    };
    allows(&mut own.allow.iter())
        && allows(&mut given.iter().flat_map(|rules| &rules.allow))
        && !own.deny.iter().chain(given.iter().flat_map(|rules| &rules.deny)).any(denies)
}

/// Whether the rule is about the model at that provider; `wholly`: about every name that the model stands for.
fn speaks_of(rule: &Rule, unpriced: &Unpriced<'_>, wholly: bool) -> bool {
    let model = unpriced.model.name.as_str();
    let of_model = |pattern: &Pattern| match (model.strip_suffix('*'), pattern) {
        (None, pattern) => pattern.matches(model.as_bytes()),
        (Some(prefix), Pattern::Exact(name)) => !wholly && name.starts_with(prefix),
        (Some(prefix), Pattern::Prefix(other)) => {
            prefix.starts_with(other.as_str()) || !wholly && other.starts_with(prefix)
        }
    };
    rule.models.as_ref().is_none_or(|models| models.iter().any(of_model))
        && rule.providers.is_none_or(|providers| providers.contains(unpriced.provider))
}
