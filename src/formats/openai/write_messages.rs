//! Writes the messages of a request.

use std::borrow::Cow;

use serde::Serialize;

use super::answer::{Detail, some_arguments};
use crate::conversation::{self, Block, Part, Request, Role, Source, Unsupported};
use crate::formats::json::not_supported;
use crate::provider::{AnswerLimit, Kind, Thoughts};

#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

impl<'a> Message<'a> {
    fn new(role: &'static str, content: Option<Content<'a>>) -> Self {
        Self {
            role,
            content,
            refusal: None,
            reasoning_content: None,
            reasoning_details: Vec::new(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: Url<'a> },
    InputAudio { input_audio: Audio<'a> },
    File { file: File<'a> },
}

#[derive(Serialize)]
struct Url<'a> {
    url: Cow<'a, str>,
}

#[derive(Serialize)]
struct Audio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    filename: &'a str,
    file_data: String,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

pub(super) fn write<'a>(
    request: &'a Request<'_>,
    kind: &Kind,
) -> Result<Vec<Message<'a>>, Unsupported> {
    let mut out: Vec<Message<'_>> = Vec::with_capacity(request.messages.len());
    // Thinking is asked back within a tool loop alone: that of earlier turns is over.
    let is_asked = |message: &conversation::Message<'_>| {
        message.role == Role::User
            && message.parts.iter().any(|part| !matches!(part.block, Block::ToolResult { .. }))
    };
    let turn = request.messages.iter().rposition(is_asked).unwrap_or_default();
    for (index, message) in request.messages.iter().enumerate() {
        let path = request.path(index);
        match message.role {
            Role::System => instructions("system", &path, &message.parts, &mut out)?,
            Role::Developer => {
                let known = kind.answer_limit == AnswerLimit::MaxCompletionTokensForReasoning;
                let role = if known { "developer" } else { "system" };
                instructions(role, &path, &message.parts, &mut out)?;
            }
            Role::User => user(&path, &message.parts, &mut out)?,
            Role::Assistant => {
                let thoughts = if index > turn { kind.thoughts } else { Thoughts::None };
                assistant(&path, &message.parts, thoughts, &mut out)?;
            }
        }
    }
    Ok(out)
}

/// As one text: what other servers than OpenAI's take.
fn instructions<'a>(
    role: &'static str,
    path: &str,
    parts: &'a [Part<'_>],
    out: &mut Vec<Message<'a>>,
) -> Result<(), Unsupported> {
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        match &part.block {
            Block::Text(text) => texts.push(text.as_ref()),
            _ => return Err(not_supported(format!("{path}.content[{index}]"))),
        }
    }
    let text = match texts.as_slice() {
        [] => return Ok(()),
        [one] => Cow::Borrowed(*one),
        many => many.join("\n\n").into(),
    };
    out.push(Message::new(role, Some(Content::Text(text))));
    Ok(())
}

/// Results of tools are messages of their own, directly behind the calls.
fn user<'a>(
    path: &str,
    parts: &'a [Part<'_>],
    out: &mut Vec<Message<'a>>,
) -> Result<(), Unsupported> {
    let mut pieces = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let path = format!("{path}.content[{index}]");
        if let Block::ToolResult { id, content, is_error } = &part.block {
            out.push(result(&path, id, content, *is_error, &mut pieces)?);
        }
    }
    for (index, part) in parts.iter().enumerate() {
        if !matches!(part.block, Block::ToolResult { .. }) {
            pieces.push(piece(&format!("{path}.content[{index}]"), &part.block)?);
        }
    }
    if let Some(content) = joined(pieces) {
        out.push(Message::new("user", Some(content)));
    }
    Ok(())
}

/// A tool's message holds text alone: what else it gave comes with the user's, which follows.
fn result<'a>(
    path: &str,
    id: &'a str,
    content: &'a [Part<'_>],
    is_error: bool,
    pieces: &mut Vec<Piece<'a>>,
) -> Result<Message<'a>, Unsupported> {
    let mut text = String::new();
    let mut named = false;
    for (index, part) in content.iter().enumerate() {
        if let Block::Text(more) = &part.block {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(more);
            continue;
        }
        if !core::mem::replace(&mut named, true) {
            pieces.push(Piece::Text { text: format!("Result of the tool call {id}:").into() });
        }
        pieces.push(piece(&format!("{path}.content[{index}]"), &part.block)?);
    }
    if is_error {
        // Chat completions have no other place for it.
        text.insert_str(0, "The tool failed: ");
    } else if named && text.is_empty() {
        text.push_str("See the next message.");
    }
    let content = Some(Content::Text(text.into()));
    Ok(Message { tool_call_id: Some(id), ..Message::new("tool", content) })
}

