//! One event of a stream, understood on its own.

use memchr::memchr_iter;

use super::is_absent;
use crate::members;
use crate::sse::Event;
use crate::usage::{self, Usage};

/// What an event is to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing of the answer yet: comments, Azure's prompt filter results, the announcements of a response. An
    /// attempt that goes no further can still be replaced by another one.
    Preamble,
    Content,
    /// The chunk that `stream_options.include_usage` adds: usage, no choices.
    UsageOnly,
    /// The answer failed.
    Error,
    /// `[DONE]`, or the last event of a response.
    End,
}

/// One event, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation<'a> {
    pub class: Class,
    /// Cumulative.
    pub usage: Option<Usage>,
    /// The answer is complete with this event, or has failed; what follows is form.
    pub ended: bool,
    /// Of [`Class::Error`]: the `error` object, or the event's data where the error has none.
    pub error: Option<&'a [u8]>,
}

impl Observation<'_> {
    pub(super) fn of(class: Class) -> Self {
        let ended = matches!(class, Class::Error | Class::End);
        Self { class, usage: None, ended, error: None }
    }
}

/// Understands one event on its own.
///
/// Ordinary deltas, nearly all of a stream, are looked through once and not parsed.
pub fn classify<'a>(event: &'a Event<'_>) -> Observation<'a> {
    let data = event.data.trim_ascii();
    let named = event.name.and_then(|name| lifecycle(core::str::from_utf8(name).ok()?));
    match data {
        b"" => return Observation::of(named.unwrap_or(Class::Preamble)),
        b"[DONE]" => return Observation::of(Class::End),
        _ => {}
    }
    if named.is_none() && !is_telling(data) {
        return Observation::of(Class::Content);
    }
    let chunk = core::str::from_utf8(data).ok().and_then(Chunk::read).unwrap_or_default();
    let usage = chunk.usage.and_then(|usage| usage::parse(usage.as_bytes()));
    let class = match (named.or(chunk.lifecycle), chunk.choices) {
        _ if chunk.error.is_some() => Class::Error,
        (Some(class), _) => class,
        (None, Choices::Empty) if usage.is_some() => Class::UsageOnly,
        (None, Choices::Empty) => Class::Preamble,
        (None, _) => Class::Content,
    };
    let Observation { ended, .. } = Observation::of(class);
    Observation {
        class,
        usage,
        ended: ended || matches!(chunk.choices, Choices::Finished),
        error: (class == Class::Error).then(|| chunk.error.map_or(data, str::as_bytes)),
    }
}

/// Whether a chunk of a chat completion has nothing of the answer yet, as the first often is: all that its deltas say is
/// the role.
pub(super) fn announces(data: &[u8]) -> bool {
    let (mut choices, mut announced) = ("[]", true);
    let read = |json| serde_json::from_str::<Vec<&serde_json::value::RawValue>>(json);
    let Ok(data) = core::str::from_utf8(data) else { return false };
    let _ = members::walk(data, |name, value| match name {
        "choices" => choices = value,
        "error" | "usage" => announced &= is_absent(value),
        _ => {}
    });
    let choices = read(choices).unwrap_or_default();
    for choice in &choices {
        let mut is_delta = false;
        let _ = members::walk(choice.get(), |name, value| match name {
            "delta" => {
                let walked = members::walk(value, |name, value| {
                    announced &= name == "role" || says_nothing(value);
                });
                is_delta = walked.is_ok();
            }
            "index" => {}
            _ => announced &= is_absent(value),
        });
        announced &= is_delta;
    }
    announced && !choices.is_empty()
}

fn says_nothing(value: &str) -> bool {
    is_absent(value) || matches!(value, "[]" | "{}")
}

/// The types of events that tell the state of a response or message; all others are its content.
fn lifecycle(kind: &str) -> Option<Class> {
    match kind {
        "response.created" | "response.queued" | "response.in_progress" => Some(Class::Preamble),
        // Anthropic's.
        "message_start" | "ping" => Some(Class::Preamble),
        "message_stop" => Some(Class::End),
        "response.completed" | "response.incomplete" | "response.cancelled" => Some(Class::End),
        // Audio and images; the last is Mistral's.
        "speech.audio.done"
        | "transcript.text.done"
        | "image_generation.completed"
        | "image_edit.completed"
        | "transcription.done" => Some(Class::End),
        "response.failed" | "error" => Some(Class::Error),
        _ => None,
    }
}

/// Whether an event may hold more than content, by its JSON strings alone.
///
/// Quotes inside a string are escaped, so what matches is a whole string, mostly a name. Many services send
/// `"usage":null` and `"finish_reason":null` in every delta: those tell nothing. One pass over the quotes, because
/// without SIMD, as in wasm, five substring searches take longer than parsing (0.7 µs, 0.4 µs; this: 0.2 µs).
pub(super) fn is_telling(data: &[u8]) -> bool {
    memchr_iter(b'"', data).any(|quote| is_telling_at(data, quote))
}

