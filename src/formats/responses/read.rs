//! Reads a request; items are read in `items`.

use super::items;
use crate::conversation::{Effort, Message, Output, Request, Role, Unsupported};
use crate::formats::Echo;
use crate::formats::json::{
    boolean, count, items as list, members, must_be, not_supported, number, object, string,
};

/// Of what refers to it.
pub(super) const STORED: &str = "refers to something stored, which this model's providers do not \
                                 keep: send the whole conversation as input, with store: false";

/// # Errors
///
/// What is malformed, and what nobody can be asked for in another format; each by the name of its member.
pub(in crate::formats) fn read_request(body: &str) -> Result<(Request<'_>, Echo), Unsupported> {
    let mut request = Request { list: "input", ..Request::default() };
    let mut echo = Echo::default();
    let (mut instructions, mut safety_identifier, mut tools) = (None, None, false);
    members("body", body, |name, value| {
        match name {
            "model" => request.model = string(name, value)?,
            "input" => {
                request.messages = items::read(value, &mut request.tools, &mut echo.renamed)?;
            }
            "instructions" => instructions = Some(string(name, value)?),
            "stream" => request.stream = boolean(name, value)?,
            "tools" => {
                tools = true;
                for (index, item) in list(name, value)?.into_iter().enumerate() {
                    let path = format!("tools[{index}]");
                    super::tools::read(&path, item, &mut request.tools, &mut echo.renamed)?;
                }
            }
            "tool_choice" => request.tool_choice = Some(super::tools::choice(value)?),
            "parallel_tool_calls" => request.parallel_tools = Some(boolean(name, value)?),
            "max_output_tokens" => request.max_tokens = Some(count(name, value)?),
            "temperature" => request.sampling.temperature = Some(number(name, value)?),
            "top_p" => request.sampling.top_p = Some(number(name, value)?),
            "text" => text(value, &mut request.output)?,
            "reasoning" => reasoning(value, &mut request)?,
            "user" => request.user = Some(string(name, value)?),
            "safety_identifier" => safety_identifier = Some(string(name, value)?),
            "service_tier" => request.service_tier = Some(string(name, value)?),
            "include" => {
                for (index, item) in list(name, value)?.into_iter().enumerate() {
                    if item == "\"message.output_text.logprobs\"" {
                        return Err(not_supported(format!("include[{index}]")));
                    }
                }
            }
            "background" if value == "false" => {}
            "top_logprobs" if value == "0" => {}
            "previous_response_id" | "conversation" | "prompt" => {
                return Err(Unsupported::new(name, STORED));
            }
            "store"
            | "metadata"
            | "truncation"
            | "stream_options"
            | "max_tool_calls"
            | "client_metadata"
            | "prompt_cache_key"
            | "prompt_cache_retention"
            | "prompt_cache_options" => {}
            _ => return Err(not_supported(name)),
        }
        repeat(name, value, &mut echo.members);
        Ok(())
    })?;
    if request.messages.is_empty() {
        return Err(must_be("input", "a text or a list of at least one item"));
    }
    // Items may bring a tool again.
    request.keep_latest_tools();
    request.user = request.user.or(safety_identifier);
    if let Some(text) = instructions {
        request.preamble = 1;
        let block = crate::conversation::Block::Text(text);
        request.messages.insert(0, Message { role: Role::System, parts: vec![block.into()] });
    }
    // Members that every response has.
    for (name, default, given) in [
        ("tools", "[]", tools),
        ("tool_choice", "\"auto\"", request.tool_choice.is_some()),
        ("parallel_tool_calls", "true", request.parallel_tools.is_some()),
    ] {
        if !given {
            repeat(name, default, &mut echo.members);
        }
    }
    Ok((request, echo))
}

/// What a response repeats of its request. Nothing is stored, whatever was asked for.
fn repeat(name: &str, value: &str, out: &mut String) {
    const REPEATED: [&str; 14] = [
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "reasoning",
        "safety_identifier",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "truncation",
    ];
    if REPEATED.contains(&name) {
        for part in [",\"", name, "\":", value] {
            out.push_str(part);
        }
    }
}

fn text<'a>(value: &'a str, output: &mut Output<'a>) -> Result<(), Unsupported> {
    members("text", value, |name, value| match name {
        "format" => {
            *output = format(value)?;
            Ok(())
        }
        "verbosity" => Ok(()),
        _ => Err(not_supported(format!("text.{name}"))),
    })
}

fn format(value: &str) -> Result<Output<'_>, Unsupported> {
    const PATH: &str = "text.format";
    let (mut kind, mut schema) = (None, None);
    members(PATH, value, |name, value| {
        match name {
            "type" => kind = Some(string("text.format.type", value)?),
            "schema" => schema = Some(object("text.format.schema", value)?),
            "name" | "description" | "strict" => {}
            _ => return Err(not_supported(format!("{PATH}.{name}"))),
        }
        Ok(())
    })?;
    match (kind.as_deref(), schema) {
        (Some("text"), _) => Ok(Output::Text),
        (Some("json_object"), _) => Ok(Output::Json),
        (Some("json_schema"), Some(schema)) => Ok(Output::Schema { schema }),
        (Some("json_schema"), None) => Err(must_be("text.format.schema", "given")),
        _ => Err(not_supported("text.format.type")),
    }
}

fn reasoning(value: &str, request: &mut Request<'_>) -> Result<(), Unsupported> {
    members("reasoning", value, |name, value| {
        match (name, value) {
            ("effort", _) => {
                let effort = match value {
                    "\"none\"" => Effort::None,
                    "\"minimal\"" => Effort::Minimal,
                    "\"low\"" => Effort::Low,
                    "\"medium\"" => Effort::Medium,
                    "\"high\"" => Effort::High,
                    "\"xhigh\"" => Effort::ExtraHigh,
                    "\"max\"" => Effort::Max,
                    _ => return Err(not_supported("reasoning.effort")),
                };
                request.reasoning.effort = Some(effort);
            }
            ("summary" | "generate_summary" | "context", _) => {}
            _ => return Err(not_supported(format!("reasoning.{name}"))),
        }
        Ok(())
    })
}
