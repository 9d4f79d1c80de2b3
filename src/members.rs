//! The members of a JSON object, read and replaced without touching the bytes of any other.
//!
//! A request for a provider of the same format is patched, never re-serialized: key order, number spelling, white
//! space and members that Keyward has never heard of reach the provider as the client wrote them. A prompt cache
//! keys on exactly those bytes.

use core::fmt;
use std::borrow::Cow;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Longest model name in bytes that may enter a path.
const MAX_MODEL_SEGMENT: usize = 256;

/// What Keyward reads of a request to chat completions, completions, embeddings, moderations or responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Never empty.
    pub model: Cow<'a, str>,
    pub stream: bool,
    /// `stream_options.include_usage`; `None` where it is absent, `null`, or the answer is not streamed.
    pub include_usage: Option<bool>,
    /// The largest of `max_completion_tokens`, `max_tokens` and `max_output_tokens`: what the answer may take.
    pub max_tokens: Option<u64>,
    pub spans: Spans,
}

impl<'a> Ask<'a> {
    /// # Errors
    ///
    /// Whatever keeps gateway and provider from reading the same request. The messages are fit for a client.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let length = u32::try_from(body.len()).map_err(|_| BodyError::TooLarge)?;
        let text = core::str::from_utf8(body)
            .map_err(|error| BodyError::NotUtf8 { offset: error.valid_up_to() })?;
        // RFC 8259, section 8.1: a parser may ignore a byte order mark. It stays in the body.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);

        let (mut model, mut stream, mut stream_options) = (None, None, None);
        let (mut max_tokens, mut duplicate, mut other_case) = (None, None, false);
        let mut set = |member: &mut Option<&'a str>, name, value| {
            if member.replace(value).is_some() {
                duplicate = Some(name);
            }
        };
        walk(text, |name, value| match name {
            "model" => set(&mut model, "model", value),
            "stream" => set(&mut stream, "stream", value),
            "stream_options" => set(&mut stream_options, "stream_options", value),
            "max_completion_tokens" | "max_tokens" | "max_output_tokens" => {
                max_tokens = max_tokens.max(count(value));
            }
            // Decoders that ignore case (Go's) would take `Model` for it.
            _ => other_case |= name.eq_ignore_ascii_case("model"),
        })
        .map_err(|error| match error.classify() {
            serde_json::error::Category::Data => BodyError::NotAnObject,
            _ => BodyError::NotJson { line: error.line(), column: error.column() },
        })?;
        let model_value = model.filter(|value| *value != "null").ok_or(BodyError::MissingModel)?;
        if let Some(name) = duplicate.or(other_case.then_some("model")) {
            return Err(BodyError::Duplicate(name));
        }

        let Text(model) = serde_json::from_str(model_value)
            .map_err(|_| BodyError::Type { member: "model", expected: "a string" })?;
        if model.is_empty() {
            return Err(BodyError::MissingModel);
        }
        let streamed = stream.filter(|value| *value == "true");
        if streamed.is_none() && !matches!(stream, None | Some("false" | "null")) {
            return Err(BodyError::Type { member: "stream", expected: "a boolean" });
        }
        let (include_usage, usage) = match streamed {
            Some(stream) => UsageEdit::plan(body, stream, stream_options)?,
            None => (None, None),
        };
        let mut spans = Spans { length, model: Span::of(model_value, body), usage, check: 0 };
        spans.check = spans.digest(body).unwrap_or_default();
        Ok(Self { model, stream: streamed.is_some(), include_usage, max_tokens, spans })
    }
}

/// Why a request body cannot be used. All of these are the client's fault (400; `TooLarge`: 413).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    TooLarge,
    /// Also what a compressed body is.
    NotUtf8 {
        offset: usize,
    },
    /// Counted from 1, the column in bytes.
    NotJson {
        line: usize,
        column: usize,
    },
    NotAnObject,
    /// A member given twice: gateway and provider could each read another one.
    Duplicate(&'static str),
    MissingModel,
    Type {
        member: &'static str,
        expected: &'static str,
    },
}

