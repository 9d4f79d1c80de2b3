//! Models that are known by name, for `models: auto`: what a provider of a kind serves.
//!
//! As of 2026-11-22, from the vendors' own SDKs (openai 3.54.0, anthropic 2.12.0, google-genai 3.4.0, mistralai 3.7.0,
//! cohere 7.3.1: models that they list and do not call shut down) and the pages that the rows name. A pattern
//! (`gpt-6*`) stands for models that are newer than this list, and for dated versions; patterns serve only names
//! that no provider has in full.
//!
//! What somebody deploys under names of their own (Azure, vLLM, Ollama, …) is not known, and what an aggregator
//! serves changes too fast to be listed here in full: `models` of a provider says it.

use crate::provider::Kind;

/// One model of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What clients ask for; may end in `*`.
    pub name: &'static str,
    /// What the provider calls it, where that differs.
    pub upstream: Option<&'static str>,
}

/// The models of a kind, the newest first.
pub fn models(kind: &Kind) -> impl Iterator<Item = Known> {
    let row = CATALOG.iter().find(|(name, _)| *name == kind.name);
    row.map_or("", |(_, models)| models).split_ascii_whitespace().map(|word| {
        match word.split_once('=') {
            Some((name, upstream)) => Known { name, upstream: Some(upstream) },
            None => Known { name: word, upstream: None },
        }
    })
}

/// One string for each kind: words, of which `ALIAS=NAME` is a name that several providers share.
const CATALOG: &[(&str, &str)] = &[
    ("openai", OPENAI),
    ("anthropic", ANTHROPIC),
    ("gemini", GEMINI),
    ("vertex", GEMINI),
    // <https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai>
    (
        "vertex-anthropic",
        "claude-opus-5 claude-opus-4-6 claude-sonnet-4-6 claude-opus-4-5@20251101 \
         claude-opus-4-5=claude-opus-4-5@20251101 claude-sonnet-4-5@20250929 \
         claude-sonnet-4-5=claude-sonnet-4-5@20250929 claude-haiku-4-5@20251001 \
         claude-haiku-4-5=claude-haiku-4-5@20251001 claude-*",
    ),
    // <https://docs.cohere.com/docs/models>
    (
        "cohere",
        "command-a-plus-05-2026 command-a-03-2025 command-r-08-2024 embed-v5.0-fast \
         embed-english-v3.0 rerank-v5.0-pro rerank-v4.0-pro command-* embed-* rerank-*",
    ),
    // <https://docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html>
    (
        "bedrock",
        "amazon.* anthropic.* cohere.* deepseek.* meta.* mistral.* openai.* qwen.* us.* eu.* apac.* \
         global.*",
    ),
    ("mistral", MISTRAL),
    // <https://console.groq.com/docs/models>
    (
        "groq",
        "openai/gpt-oss-120b gpt-oss-120b=openai/gpt-oss-120b openai/gpt-oss-20b \
         gpt-oss-20b=openai/gpt-oss-20b llama-3.3-70b-versatile llama-3.1-8b-instant groq/compound \
         groq/compound-mini whisper-large-v3 whisper-large-v3-turbo",
    ),
    // <https://api-docs.deepseek.com/quick_start/pricing>
    ("deepseek", "deepseek-flash deepseek-v4-pro deepseek-v4-flash deepseek-v*"),
    // <https://docs.x.ai/docs/models>
    (
        "xai",
        "grok-4.7 grok-4.6 grok-4.5 grok-4.3 grok-4.20-reasoning grok-4.20-non-reasoning \
         grok-imagine-image-quality grok-*",
    ),
    // <https://docs.together.ai/docs/serverless-models>
    (
        "together",
        "deepseek-ai/DeepSeek-V4-Pro deepseek-v4-pro=deepseek-ai/DeepSeek-V4-Pro \
         deepseek-ai/DeepSeek-V4-Flash-0731 openai/gpt-oss-120b gpt-oss-120b=openai/gpt-oss-120b",
    ),
    // <https://app.fireworks.ai/models>
    (
        "fireworks",
        "accounts/fireworks/models/gpt-oss-120b \
         gpt-oss-120b=accounts/fireworks/models/gpt-oss-120b \
         accounts/fireworks/models/deepseek-v4-flash \
         deepseek-v4-flash=accounts/fireworks/models/deepseek-v4-flash \
         accounts/fireworks/models/glm-5 glm-5=accounts/fireworks/models/glm-5 accounts/*",
    ),
    // <https://openrouter.ai/models>
    (
        "openrouter",
        "openrouter/auto openai/gpt-oss-120b gpt-oss-120b=openai/gpt-oss-120b openrouter/* openai/* \
         anthropic/* google/* meta-llama/* mistralai/* deepseek/* qwen/* x-ai/* moonshotai/* z-ai/* \
         minimax/* nvidia/* cohere/* amazon/* microsoft/* perplexity/*",
    ),
    // <https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/overview>
    ("perplexity", "perplexity/sonar"),
    // <https://inference-docs.cerebras.ai/models/overview>
    ("cerebras", "gpt-oss-120b qwen-3.8-27b"),
    // <https://platform.kimi.ai/docs/models>
    (
        "moonshot",
        "kimi-k3 kimi-k2.7-code kimi-k2.7-code-highspeed kimi-k2.6 kimi-k2.5 moonshot-v1-auto \
         moonshot-v1-128k moonshot-v1-32k moonshot-v1-8k kimi-* moonshot-v1-*",
    ),
    // <https://www.alibabacloud.com/help/en/model-studio/models>
    (
        "qwen",
        "qwen3.5-plus qwen3.5-397b-a17b qwen3-max qwen-plus qwen-flash qwen3-next-80b-a3b-instruct \
         qwen3-next-80b-a3b-thinking text-embedding-v4 qwen3* qwen-plus* qwen-flash* qwen-max* \
         text-embedding-v*",
    ),
    // <https://docs.z.ai/guides/overview/pricing>
    ("zhipu", "glm-5.2 glm-5.1 glm-5 glm-5-turbo glm-4.7 glm-4.6 glm-4.5 glm-4.5-air glm-*"),
    // <https://platform.minimax.io/docs/guides/text-generation>
    (
        "minimax",
        "MiniMax-M3 MiniMax-M2.7 MiniMax-M2.7-highspeed MiniMax-M2.5 MiniMax-M2.5-highspeed \
         MiniMax-M2.1 MiniMax-M2.1-highspeed MiniMax-M2 MiniMax-*",
    ),
    ("huggingface", "openai/gpt-oss-120b gpt-oss-120b=openai/gpt-oss-120b"),
];

