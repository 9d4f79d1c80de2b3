//! What the models of large providers cost: list prices of their API, as of 2026-11-22, from the pages that stand by
//! each table (collected with the `genai-prices` data set 0.2.3 of that month). No batch, flex, priority or regional
//! prices, and none of what is not billed by tokens.
//!
//! US dollars per million tokens: input, input from a cache, input written to a cache (Anthropic: for five minutes),
//! output, of which reasoning is a part. [`NONE`]: no price of its own, so that of the input holds. Deployments of
//! Azure have names of their own, and resellers prices of their own: those are for the configuration.
//!
//! A name without `-latest` and without a date stands for all of these that have no row of their own.

use super::{Long, Price};

/// A model by its name.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) model: &'static str,
    pub(super) price: Price,
}

/// The rows of a kind of provider, sorted by name; none where nothing is known.
pub(super) fn of_kind(kind: &str) -> &'static [Row] {
    match kind {
        "openai" => OPENAI,
        "anthropic" => ANTHROPIC,
        // The same list prices hold for both of Google's services.
        "gemini" | "vertex" => GEMINI,
        "mistral" => MISTRAL,
        "deepseek" => DEEPSEEK,
        "xai" => XAI,
        "groq" => GROQ,
        "moonshot" => MOONSHOT,
        "cohere" => COHERE,
        "perplexity" => PERPLEXITY,
        "cerebras" => CEREBRAS,
        _ => &[],
    }
}

const NONE: f64 = -1.0;

const fn row(model: &'static str, [input, cached, write, output]: [f64; 4]) -> Row {
    let price = Price {
        input: rate(input),
        cached_input: if cached < 0.0 { rate(input) } else { rate(cached) },
        cache_write: if write < 0.0 { rate(input) } else { rate(write) },
        output: rate(output),
        reasoning: rate(output),
        long: None,
    };
    Row { model, price }
}

/// Dollars per million are millionths of a dollar each; kept are millionths of those.
const fn rate(per_million: f64) -> u32 {
    (per_million * 1e6 + 0.5) as u32
}

impl Row {
    /// A request with more input than that costs so many per cent, of all of its input and output.
    const fn beyond(mut self, above: u32, input: u16, output: u16) -> Self {
        self.price.long = Some(Long { above, input, output });
        self
    }
}

