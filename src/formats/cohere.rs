//! Cohere's Chat API, version 2: requests written, answers, streams and errors read.
//!
//! <https://docs.cohere.com/v2/reference/chat>, <https://docs.cohere.com/v2/docs/streaming>; members as in the
//! official SDK 7.3.
//!
//! # What becomes of a request
//!
//! By the field of [`Request`](crate::conversation::Request):
//!
//! | field | fate | |
//! |---|---|---|
//! | `model` | mapped | the target's name |
//! | `messages` | mapped | instructions keep their places; each tool result is a message of its own; see below |
//! | `tools` | mapped | `strict_tools` where all of them are strict |
//! | `tool_choice` | mapped | a named tool as the only one that is offered |
//! | `parallel_tools` | mapped | `false`: of several calls the client gets the first |
//! | `max_tokens` | mapped | |
//! | `temperature` | mapped | |
//! | `top_p`, `top_k` | mapped | `p`, from 0.01 to 0.99, and `k` |
//! | `seed` | mapped | |
//! | `presence_penalty`, `frequency_penalty` | mapped | from 0 to 1 |
//! | `logit_bias` | refused | unless empty: it forbids words |
//! | `choices` | refused | other than 1 |
//! | `logprobs` | refused | |
//! | `stop` | mapped | `stop_sequences` |
//! | `output` | mapped | `response_format`; refused beside tools, as by Cohere |
//! | `reasoning` | mapped | `thinking`, for models that reason; dropped for others |
//! | `stream` | mapped | |
//! | `user` | dropped | there is nothing like it |
//! | `service_tier` | dropped | likewise |
//!
//! By block:
//!
//! | block | fate | |
//! |---|---|---|
//! | text | mapped | blank ones are dropped |
//! | image | mapped | base64 or URL; a file id of another provider is refused |
//! | document | refused | |
//! | audio | refused | |
//! | thinking | mapped | Cohere's, as content or as `tool_plan`; any other is dropped |
//! | redacted | dropped | |
//! | tool use | mapped | |
//! | tool result | mapped | with its texts; anything else in it is refused |
//! | refusal | mapped | as text |
//! | cache mark | dropped | Cohere caches by itself |
//!
//! # What becomes of an answer
//!
//! Text, thinking, `tool_plan` (as thinking) and tool calls are carried; events of other kinds are skipped, and so are
//! citations: what they name is what the request brought, results of tools and documents, and clients have words for
//! pages alone. Usage is what `tokens` says, not what is billed.
//!
//! | `finish_reason` | |
//! |---|---|
//! | `COMPLETE`, `STOP_SEQUENCE` | stop |
//! | `MAX_TOKENS` | length |
//! | `TOOL_CALL` | tool use |
//! | `ERROR`, `ERROR_TOXIC`, `ERROR_LIMIT`, `TIMEOUT` | no answer, but an error |
//! | any other | other |

mod answer;
pub(super) mod embeddings;
mod request;
mod stream;

use crate::endpoint::Endpoint;

pub(super) use self::answer::read;
pub(super) use self::request::write;
pub(super) use self::stream::StreamReader;

/// Below the base path.
pub(super) const fn path(endpoint: Endpoint) -> &'static str {
    if matches!(endpoint, Endpoint::Embeddings) { "/embed" } else { "/chat" }
}

/// Whose thinking it is, as [`Block::ANTHROPIC`](crate::conversation::Block::ANTHROPIC).
const THINKING: &str = "cohere-thinking-v2";

/// The plan before tool calls, which Cohere keeps apart.
const PLAN: &str = "cohere-tool-plan-v2";

#[cfg(test)]
mod tests;
