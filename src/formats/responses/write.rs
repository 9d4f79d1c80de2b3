//! Writes an answer, and what its stream shares with it.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::conversation::{Answer, Block, Citation, Failure, FailureKind, FinishReason, Part};
use crate::formats::{Echo, Setup, seal};
use crate::usage::Usage;

/// What every response of one answer says.
#[derive(Debug)]
pub(super) struct Head {
    /// Of the provider's answer, or a random one: ids of all items are made of it.
    pub(super) id: String,
    pub(super) model: String,
    /// Unix time in seconds.
    pub(super) created: u64,
    pub(super) echo: Echo,
}

/// How a response stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Status<'a> {
    InProgress,
    Over(FinishReason),
    Failed(&'a Failure<'a>),
}

impl Head {
    pub(super) fn new(setup: &Setup, id: &str, model: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let id = if id.is_empty() || !id.chars().all(plain) {
            format!("{:016x}", setup.nonce)
        } else {
            id.to_owned()
        };
        let (created, echo) = (setup.created, setup.echo.clone());
        Self { id, model: model.to_owned(), created, echo }
    }

    /// A response object. `output`: JSON, the items without their brackets.
    pub(super) fn response(
        &self,
        status: Status<'_>,
        output: &str,
        usage: Option<Usage>,
    ) -> String {
        let (word, error, incomplete) = match status {
            Status::InProgress => ("in_progress", Value::Null, Value::Null),
            Status::Over(FinishReason::Length) => {
                ("incomplete", Value::Null, json!({"reason": "max_output_tokens"}))
            }
            Status::Over(FinishReason::Filtered) => {
                ("incomplete", Value::Null, json!({"reason": "content_filter"}))
            }
            Status::Over(_) => ("completed", Value::Null, Value::Null),
            Status::Failed(failure) => {
                let error = json!({"code": code(failure.kind), "message": failure.message});
                ("failed", error, Value::Null)
            }
        };
        let head = json!({
            "id": format!("resp_{}", self.id), "object": "response", "created_at": self.created,
            "status": word, "background": false, "error": error, "incomplete_details": incomplete,
            "model": self.model, "previous_response_id": null, "store": false,
            "usage": usage.map(counts),
        });
        let mut text = head.to_string();
        text.pop();
        for part in [self.echo.members.as_str(), ",\"output\":[", output, "]}"] {
            text.push_str(part);
        }
        text
    }

    /// The id of the item at `index`.
    pub(super) fn item(&self, kind: &str, index: u32) -> String {
        format!("{kind}_{}_{index}", self.id)
    }
}

/// The words that clients' types know (<https://platform.openai.com/docs/api-reference/responses/object#error>).
fn code(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::RateLimit => "rate_limit_exceeded",
        FailureKind::InvalidRequest | FailureKind::TooLarge => "invalid_prompt",
        _ => "server_error",
    }
}

fn counts(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details":
            {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total(),
    })
}

pub(in crate::formats) fn write_answer(answer: &Answer<'_>, setup: &Setup) -> Vec<u8> {
    let head = Head::new(setup, &answer.id, &answer.model);
    let mut items = Vec::with_capacity(answer.parts.len());
    let mut before = 0;
    for (index, part) in (0..).zip(&answer.parts) {
        items.extend(item(&head, index, part, before).map(|item| item.to_string()));
        if let Block::Text(text) = &part.block {
            before += text.chars().count();
        }
    }
    let status = Status::Over(answer.finish.reason);
    head.response(status, &items.join(","), answer.usage).into_bytes()
}

/// `before`: characters of the texts before it.
fn item(head: &Head, index: u32, part: &Part<'_>, before: usize) -> Option<Value> {
    Some(match &part.block {
        Block::Text(text) => {
            let citations = part.citations.iter();
            let annotations: Vec<_> = citations.filter_map(|c| annotation(c, before)).collect();
            message(head, index, "completed", Some(text_part(text, &annotations)))
        }
        Block::Refusal(text) => message(head, index, "completed", Some(refusal_part(text))),
        Block::Thinking { text, signature, origin } => {
            let proof = proof(origin.as_deref(), signature.as_deref());
            reasoning(head, index, Some(text), proof.as_deref())
        }
        Block::Redacted { data, origin } => {
            reasoning(head, index, None, redacted(origin.as_deref(), data).as_deref())
        }
        Block::ToolUse { id, name, arguments } => call(head, index, id, name, Some(arguments)),
        // No model answers with these.
        Block::Image(_)
        | Block::Document { .. }
        | Block::Audio { .. }
        | Block::ToolResult { .. } => {
            return None;
        }
    })
}

