//! Writes a request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{PLAN, THINKING};
use crate::conversation::{
    Block, Effort, Message, Output, Part, Request, Role, Source, ToolChoice, Unsupported,
};
use crate::formats::anthropic::schema;
use crate::formats::json::{empty, must_be, not_supported};
use crate::members;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    strict_tools: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [Cow<'a, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize, Default)]
struct WireMessage<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_plan: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    content: Vec<Content<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    Text { text: &'a str },
    Thinking { thinking: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Called<'a>,
}

#[derive(Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: Cow<'a, RawValue>,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_budget: Option<u64>,
}

/// `model` is the target's.
///
/// # Errors
///
/// What Cohere has no word for, by the table in the module's documentation.
pub(in crate::formats) fn write(
    request: &Request<'_>,
    model: &str,
) -> Result<Vec<u8>, Unsupported> {
    refuse(request)?;
    let mut messages = Vec::with_capacity(request.messages.len());
    for (index, message) in request.messages.iter().enumerate() {
        let path = format!("{}.content", request.path(index));
        match message.role {
            Role::System | Role::Developer => told(&path, "system", message, &mut messages)?,
            Role::User => told(&path, "user", message, &mut messages)?,
            Role::Assistant => assistant(&path, message, &mut messages)?,
        }
    }
    if messages.is_empty() {
        return Err(empty(request));
    }
    let sampling = &request.sampling;
    let (tools, tool_choice) = tools(request)?;
    let body = Body {
        model,
        messages,
        strict_tools: !tools.is_empty() && request.tools.iter().all(|t| t.strict == Some(true)),
        tools,
        tool_choice,
        max_tokens: request.max_tokens,
        stop_sequences: &request.stop,
        temperature: sampling.temperature,
        p: sampling.top_p.map(|p| within(p, "0.01", "0.99")),
        k: sampling.top_k,
        seed: sampling.seed,
        presence_penalty: sampling.presence_penalty.map(|p| within(p, "0", "1")),
        frequency_penalty: sampling.frequency_penalty.map(|p| within(p, "0", "1")),
        response_format: response_format(request)?,
        thinking: thinking(request, model),
        stream: request.stream,
    };
    serde_json::to_vec(&body).map_err(|_| must_be("body", "a request that can be written"))
}

fn refuse(request: &Request<'_>) -> Result<(), Unsupported> {
    if request.choices.is_some_and(|choices| choices != 1) {
        return Err(not_supported("n"));
    }
    if request.logprobs {
        return Err(not_supported("logprobs"));
    }
    if request.sampling.logit_bias.is_some_and(|bias| bias.get().contains(':')) {
        return Err(not_supported("logit_bias"));
    }
    Ok(())
}

/// Instructions, or what a user or tool says: results of tools are messages of their own.
fn told<'a>(
    path: &str,
    role: &'static str,
    message: &'a Message<'_>,
    messages: &mut Vec<WireMessage<'a>>,
) -> Result<(), Unsupported> {
    let mut content = Vec::new();
    for (index, part) in message.parts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Block::ToolResult { id, content: result, .. } = &part.block {
            flush(role, &mut content, messages);
            let content = result_content(&path, result)?;
            let tool_call_id = Some(id.as_ref());
            messages.push(WireMessage {
                role: "tool",
                tool_call_id,
                content,
                ..WireMessage::default()
            });
        } else {
            content.extend(self::content(&path, part)?);
        }
    }
    flush(role, &mut content, messages);
    Ok(())
}

fn flush<'a>(
    role: &'static str,
    content: &mut Vec<Content<'a>>,
    messages: &mut Vec<WireMessage<'a>>,
) {
    if !content.is_empty() {
        let content = core::mem::take(content);
        messages.push(WireMessage { role, content, ..WireMessage::default() });
    }
}

/// An empty result is one, too.
fn result_content<'a>(path: &str, parts: &'a [Part<'_>]) -> Result<Vec<Content<'a>>, Unsupported> {
    let mut content = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        match &part.block {
            Block::Text(text) => content.push(Content::Text { text }),
            _ => return Err(not_supported(format!("{path}[{index}]"))),
        }
    }
    if content.is_empty() {
        content.push(Content::Text { text: "" });
    }
    Ok(content)
}

