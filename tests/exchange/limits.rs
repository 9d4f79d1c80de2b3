//! Limits in the course of an exchange: charged once, settled once, whatever becomes of the request.

use keyward::limit::account::{self, Statement};
use keyward::limit::{Kind, Limits, Subject};
use keyward::time::UnixTime;
use serde_json::{Value, json};

use crate::world::{
    Answer, DELTA, End, Got, START, USAGE, World, chat, document, key, keys, limited, one,
    provider, rejected, streamed_chat, with,
};

/// Twelve hours after [`START`].
const END_OF_DAY: UnixTime = UnixTime(START.0 + 43_200_000);
/// A chat reserves this much: a quarter of its body, and its `max_tokens`.
const RESERVED: u64 = 47 / 4 + 100;
/// What every complete answer takes.
const SPENT: u64 = 42;

fn limited_world(document: Value, limits: Value) -> World {
    let mut document = document;
    document["consumers"][0]["limits"] = limits;
    World::new(&document)
}

fn day(tokens: u64) -> Value {
    json!([{"tokens": tokens, "per": "day"}, {"requests": 100, "per": "day"}, {"concurrency": 5}])
}

/// Tokens and requests that are used, and places that are taken.
fn used(world: &World) -> (u64, u64, u32) {
    let runtime = world.runtime();
    let consumer = &runtime.consumers.list[0];
    let statement = statement(world, &consumer.name, &consumer.limits);
    let of = |index: usize| statement.limits[index].limit.max - statement.limits[index].left;
    (of(0), of(1), statement.concurrency.unwrap().1)
}

fn statement(world: &World, name: &str, limits: &Limits) -> Statement {
    let subject = Subject::configured(Kind::Consumer, name, limits);
    account::statement(&world.memory, &subject, world.now())
}

#[test]
fn what_is_used_takes_the_place_of_what_was_reserved() {
    let world = limited_world(one(keys(["a"])), day(1_000));
    let request = chat("fast");
    assert_eq!(request.body.len() / 4 + 100, usize::try_from(RESERVED).unwrap());
    let mut flight = world.send(&request);
    assert_eq!(used(&world), (RESERVED, 1, 1));
    let answer = Answer::ok()
        .header("x-ratelimit-remaining-tokens", 7)
        .header("ratelimit", "\"theirs\";r=1");
    flight.answer(answer);
    let got = flight.got();
    assert_eq!(used(&world), (SPENT, 1, 0));
    // The client hears of its own limits, as they were when it was admitted, and of no others.
    assert_eq!(got.headers["x-ratelimit-remaining-tokens"], (1_000 - RESERVED).to_string());
    assert_eq!(got.headers["x-ratelimit-limit-requests"], "100");
    assert_eq!(got.headers["x-ratelimit-reset-requests"], "43200000ms");
    assert_eq!(
        got.headers["ratelimit"],
        format!(
            "\"tokens-day\";r={};t=43200, \"requests-day\";r=99;t=43200, \"concurrency\";r=4",
            1_000 - RESERVED
        )
    );
}

