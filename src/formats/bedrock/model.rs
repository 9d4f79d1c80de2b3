//! Which model stands behind an id: Converse is one API, but not all of its models take all of it.
//!
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-supported-models-features.html>

use crate::formats::anthropic;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Claude(anthropic::Model),
    Nova,
    /// Nova from its second generation, which reasons.
    Nova2,
    /// OpenAI's open models.
    GptOss,
    /// Any other, or one that its id does not tell (an ARN of an application inference profile).
    Other,
}

impl Family {
    /// `anthropic.claude-sonnet-4-5-20250929-v1:0`, `eu.amazon.nova-2-lite-v1:0`, an ARN that ends like that, …
    pub(super) fn of(id: &str) -> Self {
        if let Some((_, name)) = id.rsplit_once("anthropic.") {
            Self::Claude(anthropic::Model::of(name))
        } else if id.contains("amazon.nova-2") {
            Self::Nova2
        } else if id.contains("amazon.nova") {
            Self::Nova
        } else if id.contains("openai.gpt-oss") {
            Self::GptOss
        } else {
            Self::Other
        }
    }

    /// Whether `cachePoint` is taken.
    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html>
    pub(super) const fn has_cache(self) -> bool {
        matches!(self, Self::Claude(_) | Self::Nova | Self::Nova2)
    }

    /// Whether tools can be marked, too.
    pub(super) const fn caches_tools(self) -> bool {
        matches!(self, Self::Claude(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_families() {
        let claude = |name| Family::Claude(anthropic::Model::of(name));
        for (id, family) in [
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", claude("claude-sonnet-4-5")),
            ("us.anthropic.claude-opus-4-6-v1", claude("claude-opus-4-6")),
            ("anthropic.claude-3-haiku-20240307-v1:0", claude("claude-3")),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
                claude("claude-3-7"),
            ),
            ("amazon.nova-pro-v1:0", Family::Nova),
            ("eu.amazon.nova-2-lite-v1:0", Family::Nova2),
            ("openai.gpt-oss-120b-1:0", Family::GptOss),
            ("meta.llama3-3-70b-instruct-v1:0", Family::Other),
            (
                "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
                Family::Other,
            ),
        ] {
            assert_eq!(Family::of(id), family, "{id}");
        }
    }
}
