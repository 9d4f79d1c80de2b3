//! How many tokens a request has, where no provider of the model counts them.
//!
//! An estimate, no promise: tokenizers differ, and none of them is here. Four bytes of ASCII are a token, as
//! OpenAI's guide has it for English (<https://help.openai.com/en/articles/4936856>), any other character is one;
//! an image is [`IMAGE`], a document one for every [`DOCUMENT_BYTES`] bytes of it. It errs on the high side for
//! prose, so that a client which makes room in its context does so in time.

use crate::conversation::{Block, Part, Request, Source};

/// Anthropic's largest (<https://platform.claude.com/docs/en/build-with-claude/vision#image-costs>).
const IMAGE: u64 = 1_600;

/// A page of a PDF is about 50 kB and 2,000 tokens
/// (<https://platform.claude.com/docs/en/build-with-claude/pdf-support#estimate-your-costs>).
const DOCUMENT_BYTES: u64 = 25;

/// What a message, a tool or a call costs beside its texts.
const FRAME: u64 = 4;

pub(super) fn tokens(request: &Request<'_>) -> u64 {
    let messages = request.messages.iter().map(|message| FRAME + parts(&message.parts));
    let tools = request.tools.iter().map(|tool| {
        let schema = tool.parameters.map_or(0, |schema| text(schema.get()));
        FRAME + text(&tool.name) + tool.description.as_deref().map_or(0, text) + schema
    });
    messages.chain(tools).sum()
}

fn parts(parts: &[Part<'_>]) -> u64 {
    parts.iter().map(|part| block(&part.block)).sum()
}

fn block(block: &Block<'_>) -> u64 {
    match block {
        Block::Text(words) | Block::Refusal(words) | Block::Thinking { text: words, .. } => {
            text(words)
        }
        Block::Image(_) => IMAGE,
        Block::Document { source: Source::Base64 { data, .. }, .. } => {
            // Base64 is four bytes for three.
            length(data) * 3 / 4 / DOCUMENT_BYTES
        }
        Block::Document { .. } => IMAGE,
        Block::Audio { data, .. } | Block::Redacted { data, .. } => length(data) / 4,
        Block::ToolUse { name, arguments, .. } => FRAME + text(name) + text(arguments),
        Block::ToolResult { content, .. } => FRAME + parts(content),
    }
}

fn text(text: &str) -> u64 {
    let other = text.chars().filter(|c| !c.is_ascii()).count();
    let ascii = text.bytes().filter(u8::is_ascii).count();
    u64::try_from(ascii.div_ceil(4) + other).unwrap_or(u64::MAX)
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_count_by_bytes_and_characters() {
        for (words, expected) in
            [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("世界", 2), ("Grüße", 3)]
        {
            assert_eq!(text(words), expected, "{words}");
        }
        let image = || Block::Image(Source::Url("https://x.example/a.png".into())).into();
        let result = Block::ToolResult { id: "1".into(), content: vec![image()], is_error: false };
        assert_eq!(parts(&[image(), result.into()]), 2 * IMAGE + FRAME);
        let data = "A".repeat(100_000).into();
        let source = Source::Base64 { media_type: "application/pdf".into(), data };
        assert_eq!(block(&Block::Document { source, name: None }), 3_000);
    }
}
