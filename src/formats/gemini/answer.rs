//! Reads an answer and an error.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::grounding;
use crate::conversation::{Answer, Block, Failure, FailureKind, Finish, FinishReason, Part};
use crate::formats::shape::same;
use crate::random::hash;
use crate::usage::{self, Usage};

/// An answer, or one chunk of a stream. Members that it may lack are optional: a gateway is no judge of answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    pub(super) prompt_feedback: Option<Feedback<'a>>,
    #[serde(borrow)]
    pub(super) usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) response_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

impl<'a> Chunk<'a> {
    /// Text as it was written, and counts, of a chunk that has nothing else for anybody.
    pub(super) fn plain(&self) -> Option<(&'a str, &'a str)> {
        let Self {
            candidates,
            prompt_feedback: None,
            usage_metadata: Some(usage),
            error: None,
            ..
        } = self
        else {
            return None;
        };
        let [Candidate { content: Some(content), finish_reason: None, grounding_metadata: None }] =
            candidates.as_deref()?
        else {
            return None;
        };
        let [
            WirePart {
                text: Some(Cow::Borrowed(text)),
                thought: false,
                thought_signature: None,
                function_call: None,
            },
        ] = content.parts.as_deref()?
        else {
            return None;
        };
        Some((*text, usage.get()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) parts: Option<Vec<WirePart<'a>>>,
}

/// What the prompt was blocked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow)]
    pub(super) block_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    block_reason_message: Option<Cow<'a, str>>,
}

/// One part: of its kinds, those that are carried.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WirePart<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) thought: bool,
    #[serde(borrow)]
    pub(super) thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
}

#[derive(Deserialize)]
pub(super) struct FunctionCall<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

impl<'a> FunctionCall<'a> {
    /// Gemini's own id, or one that is not given twice in a conversation.
    /// `answer`: its id.
    pub(super) fn id(&self, answer: &str, nth: u32) -> Cow<'a, str> {
        match &self.id {
            Some(id) if !id.is_empty() => id.clone(),
            _ => {
                let arguments = self.arguments();
                let parts: [&[u8]; 4] = [
                    answer.as_bytes(),
                    self.name.as_bytes(),
                    arguments.as_bytes(),
                    &nth.to_be_bytes(),
                ];
                format!("call_{:016x}", hash(&parts)).into()
            }
        }
    }

    pub(super) fn arguments(&self) -> Cow<'a, str> {
        self.args.map_or(Cow::Borrowed("{}"), |args| unindented(args.get()))
    }
}

/// JSON without the lines and indentation that Google gives documents.
fn unindented(json: &str) -> Cow<'_, str> {
    if !json.contains('\n') {
        return Cow::Borrowed(json);
    }
    let (mut out, mut quoted, mut escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if quoted || !c.is_ascii_whitespace() {
            out.push(c);
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
    }
    Cow::Owned(out)
}

/// `None`: it is no answer.
/// `nonce`: for ids of calls in an answer without one.
pub(in crate::formats) fn read(body: &[u8], nonce: u64) -> Option<Answer<'_>> {
    let chunk: Chunk<'_> = crate::members::parse(body)?;
    let mut counts = Counts::default();
    if let Some(usage) = chunk.usage_metadata {
        counts.note(usage.get());
    }
    let id = chunk.response_id.unwrap_or_default();
    let mut answer = Answer {
        parts: Vec::new(),
        finish: finish("STOP".into(), false),
        model: chunk.model_version.unwrap_or_default(),
        usage: counts.usage(),
        service_tier: None,
        id,
    };
    let Some(candidate) = chunk.candidates.into_iter().flatten().next() else {
        let refusal = chunk.prompt_feedback?.refusal()?;
        answer.parts.push(Block::Refusal(refusal.into()).into());
        answer.finish = finish(BLOCKED.into(), false);
        return Some(answer);
    };
    let word = candidate.finish_reason.unwrap_or(Cow::Borrowed("STOP"));
    if broken(&word).is_some() {
        return None;
    }
    let mut calls = 0;
    let named = named(&answer.id, nonce);
    for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
        read_part(part, &named, &mut calls, &mut answer.parts);
    }
    answer.finish = finish(word, calls > 0);
    if let Some(metadata) = candidate.grounding_metadata {
        cite(metadata.get(), &mut answer.parts);
    }
    Some(answer)
}

