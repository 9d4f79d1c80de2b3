//! Reads an answer.

use std::borrow::Cow;

use super::{PLAN, THINKING};
use crate::conversation::{Answer, Block, Finish, FinishReason, Part};
use crate::formats::json::{elements, pick, text};
use crate::members;
use crate::usage::Usage;

/// `None`: it is no answer.
pub(in crate::formats) fn read(body: &[u8]) -> Option<Answer<'_>> {
    let body = core::str::from_utf8(body).ok()?;
    let [id, message, reason, usage] = pick(body, ["id", "message", "finish_reason", "usage"])?;
    let [content, plan, calls] = pick(message?, ["content", "tool_plan", "tool_calls"])?;
    let mut parts: Vec<Part<'_>> = Vec::new();
    if let Some(plan) = plan.and_then(text).filter(|plan| !plan.is_empty()) {
        parts.push(thought(plan, PLAN).into());
    }
    for item in elements(content.unwrap_or("[]"))? {
        parts.extend(read_content(item.get())?.map(Part::from));
    }
    for call in elements(calls.unwrap_or("[]"))? {
        let (id, name, arguments) = tool_call(call.get())?;
        parts.push(Block::ToolUse { id, name, arguments }.into());
    }
    let finish = finish(reason.and_then(text).unwrap_or(Cow::Borrowed("COMPLETE")))?;
    Some(Answer {
        id: id.and_then(text).unwrap_or_default(),
        // Cohere does not repeat it.
        model: Cow::Borrowed(""),
        parts,
        finish,
        usage: usage.and_then(self::usage),
        service_tier: None,
    })
}

/// `None`: a piece of content that is known is not as it should be.
fn read_content(item: &str) -> Option<Option<Block<'_>>> {
    let [kind, told, thinking] = pick(item, ["type", "text", "thinking"])?;
    Some(match text(kind?)?.as_ref() {
        "text" => Some(Block::Text(text(told?)?)),
        "thinking" => Some(thought(text(thinking?)?, THINKING)),
        _ => None,
    })
}

fn thought<'a>(text: Cow<'a, str>, origin: &'static str) -> Block<'a> {
    Block::Thinking { text, signature: None, origin: Some(Cow::Borrowed(origin)) }
}

/// Id, name and arguments.
pub(super) fn tool_call(call: &str) -> Option<(Cow<'_, str>, Cow<'_, str>, Cow<'_, str>)> {
    let [id, function] = pick(call, ["id", "function"])?;
    let [name, arguments] = pick(function?, ["name", "arguments"])?;
    Some((text(id?)?, text(name?)?, arguments.and_then(text).unwrap_or_default()))
}

/// `None`: it is no answer that ended so.
pub(super) fn finish(word: Cow<'_, str>) -> Option<Finish<'_>> {
    let reason = match word.as_ref() {
        "COMPLETE" | "STOP_SEQUENCE" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "TOOL_CALL" => FinishReason::ToolUse,
        "ERROR" | "ERROR_TOXIC" | "ERROR_LIMIT" | "TIMEOUT" => return None,
        _ => FinishReason::Other,
    };
    Some(Finish { reason, word })
}

/// `None` where it holds no count.
pub(super) fn usage(value: &str) -> Option<Usage> {
    let [tokens, billed, cached] = pick(value, ["tokens", "billed_units", "cached_tokens"])?;
    let [input, output] = pick(tokens.or(billed)?, ["input_tokens", "output_tokens"])?;
    input.or(output)?;
    let [prompt, completion, cached] =
        [input, output, cached].map(|count| count.and_then(members::count).unwrap_or_default());
    Some(Usage { prompt, completion, cached: cached.min(prompt), reasoning: 0, cache_write: 0 })
}
