//! What clients send that is none of their business, and what of a request they could use again.

use keyward::effect::{Cx, Effect};
use keyward::headers::Headers;
use keyward::intake;
use keyward::ledger::memory::Memory;
use keyward::plan::{Plan, ProcessKey};
use serde_json::json;

use crate::world::{
    Answer, Request, World, chat, document, keys, limited, one, post, provider, with,
};

fn two_providers() -> World {
    World::new(&document(json!([provider("a", keys(["k1"])), provider("b", keys(["k2"]))])))
}

/// The state that travels with a request of this world on its way to its second provider.
fn state_of(world: &World) -> String {
    world.on("k1", [limited(20)]);
    let mut flight = world.send(&chat("fast"));
    flight.answer(limited(20));
    world.seen_state.borrow().clone().unwrap()
}

#[test]
fn forged_state_changes_nothing() {
    let genuine = state_of(&two_providers());
    let flipped = |at: usize| {
        let mut text = genuine.clone().into_bytes();
        text[at] = if text[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(text).unwrap()
    };
    let (body, tag) = genuine.split_once('.').unwrap();
    let another_process = ProcessKey::obtain(&Memory::default(), [8; 32]).unwrap();
    assert_eq!(Plan::open(&genuine, &another_process), None);
    for forged in [
        String::new(),
        ".".to_owned(),
        "x".to_owned(),
        body.to_owned(),
        format!("{body}."),
        format!(".{tag}"),
        format!("{tag}.{body}"),
        genuine.trim_end_matches(|c: char| c.is_ascii_hexdigit()).to_owned(),
        format!("{body}00.{tag}"),
        flipped(0),
        flipped(body.len() - 1),
        flipped(genuine.len() - 1),
    ] {
        let world = two_providers();
        let got = world.ask(&chat("fast").header("x-keyward-state", &forged));
        assert_eq!((got.status, got.keys()), (200, vec!["k1"]), "{forged}");
        assert_eq!(got.headers["x-keyward-attempts"], "1");
        assert_eq!(world.count("requests"), 1);
    }
}

/// No client ever sees a state; if one did, it would be worth no more than the request that it is of.
#[test]
fn a_state_is_over_with_its_request() {
    let world = two_providers();
    let state = state_of(&world);
    let replayed = chat("fast").header("x-keyward-state", &state);
    let got = world.ask(&replayed);
    assert_eq!(got.keys(), ["k2"], "the rest of that request");
    assert_eq!(got.headers["x-keyward-attempts"], "2", "its attempts count");
    world.pass(60.0);
    let got = world.ask(&replayed);
    assert_eq!((got.outcome().as_str(), got.calls.len()), ("429 keys_temporarily_exhausted", 0));
}

#[test]
fn headers_that_steer_keyward_or_envoy_are_no_client_s() {
    let world = two_providers();
    let mut request = chat("fast");
    for (name, value) in [
        ("x-keyward-cluster", "b"),
        ("x-keyward-retry", "1"),
        ("x-keyward-answered", "1"),
        ("x-keyward-secret-1", "mine"),
        ("x-keyward-anything", "1"),
        ("x-envoy-max-retries", "99"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-api-key", "sk-of-the-client"),
        ("x-goog-api-key", "sk-of-the-client"),
        ("proxy-authorization", "sk-of-the-client"),
        ("x-other", "kept"),
    ] {
        request = request.header(name, value);
    }
    let got = world.ask(&request);
    assert_eq!((got.status, got.keys()), (200, vec!["k1"]));
    let call = &got.calls[0].headers;
    assert_eq!(call["x-other"], "kept");
    assert!(!call.keys().any(|name| name.starts_with("x-envoy-")), "{call:?}");
}

#[test]
fn a_provider_cannot_steer_either() {
    for status in [200, 400] {
        let world = two_providers();
        let answer = Answer::json(status, "{}")
            .header("x-keyward-retry", 1)
            .header("x-keyward-state", "00.00")
            .header("x-keyward-answered", 0)
            .header("x-ratelimit-remaining-requests", 9)
            .header("set-cookie", "a=b")
            .header("x-request-id", "kept");
        world.on("k1", [answer]);
        let got = world.ask(&chat("fast"));
        assert_eq!((got.status, got.keys()), (status, vec!["k1"]));
        assert_eq!(got.headers["x-request-id"], "kept");
        for name in ["x-ratelimit-remaining-requests", "set-cookie"] {
            assert!(!got.headers.contains_key(name), "{name}");
        }
    }
    // A redirect of its own would take the key along.
    let world = World::new(&one(keys(["k1"])));
    let away = Answer::json(307, "").header("location", "http://elsewhere.test/");
    world.on("k1", [away.clone(), away]);
    let got = world.ask(&chat("fast"));
    assert_eq!(got.outcome(), "502 provider_error");
    assert!(!got.headers.contains_key("location"));
}

#[test]
fn what_is_answered_here_costs_no_call() {
    let world = World::new(&with(one(keys(["k1"])), json!({"max_body": "100KiB"})));
    let chat_with = |body: &str| {
        let mut request = chat("fast");
        request.body = body.to_owned();
        request.headers.retain(|(name, _)| name != "content-length");
        request
    };
    for (request, outcome) in [
        (Request::get("/v1/models"), "200"),
        (Request::get("/v1/models/gpt-x"), "200"),
        (Request::get("/v1/models/none"), "404 model_not_found"),
        (Request::get("/keyward/status"), "401 invalid_api_key"),
        (Request::get("/v1/chat/completions"), "405 method_not_allowed"),
        (post("/v1/files", &json!({})), "404 unknown_url"),
        (chat("none"), "404 model_not_found"),
        (chat("gpt-../../x"), "404 model_not_found"),
        (chat_with("{"), "400 invalid_body"),
        (chat_with(r#"{"model":"fast","model":"gpt-x"}"#), "400 invalid_body"),
        (chat_with(""), "400 invalid_body"),
        (chat("fast").header("content-encoding", "gzip"), "415 unsupported_content_encoding"),
        (chat_with(&"x".repeat(200_000)), "413 request_too_large"),
    ] {
        let got = world.ask(&request);
        assert_eq!((got.outcome().as_str(), got.calls.len()), (outcome, 0));
    }
    let world = World::new(&with(one(keys(["k1"])), json!({"anonymous": "refuse"})));
    assert_eq!(world.ask(&chat("fast")).outcome(), "401 invalid_api_key");
}

/// Names and values of any bytes come through untouched, and bring nothing down.
#[test]
fn header_bytes_beyond_ascii() {
    let world = World::new(&one(keys(["k1"])));
    let mut request = chat("fast");
    request.headers.push(("x-odd".to_owned(), b"\xff\xfe".to_vec()));
    assert_eq!(world.ask(&request).status, 200);
    let runtime = world.runtime();
    let mut cx = Cx::new(&runtime, &world.memory, None, world.now(), 1);
    let headers: Headers = [(b"x-keyward-\xff".to_vec(), b"1".to_vec())].into_iter().collect();
    intake::sanitize(&mut cx, &headers, |_| false);
    assert_eq!(cx.effects, Vec::<Effect>::new(), "no host lets such a name in");
}

#[test]
fn what_a_client_says_to_its_vendor_goes_to_no_other_and_comes_back() {
    let cohere = with(provider("c", keys(["k1"])), json!({"kind": "cohere"}));
    let world = World::new(&document(json!([cohere, provider("o", keys(["k2"]))])));
    let said = [
        ("openai-organization", "org"),
        ("session-id", "s-1"),
        ("x-stainless-lang", "python"),
        ("x-client-request-id", "r-1"),
    ];
    let neutral = [("user-agent", "agent/1"), ("traceparent", "00-1-1-01")];
    let ask = || {
        let request = post("/v1/responses", &json!({"model": "fast", "input": "hi"}));
        said.into_iter()
            .chain(neutral)
            .fold(request, |request, (name, value)| request.header(name, value))
    };
    world.on("k1", [limited(20)]);
    let got = world.ask(&ask());
    assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2"]));
    let [translated, native] = &got.calls[..] else { panic!("{:?}", got.calls) };
    for (name, value) in neutral {
        assert_eq!(translated.headers[name], value);
        assert_eq!(native.headers[name], value);
    }
    for (name, value) in said {
        assert_eq!(translated.headers.get(name), None);
        assert_eq!(native.headers[name], value);
    }
    // Nothing of a client's credentials travels with the plan, whatever they are called.
    let state = world.seen_state.borrow().clone().unwrap();
    let plan =
        format!("{:?}", Plan::open(&state, &ProcessKey::obtain(&world.memory, [0; 32]).unwrap()));
    assert!(plan.contains("openai-organization") && !plan.contains("sk-"), "{plan}");

    // More than a plan carries is gone with the first attempt, and the request goes on.
    world.pass(60.0);
    world.on("k1", [limited(20)]);
    let got = world.ask(&ask().header("x-codex-turn-metadata", &"m".repeat(5_000)));
    assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2"]));
    assert!(!got.calls[1].headers.contains_key("session-id"));
    assert_eq!(got.calls[1].headers["user-agent"], "agent/1");
}
