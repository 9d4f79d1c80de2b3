//! Reads the items of `input`. Each becomes a message of its own, so that errors can say where; writers join
//! neighbours.

use std::borrow::Cow;

use super::read::STORED;
use super::tools::{self, Renamed, joined};
use super::write::REDACTED;
use crate::conversation::{Block, Message, Part, Role, Source, Tool, Unsupported};
use crate::formats::json::{items, members, must_be, not_supported, string};
use crate::formats::seal;

/// OpenRouter's word for OpenAI's own thinking.
const OPENAI: &str = "openai-responses-v1";

/// A text, or a list of items, of which some bring tools.
pub(super) fn read<'a>(
    value: &'a str,
    tools: &mut Vec<Tool<'a>>,
    renamed: &mut Vec<Renamed>,
) -> Result<Vec<Message<'a>>, Unsupported> {
    if !value.starts_with('[') {
        let text = string("input", value).map_err(|_| must_be("input", "a text or an array"))?;
        return Ok(vec![Message { role: Role::User, parts: vec![Block::Text(text).into()] }]);
    }
    let each = items("input", value)?.into_iter().enumerate();
    each.map(|(index, value)| item(&format!("input[{index}]"), value, tools, renamed)).collect()
}

/// All members that the items which are mapped have; which of them count, the type says.
#[derive(Default)]
struct Item<'a> {
    kind: Cow<'a, str>,
    id: &'a str,
    role: Cow<'a, str>,
    content: Option<&'a str>,
    call_id: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    namespace: Option<Cow<'a, str>>,
    arguments: Option<&'a str>,
    input: Option<Cow<'a, str>>,
    output: Option<&'a str>,
    summary: Option<&'a str>,
    encrypted: Option<Cow<'a, str>>,
    tools: Option<&'a str>,
    /// A member that an item which counts has not.
    unknown: Option<Unsupported>,
}

fn item<'a>(
    path: &str,
    value: &'a str,
    tools: &mut Vec<Tool<'a>>,
    renamed: &mut Vec<Renamed>,
) -> Result<Message<'a>, Unsupported> {
    let mut item = Item { kind: "message".into(), ..Item::default() };
    members(path, value, |name, value| {
        let at = || format!("{path}.{name}");
        match name {
            "type" => item.kind = string(&at(), value)?,
            "role" => item.role = string(&at(), value)?,
            "content" => item.content = Some(value),
            "call_id" => item.call_id = Some(string(&at(), value)?),
            "name" => item.name = Some(string(&at(), value)?),
            "namespace" => item.namespace = Some(string(&at(), value)?),
            "arguments" => item.arguments = Some(value),
            "input" => item.input = Some(string(&at(), value)?),
            "output" => item.output = Some(value),
            "summary" => item.summary = Some(value),
            "encrypted_content" => item.encrypted = Some(string(&at(), value)?),
            "tools" => item.tools = Some(value),
            "id" => item.id = value,
            // Where an item stands in an answer says nothing to a model.
            "status" | "phase" | "caller" | "async" => {}
            _ => item.unknown = Some(not_supported(at())),
        }
        Ok(())
    })?;
    // What a model had or found, beside what it was told: another one has the tools of all items from the start.
    match item.kind.as_ref() {
        "additional_tools" | "tool_search_output" => {
            let path = format!("{path}.tools");
            for (index, value) in items(&path, item.tools.unwrap_or("[]"))?.into_iter().enumerate()
            {
                tools::read(&format!("{path}[{index}]"), value, tools, renamed)?;
            }
        }
        // The vendor's searches before the conversation came here: what was said of them follows as text.
        "tool_search_call" | "web_search_call" => {}
        // Some clients refer to thinking while they send the rest: what is lost is the thinking.
        "item_reference" if item.id.starts_with("\"rs_") => {}
        "item_reference" => return Err(Unsupported::new(path, STORED)),
        _ => return known(path, item),
    }
    Ok(Message { role: Role::Developer, parts: Vec::new() })
}

