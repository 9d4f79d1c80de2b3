//! Services that speak OpenAI's format: a row each, and nothing else.
//!
//! A row cites the vendor's page. `stream_options` is true only where the vendor documents the member, or
//! where its server is known to take it; the others send usage in their last chunk unasked. `endpoints` are those
//! that the vendor documents (September to November 2026); `endpoints` in the configuration says otherwise.
//!
//! Where a vendor runs an international and a mainland service, the row is the international one; `host`
//! in the configuration chooses the other.

use crate::endpoint::Endpoint::{
    ChatCompletions, Completions, Embeddings, ImageEdits, ImageGenerations, ImageVariations,
    Moderations, Rerank, Responses, Speech, Transcriptions, Translations,
};
use crate::endpoint::Endpoints;
use crate::formats::Format;
use crate::provider::{AnswerLimit, Credential, Kind, Thoughts};
use crate::signal::Verdict::{
    ClientFault, KeyRejected, OutOfQuota, Overloaded, RateLimited, ServerError,
};

pub static KINDS: &[&Kind] = &[
    &OPENAI,
    &MISTRAL,
    &GROQ,
    &DEEPSEEK,
    &XAI,
    &TOGETHER,
    &FIREWORKS,
    &OPENROUTER,
    &PERPLEXITY,
    &CEREBRAS,
    &NVIDIA,
    &MOONSHOT,
    &QWEN,
    &ZHIPU,
    &MINIMAX,
    &SAMBANOVA,
    &HUGGINGFACE,
    &GITHUB_MODELS,
    &JINA,
    &OLLAMA,
    &VLLM,
    &LMSTUDIO,
    &LLAMACPP,
    &OPENAI_COMPATIBLE,
];

/// Any other server. Most take `stream_options`; `include_usage: false` is for those that refuse it. Few have
/// responses, and chat completions serve instead.
static OPENAI_COMPATIBLE: Kind = BASE;

/// What the rows start from: a server at a host that has to be configured, with OpenAI's paths and signals.
const BASE: Kind = Kind {
    name: "openai-compatible",
    host: "",
    base_path: "/v1",
    format: Format::OpenAi,
    credential: Credential::Bearer,
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Completions,
        Embeddings,
        Rerank,
        Moderations,
        Speech,
        Transcriptions,
        Translations,
        ImageGenerations,
        ImageEdits,
        ImageVariations,
    ]),
    answer_limit: AnswerLimit::Either,
    thoughts: Thoughts::None,
    stream_options: true,
    model_scoped_limits: false,
    errors_in_success: false,
    codes: &[],
    statuses: &[],
};

/// <https://platform.openai.com/docs/api-reference>, <https://developers.openai.com/docs/guides/error-codes>.
/// Some models share a limit, so only a message that names the model scopes the rest to it.
static OPENAI: Kind = Kind {
    name: "openai",
    host: "api.openai.com",
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Completions,
        Embeddings,
        Responses,
        Moderations,
        Speech,
        Transcriptions,
        Translations,
        ImageGenerations,
        ImageEdits,
    ]),
    answer_limit: AnswerLimit::MaxCompletionTokensForReasoning,
    ..BASE
};

/// <https://docs.mistral.ai/api>. Refuses `stream_options` with 422 `extra_forbidden`
/// (openai/openai-agents-python#442) and sends usage in the last chunk. The documented status for an
/// unpaid account is 402; 403 has been seen for it as well.
static MISTRAL: Kind = Kind {
    name: "mistral",
    host: "api.mistral.ai",
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Embeddings,
        Responses,
        Moderations,
        Speech,
        Transcriptions,
    ]),
    answer_limit: AnswerLimit::MaxTokens,
    stream_options: false,
    statuses: &[(403, OutOfQuota)],
    ..BASE
};

