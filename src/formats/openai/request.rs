//! The members of a request; messages are read in `content`.

use std::borrow::Cow;

use super::content;
use crate::conversation::{
    CacheMark, Effort, Output, Reasoning, Request, Tool, ToolChoice, Unsupported,
};
use crate::formats::json::{
    boolean, count, items, members, must_be, not_supported, number, object, string,
};

/// # Errors
///
/// What is malformed, and what nobody can be asked for in another format; each by the name of its member.
pub(in crate::formats) fn read(body: &str) -> Result<Request<'_>, Unsupported> {
    let mut request = Request::default();
    let (mut max_tokens, mut safety_identifier) = (None, None);
    members("body", body, |name, value| {
        let sampling = &mut request.sampling;
        match name {
            "model" => request.model = string(name, value)?,
            "messages" => {
                let each = items(name, value)?.into_iter().enumerate();
                request.messages = each
                    .map(|(index, item)| content::message(&format!("messages[{index}]"), item))
                    .collect::<Result<_, _>>()?;
            }
            "stream" => request.stream = boolean(name, value)?,
            // What it is for is known since the body was first read.
            "stream_options" => {}
            "tools" => {
                let each = items(name, value)?.into_iter().enumerate();
                request.tools = each
                    .map(|(index, item)| tool(&format!("tools[{index}]"), item))
                    .collect::<Result<_, _>>()?;
            }
            "tool_choice" => request.tool_choice = Some(tool_choice(value)?),
            "parallel_tool_calls" => request.parallel_tools = Some(boolean(name, value)?),
            "max_completion_tokens" => request.max_tokens = Some(count(name, value)?),
            "max_tokens" => max_tokens = Some(count(name, value)?),
            "temperature" => sampling.temperature = Some(number(name, value)?),
            "top_p" => sampling.top_p = Some(number(name, value)?),
            "top_k" => sampling.top_k = Some(number(name, value)?),
            "seed" => sampling.seed = Some(number(name, value)?),
            "presence_penalty" => sampling.presence_penalty = Some(number(name, value)?),
            "frequency_penalty" => sampling.frequency_penalty = Some(number(name, value)?),
            "logit_bias" => sampling.logit_bias = Some(object(name, value)?),
            "n" => request.choices = Some(count(name, value)?),
            "logprobs" => request.logprobs |= boolean(name, value)?,
            "top_logprobs" => request.logprobs |= count(name, value)? > 0,
            "stop" => request.stop = stop(value)?,
            "response_format" => request.output = output(value)?,
            "reasoning_effort" => request.reasoning.effort = Some(effort(name, value)?),
            "thinking" => thinking(value, &mut request.reasoning)?,
            "user" => request.user = Some(string(name, value)?),
            "safety_identifier" => safety_identifier = Some(string(name, value)?),
            "service_tier" => request.service_tier = Some(string(name, value)?),
            "modalities" => {
                if items(name, value)?.iter().any(|item| *item != "\"text\"") {
                    return Err(not_supported(name));
                }
            }
            "metadata"
            | "store"
            | "prompt_cache_key"
            | "prompt_cache_retention"
            | "prediction"
            | "verbosity" => {}
            _ => return Err(not_supported(name)),
        }
        Ok(())
    })?;
    request.max_tokens = request.max_tokens.or(max_tokens);
    request.user = request.user.or(safety_identifier);
    if request.messages.is_empty() {
        return Err(must_be("messages", "a list of at least one message"));
    }
    Ok(request)
}

fn stop(value: &str) -> Result<Vec<Cow<'_, str>>, Unsupported> {
    if !value.starts_with('[') {
        return Ok(vec![string("stop", value)?]);
    }
    items("stop", value)?.into_iter().map(|item| string("stop", item)).collect()
}

