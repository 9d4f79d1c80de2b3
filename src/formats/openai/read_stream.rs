//! Reads the chunks of a stream.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::read_answer::{Call, Message, Piece, arguments, call_id, finish};
use crate::conversation::{Delta, Event, Opened};
use crate::formats::stream::{self, Corrupt, Frame};
use crate::formats::{failure, seal};
use crate::usage;

/// One stream. Chunks do not say where a block ends: the next one's beginning does.
#[derive(Debug, Default)]
pub(in crate::formats) struct StreamReader {
    started: bool,
    finished: bool,
    /// Blocks so far.
    blocks: u32,
    /// What is being written besides tool calls, and its index.
    open: Option<(Kind, u32)>,
    calls: Vec<OpenCall>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thinking,
}

/// A call whose arguments are not complete.
#[derive(Debug)]
struct OpenCall {
    /// The service's index of it.
    at: u32,
    id: String,
    block: u32,
    /// What has come of the arguments; empty while they are complete.
    arguments: String,
}

/// A model does not write this many calls at once.
const MAX_CALLS: usize = 256;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u32>,
    #[serde(borrow)]
    delta: Option<Message<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

impl stream::StreamReader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Corrupt> {
        let data = frame.data.trim_ascii();
        match data {
            // A comment.
            b"" => each(Event::Ping),
            b"[DONE]" => {
                self.close_all(each);
                each(Event::End);
            }
            _ => {
                let chunk: Chunk<'_> = crate::members::parse(data).ok_or(Corrupt)?;
                self.chunk(chunk, data, each)?;
            }
        }
        Ok(())
    }

    /// Not all services say `[DONE]`.
    fn finish(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if self.finished {
            each(Event::End);
        }
    }
}

