//! Keyward's own API: who may call it, access requests, what consumers learn of themselves.

use serde_json::{Value, json};

use crate::world::{ADMIN, Got, Request, World, chat, keys, one, post, with};

fn document() -> Value {
    let models = ["fast", "gpt-4o", "secret"];
    let models = models.map(|name| json!({"name": name, "targets": [{"provider": "a"}]}));
    with(
        one(keys(["k1"])),
        json!({
            "models": models,
            "roles": [
                {"name": "basic", "allow": {"models": ["fast"]}},
                {"name": "tester", "allow": {"models": ["gpt-*", "secret"], "endpoints": ["chat"]}, "deny": {"models": ["secret"]}},
            ],
            "teams": [{"name": "research", "limits": [{"tokens": 1000, "per": "day"}]}],
            "consumers": [
                {"name": "acme", "team": "research", "keys": [{"inline": "key-of-acme"}], "roles": ["basic"],
                 "limits": [{"requests": 60, "per": "minute"}, {"concurrency": 4}]},
                {"name": "beta", "keys": [{"inline": "key-of-beta"}],
                 "allow": {"models": ["fast"], "cidrs": ["192.0.2.0/24"]}, "deny": {"models": ["secret"]}},
            ],
            "anonymous": "refuse",
            "temporary_keys": {"secrets": [{"id": "s1", "inline": "0123456789abcdef0123456789abcdef"}]},
            "access": {"max_ttl": "8h"},
        }),
    )
}

fn body(got: &Got) -> Value {
    serde_json::from_str(&got.body).unwrap()
}

fn get(world: &World, path: &str, by: &str) -> Value {
    let got = world.ask(&Request::get(path).by(by));
    assert_eq!(
        (got.status, got.headers["cache-control"].as_str()),
        (200, "no-store"),
        "{}",
        got.body
    );
    body(&got)
}

fn wish(world: &World, by: &str, wish: &Value) -> String {
    let got = world.ask(&post("/keyward/access", wish).by(by));
    assert_eq!(got.status, 201, "{}", got.body);
    body(&got)["id"].as_str().unwrap().to_owned()
}

fn decide(world: &World, by: &str, id: &str, decision: &Value) -> Got {
    world.ask(&post(&format!("/keyward/access/{id}"), decision).by(by))
}

fn try_model(world: &World, by: &str, model: &str) -> u16 {
    world.ask(&chat(model).by(by)).status
}

#[test]
fn what_is_there_and_by_which_method() {
    let world = World::new(&document());
    for (request, outcome) in [
        (Request::get("/keyward/status"), "200"),
        (Request::get("/keyward/status?x=1"), "200"),
        (Request::get("/keyward/me"), "200"),
        (Request::get("/keyward/usage"), "200"),
        (Request::get("/keyward/access"), "200"),
        (Request::get("/keyward/keys"), "405 method_not_allowed"),
        (Request::get("/keyward/keys/acme.00"), "405 method_not_allowed"),
        (Request::delete("/keyward/keys/acme.00"), "404 key_not_found"),
        (Request::delete("/keyward/keys/"), "404 unknown_url"),
        (Request::delete("/keyward/keys/a/b"), "404 unknown_url"),
        (Request::delete("/keyward/access"), "405 method_not_allowed"),
        (Request::get("/keyward/access/acme.00"), "405 method_not_allowed"),
        (Request::get("/keyward/"), "404 unknown_url"),
        (Request::get("/keyward/status/"), "404 unknown_url"),
        (Request::get("/keyward"), "404 unknown_url"),
        (post("/keyward/status", &json!({})), "405 method_not_allowed"),
        (post("/keyward/access", &json!({})), "403 permission_denied"),
    ] {
        let got = world.ask(&request.clone().by(ADMIN));
        assert_eq!(got.outcome(), outcome, "{:?}", request.headers);
    }
    let mut plain = document();
    plain.as_object_mut().unwrap().remove("access");
    let world = World::new(&plain);
    assert_eq!(world.ask(&Request::get("/keyward/access").by(ADMIN)).outcome(), "404 unknown_url");
}