fn known<'a>(path: &str, item: Item<'a>) -> Result<Message<'a>, Unsupported> {
    if item.tools.is_some() {
        return Err(not_supported(format!("{path}.tools")));
    }
    if let Some(unknown) = item.unknown {
        return Err(unknown);
    }
    let given = |name: &str| must_be(&format!("{path}.{name}"), "given");
    let name = |name: Option<Cow<'a, str>>, space: Option<Cow<'a, str>>| match (name, space) {
        (Some(name), Some(space)) => Ok(Cow::Owned(joined(&space, &name))),
        (Some(name), None) => Ok(name),
        (None, _) => Err(given("name")),
    };
    let (role, parts) = match item.kind.as_ref() {
        "message" => {
            let role = match item.role.as_ref() {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "system" => Role::System,
                "developer" => Role::Developer,
                _ => return Err(not_supported(format!("{path}.role"))),
            };
            let value = item.content.ok_or_else(|| given("content"))?;
            (role, content(&format!("{path}.content"), value)?)
        }
        "function_call" | "custom_tool_call" => {
            let arguments = match item.input {
                Some(input) => serde_json::json!({ "input": input }).to_string().into(),
                None => string(&format!("{path}.arguments"), item.arguments.unwrap_or("\"\""))?,
            };
            let id = item.call_id.ok_or_else(|| given("call_id"))?;
            let name = name(item.name, item.namespace)?;
            (Role::Assistant, vec![Block::ToolUse { id, name, arguments }.into()])
        }
        "function_call_output" | "custom_tool_call_output" => {
            let value = item.output.ok_or_else(|| given("output"))?;
            let id = item.call_id.ok_or_else(|| given("call_id"))?;
            let content = content(&format!("{path}.output"), value)?;
            (Role::User, vec![Block::ToolResult { id, content, is_error: false }.into()])
        }
        "reasoning" => {
            let text = summary(&format!("{path}.summary"), item.summary.unwrap_or("[]"))?;
            // OpenAI's own, where nobody else marked it: no other provider can read that.
            let (origin, proof) = seal::open(Some(OPENAI), item.encrypted.unwrap_or_default());
            let whose = origin.as_deref().unwrap_or_default();
            let block = match (proof, whose.strip_suffix(REDACTED)) {
                (Some(data), Some(whose)) => {
                    Block::Redacted { data, origin: Some(whose.to_owned().into()) }
                }
                (Some(data), None) if whose == OPENAI => Block::Redacted { data, origin },
                (signature, _) => Block::Thinking { text: text.into(), signature, origin },
            };
            (Role::Assistant, vec![block.into()])
        }
        _ => return Err(not_supported(format!("{path}.type"))),
    };
    Ok(Message { role, parts })
}

/// A text, or a list of parts.
fn content<'a>(path: &str, value: &'a str) -> Result<Vec<Part<'a>>, Unsupported> {
    if !value.starts_with('[') {
        let text = string(path, value).map_err(|_| must_be(path, "a text or an array"))?;
        return Ok(vec![Block::Text(text).into()]);
    }
    let each = items(path, value)?.into_iter().enumerate();
    each.map(|(index, value)| part(&format!("{path}[{index}]"), value)).collect()
}

fn part<'a>(path: &str, value: &'a str) -> Result<Part<'a>, Unsupported> {
    let (mut kind, mut text, mut source) = (Cow::Borrowed(""), None, None);
    let mut file_name = None;
    members(path, value, |name, value| {
        let at = || format!("{path}.{name}");
        match name {
            "type" => kind = string(&at(), value)?,
            "text" | "refusal" => text = Some(string(&at(), value)?),
            "image_url" | "file_url" => source = Some(Source::of_url(string(&at(), value)?)),
            "file_id" => source = Some(Source::File(string(&at(), value)?)),
            "filename" => file_name = Some(string(&at(), value)?),
            // A data URL, or the base64 alone.
            "file_data" => {
                source = Some(match Source::of_url(string(&at(), value)?) {
                    Source::Url(data) => {
                        Source::Base64 { media_type: "application/pdf".into(), data }
                    }
                    source => source,
                });
            }
            "detail" | "annotations" | "logprobs" => {}
            _ => return Err(not_supported(at())),
        }
        Ok(())
    })?;
    let lacking = || must_be(path, "a part with its content");
    let block = match kind.as_ref() {
        "input_text" | "output_text" | "text" => Block::Text(text.ok_or_else(lacking)?),
        "refusal" => Block::Refusal(text.ok_or_else(lacking)?),
        "input_image" => Block::Image(source.ok_or_else(lacking)?),
        "input_file" => Block::Document { source: source.ok_or_else(lacking)?, name: file_name },
        _ => return Err(not_supported(format!("{path}.type"))),
    };
    Ok(block.into())
}

/// `[{"type":"summary_text","text":…}]`, as one text.
fn summary(path: &str, value: &str) -> Result<String, Unsupported> {
    let mut all = String::new();
    for item in items(path, value)? {
        members(path, item, |name, value| {
            if name == "text" {
                all.push_str(&string(path, value)?);
            }
            Ok(())
        })?;
    }
    Ok(all)
}
