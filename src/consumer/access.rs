//! What a caller may do: rules of consumer, team and roles, and the narrowing of the route.
//!
//! Everything that says anything has to allow a request: the consumer's own `allow`, one of the consumer's roles, the
//! team's `allow`, one of the team's roles, and the route. A `deny` of any of them wins. Who has no rule may everything.
//!
//! A refusal says what is refused, but for models and providers: a model that is not allowed is answered like one that
//! does not exist.

use super::identify::Caller;
use super::route::Narrowing;
use super::rule::{self, Ask, Facts, ProviderSet, Rules, Subject, operation_name};
use super::{Consumer, ConsumerIndex, Consumers, Role, cidr};
use crate::endpoint::{Endpoint, Operation};
use crate::headers::Headers;
use crate::reply::Refusal;
use crate::runtime::{Model, ProviderIndex, Runtime};
use crate::time::UnixTime;

/// Who asks, and from where. Outlives the callback that it was read in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Name of the consumer.
    pub consumer: String,
    facts: Facts,
    narrowing: Narrowing,
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
        Ok(Self { consumer: consumer.unwrap_or_default(), facts, narrowing })
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
            .any(|api| self.barred(runtime, Operation::Api(api), model, name).is_some())
    }

    fn permits<'r>(
        &self,
        runtime: &'r Runtime,
        consumer: &'r Consumer,
        operation: Operation,
        model: Option<&str>,
        provider: Option<ProviderIndex>,
    ) -> Result<(), Subject<'r>> {
        let ask = Ask { facts: &self.facts, operation, model, provider };
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
        let consumers = &runtime.consumers;
        holders(&consumers.roles, &consumer.rules, &consumer.roles, &ask)?;
        match consumers.team_of(consumer) {
            Some(team) => holders(&consumers.roles, &team.rules, &team.roles, &ask),
            None => Ok(()),
        }
    }

    /// Gone after a reload of the configuration between head and body.
    fn consumer<'r>(&self, runtime: &'r Runtime) -> Result<&'r Consumer, Refusal> {
        let consumers = &runtime.consumers;
        let found = consumers.find(&self.consumer).and_then(|index| consumers.get(index));
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

/// The rules of a consumer or a team, and of its roles.
fn holders<'r>(
    roles: &'r [Role],
    own: &'r Rules,
    given: &'r [usize],
    ask: &Ask<'_>,
) -> Result<(), Subject<'r>> {
    let given = || given.iter().filter_map(|index| roles.get(*index)).map(|role| &role.rules);
    if let Some(subject) = own.denied(ask).or_else(|| given().find_map(|rules| rules.denied(ask))) {
        return Err(subject);
    }
    rule::allowed(own.allow.iter(), ask)?;
    rule::allowed(given().flat_map(|rules| &rules.allow), ask)
}

fn provider_set(runtime: &Runtime, names: &[String]) -> ProviderSet {
    let named = |index: &ProviderIndex| {
        runtime.providers.get(*index).is_some_and(|provider| names.contains(&provider.name))
    };
    (0..runtime.providers.len()).filter(named).collect()
}

fn denied(message: String) -> Refusal {
    Refusal { kind: "permission_error", ..Refusal::client(403, "permission_denied", message) }
}
