//! Reads an answer.

use std::borrow::Cow;

use crate::conversation::{Answer, Block, Citation, Finish, FinishReason, Part};
use crate::formats::json::{elements, pick, text};
use crate::members;
use crate::usage::Usage;

/// `None`: it is no answer.
pub(in crate::formats) fn read(body: &[u8]) -> Option<Answer<'_>> {
    let body = core::str::from_utf8(body).ok()?;
    let [output, reason, usage, tier] =
        pick(body, ["output", "stopReason", "usage", "serviceTier"])?;
    let [message] = pick(output?, ["message"])?;
    let [content] = pick(message?, ["content"])?;
    let mut parts = Vec::new();
    for block in elements(content?)? {
        parts.extend(read_block(block.get())?);
    }
    span(&mut parts);
    Some(Answer {
        // Converse names neither.
        id: Cow::Borrowed(""),
        model: Cow::Borrowed(""),
        parts,
        finish: finish(reason.and_then(text).unwrap_or(Cow::Borrowed("end_turn"))),
        usage: usage.and_then(self::usage),
        service_tier: tier.and_then(self::tier),
    })
}

/// `None`: a block that is known is not as it should be.
fn read_block(block: &str) -> Option<Option<Part<'_>>> {
    const KINDS: [&str; 4] = ["text", "toolUse", "reasoningContent", "citationsContent"];
    let [text_block, tool, reasoning, cited] = pick(block, KINDS)?;
    let block = if let Some(value) = text_block {
        Block::Text(text(value)?)
    } else if let Some(tool) = tool {
        let [id, name, input, kind] = pick(tool, ["toolUseId", "name", "input", "type"])?;
        if kind.is_some() {
            // Called on the provider's side: nothing for the client to answer.
            return Some(None);
        }
        Block::ToolUse {
            id: text(id?)?,
            name: text(name?)?,
            arguments: input.unwrap_or("{}").into(),
        }
    } else if let Some(reasoning) = reasoning {
        self::reasoning(reasoning)?
    } else if let Some(cited) = cited {
        return Some(Some(cited_text(cited)?));
    } else {
        return Some(None);
    };
    Some(Some(block.into()))
}

fn reasoning(value: &str) -> Option<Block<'_>> {
    let origin = Some(Cow::Borrowed(Block::ANTHROPIC));
    let [told, redacted] = pick(value, ["reasoningText", "redactedContent"])?;
    if let Some(data) = redacted {
        return Some(Block::Redacted { data: text(data)?, origin });
    }
    let [told, signature] = pick(told?, ["text", "signature"])?;
    let signature = signature.and_then(text);
    Some(Block::Thinking {
        text: told.and_then(text).unwrap_or_default(),
        origin: origin.filter(|_| signature.is_some()),
        signature,
    })
}

fn cited_text(value: &str) -> Option<Part<'_>> {
    let [content, citations] = pick(value, ["content", "citations"])?;
    let mut cited = Cow::Borrowed("");
    for piece in elements(content.unwrap_or("[]"))? {
        let [piece] = pick(piece.get(), ["text"])?;
        cited += piece.and_then(text).unwrap_or_default();
    }
    let citations = elements(citations.unwrap_or("[]"))?;
    let citations = citations.iter().filter_map(|one| citation(one.get())).collect();
    Some(Part { citations, ..Block::Text(cited).into() })
}

/// Converse says what a text is based on by the block that it is in.
fn span(parts: &mut [Part<'_>]) {
    let mut characters = 0;
    for part in parts {
        let Block::Text(text) = &part.block else { continue };
        let start = characters;
        characters += self::characters(text);
        for citation in &mut part.citations {
            citation.span = Some((start, characters));
        }
    }
}

pub(super) fn characters(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// `None`: it does not say of what.
pub(super) fn citation(value: &str) -> Option<Citation<'_>> {
    const PLACES: [&str; 4] = ["web", "documentChar", "documentPage", "documentChunk"];
    let [title, quotes, location] = pick(value, ["title", "sourceContent", "location"])?;
    let [web, places @ ..] = pick(location?, PLACES)?;
    let url = web.and_then(|web| pick(web, ["url"])?[0]).and_then(text);
    let place = places.into_iter().flatten().next();
    let document = place.and_then(|place| {
        let [document] = pick(place, ["documentIndex"])?;
        u32::try_from(members::count(document?)?).ok()
    });
    url.as_ref().map(|_| 0).or(document)?;
    let quote = quotes.and_then(elements).and_then(|quotes| {
        let [quote] = pick(quotes.first()?.get(), ["text"])?;
        text(quote?)
    });
    Some(Citation { url, document, title: title.and_then(text), quote, span: None })
}

pub(super) fn finish(word: Cow<'_, str>) -> Finish<'_> {
    let reason = match word.as_ref() {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolUse,
        "guardrail_intervened" | "content_filtered" => FinishReason::Filtered,
        _ => FinishReason::Other,
    };
    Finish { reason, word }
}

/// `None` where it holds no count.
pub(super) fn usage(value: &str) -> Option<Usage> {
    const COUNTS: [&str; 4] =
        ["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"];
    let counts = pick(value, COUNTS)?.map(|count| count.and_then(members::count));
    let [input, output, read, write] = counts;
    input.or(output)?;
    let [input, completion, cached, cache_write] =
        [input, output, read, write].map(Option::unwrap_or_default);
    let prompt = input.saturating_add(cached).saturating_add(cache_write);
    Some(Usage { prompt, completion, cached, reasoning: 0, cache_write })
}

/// In OpenAI's words, which are the same.
fn tier(value: &str) -> Option<Cow<'_, str>> {
    let [kind] = pick(value, ["type"])?;
    kind.and_then(text).filter(|tier| matches!(tier.as_ref(), "priority" | "default" | "flex"))
}
