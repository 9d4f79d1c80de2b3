//! What a model takes, by its name: Anthropic refuses with 400 what a model does not.
//!
//! By version, so that a model of tomorrow is taken for the newest that is known. Sources: the pages "Adaptive
//! thinking", "Effort" and "Structured outputs" below <https://platform.claude.com/docs/en/build-with-claude>, and
//! the migration guide <https://platform.claude.com/docs/en/about-claude/models/migration-guide>.

/// Claude's version; `None`: another model behind Anthropic's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) struct Model(Option<(u32, u32)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) enum Thinking {
    None,
    /// `{"type":"enabled","budget_tokens":…}`.
    Budget,
    /// `{"type":"adaptive"}`, steered by `output_config.effort`.
    Adaptive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) enum Sampling {
    All,
    /// Not `temperature` and `top_p` at once.
    One,
    None,
}

impl Model {
    /// `claude-opus-4-6`, `claude-3-5-sonnet-20241022`, `claude-sonnet-4@20250514`, …
    pub(in crate::formats) fn of(name: &str) -> Self {
        const NEWEST: (u32, u32) = (u32::MAX, 0);
        let Some((_, rest)) = name.split_once("claude") else { return Self(None) };
        let mut numbers = rest
            .split(['-', '.', '@', ':', '_'])
            // A longer one is a date.
            .map(|word| word.parse::<u32>().ok().filter(|_| word.len() <= 2))
            .skip_while(Option::is_none);
        let major = numbers.next().flatten();
        let minor = numbers.next().flatten().unwrap_or_default();
        Self(Some(major.map_or(NEWEST, |major| (major, minor))))
    }

    pub(in crate::formats) fn thinking(self) -> Thinking {
        match self.0 {
            Some((4, 6..) | (5.., _)) => Thinking::Adaptive,
            Some((4, _) | (3, 7..)) | None => Thinking::Budget,
            Some(_) => Thinking::None,
        }
    }

    pub(in crate::formats) fn sampling(self) -> Sampling {
        match self.0 {
            Some((4, 7..) | (5.., _)) => Sampling::None,
            Some((4, 1..)) => Sampling::One,
            _ => Sampling::All,
        }
    }

    /// `strict` tools.
    pub(in crate::formats) fn is_strict(self) -> bool {
        matches!(self.0, Some((4, 5..) | (5.., _)))
    }

    /// Whether effort goes beyond `max`'s predecessor: `xhigh` came with 4.7.
    pub(in crate::formats) fn has_extra_high(self) -> bool {
        matches!(self.0, Some((4, 7..) | (5.., _)))
    }

    /// For requests that leave it open. Newer models can say more, but nobody asked for it.
    pub(in crate::formats) fn max_tokens(self) -> u64 {
        match self.0 {
            Some((4.., _) | (3, 7..)) => 32_000,
            Some((3, 5..)) | None => 8_192,
            Some(_) => 4_096,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_versions() {
        let newest = (u32::MAX, 0);
        for (name, version) in [
            ("claude-3-opus-20240229", Some((3, 0))),
            ("claude-3-5-sonnet-latest", Some((3, 5))),
            ("claude-3-7-sonnet-20250219", Some((3, 7))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-sonnet-4@20250514", Some((4, 0))),
            ("claude-opus-4-1", Some((4, 1))),
            ("claude-haiku-4-5-20251001", Some((4, 5))),
            ("anthropic.claude-opus-4-6-v1:0", Some((4, 6))),
            ("claude-opus-4.7", Some((4, 7))),
            ("claude-fable-5-1", Some((5, 1))),
            ("claude-mythos-preview", Some(newest)),
            ("kimi-k2", None),
        ] {
            assert_eq!(Model::of(name), Model(version), "{name}");
        }
    }

    #[test]
    fn versions_tell_what_is_taken() {
        use Sampling::{All, One};
        use Thinking::{Adaptive, Budget};
        for (name, thinking, sampling, strict, max_tokens) in [
            ("claude-3-haiku-20240307", Thinking::None, All, false, 4_096),
            ("claude-3-5-sonnet-latest", Thinking::None, All, false, 8_192),
            ("claude-3-7-sonnet-latest", Budget, All, false, 32_000),
            ("claude-opus-4-1", Budget, One, false, 32_000),
            ("claude-haiku-4-5", Budget, One, true, 32_000),
            ("claude-sonnet-4-6", Adaptive, One, true, 32_000),
            ("claude-opus-4-7", Adaptive, Sampling::None, true, 32_000),
            ("claude-opus-5", Adaptive, Sampling::None, true, 32_000),
            ("claude-mythos-preview", Adaptive, Sampling::None, true, 32_000),
            ("minimax-m2", Budget, All, false, 8_192),
        ] {
            let model = Model::of(name);
            assert_eq!(
                (model.thinking(), model.sampling(), model.is_strict(), model.max_tokens()),
                (thinking, sampling, strict, max_tokens),
                "{name}"
            );
        }
    }
}
