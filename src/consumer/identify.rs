//! From what a request brings to the consumer it comes from.
//!
//! The sources are asked in the configured order, and the first that the request has at all decides: a key that is
//! wrong or an identity that nobody has is refused, whatever else the request brings, and never counts as anonymous.
//! That also holds for a header of identity that comes twice: the filter in front added to a forged one.
//!
//! Filters in front run again when an internal redirect takes a request to another provider, and then the client's
//! credential is gone, so operators let requests with `x-keyward-state` pass them. An authentic one does not come here;
//! with a forged one, nothing that those filters say or do not say is believed.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{ConsumerIndex, Consumers, Source};
use crate::endpoint::query_key;
use crate::headers::Headers;
use crate::plan::STATE_HEADER;
use crate::reply::Refusal;
use crate::time::UnixTime;
use crate::token::{self, Temporary, Unverified};

/// Headers in which clients present a credential. None of them reaches a provider.
pub const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Bytes of a key that is presented; a longer one is not looked at.
pub const MAX_KEY: usize = 4096;

/// What the host knows of a request besides its headers; only what [`super::Asks`] asks for.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Envoy's `source.address`: behind trusted proxies the client's, as Envoy determined it.
    pub address: Option<String>,
    /// Name of the route.
    pub route: Option<String>,
    /// Metadata of the route, an encoded `envoy.config.core.v3.Metadata`.
    pub route_metadata: Vec<u8>,
    /// Values of the configured attributes, in their order; empty where Envoy has none.
    pub properties: Vec<Vec<u8>>,
}

/// A credential in the headers of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    Key(&'a [u8]),
    /// Something else than a key, such as another scheme of `Authorization`.
    Other,
}

/// The first of [`CREDENTIALS`] that there is.
pub fn presented(headers: &Headers) -> Option<Presented<'_>> {
    CREDENTIALS.iter().find_map(|name| {
        let value = headers.get(name)?.trim_ascii();
        if *name != "authorization" {
            return Some(Presented::Key(value));
        }
        let bearer = value
            .split_at_checked("Bearer ".len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
        Some(bearer.map_or(Presented::Other, |(_, key)| Presented::Key(key.trim_ascii())))
    })
}

/// The consumer that a request comes from, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub consumer: ConsumerIndex,
    pub by: By,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A permanent key, and when it ends.
    Key(UnixTime),
    Temporary(Box<Temporary>),
    /// One of Envoy's filters says so.
    Name,
    /// Nothing: whoever says nothing is this one.
    Default,
}

/// The consumer that a request comes from. Of a temporary key, this says that it is genuine, not that it may be used.
///
/// # Errors
/// 401 where it comes from nobody, or the key cannot be used now.
pub fn identify(
    consumers: &Consumers,
    headers: &Headers,
    caller: &Caller,
    now: UnixTime,
) -> Result<Identity, Refusal> {
    for source in &consumers.sources {
        let identity = match source {
            Source::Key => {
                if let Some(credential) = presented(headers) {
                    return by_key(consumers, credential, now);
                }
                let Some(key) = headers.text(":path").and_then(query_key) else { continue };
                let key: Cow<'_, [u8]> = percent_decode_str(key).into();
                return by_key(consumers, Presented::Key(&key), now);
            }
            Source::Header(_) | Source::Property(_) if headers.contains(STATE_HEADER) => {
                let message = "The caller cannot be identified: x-keyward-state is forged.";
                return Err(unauthenticated(message, true));
            }
            Source::Header(name) => {
                let mut values = headers.iter().filter(|(n, _)| *n == name.as_bytes());
                match (values.next(), values.next()) {
                    (None, _) => continue,
                    (Some((_, value)), None) => value.trim_ascii(),
                    (Some(_), Some(_)) => {
                        let message = "The header that names the caller came more than once.";
                        return Err(unauthenticated(message, true));
                    }
                }
            }
            Source::Property(index) => match caller.properties.get(*index) {
                Some(value) if !value.is_empty() => value,
                _ => continue,
            },
        };
        let known = core::str::from_utf8(identity).ok().and_then(|name| consumers.find(name));
        return known
            .map(|consumer| Identity { consumer, by: By::Name })
            .ok_or_else(|| unauthenticated("The caller is not a known consumer.", true));
    }
    let anybody = consumers.anonymous.map(|consumer| Identity { consumer, by: By::Default });
    anybody.ok_or_else(|| {
        let message = "No consumer key was presented, and anonymous requests are refused.";
        unauthenticated(message, false)
    })
}

