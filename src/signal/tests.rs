use Scope::{Key, Model, Provider};
use Verdict::{
    ClientFault, KeyRejected, OutOfQuota, Overloaded, RateLimited, ServerError, Success,
};

use super::*;
use crate::provider::find;

/// 2026-11-22T00:00:00Z, nine days before the month ends.
const NOW: UnixTime = UnixTime(1_795_305_600_000);
const MONTH_END: u64 = 9 * 86_400;

type Case = (&'static str, u16, &'static str, Verdict, Scope, Option<u64>);

/// Each: provider, status, body, what is expected (the hint in whole seconds); the model is `gpt-4o`.
fn check(cases: &[Case]) {
    for (provider, status, body, verdict, scope, hint) in cases {
        let kind = find(provider).unwrap();
        let signal = classify(kind, *status, &Headers::default(), body.as_bytes(), "gpt-4o", NOW);
        let found = (signal.verdict, signal.scope, signal.hint.map(|hint| hint.as_secs()));
        assert_eq!(found, (*verdict, *scope, *hint), "{provider} {status} {body}");
    }
}

#[test]
fn statuses_alone() {
    let empty = |status, verdict, scope| ("openai", status, "", verdict, scope, None);
    check(&[
        empty(200, Success, Key),
        empty(204, Success, Key),
        empty(301, ServerError, Provider),
        empty(400, ClientFault, Key),
        empty(401, KeyRejected, Key),
        empty(402, OutOfQuota, Key),
        empty(403, KeyRejected, Key),
        empty(404, ClientFault, Key),
        empty(408, ServerError, Provider),
        empty(409, ClientFault, Key),
        empty(413, ClientFault, Key),
        empty(422, ClientFault, Key),
        empty(429, RateLimited, Key),
        empty(498, ClientFault, Key),
        empty(500, ServerError, Provider),
        empty(502, ServerError, Provider),
        empty(503, Overloaded, Provider),
        empty(504, ServerError, Provider),
        empty(520, ServerError, Provider),
        empty(529, Overloaded, Provider),
        empty(0, ServerError, Provider),
    ]);
}

/// AWS names the error in a header; the body has the message alone.
#[test]
fn errors_by_header() {
    let kind = find("bedrock").unwrap();
    for (status, name, message, verdict, scope) in [
        (429, "ThrottlingException", "Too many requests, please wait.", RateLimited, Model),
        (429, "ThrottlingException", "Too many tokens per day, please wait.", OutOfQuota, Model),
        (400, "ServiceQuotaExceededException", "Your request exceeds the quota.", OutOfQuota, Key),
        (429, "ModelNotReadyException", "The model is not ready.", Overloaded, Model),
        (503, "ServiceUnavailableException", "", Overloaded, Provider),
        (403, "AccessDeniedException", "Not authorized to perform the action.", KeyRejected, Key),
        (
            403,
            "AccessDeniedException",
            "You don't have access to the model with",
            KeyRejected,
            Model,
        ),
        (403, "ExpiredTokenException", "The security token is expired.", KeyRejected, Key),
        (400, "ValidationException", "messages: too many", ClientFault, Key),
        (404, "ResourceNotFoundException", "", ClientFault, Key),
        (408, "ModelTimeoutException", "", ServerError, Provider),
        (424, "ModelErrorException", "", ServerError, Provider),
        (500, "InternalServerException", "", ServerError, Provider),
    ] {
        for member in ["message", "Message"] {
            let value = format!("{name}:http://internal.amazon.com/coral/");
            let headers: Headers = [("x-amzn-errortype", value.as_str())].into_iter().collect();
            let body = format!("{{\"{member}\":\"{message}\"}}");
            let signal = classify(kind, status, &headers, body.as_bytes(), "gpt-4o", NOW);
            assert_eq!((signal.verdict, signal.scope), (verdict, scope), "{name} {body}");
        }
    }
}

