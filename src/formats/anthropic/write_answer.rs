//! Writes an answer.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::conversation::{self, Answer, Citation, FinishReason, Part};
use crate::formats::json::arguments;
use crate::formats::seal;
use crate::usage::Usage;

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: &'static str,
    stop_sequence: Option<()>,
    usage: Counts,
}

/// A block, or one as it begins.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text { text: &'a str, citations: Option<Vec<Cited<'a>>> },
    Thinking { thinking: &'a str, signature: Cow<'a, str> },
    RedactedThinking { data: Cow<'a, str> },
    ToolUse { id: &'a str, name: &'a str, input: Cow<'a, RawValue> },
}

/// A page is told as a result of a search, which is the one kind of source with an address.
#[derive(Serialize)]
pub(super) struct Cited<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    cited_text: &'a str,
    url: &'a str,
    title: Option<&'a str>,
    /// Anthropic's own reference, which nobody else's source has.
    encrypted_index: &'static str,
}

impl<'a> Cited<'a> {
    pub(super) fn of(citation: &'a Citation<'_>) -> Option<Self> {
        Some(Self {
            kind: "web_search_result_location",
            cited_text: citation.quote.as_deref().unwrap_or_default(),
            url: citation.url.as_deref()?,
            title: citation.title.as_deref(),
            encrypted_index: "",
        })
    }
}

/// [`Usage`] in Anthropic's words: what the cache read and wrote is no part of the input.
#[derive(Serialize, Default)]
pub(super) struct Counts {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage
                .prompt
                .saturating_sub(usage.cached)
                .saturating_sub(usage.cache_write),
            cache_creation_input_tokens: usage.cache_write,
            cache_read_input_tokens: usage.cached,
            output_tokens: usage.completion,
        }
    }
}

/// `nonce`: for an answer without an id.
pub(in crate::formats) fn write_answer(answer: &Answer<'_>, nonce: u64) -> Vec<u8> {
    let content: Vec<_> = answer.parts.iter().filter_map(block).collect();
    let calls = content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
    let refuses = |part: &Part<'_>| matches!(part.block, conversation::Block::Refusal(_));
    let refused = answer.parts.iter().any(refuses);
    let reason = if refused { FinishReason::Filtered } else { answer.finish.reason };
    let message = Message {
        id: &id(&answer.id, nonce),
        kind: "message",
        role: "assistant",
        model: &answer.model,
        content,
        stop_reason: stop_reason(reason, calls),
        stop_sequence: None,
        usage: answer.usage.unwrap_or_default().into(),
    };
    serde_json::to_vec(&message).unwrap_or_default()
}

fn block<'a>(part: &'a Part<'_>) -> Option<Block<'a>> {
    use conversation::Block as From;
    Some(match &part.block {
        From::Text(text) | From::Refusal(text) => {
            let citations: Vec<_> = part.citations.iter().filter_map(Cited::of).collect();
            Block::Text { text, citations: (!citations.is_empty()).then_some(citations) }
        }
        From::Thinking { text, signature, origin } => Block::Thinking {
            thinking: text,
            signature: seal::seal(
                From::ANTHROPIC,
                origin.as_deref(),
                signature.as_deref().unwrap_or_default(),
            ),
        },
        From::Redacted { data, origin } => {
            Block::RedactedThinking { data: seal::seal(From::ANTHROPIC, origin.as_deref(), data) }
        }
        // What is no object the tool refuses, and the model learns.
        From::ToolUse { id, name, arguments: text } => {
            Block::ToolUse { id, name, input: arguments(text) }
        }
        // No model answers with these.
        From::Image(_) | From::Document { .. } | From::Audio { .. } | From::ToolResult { .. } => {
            return None;
        }
    })
}

/// Anthropic's ids begin with `msg_`; another's is kept behind that, to be found in both logs.
pub(super) fn id(id: &str, nonce: u64) -> String {
    match id {
        "" => format!("msg_{nonce:016x}"),
        id if id.starts_with("msg_") => id.to_owned(),
        id => format!("msg_{id}"),
    }
}

/// Some services say that a model stopped where it called a tool.
pub(super) fn stop_reason(reason: FinishReason, calls: bool) -> &'static str {
    match reason {
        FinishReason::Length => "max_tokens",
        FinishReason::Filtered => "refusal",
        FinishReason::ToolUse => "tool_use",
        FinishReason::Stop | FinishReason::Other if calls => "tool_use",
        FinishReason::Stop | FinishReason::Other => "end_turn",
    }
}
