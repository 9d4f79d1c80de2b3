//! Token counts in one convention, and how the providers' counts become it.

use serde::{Deserialize, Serialize};

use crate::members;

/// Tokens that one answer (or any sum of answers) took.
///
/// The convention of OpenTelemetry's GenAI attributes, whose names are given: parts are included in their whole.
/// What was neither read from a cache nor written to it is `prompt - cached - cache_write`.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// `gen_ai.usage.input_tokens`: includes `cached` and `cache_write`.
    pub prompt: u64,
    /// `gen_ai.usage.output_tokens`: includes `reasoning`.
    pub completion: u64,
    /// `gen_ai.usage.cache_read.input_tokens`
    pub cached: u64,
    /// `gen_ai.usage.reasoning.output_tokens`
    pub reasoning: u64,
    /// `gen_ai.usage.cache_creation.input_tokens`
    pub cache_write: u64,
}

impl Usage {
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// The larger of each count: reports of one answer are cumulative, but not all name every count.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, u64::max)
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn zip(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            prompt: each(self.prompt, other.prompt),
            completion: each(self.completion, other.completion),
            cached: each(self.cached, other.cached),
            reasoning: each(self.reasoning, other.reasoning),
            cache_write: each(self.cache_write, other.cache_write),
        }
    }
}

/// Reads the `usage` object of chat completions, completions, embeddings, responses or messages, or the
/// `usageMetadata` of `generateContent`.
///
/// `None` where it holds no count at all (`null`, `{}`). A member that is missing, `null`, negative or no number
/// counts as absent; a fraction is cut off; what exceeds `u64` is `u64::MAX`. Beside OpenAI's own members:
///
/// - DeepSeek's `prompt_cache_hit_tokens` and Moonshot's top-level `cached_tokens`.
/// - A whole that is missing is what `total_tokens` leaves for it (embeddings give only that).
/// - xAI and Gemini leave reasoning out of `completion_tokens` and have it in `total_tokens` alone: what the total
///   has on top of both wholes is completion, as which it is billed.
/// - Gemini's own `thoughtsTokenCount` is no part of its `candidatesTokenCount`, nor `toolUsePromptTokenCount` (what
///   Google's own tools read) of its `promptTokenCount`.
/// - Anthropic's `cache_read_input_tokens` and `cache_creation_input_tokens` are no part of its `input_tokens`.
pub fn parse(usage_object: &[u8]) -> Option<Usage> {
    let (mut prompt, mut completion, mut total) = (None, None, None);
    let (mut parts, mut beside) = (Usage::default(), Usage::default());
    members::walk(core::str::from_utf8(usage_object).ok()?, |name, value| match name {
        "prompt_tokens" | "input_tokens" | "promptTokenCount" => {
            prompt = members::count(value).or(prompt);
        }
        "completion_tokens" | "output_tokens" | "candidatesTokenCount" => {
            completion = members::count(value).or(completion);
        }
        "total_tokens" | "totalTokenCount" => total = members::count(value),
        "cachedContentTokenCount" => parts.cached = members::count(value).unwrap_or_default(),
        "thoughtsTokenCount" => {
            parts.reasoning = members::count(value).unwrap_or_default();
            beside.completion = parts.reasoning;
        }
        "toolUsePromptTokenCount" => beside.prompt = members::count(value).unwrap_or_default(),
        "prompt_cache_hit_tokens" | "cached_tokens" => {
            parts.cached = members::count(value).unwrap_or_default().max(parts.cached);
        }
        "cache_read_input_tokens" => beside.cached = members::count(value).unwrap_or_default(),
        "cache_creation_input_tokens" => {
            beside.cache_write = members::count(value).unwrap_or_default();
        }
        "prompt_tokens_details"
        | "input_tokens_details"
        | "completion_tokens_details"
        | "output_tokens_details" => parts = parts.max(details(value)),
        _ => {}
    })
    .ok()?;
    prompt.or(completion).or(total)?;
    let total = total.unwrap_or_default();
    let prompt = prompt.unwrap_or(total.saturating_sub(completion.unwrap_or_default()));
    let prompt = prompt.saturating_add(beside.cached).saturating_add(beside.cache_write);
    let prompt = prompt.saturating_add(beside.prompt);
    let parts = parts.max(beside);
    let completion = completion.unwrap_or_default().saturating_add(beside.completion);
    let completion = completion.max(total.saturating_sub(prompt));
    let cached = parts.cached.min(prompt);
    Some(Usage {
        prompt,
        completion,
        cached,
        reasoning: parts.reasoning.min(completion),
        cache_write: parts.cache_write.min(prompt - cached),
    })
}

/// The parts that a `*_tokens_details` object names; none where it is no object.
fn details(object: &str) -> Usage {
    let mut parts = Usage::default();
    let read = members::walk(object, |name, value| {
        let count = members::count(value).unwrap_or_default();
        match name {
            "cached_tokens" => parts.cached = count,
            "cache_write_tokens" => parts.cache_write = count,
            // The second is Anthropic's.
            "reasoning_tokens" | "thinking_tokens" => parts.reasoning = count,
            _ => {}
        }
    });
    read.map(|()| parts).unwrap_or_default()
}

/// Turns the repeated, cumulative reports of one answer into what is still to be recorded.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    recorded: Usage,
}

impl Meter {
    /// What to add to the counters: the part of `usage` that no earlier report had.
    #[must_use]
    pub fn report(&mut self, usage: Usage) -> Usage {
        let total = self.recorded.max(usage);
        let delta = total.zip(self.recorded, u64::saturating_sub);
        self.recorded = total;
        delta
    }

