//! What somebody may try who wants more than is given: odd paths, old keys, other people's addresses.

use serde_json::{Value, json};

use crate::world::{ADMIN, Request, World, chat, keys, one, post, with};

fn document() -> Value {
    with(
        one(keys(["k1"])),
        json!({
            "consumers": [
                {"name": "acme", "keys": [{"inline": "key-of-acme"}]},
                {"name": "beta", "keys": [{"inline": "key-of-beta"}]},
            ],
            "anonymous": "refuse",
            "temporary_keys": {"secrets": [{"id": "s1", "inline": "0123456789abcdef0123456789abcdef"}]},
            "access": {},
            "client_address": {"block": {"after": 2, "within": "1m", "for": "1h"}, "exempt": ["10.0.0.0/8"]},
        }),
    )
}

fn with_method(method: &str, path: &str) -> Request {
    let mut request = Request::get(path);
    let position = request.headers.iter().position(|(name, _)| name == ":method").unwrap();
    request.headers[position].1 = method.as_bytes().into();
    request
}

/// The audit trail since the last look.
fn trail(world: &World) -> Vec<Value> {
    let json = |line: String| serde_json::from_str(line.strip_prefix("INFO ")?).ok();
    world.take_log().into_iter().filter_map(json).collect()
}

#[test]
fn no_spelling_of_a_path_leads_elsewhere() {
    let world = World::new(&document());
    for (request, outcome) in [
        (Request::delete("/keyward/keys/%2e%2e"), "404 key_not_found"),
        (Request::delete("/keyward/keys/../status"), "404 unknown_url"),
        (Request::delete("/keyward/keys/acme%00"), "404 key_not_found"),
        (Request::delete("/keyward/keys/%ff%fe"), "404 key_not_found"),
        (Request::delete("/keyward/keys/acme.00?x=/y"), "404 key_not_found"),
        (
            post("/keyward/access/%2e%2e%2facme.00", &json!({"decision": "approve"})),
            "404 request_not_found",
        ),
        (
            post("/keyward/access/acme.%30", &json!({"decision": "approve"})),
            "404 request_not_found",
        ),
        (post("/keyward/access/acme/0000000000000000", &json!({})), "404 unknown_url"),
        (Request::get("//keyward/status"), "404 unknown_url"),
        (Request::get("/keyward//status"), "404 unknown_url"),
        (Request::get("/Keyward/status"), "404 unknown_url"),
        (Request::get("/keyward/%73tatus"), "404 unknown_url"),
        (Request::get("/v1/../keyward/status"), "404 unknown_url"),
        (Request::get("/keyward/status;x"), "404 unknown_url"),
        (with_method("HEAD", "/keyward/status"), "200"),
        (with_method("HEAD", "/keyward/keys"), "405 method_not_allowed"),
        (with_method("OPTIONS", "/keyward/keys"), "405 method_not_allowed"),
        (with_method("get", "/keyward/status"), "405 method_not_allowed"),
    ] {
        let got = world.ask(&request.clone().by(ADMIN));
        assert_eq!(got.outcome(), outcome, "{:?}", request.headers);
        assert!(got.calls.is_empty(), "nothing of it is a provider's");
    }
    // A fragment is no part of a request; what comes after it is not looked at.
    assert_eq!(world.ask(&Request::get("/keyward/status#/x").by(ADMIN)).status, 200);
}

#[test]
fn lines_of_the_trail_are_short_and_one_each() {
    let world = World::new(&document());
    world.address.replace("10.0.0.1:80".to_owned());
    let long = format!("/keyward/keys/{}", "\u{e9}".repeat(30_000));
    for path in [&long, "/keyward/a\nINFO {\"audit\":\"issue\"}", "/keyward/\u{1b}[2J\u{85}"] {
        let got = world.ask(&Request::delete(path).by("key-of-acme"));
        assert_eq!(got.status, 404);
        assert!(got.body.len() < 1_000, "{}", got.body.len());
    }
    let log = world.take_log();
    assert_eq!(log.len(), 3);
    for line in log {
        assert!(line.len() < 1_000, "{}", line.len());
        let line = line.strip_prefix("INFO ").unwrap();
        assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line}");
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["audit"], "refusal");
    }
}

