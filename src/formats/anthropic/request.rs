//! Writes a request; messages and blocks are written in `content`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::content::{self, Block, Message};
use super::model::{self, Model};
use super::schema;
use crate::conversation::{CacheMark, Effort, Output, Request, Tool, ToolChoice, Unsupported};
use crate::formats::json::{must_be, not_supported};
use crate::members;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [Cow<'a, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "OutputConfig::is_empty")]
    output_config: OutputConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct ToolBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    strict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Cache<'a>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(in crate::formats) enum Thinking {
    Enabled { budget_tokens: u64 },
    Adaptive,
}

#[derive(Serialize, Default)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
}

impl OutputConfig<'_> {
    fn is_empty(&self) -> bool {
        self.effort.is_none() && self.format.is_none()
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonSchema { schema: Cow<'a, RawValue> },
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Cache<'a> {
    Ephemeral {
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<&'a str>,
    },
}

impl<'a> Cache<'a> {
    pub(super) fn of(mark: Option<&'a CacheMark<'a>>) -> Option<Self> {
        mark.map(|mark| Self::Ephemeral { ttl: mark.ttl.as_deref() })
    }
}

/// `model` is the target's.
///
/// # Errors
///
/// What Anthropic has no word for, by the table in the module's documentation.
pub(in crate::formats) fn write(
    request: &Request<'_>,
    model: &str,
) -> Result<Vec<u8>, Unsupported> {
    refuse(request)?;
    let abilities = Model::of(model);
    let max_tokens = request.max_tokens.unwrap_or(abilities.max_tokens());
    let (mut system, messages) = content::write(request)?;
    if matches!(request.output, Output::Json) {
        system.push(Block::instruction("Answer with one JSON object and nothing else."));
    }
    let lacks_thinking = content::lacks_thinking(&messages);
    let thinking = thinking(request, abilities, max_tokens, lacks_thinking);
    let (temperature, top_p, top_k) = sampling(request, abilities, thinking.is_some());
    let tools: Option<Vec<_>> = request.tools.iter().map(|t| tool(t, abilities)).collect();
    let format = match request.output {
        Output::Schema { schema } => Some(Format::JsonSchema {
            schema: schema::strict(schema)
                .ok_or_else(|| must_be("response_format", "a JSON schema"))?,
        }),
        Output::Text | Output::Json => None,
    };
    let body = Body {
        model,
        max_tokens,
        system,
        messages,
        tools: tools.ok_or_else(|| must_be("tools", "functions with JSON schemas"))?,
        tool_choice: choice(request),
        temperature,
        top_p,
        top_k,
        stop_sequences: &request.stop,
        output_config: OutputConfig { effort: effort(request, abilities), format },
        thinking,
        metadata: request.user.as_deref().map(|user_id| Metadata { user_id }),
        service_tier: match request.service_tier.as_deref() {
            Some("auto" | "priority") => Some("auto"),
            Some("default" | "standard_only") => Some("standard_only"),
            _ => None,
        },
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
    if let Some(bias) = request.sampling.logit_bias
        && bias.get().bytes().any(|byte| byte == b':')
    {
        return Err(not_supported("logit_bias"));
    }
    if request.stop.iter().any(|stop| stop.trim().is_empty()) {
        return Err(Unsupported::new("stop", "must hold more than white space"));
    }
    Ok(())
}

fn tool<'a>(tool: &'a Tool<'a>, abilities: Model) -> Option<ToolBody<'a>> {
    let strict = tool.strict == Some(true) && abilities.is_strict();
    let input_schema = match tool.parameters {
        Some(parameters) if strict => schema::strict(parameters)?,
        parameters => schema::input(parameters)?,
    };
    Some(ToolBody {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema,
        strict,
        cache_control: Cache::of(tool.cache.as_ref()),
    })
}

fn choice<'a>(request: &'a Request<'_>) -> Option<Choice<'a>> {
    if request.tools.is_empty() {
        return None;
    }
    let disable = request.parallel_tools == Some(false);
    let (kind, name) = match &request.tool_choice {
        None if disable => ("auto", None),
        None => return None,
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_ref())),
    };
    Some(Choice { kind, name, disable_parallel_tool_use: disable && kind != "none" })
}

/// `temperature`, `top_p` and `top_k`, as far as the model takes them.
pub(in crate::formats) fn sampling<'a>(
    request: &Request<'a>,
    abilities: Model,
    thinks: bool,
) -> (Option<&'a RawValue>, Option<&'a RawValue>, Option<&'a RawValue>) {
    let sampling = &request.sampling;
    if thinks || abilities.sampling() == model::Sampling::None {
        return (None, None, None);
    }
    let is_too_hot = |number: &&RawValue| members::float(number.get()).is_some_and(|t| t > 1.0);
    let temperature = match sampling.temperature.filter(is_too_hot) {
        Some(_) => serde_json::from_str("1").ok(),
        None => sampling.temperature,
    };
    let alone = abilities.sampling() == model::Sampling::One && temperature.is_some();
    (temperature, sampling.top_p.filter(|_| !alone), sampling.top_k)
}

/// Anthropic's floor for `budget_tokens`.
const LEAST_BUDGET: u64 = 1_024;

pub(in crate::formats) fn thinking(
    request: &Request<'_>,
    abilities: Model,
    max_tokens: u64,
    lacks_thinking: bool,
) -> Option<Thinking> {
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    let effort = request.reasoning.effort.or(request.reasoning.budget.map(|_| Effort::High))?;
    if effort < Effort::Low || forced && !request.tools.is_empty() {
        return None;
    }
    match abilities.thinking() {
        model::Thinking::None => None,
        model::Thinking::Adaptive => Some(Thinking::Adaptive),
        model::Thinking::Budget => {
            let budget = request.reasoning.budget.unwrap_or(match effort {
                Effort::None | Effort::Minimal | Effort::Low => 2_048,
                Effort::Medium => 8_192,
                Effort::High => 16_384,
                Effort::ExtraHigh | Effort::Max => 24_576,
            });
            let budget_tokens = budget.min(max_tokens / 2);
            (budget_tokens >= LEAST_BUDGET && !lacks_thinking)
                .then_some(Thinking::Enabled { budget_tokens })
        }
    }
}

pub(in crate::formats) fn effort(request: &Request<'_>, abilities: Model) -> Option<&'static str> {
    if abilities.thinking() != model::Thinking::Adaptive {
        return None;
    }
    Some(match request.reasoning.effort? {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::ExtraHigh if abilities.has_extra_high() => "xhigh",
        Effort::ExtraHigh | Effort::Max => "max",
    })
}
