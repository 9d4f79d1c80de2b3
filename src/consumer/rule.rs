//! What an `allow` or a `deny` speaks of: a conjunction of conditions on one request.

use core::net::IpAddr;

use super::cidr::Cidr;
use super::hours::Hours;
use crate::endpoint::{Endpoint, Operation};
use crate::runtime::ProviderIndex;
use crate::time::UnixTime;

/// Conditions that all have to hold. `None` is no condition; of each list one member has to match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub route: Option<String>,
    pub header: Option<HeaderRule>,
    pub cidrs: Option<Vec<Cidr>>,
    pub hours: Option<Vec<Hours>>,
    pub endpoints: Option<Vec<Operation>>,
    pub providers: Option<ProviderSet>,
    pub models: Option<Vec<Pattern>>,
}

/// Rules of a consumer, team or role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// None: everything is allowed.
    pub allow: Vec<Rule>,
    pub deny: Vec<Rule>,
}

/// A header of the client and what its value has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRule {
    /// In lower case.
    pub name: String,
    pub value: Pattern,
}

/// One text, or all that start with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    /// `fast` or `gpt-*`.
    pub fn of_model(name: &str) -> Self {
        match name.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(name.to_owned()),
        }
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == text,
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
        }
    }
}

/// Providers by their index, of which there are at most 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProviderSet(u64);

const _: () = assert!(crate::config::MAX_PROVIDERS <= 64, "a bit each");

impl ProviderSet {
    pub fn contains(self, provider: ProviderIndex) -> bool {
        self.0 & bit(provider) != 0
    }
}

impl FromIterator<ProviderIndex> for ProviderSet {
    fn from_iter<I: IntoIterator<Item = ProviderIndex>>(providers: I) -> Self {
        Self(providers.into_iter().fold(0, |set, provider| set | bit(provider)))
    }
}

fn bit(provider: ProviderIndex) -> u64 {
    u32::try_from(provider).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or_default()
}

/// What is known of a request independently of its body.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Name of Envoy's route.
    pub route: Option<String>,
    /// The headers that rules ask for.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Of the caller, as Envoy determined it.
    pub address: Option<IpAddr>,
    pub at: UnixTime,
}

/// A request as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub facts: &'a Facts,
    pub operation: Operation,
    /// As the client names it; `None`: not known yet, or none is meant.
    pub model: Option<&'a str>,
    /// Who is to answer; `None`: not known yet, or nobody.
    pub provider: Option<ProviderIndex>,
    /// The model was granted to the caller: it is among the models of every `allow`.
    pub extra: bool,
}

/// What of a request a rule was about, in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject<'r> {
    Route,
    Header(&'r str),
    Address,
    Hours,
    Endpoint,
    Provider,
    Model,
}

