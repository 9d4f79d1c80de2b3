//! The stage that does both in one filter: it sends on what is known and learns for the next request.

use std::collections::HashMap;

use keyward::consumer::identify::Caller;
use keyward::effect::Flow;
use keyward::standalone::{Host, Standalone};
use serde_json::{Value, json};

use crate::router::{Fields, apply};
use crate::world::{
    Answer, Call, Got, Request, World, chat, document, key, keys, limited, provider, rejected,
    streamed_chat, with,
};

const MODES: [&str; 2] = ["headers", "body"];

fn world(mode: &str, providers: Value) -> World {
    World::new(&with(document(providers), json!({"mode": mode})))
}

/// One request through the one filter, on a route that leads to the cluster `a`.
fn ask(world: &World, request: &Request) -> Got {
    let runtime = world.runtime();
    let mut stage = Standalone::default();
    let mut fields = Fields::new(request.headers.clone());
    let mut state = HashMap::new();
    let host = Host { provider: None, cluster: Some("a") };
    let headers = fields.headers();
    let (first, effects) = world.run(&runtime, |cx| {
        stage.on_request_headers(cx, &headers, &host, &Caller::default(), false)
    });
    let mut done = apply(world, effects, &mut fields, &mut state);
    let (mut body, mut flow) = (request.body.clone().into_bytes(), first);
    let mut calls = Vec::new();
    if done.reply.is_none() {
        let sent = fields.clone();
        let effects;
        (flow, effects) = world.run(&runtime, |cx| stage.on_request_body(cx, &body, true));
        done = apply(world, effects, &mut fields, &mut state);
        if first == Flow::Continue && done.reply.is_none() {
            assert_eq!(sent.texts(), fields.texts(), "headers are gone");
        }
        body = done.body.unwrap_or(body);
    }
    let (mut answer, mut out) = (Fields::default(), Vec::new());
    let answered = |fields: &mut Fields, reply: &keyward::reply::Reply| {
        fields.set(":status", reply.status.to_string().as_bytes());
        for (name, value) in &reply.headers {
            fields.set(name, value.as_bytes());
        }
    };
    if let Some(reply) = done.reply {
        answered(&mut answer, &reply);
        out = reply.body;
    } else {
        assert_eq!(flow, Flow::Continue);
        let mut headers = fields.texts();
        // The one name between the stages that is left: Envoy's route reads it.
        headers.remove("x-keyward-cluster");
        let secret = headers["authorization"].clone();
        let key = secret.trim_start_matches("Bearer sk-").to_owned();
        let body = String::from_utf8(body).unwrap();
        let call =
            Call { cluster: "a".to_owned(), key, headers, body, at: world.now(), arrived: true };
        call.check();
        let said = world.scripted(&call);
        calls.push(call);
        answer.set(":status", said.status.to_string().as_bytes());
        for (name, value) in &said.headers {
            answer.set(name, value.as_bytes());
        }
        let headers = answer.headers();
        let (_, effects) = world.run(&runtime, |cx| stage.on_response_headers(cx, &headers, false));
        let done = apply(world, effects, &mut answer, &mut state);
        assert!(done.reply.is_none());
        let last = said.chunks.len();
        let mut buffered = Vec::new();
        for (index, chunk) in said.chunks.iter().enumerate() {
            buffered.extend_from_slice(chunk);
            let (flow, effects) =
                world.run(&runtime, |cx| stage.on_response_body(cx, &buffered, index + 1 == last));
            let done = apply(world, effects, &mut answer, &mut state);
            if let Some(reply) = done.reply {
                answer = Fields::default();
                answered(&mut answer, &reply);
                out = reply.body;
                break;
            }
            if flow == Flow::Continue {
                out.append(&mut done.body.unwrap_or(std::mem::take(&mut buffered)));
                buffered.clear();
            }
        }
    }
    world.run(&runtime, |cx| stage.on_done(cx, false));
    let headers = answer.texts();
    let status = headers[":status"].parse().unwrap();
    let got = Got { status, headers, body: String::from_utf8(out).unwrap(), cut: false, calls };
    got.check();
    got
}

#[test]
fn the_next_request_takes_the_next_key() {
    for mode in MODES {
        let second = with(key("k2"), json!({"tier": 1}));
        let world = world(mode, json!([provider("a", json!([key("k1"), second]))]));
        for (answer, state) in
            [(limited(20), "resting rate_limited 20"), (rejected(), "refused key_rejected 86400")]
        {
            world.on("k1", [answer]);
            let got = ask(&world, &chat("fast"));
            assert_eq!(got.outcome(), "429 keys_temporarily_exhausted", "{mode}");
            assert!(got.retry_after() <= 2, "the next one goes out at once");
            assert_eq!(world.state("a/k1"), state);
            assert_eq!(ask(&world, &chat("fast")).keys(), ["k2"]);
            world.pass(20.0);
        }
    }
}

#[test]
fn nothing_left_is_known_before_sending() {
    for mode in MODES {
        // What the route cannot reach is no hope.
        let world = world(mode, json!([provider("a", keys(["k1"])), provider("b", keys(["k2"]))]));
        world.on("k1", [limited(20)]);
        for calls in [1, 0] {
            let got = ask(&world, &chat("fast"));
            assert_eq!(
                (got.outcome().as_str(), got.calls.len()),
                ("429 keys_temporarily_exhausted", calls)
            );
            assert!((20..=22).contains(&got.retry_after()), "{mode}: {}", got.retry_after());
        }
        world.pass(20.0);
        assert_eq!(ask(&world, &chat("fast")).status, 200);
        assert_eq!(world.state("a/k1"), "ready");
    }
}

