//! What a model takes, by its name: Gemini refuses with 400 what a model does not.
//!
//! By generation, so that a model of tomorrow is taken for the newest that is known. Sources:
//! <https://ai.google.dev/gemini-api/docs/thinking>, <https://ai.google.dev/gemini-api/docs/openai> (what an effort
//! means), <https://ai.google.dev/gemini-api/docs/thought-signatures>, <https://ai.google.dev/gemini-api/docs/models>
//! (how long an answer gets).

use serde::Serialize;

use crate::conversation::{Effort, Reasoning};

/// Gemini's generation; `None`: another model behind Gemini's format (Gemma, a tuned model).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    generation: Option<(u32, u32)>,
    line: Line,
    /// It makes images or speech.
    makes_media: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Pro,
    Flash,
    Lite,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Thinking {
    include_thoughts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

impl Model {
    /// `gemini-2.5-flash-lite`, `gemini-3-pro-preview`, `gemini-flash-latest`, …
    pub(super) fn of(name: &str) -> Self {
        const NEWEST: (u32, u32) = (u32::MAX, 0);
        let generation = name.split_once("gemini").map(|(_, rest)| {
            let versions = rest.split('-').filter_map(|word| {
                let (major, minor) = word.split_once('.').unwrap_or((word, "0"));
                // A longer one is a date.
                let major = major.parse().ok().filter(|_| major.len() <= 2)?;
                Some((major, minor.parse().ok()?))
            });
            versions.into_iter().next().unwrap_or(NEWEST)
        });
        let line = match name {
            _ if name.contains("lite") => Line::Lite,
            _ if name.contains("pro") => Line::Pro,
            _ => Line::Flash,
        };
        let makes_media = ["image", "tts", "audio"].iter().any(|word| name.contains(word));
        Self { generation, line, makes_media }
    }

    /// Function calls of a conversation have to come back with the signatures they came with.
    pub(super) fn demands_signatures(self) -> bool {
        self.generation >= Some((3, 0))
    }

    /// Whether its text can be held to JSON while it has functions to call.
    pub(super) fn has_json_beside_tools(self) -> bool {
        self.generation >= Some((3, 0))
    }

    /// Gemma before its fourth generation refuses instructions.
    pub(super) fn has_instructions(name: &str) -> bool {
        !["gemma-2", "gemma-3"].iter().any(|gemma| name.contains(gemma))
    }

    /// Most tokens of an answer, where a larger limit is refused instead of cut: clients of other APIs ask for what
    /// their own models can say.
    pub(super) fn most_tokens(self) -> u64 {
        match self.generation {
            Some((2, 5..) | (3.., _)) if !self.makes_media => 65_535,
            Some((..2, _) | (2, _)) if !self.makes_media => 8_192,
            _ => u64::MAX,
        }
    }

    /// `None`: the model decides, or does not think.
    pub(super) fn thinking(self, reasoning: Reasoning) -> Option<Thinking> {
        let Reasoning { effort, budget } = reasoning;
        let thinks = effort != Some(Effort::None) && (effort.is_some() || budget.is_some());
        if effort.is_none() && budget.is_none() {
            return None;
        }
        let set =
            Thinking { include_thoughts: thinks, thinking_budget: None, thinking_level: None };
        match self.generation {
            Some((2, 5)) if !self.makes_media => {
                Some(Thinking { thinking_budget: Some(self.budget(effort, budget)), ..set })
            }
            Some((3.., _)) => {
                Some(Thinking { thinking_level: Some(self.level(effort, budget)), ..set })
            }
            _ => None,
        }
    }

    /// Tokens, within what the model takes.
    fn budget(self, effort: Option<Effort>, budget: Option<u64>) -> u64 {
        let (least, most) = match self.line {
            Line::Pro => (128, 32_768),
            Line::Flash => (1, 24_576),
            Line::Lite => (512, 24_576),
        };
        match (effort, budget) {
            // Pro always thinks.
            (Some(Effort::None), _) if self.line == Line::Pro => least,
            (Some(Effort::None), _) => 0,
            (_, Some(budget)) => budget.clamp(least, most),
            (Some(Effort::Minimal | Effort::Low), _) => 1_024,
            (Some(Effort::Medium), _) => 8_192,
            _ => 24_576,
        }
    }

    fn level(self, effort: Option<Effort>, budget: Option<u64>) -> &'static str {
        let effort = match (effort, budget) {
            (Some(Effort::None), _) => Effort::None,
            (_, Some(0..4_096)) => Effort::Low,
            (_, Some(4_096..16_384)) => Effort::Medium,
            (_, Some(_)) => Effort::High,
            (effort, None) => effort.unwrap_or(Effort::High),
        };
        match effort {
            Effort::None | Effort::Minimal if self.line != Line::Pro => "MINIMAL",
            Effort::None | Effort::Minimal | Effort::Low => "LOW",
            // The first Pro of the generation knows no middle.
            Effort::Medium if self.line == Line::Pro && self.generation == Some((3, 0)) => "HIGH",
            Effort::Medium => "MEDIUM",
            Effort::High | Effort::ExtraHigh | Effort::Max => "HIGH",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_generations() {
        let newest = Some((u32::MAX, 0));
        for (name, generation, line) in [
            ("gemini-1.5-pro-002", Some((1, 5)), Line::Pro),
            ("gemini-2.0-flash", Some((2, 0)), Line::Flash),
            ("gemini-2.5-flash-lite", Some((2, 5)), Line::Lite),
            ("gemini-2.5-pro-preview-06-05", Some((2, 5)), Line::Pro),
            ("gemini-3-pro-preview", Some((3, 0)), Line::Pro),
            ("gemini-3.1-flash-lite", Some((3, 1)), Line::Lite),
            ("gemini-flash-latest", newest, Line::Flash),
            ("gemini-exp-1206", newest, Line::Flash),
            ("gemma-3-27b-it", None, Line::Flash),
        ] {
            let model = Model::of(name);
            assert_eq!((model.generation, model.line), (generation, line), "{name}");
        }
        for (name, most) in [
            ("gemini-1.5-pro-002", 8_192),
            ("gemini-2.0-flash", 8_192),
            ("gemini-2.5-flash-lite", 65_535),
            ("gemini-2.5-flash-image", u64::MAX),
            ("gemini-3.1-pro-preview", 65_535),
            ("gemini-pro-latest", 65_535),
            ("gemma-3-27b-it", u64::MAX),
        ] {
            assert_eq!(Model::of(name).most_tokens(), most, "{name}");
        }
        assert!(!Model::of("gemini-2.5-pro").demands_signatures());
        assert!(!Model::of("gemma-3-27b-it").demands_signatures());
        assert!(Model::of("gemini-3-flash-preview").demands_signatures());
        assert!(Model::has_instructions("gemini-3-pro") && Model::has_instructions("gemma-4-31b"));
        assert!(!Model::has_instructions("gemma-3-27b-it"));
    }

    #[test]
    fn an_effort_is_a_budget_or_a_level() {
        use Effort::{ExtraHigh, High, Low, Medium, Minimal, None as No};
        let budget = |tokens: u64| Some((Some(tokens), None));
        let level = |level: &'static str| Some((None, Some(level)));
        for (name, effort, tokens, expected) in [
            ("gemini-2.0-flash", Some(High), None, None),
            ("gemini-2.5-flash-image", Some(High), None, None),
            ("gemma-3-27b-it", Some(High), None, None),
            ("gemini-2.5-flash", None, None, None),
            ("gemini-2.5-flash", Some(No), Some(9_000), budget(0)),
            ("gemini-2.5-pro", Some(No), None, budget(128)),
            ("gemini-2.5-flash", Some(Minimal), None, budget(1_024)),
            ("gemini-2.5-flash", Some(Medium), None, budget(8_192)),
            ("gemini-2.5-pro", Some(ExtraHigh), None, budget(24_576)),
            ("gemini-2.5-pro", Some(High), Some(64_000), budget(32_768)),
            ("gemini-2.5-flash-lite", None, Some(100), budget(512)),
            ("gemini-3-flash-preview", Some(No), None, level("MINIMAL")),
            ("gemini-3-pro-preview", Some(No), None, level("LOW")),
            ("gemini-3-pro-preview", Some(Medium), None, level("HIGH")),
            ("gemini-3.1-pro-preview", Some(Medium), None, level("MEDIUM")),
            ("gemini-3.1-flash-lite", Some(Minimal), None, level("MINIMAL")),
            ("gemini-3-flash-preview", Some(Low), None, level("LOW")),
            ("gemini-3-flash-preview", Some(High), Some(2_000), level("LOW")),
            ("gemini-3-flash-preview", None, Some(32_000), level("HIGH")),
            ("gemini-pro-latest", Some(ExtraHigh), None, level("HIGH")),
        ] {
            let thinking = Model::of(name).thinking(Reasoning { effort, budget: tokens });
            let shows = thinking.as_ref().map(|thinking| thinking.include_thoughts);
            assert_eq!(
                thinking.map(|set| (set.thinking_budget, set.thinking_level)),
                expected,
                "{name} {effort:?} {tokens:?}"
            );
            assert_eq!(shows, expected.map(|_| effort != Some(No)), "{name} {effort:?}");
        }
    }
}
