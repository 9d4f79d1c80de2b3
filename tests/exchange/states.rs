//! What becomes of a key, a model or a provider after what the provider said, and how it comes back.

use serde_json::json;

use crate::world::{
    Answer, World, chat, document, key, keys, limited, limited_without_hint, one, provider,
    rejected, streamed_chat, with,
};

fn single() -> World {
    World::new(&one(keys(["k1"])))
}

/// One provider `a` with one key and this `rest`.
fn resting(rest: serde_json::Value) -> World {
    World::new(&document(json!([with(provider("a", keys(["k1"])), json!({"rest": rest}))])))
}

/// Seconds that the only key rests, from the status.
fn left(world: &World) -> u64 {
    let state = world.state("a/k1");
    state.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{state}"))
}

fn out_of_quota() -> Answer {
    Answer::error(429, "insufficient_quota")
}

#[test]
fn each_signal_has_its_state() {
    let cases = [
        (limited(20), "resting rate_limited 20", "429 keys_temporarily_exhausted"),
        (limited("7200"), "resting rate_limited 3600", "429 keys_temporarily_exhausted"),
        (out_of_quota(), "resting out_of_quota 3600", "402 insufficient_quota"),
        (
            out_of_quota().header("retry-after", 90),
            "resting out_of_quota 90",
            "429 insufficient_quota",
        ),
        (Answer::json(402, "{}"), "resting out_of_quota 3600", "402 insufficient_quota"),
        (rejected(), "refused key_rejected 86400", "503 no_usable_key"),
        (Answer::json(403, "{}"), "refused key_rejected 86400", "503 no_usable_key"),
        (Answer::json(500, "{}"), "ready", "502"),
        (Answer::json(400, "{}"), "ready", "400"),
        (Answer::json(404, "{}"), "ready", "404"),
        (Answer::json(413, "{}"), "ready", "413"),
        (Answer::json(422, "{}"), "ready", "422"),
    ];
    for (answer, state, outcome) in cases {
        let world = single();
        world.on("k1", [answer.clone(), answer.clone()]);
        let got = world.ask(&chat("fast"));
        let expected = if answer.status == 500 { "500" } else { outcome };
        assert_eq!(got.outcome(), expected, "{answer:?}");
        assert_eq!(world.state("a/k1"), state, "{answer:?}");
        assert_eq!(world.provider_state("a"), "ready", "{answer:?}");
        let failures = if (400..=422).contains(&answer.status) && state == "ready" { 0 } else { 1 };
        assert!(world.status_of("keys", "a/k1")["failures"].as_u64().unwrap() >= failures);
        assert_eq!(world.status_of("keys", "a/k1")["last_error"].is_null(), failures == 0);
        if state != "ready" {
            let got = world.ask(&chat("fast"));
            assert_eq!((got.outcome().as_str(), got.calls.len()), (outcome, 0), "known now");
        }
    }
}

