//! What the readers and writers of streams have in common. One of each works at a stream; neither knows the other.

use core::fmt::Debug;

use super::{Format, anthropic, bedrock, cohere, gemini, openai, responses};
use crate::conversation::Event;
use crate::endpoint::Dialect;
use crate::eventstream;
use crate::formats::Setup;
use crate::sse::{self, Framer};

/// One message of a stream, out of its framing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// Where the framing names it beside its data.
    pub(super) name: Option<&'a [u8]>,
    pub(super) data: &'a [u8],
}

/// A message that is known and not as it should be, or a framing that is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Corrupt;

/// Understands a provider's stream.
pub(super) trait StreamReader: Debug {
    /// A message becomes any number of events, in the callback it came in. What is not known is skipped.
    fn read(&mut self, frame: Frame<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Corrupt>;

    /// The stream is over. For formats whose last message is not told from others: whoever has said why the answer
    /// ended gives [`Event::End`] here.
    fn finish(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        let _ = each;
    }
}

/// Writes a client's stream.
pub(super) trait StreamWriter: Debug {
    /// Appends what the client gets for an event. Nothing follows [`Event::End`] and [`Event::Failed`].
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>);
}

pub(super) fn reader(setup: &Setup) -> Box<dyn StreamReader> {
    match setup.format {
        Format::Bedrock => Box::new(bedrock::StreamReader::default()),
        Format::Cohere => Box::new(cohere::StreamReader::default()),
        Format::OpenAi => Box::new(openai::StreamReader::default()),
        Format::Anthropic | Format::VertexAnthropic => Box::new(anthropic::StreamReader::default()),
        Format::Gemini | Format::Vertex => Box::new(gemini::StreamReader::new(setup.nonce)),
    }
}

pub(super) fn writer(setup: &Setup) -> Box<dyn StreamWriter> {
    match setup.endpoint.dialect() {
        Dialect::Anthropic => Box::new(anthropic::StreamWriter::new(setup.nonce)),
        Dialect::Responses => Box::new(responses::StreamWriter::new(setup.clone())),
        // No other format is translated for clients of Google's.
        Dialect::OpenAi | Dialect::Gemini => {
            Box::new(openai::StreamWriter::new(setup.include_usage, setup.created))
        }
    }
}

/// How a provider's stream is cut into messages.
#[derive(Debug)]
pub(super) enum Framing {
    /// Server-sent events.
    Events(Framer),
    /// AWS's binary messages.
    Messages(eventstream::Framer),
}

impl Framing {
    pub(super) fn of(format: Format) -> Self {
        match format {
            Format::Bedrock => Self::Messages(eventstream::Framer::default()),
            Format::OpenAi
            | Format::Anthropic
            | Format::Gemini
            | Format::Vertex
            | Format::VertexAnthropic
            | Format::Cohere => Self::Events(Framer::new()),
        }
    }

    /// Calls `each` for every message that is complete now.
    pub(super) fn feed(
        &mut self,
        chunk: &[u8],
        each: &mut dyn FnMut(Frame<'_>),
    ) -> Result<(), Corrupt> {
        match self {
            Self::Events(framer) => {
                framer.feed(chunk, |event| each((&event).into())).map_err(|_| Corrupt)
            }
            Self::Messages(framer) => framer
                .feed(chunk, |message| match message.exception() {
                    Some(error) => each(Frame { name: Some(b"error"), data: error.as_bytes() }),
                    None => {
                        let name = message.header(":event-type").map(str::as_bytes);
                        each(Frame { name, data: message.payload });
                    }
                })
                .map_err(|_| Corrupt),
        }
    }

    /// What is left at the end may be the last message or half of one.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(Frame<'_>)) {
        match self {
            Self::Events(framer) => framer.finish(|event| each((&event).into())),
            // Half a message is none.
            Self::Messages(_) => {}
        }
    }
}

impl<'a> From<&'a sse::Event<'_>> for Frame<'a> {
    fn from(event: &'a sse::Event<'_>) -> Self {
        // Google can end a stream with an error that is JSON alone: a line without a field's name.
        let is_bare = event.data.is_empty() && event.raw.trim_ascii_start().starts_with(b"{");
        Self { name: event.name, data: if is_bare { event.raw } else { &event.data } }
    }
}
