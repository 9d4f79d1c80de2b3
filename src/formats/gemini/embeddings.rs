//! Embeddings: requests written, answers read.
//!
//! <https://ai.google.dev/api/embeddings>,
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Service, resource};
use crate::conversation::Unsupported;
use crate::formats::embeddings::{Answer, Request};
use crate::formats::json::{elements, pick};
use crate::members;
use crate::usage::{self, Usage};

/// Models of Vertex AI from before `embedContent`; the others have it, as the official SDK decides.
fn predicts(model: &str, service: Service) -> bool {
    service == Service::Vertex && !model.contains("gemini") && !model.contains("maas")
}

/// The method that takes a list.
pub(super) fn method(model: &str, service: Service) -> &'static str {
    if predicts(model, service) { "predict" } else { "batchEmbedContents" }
}

/// A request in Google's own words, which may name the model again, of a client that calls it something else. `None`:
/// it is no JSON object, or nothing can be called that.
pub(in crate::formats) fn rename(body: &[u8], model: &str) -> Option<Vec<u8>> {
    let text = core::str::from_utf8(body).ok()?;
    let name = format!("\"{}\"", resource(model, Service::AiStudio)?);
    let mut named = Vec::new();
    members::walk(text, |member, value| match member {
        "model" => named.push(value),
        "requests" => {
            for one in elements(value).unwrap_or_default() {
                let [model] = pick(one.get(), ["model"]).unwrap_or_default();
                named.extend(model);
            }
        }
        _ => {}
    })
    .ok()?;
    let (mut out, mut written) = (Vec::with_capacity(body.len() + name.len()), 0);
    for value in named {
        let start = value.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        out.extend_from_slice(body.get(written..start)?);
        out.extend_from_slice(name.as_bytes());
        written = start + value.len();
    }
    out.extend_from_slice(body.get(written..)?);
    Some(out)
}

#[derive(Serialize)]
struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    /// Of the Gemini API, which wants it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
    /// Vertex AI's place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    embed_content_config: Option<Parameters>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Text<'a>; 1],
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Predict<'a> {
    instances: Vec<Instance<'a>>,
    parameters: Parameters,
}

#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
    /// What is too long is refused, as elsewhere, and not cut.
    auto_truncate: bool,
}

