//! The configuration from the bytes of the host to the runtime: what is accepted and what it becomes,
//! what is refused and with which words, and that no word is a secret.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy allows these in test functions, not in the helpers beside them"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keyward::limit::{Algorithm, Limit, Per, Unit};
use keyward::provider;
use keyward::runtime::{Failover, KeyDigest, Mode, Rest, Runtime, Secret, Select, Window, load};
use keyward::time::UnixTime;
use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Value, json};

const ENVIRONMENT: [(&str, &str); 8] = [
    ("OPENAI_KEY_1", "sk-env-1"),
    ("OPENAI_KEY_2", "sk-env-2\n"),
    ("OPENAI_KEY_3", "sk-env-3\r\n"),
    ("SHARED_KEY_1", "sk-env-4"),
    ("ADMIN_KEY", "sk-admin\n"),
    ("EMPTY", ""),
    ("LINE_BREAK", "\n"),
    ("TWO_LINES", "sk-env-5\nsk-env-6"),
];

fn environment(name: &str) -> Option<String> {
    ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn loaded(document: &Value) -> Result<Runtime, String> {
    load(document.to_string().as_bytes(), &environment).map_err(|error| error.to_string())
}

fn refused(document: &Value) -> String {
    loaded(document).expect_err("refused")
}

/// All fields.
fn example() -> Value {
    json!({
        "providers": [
            {
                "name": "openai",
                "kind": "openai",
                "cluster": "outbound|443||api.openai.com",
                "host": "API.openai.com:8443",
                "base_path": "/v1/",
                "keys": [
                    {"id": "main-1", "secret": {"env": "OPENAI_KEY_1"}, "weight": 2},
                    {"id": "main-2", "secret": {"env": "OPENAI_KEY_2"}, "quota_group": "billing-2",
                     "limits": [{"requests": 500, "per": "minute"}, {"tokens": 200_000, "per": "month"}]},
                    {"id": "spare", "secret": {"env": "OPENAI_KEY_3"}, "tier": 1,
                     "quota_group": "billing-2", "valid_from": "2026-12-01T00:00:00Z",
                     "valid_until": "2027-03-01T01:00:00+01:00"},
                ],
                "pools": ["shared"],
                "select": "least_used",
                "rest": {"default": "10s", "max": "10m", "rejected": "7d", "out_of_quota": "2h",
                         "overloaded": "500ms"},
                "maintenance": [{"from": "2026-12-24T22:00:00Z", "until": "2026-12-25T02:00:00Z"}],
                "include_usage": false,
            },
            {"name": "backup", "kind": "openai", "pools": ["shared"]},
        ],
        "key_pools": [{"name": "shared", "keys": [
            {"id": "shared-2", "secret": {"header": "x-keyward-secret-2"}, "tier": 7},
            {"id": "shared-1", "secret": {"env": "SHARED_KEY_1"}},
            {"id": "shared-3", "secret": {"inline": "sk-inline"}, "tier": 7},
        ]}],
        "models": [
            {"name": "fast", "targets": [
                {"provider": "openai", "model": "gpt-4o-mini"},
                {"provider": "backup"},
            ]},
            {"name": "*", "targets": [{"provider": "backup"}]},
            {"name": "gpt-*", "targets": [{"provider": "openai"}]},
            {"name": "gpt-4o*", "targets": [{"provider": "openai"}]},
        ],
        "consumers": [{"name": "acme", "keys": [{"env": "ADMIN_KEY"}, {"inline": "sk-acme"}]}],
        "anonymous": {"consumer": "acme"},
        "admin": {"keys": [
            // `printf %s secret | sha256sum`
            {"sha256": "2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B"},
            {"env": "ADMIN_KEY"},
            {"inline": "secret"},
        ]},
        "failover": {"max_attempts": 4, "per_try_timeout": "20s", "budget": "90s"},
        "mode": "body",
        "response_headers": true,
        "sticky": {"header": "X-Session-Id"},
        "max_body": "64MiB",
    })
}

/// Only what has to be there.
fn smallest() -> Value {
    json!({
        "providers": [{"name": "openai", "keys": [
            {"id": "a", "secret": {"env": "OPENAI_KEY_1"}},
            {"id": "b", "secret": {"inline": "sk-inline"}},
        ]}],
        "models": [{"name": "fast", "targets": [{"provider": "openai"}]}],
    })
}

/// [`smallest`] with one value put at a JSON pointer (RFC 6901).
fn changed(pointer: &str, value: Value) -> Value {
    let mut document = smallest();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.insert(name.to_owned(), value)),
        Value::Array(elements) => match name.parse::<usize>() {
            Ok(index) => elements[index] = value,
            Err(_) => elements.push(value),
        },
        other => panic!("{other} has no members"),
    }
    document
}

