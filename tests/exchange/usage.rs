//! What an answer took is counted once, however it comes and whoever breaks it off.

use serde_json::{Value, json};

use crate::world::{
    Answer, DELTA, End, USAGE, World, chat, key, keys, limited, one, streamed_chat, with,
};

/// Tokens that are counted for the key, which are those of its provider and of the model.
fn counted(world: &World) -> [u64; 4] {
    let lists = [("keys", "a/k1"), ("providers", "a"), ("models", "fast")];
    let [key, provider, model] =
        lists.map(|(list, name)| world.status_of(list, name)["tokens"].clone());
    assert_eq!((&key, &key), (&provider, &model));
    ["prompt", "completion", "cached", "reasoning"].map(|kind| key[kind].as_u64().unwrap())
}

const ALL: [u64; 4] = [30, 12, 10, 5];
const NONE: [u64; 4] = [0; 4];

fn bytes(answer: &Answer) -> Vec<u8> {
    answer.chunks.concat()
}

/// `answer` in two pieces.
fn split(answer: &Answer, at: usize, end: End) -> Answer {
    let bytes = bytes(answer);
    let (head, tail) = bytes.split_at(at);
    Answer { chunks: vec![head.to_vec(), tail.to_vec()], end, ..answer.clone() }
}

/// Up to and without the byte `at`, and then `end`.
fn head(answer: &Answer, at: usize, end: End) -> Answer {
    Answer { chunks: vec![bytes(answer)[..at].to_vec()], end, ..answer.clone() }
}

#[test]
fn counted_once_in_every_cut() {
    for (request, answer) in
        [(chat("fast"), Answer::ok()), (streamed_chat("fast"), Answer::stream())]
    {
        for end in [End::Whole, End::Apart] {
            for at in 0..=bytes(&answer).len() {
                let world = World::new(&one(keys(["k1"])));
                world.on("k1", [split(&answer, at, end)]);
                let got = world.ask(&request);
                assert_eq!((got.status, counted(&world)), (200, ALL), "{end:?} {at}");
                assert_eq!(world.count("tokens"), 57);
                assert_eq!(world.status_of("keys", "a/k1")["failures"], 0);
                let hidden = got.body.contains("usage") == request.body.contains("stream");
                assert!(!hidden, "the client did not ask for the usage of a stream: {}", got.body);
            }
        }
    }
}

#[test]
fn counted_as_soon_as_it_was_seen_whoever_goes() {
    let answer = Answer::stream();
    let text = String::from_utf8(bytes(&answer)).unwrap();
    let seen_at = text.find("data: [DONE]").unwrap();
    let first_event = text.find("\n\n").unwrap() + 2;
    for at in 0..text.len() {
        let expected = if at >= seen_at { ALL } else { NONE };
        // The client goes.
        let world = World::new(&one(keys(["k1"])));
        let mut flight = world.send(&streamed_chat("fast"));
        flight.answer(head(&answer, at, End::Open));
        flight.leave();
        assert_eq!(counted(&world), expected, "{at}");
        assert_eq!(world.status_of("keys", "a/k1")["failures"], 0, "not the key's fault");

        // The provider breaks off.
        let world = World::new(&one(keys(["k1"])));
        let mut flight = world.send(&streamed_chat("fast"));
        flight.answer(head(&answer, at, End::Reset));
        assert_eq!(flight.call().is_some(), at < first_event, "moves on before the first event");
        flight.leave();
        assert_eq!(counted(&world), expected, "{at}");
        assert_eq!(world.status_of("keys", "a/k1")["failures"], 1);
    }
}

/// As some services do. The records are not written for each event, and lose nothing, whoever goes.
#[test]
fn counts_that_come_with_every_event_are_recorded_now_and_then() {
    let report = |completion| {
        let usage = json!({"prompt_tokens": 30, "completion_tokens": completion});
        json!({"choices": [{"delta": {"content": "a"}}], "usage": usage}).to_string()
    };
    let events: Vec<String> = (1..=100).map(report).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    for (end, failures) in [(End::Open, 0), (End::Reset, 1)] {
        let world = World::new(&one(keys(["k1"])));
        let mut flight = world.send(&streamed_chat("fast"));
        let (first, rest) = events.split_at(1);
        flight.answer(Answer::events(first).ending(End::Open));
        assert_eq!(counted(&world), [30, 1, 0, 0], "the first report at once");
        let before = world.memory.writes.get();
        flight.more(Answer::events(rest).chunks, end);
        if failures == 0 {
            assert_eq!(world.memory.writes.get(), before);
            flight.leave();
        }
        assert_eq!(counted(&world), [30, 100, 0, 0]);
        assert_eq!(world.status_of("keys", "a/k1")["failures"], failures);
    }
    let world = World::new(&one(keys(["k1"])));
    let mut flight = world.send(&streamed_chat("fast"));
    let (first, rest) = events.split_at(1);
    flight.answer(Answer::events(first).ending(End::Open));
    for event in rest {
        world.pass(1.0);
        flight.more(Answer::events(&[event]).chunks, End::Open);
    }
    assert_eq!(counted(&world), [30, 100, 0, 0], "once a second");
}

