//! AWS Bedrock's Converse API: requests written, answers, streams and errors read.
//!
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>; members as in
//! botocore 1.44.
//!
//! # What becomes of a request
//!
//! By the field of [`Request`](crate::conversation::Request):
//!
//! | field | fate | |
//! |---|---|---|
//! | `model` | mapped | into the path, percent-encoded: a model id, an inference profile or an ARN |
//! | `messages` | mapped | neighbours of one role are one message; see below |
//! | `tools` | mapped | `toolConfig.tools`; where only the history has tools, these, as Converse demands |
//! | `tool_choice` | mapped | `none`, which Converse does not know, as one more instruction, or no tools at all |
//! | `parallel_tools` | mapped | for Claude from 4.5 as its own `tool_choice`; otherwise, `false`: of several calls the client gets the first |
//! | `max_tokens` | mapped | `inferenceConfig.maxTokens` |
//! | `temperature`, `top_p` | mapped | `inferenceConfig`, at most 1; for Claude as `anthropic` does |
//! | `top_k` | mapped | for Claude and Nova, dropped for others |
//! | `seed`, `presence_penalty`, `frequency_penalty` | dropped | there is nothing like it |
//! | `logit_bias` | refused | unless empty: it forbids words |
//! | `choices` | refused | other than 1 |
//! | `logprobs` | refused | |
//! | `stop` | mapped | `inferenceConfig.stopSequences`; empty ones are dropped |
//! | `output` | mapped | a schema as `outputConfig.textFormat`; "some JSON object" as one more instruction |
//! | `reasoning` | mapped | by the words of the model (Claude, Nova 2, gpt-oss); dropped for others |
//! | `stream` | mapped | into the path |
//! | `user` | mapped | `requestMetadata.user`, where it has no character that is refused there |
//! | `service_tier` | mapped | `priority`, `default` and `flex`; others dropped |
//!
//! By block:
//!
//! | block | fate | |
//! |---|---|---|
//! | text | mapped | blank ones are dropped: Converse refuses them |
//! | image | mapped | bytes of PNG, JPEG, GIF and WebP, or an `s3://` URL; any other URL is refused |
//! | document | mapped | bytes of the nine types that Converse takes, or an `s3://` URL; any other URL is refused |
//! | audio | mapped | bytes |
//! | thinking, redacted | mapped | Claude's, with its signature; any other is dropped |
//! | tool use | mapped | arguments that are no object as `{"malformed_arguments":TEXT}`, an empty text is `{}`; ids are spelled with what Converse allows |
//! | tool result | mapped | with its texts, images and documents |
//! | refusal | mapped | as text |
//! | cache mark | mapped | `cachePoint`, for Claude and Nova; dropped for models without a cache |
//!
//! Nobody can ask for `guardrailConfig`, `performanceConfig`, `promptVariables` and
//! `additionalModelResponseFieldPaths`: no client's format has a word for them.
//!
//! # What becomes of an answer
//!
//! Text with its citations (each of its whole block), reasoning and tool calls are carried; blocks and deltas of
//! other kinds are skipped. A Converse answer names neither itself nor its model: the first gets a random id, the second
//! is what was asked for. Usage is in the convention of [`crate::usage`]: `inputTokens` leave out what the cache
//! read and wrote, which is added.
//!
//! | `stopReason` | |
//! |---|---|
//! | `end_turn`, `stop_sequence` | stop |
//! | `max_tokens`, `model_context_window_exceeded` | length |
//! | `tool_use` | tool use |
//! | `guardrail_intervened`, `content_filtered` | filtered |
//! | `malformed_model_output`, `malformed_tool_use` and any other | other |
//!
//! Embeddings go by `InvokeModel`, in the words of Amazon Titan or Cohere.
//!
//! A stream comes as [`crate::eventstream`]. An exception in it is an error for the client, whenever it comes.

mod answer;
mod content;
pub(super) mod embeddings;
mod model;
mod request;
mod stream;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::endpoint::Endpoint;
use crate::formats::Call;

pub(super) use self::answer::read;
pub(super) use self::request::write;
pub(super) use self::stream::StreamReader;

/// All but the unreserved characters of RFC 3986: the colons and slashes of an ARN, too, as the SDKs do.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Below the base path. Nothing in a name ends the segment; a name of dots alone would be one of its own kind.
pub(super) fn path(call: &Call<'_>) -> Option<String> {
    if matches!(call.model, "" | "." | "..") {
        return None;
    }
    let operation = match (call.endpoint, call.stream) {
        (Endpoint::Embeddings, _) => "invoke",
        (_, true) => "converse-stream",
        (_, false) => "converse",
    };
    let model = utf8_percent_encode(call.model, SEGMENT);
    Some(format!("/{model}/{operation}"))
}

#[cfg(test)]
mod tests;
