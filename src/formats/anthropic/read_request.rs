//! Reads a request to Messages; blocks are read in `read_blocks`.

use std::borrow::Cow;

use super::read_blocks::{cache, content, texts};
use crate::conversation::{
    Effort, Message, Output, Part, Reasoning, Request, Role, Tool, ToolChoice, Unsupported,
};
use crate::formats::json::{
    boolean, count, items, members, must_be, not_supported, number, object, string,
};

/// # Errors
///
/// What is malformed, and what nobody can be asked for in another format; each by the name of its member.
pub(in crate::formats) fn read_request(body: &str) -> Result<Request<'_>, Unsupported> {
    let mut request = Request::default();
    let (mut system, mut effort, mut thinking) = (Vec::new(), None, None);
    members("body", body, |name, value| {
        match name {
            "model" => request.model = string(name, value)?,
            "messages" => {
                for (index, item) in items(name, value)?.into_iter().enumerate() {
                    request.messages.push(message(&format!("messages[{index}]"), item)?);
                }
            }
            "system" => system = texts(name, value)?,
            "max_tokens" => request.max_tokens = Some(count(name, value)?),
            "stream" => request.stream = boolean(name, value)?,
            "stop_sequences" => {
                let each = items(name, value)?.into_iter().map(|item| string(name, item));
                request.stop = each.collect::<Result<_, _>>()?;
            }
            "temperature" => request.sampling.temperature = Some(number(name, value)?),
            "top_p" => request.sampling.top_p = Some(number(name, value)?),
            "top_k" => request.sampling.top_k = Some(number(name, value)?),
            "tools" => {
                let each = items(name, value)?.into_iter().enumerate();
                request.tools = each
                    .map(|(index, item)| tool(&format!("tools[{index}]"), item))
                    .collect::<Result<_, _>>()?;
            }
            "tool_choice" => tool_choice(value, &mut request)?,
            "thinking" => thinking = Some(self::thinking(value)?),
            "output_config" => output_config(value, &mut request.output, &mut effort)?,
            "output_format" => request.output = output(name, value)?,
            "metadata" => members(name, value, |name, value| {
                if name == "user_id" {
                    request.user = Some(string("metadata.user_id", value)?);
                }
                Ok(())
            })?,
            "service_tier" => request.service_tier = Some(string(name, value)?),
            "mcp_servers" => {
                if !items(name, value)?.is_empty() {
                    return Err(not_supported(name));
                }
            }
            // Of no meaning for the answer: whose cache it is in, how fast it comes, who is asked to bear it; and
            // what makes room in a context that other providers have not.
            "cache_control" | "context_management" | "speed" | "diagnostics"
            | "user_profile_id" | "workspace_id" => {}
            _ => return Err(not_supported(name)),
        }
        Ok(())
    })?;
    if request.messages.is_empty() {
        return Err(must_be("messages", "a list of at least one message"));
    }
    if !system.is_empty() {
        request.preamble = 1;
        request.messages.insert(0, Message { role: Role::System, parts: system });
    }
    request.reasoning = match thinking {
        // Effort also steers how much is said: without thinking it is nobody's wish to think.
        None => Reasoning::default(),
        Some(Reasoning { effort: Some(Effort::None), .. }) => {
            Reasoning { effort: Some(Effort::None), budget: None }
        }
        Some(Reasoning { budget, .. }) => {
            let effort = effort.or(budget.is_none().then_some(Effort::High));
            Reasoning { effort, budget }
        }
    };
    Ok(request)
}

fn message<'a>(path: &str, value: &'a str) -> Result<Message<'a>, Unsupported> {
    let (mut role, mut parts) = (None, None);
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match (name, value) {
            ("role", "\"user\"") => role = Some(Role::User),
            ("role", "\"assistant\"") => role = Some(Role::Assistant),
            // Instructions in the middle of a conversation.
            ("role", "\"system\"") => role = Some(Role::System),
            ("content", _) => parts = Some(content(&at, value)?),
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    let role = role.ok_or_else(|| must_be(&format!("{path}.role"), "given"))?;
    let parts: Vec<Part<'_>> = parts.ok_or_else(|| must_be(&format!("{path}.content"), "given"))?;
    Ok(Message { role, parts })
}

