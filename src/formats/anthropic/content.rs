//! Messages and blocks of a request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::request::Cache;
use crate::conversation::{self, Part, Request, Role, Source, Unsupported};
use crate::formats::in_front;
use crate::formats::json::{arguments, empty, must_be, not_supported};

#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
pub(super) struct Block<'a> {
    #[serde(flatten)]
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Cache<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Media<'a>,
    },
    Document {
        source: Media<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Media<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
}

impl<'a> Block<'a> {
    pub(super) fn instruction(text: &'a str) -> Self {
        Self { content: Content::Text { text }, cache_control: None }
    }

    const fn is_result(&self) -> bool {
        matches!(self.content, Content::ToolResult { .. })
    }
}

/// `system` and `messages`.
pub(super) fn write<'a>(
    request: &'a Request<'_>,
) -> Result<(Vec<Block<'a>>, Vec<Message<'a>>), Unsupported> {
    let mut system = Vec::new();
    let mut messages: Vec<Message<'_>> = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        let path = format!("{}.content", request.path(index));
        let role = match message.role {
            Role::System | Role::Developer => {
                for block in blocks(&path, &message.parts)? {
                    match block.content {
                        Content::Text { .. } => system.push(block),
                        _ => return Err(must_be(&path, "text in instructions")),
                    }
                }
                continue;
            }
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = blocks(&path, &message.parts)?;
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(content),
            // What is left of a message of nothing is nothing.
            _ if content.is_empty() => {}
            _ => messages.push(Message { role, content }),
        }
    }
    if messages.is_empty() {
        messages.push(Message { role: "user", content: core::mem::take(&mut system) });
    }
    for message in &mut messages {
        if message.content.is_empty() {
            return Err(empty(request));
        }
        // Behind anything else they are refused.
        in_front(&mut message.content, Block::is_result);
    }
    Ok((system, messages))
}

/// Whether the last turn is a tool loop that did not begin with thinking: it cannot go on with it.
pub(super) fn lacks_thinking(messages: &[Message<'_>]) -> bool {
    let Some([turn, results]) = messages.last_chunk() else { return false };
    results.content.iter().any(Block::is_result)
        && !matches!(
            turn.content.first().map(|block| &block.content),
            Some(Content::Thinking { .. } | Content::RedactedThinking { .. })
        )
}

fn blocks<'a>(path: &str, parts: &'a [Part<'_>]) -> Result<Vec<Block<'a>>, Unsupported> {
    let mut blocks = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        if let Some(content) = content(&format!("{path}[{index}]"), &part.block)? {
            let cache_control = Cache::of(part.cache.as_ref());
            blocks.push(Block { content, cache_control });
        }
    }
    Ok(blocks)
}

/// `None`: it is left out.
fn content<'a>(
    path: &str,
    block: &'a conversation::Block<'_>,
) -> Result<Option<Content<'a>>, Unsupported> {
    use conversation::Block as From;
    let is_own = |origin: &Option<Cow<'_, str>>| {
        origin.as_ref().is_none_or(|origin| origin == From::ANTHROPIC)
    };
    Ok(Some(match block {
        From::Text(text) | From::Refusal(text) if text.trim().is_empty() => return Ok(None),
        From::Text(text) | From::Refusal(text) => Content::Text { text },
        From::Image(source) => Content::Image { source: media(path, source)? },
        From::Document { source, name } => {
            if let Source::Base64 { media_type, .. } = source
                && media_type != "application/pdf"
            {
                return Err(Unsupported::new(path, "must be a PDF: of files, no other is taken"));
            }
            Content::Document { source: media(path, source)?, title: name.as_deref() }
        }
        From::Audio { .. } => return Err(not_supported(path)),
        From::Thinking { text, signature: Some(signature), origin } if is_own(origin) => {
            Content::Thinking { thinking: text, signature }
        }
        From::Redacted { data, origin: Some(origin) } if origin == From::ANTHROPIC => {
            Content::RedactedThinking { data }
        }
        From::Thinking { .. } | From::Redacted { .. } => return Ok(None),
        From::ToolUse { id, name, arguments: text } => {
            Content::ToolUse { id: identifier(id), name, input: arguments(text) }
        }
        From::ToolResult { id, content, is_error } => Content::ToolResult {
            tool_use_id: identifier(id),
            content: blocks(path, content)?,
            is_error: *is_error,
        },
    }))
}

fn media<'a>(path: &str, source: &'a Source<'_>) -> Result<Media<'a>, Unsupported> {
    match source {
        Source::Base64 { media_type, data } => Ok(Media::Base64 { media_type, data }),
        Source::Url(url) => Ok(Media::Url { url }),
        Source::File(_) => {
            Err(Unsupported::new(path, "is a file of another provider: send its content"))
        }
    }
}

/// Anthropic takes ASCII letters, digits, `_` and `-`; others write `functions.get_time:0`.
fn identifier<'a>(id: &'a str) -> Cow<'a, str> {
    let is_taken = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.chars().all(is_taken) {
        return Cow::Borrowed(id);
    }
    let spelled: String = id.chars().map(|c| if is_taken(c) { c } else { '_' }).collect();
    Cow::Owned(if spelled.is_empty() { "_".to_owned() } else { spelled })
}
