//! What clients and providers speak, and translation where the two differ.
//!
//! Where both speak one format, bytes are patched ([`crate::members`]) and observed ([`crate::observe`]), never
//! translated. Otherwise a request is read into a [`Request`](crate::conversation::Request) and written anew from
//! the client's own body for every attempt; an answer goes the other way, through a [`Translation`].
//!
//! A format costs a reader and a writer for each side that speaks it, never one for each other format:
//!
//! | | clients | providers |
//! |---|---|---|
//! | `openai` (chat completions) | requests read; answers, streams, errors written | requests written; answers, streams read |
//! | `anthropic` (Messages) | the same | the same |
//! | `responses` | the same | |
//! | `gemini` (`generateContent`) | errors written: they are served by providers of the same format alone | the same |
//! | `bedrock` (Converse) | | the same |
//! | `cohere` (Chat, version 2) | | the same |
//!
//! What chat completions take and the services of other formats refuse is put in order on the way: a conversation
//! that the assistant begins gets a user's `…` in front, neighbours become one turn, results of tools stand first in
//! theirs, and what was said while they were awaited behind them.
//!
//! Each format documents in tables what it maps, drops and refuses. A translation fails closed: what cannot be
//! translated is an error in the client's format, and no byte of the provider's reaches a client.

mod anthropic;
mod bedrock;
mod cohere;
mod embeddings;
mod estimate;
mod failure;
mod gemini;
mod json;
mod openai;
mod responses;
mod seal;
mod shape;
mod stream;
mod translation;

use std::borrow::Cow;

use crate::conversation::{Failure, FailureKind, Unsupported};
use crate::endpoint::{Dialect, Endpoint};
use crate::headers::Headers;
use crate::provider::Kind;

use self::gemini::Service;

pub use self::translation::{Setup, Translation};
pub(crate) use anthropic::VERSION as ANTHROPIC_VERSION;
pub(crate) use gemini::status as google_status;

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Chat completions, and OpenAI's other APIs as far as a service has them.
    OpenAi,
    /// Messages.
    Anthropic,
    /// AWS Bedrock's Converse.
    Bedrock,
    /// Cohere's Chat, version 2.
    Cohere,
    /// Google's `generateContent`.
    Gemini,
    /// The same, of Vertex AI.
    Vertex,
    /// Messages in Vertex AI's envelope.
    VertexAnthropic,
}

/// How a provider takes what clients send to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As it is: bytes are patched, the answer is observed.
    Native,
    /// In other words, and its answer back.
    Translated,
}

/// What the path of a request depends on.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub endpoint: Endpoint,
    pub way: Way,
    /// As the provider calls it; empty where it is not known yet.
    pub model: &'a str,
    pub stream: bool,
}

/// A request in a provider's words.
#[derive(Debug)]
pub struct Written {
    pub body: Vec<u8>,
    /// What the answer needs of the request.
    pub echo: Echo,
}

/// What an answer repeats of its request, or cannot be written without.
#[derive(Default, Clone)]
pub struct Echo {
    /// Members as JSON text, each with a comma in front: `,"tools":[]`.
    members: String,
    /// Of embeddings: what the provider calls the model, whether the client wants base64, and how many tokens they
    /// took, where a header tells.
    model: String,
    base64: bool,
    prompt_tokens: Option<u64>,
    /// Tools that the model knows as something else.
    renamed: Vec<responses::Renamed>,
    /// The client takes one call of a tool at most: where a provider has no word for that, further ones are left out.
    one_call: bool,
}

impl Echo {
    /// What the headers of the answer tell and its body may not: Bedrock's, of embeddings of Cohere's.
    /// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html>
    #[must_use]
    pub fn with(mut self, headers: &Headers) -> Self {
        if !self.model.is_empty() {
            let tokens = headers.text("x-amzn-bedrock-input-token-count");
            self.prompt_tokens = tokens.and_then(|tokens| tokens.parse().ok());
        }
        self
    }
}

impl core::fmt::Debug for Echo {
    /// Without what the client wrote.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Echo({} bytes)", self.members.len())
    }
}

