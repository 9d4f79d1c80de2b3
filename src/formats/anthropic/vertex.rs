//! Messages in Vertex AI's envelope: the model is in the path, the version in the body.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai>

use crate::formats::Call;
use crate::members::{self, is_safe_model_segment};

const VERSION: &str = "vertex-2023-10-16";

/// Below the base path; `None`: the name of the model cannot stand there.
pub(in crate::formats) fn path(call: &Call<'_>) -> Option<String> {
    let model = call.model;
    if model.contains([':', '/']) || !is_safe_model_segment(model) {
        return None;
    }
    let method = if call.stream { "streamRawPredict" } else { "rawPredict" };
    Some(format!("/publishers/anthropic/models/{model}:{method}"))
}

/// A request to Anthropic, as Vertex AI takes it; every other member byte for byte. `None`: it is no JSON object.
pub(in crate::formats) fn body(request: &[u8]) -> Option<Vec<u8>> {
    let request = core::str::from_utf8(request).ok()?;
    let mut out = format!("{{\"anthropic_version\":\"{VERSION}\"");
    let mut written = Some(());
    members::walk(request, |name, value| {
        if matches!(name, "model" | "anthropic_version") {
            return;
        }
        let Ok(name) = serde_json::to_string(name) else {
            written = None;
            return;
        };
        for piece in [",", &name, ":", value] {
            out.push_str(piece);
        }
    })
    .ok()?;
    written?;
    out.push('}');
    Some(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::formats::Way;

    #[test]
    fn the_envelope_changes_nothing_else() {
        for (request, expected) in [
            (
                r#"{"model":"m","max_tokens":7, "x" : {"model": 1e2},"a\"b":[1]}"#,
                Some(
                    r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":7,"x":{"model": 1e2},"a\"b":[1]}"#,
                ),
            ),
            (
                r#"{"anthropic_version":"other"}"#,
                Some(r#"{"anthropic_version":"vertex-2023-10-16"}"#),
            ),
            ("[]", None),
            ("{", None),
        ] {
            let found = body(request.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), expected, "{request}");
        }
    }

    #[test]
    fn paths_hold_nothing_but_a_model() {
        for (model, stream, expected) in [
            (
                "claude-sonnet-4@20250514",
                true,
                Some("/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict"),
            ),
            ("claude-x", false, Some("/publishers/anthropic/models/claude-x:rawPredict")),
            ("claude-x:rawPredict", false, None),
            ("../claude", false, None),
            ("a/b", false, None),
            ("", false, None),
        ] {
            let (endpoint, way) = (Endpoint::ChatCompletions, Way::Translated);
            let call = Call { endpoint, way, model, stream };
            assert_eq!(path(&call).as_deref(), expected, "{model}");
        }
    }
}
