//! Reads the messages of a stream.

use super::answer::{characters, citation, finish, usage};
use crate::conversation::{Block, Citation, Delta, Event, Opened};
use crate::formats::failure;
use crate::formats::json::{pick, text};
use crate::formats::stream::{self, Corrupt, Frame};
use crate::members;

/// One stream.
#[derive(Debug, Default)]
pub(in crate::formats) struct StreamReader {
    /// The block in work. Converse announces tool calls alone; others begin with their first delta.
    open: Option<u32>,
    /// `messageStop` has come; all that can follow is `metadata`.
    stopped: bool,
    /// Characters of text so far, and of those before the block in work: what citations are about is all of a block,
    /// and known at its end.
    characters: u32,
    before: u32,
    cited: Vec<Citation<'static>>,
}

impl stream::StreamReader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Corrupt> {
        let data = core::str::from_utf8(frame.data).map_err(|_| Corrupt)?;
        self.translate(frame.name.unwrap_or_default(), data, each).ok_or(Corrupt)
    }

    fn finish(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        // Without its usage an answer is still complete.
        if self.stopped {
            each(Event::End);
        }
    }
}

impl StreamReader {
    /// `None`: the message lacks what its name says it has.
    fn translate(
        &mut self,
        name: &[u8],
        data: &str,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Option<()> {
        match name {
            b"messageStart" => each(Event::Start { id: "".into(), model: "".into() }),
            b"contentBlockStart" => {
                let [index, start] = pick(data, ["contentBlockIndex", "start"])?;
                let index = number(index)?;
                if let Some(block) = start_of(start?)? {
                    self.open(index, block, each);
                }
            }
            b"contentBlockDelta" => {
                let [index, delta] = pick(data, ["contentBlockIndex", "delta"])?;
                self.delta(number(index)?, delta?, each)?;
            }
            b"contentBlockStop" => {
                let [index] = pick(data, ["contentBlockIndex"])?;
                let index = number(index)?;
                let span = Some((self.before, self.characters));
                for citation in self.cited.drain(..) {
                    let delta = Delta::Citation(Citation { span, ..citation });
                    each(Event::Delta { index, delta });
                }
                self.open = None;
                each(Event::BlockStop { index });
            }
            b"messageStop" => {
                let [reason] = pick(data, ["stopReason"])?;
                self.stopped = true;
                each(Event::Finish(finish(text(reason?)?)));
            }
            b"metadata" => {
                let [counts] = pick(data, ["usage"])?;
                if let Some(usage) = counts.and_then(usage) {
                    each(Event::Usage(usage));
                }
                if self.stopped {
                    each(Event::End);
                }
            }
            b"error" => each(Event::Failed(failure::read(None, data.as_bytes()))),
            _ => {}
        }
        Some(())
    }

    fn open(&mut self, index: u32, block: Opened<'_>, each: &mut dyn FnMut(Event<'_>)) {
        self.open = Some(index);
        self.before = self.characters;
        each(Event::BlockStart { index, block });
    }

    fn delta(&mut self, index: u32, delta: &str, each: &mut dyn FnMut(Event<'_>)) -> Option<()> {
        const KINDS: [&str; 4] = ["text", "toolUse", "reasoningContent", "citation"];
        let [told, tool, reasoning, cited] = pick(delta, KINDS)?;
        let is_new = self.open != Some(index);
        if let Some(told) = told {
            if is_new {
                self.open(index, Opened::Text, each);
            }
            let told = text(told)?;
            self.characters = self.characters.saturating_add(characters(&told));
            each(Event::Delta { index, delta: Delta::Text(told) });
        } else if let Some(tool) = tool {
            let [input] = pick(tool, ["input"])?;
            each(Event::Delta { index, delta: Delta::Arguments(text(input?)?) });
        } else if let Some(reasoning) = reasoning {
            self.reasoning(index, is_new, reasoning, each)?;
        } else if let Some(citation) = cited.and_then(citation) {
            if is_new {
                self.open(index, Opened::Text, each);
            }
            self.cited.push(citation.into_owned());
        }
        Some(())
    }

    fn reasoning(
        &mut self,
        index: u32,
        is_new: bool,
        delta: &str,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Option<()> {
        let origin = Block::ANTHROPIC;
        let [told, signature, redacted] = pick(delta, ["text", "signature", "redactedContent"])?;
        if let Some(data) = redacted {
            self.open(index, Opened::Redacted { data: text(data)?, origin }, each);
            return Some(());
        }
        if is_new {
            self.open(index, Opened::Thinking { origin: Some(origin) }, each);
        }
        if let Some(told) = told {
            each(Event::Delta { index, delta: Delta::Thinking(text(told)?) });
        }
        if let Some(signature) = signature {
            each(Event::Delta { index, delta: Delta::Signature(text(signature)?) });
        }
        Some(())
    }
}

/// Blocks that begin with anything but a tool call of the client's are left out; `None` inside: nothing is said
/// yet, the first delta will.
fn start_of(start: &str) -> Option<Option<Opened<'_>>> {
    let [tool, result, image] = pick(start, ["toolUse", "toolResult", "image"])?;
    let Some(tool) = tool else { return Some(result.or(image).map(|_| Opened::Unknown)) };
    let [id, name, kind] = pick(tool, ["toolUseId", "name", "type"])?;
    if kind.is_some() {
        return Some(Some(Opened::Unknown));
    }
    Some(Some(Opened::ToolUse { id: text(id?)?, name: text(name?)? }))
}

fn number(value: Option<&str>) -> Option<u32> {
    u32::try_from(members::count(value?)?).ok()
}