fn time(text: &str) -> UnixTime {
    UnixTime::parse_rfc3339(text).unwrap()
}

#[test]
fn every_field_is_used() {
    let runtime = loaded(&example()).unwrap();
    let [openai, backup] = runtime.providers.as_slice() else { panic!("two providers") };
    assert_eq!(openai.name, "openai");
    assert_eq!(openai.kind.name, "openai");
    assert_eq!(openai.cluster, "outbound|443||api.openai.com");
    assert_eq!(openai.host, "api.openai.com:8443");
    assert_eq!(openai.base_path, "/v1");
    assert_eq!(openai.select, Select::LeastUsed);
    let rest = Rest {
        default: Duration::from_secs(10),
        max: Duration::from_secs(600),
        rejected: Duration::from_secs(7 * 86_400),
        out_of_quota: Duration::from_secs(7_200),
        overloaded: Duration::from_millis(500),
    };
    assert_eq!(openai.rest, rest);
    let window = Window { from: time("2026-12-24T22:00:00Z"), until: time("2026-12-25T02:00:00Z") };
    assert_eq!(openai.maintenance, [window]);
    assert!(!openai.include_usage);
    assert_eq!(openai.slot, "keyward/1/provider/openai");
    assert_eq!(openai.usage_slot, "keyward/1/usage/provider/openai");

    let names = |levels: &[Vec<usize>]| -> Vec<Vec<String>> {
        let name = |key: &usize| runtime.keys[*key].name.clone();
        levels.iter().map(|level| level.iter().map(name).collect()).collect()
    };
    let own = [vec!["openai/main-1", "openai/main-2"], vec!["openai/spare"]];
    let shared = [vec!["shared/shared-1"], vec!["shared/shared-2", "shared/shared-3"]];
    assert_eq!(names(&openai.levels), [own, shared.clone()].concat());
    assert_eq!(names(&backup.levels), shared);
    assert_eq!(runtime.keys.len(), 6, "a shared key is there once");

    assert_eq!(runtime.consumers.anonymous, Some(0));
    let [by_digest, by_environment, inline] = runtime.admin.as_slice() else { panic!("three") };
    assert_eq!(by_digest, inline);
    assert_ne!(by_digest, by_environment);
    assert_ne!(*by_environment, KeyDigest([0; 32]));
    let failover = Failover {
        max_attempts: 4,
        per_try_timeout: Some(Duration::from_secs(20)),
        budget: Duration::from_secs(90),
    };
    assert_eq!(runtime.failover, failover);
    assert_eq!(runtime.mode, Mode::Body);
    assert!(runtime.response_headers);
    assert_eq!(runtime.sticky.as_deref(), Some("x-session-id"));
    assert_eq!(runtime.max_body, 64 << 20);
    assert_eq!(runtime.warnings, ["a key of consumer acme is an admin key, too"]);
}

#[test]
fn keys_have_their_secrets_and_records() {
    let runtime = loaded(&example()).unwrap();
    let key = |name: &str| runtime.keys.iter().find(|key| key.name == name).unwrap();

    let main = key("openai/main-1");
    assert_eq!((main.id.as_str(), main.weight, main.tier), ("main-1", 2, 0));
    assert_eq!(main.secret, Secret::Value("sk-env-1".to_owned()));
    // `printf %s sk-env-1 | sha256sum`
    assert_eq!(main.fingerprint, 0x9495_6dea_dbf6_efe5);
    assert_eq!(main.valid, Window::ALWAYS);
    assert_eq!(main.slot, "keyward/1/key/provider:openai/main-1");
    assert_eq!(main.group_slot, main.slot);
    assert_eq!(main.usage_slot, "keyward/1/usage/key/provider:openai/main-1");

    let (second, spare) = (key("openai/main-2"), key("openai/spare"));
    assert_eq!(second.secret, Secret::Value("sk-env-2".to_owned()), "without the line break");
    assert_eq!(spare.secret, Secret::Value("sk-env-3".to_owned()), "without the line break");
    let limit = |unit, max, per| Limit { unit, max, per, algorithm: Algorithm::FixedWindow };
    let limits =
        [limit(Unit::Requests, 500, Per::Minute), limit(Unit::Tokens, 200_000, Per::Month)];
    assert_eq!(second.limits, limits);
    assert_eq!(second.group_slot, "keyward/1/group/provider:openai/billing-2");
    assert_eq!(spare.group_slot, second.group_slot);
    assert_eq!((spare.weight, spare.tier), (1, 1));
    let valid = Window { from: time("2026-12-01T00:00:00Z"), until: time("2027-03-01T00:00:00Z") };
    assert_eq!(spare.valid, valid);

    let shared = key("shared/shared-2");
    assert_eq!(shared.secret, Secret::Header("x-keyward-secret-2".to_owned()));
    assert_eq!(shared.fingerprint, 0, "unknown until a request brings it");
    assert_eq!(shared.slot, "keyward/1/key/pool:shared/shared-2");
    assert_eq!(shared.group_slot, shared.slot);
}

