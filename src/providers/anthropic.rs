//! Anthropic, and services that speak its Messages API with its key header.

use crate::endpoint::{Endpoint, Endpoints};
use crate::formats::Format;
use crate::provider::{AnswerLimit, Credential, Kind, Thoughts};
use crate::signal::Verdict::{ClientFault, ServerError};

pub static KINDS: &[&Kind] = &[&ANTHROPIC];

/// <https://platform.claude.com/docs/en/api/overview>; errors:
/// <https://platform.claude.com/docs/en/api/errors>. Limits are per model class
/// (<https://platform.claude.com/docs/en/api/rate-limits>).
static ANTHROPIC: Kind = Kind {
    name: "anthropic",
    host: "api.anthropic.com",
    base_path: "/v1",
    format: Format::Anthropic,
    credential: Credential::Header("x-api-key"),
    endpoints: Endpoints::of(&[Endpoint::Messages, Endpoint::CountTokens]),
    answer_limit: AnswerLimit::Either,
    // Its own format has a place for it.
    thoughts: Thoughts::None,
    // Streams report usage unasked.
    stream_options: false,
    model_scoped_limits: true,
    errors_in_success: false,
    codes: &[
        // Of a stream, whose status was good before; with their statuses they say nothing new.
        ("not_found_error", ClientFault),
        ("request_too_large", ClientFault),
        ("timeout_error", ServerError),
    ],
    statuses: &[],
};