#[test]
fn an_approved_model_works_at_once_and_for_its_time() {
    let world = World::new(&document());
    world.address.replace("192.0.2.7:4000".to_owned());
    assert_eq!(try_model(&world, "key-of-acme", "gpt-4o"), 404);
    let id = wish(
        &world,
        "key-of-acme",
        &json!({"model": "gpt-4o", "reason": "to compare", "ttl": "1h"}),
    );
    assert_eq!(try_model(&world, "key-of-acme", "gpt-4o"), 404, "asked is not granted");
    let got = decide(&world, ADMIN, &id, &json!({"decision": "approve"}));
    assert_eq!(body(&got)["expires_at"], "2026-11-22T13:00:00Z", "as long as was asked for");
    assert_eq!(try_model(&world, "key-of-acme", "gpt-4o"), 200);
    assert_eq!(try_model(&world, "key-of-acme", "secret"), 404);
    assert_eq!(try_model(&world, "key-of-beta", "gpt-4o"), 404, "somebody else");
    let models = world.ask(&Request::get("/v1/models").by("key-of-acme"));
    assert!(models.body.contains("gpt-4o"));
    world.reload(&document());
    world.pass(3599.0);
    assert_eq!(try_model(&world, "key-of-acme", "gpt-4o"), 200, "over a reload");
    world.pass(1.0);
    assert_eq!(try_model(&world, "key-of-acme", "gpt-4o"), 404);
}

#[test]
fn a_granted_model_passes_the_models_of_a_rule_and_nothing_else() {
    let world = World::new(&document());
    world.address.replace("192.0.2.7:4000".to_owned());
    for model in ["gpt-4o", "secret"] {
        let id = wish(&world, "key-of-beta", &json!({"model": model}));
        assert_eq!(decide(&world, ADMIN, &id, &json!({"decision": "approve"})).status, 200);
    }
    assert_eq!(try_model(&world, "key-of-beta", "gpt-4o"), 200);
    assert_eq!(try_model(&world, "key-of-beta", "secret"), 404, "deny wins");
    world.address.replace("198.51.100.7:4000".to_owned());
    assert_eq!(try_model(&world, "key-of-beta", "gpt-4o"), 403, "its address still counts");
}

#[test]
fn a_granted_role_adds_what_it_allows_and_takes_nothing_away() {
    let world = World::new(&document());
    let id = wish(&world, "key-of-acme", &json!({"role": "tester"}));
    assert_eq!(
        decide(&world, ADMIN, &id, &json!({"decision": "approve", "ttl": "5m"})).status,
        200
    );
    assert_eq!(try_model(&world, "key-of-acme", "gpt-4o"), 200);
    assert_eq!(try_model(&world, "key-of-acme", "fast"), 200, "of the role it has");
    assert_eq!(try_model(&world, "key-of-acme", "secret"), 404, "denied within the role");
    // Taken back before its time.
    assert_eq!(decide(&world, ADMIN, &id, &json!({"decision": "refuse"})).status, 200);
    assert_eq!(try_model(&world, "key-of-acme", "gpt-4o"), 404);
}

#[test]
fn requests_are_listed_and_decided_once_by_admins_alone() {
    let world = World::new(&document());
    world.address.replace("192.0.2.7:4000".to_owned());
    let first = wish(&world, "key-of-acme", &json!({"model": "gpt-4o", "reason": "why"}));
    let second = wish(&world, "key-of-beta", &json!({"role": "tester"}));
    let again = world.ask(&post("/keyward/access", &json!({"model": "gpt-4o"})).by("key-of-acme"));
    assert_eq!(
        (again.status, body(&again)["id"].as_str()),
        (200, Some(first.as_str())),
        "asked already"
    );
    let listed = |by: &str| -> Vec<(String, String)> {
        let list = get(&world, "/keyward/access", by);
        let text = |entry: &Value, member: &str| entry[member].as_str().unwrap().to_owned();
        list["data"].as_array().unwrap().iter().map(|e| (text(e, "id"), text(e, "state"))).collect()
    };
    let entry = |id: &str, state: &str| (id.to_owned(), state.to_owned());
    assert_eq!(listed(ADMIN), [entry(&first, "pending"), entry(&second, "pending")]);
    assert_eq!(listed("key-of-beta"), [entry(&second, "pending")]);

    let approve = json!({"decision": "approve"});
    for by in ["key-of-acme", "key-of-beta"] {
        assert_eq!(decide(&world, by, &first, &approve).outcome(), "403 permission_denied");
    }
    assert_eq!(decide(&world, "wrong", &first, &approve).outcome(), "401 invalid_api_key");
    assert_eq!(decide(&world, ADMIN, &first, &approve).status, 200);
    assert_eq!(decide(&world, ADMIN, &first, &approve).outcome(), "404 request_not_found");
    assert_eq!(decide(&world, ADMIN, &second, &json!({"decision": "refuse"})).status, 200);
    assert_eq!(listed(ADMIN), [entry(&first, "granted"), entry(&second, "refused")]);
    for odd in ["acme.00", "acme", "nobody.0000000000000001", "acme.zz"] {
        assert_eq!(
            decide(&world, ADMIN, odd, &approve).outcome(),
            "404 request_not_found",
            "{odd}"
        );
    }
    let entry = get(&world, "/keyward/access", "key-of-acme")["data"][0].clone();
    let expected = json!({"id": first, "consumer": "acme", "model": "gpt-4o", "reason": "why", "ttl_seconds": 28800,
        "asked_at": "2026-11-22T12:00:00Z", "state": "granted", "decided_by": "admin:d0c04f4b",
        "decided_at": "2026-11-22T12:00:00Z", "expires_at": "2026-11-22T20:00:00Z"});
    assert_eq!(entry, expected);
    world.pass(8.0 * 3600.0);
    assert_eq!(get(&world, "/keyward/access", "key-of-acme")["data"][0]["state"], "expired");
    let trail: Vec<String> = world
        .take_log()
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("INFO ")?).ok())
        .map(|line| {
            format!("{} {}", line["audit"].as_str().unwrap(), line["who"].as_str().unwrap())
        })
        .filter(|line| !line.starts_with("refusal"))
        .collect();
    let expected = ["ask acme", "ask beta", "approve admin:d0c04f4b", "refuse admin:d0c04f4b"];
    assert_eq!(trail, expected);
}

