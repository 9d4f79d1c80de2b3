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
        Value::String(text) => decimal(text),
        _ => None,
    }
}

/// Digits, and a point at most; what follows the twelfth place is smaller than anything counted.
fn decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let places = fraction.get(..12).unwrap_or(fraction);
    let digits: u64 = format!("{whole}{places}").parse().ok()?;
    let places = u32::try_from(places.len()).ok()?;
    Some(digits as f64 / 10_u64.pow(places) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        let table = [
            ("3", Some(3.0)),
            ("0.15", Some(0.15)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("007.250", Some(7.25)),
            ("1000000000", Some(1e9)),
            ("0.0000010000000000000000009", Some(1e-6)),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("1e3", None),
            ("NaN", None),
            ("100000000000000000000000000000000000000000", None),
        ];
        for (text, number) in table {
            assert_eq!(decimal(text), number, "{text}");
        }
    }
}
