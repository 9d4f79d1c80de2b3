//! What a temporary key is narrowed to: the members of a request for one, which the key then carries as they are.

use core::time::Duration;

use serde_json::Value;

use crate::config::decode::{Decode as _, Place, fields};
use crate::config::rules::MAX_CONDITIONS;
use crate::config::secrets::Hidden;
use crate::config::values::{List, ModelPattern, Name, Whole};
use crate::consumer::cidr::Cidr;
use crate::consumer::rule::{Ask, OPERATIONS, Pattern, Subject};
use crate::endpoint::Operation;
use crate::limit::Limits;

fields! {
    /// The body of `POST /keyward/keys`.
    #[derive(Debug)]
    pub struct KeyRequest {
        /// For whom; default: the caller. Only an admin may name somebody else.
        pub consumer: Option<Name> = None,
        /// Default: the longest that is allowed.
        pub ttl: Option<Duration> = None,
        /// The code of the second factor.
        pub totp: Option<Hidden> = None,
        pub models: Option<List<ModelPattern, 1, MAX_CONDITIONS>> = None,
        pub endpoints: Option<List<Operation, 1, { OPERATIONS.len() }>> = None,
        /// The client's address has to be in one of these.
        pub cidrs: Option<List<Cidr, 1, MAX_CONDITIONS>> = None,
        /// Besides those of its consumer.
        pub limits: Limits = Limits::default(),
        /// Requests that may be sent with it.
        pub uses: Option<Whole<1, { u32::MAX as u64 }>> = None,
    }
}

/// Members of a request that are not part of the key.
const NOT_OF_THE_KEY: [&str; 3] = ["consumer", "ttl", "totp"];

/// What is left out is not narrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    pub models: Option<Vec<Pattern>>,
    pub endpoints: Option<Vec<Operation>>,
    pub cidrs: Option<Vec<Cidr>>,
    pub limits: Limits,
    pub uses: Option<u32>,
}

impl KeyRequest {
    pub fn scope(self) -> Scope {
        let pattern = |model: &ModelPattern| Pattern::of_model(&model.0);
        Scope {
            models: self.models.map(|models| models.0.iter().map(pattern).collect()),
            endpoints: self.endpoints.map(|endpoints| endpoints.0),
            cidrs: self.cidrs.map(|cidrs| cidrs.0),
            limits: self.limits,
            uses: self.uses.map(Whole::to_u32),
        }
    }
}

impl Scope {
    /// What the key carries of a request.
    pub fn claim(request: &Value) -> Value {
        let members = request.as_object().into_iter().flatten();
        let own = members.filter(|(name, _)| !NOT_OF_THE_KEY.contains(&name.as_str()));
        Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// # Errors
    /// What the key is not for.
    pub fn permits(&self, ask: &Ask<'_>) -> Result<(), Subject<'static>> {
        if let Some(cidrs) = &self.cidrs {
            let within = |address| cidrs.iter().any(|cidr| cidr.contains(address));
            if !ask.facts.address.is_some_and(within) {
                return Err(Subject::Address);
            }
        }
        if self.endpoints.as_ref().is_some_and(|known| !known.contains(&ask.operation)) {
            return Err(Subject::Endpoint);
        }
        let any = |model: &str| {
            let models = self.models.as_ref();
            models.is_none_or(|models| models.iter().any(|m| m.matches(model.as_bytes())))
        };
        if ask.model.is_some_and(|model| !any(model)) {
            return Err(Subject::Model);
        }
        Ok(())
    }

    /// `None` for what another version of Keyward may understand: it might narrow more.
    pub fn from_claim(claim: &Value) -> Option<Self> {
        KeyRequest::decode(claim, Place::Root).ok().map(KeyRequest::scope)
    }
}