fn by_key(
    consumers: &Consumers,
    credential: Presented<'_>,
    now: UnixTime,
) -> Result<Identity, Refusal> {
    let Presented::Key(key) = credential else {
        let message = "Authorization takes a consumer key: Bearer KEY.";
        return Err(unauthenticated(message, true));
    };
    let key = Some(key).filter(|key| key.len() <= MAX_KEY);
    let issued = consumers.signing.as_ref().zip(key.filter(|key| token::looks_like_one(key)));
    match issued.map(|(signing, key)| signing.verify(key, now)) {
        Some(Ok(temporary)) => {
            if let Some(consumer) = consumers.position(&temporary.consumer) {
                return Ok(Identity { consumer, by: By::Temporary(Box::new(temporary)) });
            }
        }
        Some(Err(Unverified::Expired)) => {
            return Err(unauthenticated("The temporary key has expired.", true));
        }
        Some(Err(Unverified::NotYet)) => {
            return Err(unauthenticated("The temporary key is not valid yet.", true));
        }
        // A permanent key may look like anything.
        Some(Err(Unverified::Foreign)) | None => {}
    }
    let Some(known) = key.and_then(|key| consumers.find_key(key)) else {
        return Err(unauthenticated("Incorrect API key provided.", true));
    };
    if known.is_usable(now) {
        return Ok(Identity { consumer: known.consumer, by: By::Key(known.valid.until) });
    }
    let message = if !known.enabled {
        "The API key is disabled."
    } else if now < known.valid.from {
        "The API key is not valid yet."
    } else {
        "The API key has expired."
    };
    Err(unauthenticated(message, true))
}

