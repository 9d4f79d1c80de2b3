//! Vertex AI of Google Cloud: Gemini, and Claude as a partner model.
//!
//! The key is an access token (<https://cloud.google.com/docs/authentication/rest>), which lives for an hour: a
//! secret by header, which Envoy's SDS rotates. Host and base path are made of `project` and `location`.

use crate::endpoint::{Endpoint, Endpoints};
use crate::formats::Format;
use crate::provider::{AnswerLimit, Credential, Kind, Thoughts};

pub static KINDS: &[&Kind] = &[&VERTEX, &VERTEX_ANTHROPIC];

/// <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>; errors:
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/api-errors>. Limits are per project,
/// region and model, and a shared pool has none but 429 (<https://cloud.google.com/vertex-ai/generative-ai/docs/quotas>).
static VERTEX: Kind = Kind {
    name: "vertex",
    host: "",
    base_path: "/v1",
    format: Format::Vertex,
    credential: Credential::Bearer,
    endpoints: Endpoints::of(&[Endpoint::GenerateContent, Endpoint::CountContentTokens]),
    answer_limit: AnswerLimit::Either,
    // Its own format has a place for it.
    thoughts: Thoughts::None,
    // Streams report usage unasked.
    stream_options: false,
    model_scoped_limits: true,
    codes: &[],
    statuses: &[],
};

/// <https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude>,
/// <https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai>
static VERTEX_ANTHROPIC: Kind = Kind {
    name: "vertex-anthropic",
    format: Format::VertexAnthropic,
    endpoints: Endpoints::of(&[Endpoint::Messages]),
    ..VERTEX
};

/// Where Vertex AI answers for a location.
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations>
pub fn host(location: &str) -> String {
    match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("aiplatform.{location}.rep.googleapis.com"),
        region => format!("{region}-aiplatform.googleapis.com"),
    }
}

pub fn base_path(project: &str, location: &str) -> String {
    format!("/v1/projects/{project}/locations/{location}")
}
