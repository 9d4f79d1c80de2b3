//! Writes a stream of chunks.

use serde::Serialize;

use super::answer::{
    Annotation, Detail, ExtraContent, WireUsage, error_event, finish, some_arguments,
};
use crate::conversation::{Block, Delta, Event, Finish, FinishReason, Opened};
use crate::formats::stream;
use crate::sse::write_event;
use crate::usage::Usage;

/// One stream. Every chunk leaves with the event that it is made of.
#[derive(Debug)]
pub(in crate::formats) struct StreamWriter {
    /// Whether the client asked for `stream_options.include_usage`.
    include_usage: bool,
    /// Unix time in seconds.
    created: u64,
    /// How every chunk begins, up to its choices.
    head: Vec<u8>,
    /// Blocks that are open, and what they are in chunks; as many as the provider writes at once.
    open: Vec<(u32, Slot)>,
    /// `tool_calls` and `reasoning_details` so far.
    calls: u32,
    details: u32,
    /// Gemini's, of the call that is next.
    signature: Option<String>,
    usage: Option<Usage>,
    finished: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Text,
    Refusal,
    /// Index of the detail.
    Thinking(u32),
    /// Index of the call, and whether any of its arguments were written.
    Call(u32, bool),
    Skipped,
}

/// A model does not write this many blocks at once: more are not followed.
const MAX_OPEN: usize = 64;

/// The members of a chunk before `choices`.
#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    delta: WireDelta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct WireDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_details: Option<[Detail<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallPiece<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<[Annotation<'a>; 1]>,
}

/// The first of a call has all members, the others only `index` and a piece of the arguments.
#[derive(Serialize)]
struct CallPiece<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionPiece<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Serialize)]
struct FunctionPiece<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl StreamWriter {
    pub(in crate::formats) fn new(include_usage: bool, created: u64) -> Self {
        Self {
            include_usage,
            created,
            head: head("", created, ""),
            open: Vec::new(),
            calls: 0,
            details: 0,
            signature: None,
            usage: None,
            finished: false,
        }
    }
}

impl stream::StreamWriter for StreamWriter {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model } => {
                self.head = head(id, self.created, model);
                let delta = WireDelta {
                    role: Some("assistant"),
                    content: Some(""),
                    ..WireDelta::default()
                };
                self.chunk(delta, None, out);
            }
            Event::BlockStart { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::BlockStop { index } => self.close(*index, out),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish(reason) => self.finish(reason, out),
            Event::End => self.end(out),
            Event::Failed(failure) => error_event(failure, out),
            // A comment keeps proxies and clients from giving up.
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
        }
    }
}

