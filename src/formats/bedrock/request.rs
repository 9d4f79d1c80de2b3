//! Writes a request; messages and blocks are written in `content`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::content::{self, Block, CachePoint, Message};
use super::model::Family;
use crate::conversation::{Block as From, Effort, Output, Request, ToolChoice, Unsupported};
use crate::formats::anthropic::{self, schema};
use crate::formats::json::{must_be, not_supported};
use crate::members;
use crate::sorted;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Inference::is_empty")]
    inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Additional::is_empty")]
    additional_model_request_fields: Additional<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Typed<'a>>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
}

impl Inference<'_> {
    fn is_empty(&self) -> bool {
        self.max_tokens.is_none()
            && self.temperature.is_none()
            && self.top_p.is_none()
            && self.stop_sequences.is_empty()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Tool<'a> {
    #[serde(rename_all = "camelCase")]
    ToolSpec {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: Schema<'a>,
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        strict: bool,
    },
    CachePoint(CachePoint<'a>),
}

#[derive(Serialize)]
struct Schema<'a> {
    json: Cow<'a, RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    Auto {},
    Any {},
    Tool { name: &'a str },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputConfig<'a> {
    text_format: TextFormat<'a>,
}

#[derive(Serialize)]
struct TextFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Structure<'a> {
    /// The schema as text, inside a string.
    JsonSchema { schema: Cow<'a, str> },
}

/// What the model's own API has and Converse has not, in that API's words.
#[derive(Serialize, Default)]
struct Additional<'a> {
    /// Claude's.
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<anthropic::Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<ClaudeEffort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ClaudeChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a RawValue>,
    /// Nova's.
    #[serde(rename = "inferenceConfig", skip_serializing_if = "Option::is_none")]
    inference_config: Option<NovaInference<'a>>,
    #[serde(rename = "reasoningConfig", skip_serializing_if = "Option::is_none")]
    reasoning_config: Option<NovaReasoning>,
    /// Of OpenAI's open models.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
}

impl Additional<'_> {
    fn is_empty(&self) -> bool {
        self.thinking.is_none()
            && self.output_config.is_none()
            && self.tool_choice.is_none()
            && self.top_k.is_none()
            && self.inference_config.is_none()
            && self.reasoning_config.is_none()
            && self.reasoning_effort.is_none()
    }
}

#[derive(Serialize)]
struct ClaudeEffort {
    effort: &'static str,
}

#[derive(Serialize)]
struct ClaudeChoice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    disable_parallel_tool_use: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NovaInference<'a> {
    top_k: &'a RawValue,
}

/// <https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NovaReasoning {
    #[serde(rename = "type")]
    kind: &'static str,
    max_reasoning_effort: &'static str,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user: &'a str,
}

#[derive(Serialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

/// `model` is the target's.
///
/// # Errors
///
/// What Converse has no word for, by the table in the module's documentation.
pub(in crate::formats) fn write(
    request: &Request<'_>,
    model: &str,
) -> Result<Vec<u8>, Unsupported> {
    let family = Family::of(model);
    refuse(request, family)?;
    let (mut system, messages) = content::write(request, family)?;
    if matches!(request.output, Output::Json) {
        system.push(Block::Text("Answer with one JSON object and nothing else."));
    }
    let mut inference = Inference {
        max_tokens: request.max_tokens,
        temperature: request.sampling.temperature.map(at_most_one),
        top_p: request.sampling.top_p.map(at_most_one),
        stop_sequences: request.stop.iter().map(AsRef::as_ref).filter(|s| !s.is_empty()).collect(),
    };
    let mut additional = Additional::default();
    match family {
        Family::Claude(claude) => {
            let lacks_thinking = content::lacks_thinking(&messages);
            self::claude(request, claude, lacks_thinking, &mut inference, &mut additional);
        }
        Family::Nova | Family::Nova2 => {
            additional.inference_config =
                request.sampling.top_k.map(|top_k| NovaInference { top_k });
            if family == Family::Nova2 {
                additional.reasoning_config = nova_reasoning(request);
            }
        }
        Family::GptOss => {
            additional.reasoning_effort = request.reasoning.effort.map(level);
        }
        Family::Other => {}
    }
    let tool_config = tools(request, family, &mut system, &mut additional)?;
    let body = Body {
        system,
        messages,
        inference_config: inference,
        tool_config,
        output_config: output(request)?,
        additional_model_request_fields: additional,
        request_metadata: request.user.as_deref().filter(is_metadata).map(|user| Metadata { user }),
        service_tier: request
            .service_tier
            .as_deref()
            .filter(|tier| matches!(*tier, "priority" | "default" | "flex"))
            .map(|kind| Typed { kind }),
    };
    serde_json::to_vec(&body).map_err(|_| must_be("body", "a request that can be written"))
}

