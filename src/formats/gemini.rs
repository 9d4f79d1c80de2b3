//! Google's `generateContent`, of the Gemini API and of Vertex AI: requests written, answers, streams and errors read.
//!
//! <https://ai.google.dev/api/generate-content>, <https://ai.google.dev/gemini-api/docs/function-calling>,
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>; members as in the official
//! SDK google-genai 3.4.
//!
//! # What becomes of a request
//!
//! By the field of [`Request`](crate::conversation::Request):
//!
//! | field | fate | |
//! |---|---|---|
//! | `model` | mapped | into the path |
//! | `messages` | mapped | neighbours of one role are one content; see below |
//! | `tools` | mapped | the schema as `parametersJsonSchema`, byte for byte; `strict` is dropped |
//! | `tool_choice` | mapped | `functionCallingConfig`; not without tools |
//! | `parallel_tools` | mapped | `false`: of several calls the client gets the first |
//! | `max_tokens` | mapped | `maxOutputTokens`, which includes thoughts as well; at most what the model can say |
//! | `temperature`, `top_p`, `top_k` | mapped | |
//! | `seed` | mapped | dropped beyond 32 bits, which Gemini refuses |
//! | `presence_penalty`, `frequency_penalty` | mapped | 0 is dropped: some models refuse any |
//! | `logit_bias` | refused | unless empty: it forbids words |
//! | `choices` | refused | other than 1 |
//! | `logprobs` | refused | |
//! | `stop` | mapped | `stopSequences`; more than five are refused |
//! | `output` | mapped | `responseMimeType`, a schema as `responseJsonSchema`; beside tools refused before Gemini 3 |
//! | `reasoning` | mapped | `thinkingLevel` from Gemini 3, `thinkingBudget` of 2.5, dropped for others |
//! | `stream` | mapped | into the path |
//! | `user` | dropped | |
//! | `service_tier` | mapped | `default` as `standard`, `flex`, `priority`; others dropped |
//!
//! By block:
//!
//! | block | fate | |
//! |---|---|---|
//! | text | mapped | empty ones are dropped: Gemini refuses them |
//! | image, document | mapped | base64 as `inlineData`; a URL, or a file of Google's own, as `fileData`: Vertex AI has to be told its media type, so there its ending must tell it; a file id of another provider is refused |
//! | audio | mapped | `inlineData` |
//! | thinking, redacted | mapped | with Gemini's own signature; any other is dropped |
//! | tool use | mapped | arguments that are no object as `{"malformed_arguments":TEXT}`, an empty text is `{}` |
//! | tool result | mapped | by the name of its call; images and documents follow it |
//! | refusal | mapped | as text |
//! | cache mark | dropped | Gemini caches prefixes by itself |
//!
//! All instructions, wherever they stand, become `systemInstruction`, in order. A conversation of nothing but
//! instructions is sent as the user's; so are instructions to Gemma 2 and 3, which refuse them.
//!
//! # Thought signatures
//!
//! Gemini signs parts: a call, or the last text. In this model a signature is a redacted block of its own, before
//! the call or behind the text, so that the client of any format sends it back with what it does not know. Chat
//! completions have it in `reasoning_details`, and of a call also where Google's own compatibility layer puts it:
//! `tool_calls[].extra_content.google.thought_signature`. Gemini 3 refuses calls of a conversation that come without:
//! where the client lost it or the call was another provider's, Google's word for "none" takes its place.
//!
//! # What becomes of an answer
//!
//! Of the first candidate: texts, thoughts, calls and signatures. Parts of other kinds (images, code that Google
//! ran) are skipped. Pages that Google's search found (`groundingMetadata`) are citations of the text. A call without
//! an id gets one. Usage is in the convention of [`crate::usage`].
//!
//! | `finishReason` | |
//! |---|---|
//! | `STOP` | stop, or tool use where there are calls |
//! | `MAX_TOKENS`, `CONTINUATION` | length |
//! | `SAFETY`, `RECITATION`, `LANGUAGE`, `BLOCKLIST`, `PROHIBITED_CONTENT`, `SPII`, `IMAGE_SAFETY`, `IMAGE_PROHIBITED_CONTENT`, `IMAGE_RECITATION`, `MODEL_ARMOR`, `ESCALATION`, `PUP_LIMITED_DISABLED` | filtered |
//! | `MALFORMED_FUNCTION_CALL`, `MALFORMED_RESPONSE`, `UNEXPECTED_TOOL_CALL`, `TOO_MANY_TOOL_CALLS`, `MISSING_THOUGHT_SIGNATURE` | no answer: a failure of the provider, tried again while nothing has been sent |
//! | any other | other |
//!
//! A prompt that was blocked (`promptFeedback.blockReason`) is a refusal, filtered.

mod answer;
mod content;
pub(super) mod embeddings;
mod error;
mod grounding;
mod model;
mod request;
mod stream;

use crate::endpoint::Endpoint;
use crate::formats::Call;
use crate::members::is_safe_model_segment;

pub(super) use self::answer::read;
pub(super) use self::error::error;
pub(crate) use self::error::status;
pub(super) use self::request::write;
pub(super) use self::stream::StreamReader;

/// Whose API it is; they differ in what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// The Gemini API.
    AiStudio,
    Vertex,
}

/// Below the base path.
pub(super) fn path(call: &Call<'_>, service: Service) -> Option<String> {
    let resource = resource(call.model, service)?;
    let method = match call.endpoint {
        Endpoint::Embeddings => embeddings::method(call.model, service),
        Endpoint::CountContentTokens => "countTokens",
        Endpoint::EmbedContent => "embedContent",
        Endpoint::BatchEmbedContents => "batchEmbedContents",
        _ if call.stream => "streamGenerateContent?alt=sse",
        _ => "generateContent",
    };
    Some(format!("/{resource}:{method}"))
}

/// What a model is called in a path, and where a request has to name it; `None`: nothing that could be one.
///
/// A name with a slash is a resource of another kind: a tuned model, an endpoint, a model of another publisher.
fn resource(model: &str, service: Service) -> Option<String> {
    if model.contains(':') || !is_safe_model_segment(model) {
        return None;
    }
    let (own, kinds) = match service {
        Service::AiStudio => ("models/", ["models/", "tunedModels/"]),
        Service::Vertex => ("publishers/google/models/", ["publishers/", "endpoints/"]),
    };
    if !model.contains('/') {
        return Some(format!("{own}{model}"));
    }
    kinds.iter().any(|kind| model.starts_with(kind)).then(|| model.to_owned())
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables pass on what `json!` makes")]
mod tests;