/// Segments are counted over all of the text, and its last part has the citations.
fn cite<'a>(metadata: &'a str, parts: &mut [Part<'a>]) {
    let text = |part: &Part<'a>| match &part.block {
        Block::Text(text) => Some(text.to_string()),
        _ => None,
    };
    let whole: String = parts.iter().filter_map(text).collect();
    if let Some(last) = parts.iter_mut().rfind(|part| matches!(part.block, Block::Text(_))) {
        last.citations = grounding::citations(metadata, &whole);
    }
}

/// An answer by its id, or by a random number.
pub(super) fn named(id: &str, nonce: u64) -> String {
    if id.is_empty() { format!("{nonce:016x}") } else { id.to_owned() }
}

fn read_part<'a>(part: WirePart<'a>, answer: &str, calls: &mut u32, out: &mut Vec<Part<'a>>) {
    let origin = Some(Cow::Borrowed(Block::GEMINI));
    let WirePart { text, thought, thought_signature, function_call } = part;
    let signed = |data| Block::Redacted { data, origin: Some(Cow::Borrowed(Block::GEMINI)) };
    if let Some(call) = function_call {
        out.extend(thought_signature.map(|signature| signed(signature).into()));
        let (id, arguments) = (call.id(answer, *calls), call.arguments());
        out.push(Block::ToolUse { id, name: call.name, arguments }.into());
        *calls += 1;
        return;
    }
    match text.filter(|text| !text.is_empty()) {
        Some(text) if thought => {
            out.push(Block::Thinking { text, signature: thought_signature, origin }.into());
            return;
        }
        Some(text) => out.push(Block::Text(text).into()),
        None => {}
    }
    out.extend(thought_signature.map(|signature| signed(signature).into()));
}

impl Feedback<'_> {
    /// What the client is told; `None`: the prompt was not blocked.
    pub(super) fn refusal(&self) -> Option<String> {
        let reason = self.block_reason.as_deref()?;
        Some(match self.block_reason_message.as_deref() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => format!("The prompt was blocked: {reason}."),
        })
    }
}

/// How an answer to a blocked prompt ends, whatever it was blocked for.
pub(super) const BLOCKED: &str = "SAFETY";

/// `calls`: the answer has some, which Gemini does not tell by its word.
pub(super) fn finish(word: Cow<'_, str>, calls: bool) -> Finish<'_> {
    let reason = match word.as_ref() {
        "STOP" if calls => FinishReason::ToolUse,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" | "CONTINUATION" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "ESCALATION"
        | "PUP_LIMITED_DISABLED" => FinishReason::Filtered,
        _ => FinishReason::Other,
    };
    Finish { reason, word }
}

/// Words for what is no answer, though it came as one: what the model wrote could not be read.
pub(super) fn broken(word: &str) -> Option<Failure<'static>> {
    let is_broken = matches!(
        word,
        "MALFORMED_FUNCTION_CALL"
            | "MALFORMED_RESPONSE"
            | "UNEXPECTED_TOOL_CALL"
            | "TOO_MANY_TOOL_CALLS"
            | "MISSING_THOUGHT_SIGNATURE"
    );
    let message = format!("The model wrote what its provider could not read: {word}.");
    is_broken.then(|| Failure { kind: FailureKind::Server, message: message.into() })
}

/// Gemini's counts, cumulative in a stream.
#[derive(Debug, Default)]
pub(super) struct Counts {
    usage: Option<Usage>,
    /// What was read last: every chunk of a stream has it, and often says the same.
    read: String,
}

impl Counts {
    /// Whether this is news. `None`: there are no counts in it.
    pub(super) fn note(&mut self, metadata: &str) -> Option<bool> {
        if same(self.read.as_bytes(), metadata.as_bytes()) {
            return Some(false);
        }
        let usage = usage::parse(metadata.as_bytes())?;
        self.read.clear();
        self.read.push_str(metadata);
        let before = self.usage;
        self.usage = Some(before.unwrap_or_default().max(usage));
        Some(self.usage != before)
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }
}
