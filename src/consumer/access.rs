//! What a caller may do: rules of consumer, team and roles, and the narrowing of the route.
//!
//! Everything that says anything has to allow a request: the consumer's own `allow`, one of the consumer's roles, the
//! team's `allow`, one of the team's roles, and the route. A `deny` of any of them wins. Who has no rule may everything.
//!
//! A refusal says what is refused, but for models and providers: a model that is not allowed is answered like one that
//! does not exist.

use std::borrow::Cow;

use super::identify::Caller;
use super::route::Narrowing;
use super::rule::{self, Ask, Facts, ProviderSet, Rules, Subject, operation_name};
use super::{Consumer, ConsumerIndex, Consumers, Role, cidr};
use crate::endpoint::{Endpoint, Operation};
use crate::grant::Wish;
use crate::headers::Headers;
use crate::limit;
use crate::reply::Refusal;
use crate::runtime::{Model, ProviderIndex, Runtime, SLOTS};
use crate::time::UnixTime;
use crate::token::Temporary;

/// Who asks, and from where. Outlives the callback that it was read in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Name of the consumer.
    pub consumer: String,
    facts: Facts,
    narrowing: Narrowing,
    /// The temporary key that it was presented with.
    pub key: Option<Box<Temporary>>,
    /// What an admin has granted to the consumer besides its rules.
    pub granted: Vec<Wish>,
}

impl Access {
    /// # Errors
    /// 500 where the route's metadata cannot be understood.
    pub fn new(
        consumers: &Consumers,
        consumer: ConsumerIndex,
        headers: &Headers,
        caller: &Caller,
        at: UnixTime,
    ) -> Result<Self, Refusal> {
        let narrowing = Narrowing::decode(&caller.route_metadata)
            .map_err(|error| Refusal::server(500, "internal_error", format!("Envoy's {error}.")))?;
        let asked = |name: &[u8]| {
            let asked = consumers.asks.headers.iter().find(|asked| asked.as_bytes() == name);
            asked.cloned()
        };
        let headers =
            headers.iter().filter_map(|(name, value)| Some((asked(name)?, value.to_vec())));
        let facts = Facts {
            route: caller.route.clone(),
            headers: headers.collect(),
            address: caller.address.as_deref().and_then(cidr::parse_address),
            at,
        };
        let consumer = consumers.get(consumer).map(|consumer| consumer.name.clone());
        let consumer = consumer.unwrap_or_default();
        Ok(Self { consumer, facts, narrowing, key: None, granted: Vec::new() })
    }