pub(super) fn message(head: &Head, index: u32, status: &str, part: Option<Value>) -> Value {
    json!({
        "id": head.item("msg", index), "type": "message", "status": status, "role": "assistant",
        "content": part.into_iter().collect::<Vec<_>>(),
    })
}

pub(super) fn text_part(text: &str, annotations: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": annotations, "logprobs": []})
}

pub(super) fn refusal_part(text: &str) -> Value {
    json!({"type": "refusal", "refusal": text})
}

/// Responses count from the beginning of each text.
pub(super) fn annotation(citation: &Citation<'_>, before: usize) -> Option<Value> {
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    let (start, end) = citation.span.unwrap_or_default();
    let (start, end) = (start.saturating_sub(before), end.saturating_sub(before));
    Some(json!({
        "type": "url_citation", "url": citation.url.as_deref()?,
        "title": citation.title.as_deref().unwrap_or_default(), "start_index": start, "end_index": end,
    }))
}

/// `encrypted_content`: always marked, since no proof of another vendor's is OpenAI's.
pub(super) fn proof<'a>(origin: Option<&str>, proof: Option<&'a str>) -> Option<Cow<'a, str>> {
    let origin = origin.unwrap_or("unknown");
    proof.filter(|proof| !proof.is_empty()).map(|proof| seal::seal("", Some(origin), proof))
}

/// [`proof`] of thinking that only its provider can read.
pub(super) fn redacted<'a>(origin: Option<&str>, data: &'a str) -> Option<Cow<'a, str>> {
    proof(Some(&format!("{}{REDACTED}", origin.unwrap_or("unknown"))), Some(data))
}

/// Behind the origin: thinking without a text may also be thinking that was not shown.
pub(super) const REDACTED: &str = "+redacted";

/// `text`: `None` while there is none.
pub(super) fn reasoning(head: &Head, index: u32, text: Option<&str>, proof: Option<&str>) -> Value {
    let summary: Vec<_> = text
        .filter(|text| !text.is_empty())
        .map(|text| json!({"type": "summary_text", "text": text}))
        .into_iter()
        .collect();
    json!({
        "id": head.item("rs", index), "type": "reasoning", "summary": summary,
        "encrypted_content": proof,
    })
}

/// A call under the name that the client gave the tool. `arguments`: `None` while it is being written.
pub(super) fn call(
    head: &Head,
    index: u32,
    call_id: &str,
    known_as: &str,
    arguments: Option<&str>,
) -> Value {
    let renamed = head.echo.renamed.iter().find(|renamed| renamed.known_as == known_as);
    let name = renamed.map_or(known_as, |renamed| renamed.name.as_str());
    let mut item = if renamed.is_some_and(|renamed| renamed.custom) {
        json!({
            "id": head.item("ctc", index), "type": "custom_tool_call", "call_id": call_id,
            "name": name, "input": arguments.map(input).unwrap_or_default(),
        })
    } else {
        let status = if arguments.is_some() { "completed" } else { "in_progress" };
        let arguments = match arguments {
            Some(arguments) if arguments.trim().is_empty() => "{}",
            arguments => arguments.unwrap_or_default(),
        };
        json!({
            "id": head.item("fc", index), "type": "function_call", "status": status,
            "call_id": call_id, "name": name, "arguments": arguments,
        })
    };
    let namespace = renamed.and_then(|renamed| renamed.namespace.as_deref());
    if let (Some(members), Some(namespace)) = (item.as_object_mut(), namespace) {
        members.insert("namespace".to_owned(), namespace.into());
    }
    item
}

/// The text that a custom tool gets; arguments of any other shape as they are.
pub(super) fn input(arguments: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Arguments {
        input: String,
    }
    serde_json::from_str(arguments)
        .map_or_else(|_| arguments.to_owned(), |Arguments { input }| input)
}