fn tool<'a>(path: &str, value: &'a str) -> Result<Tool<'a>, Unsupported> {
    let mut tool = Tool {
        name: Cow::Borrowed(""),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
    };
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match (name, value) {
            ("type", "\"custom\"") => {}
            ("name", _) => tool.name = string(&at, value)?,
            ("description", _) => tool.description = Some(string(&at, value)?),
            ("input_schema", _) => tool.parameters = Some(object(&at, value)?),
            ("strict", _) => tool.strict = Some(boolean(&at, value)?),
            ("cache_control", _) => tool.cache = Some(cache(&at, value)?),
            // When Anthropic loads it, how it streams it, and examples: hints.
            ("defer_loading" | "eager_input_streaming" | "input_examples", _) => {}
            ("allowed_callers", _) if matches!(items(&at, value)?[..], [] | ["\"direct\""]) => {}
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    if tool.name.is_empty() {
        return Err(must_be(&format!("{path}.name"), "given"));
    }
    Ok(tool)
}

fn tool_choice<'a>(value: &'a str, request: &mut Request<'a>) -> Result<(), Unsupported> {
    let (mut kind, mut tool) = (Cow::Borrowed(""), None);
    members("tool_choice", value, |name, value| {
        let at = format!("tool_choice.{name}");
        match name {
            "type" => kind = string(&at, value)?,
            "name" => tool = Some(string(&at, value)?),
            "disable_parallel_tool_use" => request.parallel_tools = Some(!boolean(&at, value)?),
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    request.tool_choice = Some(match (kind.as_ref(), tool) {
        ("auto", _) => ToolChoice::Auto,
        ("any", _) => ToolChoice::Required,
        ("none", _) => ToolChoice::None,
        ("tool", Some(name)) => ToolChoice::Named(name),
        ("tool", None) => return Err(must_be("tool_choice.name", "given")),
        _ => return Err(not_supported("tool_choice.type")),
    });
    Ok(())
}

/// Effort is `Some` only where there is to be none.
fn thinking(value: &str) -> Result<Reasoning, Unsupported> {
    let mut reasoning = Reasoning::default();
    members("thinking", value, |name, value| {
        match (name, value) {
            ("type", "\"enabled\"" | "\"adaptive\"" | "\"between_tools\"") => {}
            ("type", "\"disabled\"") => reasoning.effort = Some(Effort::None),
            ("budget_tokens", _) => {
                reasoning.budget = Some(count("thinking.budget_tokens", value)?);
            }
            // Whether it is shown; other providers decide that themselves.
            ("display", _) => {}
            _ => return Err(not_supported(format!("thinking.{name}"))),
        }
        Ok(())
    })?;
    Ok(reasoning)
}

fn output_config<'a>(
    value: &'a str,
    output: &mut Output<'a>,
    effort: &mut Option<Effort>,
) -> Result<(), Unsupported> {
    members("output_config", value, |name, value| {
        let at = format!("output_config.{name}");
        match (name, value) {
            ("format", _) => *output = self::output(&at, value)?,
            ("effort", "\"low\"") => *effort = Some(Effort::Low),
            ("effort", "\"medium\"") => *effort = Some(Effort::Medium),
            ("effort", "\"high\"") => *effort = Some(Effort::High),
            ("effort", "\"xhigh\"") => *effort = Some(Effort::ExtraHigh),
            ("effort", "\"max\"") => *effort = Some(Effort::Max),
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })
}

/// `{"type":"json_schema","schema":{…}}`.
fn output<'a>(path: &str, value: &'a str) -> Result<Output<'a>, Unsupported> {
    let mut found = None;
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match (name, value) {
            ("type", "\"json_schema\"") => {}
            ("schema", _) => found = Some(object(&at, value)?),
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    let schema = found.ok_or_else(|| must_be(&format!("{path}.schema"), "given"))?;
    Ok(Output::Schema { schema })
}