    /// The limits of the consumer on the route.
    pub fn route_limits(&self) -> Option<limit::Subject<'static>> {
        let limits = Some(&self.narrowing.limits).filter(|limits| !limits.is_empty())?;
        let route =
            self.facts.route.as_deref().filter(|name| !name.is_empty()).unwrap_or("unnamed");
        Some(limit::Subject {
            kind: limit::Kind::Route,
            name: Cow::Owned(route.to_owned()),
            owner: 0,
            slot: Cow::Owned(format!("{SLOTS}/limit/route/{route}/of/{}", self.consumer)),
            limits: Cow::Owned(limits.clone()),
        })
    }

    /// Decides on what is known before the body: everything but model and provider.
    ///
    /// # Errors
    /// 403.
    pub fn check(&self, runtime: &Runtime, operation: Operation) -> Result<(), Refusal> {
        let consumer = self.consumer(runtime)?;
        let team = runtime.consumers.team_of(consumer);
        if !consumer.enabled {
            return Err(denied(format!("Consumer \"{}\" is disabled.", self.consumer)));
        }
        if let Some(team) = team.filter(|team| !team.enabled) {
            return Err(denied(format!("Team \"{}\" is disabled.", team.name)));
        }
        let named = |names: &Option<Vec<String>>, name: Option<&str>| match names {
            Some(names) => names.iter().any(|known| Some(known.as_str()) == name),
            None => true,
        };
        let route = named(&self.narrowing.consumers, Some(&self.consumer))
            && named(&self.narrowing.teams, team.map(|team| team.name.as_str()));
        if !route {
            return Err(self.refusal(Subject::Route, operation));
        }
        self.permits(runtime, consumer, operation, None, None)
            .map_err(|subject| self.refusal(subject, operation))
    }

    /// Targets of a model that are not for this request; `None`: the model is not at all.
    ///
    /// What else than model and provider could refuse has done so in [`Self::check`].
    pub fn barred(
        &self,
        runtime: &Runtime,
        operation: Operation,
        model: &Model,
        name: &str,
    ) -> Option<Vec<u32>> {
        let consumer = self.consumer(runtime).ok()?;
        let routed = self.narrowing.providers.as_ref().map(|names| provider_set(runtime, names));
        let open = |provider| {
            routed.is_none_or(|set| set.contains(provider))
                && runtime.has_keys_for(consumer, provider)
                && self.permits(runtime, consumer, operation, Some(name), Some(provider)).is_ok()
        };
        let targets = (0_u32..).zip(&model.targets);
        let barred: Vec<u32> =
            targets.filter(|(_, target)| !open(target.provider)).map(|(index, _)| index).collect();
        (barred.len() < model.targets.len()).then_some(barred)
    }

    /// Whether a model can be used by any endpoint.
    pub fn sees(&self, runtime: &Runtime, model: &Model, name: &str) -> bool {
        Endpoint::ALL
            .into_iter()
            .any(|api| self.barred(runtime, api.operation(), model, name).is_some())
    }

    fn permits<'r>(
        &self,
        runtime: &'r Runtime,
        consumer: &'r Consumer,
        operation: Operation,
        model: Option<&str>,
        provider: Option<ProviderIndex>,
    ) -> Result<(), Subject<'r>> {
        let extra = model.is_some_and(|model| {
            self.granted.iter().any(|wish| *wish == Wish::Model(model.to_owned()))
        });
        let ask = Ask { facts: &self.facts, operation, model, provider, extra };
        if self.narrowing.endpoints.as_ref().is_some_and(|known| !known.contains(&operation)) {
            return Err(Subject::Endpoint);
        }
        let matches = |name: &str| {
            let models = self.narrowing.models.as_ref();
            models.is_none_or(|models| models.iter().any(|m| m.matches(name.as_bytes())))
        };
        if model.is_some_and(|name| !matches(name)) {
            return Err(Subject::Model);
        }
        if let Some(key) = &self.key {
            key.scope.permits(&ask)?;
        }
        let consumers = &runtime.consumers;
        let roles = &consumers.roles;
        holders(roles, &consumer.rules, &consumer.roles, &self.granted, &ask)?;
        match consumers.team_of(consumer) {
            Some(team) => holders(roles, &team.rules, &team.roles, &[], &ask),
            None => Ok(()),
        }
    }

    /// Gone after a reload of the configuration between head and body.
    fn consumer<'r>(&self, runtime: &'r Runtime) -> Result<&'r Consumer, Refusal> {
        let found = runtime.consumers.named(&self.consumer);
        found.ok_or_else(|| denied(format!("Consumer \"{}\" does not exist.", self.consumer)))
    }

    fn refusal(&self, subject: Subject<'_>, operation: Operation) -> Refusal {
        let what = match subject {
            Subject::Route => "use this route".to_owned(),
            Subject::Header(name) => format!("call with this value of the header {name}"),
            Subject::Address => match self.facts.address {
                Some(address) => format!("call from the address {address}"),
                None => "call from an unknown address".to_owned(),
            },
            Subject::Hours => format!("call at this time ({})", self.facts.at.rfc3339()),
            Subject::Endpoint => format!("use the endpoint {}", operation_name(operation)),
            Subject::Provider | Subject::Model => "use this model".to_owned(),
        };
        denied(format!("Consumer \"{}\" may not {what}.", self.consumer))
    }
}

/// The rules of a consumer or a team, and of its roles; `granted` besides.
///
/// A granted role lets pass what it would let pass if it were the only one; it never refuses what the others let pass.
fn holders<'r>(
    roles: &'r [Role],
    own: &'r Rules,
    given: &'r [usize],
    granted: &[Wish],
    ask: &Ask<'_>,
) -> Result<(), Subject<'r>> {
    let given = || given.iter().filter_map(|index| roles.get(*index)).map(|role| &role.rules);
    if let Some(subject) = own.denied(ask).or_else(|| given().find_map(|rules| rules.denied(ask))) {
        return Err(subject);
    }
    rule::allowed(own.allow.iter(), ask)?;
    rule::allowed(given().flat_map(|rules| &rules.allow), ask).or_else(|subject| {
        let is_granted = |role: &&Role| {
            granted.iter().any(|wish| matches!(wish, Wish::Role(name) if *name == role.name))
        };
        let lets_pass = |rules: &Rules| {
            !rules.allow.is_empty()
                && rules.denied(ask).is_none()
                && rule::allowed(rules.allow.iter(), ask).is_ok()
        };
        let by_grant = roles.iter().filter(is_granted).any(|role| lets_pass(&role.rules));
        if by_grant { Ok(()) } else { Err(subject) }
    })
}

fn provider_set(runtime: &Runtime, names: &[String]) -> ProviderSet {
    let named = |index: &ProviderIndex| {
        runtime.providers.get(*index).is_some_and(|provider| names.contains(&provider.name))
    };
    (0..runtime.providers.len()).filter(named).collect()
}