#[test]
fn bodies_are_read_strictly() {
    let world = World::new(&document());
    let id = wish(&world, "key-of-acme", &json!({"model": "gpt-4o"}));
    let decision = format!("/keyward/access/{id}");
    for (by, path, wrong, message) in [
        ("key-of-acme", "/keyward/access", json!({}), "expected exactly one of role, model"),
        (
            "key-of-acme",
            "/keyward/access",
            json!({"role": "tester", "model": "m"}),
            "expected exactly one of role, model",
        ),
        ("key-of-acme", "/keyward/access", json!({"role": "boss"}), "role: \"boss\" is not a role"),
        (
            "key-of-acme",
            "/keyward/access",
            json!({"model": "gpt-*"}),
            "model: expected one model; leave it out to keep the name that the client asks for",
        ),
        (
            "key-of-acme",
            "/keyward/access",
            json!({"model": "m", "why": "x"}),
            "why: unknown field; known: role, model, reason, ttl",
        ),
        (
            "key-of-acme",
            "/keyward/access",
            json!({"model": "m", "ttl": "9h"}),
            "ttl: longer than 28800s, the longest that is allowed",
        ),
        (ADMIN, &decision, json!({}), "decision: missing"),
        (
            ADMIN,
            &decision,
            json!({"decision": "perhaps"}),
            "decision: \"perhaps\" is unknown; known: approve, refuse",
        ),
        (
            ADMIN,
            &decision,
            json!({"decision": "refuse", "ttl": "1h"}),
            "ttl: only an approval has one",
        ),
        (
            ADMIN,
            &decision,
            json!({"decision": "approve", "ttl": "9h"}),
            "ttl: longer than 28800s, the longest that is allowed",
        ),
    ] {
        let got = world.ask(&post(path, &wrong).by(by));
        assert_eq!(
            (got.status, body(&got)["error"]["message"].as_str()),
            (400, Some(message)),
            "{wrong}"
        );
    }
}

#[test]
fn a_consumer_can_only_fill_its_own_list() {
    let world = World::new(&document());
    world.address.replace("192.0.2.7:4000".to_owned());
    for n in 0..16 {
        wish(&world, "key-of-acme", &json!({"model": format!("m{n}")}));
    }
    let got = world.ask(&post("/keyward/access", &json!({"model": "more"})).by("key-of-acme"));
    assert_eq!(got.outcome(), "409 too_many_requests_pending");
    wish(&world, "key-of-beta", &json!({"model": "more"}));
}

