//! Contents and parts of a request.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Service;
use super::model::Model;
use crate::conversation::{self, Block, Message, Request, Role, Source, Unsupported};
use crate::formats::in_front;
use crate::formats::json::{arguments, empty, must_be, not_supported};

#[derive(Serialize)]
pub(super) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Part<'a>>,
}

/// One of the members but the last two.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<FunctionResponse<'a>>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: Cow<'a, str>,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: Cow<'a, RawValue>,
}

#[derive(Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Response,
}

/// Text, always: Google reads numbers of an object as `double` and would change long ids.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Response {
    Output(String),
    Error(String),
}

/// Takes the place of a signature that nobody has: the call was another provider's, or the client lost it.
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

impl<'a> Part<'a> {
    fn text(text: &'a str) -> Self {
        Self { text: Some(text), ..Self::default() }
    }

    const fn is_response(&self) -> bool {
        self.function_response.is_some()
    }
}

/// `systemInstruction` and `contents`.
pub(super) fn write<'a>(
    request: &'a Request<'_>,
    model: &str,
    service: Service,
) -> Result<(Option<Content<'a>>, Vec<Content<'a>>), Unsupported> {
    let mut writer = Writer { model: Model::of(model), service, calls: HashMap::new() };
    let mut instructions = Vec::new();
    let mut contents: Vec<Content<'_>> = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        let path = format!("{}.content", request.path(index));
        let role = match message.role {
            Role::System | Role::Developer => {
                let parts = writer.told(&path, message)?;
                if parts.iter().any(|part| part.text.is_none()) {
                    return Err(must_be(&path, "text in instructions"));
                }
                instructions.extend(parts);
                continue;
            }
            Role::User => "user",
            Role::Assistant => "model",
        };
        let parts = match message.role {
            Role::Assistant => writer.said(&path, message)?,
            _ => writer.told(&path, message)?,
        };
        match contents.last_mut() {
            Some(last) if last.role == Some(role) => last.parts.extend(parts),
            // What is left of a message of nothing is nothing.
            _ if parts.is_empty() => {}
            _ => contents.push(Content { role: Some(role), parts }),
        }
    }
    if contents.is_empty() || !Model::has_instructions(model) {
        match contents.first_mut() {
            Some(first) if first.role == Some("user") => {
                first.parts.splice(..0, instructions);
            }
            _ => contents.insert(0, Content { role: Some("user"), parts: instructions }),
        }
        instructions = Vec::new();
    }
    contents.retain(|content| !content.parts.is_empty());
    if contents.is_empty() {
        return Err(empty(request));
    }
    for content in &mut contents {
        // Behind anything else they are refused.
        in_front(&mut content.parts, Part::is_response);
    }
    let instructions =
        (!instructions.is_empty()).then_some(Content { role: None, parts: instructions });
    Ok((instructions, contents))
}

struct Writer<'a> {
    model: Model,
    service: Service,
    /// Names of all calls so far, by their ids: a response is to the name.
    calls: HashMap<&'a str, &'a str>,
}

