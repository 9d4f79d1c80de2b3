//! Messages and blocks of a request.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;

use super::model::Family;
use crate::conversation::{self, CacheMark, Part, Request, Role, Source, Unsupported};
use crate::formats::in_front;
use crate::formats::json::{arguments, empty, must_be, not_supported};

#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// A union: the name of its one member tells the kind.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(&'a str),
    Image(Media<'a>),
    Document(Media<'a>),
    Audio(Media<'a>),
    ReasoningContent(Reasoning<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Self>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    CachePoint(CachePoint<'a>),
}

impl Block<'_> {
    const fn is_result(&self) -> bool {
        matches!(self, Self::ToolResult { .. })
    }
}

#[derive(Serialize)]
pub(super) struct Media<'a> {
    format: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    source: MediaSource<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum MediaSource<'a> {
    /// Base64, as blobs are in JSON.
    Bytes(&'a str),
    S3Location {
        uri: &'a str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reasoning<'a> {
    ReasoningText {
        text: &'a str,
        signature: &'a str,
    },
    /// Base64.
    RedactedContent(&'a str),
}

#[derive(Serialize)]
pub(super) struct CachePoint<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'a str>,
}

impl<'a> CachePoint<'a> {
    /// Lifetimes that Converse does not know are its default.
    pub(super) fn of(mark: &'a CacheMark<'_>) -> Self {
        Self { kind: "default", ttl: mark.ttl.as_deref().filter(|ttl| matches!(*ttl, "5m" | "1h")) }
    }
}

/// `system` and `messages`.
pub(super) fn write<'a>(
    request: &'a Request<'_>,
    family: Family,
) -> Result<(Vec<Block<'a>>, Vec<Message<'a>>), Unsupported> {
    let mut writer = Writer { family, documents: HashSet::new() };
    let mut system = Vec::new();
    let mut messages: Vec<Message<'_>> = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        let path = format!("{}.content", request.path(index));
        let content = writer.blocks(&path, &message.parts)?;
        let role = match message.role {
            Role::System | Role::Developer => {
                let is_taken =
                    |block: &Block<'_>| matches!(block, Block::Text(_) | Block::CachePoint(_));
                if !content.iter().all(is_taken) {
                    return Err(must_be(&path, "text in instructions"));
                }
                system.extend(content);
                continue;
            }
            Role::User => "user",
            Role::Assistant => "assistant",
        };
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
        && !matches!(turn.content.first(), Some(Block::ReasoningContent(_)))
}

struct Writer {
    family: Family,
    /// Names so far: each may be there once.
    documents: HashSet<String>,
}

impl Writer {
    fn blocks<'a>(
        &mut self,
        path: &str,
        parts: &'a [Part<'_>],
    ) -> Result<Vec<Block<'a>>, Unsupported> {
        let mut blocks = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let block = self.block(&format!("{path}[{index}]"), &part.block)?;
            blocks.extend(block);
            // Nothing stands before it that could be cached: then it is refused.
            if let Some(mark) = &part.cache
                && self.family.has_cache()
                && !blocks.is_empty()
            {
                blocks.push(Block::CachePoint(CachePoint::of(mark)));
            }
        }
        Ok(blocks)
    }

    /// `None`: it is left out.
    fn block<'a>(
        &mut self,
        path: &str,
        block: &'a conversation::Block<'_>,
    ) -> Result<Option<Block<'a>>, Unsupported> {
        use conversation::Block as From;
        let takes = |origin: &Option<Cow<'_, str>>| {
            matches!(self.family, Family::Claude(_))
                && origin.as_ref().is_none_or(|origin| origin == From::ANTHROPIC)
        };
        Ok(Some(match block {
            From::Text(text) | From::Refusal(text) if text.trim().is_empty() => return Ok(None),
            From::Text(text) | From::Refusal(text) => Block::Text(text),
            From::Image(source) => Block::Image(image(path, source)?),
            From::Document { source, name } => {
                Block::Document(self.document(path, source, name.as_deref())?)
            }
            From::Audio { data, format } => {
                Block::Audio(Media { format, name: None, source: MediaSource::Bytes(data) })
            }
            From::Thinking { text, signature: Some(signature), origin } if takes(origin) => {
                Block::ReasoningContent(Reasoning::ReasoningText { text, signature })
            }
            From::Redacted { data, origin: origin @ Some(_) } if takes(origin) => {
                Block::ReasoningContent(Reasoning::RedactedContent(data))
            }
            From::Thinking { .. } | From::Redacted { .. } => return Ok(None),
            From::ToolUse { id, name, arguments: text } => {
                Block::ToolUse { tool_use_id: identifier(id), name, input: arguments(text) }
            }
            From::ToolResult { id, content, is_error } => Block::ToolResult {
                tool_use_id: identifier(id),
                content: self.results(path, content)?,
                status: is_error.then_some("error"),
            },
        }))
    }

    /// Of a tool: here an empty text is one, and no cache ends inside.
    fn results<'a>(
        &mut self,
        path: &str,
        parts: &'a [Part<'_>],
    ) -> Result<Vec<Block<'a>>, Unsupported> {
        let mut blocks = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match &part.block {
                conversation::Block::Text(text) => blocks.push(Block::Text(text)),
                other => match self.block(&path, other)? {
                    Some(block @ (Block::Image(_) | Block::Document(_))) => blocks.push(block),
                    Some(_) => return Err(not_supported(path)),
                    None => {}
                },
            }
        }
        Ok(blocks)
    }

    fn document<'a>(
        &mut self,
        path: &str,
        source: &'a Source<'_>,
        name: Option<&str>,
    ) -> Result<Media<'a>, Unsupported> {
        let (format, source) = match source {
            Source::Base64 { media_type, data } => {
                (document_format(media_type), MediaSource::Bytes(data))
            }
            Source::Url(uri) if uri.starts_with("s3://") => {
                (extension(uri), MediaSource::S3Location { uri })
            }
            Source::Url(_) => return Err(not_by_url(path)),
            Source::File(_) => return Err(no_file(path)),
        };
        let format = format.ok_or_else(|| {
            must_be(path, "a PDF, Word, Excel, HTML, CSV, Markdown or plain text document")
        })?;
        let name = self.name(name.unwrap_or_default());
        Ok(Media { format, name: Some(name), source })
    }

    /// Letters, digits, hyphens, parentheses, brackets and single blanks, and not the same name twice.
    fn name(&mut self, name: &str) -> String {
        let is_taken = |c: char| c.is_ascii_alphanumeric() || "-()[] ".contains(c);
        let spelled: String = name.chars().map(|c| if is_taken(c) { c } else { '-' }).collect();
        let mut spelled = spelled.split_whitespace().collect::<Vec<_>>().join(" ");
        if spelled.is_empty() {
            "document".clone_into(&mut spelled);
        }
        spelled.truncate(180);
        if self.documents.contains(&spelled) {
            spelled = format!("{spelled} ({})", self.documents.len() + 1);
        }
        self.documents.insert(spelled.clone());
        spelled
    }
}

