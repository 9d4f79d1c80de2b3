//! OpenAI's chat completions. For clients: requests read, answers, streams and errors written. For providers: requests
//! written, answers and streams read.
//!
//! <https://platform.openai.com/docs/api-reference/chat/create>,
//! <https://platform.openai.com/docs/api-reference/chat-streaming>
//!
//! # Members of a request
//!
//! *Mapped* ones have a place in [`Request`](crate::conversation::Request); what a provider cannot take of
//! those, its own module says. *Dropped* ones change nothing that the client gets to see. *Refused* ones do, and
//! so does every member that is not listed (as OpenAI itself refuses what it does not know).
//!
//! | member | |
//! |---|---|
//! | `model`, `messages`, `stream`, `stream_options` | mapped |
//! | `tools`, `tool_choice`, `parallel_tool_calls` | mapped; function tools |
//! | `max_completion_tokens`, `max_tokens` | mapped; the first wins |
//! | `temperature`, `top_p`, `top_k`, `seed`, `presence_penalty`, `frequency_penalty`, `logit_bias` | mapped |
//! | `stop`, `n`, `logprobs`, `top_logprobs`, `response_format` | mapped |
//! | `reasoning_effort`, `thinking` | mapped; `thinking` as Anthropic's compatibility layer reads it |
//! | `user`, `safety_identifier` | mapped; the first wins |
//! | `service_tier` | mapped |
//! | `metadata`, `store` | dropped: for stored completions |
//! | `prompt_cache_key`, `prompt_cache_retention` | dropped: for OpenAI's own cache |
//! | `prediction`, `verbosity` | dropped: hints |
//! | `modalities` | `["text"]` is dropped, anything else refused |
//! | `audio`, `web_search_options`, `functions`, `function_call` | refused |
//!
//! # Messages
//!
//! Every role and every kind of content part but `function` messages. `cache_control` on parts, messages and
//! tools is passed on, as Anthropic's and OpenRouter's clients write it. What an assistant's message has beside all that
//! (`annotations`, `citations`, a library's notes) is dropped: it came with the answer of another model.
//!
//! Thinking has no place in chat completions. It goes out as `reasoning_content`, which most clients show, and
//! complete with its signatures as `reasoning_details`
//! (<https://openrouter.ai/docs/use-cases/reasoning-tokens>): `{"type":"reasoning.text","text","signature",
//! "format","index"}` and `{"type":"reasoning.encrypted","data","format","index"}`. A client that sends the
//! assistant message back as it came keeps the provider's thinking valid across tool calls. Gemini's signature of a
//! call is also at the call, where its own compatibility layer has it
//! (<https://ai.google.dev/gemini-api/docs/thought-signatures>): `extra_content.google.thought_signature`. In chat
//! completions all thinking stands before the text and that before the tool calls: a client cannot send any other
//! order.
//!
//! Citations of pages are `annotations`, as of models that search by themselves.
//!
//! # What becomes of a request of other APIs
//!
//! By the field of [`Request`](crate::conversation::Request). *OpenAI* is OpenAI and Azure, whose models are known and
//! which refuse members that they do not know.
//!
//! | field | fate | |
//! |---|---|---|
//! | `model` | mapped | the target's name |
//! | `messages` | mapped | see below |
//! | `tools` | mapped | |
//! | `tool_choice`, `parallel_tools` | mapped | not without tools |
//! | `max_tokens` | mapped | by the name that the service takes; no more than OpenAI's older models can say |
//! | `temperature`, `top_p` | mapped | dropped for reasoning models, which refuse them |
//! | `top_k` | dropped | there is nothing like it |
//! | `seed`, `presence_penalty`, `frequency_penalty`, `logit_bias` | mapped | |
//! | `choices`, `logprobs`, `stop` | mapped | |
//! | `output` | mapped | `response_format`; strict where the schema leaves no object open |
//! | `reasoning` | mapped | `reasoning_effort` of models that are known to take it; a budget by its size |
//! | `stream` | mapped | with `stream_options` where the service takes them |
//! | `user` | mapped | dropped beyond 64 bytes |
//! | `service_tier` | mapped | to OpenAI alone |
//!
//! | block | fate | |
//! |---|---|---|
//! | text, refusal | mapped | instructions of several blocks as one text |
//! | image | mapped | as URL or data URL; a file of another provider is refused |
//! | document | mapped | with its content; one by reference is refused |
//! | audio | mapped | |
//! | thinking, redacted | mapped | within a tool loop, where the service takes it back; else dropped |
//! | tool use | mapped | |
//! | tool result | mapped | a message of its own; images and documents follow with the user's; a failure is told in words |
//! | cache mark | dropped | OpenAI caches prefixes by itself |
//!
//! Of an answer, the first choice is carried: thinking by any of its names, texts, refusals, citations of pages,
//! calls. A stream is over with `[DONE]`, or with its end where it said why it stopped.

mod answer;
mod content;
mod read_answer;
mod read_stream;
mod request;
mod stream;
mod write_messages;
mod write_request;

pub(super) use self::answer::{error, error_event, write};
pub(super) use self::read_answer::read_answer;
pub(super) use self::read_stream::StreamReader;
pub(super) use self::request::read;
pub(super) use self::stream::StreamWriter;
pub(super) use self::write_request::write_request;