impl<'a> Writer<'a> {
    /// The parts of a message that is not the model's.
    fn told(&self, path: &str, message: &'a Message<'_>) -> Result<Vec<Part<'a>>, Unsupported> {
        let mut parts = Vec::with_capacity(message.parts.len());
        for (index, part) in message.parts.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match &part.block {
                Block::ToolResult { id, content, is_error } => {
                    let name = self.calls.get(id.as_ref());
                    let name =
                        name.ok_or_else(|| must_be(&path, "the result of a tool call before it"))?;
                    let (text, media) = self.result(&path, content)?;
                    let response =
                        if *is_error { Response::Error(text) } else { Response::Output(text) };
                    let id = self.id(id);
                    let function_response = Some(FunctionResponse { id, name, response });
                    parts.push(Part { function_response, ..Part::default() });
                    parts.extend(media);
                }
                block => parts.extend(self.part(&path, block)?),
            }
        }
        Ok(parts)
    }

    /// The parts of the model's own message. A signature is carried as a block of its own, before the call or
    /// behind the text that it signs; chat completions move it before all text.
    fn said(&mut self, path: &str, message: &'a Message<'_>) -> Result<Vec<Part<'a>>, Unsupported> {
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(message.parts.len());
        let mut signature = None;
        let mut calls = false;
        for (index, part) in message.parts.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match &part.block {
                Block::Thinking { text, signature: Some(proof), origin }
                    if is_own(origin) && !proof.is_empty() =>
                {
                    if text.is_empty() {
                        signature = Some(proof.as_ref());
                    } else {
                        let thought_signature = Some(proof.as_ref());
                        let thought = Part { thought: true, thought_signature, ..Part::text(text) };
                        parts.push(thought);
                    }
                }
                Block::Redacted { data, origin } if is_own(origin) && !data.is_empty() => {
                    signature = Some(data.as_ref())
                }
                // A summary that nothing was signed of, or another provider's.
                Block::Thinking { .. } | Block::Redacted { .. } => {}
                Block::ToolUse { id, name, arguments: text } => {
                    let args = arguments(text);
                    let function_call = Some(FunctionCall { id: self.id(id), name, args });
                    let missing = !calls && self.model.demands_signatures();
                    let thought_signature =
                        signature.take().or_else(|| missing.then_some(NO_SIGNATURE));
                    parts.push(Part { function_call, thought_signature, ..Part::default() });
                    self.calls.insert(id, name);
                    calls = true;
                }
                block => parts.extend(self.part(&path, block)?),
            }
        }
        match parts.last_mut() {
            Some(last) if last.text.is_some() && !last.thought => {
                last.thought_signature = signature;
            }
            _ => {}
        }
        Ok(parts)
    }

    /// `None`: it is left out.
    fn part(&self, path: &str, block: &'a Block<'_>) -> Result<Option<Part<'a>>, Unsupported> {
        Ok(Some(match block {
            Block::Text(text) | Block::Refusal(text) if text.is_empty() => return Ok(None),
            Block::Text(text) | Block::Refusal(text) => Part::text(text),
            Block::Image(source) => self.media(path, source)?,
            Block::Document { source, .. } => self.media(path, source)?,
            Block::Audio { data, format } => Part {
                inline_data: Some(Blob { mime_type: format!("audio/{format}").into(), data }),
                ..Part::default()
            },
            Block::Thinking { .. } | Block::Redacted { .. } => return Ok(None),
            Block::ToolUse { .. } | Block::ToolResult { .. } => return Err(not_supported(path)),
        }))
    }

    /// A result's text, and what goes beside it.
    fn result(
        &self,
        path: &str,
        content: &'a [conversation::Part<'_>],
    ) -> Result<(String, Vec<Part<'a>>), Unsupported> {
        let (mut text, mut media) = (String::new(), Vec::new());
        for part in content {
            match self.part(path, &part.block)? {
                Some(Part { text: Some(more), .. }) => text.push_str(more),
                part => media.extend(part),
            }
        }
        Ok((text, media))
    }

    fn media(&self, path: &str, source: &'a Source<'_>) -> Result<Part<'a>, Unsupported> {
        let uri = match source {
            Source::Base64 { media_type, data } => {
                let mime_type = Cow::Borrowed(media_type.as_ref());
                let inline_data = Some(Blob { mime_type, data });
                return Ok(Part { inline_data, ..Part::default() });
            }
            Source::Url(url) => url,
            Source::File(id) if is_googles(id) => id,
            Source::File(_) => {
                let message = "is a file of another provider: send its content";
                return Err(Unsupported::new(path, message));
            }
        };
        let mime_type = media_type_of(uri);
        if mime_type.is_none() && self.service == Service::Vertex {
            let message = "needs a URL whose ending tells its media type, or its content as base64";
            return Err(Unsupported::new(path, message));
        }
        let file_data = Some(FileData { mime_type, file_uri: uri });
        Ok(Part { file_data, ..Part::default() })
    }

    /// Vertex AI matches by name and order; its first version of the API refuses ids.
    fn id(&self, id: &'a str) -> Option<&'a str> {
        (self.service == Service::AiStudio && !id.is_empty()).then_some(id)
    }
}

fn is_own(origin: &Option<Cow<'_, str>>) -> bool {
    origin.as_deref() == Some(Block::GEMINI)
}

/// The Files API's and Cloud Storage's.
fn is_googles(id: &str) -> bool {
    ["https://generativelanguage.googleapis.com/", "gs://"].iter().any(|own| id.starts_with(own))
}

/// By the ending of the path.
fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit_once('/')?.1.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "md" => "text/markdown",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        _ => return None,
    })
}