impl Format {
    /// Whether it can say what clients ask of an endpoint, where a provider does not take that as it is.
    pub const fn translates(self, endpoint: Endpoint) -> bool {
        match self {
            Self::OpenAi => matches!(endpoint, Endpoint::Messages | Endpoint::Responses),
            Self::Anthropic => {
                matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Responses)
            }
            Self::VertexAnthropic => endpoint.is_conversation(),
            Self::Bedrock | Self::Cohere | Self::Gemini | Self::Vertex => {
                endpoint.is_conversation() || matches!(endpoint, Endpoint::Embeddings)
            }
        }
    }

    /// Where a provider takes a request, below its base path; may have a query. `None`: nowhere, or the name of the
    /// model cannot stand in a path.
    pub fn path(self, call: &Call<'_>) -> Option<Cow<'static, str>> {
        match (self, call.way) {
            // The model is in the path, also of what passes as it is.
            (Self::Gemini, _) => gemini::path(call, Service::AiStudio).map(Cow::Owned),
            (Self::Vertex, _) => gemini::path(call, Service::Vertex).map(Cow::Owned),
            (Self::VertexAnthropic, _) => anthropic::vertex::path(call).map(Cow::Owned),
            (_, Way::Native) => Some(call.endpoint.path().into()),
            (Self::OpenAi, Way::Translated) => Some(Endpoint::ChatCompletions.path().into()),
            (Self::Anthropic, Way::Translated) => Some(Endpoint::Messages.path().into()),
            (Self::Bedrock, Way::Translated) => bedrock::path(call).map(Cow::Owned),
            (Self::Cohere, Way::Translated) => Some(cohere::path(call.endpoint).into()),
        }
    }

    /// Whether an answer of this content type is a stream.
    pub fn is_stream(self, content_type: &str) -> bool {
        match self {
            Self::Bedrock => content_type.starts_with(crate::eventstream::CONTENT_TYPE),
            Self::OpenAi
            | Self::Anthropic
            | Self::Cohere
            | Self::Gemini
            | Self::Vertex
            | Self::VertexAnthropic => content_type.starts_with("text/event-stream"),
        }
    }

    /// Whether what a model takes, and so what is refused, depends on its name.
    pub const fn differs_by_model(self) -> bool {
        matches!(self, Self::Bedrock | Self::Gemini | Self::Vertex)
    }

    /// Whether a request in the client's own words still has to be wrapped for the provider ([`Self::wrap`]).
    pub const fn wraps(self) -> bool {
        matches!(self, Self::VertexAnthropic)
    }

    /// A request in the client's own words that names the model where its path does, too, for a provider that calls
    /// it something else. `None`: as [`Self::wrap`].
    pub fn rename(self, body: &[u8], model: &str) -> Option<Vec<u8>> {
        gemini::embeddings::rename(body, model)
    }

    /// `None`: it is no JSON object.
    pub fn wrap(self, body: Vec<u8>) -> Option<Vec<u8>> {
        if self.wraps() { anthropic::vertex::body(&body) } else { Some(body) }
    }

    /// Whether a provider's host and base path are made of a project and a location of Google Cloud.
    pub const fn is_in_project(self) -> bool {
        matches!(self, Self::Vertex | Self::VertexAnthropic)
    }
}

/// Who a request is written for.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    pub kind: &'static Kind,
    /// As the provider calls it.
    pub model: &'a str,
    /// Whether streams are to be asked for their usage.
    pub include_usage: bool,
}

/// The client's request to `endpoint` in the words of a provider. `body` is a JSON object.
///
/// # Errors
///
/// What the provider's format has no word for.
pub fn request(
    upstream: &Upstream<'_>,
    endpoint: Endpoint,
    body: &[u8],
) -> Result<Written, Unsupported> {
    let body = core::str::from_utf8(body).map_err(|_| Unsupported::new("body", "must be UTF-8"))?;
    let body = body.trim_start_matches('\u{feff}');
    let Upstream { kind, model, .. } = *upstream;
    if endpoint == Endpoint::Embeddings {
        return embed(kind, body, model);
    }
    let (mut request, mut echo) = match endpoint.dialect() {
        Dialect::OpenAi => (openai::read(body)?, Echo::default()),
        Dialect::Anthropic => (anthropic::read_request(body)?, Echo::default()),
        Dialect::Responses => responses::read_request(body)?,
        Dialect::Gemini => return Err(json::not_supported("body")),
    };
    echo.one_call = request.parallel_tools == Some(false);
    if !matches!(kind.format, Format::OpenAi | Format::Cohere) {
        request.begin_with_user();
    }
    let body = match kind.format {
        Format::OpenAi => openai::write_request(&request, upstream),
        Format::Anthropic => anthropic::write(&request, model),
        Format::Bedrock => bedrock::write(&request, model),
        Format::Cohere => cohere::write(&request, model),
        Format::Gemini => gemini::write(&request, model, Service::AiStudio),
        Format::Vertex => gemini::write(&request, model, Service::Vertex),
        Format::VertexAnthropic => anthropic::write(&request, model).and_then(|body| {
            anthropic::vertex::body(&body)
                .ok_or_else(|| json::must_be("body", "a request that can be written"))
        }),
    };
    let body = body.map_err(|error| in_words_of(endpoint.dialect(), error))?;
    Ok(Written { body, echo })
}