/// <https://console.groq.com/docs/openai>; limits per model, 498 when the flex tier is full
/// (<https://console.groq.com/docs/rate-limits>, <https://console.groq.com/docs/flex-processing>).
static GROQ: Kind = Kind {
    name: "groq",
    host: "api.groq.com",
    base_path: "/openai/v1",
    endpoints: Endpoints::of(&[ChatCompletions, Responses, Speech, Transcriptions, Translations]),
    model_scoped_limits: true,
    statuses: &[(498, Overloaded)],
    ..BASE
};

/// <https://api-docs.deepseek.com>, <https://api-docs.deepseek.com/quick_start/error_codes>.
static DEEPSEEK: Kind = Kind {
    name: "deepseek",
    host: "api.deepseek.com",
    endpoints: Endpoints::of(&[ChatCompletions]),
    answer_limit: AnswerLimit::MaxTokens,
    thoughts: Thoughts::Content,
    ..BASE
};

/// <https://docs.x.ai/docs/api-reference>; limits per model (<https://docs.x.ai/docs/rate-limits>).
static XAI: Kind = Kind {
    name: "xai",
    host: "api.x.ai",
    model_scoped_limits: true,
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Completions,
        Responses,
        ImageGenerations,
        ImageEdits,
    ]),
    ..BASE
};

/// <https://docs.together.ai/docs/openai-api-compatibility>; the host is that of the vendor's SDK 3.1.1.
static TOGETHER: Kind = Kind {
    name: "together",
    host: "api.together.ai",
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Completions,
        Embeddings,
        Speech,
        Transcriptions,
        Translations,
        ImageGenerations,
        Rerank,
    ]),
    answer_limit: AnswerLimit::MaxTokens,
    ..BASE
};

/// <https://docs.fireworks.ai/tools-sdks/openai-compatibility>; limits are the account's
/// (<https://docs.fireworks.ai/serverless/rate-limits>). Its `/rerank` answers with `data` where Cohere's clients read
/// `results` (<https://docs.fireworks.ai/api-reference/rerank-documents>), so it is not listed.
static FIREWORKS: Kind = Kind {
    name: "fireworks",
    host: "api.fireworks.ai",
    base_path: "/inference/v1",
    endpoints: Endpoints::of(&[ChatCompletions, Completions, Embeddings, Responses]),
    ..BASE
};

/// <https://openrouter.ai/docs/api/reference/errors-and-debugging>: 403 is moderation, a guardrail or a
/// spent budget, of which only the budget concerns the key; 402 can be a budget for requests in flight,
/// which is free again in moments. Limits per model (<https://openrouter.ai/docs/use-cases/limits>). Its rerank has
/// Cohere's shape (<https://openrouter.ai/docs/api/api-reference/rerank/create-rerank>).
static OPENROUTER: Kind = Kind {
    name: "openrouter",
    host: "openrouter.ai",
    base_path: "/api/v1",
    endpoints: Endpoints::of(&[ChatCompletions, Completions, Embeddings, Responses, Rerank]),
    model_scoped_limits: true,
    codes: &[
        ("openrouter_in_flight_budget", RateLimited),
        ("in_flight_budget_exhausted", RateLimited),
        ("openrouter_credits", OutOfQuota),
        ("openrouter_key_limit", OutOfQuota),
        ("openrouter_guardrail_budget", OutOfQuota),
        ("openrouter_workspace_budget", OutOfQuota),
        ("payment_required", OutOfQuota),
    ],
    statuses: &[(403, ClientFault)],
    thoughts: Thoughts::Details,
    ..BASE
};

/// <https://docs.perplexity.ai/docs/grounded-llm/openai-compatibility>: the Responses API. Sonar's chat completions
/// ended on 2026-09-27 (<https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/overview>).
static PERPLEXITY: Kind = Kind {
    name: "perplexity",
    host: "api.perplexity.ai",
    stream_options: false,
    endpoints: Endpoints::of(&[Responses, Embeddings]),
    ..BASE
};