/// Neighbours are one message: a client may have given each block its own.
fn assistant<'a>(
    path: &str,
    parts: &'a [Part<'_>],
    thoughts: Thoughts,
    out: &mut Vec<Message<'a>>,
) -> Result<(), Unsupported> {
    if out.last().is_none_or(|last| last.role != "assistant") {
        out.push(Message::new("assistant", None));
    }
    let Some(message) = out.last_mut() else { return Ok(()) };
    for (index, part) in parts.iter().enumerate() {
        match &part.block {
            Block::Text(text) => match &mut message.content {
                Some(Content::Text(all)) => all.to_mut().push_str(text),
                _ => message.content = Some(Content::Text(text.as_ref().into())),
            },
            Block::Refusal(text) => message.refusal = Some(text),
            Block::ToolUse { id, name, arguments } => message.tool_calls.push(Call {
                id,
                kind: "function",
                function: Function { name, arguments: some_arguments(arguments) },
            }),
            Block::Thinking { text, signature, origin } => match thoughts {
                Thoughts::None => {}
                Thoughts::Content => {
                    message.reasoning_content.get_or_insert_default().push_str(text);
                }
                Thoughts::Details => message.reasoning_details.push(Detail {
                    text: Some(text),
                    signature: signature.as_deref(),
                    format: origin.as_deref(),
                    ..Detail::new("reasoning.text", message.reasoning_details.len())
                }),
            },
            Block::Redacted { data, origin } => {
                if thoughts == Thoughts::Details {
                    message.reasoning_details.push(Detail {
                        data: Some(data),
                        format: origin.as_deref(),
                        ..Detail::new("reasoning.encrypted", message.reasoning_details.len())
                    });
                }
            }
            Block::Image(_)
            | Block::Document { .. }
            | Block::Audio { .. }
            | Block::ToolResult { .. } => {
                return Err(not_supported(format!("{path}.content[{index}]")));
            }
        }
    }
    // Nothing is left of a turn of thoughts; a turn has to say something.
    if message.content.is_none() && message.refusal.is_none() && message.tool_calls.is_empty() {
        message.content = Some(Content::Text("".into()));
    }
    Ok(())
}

fn piece<'a>(path: &str, block: &'a Block<'_>) -> Result<Piece<'a>, Unsupported> {
    Ok(match block {
        Block::Text(text) | Block::Refusal(text) => Piece::Text { text: text.as_ref().into() },
        Block::Image(source) => Piece::ImageUrl { image_url: Url { url: url(path, source)? } },
        Block::Audio { data, format } => Piece::InputAudio { input_audio: Audio { data, format } },
        Block::Document { source: Source::Base64 { media_type, data }, name } => {
            let filename = name.as_deref().unwrap_or("document");
            Piece::File {
                file: File { filename, file_data: format!("data:{media_type};base64,{data}") },
            }
        }
        Block::Document { .. } => {
            let message = "is a document by reference: send its content";
            return Err(Unsupported::new(path, message));
        }
        Block::Thinking { .. }
        | Block::Redacted { .. }
        | Block::ToolUse { .. }
        | Block::ToolResult { .. } => return Err(not_supported(path)),
    })
}

fn url<'a>(path: &str, source: &'a Source<'_>) -> Result<Cow<'a, str>, Unsupported> {
    match source {
        Source::Url(url) => Ok(url.as_ref().into()),
        Source::Base64 { media_type, data } => {
            Ok(format!("data:{media_type};base64,{data}").into())
        }
        Source::File(_) => {
            Err(Unsupported::new(path, "is a file of another provider: send its content"))
        }
    }
}

/// A text alone is written as one: what all servers take.
fn joined(mut pieces: Vec<Piece<'_>>) -> Option<Content<'_>> {
    match pieces.as_mut_slice() {
        [] => None,
        [Piece::Text { text }] => Some(Content::Text(core::mem::take(text))),
        _ => Some(Content::Parts(pieces)),
    }
}
