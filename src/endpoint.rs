//! The paths that Keyward knows. Everything else is refused: a pooled key never leaves on a path that
//! nobody thought about.

use serde::{Deserialize, Serialize};

use crate::headers::Headers;

/// An API that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
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
    ImageVariations,
    /// Anthropic's.
    Messages,
    /// Anthropic's: how many tokens a request to [`Self::Messages`] has.
    CountTokens,
}

/// Whose words a client speaks: the shape of its errors and of the events of its streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Chat completions and everything else of OpenAI's.
    #[default]
    OpenAi,
    /// Messages.
    Anthropic,
    /// OpenAI's Responses, which has errors in streams of its own.
    Responses,
}

/// A set of endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Endpoints(u32);

/// What a caller may be permitted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Api(Endpoint),
    /// To list models.
    Models,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    Api(Endpoint),
    Models,
    Model(&'a str),
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    Unknown,
    /// The path exists; the only method it takes.
    Method(&'static str),
}

impl Endpoint {
    pub const ALL: [Self; 13] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Moderations,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::ImageVariations,
        Self::Messages,
        Self::CountTokens,
    ];

    /// Below the provider's base path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::Moderations => "/moderations",
            Self::Speech => "/audio/speech",
            Self::Transcriptions => "/audio/transcriptions",
            Self::Translations => "/audio/translations",
            Self::ImageGenerations => "/images/generations",
            Self::ImageEdits => "/images/edits",
            Self::ImageVariations => "/images/variations",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
        }
    }

    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::Responses => Dialect::Responses,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether it is for the next turn of a conversation, which every format has words for.
    pub const fn is_conversation(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Messages | Self::Responses)
    }

    /// What a caller has to be permitted: whoever may ask may count.
    pub const fn operation(self) -> Operation {
        match self {
            Self::CountTokens => Operation::Api(Self::Messages),
            other => Operation::Api(other),
        }
    }

    /// What a request is for that names no model, as OpenAI documents it.
    /// <https://platform.openai.com/docs/api-reference/moderations/create>
    pub const fn default_model(self) -> Option<&'static str> {
        match self {
            Self::Moderations => Some("omni-moderation-latest"),
            _ => None,
        }
    }

    /// Whether it takes uploads, as `multipart/form-data`.
    pub const fn takes_forms(self) -> bool {
        matches!(
            self,
            Self::Transcriptions | Self::Translations | Self::ImageEdits | Self::ImageVariations
        )
    }

    /// Whether it is known how its streams end, so that one without an end was cut off. Those of audio and images
    /// differ from service to service.
    pub const fn ends_streams_alike(self) -> bool {
        self.is_conversation() || matches!(self, Self::Completions)
    }

    /// Whether its streams take `stream_options.include_usage`; the Responses API reports usage unasked.
    pub const fn takes_stream_options(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }
}

impl Endpoints {
    pub const NONE: Self = Self(0);

    pub const fn of(endpoints: &[Endpoint]) -> Self {
        let (mut set, mut rest) = (Self::NONE, endpoints);
        while let [first, others @ ..] = rest {
            set = set.with(*first);
            rest = others;
        }
        set
    }

    #[must_use]
    pub const fn with(self, endpoint: Endpoint) -> Self {
        Self(self.0 | 1 << endpoint as u32)
    }

    #[must_use]
    pub const fn without(self, endpoint: Endpoint) -> Self {
        Self(self.0 & !(1 << endpoint as u32))
    }

    pub const fn has(self, endpoint: Endpoint) -> bool {
        self.0 & 1 << endpoint as u32 != 0
    }
}

/// Whose words a client speaks whose request is not understood, or is for nothing of its own: the path tells, or
/// the header that all of Anthropic's clients send.
pub fn dialect(path: &str, headers: &Headers) -> Dialect {
    if path.starts_with("/v1/messages") || headers.contains("anthropic-version") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

/// Matches `:method` and `:path`; the query does not count.
pub fn route<'a>(method: &str, path: &'a str) -> Result<Route<'a>, RouteError> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let (route, wanted) = if path == "/keyward/status" {
        (Route::Status, "GET")
    } else {
        let path = path.strip_prefix("/v1").ok_or(RouteError::Unknown)?;
        let api = Endpoint::ALL.into_iter().find(|endpoint| endpoint.path() == path);
        match (api, path.strip_prefix("/models")) {
            (Some(endpoint), _) => (Route::Api(endpoint), "POST"),
            (None, Some("" | "/")) => (Route::Models, "GET"),
            (None, Some(rest)) => match rest.strip_prefix('/') {
                Some(id) => (Route::Model(id), "GET"),
                None => return Err(RouteError::Unknown),
            },
            (None, None) => return Err(RouteError::Unknown),
        }
    };
    if method == wanted { Ok(route) } else { Err(RouteError::Method(wanted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_paths_match() {
        for (method, path, expected) in [
            ("POST", "/v1/chat/completions", Ok(Route::Api(Endpoint::ChatCompletions))),
            ("POST", "/v1/chat/completions?beta=true", Ok(Route::Api(Endpoint::ChatCompletions))),
            ("POST", "/v1/responses", Ok(Route::Api(Endpoint::Responses))),
            ("POST", "/v1/messages?beta=true", Ok(Route::Api(Endpoint::Messages))),
            ("POST", "/v1/messages/count_tokens", Ok(Route::Api(Endpoint::CountTokens))),
            ("POST", "/v1/messages/batches", Err(RouteError::Unknown)),
            ("POST", "/v1/audio/speech", Ok(Route::Api(Endpoint::Speech))),
            ("POST", "/v1/audio/voices", Err(RouteError::Unknown)),
            ("GET", "/v1/images/edits", Err(RouteError::Method("POST"))),
            ("GET", "/v1/models", Ok(Route::Models)),
            ("GET", "/v1/models?limit=1", Ok(Route::Models)),
            ("GET", "/v1/models/meta/llama", Ok(Route::Model("meta/llama"))),
            ("GET", "/keyward/status", Ok(Route::Status)),
            ("GET", "/v1/chat/completions", Err(RouteError::Method("POST"))),
            ("POST", "/v1/models", Err(RouteError::Method("GET"))),
            ("POST", "/v1/files", Err(RouteError::Unknown)),
            ("POST", "/v1/chat/completions/", Err(RouteError::Unknown)),
            ("POST", "/v1//chat/completions", Err(RouteError::Unknown)),
            ("POST", "/v1/../v1/chat/completions", Err(RouteError::Unknown)),
            ("POST", "/V1/chat/completions", Err(RouteError::Unknown)),
            ("POST", "/chat/completions", Err(RouteError::Unknown)),
            ("GET", "/v1/modelsx", Err(RouteError::Unknown)),
            ("GET", "", Err(RouteError::Unknown)),
        ] {
            assert_eq!(route(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_set_has_what_it_is_made_of() {
        let set = Endpoints::of(&[Endpoint::ChatCompletions, Endpoint::ImageVariations]);
        for endpoint in Endpoint::ALL {
            let wanted = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::ImageVariations);
            assert_eq!(set.has(endpoint), wanted, "{endpoint:?}");
            assert!(!Endpoints::NONE.has(endpoint));
            let all = Endpoints::of(&Endpoint::ALL);
            assert!(all.has(endpoint) && !all.without(endpoint).has(endpoint));
        }
    }
}
