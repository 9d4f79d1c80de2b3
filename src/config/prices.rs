//! `prices` as the operator writes them, and other amounts of money.

use serde_json::Value;

use super::decode::{Decode, Place, fields};
use super::error::Errors;
use super::values::{ModelPattern, Name};

/// Rows of `prices`.
pub const MAX_PRICES: usize = 1024;

fields! {
    /// What a model of a provider costs, in US dollars per million tokens.
    #[derive(Debug)]
    pub struct Price {
        pub provider: Name,
        /// As the provider calls it; a prefix and `*` for all that have no price otherwise.
        pub model: ModelPattern,
        pub input: Rate,
        pub output: Rate,
        /// Default: as `input`.
        pub cached_input: Option<Rate> = None,
        /// Default: as `input`.
        pub cache_write: Option<Rate> = None,
        /// Default: as `output`.
        pub reasoning: Option<Rate> = None,
    }
}

/// US dollars per million tokens, kept in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u32);

/// US dollars, kept in billionths; more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dollars(pub u64);

impl Decode for Rate {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        let rate = number(value).filter(|rate| (0.0..=4_000.0).contains(rate));
        // In range: it fits.
        rate.map(|rate| Self((rate * 1e6).round() as u32)).ok_or_else(|| {
            Errors::one(location, "expected US dollars per million tokens, from 0 to 4000")
        })
    }
}

impl Decode for Dollars {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        let dollars = number(value).filter(|dollars| (1e-6..=1e9).contains(dollars));
        dollars.map(|dollars| Self((dollars * 1e9).round() as u64)).ok_or_else(|| {
            Errors::one(location, "expected US dollars, from 0.000001 to 1000000000")
        })
    }
}

/// A number, also as text: Envoy makes a text of every number with a fraction in the YAML of its bootstrap.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            text.parse().ok().filter(|_| plain)
        }
        _ => None,
    }
}
