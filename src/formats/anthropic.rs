//! Anthropic's Messages API. For providers: requests written, answers and streams read. For clients: requests read,
//! answers, streams and errors written.
//!
//! <https://platform.claude.com/docs/en/api/messages>,
//! <https://platform.claude.com/docs/en/build-with-claude/streaming>; members as in the official SDK 2.12.
//!
//! # Members of a client's request
//!
//! *Mapped* ones have a place in [`Request`](crate::conversation::Request), *dropped* ones change nothing that the
//! client gets to see, *refused* ones do; what is not listed is refused.
//!
//! | member | |
//! |---|---|
//! | `model`, `messages`, `system`, `max_tokens`, `stream` | mapped |
//! | `temperature`, `top_p`, `top_k`, `stop_sequences` | mapped |
//! | `tools`, `tool_choice` | mapped; tools that Anthropic itself defines or runs are refused |
//! | `thinking`, `output_config`, `output_format` | mapped; effort counts where there is thinking; `task_budget` is dropped |
//! | `metadata` | mapped: `user_id` |
//! | `service_tier` | mapped |
//! | `mcp_servers` | refused unless empty |
//! | `cache_control`, `context_management` | dropped: for Anthropic's own cache and context |
//! | `speed`, `diagnostics`, `user_profile_id`, `workspace_id` | dropped |
//! | `container`, `inference_geo` | refused |
//!
//! Blocks: text, images, documents, search results (as text), thinking, calls and results of tools, and what a client's
//! own search for tools found (`tool_reference`, as text). What Anthropic's servers ran is refused. `citations` are
//! dropped. In the middle of a conversation, messages of the system are instructions, until `clear_at`; the last
//! `output_config.effort` counts, and the tools that are there in the end (`tool_addition`, `tool_removal`). A tool
//! whose loading is deferred is there from the start. Of headers, `anthropic-version` and `anthropic-beta` go to
//! Anthropic alone.
//!
//! Thinking of another vendor is told with its proof marked (`keyward:ORIGIN:PROOF`) and comes back to whom it
//! belongs. Arguments of a tool that are no object are told as `{"malformed_arguments":TEXT}`. Citations of pages are
//! those of search results, with an empty `encrypted_index`; others are left out.
//!
//! # What becomes of a request
//!
//! By the field of [`Request`](crate::conversation::Request):
//!
//! | field | fate | |
//! |---|---|---|
//! | `model` | mapped | the target's name |
//! | `messages` | mapped | neighbours of one role are one message; see below |
//! | `tools` | mapped | `input_schema` is always an object; `strict` where the model takes it |
//! | `tool_choice` | mapped | not without tools, which Anthropic refuses |
//! | `parallel_tools` | mapped | `disable_parallel_tool_use` |
//! | `max_tokens` | mapped | required there: what the model can at most, up to 32,000, where the client leaves it open |
//! | `temperature` | mapped | at most 1, Anthropic's end of the scale; dropped for models that refuse it (from 4.7), and while thinking |
//! | `top_p`, `top_k` | mapped | dropped where `temperature` is; `top_p` also beside a `temperature` from 4.1, which take one of them |
//! | `seed`, `presence_penalty`, `frequency_penalty` | dropped | there is nothing like it; the answer stays one to the question |
//! | `logit_bias` | refused | unless empty: it forbids words |
//! | `choices` | refused | other than 1 |
//! | `logprobs` | refused | |
//! | `stop` | mapped | `stop_sequences`; white space alone is refused, by Anthropic too |
//! | `output` | mapped | a schema as `output_config.format`; "some JSON object" as one more instruction |
//! | `reasoning` | mapped | `output_config.effort` with adaptive thinking from 4.6, before that `budget_tokens`; see below |
//! | `stream` | mapped | |
//! | `user` | mapped | `metadata.user_id` |
//! | `service_tier` | mapped | `auto` and `priority` as `auto`, `default` as `standard_only`, others dropped |
//!
//! By block:
//!
//! | block | fate | |
//! |---|---|---|
//! | text | mapped | blank ones are dropped: Anthropic refuses them |
//! | image | mapped | base64 or URL; a file id of another provider is refused |
//! | document | mapped | PDF, as base64 or URL; anything else is refused |
//! | audio | refused | |
//! | thinking, redacted | mapped | with Anthropic's own signature; any other is dropped |
//! | tool use | mapped | arguments that are no object as `{"malformed_arguments":TEXT}`, an empty text is `{}`; ids are spelled with what Anthropic allows |
//! | tool result | mapped | with its texts, images and documents |
//! | refusal | mapped | as text |
//! | cache mark | mapped | `cache_control` |
//!
//! All instructions, wherever they stand, become `system`, in order. A conversation of nothing but instructions
//! is sent as the user's.
//!
//! Thinking, where it cannot be had, is left out instead of failing: with a forced tool, with less than 1,024
//! tokens for it (it takes at most half of `max_tokens`), and, before 4.6, in a tool loop that a client sent back
//! without the thinking that began it.
//!
//! # What becomes of an answer
//!
//! Text, thinking and tool calls are carried; blocks and deltas of other kinds (server tools, citations) are
//! skipped, as Anthropic asks of clients. Usage is in the convention of [`crate::usage`]: Anthropic's
//! `input_tokens` leave out what the cache read and wrote, which is added.
//!
//! | `stop_reason` | |
//! |---|---|
//! | `end_turn`, `stop_sequence` | stop |
//! | `max_tokens`, `model_context_window_exceeded` | length |
//! | `tool_use` | tool use |
//! | `refusal` | filtered |
//! | `pause_turn` and any other | other |

mod answer;
mod content;
mod error;
mod model;
mod read_blocks;
mod read_request;
mod request;
pub(super) mod schema;
mod stream;
pub(super) mod vertex;
mod write_answer;
mod write_stream;

pub(super) use self::answer::read;
pub(super) use self::error::{error, error_event};
pub(super) use self::model::Model;
pub(super) use self::read_request::read_request;
pub(super) use self::request::{Thinking, effort, sampling, thinking, write};
pub(super) use self::stream::StreamReader;
pub(super) use self::write_answer::write_answer;
pub(super) use self::write_stream::StreamWriter;

/// `anthropic-version`, <https://platform.claude.com/docs/en/api/versioning>.
pub(crate) const VERSION: &str = "2023-06-01";
