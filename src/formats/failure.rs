//! Reads a provider's error, in whichever format: they are told apart by their words, and those do not collide.

use std::borrow::Cow;

use crate::conversation::{Failure, FailureKind};
use crate::error_body::ErrorBody;

/// Machine-readable words of errors, whoever says them; those of one provider that mean another thing elsewhere are
/// not here, their status tells.
const WORDS: &[(&str, FailureKind)] = &[
    // Anthropic: <https://platform.claude.com/docs/en/api/errors>.
    ("authentication_error", FailureKind::Authentication),
    ("permission_error", FailureKind::Permission),
    ("billing_error", FailureKind::Billing),
    ("not_found_error", FailureKind::NotFound),
    ("request_too_large", FailureKind::TooLarge),
    ("rate_limit_error", FailureKind::RateLimit),
    ("overloaded_error", FailureKind::Overloaded),
    ("timeout_error", FailureKind::Timeout),
    // OpenAI: <https://platform.openai.com/docs/guides/error-codes>.
    ("invalid_api_key", FailureKind::Authentication),
    ("insufficient_quota", FailureKind::Billing),
    ("model_not_found", FailureKind::NotFound),
    ("rate_limit_exceeded", FailureKind::RateLimit),
    ("server_is_overloaded", FailureKind::Overloaded),
    ("server_error", FailureKind::Server),
    ("api_error", FailureKind::Server),
    ("invalid_request_error", FailureKind::InvalidRequest),
    // Exceptions in Bedrock's streams:
    // <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html>.
    ("throttlingException", FailureKind::RateLimit),
    ("serviceUnavailableException", FailureKind::Overloaded),
    ("validationException", FailureKind::InvalidRequest),
    ("modelTimeoutException", FailureKind::Timeout),
    ("internalServerException", FailureKind::Server),
    ("modelStreamErrorException", FailureKind::Server),
    // Google: <https://ai.google.dev/gemini-api/docs/troubleshooting>.
    ("API_KEY_INVALID", FailureKind::Authentication),
    ("UNAUTHENTICATED", FailureKind::Authentication),
    ("PERMISSION_DENIED", FailureKind::Permission),
    ("NOT_FOUND", FailureKind::NotFound),
    ("RESOURCE_EXHAUSTED", FailureKind::RateLimit),
    ("UNAVAILABLE", FailureKind::Overloaded),
    ("DEADLINE_EXCEEDED", FailureKind::Timeout),
    ("INTERNAL", FailureKind::Server),
    ("INVALID_ARGUMENT", FailureKind::InvalidRequest),
    ("FAILED_PRECONDITION", FailureKind::InvalidRequest),
    ("OUT_OF_RANGE", FailureKind::InvalidRequest),
];

/// `error` is a body, the data of an event or the `error` object of either; a text of Keyward's own stands for
/// what is none of them. `status`: what it came with, if that was no success.
pub(super) fn read(status: Option<u16>, error: &[u8]) -> Failure<'static> {
    let body = if error.trim_ascii_start().starts_with(b"{") || error.starts_with(b"[") {
        ErrorBody::parse(error)
    } else {
        ErrorBody::default()
    };
    let known = WORDS.iter().find(|(word, _)| body.has_word(word)).map(|(_, kind)| *kind);
    let kind = known.or_else(|| status.map(of_status)).unwrap_or(FailureKind::Server);
    let message = if body.message.is_empty() {
        Cow::Borrowed("The provider failed.")
    } else {
        Cow::Owned(body.message)
    };
    Failure { kind, message }
}

fn of_status(status: u16) -> FailureKind {
    match status {
        401 => FailureKind::Authentication,
        402 => FailureKind::Billing,
        403 => FailureKind::Permission,
        404 => FailureKind::NotFound,
        408 | 504 => FailureKind::Timeout,
        413 => FailureKind::TooLarge,
        429 => FailureKind::RateLimit,
        503 | 529 => FailureKind::Overloaded,
        400..=499 => FailureKind::InvalidRequest,
        _ => FailureKind::Server,
    }
}
