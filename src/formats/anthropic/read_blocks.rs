//! Reads the content blocks of a request.

use std::borrow::Cow;

use crate::conversation::{Block, CacheMark, Part, Source, Unsupported};
use crate::formats::json::{boolean, items, members, must_be, not_supported, object, string};
use crate::formats::seal;

/// Content in content that is followed: a document's in a tool's result in a message.
const MAX_DEPTH: u32 = 2;

/// A string, or a list of blocks.
pub(super) fn content<'a>(path: &str, value: &'a str) -> Result<Vec<Part<'a>>, Unsupported> {
    content_at(0, path, value)
}

fn content_at<'a>(depth: u32, path: &str, value: &'a str) -> Result<Vec<Part<'a>>, Unsupported> {
    if !value.starts_with('[') {
        let text = string(path, value).map_err(|_| must_be(path, "a string or an array"))?;
        return Ok(vec![Block::Text(text).into()]);
    }
    if depth > MAX_DEPTH {
        return Err(Unsupported::new(path, "is nested too deeply"));
    }
    let blocks = items(path, value)?.into_iter().enumerate();
    blocks.map(|(index, item)| block(depth, &format!("{path}[{index}]"), item)).collect()
}

/// Content of nothing but texts.
pub(super) fn texts<'a>(path: &str, value: &'a str) -> Result<Vec<Part<'a>>, Unsupported> {
    texts_at(0, path, value)
}

fn texts_at<'a>(depth: u32, path: &str, value: &'a str) -> Result<Vec<Part<'a>>, Unsupported> {
    let parts = content_at(depth, path, value)?;
    match parts.iter().position(|part| !matches!(part.block, Block::Text(_))) {
        Some(index) => Err(must_be(&format!("{path}[{index}].type"), "text")),
        None => Ok(parts),
    }
}

/// `{"type":"ephemeral","ttl":"1h"}`; further members (a scope) are Anthropic's own matter.
pub(super) fn cache<'a>(path: &str, value: &'a str) -> Result<CacheMark<'a>, Unsupported> {
    let mut mark = CacheMark { ttl: None };
    members(path, value, |name, value| {
        if name == "ttl" {
            mark.ttl = Some(string(&format!("{path}.ttl"), value)?);
        }
        Ok(())
    })?;
    Ok(mark)
}

/// All members that the blocks which are mapped have; which of them count, the type says.
#[derive(Default)]
struct Members<'a> {
    kind: Cow<'a, str>,
    text: Option<Cow<'a, str>>,
    source: Option<&'a str>,
    title: Option<Cow<'a, str>>,
    context: Option<Cow<'a, str>>,
    thinking: Option<Cow<'a, str>>,
    signature: Option<Cow<'a, str>>,
    data: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    input: Option<&'a str>,
    content: Option<&'a str>,
    is_error: bool,
    cache: Option<CacheMark<'a>>,
}

pub(super) fn block<'a>(depth: u32, path: &str, value: &'a str) -> Result<Part<'a>, Unsupported> {
    let mut read = Members::default();
    members(path, value, |name, value| {
        let at = || format!("{path}.{name}");
        match name {
            "type" => read.kind = string(&at(), value)?,
            "text" => read.text = Some(string(&at(), value)?),
            "source" => read.source = Some(value),
            "title" => read.title = Some(string(&at(), value)?),
            "context" => read.context = Some(string(&at(), value)?),
            "thinking" => read.thinking = Some(string(&at(), value)?),
            "signature" => read.signature = Some(string(&at(), value)?),
            "data" => read.data = Some(string(&at(), value)?),
            "id" | "tool_use_id" => read.id = Some(string(&at(), value)?),
            "name" | "tool_name" => read.name = Some(string(&at(), value)?),
            "input" => read.input = Some(object(&at(), value)?.get()),
            "content" => read.content = Some(value),
            "is_error" => read.is_error = boolean(&at(), value)?,
            "cache_control" => read.cache = Some(cache(&at(), value)?),
            // Where an answer's text came from, whether a document is to be cited, who called a tool, and how an
            // image was prepared: the content is the same without.
            "citations" | "caller" | "toolset_name" | "transformations" => {}
            _ => return Err(not_supported(at())),
        }
        Ok(())
    })?;
    let cache = read.cache.take();
    let block = known(depth + 1, path, read)?;
    Ok(Part { cache, ..block.into() })
}

