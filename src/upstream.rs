//! What goes to a provider and what of its answer goes on to the client: the same for every stage that
//! sends a key.

use crate::consumer::identify::CREDENTIALS;
use crate::effect::{Cx, Effect};
use crate::endpoint::Dialect;
use crate::formats::{self, Call, Format, Way};
use crate::headers::Headers;
use crate::provider::Credential;
use crate::runtime::{Key, Provider, Secret, fingerprint};

/// Request headers that must not reach a provider, besides credentials and `x-keyward-*`.
///
/// `accept-encoding`: a compressed answer could not be observed. `cookie`, `proxy-authorization`: the
/// client's. `x-envoy-original-url`: left behind by an internal redirect. `x-goog-user-project`: whom Google
/// charges. `anthropic-*`: of the provider that the
/// last attempt went to.
const NOT_FOR_PROVIDERS: [&str; 7] = [
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "cookie",
    "proxy-authorization",
    "x-envoy-original-url",
    "x-goog-user-project",
];

/// Request headers of Anthropic's clients that only Anthropic gets.
pub const ANTHROPIC: [&str; 2] = ["anthropic-version", "anthropic-beta"];

/// What goes to any provider: about the message, its way and its traces.
const NEUTRAL: [&str; 13] = [
    "accept",
    "b3",
    "content-length",
    "content-type",
    "host",
    "sw8",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "x-amzn-trace-id",
    "x-request-id",
];
const NEUTRAL_PREFIXES: [&str; 5] = [":", "x-b3-", "x-datadog-", "x-envoy-", "x-forwarded-"];

/// What Envoy's `aws_request_signing` leaves behind when an attempt at AWS is followed by another: a session token
/// among it.
const AWS: &str = "x-amz-";

/// Answer headers that speak of the account behind the key, not of the client.
const NOT_FOR_CLIENTS: [&str; 9] = [
    "anthropic-organization-id",
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

/// What a client says beside the body.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own<'a> {
    /// As [`Plan::own_headers`](crate::plan::Plan::own_headers).
    pub headers: &'a [(String, String)],
    /// `?beta=true` of Anthropic's clients, for a provider that takes the request as it is.
    pub beta: bool,
}

impl<'a> Own<'a> {
    /// `path`: the client's, with its query.
    pub fn of(path: &str, headers: &'a [(String, String)], call: &Call<'_>) -> Self {
        let asked =
            path.split_once('?').is_some_and(|(_, q)| q.split('&').any(|p| p == "beta=true"));
        let native = call.way == Way::Native && call.endpoint.dialect() == Dialect::Anthropic;
        Self { headers, beta: asked && native }
    }
}

/// The secret of a key as it is at the moment, and its fingerprint.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// Empty: nothing is sent.
    value: &'a [u8],
    pub fingerprint: u64,
}

