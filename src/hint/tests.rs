use super::*;

/// 2026-11-22T00:00:00Z
const NOW: UnixTime = UnixTime(1_795_305_600_000);

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn headers(fields: Pairs<'_>) -> Headers {
    fields.iter().copied().collect()
}

fn wait(fields: Pairs<'_>, body: &str, exhausted: Dimension) -> Option<f64> {
    let hint = retry_hint(&headers(fields), body.as_bytes(), exhausted, NOW);
    hint.map(|wait| wait.as_secs_f64())
}

#[test]
fn waits_from_headers() {
    use Dimension::{Requests, Tokens, Unknown};
    let cases: &[(Pairs<'_>, Dimension, Option<f64>)] = &[
        (&[], Unknown, None),
        (&[("retry-after", "7")], Unknown, Some(7.0)),
        (&[("retry-after", " 7.5 ")], Unknown, Some(7.5)),
        (&[("retry-after", "Sun, 22 Nov 2026 00:00:30 GMT")], Unknown, Some(30.0)),
        (&[("retry-after", "Sat, 21 Nov 2026 00:00:00 GMT")], Unknown, None),
        (&[("retry-after", "0")], Unknown, None),
        (&[("retry-after", "-1")], Unknown, None),
        (&[("retry-after", "soon")], Unknown, None),
        (&[("retry-after", "99999999999999999999")], Unknown, None),
        (&[("retry-after", "999999999")], Unknown, Some(400.0 * 86_400.0)),
        (&[("retry-after-ms", "1500")], Unknown, Some(1.5)),
        (&[("retry-after-ms", "0.5")], Unknown, Some(0.0005)),
        // Azure [recorded]: the zero must not win.
        (&[("retry-after", "1"), ("retry-after-ms", "0")], Unknown, Some(1.0)),
        (&[("retry-after-ms", "0")], Unknown, None),
        // OpenAI: the requests are exhausted, the tokens are not.
        (
            &[
                ("x-ratelimit-limit-requests", "200"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "7m12s"),
                ("x-ratelimit-limit-tokens", "40000"),
                ("x-ratelimit-remaining-tokens", "39000"),
                ("x-ratelimit-reset-tokens", "24h0m0s"),
            ],
            Requests,
            Some(432.0),
        ),
        // The error names tokens, of which too few are left: enough of them are back before the bucket is whole.
        (
            &[
                ("x-ratelimit-limit-requests", "14400"),
                ("x-ratelimit-remaining-requests", "14370"),
                ("x-ratelimit-reset-requests", "3m0s"),
                ("x-ratelimit-limit-tokens", "6000"),
                ("x-ratelimit-remaining-tokens", "150"),
                ("x-ratelimit-reset-tokens", "17.399999999s"),
                ("retry-after", "5"),
            ],
            Tokens,
            Some(5.0),
        ),
        // Nothing is named and nothing is at zero: the resets say nothing.
        (
            &[
                ("x-ratelimit-limit-requests", "200"),
                ("x-ratelimit-remaining-requests", "199"),
                ("x-ratelimit-reset-requests", "6m0s"),
            ],
            Unknown,
            None,
        ),
        // A day's tokens and a minute's: only the one that is used up.
        (
            &[
                ("x-ratelimit-remaining-tokens-day", "900000"),
                ("x-ratelimit-limit-tokens-day", "1000000"),
                ("x-ratelimit-reset-tokens-day", "40000.5"),
                ("x-ratelimit-remaining-tokens-minute", "0"),
                ("x-ratelimit-reset-tokens-minute", "11.5"),
            ],
            Tokens,
            Some(11.5),
        ),
        (
            &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "0s")],
            Requests,
            None,
        ),
        // Epoch seconds and milliseconds, RFC 3339.
        (
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795305660")],
            Unknown,
            Some(60.0),
        ),
        (
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795305660500")],
            Unknown,
            Some(60.5),
        ),
        (
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "2026-11-22T00:01:00Z")],
            Unknown,
            Some(60.0),
        ),
        // A reset without a count, on an answer that says "too many".
        (&[("x-ratelimit-reset", "3")], Unknown, Some(3.0)),
        (&[("x-ratelimit-reset", "3")], Tokens, None),
        // Azure: the unit of 500 is unclear, the period is 60 seconds.
        (
            &[
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-renewalperiod-tokens", "60"),
                ("x-ratelimit-reset-tokens", "500"),
                ("x-ratelimit-abusepenalty-active", "False"),
            ],
            Unknown,
            Some(60.0),
        ),
        (
            &[
                ("anthropic-ratelimit-requests-remaining", "3999"),
                ("anthropic-ratelimit-requests-reset", "2026-11-22T08:00:00Z"),
                ("anthropic-ratelimit-output-tokens-limit", "8000"),
                ("anthropic-ratelimit-output-tokens-remaining", "0"),
                ("anthropic-ratelimit-output-tokens-reset", "2026-11-22T00:00:42Z"),
                ("anthropic-ratelimit-unified-5h-reset", "1795320000"),
                ("retry-after", "12"),
            ],
            Unknown,
            Some(12.0),
        ),
        (&[("ratelimit", "\"burst\";r=0;t=30")], Unknown, Some(30.0)),
        (&[("ratelimit", "\"burst\";r=0;t=30, \"daily\";r=5;t=7000")], Unknown, Some(30.0)),
        (&[("ratelimit", "\"a,b;c\" ;r=0; t=3,\"day\";r=0;t=9;pk=:x:")], Unknown, Some(9.0)),
        (&[("ratelimit", "\"tokens\";r=0;t=30")], Requests, Some(30.0)),
        (&[("ratelimit", "\"api\";r=999;t=295")], Unknown, None),
        (&[("ratelimit", ";;=,=\";r=")], Unknown, None),
        (
            &[
                ("ratelimit-limit", "100, 100;w=60"),
                ("ratelimit-remaining", "0"),
                ("ratelimit-reset", "20"),
            ],
            Unknown,
            Some(20.0),
        ),
        // Whatever comes last wins.
        (&[("retry-after", "2"), ("ratelimit", "\"b\";r=0;t=30")], Unknown, Some(30.0)),
    ];
    for (fields, exhausted, expected) in cases {
        assert_eq!(wait(fields, "", *exhausted), *expected, "{fields:?}");
    }
}

