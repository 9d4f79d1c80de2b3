//! Writes a stream of events.

use serde::Serialize;
use serde_json::value::RawValue;

use super::error::error_event;
use super::write_answer::{Block, Cited, Counts, id, stop_reason};
use crate::conversation::{self, Delta, Event, Failure, FailureKind, FinishReason, Opened};
use crate::formats::{seal, stream};
use crate::usage::Usage;

/// One stream. Blocks are written one after the other, as Anthropic's clients take them: what another writes in
/// turns waits for the block before it.
#[derive(Debug)]
pub(in crate::formats) struct StreamWriter {
    /// For an answer without an id.
    nonce: u64,
    started: bool,
    /// The provider's index of the block that is being written; `None` in it: it is not shown.
    open: Option<(u32, Option<Shown>)>,
    /// Blocks that were shown.
    blocks: u32,
    /// Written, but for the block before them.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// Too much had to wait: its client was told, and nothing follows.
    failed: bool,
    calls: bool,
    refused: bool,
    usage: Usage,
    finish: FinishReason,
}

#[derive(Debug, Clone, Copy)]
enum Shown {
    Text,
    Thinking { origin: Option<&'static str> },
    Call,
}

#[derive(Debug)]
struct Waiting {
    index: u32,
    shown: Option<Shown>,
    /// As it is to be written, with the index of the block still to be set.
    pieces: Vec<Piece>,
    closed: bool,
}

#[derive(Debug)]
struct Piece {
    kind: &'static str,
    /// The member that the event has besides type and index.
    member: &'static str,
    json: String,
}

/// Most bytes of blocks that wait for another.
const MAX_WAITING: usize = 8 * 1024 * 1024;

#[derive(Serialize)]
#[serde(tag = "type")]
enum WireDelta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: std::borrow::Cow<'a, str> },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
    #[serde(rename = "citations_delta")]
    Citations { citation: Cited<'a> },
}

impl StreamWriter {
    pub(in crate::formats) fn new(nonce: u64) -> Self {
        Self {
            nonce,
            started: false,
            open: None,
            blocks: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            failed: false,
            calls: false,
            refused: false,
            usage: Usage::default(),
            finish: FinishReason::Other,
        }
    }

    fn start(&mut self, id: &str, model: &str, out: &mut Vec<u8>) {
        if core::mem::replace(&mut self.started, true) {
            return;
        }
        let counts: Counts = Usage { completion: 0, ..self.usage }.into();
        let message = serde_json::json!({
            "id": self::id(id, self.nonce), "type": "message", "role": "assistant", "model": model,
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": counts,
        });
        let message = message.to_string();
        event("message_start", &[("message", &message)], out);
    }