#[test]
fn me_is_who_is_asking() {
    let world = World::new(&document());
    assert_eq!(get(&world, "/keyward/me", ADMIN), json!({"admin": "admin:d0c04f4b"}));
    let me = get(&world, "/keyward/me", "key-of-acme");
    assert_eq!(
        (&me["consumer"], &me["team"], &me["roles"]),
        (&json!("acme"), &json!("research"), &json!(["basic"]))
    );
    assert_eq!(
        (&me["models"], &me["granted"], &me["second_factor"]),
        (&json!(["fast"]), &json!([]), &json!(false))
    );
    assert!(me.get("key").is_none());
    let limits = json!([
        {"of": "consumer", "unit": "requests", "max": 60, "per": "minute", "left": 60, "resets_at": "2026-11-22T12:01:00Z"},
        {"of": "consumer", "unit": "concurrency", "max": 4, "left": 4},
        {"of": "team", "unit": "tokens", "max": 1000, "per": "day", "left": 1000, "resets_at": "2026-11-23T00:00:00Z"},
    ]);
    assert_eq!(me["limits"], limits);

    let issued = world.ask(
        &post("/keyward/keys", &json!({"uses": 3, "ttl": "1m", "endpoints": ["chat"], "limits": [{"prompt_tokens": 100, "per": "hour"}]}))
            .by("key-of-acme"),
    );
    let issued = body(&issued);
    let key = issued["key"].as_str().unwrap();
    assert_eq!(try_model(&world, key, "fast"), 200);
    let me = get(&world, "/keyward/me", key);
    let of_key = json!({"id": issued["id"], "expires_at": "2026-11-22T12:01:00Z", "uses": 3, "uses_left": 2});
    assert_eq!(
        (&me["consumer"], &me["endpoints"], &me["key"]),
        (&json!("acme"), &json!(["chat"]), &of_key)
    );
    let left = me["limits"].as_array().unwrap().iter();
    let left: Vec<_> = left.map(|limit| (limit["of"].clone(), limit["left"].clone())).collect();
    let expected = [("consumer", 59), ("consumer", 4), ("team", 958), ("key", 70)];
    assert_eq!(left, expected.map(|(of, left)| (json!(of), json!(left))));
    assert_eq!(
        world.ask(&Request::get("/keyward/me").by("wrong")).outcome(),
        "401 invalid_api_key"
    );
    world.address.replace("198.51.100.7:4000".to_owned());
    let got = world.ask(&Request::get("/keyward/me").by("key-of-beta"));
    assert_eq!(
        got.outcome(),
        "403 permission_denied",
        "whoever may do nothing may not do this either"
    );
}

#[test]
fn usage_is_told_by_hour_day_and_month() {
    let mut priced = document();
    priced["prices"] = json!([{"provider": "a", "model": "gpt-4o", "input": 2.0, "output": 10.0}]);
    priced["consumers"][1]["allow"]["models"] = json!(["fast", "gpt-4o"]);
    let world = World::new(&priced);
    world.address.replace("192.0.2.7:4000".to_owned());
    assert_eq!(get(&world, "/keyward/usage", ADMIN)["consumers"], json!([]), "nobody has called");
    for _ in 0..2 {
        assert_eq!(try_model(&world, "key-of-acme", "fast"), 200);
    }
    world.pass(3600.0);
    assert_eq!(try_model(&world, "key-of-acme", "fast"), 200);
    assert_eq!(try_model(&world, "key-of-beta", "fast"), 200);
    let usage = get(&world, "/keyward/usage", ADMIN);
    let entry = |list: &str, name: &str| {
        let list = usage[list].as_array().unwrap();
        list.iter().find(|entry| entry["name"] == name).unwrap().clone()
    };
    let acme = entry("consumers", "acme");
    let counts = |requests: u64| {
        let (prompt, completion) = (30 * requests, 12 * requests);
        // Nobody has told a price of this model.
        json!({"requests": requests, "prompt_tokens": prompt, "completion_tokens": completion,
            "cost": if requests == 0 { json!(0.0) } else { Value::Null }, "unpriced_tokens": prompt + completion})
    };
    let window = |from: &str, current, previous| json!({"from": from, "current": counts(current), "previous": counts(previous)});
    assert_eq!(acme["hour"], window("2026-11-22T13:00:00Z", 1, 2));
    assert_eq!(acme["day"], window("2026-11-22T00:00:00Z", 3, 0));
    assert_eq!(acme["month"], window("2026-11-01T00:00:00Z", 3, 0));
    assert_eq!(acme["total"], counts(3));
    for (list, name, requests) in [
        ("teams", "research", 3),
        ("models", "fast", 4),
        ("providers", "a", 4),
        ("keys", "a/k1", 4),
    ] {
        let entry = entry(list, name);
        assert_eq!(entry["total"]["requests"], requests, "{list}");
        assert_eq!(entry["day"]["current"]["prompt_tokens"], 30 * requests, "{list}");
    }
    let own = get(&world, "/keyward/usage", "key-of-beta");
    assert_eq!(own.as_object().unwrap().keys().collect::<Vec<_>>(), ["time", "consumers"]);
    assert_eq!(own["consumers"], json!([entry("consumers", "beta")]), "its own alone");

    assert_eq!(try_model(&world, "key-of-beta", "gpt-4o"), 200);
    let own = get(&world, "/keyward/usage", "key-of-beta")["consumers"][0]["total"].clone();
    let partly = json!({"requests": 2, "prompt_tokens": 60, "completion_tokens": 24, "cost": 0.00018, "unpriced_tokens": 42});
    assert_eq!(own, partly, "what has a price");
    assert_eq!(try_model(&world, ADMIN, "fast"), 401, "an admin's key is no consumer's");
}
