//! What goes to a provider and what of its answer goes on to the client: the same for every stage that
//! sends a key.

use crate::consumer::identify::CREDENTIALS;
use crate::effect::Cx;
use crate::endpoint::Endpoint;
use crate::headers::Headers;
use crate::provider::Credential;
use crate::runtime::{Key, Provider, Secret, fingerprint};

/// Request headers that must not reach a provider, besides credentials and `x-keyward-*`.
///
/// `accept-encoding`: a compressed answer could not be observed. `cookie`, `proxy-authorization`: the
/// client's. `x-envoy-original-url`: left behind by an internal redirect.
const NOT_FOR_PROVIDERS: [&str; 4] =
    ["accept-encoding", "cookie", "proxy-authorization", "x-envoy-original-url"];

/// Answer headers that speak of the account behind the key, not of the client.
const NOT_FOR_CLIENTS: [&str; 8] = [
    "retry-after",
    "retry-after-ms",
    "ratelimit",
    "ratelimit-policy",
    "set-cookie",
    "openai-organization",
    "openai-project",
    "x-should-retry",
];
const NOT_FOR_CLIENTS_PREFIXES: [&str; 5] =
    ["x-ratelimit-", "ratelimit-", "anthropic-ratelimit-", "ratelimitbysize-", "x-keyward-"];

/// The secret of a key as it is at the moment, and its fingerprint.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    value: &'a [u8],
    pub fingerprint: u64,
}

/// `None`: the secret should have come in a header and did not.
pub fn credentials<'a>(headers: &'a Headers, key: &'a Key) -> Option<Credentials<'a>> {
    match &key.secret {
        Secret::Value(value) => {
            Some(Credentials { value: value.as_bytes(), fingerprint: key.fingerprint })
        }
        Secret::Header(name) => {
            let value = headers.get(name).map(<[u8]>::trim_ascii).filter(|v| !v.is_empty())?;
            Some(Credentials { value, fingerprint: fingerprint(value) })
        }
    }
}

/// Strips everything that an earlier attempt or the client left, and addresses the request anew.
///
/// Headers persist between attempts, so this is complete in itself: it relies on nothing but the
/// endpoint. The query of the client is not passed on; no endpoint here takes one.
pub fn address(
    cx: &mut Cx<'_>,
    headers: &Headers,
    provider: &Provider,
    endpoint: Endpoint,
    credentials: &Credentials<'_>,
) {
    strip(cx, headers);
    cx.set_header(":path", format!("{}{}", provider.base_path, endpoint.path()));
    cx.set_header(":authority", provider.host.as_bytes());
    match provider.kind.credential {
        Credential::Bearer => {
            cx.set_header("authorization", [b"Bearer ", credentials.value].concat());
        }
        Credential::Header(name) => cx.set_header(name, credentials.value),
    }
}

/// Removes every credential and everything that is between Keyward's stages.
pub fn strip(cx: &mut Cx<'_>, headers: &Headers) {
    for (name, _) in headers.iter() {
        let Ok(name) = core::str::from_utf8(name) else { continue };
        if CREDENTIALS.contains(&name)
            || NOT_FOR_PROVIDERS.contains(&name)
            || name.starts_with("x-keyward-")
        {
            cx.remove_header(name);
        }
    }
}

/// Removes what a client must not take for its own.
pub fn clean_answer(cx: &mut Cx<'_>, headers: &Headers) {
    for (name, _) in headers.iter() {
        let Ok(name) = core::str::from_utf8(name) else { continue };
        if NOT_FOR_CLIENTS.contains(&name)
            || NOT_FOR_CLIENTS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            cx.remove_header(name);
        }
    }
}