#[test]
fn the_client_s_own_fault_never_counts_against_a_key() {
    for status in [400, 404, 413, 422] {
        let world = World::new(&document(json!([
            provider("a", keys(["k1", "k2"])),
            provider("b", keys(["k3"])),
        ])));
        for key in ["k1", "k2"] {
            world.on(key, vec![Answer::json(status, r#"{"error":{"message":"yours"}}"#); 50]);
        }
        for _ in 0..50 {
            let got = world.ask(&chat("fast"));
            assert_eq!((got.status, got.calls.len()), (status, 1));
            assert!(got.body.contains("yours"));
        }
        for key in ["a/k1", "a/k2"] {
            assert_eq!(world.state(key), "ready");
            assert_eq!(world.status_of("keys", key)["failures"], 0);
        }
        assert_eq!(world.take_log(), Vec::<String>::new());
    }
}

#[test]
fn a_hint_beats_the_default_and_is_capped() {
    let rest = json!({"default": "30s", "max": "100s"});
    for (hint, rests) in [("5", 5), ("99", 99), ("7200", 100)] {
        let world = resting(rest.clone());
        world.on("k1", [limited(hint)]);
        world.ask(&chat("fast"));
        assert_eq!(left(&world), rests);
    }
}

#[test]
fn a_report_of_nothing_left_is_capped_like_a_hint() {
    let world = resting(json!({"max": "100s"}));
    let empty = Answer::ok()
        .header("x-ratelimit-limit-requests", 14_400)
        .header("x-ratelimit-remaining-requests", 0)
        .header("x-ratelimit-reset-requests", "20h")
        .header("x-ratelimit-renewalperiod-requests", "86400");
    world.on("k1", [empty]);
    assert_eq!(world.ask(&chat("fast")).status, 200);
    assert_eq!(world.state("a/k1"), "resting rate_limited 100");
    assert_eq!(world.ask(&chat("fast")).calls.len(), 0);
    world.pass(100.0);
    assert_eq!(world.ask(&chat("fast")).status, 200);
}

#[test]
fn back_off_doubles_with_jitter_up_to_its_bound() {
    let mut drawn = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let world = resting(json!({"default": "4s", "max": "60s"})).seeded(seed);
        for base in [4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            world.on("k1", [limited_without_hint()]);
            assert_eq!(world.ask(&chat("fast")).calls.len(), 1, "its one turn");
            let rests = left(&world) as f64;
            assert!(rests >= base - 1.0 && rests <= (base * 1.25).min(60.0), "{base}: {rests}");
            drawn.insert(rests as u64);
            world.pass(rests + 1.0);
        }
        // A good answer ends the row.
        assert_eq!(world.ask(&chat("fast")).status, 200);
        world.on("k1", [limited_without_hint()]);
        world.ask(&chat("fast"));
        assert!(left(&world) <= 5);
    }
    assert!(drawn.len() > 10, "no jitter: {drawn:?}");
}

#[test]
fn a_burst_is_one_transition_one_line_and_one_back_off() {
    let world = single();
    let mut flights: Vec<_> = (0..100).map(|_| world.send(&chat("fast"))).collect();
    for (index, flight) in flights.iter_mut().enumerate() {
        flight.answer(limited_without_hint());
        world.pass(if index % 10 == 0 { 0.1 } else { 0.0 });
    }
    assert_eq!(world.take_log().len(), 1);
    assert_eq!(world.count("rests"), 1);
    assert!(left(&world) <= 37, "one step of the back-off, not two: {}", left(&world));
}

#[test]
fn a_rest_is_never_shortened() {
    let world = single();
    let mut flights: Vec<_> = (0..4).map(|_| world.send(&chat("fast"))).collect();
    for (flight, (answer, expected)) in flights.iter_mut().zip([
        (limited(50), "resting rate_limited 50"),
        (limited(20), "resting rate_limited 50"),
        (limited_without_hint(), "resting rate_limited 50"),
        (out_of_quota(), "resting out_of_quota 3600"),
    ]) {
        flight.answer(answer);
        assert_eq!(world.state("a/k1"), expected);
    }
}

#[test]
fn what_was_sent_before_a_rest_neither_ends_it_nor_counts_as_its_probe() {
    let world = single();
    let mut early: Vec<_> = (0..4).map(|_| world.send(&chat("fast"))).collect();
    early.remove(0).answer(limited(20));
    world.pass(1.0);
    early.remove(0).answer(Answer::ok());
    assert_eq!(world.state("a/k1"), "resting rate_limited 19", "a late success does not wake");
    world.pass(20.0);
    early.remove(0).answer(Answer::ok());
    assert_eq!(world.state("a/k1"), "recovering rate_limited", "only a probe tells");
    let probe = world.send(&chat("fast"));
    assert!(probe.call().is_some());
    early.remove(0).answer(limited_without_hint());
    assert!(world.send(&chat("fast")).call().is_none(), "a late refusal frees no second probe");
    drop(probe);
}

#[test]
fn one_probe_at_a_time_of_sixteen_clients() {
    for grouped in [false, true] {
        let group = if grouped { json!({"quota_group": "g"}) } else { json!({}) };
        let world = World::new(&one(json!([with(key("k1"), group)])));
        world.on("k1", [limited(20)]);
        world.ask(&chat("fast"));
        world.pass(20.0);
        assert_eq!(world.state("a/k1"), "recovering rate_limited");
        let mut flights: Vec<_> = (0..16).map(|_| world.send(&chat("fast"))).collect();
        let probes = flights.iter().filter(|flight| flight.call().is_some()).count();
        assert_eq!(probes, 1);
        let waiting = flights.pop().unwrap().got();
        assert_eq!(waiting.outcome(), "429 keys_temporarily_exhausted");
        assert!(waiting.retry_after() <= 2, "the probe is soon back");

        // It fails: a longer rest, and again one probe.
        flights.remove(0).answer(limited(40));
        assert_eq!(world.state("a/k1"), "resting rate_limited 40");
        world.pass(40.0);
        let mut flights: Vec<_> = (0..16).map(|_| world.send(&chat("fast"))).collect();
        assert_eq!(flights.iter().filter(|flight| flight.call().is_some()).count(), 1);

        // It succeeds: ready for all.
        world.take_log();
        flights.remove(0).answer(Answer::ok());
        assert_eq!(world.state("a/k1"), "ready");
        assert_eq!(world.take_log().len(), 1);
        assert!((0..16).all(|_| world.send(&chat("fast")).call().is_some()));
    }
}

#[test]
fn a_lost_probe_gives_its_turn_back() {
    let world = single();
    world.on("k1", [limited(20)]);
    world.ask(&chat("fast"));
    world.pass(20.0);
    let lost = world.send(&chat("fast"));
    assert!(lost.call().is_some());
    world.pass(29.0);
    assert!(world.send(&chat("fast")).call().is_none());
    world.pass(1.0);
    assert!(world.send(&chat("fast")).call().is_some(), "after its lease");
    drop(lost);
}

/// Ways for a probe to end without a word about the key: the next request has the turn at once.
#[test]
fn a_probe_that_says_nothing_gives_its_turn_back_at_once() {
    for grouped in [false, true] {
        let group = if grouped { json!({"quota_group": "g"}) } else { json!({}) };
        let document = one(json!([with(key("k1"), group)]));
        let recovering = |first: Answer| {
            let world = World::new(&document);
            world.on("k1", [first]);
            world.ask(&chat("gpt-x"));
            world.pass(3_600.0);
            world
        };
        let names_model = Answer::json(
            429,
            r#"{"error":{"message":"Rate limit reached for gpt-x","code":"rate_limit_exceeded"}}"#,
        )
        .header("retry-after", 20);
        for first in [limited(20), out_of_quota(), names_model.clone()] {
            // The client goes away.
            let world = recovering(first.clone());
            world.send(&chat("gpt-x")).leave();
            assert!(world.send(&chat("gpt-x")).call().is_some(), "{first:?}");

            // The provider is overloaded, which is not the key's fault.
            let world = recovering(first.clone());
            let mut probe = world.send(&chat("gpt-x"));
            probe.answer(Answer::json(503, "{}").header("retry-after", 5));
            world.pass(5.0);
            assert!(world.send(&chat("gpt-x")).call().is_some(), "{first:?}");

            // It fails.
            let world = recovering(first.clone());
            let mut probe = world.send(&chat("gpt-x"));
            probe.answer(Answer::json(500, "{}"));
            assert!(probe.call().is_some(), "once more {first:?}");
            probe.answer(Answer::json(500, "{}"));
            assert!(world.send(&chat("gpt-x")).call().is_some(), "{first:?}");
        }
        // The limit of one model says that the key as such is back.
        let world = recovering(out_of_quota());
        world.on("k1", [names_model.clone()]);
        world.ask(&chat("gpt-x"));
        assert_eq!(world.ask(&chat("gpt-y")).status, 200);
    }
}

#[test]
fn rest_can_be_of_one_model() {
    let world = World::new(&one(keys(["k1"])));
    let body = r#"{"error":{"message":"Rate limit reached for gpt-x in project p","code":"rate_limit_exceeded"}}"#;
    world.on("k1", [Answer::json(429, body).header("retry-after", 20)]);
    assert_eq!(world.ask(&chat("gpt-x")).status, 429);
    assert_eq!(world.state("a/k1"), "ready");
    assert_eq!(world.model_state("a/k1", "gpt-x"), "resting rate_limited 20");
    assert_eq!(world.ask(&chat("gpt-x")).calls.len(), 0);
    assert_eq!(world.ask(&chat("gpt-y")).status, 200);
    world.pass(20.0);
    let probe = world.send(&chat("gpt-x"));
    assert!(probe.call().is_some() && world.send(&chat("gpt-x")).call().is_none());
    assert!(world.send(&chat("gpt-y")).call().is_some(), "other models need no probe");
    drop(probe);
}

#[test]
fn a_model_that_a_key_may_not_use_is_refused_for_that_model_alone() {
    for group in [json!({}), json!({"quota_group": "g"})] {
        let keys = json!([
            with(key("k1"), group.clone()),
            with(key("k2"), with(group, json!({"tier": 1})))
        ]);
        let world = World::new(&one(keys));
        world.on("k1", [Answer::error(403, "model_not_found")]);
        assert_eq!(world.ask(&chat("gpt-x")).keys(), ["k1", "k2"], "another key may");
        assert_eq!(world.state("a/k1"), "ready");
        assert_eq!(world.model_state("a/k1", "gpt-x"), "refused key_rejected 86400");
        assert_eq!(world.model_state("a/k2", "gpt-x"), "ready", "no refusal of the account's");
        assert_eq!(world.ask(&chat("gpt-x")).keys(), ["k2"]);
        assert_eq!(world.ask(&chat("gpt-y")).keys(), ["k1"]);
    }
}

#[test]
fn a_refused_key_comes_back_with_a_new_secret() {
    let world = single();
    world.on("k1", [rejected()]);
    world.ask(&chat("fast"));
    assert_eq!(world.state("a/k1"), "refused key_rejected 86400");
    world.reload(&one(keys(["k1"])));
    assert_eq!(world.state("a/k1"), "refused key_rejected 86400", "kept over a reload");
    world.reload(&one(json!([{"id": "k1", "secret": {"inline": "sk-k1-new"}}])));
    assert_eq!(world.state("a/k1"), "ready");
    assert_eq!(world.ask(&chat("fast")).keys(), ["k1-new"]);
}

#[test]
fn a_late_refusal_of_an_old_secret_is_not_the_new_one_s() {
    let world = single();
    let mut early = world.send(&chat("fast"));
    world.reload(&one(json!([{"id": "k1", "secret": {"inline": "sk-k1-new"}}])));
    world.on("k1-new", [limited(20)]);
    world.ask(&chat("fast"));
    world.pass(20.0);
    assert_eq!(world.ask(&chat("fast")).status, 200);
    early.answer(rejected());
    assert_eq!(world.state("a/k1"), "ready");
}

#[test]
fn a_secret_by_header_rotates_without_a_reload() {
    let header = json!({"id": "k1", "secret": {"header": "x-keyward-secret-1"}});
    let world = World::new(&one(json!([header])));
    world.inject("x-keyward-secret-1", "sk-k1");
    assert_eq!(world.ask(&chat("fast")).keys(), ["k1"]);
    world.on("k1", [rejected()]);
    world.ask(&chat("fast"));
    assert_eq!(world.state("a/k1"), "refused key_rejected 60", "looked at again soon");
    world.inject("x-keyward-secret-1", "sk-k1-new");
    world.pass(60.0);
    assert_eq!(world.ask(&chat("fast")).keys(), ["k1-new"]);
    assert_eq!(world.state("a/k1"), "ready");
}

#[test]
fn a_secret_that_is_missing_costs_the_key_not_the_request() {
    let header = |id: &str, name: &str| json!({"id": id, "secret": {"header": name}, "limits": [{"requests": 5, "per": "hour"}]});
    let second = with(header("k2", "x-keyward-secret-2"), json!({"tier": 1}));
    let world = World::new(&one(json!([header("k1", "x-keyward-secret-1"), second])));
    world.inject("x-keyward-secret-2", "sk-k2");
    assert_eq!(world.ask(&chat("fast")).keys(), ["k2"]);
    assert_eq!(world.state("a/k1"), "refused key_rejected 60");
    assert_eq!(world.status_of("keys", "a/k1")["headroom"], 1.0, "nothing was sent with it");
    world.inject("x-keyward-secret-1", "sk-k1");
    assert_eq!(world.ask(&chat("fast")).keys(), ["k2"]);
    assert_eq!(world.state("a/k1"), "ready", "seen in passing");
}

#[test]
fn an_overloaded_provider_rests_short_and_alone() {
    for status in [503, 529] {
        let world = World::new(&document(json!([
            provider("a", keys(["k1", "k2"])),
            provider("b", keys(["k3"])),
        ])));
        for key in ["k1", "k2"] {
            world.on(key, [Answer::json(status, "{}")]);
        }
        let got = world.ask(&chat("fast"));
        assert_eq!((got.status, got.calls.len(), got.keys()[1]), (200, 2, "k3"));
        assert_eq!(world.state("a/k1"), "ready");
        assert!(world.provider_state("a").starts_with("resting overloaded "));
        assert_eq!(world.ask(&chat("fast")).keys(), ["k3"]);
        world.pass(6.3);
        assert_eq!(world.provider_state("a"), "recovering overloaded");
        // One probe at a time, whichever key it goes out with.
        let mut flights: Vec<_> = (0..8).map(|_| world.send(&chat("fast"))).collect();
        let probes = flights.iter().filter(|f| f.call().unwrap().cluster == "a").count();
        assert_eq!(probes, 1);
        flights.retain(|flight| flight.call().unwrap().cluster == "a");
        flights.remove(0).answer(Answer::ok());
        assert_eq!(world.provider_state("a"), "ready");
    }
}

/// A limit, a quota or a refusal is about the key: the provider itself has answered.
#[test]
fn a_probe_of_a_provider_that_only_finds_its_key_exhausted_wakes_the_provider() {
    for answer in [limited(20), out_of_quota(), rejected()] {
        let world = World::new(&one(json!([key("k1"), with(key("k2"), json!({"tier": 1}))])));
        world.on("k1", [Answer::json(503, "{}").header("retry-after", 5), answer]);
        world.ask(&chat("fast"));
        world.pass(5.0);
        let got = world.ask(&chat("fast"));
        assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2"]));
        assert_eq!(world.provider_state("a"), "ready");
    }
}

#[test]
fn server_errors_in_a_row_rest_the_provider() {
    let world = single();
    world.on("k1", vec![Answer::json(500, "{}"); 5]);
    for _ in 0..3 {
        assert_eq!(world.ask(&chat("fast")).status, 500);
    }
    assert!(world.provider_state("a").starts_with("resting failing "));
    assert_eq!(world.state("a/k1"), "ready", "nothing on the key");
    let got = world.ask(&chat("fast"));
    assert_eq!(got.outcome(), "503 provider_overloaded");
    world.pass(7.0);
    assert_eq!(world.ask(&chat("fast")).status, 200);
    assert_eq!(world.provider_state("a"), "ready");
}

#[test]
fn a_success_with_a_retry_after_is_no_exhaustion() {
    let world = single();
    world.on("k1", [Answer::ok().header("retry-after", 30)]);
    let got = world.ask(&chat("fast"));
    assert_eq!((got.status, got.headers.get("retry-after")), (200, None));
    assert_eq!(world.state("a/k1"), "ready");
}

#[test]
fn an_error_inside_a_success_counts_as_what_it_is() {
    let world = World::new(&one(json!([key("k1"), with(key("k2"), json!({"tier": 1}))])));
    world.on("k1", [Answer::events(&[r#"{"error":{"code":"insufficient_quota","message":"m"}}"#])]);
    world.on("k2", [Answer::stream()]);
    let got = world.ask(&streamed_chat("fast"));
    assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2"]));
    assert_eq!(world.state("a/k1"), "resting out_of_quota 3600");
}

/// Status and headers say enough, except where the body decides whose fault it is.
#[test]
fn an_error_whose_body_breaks_off_still_counts() {
    let cut = |status| {
        let answer = Answer::json(status, r#"{"error":{"#).header("content-length", 100);
        answer.ending(crate::world::End::Reset)
    };
    for (answer, state) in [
        (cut(429).header("retry-after", 20), "resting rate_limited 20"),
        (cut(401), "refused key_rejected 86400"),
        (cut(403), "ready"),
    ] {
        let world = World::new(&one(json!([key("k1"), with(key("k2"), json!({"tier": 1}))])));
        world.on("k1", [answer.clone()]);
        assert_eq!(world.ask(&chat("fast")).keys(), ["k1", "k2"]);
        assert_eq!(world.state("a/k1"), state, "{answer:?}");

        // And where the client goes before it is whole.
        let world = single();
        let mut flight = world.send(&chat("fast"));
        flight.answer(answer.clone().ending(crate::world::End::Open));
        flight.leave();
        assert_eq!(world.state("a/k1"), state, "{answer:?}");
    }
}