/// `depth`: of content in the block.
fn known<'a>(depth: u32, path: &str, read: Members<'a>) -> Result<Block<'a>, Unsupported> {
    let given = |name: &str| must_be(&format!("{path}.{name}"), "given");
    let Members { kind, text, source, title, context, thinking, signature, data, .. } = read;
    Ok(match kind.as_ref() {
        "text" => Block::Text(text.ok_or_else(|| given("text"))?),
        "image" => {
            let at = format!("{path}.source");
            Block::Image(media(depth, &at, source.ok_or_else(|| given("source"))?)?.0)
        }
        "document" => {
            let at = format!("{path}.source");
            match media(depth, &at, source.ok_or_else(|| given("source"))?)? {
                (source, None) => Block::Document { source, name: title },
                (_, Some(text)) => Block::Text(titled([title, context], text)),
            }
        }
        "search_result" => {
            let at = format!("{path}.content");
            let parts = texts_at(depth, &at, read.content.ok_or_else(|| given("content"))?)?;
            let source = string(&format!("{path}.source"), source.unwrap_or("\"\""))?;
            Block::Text(titled([title, Some(source)], joined(&parts).into()))
        }
        "thinking" => {
            let native = Some(Block::ANTHROPIC);
            let (origin, signature) = seal::open(native, signature.unwrap_or_default());
            Block::Thinking { text: thinking.unwrap_or_default(), signature, origin }
        }
        "redacted_thinking" => {
            let data = data.ok_or_else(|| given("data"))?;
            let (origin, data) = seal::open(Some(Block::ANTHROPIC), data);
            Block::Redacted { data: data.unwrap_or_default(), origin }
        }
        "tool_use" => Block::ToolUse {
            id: read.id.ok_or_else(|| given("id"))?,
            name: read.name.ok_or_else(|| given("name"))?,
            arguments: read.input.unwrap_or_default().into(),
        },
        "tool_result" => Block::ToolResult {
            id: read.id.ok_or_else(|| given("tool_use_id"))?,
            content: match read.content {
                Some(value) => content_at(depth, &format!("{path}.content"), value)?,
                None => Vec::new(),
            },
            is_error: read.is_error,
        },
        // What a search for deferred tools found. It is in `tools` too, of which another model has seen all.
        "tool_reference" => {
            let name = read.name.ok_or_else(|| given("tool_name"))?;
            Block::Text(format!("The tool {name} is loaded.").into())
        }
        _ => return Err(not_supported(format!("{path}.type"))),
    })
}

/// The media of a source, or its text.
fn media<'a>(
    depth: u32,
    path: &str,
    value: &'a str,
) -> Result<(Source<'a>, Option<Cow<'a, str>>), Unsupported> {
    let (mut kind, mut media_type, mut data) = (Cow::Borrowed(""), Cow::Borrowed(""), None);
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match name {
            "type" => kind = string(&at, value)?,
            "media_type" => media_type = string(&at, value)?,
            "data" | "url" | "file_id" => data = Some(string(&at, value)?),
            "content" => data = Some(joined(&texts_at(depth, &at, value)?).into()),
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    let data = data.ok_or_else(|| must_be(path, "a source with its data"))?;
    Ok(match kind.as_ref() {
        "base64" => (Source::Base64 { media_type, data }, None),
        "url" => (Source::Url(data), None),
        "file" => (Source::File(data), None),
        "text" | "content" => (Source::Url("".into()), Some(data)),
        _ => return Err(not_supported(format!("{path}.type"))),
    })
}

fn joined(parts: &[Part<'_>]) -> String {
    let mut all = String::new();
    for part in parts {
        if let Block::Text(text) = &part.block {
            if !all.is_empty() {
                all.push_str("\n\n");
            }
            all.push_str(text);
        }
    }
    all
}

/// A text below what it is called.
fn titled<'a>(titles: [Option<Cow<'a, str>>; 2], text: Cow<'a, str>) -> Cow<'a, str> {
    let titles: Vec<_> = titles.into_iter().flatten().filter(|title| !title.is_empty()).collect();
    if titles.is_empty() { text } else { format!("{}\n\n{text}", titles.join("\n")).into() }
}
