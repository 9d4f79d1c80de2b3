//! Azure OpenAI (Microsoft Foundry), which takes OpenAI's bodies in two ways:
//!
//! | `api_version` | path | the model |
//! |---|---|---|
//! | none, `preview`, `latest`, `v1` | `/openai/v1/chat/completions`, as OpenAI's; with `?api-version=` where one is given | in the body |
//! | a date such as `2024-10-21` or `2025-04-01-preview` | `/openai/deployments/DEPLOYMENT/chat/completions?api-version=…` | in the path |
//!
//! In both the name of the model is that of the deployment. The key travels as `api-key`; the host is the
//! resource's: `NAME.openai.azure.com`.
//!
//! <https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle>,
//! <https://learn.microsoft.com/azure/foundry/openai/reference>

use crate::endpoint::Endpoint::{
    ChatCompletions, Completions, Embeddings, ImageEdits, ImageGenerations, Responses, Speech,
    Transcriptions, Translations,
};
use crate::endpoint::Endpoints;
use crate::formats::Format;
use crate::members::is_safe_model_segment;
use crate::provider::{AnswerLimit, Credential, Kind, Thoughts};

pub static KINDS: &[&Kind] = &[&AZURE];

/// Limits are per deployment (<https://learn.microsoft.com/azure/foundry-classic/openai/how-to/quota>).
static AZURE: Kind = Kind {
    name: "azure",
    host: "",
    base_path: "/openai/v1",
    format: Format::OpenAi,
    credential: Credential::Header("api-key"),
    endpoints: Endpoints::of(&[
        ChatCompletions,
        Completions,
        Embeddings,
        Responses,
        Speech,
        Transcriptions,
        Translations,
        ImageGenerations,
        ImageEdits,
    ]),
    answer_limit: AnswerLimit::MaxCompletionTokensForReasoning,
    stream_options: true,
    model_scoped_limits: true,
    errors_in_success: false,
    thoughts: Thoughts::None,
    codes: &[],
    statuses: &[],
};

/// Which of the two ways, and the value of `api-version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersion(String);

impl ApiVersion {
    /// `None`: it is none that Azure has had.
    pub fn parse(text: &str) -> Option<Self> {
        let known = matches!(text, "v1" | "preview" | "latest") || is_date(text);
        known.then(|| Self(text.to_owned()))
    }

    /// Whether `kind` has versions.
    pub fn is_for(kind: &Kind) -> bool {
        kind.name == AZURE.name
    }

    pub fn base_path(&self) -> &'static str {
        if self.has_deployments() { "/openai" } else { AZURE.base_path }
    }

    /// The Responses API came in March 2025.
    pub fn endpoints(&self) -> Endpoints {
        let endpoints = AZURE.endpoints;
        if self.is_before("2025-03-01") { endpoints.without(Responses) } else { endpoints }
    }

    /// Older versions refuse `stream_options`
    /// (<https://learn.microsoft.com/azure/foundry/openai/whats-new>: September 2024).
    pub fn takes_stream_options(&self) -> bool {
        !self.is_before("2024-09-01")
    }

    /// The path and query of a request whose path is `path` elsewhere, below the base path. `None`: the model's name
    /// is none of a deployment.
    pub fn path(&self, path: &str, model: &str) -> Option<String> {
        let version = &self.0;
        // Responses are not of a deployment: the model is in their body.
        if !self.has_deployments() || path == Responses.path() {
            return Some(format!("{path}?api-version={version}"));
        }
        let is_name = is_safe_model_segment(model) && !model.contains('/');
        is_name.then(|| format!("/deployments/{model}{path}?api-version={version}"))
    }

    fn has_deployments(&self) -> bool {
        self.0.starts_with(|c: char| c.is_ascii_digit())
    }

    /// Dates in this notation sort like text.
    fn is_before(&self, date: &str) -> bool {
        self.has_deployments() && self.0.as_str() < date
    }
}

/// `2024-10-21` or `2024-10-21-preview`.
fn is_date(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    let shape = |(index, byte): (usize, u8)| {
        if matches!(index, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() }
    };
    date.len() == 10 && date.bytes().enumerate().all(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, known, base_path, responses, stream_options) in [
            ("2024-10-21", true, "/openai", false, true),
            ("2023-05-15", true, "/openai", false, false),
            ("2024-09-01-preview", true, "/openai", false, true),
            ("2025-04-01-preview", true, "/openai", true, true),
            ("v1", true, "/openai/v1", true, true),
            ("preview", true, "/openai/v1", true, true),
            ("latest", true, "/openai/v1", true, true),
            ("", false, "", false, false),
            ("2024-1-1", false, "", false, false),
            ("2024-10-21&a=b", false, "", false, false),
            ("2024-10-21-beta", false, "", false, false),
            ("next", false, "", false, false),
        ] {
            let version = ApiVersion::parse(text);
            assert_eq!(version.is_some(), known, "{text}");
            let Some(version) = version else { continue };
            assert_eq!(version.base_path(), base_path, "{text}");
            assert_eq!(version.endpoints().has(Responses), responses, "{text}");
            assert_eq!(version.takes_stream_options(), stream_options, "{text}");
        }
    }

    #[test]
    fn the_deployment_is_in_the_path_or_not() {
        let dated = ApiVersion::parse("2024-10-21").unwrap();
        let preview = ApiVersion::parse("preview").unwrap();
        for (version, endpoint, model, path) in [
            (
                &dated,
                ChatCompletions,
                "gpt-4o",
                Some("/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
            ),
            (
                &dated,
                Transcriptions,
                "My_Whisper.1",
                Some("/deployments/My_Whisper.1/audio/transcriptions?api-version=2024-10-21"),
            ),
            (&dated, Responses, "gpt-4o", Some("/responses?api-version=2024-10-21")),
            (&preview, ChatCompletions, "a/b c", Some("/chat/completions?api-version=preview")),
            (&dated, ChatCompletions, "", None),
            (&dated, ChatCompletions, "a/b", None),
            (&dated, ChatCompletions, "..", None),
            (&dated, ChatCompletions, "a?b", None),
            (&dated, ChatCompletions, "a%2fb", None),
        ] {
            assert_eq!(version.path(endpoint.path(), model).as_deref(), path, "{model}");
        }
    }
}
