//! What is refused, and with which words.

use crate::wire::encoded;
use crate::{changed, environment, example, loaded, refused};
use keyward::provider;
use keyward::runtime::load;
use serde_json::{Value, json};

#[test]
fn a_bad_value_is_refused_with_its_path() {
    const NAME: &str = "expected 1 to 64 characters of A-Z a-z 0-9 . _ : -";
    const HEADER: &str = "expected a header name that starts with x-keyward-secret-, in lower case";
    const UNSET: &str = "is not set; list it in Envoy's environment_variables.host_env_keys";
    const VISIBLE: &str = "the secret has other characters than visible ASCII";
    const BYTES: &str =
        "expected a number of bytes such as 1048576, 512KiB or 32MiB, at most 256MiB";
    const DURATION: &str = "is not a duration; write it like 500ms, 30s, 5m, 1h, 7d";
    const KEY_FIELDS: &str =
        "known: id, secret, weight, tier, quota_group, limits, valid_from, valid_until";
    let kinds = provider::names().collect::<Vec<_>>().join(", ");
    let key = json!({"id": "x", "secret": {"inline": "sk-inline-2"}});
    let pool = json!({"name": "p", "keys": [key]});
    let openai = json!({"name": "openai", "keys": [key]});
    let mine = json!({"name": "mine", "keys": [key]});
    let fast = json!({"name": "fast", "targets": [{"provider": "openai"}]});
    let noon = "2026-12-25T12:00:00Z";

    let top: Vec<(&str, Value, String)> = vec![
        ("provider", json!([]), "provider: unknown field; known: providers, key_pools, models, consumers, teams, roles, prices, identify, anonymous, client_address, temporary_keys, access, admin, failover, mode, response_headers, filter_state, sticky, max_body".into()),
        ("providers", json!({}), "providers: expected an array, found an object".into()),
        ("providers", json!([]), "providers: expected at least 1".into()),
        ("models", Value::Null, "models: expected an array, found null".into()),
        ("models/0", json!("fast"), "models[0]: expected a model, or the word auto".into()),
        ("models/0/targets", json!([]), "models[0].targets: expected at least 1".into()),
        ("models/0/targets/0/modle", json!("x"), "models[0].targets[0].modle: unknown field; known: provider, model".into()),
        ("consumers", json!([{"name": "acme", "key": "x"}]), "consumers[0].key: unknown field; known: name, team, enabled, keys, identities, roles, allow, deny, limits, provider_keys, mfa, totp".into()),
        ("response_headers", json!("yes"), "response_headers: expected a boolean, found a string".into()),
        ("mode", json!("both"), r#"mode: "both" is unknown; known: headers, body"#.into()),
        ("models/0/name", json!("g*t"), "models[0].name: `*` may only be the last character".into()),
        ("models/0/name", json!("a\nb"), "models[0].name: expected 1 to 256 printable ASCII characters".into()),
        ("models/0/name", json!("a".repeat(257)), "models[0].name: expected 1 to 256 printable ASCII characters".into()),
        ("models/0/targets/0/model", json!("gpt-*"), "models[0].targets[0].model: expected one model; leave it out to keep the name that the client asks for".into()),
        ("models/0/targets/0/provider", json!("opnai"), r#"models[0].targets[0].provider: "opnai" is not a provider; known: openai"#.into()),
        ("models/-", fast, r#"models[1].name: "fast" is also the name of models[0]"#.into()),
        ("consumers", json!([{"name": "a"}, {"name": "a"}]), r#"consumers[1].name: "a" is also the name of consumers[0]"#.into()),
        ("key_pools", json!([openai]), r#"key_pools[0].name: "openai" is also the name of providers[0]"#.into()),
        ("key_pools", json!([pool, pool]), r#"key_pools[1].name: "p" is also the name of key_pools[0]"#.into()),
        ("key_pools", json!([{"name": "p", "keys": []}]), "key_pools[0].keys: expected at least 1".into()),
        ("providers/-", openai, r#"providers[1].name: "openai" is also the name of providers[0]"#.into()),
        ("providers/-", mine, format!(r#"providers[1].name: "mine" is not a kind of provider, so set kind; known: {kinds}"#)),
        ("providers/-", json!({"name": "bare", "kind": "openai"}), "providers[1]: has neither keys nor pools".into()),
        ("anonymous", json!({"consumer": "acme"}), r#"anonymous.consumer: "acme" is not a consumer; none is known"#.into()),
        ("anonymous", json!("allow"), "anonymous: expected refuse or an object with consumer".into()),
        ("sticky", json!({"header": ":path"}), "sticky.header: expected the name of a header".into()),
        ("sticky", json!({"header": "X-Keyward-Session"}), "sticky.header: headers that start with x-keyward- are removed on entry".into()),
        ("sticky", json!({}), "sticky.header: missing".into()),
        ("failover", json!({"max_attempts": 33}), "failover.max_attempts: expected an integer from 1 to 32".into()),
        ("failover", json!({"budget": "soon"}), format!(r#"failover.budget: "soon" {DURATION}"#)),
        ("max_body", json!("32MB"), format!("max_body: {BYTES}")),
        ("max_body", json!("+1MiB"), format!("max_body: {BYTES}")),
        ("max_body", json!("257MiB"), format!("max_body: {BYTES}")),
        ("max_body", json!(0), format!("max_body: {BYTES}")),
        ("admin", json!({"keys": ["sk-secret"]}), "admin.keys[0]: expected an object with one of sha256, env, inline".into()),
        ("admin", json!({"keys": [{"sha256": "sk-secret"}]}), "admin.keys[0].sha256: expected the SHA-256 of the key as 64 hexadecimal digits".into()),
        ("admin", json!({"keys": [{"sha256": "+1".repeat(32)}]}), "admin.keys[0].sha256: expected the SHA-256 of the key as 64 hexadecimal digits".into()),
        ("admin", json!({"keys": [{"env": "ADMIN"}]}), format!("admin.keys[0].env: environment variable ADMIN {UNSET}")),
        ("admin", json!({"keys": [{"inline": ""}]}), "admin.keys[0].inline: the secret is empty".into()),
    ];
    let provider: Vec<(&str, Value, String)> = vec![
        ("key", json!(1), "key: unknown field; known: name, kind, cluster, host, base_path, project, location, keys, pools, select, rest, maintenance, include_usage, api_version, endpoints, models".into()),
        ("name", json!(7), "name: expected a string, found an integer".into()),
        ("kind", json!("opnai"), format!(r#"kind: "opnai" is not a kind of provider; known: {kinds}"#)),
        ("cluster", json!("a b"), "cluster: expected 1 to 255 visible ASCII characters".into()),
        ("host", json!("https://api.openai.com"), "host: expected a host, with a port where it is not the default: no scheme, no path".into()),
        ("base_path", json!("v1"), "base_path: expected a path such as /v1: no query, no `..`".into()),
        ("base_path", json!("/v1/../admin"), "base_path: expected a path such as /v1: no query, no `..`".into()),
        ("pools", json!(["shraed"]), r#"pools[0]: "shraed" is not a key pool; none is known"#.into()),
        ("select", json!("best"), r#"select: "best" is unknown; known: headroom, weighted, round_robin, least_used"#.into()),
        ("select", Value::Null, "select: expected a string, found null".into()),
        ("rest", json!({"default": "30 parsecs"}), format!(r#"rest.default: "30 parsecs" {DURATION}"#)),
        ("rest", json!({"default": 30}), "rest.default: expected a string, found an integer".into()),
        ("rest", json!({"overloaded": "0s"}), "rest.overloaded: expected a duration longer than zero".into()),
        ("rest", json!({"max": "10s"}), "rest.max: shorter than rest.default, 30s".into()),
        ("maintenance", json!([{"from": "2026-12-24", "until": noon}]), r#"maintenance[0].from: "2026-12-24" is not a time; write it like 2026-12-24T22:00:00Z"#.into()),
        ("maintenance", json!([{"from": noon, "until": noon}]), "maintenance[0].until: not later than from".into()),
        ("maintenance", json!([{"from": noon}]), "maintenance[0].until: missing".into()),
    ];
    let key: Vec<(&str, Value, String)> = vec![
        ("weigth", json!(2), format!("weigth: unknown field; {KEY_FIELDS}")),
        ("id", json!("a/b"), format!("id: {NAME}")),
        ("id", json!(""), format!("id: {NAME}")),
        ("id", json!("a".repeat(65)), format!("id: {NAME}")),
        ("id", json!("a"), r#"id: "a" is also the id of keys[0]"#.into()),
        (
            "secret",
            json!("sk-secret"),
            "secret: expected an object with one of env, header, inline; or none".into(),
        ),
        ("secret", json!({}), "secret: expected exactly one of env, header, inline".into()),
        (
            "secret",
            json!({"env": "OPENAI_KEY_1", "inline": "sk-x"}),
            "secret: expected exactly one of env, header, inline".into(),
        ),
        (
            "secret",
            json!({"sk-secret-1": null}),
            "secret.…: unknown field; known: env, header, inline".into(),
        ),
        (
            "secret",
            json!({"env": "OPENAI_KEY_9"}),
            format!("secret.env: environment variable OPENAI_KEY_9 {UNSET}"),
        ),
        (
            "secret",
            json!({"env": "EMPTY"}),
            format!("secret.env: environment variable EMPTY {UNSET}"),
        ),
        (
            "secret",
            json!({"env": "gsk_secret"}),
            format!("secret.env: environment variable of that name {UNSET}"),
        ),
        (
            "secret",
            json!({"env": "sk-secret"}),
            "secret.env: expected the name of an environment variable: letters, digits and _"
                .into(),
        ),
        ("secret", json!({"env": "LINE_BREAK"}), "secret.env: the secret is empty".into()),
        ("secret", json!({"env": "TWO_LINES"}), format!("secret.env: {VISIBLE}")),
        ("secret", json!({"inline": "sk secret"}), format!("secret.inline: {VISIBLE}")),
        (
            "secret",
            json!({"inline": "s".repeat(16_385)}),
            "secret.inline: the secret is longer than 16384 bytes".into(),
        ),
        (
            "secret",
            json!({"inline": 123_456}),
            "secret.inline: expected a string, found an integer".into(),
        ),
        ("secret", json!({"header": "X-Keyward-Secret-1"}), format!("secret.header: {HEADER}")),
        ("secret", json!({"header": "x-keyward-secret-"}), format!("secret.header: {HEADER}")),
        ("secret", json!({"header": "authorization"}), format!("secret.header: {HEADER}")),
        ("weight", json!(0), "weight: expected an integer from 1 to 1000000".into()),
        ("weight", json!(1.5), "weight: expected an integer from 1 to 1000000".into()),
        ("tier", json!(-1), "tier: expected an integer from 0 to 1000000".into()),
        (
            "limits",
            json!([{"requests": 0, "per": "day"}]),
            "limits[0].requests: expected an integer of at least 1".into(),
        ),
        (
            "limits",
            json!([{"requests": 1, "tokens": 1, "per": "day"}]),
            "limits[0]: expected exactly one of requests, tokens, prompt_tokens, completion_tokens, cost, concurrency".into(),
        ),
        (
            "limits",
            json!([{"per": "day"}]),
            "limits[0]: expected exactly one of requests, tokens, prompt_tokens, completion_tokens, cost, concurrency".into(),
        ),
        ("limits", json!([{"tokens": 1}]), "limits[0].per: missing".into()),
        (
            "limits",
            json!([{"tokens": 1, "per": "year"}]),
            r#"limits[0].per: "year" is unknown; known: second, minute, hour, day, week, month"#.into(),
        ),
        (
            "limits",
            json!(vec![json!({"tokens": 1, "per": "day"}); 9]),
            "limits: expected at most 8, found 9".into(),
        ),
        (
            "valid_until",
            json!("1970-01-01T00:00:00Z"),
            "valid_until: not later than valid_from".into(),
        ),
    ];
    for (at, prefix, table) in [
        ("/", "", top),
        ("/providers/0/", "providers[0].", provider),
        ("/providers/0/keys/1/", "providers[0].keys[1].", key),
    ] {
        for (field, value, message) in table {
            let document = changed(&format!("{at}{field}"), value.clone());
            assert_eq!(refused(&document), format!("{prefix}{message}"), "{at}{field} = {value}");
        }
    }
    let mut document = example();
    document["providers"][1]["pools"] = json!(["shared", "shared"]);
    assert_eq!(refused(&document), r#"providers[1].pools[1]: "shared" is listed twice"#);
}

#[test]
fn a_kind_without_a_host_needs_one() {
    // Vertex AI's is made of project and location.
    let hosted =
        |name: &&str| name.starts_with("vertex") || !provider::find(name).unwrap().host.is_empty();
    let bare: Vec<&str> = provider::names().filter(|name| !hosted(name)).collect();
    assert!(!bare.is_empty(), "the table has self-hosted servers");
    for name in bare {
        let mut document = changed("/providers/0/kind", json!(name));
        let message = format!("providers[0].host: missing; the kind {name} has none of its own");
        assert_eq!(refused(&document), message);
        document["providers"][0]["host"] = json!("llm.internal:8000");
        assert_eq!(loaded(&document).unwrap().providers[0].host, "llm.internal:8000");
    }
}

#[test]
fn all_errors_come_at_once_in_document_order() {
    let document = r#"{
        "models": [{"name": "fast", "targets": [{"provider": "opnai"}, {"provider": "broken"}]}],
        "anonymous": {"consumer": "nobody"},
        "failover": {"max_attempts": 0, "budget": "soon"},
        "providers": [
            {"name": "openai", "pools": ["none"],
             "keys": [{"id": "a", "secret": {"env": "UNSET"}}]},
            {"name": "broken", "kind": "openai",
             "keys": [{"id": "b", "weigth": 1}, {"id": 5, "secret": {}},
                      {"id": "c", "secret": {"env": "UNSET"}}]}
        ],
        "consumers": [{"name": "acme"}],
        "admin": {"keys": [{"env": "UNSET"}]},
        "mode": "x",
        "mode": "headers"
    }"#;
    let expected = [
        r#"models[0].targets[0].provider: "opnai" is not a provider; known: openai, broken"#,
        r#"anonymous.consumer: "nobody" is not a consumer; known: acme"#,
        "failover.max_attempts: expected an integer from 1 to 32",
        r#"failover.budget: "soon" is not a duration; write it like 500ms, 30s, 5m, 1h, 7d"#,
        r#"providers[0].pools[0]: "none" is not a key pool; none is known"#,
        "providers[0].keys[0].secret.env: environment variable UNSET is not set; list it in Envoy's environment_variables.host_env_keys",
        "providers[1].keys[0].weigth: unknown field; known: id, secret, weight, tier, quota_group, limits, valid_from, valid_until",
        "providers[1].keys[0].secret: missing",
        "providers[1].keys[1].id: expected a string, found an integer",
        "providers[1].keys[1].secret: expected exactly one of env, header, inline",
        "providers[1].keys[2].secret.env: environment variable UNSET is not set; list it in Envoy's environment_variables.host_env_keys",
        "admin.keys[0].env: environment variable UNSET is not set; list it in Envoy's environment_variables.host_env_keys",
        "mode: given twice",
        r#"mode: "x" is unknown; known: headers, body"#,
    ];
    let error = load(document.as_bytes(), &environment).unwrap_err();
    assert_eq!(error.to_string().lines().collect::<Vec<_>>(), expected);
    assert_eq!(error.errors().len(), expected.len());
}

#[test]
fn a_document_that_is_none_is_refused_in_few_words() {
    let table = [
        ("", "the configuration is empty"),
        ("[]", "expected an object, found an array"),
        ("\"sk-secret\"", "expected an object, found a string"),
        ("{", "not valid JSON: EOF while parsing an object at line 1 column 1"),
        ("{}", "providers: missing\nmodels: missing"),
    ];
    for (text, message) in table {
        assert_eq!(load(text.as_bytes(), &environment).unwrap_err().to_string(), message, "{text}");
    }
}

/// A `Struct` may be cut where a field ends; what is left of it is read or refused, never a panic.
#[test]
fn a_cut_or_damaged_document_does_no_harm() {
    let text = example().to_string();
    for end in 0..text.len() {
        assert!(load(&text.as_bytes()[..end], &environment).is_err(), "{end}");
    }
    let bytes = encoded(&example());
    let mut read = 0;
    for place in 0..bytes.len() {
        read += usize::from(load(&bytes[..place], &environment).is_ok());
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x55;
        read += usize::from(load(&damaged, &environment).is_ok());
    }
    assert!(read < bytes.len(), "{read}");
}

#[test]
fn sizes_are_bounded() {
    let key = |id: usize| json!({"id": format!("k{id}"), "secret": {"inline": format!("sk-{id}")}});
    let keys = |count: usize| (0..count).map(key).collect::<Vec<_>>();
    let pool = |count: usize| json!([{"name": "shared", "keys": keys(count)}]);
    let targets = |count: usize| json!(vec![json!({"provider": "openai"}); count]);
    let models = |count: usize| {
        let model = |name: usize| json!({"name": format!("m{name}"), "targets": targets(1)});
        json!((0..count).map(model).collect::<Vec<_>>())
    };
    let providers = |count: usize| {
        let name = |index: usize| if index == 0 { "openai".into() } else { format!("p{index}") };
        let row = |index: usize| json!({"name": name(index), "kind": "openai", "keys": keys(1)});
        json!((0..count).map(row).collect::<Vec<_>>())
    };
    let cases = [
        ("/providers", providers(64), providers(65), "providers: expected at most 64, found 65"),
        ("/models", models(1024), models(1025), "models: expected at most 1024, found 1025"),
        (
            "/models/0/targets",
            targets(16),
            targets(17),
            "models[0].targets: expected at most 16, found 17",
        ),
        (
            "/providers/0/keys",
            json!(keys(1024)),
            json!(keys(1025)),
            "providers[0].keys: expected at most 1024, found 1025",
        ),
        (
            "/key_pools",
            pool(1022),
            pool(1023),
            "1025 keys in all providers, key_pools and provider_keys; at most 1024",
        ),
    ];
    for (pointer, largest, larger, message) in cases {
        assert_eq!(loaded(&changed(pointer, largest)).err(), None, "{pointer}");
        assert_eq!(refused(&changed(pointer, larger)), message, "{pointer}");
    }
}