    fn block_start(&mut self, index: u32, block: &Opened<'_>, out: &mut Vec<u8>) {
        use conversation::Block as From;
        let shown = match block {
            Opened::Text => Some(Shown::Text),
            Opened::Refusal => {
                self.refused = true;
                Some(Shown::Text)
            }
            Opened::Thinking { origin } => Some(Shown::Thinking { origin: *origin }),
            Opened::ToolUse { .. } => {
                self.calls = true;
                Some(Shown::Call)
            }
            // Whole with its beginning.
            Opened::Redacted { .. } => Some(Shown::Text),
            Opened::Unknown => None,
        };
        let content = match block {
            Opened::Text | Opened::Refusal | Opened::Unknown => {
                Block::Text { text: "", citations: None }
            }
            Opened::Thinking { .. } => Block::Thinking { thinking: "", signature: "".into() },
            Opened::Redacted { data, origin } => {
                Block::RedactedThinking { data: seal::seal(From::ANTHROPIC, Some(origin), data) }
            }
            Opened::ToolUse { id, name } => {
                let input = RawValue::from_string("{}".to_owned()).unwrap_or_default();
                Block::ToolUse { id, name, input: std::borrow::Cow::Owned(input) }
            }
        };
        let begins = self.open.is_none() && self.waiting.is_empty();
        if begins {
            self.open = Some((index, shown));
        } else {
            self.waiting.push(Waiting { index, shown, pieces: Vec::new(), closed: false });
        }
        if shown.is_some() {
            let json = serde_json::to_string(&content).unwrap_or_default();
            self.put(index, "content_block_start", "content_block", json, out);
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let shown = match self.open {
            Some((open, shown)) if open == index => shown,
            _ => self.waiting.iter().rfind(|w| w.index == index).and_then(|w| w.shown),
        };
        let wire = match (shown, delta) {
            (Some(Shown::Text), Delta::Text(text)) => WireDelta::Text { text },
            (Some(Shown::Text), Delta::Citation(citation)) => match Cited::of(citation) {
                Some(citation) => WireDelta::Citations { citation },
                None => return,
            },
            (Some(Shown::Thinking { .. }), Delta::Thinking(thinking)) => {
                WireDelta::Thinking { thinking }
            }
            (Some(Shown::Thinking { origin }), Delta::Signature(signature)) => {
                let native = conversation::Block::ANTHROPIC;
                WireDelta::Signature { signature: seal::seal(native, origin, signature) }
            }
            (Some(Shown::Call), Delta::Arguments(json)) if !json.is_empty() => {
                WireDelta::InputJson { partial_json: json }
            }
            _ => return,
        };
        let json = serde_json::to_string(&wire).unwrap_or_default();
        self.put(index, "content_block_delta", "delta", json, out);
    }

    /// Writes an event of a block, or keeps it until the block's turn.
    fn put(
        &mut self,
        index: u32,
        kind: &'static str,
        member: &'static str,
        json: String,
        out: &mut Vec<u8>,
    ) {
        if self.open.is_some_and(|(open, _)| open == index) {
            event(kind, &[("index", &self.blocks.to_string()), (member, &json)], out);
        } else if let Some(waiting) = self.waiting.iter_mut().rfind(|w| w.index == index) {
            self.waiting_bytes = self.waiting_bytes.saturating_add(json.len());
            if self.waiting_bytes <= MAX_WAITING {
                waiting.pieces.push(Piece { kind, member, json });
            } else {
                self.failed = true;
                let message = "The provider wrote too much at once.".into();
                error_event(&Failure { kind: FailureKind::Server, message }, out);
            }
        }
    }

    fn block_stop(&mut self, index: u32, out: &mut Vec<u8>) {
        match self.open {
            Some((open, shown)) if open == index => {
                self.close(shown.is_some(), out);
                self.advance(out);
            }
            _ => {
                if let Some(waiting) = self.waiting.iter_mut().rfind(|w| w.index == index) {
                    waiting.closed = true;
                }
            }
        }
    }

    fn close(&mut self, shown: bool, out: &mut Vec<u8>) {
        if shown {
            event("content_block_stop", &[("index", &self.blocks.to_string())], out);
            self.blocks = self.blocks.saturating_add(1);
        }
        self.open = None;
    }

    /// Writes what has waited for the block that is now over.
    fn advance(&mut self, out: &mut Vec<u8>) {
        while self.open.is_none() && !self.waiting.is_empty() {
            let Waiting { index, shown, pieces, closed } = self.waiting.remove(0);
            self.open = Some((index, shown));
            for Piece { kind, member, json } in pieces {
                event(kind, &[("index", &self.blocks.to_string()), (member, &json)], out);
            }
            if closed {
                self.close(shown.is_some(), out);
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start("", "", out);
        while let Some((_, shown)) = self.open {
            self.close(shown.is_some(), out);
            self.advance(out);
        }
        let reason = if self.refused { FinishReason::Filtered } else { self.finish };
        let delta = serde_json::json!({
            "stop_reason": stop_reason(reason, self.calls), "stop_sequence": null,
        });
        let counts: Counts = self.usage.into();
        let usage = serde_json::to_string(&counts).unwrap_or_default();
        event("message_delta", &[("delta", &delta.to_string()), ("usage", &usage)], out);
        event("message_stop", &[], out);
    }
}

impl stream::StreamWriter for StreamWriter {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        match event {
            Event::Start { id, model } => self.start(id, model, out),
            Event::BlockStart { index, block } => {
                self.start("", "", out);
                self.block_start(*index, block, out);
            }
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::BlockStop { index } => self.block_stop(*index, out),
            Event::Usage(usage) => self.usage = *usage,
            Event::Finish(finish) => self.finish = finish.reason,
            Event::End => self.end(out),
            Event::Failed(failure) => error_event(failure, out),
            Event::Ping => self::event("ping", &[], out),
        }
    }
}

/// One event: its type, and members that are JSON already. JSON written compactly has no line breaks.
fn event(kind: &str, members: &[(&str, &str)], out: &mut Vec<u8>) {
    for part in ["event: ", kind, "\ndata: {\"type\":\"", kind, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, json) in members {
        for part in [",\"", name, "\":", json] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"}\n\n");
}