fn tool<'a>(path: &str, value: &'a str) -> Result<Tool<'a>, Unsupported> {
    let mut tool = Tool {
        name: Cow::Borrowed(""),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
    };
    members(path, value, |name, value| match name {
        "type" if value == "\"function\"" => Ok(()),
        "type" => Err(not_supported(format!("{path}.type"))),
        "function" => members(path, value, |name, value| {
            let path = format!("{path}.function.{name}");
            match name {
                "name" => tool.name = string(&path, value)?,
                "description" => tool.description = Some(string(&path, value)?),
                "parameters" => tool.parameters = Some(object(&path, value)?),
                "strict" => tool.strict = Some(boolean(&path, value)?),
                "cache_control" => tool.cache = Some(cache(&path, value)?),
                _ => return Err(not_supported(path)),
            }
            Ok(())
        }),
        "cache_control" => {
            tool.cache = Some(cache(&format!("{path}.cache_control"), value)?);
            Ok(())
        }
        _ => Err(not_supported(format!("{path}.{name}"))),
    })?;
    if tool.name.is_empty() {
        return Err(must_be(&format!("{path}.function.name"), "given"));
    }
    Ok(tool)
}

fn tool_choice(value: &str) -> Result<ToolChoice<'_>, Unsupported> {
    const PATH: &str = "tool_choice";
    match value {
        "\"auto\"" => return Ok(ToolChoice::Auto),
        "\"none\"" => return Ok(ToolChoice::None),
        "\"required\"" => return Ok(ToolChoice::Required),
        _ => {}
    }
    let mut named = None;
    members(PATH, value, |name, value| match (name, value) {
        ("type", "\"function\"") => Ok(()),
        ("function", _) => members(PATH, value, |name, value| {
            if name == "name" {
                named = Some(string("tool_choice.function.name", value)?);
            }
            Ok(())
        }),
        _ => Err(not_supported(format!("{PATH}.{name}"))),
    })?;
    named.map(ToolChoice::Named).ok_or_else(|| must_be("tool_choice.function.name", "given"))
}

fn output(value: &str) -> Result<Output<'_>, Unsupported> {
    const PATH: &str = "response_format";
    let (mut kind, mut schema) = (Cow::Borrowed(""), None);
    members(PATH, value, |name, value| match name {
        "type" => {
            kind = string("response_format.type", value)?;
            Ok(())
        }
        "json_schema" => members(PATH, value, |name, value| {
            if name == "schema" {
                schema = Some(object("response_format.json_schema.schema", value)?);
            }
            // `name`, `description` and `strict`: every format that takes a schema follows it.
            Ok(())
        }),
        _ => Err(not_supported(format!("{PATH}.{name}"))),
    })?;
    match (kind.as_ref(), schema) {
        ("text", _) => Ok(Output::Text),
        ("json_object", _) => Ok(Output::Json),
        ("json_schema", Some(schema)) => Ok(Output::Schema { schema }),
        ("json_schema", None) => Err(must_be("response_format.json_schema.schema", "given")),
        _ => Err(not_supported("response_format.type")),
    }
}

fn effort(path: &str, value: &str) -> Result<Effort, Unsupported> {
    Ok(match string(path, value)?.as_ref() {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::ExtraHigh,
        "max" => Effort::Max,
        _ => return Err(not_supported(path)),
    })
}

/// `{"type":"enabled","budget_tokens":…}`, `{"type":"adaptive"}` or `{"type":"disabled"}`.
fn thinking(value: &str, reasoning: &mut Reasoning) -> Result<(), Unsupported> {
    members("thinking", value, |name, value| match (name, value) {
        ("type", "\"enabled\"" | "\"adaptive\"") => {
            reasoning.effort = reasoning.effort.or(Some(Effort::High));
            Ok(())
        }
        ("type", "\"disabled\"") => {
            reasoning.effort = Some(Effort::None);
            Ok(())
        }
        ("budget_tokens", _) => {
            reasoning.budget = Some(count("thinking.budget_tokens", value)?);
            Ok(())
        }
        _ => Err(not_supported(format!("thinking.{name}"))),
    })
}

/// `{"type":"ephemeral","ttl":"1h"}`.
pub(super) fn cache<'a>(path: &str, value: &'a str) -> Result<CacheMark<'a>, Unsupported> {
    let mut mark = CacheMark { ttl: None };
    members(path, value, |name, value| match (name, value) {
        ("type", "\"ephemeral\"") => Ok(()),
        ("ttl", _) => {
            mark.ttl = Some(string(&format!("{path}.ttl"), value)?);
            Ok(())
        }
        _ => Err(not_supported(format!("{path}.{name}"))),
    })?;
    Ok(mark)
}
