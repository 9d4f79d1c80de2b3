//! One answer on its way from the provider's format to the client's.

use std::borrow::Cow;

use super::stream::{Framing, StreamReader, StreamWriter};
use super::{
    Echo, Format, anthropic, bedrock, cohere, embeddings, failure, gemini, openai, responses,
    stream, truncated, write_error,
};
use crate::conversation::{Answer, Block, Event, Failure, FailureKind, Opened};
use crate::endpoint::{Dialect, Endpoint};
use crate::members;
use crate::observe::{Class, Outcome};
use crate::usage::Usage;

/// Largest answer in one document, in bytes, that is translated.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// Largest stream in bytes: what is kept of it, to be repeated at the end or to wait for its turn, is never more.
/// The longest answers of today's models come to a third of it.
const MAX_STREAM: usize = 128 * 1024 * 1024;

/// Longest error in bytes that is kept.
const MAX_ERROR: usize = 16 * 1024;

/// What is known of an answer before it comes.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What the client asked, and so how it is answered.
    pub endpoint: Endpoint,
    /// Of the provider.
    pub format: Format,
    /// As the provider calls it: for an answer that does not name its model.
    pub model: String,
    /// The client asked for the usage chunk of a stream of chat completions.
    pub include_usage: bool,
    /// Unix time in seconds.
    pub created: u64,
    /// Random: for an answer without an id.
    pub nonce: u64,
    pub echo: Echo,
}

/// What an answer is called that does not say so itself, and what of it the client gets.
#[derive(Debug)]
struct Name {
    id: String,
    model: String,
    /// How many more calls of tools.
    calls: u32,
}

impl Setup {
    fn name(&self) -> Name {
        let id = match self.endpoint.dialect() {
            Dialect::OpenAi => format!("chatcmpl-{:016x}", self.nonce),
            // Their writers make one where there is none.
            Dialect::Anthropic | Dialect::Responses | Dialect::Gemini => String::new(),
        };
        let calls = if self.echo.one_call { 1 } else { u32::MAX };
        Name { id, model: self.model.clone(), calls }
    }
}

impl Name {
    fn given<'a>(&'a mut self, step: Event<'a>) -> Event<'a> {
        match step {
            Event::Start { id, model } => {
                Event::Start { id: or(id, &self.id), model: or(model, &self.model) }
            }
            Event::BlockStart { index, block: Opened::ToolUse { .. } } if !self.takes_call() => {
                Event::BlockStart { index, block: Opened::Unknown }
            }
            step => step,
        }
    }

    /// Whether the client takes another call.
    fn takes_call(&mut self) -> bool {
        let takes = self.calls > 0;
        self.calls = self.calls.saturating_sub(1);
        takes
    }
}

fn or<'a>(told: Cow<'a, str>, ours: &'a str) -> Cow<'a, str> {
    if told.is_empty() { Cow::Borrowed(ours) } else { told }
}

/// Takes the bytes of an answer, gives those for the client. Never both: what comes out is all translated.
#[derive(Debug)]
pub struct Translation {
    setup: Setup,
    streamed: bool,
    form: Form,
    seen: Seen,
}

#[derive(Debug)]
enum Form {
    /// One document, which has to be whole first.
    Document(Vec<u8>),
    Stream(Stream),
    /// Complete or failed: nothing follows.
    Over,
}

#[derive(Debug)]
struct Stream {
    /// Bytes so far.
    length: usize,
    name: Name,
    told: Told,
    framing: Framing,
    reader: Box<dyn StreamReader>,
    writer: Box<dyn StreamWriter>,
}

/// What is known of the answer; as [`StreamObserver`](crate::observe::StreamObserver) tells it.
#[derive(Debug, Default)]
struct Seen {
    opening: Option<Class>,
    usage: Option<Usage>,
    error: Option<Vec<u8>>,
    complete: bool,
}

impl Translation {
    /// `streamed`: by [`Format::is_stream`] of the answer.
    pub fn new(setup: Setup, streamed: bool) -> Self {
        let form = if streamed {
            Form::Stream(Stream {
                length: 0,
                name: setup.name(),
                told: Told::default(),
                framing: Framing::of(setup.format),
                reader: stream::reader(&setup),
                writer: stream::writer(&setup),
            })
        } else {
            Form::Document(Vec::new())
        };
        Self { setup, streamed, form, seen: Seen::default() }
    }

    /// The bytes for the client in place of `chunk`.
    pub fn feed(&mut self, chunk: &[u8], end_of_stream: bool) -> Vec<u8> {
        let mut out = Vec::new();
        match &mut self.form {
            Form::Over => {}
            Form::Document(body) => {
                body.extend_from_slice(chunk);
                if end_of_stream || body.len() > MAX_ANSWER {
                    let body = core::mem::take(body);
                    self.form = Form::Over;
                    self.document(&body, &mut out);
                }
            }
            Form::Stream(stream) => {
                // About as much as a chunk of any format takes around its text: one allocation.
                out.reserve(chunk.len() + 256);
                stream.feed(chunk, end_of_stream, &mut self.seen, &mut out);
                if self.seen.is_over() || end_of_stream {
                    self.form = Form::Over;
                }
            }
        }
        out
    }