#[test]
fn waits_from_bodies() {
    let openai = |message: &str| format!(r#"{{"error":{{"message":"{message}","code":"c"}}}}"#);
    let cases = [
        (openai("Rate limit reached. Please try again in 5.289s. Visit x"), Some(5.289)),
        (openai("Limit 3, Used 3. Please try again in 20s."), Some(20.0)),
        (openai("Please try again in 6m0s."), Some(360.0)),
        (openai("Please try again in 20ms."), Some(0.02)),
        (openai("Please try again in 7m26.4s, or upgrade"), Some(446.4)),
        (openai("Please retry after 86400 seconds."), Some(86_400.0)),
        (openai("Please retry in 48.939935699s."), Some(48.939_935_699)),
        (openai("Try again in 1 minute 30 seconds"), Some(90.0)),
        (openai("try again in 2 hours"), Some(7_200.0)),
        (openai("retry after 30"), Some(30.0)),
        (openai("try again in a moment"), None),
        (openai("try again in 99999999999999999999s"), None),
        (openai("You will regain access on 2026-12-01 at 00:00 UTC."), Some(9.0 * 86_400.0)),
        (openai("You will regain access on Friday"), None),
        (openai("regain access on é-------é"), None),
        ("slow down: retry after 5 seconds".to_owned(), Some(5.0)),
        ("<html>retry after 5 seconds</html>".to_owned(), Some(5.0)),
        (
            r#"[{"error":{"code":429,"message":"Please retry in 48.9s.","status":"RESOURCE_EXHAUSTED",
                "details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"49s"}]}}]"#
                .to_owned(),
            Some(49.0),
        ),
        (
            r#"{"error":{"code":429,"message":"m","details":[{"retryDelay":"37025.7s"}]}}"#.to_owned(),
            Some(37_025.7),
        ),
        (r#"{"error":{"details":[{"retryDelay":"later"}]}}"#.to_owned(), None),
        (
            r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"provider_name":"X",
                "raw":"{\"error\":\"try again in 3s\"}"}}}"#
                .to_owned(),
            Some(3.0),
        ),
        (
            r#"{"error":{"code":403,"metadata":{"resets_at":"2026-11-22T01:00:00Z"}}}"#.to_owned(),
            Some(3_600.0),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(wait(&[], &body, Dimension::Unknown), expected, "{body}");
    }
}

