//! What a document that is accepted becomes.

use crate::{changed, example, loaded, smallest, time};
use keyward::limit::{Algorithm, Limit, Per, Unit};
use keyward::provider;
use keyward::runtime::{Failover, KeyDigest, Mode, Rest, Secret, Select, Window};
use serde_json::json;
use std::time::Duration;

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
