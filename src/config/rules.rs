//! `allow` and `deny` of consumers, teams and roles as the operator writes them.

use serde_json::Value;

use super::MAX_PROVIDERS;
use super::decode::{Decode, FromText, Place, fields};
use super::error::{Errors, Invalid, known, quoted, wrong_kind};
use super::values::{HeaderName, List, ModelPattern, Name};
use crate::consumer::cidr::Cidr;
use crate::consumer::hours::Hours;
use crate::consumer::identify::CREDENTIALS;
use crate::consumer::rule::OPERATIONS;
use crate::endpoint::Operation;

/// Rules of one `allow` or `deny`.
const MAX_RULES: usize = 16;
/// Members of one list in a rule.
pub const MAX_CONDITIONS: usize = 64;
/// Bytes of an identity, a route's name, a header's value.
const MAX_TEXT: usize = 512;

/// One rule, or a list of rules.
#[derive(Debug, Default)]
pub struct RuleList {
    pub rules: Vec<Rule>,
    /// Written as a list: its elements have an index in paths.
    pub listed: bool,
}

impl Decode for RuleList {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        match value {
            Value::Object(_) => {
                let rule = Rule::decode(value, location)?;
                Ok(Self { rules: vec![rule], listed: false })
            }
            Value::Array(_) => {
                let rules = List::<Rule, 1, MAX_RULES>::decode(value, location)?;
                Ok(Self { rules: rules.0, listed: true })
            }
            other => Err(Errors::one(location, wrong_kind("an object or an array", other))),
        }
    }
}

fields! {
    /// Conditions that all have to hold; at least one.
    #[derive(Debug)]
    pub struct Rule {
        /// What the client asks for.
        pub models: Option<List<ModelPattern, 1, MAX_CONDITIONS>> = None,
        pub endpoints: Option<List<Operation, 1, { OPERATIONS.len() }>> = None,
        pub providers: Option<List<Name, 1, MAX_PROVIDERS>> = None,
        /// Of the caller, as Envoy determined its address.
        pub cidrs: Option<List<Cidr, 1, MAX_CONDITIONS>> = None,
        /// UTC.
        pub hours: Option<List<Hours, 1, MAX_CONDITIONS>> = None,
        pub header: Option<Header> = None,
        /// Name of Envoy's route.
        pub route: Option<Text> = None,
    } => Rule::says_something
}

impl Rule {
    fn says_something(self, location: Place<'_>) -> Result<Self, Errors> {
        let Self { models, endpoints, providers, cidrs, hours, header, route } = &self;
        let lists = models.is_some() || endpoints.is_some() || providers.is_some();
        if lists || cidrs.is_some() || hours.is_some() || header.is_some() || route.is_some() {
            return Ok(self);
        }
        let message = "has no condition; known: models, endpoints, providers, cidrs, hours, \
                       header, route";
        Err(Errors::one(location, message))
    }
}

fields! {
    /// A header of the client: `{name, equals}` or `{name, prefix}`.
    #[derive(Debug)]
    pub struct Header {
        pub name: HeaderName,
        pub equals: Option<Text> = None,
        pub prefix: Option<Text> = None,
    } => Header::one_value
}

impl Header {
    fn one_value(self, location: Place<'_>) -> Result<Self, Errors> {
        if self.equals.is_some() == self.prefix.is_some() {
            return Err(Errors::one(location, "expected exactly one of equals, prefix"));
        }
        not_a_credential(&self.name, location)?;
        Ok(self)
    }
}

/// Credentials are taken off before anything else is looked at, and belong into no configuration.
pub(super) fn not_a_credential(name: &HeaderName, location: Place<'_>) -> Result<(), Errors> {
    if CREDENTIALS.contains(&name.0.as_str()) {
        let message = format!("{} carries a key; to look it up, identify by key", name.0);
        return Err(Errors::one(location, message));
    }
    Ok(())
}

/// A name that somebody else gives: an identity, a route, the value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl FromText for Text {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let printable = !text.chars().any(char::is_control);
        if (1..=MAX_TEXT).contains(&text.len()) && printable && text.trim() == text {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid(format!("expected 1 to {MAX_TEXT} bytes of printable text")))
    }
}

impl FromText for Operation {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        {
            let row = OPERATIONS.iter().find(|(name, _)| *name == text);
            row.map(|(_, operation)| *operation).ok_or_else(|| {
                let known = known(OPERATIONS.iter().map(|(name, _)| *name));
                Invalid(format!("{} is not an endpoint; {known}", quoted(text)))
            })
        }
    }
}

impl FromText for Cidr {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        {
            Self::parse(text).ok_or_else(|| {
                let text = quoted(text);
                Invalid(format!(
                    "{text} is not a block of addresses; write it like 10.0.0.0/8 or 2001:db8::/32, \
                     with no bits behind the prefix"
                ))
            })
        }
    }
}

impl FromText for Hours {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        {
            Self::parse(text).ok_or_else(|| {
                let text = quoted(text);
                Invalid(format!(
                    "{text} are not hours; write them like 08:00-18:00 or mon-fri 22:00-06:00, UTC"
                ))
            })
        }
    }
}