/// 403: known, but not allowed.
pub fn denied(message: String) -> Refusal {
    Refusal { kind: "permission_error", ..Refusal::client(403, "permission_denied", message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::rule::Pattern;
    use serde_json::{Value, json};

    /// A runtime with two providers, three models and what the test adds.
    fn runtime(consumer: &Value, team: &Value, roles: &Value) -> Runtime {
        let keys = json!([{"id": "a", "secret": {"inline": "sk-1"}}]);
        let mut acme = consumer.clone();
        acme["name"] = json!("acme");
        let mut research = team.clone();
        research["name"] = json!("research");
        if !team.is_null() {
            acme["team"] = json!("research");
        }
        let document = json!({
            "providers": [
                {"name": "openai", "keys": keys},
                {"name": "groq", "keys": keys},
                {"name": "bring", "kind": "openai"},
            ],
            "models": [
                {"name": "fast", "targets": [{"provider": "openai"}, {"provider": "groq"}]},
                {"name": "gpt-*", "targets": [{"provider": "openai"}]},
                {"name": "own", "targets": [{"provider": "bring"}]},
            ],
            "roles": roles,
            "teams": if team.is_null() { json!([]) } else { json!([research]) },
            "consumers": [acme, {
                "name": "owner",
                "provider_keys": [{"provider": "bring", "keys": [{"id": "x", "secret": {"inline": "sk-2"}}]}],
            }],
        });
        crate::runtime::load(document.to_string().as_bytes(), &|_| None)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn access(runtime: &Runtime, name: &str) -> Access {
        let headers = [("x-env", "prod"), ("x-other", "y")].into_iter().collect();
        let caller = Caller {
            address: Some("10.1.2.3:4567".to_owned()),
            route: Some("internal".to_owned()),
            ..Caller::default()
        };
        // A Friday.
        let noon = UnixTime::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
        let consumers = &runtime.consumers;
        Access::new(consumers, consumers.find(name).unwrap(), &headers, &caller, noon).unwrap()
    }

    const CHAT: Operation = Operation::Api(Endpoint::ChatCompletions);

    /// The refusal before the body, or the targets of `fast` that are barred.
    fn chat_with_fast(
        consumer: &Value,
        team: &Value,
        roles: &Value,
    ) -> Result<Option<Vec<u32>>, String> {
        let runtime = runtime(consumer, team, roles);
        let access = access(&runtime, "acme");
        access.check(&runtime, CHAT).map_err(|refusal| {
            assert_eq!((refusal.status, refusal.code), (403, "permission_denied"));
            refusal.message
        })?;
        Ok(access.barred(&runtime, CHAT, runtime.models.find("fast").unwrap(), "fast"))
    }

    #[test]
    fn rules_of_a_consumer() {
        for (rules, expected) in [
            (json!({}), Ok(Some(vec![]))),
            (json!({"allow": {"models": ["fast"]}}), Ok(Some(vec![]))),
            (json!({"allow": {"models": ["fas*"]}}), Ok(Some(vec![]))),
            (json!({"allow": {"models": ["gpt-*"]}}), Ok(None)),
            (json!({"allow": [{"models": ["gpt-*"]}, {"endpoints": ["chat"]}]}), Ok(Some(vec![]))),
            (json!({"allow": {"providers": ["groq"]}}), Ok(Some(vec![0]))),
            (json!({"allow": {"providers": ["bring"]}}), Ok(None)),
            (json!({"deny": {"providers": ["groq"]}}), Ok(Some(vec![1]))),
            (json!({"deny": {"models": ["f*"]}}), Ok(None)),
            (json!({"deny": {"models": ["f*"], "cidrs": ["11.0.0.0/8"]}}), Ok(Some(vec![]))),
            (json!({"allow": {"models": ["fast"]}, "deny": {"models": ["fast"]}}), Ok(None)),
            (json!({"deny": {"models": ["fast"], "hours": ["12:00-13:00"]}}), Ok(None)),
            (json!({"enabled": false}), Err("Consumer \"acme\" is disabled.")),
            (
                json!({"allow": {"endpoints": ["embeddings", "models"]}}),
                Err("Consumer \"acme\" may not use the endpoint chat."),
            ),
            (
                json!({"allow": {"cidrs": ["192.168.0.0/16"]}}),
                Err("Consumer \"acme\" may not call from the address 10.1.2.3."),
            ),
            (
                json!({"deny": {"cidrs": ["10.0.0.0/8"]}}),
                Err("Consumer \"acme\" may not call from the address 10.1.2.3."),
            ),
            (
                json!({"allow": {"hours": ["sat,sun 00:00-24:00"]}}),
                Err("Consumer \"acme\" may not call at this time (2026-11-20T12:00:00Z)."),
            ),
            (
                json!({"allow": {"header": {"name": "X-Env", "equals": "dev"}}}),
                Err("Consumer \"acme\" may not call with this value of the header x-env."),
            ),
            (json!({"allow": {"header": {"name": "x-env", "prefix": "pr"}}}), Ok(Some(vec![]))),
            (
                json!({"deny": {"route": "internal"}}),
                Err("Consumer \"acme\" may not use this route."),
            ),
            (json!({"allow": {"route": "internal"}}), Ok(Some(vec![]))),
        ] {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(chat_with_fast(&rules, &Value::Null, &json!([])), expected, "{rules}");
        }
    }

    #[test]
    fn everything_that_says_anything_has_to_allow() {
        let roles = json!([
            {"name": "gpt", "allow": {"models": ["gpt-*"]}},
            {"name": "fast", "allow": {"models": ["fast"]}},
            {"name": "careful", "deny": {"providers": ["groq"]}},
        ]);
        for (consumer, team, expected) in [
            (json!({"roles": ["gpt"]}), json!({}), None),
            (json!({"roles": ["gpt", "fast"]}), json!({}), Some(vec![])),
            (json!({"roles": ["careful"]}), json!({}), Some(vec![1])),
            (json!({"roles": ["careful", "gpt"]}), json!({}), None),
            (json!({"roles": ["gpt"], "allow": {"models": ["fast"]}}), json!({}), None),
            (json!({"roles": ["fast"]}), json!({"roles": ["gpt"]}), None),
            (json!({"roles": ["fast"]}), json!({"roles": ["gpt", "fast"]}), Some(vec![])),
            (
                json!({}),
                json!({"allow": {"providers": ["groq"]}, "roles": ["fast"]}),
                Some(vec![0]),
            ),
            (
                json!({"allow": {"providers": ["openai"]}}),
                json!({"roles": ["careful"]}),
                Some(vec![1]),
            ),
            (json!({"allow": {"providers": ["groq"]}}), json!({"roles": ["careful"]}), None),
        ] {
            let got = chat_with_fast(&consumer, &team, &roles);
            assert_eq!(got, Ok(expected), "{consumer} {team}");
        }
        let disabled = chat_with_fast(&json!({}), &json!({"enabled": false}), &roles);
        assert_eq!(disabled, Err("Team \"research\" is disabled.".to_owned()));
    }

    #[test]
    fn a_model_is_seen_by_whom_it_may_serve() {
        let rules = json!({"allow": [
            {"models": ["fast"], "endpoints": ["embeddings", "models"]},
            {"models": ["gpt-4*"], "endpoints": ["chat"], "providers": ["groq"]},
        ]});
        let runtime = runtime(&rules, &Value::Null, &json!([]));
        let sees = |who: &str, name: &str| {
            let access = access(&runtime, who);
            access.check(&runtime, Operation::Models).unwrap();
            access.sees(&runtime, runtime.models.find(name).unwrap(), name)
        };
        assert!(sees("acme", "fast"));
        assert!(!sees("acme", "gpt-4o"), "openai alone serves it");
        assert!(!sees("acme", "own"));
        assert!(sees("owner", "own"), "who brings the key");
        assert!(sees("owner", "gpt-4o"));
    }

    #[test]
    fn a_route_takes_away_and_never_gives() {
        let runtime = runtime(&json!({"deny": {"models": ["gpt-5"]}}), &json!({}), &json!([]));
        let mut access = access(&runtime, "acme");
        let names = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
        for (narrowing, allowed) in [
            (Narrowing::default(), true),
            (Narrowing { consumers: names(&["acme", "x"]), ..Narrowing::default() }, true),
            (Narrowing { consumers: names(&["owner"]), ..Narrowing::default() }, false),
            (Narrowing { teams: names(&["research"]), ..Narrowing::default() }, true),
            (Narrowing { teams: names(&[]), ..Narrowing::default() }, false),
            (Narrowing { endpoints: Some(vec![CHAT]), ..Narrowing::default() }, true),
            (Narrowing { endpoints: Some(vec![]), ..Narrowing::default() }, false),
        ] {
            access.narrowing = narrowing;
            assert_eq!(access.check(&runtime, CHAT).is_ok(), allowed, "{:?}", access.narrowing);
        }
        let model = |name: &str| runtime.models.find(name).unwrap();
        access.narrowing = Narrowing {
            models: Some(vec![Pattern::of_model("fast"), Pattern::of_model("gpt-5")]),
            providers: names(&["groq"]),
            ..Narrowing::default()
        };
        assert_eq!(access.barred(&runtime, CHAT, model("fast"), "fast"), Some(vec![0]));
        assert_eq!(access.barred(&runtime, CHAT, model("gpt-5"), "gpt-5"), None, "not given");
        access.narrowing.providers = None;
        assert_eq!(access.barred(&runtime, CHAT, model("gpt-4"), "gpt-4"), None, "taken away");
        assert_eq!(access.barred(&runtime, CHAT, model("gpt-5"), "gpt-5"), None, "not given");
    }
}
