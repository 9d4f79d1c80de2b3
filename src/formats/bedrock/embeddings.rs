//! Embeddings by `InvokeModel`, in the words of each family: Amazon Titan and Cohere.
//!
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>. What Cohere's models used is
//! told in a header alone.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::conversation::Unsupported;
use crate::formats::cohere;
use crate::formats::embeddings::{Answer, Request};
use crate::formats::json::{must_be, not_supported, pick};
use crate::members;
use crate::usage::Usage;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Titan<'a> {
    input_text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
}

pub(in crate::formats) fn write(
    request: &Request<'_>,
    model: &str,
) -> Result<Vec<u8>, Unsupported> {
    if model.contains("cohere.embed") {
        return cohere::embeddings::write(request, None);
    }
    if !model.contains("amazon.titan-embed") {
        return Err(not_supported("model"));
    }
    let [input_text] = request.inputs.as_slice() else {
        return Err(must_be("input", "one text: the model takes no more at once"));
    };
    let body = Titan { input_text, dimensions: request.dimensions };
    serde_json::to_vec(&body).map_err(|_| must_be("body", "a request that can be written"))
}

/// `None`: it is no answer.
pub(in crate::formats) fn read(body: &[u8]) -> Option<Answer<'_>> {
    let text = core::str::from_utf8(body).ok()?;
    let [vector, tokens] = pick(text, ["embedding", "inputTextTokenCount"])?;
    let Some(vector) = vector else { return cohere::embeddings::read(body) };
    let vector: &RawValue = serde_json::from_str(vector).ok()?;
    let usage = tokens.and_then(members::count);
    let usage = usage.map(|prompt| Usage { prompt, ..Usage::default() });
    Some(Answer { vectors: vec![vector], usage })
}