/// Of some answers only the body tells whose fault it is.
#[test]
fn the_body_has_the_last_word_on_the_key() {
    let too_low = Answer::json(400, r#"{"error":{"message":"Your credit balance is too low"}}"#);
    for (answer, state) in [
        (Answer::error(403, "content_policy_violation"), "ready"),
        (Answer::error(403, "account_deactivated"), "refused key_rejected 86400"),
        (Answer::error(429, "insufficient_quota"), "resting out_of_quota 3600"),
        (too_low, "resting out_of_quota 3600"),
        (Answer::json(400, "{}"), "ready"),
    ] {
        for mode in MODES {
            let world = world(mode, json!([provider("a", keys(["k1"]))]));
            world.on("k1", [answer.clone()]);
            ask(&world, &chat("fast"));
            assert_eq!(world.state("a/k1"), state, "{mode} {answer:?}");
            let failures = u64::from(state != "ready");
            assert_eq!(world.status_of("keys", "a/k1")["failures"], failures, "{mode} {answer:?}");
        }
    }
}

#[test]
fn a_failure_is_counted_once() {
    // Of a page the client gets nothing; JSON it gets as it is.
    let page = Answer { headers: Vec::new(), ..Answer::json(500, "<html>") };
    for (mode, answer) in
        [("headers", page.clone()), ("body", page), ("headers", Answer::json(500, "{}"))]
    {
        let world = world(mode, json!([provider("a", keys(["k1"]))]));
        world.on("k1", vec![answer; 5]);
        for n in 1..=5 {
            assert_eq!(world.provider_state("a"), "ready", "{mode}");
            ask(&world, &chat("fast"));
            assert_eq!(world.status_of("providers", "a")["failures"], n, "{mode}");
        }
        assert!(world.provider_state("a").starts_with("resting failing"), "five in a row");
    }
}

#[test]
fn answers_and_streams_are_counted_and_patched() {
    for mode in MODES {
        let mut written =
            with(document(json!([provider("a", keys(["k1"]))])), json!({"mode": mode}));
        written["models"][0]["targets"] = json!([{"provider": "a", "model": "upstream-name"}]);
        let world = World::new(&written);
        for (request, answer) in
            [(chat("fast"), Answer::ok()), (streamed_chat("fast"), Answer::stream())]
        {
            world.on("k1", [answer]);
            let got = ask(&world, &request);
            assert_eq!(got.status, 200);
            assert!(got.calls[0].body.contains("upstream-name"));
        }
        let tokens = &world.status_of("keys", "a/k1")["tokens"];
        assert_eq!((&tokens["prompt"], &tokens["completion"]), (&json!(60), &json!(24)), "{mode}");
    }
}

#[test]
fn a_request_that_never_gets_to_its_body_gives_its_claim_back() {
    let limits = json!({"limits": [{"requests": 2, "per": "hour"}]});
    for mode in MODES {
        let world = world(mode, json!([provider("a", json!([with(key("k1"), limits.clone())]))]));
        let runtime = world.runtime();
        let mut stage = Standalone::default();
        let headers = Fields::new(chat("fast").headers).headers();
        let host = Host { provider: Some("a"), cluster: None };
        let (_, _) = world.run(&runtime, |cx| {
            stage.on_request_headers(cx, &headers, &host, &Caller::default(), false)
        });
        world.run(&runtime, |cx| stage.on_done(cx, true));
        assert_eq!(world.status_of("keys", "a/k1")["headroom"], 1.0, "{mode}");
        // Nor one whose body is refused.
        ask(&world, &chat("none"));
        assert_eq!(world.status_of("keys", "a/k1")["headroom"], 1.0, "{mode}");
    }
}

/// MiniMax says with 200 what others say with 429 and 401.
#[test]
fn an_error_inside_of_a_success_counts_for_the_key() {
    let said = |code: u32| {
        format!(r#"{{"choices":null,"base_resp":{{"status_code":{code},"status_msg":"no"}}}}"#)
    };
    let event = |code: u32| format!("data: {}\n\n", said(code)).into_bytes();
    for (code, state) in [
        (1002, "resting rate_limited"),
        (1008, "resting out_of_quota 3600"),
        (1004, "refused key_rejected 86400"),
        (2013, "ready"),
        (0, "ready"),
    ] {
        for mode in MODES {
            let whole = Answer::json(200, &said(code));
            let (head, tail) = whole.chunks[0].split_at(40);
            let cut = Answer { chunks: vec![head.to_vec(), tail.to_vec()], ..whole.clone() };
            let stream = Answer { chunks: vec![event(code)], ..Answer::stream() };
            for (request, answer) in
                [(chat("fast"), whole), (chat("fast"), cut), (streamed_chat("fast"), stream)]
            {
                let minimax = with(provider("a", keys(["k1"])), json!({"kind": "minimax"}));
                let world = world(mode, json!([minimax]));
                world.on("k1", [answer]);
                let got = ask(&world, &request);
                assert!(
                    world.state("a/k1").starts_with(state),
                    "{mode} {code}: {}",
                    world.state("a/k1")
                );
                // Once the headers are gone, the status stays what it was.
                assert_eq!(
                    got.status == 200,
                    mode == "headers" || code == 0,
                    "{mode} {code}: {}",
                    got.status
                );
            }
        }
    }
}