    /// The sum of all that [`Self::report`] gave.
    pub fn total(&self) -> Usage {
        self.recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, completion: u64, cached: u64, reasoning: u64, cache_write: u64) -> Usage {
        Usage { prompt, completion, cached, reasoning, cache_write }
    }

    #[test]
    fn one_convention_for_all() {
        let table = [
            // Chat completions, with everything.
            (
                r#"{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,
                    "prompt_tokens_details":{"cached_tokens":12,"audio_tokens":0,"cache_write_tokens":3},
                    "completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":0}}"#,
                usage(20, 9, 12, 4, 3),
            ),
            // Responses.
            (
                r#"{"input_tokens":20,"input_tokens_details":{"cached_tokens":12},
                    "output_tokens":9,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":29}"#,
                usage(20, 9, 12, 4, 0),
            ),
            // Embeddings, and a service that gives the sum alone.
            (r#"{"prompt_tokens":8,"total_tokens":8}"#, usage(8, 0, 0, 0, 0)),
            (r#"{"total_tokens":8}"#, usage(8, 0, 0, 0, 0)),
            (r#"{"completion_tokens":3,"total_tokens":8}"#, usage(5, 3, 0, 0, 0)),
            // Messages.
            (
                r#"{"input_tokens":9,"cache_creation_input_tokens":30,"cache_read_input_tokens":4000,
                    "output_tokens":60,"output_tokens_details":{"thinking_tokens":41},"service_tier":"standard"}"#,
                usage(4039, 60, 4000, 41, 30),
            ),
            // Gemini.
            (
                r#"{"promptTokenCount":20,"cachedContentTokenCount":12,"toolUsePromptTokenCount":3,
                    "candidatesTokenCount":9,"thoughtsTokenCount":30,"totalTokenCount":62,
                    "promptTokensDetails":[{"modality":"TEXT","tokenCount":20}],"trafficType":"ON_DEMAND"}"#,
                usage(23, 39, 12, 30, 0),
            ),
            (r#"{"promptTokenCount":5,"totalTokenCount":20}"#, usage(5, 15, 0, 0, 0)),
            // DeepSeek, Moonshot.
            (
                r#"{"prompt_tokens":20,"completion_tokens":9,"prompt_cache_hit_tokens":15,"prompt_cache_miss_tokens":5}"#,
                usage(20, 9, 15, 0, 0),
            ),
            (
                r#"{"prompt_tokens":20,"completion_tokens":9,"cached_tokens":15}"#,
                usage(20, 9, 15, 0, 0),
            ),
            // xAI and Gemini: reasoning outside of completion, named or not.
            (
                r#"{"prompt_tokens":20,"completion_tokens":9,"total_tokens":129,
                    "completion_tokens_details":{"reasoning_tokens":100}}"#,
                usage(20, 109, 0, 100, 0),
            ),
            (
                r#"{"prompt_tokens":20,"completion_tokens":151,"total_tokens":553}"#,
                usage(20, 533, 0, 0, 0),
            ),
            // Numbers as they should not be.
            (r#"{"prompt_tokens":2e1,"completion_tokens":9.0}"#, usage(20, 9, 0, 0, 0)),
            (r#"{"prompt_tokens":-3,"completion_tokens":9}"#, usage(0, 9, 0, 0, 0)),
            (
                r#"{"prompt_tokens":1e999,"completion_tokens":99999999999999999999}"#,
                usage(u64::MAX, u64::MAX, 0, 0, 0),
            ),
            // Odd members.
            (
                r#"{"prompt_tokens":20,"completion_tokens":null,"prompt_tokens_details":null,
                    "completion_tokens_details":[1],"x":{"prompt_tokens":7}}"#,
                usage(20, 0, 0, 0, 0),
            ),
            (r#"{"prompt_tokens":"20","completion_tokens":9}"#, usage(0, 9, 0, 0, 0)),
            // Parts never exceed their whole.
            (
                r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4,
                    "cache_write_tokens":4},"completion_tokens_details":{"reasoning_tokens":7}}"#,
                usage(5, 1, 4, 1, 1),
            ),
        ];
        for (object, expected) in table {
            assert_eq!(parse(object.as_bytes()), Some(expected), "{object}");
        }
    }

    #[test]
    fn no_count_is_no_usage() {
        for object in
            ["null", "{}", "[]", "7", "", "{\"prompt_tokens\":", r#"{"prompt_tokens":null}"#]
        {
            assert_eq!(parse(object.as_bytes()), None, "{object}");
        }
        assert_eq!(parse(b"{\"prompt_tokens\":1,\"x\":\"\xFF\"}"), None);
    }

    #[test]
    fn a_meter_records_every_token_once() {
        let mut meter = Meter::default();
        assert_eq!(meter.report(usage(100, 1, 40, 0, 0)), usage(100, 1, 40, 0, 0));
        assert_eq!(meter.report(usage(100, 1, 40, 0, 0)), Usage::default());
        assert_eq!(meter.report(usage(0, 51, 0, 10, 0)), usage(0, 50, 0, 10, 0));
        assert_eq!(meter.report(usage(90, 60, 40, 10, 5)), usage(0, 9, 0, 0, 5));
        assert_eq!(meter.total(), usage(100, 60, 40, 10, 5));
        assert_eq!(meter.total().total(), 160);
        assert_eq!(usage(u64::MAX, 1, 0, 0, 0).total(), u64::MAX);
    }
}
