//! The messages of a request.

use std::borrow::Cow;

use super::request::cache;
use crate::conversation::{Block, CacheMark, Message, Part, Role, Source, Unsupported};
use crate::formats::json::{items, members, must_be, not_supported, string};

/// What a message has, before its role says what of that counts.
#[derive(Default)]
struct Read<'a> {
    role: Cow<'a, str>,
    content: Option<&'a str>,
    refusal: Option<Cow<'a, str>>,
    tool_calls: Option<&'a str>,
    tool_call_id: Option<Cow<'a, str>>,
    reasoning: Option<Cow<'a, str>>,
    details: Option<&'a str>,
    cache: Option<CacheMark<'a>>,
}

pub(super) fn message<'a>(path: &str, value: &'a str) -> Result<Message<'a>, Unsupported> {
    let (mut read, mut unknown) = (Read::default(), None);
    members(path, value, |name, value| {
        let at = || format!("{path}.{name}");
        match name {
            "role" => read.role = string(&at(), value)?,
            "content" => read.content = Some(value),
            "refusal" => read.refusal = Some(string(&at(), value)?),
            "tool_calls" => read.tool_calls = Some(value),
            "tool_call_id" => read.tool_call_id = Some(string(&at(), value)?),
            "reasoning_content" | "reasoning" => read.reasoning = Some(string(&at(), value)?),
            "reasoning_details" => read.details = Some(value),
            "cache_control" => read.cache = Some(cache(&at(), value)?),
            // It tells speakers apart, which no other format does.
            "name" => {}
            "function_call" => return Err(not_supported(at())),
            _ => unknown = Some(not_supported(at())),
        }
        Ok(())
    })?;
    let role = match read.role.as_ref() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" | "tool" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(not_supported(format!("{path}.role"))),
    };
    // Clients send an answer back as it came, with what its provider put beside content (`annotations`, the id of
    // `audio`, `citations`, …), and some with notes of their own: they say nothing to another model.
    if let Some(unknown) = unknown.filter(|_| role != Role::Assistant) {
        return Err(unknown);
    }
    if read.role == "tool" {
        return Ok(Message { role, parts: vec![tool_result(path, read)?] });
    }
    let mut parts = Vec::new();
    if role == Role::Assistant {
        thinking(path, &mut read, &mut parts)?;
    }
    let cache = read.cache.take();
    if let Some(content) = read.content {
        parts.extend(content_parts(&format!("{path}.content"), content)?);
    } else if role != Role::Assistant {
        return Err(must_be(&format!("{path}.content"), "given"));
    }
    if let Some(refusal) = read.refusal.filter(|text| !text.is_empty()) {
        parts.push(Block::Refusal(refusal).into());
    }
    if let Some(calls) = read.tool_calls {
        let path = format!("{path}.tool_calls");
        for (index, call) in items(&path, calls)?.into_iter().enumerate() {
            tool_call(&format!("{path}[{index}]"), call, &mut parts)?;
        }
    }
    mark_last(&mut parts, cache);
    Ok(Message { role, parts })
}

/// A mark on a whole message is one on its last part.
fn mark_last<'a>(parts: &mut [Part<'a>], cache: Option<CacheMark<'a>>) {
    if let (Some(last), Some(cache)) = (parts.last_mut(), cache) {
        last.cache.get_or_insert(cache);
    }
}

fn tool_result<'a>(path: &str, read: Read<'a>) -> Result<Part<'a>, Unsupported> {
    let id = read.tool_call_id.ok_or_else(|| must_be(&format!("{path}.tool_call_id"), "given"))?;
    let content = match read.content {
        Some(content) => content_parts(&format!("{path}.content"), content)?,
        None => Vec::new(),
    };
    // Chat completions have no word for a tool that failed: the content says so.
    let block = Block::ToolResult { id, content, is_error: false };
    Ok(Part { cache: read.cache, ..block.into() })
}

/// A string, or an array of typed parts.
fn content_parts<'a>(path: &str, content: &'a str) -> Result<Vec<Part<'a>>, Unsupported> {
    if !content.starts_with('[') {
        let text = string(path, content).map_err(|_| must_be(path, "a string or an array"))?;
        return Ok(vec![Block::Text(text).into()]);
    }
    let parts = items(path, content)?.into_iter().enumerate();
    parts.map(|(index, item)| part(&format!("{path}[{index}]"), item)).collect()
}

fn part<'a>(path: &str, value: &'a str) -> Result<Part<'a>, Unsupported> {
    let (mut kind, mut payload, mut mark) = (Cow::Borrowed(""), None, None);
    members(path, value, |name, value| match name {
        "type" => {
            kind = string(&format!("{path}.type"), value)?;
            Ok(())
        }
        "cache_control" => {
            mark = Some(cache(&format!("{path}.cache_control"), value)?);
            Ok(())
        }
        "text" | "refusal" | "image_url" | "input_audio" | "file" => {
            payload = Some((format!("{path}.{name}"), value));
            Ok(())
        }
        _ => Err(not_supported(format!("{path}.{name}"))),
    })?;
    let (at, value) = payload.ok_or_else(|| not_supported(format!("{path}.type")))?;
    let block = match kind.as_ref() {
        "text" => Block::Text(string(&at, value)?),
        "refusal" => Block::Refusal(string(&at, value)?),
        "image_url" => Block::Image(image(&at, value)?),
        "input_audio" => audio(&at, value)?,
        "file" => file(&at, value)?,
        _ => return Err(not_supported(format!("{path}.type"))),
    };
    Ok(Part { cache: mark, ..block.into() })
}