#[test]
fn pages_of_proxies() {
    let html = "\n<!DOCTYPE html><html>Sorry, you have been blocked</html>";
    check(&[
        ("openai", 403, html, ServerError, Provider, None),
        ("openai", 401, html, KeyRejected, Key, None),
        ("openai", 429, html, RateLimited, Key, None),
        ("openai", 502, html, ServerError, Provider, None),
        ("openai", 503, "upstream connect error", Overloaded, Provider, None),
    ]);
}

#[test]
#[rustfmt::skip] // One case a line.
fn openai() {
    check(&[
        ("openai", 429, r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#, RateLimited, Model, Some(20)),
        ("openai", 429, r#"{"error":{"message":"Rate limit reached for gpt-4o-mini in organization org-x. Please try again in 6m0s.","type":"tokens","code":"rate_limit_exceeded"}}"#, RateLimited, Key, Some(360)),
        ("openai", 429, r#"{"error":{"message":"Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 33205.","type":"tokens","code":"rate_limit_exceeded"}}"#, ClientFault, Key, None),
        ("openai", 429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#, OutOfQuota, Key, None),
        ("openai", 429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"a_newer_code"}}"#, OutOfQuota, Key, None),
        ("openai", 429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"credit_balance_exhausted"}}"#, OutOfQuota, Key, None),
        ("openai", 429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"organization_usage_limit_exceeded"}}"#, OutOfQuota, Key, None),
        ("openai", 429, r#"{"error":{"message":"m","code":"organization_spend_limit_exceeded"}}"#, OutOfQuota, Key, Some(MONTH_END)),
        ("openai", 429, r#"{"error":{"message":"m","code":"project_spend_limit_exceeded"}}"#, OutOfQuota, Key, Some(MONTH_END)),
        ("openai", 429, r#"{"error":{"code":"slow_down"}}"#, RateLimited, Key, None),
        ("openai", 429, r#"{"error":{"code":"billing_hard_limit_reached"}}"#, OutOfQuota, Key, None),
        ("openai", 401, r#"{"error":{"message":"Incorrect API key provided: sk-***.","type":"invalid_request_error","code":"invalid_api_key"}}"#, KeyRejected, Key, None),
        ("openai", 401, r#"{"error":{"message":"You didn't provide an API key.","type":"invalid_request_error","code":null}}"#, KeyRejected, Key, None),
        ("openai", 403, r#"{"error":{"message":"Project `proj_x` does not have access to model `gpt-4o`","type":"invalid_request_error","code":"model_not_found"}}"#, KeyRejected, Model, None),
        ("openai", 403, r#"{"error":{"message":"You have no access to gpt-4o.","code":null}}"#, KeyRejected, Model, None),
        ("openai", 404, r#"{"error":{"message":"The model `gpt-4o` does not exist or you do not have access to it.","type":"invalid_request_error","code":"model_not_found"}}"#, ClientFault, Key, None),
        ("openai", 403, r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","code":"unsupported_country_region_territory"}}"#, Overloaded, Provider, None),
        ("openai", 403, r#"{"error":{"code":"content_policy_violation"}}"#, ClientFault, Key, None),
        ("openai", 400, r#"{"error":{"code":"context_length_exceeded"}}"#, ClientFault, Key, None),
        ("openai", 503, r#"{"error":{"code":"server_is_overloaded"}}"#, Overloaded, Provider, None),
        ("openai", 500, r#"{"error":{"type":"server_error","code":null}}"#, ServerError, Provider, None),
        ("openai", 503, r#"{"error":{"type":"server_error"}}"#, Overloaded, Provider, None),
    ]);
}

#[test]
fn a_client_cannot_talk_a_key_into_a_rest() {
    let quoted = [
        r#"{"error":{"message":"Invalid value: 'Your credit balance is too low'.","type":"invalid_request_error"}}"#,
        r#"{"error":{"message":"Unknown parameter: 'insufficient_quota'.","param":"insufficient_quota"}}"#,
        r#"{"error":{"message":"'Incorrect API key provided' is not of type 'object'"}}"#,
    ];
    for body in quoted {
        check(&[("openai", 400, body, ClientFault, Key, None)]);
    }
}

#[test]
#[rustfmt::skip] // One case a line.
fn anthropic_shapes() {
    check(&[
        ("openai-compatible", 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"}}"#, RateLimited, Key, None),
        ("openai-compatible", 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#, OutOfQuota, Key, Some(MONTH_END)),
        ("openai-compatible", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified workspace API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#, OutOfQuota, Key, Some(MONTH_END)),
        ("openai-compatible", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#, OutOfQuota, Key, None),
        ("openai-compatible", 402, r#"{"type":"error","error":{"type":"billing_error"}}"#, OutOfQuota, Key, None),
        ("openai-compatible", 401, r#"{"type":"error","error":{"type":"authentication_error"}}"#, KeyRejected, Key, None),
        ("openai-compatible", 403, r#"{"type":"error","error":{"type":"permission_error"}}"#, KeyRejected, Key, None),
        ("openai-compatible", 529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, Overloaded, Provider, None),
    ]);
}

#[test]
#[rustfmt::skip] // One case a line.
fn google_shapes() {
    check(&[
        ("openai-compatible", 429, r#"[{"error":{"code":429,"message":"You exceeded your current quota. Please retry in 48.939935699s.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaDimensions":{"model":"gemini-2.0-flash"}}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"48s"}]}}]"#, RateLimited, Model, Some(48)),
        ("openai-compatible", 429, r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel"}]},{"retryDelay":"37025.7s"}]}}"#, OutOfQuota, Key, Some(37_025)),
        ("openai-compatible", 429, r#"{"error":{"code":429,"message":"Quota exceeded for metric: x, limit: 0, model: y","status":"RESOURCE_EXHAUSTED"}}"#, OutOfQuota, Key, None),
        ("openai-compatible", 400, r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#, KeyRejected, Key, None),
        ("openai-compatible", 400, r#"{"error":{"code":400,"status":"INVALID_ARGUMENT"}}"#, ClientFault, Key, None),
    ]);
}

#[test]
#[rustfmt::skip] // One case a line.
fn azure() {
    check(&[
        ("azure", 429, r#"{"error":{"code":"429","message":"Requests have exceeded call rate limit of your current tier. Please retry after 86400 seconds."}}"#, RateLimited, Model, Some(86_400)),
        ("azure", 429, r#"{"error":{"code":"RateLimitReached","message":"m"}}"#, RateLimited, Model, None),
        ("azure", 429, r#"{"error":{"code":"insufficient_quota"}}"#, OutOfQuota, Key, None),
        ("azure", 429, r#"{"error":{"code":"429","message":"The system is currently experiencing high demand and cannot process your request."}}"#, Overloaded, Model, None),
        ("azure", 401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key"}}"#, KeyRejected, Key, None),
        ("azure", 400, r#"{"error":{"code":"content_filter","message":"m"}}"#, ClientFault, Key, None),
    ]);
    let headers: Headers = [("retry-after", "1"), ("retry-after-ms", "0")].into_iter().collect();
    let signal = classify(find("azure").unwrap(), 429, &headers, b"", "gpt-4o", NOW);
    assert_eq!(signal.hint, Some(Duration::from_secs(1)));
}

#[test]
#[rustfmt::skip] // One case a line.
fn other_rows() {
    check(&[
        ("mistral", 401, r#"{"detail":"Invalid API Key"}"#, KeyRejected, Key, None),
        ("mistral", 429, r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","code":"1300"}"#, RateLimited, Key, None),
        ("mistral", 402, "", OutOfQuota, Key, None),
        ("mistral", 403, r#"{"message":"m"}"#, OutOfQuota, Key, None),
        ("groq", 429, r#"{"error":{"message":"Rate limit reached for model `x` on requests per day (RPD). Please try again in 5.289s.","type":"requests","code":"rate_limit_exceeded"}}"#, RateLimited, Model, Some(5)),
        ("groq", 413, r#"{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}"#, ClientFault, Key, None),
        ("groq", 413, r#"{"error":{"message":"Request too large for model `x`","type":"tokens","code":"rate_limit_exceeded"}}"#, ClientFault, Key, None),
        ("groq", 498, r#"{"error":{"code":"capacity_exceeded"}}"#, Overloaded, Model, None),
        ("groq", 498, "", Overloaded, Model, None),
        ("deepseek", 402, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#, OutOfQuota, Key, None),
        ("deepseek", 401, r#"{"error":{"type":"authentication_error","code":"invalid_request_error"}}"#, KeyRejected, Key, None),
        ("deepseek", 503, "", Overloaded, Provider, None),
        ("xai", 429, r#"{"code":"Some resource has been exhausted","error":"Your team 16f2151a has either used all available credits or reached its monthly spending limit."}"#, OutOfQuota, Key, None),
        ("xai", 403, r#"{"code":"permission-denied","error":"Your newly created team doesn't have any credits or licenses yet."}"#, OutOfQuota, Key, None),
        ("xai", 403, r#"{"code":"permission-denied","error":"Your team may not use this endpoint."}"#, KeyRejected, Key, None),
        ("xai", 400, r#"{"code":"invalid-argument","error":"Incorrect API key provided: xa***."}"#, KeyRejected, Key, None),
        ("xai", 429, r#"{"error":"Too many requests"}"#, RateLimited, Model, None),
        ("openrouter", 402, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, OutOfQuota, Key, None),
        ("openrouter", 402, r#"{"error":{"code":402,"message":"m","metadata":{"error_type":"in_flight_budget_exhausted","limit_source":"openrouter_in_flight_budget"}}}"#, RateLimited, Model, None),
        ("openrouter", 403, r#"{"error":{"code":403,"message":"m","metadata":{"limit_source":"openrouter_workspace_budget","resets_at":"2026-11-22T01:00:00Z"}}}"#, OutOfQuota, Key, Some(3_600)),
        ("openrouter", 403, r#"{"error":{"code":403,"message":"flagged","metadata":{"reasons":["violence"]}}}"#, ClientFault, Key, None),
        ("openrouter", 401, r#"{"error":{"code":401,"message":"No auth credentials found"}}"#, KeyRejected, Key, None),
        ("openrouter", 429, r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"provider_name":"X","raw":"x is rate-limited upstream. Please retry in 3s"}}}"#, RateLimited, Model, Some(3)),
        ("openrouter", 503, "", Overloaded, Provider, None),
        ("moonshot", 429, r#"{"error":{"type":"exceeded_current_quota_error"}}"#, OutOfQuota, Key, None),
        ("moonshot", 429, r#"{"error":{"type":"engine_overloaded_error"}}"#, Overloaded, Model, None),
        ("moonshot", 429, r#"{"error":{"type":"rate_limit_reached_error"}}"#, RateLimited, Key, None),
        ("moonshot", 401, r#"{"error":{"type":"invalid_authentication_error"}}"#, KeyRejected, Key, None),
        ("moonshot", 403, r#"{"error":{"type":"permission_denied_error"}}"#, OutOfQuota, Key, None),
        ("qwen", 429, r#"{"error":{"message":"Allocated quota exceeded","type":"insufficient_quota","code":"insufficient_quota"}}"#, RateLimited, Model, None),
        ("qwen", 429, r#"{"code":"Throttling.RateQuota","message":"m","request_id":"r"}"#, RateLimited, Model, None),
        ("qwen", 400, r#"{"error":{"type":"Arrearage","code":"Arrearage"}}"#, OutOfQuota, Key, None),
        ("qwen", 403, r#"{"error":{"code":"AllocationQuota.FreeTierOnly"}}"#, OutOfQuota, Key, None),
        ("qwen", 401, r#"{"code":"InvalidApiKey","message":"m"}"#, KeyRejected, Key, None),
        ("zhipu", 401, r#"{"error":{"code":"1002","message":"m"}}"#, KeyRejected, Key, None),
        ("zhipu", 429, r#"{"error":{"code":"1113","message":"m"}}"#, OutOfQuota, Key, None),
        ("zhipu", 429, r#"{"error":{"code":"1302","message":"m"}}"#, RateLimited, Key, None),
        ("zhipu", 429, r#"{"error":{"code":"1305","message":"m"}}"#, RateLimited, Key, None),
        ("minimax", 200, r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#, OutOfQuota, Key, None),
        ("minimax", 200, r#"{"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#, RateLimited, Key, None),
        ("minimax", 200, r#"{"base_resp":{"status_code":1039,"status_msg":"m"}}"#, RateLimited, Key, None),
        ("minimax", 200, r#"{"base_resp":{"status_code":1004,"status_msg":"m"}}"#, KeyRejected, Key, None),
        ("minimax", 200, r#"{"base_resp":{"status_code":2049,"status_msg":"m"}}"#, KeyRejected, Key, None),
        ("minimax", 200, r#"{"base_resp":{"status_code":2056,"status_msg":"m"}}"#, OutOfQuota, Key, None),
        ("minimax", 200, r#"{"base_resp":{"status_code":9999,"status_msg":"m"}}"#, ServerError, Provider, None),
        ("minimax", 200, r#"{"choices":[],"base_resp":{"status_code":0,"status_msg":""}}"#, Success, Key, None),
        ("huggingface", 429, r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, Overloaded, Model, None),
        ("vllm", 400, r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#, ClientFault, Key, None),
    ]);
}

#[test]
fn retry_after_on_a_success_is_no_signal() {
    let headers: Headers = [("retry-after", "43")].into_iter().collect();
    let signal = classify(find("openai").unwrap(), 200, &headers, b"{}", "gpt-4o", NOW);
    assert_eq!(signal, Signal { verdict: Success, hint: None, scope: Key });
}

#[test]
#[rustfmt::skip] // One case a line.
fn events() {
    let cases = [
        ("openai", r#"{"id":"c","choices":[{"delta":{"content":"hi"}}]}"#, None),
        ("openai", "[DONE]", None),
        ("openai", r#"{"type":"response.created","response":{"error":null}}"#, None),
        ("openai", r#"{"error":{"message":"m","type":"server_error","code":null}}"#, Some((ServerError, Provider))),
        ("openai", r#"{"error":{"message":"m","type":"something_new"}}"#, Some((ServerError, Provider))),
        ("openai", r#"{"error":{"message":"Rate limit reached for gpt-4o in organization","type":"tokens","code":"rate_limit_exceeded"}}"#, Some((RateLimited, Model))),
        ("openai", r#"{"error":{"type":"insufficient_quota"}}"#, Some((OutOfQuota, Key))),
        ("openai", r#"{"type":"error","code":"rate_limit_exceeded","message":"m","param":null,"sequence_number":1}"#, Some((RateLimited, Key))),
        ("openai", r#"{"type":"error","error":{"type":"invalid_request_error","code":null}}"#, Some((ClientFault, Key))),
        ("openai", r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"m"}}}"#, Some((RateLimited, Key))),
        ("openai", r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"m"}}}"#, Some((ServerError, Provider))),
        ("openai-compatible", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Some((Overloaded, Provider))),
        ("openrouter", r#"{"id":"g","error":{"code":429,"message":"m"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#, Some((RateLimited, Model))),
        ("openrouter", r#"{"error":{"code":502,"message":"Provider disconnected"}}"#, Some((ServerError, Provider))),
        ("openrouter", r#"{"error":{"code":402,"message":"m"}}"#, Some((OutOfQuota, Key))),
        ("openrouter", r#"{"error":{"code":400,"message":"m"}}"#, Some((ClientFault, Key))),
        ("vllm", r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#, Some((ClientFault, Key))),
        ("azure", r#"{"error":{"code":"429","message":"m"}}"#, Some((RateLimited, Model))),
        ("minimax", r#"{"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#, Some((RateLimited, Key))),
        ("minimax", r#"{"choices":[{}],"base_resp":{"status_code":0}}"#, None),
    ];
    for (provider, data, expected) in cases {
        let signal = classify_event(find(provider).unwrap(), data.as_bytes(), "gpt-4o", NOW);
        assert_eq!(signal.map(|s| (s.verdict, s.scope)), expected, "{provider} {data}");
    }
    let hinted = br#"{"error":{"code":"rate_limit_exceeded","message":"Please try again in 7s."}}"#;
    let signal = classify_event(find("openai").unwrap(), hinted, "gpt-4o", NOW).unwrap();
    assert_eq!(signal.hint, Some(Duration::from_secs(7)));
}

/// Every prefix of a real body, and every status: no panic, and a hint only where it means something.
#[test]
fn cut_bodies_are_survived() {
    let body = br#"[{"error":{"code":429,"message":"retry in 4.9s for gpt-4o \u00e9","details":[{"retryDelay":"48s"}]}}]"#;
    for kind in crate::provider::kinds() {
        for end in 0..body.len() {
            for status in [0, 200, 302, 400, 403, 429, 503, u16::MAX] {
                let cut = &body[..end];
                let signal = classify(kind, status, &Headers::default(), cut, "gpt-4o", NOW);
                let rests = matches!(signal.verdict, RateLimited | OutOfQuota | Overloaded);
                assert!(signal.hint.is_none() || rests, "{} {status} {cut:?}", kind.name);
            }
        }
    }
}

#[test]
#[rustfmt::skip] // One case a line.
fn gemini() {
    let google = |code: u16, status: &str, message: &str, details: &str| -> &'static str {
        let error = format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}","details":[{details}]}}}}"#);
        Box::leak(error.into_boxed_str())
    };
    let reason = |reason: &str| format!(r#"{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"{reason}","domain":"googleapis.com"}}"#);
    let quota = |id: &str, delay: &str| {
        let failure = format!(r#"{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaId":"{id}","quotaDimensions":{{"model":"gpt-4o"}}}}]}}"#);
        format!(r#"{failure},{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{delay}"}}"#)
    };
    let exhausted = |id: &str, delay: &str| google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", &quota(id, delay));
    check(&[
        ("gemini", 429, exhausted("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "48.9s"), RateLimited, Model, Some(48)),
        ("gemini", 429, exhausted("GenerateContentInputTokensPerModelPerMinute-FreeTier", "5s"), RateLimited, Model, Some(5)),
        ("gemini", 429, exhausted("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "37025.7s"), OutOfQuota, Model, Some(37_025)),
        ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: m, limit: 0, model: gpt-4o", ""), OutOfQuota, Key, None),
        ("vertex", 429, google(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.", ""), RateLimited, Model, None),
        ("gemini", 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", &reason("API_KEY_INVALID")), KeyRejected, Key, None),
        ("gemini", 400, google(400, "INVALID_ARGUMENT", "Invalid value at 'contents'", ""), ClientFault, Key, None),
        ("gemini", 400, google(400, "FAILED_PRECONDITION", "The File x is not in an ACTIVE state.", ""), ClientFault, Key, None),
        ("gemini", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use.", ""), Overloaded, Provider, None),
        ("gemini", 400, google(400, "FAILED_PRECONDITION", "Gemini API free tier is not available in your country. Please enable billing.", ""), OutOfQuota, Key, None),
        ("gemini", 403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked.", ""), KeyRejected, Key, None),
        ("vertex", 401, google(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", &reason("ACCESS_TOKEN_EXPIRED")), KeyRejected, Key, None),
        ("vertex-anthropic", 429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for base_model: gpt-4o", ""), RateLimited, Model, None),
        ("vertex-anthropic", 529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded, Provider, None),
        ("gemini", 404, google(404, "NOT_FOUND", "models/gpt-4o is not found for API version v1beta", ""), ClientFault, Key, None),
        ("gemini", 500, google(500, "INTERNAL", "An internal error has occurred.", ""), ServerError, Provider, None),
        ("gemini", 503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", ""), Overloaded, Model, None),
        ("gemini", 503, google(503, "UNAVAILABLE", "The service is currently unavailable.", ""), Overloaded, Provider, None),
    ]);
    for (message, verdict, scope) in [("The model is overloaded. Please try again later.", Overloaded, Model), ("Internal", Overloaded, Provider)] {
        let signal = classify_event(find("gemini").unwrap(), google(503, "UNAVAILABLE", message, "").as_bytes(), "gpt-4o", NOW).unwrap();
        assert_eq!((signal.verdict, signal.scope), (verdict, scope));
    }
}