#[test]
fn a_key_of_somebody_who_is_gone_is_nobody_else_s() {
    let world = World::new(&document());
    let got = world.ask(&post("/keyward/keys", &json!({})).by("key-of-acme"));
    let issued: Value = serde_json::from_str(&got.body).unwrap();
    let key = issued["key"].as_str().unwrap();
    assert_eq!(world.ask(&chat("fast").by(key)).status, 200);
    // A certificate calls another one by the name that there was.
    let beta = json!({"name": "beta", "keys": [{"inline": "key-of-beta"}], "identities": ["acme"]});
    let mut changed = document();
    changed["consumers"] = json!([beta]);
    world.reload(&changed);
    assert_eq!(world.ask(&chat("fast").by(key)).outcome(), "401 invalid_api_key");
    assert_eq!(world.ask(&chat("fast").by("key-of-beta")).status, 200);
}

#[test]
fn an_oversize_key_is_refused_everywhere() {
    let world = World::new(&document());
    world.address.replace("10.0.0.1:80".to_owned());
    for key in ["k".repeat(4_097), format!("ey.{}.", "a".repeat(50_000)), "é".repeat(30_000)] {
        for request in [chat("fast"), Request::get("/keyward/status"), Request::get("/keyward/me")]
        {
            assert_eq!(world.ask(&request.by(&key)).outcome(), "401 invalid_api_key");
        }
    }
}

#[test]
fn an_admin_lifts_a_block_and_nobody_else() {
    let world = World::new(&document());
    let admins_address = || world.address.replace("10.0.0.1:80".to_owned());
    let block = |address: &str| {
        world.address.replace(address.to_owned());
        for _ in 0..2 {
            assert_eq!(world.ask(&chat("fast").by("wrong")).status, 401);
        }
        assert_eq!(world.ask(&chat("fast").by("key-of-acme")).outcome(), "429 address_blocked");
    };
    for (address, shown, written) in [
        ("192.0.2.1:80", "192.0.2.1", vec!["192.0.2.1", "::ffff:192.0.2.1", "%31%392.0.2.1"]),
        (
            "[2001:db8::7]:80",
            "2001:db8::/64",
            vec!["2001:db8::/64", "2001:db8::%2F64", "2001:db8::9"],
        ),
    ] {
        for written in written {
            block(address);
            let delete = Request::delete(&format!("/keyward/blocks/{written}"));
            assert_eq!(
                world.ask(&delete.clone().by(ADMIN)).outcome(),
                "429 address_blocked",
                "not itself"
            );
            admins_address();
            assert_eq!(
                world.ask(&delete.clone().by("key-of-acme")).outcome(),
                "403 permission_denied"
            );
            assert_eq!(world.ask(&delete.clone().by("wrong")).outcome(), "401 invalid_api_key");
            assert_eq!(world.status()["blocked"][0]["address"], shown);
            world.take_log();
            let got = world.ask(&delete.clone().by(ADMIN));
            assert_eq!(
                (got.status, got.body.as_str()),
                (200, format!(r#"{{"address":"{shown}","blocked":false}}"#).as_str())
            );
            // `printf %s sesame | sha256sum`
            let expected = json!({"audit": "unblock", "when": world.now().rfc3339(), "who": "admin:d0c04f4b",
                "what": shown, "from": "10.0.0.1"});
            assert_eq!(trail(&world), [expected]);
            assert_eq!(world.status()["blocked"], Value::Null);
            assert_eq!(world.ask(&delete.by(ADMIN)).outcome(), "404 block_not_found");
            world.address.replace(address.to_owned());
            assert_eq!(world.ask(&chat("fast").by("key-of-acme")).status, 200, "{written}");
            assert_eq!(world.ask(&chat("fast").by("wrong")).status, 401, "strikes start anew");
            assert_eq!(world.ask(&chat("fast").by("key-of-acme")).status, 200, "{written}");
            world.pass(60.0);
        }
    }
    admins_address();
    for path in ["192.0.2.7", "somewhere", "2001:db8::/48", "192.0.2.0/24", "/"] {
        let delete = Request::delete(&format!("/keyward/blocks/{path}"));
        assert_eq!(world.ask(&delete.by(ADMIN)).outcome(), "404 block_not_found", "{path}");
    }
    let get = Request::get("/keyward/blocks/192.0.2.7").by(ADMIN);
    assert_eq!(world.ask(&get).outcome(), "405 method_not_allowed");
    assert_eq!(
        world.ask(&Request::delete("/keyward/blocks/").by(ADMIN)).outcome(),
        "404 unknown_url"
    );
    let mut without = document();
    without.as_object_mut().unwrap().remove("client_address");
    let world = World::new(&without);
    let delete = Request::delete("/keyward/blocks/192.0.2.7").by(ADMIN);
    assert_eq!(world.ask(&delete).outcome(), "404 unknown_url");
}
