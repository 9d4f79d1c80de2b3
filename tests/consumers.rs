//! The part of the configuration that says who may call: what it becomes, and the words in which it is refused.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy allows these in test functions, not in the helpers beside them"
)]

use keyward::consumer::Source;
use keyward::runtime::{Runtime, load};
use serde_json::{Value, json};

/// `printf %s secret | sha256sum`
const SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn environment(name: &str) -> Option<String> {
    match name {
        "ACME_KEY" => Some("acme-key\n".to_owned()),
        "LONG" => Some("k".repeat(4097)),
        _ => None,
    }
}

/// The smallest document with some members replaced.
fn document(members: &Value) -> Value {
    let mut document = json!({
        "providers": [{"name": "openai", "keys": [{"id": "a", "secret": {"inline": "sk-1"}}]}],
        "models": [{"name": "fast", "targets": [{"provider": "openai"}]}],
    });
    for (name, value) in members.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

fn loaded(members: &Value) -> Result<Runtime, String> {
    load(document(members).to_string().as_bytes(), &environment).map_err(|error| error.to_string())
}

fn example() -> Value {
    json!({
        "roles": [{"name": "user", "allow": {"models": ["fast", "gpt-*"], "endpoints": ["chat", "models"]}}],
        "teams": [{"name": "research", "enabled": true, "roles": ["user"],
                   "deny": [{"hours": ["sat,sun 00:00-24:00"]}, {"header": {"name": "X-Env", "prefix": "dev-"}}]}],
        "consumers": [
            {
                "name": "acme", "team": "research", "enabled": true, "roles": ["user"],
                "keys": [
                    {"sha256": SHA256, "valid_until": "2027-01-01T00:00:00Z"},
                    {"env": "ACME_KEY", "valid_from": "2026-12-01T00:00:00Z", "enabled": true},
                ],
                "identities": ["spiffe://mesh/acme", "CN=acme,O=Acme"],
                "allow": {"cidrs": ["10.0.0.0/8", "2001:db8::/32"], "providers": ["openai"]},
                "deny": {"route": "public"},
                "provider_keys": [{"provider": "openai", "shared": false, "keys": [
                    {"id": "own", "secret": {"inline": "sk-2"}},
                    {"id": "spare", "secret": {"inline": "sk-3"}, "tier": 1, "quota_group": "g"},
                ]}],
            },
            {"name": "guest"},
        ],
        "identify": ["key", {"header": "X-JWT-Sub"}, {"property": "connection.uri_san_peer_certificate"},
                     {"property": ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "sub"]}],
        "anonymous": {"consumer": "guest"},
    })
}