/// <https://inference-docs.cerebras.ai/resources/openai>; limits "vary based on the model"
/// (<https://inference-docs.cerebras.ai/support/rate-limits>).
static CEREBRAS: Kind = Kind {
    name: "cerebras",
    host: "api.cerebras.ai",
    model_scoped_limits: true,
    endpoints: Endpoints::of(&[ChatCompletions, Completions]),
    ..BASE
};

/// <https://docs.api.nvidia.com/nim/reference>.
static NVIDIA: Kind = Kind {
    name: "nvidia",
    host: "integrate.api.nvidia.com",
    endpoints: Endpoints::of(&[ChatCompletions, Completions, Embeddings]),
    answer_limit: AnswerLimit::MaxTokens,
    ..BASE
};

/// <https://platform.kimi.ai/docs/api/overview>; mainland: `api.moonshot.cn`. An empty account is
/// answered with 403 (<https://www.kimi.com/help/kimi-api/api-troubleshooting>).
static MOONSHOT: Kind = Kind {
    name: "moonshot",
    host: "api.moonshot.ai",
    endpoints: Endpoints::of(&[ChatCompletions]),
    codes: &[
        ("exceeded_current_quota_error", OutOfQuota),
        ("engine_overloaded_error", Overloaded),
        ("rate_limit_reached_error", RateLimited),
        ("invalid_authentication_error", KeyRejected),
    ],
    statuses: &[(403, OutOfQuota)],
    thoughts: Thoughts::Content,
    ..BASE
};

/// <https://help.aliyun.com/en/model-studio/error-code>; mainland: `dashscope.aliyuncs.com`. Limits per
/// model, and `insufficient_quota` is one of them: tokens per minute
/// (<https://www.alibabacloud.com/help/en/model-studio/rate-limit>).
static QWEN: Kind = Kind {
    name: "qwen",
    host: "dashscope-intl.aliyuncs.com",
    base_path: "/compatible-mode/v1",
    endpoints: Endpoints::of(&[ChatCompletions, Completions, Embeddings, Responses]),
    answer_limit: AnswerLimit::MaxTokens,
    model_scoped_limits: true,
    codes: &[
        ("insufficient_quota", RateLimited),
        ("limit_requests", RateLimited),
        ("limit_burst_rate", RateLimited),
        ("Throttling", RateLimited),
        ("Throttling.RateQuota", RateLimited),
        ("Throttling.BurstRate", RateLimited),
        ("Throttling.AllocationQuota", RateLimited),
        ("AllocationQuota.FreeTierOnly", OutOfQuota),
        ("Arrearage", OutOfQuota),
        ("InvalidApiKey", KeyRejected),
    ],
    ..BASE
};

/// <https://docs.z.ai/api-reference/api-code>, <https://docs.bigmodel.cn/cn/api/api-code>; mainland:
/// `open.bigmodel.cn`. Usage comes in the last chunk.
static ZHIPU: Kind = Kind {
    name: "zhipu",
    host: "api.z.ai",
    base_path: "/api/paas/v4",
    endpoints: Endpoints::of(&[ChatCompletions, Embeddings, Transcriptions, ImageGenerations]),
    answer_limit: AnswerLimit::MaxTokens,
    stream_options: false,
    codes: &[
        ("1000", KeyRejected),
        ("1001", KeyRejected),
        ("1002", KeyRejected),
        ("1003", KeyRejected),
        ("1004", KeyRejected),
        ("1110", OutOfQuota),
        ("1111", OutOfQuota),
        ("1112", OutOfQuota),
        ("1113", OutOfQuota),
        ("1120", OutOfQuota),
        ("1121", KeyRejected), // Locked for a violation.
        ("1301", ClientFault), // Unsafe content.
        ("1302", RateLimited),
        ("1303", RateLimited),
        ("1304", RateLimited),
        ("1305", RateLimited),
        ("1308", OutOfQuota), // Used up until a time that the message tells.
        ("1309", OutOfQuota), // The plan has run out.
        ("1310", OutOfQuota),
        ("1312", Overloaded),
        ("1313", RateLimited),
    ],
    thoughts: Thoughts::Content,
    ..BASE
};