/// The same of the string that begins with one quote.
pub(super) fn is_telling_at(data: &[u8], quote: usize) -> bool {
    let text = data.get(quote + 1..).unwrap_or_default();
    match text.first() {
        Some(b'u') => {
            text.strip_prefix(b"usage\"").is_some_and(is_set)
                || text.starts_with(b"usageMetadata\"")
        }
        Some(b'f') => {
            text.strip_prefix(b"finish_reason\"").is_some_and(is_set)
                || text.starts_with(b"finishReason\"")
        }
        Some(b'e') => text.strip_prefix(b"error\"").is_some_and(is_set),
        Some(b'c') => text.strip_prefix(b"choices\"").is_some_and(is_empty_array),
        Some(b'r') => text.starts_with(b"response.") && names_lifecycle(text),
        Some(b'm') => text.starts_with(b"message_st") && names_lifecycle(text),
        Some(b'p') => text.starts_with(b"ping\""),
        Some(b't') => text.starts_with(b"trans") && names_lifecycle(text),
        Some(b's') => text.starts_with(b"speech.") && names_lifecycle(text),
        Some(b'i') => text.starts_with(b"image_") && names_lifecycle(text),
        _ => false,
    }
}

/// Whether what follows a string is not `: null` or `: ""`. `true` too where the string is no name.
fn is_set(after: &[u8]) -> bool {
    match after.trim_ascii_start().strip_prefix(b":") {
        Some(value) => {
            let value = value.trim_ascii_start();
            !value.starts_with(b"null") && !value.starts_with(b"\"\"")
        }
        None => true,
    }
}

fn is_empty_array(after: &[u8]) -> bool {
    after
        .trim_ascii_start()
        .strip_prefix(b":")
        .and_then(|value| value.trim_ascii_start().strip_prefix(b"["))
        .is_some_and(|items| items.trim_ascii_start().starts_with(b"]"))
}

fn names_lifecycle(text: &[u8]) -> bool {
    let kind = text.split(|byte| *byte == b'"').next().unwrap_or_default();
    core::str::from_utf8(kind).ok().and_then(lifecycle).is_some()
}

/// What is read of one event's JSON.
#[derive(Default)]
struct Chunk<'a> {
    lifecycle: Option<Class>,
    /// Top-level, or that of a response.
    usage: Option<&'a str>,
    error: Option<&'a str>,
    choices: Choices,
}

#[derive(Default, Clone, Copy)]
enum Choices {
    /// There is no such member, as in responses.
    #[default]
    Absent,
    Empty,
    Open,
    /// One has its `finish_reason`.
    Finished,
}

impl<'a> Chunk<'a> {
    fn read(data: &'a str) -> Option<Self> {
        let mut chunk = Self::default();
        members::walk(data, |name, value| match name {
            "type" => chunk.lifecycle = lifecycle(value.trim_matches('"')),
            "choices" | "candidates" => chunk.choices = choices(value),
            "usageMetadata" => chunk.report("usage", value),
            // Google's, of a prompt that it does not answer.
            "promptFeedback" if value.contains("\"blockReason\"") => {
                chunk.choices = Choices::Finished;
            }
            "response" | "message" => {
                // Not an object: nothing to see, and no reason to lose the rest.
                let _ = members::walk(value, |name, value| chunk.report(name, value));
            }
            _ => chunk.report(name, value),
        })
        .ok()?;
        Some(chunk)
    }

    fn report(&mut self, name: &str, value: &'a str) {
        match name {
            "usage" if !is_absent(value) => self.usage = Some(value),
            "error" if !is_absent(value) => self.error = Some(value),
            _ => {}
        }
    }
}

