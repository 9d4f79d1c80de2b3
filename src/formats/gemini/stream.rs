//! Reads the events of a stream. Each is an answer of its own with what is new; the end of the stream is the end.

use super::answer::{BLOCKED, Chunk, Counts, WirePart, broken, finish, named};
use super::grounding;
use crate::conversation::{Block, Delta, Event, Opened};
use crate::formats::failure;
use crate::formats::shape::Shape;
use crate::formats::stream::{self, Corrupt, Frame};

/// One stream.
#[derive(Debug, Default)]
pub(in crate::formats) struct StreamReader {
    counts: Counts,
    started: bool,
    nonce: u64,
    /// `responseId` or what stands for it, for the ids of calls.
    id: String,
    /// The block that is open; its index is that before `next`.
    open: Option<Text>,
    next: u32,
    calls: u32,
    /// Text so far, for citations, which count its bytes; none of it once it is longer than [`MAX_CITED`].
    text: Option<String>,
    cited: usize,
    /// Of the text that is open: it comes behind it.
    signature: Option<String>,
    /// Of the last chunk that had a piece of the answer, counts and nothing else.
    shape: Option<Shape>,
    /// The last `finishReason`. Older models give one with every chunk, so it counts when nothing follows.
    word: Option<String>,
}

/// Longest text in bytes that is kept to find what citations are about.
const MAX_CITED: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Answer,
    Thought,
    Refusal,
}

impl StreamReader {
    /// `nonce`: for ids of calls in an answer without one.
    pub(in crate::formats) fn new(nonce: u64) -> Self {
        Self { nonce, ..Self::default() }
    }
}

impl stream::StreamReader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Corrupt> {
        let text = core::str::from_utf8(frame.data).map_err(|_| Corrupt)?.trim();
        if text.is_empty() {
            return Ok(());
        }
        if let Some((piece, counts)) = self.shape.as_ref().and_then(|shape| shape.fill(text))
            && let Some(is_news) = self.counts.note(counts)
        {
            self.tell_usage(is_news, each);
            self.text(Text::Answer, piece.into(), each);
            return Ok(());
        }
        let chunk: Chunk<'_> = serde_json::from_str(text).map_err(|_| Corrupt)?;
        if chunk.error.is_some() {
            each(Event::Failed(failure::read(None, text.as_bytes())));
            return Ok(());
        }
        if let Some((piece, counts)) = chunk.plain() {
            self.shape = Shape::of(text, piece, counts);
        }
        if !self.started {
            self.started = true;
            self.text = Some(String::new());
            let id = chunk.response_id.unwrap_or_default();
            self.id = named(&id, self.nonce);
            each(Event::Start { id, model: chunk.model_version.unwrap_or_default() });
        }
        if let Some(metadata) = chunk.usage_metadata {
            let is_news = self.counts.note(metadata.get()).unwrap_or_default();
            self.tell_usage(is_news, each);
        }
        let Some(candidate) = chunk.candidates.into_iter().flatten().next() else {
            if let Some(refusal) = chunk.prompt_feedback.and_then(|feedback| feedback.refusal()) {
                self.text(Text::Refusal, refusal.into(), each);
                self.word = Some(BLOCKED.to_owned());
            }
            return Ok(());
        };
        for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
            self.part(part, each);
        }
        if let Some(metadata) = candidate.grounding_metadata {
            self.cite(metadata.get(), each);
        }
        if let Some(word) = candidate.finish_reason {
            if let Some(failure) = broken(&word) {
                each(Event::Failed(failure));
            } else {
                self.word = Some(word.into_owned());
            }
        }
        Ok(())
    }

    /// Without a `finishReason` it was cut off, and nothing is said.
    fn finish(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        let Some(word) = self.word.take() else { return };
        self.close(each);
        each(Event::Finish(finish(word.into(), self.calls > 0)));
        each(Event::End);
    }
}

impl StreamReader {
    fn tell_usage(&self, is_news: bool, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(usage) = self.counts.usage().filter(|_| is_news) {
            each(Event::Usage(usage));
        }
    }

