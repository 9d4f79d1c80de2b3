//! Cohere.

use crate::endpoint::{Endpoint, Endpoints};
use crate::formats::Format;
use crate::provider::{AnswerLimit, Credential, Kind, Thoughts};
use crate::signal::Verdict::KeyRejected;

pub static KINDS: &[&Kind] = &[&COHERE];

/// <https://docs.cohere.com/v2/reference/about>; errors: <https://docs.cohere.com/v2/reference/errors>. A trial key has a
/// limit per minute and one per month, told apart by their messages
/// (<https://docs.cohere.com/v2/docs/rate-limits>).
static COHERE: Kind = Kind {
    name: "cohere",
    host: "api.cohere.com",
    base_path: "/v2",
    format: Format::Cohere,
    credential: Credential::Bearer,
    endpoints: Endpoints::of(&[Endpoint::Rerank]),
    answer_limit: AnswerLimit::Either,
    // Its own format has a place for it.
    thoughts: Thoughts::None,
    // Streams report usage unasked.
    stream_options: false,
    model_scoped_limits: false,
    codes: &[],
    // An invalid token, by Cohere's own number.
    statuses: &[(498, KeyRejected)],
};
