//! Which key a request goes out with while nothing goes wrong.

use keyward::limit::Per;
use keyward::time::UnixTime;
use serde_json::{Value, json};

use crate::world::{
    Answer, START, World, chat, document, key, keys, limited, one, provider, rejected, with,
};

/// One provider `a` with these keys and this selection.
fn selecting(select: &str, keys: Value) -> World {
    World::new(&document(json!([with(provider("a", keys), json!({"select": select}))])))
}

fn seconds(from_start: i64) -> String {
    let moment = START.0.checked_add_signed(from_start * 1000).unwrap();
    UnixTime(moment).rfc3339()
}

#[test]
fn weights_are_proportions() {
    for select in ["headroom", "weighted", "round_robin"] {
        let keys = json!([with(key("k1"), json!({"weight": 3})), key("k2")]);
        let spread = selecting(select, keys).spread(&chat("fast"), 2_000);
        assert!((1_420..=1_580).contains(&spread["k1"]), "{select}: {spread:?}");
    }
}

#[test]
fn least_used_evens_out_by_weight() {
    let keys = json!([with(key("k1"), json!({"weight": 3})), key("k2")]);
    let world = selecting("least_used", keys);
    let spread = world.spread(&chat("fast"), 400);
    assert!((298..=302).contains(&spread["k1"]), "{spread:?}");
    // What was used two minutes ago does not count.
    world.pass(130.0);
    let spread = world.spread(&chat("fast"), 40);
    assert!((29..=31).contains(&spread["k1"]), "{spread:?}");
}

#[test]
fn round_robin_takes_turns() {
    let world = selecting("round_robin", keys(["k1", "k2", "k3"]));
    let used: Vec<_> = (0..6).map(|_| world.ask(&chat("fast")).keys()[0].to_owned()).collect();
    assert_eq!(used, ["k1", "k2", "k3", "k1", "k2", "k3"]);
}

#[test]
fn headroom_spares_the_key_with_less_left() {
    let world = selecting("headroom", keys(["k1", "k2"]));
    let left = |remaining| {
        Answer::ok()
            .header("x-ratelimit-limit-requests", 1000)
            .header("x-ratelimit-remaining-requests", remaining)
            .header("x-ratelimit-reset-requests", "50s")
    };
    world.on("k1", [left(50)]);
    while world.status_of("keys", "a/k1")["headroom"] == 1.0 {
        world.ask(&chat("fast"));
    }
    assert_eq!(world.status_of("keys", "a/k1")["headroom"], 0.05);
    assert_eq!(world.state("a/k1"), "ready");
    assert_eq!(world.spread(&chat("fast"), 50).get("k1"), None, "a twentieth is kept back");
    // The report is over with its window.
    world.pass(51.0);
    assert!(world.spread(&chat("fast"), 200)["k1"] > 50);
}

#[test]
fn headroom_of_own_limits_balances() {
    let limits = |requests| json!({"limits": [{"requests": requests, "per": "hour"}]});
    let world =
        selecting("headroom", json!([with(key("k1"), limits(900)), with(key("k2"), limits(100))]));
    // Equal shares use up the smaller limit first; it is spared well before it is empty.
    let spread = world.spread(&chat("fast"), 600);
    assert!(spread["k2"] <= 91, "{spread:?}");
    assert_eq!(world.spread(&chat("fast"), 400).values().sum::<usize>(), 400);
    assert_eq!(world.ask(&chat("fast")).outcome(), "429 keys_temporarily_exhausted");
}

#[test]
fn tiers_then_pools_in_order() {
    let pool = |name: &str, keys: Value| json!({"name": name, "keys": keys});
    let spare = with(key("spare"), json!({"tier": 1}));
    let late = with(key("s2"), json!({"tier": 5}));
    let provider =
        with(provider("a", json!([spare, key("main")])), json!({"pools": ["second", "first"]}));
    let document = with(
        document(json!([provider])),
        json!({"key_pools": [pool("first", keys(["f1"])), pool("second", json!([late, key("s1")]))]}),
    );
    let world = World::new(&document);
    for (expected, slot) in [
        ("main", "a/main"),
        ("spare", "a/spare"),
        ("s1", "second/s1"),
        ("s2", "second/s2"),
        ("f1", "first/f1"),
    ] {
        assert_eq!(world.spread(&chat("fast"), 5)[expected], 5);
        world.on(expected, [limited(50)]);
        world.ask(&chat("fast"));
        assert_eq!(world.state(slot), "resting rate_limited 50");
    }
    let got = world.ask(&chat("fast"));
    assert_eq!((got.outcome().as_str(), got.calls.len()), ("429 keys_temporarily_exhausted", 0));
    world.pass(50.0);
    assert_eq!(world.ask(&chat("fast")).keys(), ["main"], "back to the best tier");
}

