//! Temporary keys, from their issue to their end.

use serde_json::{Value, json};

use crate::world::{ADMIN, Got, Request, World, chat, keys, limited, one, post, provider, with};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// `12345678901234567890`, the secret of RFC 6238, appendix B.
const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn document() -> Value {
    with(
        one(keys(["k1"])),
        json!({
            "models": [
                {"name": "fast", "targets": [{"provider": "a"}]},
                {"name": "slow", "targets": [{"provider": "a"}]},
            ],
            "roles": [{"name": "careful", "mfa": "totp"}],
            "consumers": [
                {"name": "acme", "keys": [{"inline": "key-of-acme"}]},
                {"name": "beta", "keys": [{"inline": "key-of-beta"}], "allow": {"models": ["fast"]}},
                {"name": "gamma", "keys": [{"inline": "key-of-gamma"}], "roles": ["careful"], "totp": {"inline": TOTP}},
            ],
            "anonymous": "refuse",
            "temporary_keys": {"secrets": [{"id": "s1", "inline": SECRET}], "max_ttl": "1h"},
        }),
    )
}

fn world() -> World {
    World::new(&document())
}

fn issue(world: &World, by: &str, body: &Value) -> Value {
    let got = world.ask(&post("/keyward/keys", body).by(by));
    assert_eq!(got.status, 201, "{}", got.body);
    assert_eq!(got.headers["cache-control"], "no-store");
    serde_json::from_str(&got.body).unwrap()
}

/// A key of acme's with this scope.
fn key(world: &World, scope: &Value) -> String {
    text(&issue(world, "key-of-acme", scope), "key")
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap().to_owned()
}

fn ask(world: &World, key: &str) -> Got {
    world.ask(&chat("fast").by(key))
}

fn message(got: &Got) -> String {
    let body: Value = serde_json::from_str(&got.body).unwrap();
    text(&body["error"], "message")
}

fn revoke(world: &World, by: &str, id: &str) -> Got {
    world.ask(&Request::delete(&format!("/keyward/keys/{id}")).by(by))
}

#[test]
fn a_key_works_until_its_end_on_every_envoy() {
    let world = world();
    let issued = issue(&world, "key-of-acme", &json!({"ttl": "10m"}));
    assert_eq!(issued["consumer"], "acme");
    assert_eq!(issued["expires_at"], "2026-11-22T12:10:00Z");
    let key = text(&issued, "key");
    assert_eq!(ask(&world, &key).status, 200);
    for header in ["x-api-key", "api-key", "x-goog-api-key"] {
        let mut request = chat("fast").by("");
        request.headers.retain(|(name, _)| name != "authorization");
        assert_eq!(world.ask(&request.header(header, &key)).status, 200, "{header}");
    }
    let other = World::new(&document());
    assert_eq!(ask(&other, &key).status, 200, "of another process");
    world.pass(599.0);
    assert_eq!(ask(&world, &key).status, 200);
    world.pass(1.0);
    let got = ask(&world, &key);
    assert_eq!(
        (got.outcome().as_str(), message(&got).as_str()),
        ("401 invalid_api_key", "The temporary key has expired.")
    );
    assert!(got.headers.contains_key("www-authenticate"));
}

#[test]
fn it_counts_for_its_consumer_and_may_only_less() {
    let world = world();
    let key = key(&world, &json!({"models": ["slow"], "endpoints": ["chat"]}));
    assert_eq!(ask(&world, &key).outcome(), "404 model_not_found");
    assert_eq!(world.ask(&chat("slow").by(&key)).status, 200);
    assert_eq!(world.ask(&Request::get("/v1/models").by(&key)).outcome(), "403 permission_denied");
    assert_eq!(world.status()["consumers"], json!([{"name": "acme", "requests": 1}]));

    // What the consumer may not, a key for it may neither.
    let issued = issue(&world, ADMIN, &json!({"consumer": "beta", "models": ["slow", "fast"]}));
    let of_beta = text(&issued, "key");
    assert_eq!(world.ask(&chat("slow").by(&of_beta)).outcome(), "404 model_not_found");
    assert_eq!(ask(&world, &of_beta).status, 200);
    let listed = world.ask(&Request::get("/v1/models").by(&of_beta));
    assert!(
        listed.body.contains("\"fast\"") && !listed.body.contains("\"slow\""),
        "{}",
        listed.body
    );
    let mut off = document();
    off["consumers"][1]["enabled"] = json!(false);
    world.reload(&off);
    assert_eq!(ask(&world, &of_beta).outcome(), "403 permission_denied");
    off["consumers"].as_array_mut().unwrap().remove(1);
    world.reload(&off);
    assert_eq!(ask(&world, &of_beta).outcome(), "401 invalid_api_key", "no consumer any more");
}