/// <https://developers.openai.com/api/docs/pricing>
const OPENAI: &[Row] = &[
    row("chatgpt-4o", [5.0, NONE, NONE, 15.0]),
    row("codex-mini", [1.5, 0.375, NONE, 6.0]),
    row("gpt-3.5-turbo", [0.5, NONE, NONE, 1.5]),
    row("gpt-3.5-turbo-0125", [0.5, NONE, NONE, 1.5]),
    row("gpt-3.5-turbo-instruct", [1.5, NONE, NONE, 2.0]),
    row("gpt-4", [30.0, NONE, NONE, 60.0]),
    row("gpt-4-0125-preview", [10.0, NONE, NONE, 30.0]),
    row("gpt-4-0613", [30.0, NONE, NONE, 60.0]),
    row("gpt-4-1106-preview", [10.0, NONE, NONE, 30.0]),
    row("gpt-4-turbo", [10.0, NONE, NONE, 30.0]),
    row("gpt-4-turbo-preview", [10.0, NONE, NONE, 30.0]),
    row("gpt-4.1", [2.0, 0.5, NONE, 8.0]),
    row("gpt-4.1-mini", [0.4, 0.1, NONE, 1.6]),
    row("gpt-4.1-nano", [0.1, 0.025, NONE, 0.4]),
    row("gpt-4.5-preview", [75.0, 37.5, NONE, 150.0]),
    row("gpt-4o", [2.5, 1.25, NONE, 10.0]),
    row("gpt-4o-2024-05-13", [5.0, NONE, NONE, 15.0]),
    row("gpt-4o-mini", [0.15, 0.075, NONE, 0.6]),
    row("gpt-5", [1.25, 0.125, NONE, 10.0]),
    row("gpt-5-chat", [1.25, 0.125, NONE, 10.0]),
    row("gpt-5-codex", [1.25, 0.125, NONE, 10.0]),
    row("gpt-5-mini", [0.25, 0.025, NONE, 2.0]),
    row("gpt-5-nano", [0.05, 0.005, NONE, 0.4]),
    row("gpt-5-pro", [15.0, NONE, NONE, 120.0]),
    row("gpt-5.1", [1.25, 0.125, NONE, 10.0]),
    row("gpt-5.1-chat", [1.25, 0.125, NONE, 10.0]),
    row("gpt-5.1-codex", [1.25, 0.125, NONE, 10.0]),
    row("gpt-5.1-codex-max", [1.25, 0.125, NONE, 10.0]),
    row("gpt-5.1-codex-mini", [0.25, 0.025, NONE, 2.0]),
    row("gpt-5.2", [1.75, 0.175, NONE, 14.0]),
    row("gpt-5.2-chat", [1.75, 0.175, NONE, 14.0]),
    row("gpt-5.2-codex", [1.75, 0.175, NONE, 14.0]),
    row("gpt-5.2-pro", [21.0, NONE, NONE, 168.0]),
    row("gpt-5.3", [1.75, 0.175, NONE, 14.0]),
    row("gpt-5.3-chat", [1.75, 0.175, NONE, 14.0]),
    row("gpt-5.3-codex", [1.75, 0.175, NONE, 14.0]),
    row("gpt-5.4", [2.5, 0.25, NONE, 15.0]).beyond(272_000, 200, 150),
    row("gpt-5.4-mini", [0.75, 0.075, NONE, 4.5]),
    row("gpt-5.4-nano", [0.2, 0.02, NONE, 1.25]),
    row("gpt-5.4-pro", [30.0, NONE, NONE, 180.0]).beyond(272_000, 200, 150),
    row("gpt-5.5", [5.0, 0.5, NONE, 30.0]).beyond(272_000, 200, 150),
    row("gpt-5.5-pro", [30.0, NONE, NONE, 180.0]).beyond(272_000, 200, 150),
    row("gpt-5.6-luna", [0.2, 0.02, 0.25, 1.2]).beyond(272_000, 200, 150),
    row("gpt-5.6-sol", [4.0, 0.4, 5.0, 20.0]).beyond(272_000, 200, 150),
    row("gpt-5.6-terra", [2.0, 0.2, 2.5, 12.0]).beyond(272_000, 200, 150),
    row("gpt-6-astra", [10.0, 1.0, 12.5, 50.0]).beyond(272_000, 200, 150),
    row("gpt-6-luna", [0.1, 0.01, 0.125, 0.5]).beyond(272_000, 200, 150),
    row("gpt-6-sol", [2.0, 0.2, 2.5, 10.0]).beyond(272_000, 200, 150),
    row("gpt-6.1-sol", [2.0, 0.1, 2.5, 10.0]).beyond(272_000, 200, 150),
    row("gpt-6.1-terra", [1.0, 0.05, 1.25, 5.0]).beyond(272_000, 200, 150),
    row("gpt-chat", [5.0, 0.5, NONE, 30.0]),
    row("o1", [15.0, 7.5, NONE, 60.0]),
    row("o1-mini", [1.1, 0.55, NONE, 4.4]),
    row("o1-pro", [150.0, NONE, NONE, 600.0]),
    row("o3", [2.0, 0.5, NONE, 8.0]),
    row("o3-mini", [1.1, 0.55, NONE, 4.4]),
    row("o3-pro", [20.0, NONE, NONE, 80.0]),
    row("o4-mini", [1.1, 0.275, NONE, 4.4]),
    row("text-embedding-3-large", [0.13, NONE, NONE, 0.0]),
    row("text-embedding-3-small", [0.02, NONE, NONE, 0.0]),
    row("text-embedding-ada-002", [0.1, NONE, NONE, 0.0]),
];