#[test]
fn a_shared_pool_is_one_key_for_all_its_providers() {
    let from_pool = |name: &str| with(provider(name, json!([])), json!({"pools": ["shared"]}));
    let document = with(
        document(json!([from_pool("a"), from_pool("b")])),
        json!({"key_pools": [{"name": "shared", "keys": keys(["k1"])}]}),
    );
    let world = World::new(&document);
    world.on("k1", [limited(20)]);
    let got = world.ask(&chat("fast"));
    assert_eq!((got.status, got.calls.len()), (429, 1), "it rests for both");
    assert_eq!(world.state("shared/k1"), "resting rate_limited 20");
}

#[test]
fn own_limits_hold_in_each_window() {
    let cases =
        [("second", Per::Second), ("minute", Per::Minute), ("hour", Per::Hour), ("day", Per::Day)];
    for (text, per) in cases {
        let limits = json!({"limits": [{"requests": 3, "per": text}]});
        let world = World::new(&one(json!([with(key("k1"), limits)])));
        // A window starts with the calendar, not with the first request.
        world.pass(0.7);
        assert_eq!(world.spread(&chat("fast"), 3)["k1"], 3);
        let got = world.ask(&chat("fast"));
        assert_eq!(got.outcome(), "429 keys_temporarily_exhausted");
        assert_eq!(got.calls.len(), 0);
        assert!(got.retry_after() <= 60, "{text}");
        assert_eq!(world.status_of("keys", "a/k1")["state"], "limited");
        world.wait_until(START.window_end(per));
        assert_eq!(world.spread(&chat("fast"), 3)["k1"], 3, "{text}");
    }
}

#[test]
fn own_token_limits_reserve_and_reconcile() {
    let limits = json!({"limits": [{"tokens": 1_000, "per": "minute"}]});
    let world = World::new(&one(json!([with(key("k1"), limits)])));
    // 111 tokens are reserved for each; all that are under way at the same time fit in.
    let mut flights: Vec<_> = (0..16).map(|_| world.send(&chat("fast"))).collect();
    let sent = flights.iter().filter(|flight| flight.call().is_some()).count();
    assert_eq!(sent, 9);
    for flight in flights.iter_mut().filter(|flight| flight.call().is_some()) {
        flight.answer(Answer::ok());
    }
    // 42 were used by each.
    assert_eq!(world.status_of("keys", "a/k1")["headroom"], 0.622);
    assert_eq!(world.ask(&chat("fast")).status, 200);
}

#[test]
fn a_reservation_is_given_back_in_the_window_that_it_was_made_in() {
    let limits = json!({"limits": [{"tokens": 1_000, "per": "minute"}]});
    let world = World::new(&one(json!([with(key("k1"), limits)])));
    let mut early = world.send(&chat("fast"));
    world.pass(60.0);
    let _open = world.send(&chat("fast"));
    let before = world.status_of("keys", "a/k1")["headroom"].clone();
    early.answer(Answer::ok());
    assert_eq!(world.status_of("keys", "a/k1")["headroom"], before);
}

#[test]
fn validity_windows_overlap_in_a_rotation() {
    let old = with(key("old"), json!({"valid_until": seconds(20)}));
    let new = with(key("new"), json!({"valid_from": seconds(10), "valid_until": seconds(30)}));
    let world = World::new(&one(json!([old, new])));
    assert_eq!(world.state("a/new"), "not_yet_valid 10");
    assert_eq!(world.spread(&chat("fast"), 20)["old"], 20);
    world.pass(10.0);
    let both = world.spread(&chat("fast"), 60);
    assert!(both["old"] > 10 && both["new"] > 10, "{both:?}");
    world.pass(10.0);
    assert_eq!(world.state("a/old"), "expired");
    assert_eq!(world.spread(&chat("fast"), 20)["new"], 20);
    world.pass(10.0);
    let got = world.ask(&chat("fast"));
    assert_eq!((got.outcome().as_str(), got.calls.len()), ("503 no_usable_key", 0));
    assert_eq!(got.headers["x-should-retry"], "false");
}