#[test]
fn a_stream_that_is_cut_keeps_what_was_reported_or_reserved() {
    let usage = format!(r#"{{"choices":[],"usage":{}}}"#, USAGE);
    for (events, end, left_by_client, expected) in [
        (vec![DELTA], End::Reset, false, None),
        (vec![DELTA, &usage], End::Reset, false, Some(SPENT)),
        (vec![DELTA], End::Open, true, None),
        (vec![DELTA, &usage], End::Open, true, Some(SPENT)),
        (vec![DELTA, &usage, "[DONE]"], End::Whole, false, Some(SPENT)),
    ] {
        let world = limited_world(one(keys(["a"])), day(10_000));
        let mut flight = world.send(&streamed_chat("fast"));
        let reserved = used(&world).0;
        flight.answer(Answer::events(&events).ending(end));
        let _ = if left_by_client { flight.leave() } else { flight.got() };
        assert_eq!(used(&world), (expected.unwrap_or(reserved), 1, 0), "{events:?} {end:?}");
        assert!(world.leases.borrow().is_empty());
    }
}

#[test]
fn who_leaves_before_the_answer_pays_the_estimate() {
    let world = limited_world(one(keys(["a"])), day(10_000));
    world.send(&chat("fast")).leave();
    assert_eq!(used(&world), (RESERVED, 1, 0));
}

#[test]
fn what_is_not_answered_is_given_back() {
    // No attempt got an answer: the request counts, its tokens do not.
    let world = limited_world(one(keys(["a"])), day(10_000));
    world.on("a", [Answer::unreachable(), Answer::unreachable(), Answer::unreachable()]);
    assert_eq!(world.ask(&chat("fast")).status, 503);
    assert_eq!(used(&world), (0, 1, 0));
    // Nor where the provider refuses what the client asks.
    world.on("a", [Answer::error(400, "bad")]);
    assert_eq!(world.ask(&chat("fast")).status, 400);
    assert_eq!(used(&world), (0, 2, 0));
    // Nothing can be sent: nothing counts.
    world.on("a", [rejected()]);
    world.ask(&chat("fast"));
    assert_eq!(used(&world), (0, 3, 0));
    for _ in 0..5 {
        assert_eq!(world.ask(&chat("fast")).outcome(), "503 no_usable_key");
    }
    assert_eq!(used(&world), (0, 3, 0));
    // A refusal before that does not either.
    assert_eq!(world.ask(&chat("nothing")).status, 404);
    assert_eq!(used(&world), (0, 3, 0));
}

#[test]
fn a_shortage_keeps_its_own_hints() {
    let world = limited_world(one(keys(["a"])), day(10_000));
    world.on("a", [limited(20)]);
    // Found out by the attempt stage, then known to the gateway stage.
    for _ in 0..2 {
        let got = world.ask(&chat("fast"));
        assert_eq!(got.outcome(), "429 keys_temporarily_exhausted");
        assert!(got.headers["ratelimit"].starts_with("\"keys\";r=0"), "{:?}", got.headers);
        assert_eq!(got.headers["x-ratelimit-remaining-requests"], "0");
    }
    assert_eq!(used(&world), (0, 1, 0), "the second was never sent");
}

#[test]
fn keys_and_providers_are_tried_on_one_charge() {
    let providers = json!([provider("a", keys(["a1", "a2"])), provider("b", keys(["b1"]))]);
    let world = limited_world(document(providers), day(10_000));
    for key in ["a1", "a2"] {
        world.on(key, [limited(60)]);
    }
    let mut flight = world.send(&chat("fast"));
    while let Some(call) = flight.call().cloned() {
        assert_eq!(used(&world), (RESERVED, 1, 1), "{}", call.key);
        flight.answer(world.scripted(&call));
    }
    let got = flight.got();
    assert_eq!((got.status, got.calls.len()), (200, 3));
    assert_eq!(got.headers["x-ratelimit-remaining-requests"], "99", "known after a redirect, too");
    assert_eq!(used(&world), (SPENT, 1, 0));
    assert!(world.leases.borrow().is_empty());

    // Envoy refuses to move on.
    let world = limited_world(
        document(json!([provider("a", keys(["a1"])), provider("b", keys(["b1"]))])),
        day(10_000),
    );
    world.redirects.set(0);
    world.on("a1", [limited(60)]);
    assert_eq!(world.ask(&chat("fast")).status, 429);
    assert_eq!(used(&world), (0, 1, 0));
}

#[test]
fn a_request_larger_than_the_limit_is_told_so() {
    let world = limited_world(one(keys(["a"])), json!([{"tokens": 100, "per": "minute"}]));
    let got = world.ask(&chat("fast"));
    assert_eq!(got.outcome(), "429 rate_limit_exceeded");
    assert_eq!(got.headers["x-should-retry"], "false");
    assert!(!got.headers.contains_key("retry-after"));
    assert!(got.calls.is_empty());
    assert_eq!(world.count("limited"), 1);
}

#[test]
fn each_limit_ends_when_it_says() {
    for (limits, refused, back) in [
        (json!([{"requests": 2, "per": "minute"}]), "429 rate_limit_exceeded", 60.0),
        (json!([{"requests": 2, "per": "second"}]), "429 rate_limit_exceeded", 1.0),
        (json!([{"requests": 2, "per": "day"}]), "429 quota_exceeded", 43_200.0),
        (json!([{"tokens": 150, "per": "day"}]), "429 quota_exceeded", 43_200.0),
        // START is a Sunday.
        (json!([{"requests": 2, "per": "week"}]), "429 quota_exceeded", 43_200.0),
        (
            json!([{"requests": 2, "per": "minute", "algorithm": "token_bucket"}]),
            "429 rate_limit_exceeded",
            30.0,
        ),
    ] {
        let world = limited_world(one(keys(["a"])), limits.clone());
        assert_eq!(world.ask(&chat("fast")).status, 200);
        assert_eq!(
            world.ask(&chat("fast")).status,
            if limits[0]["tokens"] == 150 { 429 } else { 200 }
        );
        let got = world.ask(&chat("fast"));
        assert_eq!(got.outcome(), refused, "{limits}");
        assert_eq!(got.retry_after() as f64, back, "{limits}");
        assert!(got.headers["ratelimit"].ends_with(&format!(";r=0;t={back}")), "{limits}");
        world.pass(back - 0.001);
        assert_eq!(world.ask(&chat("fast")).outcome(), refused, "{limits}");
        world.pass(0.001);
        assert_eq!(world.ask(&chat("fast")).status, 200, "{limits}");
    }
}

#[test]
fn costs_are_reserved_at_the_dearest_target_and_settled_at_the_one_that_answered() {
    let mut document = document(json!([provider("a", keys(["a1"])), provider("b", keys(["b1"]))]));
    document["prices"] = json!([
        {"provider": "a", "model": "fast", "input": 1, "output": 10, "cached_input": 0.5, "reasoning": 20},
        {"provider": "b", "model": "fast", "input": 100, "output": 1000},
    ]);
    let world = limited_world(document, json!([{"cost": 1, "per": "day"}]));
    let left = |world: &World| {
        let runtime = world.runtime();
        statement(world, "anyone", &runtime.consumers.list[0].limits).limits[0].left
    };
    let mut flight = world.send(&chat("fast"));
    assert_eq!(1_000_000_000 - left(&world), 11 * 100_000 + 100 * 1_000_000);
    flight.answer(Answer::ok());
    flight.got();
    // 20 fresh, 10 cached, 7 said and 5 thought.
    let cost = 20 * 1_000 + 10 * 500 + 7 * 10_000 + 5 * 20_000;
    assert_eq!(1_000_000_000 - left(&world), cost);
    assert_eq!(world.count("cost_nanodollars"), cost);
    world.on("a1", [limited(600)]);
    assert_eq!(world.ask(&chat("fast")).status, 200);
    assert_eq!(1_000_000_000 - left(&world), cost + 30 * 100_000 + 12 * 1_000_000);
    // Nine more, and what is left is less than the next may cost.
    while 1_000_000_000 - left(&world) < 900_000_000 {
        assert_eq!(world.ask(&chat("fast")).status, 200);
    }
    let got = world.ask(&chat("fast"));
    assert_eq!(got.outcome(), "429 quota_exceeded");
    assert_eq!(got.headers["x-should-retry"], "false");
}

#[test]
fn a_cost_that_is_not_known_is_not_allowed() {
    let priced = json!([{"provider": "b", "model": "gpt-x", "input": 1, "output": 1}, {"provider": "a", "model": "fast", "input": 0, "output": 0}, {"provider": "b", "model": "fast", "input": 0, "output": 0}]);
    let mut document = document(json!([provider("a", keys(["a1"])), provider("b", keys(["b1"]))]));
    document["prices"] = priced;
    let world = limited_world(document, json!([{"cost": 1, "per": "day"}]));
    // Only `b` has a price for it; `a` would come first.
    let got = world.ask(&chat("gpt-x"));
    assert_eq!((got.status, got.keys()), (200, vec!["b1"]));
    let got = world.ask(&chat("gpt-y"));
    assert_eq!(got.outcome(), "403 price_unknown");
    assert!(got.calls.is_empty());
    assert_eq!(world.ask(&chat("fast")).status, 200);
}

#[test]
fn a_key_s_own_budget_turns_to_the_next_key() {
    let cheap = |id: &str, limits: Value| with(key(id), json!({"limits": limits}));
    let keys = json!([
        cheap("a", json!([{"cost": 0.001, "per": "day"}])),
        with(key("b"), json!({"tier": 1}))
    ]);
    let mut document = one(keys);
    document["prices"] = json!([{"provider": "a", "model": "*", "input": 5, "output": 5}]);
    let world = World::new(&document);
    let used: Vec<_> = (0..6).map(|_| world.ask(&chat("fast")).keys()[0].to_owned()).collect();
    // 210 millionths each; a reservation takes 555.
    assert_eq!(used, ["a", "a", "a", "b", "b", "b"]);
    world.wait_until(END_OF_DAY);
    assert_eq!(world.ask(&chat("fast")).keys(), ["a"]);
}

#[test]
fn usage_is_counted_for_everybody_by_hour_day_and_month() {
    let mut document = one(keys(["a"]));
    document["teams"] = json!([{"name": "research"}]);
    document["consumers"][0]["team"] = json!("research");
    document["prices"] = json!([{"provider": "a", "model": "fast", "input": 1, "output": 1}]);
    let world = World::new(&document);
    world.ask(&chat("fast"));
    world.ask(&chat("gpt-unpriced"));
    world.pass(3_600.0);
    world.ask(&chat("fast"));
    let runtime = world.runtime();
    let (consumer, team) = (&runtime.consumers.list[0], &runtime.consumers.teams[0]);
    let slots = [
        (consumer.usage_slot(), 3, 2),
        (team.usage_slot(), 3, 2),
        (runtime.keys[0].usage_slot.clone(), 3, 2),
        (runtime.providers[0].usage_slot.clone(), 3, 2),
        (runtime.models.list[0].usage_slot.clone(), 2, 1),
    ];
    for (slot, day, previous_hour) in slots {
        let tally: keyward::tally::Tally = keyward::ledger::read(&world.memory, &slot);
        let (hour, before) = tally.of(keyward::limit::Per::Hour, world.now()).unwrap();
        assert_eq!((hour.requests, hour.prompt, hour.completion), (1, 30, 12), "{slot}");
        assert_eq!((hour.cost, hour.unpriced), (42_000, 0), "{slot}");
        assert_eq!(before.requests, previous_hour, "{slot}");
        assert_eq!((before.cost, before.unpriced), (42_000, 42 * (previous_hour - 1)), "{slot}");
        let (today, yesterday) = tally.of(keyward::limit::Per::Day, world.now()).unwrap();
        assert_eq!((today.requests, yesterday.requests), (day, 0), "{slot}");
    }
}

/// Other workers run between any two accesses of each.
#[test]
fn workers_that_interleave_let_exactly_as_many_through() {
    for seed in 0..30 {
        let limits = json!([{"requests": 7, "per": "day"}, {"tokens": 900, "per": "day"}, {"concurrency": 6}]);
        let world = limited_world(one(keys(["a"])), limits).seeded(seed);
        world.meanwhile.borrow_mut().extend((0..20).map(|_| chat("fast")));
        let mut all: Vec<Got> = (0..20).map(|_| world.ask(&chat("fast"))).collect();
        all.extend(world.answered_meanwhile.take());
        let through = all.iter().filter(|got| got.status == 200).count();
        let tokens = u64::try_from(through).unwrap() * SPENT;
        let codes: std::collections::BTreeSet<_> = all.iter().map(Got::outcome).collect();
        assert!(through <= 7 && tokens <= 900, "{seed}: {through}");
        assert_eq!(through, 7, "{seed}: all that could go went: {codes:?}");
    }
}

#[test]
fn a_request_of_nobody_with_limits_says_nothing_of_them() {
    let world = World::new(&one(keys(["a"])));
    let got = world.ask(&chat("fast"));
    assert!(got.headers.keys().all(|name| !name.contains("ratelimit")), "{:?}", got.headers);
}

/// Limits of the address are told with all others: on requests, which are charged when it arrives, and on tokens; also
/// where another provider answers, and where nothing else is limited.
#[test]
fn limits_of_the_address_are_told_on_every_way() {
    let providers = json!([provider("a", keys(["a1"])), provider("b", keys(["b1"]))]);
    let requests = json!({"requests": 100, "per": "day"});
    let tokens = json!({"tokens": 10_000, "per": "day"});
    for (limits, of_consumer) in [
        (json!([requests, tokens]), json!([{"requests": 9, "per": "week"}])),
        (json!([requests, tokens]), json!([])),
        (json!([requests]), json!([])),
        (json!([tokens]), json!([])),
    ] {
        for redirected in [false, true] {
            let mut document = document(providers.clone());
            document["client_address"] = json!({"limits": limits});
            let world = limited_world(document, of_consumer.clone());
            world.address.replace("192.0.2.1:80".to_owned());
            if redirected {
                world.on("a1", [limited(60)]);
            }
            let got = world.ask(&chat("fast"));
            assert_eq!((got.status, got.calls.len()), (200, 1 + usize::from(redirected)));
            let mut told = Vec::new();
            if limits.to_string().contains("requests") {
                told.push("\"address-requests-day\";r=99;t=43200".to_owned());
            }
            if limits.to_string().contains("tokens") {
                told.push(format!("\"address-tokens-day\";r={};t=43200", 10_000 - RESERVED));
            }
            if of_consumer[0].is_object() {
                told.push("\"requests-week\";r=8;t=43200".to_owned());
            }
            assert_eq!(got.headers["ratelimit"], told.join(", "), "redirected: {redirected}");
        }
    }
}
