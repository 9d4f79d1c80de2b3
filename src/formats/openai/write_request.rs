//! Writes a request to chat completions, for clients of other APIs.

use serde::Serialize;
use serde_json::value::RawValue;

use super::write_messages::{self, Message};
use crate::conversation::{Effort, Output, Request, Tool, ToolChoice, Unsupported};
use crate::formats::Upstream;
use crate::formats::json::must_be;
use crate::members::{LimitName, walk};
use crate::provider::{AnswerLimit, Kind};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_bias: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [std::borrow::Cow<'a, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct WireTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    strict: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Tool {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Named<'a>,
    },
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: Schema<'a> },
}

#[derive(Serialize)]
struct Schema<'a> {
    name: &'static str,
    schema: &'a RawValue,
    strict: bool,
}

/// # Errors
///
/// What chat completions have no word for, by the table in the module's documentation.
pub(in crate::formats) fn write_request(
    request: &Request<'_>,
    upstream: &Upstream<'_>,
) -> Result<Vec<u8>, Unsupported> {
    let Upstream { kind, model, include_usage } = *upstream;
    let reasons = reasons(kind, model);
    let max = request.max_tokens.map(|max| max.min(most_tokens(kind, model)));
    let limit = kind.answer_limit.instead_of(LimitName::MaxTokens, model);
    let renamed = limit == Some(LimitName::MaxCompletionTokens);
    let sampling = &request.sampling;
    let has_tools = !request.tools.is_empty();
    // Reasoning models refuse to be sampled.
    let sampled = |number: Option<&'_ RawValue>| number.is_some() && !reasons;
    let body = Body {
        model,
        messages: write_messages::write(request, kind)?,
        tools: request.tools.iter().map(tool).collect(),
        tool_choice: request.tool_choice.as_ref().filter(|_| has_tools).map(choice),
        parallel_tool_calls: request.parallel_tools.filter(|_| has_tools),
        max_tokens: max.filter(|_| !renamed),
        max_completion_tokens: max.filter(|_| renamed),
        temperature: sampling.temperature.filter(|t| sampled(Some(t))),
        top_p: sampling.top_p.filter(|p| sampled(Some(p))),
        seed: sampling.seed,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        logit_bias: sampling.logit_bias,
        n: request.choices.filter(|choices| *choices != 1),
        logprobs: request.logprobs,
        stop: &request.stop,
        response_format: match request.output {
            Output::Text => None,
            Output::Json => Some(ResponseFormat::JsonObject),
            Output::Schema { schema } => Some(ResponseFormat::JsonSchema {
                json_schema: Schema { name: "answer", schema, strict: is_closed(schema) },
            }),
        },
        reasoning_effort: effort(request, model).filter(|_| reasons),
        // OpenAI takes no longer one, and whoever sends one means somebody else's abuse detection.
        user: request.user.as_deref().filter(|user| user.len() <= 64),
        service_tier: request.service_tier.as_deref().filter(|_| is_openai(kind)).and_then(tier),
        stream: request.stream,
        stream_options: (request.stream && include_usage)
            .then_some(StreamOptions { include_usage: true }),
    };
    serde_json::to_vec(&body).map_err(|_| must_be("body", "a request that can be written"))
}

fn tool<'a>(tool: &'a Tool<'_>) -> WireTool<'a> {
    WireTool {
        kind: "function",
        function: Function {
            name: &tool.name,
            description: tool.description.as_deref(),
            parameters: tool.parameters,
            strict: tool.strict == Some(true),
        },
    }
}

fn choice<'a>(choice: &'a ToolChoice<'_>) -> Choice<'a> {
    match choice {
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Named(name) => Choice::Tool { kind: "function", function: Named { name } },
    }
}

/// OpenAI's words, of which Anthropic's `standard_only` is one's equal.
fn tier(tier: &str) -> Option<&str> {
    match tier {
        "standard_only" => Some("default"),
        "auto" => None,
        other => Some(other),
    }
}

/// OpenAI itself or Azure: their models are known, and they refuse members that they do not know.
fn is_openai(kind: &Kind) -> bool {
    kind.answer_limit == AnswerLimit::MaxCompletionTokensForReasoning
}

/// Whether the model takes `reasoning_effort`, by its name: OpenAI's own and the open one that others serve.
fn reasons(kind: &Kind, model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let openai = AnswerLimit::MaxCompletionTokensForReasoning;
    let ours = is_openai(kind) || model.contains("openai/");
    ours && openai.instead_of(LimitName::MaxTokens, name).is_some() || name.starts_with("gpt-oss")
}

/// `gpt-5.1-codex`: 5.1.
fn version(model: &str) -> Option<(u32, u32)> {
    let rest = model.rsplit('/').next()?.strip_prefix("gpt-")?;
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end).and_then(|digits| digits.parse().ok())
    };
    let (major, rest) = rest.split_once('.').unwrap_or((rest, ""));
    Some((number(major)?, number(rest).unwrap_or_default()))
}

fn effort(request: &Request<'_>, model: &str) -> Option<&'static str> {
    let reasoning = request.reasoning;
    let effort = reasoning.effort.or(reasoning.budget.map(|budget| match budget {
        0..=4_096 => Effort::Low,
        4_097..=16_384 => Effort::Medium,
        _ => Effort::High,
    }))?;
    let version = version(model);
    Some(match effort {
        // The models before knew `minimal` as the least, and those before them `low`.
        Effort::None if version >= Some((5, 1)) => "none",
        Effort::None | Effort::Minimal if version == Some((5, 0)) => "minimal",
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::ExtraHigh | Effort::Max if version >= Some((5, 2)) => "xhigh",
        Effort::High | Effort::ExtraHigh | Effort::Max => "high",
    })
}

/// Clients of other APIs ask for as much as their own models can say; OpenAI's older models refuse that with 400.
/// <https://platform.openai.com/docs/models>
fn most_tokens(kind: &Kind, model: &str) -> u64 {
    const MOST: [(&str, u64); 5] = [
        ("gpt-4o", 16_384),
        ("gpt-4.1", 32_768),
        ("gpt-4-turbo", 4_096),
        ("gpt-4", 8_192),
        ("gpt-3.5", 4_096),
    ];
    let known = MOST.into_iter().find(|(prefix, _)| is_openai(kind) && model.starts_with(prefix));
    known.map_or(u64::MAX, |(_, most)| most)
}

/// OpenAI holds a model strictly only to schemas that leave no object open.
fn is_closed(schema: &RawValue) -> bool {
    let mut closed = false;
    let read = walk(schema.get(), |name, value| {
        closed |= name == "additionalProperties" && value == "false";
    });
    read.is_ok() && closed
}
