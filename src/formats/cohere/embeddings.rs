//! Embeddings: requests written, answers read; Bedrock serves the same models in the same words.
//!
//! <https://docs.cohere.com/v2/reference/embed>

use std::borrow::Cow;

use serde::Serialize;

use crate::conversation::Unsupported;
use crate::formats::embeddings::{Answer, Request};
use crate::formats::json::{elements, must_be, pick};
use crate::members;
use crate::usage::Usage;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    texts: &'a [Cow<'a, str>],
    /// Required. OpenAI's models make no difference between what is searched and what is searched for.
    input_type: &'static str,
    embedding_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u64>,
    /// What is too long is refused, as elsewhere, and not cut.
    truncate: &'static str,
}

/// `model`: `None` where the path has it.
pub(in crate::formats) fn write(
    request: &Request<'_>,
    model: Option<&str>,
) -> Result<Vec<u8>, Unsupported> {
    let body = Body {
        model,
        texts: &request.inputs,
        input_type: "search_document",
        embedding_types: ["float"],
        output_dimension: request.dimensions,
        truncate: "NONE",
    };
    serde_json::to_vec(&body).map_err(|_| must_be("body", "a request that can be written"))
}

/// `None`: it is no answer.
pub(in crate::formats) fn read(body: &[u8]) -> Option<Answer<'_>> {
    let [vectors, meta] = pick(core::str::from_utf8(body).ok()?, ["embeddings", "meta"])?;
    let [floats] = pick(vectors?, ["float"])?;
    let usage = meta.and_then(|meta| {
        let [tokens, billed] = pick(meta, ["tokens", "billed_units"])?;
        let [input] = pick(tokens.or(billed)?, ["input_tokens"])?;
        Some(Usage { prompt: members::count(input?)?, ..Usage::default() })
    });
    Some(Answer { vectors: elements(floats?)?, usage })
}
