//! Reads an answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::conversation::{Answer, Block, Citation, Finish, FinishReason, Part};
use crate::usage;

/// Members that an answer may lack are optional: a gateway is no judge of answers.
#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

/// A message, or the delta of one.
#[derive(Deserialize, Default)]
pub(super) struct Message<'a> {
    /// A text; of some services a list of typed pieces.
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) refusal: Option<Cow<'a, str>>,
    /// DeepSeek's name, and that of most others.
    #[serde(borrow)]
    pub(super) reasoning_content: Option<Cow<'a, str>>,
    /// OpenRouter's, Groq's and vLLM's. Of another type elsewhere.
    #[serde(borrow)]
    pub(super) reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow)]
    pub(super) annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) function: Option<Function<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    /// A text; of some services the object itself.
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}

/// One entry of `reasoning_details`.
#[derive(Deserialize)]
pub(super) struct Detail<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) format: Option<Cow<'a, str>>,
}

/// A piece of content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(Cow<'a, str>),
    Thinking(Cow<'a, str>),
}

impl<'a> Message<'a> {
    /// Thinking, by the first of its names that has any; details only where they can be proven.
    pub(super) fn thoughts(&mut self) -> (Option<Cow<'a, str>>, Vec<Detail<'a>>) {
        let details: Option<Vec<Detail<'a>>> =
            self.reasoning_details.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let details: Vec<_> =
            details.unwrap_or_default().into_iter().filter(Detail::counts).collect();
        let reasoning = self.reasoning.and_then(|raw| text(raw.get()));
        let said = self.reasoning_content.take().or(reasoning).filter(|text| !text.is_empty());
        (said, details)
    }

    pub(super) fn pieces(&self) -> Vec<Piece<'a>> {
        let Some(raw) = self.content else { return Vec::new() };
        if let Some(text) = text(raw.get()) {
            return if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] };
        }
        typed(raw.get(), true)
    }

    pub(super) fn citations(&self) -> Vec<Citation<'a>> {
        self.annotations.map(|raw| annotations(raw.get())).unwrap_or_default()
    }
}

impl Detail<'_> {
    fn counts(&self) -> bool {
        match self.kind.as_deref() {
            Some("reasoning.text") => true,
            Some("reasoning.encrypted") => self.data.is_some(),
            _ => false,
        }
    }
}

/// Mistral's pieces: `{"type":"text","text":…}`, `{"type":"thinking","thinking":[{"type":"text",…}]}`.
/// `thinks`: there may be some of the second kind, which hold those of the first.
fn typed(list: &str, thinks: bool) -> Vec<Piece<'_>> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        text: Option<Cow<'a, str>>,
        #[serde(borrow)]
        thinking: Option<&'a RawValue>,
    }
    let list: Vec<Typed<'_>> = serde_json::from_str(list).unwrap_or_default();
    let mut pieces = Vec::with_capacity(list.len());
    for item in list {
        pieces.extend(item.text.map(Piece::Text));
        let thinking = item.thinking.filter(|_| thinks);
        for piece in thinking.map(|raw| typed(raw.get(), false)).unwrap_or_default() {
            let (Piece::Text(text) | Piece::Thinking(text)) = piece;
            pieces.push(Piece::Thinking(text));
        }
    }
    pieces
}

/// `[{"type":"url_citation","url_citation":{"url","title","start_index","end_index"}}]`.
fn annotations(list: &str) -> Vec<Citation<'_>> {
    #[derive(Deserialize)]
    struct Annotation<'a> {
        #[serde(borrow)]
        url_citation: Option<Url<'a>>,
    }
    #[derive(Deserialize)]
    struct Url<'a> {
        #[serde(borrow)]
        url: Option<Cow<'a, str>>,
        #[serde(borrow)]
        title: Option<Cow<'a, str>>,
        #[serde(borrow)]
        content: Option<Cow<'a, str>>,
        start_index: Option<u32>,
        end_index: Option<u32>,
    }
    let list: Vec<Annotation<'_>> = serde_json::from_str(list).unwrap_or_default();
    let citations = list.into_iter().filter_map(|annotation| annotation.url_citation);
    citations
        .filter(|citation| citation.url.is_some())
        .map(|citation| Citation {
            url: citation.url,
            document: None,
            title: citation.title,
            quote: citation.content,
            span: citation.start_index.zip(citation.end_index),
        })
        .collect()
}

/// A JSON string.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(json).ok().map(|Text(text)| text)
}

/// The text of `arguments`, or the object as text.
pub(super) fn arguments(raw: Option<&RawValue>) -> Cow<'_, str> {
    raw.map(|raw| text(raw.get()).unwrap_or(Cow::Borrowed(raw.get()))).unwrap_or_default()
}

pub(super) fn finish(word: Cow<'_, str>) -> Finish<'_> {
    let reason = match word.as_ref() {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolUse,
        "content_filter" => FinishReason::Filtered,
        _ => FinishReason::Other,
    };
    Finish { reason, word }
}

/// `None`: it is no answer.
pub(in crate::formats) fn read_answer(body: &[u8]) -> Option<Answer<'_>> {
    let completion: Completion<'_> = crate::members::parse(body)?;
    let Choice { mut message, finish_reason } = completion.choices.into_iter().next()?;
    let mut parts: Vec<Part<'_>> = Vec::new();
    let (said, details) = message.thoughts();
    for detail in details {
        let origin = detail.format;
        parts.push(match detail.data {
            Some(data) => Block::Redacted { data, origin }.into(),
            None => {
                let (text, signature) = (detail.text.unwrap_or_default(), detail.signature);
                Block::Thinking { text, signature, origin }.into()
            }
        });
    }
    let thought = parts.iter().any(|part| matches!(part.block, Block::Thinking { .. }));
    if let Some(text) = said.filter(|_| !thought) {
        parts.insert(0, Block::Thinking { text, signature: None, origin: None }.into());
    }
    for piece in message.pieces() {
        parts.push(match piece {
            Piece::Text(text) => Block::Text(text).into(),
            Piece::Thinking(text) => Block::Thinking { text, signature: None, origin: None }.into(),
        });
    }
    if let Some(last) = parts.iter_mut().rfind(|part| matches!(part.block, Block::Text(_))) {
        last.citations = message.citations();
    }
    if let Some(refusal) = message.refusal.take().filter(|text| !text.is_empty()) {
        parts.push(Block::Refusal(refusal).into());
    }
    for (index, call) in message.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let function = call.function?;
        parts.push(
            Block::ToolUse {
                id: call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| call_id(index)),
                name: function.name?,
                arguments: arguments(function.arguments),
            }
            .into(),
        );
    }
    Some(Answer {
        id: completion.id.unwrap_or_default(),
        model: completion.model.unwrap_or_default(),
        parts,
        finish: finish(finish_reason.unwrap_or(Cow::Borrowed("stop"))),
        usage: completion.usage.and_then(|raw| usage::parse(raw.get().as_bytes())),
        service_tier: completion.service_tier,
    })
}

/// For a service that gives a call none.
pub(super) fn call_id(index: usize) -> Cow<'static, str> {
    format!("call_{index}").into()
}