impl BodyError {
    /// The member at fault: `param` of an OpenAI error.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::Duplicate(member) | Self::Type { member, .. } => Some(member),
            Self::MissingModel => Some("model"),
            Self::TooLarge | Self::NotUtf8 { .. } | Self::NotJson { .. } | Self::NotAnObject => {
                None
            }
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the request body is too large"),
            Self::NotUtf8 { offset } => {
                write!(f, "the request body is not UTF-8 (byte {offset}); send it uncompressed")
            }
            Self::NotJson { line, column } => {
                write!(f, "the request body is not valid JSON (line {line}, column {column})")
            }
            Self::NotAnObject => f.write_str("the request body must be a JSON object"),
            Self::Duplicate(member) => write!(f, "'{member}' is given more than once"),
            Self::MissingModel => f.write_str("you must provide a 'model'"),
            Self::Type { member, expected } => write!(f, "'{member}' must be {expected}"),
        }
    }
}

impl core::error::Error for BodyError {}

/// Where a body is to be patched: found once by [`Ask::read`], applied to the same bytes for each attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    /// Of the body.
    length: u32,
    /// The value of `model`, quotes included.
    model: Span,
    /// What makes a stream report its usage; `None` where it does already, or is no stream.
    usage: Option<UsageEdit>,
    /// Of the bytes in and around the spans, so that a body which another filter changed is noticed.
    check: u32,
}

impl Spans {
    /// FNV-1a. Not against an attacker: whoever can change the body here is inside the same proxy.
    fn digest(&self, body: &[u8]) -> Option<u32> {
        const AROUND: usize = 16;
        let spans = [Some(self.model), self.usage.map(|edit| edit.at)];
        let mut digest = 0x811C_9DC5_u32;
        for span in spans.into_iter().flatten() {
            let start = (span.start as usize).saturating_sub(AROUND);
            let end = (span.end as usize).saturating_add(AROUND).min(body.len());
            for byte in body.get(start..end)? {
                digest = (digest ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
            }
        }
        Some(digest)
    }
}

/// Bytes `start..end` of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `value`, a slice of `body`, lies in it. `body` is no longer than `u32` counts.
    fn of(value: &str, body: &[u8]) -> Self {
        let start = value.as_ptr().addr().saturating_sub(body.as_ptr().addr());
        Self { start: start as u32, end: start.saturating_add(value.len()) as u32 }
    }

    fn empty(at: u32) -> Self {
        Self { start: at, end: at }
    }
}

/// The splice that sets `stream_options.include_usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct UsageEdit {
    at: Span,
    text: UsageText,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum UsageText {
    /// The whole member, behind another.
    Member,
    /// The value of `stream_options`.
    Object,
    /// A member before others.
    First,
    /// The only member.
    Only,
    /// The value of `include_usage`.
    Value,
}

impl UsageEdit {
    /// Whether `include_usage` is given, and how it becomes true. `stream` is the value of that member.
    fn plan(
        body: &[u8],
        stream: &str,
        stream_options: Option<&str>,
    ) -> Result<(Option<bool>, Option<Self>), BodyError> {
        let Some(options) = stream_options else {
            let at = Span::empty(Span::of(stream, body).end);
            return Ok((None, Some(Self { at, text: UsageText::Member })));
        };
        if options == "null" {
            return Ok((None, Some(Self { at: Span::of(options, body), text: UsageText::Object })));
        }
        let (mut members, mut include) = (0_u32, None);
        let mut duplicate = false;
        walk(options, |name, value| {
            members += 1;
            if name == "include_usage" {
                duplicate |= include.replace(value).is_some();
            }
        })
        .map_err(|_| BodyError::Type { member: "stream_options", expected: "an object" })?;
        if duplicate {
            return Err(BodyError::Duplicate("stream_options.include_usage"));
        }
        let Some(value) = include else {
            let text = if members == 0 { UsageText::Only } else { UsageText::First };
            let at = Span::empty(Span::of(options, body).start + 1);
            return Ok((None, Some(Self { at, text })));
        };
        let edit = Self { at: Span::of(value, body), text: UsageText::Value };
        match value {
            "true" => Ok((Some(true), None)),
            "false" => Ok((Some(false), Some(edit))),
            "null" => Ok((None, Some(edit))),
            _ => Err(BodyError::Type {
                member: "stream_options.include_usage",
                expected: "a boolean",
            }),
        }
    }

    fn text(self) -> &'static str {
        match self.text {
            UsageText::Member => r#","stream_options":{"include_usage":true}"#,
            UsageText::Object => r#"{"include_usage":true}"#,
            UsageText::First => r#""include_usage":true,"#,
            UsageText::Only => r#""include_usage":true"#,
            UsageText::Value => "true",
        }
    }
}