/// Writers name members of the whole request as chat completions do; a client is told of its own.
fn in_words_of(dialect: Dialect, error: Unsupported) -> Unsupported {
    let param = match (dialect, error.param.as_str()) {
        (Dialect::Anthropic, "response_format") => "output_config.format",
        (Dialect::Anthropic, "stop") => "stop_sequences",
        (Dialect::Responses, "response_format") => "text.format",
        _ => return error,
    };
    Unsupported::new(param, error.message)
}

/// Moves what `belongs` to the front, in order.
fn in_front<T>(items: &mut Vec<T>, belongs: fn(&T) -> bool) {
    if items.iter().any(belongs) {
        let (mut front, rest): (Vec<_>, Vec<_>) =
            core::mem::take(items).into_iter().partition(belongs);
        front.extend(rest);
        *items = front;
    }
}

/// About how many tokens a request to Messages has; the body need not ask for an answer.
///
/// # Errors
///
/// What is malformed.
pub fn count_tokens(body: &[u8]) -> Result<u64, Unsupported> {
    let body = core::str::from_utf8(body).map_err(|_| Unsupported::new("body", "must be UTF-8"))?;
    anthropic::read_request(body.trim_start_matches('\u{feff}')).map(|r| estimate::tokens(&r))
}

fn embed(kind: &Kind, body: &str, model: &str) -> Result<Written, Unsupported> {
    let request = embeddings::read(body)?;
    let body = match kind.format {
        Format::Gemini => gemini::embeddings::write(&request, model, Service::AiStudio)?,
        Format::Vertex => gemini::embeddings::write(&request, model, Service::Vertex)?,
        Format::Bedrock => bedrock::embeddings::write(&request, model)?,
        Format::Cohere => cohere::embeddings::write(&request, Some(model))?,
        Format::OpenAi | Format::Anthropic | Format::VertexAnthropic => {
            return Err(json::not_supported("body"));
        }
    };
    let echo = Echo { model: model.to_owned(), base64: request.base64, ..Echo::default() };
    Ok(Written { body, echo })
}

/// A provider's error in the client's words: status and body. `status` is what it came with; an error that came in
/// the clothes of an answer gets the one that it stands for.
pub fn error(dialect: Dialect, status: u16, error: &[u8]) -> (u16, Vec<u8>) {
    let late = (200..300).contains(&status);
    let failure = failure::read((!late).then_some(status), error);
    (if late { failure.kind.status() } else { status }, write_error(dialect, &failure))
}

fn write_error(dialect: Dialect, failure: &Failure<'_>) -> Vec<u8> {
    match dialect {
        Dialect::OpenAi | Dialect::Responses => openai::error(failure),
        Dialect::Anthropic => anthropic::error(failure),
        Dialect::Gemini => gemini::error(failure),
    }
}

/// A stream that its provider ended too early: a cut must not look like an end.
fn truncated() -> Failure<'static> {
    let message = "The provider ended the stream before the answer was complete.".into();
    Failure { kind: FailureKind::Truncated, message }
}

/// The terminal event of a stream that passes untranslated.
pub fn cut_event(dialect: Dialect, out: &mut Vec<u8>) {
    if !out.is_empty() && !out.ends_with(b"\n\n") {
        out.extend_from_slice(b"\n\n");
    }
    let failure = truncated();
    match dialect {
        Dialect::OpenAi => openai::error_event(&failure, out),
        Dialect::Anthropic => anthropic::error_event(&failure, out),
        Dialect::Gemini => {
            let error = gemini::error(&failure);
            crate::sse::write_event(None, &String::from_utf8_lossy(&error), out);
        }
        Dialect::Responses => {
            let data = serde_json::json!({
                "type": "error", "code": "stream_truncated", "message": failure.message, "param": null,
            });
            crate::sse::write_event(Some("error"), &data.to_string(), out);
        }
    }
}

#[cfg(test)]
mod agent_tests;

#[cfg(test)]
mod front_tests;
#[cfg(test)]
mod odd_tests;
#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables pass on what `json!` makes")]
mod tests;
