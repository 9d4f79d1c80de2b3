//! Reads the events of a stream.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{Counts, WireBlock, finish, kind};
use crate::conversation::{Block, Delta, Event, Opened};
use crate::formats::failure;
use crate::formats::json;
use crate::formats::shape::Shape;
use crate::formats::stream::{self, Corrupt, Frame};
use crate::members;

/// One stream.
#[derive(Debug, Default)]
pub(in crate::formats) struct StreamReader {
    counts: Counts,
    /// Of the last piece of text, and the index of its block.
    shape: Option<(Shape, u32)>,
}

/// Members of all events; which of them there are, the type says.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<WireDelta<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl<'a> Wire<'a> {
    /// Text as it was written, of a delta that has nothing else.
    fn piece(&self) -> Option<&'a str> {
        match self.delta.as_ref()? {
            WireDelta { kind: Some(kind), text: Some(Cow::Borrowed(text)), .. }
                if kind == "text_delta" =>
            {
                Some(text)
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireDelta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::borrowed")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
}

impl stream::StreamReader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Corrupt> {
        let text = core::str::from_utf8(frame.data).map_err(|_| Corrupt)?.trim();
        if text.is_empty() {
            return Ok(());
        }
        if let Some((shape, index)) = &self.shape
            && let Some((piece, "")) = shape.fill(text)
        {
            each(Event::Delta { index: *index, delta: Delta::Text(piece.into()) });
            return Ok(());
        }
        let kind = event_kind(text).ok_or(Corrupt)?;
        match kind.as_ref() {
            "ping" => each(Event::Ping),
            "content_block_stop" => {
                let wire: Wire<'_> = serde_json::from_str(text).map_err(|_| Corrupt)?;
                each(Event::BlockStop { index: wire.index });
            }
            "message_stop" => each(Event::End),
            "error" => each(Event::Failed(failure::read(None, text.as_bytes()))),
            "message_start" | "content_block_start" | "content_block_delta" | "message_delta" => {
                let wire: Wire<'_> = serde_json::from_str(text).map_err(|_| Corrupt)?;
                if let ("content_block_delta", Some(piece)) = (kind.as_ref(), wire.piece()) {
                    let shape = Shape::of(text, piece, text.get(text.len()..).unwrap_or_default());
                    self.shape = shape.map(|shape| (shape, wire.index));
                }
                self.translate(kind.as_ref(), wire, each).ok_or(Corrupt)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl StreamReader {
    /// `None`: the event lacks what its type says it has.
    fn translate(
        &mut self,
        kind: &str,
        wire: Wire<'_>,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Option<()> {
        let index = wire.index;
        match kind {
            "message_start" => {
                let message = wire.message?;
                each(Event::Start { id: message.id, model: message.model });
                self.note(message.usage, each);
            }
            "content_block_start" => {
                let block = open(wire.content_block?.get())?;
                each(Event::BlockStart { index, block: block.0 });
                if let Some(delta) = block.1 {
                    each(Event::Delta { index, delta });
                }
            }
            "content_block_delta" => {
                let delta = wire.delta?;
                let delta = match delta.kind?.as_ref() {
                    "text_delta" => Delta::Text(delta.text?),
                    "thinking_delta" => Delta::Thinking(delta.thinking?),
                    "signature_delta" => Delta::Signature(delta.signature?),
                    "input_json_delta" => Delta::Arguments(delta.partial_json?),
                    _ => return Some(()),
                };
                each(Event::Delta { index, delta });
            }
            _ => {
                self.note(wire.usage, each);
                if let Some(word) = wire.delta.and_then(|delta| delta.stop_reason) {
                    each(Event::Finish(finish(word)));
                }
            }
        }
        Some(())
    }

    fn note(&mut self, usage: Option<&RawValue>, each: &mut dyn FnMut(Event<'_>)) {
        let Some(usage) = usage else { return };
        self.counts.note(usage.get());
        if let Some(usage) = self.counts.usage() {
            each(Event::Usage(usage));
        }
    }
}

/// The `type` of an event: its first member, nearly always.
fn event_kind(text: &str) -> Option<Cow<'_, str>> {
    let first = || {
        let rest = text.strip_prefix(r#"{"type":""#)?;
        let (kind, rest) = rest.split_once('"')?;
        // Twice the same member is nobody's event.
        (!kind.contains('\\') && !rest.is_empty()).then_some(Cow::Borrowed(kind))
    };
    first().or_else(|| kind(text))
}

/// A block as it begins; some services put its first piece there.
fn open(block: &str) -> Option<(Opened<'_>, Option<Delta<'_>>)> {
    let kind = kind(block)?;
    if !matches!(kind.as_ref(), "text" | "thinking" | "redacted_thinking" | "tool_use") {
        return Some((Opened::Unknown, None));
    }
    let block: WireBlock<'_> = serde_json::from_str(block).ok()?;
    Some(match kind.as_ref() {
        "text" => (Opened::Text, block.text.filter(|t| !t.is_empty()).map(Delta::Text)),
        "thinking" => (
            Opened::Thinking { origin: Some(Block::ANTHROPIC) },
            block.thinking.filter(|t| !t.is_empty()).map(Delta::Thinking),
        ),
        "redacted_thinking" => {
            (Opened::Redacted { data: block.data?, origin: Block::ANTHROPIC }, None)
        }
        _ => (
            Opened::ToolUse { id: block.id?, name: block.name? },
            block
                .input
                .filter(|input| !is_empty_object(input.get()))
                .map(|input| Delta::Arguments(input.get().into())),
        ),
    })
}

fn is_empty_object(json: &str) -> bool {
    let mut empty = true;
    members::walk(json, |_, _| empty = false).is_ok() && empty
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::stream::StreamReader as _;

    #[test]
    fn text_of_the_same_shape_is_taken_as_it_is() {
        let mut reader = StreamReader::default();
        let mut read = |index: u32, text: &str| {
            let data = format!(
                r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":"{text}"}}}}"#
            );
            let known = reader.shape.as_ref().is_some_and(|(shape, _)| shape.fill(&data).is_some());
            let mut got = Vec::new();
            let frame = Frame { name: None, data: data.as_bytes() };
            reader
                .read(frame, &mut |event| match event {
                    Event::Delta { index, delta: Delta::Text(text) } => {
                        got.push((index, text.into_owned()));
                    }
                    other => panic!("{other:?}"),
                })
                .unwrap();
            (known, got)
        };
        for (known, index, text, expected) in [
            (false, 0, "a", "a"),
            (true, 0, " b", " b"),
            (false, 0, "\\n", "\n"),
            (true, 0, "h\u{e9}", "h\u{e9}"),
            (false, 1, "c", "c"),
            (true, 1, "d", "d"),
        ] {
            assert_eq!(read(index, text), (known, vec![(index, expected.to_owned())]), "{text}");
        }
    }
}