#[test]
fn it_may_be_for_certain_addresses() {
    let world = world();
    let key = key(&world, &json!({"cidrs": ["192.0.2.0/24", "2001:db8::/32"]}));
    for (address, outcome) in [
        ("192.0.2.9:4000", "200"),
        ("[2001:db8::1]:4000", "200"),
        ("192.0.3.9:4000", "403 permission_denied"),
        ("", "403 permission_denied"),
    ] {
        world.address.replace(address.to_owned());
        assert_eq!(ask(&world, &key).outcome(), outcome, "{address}");
    }
    world.address.replace("192.0.3.9:4000".to_owned());
    assert_eq!(
        message(&ask(&world, &key)),
        "Consumer \"acme\" may not call from the address 192.0.3.9."
    );
}

#[test]
fn uses_are_counted_by_what_is_sent() {
    let world = world();
    let issued = issue(&world, "key-of-acme", &json!({"uses": 2}));
    let key = text(&issued, "key");
    // Not sent: a model that does not exist, a body that cannot be read, a list.
    assert_eq!(world.ask(&chat("none").by(&key)).status, 404);
    assert_eq!(world.ask(&post("/v1/chat/completions", &json!([])).by(&key)).status, 400);
    assert_eq!(world.ask(&Request::get("/v1/models").by(&key)).status, 200);
    let outcomes: Vec<_> = (0..3).map(|_| ask(&world, &key).outcome()).collect();
    assert_eq!(outcomes, ["200", "200", "401 invalid_api_key"]);
    assert_eq!(message(&ask(&world, &key)), "The temporary key has no uses left.");
}

#[test]
fn a_request_that_moves_on_is_one_use() {
    let mut two = document();
    two["providers"] = json!([provider("a", keys(["k1", "k2"])), provider("b", keys(["k3"]))]);
    two["models"] = json!([{"name": "fast", "targets": [{"provider": "a"}, {"provider": "b"}]}]);
    let world = World::new(&two);
    for key in ["k1", "k2"] {
        world.on(key, [limited(60)]);
    }
    let key = key(&world, &json!({"uses": 2, "limits": [{"requests": 2, "per": "day"}]}));
    let got = ask(&world, &key);
    assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2", "k3"]));
    assert_eq!(ask(&world, &key).status, 200);
    assert_eq!(ask(&world, &key).status, 401);
}

#[test]
fn no_interleaving_of_workers_uses_a_key_too_often() {
    for seed in 0..30 {
        let world = world().seeded(seed);
        let key = key(&world, &json!({"uses": 5}));
        world.meanwhile.replace(vec![chat("fast").by(&key); 12]);
        let mut outcomes = Vec::new();
        for _ in 0..8 {
            outcomes.push(ask(&world, &key).outcome());
        }
        outcomes.extend(world.answered_meanwhile.take().iter().map(Got::outcome));
        let sent = outcomes.iter().filter(|outcome| *outcome == "200").count();
        assert_eq!(sent, 5, "{seed}: {outcomes:?}");
    }
}