/// <https://www.anthropic.com/pricing#api>
const ANTHROPIC: &[Row] = &[
    row("claude-3-5-haiku", [0.8, 0.08, 1.0, 4.0]),
    row("claude-3-5-sonnet", [3.0, 0.3, 3.75, 15.0]),
    row("claude-3-7-sonnet", [3.0, 0.3, 3.75, 15.0]),
    row("claude-3-haiku", [0.25, 0.03, 0.3, 1.25]),
    row("claude-3-opus", [15.0, 1.5, 18.75, 75.0]),
    row("claude-3-sonnet", [3.0, 0.3, 3.75, 15.0]),
    row("claude-fable-5", [10.0, 1.0, 12.5, 50.0]),
    row("claude-fable-5-1", [10.0, 0.25, 12.5, 50.0]),
    row("claude-fable-5-2", [8.0, 0.2, 10.0, 40.0]),
    row("claude-haiku-4-5", [1.0, 0.1, 1.25, 5.0]),
    row("claude-haiku-5-5", [0.1, 0.01, 0.125, 0.5]).beyond(100_000, 500, 500),
    row("claude-mythos-5-2", [8.0, 0.2, 10.0, 40.0]),
    row("claude-opus-4", [15.0, 1.5, 18.75, 75.0]),
    row("claude-opus-4-0", [15.0, 1.5, 18.75, 75.0]),
    row("claude-opus-4-1", [15.0, 1.5, 18.75, 75.0]),
    row("claude-opus-4-5", [5.0, 0.5, 6.25, 25.0]),
    row("claude-opus-4-6", [5.0, 0.5, 6.25, 25.0]),
    row("claude-opus-4-7", [5.0, 0.5, 6.25, 25.0]),
    row("claude-opus-4-8", [5.0, 0.5, 6.25, 25.0]),
    row("claude-opus-5", [5.0, 0.5, 6.25, 25.0]),
    row("claude-opus-5-5", [4.0, 0.2, 5.0, 20.0]),
    row("claude-sonnet-4", [3.0, 0.3, 3.75, 15.0]),
    row("claude-sonnet-4-0", [3.0, 0.3, 3.75, 15.0]),
    row("claude-sonnet-4-5", [3.0, 0.3, 3.75, 15.0]).beyond(200_000, 200, 150),
    row("claude-sonnet-4-6", [3.0, 0.3, 3.75, 15.0]),
    row("claude-sonnet-5", [2.0, 0.2, 2.5, 10.0]),
    row("claude-sonnet-5-5", [2.0, 0.1, 2.5, 10.0]),
];

/// <https://ai.google.dev/gemini-api/docs/pricing>
const GEMINI: &[Row] = &[
    row("gemini-2.5-flash", [0.3, 0.03, NONE, 2.5]),
    row("gemini-2.5-flash-lite", [0.1, 0.01, NONE, 0.4]),
    row("gemini-2.5-pro", [1.25, 0.125, NONE, 10.0]).beyond(200_000, 200, 150),
    row("gemini-3-flash-preview", [0.5, 0.05, NONE, 3.0]),
    row("gemini-3-pro-preview", [2.0, 0.2, NONE, 12.0]).beyond(200_000, 200, 150),
    row("gemini-3.1-flash-lite", [0.25, 0.025, NONE, 1.5]),
    row("gemini-3.1-pro-preview", [2.0, 0.2, NONE, 12.0]).beyond(200_000, 200, 150),
    row("gemini-3.5-flash", [1.5, 0.15, NONE, 9.0]),
    row("gemini-3.5-flash-lite", [0.3, 0.03, NONE, 2.5]),
    row("gemini-3.6-flash", [0.75, 0.075, NONE, 3.75]),
    row("gemini-3.7-flash", [0.75, 0.075, NONE, 3.75]),
    row("gemini-3.8-flash", [0.75, 0.075, NONE, 3.75]),
    row("gemini-4-argon", [2.0, 0.1, NONE, 10.0]),
    row("gemini-embedding-001", [0.15, NONE, NONE, 0.0]),
    row("gemini-embedding-2", [0.2, NONE, NONE, 0.0]),
    row("gemini-flash", [0.75, 0.075, NONE, 3.75]),
    row("gemini-flash-lite", [0.3, 0.03, NONE, 2.5]),
    row("gemini-pro", [2.0, 0.2, NONE, 12.0]).beyond(200_000, 200, 150),
];

