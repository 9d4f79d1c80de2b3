//! Writes an answer and an error.

use std::borrow::Cow;

use serde::Serialize;

use crate::conversation::{Answer, Block, Failure, FailureKind, FinishReason};
use crate::sse::write_event;
use crate::usage::Usage;

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
}

/// One entry of `reasoning_details`; in a stream, a piece of one.
#[derive(Serialize)]
pub(super) struct Detail<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<&'a str>,
}

impl Detail<'_> {
    pub(super) fn new(kind: &'static str, index: usize) -> Self {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Self { kind, index, text: None, signature: None, data: None, format: None }
    }
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

/// Where Google's own compatibility layer has the signature of a call.
#[derive(Serialize)]
pub(super) struct ExtraContent<'a> {
    google: Google<'a>,
}

#[derive(Serialize)]
struct Google<'a> {
    thought_signature: &'a str,
}

impl<'a> ExtraContent<'a> {
    pub(super) fn signed(thought_signature: &'a str) -> Self {
        Self { google: Google { thought_signature } }
    }
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// [`Usage`] in OpenAI's words, which has the same convention.
#[derive(Serialize)]
pub(super) struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    /// OpenRouter's name; OpenAI has none.
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached,
                cache_write_tokens: usage.cache_write,
            },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning },
        }
    }
}

/// `created`: Unix time in seconds.
pub(in crate::formats) fn write(answer: &Answer<'_>, created: u64) -> Vec<u8> {
    let (mut content, mut refusal, mut thought) = (None::<String>, None, None::<String>);
    let (mut details, mut calls) = (Vec::new(), Vec::new());
    let mut signature = None;
    for part in &answer.parts {
        let detail = Detail::new("reasoning.text", details.len());
        match &part.block {
            Block::Text(text) => content.get_or_insert_default().push_str(text),
            Block::Refusal(text) => refusal = Some(text.as_ref()),
            Block::Thinking { text, signature, origin } => {
                thought.get_or_insert_default().push_str(text);
                details.push(Detail {
                    text: Some(text),
                    signature: signature.as_deref(),
                    format: origin.as_deref(),
                    ..detail
                });
            }
            Block::Redacted { data, origin } => {
                let is_of_call = origin.as_deref() == Some(Block::GEMINI);
                signature = is_of_call.then_some(data.as_ref());
                details.push(Detail {
                    kind: "reasoning.encrypted",
                    data: Some(data),
                    format: origin.as_deref(),
                    ..detail
                });
            }
            Block::ToolUse { id, name, arguments } => calls.push(ToolCall {
                id,
                kind: "function",
                function: Function { name, arguments: some_arguments(arguments) },
                extra_content: signature.take().map(ExtraContent::signed),
            }),
            // No model answers with these.
            Block::Image(_)
            | Block::Document { .. }
            | Block::Audio { .. }
            | Block::ToolResult { .. } => {}
        }
    }
    let finish_reason = finish(answer.finish.reason, !calls.is_empty());
    let message = Message {
        role: "assistant",
        content: content.or_else(|| calls.is_empty().then(String::new)),
        refusal,
        reasoning_content: thought.filter(|text| !text.is_empty()),
        reasoning_details: details,
        tool_calls: calls,
    };
    let completion = Completion {
        id: &answer.id,
        object: "chat.completion",
        created,
        model: &answer.model,
        choices: [Choice { index: 0, message, logprobs: None, finish_reason }],
        usage: answer.usage.map(WireUsage::from),
        service_tier: answer.service_tier.as_deref(),
    };
    // Strings and numbers only: this cannot fail.
    serde_json::to_vec(&completion).unwrap_or_default()
}

/// Clients parse what they get: no arguments are an empty object.
pub(super) fn some_arguments(arguments: &str) -> &str {
    if arguments.trim().is_empty() { "{}" } else { arguments }
}

/// `finish_reason`. A word that is not known ended an answer all the same.
pub(super) fn finish(reason: FinishReason, calls: bool) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Filtered => "content_filter",
        FinishReason::ToolUse => "tool_calls",
        FinishReason::Other if calls => "tool_calls",
        FinishReason::Stop | FinishReason::Other => "stop",
    }
}

/// The body of an error, which in a stream is the data of an event.
pub(in crate::formats) fn error(failure: &Failure<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        error: Error<'a>,
    }
    #[derive(Serialize)]
    struct Error<'a> {
        message: &'a Cow<'a, str>,
        #[serde(rename = "type")]
        kind: &'static str,
        param: Option<()>,
        code: Option<&'static str>,
    }
    let (kind, code) = match failure.kind {
        FailureKind::InvalidRequest => ("invalid_request_error", None),
        FailureKind::Authentication => ("authentication_error", None),
        FailureKind::Permission => ("permission_error", None),
        FailureKind::Billing => ("insufficient_quota", Some("insufficient_quota")),
        // The path is Keyward's own: what was not found is the model.
        FailureKind::NotFound => ("invalid_request_error", Some("model_not_found")),
        FailureKind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        FailureKind::RateLimit => ("rate_limit_error", Some("rate_limit_exceeded")),
        FailureKind::Overloaded => ("server_error", Some("provider_overloaded")),
        FailureKind::Timeout => ("server_error", Some("provider_timeout")),
        FailureKind::Truncated => ("server_error", Some("stream_truncated")),
        FailureKind::Server => ("server_error", Some("provider_error")),
    };
    let error = Error { message: &failure.message, kind, param: None, code };
    serde_json::to_vec(&Envelope { error }).unwrap_or_default()
}

/// An error as the last event of a stream.
pub(in crate::formats) fn error_event(failure: &Failure<'_>, out: &mut Vec<u8>) {
    write_event(None, &String::from_utf8_lossy(&error(failure)), out);
}