/// <https://developers.openai.com/api/docs/models>,
/// <https://developers.openai.com/api/docs/deprecations>
const OPENAI: &str = "\
    gpt-6.2-astra gpt-6.2-sol gpt-6.1-sol gpt-6.1-terra gpt-6-astra gpt-6-sol gpt-6-luna \
    gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna gpt-5.5 gpt-5.5-pro gpt-5.4 gpt-5.4-mini gpt-5.4-nano \
    gpt-5.2 gpt-5.2-pro gpt-5.1 gpt-5 gpt-5-mini gpt-5-nano gpt-4.1 gpt-4.1-mini gpt-4o \
    gpt-4o-mini o3 gpt-audio-mini \
    text-embedding-3-small text-embedding-3-large text-embedding-ada-002 omni-moderation-latest \
    gpt-image-2.6-sunburst gpt-image-2.6-flare gpt-image-2.5-sunburst gpt-image-2.5-flare \
    gpt-image-2 gpt-image-1.5 gpt-image-1-mini chatgpt-image-latest \
    gpt-transcribe gpt-4o-transcribe gpt-4o-mini-transcribe gpt-4o-transcribe-diarize whisper-1 \
    gpt-4o-mini-tts tts-1 tts-1-hd \
    gpt-4* gpt-5* gpt-6* gpt-image-* gpt-audio* o1* o3* o4* text-embedding-3-* omni-moderation-*";

/// <https://platform.claude.com/docs/en/about-claude/models/overview>
const ANTHROPIC: &str = "\
    claude-fable-5-2 claude-mythos-5-2 claude-opus-5-5 claude-sonnet-5-5 claude-haiku-5-5 \
    claude-fable-5-1 claude-mythos-5-1 claude-fable-5 claude-mythos-5 claude-opus-5 claude-sonnet-5 \
    claude-opus-4-8 claude-opus-4-7 claude-opus-4-6 claude-sonnet-4-6 claude-haiku-4-5 \
    claude-opus-4-5 claude-sonnet-4-5 claude-*";

/// <https://ai.google.dev/gemini-api/docs/models>, <https://ai.google.dev/gemini-api/docs/deprecations>
const GEMINI: &str = "\
    gemini-3.8-flash gemini-3.7-flash gemini-3.6-flash gemini-3.5-flash gemini-3.5-flash-lite \
    gemini-3.1-pro-preview gemini-3.1-flash-lite gemini-3.1-flash-image gemini-3-pro-image \
    gemini-2.5-flash-lite gemini-2.5-pro gemini-2.5-flash gemini-embedding-2 gemini-embedding-001 \
    gemini-*";

/// <https://docs.mistral.ai/getting-started/models>
const MISTRAL: &str = "\
    mistral-large-latest mistral-medium-latest mistral-medium-3-5 mistral-small-latest \
    ministral-8b-latest ministral-3b-latest magistral-medium-latest magistral-small-latest \
    codestral-latest devstral-medium-latest devstral-2512 voxtral-mini-latest mistral-embed \
    mistral-moderation-2603 mistral-* ministral-* magistral-* codestral-* devstral-* voxtral-*";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{find, kinds};
    use std::collections::HashSet;

    #[test]
    fn rows_are_of_kinds_and_names_unique_in_them() {
        for (index, (kind, _)) in CATALOG.iter().enumerate() {
            assert!(find(kind).is_some(), "{kind}");
            assert_eq!(CATALOG.iter().position(|(other, _)| other == kind), Some(index));
            let mut seen = HashSet::new();
            for Known { name, upstream } in models(find(kind).unwrap()) {
                assert!(seen.insert(name), "{kind}: {name} is there twice");
                let literal = name.strip_suffix('*').unwrap_or(name);
                assert!(!literal.is_empty() && !literal.contains('*'), "{kind}: {name}");
                for name in [Some(literal), upstream].into_iter().flatten() {
                    assert!(
                        crate::members::is_safe_model_segment(name.trim_end_matches('/')),
                        "{kind}: {name}"
                    );
                }
                assert!(upstream.is_none_or(|upstream| upstream != name && !name.ends_with('*')));
            }
        }
    }

    /// An alias stands for a name that the same provider has in full.
    #[test]
    fn aliases_are_of_listed_names() {
        for kind in kinds() {
            let names: HashSet<&str> = models(kind).map(|known| known.name).collect();
            for known in models(kind) {
                assert!(
                    known.upstream.is_none_or(|upstream| names.contains(upstream)),
                    "{known:?}"
                );
            }
        }
    }

    #[test]
    fn more_than_a_hundred_models() {
        let names: HashSet<&str> = kinds().flat_map(models).map(|known| known.name).collect();
        let exact = names.iter().filter(|name| !name.ends_with('*')).count();
        assert!(exact > 120, "{exact}");
    }
}