/// <https://mistral.ai/pricing/api>
const MISTRAL: &[Row] = &[
    row("codestral", [0.3, NONE, NONE, 0.9]),
    row("codestral-2508", [0.3, 0.03, NONE, 0.9]),
    row("codestral-embed-2505", [0.15, 0.015, NONE, 0.0]),
    row("ministral-14b-2512", [0.2, 0.02, NONE, 0.2]),
    row("ministral-3b", [0.04, NONE, NONE, 0.04]),
    row("ministral-3b-2512", [0.1, 0.01, NONE, 0.1]),
    row("ministral-8b", [0.1, NONE, NONE, 0.1]),
    row("ministral-8b-2512", [0.15, 0.015, NONE, 0.15]),
    row("mistral-embed", [0.1, NONE, NONE, 0.1]),
    row("mistral-large", [0.5, 0.05, NONE, 1.5]),
    row("mistral-large-2512", [0.5, 0.05, NONE, 1.5]),
    row("mistral-large-4", [0.7, 0.07, NONE, 2.1]),
    row("mistral-medium", [1.5, 0.15, NONE, 7.5]),
    row("mistral-medium-3-1", [0.4, 0.04, NONE, 2.0]),
    row("mistral-medium-3-5", [1.5, 0.15, NONE, 7.5]),
    row("mistral-nemo", [0.15, NONE, NONE, 0.15]),
    row("mistral-saba", [0.2, NONE, NONE, 0.6]),
    row("mistral-small", [0.15, 0.015, NONE, 0.6]),
    row("mistral-small-2603", [0.15, 0.015, NONE, 0.6]),
];

/// <https://api-docs.deepseek.com/quick_start/pricing>
const DEEPSEEK: &[Row] = &[
    row("deepseek-chat", [0.27, 0.07, NONE, 1.1]),
    row("deepseek-flash", [0.3, 0.006, NONE, 1.2]),
    row("deepseek-reasoner", [0.55, 0.14, NONE, 2.19]),
    row("deepseek-v4-flash", [0.3, 0.006, NONE, 1.2]),
    row("deepseek-v4-pro", [1.32, 0.044, NONE, 3.96]),
];

/// <https://docs.x.ai/docs/models>
const XAI: &[Row] = &[
    row("grok-3", [3.0, 0.75, NONE, 15.0]),
    row("grok-3-fast", [5.0, 1.25, NONE, 25.0]),
    row("grok-3-mini", [0.3, 0.075, NONE, 0.5]),
    row("grok-3-mini-fast", [0.6, 0.15, NONE, 4.0]),
    row("grok-4", [3.0, 0.75, NONE, 15.0]),
    row("grok-4-0709", [3.0, 0.75, NONE, 15.0]),
    row("grok-4-1-fast", [0.2, 0.05, NONE, 0.5]),
    row("grok-4-1-fast-non-reasoning", [0.2, 0.05, NONE, 0.5]),
    row("grok-4-1-fast-reasoning", [0.2, 0.05, NONE, 0.5]),
    row("grok-4-fast", [0.2, 0.05, NONE, 0.5]),
    row("grok-4-fast-non-reasoning", [0.2, 0.05, NONE, 0.5]),
    row("grok-4-fast-reasoning", [0.2, 0.05, NONE, 0.5]),
    row("grok-4.20", [1.25, 0.2, NONE, 2.5]).beyond(200_000, 200, 200),
    row("grok-4.20-multi-agent-0309", [1.25, 0.2, NONE, 2.5]).beyond(200_000, 200, 200),
    row("grok-4.3", [1.25, 0.2, NONE, 2.5]).beyond(200_000, 200, 200),
    row("grok-4.5", [2.0, 0.3, NONE, 6.0]).beyond(200_000, 200, 200),
    row("grok-4.6", [2.0, 0.5, NONE, 6.0]).beyond(200_000, 200, 200),
    row("grok-4.7", [2.0, 0.5, NONE, 6.0]).beyond(200_000, 200, 200),
    row("grok-build-0.1", [1.0, 0.2, NONE, 2.0]).beyond(200_000, 200, 200),
    row("grok-code-fast-1", [0.2, 0.02, NONE, 1.5]),
];

