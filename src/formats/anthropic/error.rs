//! Writes an error.

use serde::Serialize;

use crate::conversation::{Failure, FailureKind};
use crate::sse::write_event;

/// The body of an error, which in a stream is the data of an event.
pub(in crate::formats) fn error(failure: &Failure<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        error: Error<'a>,
    }
    #[derive(Serialize)]
    struct Error<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        message: &'a str,
    }
    let kind = match failure.kind {
        FailureKind::InvalidRequest => "invalid_request_error",
        FailureKind::Authentication => "authentication_error",
        FailureKind::Permission => "permission_error",
        FailureKind::Billing => "billing_error",
        FailureKind::NotFound => "not_found_error",
        FailureKind::TooLarge => "request_too_large",
        FailureKind::RateLimit => "rate_limit_error",
        FailureKind::Overloaded => "overloaded_error",
        FailureKind::Timeout => "timeout_error",
        FailureKind::Truncated | FailureKind::Server => "api_error",
    };
    let error = Error { kind, message: &failure.message };
    serde_json::to_vec(&Envelope { kind: "error", error }).unwrap_or_default()
}

/// An error as the last event of a stream.
pub(in crate::formats) fn error_event(failure: &Failure<'_>, out: &mut Vec<u8>) {
    write_event(Some("error"), &String::from_utf8_lossy(&error(failure)), out);
}