fn refuse(request: &Request<'_>, family: Family) -> Result<(), Unsupported> {
    if request.choices.is_some_and(|choices| choices != 1) {
        return Err(not_supported("n"));
    }
    if request.logprobs {
        return Err(not_supported("logprobs"));
    }
    if request.sampling.logit_bias.is_some_and(|bias| bias.get().contains(':')) {
        return Err(not_supported("logit_bias"));
    }
    let is_blank = |stop: &Cow<'_, str>| !stop.is_empty() && stop.trim().is_empty();
    if matches!(family, Family::Claude(_)) && request.stop.iter().any(is_blank) {
        return Err(Unsupported::new("stop", "must hold more than white space"));
    }
    Ok(())
}

/// From 4.5, which brought `strict` tools as well.
fn is_recent_claude(family: Family) -> bool {
    matches!(family, Family::Claude(claude) if claude.is_strict())
}

/// Converse's end of the scale.
fn at_most_one(number: &RawValue) -> &RawValue {
    let is_above = members::float(number.get()).is_some_and(|number| number > 1.0);
    let one = || serde_json::from_str("1").unwrap_or(number);
    if is_above { one() } else { number }
}

fn claude<'a>(
    request: &'a Request<'_>,
    claude: anthropic::Model,
    lacks_thinking: bool,
    inference: &mut Inference<'a>,
    additional: &mut Additional<'a>,
) {
    let max_tokens = request.max_tokens.unwrap_or(claude.max_tokens());
    let thinking = anthropic::thinking(request, claude, max_tokens, lacks_thinking);
    let (temperature, top_p, top_k) = anthropic::sampling(request, claude, thinking.is_some());
    inference.temperature = temperature;
    inference.top_p = top_p;
    additional.top_k = top_k;
    additional.output_config =
        anthropic::effort(request, claude).map(|effort| ClaudeEffort { effort });
    if matches!(thinking, Some(anthropic::Thinking::Enabled { .. })) {
        // The budget is a part of it.
        inference.max_tokens = Some(max_tokens);
    }
    additional.thinking = thinking;
}

/// With `high`, Nova refuses every limit and every number for sampling.
fn nova_reasoning(request: &Request<'_>) -> Option<NovaReasoning> {
    let sampling = &request.sampling;
    let is_free = request.max_tokens.is_none()
        && sampling.temperature.is_none()
        && sampling.top_p.is_none()
        && sampling.top_k.is_none();
    let effort = request.reasoning.effort.or(request.reasoning.budget.map(|_| Effort::Medium))?;
    let level = match effort {
        Effort::None | Effort::Minimal => return None,
        Effort::High | Effort::ExtraHigh | Effort::Max if !is_free => "medium",
        effort => level(effort),
    };
    Some(NovaReasoning { kind: "enabled", max_reasoning_effort: level })
}

fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::ExtraHigh | Effort::Max => "high",
    }
}

