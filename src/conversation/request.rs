//! A request for the next turn.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

/// What a client asks for. A member that is absent was absent or `null`: falsy values are values.
#[derive(Debug, Default)]
pub struct Request<'a> {
    pub model: Cow<'a, str>,
    /// In order, instructions in their places.
    pub messages: Vec<Message<'a>>,
    /// How many of the messages in front are none of the client's list: they have a member of their own (`system`).
    pub preamble: usize,
    /// What the client calls the list of the others; empty: `messages`.
    pub list: &'static str,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether an answer may hold more than one tool call.
    pub parallel_tools: Option<bool>,
    /// Most tokens of the answer, reasoning included.
    pub max_tokens: Option<u64>,
    pub sampling: Sampling<'a>,
    /// How many answers are wanted; `None`: one.
    pub choices: Option<u64>,
    /// Whether the probabilities of tokens are wanted.
    pub logprobs: bool,
    pub stop: Vec<Cow<'a, str>>,
    pub output: Output<'a>,
    pub reasoning: Reasoning,
    pub stream: bool,
    /// The end user, opaque, for the provider's abuse detection.
    pub user: Option<Cow<'a, str>>,
    /// As the client calls it; a writer that knows its provider's words maps it.
    pub service_tier: Option<Cow<'a, str>>,
}

impl Request<'_> {
    /// What the client calls the list of messages.
    pub const fn list(&self) -> &'static str {
        if self.list.is_empty() { "messages" } else { self.list }
    }

    /// Where in the client's own request a message is, for errors.
    pub fn path(&self, message: usize) -> String {
        let list = self.list();
        match message.checked_sub(self.preamble) {
            Some(index) => format!("{list}[{index}]"),
            None if list == "messages" => "system".to_owned(),
            None => "instructions".to_owned(),
        }
    }

    /// Leaves of the tools with one name the last.
    pub fn keep_latest_tools(&mut self) {
        let names = self.tools.iter().rev().map(|tool| tool.name.as_ref());
        let mut seen: HashSet<&str> = HashSet::new();
        let mut kept: Vec<bool> = names.map(|name| seen.insert(name)).collect();
        self.tools.retain(|_| kept.pop().unwrap_or_default());
    }

    /// For formats that refuse a conversation which the assistant begins: its greeting, or what is left of a long
    /// one. A user before it says nothing, in the fewest words that are taken.
    pub fn begin_with_user(&mut self) {
        let says_something = |message: &&Message<'_>| {
            let is_blank =
                |block: &Block<'_>| matches!(block, Block::Text(t) if t.trim().is_empty());
            matches!(message.role, Role::User | Role::Assistant)
                && message.parts.iter().any(|part| !is_blank(&part.block))
        };
        if self.messages.iter().find(says_something).is_some_and(|m| m.role == Role::Assistant) {
            let parts = vec![Block::Text("…".into()).into()];
            self.messages.insert(0, Message { role: Role::User, parts });
            self.preamble += 1;
        }
    }
}

/// Numbers as they were written.
#[derive(Debug, Default)]
pub struct Sampling<'a> {
    pub temperature: Option<&'a RawValue>,
    pub top_p: Option<&'a RawValue>,
    pub top_k: Option<&'a RawValue>,
    pub seed: Option<&'a RawValue>,
    pub presence_penalty: Option<&'a RawValue>,
    pub frequency_penalty: Option<&'a RawValue>,
    /// An object, token ids to numbers.
    pub logit_bias: Option<&'a RawValue>,
}

#[derive(Debug)]
pub struct Message<'a> {
    pub role: Role,
    pub parts: Vec<Part<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    /// OpenAI's newer word for the operator's instructions.
    Developer,
    /// Results of tools too: they are what the model is told.
    User,
    Assistant,
}

/// A block and what is said about it.
#[derive(Debug)]
pub struct Part<'a> {
    pub block: Block<'a>,
    /// A prompt cache ends behind it.
    pub cache: Option<CacheMark<'a>>,
    /// What a text of an answer is based on. Not read in requests: no provider asks for it back.
    pub citations: Vec<Citation<'a>>,
}

/// Where something that a model says comes from. Every member but one source can be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Citation<'a> {
    /// A page.
    pub url: Option<Cow<'a, str>>,
    /// A document of the request, counted from 0 over all of its documents.
    pub document: Option<u32>,
    /// Of the page or document.
    pub title: Option<Cow<'a, str>>,
    /// The words of the source.
    pub quote: Option<Cow<'a, str>>,
    /// Which characters (Unicode scalar values) of the answer's text are based on it, end exclusive.
    pub span: Option<(u32, u32)>,
}

impl Citation<'_> {
    pub fn into_owned(self) -> Citation<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Citation {
            url: owned(self.url),
            document: self.document,
            title: owned(self.title),
            quote: owned(self.quote),
            span: self.span,
        }
    }
}

impl<'a> From<Block<'a>> for Part<'a> {
    fn from(block: Block<'a>) -> Self {
        Self { block, cache: None, citations: Vec::new() }
    }
}