pub(in crate::formats) fn write(
    request: &Request<'_>,
    model: &str,
    service: Service,
) -> Result<Vec<u8>, Unsupported> {
    let dimensions = request.dimensions;
    let written = if predicts(model, service) {
        let instances = request.inputs.iter().map(|content| Instance { content }).collect();
        let parameters = Parameters { output_dimensionality: dimensions, auto_truncate: false };
        serde_json::to_vec(&Predict { instances, parameters })
    } else {
        let name = resource(model, service);
        let is_own = service == Service::AiStudio;
        let one = |text| One {
            model: name.as_deref().filter(|_| is_own),
            content: Content { parts: [Text { text }] },
            output_dimensionality: dimensions.filter(|_| is_own),
            embed_content_config: (!is_own)
                .then_some(Parameters { output_dimensionality: dimensions, auto_truncate: false }),
        };
        let requests = request.inputs.iter().map(|input| one(input.as_ref())).collect();
        serde_json::to_vec(&Batch { requests })
    };
    written.map_err(|_| Unsupported::new("body", "must be a request that can be written"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    embeddings: Option<Vec<Vector<'a>>>,
    #[serde(borrow)]
    predictions: Option<Vec<Prediction<'a>>>,
    #[serde(borrow)]
    usage_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Prediction<'a> {
    #[serde(borrow)]
    embeddings: Vector<'a>,
}

#[derive(Deserialize)]
struct Vector<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<f64>,
}

/// `None`: it is no answer.
pub(in crate::formats) fn read(body: &[u8]) -> Option<Answer<'_>> {
    let wire: Wire<'_> = members::parse(body)?;
    let predictions = wire.predictions.map(|list| list.into_iter().map(|p| p.embeddings).collect());
    let list: Vec<Vector<'_>> = wire.embeddings.or(predictions)?;
    let counted = list.iter().filter_map(|vector| vector.statistics.as_ref()?.token_count);
    let sum: f64 = counted.sum();
    let counted = (sum > 0.0).then_some(Usage { prompt: sum as u64, ..Usage::default() });
    let usage = wire.usage_metadata.and_then(|metadata| usage::parse(metadata.get().as_bytes()));
    let usage = usage.map(|usage| Usage { completion: 0, ..usage });
    let vectors = list.into_iter().map(|vector| vector.values).collect();
    Some(Answer { vectors, usage: usage.or(counted) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_by_service_and_model() {
        let texts = |dimensions| Request {
            inputs: vec!["a".into(), "b\"".into()],
            dimensions,
            base64: false,
        };
        for (service, model, dimensions, used, expected) in [
            (
                Service::AiStudio,
                "gemini-embedding-001",
                Some(8),
                "batchEmbedContents",
                r#"{"requests":[{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"a"}]},"outputDimensionality":8},{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"b\""}]},"outputDimensionality":8}]}"#,
            ),
            (
                Service::Vertex,
                "gemini-embedding-2",
                None,
                "batchEmbedContents",
                r#"{"requests":[{"content":{"parts":[{"text":"a"}]},"embedContentConfig":{"autoTruncate":false}},{"content":{"parts":[{"text":"b\""}]},"embedContentConfig":{"autoTruncate":false}}]}"#,
            ),
            (
                Service::Vertex,
                "text-embedding-005",
                Some(8),
                "predict",
                r#"{"instances":[{"content":"a"},{"content":"b\""}],"parameters":{"outputDimensionality":8,"autoTruncate":false}}"#,
            ),
        ] {
            let body = write(&texts(dimensions), model, service).unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), expected);
            assert_eq!(method(model, service), used);
        }
    }

    #[test]
    fn a_model_is_renamed_wherever_it_is_named() {
        for (body, expected) in [
            (
                r#"{ "requests" : [{"model":"models/fast","content":{"parts":[{"text":"model"}]}, "x":1e2},{"content":{"model":"m"},"model" : "fast"},{}] }"#,
                r#"{ "requests" : [{"model":"models/e-1","content":{"parts":[{"text":"model"}]}, "x":1e2},{"content":{"model":"m"},"model" : "models/e-1"},{}] }"#,
            ),
            (
                r#"{"content":{"parts":[{"text":"é"}]},"model":"models/fast"}"#,
                r#"{"content":{"parts":[{"text":"é"}]},"model":"models/e-1"}"#,
            ),
            (r#"{"content":{}}"#, r#"{"content":{}}"#),
        ] {
            let found = rename(body.as_bytes(), "e-1").unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
        assert_eq!(rename(b"[]", "e-1"), None);
        assert_eq!(rename(b"{}", "../e"), None);
    }

    #[test]
    fn answers_of_each_method() {
        for (body, vectors, prompt) in [
            (r#"{"embeddings":[{"values":[1,2]},{"values":[3]}]}"#, &["[1,2]", "[3]"][..], None),
            (
                r#"{"embeddings":[{"values":[1]}],"usageMetadata":{"promptTokenCount":5,"totalTokenCount":5}}"#,
                &["[1]"],
                Some(5),
            ),
            (
                r#"{"predictions":[{"embeddings":{"values":[1],"statistics":{"token_count":3,"truncated":false}}},{"embeddings":{"values":[2],"statistics":{"token_count":4.0}}}],"metadata":{"billableCharacterCount":9}}"#,
                &["[1]", "[2]"],
                Some(7),
            ),
        ] {
            let answer = read(body.as_bytes()).unwrap();
            let found: Vec<_> = answer.vectors.iter().map(|vector| vector.get()).collect();
            assert_eq!(found, vectors);
            assert_eq!(answer.usage.map(|usage| usage.prompt), prompt);
        }
        for body in ["{}", "[]", "", r#"{"embeddings":[{}]}"#, r#"{"error":{"code":400}}"#] {
            assert!(read(body.as_bytes()).is_none(), "{body}");
        }
    }
}