fn tools<'a>(
    request: &'a Request<'_>,
    family: Family,
    system: &mut Vec<Block<'a>>,
    additional: &mut Additional<'a>,
) -> Result<Option<ToolConfig<'a>>, Unsupported> {
    let forbidden = request.tool_choice == Some(ToolChoice::None);
    let mut tools = Vec::new();
    if !forbidden || called(request).next().is_some() {
        for tool in &request.tools {
            let strict = tool.strict == Some(true) && is_recent_claude(family);
            let json = match tool.parameters {
                Some(parameters) if strict => schema::strict(parameters),
                parameters => schema::input(parameters),
            };
            let json = json.ok_or_else(|| must_be("tools", "functions with JSON schemas"))?;
            tools.push(Tool::ToolSpec {
                name: &tool.name,
                description: tool.description.as_deref().filter(|text| !text.is_empty()),
                input_schema: Schema { json },
                strict,
            });
            if let Some(mark) = tool.cache.as_ref().filter(|_| family.caches_tools()) {
                tools.push(Tool::CachePoint(CachePoint::of(mark)));
            }
        }
    }
    let mut is_history = forbidden;
    if request.tools.is_empty() {
        // Converse refuses calls and results in messages where no tools are declared.
        let mut names: Vec<&str> = called(request).collect();
        sorted::by_key(&mut names, |name| *name);
        names.dedup();
        is_history |= !names.is_empty();
        for name in names {
            let Some(json) = schema::input(None) else { continue };
            let input_schema = Schema { json };
            tools.push(Tool::ToolSpec { name, description: None, input_schema, strict: false });
        }
    }
    if tools.is_empty() {
        return Ok(None);
    }
    if is_history {
        system.push(Block::Text("Do not call any tool."));
        return Ok(Some(ToolConfig { tools, tool_choice: None }));
    }
    let choice = match &request.tool_choice {
        Some(ToolChoice::Required) => Some(Choice::Any {}),
        Some(ToolChoice::Named(name)) => Some(Choice::Tool { name }),
        Some(ToolChoice::Auto) => Some(Choice::Auto {}),
        Some(ToolChoice::None) | None => None,
    };
    if request.parallel_tools == Some(false) && is_recent_claude(family) {
        let (kind, name) = match choice {
            Some(Choice::Any {}) => ("any", None),
            Some(Choice::Tool { name }) => ("tool", Some(name)),
            Some(Choice::Auto {}) | None => ("auto", None),
        };
        let choice = ClaudeChoice { kind, name, disable_parallel_tool_use: true };
        additional.tool_choice = Some(choice);
        return Ok(Some(ToolConfig { tools, tool_choice: None }));
    }
    Ok(Some(ToolConfig { tools, tool_choice: choice }))
}

/// Names of the tools that the history has calls of.
fn called<'a>(request: &'a Request<'_>) -> impl Iterator<Item = &'a str> {
    request.messages.iter().flat_map(|message| &message.parts).filter_map(|part| {
        match &part.block {
            From::ToolUse { name, .. } => Some(name.as_ref()),
            _ => None,
        }
    })
}

fn output<'a>(request: &Request<'a>) -> Result<Option<OutputConfig<'a>>, Unsupported> {
    let Output::Schema { schema } = request.output else { return Ok(None) };
    let schema = match schema::strict(schema) {
        Some(Cow::Borrowed(schema)) => Cow::Borrowed(schema.get()),
        Some(Cow::Owned(schema)) => Cow::Owned(schema.get().to_owned()),
        None => return Err(must_be("response_format", "a JSON schema")),
    };
    let structure = Structure::JsonSchema { schema };
    Ok(Some(OutputConfig { text_format: TextFormat { kind: "json_schema", structure } }))
}

/// What a value of `requestMetadata` may be.
fn is_metadata(user: &&str) -> bool {
    let is_taken = |c: char| c.is_ascii_alphanumeric() || " :_@$#=/+,-.".contains(c);
    user.len() <= 256 && user.chars().all(is_taken)
}