fn image<'a>(path: &str, value: &'a str) -> Result<Source<'a>, Unsupported> {
    let mut url = None;
    members(path, value, |name, value| {
        match name {
            "url" => url = Some(string(&format!("{path}.url"), value)?),
            // Low or high resolution: a matter of cost that others decide by the image's size.
            "detail" => {}
            _ => return Err(not_supported(format!("{path}.{name}"))),
        }
        Ok(())
    })?;
    url.map(Source::of_url).ok_or_else(|| must_be(&format!("{path}.url"), "given"))
}

fn audio<'a>(path: &str, value: &'a str) -> Result<Block<'a>, Unsupported> {
    let (mut data, mut format) = (Cow::Borrowed(""), Cow::Borrowed(""));
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match name {
            "data" => data = string(&at, value)?,
            "format" => format = string(&at, value)?,
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    Ok(Block::Audio { data, format })
}

fn file<'a>(path: &str, value: &'a str) -> Result<Block<'a>, Unsupported> {
    let (mut source, mut file_name) = (None, None);
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match name {
            "filename" => file_name = Some(string(&at, value)?),
            "file_id" => source = Some(Source::File(string(&at, value)?)),
            // A data URL, or the base64 alone.
            "file_data" => {
                source = Some(match Source::of_url(string(&at, value)?) {
                    Source::Url(data) => {
                        Source::Base64 { media_type: "application/pdf".into(), data }
                    }
                    source => source,
                });
            }
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    let source = source.ok_or_else(|| must_be(&format!("{path}.file_data"), "given"))?;
    Ok(Block::Document { source, name: file_name })
}

fn tool_call<'a>(path: &str, value: &'a str, parts: &mut Vec<Part<'a>>) -> Result<(), Unsupported> {
    let (mut id, mut tool, mut arguments) = (None, None, Cow::Borrowed(""));
    let mut signature = None;
    members(path, value, |name, value| match (name, value) {
        ("id", _) => {
            id = Some(string(&format!("{path}.id"), value)?);
            Ok(())
        }
        ("type", "\"function\"") => Ok(()),
        ("type", _) => Err(not_supported(format!("{path}.type"))),
        ("function", _) => members(path, value, |name, value| {
            let at = format!("{path}.function.{name}");
            match name {
                "name" => tool = Some(string(&at, value)?),
                "arguments" => arguments = string(&at, value)?,
                _ => {}
            }
            Ok(())
        }),
        ("extra_content", _) => {
            signature = thought_signature(&format!("{path}.extra_content"), value)?;
            Ok(())
        }
        // As in the message around it.
        _ => Ok(()),
    })?;
    let id = id.ok_or_else(|| must_be(&format!("{path}.id"), "given"))?;
    let name = tool.ok_or_else(|| must_be(&format!("{path}.function.name"), "given"))?;
    if let Some(data) = signature {
        parts.push(Block::Redacted { data, origin: Some(Block::GEMINI.into()) }.into());
    }
    parts.push(Block::ToolUse { id, name, arguments }.into());
    Ok(())
}

/// `{"google":{"thought_signature":"…"}}`; what else there is was never a client's to change.
fn thought_signature<'a>(path: &str, value: &'a str) -> Result<Option<Cow<'a, str>>, Unsupported> {
    let mut signature = None;
    members(path, value, |name, value| match name {
        "google" => members(path, value, |name, value| {
            if name == "thought_signature" {
                let path = format!("{path}.google.thought_signature");
                signature = Some(string(&path, value)?);
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Ok(signature)
}

/// `reasoning_details` where there are any, since only they can be proven; else the text alone.
fn thinking<'a>(
    path: &str,
    read: &mut Read<'a>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), Unsupported> {
    let path = format!("{path}.reasoning_details");
    let before = parts.len();
    for (index, detail) in
        read.details.map_or(Ok(Vec::new()), |d| items(&path, d))?.into_iter().enumerate()
    {
        let path = format!("{path}[{index}]");
        let (mut kind, mut text, mut data) = (Cow::Borrowed(""), Cow::Borrowed(""), None);
        let (mut signature, mut origin) = (None, None);
        members(&path, detail, |name, value| {
            match name {
                "type" => kind = string(&path, value)?,
                "text" => text = string(&path, value)?,
                "data" => data = Some(string(&path, value)?),
                "signature" => signature = Some(string(&path, value)?),
                "format" => origin = Some(string(&path, value)?),
                _ => {}
            }
            Ok(())
        })?;
        match (kind.as_ref(), data) {
            ("reasoning.text", _) => {
                parts.push(Block::Thinking { text, signature, origin }.into());
            }
            ("reasoning.encrypted", Some(data)) => {
                parts.push(Block::Redacted { data, origin }.into());
            }
            // A summary proves nothing and is no thinking.
            _ => {}
        }
    }
    if parts.len() == before
        && let Some(text) = read.reasoning.take().filter(|text| !text.is_empty())
    {
        parts.push(Block::Thinking { text, signature: None, origin: None }.into());
    }
    Ok(())
}
