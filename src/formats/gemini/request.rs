//! Writes a request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Service;
use super::content::{self, Content};
use super::model::{Model, Thinking};
use crate::conversation::{Output, Request, Tool, ToolChoice, Unsupported};
use crate::formats::json::not_supported;
use crate::members;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tools<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    generation_config: GenerationConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Function<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [Cow<'a, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking>,
}

/// What Gemini takes at most, of sequences that stop it.
const MAX_STOPS: usize = 5;

/// # Errors
///
/// What Gemini has no word for, by the member of the client's request.
pub(in crate::formats) fn write(
    request: &Request<'_>,
    model: &str,
    service: Service,
) -> Result<Vec<u8>, Unsupported> {
    let abilities = Model::of(model);
    refuse(request, abilities)?;
    let (system_instruction, contents) = content::write(request, model, service)?;
    let functions: Vec<_> = request.tools.iter().map(declare).collect();
    let sampling = &request.sampling;
    let is_telling = |number: &&RawValue| members::float(number.get()).is_some_and(|n| n != 0.0);
    let is_seed = |number: &&RawValue| number.get().parse::<i32>().is_ok();
    let (response_mime_type, response_json_schema) = match request.output {
        Output::Text => (None, None),
        Output::Json => (Some("application/json"), None),
        Output::Schema { schema } => (Some("application/json"), Some(schema)),
    };
    let body = Body {
        system_instruction,
        contents,
        tool_config: choice(request),
        tools: (!functions.is_empty()).then_some([Tools { function_declarations: functions }]),
        generation_config: GenerationConfig {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed.filter(is_seed),
            presence_penalty: sampling.presence_penalty.filter(is_telling),
            frequency_penalty: sampling.frequency_penalty.filter(is_telling),
            max_output_tokens: request.max_tokens.map(|max| max.min(abilities.most_tokens())),
            stop_sequences: &request.stop,
            response_mime_type,
            response_json_schema,
            thinking_config: abilities.thinking(request.reasoning),
        },
        service_tier: match request.service_tier.as_deref() {
            Some("default") => Some("standard"),
            Some("flex") => Some("flex"),
            Some("priority") => Some("priority"),
            _ => None,
        },
    };
    serde_json::to_vec(&body)
        .map_err(|_| Unsupported::new("body", "must be a request that can be written"))
}

fn refuse(request: &Request<'_>, model: Model) -> Result<(), Unsupported> {
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
    if request.stop.len() > MAX_STOPS {
        return Err(Unsupported::new("stop", "must be 5 sequences at most"));
    }
    let is_json = !matches!(request.output, Output::Text);
    if is_json && !request.tools.is_empty() && !model.has_json_beside_tools() {
        let message = "is not supported together with tools by the providers of this model";
        return Err(Unsupported::new("response_format", message));
    }
    Ok(())
}

fn declare<'a>(tool: &'a Tool<'_>) -> Function<'a> {
    Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters_json_schema: tool.parameters,
    }
}

fn choice<'a>(request: &'a Request<'_>) -> Option<ToolConfig<'a>> {
    if request.tools.is_empty() {
        return None;
    }
    let (mode, named) = match request.tool_choice.as_ref()? {
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Named(name) => ("ANY", Some([name.as_ref()])),
    };
    Some(ToolConfig { function_calling_config: Calling { mode, allowed_function_names: named } })
}