fn choices(array: &str) -> Choices {
    let Ok(items) = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(array) else {
        return Choices::Absent;
    };
    let mut found = if items.is_empty() { Choices::Empty } else { Choices::Open };
    for choice in items {
        // A choice that is no object has no reason to finish.
        let _ = members::walk(choice.get(), |name, value| {
            if matches!(name, "finish_reason" | "finishReason") && !is_absent(value) {
                found = Choices::Finished;
            }
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(name: &'a str, data: &'a str) -> Event<'a> {
        let name = (!name.is_empty()).then_some(name.as_bytes());
        Event { raw: b"", name, data: data.as_bytes().into() }
    }

    #[test]
    fn a_chunk_that_only_tells_the_role_announces() {
        for (choices, expected) in [
            (r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}"#, true),
            (
                r#"{"delta":{"role":"assistant","content":null,"refusal":null},"logprobs":null}"#,
                true,
            ),
            (r#"{"delta":{"role":"assistant","tool_calls":[]}}"#, true),
            (r#"{"delta":{}},{"delta":{"role":"assistant"}}"#, true),
            (r#"{"delta":{"role":"assistant"}},{"delta":{"content":"a"}}"#, false),
            (r#"{"delta":{"role":"assistant","content":" "}}"#, false),
            (r#"{"delta":{"role":"assistant","reasoning_content":"a"}}"#, false),
            (r#"{"delta":{"role":"assistant","tool_calls":[{"index":0}]}}"#, false),
            (r#"{"delta":{},"finish_reason":"stop"}"#, false),
            (r#"{"text":""}"#, false),
            (r#"{"delta":""}"#, false),
            ("", false),
        ] {
            let data = format!(r#"{{"id":"c","choices":[{choices}],"usage":null}}"#);
            assert_eq!(announces(data.as_bytes()), expected, "{data}");
        }
        assert!(!announces(br#"{"choices":[{"delta":{}}],"error":{"code":500}}"#));
        assert!(!announces(b"[DONE]"));
    }

    #[test]
    fn events_of_chat_completions_and_completions() {
        use Class::{Content, End, Error, Preamble, UsageOnly};
        // Data, class, prompt tokens, ended.
        let table: &[(&str, Class, Option<u64>, bool)] = &[
            ("", Preamble, None, false),
            ("[DONE]", End, None, true),
            (" [DONE]\n", End, None, true),
            (
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
                Content,
                None,
                false,
            ),
            (
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null}"#,
                Content,
                None,
                false,
            ),
            (
                r#"{"choices":[{"delta":{"content":"usage"},"finish_reason":""}],"error": null}"#,
                Content,
                None,
                false,
            ),
            (
                r#"{"choices":[{"delta":{"content":"\"error\":{}, \"usage\":{\"prompt_tokens\":7}"}}]}"#,
                Content,
                None,
                false,
            ),
            (
                r#"{"choices":[{"delta":{"content":"error"},"finish_reason":null}]}"#,
                Content,
                None,
                false,
            ),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, Content, None, true),
            (
                r#"{"choices":[{"text":"","finish_reason" : "length"},{"text":"a","finish_reason":null}]}"#,
                Content,
                None,
                true,
            ),
            (
                r#"{"choices":[{"delta":{"finish_reason":"stop"},"finish_reason":null}]}"#,
                Content,
                None,
                false,
            ),
            (r#"{"choices":[],"usage":{"prompt_tokens":7}}"#, UsageOnly, Some(7), false),
            (r#"{"usage":{"prompt_tokens":7},"choices": [ ] }"#, UsageOnly, Some(7), false),
            (r#"{"choices":[],"usage":null}"#, Preamble, None, false),
            (
                r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
                Preamble,
                None,
                false,
            ),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7}}"#,
                Content,
                Some(7),
                true,
            ),
            (
                r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":7}}"#,
                Content,
                Some(7),
                false,
            ),
            (r#"{"error":{"message":"m"}}"#, Error, None, true),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"error"}],"error":{"code":502},"usage":{"prompt_tokens":7}}"#,
                Error,
                Some(7),
                true,
            ),
            (r#"{"choices":[{"delta":{"error":{"code":1}}}],"error":null}"#, Content, None, false),
            ("not JSON, \"error\"", Content, None, false),
            ("\"error\"", Content, None, false),
        ];
        for (data, class, prompt, ended) in table {
            let event = event("", data);
            let found = classify(&event);
            assert_eq!((found.class, found.ended), (*class, *ended), "{data}");
            assert_eq!(found.usage.map(|usage| usage.prompt), *prompt, "{data}");
            assert_eq!(found.error.is_some(), *class == Error, "{data}");
        }
    }

    #[test]
    fn ordinary_deltas_are_not_parsed() {
        for delta in [
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null,"error": null}"#,
            r#"{"choices": [{"text":"\"usage\":{}","finish_reason" : ""}]}"#,
            r#"{"type":"response.output_text.delta","delta":"a"}"#,
        ] {
            assert!(!is_telling(delta.as_bytes()), "{delta}");
        }
    }

    #[test]
    fn events_of_audio_and_images() {
        use Class::{Content, End};
        for (data, class, prompt) in [
            (r#"{"type":"speech.audio.delta","audio":"UklGRg=="}"#, Content, None),
            (r#"{"type":"speech.audio.done","usage":{"input_tokens":7}}"#, End, Some(7)),
            (r#"{"type":"transcript.text.delta","delta":"transcript.text.done"}"#, Content, None),
            (r#"{"type":"transcript.text.done","text":"a"}"#, End, None),
            (r#"{"type":"transcription.done","usage":{"prompt_tokens":7}}"#, End, Some(7)),
            (r#"{"type":"image_generation.partial_image","b64_json":"iVBOR"}"#, Content, None),
            (r#"{"type":"image_generation.completed","usage":{"input_tokens":7}}"#, End, Some(7)),
            (r#"{"type":"image_edit.completed"}"#, End, None),
        ] {
            let event = event("", data);
            let found = classify(&event);
            assert_eq!((found.class, found.ended), (class, class == End), "{data}");
            assert_eq!(found.usage.map(|usage| usage.prompt), prompt, "{data}");
        }
    }

    #[test]
    fn events_of_responses() {
        use Class::{Content, End, Error, Preamble};
        let table: &[(&str, &str, Class, Option<u64>)] = &[
            (
                "response.created",
                r#"{"response":{"status":"queued","error":null,"usage":null}}"#,
                Preamble,
                None,
            ),
            ("response.queued", r#"{"response":{}}"#, Preamble, None),
            ("response.in_progress", r#"{"response":{}}"#, Preamble, None),
            ("response.output_item.added", r#"{"item":{"type":"message"}}"#, Content, None),
            ("response.output_text.delta", r#"{"delta":"response.completed"}"#, Content, None),
            ("response.output_text.delta", r#"{"delta":"a"}"#, Content, None),
            (
                "response.completed",
                r#"{"response":{"usage":{"input_tokens":7},"error":null}}"#,
                End,
                Some(7),
            ),
            ("response.incomplete", r#"{"response":{"usage":{"input_tokens":7}}}"#, End, Some(7)),
            ("response.cancelled", r#"{"response":null}"#, End, None),
            (
                "response.failed",
                r#"{"response":{"error":{"code":"server_error"},"usage":null}}"#,
                Error,
                None,
            ),
            ("error", r#"{"code":"rate_limit_exceeded","message":"m"}"#, Error, None),
            ("error", r#"{"error":{"type":"overloaded_error"}}"#, Error, None),
        ];
        for (kind, data, class, prompt) in table {
            // The type is in both places, in the name alone, or in the data alone.
            let typed = data.replacen('{', &format!("{{\"type\":\"{kind}\","), 1);
            for event in [
                event(kind, &typed),
                event(kind, data),
                event("", &typed),
                event("message", &typed),
            ] {
                let found = classify(&event);
                assert_eq!(found.class, *class, "{event:?}");
                assert_eq!(found.usage.map(|usage| usage.prompt), *prompt, "{event:?}");
                assert_eq!(found.ended, matches!(class, End | Error), "{event:?}");
            }
        }
    }

    #[test]
    fn events_of_messages() {
        use Class::{Content, End, Error, Preamble};
        // Kind, data, class, prompt and completion tokens.
        let table = [
            (
                "message_start",
                r#"{"message":{"id":"msg_1","content":[],"stop_reason":null,"usage":{"input_tokens":9,
                    "cache_read_input_tokens":4,"cache_creation_input_tokens":3,"output_tokens":1}}}"#,
                Preamble,
                Some((16, 1)),
            ),
            ("ping", "{}", Preamble, None),
            (
                "content_block_start",
                r#"{"content_block":{"type":"text","text":""}}"#,
                Content,
                None,
            ),
            ("content_block_delta", r#"{"delta":{"text":"message_stop"}}"#, Content, None),
            ("content_block_delta", r#"{"delta":{"text":"ping"}}"#, Content, None),
            (
                "message_delta",
                r#"{"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":12}}"#,
                Content,
                Some((0, 12)),
            ),
            ("message_stop", "{}", End, None),
            ("error", r#"{"error":{"type":"overloaded_error","message":"m"}}"#, Error, None),
        ];
        for (kind, data, class, usage) in table {
            let comma = if data == "{}" { "" } else { "," };
            let typed = data.replacen('{', &format!("{{\"type\":\"{kind}\"{comma}"), 1);
            for event in [event(kind, &typed), event("", &typed)] {
                let found = classify(&event);
                assert_eq!(found.class, class, "{event:?}");
                assert_eq!(found.usage.map(|u| (u.prompt, u.completion)), usage, "{event:?}");
                assert_eq!(found.ended, matches!(class, End | Error), "{event:?}");
            }
        }
    }

    #[test]
    fn the_error_is_the_most_telling_part() {
        let table = [
            ("", r#"{"error":{"code":429}}"#, Some(r#"{"code":429}"#)),
            ("response.failed", r#"{"response":{"error":{"code":"x"}}}"#, Some(r#"{"code":"x"}"#)),
            ("error", r#"{"type":"error","code":"x"}"#, Some(r#"{"type":"error","code":"x"}"#)),
            ("error", "overloaded", Some("overloaded")),
            ("error", "", None),
        ];
        for (name, data, error) in table {
            let event = event(name, data);
            let found = classify(&event);
            assert_eq!(found.class, Class::Error);
            assert_eq!(found.error, error.map(str::as_bytes), "{data}");
        }
    }
}
