//! The Gemini API.

use crate::endpoint::{Endpoint, Endpoints};
use crate::formats::Format;
use crate::provider::{AnswerLimit, Credential, Kind, Thoughts};

pub static KINDS: &[&Kind] = &[&GEMINI];

/// <https://ai.google.dev/api>; errors: <https://ai.google.dev/gemini-api/docs/troubleshooting>. Limits are per
/// project and model (<https://ai.google.dev/gemini-api/docs/rate-limits>), so keys of one project share a
/// `quota_group`.
static GEMINI: Kind = Kind {
    name: "gemini",
    host: "generativelanguage.googleapis.com",
    base_path: "/v1beta",
    format: Format::Gemini,
    credential: Credential::Header("x-goog-api-key"),
    endpoints: Endpoints::of(&[
        Endpoint::GenerateContent,
        Endpoint::CountContentTokens,
        Endpoint::EmbedContent,
        Endpoint::BatchEmbedContents,
    ]),
    answer_limit: AnswerLimit::Either,
    // Its own format has a place for it.
    thoughts: Thoughts::None,
    // Streams report usage unasked.
    stream_options: false,
    model_scoped_limits: true,
    errors_in_success: false,
    codes: &[],
    statuses: &[],
};
