//! What clients and providers speak, and translation where the two differ.
//!
//! Where both speak one format, bytes are patched ([`crate::members`]) and observed ([`crate::observe`]), never
//! translated. Otherwise a request is read into a [`Request`](crate::conversation::Request) and written anew from
//! the client's own body for every attempt; an answer goes the other way, through a [`Translation`].
//!
//! Each format documents in tables what it maps, drops and refuses: `openai`, `anthropic`. A translation fails
//! closed: what cannot be translated is an error in the client's format, and no byte of the provider's reaches a
//! client.

mod anthropic;
mod embeddings;
mod gemini;
mod json;
mod openai;
mod translation;

use crate::conversation::{Failure, Unsupported};
use crate::endpoint::Endpoint;

pub use self::translation::Translation;
pub(crate) use anthropic::VERSION as ANTHROPIC_VERSION;

/// What a provider speaks. Clients speak [`Self::OpenAi`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenAi,
    /// Messages.
    Anthropic,
}

impl Format {
    /// Where a provider takes requests to an endpoint, below its base path; `None`: it has nothing like it.
    pub const fn path(self, endpoint: Endpoint) -> Option<&'static str> {
        match (self, endpoint) {
            (Self::OpenAi, _) => Some(endpoint.path()),
            (Self::Anthropic, Endpoint::ChatCompletions) => Some("/messages"),
            (Self::Anthropic, _) => None,
        }
    }

    /// Whether requests and answers have to be translated.
    pub const fn is_foreign(self) -> bool {
        !matches!(self, Self::OpenAi)
    }

    /// The client's request for a provider that calls the model `model`. `body` is a JSON object.
    ///
    /// # Errors
    ///
    /// What the format has no word for.
    pub fn request(self, body: &[u8], model: &str) -> Result<Vec<u8>, Unsupported> {
        let body =
            core::str::from_utf8(body).map_err(|_| Unsupported::new("body", "must be UTF-8"))?;
        let request = openai::read(body)?;
        match self {
            Self::OpenAi => Ok(body.as_bytes().to_vec()),
            Self::Anthropic => anthropic::write(&request, model),
        }
    }

    /// A provider's error in the client's format: status and body. `status` is what it came with; an error that
    /// came in the clothes of an answer gets the one that it stands for.
    pub fn error(self, status: u16, error: &[u8]) -> (u16, Vec<u8>) {
        let failure = self.failure(error);
        let late = (200..300).contains(&status);
        (if late { failure.kind.status() } else { status }, openai::error(&failure))
    }

    fn failure(self, error: &[u8]) -> Failure<'_> {
        match self {
            // Nothing is translated from it.
            Self::OpenAi | Self::Anthropic => anthropic::failure(error),
        }
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables pass on what `json!` makes")]
mod tests;
