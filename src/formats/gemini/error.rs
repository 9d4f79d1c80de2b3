//! Writes an error: `google.rpc.Status` as the HTTP API shows it, <https://google.aip.dev/193>.

use serde::Serialize;

use crate::conversation::Failure;

/// The word for a status: `google.rpc.Code`,
/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>.
pub(crate) const fn status(code: u16) -> &'static str {
    match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        402 | 429 => "RESOURCE_EXHAUSTED",
        405 => "UNIMPLEMENTED",
        502 | 503 | 529 => "UNAVAILABLE",
        408 | 504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

/// The body of an error, which in a stream is the data of an event.
pub(in crate::formats) fn error(failure: &Failure<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        error: Error<'a>,
    }
    #[derive(Serialize)]
    struct Error<'a> {
        code: u16,
        message: &'a str,
        status: &'static str,
    }
    let code = failure.kind.status();
    let error = Error { code, message: &failure.message, status: status(code) };
    serde_json::to_vec(&Envelope { error }).unwrap_or_default()
}