    fn part(&mut self, part: WirePart<'_>, each: &mut dyn FnMut(Event<'_>)) {
        let WirePart { text, thought, thought_signature, function_call } = part;
        if let Some(call) = function_call {
            self.close(each);
            if let Some(data) = thought_signature {
                self.whole(Opened::Redacted { data, origin: Block::GEMINI }, None, each);
            }
            let id = call.id(&self.id, self.calls);
            self.calls = self.calls.saturating_add(1);
            let arguments = Delta::Arguments(call.arguments());
            self.whole(Opened::ToolUse { id, name: call.name }, Some(arguments), each);
            return;
        }
        let kind = if thought { Text::Thought } else { Text::Answer };
        let is_empty = text.as_ref().is_none_or(|text| text.is_empty());
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.text(kind, text, each);
        }
        let Some(signature) = thought_signature else { return };
        if thought && !is_empty {
            let index = self.next.saturating_sub(1);
            each(Event::Delta { index, delta: Delta::Signature(signature) });
            self.close(each);
        } else {
            if self.open != Some(Text::Answer) || self.signature.is_some() {
                self.close(each);
            }
            self.signature = Some(signature.into_owned());
            if self.open.is_none() {
                self.sign(each);
            }
        }
    }

    /// Citations of the text that is open. Whoever repeats some gives them all again.
    fn cite(&mut self, metadata: &str, each: &mut dyn FnMut(Event<'_>)) {
        if self.open != Some(Text::Answer) {
            return;
        }
        let index = self.next.saturating_sub(1);
        let text = self.text.as_deref().unwrap_or_default();
        let citations = grounding::citations(metadata, text);
        let known = self.cited;
        self.cited = known.max(citations.len());
        for citation in citations.into_iter().skip(known) {
            each(Event::Delta { index, delta: Delta::Citation(citation) });
        }
    }

    fn sign(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(data) = self.signature.take() {
            let block = Opened::Redacted { data: data.into(), origin: Block::GEMINI };
            self.whole(block, None, each);
        }
    }

    fn text(
        &mut self,
        kind: Text,
        text: std::borrow::Cow<'_, str>,
        each: &mut dyn FnMut(Event<'_>),
    ) {
        if self.open != Some(kind) {
            self.close(each);
            let block = match kind {
                Text::Answer => Opened::Text,
                Text::Thought => Opened::Thinking { origin: Some(Block::GEMINI) },
                Text::Refusal => Opened::Refusal,
            };
            each(Event::BlockStart { index: self.next, block });
            self.next = self.next.saturating_add(1);
            self.open = Some(kind);
        }
        if kind == Text::Answer
            && let Some(kept) = &mut self.text
        {
            kept.push_str(&text);
            if kept.len() > MAX_CITED {
                self.text = None;
            }
        }
        let delta = match kind {
            Text::Answer | Text::Refusal => Delta::Text(text),
            Text::Thought => Delta::Thinking(text),
        };
        each(Event::Delta { index: self.next.saturating_sub(1), delta });
    }

    /// A block that comes in one piece.
    fn whole(
        &mut self,
        block: Opened<'_>,
        delta: Option<Delta<'_>>,
        each: &mut dyn FnMut(Event<'_>),
    ) {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        each(Event::BlockStart { index, block });
        if let Some(delta) = delta {
            each(Event::Delta { index, delta });
        }
        each(Event::BlockStop { index });
    }

    fn close(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if self.open.take().is_some() {
            each(Event::BlockStop { index: self.next.saturating_sub(1) });
        }
        self.sign(each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::stream::StreamReader as _;

    #[test]
    fn text_of_the_same_shape_is_taken_as_it_is() {
        let mut reader = StreamReader::default();
        let mut read = |text: &str, counts: &str| {
            let data = format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}},"index":0}}],"usageMetadata":{counts},"responseId":"r"}}"#
            );
            let known = reader.shape.as_ref().is_some_and(|shape| shape.fill(&data).is_some());
            let (mut said, mut completion) = (String::new(), None);
            let frame = Frame { name: None, data: data.as_bytes() };
            let read = reader.read(frame, &mut |event| match event {
                Event::Delta { delta: Delta::Text(text), .. } => said.push_str(&text),
                Event::Usage(usage) => completion = Some(usage.completion),
                _ => {}
            });
            (known, read.map(|()| (said, completion)))
        };
        for (known, text, counts, expected, completion) in [
            (false, "a", r#"{"candidatesTokenCount":1}"#, "a", Some(1)),
            (true, " b", r#"{"candidatesTokenCount":1}"#, " b", None),
            (true, "c", r#"{"candidatesTokenCount":12,"x":[{}]}"#, "c", Some(12)),
            (false, "\\n", r#"{"candidatesTokenCount":13}"#, "\n", Some(13)),
            (true, "d", r#"{"candidatesTokenCount":14}"#, "d", Some(14)),
            // Not counts alone: it is read as a whole.
            (true, "e", r#"{"candidatesTokenCount":15},"more":1"#, "e", Some(15)),
            (false, "f", "null", "f", None),
        ] {
            let expected = (known, Ok((expected.to_owned(), completion)));
            assert_eq!(read(text, counts), expected, "{text} {counts}");
        }
        assert_eq!(read("g", "{").1, Err(Corrupt));
    }
}