#[test]
fn named_dimensions() {
    use Dimension::{Images, Requests, Tokens, Unknown};
    let cases = [
        (r#"{"error":{"type":"tokens","code":"rate_limit_exceeded"}}"#, Tokens),
        (r#"{"error":{"type":"requests","code":"rate_limit_exceeded"}}"#, Requests),
        (r#"{"error":{"type":"input-images","code":"rate_limit_exceeded"}}"#, Images),
        (r#"{"error":{"message":"rate limit of 40,000 input tokens per minute"}}"#, Tokens),
        (r#"{"error":{"message":"have exceeded token rate limit of your current"}}"#, Tokens),
        (r#"{"error":{"message":"have exceeded call rate limit of your current"}}"#, Requests),
        (r#"{"error":{"message":"on requests per day (RPD): Limit 1000"}}"#, Requests),
        (r#"{"error":{"message":"slow down"}}"#, Unknown),
    ];
    for (body, expected) in cases {
        assert_eq!(exhausted_dimension(&ErrorBody::parse(body.as_bytes())), expected, "{body}");
    }
}

type Counts = Option<(u64, u64, Option<u64>)>;

#[test]
fn headroom_by_provider() {
    let cases: &[(&str, Pairs<'_>, Counts, Counts)] = &[
        (
            "OpenAI",
            &[
                ("x-ratelimit-limit-requests", "5000"),
                ("x-ratelimit-remaining-requests", "4999"),
                ("x-ratelimit-reset-requests", "12ms"),
                ("x-ratelimit-limit-tokens", "160000"),
                ("x-ratelimit-remaining-tokens", "159976"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
            Some((4999, 5000, Some(0))),
            Some((159_976, 160_000, Some(360))),
        ),
        (
            "Azure: a limit of 0 is unknown, a count of -1 as well",
            &[
                ("x-ratelimit-limit-requests", "0"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-limit-tokens", "1000"),
                ("x-ratelimit-remaining-tokens", "-1"),
            ],
            None,
            None,
        ),
        (
            "Anthropic: the output tokens are nearest to their end",
            &[
                ("anthropic-ratelimit-requests-limit", "4000"),
                ("anthropic-ratelimit-requests-remaining", "3999"),
                ("anthropic-ratelimit-requests-reset", "2026-11-22T00:00:10Z"),
                ("anthropic-ratelimit-input-tokens-limit", "400000"),
                ("anthropic-ratelimit-input-tokens-remaining", "399000"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-11-22T00:00:01Z"),
                ("anthropic-ratelimit-output-tokens-limit", "80000"),
                ("anthropic-ratelimit-output-tokens-remaining", "10000"),
                ("anthropic-ratelimit-output-tokens-reset", "2026-11-22T00:00:20Z"),
                ("retry-after", "43"),
            ],
            Some((3999, 4000, Some(10))),
            Some((10_000, 80_000, Some(20))),
        ),
        (
            "Mistral",
            &[
                ("x-ratelimit-limit-req-minute", "50"),
                ("x-ratelimit-remaining-req-minute", "46"),
                ("x-ratelimit-limit-req-10-second", "10"),
                ("x-ratelimit-remaining-req-10-second", "2"),
                ("x-ratelimit-limit-tokens-minute", "50000"),
                ("x-ratelimit-remaining-tokens-minute", "49962"),
                ("x-ratelimit-limit-tokens-month", "4000000"),
                ("x-ratelimit-remaining-tokens-month", "1000"),
                ("x-ratelimit-tokens-query-cost", "19"),
            ],
            Some((2, 10, None)),
            Some((1000, 4_000_000, None)),
        ),
        (
            "Mistral, older",
            &[
                ("ratelimitbysize-limit", "500000"),
                ("ratelimitbysize-remaining", "499976"),
                ("ratelimitbysize-reset", "14"),
                ("ratelimitbysize-query-cost", "24"),
            ],
            None,
            Some((499_976, 500_000, Some(14))),
        ),
        (
            "Together",
            &[
                ("x-ratelimit-limit", "10"),
                ("x-ratelimit-remaining", "9"),
                ("x-ratelimit-reset", "1"),
                ("x-tokenlimit-limit", "3000"),
                ("x-tokenlimit-remaining", "2990"),
            ],
            Some((9, 10, Some(1))),
            Some((2990, 3000, None)),
        ),
        (
            "xAI",
            &[
                ("x-ratelimit-limit-requests", "480"),
                ("x-ratelimit-remaining-requests", "479"),
                ("x-ratelimit-limit-tokens", "2000000"),
                ("x-ratelimit-remaining-tokens", "2000000"),
            ],
            Some((479, 480, None)),
            Some((2_000_000, 2_000_000, None)),
        ),
        (
            "Groq",
            &[
                ("x-ratelimit-limit-requests", "14400"),
                ("x-ratelimit-remaining-requests", "14370"),
                ("x-ratelimit-reset-requests", "2m59.56s"),
            ],
            Some((14_370, 14_400, Some(179))),
            None,
        ),
        (
            "Cerebras",
            &[
                ("x-ratelimit-limit-requests-day", "100"),
                ("x-ratelimit-remaining-requests-day", "99"),
                ("x-ratelimit-reset-requests-day", "30.5"),
                ("x-ratelimit-limit-tokens-minute", "64000"),
                ("x-ratelimit-remaining-tokens-minute", "31999"),
                ("x-ratelimit-reset-tokens-minute", "11.5"),
            ],
            Some((99, 100, Some(30))),
            Some((31_999, 64_000, Some(11))),
        ),
        (
            "Replicate and the IETF drafts 03 to 06",
            &[("ratelimit-limit", "600"), ("ratelimit-remaining", "599"), ("ratelimit-reset", "1")],
            Some((599, 600, Some(1))),
            None,
        ),
        (
            "Hugging Face, with its malformed policy",
            &[
                ("ratelimit", "\"api\";r=999;t=295"),
                ("ratelimit-policy", "\"fixed window\";\"api\";q=1000;w=300"),
            ],
            Some((999, 1000, Some(295))),
            None,
        ),
        (
            "IETF draft 10",
            &[
                (
                    "ratelimit-policy",
                    "\"burst\";q=100;w=60,\"tokens\";q=1000;w=86400,\"b\";q=9;qu=\"content-bytes\"",
                ),
                ("ratelimit", "\"burst\";r=40;t=30, \"tokens\";r=10, \"b\";r=1"),
            ],
            Some((40, 100, Some(30))),
            Some((10, 1000, None)),
        ),
        ("a remaining count alone", &[("x-ratelimit-remaining-requests", "5")], None, None),
        ("nothing", &[("content-type", "text/html"), ("x-request-id", "1")], None, None),
    ];
    for (provider, fields, requests, tokens) in cases {
        let counts = |headroom: Option<Headroom>| {
            headroom.map(|h| (h.remaining, h.limit, h.reset.map(|reset| reset.as_secs())))
        };
        let reported = headroom(&headers(fields), NOW);
        assert_eq!(counts(reported.requests), *requests, "{provider}: requests");
        assert_eq!(counts(reported.tokens), *tokens, "{provider}: tokens");
    }
}

#[test]
fn the_number_of_limits_is_bounded() {
    let many: Headers =
        (0..1000).map(|i| (format!("x-ratelimit-remaining-requests-{i}"), "0")).collect();
    assert_eq!(Fields::collect(&many).buckets.len(), MOST_BUCKETS);
}

/// Values cut from and mixed with the real spellings, at random with a fixed seed.
#[test]
fn any_bytes_are_survived() {
    const NAMES: [&str; 12] = [
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-limit-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-renewalperiod-requests",
        "x-ratelimit-",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-reset",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-reset",
    ];
    const PIECES: [&[u8]; 16] = [
        b"\"api\"",
        b";r=",
        b";t=",
        b"0",
        b"999999999999999",
        b".",
        b"s",
        b"ms",
        b",",
        b"=",
        b" ",
        b"2026-11-22T00:00:00Z",
        b"try again in ",
        b"{\"error\":{\"message\":\"",
        b"\xff\xc3",
        b"-",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..20_000 {
        let mut value = || -> Vec<u8> {
            (0..random(8)).flat_map(|_| PIECES[random(PIECES.len())]).copied().collect()
        };
        let values = [value(), value(), value(), value()];
        let fields: Headers =
            values.iter().map(|v| (NAMES[random(NAMES.len())], v.clone())).collect();
        let hint = retry_hint(&fields, &values[0], Dimension::Requests, NOW);
        assert!(hint.is_none_or(|wait| !wait.is_zero() && wait <= LONGEST));
        assert!(headroom(&fields, NOW).requests.is_none_or(|h| h.limit > 0));
    }
}