#[test]
fn a_broken_json_answer_counts_nothing_and_a_failed_attempt_nothing() {
    let world = World::new(&one(json!([key("k1"), with(key("k2"), json!({"tier": 1}))])));
    let in_an_error = format!(r#"{{"error":{{"code":"rate_limit_exceeded"}},"usage":{USAGE}}}"#);
    world.on("k1", [Answer::json(429, &in_an_error)]);
    world.on("k2", [Answer::json(200, r#"{"id":"c","usage":{"prompt_tok"#).ending(End::Reset)]);
    let got = world.ask(&chat("fast"));
    assert!(got.cut);
    assert_eq!(world.status_of("models", "fast")["tokens"]["prompt"], 0);
}

#[test]
fn usage_that_grows_with_every_event_is_counted_once() {
    let event = |completion| {
        format!(
            r#"{{"choices":[{{"delta":{{"content":"a"}}}}],"usage":{{"prompt_tokens":30,"completion_tokens":{completion}}}}}"#
        )
    };
    let events = [event(1), event(2), event(7)];
    let events: Vec<_> = events.iter().map(String::as_str).chain(["[DONE]"]).collect();
    let world = World::new(&one(keys(["k1"])));
    world.on("k1", [Answer::events(&events)]);
    world.ask(&streamed_chat("fast"));
    assert_eq!(counted(&world), [30, 7, 0, 0]);
}

#[test]
fn a_client_that_asks_for_usage_sees_it() {
    let mut request = streamed_chat("fast");
    request.body =
        json!({"model": "fast", "stream": true, "stream_options": {"include_usage": true}})
            .to_string();
    request.headers.retain(|(name, _)| name != "content-length");
    let world = World::new(&one(keys(["k1"])));
    world.on("k1", [Answer::stream()]);
    let got = world.ask(&request);
    assert_eq!(got.calls[0].body, request.body, "nothing to patch");
    assert!(got.body.contains("usage"));
    assert_eq!(counted(&world), ALL);
}

#[test]
fn usage_is_asked_for_where_the_client_did_not() {
    let world = World::new(&one(keys(["k1"])));
    world.on("k1", [Answer::stream()]);
    let got = world.ask(&streamed_chat("fast"));
    let sent: Value = serde_json::from_str(&got.calls[0].body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    assert_eq!(got.body.matches("data:").count(), 3);

    let mut document = one(keys(["k1"]));
    document["providers"][0]["include_usage"] = json!(false);
    let world = World::new(&document);
    world.on("k1", [Answer::events(&[DELTA, "[DONE]"])]);
    let got = world.ask(&streamed_chat("fast"));
    assert!(!got.calls[0].body.contains("stream_options"));
}

/// Of 1000 tokens an hour: what is left of the key's own limit when all is over.
#[test]
fn a_reservation_becomes_what_was_used() {
    let limits = json!({"limits": [{"tokens": 1_000, "per": "hour"}], "tier": 0});
    let document = one(json!([with(key("k1"), limits), with(key("k2"), json!({"tier": 1}))]));
    let reserved = 111.0;
    type Play = fn(&World);
    let plays: [(&str, f64, Play); 8] = [
        ("answered", 42.0, |world| drop(world.ask(&chat("fast")))),
        ("refused", 0.0, |world| {
            world.on("k1", [limited(20)]);
            world.ask(&chat("fast"));
        }),
        ("the client's fault", 0.0, |world| {
            world.on("k1", [Answer::json(400, "{}")]);
            world.ask(&chat("fast"));
        }),
        ("never reached", 0.0, |world| {
            world.on("k1", [Answer::unreachable()]);
            assert_eq!(world.ask(&chat("fast")).keys(), ["k1", "k2"]);
        }),
        ("left before an answer", 0.0, |world| drop(world.send(&chat("fast")).leave())),
        ("no usage told", 111.0, |world| {
            world.on("k1", [Answer::json(200, r#"{"id":"c"}"#)]);
            world.ask(&chat("fast"));
        }),
        ("left in the middle", 111.0, |world| {
            let mut flight = world.send(&chat("fast"));
            flight.answer(Answer::json(200, r#"{"id":"c","#).ending(End::Open));
            flight.leave();
        }),
        ("broken off", 111.0, |world| {
            world.on("k1", [Answer::json(200, r#"{"id":"c","#).ending(End::Reset)]);
            assert!(world.ask(&chat("fast")).cut);
        }),
    ];
    for (name, used, play) in plays {
        let world = World::new(&document);
        let flight = world.send(&chat("fast"));
        assert_eq!(world.status_of("keys", "a/k1")["headroom"], 1.0 - reserved / 1000.0);
        flight.leave();
        assert_eq!(world.status_of("keys", "a/k1")["headroom"], 1.0);
        play(&world);
        assert_eq!(world.status_of("keys", "a/k1")["headroom"], 1.0 - used / 1000.0, "{name}");
    }
}

#[test]
fn the_time_to_the_first_token_is_that_of_the_attempt_that_answers() {
    let world = World::new(&one(keys(["k1", "k2"])));
    let mut flight = world.send(&streamed_chat("fast"));
    world.pass(3.0);
    flight.answer(limited(60));
    world.pass(0.5);
    let role = r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#;
    flight.answer(Answer::events(&[role]).ending(End::Open));
    world.pass(0.25);
    flight.more(Answer::events(&[DELTA]).chunks, End::Open);
    world.pass(9.0);
    flight.more(Answer::events(&[DELTA, "[DONE]"]).chunks, End::Whole);
    let name = "time_to_first_token_milliseconds;provider=a;model=fast".to_owned();
    assert_eq!(world.take_measured(), [(name, 750)]);

    // What comes in one piece has no first token.
    world.on("k2", [Answer::ok()]);
    world.ask(&chat("fast"));
    assert_eq!(world.take_measured(), []);
}