/// `body` with another model and, if `include_usage`, with a stream that reports its usage.
///
/// Borrowed where nothing changes. `None`: the spans are not those of this body (another filter changed it); read
/// it again.
pub fn patch<'a>(
    body: &'a [u8],
    spans: &Spans,
    model: Option<&str>,
    include_usage: bool,
) -> Option<Cow<'a, [u8]>> {
    if body.len() != spans.length as usize || spans.digest(body)? != spans.check {
        return None;
    }
    let model = match model {
        Some(name) => Some((spans.model, serde_json::to_string(name).ok()?)),
        None => None,
    };
    let usage = spans.usage.filter(|_| include_usage).map(|edit| (edit.at, edit.text()));
    let model = model.as_ref().map(|(span, text)| (*span, text.as_str()));
    let mut splices = [model, usage];
    splices.sort_by_key(|splice| splice.map(|(span, _)| span));
    if splices == [None, None] {
        return Some(Cow::Borrowed(body));
    }
    let added: usize = splices.iter().flatten().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut copied = 0;
    for (span, text) in splices.into_iter().flatten() {
        out.extend_from_slice(body.get(copied..span.start as usize)?);
        out.extend_from_slice(text.as_bytes());
        copied = span.end as usize;
    }
    out.extend_from_slice(body.get(copied..)?);
    Some(Cow::Owned(out))
}

/// Whether a model name can stand in the path of an upstream URL as it is, and nowhere but there.
///
/// ASCII letters, digits and `/ : . _ - @`, as real names have; no empty, `.` or `..` segment.
pub fn is_safe_model_segment(name: &str) -> bool {
    name.len() <= MAX_MODEL_SEGMENT
        && name.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/:._-@".contains(&byte))
}

/// Calls `each` with every member of a JSON object: its name, unescaped, and the bytes of its value.
///
/// Values are checked for syntax and not read. A name that comes twice is passed twice.
pub(crate) fn walk<'a>(
    object: &'a str,
    each: impl FnMut(&str, &'a str),
) -> Result<(), serde_json::Error> {
    struct Walk<F>(F);

    impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Walk<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
            while let Some(Text(name)) = members.next_key()? {
                let value: &RawValue = members.next_value()?;
                (self.0)(&name, value.get());
            }
            Ok(())
        }
    }

    let mut json = serde_json::Deserializer::from_str(object);
    json.deserialize_map(Walk(each))?;
    json.end()
}

/// A JSON number as a count: a fraction is cut off, what exceeds `u64` is `u64::MAX`. `None`: negative, or no number.
pub(crate) fn count(value: &str) -> Option<u64> {
    let number = || value.parse::<f64>().ok().filter(|number| *number >= 0.0);
    value.parse().ok().or_else(|| number().map(|number| number as u64))
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &str) -> Ask<'_> {
        Ask::read(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    fn patched(body: &str, model: Option<&str>, include_usage: bool) -> String {
        let spans = read(body).spans;
        let out = patch(body.as_bytes(), &spans, model, include_usage).expect("its own spans");
        String::from_utf8(out.into_owned()).unwrap()
    }

    #[test]
    fn reads_what_the_gateway_needs() {
        let table: &[(&str, &str, bool, Option<bool>, Option<u64>)] = &[
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
            assert_eq!(ask.model, *model, "{body}");
            assert_eq!(ask.stream, *stream, "{body}");
            assert_eq!(ask.include_usage, *include_usage, "{body}");
            assert_eq!(ask.max_tokens, *max_tokens, "{body}");
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
        for name in ["gpt-4o", "a\"b\\c", "line\nfeed", "\u{4f60}\u{1f600}\u{7f}", "", "</script>"]
        {
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
            let out = patch(body, &spans, None, include_usage);
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
        assert!(patch(body.as_bytes(), &spans, Some("n"), true).is_some());
        for other in [
            "",
            "{}",
            r#"{"model":"m","stream":true,"user":"uu"}"#,
            r#"{"model":"x","stream":true,"user":"u"}"#,
            r#"{ "model":"m","stream":true,"use":"u"}"#,
            r#"{"stream":true,"model":"m","user":"u"}"#,
        ] {
            assert_eq!(patch(other.as_bytes(), &spans, Some("n"), true), None, "{other}");
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
                let _ = patch(&bytes, &spans, Some("n"), true);
                match Ask::read(&bytes) {
                    Err(_) => refused += 1,
                    Ok(ask) => {
                        read += 1;
                        let out = patch(&bytes, &ask.spans, Some("n"), true).expect("own spans");
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
}
