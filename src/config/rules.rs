//! `allow` and `deny` of consumers, teams and roles as the operator writes them.

use deserr::{Deserr, IntoValue, Value, ValueKind, ValuePointerRef};

use super::MAX_PROVIDERS;
use super::error::{Errors, Invalid, known, quoted, wrong_kind};
use super::values::{HeaderName, List, ModelPattern, Name, from_text};
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

impl Deserr<Errors> for RuleList {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        match value {
            Value::Map(_) => {
                let rule = Rule::deserialize_from_value(value, location)?;
                Ok(Self { rules: vec![rule], listed: false })
            }
            Value::Sequence(_) => {
                let rules = List::<Rule, 1, MAX_RULES>::deserialize_from_value(value, location)?;
                Ok(Self { rules: rules.0, listed: true })
            }
            other => {
                let kinds = [ValueKind::Map, ValueKind::Sequence];
                Err(Errors::one(location, wrong_kind(&kinds, other.kind())))
            }
        }
    }
}

/// Conditions that all have to hold; at least one.
#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields, validate = Rule::says_something -> Errors)]
pub struct Rule {
    /// What the client asks for.
    #[deserr(default)]
    pub models: Option<List<ModelPattern, 1, MAX_CONDITIONS>>,
    #[deserr(default)]
    pub endpoints: Option<List<Operation, 1, { OPERATIONS.len() }>>,
    #[deserr(default)]
    pub providers: Option<List<Name, 1, MAX_PROVIDERS>>,
    /// Of the caller, as Envoy determined its address.
    #[deserr(default)]
    pub cidrs: Option<List<Cidr, 1, MAX_CONDITIONS>>,
    /// UTC.
    #[deserr(default)]
    pub hours: Option<List<Hours, 1, MAX_CONDITIONS>>,
    #[deserr(default)]
    pub header: Option<Header>,
    /// Name of Envoy's route.
    #[deserr(default)]
    pub route: Option<Text>,
}

impl Rule {
    fn says_something(self, location: ValuePointerRef<'_>) -> Result<Self, Errors> {
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

/// A header of the client: `{name, equals}` or `{name, prefix}`.
#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields, validate = Header::one_value -> Errors)]
pub struct Header {
    pub name: HeaderName,
    #[deserr(default)]
    pub equals: Option<Text>,
    #[deserr(default)]
    pub prefix: Option<Text>,
}

impl Header {
    fn one_value(self, location: ValuePointerRef<'_>) -> Result<Self, Errors> {
        if self.equals.is_some() == self.prefix.is_some() {
            return Err(Errors::one(location, "expected exactly one of equals, prefix"));
        }
        not_a_credential(&self.name, location)?;
        Ok(self)
    }
}

/// Credentials are taken off before anything else is looked at, and belong into no configuration.
pub(super) fn not_a_credential(
    name: &HeaderName,
    location: ValuePointerRef<'_>,
) -> Result<(), Errors> {
    if CREDENTIALS.contains(&name.0.as_str()) {
        let message = format!("{} carries a key; to look it up, identify by key", name.0);
        return Err(Errors::one(location, message));
    }
    Ok(())
}

/// A name that somebody else gives: an identity, a route, the value of a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserr)]
#[deserr(error = Errors, try_from(String) = text -> Invalid)]
pub struct Text(pub String);

pub(super) fn text(text: String) -> Result<Text, Invalid> {
    let printable = !text.chars().any(char::is_control);
    if (1..=MAX_TEXT).contains(&text.len()) && printable && text.trim() == text {
        return Ok(Text(text));
    }
    Err(Invalid(format!("expected 1 to {MAX_TEXT} bytes of printable text")))
}

impl Deserr<Errors> for Operation {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        from_text(value, location, |text| {
            let row = OPERATIONS.iter().find(|(name, _)| *name == text);
            row.map(|(_, operation)| *operation).ok_or_else(|| {
                let known = known(OPERATIONS.iter().map(|(name, _)| *name));
                Invalid(format!("{} is not an endpoint; {known}", quoted(&text)))
            })
        })
    }
}

impl Deserr<Errors> for Cidr {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        from_text(value, location, |text| {
            Self::parse(&text).ok_or_else(|| {
                let text = quoted(&text);
                Invalid(format!(
                    "{text} is not a block of addresses; write it like 10.0.0.0/8 or 2001:db8::/32, \
                     with no bits behind the prefix"
                ))
            })
        })
    }
}

impl Deserr<Errors> for Hours {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        from_text(value, location, |text| {
            Self::parse(&text).ok_or_else(|| {
                let text = quoted(&text);
                Invalid(format!(
                    "{text} are not hours; write them like 08:00-18:00 or mon-fri 22:00-06:00, UTC"
                ))
            })
        })
    }
}