#[test]
fn revoked_by_its_consumer_an_admin_or_itself_and_nobody_else() {
    for by in ["key-of-acme", ADMIN, "itself"] {
        let world = world();
        let issued = issue(&world, "key-of-acme", &json!({}));
        let (key, id) = (text(&issued, "key"), text(&issued, "id"));
        assert_eq!(revoke(&world, "key-of-beta", &id).outcome(), "404 key_not_found");
        assert_eq!(revoke(&world, "wrong", &id).outcome(), "401 invalid_api_key");
        let other = text(&issue(&world, "key-of-acme", &json!({})), "key");
        assert_eq!(revoke(&world, &other, &id).outcome(), "403 permission_denied");
        assert_eq!(ask(&world, &key).status, 200);

        let by = if by == "itself" { key.as_str() } else { by };
        let got = revoke(&world, by, &id);
        assert_eq!(
            (got.status, got.headers["cache-control"].as_str()),
            (200, "no-store"),
            "{}",
            got.body
        );
        let got = ask(&world, &key);
        assert_eq!((got.status, message(&got).as_str()), (401, "The temporary key was revoked."));
        assert_eq!(ask(&world, &other).status, 200);
        world.reload(&document());
        assert_eq!(ask(&world, &key).status, 401, "remembered over a reload");
    }
    let made_up = format!("acme.{}", "00".repeat(28));
    assert_eq!(revoke(&world(), ADMIN, &made_up).outcome(), "404 key_not_found");
}

#[test]
fn who_may_issue_and_for_whom() {
    let world = world();
    let temporary = key(&world, &json!({}));
    for (by, body, outcome) in [
        (ADMIN, json!({}), "400 invalid_body"),
        (ADMIN, json!({"consumer": "nobody"}), "400 invalid_body"),
        (ADMIN, json!({"consumer": "acme"}), "201"),
        ("key-of-acme", json!({"consumer": "acme"}), "201"),
        ("key-of-acme", json!({"consumer": "beta"}), "403 permission_denied"),
        (&temporary, json!({}), "403 permission_denied"),
        ("wrong", json!({}), "401 invalid_api_key"),
    ] {
        let got = world.ask(&post("/keyward/keys", &body).by(by));
        assert_eq!(got.outcome(), outcome, "{by} {body}");
    }
    // Anybody is nobody here, although anybody may call.
    let open = with(document(), json!({"anonymous": {"consumer": "acme"}}));
    let world = World::new(&open);
    let mut request = post("/keyward/keys", &json!({}));
    request.headers.retain(|(name, _)| name != "authorization" && name != "api-key");
    assert_eq!(world.ask(&request).outcome(), "401 invalid_api_key");
    let mut plain = document();
    plain.as_object_mut().unwrap().remove("temporary_keys");
    let world = World::new(&plain);
    assert_eq!(
        world.ask(&post("/keyward/keys", &json!({})).by(ADMIN)).outcome(),
        "404 unknown_url"
    );
}

#[test]
fn a_key_does_not_outlive_the_one_it_was_issued_with() {
    let mut brief = document();
    brief["consumers"][0]["keys"][0]["valid_until"] = json!("2026-11-22T12:05:00Z");
    let world = World::new(&brief);
    assert_eq!(issue(&world, "key-of-acme", &json!({}))["expires_at"], "2026-11-22T12:05:00Z");
    assert_eq!(
        issue(&world, ADMIN, &json!({"consumer": "acme"}))["expires_at"],
        "2026-11-22T13:00:00Z"
    );
}