/// <https://platform.minimax.io/docs/api-reference/errorcode>; mainland: `api.minimaxi.com`. Errors come
/// with status 200 in `base_resp`. Usage comes in the last chunk.
static MINIMAX: Kind = Kind {
    name: "minimax",
    host: "api.minimax.io",
    endpoints: Endpoints::of(&[ChatCompletions]),
    stream_options: false,
    errors_in_success: true,
    codes: &[
        ("1000", ServerError),
        ("1001", ServerError),
        ("1002", RateLimited),
        ("1004", KeyRejected),
        ("1008", OutOfQuota),
        ("1024", ServerError),
        ("1026", ClientFault), // Sensitive input.
        ("1027", ClientFault), // Sensitive output.
        ("1033", ServerError),
        ("1039", RateLimited),
        ("1041", RateLimited),
        ("1042", ClientFault), // Too many invisible characters.
        ("2013", ClientFault),
        ("2045", RateLimited),
        ("2049", KeyRejected),
        ("2056", OutOfQuota),
    ],
    ..BASE
};

/// <https://docs.sambanova.ai/docs/en/features/openai-compatibility>; limits per model
/// (<https://docs.sambanova.ai/cloud/docs>).
static SAMBANOVA: Kind = Kind {
    name: "sambanova",
    host: "api.sambanova.ai",
    model_scoped_limits: true,
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Completions,
        Embeddings,
        Transcriptions,
        Translations,
    ]),
    ..BASE
};

/// <https://huggingface.co/docs/inference-providers>.
static HUGGINGFACE: Kind = Kind {
    name: "huggingface",
    host: "router.huggingface.co",
    endpoints: Endpoints::of(&[ChatCompletions, Responses]),
    answer_limit: AnswerLimit::MaxTokens,
    ..BASE
};

/// <https://docs.github.com/rest/models/inference>; limits per tier of models
/// (<https://docs.github.com/github-models/use-github-models/prototyping-with-ai-models#rate-limits>).
static GITHUB_MODELS: Kind = Kind {
    name: "github-models",
    host: "models.github.ai",
    base_path: "/inference",
    endpoints: Endpoints::of(&[ChatCompletions, Embeddings]),
    model_scoped_limits: true,
    ..BASE
};

/// <https://docs.ollama.com/api/openai-compatibility>.
static OLLAMA: Kind = Kind {
    name: "ollama",
    endpoints: Endpoints::of(&[ChatCompletions, Completions, Embeddings, Responses]),
    answer_limit: AnswerLimit::MaxTokens,
    ..BASE
};

/// <https://api.jina.ai/docs>: embeddings and rerank; 402 for an account without tokens.
static JINA: Kind = Kind {
    name: "jina",
    host: "api.jina.ai",
    endpoints: Endpoints::of(&[Embeddings, Rerank]),
    ..BASE
};

/// <https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>; rerank as Jina and Cohere have it.
static VLLM: Kind = Kind {
    name: "vllm",
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Completions,
        Embeddings,
        Responses,
        Transcriptions,
        Translations,
        Rerank,
    ]),
    ..BASE
};

/// <https://lmstudio.ai/docs/developer/openai-compat>.
static LMSTUDIO: Kind = Kind {
    name: "lmstudio",
    endpoints: Endpoints::of(&[ChatCompletions, Completions, Embeddings, Responses]),
    answer_limit: AnswerLimit::MaxTokens,
    ..BASE
};

/// <https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md>.
static LLAMACPP: Kind = Kind {
    name: "llamacpp",
    endpoints: Endpoints::of(&[ChatCompletions, Completions, Embeddings, Responses, Rerank]),
    ..BASE
};
