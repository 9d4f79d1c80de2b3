//! Reads an answer and an error.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::conversation::{Answer, Block, Finish, FinishReason, Part};
use crate::members;
use crate::usage::Usage;

/// Members that an answer may lack are optional: a gateway is no judge of answers.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// One block; which members it has, its type says.
#[derive(Deserialize)]
pub(super) struct WireBlock<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

/// `None`: it is no answer.
pub(in crate::formats) fn read(body: &[u8]) -> Option<Answer<'_>> {
    let message: Message<'_> = members::parse(body)?;
    let mut counts = Counts::default();
    let mut service_tier = None;
    if let Some(usage) = message.usage {
        counts.note(usage.get());
        service_tier = tier(usage.get());
    }
    let mut parts = Vec::with_capacity(message.content.len());
    for block in message.content {
        parts.extend(read_block(block.get())?);
    }
    Some(Answer {
        id: message.id,
        model: message.model,
        parts,
        finish: finish(message.stop_reason.unwrap_or(Cow::Borrowed("end_turn"))),
        usage: counts.usage(),
        service_tier,
    })
}

/// `None`: a block that is known is not as it should be.
fn read_block(block: &str) -> Option<Option<Part<'_>>> {
    let origin = Some(Cow::Borrowed(Block::ANTHROPIC));
    let kind = kind(block)?;
    if !matches!(kind.as_ref(), "text" | "thinking" | "redacted_thinking" | "tool_use") {
        return Some(None);
    }
    let block: WireBlock<'_> = serde_json::from_str(block).ok()?;
    let block = match kind.as_ref() {
        "text" => Block::Text(block.text?),
        "thinking" => Block::Thinking {
            text: block.thinking.unwrap_or_default(),
            signature: block.signature,
            origin,
        },
        "redacted_thinking" => Block::Redacted { data: block.data?, origin },
        _ => Block::ToolUse {
            id: block.id?,
            name: block.name?,
            arguments: block.input.map_or("{}", RawValue::get).into(),
        },
    };
    Some(Some(block.into()))
}

/// The type alone: blocks of other types may have anything else.
pub(super) fn kind(object: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Tagged<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    serde_json::from_str(object).ok().map(|Tagged { kind }| kind)
}

pub(super) fn finish(word: Cow<'_, str>) -> Finish<'_> {
    let reason = match word.as_ref() {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolUse,
        "refusal" => FinishReason::Filtered,
        _ => FinishReason::Other,
    };
    Finish { reason, word }
}

/// `standard`, `priority` or `batch`, in OpenAI's words.
fn tier(usage: &str) -> Option<Cow<'_, str>> {
    let mut tier = None;
    members::walk(usage, |name, value| {
        if name == "service_tier" {
            tier = match value.trim_matches('"') {
                "standard" => Some(Cow::Borrowed("default")),
                "priority" => Some(Cow::Borrowed("priority")),
                _ => None,
            };
        }
    })
    .ok()?;
    tier
}

/// Anthropic's counts, cumulative; a later report may leave some out.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Neither read from the cache nor written to it.
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    thinking: u64,
    any: bool,
}

impl Counts {
    pub(super) fn note(&mut self, usage: &str) {
        let read = members::walk(usage, |name, value| {
            let Some(count) = members::count(value) else {
                if name == "output_tokens_details" {
                    let _ = members::walk(value, |name, value| {
                        if name == "thinking_tokens" {
                            self.thinking =
                                self.thinking.max(members::count(value).unwrap_or_default());
                        }
                    });
                }
                return;
            };
            let field = match name {
                "input_tokens" => &mut self.input,
                "output_tokens" => &mut self.output,
                "cache_read_input_tokens" => &mut self.cache_read,
                "cache_creation_input_tokens" => &mut self.cache_write,
                _ => return,
            };
            *field = count.max(*field);
            self.any = true;
        });
        // No usage is no reason to lose an answer.
        let _ = read;
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        let prompt = self.input.saturating_add(self.cache_read).saturating_add(self.cache_write);
        self.any.then_some(Usage {
            prompt,
            completion: self.output,
            cached: self.cache_read,
            reasoning: self.thinking.min(self.output),
            cache_write: self.cache_write,
        })
    }
}
