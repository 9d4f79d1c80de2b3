//! What clients and providers say to each other, in no vendor's words.
//!
//! A superset of the formats that are translated: whatever a reader finds in its format has a place here, and
//! what a writer cannot say it drops or refuses by the table in its module. So a format costs one reader and
//! one writer, not one translator for each other format.
//!
//! - [`Request`], borrowed from the body of the client: only what has escapes is copied, and what is opaque
//!   (schemas, arguments) stays the bytes it was.
//! - [`Answer`], of one JSON document.
//! - [`Event`], of a stream; in the order of the provider, so that a writer needs no look-ahead.

mod answer;
mod request;

pub use self::answer::{Answer, Delta, Event, Failure, FailureKind, Finish, FinishReason, Opened};
pub use self::request::{
    Block, CacheMark, Citation, Effort, Message, Output, Part, Reasoning, Request, Role, Sampling,
    Source, Tool, ToolChoice,
};

use core::fmt;

/// Why a request cannot be said in a format: always the fault of the client (400).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Where, as a path in the client's own request: `messages[2].content[0].type`.
    pub param: String,
    /// A sentence, fit for the client.
    pub message: String,
}

impl Unsupported {
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), message: message.into() }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}': {}", self.param, self.message)
    }
}

impl core::error::Error for Unsupported {}