impl StreamReader {
    fn chunk(
        &mut self,
        chunk: Chunk<'_>,
        data: &[u8],
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Corrupt> {
        if chunk.error.is_some_and(|error| !matches!(error.get(), "null" | "\"\"" | "{}")) {
            each(Event::Failed(failure::read(None, data)));
            return Ok(());
        }
        let Some(choices) = chunk.choices else {
            // Not even a list of none: this is nobody's chunk.
            return if chunk.usage.is_some() {
                self.usage(chunk.usage, each)
            } else {
                Err(Corrupt)
            };
        };
        if !choices.is_empty() && !core::mem::replace(&mut self.started, true) {
            let (id, model) = (chunk.id.unwrap_or_default(), chunk.model.unwrap_or_default());
            each(Event::Start { id, model });
        }
        // Only one answer was asked for.
        if let Some(choice) =
            choices.into_iter().find(|choice| choice.index.unwrap_or_default() == 0)
        {
            if let Some(delta) = choice.delta {
                self.delta(delta, each)?;
            }
            let word = choice.finish_reason.filter(|word| !word.is_empty());
            if let Some(word) = word.filter(|_| !self.finished) {
                self.finished = true;
                self.close_all(each);
                each(Event::Finish(finish(word)));
            }
        }
        self.usage(chunk.usage, each)
    }

    fn usage(
        &self,
        usage: Option<&RawValue>,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Corrupt> {
        let usage = usage.and_then(|raw| usage::parse(raw.get().as_bytes()));
        if let Some(usage) = usage.filter(|_| self.started) {
            each(Event::Usage(usage));
        }
        Ok(())
    }

    fn delta(
        &mut self,
        mut delta: Message<'_>,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Corrupt> {
        let (said, details) = delta.thoughts();
        let mut detailed = false;
        for detail in details {
            let origin = detail.format.as_deref().and_then(seal::known_origin);
            if let Some(data) = detail.data {
                // An origin that is not known cannot be told when it comes back.
                if let Some(origin) = origin {
                    self.close_open(each);
                    let index = self.next();
                    let block = Opened::Redacted { data, origin };
                    each(Event::BlockStart { index, block });
                    each(Event::BlockStop { index });
                }
                continue;
            }
            detailed = true;
            let index = self.enter(Kind::Thinking, origin, each);
            if let Some(text) = detail.text.filter(|text| !text.is_empty()) {
                each(Event::Delta { index, delta: Delta::Thinking(text) });
            }
            if let Some(signature) = detail.signature.filter(|text| !text.is_empty()) {
                each(Event::Delta { index, delta: Delta::Signature(signature) });
            }
        }
        if let Some(text) = said.filter(|_| !detailed) {
            let index = self.enter(Kind::Thinking, None, each);
            each(Event::Delta { index, delta: Delta::Thinking(text) });
        }
        for piece in delta.pieces() {
            let (kind, delta) = match piece {
                Piece::Text(text) => (Kind::Text, Delta::Text(text)),
                Piece::Thinking(text) => (Kind::Thinking, Delta::Thinking(text)),
            };
            let index = self.enter(kind, None, each);
            each(Event::Delta { index, delta });
        }
        for citation in delta.citations() {
            let index = self.enter(Kind::Text, None, each);
            each(Event::Delta { index, delta: Delta::Citation(citation) });
        }
        if let Some(text) = delta.refusal.take().filter(|text| !text.is_empty()) {
            let index = self.enter(Kind::Refusal, None, each);
            each(Event::Delta { index, delta: Delta::Text(text) });
        }
        for call in delta.tool_calls.unwrap_or_default() {
            self.call(call, each)?;
        }
        Ok(())
    }

    /// A piece of a call. Its first has id and name; the rest say which by the index, which some services leave
    /// out or never change.
    fn call(&mut self, call: Call<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Corrupt> {
        let at = call.index.unwrap_or_default();
        let (name, pieces) = match call.function {
            Some(function) => (function.name, arguments(function.arguments)),
            None => (None, Cow::Borrowed("")),
        };
        let id = call.id.filter(|id| !id.is_empty());
        let name = name.filter(|name| !name.is_empty());
        let known = self.calls.iter().rposition(|open| open.at == at).filter(|found| {
            let same =
                self.calls.get(*found).is_some_and(|o| id.as_deref().is_none_or(|id| id == o.id));
            same || name.is_none()
        });
        let found = match (known, name) {
            (Some(found), _) => found,
            (None, Some(name)) if self.calls.len() < MAX_CALLS => {
                self.close_open(each);
                self.close_complete(each);
                let id = id.unwrap_or_else(|| call_id(self.calls.len()));
                let block = self.next();
                self.calls.push(OpenCall {
                    at,
                    id: id.clone().into_owned(),
                    block,
                    arguments: String::new(),
                });
                each(Event::BlockStart { index: block, block: Opened::ToolUse { id, name } });
                self.calls.len() - 1
            }
            // Nothing of nothing; arguments of nothing.
            (None, None) if pieces.is_empty() => return Ok(()),
            (None, _) => return Err(Corrupt),
        };
        if pieces.is_empty() {
            return Ok(());
        }
        let open = self.calls.get_mut(found).ok_or(Corrupt)?;
        if open.block == CLOSED {
            return Err(Corrupt);
        }
        open.arguments.push_str(&pieces);
        each(Event::Delta { index: open.block, delta: Delta::Arguments(pieces) });
        Ok(())
    }

    /// The block that a piece of this kind belongs to.
    fn enter(
        &mut self,
        kind: Kind,
        origin: Option<&'static str>,
        each: &mut dyn FnMut(Event<'_>),
    ) -> u32 {
        if let Some((open, index)) = self.open
            && open == kind
        {
            return index;
        }
        self.close_open(each);
        self.close_complete(each);
        let index = self.next();
        let block = match kind {
            Kind::Text => Opened::Text,
            Kind::Refusal => Opened::Refusal,
            Kind::Thinking => Opened::Thinking { origin },
        };
        each(Event::BlockStart { index, block });
        self.open = Some((kind, index));
        index
    }

    fn next(&mut self) -> u32 {
        let index = self.blocks;
        self.blocks = self.blocks.saturating_add(1);
        index
    }

    fn close_open(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if let Some((_, index)) = self.open.take() {
            each(Event::BlockStop { index });
        }
    }

    /// Another block begins. Calls are written one after the other by nearly all; where the arguments are no JSON
    /// yet, there are more to come.
    fn close_complete(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        for call in self.calls.iter_mut().filter(|call| call.block != CLOSED) {
            if serde_json::from_str::<IgnoredAny>(&call.arguments).is_ok() {
                each(Event::BlockStop { index: call.block });
                call.block = CLOSED;
                call.arguments = String::new();
            }
        }
    }

    fn close_all(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        self.close_open(each);
        for call in self.calls.iter_mut().filter(|call| call.block != CLOSED) {
            each(Event::BlockStop { index: call.block });
            call.block = CLOSED;
        }
    }
}

/// The index of a block that nothing is written to any more.
const CLOSED: u32 = u32::MAX;