    /// As [`StreamObserver::opening`](crate::observe::StreamObserver::opening). A document opens when it is whole.
    pub fn opening(&self) -> Option<Class> {
        self.seen.opening
    }

    pub fn usage(&self) -> Option<Usage> {
        self.seen.usage
    }

    /// JSON, as the provider gave it; `null` where it gave none and the answer could not be understood.
    pub fn error(&self) -> Option<&[u8]> {
        self.seen.error.as_deref()
    }

    /// [`Outcome::Open`] after the end: the stream was cut off, and its client has been told so.
    pub fn outcome(&self) -> Outcome {
        match (&self.seen.error, self.seen.complete) {
            (Some(_), _) => Outcome::Failed,
            (None, true) => Outcome::Complete,
            (None, false) => Outcome::Open,
        }
    }

    /// Whether what the client gets is a stream.
    pub fn is_stream(&self) -> bool {
        self.streamed
    }

    /// Whether nothing can go on before all has come.
    pub fn is_document(&self) -> bool {
        matches!(self.form, Form::Document(_))
    }

    fn document(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let (written, usage) = match body.len() {
            ..=MAX_ANSWER => answer(&self.setup, body).unzip(),
            _ => (None, None),
        };
        if let Some(written) = written {
            self.seen.usage = usage.flatten();
            self.seen.opening = Some(Class::Content);
            self.seen.complete = true;
            *out = written;
            return;
        }
        // An error in the clothes of an answer, or nothing that makes sense.
        let error = error_of(body);
        let failure = match error {
            Some(error) => failure::read(None, error),
            None => incomprehensible(),
        };
        *out = write_error(self.setup.endpoint.dialect(), &failure);
        self.seen.fail(error);
    }
}

/// A whole answer in the client's words, and its usage; `None`: it is none.
fn answer(setup: &Setup, body: &[u8]) -> Option<(Vec<u8>, Option<Usage>)> {
    if setup.endpoint == Endpoint::Embeddings {
        let mut answer = match setup.format {
            Format::Gemini | Format::Vertex => gemini::embeddings::read(body)?,
            Format::Bedrock => bedrock::embeddings::read(body)?,
            Format::Cohere => cohere::embeddings::read(body)?,
            Format::OpenAi | Format::Anthropic | Format::VertexAnthropic => return None,
        };
        let Echo { model, base64, prompt_tokens, .. } = &setup.echo;
        let told = prompt_tokens.map(|prompt| Usage { prompt, ..Usage::default() });
        answer.usage = answer.usage.or(told);
        return Some((embeddings::write(&answer, model, *base64)?, answer.usage));
    }
    let mut answer = read(setup, body)?;
    let mut name = setup.name();
    answer.parts.retain(|part| !matches!(part.block, Block::ToolUse { .. }) || name.takes_call());
    answer.id = or(answer.id, &name.id);
    answer.model = or(answer.model, &name.model);
    Some((write(setup, &answer), answer.usage))
}

fn read<'a>(setup: &Setup, body: &'a [u8]) -> Option<Answer<'a>> {
    match setup.format {
        Format::Bedrock => bedrock::read(body),
        Format::Cohere => cohere::read(body),
        Format::OpenAi => openai::read_answer(body),
        Format::Anthropic | Format::VertexAnthropic => anthropic::read(body),
        Format::Gemini | Format::Vertex => gemini::read(body, setup.nonce),
    }
}

fn write(setup: &Setup, answer: &Answer<'_>) -> Vec<u8> {
    match setup.endpoint.dialect() {
        Dialect::Anthropic => anthropic::write_answer(answer, setup.nonce),
        Dialect::Responses => responses::write_answer(answer, setup),
        Dialect::OpenAi | Dialect::Gemini => openai::write(answer, setup.created),
    }
}

impl Stream {
    fn feed(&mut self, chunk: &[u8], end: bool, seen: &mut Seen, out: &mut Vec<u8>) {
        let Self { length, name, told, framing, reader, writer } = self;
        *length = length.saturating_add(chunk.len());
        let mut understood = *length <= MAX_STREAM;
        let mut sink = Sink { name, told, writer: writer.as_mut(), seen, out };
        let framed = framing.feed(chunk, &mut |frame| {
            if understood && !sink.seen.is_over() {
                understood = reader.read(frame, &mut |step| sink.take(step, frame.data)).is_ok();
            }
        });
        if framed.is_err() || !understood {
            sink.fail(incomprehensible());
        }
        if !end || sink.seen.is_over() {
            return;
        }
        // What is left may be the last message or half of one: that is no nonsense, but a cut.
        framing.finish(&mut |frame| {
            let read = reader.read(frame, &mut |step| sink.take(step, frame.data));
            let _ = read;
        });
        reader.finish(&mut |step| sink.take(step, b""));
        if !sink.seen.is_over() {
            sink.writer.write(&Event::Failed(truncated()), sink.out);
        }
    }
}

