//! `models: auto`: every model that the providers are known to serve.

use std::collections::HashMap;

use super::{Compiler, SLOTS, Target};
use crate::catalog;
use crate::config::{self, Entry, MAX_MODELS};
use crate::limit::Limits;
use crate::runtime::{Model, Models, Provider};
use crate::sorted;

impl Compiler<'_> {
    /// Adds what no model of the document stands for. A name that several providers serve gets them as targets, in
    /// their order; a pattern serves names that no provider has in full.
    pub(super) fn auto_models(
        &mut self,
        models: &mut Models,
        written: &[Entry<config::Provider>],
        providers: &[Provider],
    ) {
        let is_written = |name: &str| {
            let literal = name.strip_suffix('*').unwrap_or(name);
            models.exact.contains_key(name)
                || models.prefixes.iter().any(|(prefix, _)| literal.starts_with(prefix.as_str()))
        };
        let mut found: Vec<(String, Vec<Target>)> = Vec::new();
        let mut places = HashMap::new();
        for (index, provider) in providers.iter().enumerate() {
            let own = written.iter().filter_map(Entry::read).find(|p| p.name.0 == provider.name);
            let own = own.and_then(|provider| provider.models.as_ref());
            let mut serves = |name: &str, model: Option<&str>| {
                let target = Target { provider: index, model: model.map(str::to_owned) };
                let place = *places.entry(name.to_owned()).or_insert(found.len());
                match found.get_mut(place) {
                    // Listed twice.
                    Some((_, targets)) if targets.iter().any(|t| t.provider == index) => {}
                    Some((_, targets)) => targets.push(target),
                    None => found.push((name.to_owned(), vec![target])),
                }
            };
            let mut any = false;
            match own {
                Some(own) => own.0.iter().for_each(|pattern| {
                    any = true;
                    serves(&pattern.0, None);
                }),
                None => catalog::models(provider.kind).for_each(|known| {
                    any = true;
                    serves(known.name, known.upstream);
                }),
            }
            if !any {
                let message = format!(
                    "models: auto knows no model of the provider {}: list its models there",
                    provider.name
                );
                self.warnings.push(message);
            }
        }
        let free: Vec<_> = found.into_iter().filter(|(name, _)| !is_written(name)).collect();
        for (name, targets) in free {
            let place = models.list.len();
            match name.strip_suffix('*') {
                Some(prefix) => models.prefixes.push((prefix.to_owned(), place)),
                None => {
                    models.exact.insert(name.clone(), place);
                }
            }
            let usage_slot = format!("{SLOTS}/usage/model/{name}");
            models.list.push(Model { name, targets, limits: Limits::default(), usage_slot });
        }
        sorted::by_key(&mut models.prefixes, |(prefix, _)| core::cmp::Reverse(prefix.len()));
        if models.list.len() > MAX_MODELS {
            let message = format!("{} models with auto; at most {MAX_MODELS}", models.list.len());
            self.errors.push(super::ROOT.member("models"), message);
        }
    }
}
