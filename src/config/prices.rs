//! `prices` as the operator writes them, and other amounts of money.

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};

use super::error::Errors;
use super::values::{ModelPattern, Name};

/// Rows of `prices`.
pub const MAX_PRICES: usize = 1024;

/// What a model of a provider costs, in US dollars per million tokens.
#[derive(Debug, Deserr)]
#[deserr(error = Errors, deny_unknown_fields)]
pub struct Price {
    pub provider: Name,
    /// As the provider calls it; a prefix and `*` for all that have no price otherwise.
    pub model: ModelPattern,
    pub input: Rate,
    pub output: Rate,
    /// Default: as `input`.
    #[deserr(default)]
    pub cached_input: Option<Rate>,
    /// Default: as `input`.
    #[deserr(default)]
    pub cache_write: Option<Rate>,
    /// Default: as `output`.
    #[deserr(default)]
    pub reasoning: Option<Rate>,
}

/// US dollars per million tokens, kept in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u32);

/// US dollars, kept in billionths; more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dollars(pub u64);

impl Deserr<Errors> for Rate {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        let rate = number(&value).filter(|rate| (0.0..=4_000.0).contains(rate));
        // In range: it fits.
        rate.map(|rate| Self((rate * 1e6).round() as u32)).ok_or_else(|| {
            Errors::one(location, "expected US dollars per million tokens, from 0 to 4000")
        })
    }
}

impl Deserr<Errors> for Dollars {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Errors> {
        let dollars = number(&value).filter(|dollars| (1e-6..=1e9).contains(dollars));
        dollars.map(|dollars| Self((dollars * 1e9).round() as u64)).ok_or_else(|| {
            Errors::one(location, "expected US dollars, from 0.000001 to 1000000000")
        })
    }
}

/// A number, also as text: Envoy makes a text of every number with a fraction in the YAML of its bootstrap.
fn number<V: IntoValue>(value: &Value<V>) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::String(text) => {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            text.parse().ok().filter(|_| plain)
        }
        _ => None,
    }
}
