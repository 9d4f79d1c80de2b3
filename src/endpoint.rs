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
    /// Cohere's, in the shape that Jina, vLLM and others have taken over.
    Rerank,
    /// Google's, streamed and not.
    GenerateContent,
    /// Google's: how many tokens a request to [`Self::GenerateContent`] has.
    CountContentTokens,
    /// Google's, of one text and of several.
    EmbedContent,
    BatchEmbedContents,
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
    /// Google's.
    Gemini,
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
    /// One of Google's, whose path names the model, percent-encoded, and tells whether the answer is streamed.
    Named {
        endpoint: Endpoint,
        model: &'a str,
        stream: bool,
    },
    Models,
    Model(&'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    Unknown,
    /// The path exists; the methods it takes, as in `Allow`.
    Method(&'static str),
    /// Google's streams without `alt=sse` are arrays, which are not passed on.
    Array,
}

impl Endpoint {
    pub const ALL: [Self; 18] = [
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
        Self::Rerank,
        Self::GenerateContent,
        Self::CountContentTokens,
        Self::EmbedContent,
        Self::BatchEmbedContents,
    ];

    /// Below the provider's base path; where the model is named in it, what follows the name.
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
            Self::Rerank => "/rerank",
            Self::GenerateContent => ":generateContent",
            Self::CountContentTokens => ":countTokens",
            Self::EmbedContent => ":embedContent",
            Self::BatchEmbedContents => ":batchEmbedContents",
        }
    }

    /// Whether the path names the model; the body need not.
    pub const fn names_model(self) -> bool {
        matches!(self, Self::GenerateContent | Self::CountContentTokens) || self.embeds_content()
    }

    /// Whether its body may name the model once more, as Google's path does.
    pub const fn embeds_content(self) -> bool {
        matches!(self, Self::EmbedContent | Self::BatchEmbedContents)
    }

    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::Responses => Dialect::Responses,
            Self::GenerateContent
            | Self::CountContentTokens
            | Self::EmbedContent
            | Self::BatchEmbedContents => Dialect::Gemini,
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
            Self::CountContentTokens => Operation::Api(Self::GenerateContent),
            Self::EmbedContent | Self::BatchEmbedContents => Operation::Api(Self::Embeddings),
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
        self.is_conversation() || matches!(self, Self::Completions | Self::GenerateContent)
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
/// the header that all of Anthropic's or Google's clients send.
pub fn dialect(path: &str, headers: &Headers) -> Dialect {
    if path.starts_with("/v1/messages") || headers.contains("anthropic-version") {
        Dialect::Anthropic
    } else if path.starts_with("/v1beta/") || headers.contains("x-goog-api-key") {
        Dialect::Gemini
    } else {
        Dialect::OpenAi
    }
}

/// The credential in the query of Google's own paths, percent-encoded, as its documentation has it: `?key=…`.
pub fn query_key(path: &str) -> Option<&str> {
    google_query(path)?.split('&').find_map(|pair| pair.strip_prefix(KEY))
}

/// A path without [`query_key`]; `None`: it has none.
pub fn without_key(path: &str) -> Option<String> {
    query_key(path)?;
    let (bare, query) = path.split_once('?')?;
    let left: Vec<_> = query.split('&').filter(|pair| !pair.starts_with(KEY)).collect();
    Some(if left.is_empty() { bare.to_owned() } else { format!("{bare}?{}", left.join("&")) })
}

const KEY: &str = "key=";

fn google_query(path: &str) -> Option<&str> {
    let (path, query) = path.split_once('?')?;
    (path.starts_with("/v1beta/") || named(path).is_some()).then_some(query)
}

/// Matches `:method` and `:path`; the query counts for Google's streams alone. Keyward's own API is [`crate::admin`]'s.
pub fn route<'a>(method: &str, path: &'a str) -> Result<Route<'a>, RouteError> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = path.split('#').next().unwrap_or_default();
    if let Some(named) = named(path) {
        return match named {
            _ if method != "POST" => Err(RouteError::Method("POST")),
            Route::Named { stream: true, .. } if !query.split('&').any(|q| q == "alt=sse") => {
                Err(RouteError::Array)
            }
            named => Ok(named),
        };
    }
    // Where Cohere's own clients ask.
    let path = if path == "/v2/rerank" { "/v1/rerank" } else { path };
    let google = path.strip_prefix("/v1beta").filter(|rest| {
        // What has another method is not listed.
        rest.starts_with("/models") && !rest.contains(':')
    });
    let path = google.or_else(|| path.strip_prefix("/v1")).ok_or(RouteError::Unknown)?;
    let is_it = |api: &Endpoint| api.path() == path && !api.names_model();
    let api = Endpoint::ALL.into_iter().find(is_it);
    let (route, wanted) = match (api, path.strip_prefix("/models")) {
        (Some(endpoint), _) => (Route::Api(endpoint), "POST"),
        (None, Some("" | "/")) => (Route::Models, "GET"),
        (None, Some(rest)) => match rest.strip_prefix('/') {
            Some(id) => (Route::Model(id), "GET"),
            None => return Err(RouteError::Unknown),
        },
        (None, None) => return Err(RouteError::Unknown),
    };
    takes(wanted, method).map(|()| route)
}

/// Whatever has GET has HEAD as well (RFC 9110, section 9.1): Envoy leaves out the content of what answers it.
pub fn takes(wanted: &'static str, method: &str) -> Result<(), RouteError> {
    match wanted {
        _ if method == wanted => Ok(()),
        "GET" if method == "HEAD" => Ok(()),
        "GET" => Err(RouteError::Method("GET, HEAD")),
        _ => Err(RouteError::Method(wanted)),
    }
}

