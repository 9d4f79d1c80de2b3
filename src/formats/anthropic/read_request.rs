//! Reads a request to Messages; blocks are read in `read_blocks`.

use std::borrow::Cow;
use std::collections::HashSet;

use super::answer::kind;
use super::read_blocks::{block, cache, content, texts};
use crate::conversation::{
    Effort, Message, Output, Part, Reasoning, Request, Role, Tool, ToolChoice, Unsupported,
};
use crate::formats::json::{
    boolean, count, items, members, must_be, not_supported, number, object, pick, string, text,
};

/// # Errors
///
/// What is malformed, and what nobody can be asked for in another format; each by the name of its member.
pub(in crate::formats) fn read_request(body: &str) -> Result<Request<'_>, Unsupported> {
    let mut request = Request::default();
    let (mut system, mut effort, mut thinking) = (Vec::new(), None, None);
    let mut changes = Changes::default();
    members("body", body, |name, value| {
        match name {
            "model" => request.model = string(name, value)?,
            "messages" => {
                for (index, item) in items(name, value)?.into_iter().enumerate() {
                    let path = format!("messages[{index}]");
                    message(&path, item, &mut request.messages, &mut changes)?;
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
            "output_config" => effort = output_config(name, value, Some(&mut request.output))?,
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
    let effort = changes.effort.or(effort);
    changes.apply(&mut request);
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

/// What messages of the system change for what comes behind them
/// (<https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages>).
#[derive(Default)]
struct Changes<'a> {
    effort: Option<Effort>,
    defined: Vec<Tool<'a>>,
    /// Names of tools, in order, and whether they are there from then on.
    tools: Vec<(Cow<'a, str>, bool)>,
    /// Messages that the model sees until the user's next.
    passing: Vec<usize>,
}

impl<'a> Changes<'a> {
    /// Leaves the tools that are there in the end.
    fn apply(mut self, request: &mut Request<'a>) {
        if self.tools.is_empty() {
            return;
        }
        request.tools.append(&mut self.defined);
        request.keep_latest_tools();
        let (mut seen, mut gone) = (HashSet::new(), HashSet::new());
        for (name, there) in self.tools.iter().rev() {
            if seen.insert(name.as_ref()) && !there {
                gone.insert(name.as_ref());
            }
        }
        request.tools.retain(|tool| !gone.contains(tool.name.as_ref()));
    }
}

fn message<'a>(
    path: &str,
    value: &'a str,
    messages: &mut Vec<Message<'a>>,
    changes: &mut Changes<'a>,
) -> Result<(), Unsupported> {
    let (mut role, mut told, mut config, mut passing) = (None, None, None, false);
    members(path, value, |name, value| {
        match (name, value) {
            ("role", "\"user\"") => role = Some(Role::User),
            ("role", "\"assistant\"") => role = Some(Role::Assistant),
            // Instructions in the middle of a conversation.
            ("role", "\"system\"") => role = Some(Role::System),
            ("content", _) => told = Some(value),
            ("output_config", _) => config = Some(value),
            ("clear_at", _) => passing = value == "\"next_user_message\"",
            _ => return Err(not_supported(format!("{path}.{name}"))),
        }
        Ok(())
    })?;
    let at = format!("{path}.content");
    let parts = match (role, told) {
        (None, _) => return Err(must_be(&format!("{path}.role"), "given")),
        (Some(Role::System), Some(value)) => instructions(&at, value, changes)?,
        (Some(_), Some(value)) => content(&at, value)?,
        (Some(Role::System), None) if config.is_some() => Vec::new(),
        (Some(_), None) => return Err(must_be(&at, "given")),
    };
    let role = role.unwrap_or(Role::User);
    if let Some(value) = config {
        let path = format!("{path}.output_config");
        changes.effort = output_config(&path, value, None)?.or(changes.effort);
    }
    if role == Role::User {
        for index in changes.passing.drain(..) {
            if let Some(message) = messages.get_mut(index) {
                message.parts.clear();
            }
        }
    } else if passing {
        changes.passing.push(messages.len());
    }
    messages.push(Message { role, parts });
    Ok(())
}

/// The content of a message of the system: texts, and tools that come and go.
fn instructions<'a>(
    path: &str,
    value: &'a str,
    changes: &mut Changes<'a>,
) -> Result<Vec<Part<'a>>, Unsupported> {
    if !value.starts_with('[') {
        return content(path, value);
    }
    let mut parts = Vec::new();
    for (index, item) in items(path, value)?.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        match kind(item).as_deref() {
            Some("tool_addition") => tool_change(&path, item, true, changes)?,
            Some("tool_removal") => tool_change(&path, item, false, changes)?,
            _ => parts.push(block(0, &path, item)?),
        }
    }
    Ok(parts)
}

/// `{"type":"tool_addition","tool":{"type":"tool_reference","name":…}}`, or with a tool's definition. What is
/// referred to is in `tools`.
fn tool_change<'a>(
    path: &str,
    value: &'a str,
    added: bool,
    changes: &mut Changes<'a>,
) -> Result<(), Unsupported> {
    let path = format!("{path}.tool");
    let tool = pick(value, ["tool"]).and_then(|[tool]| tool);
    let tool = tool.ok_or_else(|| must_be(&path, "given"))?;
    let [kind, name, definition] =
        pick(tool, ["type", "name", "definition"]).ok_or_else(|| must_be(&path, "an object"))?;
    let name = match (kind.and_then(text).as_deref(), definition) {
        (Some("tool_reference"), _) => string(&format!("{path}.name"), name.unwrap_or_default())?,
        (Some("tool_definition"), Some(definition)) if added => {
            let tool = self::tool(&format!("{path}.definition"), definition)?;
            let name = tool.name.clone();
            changes.defined.push(tool);
            name
        }
        _ => return Err(not_supported(format!("{path}.type"))),
    };
    changes.tools.push((name, added));
    Ok(())
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

/// The effort. `output`: `None` where the format of the answer is none of its members.
fn output_config<'a>(
    path: &str,
    value: &'a str,
    mut output: Option<&mut Output<'a>>,
) -> Result<Option<Effort>, Unsupported> {
    let mut effort = None;
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        effort = match (name, value, &mut output) {
            ("format", _, Some(output)) => {
                **output = self::output(&at, value)?;
                return Ok(());
            }
            // How long an agent may go on altogether: told to Anthropic's models alone.
            ("task_budget", _, Some(_)) => return Ok(()),
            ("effort", "\"low\"", _) => Some(Effort::Low),
            ("effort", "\"medium\"", _) => Some(Effort::Medium),
            ("effort", "\"high\"", _) => Some(Effort::High),
            ("effort", "\"xhigh\"", _) => Some(Effort::ExtraHigh),
            ("effort", "\"max\"", _) => Some(Effort::Max),
            _ => return Err(not_supported(at)),
        };
        Ok(())
    })?;
    Ok(effort)
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
