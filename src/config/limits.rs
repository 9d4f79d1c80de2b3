//! `limits` as the operator writes them: of keys, consumers, teams and models.

use serde_json::Value;

use super::decode::{Decode, FromText, Place, fields, word};
use super::error::{Errors, Invalid};
use super::prices::Dollars;
use super::source::struct_value;
use super::values::{List, Whole};
use crate::limit::{Algorithm, Limit, Limits, Per, Unit};

/// Limits of one subject.
pub const MAX_LIMITS: usize = 8;
/// Requests at the same time.
const MAX_CONCURRENCY: u64 = 1_000_000;

/// One element of a list of limits.
#[derive(Debug)]
enum Entry {
    Limit(Limit),
    Concurrency(u32),
}

/// Limits in the metadata of a route.
///
/// # Errors
/// What is wrong with them first, with its path, which starts with `limits`.
pub fn of_metadata(value: prost_types::Value) -> Result<Limits, String> {
    let value = struct_value(value, 0).map_err(|error| format!("limits: {error}"))?;
    Limits::decode(&value, Place::Root.member("limits")).map_err(|errors| {
        errors.0.first().map_or_else(|| "limits: wrong".to_owned(), ToString::to_string)
    })
}

/// `[{requests: N, per: …}, {tokens: N, per: …}, {cost: USD, per: …}, {concurrency: N}]`.
impl Decode for Limits {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        let entries = List::<Entry, 0, MAX_LIMITS>::decode(value, location)?;
        let mut limits = Self::default();
        let mut errors = Errors::default();
        let mut seen: Vec<&Entry> = Vec::new();
        for (index, entry) in entries.0.iter().enumerate() {
            if let Some(first) = seen.iter().position(|earlier| earlier.counts_like(entry)) {
                let message = format!("counts the same as [{first}]");
                errors.push(location.element(index), message);
            }
            seen.push(entry);
            match entry {
                Entry::Limit(limit) => limits.list.push(*limit),
                Entry::Concurrency(most) => limits.concurrency = Some(*most),
            }
        }
        if errors.0.is_empty() { Ok(limits) } else { Err(errors) }
    }
}

impl Entry {
    fn counts_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Concurrency(_), Self::Concurrency(_)) => true,
            (Self::Limit(one), Self::Limit(other)) => {
                (one.unit, one.per, one.algorithm) == (other.unit, other.per, other.algorithm)
            }
            _ => false,
        }
    }
}

impl Decode for Entry {
    fn decode(value: &Value, location: Place<'_>) -> Result<Self, Errors> {
        type Count = Whole<1, { u64::MAX }>;
        fields! {
            struct Written {
                requests: Option<Count> = None,
                tokens: Option<Count> = None,
                prompt_tokens: Option<Count> = None,
                completion_tokens: Option<Count> = None,
                cost: Option<Dollars> = None,
                concurrency: Option<Whole<1, MAX_CONCURRENCY>> = None,
                per: Option<Per> = None,
                algorithm: Option<Algorithm> = None,
            }
        }
        const UNITS: &str = "requests, tokens, prompt_tokens, completion_tokens, cost, concurrency";
        let written = Written::decode(value, location)?;
        let counts = [
            (Unit::Requests, written.requests.map(|Whole(max)| max)),
            (Unit::Tokens, written.tokens.map(|Whole(max)| max)),
            (Unit::PromptTokens, written.prompt_tokens.map(|Whole(max)| max)),
            (Unit::CompletionTokens, written.completion_tokens.map(|Whole(max)| max)),
            (Unit::Cost, written.cost.map(|Dollars(max)| max)),
        ];
        let mut named = counts.into_iter().filter_map(|(unit, max)| Some((unit, max?)));
        let (unit, max) = match (named.next(), written.concurrency) {
            (None, Some(most)) => {
                for (member, given) in
                    [("per", written.per.is_some()), ("algorithm", written.algorithm.is_some())]
                {
                    if given {
                        let message = "not for concurrency, which has no window";
                        return Err(Errors::one(location.member(member), message));
                    }
                }
                return Ok(Self::Concurrency(most.to_u32()));
            }
            (Some(first), None) if named.next().is_none() => first,
            _ => return Err(Errors::one(location, format!("expected exactly one of {UNITS}"))),
        };
        let Some(per) = written.per else {
            return Err(Errors::one(location.member("per"), "missing"));
        };
        let algorithm = written.algorithm.unwrap_or_default();
        let limit = Limit { unit, max, per, algorithm };
        check_algorithm(&limit)
            .map_err(|Invalid(message)| Errors::one(location.member("algorithm"), message))?;
        Ok(Self::Limit(limit))
    }
}

fn check_algorithm(limit: &Limit) -> Result<(), Invalid> {
    if limit.algorithm == Algorithm::FixedWindow {
        return Ok(());
    }
    let Some(length) = limit.per.length().filter(|_| limit.per <= Per::Hour) else {
        return Err("a day and longer are calendar windows: fixed_window".into());
    };
    let most = u64::MAX / length / 2;
    if limit.algorithm == Algorithm::TokenBucket && limit.max > most {
        let most = match limit.unit {
            Unit::Cost => format!("{} US dollars", most / 1_000_000_000),
            _ => most.to_string(),
        };
        let per = limit.per.as_str();
        return Err(Invalid(format!("a token_bucket holds at most {most} per {per}")));
    }
    Ok(())
}

impl FromText for Per {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        const ALL: [Per; 6] =
            [Per::Second, Per::Minute, Per::Hour, Per::Day, Per::Week, Per::Month];
        word(text, &ALL.map(|per| (per.as_str(), per)))
    }
}

impl FromText for Algorithm {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        const ALL: [(&str, Algorithm); 3] = [
            ("fixed_window", Algorithm::FixedWindow),
            ("sliding_window", Algorithm::SlidingWindow),
            ("token_bucket", Algorithm::TokenBucket),
        ];
        word(text, &ALL)
    }
}
