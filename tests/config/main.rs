//! The configuration from the bytes of the host to the runtime: what is accepted and what it becomes,
//! what is refused and with which words, and that no word is a secret.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy allows these in test functions, not in the helpers beside them"
)]

mod fields;
mod refusals;
mod secrets;
mod wire;

use keyward::runtime::{Runtime, load};
use keyward::time::UnixTime;
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

pub(crate) fn environment(name: &str) -> Option<String> {
    ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

pub(crate) fn loaded(document: &Value) -> Result<Runtime, String> {
    load(document.to_string().as_bytes(), &environment).map_err(|error| error.to_string())
}

pub(crate) fn refused(document: &Value) -> String {
    loaded(document).expect_err("refused")
}

/// All fields.
pub(crate) fn example() -> Value {
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
pub(crate) fn smallest() -> Value {
    json!({
        "providers": [{"name": "openai", "keys": [
            {"id": "a", "secret": {"env": "OPENAI_KEY_1"}},
            {"id": "b", "secret": {"inline": "sk-inline"}},
        ]}],
        "models": [{"name": "fast", "targets": [{"provider": "openai"}]}],
    })
}

/// [`smallest`] with one value put at a JSON pointer (RFC 6901).
pub(crate) fn changed(pointer: &str, value: Value) -> Value {
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

pub(crate) fn time(text: &str) -> UnixTime {
    UnixTime::parse_rfc3339(text).unwrap()
}