#[test]
fn a_body_is_read_strictly() {
    let many: Vec<String> = (0..64).map(|n| format!("{n:0>90}")).collect();
    for (body, message, param) in [
        (json!({"ttl": "2h"}), "ttl: longer than 3600s, the longest that is allowed", json!("ttl")),
        (json!({"ttl": "10ms"}), "ttl: expected at least one second", json!("ttl")),
        (json!({"ttl": 60}), "ttl: expected a string, found an integer", json!("ttl")),
        (
            json!({"model": "fast"}),
            "model: unknown field; known: consumer, ttl, totp, models, endpoints, cidrs, limits, uses",
            json!("model"),
        ),
        (json!({"models": []}), "models: expected at least 1", json!("models")),
        (
            json!({"models": ["a*b"]}),
            "models[0]: `*` may only be the last character",
            json!("models[0]"),
        ),
        (
            json!({"uses": 0, "cidrs": ["10.0.0.1/8"]}),
            "uses: expected an integer from 1 to 4294967295; cidrs[0]: \"10.0.0.1/8\" is not a block of addresses; \
             write it like 10.0.0.0/8 or 2001:db8::/32, with no bits behind the prefix",
            json!("uses"),
        ),
        (json!({"limits": [{"requests": 5}]}), "limits[0].per: missing", json!("limits[0].per")),
        (json!([]), "expected an object, found an array", Value::Null),
        (
            json!({"models": many}),
            "The key would be longer than 4096 bytes: name fewer models or addresses.",
            Value::Null,
        ),
    ] {
        let world = world();
        let got = world.ask(&post("/keyward/keys", &body).by("key-of-acme"));
        let answer: Value = serde_json::from_str(&got.body).unwrap();
        assert_eq!(got.status, 400, "{body}");
        assert_eq!(answer["error"]["message"], message, "{body}");
        assert_eq!(answer["error"]["param"], param, "{body}");
        assert_eq!(got.headers["cache-control"], "no-store");
    }
    let raw = |text: &str| {
        let mut request = post("/keyward/keys", &Value::Null).by("key-of-acme");
        request.body = text.to_owned();
        request.headers.retain(|(name, _)| name != "content-length");
        let got = world().ask(&request);
        (got.outcome(), message(&got))
    };
    let (outcome, message) = raw(r#"{"uses": 1, "uses": 2}"#);
    assert_eq!((outcome.as_str(), message.as_str()), ("400 invalid_body", "uses: given twice"));
    let (outcome, message) = raw("{");
    assert_eq!(outcome, "400 invalid_body");
    assert!(message.starts_with("The body is not valid JSON: EOF"), "{message}");
    assert_eq!(raw(&format!("{{}}{}", " ".repeat(20_000))).0, "413 request_too_large");
}

#[test]
fn a_second_factor_is_asked_for_and_taken_once() {
    let world = world();
    let ask = |code: Option<&str>| {
        let body = code.map_or_else(|| json!({}), |code| json!({"totp": code}));
        let got = world.ask(&post("/keyward/keys", &body).by("key-of-gamma"));
        let message = if got.status == 201 { String::new() } else { message(&got) };
        (got.outcome(), message)
    };
    let code = |world: &World| {
        let secret = totp_rs::Secret::try_from_base32(TOTP).unwrap();
        let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
        totp.generate(world.now().0 / 1000).to_string()
    };
    let missing = "Issuing a key needs totp, the current code of your second factor.";
    assert_eq!(ask(None), ("401 invalid_api_key".to_owned(), missing.to_owned()));
    assert_eq!(ask(Some(&code(&world))).0, "201");
    let replayed = "The code is wrong, or was used before.";
    assert_eq!(ask(Some(&code(&world))), ("401 invalid_api_key".to_owned(), replayed.to_owned()));
    world.pass(30.0);
    assert_eq!(ask(Some(&code(&world))).0, "201", "the next one");
    // Guesses.
    world.pass(30.0);
    let outcomes: Vec<_> = (0..7).map(|n| ask(Some(&format!("00000{n}"))).0).collect();
    assert_eq!(outcomes[..5], ["401 invalid_api_key"; 5]);
    assert_eq!(outcomes[5..], ["429 too_many_codes"; 2]);
    assert_eq!(ask(Some(&code(&world))).0, "429 too_many_codes", "even the right one");
    world.pass(300.0);
    assert_eq!(ask(Some(&code(&world))).0, "201");
    // An admin has no second factor, and needs none.
    assert_eq!(issue(&world, ADMIN, &json!({"consumer": "gamma"}))["consumer"], "gamma");
    assert!(world.take_log().iter().all(|line| !line.contains(TOTP)));
}

#[test]
fn every_issue_revocation_and_refusal_is_a_line_of_the_audit_trail() {
    let world = world();
    world.address.replace("192.0.2.7:4000".to_owned());
    let issued = issue(&world, "key-of-acme", &json!({"uses": 1, "ttl": "1m"}));
    let (id, key) = (text(&issued, "id"), text(&issued, "key"));
    revoke(&world, ADMIN, &id);
    ask(&world, &key);
    revoke(&world, "wrong", &id);
    world.ask(&Request::get("/keyward/status").by("key-of-acme"));
    world.ask(&post("/keyward/keys", &json!({"consumer": "beta"})).by("key-of-acme"));
    world.ask(&post("/keyward/keys", &json!({"uses": "many"})).by("key-of-acme"));
    let log = world.take_log();
    assert!(
        log.iter().all(|line| !line.contains(&key) && !line.contains("key-of-acme")),
        "{log:?}"
    );
    let lines: Vec<Value> = log
        .iter()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("INFO ")?).ok())
        .collect();
    // `printf %s sesame | sha256sum`
    let admin = "admin:d0c04f4b";
    let (when, from) = ("2026-11-22T12:00:00Z", "192.0.2.7");
    let path = format!("DELETE /keyward/keys/{id}");
    let expected = [
        json!({"audit": "issue", "when": when, "who": "acme", "what": id, "from": from, "consumer": "acme",
            "expires_at": "2026-11-22T12:01:00Z", "scope": {"uses": 1}}),
        json!({"audit": "revoke", "when": when, "who": admin, "what": id, "from": from, "consumer": "acme"}),
        json!({"audit": "refusal", "when": when, "who": "", "what": path, "from": from, "status": 401, "code": "invalid_api_key"}),
        json!({"audit": "refusal", "when": when, "who": "", "what": "GET /keyward/status", "from": from, "status": 401,
            "code": "invalid_api_key"}),
        json!({"audit": "refusal", "when": when, "who": "acme", "what": "POST /keyward/keys", "from": from, "status": 403,
            "code": "permission_denied"}),
        json!({"audit": "refusal", "when": when, "who": "acme", "what": "POST /keyward/keys", "from": from, "status": 400,
            "code": "invalid_body"}),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn its_own_limits_hold_besides_those_of_its_consumer() {
    let mut limited = document();
    limited["consumers"][0]["limits"] = json!([{"requests": 5, "per": "hour"}]);
    let world = World::new(&limited);
    let [one, other] = [(); 2].map(|()| {
        key(
            &world,
            &json!({"limits": [{"requests": 2, "per": "minute"}, {"tokens": 190, "per": "day"}]}),
        )
    });
    let outcomes =
        |key: &str, count| (0..count).map(|_| ask(&world, key).outcome()).collect::<Vec<_>>();
    assert_eq!(outcomes(&one, 3), ["200", "200", "429 quota_exceeded"]);
    assert_eq!(outcomes(&other, 1), ["200"], "counted apart");
    world.pass(60.0);
    // 42 of the tokens were used by each request, and one request is estimated at 111.
    assert_eq!(outcomes(&one, 1), ["429 quota_exceeded"], "84 tokens are used");
    assert_eq!(outcomes(&other, 1), ["200"]);
    assert_eq!(
        outcomes("key-of-acme", 2),
        ["200", "429 rate_limit_exceeded"],
        "five of the consumer's"
    );
    // A use is not lost to a limit.
    let key = key(&world, &json!({"uses": 1}));
    assert_eq!(outcomes(&key, 2), ["429 rate_limit_exceeded", "429 rate_limit_exceeded"]);
    world.pass(3600.0);
    let key = text(
        &issue(
            &world,
            "key-of-acme",
            &json!({"uses": 1, "limits": [{"requests": 9, "per": "hour"}]}),
        ),
        "key",
    );
    assert_eq!(outcomes(&key, 2), ["200", "401 invalid_api_key"]);
    assert_eq!(
        outcomes("key-of-acme", 5).iter().filter(|o| *o == "200").count(),
        4,
        "the refused use is given back"
    );
}