/// Challenges as RFC 6750, section 3 has it: an error only where a credential was presented.
pub fn unauthenticated(message: &str, presented: bool) -> Refusal {
    let challenge = if presented {
        "Bearer realm=\"keyward\", error=\"invalid_token\""
    } else {
        "Bearer realm=\"keyward\""
    };
    Refusal::client(401, "invalid_api_key", message).header("www-authenticate", challenge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::{Asks, Consumer, ConsumerKey};
    use crate::runtime::{KeyDigest, Window};

    const NOW: UnixTime = UnixTime(1_000_000);

    fn consumer(name: &str) -> Consumer {
        Consumer {
            name: name.to_owned(),
            enabled: true,
            team: None,
            roles: Vec::new(),
            rules: super::super::Rules::default(),
            limits: crate::limit::Limits::default(),
            own_keys: Vec::new(),
            second_factor: None,
        }
    }

    fn consumers(sources: Vec<Source>) -> Consumers {
        let list = vec![consumer("acme"), consumer("beta"), consumer("anybody")];
        let mut consumers = Consumers::new(list, Vec::new(), Vec::new());
        let key = |text: &[u8], consumer, from, until, enabled| ConsumerKey {
            digest: KeyDigest::of(text),
            consumer,
            enabled,
            valid: Window { from: UnixTime(from), until: UnixTime(until) },
        };
        consumers.set_keys(vec![
            key(b"old", 0, 0, NOW.0 + 1, true),
            key(b"new", 0, NOW.0, u64::MAX, true),
            key(b"future", 0, NOW.0 + 1, u64::MAX, true),
            key(b"past", 0, 0, NOW.0, true),
            key(b"off", 1, 0, u64::MAX, false),
            key(b"beta", 1, 0, u64::MAX, true),
        ]);
        consumers.alias("spiffe://mesh/beta".to_owned(), 1);
        consumers.sources = sources;
        consumers.asks = Asks { properties: vec![vec!["x".to_owned()]], ..Asks::default() };
        consumers.anonymous = Some(2);
        consumers
    }

    /// The consumer, or the message of the refusal.
    fn who(consumers: &Consumers, headers: &[(&str, &str)], san: &str) -> Result<usize, String> {
        let headers = headers.iter().copied().collect();
        let caller = Caller { properties: vec![san.into()], ..Caller::default() };
        let known = identify(consumers, &headers, &caller, NOW);
        known.map(|identity| identity.consumer).map_err(|refusal| {
            assert_eq!((refusal.status, refusal.code), (401, "invalid_api_key"));
            assert!(refusal.headers.iter().any(|(name, _)| *name == "www-authenticate"));
            refusal.message
        })
    }

    #[test]
    fn a_key_comes_in_any_of_the_usual_headers() {
        let consumers = consumers(vec![Source::Key]);
        for header in [
            ("authorization", "Bearer beta"),
            ("authorization", "bearer  beta "),
            ("x-api-key", "beta"),
            ("api-key", " beta"),
            ("x-goog-api-key", "beta"),
        ] {
            assert_eq!(who(&consumers, &[header], ""), Ok(1), "{header:?}");
        }
        for (path, expected) in [
            ("/v1beta/models/m:generateContent?key=beta", Ok(1)),
            ("/v1beta/models/m:generateContent?alt=sse&key=%62eta", Ok(1)),
            ("/v1beta/models?key=", Err("Incorrect API key provided.".to_owned())),
            ("/v1beta/models?key=wrong", Err("Incorrect API key provided.".to_owned())),
            ("/v1/chat/completions?key=wrong", Ok(2)),
        ] {
            assert_eq!(who(&consumers, &[(":path", path)], ""), expected, "{path}");
        }
        let both = [(":path", "/v1beta/models?key=wrong"), ("x-goog-api-key", "beta")];
        assert_eq!(who(&consumers, &both, ""), Ok(1), "a header goes before a query");
        assert_eq!(who(&consumers, &[("x-key", "beta")], ""), Ok(2), "no key at all");
        assert_eq!(who(&consumers, &[("x-api-key", "new"), ("api-key", "beta")], ""), Ok(0));
        let forged = ("x-keyward-state", "AAAA");
        assert_eq!(who(&consumers, &[("x-api-key", "beta"), forged], ""), Ok(1), "means nothing");
    }

    #[test]
    fn a_key_that_is_not_right_is_never_anonymous() {
        let consumers = consumers(vec![Source::Key]);
        let long = "k".repeat(MAX_KEY + 1);
        for (key, expected) in [
            ("old", Ok(0)),
            ("new", Ok(0)),
            ("future", Err("The API key is not valid yet.")),
            ("past", Err("The API key has expired.")),
            ("off", Err("The API key is disabled.")),
            ("acme", Err("Incorrect API key provided.")),
            ("", Err("Incorrect API key provided.")),
            (long.as_str(), Err("Incorrect API key provided.")),
        ] {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(who(&consumers, &[("x-api-key", key)], ""), expected, "{key}");
        }
        let scheme = Err("Authorization takes a consumer key: Bearer KEY.".to_owned());
        for value in ["Basic YTpi", "Bearer", "", "beta"] {
            assert_eq!(who(&consumers, &[("authorization", value)], ""), scheme, "{value}");
        }
    }

    #[test]
    fn the_first_source_that_is_there_decides() {
        let header = Source::Header("x-jwt-sub".to_owned());
        let consumers = consumers(vec![Source::Property(0), header, Source::Key]);
        let unknown = Err("The caller is not a known consumer.".to_owned());
        let (key, sub) = (("x-api-key", "beta"), ("x-jwt-sub", "acme"));
        assert_eq!(who(&consumers, &[], ""), Ok(2));
        assert_eq!(who(&consumers, &[key], ""), Ok(1));
        assert_eq!(who(&consumers, &[key, sub], ""), Ok(0));
        assert_eq!(who(&consumers, &[sub], "spiffe://mesh/beta"), Ok(1));
        assert_eq!(who(&consumers, &[key, sub], "spiffe://mesh/other"), unknown);
        assert_eq!(who(&consumers, &[key, ("x-jwt-sub", "")], ""), unknown);
        let twice = Err("The header that names the caller came more than once.".to_owned());
        assert_eq!(who(&consumers, &[sub, sub], ""), twice);
        let forged = ("x-keyward-state", "AAAA");
        let message = "The caller cannot be identified: x-keyward-state is forged.";
        for request in [&[sub, forged][..], &[key, forged], &[forged]] {
            assert_eq!(who(&consumers, request, ""), Err(message.to_owned()), "{request:?}");
        }
    }

    #[test]
    fn without_any_source_nothing_is_looked_at() {
        let mut consumers = consumers(Vec::new());
        assert_eq!(who(&consumers, &[("x-api-key", "wrong")], ""), Ok(2));
        consumers.anonymous = None;
        let message = "No consumer key was presented, and anonymous requests are refused.";
        assert_eq!(who(&consumers, &[("x-api-key", "beta")], ""), Err(message.to_owned()));
    }
}