fn image<'a>(path: &str, source: &'a Source<'_>) -> Result<Media<'a>, Unsupported> {
    let (format, source) = match source {
        Source::Base64 { media_type, data } => {
            (media_type.strip_prefix("image/").unwrap_or_default(), MediaSource::Bytes(data))
        }
        Source::Url(uri) if uri.starts_with("s3://") => {
            (extension(uri).unwrap_or_default(), MediaSource::S3Location { uri })
        }
        Source::Url(_) => return Err(not_by_url(path)),
        Source::File(_) => return Err(no_file(path)),
    };
    let format = match format {
        "jpg" => "jpeg",
        "png" | "jpeg" | "gif" | "webp" => format,
        _ => return Err(must_be(path, "a PNG, JPEG, GIF or WebP image")),
    };
    Ok(Media { format, name: None, source })
}

fn document_format(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        _ => return None,
    })
}

/// Of a file in S3.
fn extension(uri: &str) -> Option<&'static str> {
    const KNOWN: [&str; 13] = [
        "pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md", "png", "jpeg", "gif",
        "webp",
    ];
    let (_, extension) = uri.rsplit_once('.')?;
    if extension == "jpg" {
        return Some("jpeg");
    }
    KNOWN.into_iter().find(|known| *known == extension)
}

fn not_by_url(path: &str) -> Unsupported {
    Unsupported::new(
        path,
        "is given by a URL, which this provider does not fetch: send its content",
    )
}

fn no_file(path: &str) -> Unsupported {
    Unsupported::new(path, "is a file of another provider: send its content")
}

/// Longest id of a tool call.
const MAX_ID: usize = 64;

/// Converse takes ASCII letters, digits, `_`, `.`, `:` and `-`; of a longer id the end tells it from others.
fn identifier<'a>(id: &'a str) -> Cow<'a, str> {
    let is_taken = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if !id.is_empty() && id.len() <= MAX_ID && id.chars().all(is_taken) {
        return Cow::Borrowed(id);
    }
    let spelled: String = id.chars().map(|c| if is_taken(c) { c } else { '_' }).collect();
    let end = spelled.get(spelled.len().saturating_sub(MAX_ID)..).unwrap_or_default();
    Cow::Owned(if end.is_empty() { "_".to_owned() } else { end.to_owned() })
}
