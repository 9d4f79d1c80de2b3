use serde_json::{Value, json};

use super::*;

fn read(body: &str) -> Ask<'_> {
    Ask::read(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn changes(model: Option<&str>, include_usage: bool) -> Changes<'_> {
    Changes { model, include_usage, limit: None }
}

fn patched(body: &str, model: Option<&str>, include_usage: bool) -> String {
    let spans = read(body).spans;
    let out = patch(body.as_bytes(), &spans, changes(model, include_usage)).expect("its own spans");
    String::from_utf8(out.into_owned()).unwrap()
}

#[test]
fn reads_what_the_gateway_needs() {
    // Body, model, stream, include_usage, max_tokens.
    let table = [
        (r#"{"model":"m"}"#, "m", false, None, None),
        (r#"{"model":"m","stream":null,"stream_options":7}"#, "m", false, None, None),
        (r#"{"stream":true,"model":"m"}"#, "m", true, None, None),
        (r#"{"model":"m","stream":true,"stream_options":{}}"#, "m", true, None, None),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            "m",
            true,
            Some(true),
            None,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage" : false}}"#,
            "m",
            true,
            Some(false),
            None,
        ),
        (r#"{"mod\u0065l":"gpt\u002d4o \ud83d\ude00"}"#, "gpt-4o \u{1f600}", false, None, None),
        (r#"{"input":{"model":"x","stream":true},"model":"m"}"#, "m", false, None, None),
        (r#"{"model":"m","max_tokens":1e2}"#, "m", false, None, Some(100)),
        (
            r#"{"model":"m","max_tokens":7,"max_completion_tokens":9,"max_output_tokens":null}"#,
            "m",
            false,
            None,
            Some(9),
        ),
        (r#"{"model":"m","max_tokens":-1}"#, "m", false, None, None),
        ("\u{feff} {\"model\" : \"m\"}\n", "m", false, None, None),
    ];
    for (body, model, stream, include_usage, max_tokens) in table {
        let ask = read(body);
        assert_eq!(ask.model, model, "{body}");
        assert_eq!(ask.stream, stream, "{body}");
        assert_eq!(ask.include_usage, include_usage, "{body}");
        assert_eq!(ask.max_tokens, max_tokens, "{body}");
        assert_eq!(ask.choices, 1, "{body}");
    }
}

#[test]
fn choices_are_never_none() {
    for (body, choices) in [
        (r#"{"model":"m","n":4}"#, 4),
        (r#"{"model":"m","n":2,"best_of":5}"#, 5),
        (r#"{"model":"m","n":0}"#, 1),
        (r#"{"model":"m","n":null}"#, 1),
        (r#"{"model":"m","n":"9"}"#, 1),
    ] {
        assert_eq!(Ask::read(body.as_bytes()).unwrap().choices, choices, "{body}");
    }
}

#[test]
fn refuses_what_two_readers_could_read_differently() {
    let a_boolean = |member| BodyError::Type { member, expected: "a boolean" };
    let table: &[(&[u8], BodyError, &str)] = &[
        (
            b"",
            BodyError::NotJson { line: 1, column: 0 },
            "the request body is not valid JSON (line 1, column 0)",
        ),
        (
            b"{\n\"model\":}",
            BodyError::NotJson { line: 2, column: 9 },
            "the request body is not valid JSON (line 2, column 9)",
        ),
        (
            b"{\"model\":\"m\"} x",
            BodyError::NotJson { line: 1, column: 15 },
            "the request body is not valid JSON (line 1, column 15)",
        ),
        (
            b"\x1f\x8b\x08",
            BodyError::NotUtf8 { offset: 1 },
            "the request body is not UTF-8 (byte 1); send it uncompressed",
        ),
        (
            b"{\"model\":\"\xff\"}",
            BodyError::NotUtf8 { offset: 10 },
            "the request body is not UTF-8 (byte 10); send it uncompressed",
        ),
        (b"[1]", BodyError::NotAnObject, "the request body must be a JSON object"),
        (b"null", BodyError::NotAnObject, "the request body must be a JSON object"),
        (b"{}", BodyError::MissingModel, "you must provide a 'model'"),
        (br#"{"model":""}"#, BodyError::MissingModel, "you must provide a 'model'"),
        (br#"{"model":null}"#, BodyError::MissingModel, "you must provide a 'model'"),
        (
            br#"{"model":"a","model":"a"}"#,
            BodyError::Duplicate("model"),
            "'model' is given more than once",
        ),
        (
            br#"{"model":"a","x":1,"\u006dodel":"b"}"#,
            BodyError::Duplicate("model"),
            "'model' is given more than once",
        ),
        (
            br#"{"model":"a","MODEL":"b"}"#,
            BodyError::Duplicate("model"),
            "'model' is given more than once",
        ),
        (br#"{"Model":"a"}"#, BodyError::MissingModel, "you must provide a 'model'"),
        (
            br#"{"model":"a","stream":false,"strea\u006d":true}"#,
            BodyError::Duplicate("stream"),
            "'stream' is given more than once",
        ),
        (
            br#"{"model":"a","stream_options":{},"stream_options":{}}"#,
            BodyError::Duplicate("stream_options"),
            "'stream_options' is given more than once",
        ),
        (
            br#"{"model":"a","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}"#,
            BodyError::Duplicate("stream_options.include_usage"),
            "'stream_options.include_usage' is given more than once",
        ),
        (
            br#"{"model":7}"#,
            BodyError::Type { member: "model", expected: "a string" },
            "'model' must be a string",
        ),
        (br#"{"model":"a","stream":"true"}"#, a_boolean("stream"), "'stream' must be a boolean"),
        (
            br#"{"model":"a","stream":true,"stream_options":[]}"#,
            BodyError::Type { member: "stream_options", expected: "an object" },
            "'stream_options' must be an object",
        ),
        (
            br#"{"model":"a","stream":true,"stream_options":{"include_usage":1}}"#,
            a_boolean("stream_options.include_usage"),
            "'stream_options.include_usage' must be a boolean",
        ),
    ];
    for (body, error, message) in table {
        let body_text = String::from_utf8_lossy(body);
        let found = Ask::read(body).expect_err(&body_text);
        assert_eq!(found, *error, "{body_text}");
        assert_eq!(found.to_string(), *message);
        let named = message.split('\'').nth(1);
        assert_eq!(found.param(), named, "{message}");
    }
}

#[test]
fn splices_and_nothing_else() {
    // Body, with model "n" and usage, where the model is spelled "m".
    let table = [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"model":"n","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{ "stream" : true , "model" : "m" }"#,
            r#"{ "stream" : true,"stream_options":{"include_usage":true} , "model" : "n" }"#,
        ),
        (
            r#"{"stream_options":{},"stream":true,"model":"m"}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,"model":"n"}"#,
        ),
        (
            r#"{"model":"m","stream_options":{ "x":[1,2] },"stream":true}"#,
            r#"{"model":"n","stream_options":{"include_usage":true, "x":[1,2] },"stream":true}"#,
        ),
        (
            r#"{"model":"m","stream_options": null,"stream":true}"#,
            r#"{"model":"n","stream_options": {"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_us\u0061ge":false}}"#,
            r#"{"model":"n","stream":true,"stream_options":{"include_us\u0061ge":true}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"n","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (r#"{"model":"m","stream":false}"#, r#"{"model":"n","stream":false}"#),
        // Unknown members, order, numbers, escapes, nested members of the same names, white space, mark.
        (
            "\u{feff}\r\n{\"z\":1e2,\"a\":1.0,\"b\":123456789012345678901234567890,\t\"t\":0.1e-7,\"model\":\"m\",\
             \"metadata\":{\"model\":\"m\",\"stream\":true},\"u\":\"\\u00e9\\/\\ud83d\\ude00 \u{4f60}\",\"z\":2}\n ",
            "\u{feff}\r\n{\"z\":1e2,\"a\":1.0,\"b\":123456789012345678901234567890,\t\"t\":0.1e-7,\"model\":\"n\",\
             \"metadata\":{\"model\":\"m\",\"stream\":true},\"u\":\"\\u00e9\\/\\ud83d\\ude00 \u{4f60}\",\"z\":2}\n ",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(patched(body, Some("n"), true), expected);
        let ask = read(expected);
        assert_eq!(ask.model, "n");
        assert!(!ask.stream || ask.include_usage == Some(true));
        let only_model = patched(body, Some("n"), false);
        assert_eq!(only_model.len(), body.len());
        assert_eq!(read(&only_model).include_usage, read(body).include_usage);
    }
}

#[test]
fn patched_bodies_reparse_to_the_expected_value() {
    let body = r#"{"messages":[{"role":"user","content":"model\":\""}],"model":"m","stream":true,"n":null}"#;
    for name in ["gpt-4o", "a\"b\\c", "line\nfeed", "\u{4f60}\u{1f600}\u{7f}", "", "</script>"] {
        let mut expected: Value = serde_json::from_str(body).unwrap();
        expected["model"] = json!(name);
        expected["stream_options"] = json!({"include_usage": true});
        let out: Value = serde_json::from_str(&patched(body, Some(name), true)).unwrap();
        assert_eq!(out, expected);
    }
    assert_eq!(patched(body, None, false), body);
}

#[test]
fn nothing_to_change_borrows() {
    let body = br#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let spans = Ask::read(body).unwrap().spans;
    for include_usage in [false, true] {
        let out = patch(body, &spans, changes(None, include_usage));
        assert!(matches!(out, Some(Cow::Borrowed(same)) if same == body));
    }
}

#[test]
fn spans_travel_and_fit_their_own_body_only() {
    let body = r#"{"model":"m","stream":true,"user":"u"}"#;
    let spans = read(body).spans;
    let bytes = postcard::to_allocvec(&spans).unwrap();
    assert!(bytes.len() <= 16, "{}", bytes.len());
    let spans: Spans = postcard::from_bytes(&bytes).unwrap();
    assert!(patch(body.as_bytes(), &spans, changes(Some("n"), true)).is_some());
    for other in [
        "",
        "{}",
        r#"{"model":"m","stream":true,"user":"uu"}"#,
        r#"{"model":"x","stream":true,"user":"u"}"#,
        r#"{ "model":"m","stream":true,"use":"u"}"#,
        r#"{"stream":true,"model":"m","user":"u"}"#,
    ] {
        assert_eq!(patch(other.as_bytes(), &spans, changes(Some("n"), true)), None, "{other}");
    }
}

#[test]
fn no_mutation_panics() {
    let bodies = [
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":false,"x":"\u00e9"},"max_tokens":1.5}"#,
        "\u{feff}{\"messages\":[{\"content\":\"\u{4f60}\"}],\"str\\u0065am\":true,\"model\":\"a\\\"b\"}",
    ];
    let mut seed = 1_u32;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for body in bodies {
        let spans = Ask::read(body.as_bytes()).unwrap().spans;
        for _ in 0..20_000 {
            let mut bytes = body.as_bytes().to_vec();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"{}[]\",:\\ nt1\xC3\x00"[random(14)]),
                    _ => bytes[at] = b"{}[]\",:\\ nt1\xC3\x00"[random(14)],
                }
                if bytes.is_empty() {
                    bytes.push(b'{');
                }
            }
            let _ = patch(&bytes, &spans, changes(Some("n"), true));
            match Ask::read(&bytes) {
                Err(_) => refused += 1,
                Ok(ask) => {
                    read += 1;
                    let out =
                        patch(&bytes, &ask.spans, changes(Some("n"), true)).expect("own spans");
                    let again = Ask::read(&out).expect("a patched body is valid");
                    assert_eq!(again.model, "n");
                    assert_eq!(again.include_usage, ask.stream.then_some(true));
                }
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}

#[test]
fn ten_megabytes_and_deep_nesting() {
    let content = "x\\n".repeat(10 * 1024 * 1024 / 3);
    let body = format!(r#"{{"input":"{content}","model":"m","stream":true}}"#);
    let out = patched(&body, Some("n"), true);
    assert!(
        out.ends_with(r#","model":"n","stream":true,"stream_options":{"include_usage":true}}"#)
    );
    assert_eq!(out.len(), body.len() + 40);
    let deep = format!(r#"{{"x":{}{},"model":"m"}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read(&deep).model, "m");
}

#[test]
fn model_names_in_a_path() {
    let longest = "x".repeat(MAX_MODEL_SEGMENT);
    for name in [
        "gpt-4o",
        "gpt-3.5-turbo",
        "meta-llama/Llama-3.3-70B-Instruct",
        "ft:gpt-4o:acme::abc",
        "deepseek/deepseek-r1:free",
        "@cf/meta/llama-3-8b",
        "claude-3-5-sonnet@20241022",
        "accounts/fireworks/models/qwen2p5_72b",
        "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-v1:0",
        "a..b/...",
        longest.as_str(),
    ] {
        assert!(is_safe_model_segment(name), "{name}");
    }
    let too_long = "x".repeat(MAX_MODEL_SEGMENT + 1);
    for name in [
        "",
        ".",
        "..",
        "../admin",
        "a/../b",
        "a/..",
        "a/./b",
        "/a",
        "a/",
        "a//b",
        "a?b",
        "a#b",
        "a%2e%2e",
        "a\\b",
        "a b",
        "a\n",
        "a\0",
        "a\u{7f}",
        "a\u{4f60}",
        "a;b",
        "a&b",
        too_long.as_str(),
    ] {
        assert!(!is_safe_model_segment(name), "{name:?}");
    }
}

#[test]
fn counts() {
    for (value, expected) in [
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", Some(u64::MAX)),
        ("1.9", Some(1)),
        ("1E2", Some(100)),
        ("-0", Some(0)),
        ("-1", None),
        ("null", None),
        ("\"1\"", None),
        ("[1]", None),
    ] {
        assert_eq!(count(value), expected, "{value}");
    }
}

#[test]
fn a_model_that_was_left_out_is_written_where_the_provider_calls_it_otherwise() {
    for (body, expected) in [
        (r#"{"input":"x"}"#, r#"{"model":"other","input":"x"}"#),
        (r#" { "input" : 1 }"#, r#" {"model":"other", "input" : 1 }"#),
        ("{ }", r#"{"model":"other" }"#),
        (r#"{"model":null,"input":1}"#, r#"{"model":"other","input":1}"#),
        (r#"{"model":"own","input":1}"#, r#"{"model":"other","input":1}"#),
    ] {
        let ask = Ask::read_or(body.as_bytes(), Some("default")).unwrap();
        assert_eq!(ask.model, if body.contains("own") { "own" } else { "default" });
        let same = patch(body.as_bytes(), &ask.spans, Changes::default()).unwrap();
        assert_eq!(same, body.as_bytes());
        let patched = patch(body.as_bytes(), &ask.spans, changes(Some("other"), false)).unwrap();
        assert_eq!(core::str::from_utf8(&patched).unwrap(), expected);
    }
    assert_eq!(Ask::read(br#"{"input":"x"}"#), Err(BodyError::MissingModel));
}

#[test]
fn the_bound_of_the_answer_gets_another_name_and_nothing_else_changes() {
    use LimitName::{MaxCompletionTokens as New, MaxTokens as Old};
    for (body, given, wanted, expected) in [
        (
            r#"{"model":"m","max_tokens":5}"#,
            Some(Old),
            New,
            r#"{"model":"m","max_completion_tokens":5}"#,
        ),
        (
            "{\"max_completion_tokens\" :\n 5e0 , \"model\":\"m\"}",
            Some(New),
            Old,
            "{\"max_tokens\" :\n 5e0 , \"model\":\"m\"}",
        ),
        // Of both, neither can be given up; and `max_tokens` elsewhere is somebody else's.
        (
            r#"{"model":"m","max_tokens":5,"max_completion_tokens":6}"#,
            None,
            Old,
            r#"{"model":"m","max_tokens":5,"max_completion_tokens":6}"#,
        ),
        (
            r#"{"model":"m","x":{"max_tokens":5}}"#,
            None,
            New,
            r#"{"model":"m","x":{"max_tokens":5}}"#,
        ),
        (r#"{"model":"m","max_token\u0073":5}"#, None, New, r#"{"model":"m","max_token\u0073":5}"#),
    ] {
        let spans = read(body).spans;
        assert_eq!(spans.limit(), given, "{body}");
        let changes = Changes { limit: Some(wanted), ..Changes::default() };
        let out = patch(body.as_bytes(), &spans, changes).unwrap();
        assert_eq!(core::str::from_utf8(&out), Ok(expected));
    }
    let body = r#"{"max_tokens":5,"model":"m","stream":true}"#;
    let changes = Changes { model: Some("n"), include_usage: true, limit: Some(New) };
    let out = patch(body.as_bytes(), &read(body).spans, changes).unwrap();
    assert_eq!(
        core::str::from_utf8(&out).unwrap(),
        r#"{"max_completion_tokens":5,"model":"n","stream":true,"stream_options":{"include_usage":true}}"#
    );
}
