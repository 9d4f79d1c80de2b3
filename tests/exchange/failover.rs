//! A request that moves on while it is in flight, and what the client is told where it cannot.

use serde_json::{Value, json};

use crate::world::{
    Answer, DELTA, End, START, World, chat, document, key, keys, limited, limited_without_hint,
    one, provider, rejected, streamed_chat, with,
};

/// Provider `a` with `k1` and then `k2`, provider `b` with `k3`.
fn two() -> Value {
    let second = with(key("k2"), json!({"tier": 1}));
    document(json!([provider("a", json!([key("k1"), second])), provider("b", keys(["k3"]))]))
}

fn failing() -> Answer {
    Answer::json(500, r#"{"error":{"message":"broken"}}"#)
}

#[test]
fn next_key_then_next_provider_unseen_by_the_client() {
    let quota = || Answer::error(429, "insufficient_quota");
    for (first, second) in
        [(limited(20), limited(20)), (rejected(), quota()), (quota(), limited_without_hint())]
    {
        let world = World::new(&two());
        world.on("k1", [first]);
        world.on("k2", [second]);
        let got = world.ask(&chat("fast"));
        assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2", "k3"]));
        let clusters: Vec<_> = got.calls.iter().map(|call| call.cluster.as_str()).collect();
        assert_eq!(clusters, ["a", "a", "b"]);
        assert_eq!(got.headers["x-keyward-provider"], "b");
        assert_eq!(got.headers["x-keyward-key"], "k3");
        assert_eq!(got.headers["x-keyward-attempts"], "3");
        let call = &got.calls[2];
        assert_eq!(call.headers[":authority"], "b.test");
        assert_eq!(call.headers[":path"], "/v1/chat/completions");
        assert_eq!(world.take_log().len(), 2, "one line for each transition");
        // Known now: nobody is asked in vain.
        assert_eq!(world.ask(&chat("fast")).keys(), ["k3"]);
        assert_eq!(world.status_of("models", "fast")["requests"], 2, "rounds are no requests");
    }
}

#[test]
fn each_target_has_its_own_name_for_the_model() {
    let mut document = two();
    document["models"][0]["targets"] =
        json!([{"provider": "a", "model": "a-large-name"}, {"provider": "b", "model": "b"}]);
    let world = World::new(&document);
    for key in ["k1", "k2"] {
        world.on(key, [limited(20)]);
    }
    let got = world.ask(&chat("fast"));
    let model = |body: &str| serde_json::from_str::<Value>(body).unwrap()["model"].clone();
    let asked: Vec<_> = got.calls.iter().map(|call| model(&call.body)).collect();
    assert_eq!(asked, ["a-large-name", "a-large-name", "b"]);
    assert_eq!(got.headers["x-keyward-model"], "b");
}

#[test]
fn every_key_is_tried_once_and_no_key_twice() {
    let ids: Vec<_> = (0..6).map(|n| format!("k{n}")).collect();
    let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
    let world = World::new(&one(keys.into()));
    for id in &ids {
        world.on(id, [limited(20)]);
    }
    let got = world.ask(&chat("fast"));
    let mut used = got.keys();
    used.sort_unstable();
    assert_eq!(used, ids);
    assert_eq!(got.outcome(), "429 keys_temporarily_exhausted");
    assert!((20..=22).contains(&got.retry_after()));
}

#[test]
fn attempts_and_time_are_bounded() {
    let ids: Vec<_> = (0..9).map(|n| format!("k{n}")).collect();
    let keys: Value = ids.iter().map(|id| key(id)).collect::<Vec<_>>().into();
    for (most, expected) in [(1, 1), (3, 3), (8, 8), (32, 9)] {
        let document = with(one(keys.clone()), json!({"failover": {"max_attempts": most}}));
        let world = World::new(&document);
        for id in &ids {
            world.on(id, [limited(20)]);
        }
        let got = world.ask(&chat("fast"));
        assert_eq!((got.status, got.calls.len()), (429, expected));
        assert_eq!(got.retry_after() <= 2, most < 9, "an unused key is ready for the next request");
    }
    let document = with(two(), json!({"failover": {"budget": "10s"}}));
    let world = World::new(&document);
    let mut flight = world.send(&chat("fast"));
    world.pass(9.0);
    flight.answer(limited(20));
    assert!(flight.call().is_some());
    world.pass(1.0);
    flight.answer(limited(20));
    assert_eq!(flight.got().outcome(), "429 keys_temporarily_exhausted");
}

/// Attempts of all rounds count together.
#[test]
fn attempts_are_counted_across_providers() {
    let names = ["a", "b", "c", "d", "e"];
    let providers: Vec<_> =
        names.iter().map(|name| provider(name, json!([key(&format!("k-{name}"))]))).collect();
    let document = with(document(providers.into()), json!({"failover": {"max_attempts": 3}}));
    let world = World::new(&document);
    for name in names {
        world.on(&format!("k-{name}"), [limited(20)]);
    }
    let got = world.ask(&chat("fast"));
    assert_eq!((got.status, got.keys()), (429, vec!["k-a", "k-b", "k-c"]));
}

#[test]
fn server_errors_are_tried_once_more_with_another_key_and_then_elsewhere() {
    let world = World::new(&two());
    world.on("k1", [failing()]);
    world.on("k2", [failing()]);
    assert_eq!(world.ask(&chat("fast")).keys(), ["k1", "k2", "k3"]);
    for key in ["a/k1", "a/k2"] {
        assert_eq!(world.state(key), "ready");
    }

    // Elsewhere before the same key again.
    let world =
        World::new(&document(json!([provider("a", keys(["k1"])), provider("b", keys(["k3"]))])));
    world.on("k1", [failing()]);
    assert_eq!(world.ask(&chat("fast")).keys(), ["k1", "k3"]);

    // The same key where there is nothing else; then the provider's own answer.
    let world = World::new(&one(keys(["k1"])));
    world.on("k1", [failing(), failing()]);
    let got = world.ask(&chat("fast"));
    assert_eq!((got.status, got.keys()), (500, vec!["k1", "k1"]));
    assert!(got.body.contains("broken"));
}

#[test]
fn a_broken_connection_is_tried_once_more_and_then_elsewhere() {
    let reset_at_headers = || Answer::events(&[]).ending(End::Reset);
    let reset_at_preamble = || Answer::events(&[r#"{"choices":[]}"#]).ending(End::Reset);
    for broken in [Answer::unreachable(), reset_at_headers(), reset_at_preamble()] {
        for replan in [false, true] {
            let world = World::new(&two());
            world.replan.set(replan);
            world.on("k1", [broken.clone()]);
            assert_eq!(world.ask(&streamed_chat("fast")).keys(), ["k1", "k2"], "{broken:?}");
        }
        // The shipped clusters have an endpoint that sends the request on to the next provider.
        let world = World::new(&two());
        world.replan.set(true);
        world.on("k1", vec![broken.clone(); 2]);
        world.on("k2", vec![broken.clone(); 2]);
        let got = world.ask(&streamed_chat("fast"));
        assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2", "k3"]), "{broken:?}");
        for key in ["a/k1", "a/k2"] {
            assert_eq!(world.state(key), "ready");
        }
        // Without, it ends there.
        let world = World::new(&two());
        world.on("k1", vec![broken.clone(); 2]);
        world.on("k2", vec![broken.clone(); 2]);
        let got = world.ask(&streamed_chat("fast"));
        assert_eq!(got.outcome(), "503 provider_unreachable");
        assert_eq!(got.calls.len(), 2);
    }
}

/// With the replan endpoint the third attempt of a round never reaches the provider, whatever it was for.
#[test]
fn a_third_key_is_tried_in_the_next_round() {
    let world = World::new(&document(json!([
        provider("a", keys(["k1", "k2", "k3", "k4", "k5"])),
        provider("b", keys(["k6"])),
    ])));
    world.replan.set(true);
    for key in ["k1", "k2", "k3", "k4", "k5"] {
        world.on(key, [limited(20)]);
    }
    let got = world.ask(&chat("fast"));
    assert_eq!((got.status, got.calls.len(), got.keys()[5]), (200, 6, "k6"));
}

#[test]
fn an_overloaded_provider_is_left_for_another_or_waited_for_if_that_is_short() {
    let overloaded = |hint: &str| Answer::json(503, "{}").header("retry-after", hint);
    // Another provider first.
    let world = World::new(&two());
    world.on("k1", [overloaded("1")]);
    let got = world.ask(&chat("fast"));
    assert_eq!((got.keys(), got.calls[1].at), (vec!["k1", "k3"], START));

    // A short wait where there is none.
    let limits = json!({"limits": [{"requests": 9, "per": "hour"}]});
    let world = World::new(&one(json!([with(key("k1"), limits)])));
    world.on("k1", [overloaded("1")]);
    let got = world.ask(&chat("fast"));
    assert_eq!((got.status, got.keys()), (200, vec!["k1", "k1"]));
    assert_eq!(got.calls[1].at, START.after(std::time::Duration::from_secs(1)));
    assert_eq!(world.provider_state("a"), "ready");
    assert_eq!(world.status_of("keys", "a/k1")["headroom"], 0.778, "both attempts count");

    // Not a long one, and not twice.
    for (answers, calls) in [
        (vec![overloaded("30")], 1),
        (vec![Answer::json(503, "{}")], 1),
        (vec![overloaded("1"); 2], 2),
    ] {
        let world = World::new(&one(keys(["k1"])));
        world.on("k1", answers);
        let got = world.ask(&chat("fast"));
        assert_eq!((got.outcome().as_str(), got.calls.len()), ("503 provider_overloaded", calls));
    }
}

#[test]
fn where_a_model_is_full_another_account_may_have_room() {
    let full = Answer::json(
        429,
        r#"{"error":{"code":"RateLimited","message":"The service is experiencing high demand."}}"#,
    );
    let world = World::new(&one(json!([key("k1"), with(key("k2"), json!({"tier": 1}))])));
    world.on("k1", [full]);
    assert_eq!(world.ask(&chat("gpt-x")).keys(), ["k1", "k2"]);
    assert_eq!(world.provider_state("a"), "ready");
}

#[test]
fn a_stream_moves_on_until_its_first_event_and_never_after() {
    let first = |code: &str| {
        Answer::events(&[&format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#)])
    };
    for code in ["rate_limit_exceeded", "insufficient_quota", "server_error"] {
        let world = World::new(&two());
        world.on("k1", [first(code)]);
        world.on("k2", [first(code)]);
        world.on("k3", [Answer::stream()]);
        let got = world.ask(&streamed_chat("fast"));
        assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2", "k3"]), "{code}");
        assert!(!got.body.contains("error"));
    }
    // The provider breaks the connection after the first content.
    let world = World::new(&two());
    world.on("k1", [Answer::events(&[DELTA]).ending(End::Reset)]);
    let got = world.ask(&streamed_chat("fast"));
    assert!(got.cut && got.calls.len() == 1 && got.body.contains("delta"));
    // It ends it too early.
    let world = World::new(&two());
    world.on("k1", [Answer::events(&[DELTA])]);
    let got = world.ask(&streamed_chat("fast"));
    assert!(!got.cut && got.calls.len() == 1 && got.body.contains("stream_truncated"));
    assert_eq!(world.status_of("keys", "a/k1")["failures"], 1);
    // It says itself that it failed.
    let world = World::new(&two());
    world.on("k1", [Answer::events(&[DELTA, r#"{"error":{"message":"m"}}"#])]);
    let got = world.ask(&streamed_chat("fast"));
    assert_eq!((got.calls.len(), got.body.matches("error").count()), (1, 1));
}

#[test]
fn the_client_s_fault_never_moves() {
    let opens_with_fault =
        Answer::events(&[r#"{"error":{"code":"content_filter","message":"m"}}"#]);
    for fault in [
        Answer::json(400, "{}"),
        Answer::json(404, "{}"),
        Answer::json(413, "{}"),
        Answer::json(422, "{}"),
        Answer::error(403, "content_policy_violation"),
        opens_with_fault,
    ] {
        let world = World::new(&two());
        world.on("k1", [fault.clone()]);
        let got = world.ask(&streamed_chat("fast"));
        assert_eq!((got.status, got.keys()), (fault.status, vec!["k1"]));
    }
}

#[test]
fn the_hint_of_the_last_resort_is_the_first_that_is_ready() {
    let world = World::new(&two());
    for (key, seconds) in [("k1", 50), ("k2", 12), ("k3", 40)] {
        world.on(key, [limited(seconds)]);
    }
    for calls in [3, 0] {
        let got = world.ask(&chat("fast"));
        assert_eq!(
            (got.outcome().as_str(), got.calls.len()),
            ("429 keys_temporarily_exhausted", calls)
        );
        assert!((12..=14).contains(&got.retry_after()), "{}", got.retry_after());
        let milliseconds: u64 = got.headers["retry-after-ms"].parse().unwrap();
        assert!((12_000..=13_200).contains(&milliseconds));
        let body: Value = serde_json::from_str(&got.body).unwrap();
        assert_eq!(body["error"]["type"], "rate_limit_error");
        assert_eq!(body["error"]["retry_after_ms"], milliseconds);
        assert!(
            got.headers.contains_key("ratelimit") && got.headers.contains_key("ratelimit-policy")
        );
        assert_eq!(got.headers["x-ratelimit-remaining-requests"], "0");
        // Whoever obeys it is served.
    }
    world.pass(14.0);
    assert_eq!(world.ask(&chat("fast")).keys(), ["k2"]);
}

#[test]
fn what_the_client_is_told_depends_on_what_is_missing() {
    let quota = |seconds: &str| {
        let answer = Answer::error(429, "insufficient_quota");
        if seconds.is_empty() { answer } else { answer.header("retry-after", seconds) }
    };
    for (first, second, outcome, should_retry) in [
        (limited(20), quota(""), "429 keys_temporarily_exhausted", None),
        (quota(""), quota(""), "402 insufficient_quota", Some("false")),
        (quota("900"), quota(""), "429 insufficient_quota", Some("false")),
        (rejected(), quota(""), "402 insufficient_quota", Some("false")),
        (rejected(), rejected(), "503 no_usable_key", Some("false")),
        (rejected(), Answer::json(503, "{}"), "503 provider_overloaded", None),
    ] {
        let world = World::new(&document(json!([
            provider("a", keys(["k1"])),
            provider("b", keys(["k2"]))
        ])));
        world.on("k1", [first.clone()]);
        world.on("k2", [second.clone()]);
        for calls in [2, 0] {
            let got = world.ask(&chat("fast"));
            assert_eq!((got.outcome().as_str(), got.calls.len()), (outcome, calls));
            let told = got.headers.get("x-should-retry").map(String::as_str);
            assert_eq!(told, should_retry, "{outcome}");
            assert!(should_retry.is_some() || (1..=60).contains(&got.retry_after()));
        }
    }
}

#[test]
fn a_refused_retry_is_answered_with_the_hint() {
    let world = World::new(&two());
    world.retries.set(0);
    world.on("k1", [limited(20)]);
    let got = world.ask(&chat("fast"));
    assert_eq!(got.outcome(), "429 keys_temporarily_exhausted");
    assert_eq!((got.calls.len(), world.count("moves_refused")), (1, 1));
    assert!(got.retry_after() <= 2, "k2 is ready");
    assert_eq!(world.ask(&chat("fast")).keys(), ["k2"]);
}

#[test]
fn a_refused_redirect_is_answered_with_the_hint() {
    let world =
        World::new(&document(json!([provider("a", keys(["k1"])), provider("b", keys(["k2"]))])));
    world.redirects.set(0);
    world.on("k1", [limited(20)]);
    let got = world.ask(&chat("fast"));
    assert_eq!(got.outcome(), "429 keys_temporarily_exhausted");
    assert_eq!((got.calls.len(), world.count("moves_refused")), (1, 1));
    assert!(!got.headers.contains_key("location"));
    // Providers change before sending all the same.
    assert_eq!(world.ask(&chat("fast")).keys(), ["k2"]);
}

#[test]
fn a_claim_that_a_refused_retry_leaves_behind_is_given_back() {
    let limits = json!({"limits": [{"requests": 2, "per": "hour"}], "tier": 1});
    let world = World::new(&one(json!([key("k1"), with(key("k2"), limits)])));
    world.retries.set(0);
    world.on("k1", vec![limited(1); 9]);
    for _ in 0..3 {
        assert_eq!(world.ask(&chat("fast")).keys(), ["k1"]);
        world.pass(2.0);
    }
    assert_eq!(world.status_of("keys", "a/k2")["headroom"], 1.0, "it was never used");
}

#[test]
fn a_reload_between_attempts_takes_a_key_away() {
    let gone = document(json!([
        provider("a", json!([key("k1"), with(key("k9"), json!({"tier": 2}))])),
        provider("b", keys(["k3"])),
    ]));
    // While the first attempt is under way: the next one has the keys of the new document.
    for clusters_only in [false, true] {
        let world = World::new(&two());
        let mut flight = world.send(&chat("fast"));
        if clusters_only {
            world.reload_attempts(&gone);
        } else {
            world.reload(&gone);
        }
        flight.answer(limited(20));
        assert_eq!(flight.call().unwrap().key, "k9");
        flight.answer(Answer::ok());
        assert_eq!(flight.got().status, 200);
        assert_eq!(world.state("a/k1"), "resting rate_limited 20");
    }
    // Between the two stages: the key that was claimed is no longer there.
    let world = World::new(&two());
    world.reload_attempts(&document(json!([
        provider("a", keys(["k9"])),
        provider("b", keys(["k3"]))
    ])));
    assert_eq!(world.ask(&chat("fast")).keys(), ["k9"]);
}

#[test]
fn a_reload_between_rounds_changes_the_order() {
    let providers = |names: [&str; 3]| {
        let of = |name: &str| provider(name, json!([key(&format!("k-{name}"))]));
        document(json!(names.map(of)))
    };
    for clusters_only in [false, true] {
        let world = World::new(&providers(["a", "b", "c"]));
        let mut flight = world.send(&chat("fast"));
        let turned = providers(["c", "b", "a"]);
        if clusters_only {
            world.reload_attempts(&turned);
        } else {
            world.reload(&turned);
        }
        let mut used = Vec::new();
        while let Some(call) = flight.call().cloned() {
            assert_eq!(call.headers[":authority"], format!("{}.test", call.cluster));
            assert_eq!(call.key, format!("k-{}", call.cluster));
            used.push(call.key);
            flight.answer(limited(20));
        }
        used.sort_unstable();
        assert_eq!(used, ["k-a", "k-b", "k-c"], "each once, clusters_only: {clusters_only}");
        assert_eq!(flight.got().outcome(), "429 keys_temporarily_exhausted");
    }
}

#[test]
fn a_reload_between_rounds_takes_the_model_away() {
    let world = World::new(&two());
    let mut flight = world.send(&chat("fast"));
    let mut gone = two();
    gone["models"] = json!([{"name": "other", "targets": [{"provider": "a"}]}]);
    world.reload(&gone);
    flight.answer(limited(20));
    assert_eq!(flight.got().outcome(), "503 configuration_changed");
}