/// <https://console.groq.com/docs/models>
const GROQ: &[Row] = &[
    row("llama-3.1-8b-instant", [0.05, NONE, NONE, 0.08]),
    row("llama-3.3-70b-versatile", [0.59, NONE, NONE, 0.79]),
    row("meta-llama/llama-4-maverick-17b-128e-instruct", [0.2, NONE, NONE, 0.6]),
    row("meta-llama/llama-4-scout-17b-16e-instruct", [0.11, NONE, NONE, 0.34]),
    row("moonshotai/kimi-k2-instruct", [1.0, 0.5, NONE, 3.0]),
    row("openai/gpt-oss-120b", [0.15, 0.075, NONE, 0.6]),
    row("openai/gpt-oss-20b", [0.075, 0.0375, NONE, 0.3]),
    row("qwen/qwen3-32b", [0.29, NONE, NONE, 0.59]),
    row("qwen/qwen3.8-27b", [0.8, NONE, NONE, 4.0]),
];

/// <https://platform.kimi.ai/docs/models.md>
const MOONSHOT: &[Row] = &[
    row("kimi-k2.6", [0.95, 0.16, NONE, 4.0]),
    row("kimi-k2.7-code", [0.95, 0.19, NONE, 4.0]),
    row("kimi-k2.7-code-highspeed", [1.9, 0.38, NONE, 8.0]),
    row("kimi-k3", [3.0, 0.3, 3.0, 15.0]),
    row("kimi-k3.1-pro", [2.0, 0.2, 2.0, 10.0]),
    row("kimi-k3.1-pro-highspeed", [4.0, 0.2, 4.0, 20.0]),
];

/// <https://cohere.com/pricing>
const COHERE: &[Row] = &[
    row("command-a", [2.5, NONE, NONE, 10.0]),
    row("command-r", [0.15, NONE, NONE, 0.6]),
    row("command-r-plus", [2.5, NONE, NONE, 10.0]),
    row("command-r7b", [0.0375, NONE, NONE, 0.15]),
    row("embed-v4.0", [0.12, NONE, NONE, 0.0]),
];

/// <https://docs.perplexity.ai/docs/getting-started/pricing>
const PERPLEXITY: &[Row] = &[
    row("pplx-embed-v1-0.6b", [0.004, NONE, NONE, 0.0]),
    row("pplx-embed-v1-4b", [0.03, NONE, NONE, 0.0]),
    row("sonar", [1.0, NONE, NONE, 1.0]),
    row("sonar-pro", [3.0, NONE, NONE, 15.0]),
    row("sonar-reasoning", [1.0, NONE, NONE, 5.0]),
    row("sonar-reasoning-pro", [2.0, NONE, NONE, 8.0]),
];

/// <https://www.cerebras.ai/pricing#pricing>
const CEREBRAS: &[Row] =
    &[row("gpt-oss-120b", [0.35, NONE, NONE, 0.75]), row("qwen-3.8-27b", [0.99, NONE, NONE, 1.49])];
