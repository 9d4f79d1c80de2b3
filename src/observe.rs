//! What an answer tells while it passes: usage, errors, and whether a stream came to its end.
//!
//! Answers of OpenAI's format pass as bytes. Observing never changes them, but for the one chunk that a client did
//! not ask for; what cannot be understood passes unobserved.
//!
//! - [`StreamObserver`] for event streams: chat completions and completions
//!   (<https://platform.openai.com/docs/api-reference/chat-streaming>) and responses
//!   (<https://platform.openai.com/docs/api-reference/responses-streaming>).
//! - [`JsonObserver`] for answers that are one JSON document.

mod delta;
mod event;
mod json;
mod stream;

pub use self::event::{Class, Observation, classify};
pub use self::json::JsonObserver;
pub use self::stream::{Outcome, Output, StreamObserver};

/// Longest `usage` or `error` value in bytes that is kept.
const MAX_CAPTURE: usize = 16 * 1024;

/// Some services write `""` for `null`.
fn is_absent(value: &str) -> bool {
    matches!(value, "" | "null" | "\"\"")
}
