//! The provider table: one row per service that Keyward can speak to.

use crate::endpoint::Endpoints;
use crate::formats::Format;
use crate::members::LimitName;
use crate::providers::{anthropic, bedrock, cohere, compatible, gemini, vertex};
use crate::signal::Verdict;

/// One row of the table.
#[derive(Debug)]
pub struct Kind {
    /// Lower case, unique in the table.
    pub name: &'static str,
    /// Default host; empty where there is none (a self-hosted server).
    pub host: &'static str,
    /// With a leading slash, without a trailing one.
    pub base_path: &'static str,
    pub format: Format,
    pub credential: Credential,
    /// What the service takes as it is, below `base_path`. Anything else is translated or refused, never sent.
    pub endpoints: Endpoints,
    /// What bounds the answer of chat completions.
    pub answer_limit: AnswerLimit,
    /// How the service takes thinking back that it gave.
    pub thoughts: Thoughts,
    /// Whether the service understands `stream_options.include_usage`.
    pub stream_options: bool,
    /// Whether its rate limits are counted per model: other models of the key go on.
    pub model_scoped_limits: bool,
    /// What the service's own error codes mean, where they are unknown elsewhere or mean something else
    /// there. They come before the codes of [`crate::signal`].
    pub codes: &'static [(&'static str, Verdict)],
    /// What a status means where no code says more, if not the usual.
    pub statuses: &'static [(u16, Verdict)],
}

/// How the key travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer KEY` (RFC 6750).
    Bearer,
    /// The key alone, in this header.
    Header(&'static str),
}

/// How a model's thinking goes back to it within a tool loop, in chat completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoughts {
    /// Not at all: the member would be refused.
    None,
    /// `reasoning_content` of the assistant's message
    /// (<https://api-docs.deepseek.com/guides/thinking_mode#tool-calls>).
    Content,
    /// `reasoning_details`, as they came
    /// (<https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks>).
    Details,
}

/// Which of the two names for the longest answer a service understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerLimit {
    Either,
    /// `max_tokens`: the other name is refused or ignored.
    MaxTokens,
    /// Reasoning models refuse `max_tokens`
    /// (<https://platform.openai.com/docs/api-reference/chat/create#chat-create-max_tokens>).
    MaxCompletionTokensForReasoning,
}

impl AnswerLimit {
    /// The name to put in place of the one that is given.
    pub fn instead_of(self, given: LimitName, model: &str) -> Option<LimitName> {
        match (self, given) {
            (Self::MaxTokens, LimitName::MaxCompletionTokens) => Some(LimitName::MaxTokens),
            (Self::MaxCompletionTokensForReasoning, LimitName::MaxTokens) => {
                reasons(model).then_some(LimitName::MaxCompletionTokens)
            }
            _ => None,
        }
    }
}

/// Whether a model of OpenAI's reasons, by its name: the o series, and GPT from version 5 on.
fn reasons(model: &str) -> bool {
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.split_at(end).0.parse::<u32>().ok()
    };
    match model.strip_prefix("gpt-") {
        Some(version) => digits(version).is_some_and(|version| (5..35).contains(&version)),
        None => model.strip_prefix('o').and_then(digits).is_some(),
    }
}

/// Every row, in the order in which they are listed to operators.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    const FORMATS: [&[&Kind]; 6] = [
        anthropic::KINDS,
        bedrock::KINDS,
        cohere::KINDS,
        compatible::KINDS,
        gemini::KINDS,
        vertex::KINDS,
    ];
    FORMATS.into_iter().flatten().copied()
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    kinds().find(|kind| kind.name == name)
}

/// The names of all rows, for the message about an unknown one.
pub fn names() -> impl Iterator<Item = &'static str> {
    kinds().map(|kind| kind.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        for (index, name) in names().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(!name.is_empty() && name.chars().all(plain), "{name}");
            assert_eq!(
                names().position(|other| other == name),
                Some(index),
                "{name} is there twice"
            );
            assert_eq!(find(name).map(|kind| kind.name), Some(name));
        }
        assert!(find("opnai").is_none());
        assert!(find("").is_none());
    }

    #[test]
    fn hosts_and_paths_are_well_formed() {
        for kind in kinds() {
            let label = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && label
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            };
            let host = kind.host;
            assert!(
                host.is_empty() || (host.contains('.') && host.split('.').all(label)),
                "{host}"
            );
            let path = kind.base_path;
            assert!(
                path.starts_with('/') && !path.ends_with('/') && !path.contains("//"),
                "{path}"
            );
        }
    }

    #[test]
    fn credentials_are_lower_case_headers() {
        for kind in kinds() {
            if let Credential::Header(name) = kind.credential {
                assert!(
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                );
            }
        }
    }

    #[test]
    fn the_bound_of_the_answer_has_the_name_that_the_service_knows() {
        use LimitName::{MaxCompletionTokens as New, MaxTokens as Old};
        for (kind, model, given, expected) in [
            ("openai", "gpt-4o", Old, None),
            ("openai", "gpt-3.5-turbo", Old, None),
            ("openai", "gpt-4.1-mini", Old, None),
            ("openai", "gpt-5-mini", Old, Some(New)),
            ("openai", "gpt-6.2-astra", Old, Some(New)),
            ("openai", "o3", Old, Some(New)),
            ("openai", "omni", Old, None),
            ("openai", "o3", New, None),
            ("mistral", "mistral-large-latest", New, Some(Old)),
            ("mistral", "mistral-large-latest", Old, None),
            ("groq", "openai/gpt-oss-120b", New, None),
            ("openai-compatible", "o3", Old, None),
        ] {
            let limit = find(kind).unwrap().answer_limit;
            assert_eq!(limit.instead_of(given, model), expected, "{kind} {model}");
        }
    }

    #[test]
    fn quirks_say_something() {
        for kind in kinds() {
            for (index, (code, verdict)) in kind.codes.iter().enumerate() {
                let first =
                    kind.codes.iter().position(|(other, _)| other.eq_ignore_ascii_case(code));
                assert_eq!(first, Some(index), "{}: {code} is there twice", kind.name);
                assert_ne!(*verdict, Verdict::Success, "{}: {code}", kind.name);
            }
            assert!(
                kind.statuses.iter().all(|(status, _)| (400..600).contains(status)),
                "{}",
                kind.name
            );
        }
    }
}
