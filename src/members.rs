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

/// What Keyward reads of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Never empty.
    pub model: Cow<'a, str>,
    pub stream: bool,
    /// `stream_options.include_usage`; `None` where it is absent, `null`, or the answer is not streamed.
    pub include_usage: Option<bool>,
    /// The largest of `max_completion_tokens`, `max_tokens` and `max_output_tokens`: what the answer may take.
    pub max_tokens: Option<u64>,
    /// `n` or `best_of`: how many answers are made, each of which may take that much. At least 1.
    pub choices: u64,
    /// Bytes that the prompt takes, or a little more: what the model reads, without uploads.
    pub prompt_bytes: usize,
    pub spans: Spans,
}

impl<'a> Ask<'a> {
    /// # Errors
    ///
    /// Whatever keeps gateway and provider from reading the same request. The messages are fit for a client.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        Self::read_or(body, None)
    }

    /// Like [`Self::read`], for an endpoint that has a model of its own where the request names none.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_or(body: &'a [u8], default_model: Option<&'a str>) -> Result<Self, BodyError> {
        let length = u32::try_from(body.len()).map_err(|_| BodyError::TooLarge)?;
        let text = core::str::from_utf8(body)
            .map_err(|error| BodyError::NotUtf8 { offset: error.valid_up_to() })?;
        // RFC 8259, section 8.1: a parser may ignore a byte order mark. It stays in the body.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);

        let (mut model, mut stream, mut stream_options) = (None, None, None);
        let (mut max_tokens, mut duplicate, mut other_case) = (None, None, false);
        let mut choices = 1;
        let mut limits: [Option<&'a str>; 2] = [None; 2];
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
                let [old, new] = &mut limits;
                match name {
                    "max_tokens" => *old = Some(value),
                    "max_completion_tokens" => *new = Some(value),
                    _ => {}
                }
            }
            // Of Google's API, whose requests bound their answer there.
            "generationConfig" => max_tokens = max_tokens.max(most_tokens(value)),
            "n" | "best_of" => choices = count(value).unwrap_or_default().max(choices),
            // Decoders that ignore case (Go's) would take `Model` for it.
            _ => other_case |= name.eq_ignore_ascii_case("model"),
        })
        .map_err(|error| match error.classify() {
            serde_json::error::Category::Data => BodyError::NotAnObject,
            _ => BodyError::NotJson { line: error.line(), column: error.column() },
        })?;
        let ambiguous = other_case && (model.is_some() || default_model.is_some());
        if let Some(name) = duplicate.or(ambiguous.then_some("model")) {
            return Err(BodyError::Duplicate(name));
        }

        let mut model_edit = ModelEdit::Value;
        let (model_at, model) = match (model.filter(|value| *value != "null"), default_model) {
            (Some(value), _) => {
                let Text(name) = serde_json::from_str(value)
                    .map_err(|_| BodyError::Type { member: "model", expected: "a string" })?;
                (Span::of(value, body), name)
            }
            (None, Some(default)) => {
                let at = model.map_or_else(
                    || {
                        let members = text.trim_start().get(1..).unwrap_or_default();
                        let only = members.trim_start().starts_with('}');
                        model_edit = if only { ModelEdit::Only } else { ModelEdit::First };
                        Span::empty(Span::of(members, body).start)
                    },
                    |null| Span::of(null, body),
                );
                (at, Cow::Borrowed(default))
            }
            (None, None) => return Err(BodyError::MissingModel),
        };
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
        let limit = match limits {
            [Some(value), None] => LimitEdit::plan(body, LimitName::MaxTokens, value),
            [None, Some(value)] => LimitEdit::plan(body, LimitName::MaxCompletionTokens, value),
            _ => None,
        };
        let mut spans = Spans { length, model: model_at, model_edit, usage, limit, check: 0 };
        spans.check = spans.digest(body).unwrap_or_default();
        let (stream, prompt_bytes) = (streamed.is_some(), body.len());
        Ok(Self { model, stream, include_usage, max_tokens, choices, prompt_bytes, spans })
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
    /// No `multipart/form-data`, for this reason.
    NotAForm(&'static str),
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
            Self::TooLarge
            | Self::NotUtf8 { .. }
            | Self::NotJson { .. }
            | Self::NotAnObject
            | Self::NotAForm(_) => None,
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
            Self::NotAForm(reason) => {
                write!(f, "the request body is not valid multipart/form-data: {reason}")
            }
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
    /// The value of `model`, in JSON with its quotes, or where there is none the place for the member.
    model: Span,
    model_edit: ModelEdit,
    /// What makes a stream report its usage; `None` where it does already, or is no stream.
    usage: Option<UsageEdit>,
    /// The one member that bounds the answer of chat completions; `None` where there is none, or both are.
    limit: Option<LimitEdit>,
    /// Of the bytes in and around the spans, so that a body which another filter changed is noticed.
    check: u32,
}

impl Spans {
    /// Of a body in which the model is plain text; `model` is a slice of `body`.
    pub fn of_text(model: &str, body: &[u8]) -> Self {
        let mut spans = Self {
            length: body.len() as u32,
            model: Span::of(model, body),
            model_edit: ModelEdit::Text,
            usage: None,
            limit: None,
            check: 0,
        };
        spans.check = spans.digest(body).unwrap_or_default();
        spans
    }

    /// What the client calls the bound of the answer, where another name can be put in its place.
    pub fn limit(&self) -> Option<LimitName> {
        self.limit.map(|edit| edit.name)
    }