#[test]
fn the_longest_prefix_wins_after_an_exact_name() {
    let runtime = loaded(&example()).unwrap();
    let table = [
        ("fast", "fast"),
        ("faster", "*"),
        ("FAST", "*"),
        ("gpt-3", "gpt-*"),
        ("gpt-", "gpt-*"),
        ("gpt-4o", "gpt-4o*"),
        ("gpt-4o-mini", "gpt-4o*"),
    ];
    for (asked, found) in table {
        let model = runtime.models.find(asked).map(|model| model.name.as_str());
        assert_eq!(model, Some(found), "{asked}");
    }
    let fast = runtime.models.find("fast").unwrap();
    let targets: Vec<_> = fast.targets.iter().map(|t| (t.provider, t.model.as_deref())).collect();
    assert_eq!(targets, [(0, Some("gpt-4o-mini")), (1, None)]);
    assert_eq!(fast.usage_slot, "keyward/1/usage/model/fast");

    assert!(loaded(&smallest()).unwrap().models.find("faster").is_none());
}

#[test]
fn what_is_left_out_has_its_default() {
    let runtime = loaded(&smallest()).unwrap();
    let [provider] = runtime.providers.as_slice() else { panic!("one provider") };
    let row = provider::find("openai").unwrap();
    assert_eq!(provider.kind.name, "openai");
    assert_eq!(provider.cluster, "openai");
    assert_eq!((provider.host.as_str(), provider.base_path.as_str()), (row.host, row.base_path));
    assert_eq!(provider.include_usage, row.stream_options);
    assert_eq!(provider.select, Select::Headroom);
    let rest = Rest {
        default: Duration::from_secs(30),
        max: Duration::from_secs(3_600),
        rejected: Duration::from_secs(86_400),
        out_of_quota: Duration::from_secs(3_600),
        overloaded: Duration::from_secs(5),
    };
    assert_eq!(provider.rest, rest);
    assert_eq!(provider.levels, [[0, 1]]);
    assert_eq!(runtime.keys[0].weight, 1);
    let failover =
        Failover { max_attempts: 8, per_try_timeout: None, budget: Duration::from_secs(60) };
    assert_eq!(runtime.failover, failover);
    assert_eq!(runtime.mode, Mode::Headers);
    assert_eq!(runtime.max_body, 32 << 20);
    assert!(
        runtime.consumers.anonymous.is_none()
            && runtime.admin.is_empty()
            && runtime.sticky.is_none()
    );
    assert!(!runtime.response_headers);

    // One field of a group that is given leaves the others at their defaults.
    let runtime = loaded(&changed("/providers/0/rest", json!({"rejected": "1h"}))).unwrap();
    assert_eq!(runtime.providers[0].rest, Rest { rejected: Duration::from_secs(3_600), ..rest });
}

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