/// A prompt cache ends here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMark<'a> {
    /// `5m`, `1h`; `None`: the provider's default.
    pub ttl: Option<Cow<'a, str>>,
}

#[derive(Debug)]
pub enum Block<'a> {
    Text(Cow<'a, str>),
    Image(Source<'a>),
    Document {
        source: Source<'a>,
        name: Option<Cow<'a, str>>,
    },
    Audio {
        /// Base64.
        data: Cow<'a, str>,
        /// `wav`, `mp3`.
        format: Cow<'a, str>,
    },
    Thinking {
        text: Cow<'a, str>,
        /// Proves to the provider that the text is its own.
        signature: Option<Cow<'a, str>>,
        /// Whose text and signature these are (see [`Self::ANTHROPIC`]); `None`: nobody said.
        origin: Option<Cow<'a, str>>,
    },
    /// Thinking that only its provider can read.
    Redacted {
        data: Cow<'a, str>,
        origin: Option<Cow<'a, str>>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        /// JSON, by all means text: models write what is none. Empty: no arguments.
        arguments: Cow<'a, str>,
    },
    ToolResult {
        /// Of the [`Self::ToolUse`].
        id: Cow<'a, str>,
        /// Texts, images and documents.
        content: Vec<Part<'a>>,
        is_error: bool,
    },
    /// The model said that it would not.
    Refusal(Cow<'a, str>),
}

impl Block<'_> {
    /// The word for Anthropic's thinking, OpenRouter's `format` of `reasoning_details`.
    pub const ANTHROPIC: &'static str = "anthropic-claude-v1";
    /// For Gemini's.
    pub const GEMINI: &'static str = "google-gemini-v1";
}

/// Where media is.
#[derive(Debug, PartialEq, Eq)]
pub enum Source<'a> {
    Url(Cow<'a, str>),
    Base64 {
        /// RFC 6838, without parameters.
        media_type: Cow<'a, str>,
        data: Cow<'a, str>,
    },
    /// Uploaded before, by the provider's own id.
    File(Cow<'a, str>),
}

impl<'a> Source<'a> {
    /// A `data:` URL (RFC 2397) with base64, or any other URL.
    pub fn of_url(url: Cow<'a, str>) -> Self {
        let parsed = |url: &str| {
            let (head, data) = url.split_once(',')?;
            let (scheme, head) = head.split_once(':')?;
            let (head, coding) = head.rsplit_once(';')?;
            let is_it =
                scheme.eq_ignore_ascii_case("data") && coding.eq_ignore_ascii_case("base64");
            let media_type = head.split(';').next().filter(|_| is_it)?;
            Some((scheme.len() + 1, media_type.len(), url.len() - data.len()))
        };
        let Some((start, length, data)) = parsed(&url) else { return Self::Url(url) };
        let (media_type, data) = match url {
            Cow::Borrowed(url) => (
                url.get(start..start + length).unwrap_or_default().into(),
                url.get(data..).unwrap_or_default().into(),
            ),
            Cow::Owned(url) => (
                url.get(start..start + length).unwrap_or_default().to_owned().into(),
                url.get(data..).unwrap_or_default().to_owned().into(),
            ),
        };
        // OpenAI takes the name that many clients give it; others do not.
        let media_type = if media_type == "image/jpg" { "image/jpeg".into() } else { media_type };
        Self::Base64 { media_type, data }
    }
}

#[derive(Debug)]
pub struct Tool<'a> {
    pub name: Cow<'a, str>,
    pub description: Option<Cow<'a, str>>,
    /// JSON schema, as the client wrote it: models and prompt caches see its bytes.
    pub parameters: Option<&'a RawValue>,
    /// Whether arguments have to follow the schema.
    pub strict: Option<bool>,
    pub cache: Option<CacheMark<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    Auto,
    None,
    /// Any, but one.
    Required,
    Named(Cow<'a, str>),
}

/// What the text of the answer has to be.
#[derive(Debug, Default)]
pub enum Output<'a> {
    #[default]
    Text,
    /// Some JSON object.
    Json,
    Schema {
        schema: &'a RawValue,
    },
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reasoning {
    pub effort: Option<Effort>,
    /// Most tokens to think with.
    pub budget: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    ExtraHigh,
    Max,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart() {
        for (url, expected) in [
            ("https://x.example/a,b.png", None),
            ("data:image/png;base64,QUJD", Some(("image/png", "QUJD"))),
            ("data:text/plain;charset=utf-8;base64,QQ==", Some(("text/plain", "QQ=="))),
            ("DATA:image/jpg;BASE64,QQ==", Some(("image/jpeg", "QQ=="))),
            ("data:;base64,QQ==", Some(("", "QQ=="))),
            ("data:text/plain,hello", None),
            ("https://x.example/a;base64,b", None),
            ("data:image/png;base64", None),
        ] {
            let expected = || match expected {
                Some((media_type, data)) => {
                    Source::Base64 { media_type: media_type.into(), data: data.into() }
                }
                None => Source::Url(url.into()),
            };
            assert_eq!(Source::of_url(url.into()), expected());
            assert_eq!(Source::of_url(url.to_owned().into()), expected());
        }
    }
}