/// `/v1beta/models/MODEL:METHOD`, of each version of Google's API: its clients choose one, the provider's base path
/// has another.
fn named(path: &str) -> Option<Route<'_>> {
    let versions = ["/v1beta/", "/v1/", "/v1alpha/"];
    let resource = versions.iter().find_map(|version| path.strip_prefix(version))?;
    let (model, method) = resource.strip_prefix("models/")?.rsplit_once(':')?;
    let (endpoint, stream) = match method {
        "generateContent" => (Endpoint::GenerateContent, false),
        "streamGenerateContent" => (Endpoint::GenerateContent, true),
        "countTokens" => (Endpoint::CountContentTokens, false),
        "embedContent" => (Endpoint::EmbedContent, false),
        "batchEmbedContents" => (Endpoint::BatchEmbedContents, false),
        _ => return None,
    };
    Some(Route::Named { endpoint, model, stream })
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
            ("POST", "/v1/rerank", Ok(Route::Api(Endpoint::Rerank))),
            ("POST", "/v2/rerank", Ok(Route::Api(Endpoint::Rerank))),
            ("GET", "/v2/rerank", Err(RouteError::Method("POST"))),
            ("POST", "/v2/chat", Err(RouteError::Unknown)),
            ("POST", "/v1/audio/speech", Ok(Route::Api(Endpoint::Speech))),
            ("POST", "/v1/audio/voices", Err(RouteError::Unknown)),
            ("GET", "/v1/images/edits", Err(RouteError::Method("POST"))),
            ("GET", "/v1/models", Ok(Route::Models)),
            ("GET", "/v1/models?limit=1", Ok(Route::Models)),
            ("GET", "/v1/models/meta/llama", Ok(Route::Model("meta/llama"))),
            ("GET", "/v1beta/models?pageSize=9", Ok(Route::Models)),
            ("GET", "/v1beta/models/m", Ok(Route::Model("m"))),
            ("POST", "/v1beta/chat/completions", Err(RouteError::Unknown)),
            ("GET", "/keyward/status", Err(RouteError::Unknown)),
            ("GET", "/v1/chat/completions", Err(RouteError::Method("POST"))),
            ("HEAD", "/v1/models", Ok(Route::Models)),
            ("HEAD", "/v1/chat/completions", Err(RouteError::Method("POST"))),
            ("POST", "/v1/models", Err(RouteError::Method("GET, HEAD"))),
            ("POST", "/v1/files", Err(RouteError::Unknown)),
            ("POST", "/v1/chat/completions/", Err(RouteError::Unknown)),
            ("POST", "/v1//chat/completions", Err(RouteError::Unknown)),
            ("POST", "/v1/../v1/chat/completions", Err(RouteError::Unknown)),
            ("POST", "/V1/chat/completions", Err(RouteError::Unknown)),
            ("POST", "/chat/completions", Err(RouteError::Unknown)),
            ("GET", "/v1/modelsx", Err(RouteError::Unknown)),
            ("GET", "", Err(RouteError::Unknown)),
            ("POST", "/v1:generateContent", Err(RouteError::Unknown)),
            ("POST", "/v1beta/models/m:predict", Err(RouteError::Unknown)),
            ("POST", "/v1beta/files/m:generateContent", Err(RouteError::Unknown)),
            ("POST", "/v2/models/m:generateContent", Err(RouteError::Unknown)),
            ("GET", "/v1beta/models/m:generateContent", Err(RouteError::Method("POST"))),
            ("POST", "/v1beta/models/m:streamGenerateContent", Err(RouteError::Array)),
            ("POST", "/v1beta/models/m:streamGenerateContent?alt=json", Err(RouteError::Array)),
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
    #[test]
    fn googles_paths_name_a_model() {
        use Endpoint::{BatchEmbedContents, CountContentTokens, EmbedContent, GenerateContent};
        for (path, endpoint, model, stream) in [
            ("/v1beta/models/m:generateContent", GenerateContent, "m", false),
            ("/v1/models/m:generateContent?key=1", GenerateContent, "m", false),
            ("/v1alpha/models/a/b:c:countTokens", CountContentTokens, "a/b:c", false),
            ("/v1beta/models/m:embedContent", EmbedContent, "m", false),
            ("/v1beta/models/m:batchEmbedContents", BatchEmbedContents, "m", false),
            (
                "/v1beta/models/m%2Fx:streamGenerateContent?a=b&alt=sse",
                GenerateContent,
                "m%2Fx",
                true,
            ),
        ] {
            assert_eq!(route("POST", path), Ok(Route::Named { endpoint, model, stream }), "{path}");
        }
        let whose = |path| dialect(path, &Headers::default());
        assert_eq!(whose("/v1beta/files"), Dialect::Gemini);
        assert_eq!(whose("/v1/files"), Dialect::OpenAi);
    }

    #[test]
    fn googles_paths_may_bring_a_key() {
        for (path, key, without) in [
            (
                "/v1beta/models/m:generateContent?key=a%2Fb",
                Some("a%2Fb"),
                "/v1beta/models/m:generateContent",
            ),
            (
                "/v1/models/m:streamGenerateContent?alt=sse&key=a&key=b&x=1",
                Some("a"),
                "/v1/models/m:streamGenerateContent?alt=sse&x=1",
            ),
            ("/v1beta/models?pageSize=9&key=", Some(""), "/v1beta/models?pageSize=9"),
            ("/v1beta/models/m:countTokens?monkey=a", None, ""),
            ("/v1beta/models/m:countTokens", None, ""),
            ("/v1/chat/completions?key=a", None, ""),
            ("/v1/models?key=a", None, ""),
        ] {
            assert_eq!(query_key(path), key, "{path}");
            assert_eq!(without_key(path), key.map(|_| without.to_owned()), "{path}");
        }
    }
}
