//! Tools that other formats know only as functions.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::conversation::{Tool, ToolChoice, Unsupported};
use crate::formats::json::{
    boolean, items, members, must_be, not_supported, object, pick, string, text,
};

/// A tool that the model knows by another name, or as another kind.
#[derive(Clone)]
pub(in crate::formats) struct Renamed {
    /// For the model.
    pub(super) known_as: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// Its input is text.
    pub(super) custom: bool,
}

/// Takes one of `tools`.
pub(super) fn read<'a>(
    path: &str,
    value: &'a str,
    out: &mut Vec<Tool<'a>>,
    renamed: &mut Vec<Renamed>,
) -> Result<(), Unsupported> {
    match kind(path, value)?.as_ref() {
        kind @ ("function" | "custom") => callable(path, kind, None, value, out, renamed),
        "namespace" => namespace(path, value, out, renamed),
        // Coding agents send them with every request; a model does without. Tools that a search would find are in
        // the request already, or stay unfound.
        "web_search" | "web_search_preview" | "tool_search" => Ok(()),
        _ => Err(not_supported(format!("{path}.type"))),
    }
}

/// A function or a custom tool, alone or in a namespace.
fn callable<'a>(
    path: &str,
    kind: &str,
    namespace: Option<&str>,
    value: &'a str,
    out: &mut Vec<Tool<'a>>,
    renamed: &mut Vec<Renamed>,
) -> Result<(), Unsupported> {
    let custom = kind == "custom";
    let mut tool = if custom { self::custom(path, value)? } else { function(path, value)? };
    let known_as = match namespace {
        Some(namespace) => joined(namespace, &tool.name),
        None => tool.name.clone().into_owned(),
    };
    if custom || namespace.is_some() {
        let (namespace, name) = (namespace.map(str::to_owned), tool.name.into_owned());
        renamed.push(Renamed { known_as: known_as.clone(), namespace, name, custom });
        tool.name = known_as.into();
    }
    out.push(tool);
    Ok(())
}

fn empty<'a>() -> Tool<'a> {
    Tool { name: Cow::Borrowed(""), description: None, parameters: None, strict: None, cache: None }
}

fn function<'a>(path: &str, value: &'a str) -> Result<Tool<'a>, Unsupported> {
    let mut tool = empty();
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match name {
            "name" => tool.name = string(&at, value)?,
            "description" => tool.description = Some(string(&at, value)?),
            "parameters" => tool.parameters = Some(object(&at, value)?),
            "strict" => tool.strict = Some(boolean(&at, value)?),
            // What the answer will be like, and when OpenAI loads and calls it: hints.
            "type" | "output_schema" | "defer_loading" | "async" | "allowed_callers" => {}
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    named(path, tool)
}

/// The schema of a custom tool's only argument.
const INPUT: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

fn custom<'a>(path: &str, value: &'a str) -> Result<Tool<'a>, Unsupported> {
    let mut tool = empty();
    let mut grammar = None;
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match name {
            "name" => tool.name = string(&at, value)?,
            "description" => tool.description = Some(string(&at, value)?),
            "format" => members(&at, value, |name, value| {
                if name == "definition" {
                    grammar = Some(string(&format!("{at}.definition"), value)?);
                }
                Ok(())
            })?,
            "type" | "defer_loading" | "async" | "allowed_callers" => {}
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    let mut tool = named(path, tool)?;
    if let Some(grammar) = grammar {
        let described = tool.description.unwrap_or_default();
        let text = format!("{described}\n\nThe input has to follow this grammar:\n{grammar}");
        tool.description = Some(text.trim_start().to_owned().into());
    }
    tool.parameters = serde_json::from_str::<&RawValue>(INPUT).ok();
    Ok(tool)
}

fn namespace<'a>(
    path: &str,
    value: &'a str,
    out: &mut Vec<Tool<'a>>,
    renamed: &mut Vec<Renamed>,
) -> Result<(), Unsupported> {
    let (mut space, mut inner) = (Cow::Borrowed(""), None);
    members(path, value, |name, value| {
        let at = format!("{path}.{name}");
        match name {
            "name" => space = string(&at, value)?,
            "tools" => inner = Some(value),
            "type" | "description" => {}
            _ => return Err(not_supported(at)),
        }
        Ok(())
    })?;
    let path = format!("{path}.tools");
    for (index, value) in items(&path, inner.unwrap_or("[]"))?.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        match kind(&path, value)?.as_ref() {
            kind @ ("function" | "custom") => {
                callable(&path, kind, Some(&space), value, out, renamed)?;
            }
            _ => return Err(not_supported(format!("{path}.type"))),
        }
    }
    Ok(())
}

/// What the model knows a tool of a namespace as.
pub(super) fn joined(namespace: &str, name: &str) -> String {
    format!("{namespace}__{name}")
}

fn named<'a>(path: &str, tool: Tool<'a>) -> Result<Tool<'a>, Unsupported> {
    if tool.name.is_empty() {
        return Err(must_be(&format!("{path}.name"), "given"));
    }
    Ok(tool)
}

pub(super) fn choice(value: &str) -> Result<ToolChoice<'_>, Unsupported> {
    match value {
        "\"auto\"" => return Ok(ToolChoice::Auto),
        "\"none\"" => return Ok(ToolChoice::None),
        "\"required\"" => return Ok(ToolChoice::Required),
        _ => {}
    }
    let mut tool = None;
    members("tool_choice", value, |name, value| {
        match (name, value) {
            ("type", "\"function\"" | "\"custom\"") => {}
            ("name", _) => tool = Some(string("tool_choice.name", value)?),
            _ => return Err(not_supported(format!("tool_choice.{name}"))),
        }
        Ok(())
    })?;
    tool.map(ToolChoice::Named).ok_or_else(|| must_be("tool_choice.name", "given"))
}

fn kind<'a>(path: &str, tool: &'a str) -> Result<Cow<'a, str>, Unsupported> {
    let kind = pick(tool, ["type"]).and_then(|[kind]| text(kind?));
    kind.ok_or_else(|| must_be(&format!("{path}.type"), "given"))
}
