//! `temporary_keys`, `access`, `mfa` and `totp` in the configuration, and the words in which they are refused.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, not in the helpers beside them"
)]

use std::time::Duration;

use keyward::consumer::Source;
use keyward::runtime::{Runtime, load};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn environment(name: &str) -> Option<String> {
    match name {
        "SIGNING" => Some(format!("{SECRET}\n")),
        "SHORT" => Some("x".repeat(31)),
        "TOTP" => Some(TOTP.to_owned()),
        _ => None,
    }
}

/// The smallest document with some members replaced.
fn loaded(members: &Value) -> Result<Runtime, String> {
    let mut document = json!({
        "providers": [{"name": "openai", "keys": [{"id": "a", "secret": {"inline": "sk-1"}}]}],
        "models": [{"name": "fast", "targets": [{"provider": "openai"}]}],
        "consumers": [{"name": "acme", "keys": [{"inline": "key-of-acme"}]}],
    });
    document.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    load(document.to_string().as_bytes(), &environment).map_err(|error| error.to_string())
}

#[test]
fn every_field_is_used() {
    let runtime = loaded(&json!({
        "temporary_keys": {"max_ttl": "2h", "secrets": [
            {"id": "new", "env": "SIGNING", "valid_from": "2027-01-01T00:00:00Z"},
            {"id": "old", "inline": SECRET, "valid_until": "2027-02-01T00:00:00Z"},
        ]},
        "access": {"max_ttl": "8h"},
        "roles": [{"name": "careful", "mfa": "totp"}],
        "teams": [{"name": "ops", "roles": ["careful"]}],
        "consumers": [
            {"name": "own", "mfa": "totp", "totp": {"env": "TOTP"}},
            {"name": "role", "roles": ["careful"], "totp": {"inline": TOTP}},
            {"name": "team", "team": "ops", "totp": {"inline": TOTP.to_lowercase()}},
            {"name": "ahead", "totp": {"inline": TOTP}},
        ],
        "anonymous": {"consumer": "ahead"},
    }))
    .unwrap();
    let consumers = &runtime.consumers;
    let signing = consumers.signing.as_ref().unwrap();
    assert_eq!(signing.max_ttl, Duration::from_secs(7200));
    let ids: Vec<&str> = signing.secrets.iter().map(|secret| secret.id.as_str()).collect();
    assert_eq!(ids, ["new", "old"]);
    assert_eq!(consumers.access_ttl, Some(Duration::from_secs(8 * 3600)));
    let asked: Vec<bool> = consumers.list.iter().map(|c| c.second_factor.is_some()).collect();
    assert_eq!(asked, [true, true, true, false]);
    assert_eq!(consumers.sources, [Source::Key], "temporary keys are keys");
    assert!(consumers.asks.address, "a key may be for certain addresses");
    assert!(
        runtime
            .warnings
            .contains(&"consumer ahead has totp, but nothing asks for it: no mfa".to_owned())
    );
    let shown = format!("{runtime:?}");
    assert!(!shown.contains(SECRET) && !shown.contains(TOTP), "a secret is printed");

    let plain = loaded(&json!({})).unwrap().consumers;
    assert!(plain.signing.is_none() && plain.access_ttl.is_none() && !plain.asks.address);
    let day = Duration::from_secs(24 * 3600);
    let minimal =
        json!({"temporary_keys": {"secrets": [{"id": "a", "env": "SIGNING"}]}, "access": {}});
    let minimal = loaded(&minimal).unwrap().consumers;
    assert_eq!((minimal.signing.unwrap().max_ttl, minimal.access_ttl), (day, Some(day)));
}

#[test]
fn a_bad_value_is_refused_with_its_path() {
    let keys = |secrets: Value| json!({"temporary_keys": {"secrets": secrets}});
    let secret = |members: Value| {
        let mut secret = json!({"id": "a"});
        secret.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        keys(json!([secret]))
    };
    let consumer = |members: Value| {
        let mut consumer = json!({"name": "a"});
        consumer.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"consumers": [consumer], "roles": [{"name": "careful", "mfa": "totp"}]})
    };
    for (members, message) in [
        (json!({"temporary_keys": {}}), "temporary_keys.secrets: missing"),
        (keys(json!([])), "temporary_keys.secrets: expected at least 1"),
        (
            json!({"temporary_keys": {"secrets": [{"id": "a", "env": "SIGNING"}], "ttl": "1h"}}),
            "temporary_keys.ttl: unknown field; known: secrets, max_ttl",
        ),
        (
            json!({"temporary_keys": {"secrets": [{"id": "a", "env": "SIGNING"}], "max_ttl": "0s"}}),
            "temporary_keys.max_ttl: expected a duration longer than zero",
        ),
        (secret(json!({})), "temporary_keys.secrets[0]: expected exactly one of env, inline"),
        (
            secret(json!({"env": "SIGNING", "inline": SECRET})),
            "temporary_keys.secrets[0]: expected exactly one of env, inline",
        ),
        (
            secret(json!({"env": "UNSET"})),
            "temporary_keys.secrets[0].env: environment variable UNSET is not set; list it in Envoy's environment_variables.host_env_keys",
        ),
        (
            secret(json!({"env": "SHORT"})),
            "temporary_keys.secrets[0].env: the secret is shorter than 32 bytes",
        ),
        (
            secret(json!({"inline": "short"})),
            "temporary_keys.secrets[0].inline: the secret is shorter than 32 bytes",
        ),
        (
            secret(json!({"sha256": SECRET})),
            "temporary_keys.secrets[0].sha256: unknown field; known: id, env, inline, valid_from, valid_until",
        ),
        (
            secret(
                json!({"env": "SIGNING", "valid_from": "2027-01-01T00:00:00Z", "valid_until": "2027-01-01T00:00:00Z"}),
            ),
            "temporary_keys.secrets[0].valid_until: not later than valid_from",
        ),
        (
            keys(json!([{"id": "a", "env": "SIGNING"}, {"id": "a", "inline": SECRET}])),
            "temporary_keys.secrets[1].id: \"a\" is also the id of secrets[0]",
        ),
        (json!({"access": {"ttl": "1h"}}), "access.ttl: unknown field; known: max_ttl"),
        (
            consumer(json!({"mfa": "totp"})),
            "consumers[0].totp: missing, and mfa asks for it here or in one of the roles",
        ),
        (
            consumer(json!({"roles": ["careful"]})),
            "consumers[0].totp: missing, and mfa asks for it here or in one of the roles",
        ),
        (consumer(json!({"mfa": "sms"})), "consumers[0].mfa: \"sms\" is unknown; known: totp"),
        (
            consumer(json!({"totp": {"inline": "not base32 at all"}})),
            "consumers[0].totp.inline: the secret has other characters than visible ASCII",
        ),
        (
            consumer(json!({"totp": {"inline": "GEZDGNBV"}})),
            "consumers[0].totp.inline: expected base32 of at least 16 bytes",
        ),
        (
            consumer(json!({"totp": {"sha256": "x"}})),
            "consumers[0].totp.sha256: unknown field; known: env, inline",
        ),
    ] {
        assert_eq!(loaded(&members).map(drop), Err(message.to_owned()), "{members}");
    }
}