impl StreamWriter {
    fn open(&mut self, index: u32, block: &Opened<'_>, out: &mut Vec<u8>) {
        let slot = match block {
            Opened::Text => Slot::Text,
            Opened::Refusal => Slot::Refusal,
            Opened::Thinking { origin } => {
                let detail = self.next_detail();
                let begun = Detail { format: *origin, ..piece("reasoning.text", detail) };
                self.detail(begun, None, out);
                Slot::Thinking(detail)
            }
            Opened::Redacted { data, origin } => {
                self.signature = (*origin == Block::GEMINI).then(|| data.to_string());
                let detail = self.next_detail();
                let whole = Detail {
                    data: Some(data),
                    format: Some(origin),
                    ..piece("reasoning.encrypted", detail)
                };
                self.detail(whole, None, out);
                Slot::Skipped
            }
            Opened::ToolUse { id, name } => {
                let call = self.calls;
                self.calls = self.calls.saturating_add(1);
                let signature = self.signature.take();
                let piece = CallPiece {
                    index: call,
                    id: Some(id),
                    kind: Some("function"),
                    function: FunctionPiece { name: Some(name), arguments: "" },
                    extra_content: signature.as_deref().map(ExtraContent::signed),
                };
                self.call(piece, out);
                Slot::Call(call, false)
            }
            Opened::Unknown => Slot::Skipped,
        };
        self.open.retain(|(other, _)| *other != index);
        if self.open.len() < MAX_OPEN {
            self.open.push((index, slot));
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let Some((_, slot)) = self.open.iter_mut().find(|(other, _)| *other == index) else {
            return;
        };
        match (*slot, delta) {
            (Slot::Text, Delta::Text(text)) => {
                self.text(text, out);
            }
            (Slot::Refusal, Delta::Text(text)) => {
                let delta = WireDelta { refusal: Some(text), ..WireDelta::default() };
                self.chunk(delta, None, out);
            }
            (Slot::Text, Delta::Citation(citation)) => {
                if let Some(annotation) = Annotation::of(citation) {
                    let delta =
                        WireDelta { annotations: Some([annotation]), ..WireDelta::default() };
                    self.chunk(delta, None, out);
                }
            }
            (Slot::Thinking(detail), Delta::Thinking(text)) => {
                let part = Detail { text: Some(text), ..piece("reasoning.text", detail) };
                self.detail(part, Some(text), out);
            }
            (Slot::Thinking(detail), Delta::Signature(signature)) => {
                let part = Detail { signature: Some(signature), ..piece("reasoning.text", detail) };
                self.detail(part, None, out);
            }
            (Slot::Call(call, _), Delta::Arguments(json)) if !json.is_empty() => {
                *slot = Slot::Call(call, true);
                self.arguments(call, json, out);
            }
            _ => {}
        }
    }

    fn close(&mut self, index: u32, out: &mut Vec<u8>) {
        let Some(at) = self.open.iter().position(|(other, _)| *other == index) else { return };
        let (_, slot) = self.open.swap_remove(at);
        if let Slot::Call(call, false) = slot {
            self.arguments(call, some_arguments(""), out);
        }
    }

    fn finish(&mut self, reason: &Finish<'_>, out: &mut Vec<u8>) {
        if !core::mem::replace(&mut self.finished, true) {
            let reason = finish(reason.reason, self.calls > 0);
            self.chunk(WireDelta::default(), Some(reason), out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        // Whoever says that it is over and not why has ended all the same.
        self.finish(&Finish { reason: FinishReason::Other, word: "".into() }, out);
        if self.include_usage {
            let usage = self.usage.unwrap_or_default();
            self.put(&[], Some(Some(usage.into())), out);
        }
        write_event(None, "[DONE]", out);
    }

    fn next_detail(&mut self) -> u32 {
        let detail = self.details;
        self.details = self.details.saturating_add(1);
        detail
    }

    fn detail(&self, detail: Detail<'_>, text: Option<&str>, out: &mut Vec<u8>) {
        let delta = WireDelta {
            reasoning_content: text,
            reasoning_details: Some([detail]),
            ..WireDelta::default()
        };
        self.chunk(delta, None, out);
    }

    fn arguments(&self, call: u32, arguments: &str, out: &mut Vec<u8>) {
        let function = FunctionPiece { name: None, arguments };
        let piece = CallPiece { index: call, id: None, kind: None, function, extra_content: None };
        self.call(piece, out);
    }

    fn call(&self, piece: CallPiece<'_>, out: &mut Vec<u8>) {
        self.chunk(WireDelta { tool_calls: Some([piece]), ..WireDelta::default() }, None, out);
    }

    fn chunk(&self, delta: WireDelta<'_>, finish: Option<&'static str>, out: &mut Vec<u8>) {
        let choice = Choice { index: 0, delta, logprobs: None, finish_reason: finish };
        self.put(&[choice], self.include_usage.then_some(None), out);
    }

    /// As [`Self::chunk`] of `content`, most of all that is written: nothing else of it changes.
    fn text(&self, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(br#"[{"index":0,"delta":{"content":"#);
        json(text, out);
        out.extend_from_slice(br#"},"logprobs":null,"finish_reason":null}]"#);
        out.extend_from_slice(if self.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }

    /// `usage`: `null` in every chunk but the last, where it was asked for.
    fn put(&self, choices: &[Choice<'_>], usage: Option<Option<WireUsage>>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        json(choices, out);
        if let Some(usage) = usage {
            out.extend_from_slice(b",\"usage\":");
            json(&usage, out);
        }
        out.extend_from_slice(b"}\n\n");
    }
}

/// JSON written compactly has no line breaks: one `data` field.
fn head(id: &str, created: u64, model: &str) -> Vec<u8> {
    let mut head = b"data: ".to_vec();
    json(&Head { id, object: "chat.completion.chunk", created, model }, &mut head);
    head.pop();
    head.extend_from_slice(b",\"choices\":");
    head
}

/// Writing to memory cannot fail.
fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

fn piece<'a>(kind: &'static str, index: u32) -> Detail<'a> {
    Detail { kind, index, text: None, signature: None, data: None, format: None }
}