#[test]
fn every_field_is_used() {
    let runtime = loaded(&example()).unwrap();
    let consumers = &runtime.consumers;
    let [acme, guest] = consumers.list.as_slice() else { panic!("two consumers") };
    assert_eq!((acme.name.as_str(), acme.team, acme.roles.as_slice()), ("acme", Some(0), &[0][..]));
    assert_eq!((guest.team, guest.roles.as_slice(), guest.enabled), (None, &[][..], true));
    assert_eq!((acme.rules.allow.len(), acme.rules.deny.len()), (1, 1));
    assert_eq!(consumers.teams[0].rules.deny.len(), 2);
    assert_eq!(consumers.anonymous, Some(1));
    for name in ["acme", "spiffe://mesh/acme", "CN=acme,O=Acme"] {
        assert_eq!(consumers.find(name), Some(0), "{name}");
    }
    assert_eq!((consumers.find("guest"), consumers.find("nobody")), (Some(1), None));
    let header = Source::Header("x-jwt-sub".to_owned());
    let sources = [Source::Key, header, Source::Property(0), Source::Property(1)];
    assert_eq!(consumers.sources, sources);
    assert!(consumers.asks.address && consumers.asks.route);
    assert_eq!(consumers.asks.headers, ["x-env"]);
    assert_eq!(
        consumers.asks.properties,
        [
            vec!["connection", "uri_san_peer_certificate"],
            vec!["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "sub"],
        ]
    );
    assert_eq!(acme.usage_slot(), "keyward/1/usage/consumer/acme");
    assert_eq!(consumers.teams[0].usage_slot(), "keyward/1/usage/team/research");

    let own = consumers.own_keys("acme", 0).unwrap();
    let names =
        |level: &Vec<usize>| level.iter().map(|key| runtime.keys[*key].name.as_str()).collect();
    let levels: Vec<Vec<&str>> = own.levels.iter().map(names).collect();
    assert_eq!(levels, [["acme/openai/own"], ["acme/openai/spare"]]);
    assert!(!own.shared);
    assert_eq!(runtime.keys[own.levels[0][0]].slot, "keyward/1/key/consumer:acme/openai/own");
    assert_eq!(runtime.keys[own.levels[1][0]].group_slot, "keyward/1/group/consumer:acme/openai/g");
    assert!(consumers.own_keys("guest", 0).is_none());
    assert_eq!(runtime.providers[0].levels.len(), 1, "not among the provider's own");
    assert_eq!(runtime.warnings, Vec::<String>::new());
}

#[test]
fn a_key_is_looked_for_where_somebody_has_one() {
    let sources = |members| loaded(&members).unwrap().consumers.sources;
    assert_eq!(sources(json!({"consumers": [{"name": "a"}]})), []);
    let keyed = json!([{"name": "a", "keys": [{"sha256": SHA256}]}]);
    assert_eq!(sources(json!({"consumers": keyed})), [Source::Key]);
    assert_eq!(sources(json!({"consumers": keyed, "identify": []})), []);
}

#[test]
fn a_bad_value_is_refused_with_its_path() {
    const TEXT: &str = "expected 1 to 512 bytes of printable text";
    let consumer =
        |member: &str, value: Value| json!({"consumers": [{"name": "a", member: value}]});
    let key = |value: Value| consumer("keys", json!([value]));
    let rule = |member: &str, value: Value| consumer("allow", json!({member: value}));
    let own = |provider: &str| json!({"provider": provider, "keys": [{"id": "x", "secret": {"inline": "sk-9"}}]});
    let identify = |value: Value| json!({"identify": [value]});
    let table = [
        (key(json!({"sha256": SHA256, "inline": "x"})), "consumers[0].keys[0]: expected exactly one of sha256, env, inline".to_owned()),
        (key(json!({})), "consumers[0].keys[0]: expected exactly one of sha256, env, inline".into()),
        (key(json!("x")), "consumers[0].keys[0]: expected an object, found a string".into()),
        (key(json!({"sha256": "x"})), "consumers[0].keys[0].sha256: expected the SHA-256 of the key as 64 hexadecimal digits".into()),
        (key(json!({"sha256": SHA256, "valid_til": 1})), "consumers[0].keys[0].valid_til: unknown field; known: sha256, env, inline, enabled, valid_from, valid_until".into()),
        (key(json!({"sha256": SHA256, "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2026-01-01T00:00:00Z"})), "consumers[0].keys[0].valid_until: not later than valid_from".into()),
        (key(json!({"env": "UNSET"})), "consumers[0].keys[0].env: environment variable UNSET is not set; list it in Envoy's environment_variables.host_env_keys".into()),
        (key(json!({"env": "LONG"})), "consumers[0].keys[0].env: the key is longer than 4096 bytes".into()),
        (key(json!({"inline": "two words"})), "consumers[0].keys[0].inline: the secret has other characters than visible ASCII".into()),
        (json!({"consumers": [{"name": "a", "keys": [{"inline": "secret"}]}, {"name": "b", "keys": [{"env": "ACME_KEY"}, {"sha256": SHA256}]}]}), "consumers[1].keys[1]: the same key as consumers[0].keys[0]".into()),
        (consumer("team", json!("x")), r#"consumers[0].team: "x" is not a team; none is known"#.into()),
        (consumer("roles", json!(["x"])), r#"consumers[0].roles[0]: "x" is not a role; none is known"#.into()),
        (json!({"teams": [{"name": "t", "roles": ["x"]}], "roles": [{"name": "r"}], "consumers": [{"name": "a", "team": "t", "roles": ["r"]}]}), r#"teams[0].roles[0]: "x" is not a role; known: r"#.into()),
        (json!({"teams": [{"name": "t"}, {"name": "t"}]}), r#"teams[1].name: "t" is also the name of teams[0]"#.into()),
        (json!({"roles": [{"name": "t"}, {"name": "t"}]}), r#"roles[1].name: "t" is also the name of roles[0]"#.into()),
        (json!({"roles": [{"name": "t", "alow": {}}]}), "roles[0].alow: unknown field; known: name, allow, deny, mfa".into()),
        (json!({"teams": [{"name": "t", "keys": []}]}), "teams[0].keys: unknown field; known: name, enabled, limits, roles, allow, deny".into()),
        (consumer("allow", json!("all")), "consumers[0].allow: expected an object or an array, found a string".into()),
        (consumer("allow", json!([])), "consumers[0].allow: expected at least 1".into()),
        (consumer("deny", json!({})), "consumers[0].deny: has no condition; known: models, endpoints, providers, cidrs, hours, header, route".into()),
        (consumer("deny", json!([{"models": ["a"]}, {}])), "consumers[0].deny[1]: has no condition; known: models, endpoints, providers, cidrs, hours, header, route".into()),
        (consumer("deny", json!([{"providers": ["openai", "groq"]}])), r#"consumers[0].deny[0].providers[1]: "groq" is not a provider; known: openai"#.into()),
        (rule("providers", json!(["groq"])), r#"consumers[0].allow.providers[0]: "groq" is not a provider; known: openai"#.into()),
        (rule("model", json!("fast")), "consumers[0].allow.model: unknown field; known: models, endpoints, providers, cidrs, hours, header, route".into()),
        (rule("models", json!([])), "consumers[0].allow.models: expected at least 1".into()),
        (rule("models", json!(["*fast"])), "consumers[0].allow.models[0]: `*` may only be the last character".into()),
        (rule("endpoints", json!(["chats"])), r#"consumers[0].allow.endpoints[0]: "chats" is not an endpoint; known: chat, completions, embeddings, responses, moderations, speech, transcriptions, translations, image_generations, image_edits, image_variations, messages, rerank, generate_content, models"#.into()),
        (rule("cidrs", json!(["10.0.0.1/8"])), r#"consumers[0].allow.cidrs[0]: "10.0.0.1/8" is not a block of addresses; write it like 10.0.0.0/8 or 2001:db8::/32, with no bits behind the prefix"#.into()),
        (rule("hours", json!(["8-18"])), r#"consumers[0].allow.hours[0]: "8-18" are not hours; write them like 08:00-18:00 or mon-fri 22:00-06:00, UTC"#.into()),
        (rule("header", json!({"name": "x-env"})), "consumers[0].allow.header: expected exactly one of equals, prefix".into()),
        (rule("header", json!({"name": "x-env", "equals": "a", "prefix": "a"})), "consumers[0].allow.header: expected exactly one of equals, prefix".into()),
        (rule("header", json!({"name": "X-Api-Key", "equals": "a"})), "consumers[0].allow.header: x-api-key carries a key; to look it up, identify by key".into()),
        (rule("route", json!("")), format!("consumers[0].allow.route: {TEXT}")),
        (consumer("identities", json!([" padded"])), format!("consumers[0].identities[0]: {TEXT}")),
        (json!({"consumers": [{"name": "a", "identities": ["b"]}, {"name": "b", "identities": ["x", "x"]}]}), "consumers[0].identities[0]: \"b\" is also an identity of consumer b\nconsumers[1].identities[1]: \"x\" is also an identity of consumer b".into()),
        (consumer("provider_keys", json!([own("groq")])), r#"consumers[0].provider_keys[0].provider: "groq" is not a provider; known: openai"#.into()),
        (consumer("provider_keys", json!([own("openai"), own("openai")])), r#"consumers[0].provider_keys[1].provider: "openai" is listed twice"#.into()),
        (identify(json!("keys")), "identify[0]: expected key or an object with header or property".into()),
        (identify(json!({})), "identify[0]: expected exactly one of header, property".into()),
        (identify(json!({"header": "authorization"})), "identify[0]: authorization carries a key; to look it up, identify by key".into()),
        (identify(json!({"header": "x-keyward-user"})), "identify[0].header: headers that start with x-keyward- are removed on entry".into()),
        (identify(json!({"property": "connection..san"})), "identify[0].property: expected an attribute of Envoy's, such as connection.uri_san_peer_certificate or [filter_state, name]".into()),
        (json!({"identify": ["key", {"header": "x"}, "key"]}), "identify[2]: is listed twice".into()),
        (json!({"identify": "key"}), "identify: expected an array, found a string".into()),
    ];
    for (members, message) in table {
        assert_eq!(loaded(&members).map(|_| ()), Err(message), "{members}");
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let consumers: Vec<Value> = (0..10).map(|n| json!({"name": format!("c{n}")})).collect();
    let idle = json!({
        "consumers": consumers, "teams": [{"name": "t"}], "roles": [{"name": "r"}],
        "anonymous": {"consumer": "c0"},
    });
    let warnings = [
        "consumers without a key, whom nobody can be: c1, c2, c3, c4, c5, c6, c7, c8, …",
        "no consumer is in the team t",
        "nobody has the role r",
    ];
    assert_eq!(loaded(&idle).unwrap().warnings, warnings);
    let unread = json!({
        "consumers": [{"name": "a", "keys": [{"sha256": SHA256}]}], "identify": [{"header": "x-sub"}],
    });
    let warning = "consumers have keys, but identify does not list key: nobody looks at them";
    assert_eq!(loaded(&unread).unwrap().warnings, [warning]);
}

#[test]
fn twenty_thousand_consumers_fit() {
    let consumers = |count: usize| {
        let consumer = |n: usize| {
            let key = |kind: u8| json!({"sha256": format!("{kind:02x}{n:062x}"), "valid_until": "2027-01-01T00:00:00Z"});
            json!({"name": format!("consumer-{n}"), "team": format!("team-{}", n % 1024), "keys": [key(1), key(2)],
                   "roles": ["user"], "allow": {"models": ["fast", "gpt-*"], "cidrs": ["10.0.0.0/8"]}})
        };
        let team = |n: usize| json!({"name": format!("team-{n}")});
        json!({
            "consumers": (0..count).map(consumer).collect::<Vec<_>>(),
            "teams": (0..1024).map(team).collect::<Vec<_>>(),
            "roles": [{"name": "user"}],
        })
    };
    let runtime = loaded(&consumers(20_000)).unwrap();
    assert_eq!(runtime.consumers.find("consumer-19999"), Some(19_999));
    let message = "consumers: expected at most 20000, found 20001".to_owned();
    assert_eq!(loaded(&consumers(20_001)).map(|_| ()), Err(message));
}

/// Consumer keys are held as digests only, and those of providers do not print.
#[test]
fn no_key_is_shown() {
    let document = json!({"consumers": [{
        "name": "a",
        "keys": [{"inline": "presented-1"}, {"env": "ACME_KEY"}],
        "provider_keys": [{"provider": "openai", "keys": [{"id": "x", "secret": {"inline": "sk-own"}}]}],
    }]});
    let shown = format!("{:?}", loaded(&document).unwrap());
    for secret in ["presented-1", "acme-key", "sk-own"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}