/// A key pasted into any field around the keys is not shown, whether as a value or as a member name
/// (YAML's `{sk-abc}`).
#[test]
fn a_misplaced_secret_is_not_shown() {
    const MISPLACED: &str = "sk-proj-mi5placed";
    let example = example();
    let mut places = Vec::new();
    let sections = ["/providers/0/keys", "/key_pools", "/admin", "/consumers/0/keys"];
    for section in sections.into_iter().chain(["/providers/0/host", "/sticky"]) {
        collect_places(example.pointer(section).unwrap(), section, &mut places);
    }
    // Names, times and windows are echoed: no place for a key.
    let echoed = |place: &&String| {
        place.ends_with("/name") || place.ends_with("/per") || place.contains("/valid_")
    };
    places.retain(|place| !echoed(&place));
    assert!(places.len() > 40, "{places:?}");

    let mut refusals = 0;
    for place in places {
        let values = [
            json!(MISPLACED),
            json!([MISPLACED]),
            json!({MISPLACED: null}),
            json!({"env": MISPLACED}),
            json!({"name": "shared", "keys": [{"id": "x", "secret": MISPLACED}]}),
        ];
        for value in values {
            let mut document = example.clone();
            *document.pointer_mut(&place).unwrap() = value;
            if let Err(message) = loaded(&document) {
                assert!(!message.contains(MISPLACED), "{place}: {message}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 150, "{refusals}");
}

/// The pointers to `value`, which is at `at`, and to all within it.
fn collect_places(value: &Value, at: &str, places: &mut Vec<String>) {
    places.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                collect_places(member, &format!("{at}/{name}"), places);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                collect_places(element, &format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
}

#[test]
fn a_runtime_does_not_print_its_secrets() {
    let text = format!("{:?}", loaded(&example()).unwrap());
    assert!(text.contains("Value(***)"));
    for secret in ["sk-env", "sk-inline", "sk-admin"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let mut document = smallest();
    document["providers"] = json!([
        {"name": "openai", "keys": [
            {"id": "a", "secret": {"env": "OPENAI_KEY_1"}},
            {"id": "b", "secret": {"inline": "sk-env-1"}},
        ]},
        {"name": "idle", "kind": "openai", "keys": [{"id": "x", "secret": {"inline": "sk-idle"}}]},
    ]);
    document["key_pools"] = json!([
        {"name": "spare", "keys": [{"id": "x", "secret": {"header": "x-keyward-secret-1"}}]},
    ]);
    let warnings = [
        "no model uses the provider idle",
        "no provider uses the key pool spare",
        "openai/a and openai/b have the same secret",
    ];
    assert_eq!(loaded(&document).unwrap().warnings, warnings);
}

/// Envoy hands a `Struct` over as its wire format; Istio and Envoy Gateway send JSON.
#[test]
fn a_struct_and_json_give_the_same_runtime() {
    for document in [example(), smallest()] {
        let from_struct = load(&encoded(&document), &environment).unwrap();
        let from_json = load(document.to_string().as_bytes(), &environment).unwrap();
        assert_eq!(view(&from_struct), view(&from_json));
    }
    let error = load(&encoded(&json!({"mode": "x"})), &environment).unwrap_err();
    let message =
        "mode: \"x\" is unknown; known: headers, body\nproviders: missing\nmodels: missing";
    assert_eq!(error.to_string(), message);
}

/// The wire format of an object as `google.protobuf.Struct`.
fn encoded(document: &Value) -> Vec<u8> {
    let Kind::StructValue(fields) = protobuf(document) else { panic!("an object") };
    fields.encode_to_vec()
}

fn protobuf(value: &Value) -> Kind {
    let wrapped = |value| prost_types::Value { kind: Some(protobuf(value)) };
    match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(elements) => {
            let values = elements.iter().map(wrapped).collect();
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(members) => {
            let fields = members.iter().map(|(name, value)| (name.clone(), wrapped(value)));
            Kind::StructValue(prost_types::Struct { fields: fields.collect() })
        }
    }
}

/// All of a runtime as text, its secrets too, in an order that does not depend on a hash.
fn view(runtime: &Runtime) -> String {
    let Runtime { providers, keys, models, admin, consumers, failover, mode, .. } = runtime;
    let Runtime { response_headers, sticky, max_body, warnings, .. } = runtime;
    let exact: BTreeMap<_, _> = models.exact.iter().collect();
    let secret = |secret: &Secret| match secret {
        Secret::Value(text) | Secret::Header(text) => text.clone(),
        Secret::None => String::new(),
    };
    let secrets: BTreeSet<_> = keys.iter().map(|key| (&key.name, secret(&key.secret))).collect();
    format!(
        "{providers:#?}{keys:#?}{secrets:#?}{:#?}{exact:#?}{:#?}{admin:?}{:?}{failover:?}\
         {mode:?}{response_headers}{sticky:?}{max_body}{warnings:?}",
        models.list, models.prefixes, consumers.list
    )
}
