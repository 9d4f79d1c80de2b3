//! Limits: what, how much, per which span of time, for whom.
//!
//! A [`Subject`] (a consumer, a team, a model, …) has any number of limits; all of them have to leave room for a
//! request, and then all of them count it, in one record and one compare-and-swap ([`account`]). How a limit counts is
//! arithmetic on a [`window`]. Counts are reserved before a request is sent and made right afterwards ([`toll`]).
//! [`refusal`] says what a client is told.
//!
//! Counts are those of one Envoy process: shared data ends with it.

pub mod account;
pub mod refusal;
pub mod toll;
pub mod window;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::runtime::SLOTS;
use crate::usage::Usage;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    Requests,
    /// Prompt and completion tokens together.
    Tokens,
    PromptTokens,
    CompletionTokens,
    /// Billionths of a US dollar.
    Cost,
}

/// A calendar window, UTC; a week starts on Monday (ISO 8601). Leap seconds do not exist, as in Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// How a limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// From the start of the calendar window: `max` in each.
    #[default]
    FixedWindow,
    /// The window before counts with the share of it that lies within the last window's length.
    SlidingWindow,
    /// A bucket of `max` that refills steadily, `max` in a window's length (the generic cell rate algorithm).
    TokenBucket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub unit: Unit,
    /// At least 1; of a cost, billionths of a US dollar.
    pub max: u64,
    pub per: Per,
    pub algorithm: Algorithm,
}

/// All limits of one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// No two of the same unit, window and algorithm.
    pub list: Vec<Limit>,
    /// Requests at the same time, from their admission to the end of their answers.
    pub concurrency: Option<u32>,
}

/// What one request takes of limits: an estimate before it is sent, what it really took afterwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    pub requests: u64,
    pub prompt: u64,
    pub completion: u64,
    /// Billionths of a US dollar.
    pub cost: u64,
}

/// Whom limits are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject<'a> {
    pub kind: Kind,
    /// As messages call it.
    pub name: Cow<'a, str>,
    /// Its record in shared data: a fixed key space, whoever the subject is. Of an address, what finds it in the table
    /// of addresses.
    pub slot: Cow<'a, str>,
    /// Of a record that passes from one subject to another: whose it is. What it counted for another is void.
    pub owner: u64,
    pub limits: Cow<'a, Limits>,
}

/// The kinds of subjects, in the order in which they are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Address,
    /// A temporary key.
    Key,
    Consumer,
    /// A consumer on a route.
    Route,
    Team,
    Model,
}

impl Unit {
    /// As fields and labels spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::PromptTokens => "prompt-tokens",
            Self::CompletionTokens => "completion-tokens",
            Self::Cost => "cost",
        }
    }
}

impl Per {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// Milliseconds; a month has no length of its own.
    pub const fn length(self) -> Option<u64> {
        Some(match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
            Self::Week => 7 * 86_400_000,
            Self::Month => return None,
        })
    }
}

impl Limit {
    /// A budget is over for long: its refusal tells the client not to wait.
    pub fn is_budget(&self) -> bool {
        self.unit == Unit::Cost || self.per >= Per::Day
    }

    /// Tells the windows of one record apart, across a reload that changes what is configured. A changed `max` keeps
    /// what was counted.
    fn tag(&self) -> u8 {
        (self.unit as u8) << 5 | (self.per as u8) << 2 | self.algorithm as u8
    }
}

impl Limits {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.concurrency.is_none()
    }

    pub fn has_cost(&self) -> bool {
        self.list.iter().any(|limit| limit.unit == Unit::Cost)
    }
}

impl Amounts {
    /// One request of these tokens.
    pub fn of_request(usage: &Usage, cost: u64) -> Self {
        Self { requests: 1, prompt: usage.prompt, completion: usage.completion, cost }
    }

    pub fn tokens(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    pub fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens(),
            Unit::PromptTokens => self.prompt,
            Unit::CompletionTokens => self.completion,
            Unit::Cost => self.cost,
        }
    }
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Key => "key",
            Self::Consumer => "consumer",
            Self::Route => "route",
            Self::Team => "team",
            Self::Model => "model",
        }
    }
}

impl<'a> Subject<'a> {
    /// One that the configuration names; its record is found by that name.
    pub fn configured(kind: Kind, name: &'a str, limits: &'a Limits) -> Self {
        let slot = Cow::Owned([SLOTS, "/limit/", kind.as_str(), "/", name].concat());
        Self { kind, name: Cow::Borrowed(name), slot, owner: 0, limits: Cow::Borrowed(limits) }
    }

    pub fn into_owned(self) -> Subject<'static> {
        Subject {
            kind: self.kind,
            name: Cow::Owned(self.name.into_owned()),
            slot: Cow::Owned(self.slot.into_owned()),
            owner: self.owner,
            limits: Cow::Owned(self.limits.into_owned()),
        }
    }

    fn borrowed(&self) -> Subject<'_> {
        Subject {
            kind: self.kind,
            name: Cow::Borrowed(&self.name),
            slot: Cow::Borrowed(&self.slot),
            owner: self.owner,
            limits: Cow::Borrowed(&self.limits),
        }
    }
}