/// How far the answer is that the client is told.
#[derive(Debug, Default)]
struct Told {
    started: bool,
    finished: bool,
    /// Indices of blocks that have begun and not ended.
    open: Vec<u32>,
}

/// A model does not write this many blocks at once.
const MAX_OPEN: usize = 256;

/// Where a stream's events go. Whatever a provider sends, writers can rely on the order of it: one start, blocks that
/// begin once and end, one reason to finish, and nothing of the answer behind that.
struct Sink<'a> {
    name: &'a mut Name,
    told: &'a mut Told,
    writer: &'a mut dyn StreamWriter,
    seen: &'a mut Seen,
    out: &'a mut Vec<u8>,
}

impl Sink<'_> {
    /// `data`: of the message that the event is from.
    fn take(&mut self, step: Event<'_>, data: &[u8]) {
        if self.seen.is_over() {
            return;
        }
        let Told { started, finished, open } = &mut *self.told;
        let starts = matches!(step, Event::Start { .. });
        // Before these there need not be an answer.
        let is_apart = matches!(step, Event::Ping | Event::Failed(_));
        let was_started = core::mem::replace(started, *started || !is_apart);
        if !starts && !is_apart && !was_started {
            self.put(Event::Start { id: "".into(), model: "".into() }, data);
            return self.take(step, data);
        }
        let is_known = |open: &Vec<u32>, index: &u32| open.contains(index);
        match &step {
            Event::Start { .. } if was_started => return,
            Event::BlockStart { .. } | Event::Delta { .. } if *finished => return,
            Event::BlockStart { index, .. } if is_known(open, index) => {
                self.take(Event::BlockStop { index: *index }, data);
                return self.take(step, data);
            }
            Event::BlockStart { .. } if open.len() >= MAX_OPEN => {
                return self.fail(incomprehensible());
            }
            Event::BlockStart { index, .. } => open.push(*index),
            Event::Delta { index, .. } if !is_known(open, index) => return,
            Event::BlockStop { index } if !is_known(open, index) => return,
            Event::BlockStop { index } => open.retain(|other| other != index),
            Event::Finish(_) | Event::End => {
                if matches!(step, Event::Finish(_)) && core::mem::replace(finished, true) {
                    return;
                }
                for index in core::mem::take(open) {
                    self.put(Event::BlockStop { index }, data);
                }
            }
            Event::Start { .. }
            | Event::Delta { .. }
            | Event::Usage(_)
            | Event::Failed(_)
            | Event::Ping => {}
        }
        self.put(step, data);
    }

    fn put(&mut self, step: Event<'_>, data: &[u8]) {
        let step = self.name.given(step);
        self.seen.note(&step, data);
        self.writer.write(&step, self.out);
    }

    fn fail(&mut self, failure: Failure<'_>) {
        if !self.seen.is_over() {
            self.seen.fail(None);
            self.writer.write(&Event::Failed(failure), self.out);
        }
    }
}

impl Seen {
    fn is_over(&self) -> bool {
        self.complete || self.error.is_some()
    }

    fn note(&mut self, step: &Event<'_>, data: &[u8]) {
        match step {
            Event::Start { .. } | Event::BlockStop { .. } | Event::Ping => {}
            Event::BlockStart {
                block: Opened::ToolUse { .. } | Opened::Redacted { .. }, ..
            }
            | Event::Delta { .. }
            | Event::Finish(_) => {
                self.opening.get_or_insert(Class::Content);
            }
            Event::BlockStart { .. } => {}
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => {
                self.opening.get_or_insert(Class::Content);
                self.complete = true;
            }
            Event::Failed(_) => self.fail(error_of(data)),
        }
    }

    fn fail(&mut self, error: Option<&[u8]>) {
        self.opening.get_or_insert(Class::Error);
        let error = error.filter(|error| error.len() <= MAX_ERROR).unwrap_or(b"null");
        self.error.get_or_insert_with(|| error.to_vec());
    }
}

/// The `error` member of a document or event.
fn error_of(data: &[u8]) -> Option<&[u8]> {
    let mut error = None;
    members::walk(core::str::from_utf8(data).ok()?, |name, value| {
        if name == "error" && value != "null" {
            error = Some(value.as_bytes());
        }
    })
    .ok()?;
    error
}

fn incomprehensible() -> Failure<'static> {
    let message = "The provider's answer could not be understood.".into();
    Failure { kind: FailureKind::Server, message }
}
