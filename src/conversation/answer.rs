//! An answer, whole or as a stream of events.

use std::borrow::Cow;

use super::{Citation, Part};
use crate::usage::Usage;

/// What a provider said in one document.
#[derive(Debug)]
pub struct Answer<'a> {
    pub id: Cow<'a, str>,
    /// As the provider calls it.
    pub model: Cow<'a, str>,
    pub parts: Vec<Part<'a>>,
    pub finish: Finish<'a>,
    pub usage: Option<Usage>,
    pub service_tier: Option<Cow<'a, str>>,
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish<'a> {
    pub reason: FinishReason,
    /// The provider's own word, of which [`Self::reason`] may be an approximation.
    pub word: Cow<'a, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
    ToolUse,
    /// The provider's filter, or the model's own refusal.
    Filtered,
    /// A word that Keyward does not know; the answer is complete.
    Other,
}

/// One step of a stream. Blocks carry the provider's index: they may be written in turns.
#[derive(Debug)]
pub enum Event<'a> {
    /// First; nothing of the answer yet.
    Start {
        id: Cow<'a, str>,
        model: Cow<'a, str>,
    },
    BlockStart {
        index: u32,
        block: Opened<'a>,
    },
    Delta {
        index: u32,
        delta: Delta<'a>,
    },
    BlockStop {
        index: u32,
    },
    /// Cumulative, in full each time.
    Usage(Usage),
    Finish(Finish<'a>),
    /// Last of an answer that is complete. A stream that ends without one was cut off.
    End,
    /// Last of an answer that is not.
    Failed(Failure<'a>),
    /// Nothing, but the provider is alive.
    Ping,
}

/// What a block is, before its content.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    Text,
    /// The model says that it will not; its deltas are [`Delta::Text`].
    Refusal,
    Thinking {
        /// As of [`Block::Thinking`](super::Block::Thinking).
        origin: Option<&'static str>,
    },
    Redacted {
        data: Cow<'a, str>,
        origin: &'static str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
    },
    /// Of a kind that this model has no place for; its deltas are left out.
    Unknown,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Delta<'a> {
    Text(Cow<'a, str>),
    Thinking(Cow<'a, str>),
    Signature(Cow<'a, str>),
    /// A piece of JSON text.
    Arguments(Cow<'a, str>),
    /// Of the text block.
    Citation(Citation<'a>),
}

/// What went wrong, as a provider says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<'a> {
    pub kind: FailureKind,
    pub message: Cow<'a, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    InvalidRequest,
    Authentication,
    Permission,
    Billing,
    NotFound,
    TooLarge,
    RateLimit,
    Overloaded,
    Timeout,
    /// The stream ended too early.
    Truncated,
    /// Also every kind that Keyward does not know.
    Server,
}

impl FailureKind {
    /// The status it would have come with, had it not come late.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Authentication => 401,
            Self::Billing => 402,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::RateLimit => 429,
            Self::Server | Self::Truncated => 500,
            Self::Overloaded => 503,
            Self::Timeout => 504,
        }
    }
}