fn assistant<'a>(
    path: &str,
    message: &'a Message<'_>,
    messages: &mut Vec<WireMessage<'a>>,
) -> Result<(), Unsupported> {
    let mut wire = WireMessage { role: "assistant", ..WireMessage::default() };
    for (index, part) in message.parts.iter().enumerate() {
        match &part.block {
            Block::Thinking { text, origin: Some(origin), .. } if origin == PLAN => {
                wire.tool_plan.get_or_insert_default().push_str(text);
            }
            Block::Thinking { text, origin: Some(origin), .. } if origin == THINKING => {
                wire.content.push(Content::Thinking { thinking: text });
            }
            Block::Thinking { .. } | Block::Redacted { .. } => {}
            Block::ToolUse { id, name, arguments } => {
                let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
                let function = Called { name, arguments };
                wire.tool_calls.push(ToolCall { id, kind: "function", function });
            }
            _ => wire.content.extend(content(&format!("{path}[{index}]"), part)?),
        }
    }
    if !wire.content.is_empty() || !wire.tool_calls.is_empty() {
        messages.push(wire);
    }
    Ok(())
}

/// `None`: it is left out.
fn content<'a>(path: &str, part: &'a Part<'_>) -> Result<Option<Content<'a>>, Unsupported> {
    Ok(Some(match &part.block {
        Block::Text(text) | Block::Refusal(text) if text.trim().is_empty() => return Ok(None),
        Block::Text(text) | Block::Refusal(text) => Content::Text { text },
        Block::Image(Source::Url(url)) => {
            Content::ImageUrl { image_url: ImageUrl { url: Cow::Borrowed(url) } }
        }
        Block::Image(Source::Base64 { media_type, data }) => {
            let url = Cow::Owned(format!("data:{media_type};base64,{data}"));
            Content::ImageUrl { image_url: ImageUrl { url } }
        }
        Block::Image(Source::File(_)) => {
            return Err(Unsupported::new(path, "is a file of another provider: send its content"));
        }
        Block::Thinking { .. } | Block::Redacted { .. } => return Ok(None),
        _ => return Err(not_supported(path)),
    }))
}

fn tools<'a>(
    request: &'a Request<'_>,
) -> Result<(Vec<Tool<'a>>, Option<&'static str>), Unsupported> {
    let (only, choice) = match &request.tool_choice {
        Some(ToolChoice::Named(name)) => (Some(name), Some("REQUIRED")),
        Some(ToolChoice::Required) => (None, Some("REQUIRED")),
        Some(ToolChoice::None) => (None, Some("NONE")),
        Some(ToolChoice::Auto) | None => (None, None),
    };
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in request.tools.iter().filter(|tool| only.is_none_or(|only| tool.name == *only)) {
        let parameters = schema::input(tool.parameters)
            .ok_or_else(|| must_be("tools", "functions with JSON schemas"))?;
        let description = tool.description.as_deref();
        let function = Function { name: &tool.name, description, parameters };
        tools.push(Tool { kind: "function", function });
    }
    if tools.is_empty() && only.is_some() {
        return Err(must_be("tool_choice", "one of the tools"));
    }
    // Cohere refuses a choice where there is none.
    Ok(if tools.is_empty() { (tools, None) } else { (tools, choice) })
}

fn response_format<'a>(request: &Request<'a>) -> Result<Option<ResponseFormat<'a>>, Unsupported> {
    let json_schema = match request.output {
        Output::Text => return Ok(None),
        Output::Json => None,
        Output::Schema { schema } => Some(schema),
    };
    if !request.tools.is_empty() {
        return Err(Unsupported::new("response_format", "is not supported beside tools"));
    }
    Ok(Some(ResponseFormat { kind: "json_object", json_schema }))
}

/// <https://docs.cohere.com/docs/reasoning>: models that reason do so unless they are told not to.
fn thinking(request: &Request<'_>, model: &str) -> Option<Thinking> {
    if !model.contains("reasoning") {
        return None;
    }
    let token_budget = request.reasoning.budget.filter(|budget| *budget > 0);
    match request.reasoning.effort {
        Some(Effort::None | Effort::Minimal) => {
            Some(Thinking { kind: "disabled", token_budget: None })
        }
        None if token_budget.is_none() => None,
        _ => Some(Thinking { kind: "enabled", token_budget }),
    }
}

/// The number as it was written, or the end of the scale that it is beyond.
fn within<'a>(number: &'a RawValue, least: &'static str, most: &'static str) -> &'a RawValue {
    let of = |text: &str| members::float(text).unwrap_or_default();
    let value = of(number.get());
    let end = if value < of(least) {
        least
    } else if value > of(most) {
        most
    } else {
        return number;
    };
    serde_json::from_str(end).unwrap_or(number)
}