impl Rule {
    /// The first condition that does not hold; what is not known yet may still hold.
    pub fn mismatch(&self, ask: &Ask<'_>) -> Option<Subject<'_>> {
        let fails = |(subject, holds): &(Subject<'_>, Option<bool>)| {
            *holds == Some(false) && !(ask.extra && *subject == Subject::Model)
        };
        self.conditions(ask).find(fails).map(|(subject, _)| subject)
    }

    /// The last condition, if all hold and all are known.
    pub fn matched(&self, ask: &Ask<'_>) -> Option<Subject<'_>> {
        if self.conditions(ask).all(|(_, holds)| holds == Some(true)) {
            self.conditions(ask).last().map(|(subject, _)| subject)
        } else {
            None
        }
    }

    /// Each condition, and whether it holds; `None`: not known.
    fn conditions(&self, ask: &Ask<'_>) -> impl Iterator<Item = (Subject<'_>, Option<bool>)> {
        let facts = ask.facts;
        let route =
            self.route.as_ref().map(|r| (Subject::Route, Some(facts.route.as_ref() == Some(r))));
        let header = self
            .header
            .as_ref()
            .map(|rule| (Subject::Header(rule.name.as_str()), Some(rule.matches(facts))));
        let address = self.cidrs.as_ref().map(|cidrs| {
            let within = |address| cidrs.iter().any(|cidr| cidr.contains(address));
            (Subject::Address, Some(facts.address.is_some_and(within)))
        });
        let hours = self
            .hours
            .as_ref()
            .map(|hours| (Subject::Hours, Some(hours.iter().any(|hours| hours.contain(facts.at)))));
        let endpoint = self
            .endpoints
            .as_ref()
            .map(|known| (Subject::Endpoint, Some(known.contains(&ask.operation))));
        let provider = self
            .providers
            .map(|set| (Subject::Provider, ask.provider.map(|index| set.contains(index))));
        let model = self.models.as_ref().map(|patterns| {
            let any = |name: &str| patterns.iter().any(|pattern| pattern.matches(name.as_bytes()));
            (Subject::Model, ask.model.map(any))
        });
        [route, header, address, hours, endpoint, provider, model].into_iter().flatten()
    }
}

impl HeaderRule {
    /// A header that comes several times matches if any of them does.
    fn matches(&self, facts: &Facts) -> bool {
        facts.headers.iter().any(|(name, value)| *name == self.name && self.value.matches(value))
    }
}

impl Rules {
    /// Whether any rule refuses.
    pub fn denied(&self, ask: &Ask<'_>) -> Option<Subject<'_>> {
        self.deny.iter().find_map(|rule| rule.matched(ask))
    }
}

/// Whether one of the rules, if there are any, lets the request pass; else what came closest to it.
pub fn allowed<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    ask: &Ask<'_>,
) -> Result<(), Subject<'r>> {
    let mut closest = None;
    for rule in rules {
        match rule.mismatch(ask) {
            None => return Ok(()),
            mismatch => closest = closest.max(mismatch),
        }
    }
    closest.map_or(Ok(()), Err)
}

/// The names of operations in rules.
pub const OPERATIONS: [(&str, Operation); 15] = [
    ("chat", Operation::Api(Endpoint::ChatCompletions)),
    ("completions", Operation::Api(Endpoint::Completions)),
    ("embeddings", Operation::Api(Endpoint::Embeddings)),
    ("responses", Operation::Api(Endpoint::Responses)),
    ("moderations", Operation::Api(Endpoint::Moderations)),
    ("speech", Operation::Api(Endpoint::Speech)),
    ("transcriptions", Operation::Api(Endpoint::Transcriptions)),
    ("translations", Operation::Api(Endpoint::Translations)),
    ("image_generations", Operation::Api(Endpoint::ImageGenerations)),
    ("image_edits", Operation::Api(Endpoint::ImageEdits)),
    ("image_variations", Operation::Api(Endpoint::ImageVariations)),
    ("messages", Operation::Api(Endpoint::Messages)),
    ("rerank", Operation::Api(Endpoint::Rerank)),
    ("generate_content", Operation::Api(Endpoint::GenerateContent)),
    ("models", Operation::Models),
];

pub fn operation_name(operation: Operation) -> &'static str {
    OPERATIONS.iter().find(|(_, known)| *known == operation).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            route: Some("internal".to_owned()),
            headers: vec![("x-env".to_owned(), b"prod-eu".to_vec())],
            address: Some("10.1.2.3".parse().unwrap()),
            at: UnixTime::parse_rfc3339("2026-11-20T12:00:00Z").unwrap(),
        }
    }

    fn full() -> Rule {
        Rule {
            route: Some("internal".to_owned()),
            header: Some(HeaderRule {
                name: "x-env".to_owned(),
                value: Pattern::Prefix("prod".to_owned()),
            }),
            cidrs: Some(vec![Cidr::parse("10.0.0.0/8").unwrap()]),
            hours: Some(vec![Hours::parse("mon-fri 08:00-18:00").unwrap()]),
            endpoints: Some(vec![Operation::Api(Endpoint::ChatCompletions)]),
            providers: Some([1].into_iter().collect()),
            models: Some(vec![Pattern::of_model("fast"), Pattern::of_model("gpt-*")]),
        }
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let rule = full();
        let chat = Operation::Api(Endpoint::ChatCompletions);
        let facts = facts();
        let good = Ask {
            facts: &facts,
            operation: chat,
            model: Some("gpt-4o"),
            provider: Some(1),
            extra: false,
        };
        assert_eq!((rule.mismatch(&good), rule.matched(&good)), (None, Some(Subject::Model)));
        let elsewhere = |change: &dyn Fn(&mut Facts)| {
            let mut other = facts.clone();
            change(&mut other);
            let mismatch = rule.mismatch(&Ask { facts: &other, ..good });
            assert_eq!(rule.matched(&Ask { facts: &other, ..good }), None);
            mismatch
        };
        assert_eq!(elsewhere(&|f| f.route = None), Some(Subject::Route));
        assert_eq!(elsewhere(&|f| f.headers.clear()), Some(Subject::Header("x-env")));
        assert_eq!(elsewhere(&|f| f.address = None), Some(Subject::Address));
        assert_eq!(elsewhere(&|f| f.at = UnixTime(0)), Some(Subject::Hours));
        for (ask, subject) in [
            (Ask { operation: Operation::Models, ..good }, Subject::Endpoint),
            (Ask { provider: Some(0), ..good }, Subject::Provider),
            (Ask { provider: Some(200), ..good }, Subject::Provider),
            (Ask { model: Some("faster"), ..good }, Subject::Model),
        ] {
            assert_eq!((rule.mismatch(&ask), rule.matched(&ask)), (Some(subject), None));
        }
        let unknown = Ask { model: None, provider: None, ..good };
        assert_eq!((rule.mismatch(&unknown), rule.matched(&unknown)), (None, None));
    }

    #[test]
    fn one_allow_is_enough_and_none_means_everything() {
        let facts = facts();
        let operation = Operation::Models;
        let ask = Ask { facts: &facts, operation, model: None, provider: None, extra: false };
        let only = |operation| Rule { endpoints: Some(vec![operation]), ..Rule::default() };
        let route = Rule { route: Some("other".to_owned()), ..Rule::default() };
        let chat = only(Operation::Api(Endpoint::ChatCompletions));
        assert_eq!(allowed([].iter(), &ask), Ok(()));
        assert_eq!(allowed([only(operation), chat.clone()].iter(), &ask), Ok(()));
        assert_eq!(allowed([route, chat].iter(), &ask), Err(Subject::Endpoint), "the closest");
    }
}
