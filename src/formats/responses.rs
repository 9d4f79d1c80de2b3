//! OpenAI's Responses, for clients whose provider has only another API: requests read, answers and streams written.
//!
//! <https://platform.openai.com/docs/api-reference/responses/create>,
//! <https://platform.openai.com/docs/api-reference/responses-streaming>
//!
//! Nothing is stored: a request has to bring the whole conversation, and what refers to something stored is refused.
//!
//! # Members of a request
//!
//! *Mapped*, *dropped* and *refused* as in `openai`; what is not listed is refused.
//!
//! | member | |
//! |---|---|
//! | `model`, `input`, `instructions`, `stream` | mapped |
//! | `tools`, `tool_choice`, `parallel_tool_calls` | mapped; see below |
//! | `max_output_tokens`, `temperature`, `top_p` | mapped |
//! | `text` | mapped: `format`; `verbosity` is dropped |
//! | `reasoning` | mapped: `effort`; how it is summed up is the provider's matter |
//! | `user`, `safety_identifier`, `service_tier` | mapped |
//! | `include` | what asks for thinking back is what happens anyway; probabilities of tokens are refused; the rest is of hosted tools |
//! | `store`, `metadata`, `truncation` | dropped, but told in the answer |
//! | `stream_options`, `max_tool_calls`, `client_metadata` | dropped |
//! | `prompt_cache_key`, `prompt_cache_retention`, `prompt_cache_options` | dropped: for OpenAI's own cache |
//! | `background` | refused unless `false` |
//! | `top_logprobs` | refused unless 0 |
//! | `previous_response_id`, `conversation`, `prompt` | refused: nothing is stored |
//! | `context_management`, `moderation` | refused |
//!
//! # Items and tools
//!
//! Messages with text, images, files and refusals, calls of functions and of custom tools, their results, and
//! reasoning. `additional_tools` and `tool_search_output` bring tools: of those with one name the last counts.
//! `web_search_call` and `tool_search_call`, of a conversation that began at OpenAI, are left out, and so is a
//! reference to reasoning. Any other item is refused.
//!
//! A custom tool, whose input is text and not JSON, is a function with the one argument `input`; a grammar goes along
//! in its description. Tools in a namespace are called `NAMESPACE__NAME`. Both become what they were in the answer.
//! `web_search` and `tool_search` are left out, since clients send them unasked and models do without; a request that
//! insists on one is refused, and so is every other hosted tool.
//!
//! Thinking is a reasoning item: its text the summary, its proof `encrypted_content`.

mod items;
mod read;
mod stream;
mod tools;
mod write;

pub(super) use self::read::read_request;
pub(super) use self::stream::StreamWriter;
pub(super) use self::tools::Renamed;
pub(super) use self::write::write_answer;