/// `None`: the secret should have come in a header and did not.
pub fn credentials<'a>(headers: &'a Headers, key: &'a Key) -> Option<Credentials<'a>> {
    match &key.secret {
        Secret::None => Some(Credentials { value: b"", fingerprint: key.fingerprint }),
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
///
/// `None`: the provider has no path for the call.
pub fn address(
    cx: &mut Cx<'_>,
    headers: &Headers,
    provider: &Provider,
    call: &Call<'_>,
    own: &Own<'_>,
    credentials: &Credentials<'_>,
) -> Option<()> {
    let format = provider.kind.format;
    let path = provider.path(call)?;
    strip(cx, headers);
    if call.way == Way::Translated {
        for (name, _) in headers.iter() {
            let name = core::str::from_utf8(name).unwrap_or_default();
            if is_for_vendor(name) && !is_stripped(name) {
                cx.remove_header(name);
            }
        }
        cx.set_header("content-type", "application/json");
    }
    // Anthropic's clients say so twice: here and in `anthropic-beta`.
    let query = if own.beta && format == Format::Anthropic { "?beta=true" } else { "" };
    cx.set_header(":path", format!("{}{path}{query}", provider.base_path));
    cx.set_header(":authority", provider.host.as_bytes());
    match provider.kind.credential {
        _ if credentials.value.is_empty() => {}
        Credential::Bearer => {
            cx.set_header("authorization", [b"Bearer ", credentials.value].concat());
        }
        Credential::Header(name) => cx.set_header(name, credentials.value),
    }
    let known: &[&'static str] = match format {
        Format::Anthropic => {
            cx.set_header("anthropic-version", formats::ANTHROPIC_VERSION);
            &ANTHROPIC
        }
        // The version is in its envelope.
        Format::VertexAnthropic => &["anthropic-beta"],
        _ => &[],
    };
    for (name, value) in own.headers {
        let is_back = if ANTHROPIC.contains(&name.as_str()) {
            known.contains(&name.as_str())
        } else {
            // A translated attempt took it away.
            call.way == Way::Native && !headers.contains(name)
        };
        if is_back {
            cx.effects.push(Effect::SetHeader(name.clone().into(), value.clone().into_bytes()));
        }
    }
    Some(())
}

/// Whether a header is a client's word to the vendor of its API: an organization, a beta, a session, its SDK. Where
/// a request is translated, it is for another vendor, and that is none of its business.
pub fn is_for_vendor(name: &str) -> bool {
    !NEUTRAL.contains(&name) && !NEUTRAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether no provider gets it from a client, whatever it is about.
pub fn is_stripped(name: &str) -> bool {
    CREDENTIALS.contains(&name)
        || NOT_FOR_PROVIDERS.contains(&name)
        || name.starts_with("x-keyward-")
        || name.starts_with(AWS)
}

/// Removes every credential and everything that is between Keyward's stages.
pub fn strip(cx: &mut Cx<'_>, headers: &Headers) {
    for (name, _) in headers.iter() {
        let Ok(name) = core::str::from_utf8(name) else { continue };
        if is_stripped(name) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::ledger::memory::Memory;
    use crate::runtime::{Runtime, load};
    use crate::time::UnixTime;
    use serde_json::json;

    fn runtime(kind: &str) -> Runtime {
        let keys = json!([
            {"id": "a", "secret": {"inline": "sk-a"}},
            {"id": "b", "secret": {"header": "x-keyward-secret-b"}},
            {"id": "c", "secret": "none"},
        ]);
        let document = json!({
            "providers": [{"name": "p", "kind": kind, "host": "p.test", "base_path": "/base", "keys": keys}],
            "models": [{"name": "m", "targets": [{"provider": "p"}]}],
        });
        load(document.to_string().as_bytes(), &|_| None).unwrap()
    }

    /// What is left of `fields` after `change`.
    fn changed(
        runtime: &Runtime,
        fields: &[(&str, &str)],
        change: impl FnOnce(&mut Cx<'_>, &Headers),
    ) -> Vec<(String, String)> {
        let memory = Memory::default();
        let mut cx = Cx::new(runtime, &memory, None, UnixTime(1), 1);
        change(&mut cx, &fields.iter().copied().collect());
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut left: Vec<_> = fields.iter().map(owned).collect();
        for effect in cx.effects {
            match effect {
                Effect::SetHeader(name, value) => {
                    left.retain(|(known, _)| *known != name);
                    left.push((name.into_owned(), String::from_utf8(value).unwrap()));
                }
                Effect::RemoveHeader(name) => left.retain(|(known, _)| *known != name),
                other => panic!("{other:?}"),
            }
        }
        left
    }

    #[test]
    fn an_attempt_takes_nothing_from_the_one_before() {
        let left_behind = [
            (":path", "/other/v1/chat/completions?key=1"),
            (":authority", "other.test"),
            ("authorization", "Bearer sk-other"),
            ("api-key", "sk-other"),
            ("x-api-key", "sk-other"),
            ("x-goog-api-key", "sk-other"),
            ("proxy-authorization", "Basic x"),
            ("cookie", "a=b"),
            ("accept-encoding", "gzip"),
            ("x-envoy-original-url", "http://gateway.test/"),
            ("x-amz-security-token", "session"),
            ("x-amz-date", "20261122T000000Z"),
            ("x-amz-content-sha256", "00"),
            ("x-keyward-cluster", "other"),
            ("x-keyward-state", "00.00"),
            ("x-keyward-secret-b", "sk-b"),
            ("user-agent", "kept"),
        ];
        for (kind, key, credential) in [
            ("openai", 0, Some(("authorization", "Bearer sk-a"))),
            ("azure", 0, Some(("api-key", "sk-a"))),
            ("openai", 2, None),
        ] {
            let runtime = runtime(kind);
            let left = changed(&runtime, &left_behind, |cx, headers| {
                let secret = credentials(headers, &runtime.keys[key]).unwrap();
                let provider = &runtime.providers[0];
                let call = Call {
                    endpoint: Endpoint::ChatCompletions,
                    way: Way::Native,
                    model: "m",
                    stream: false,
                };
                address(cx, headers, provider, &call, &Own::default(), &secret).unwrap();
            });
            let mut expected: Vec<_> = [
                (":path", "/base/chat/completions"),
                (":authority", "p.test"),
                ("user-agent", "kept"),
            ]
            .into_iter()
            .chain(credential)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
            expected.sort();
            let mut left = left;
            left.sort();
            assert_eq!(left, expected, "{kind}");
        }
    }

    #[test]
    fn words_for_a_vendor_stay_with_it() {
        let runtime = runtime("openai");
        let said = [
            ("anthropic-dangerous-direct-browser-access", "true"),
            ("chatgpt-account-id", "acct"),
            ("openai-organization", "org"),
            ("originator", "codex_cli_rs"),
            ("session-id", "1"),
            ("x-claude-code-session-id", "1"),
            ("x-client-request-id", "1"),
            ("x-codex-turn-metadata", "{}"),
            ("x-openai-internal-codex-responses-lite", "true"),
            ("x-stainless-os", "Linux"),
        ];
        let neutral = [
            ("accept", "text/event-stream"),
            ("traceparent", "00-1-1-01"),
            ("user-agent", "codex/1"),
            ("x-b3-traceid", "1"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "1"),
        ];
        let saved: Vec<_> = said.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let attempt = |way, left_behind: &[(&str, &str)]| {
            let left = changed(&runtime, left_behind, |cx, headers| {
                let secret = credentials(headers, &runtime.keys[2]).unwrap();
                let endpoint = Endpoint::ChatCompletions;
                let call = Call { endpoint, way, model: "m", stream: false };
                let own = Own { headers: &saved, beta: false };
                let provider = &runtime.providers[0];
                address(cx, headers, provider, &call, &own, &secret).unwrap();
            });
            let is_other = |name: &str| name.starts_with(':') || name == "content-type";
            let mut left: Vec<_> = left.into_iter().filter(|(name, _)| !is_other(name)).collect();
            left.sort();
            left
        };
        let owned = |fields: &[(&str, &str)]| -> Vec<(String, String)> {
            let mut fields: Vec<_> =
                fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            fields.sort();
            fields
        };
        let all = [&said[..], &neutral].concat();
        assert_eq!(attempt(Way::Native, &all), owned(&all));
        assert_eq!(attempt(Way::Translated, &all), owned(&neutral));
        // What a translated attempt took away is back where its vendor is asked.
        assert_eq!(attempt(Way::Native, &neutral), owned(&all));
    }

    #[test]
    fn a_secret_by_header_is_there_or_not() {
        let runtime = runtime("openai");
        for (value, expected) in
            [(Some(" sk-b\n"), Some(&b"sk-b"[..])), (Some("  "), None), (None, None)]
        {
            let headers: Headers = value.map(|v| ("x-keyward-secret-b", v)).into_iter().collect();
            let found = credentials(&headers, &runtime.keys[1]);
            assert_eq!(found.map(|c| c.value), expected);
            assert!(found.is_none_or(|c| c.fingerprint == fingerprint(b"sk-b")));
        }
    }

    #[test]
    fn a_client_does_not_hear_of_the_account() {
        let runtime = runtime("openai");
        let answer = [
            ("content-type", "application/json"),
            ("x-request-id", "1"),
            ("retry-after", "1"),
            ("retry-after-ms", "0"),
            ("x-should-retry", "true"),
            ("ratelimit", "r"),
            ("ratelimit-remaining", "1"),
            ("x-ratelimit-limit-tokens", "1"),
            ("anthropic-ratelimit-requests-reset", "1"),
            ("openai-organization", "org"),
            ("set-cookie", "a=b"),
            ("x-keyward-answered", "1"),
        ];
        let left = changed(&runtime, &answer, clean_answer);
        let names: Vec<_> = left.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "x-request-id"]);
    }
}
