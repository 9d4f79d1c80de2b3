//! AWS Bedrock.

use crate::endpoint::Endpoints;
use crate::formats::Format;
use crate::provider::{AnswerLimit, Credential, Kind, Thoughts};
use crate::signal::Verdict::{
    ClientFault, KeyRejected, OutOfQuota, Overloaded, RateLimited, ServerError,
};

pub static KINDS: &[&Kind] = &[&BEDROCK];

/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html>. The host is
/// the region's: `bedrock-runtime.us-east-1.amazonaws.com`. A key is a Bedrock API key
/// (<https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html>), or `none` where Envoy signs requests.
///
/// Errors: <https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html>,
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html>. Limits are per account, region and
/// model (<https://docs.aws.amazon.com/bedrock/latest/userguide/quotas.html>).
static BEDROCK: Kind = Kind {
    name: "bedrock",
    host: "",
    base_path: "/model",
    format: Format::Bedrock,
    credential: Credential::Bearer,
    endpoints: Endpoints::NONE,
    answer_limit: AnswerLimit::Either,
    // Its own format has a place for it.
    thoughts: Thoughts::None,
    // Streams report usage unasked.
    stream_options: false,
    model_scoped_limits: true,
    codes: &[
        ("ThrottlingException", RateLimited),
        ("ServiceQuotaExceededException", OutOfQuota),
        // The model is being loaded.
        ("ModelNotReadyException", Overloaded),
        ("ServiceUnavailableException", Overloaded),
        ("AccessDeniedException", KeyRejected),
        ("UnrecognizedClientException", KeyRejected),
        ("InvalidClientTokenId", KeyRejected),
        ("ExpiredTokenException", KeyRejected),
        ("MissingAuthenticationTokenException", KeyRejected),
        ("IncompleteSignature", KeyRejected),
        ("InvalidSignatureException", KeyRejected),
        ("NotAuthorized", KeyRejected),
        ("OptInRequired", KeyRejected),
        ("ValidationException", ClientFault),
        ("ResourceNotFoundException", ClientFault),
        ("InternalServerException", ServerError),
        ("InternalFailure", ServerError),
        ("ModelErrorException", ServerError),
        ("ModelStreamErrorException", ServerError),
        ("ModelTimeoutException", ServerError),
    ],
    statuses: &[(424, ServerError)],
};