#[test]
fn a_key_that_is_not_valid_yet_says_when() {
    let world = World::new(&one(json!([with(key("k1"), json!({"valid_from": seconds(600)}))])));
    let got = world.ask(&chat("fast"));
    assert_eq!((got.outcome().as_str(), got.retry_after()), ("503 no_usable_key", 600));
}

#[test]
fn maintenance_is_passed_over_or_told() {
    let windows = json!({"maintenance": [
        {"from": seconds(0), "until": seconds(30)}, {"from": seconds(20), "until": seconds(40)},
    ]});
    let a = with(provider("a", keys(["k1"])), windows.clone());
    let world = World::new(&document(json!([a.clone(), provider("b", keys(["k2"]))])));
    assert_eq!(world.provider_state("a"), "maintenance 40", "windows that touch are one");
    assert_eq!(world.ask(&chat("fast")).keys(), ["k2"]);

    let world = World::new(&document(json!([a])));
    let got = world.ask(&chat("fast"));
    assert_eq!((got.outcome().as_str(), got.calls.len()), ("503 provider_maintenance", 0));
    assert!((40..=44).contains(&got.retry_after()), "{}", got.retry_after());
    world.pass(40.0);
    assert_eq!(world.ask(&chat("fast")).status, 200);
    assert_eq!(world.provider_state("a"), "ready");
}

#[test]
fn a_session_stays_moves_while_its_key_rests_and_returns() {
    let document = with(one(keys(["k1", "k2", "k3"])), json!({"sticky": {"header": "X-Session"}}));
    let world = World::new(&document);
    let session = |name: &str| chat("fast").header("x-session", name);
    let home = world.ask(&session("s")).keys()[0].to_owned();
    assert_eq!(world.spread(&session("s"), 30)[&home], 30);
    let homes: std::collections::BTreeSet<_> =
        (0..30).map(|n| world.ask(&session(&n.to_string())).keys()[0].to_owned()).collect();
    assert_eq!(homes.len(), 3, "sessions are spread");

    world.on(&home, [limited(20)]);
    let moved = world.ask(&session("s")).keys()[1].to_owned();
    assert_eq!(world.spread(&session("s"), 20)[&moved], 20, "one key while away");
    world.pass(20.0);
    assert_eq!(world.spread(&session("s"), 20)[&home], 20);
}

#[test]
fn an_account_shares_rest_and_headroom_but_no_refusal() {
    let in_group = |id: &str, weight| with(key(id), json!({"quota_group": "g", "weight": weight}));
    let spare = with(key("k3"), json!({"tier": 1}));
    let world = World::new(&one(json!([in_group("k1", 1_000_000), in_group("k2", 1), spare])));
    let left = Answer::ok()
        .header("x-ratelimit-limit-requests", 100)
        .header("x-ratelimit-remaining-requests", 40)
        .header("x-ratelimit-reset-requests", "50s");
    world.on("k1", [left, limited(20), rejected()]);
    world.ask(&chat("fast"));
    for key in ["a/k1", "a/k2"] {
        assert_eq!(world.status_of("keys", key)["headroom"], 0.4, "{key}");
    }

    world.take_log();
    let got = world.ask(&chat("fast"));
    assert_eq!(got.keys(), ["k1", "k3"], "its twin is not even tried");
    for key in ["a/k1", "a/k2"] {
        assert_eq!(world.state(key), "resting rate_limited 20");
    }
    assert_eq!(world.take_log().len(), 1, "one transition for the account");

    world.pass(20.0);
    assert_eq!(world.ask(&chat("fast")).keys(), ["k1", "k2"], "the twin has its turn at once");
    assert_eq!(world.state("a/k1"), "refused key_rejected 86400");
    assert_eq!(world.state("a/k2"), "ready");
}