    /// FNV-1a. Not against an attacker: whoever can change the body here is inside the same proxy.
    fn digest(&self, body: &[u8]) -> Option<u32> {
        const AROUND: usize = 16;
        let spans =
            [Some(self.model), self.usage.map(|edit| edit.at), self.limit.map(|edit| edit.at)];
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

/// What another model name is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ModelEdit {
    /// The value of `model`.
    Value,
    /// The same, as it is and not in JSON.
    Text,
    /// A member before others.
    First,
    /// The only member.
    Only,
}

impl ModelEdit {
    fn text(self, name: &str) -> Option<String> {
        if self == Self::Text {
            return Some(name.to_owned());
        }
        let name = serde_json::to_string(name).ok()?;
        Some(match self {
            Self::Value | Self::Text => name,
            Self::First => format!("\"model\":{name},"),
            Self::Only => format!("\"model\":{name}"),
        })
    }
}

/// OpenAI's two names for the most tokens that chat completions may answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitName {
    /// Before reasoning models.
    MaxTokens,
    MaxCompletionTokens,
}

impl LimitName {
    /// In JSON.
    const fn quoted(self) -> &'static str {
        match self {
            Self::MaxTokens => "\"max_tokens\"",
            Self::MaxCompletionTokens => "\"max_completion_tokens\"",
        }
    }
}

/// The name of a member, quotes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct LimitEdit {
    at: Span,
    name: LimitName,
}

impl LimitEdit {
    /// `None` where the name is written with escapes, which nobody does.
    fn plan(body: &[u8], name: LimitName, value: &str) -> Option<Self> {
        let before = body.get(..Span::of(value, body).start as usize)?.trim_ascii_end();
        let before = before.strip_suffix(b":")?.trim_ascii_end();
        let start = before.strip_suffix(name.quoted().as_bytes())?.len();
        Some(Self { at: Span { start: start as u32, end: before.len() as u32 }, name })
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

/// How a request differs for its provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    /// Another model.
    pub model: Option<&'a str>,
    /// A stream reports its usage.
    pub include_usage: bool,
    /// Another name for [`Spans::limit`].
    pub limit: Option<LimitName>,
}

/// `body` with these changes and no other.
///
/// Borrowed where nothing changes. `None`: the spans are not those of this body (another filter changed it); read
/// it again.
pub fn patch<'a>(body: &'a [u8], spans: &Spans, changes: Changes<'_>) -> Option<Cow<'a, [u8]>> {
    if body.len() != spans.length as usize || spans.digest(body)? != spans.check {
        return None;
    }
    let model = match changes.model {
        Some(name) => Some((spans.model, spans.model_edit.text(name)?)),
        None => None,
    };
    let usage = spans.usage.filter(|_| changes.include_usage).map(|edit| (edit.at, edit.text()));
    let limit = spans.limit.zip(changes.limit).map(|(edit, name)| (edit.at, name.quoted()));
    let model = model.as_ref().map(|(span, text)| (*span, text.as_str()));
    let mut splices = [model, usage, limit];
    in_order(&mut splices);
    if splices == [None; 3] {
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

/// By place. Few enough to need no sort.
fn in_order(splices: &mut [Option<(Span, &str)>; 3]) {
    let place = |splice: &Option<(Span, &str)>| splice.map(|(span, _)| span);
    let order = |a: &mut _, b: &mut _| {
        if place(a) > place(b) {
            core::mem::swap(a, b);
        }
    };
    let [a, b, c] = splices;
    order(a, b);
    order(b, c);
    order(a, b);
}

/// Whether a model name can stand in the path of an upstream URL as it is, and nowhere but there.
///
/// ASCII letters, digits and `/ : . _ - @`, as real names have; no empty, `.` or `..` segment.
pub fn is_safe_model_segment(name: &str) -> bool {
    name.len() <= MAX_MODEL_SEGMENT
        && name.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/:._-@".contains(&byte))
}

/// `maxOutputTokens` of a `generationConfig`.
fn most_tokens(config: &str) -> Option<u64> {
    let mut most = None;
    walk(config, |name, value| {
        if name == "maxOutputTokens" {
            most = count(value);
        }
    })
    .ok()?;
    most
}

/// Calls `each` with every member of a JSON object: its name, unescaped, and the bytes of its value.
///
/// Values are checked for syntax and not read. A name that comes twice is passed twice.
pub(crate) fn walk<'a>(
    object: &'a str,
    mut each: impl FnMut(&str, &'a str),
) -> Result<(), serde_json::Error> {
    // One walk for all that come by: its code is long.
    walk_each(object, &mut each)
}

fn walk_each<'a>(
    object: &'a str,
    each: &mut dyn FnMut(&str, &'a str),
) -> Result<(), serde_json::Error> {
    struct Walk<'f, 'de>(&'f mut dyn FnMut(&str, &'de str));

    impl<'de> Visitor<'de> for Walk<'_, 'de> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
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

/// A JSON text that is whole. All of the core reads by way of `str`: a reader over bytes beside it would be each type's
/// code once more.
pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    serde_json::from_str(core::str::from_utf8(json).ok()?).ok()
}

/// A JSON number, infinite where it is too large. The standard library's reader would come with a table of ten
/// kilobytes.
pub(crate) fn float(value: &str) -> Option<f64> {
    let too_large = || {
        let end = if value.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
        value.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()).then_some(end)
    };
    serde_json::from_str(value).ok().or_else(too_large)
}

/// A JSON number as a count: a fraction is cut off, what exceeds `u64` is `u64::MAX`. `None`: negative, or no number.
pub(crate) fn count(value: &str) -> Option<u64> {
    let number = || float(value).filter(|number| *number >= 0.0);
    value.parse().ok().or_else(|| number().map(|number| number as u64))
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
