//! How long a refusal takes tells nothing of the secret that it guards: the filter executes the same number of
//! instructions however much of a guess is right. Counted, not timed, so there is no noise to hide a difference.

use serde_json::{Value, json};

use crate::host::stream::{FilterState, Message};
use crate::host::vm::Vm;
use crate::host::{fields, set, value};
use crate::message::Request;
use crate::router::{Routed, feed, round};
use crate::scene::{Worker, chat, detour, document, get, post, process};

const KEY: &str = "kw-4f9a17c3e8b2605d91c7aa30fe5b86";
const ADMIN: &str = "ad-9e02b7d45c13f86a70d9be21c48f65";
const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// The code of `TOTP` at the moment at which a process of these tests starts.
const CODE: &str = "385366";
/// Consumers with that second factor: of each, few wrong codes are looked at.
const WITH_CODES: usize = 60;

fn worker() -> Worker {
    let mut document = document();
    document["anonymous"] = json!("refuse");
    document["admin"] = json!({"keys": [{"inline": ADMIN}]});
    let with_code = |n| {
        let (name, key) = (format!("ops-{n:02}"), format!("key-of-ops-{n:02}"));
        json!({"name": name, "keys": [{"inline": key}], "mfa": "totp", "totp": {"inline": TOTP}})
    };
    let acme = json!({"name": "acme", "keys": [{"inline": KEY}]});
    document["consumers"] = (0..WITH_CODES).map(with_code).chain([acme]).collect();
    document["temporary_keys"] =
        json!({"secrets": [{"id": "s", "inline": "0123456789abcdef0123456789abcdef"}]});
    let mut worker = Worker::new(&document);
    // The same worker once more, metered: only the gateway stage is asked here.
    worker.vm = Vm::metered(&process(1));
    let (root, true) = worker.vm.start("gateway", document.to_string().as_bytes()).unwrap() else {
        panic!("refused");
    };
    worker.stages.gateway = root;
    worker
}

/// What it takes to refuse a request.
fn cost(worker: &mut Worker, request: &Request, status: u16) -> u64 {
    let before = worker.vm.fuel();
    let context = worker.vm.open(worker.stages.gateway, &FilterState::default()).unwrap();
    let Request { headers, chunks, end } = request;
    feed(&mut worker.vm, context, Message::Request, headers, chunks, *end).unwrap();
    let reply = worker.vm.stream(context).reply.as_ref().unwrap();
    assert_eq!(u16::try_from(reply.status).unwrap(), status);
    worker.vm.close(context, false).unwrap();
    worker.vm.fuel() - before
}

/// The least of several guesses that are right to the same extent: what a hash table does with each is chance.
fn least(worker: &mut Worker, guesses: &[Request], status: u16) -> u64 {
    guesses.iter().map(|guess| cost(worker, guess, status)).min().unwrap()
}

/// Guesses of which the first `shared` characters are right and the next is wrong.
fn guesses(secret: &str, shared: usize) -> Vec<String> {
    let (right, wrong) = secret.split_at(shared);
    let other = |shift: usize| {
        let turn = |c: char| match c.to_digit(36) {
            Some(digit) => char::from_digit((digit + 1 + shift as u32) % 36, 36).unwrap(),
            None => '_',
        };
        wrong.chars().map(turn).collect::<String>()
    };
    (0..12).map(|shift| format!("{right}{}", other(shift))).collect()
}

fn with_key(mut request: Request, header: &str, key: &str) -> Request {
    let value = if header == "authorization" { format!("Bearer {key}") } else { key.to_owned() };
    request.headers.retain(|(name, _)| name != b"authorization");
    request.headers.extend(fields(&[(header, &value)]));
    request
}

fn issued(worker: &mut Worker) -> Value {
    let request = with_key(post("/keyward/keys", "{}"), "authorization", KEY);
    let context = worker.vm.open(worker.stages.gateway, &FilterState::default()).unwrap();
    let Request { headers, chunks, end } = &request;
    feed(&mut worker.vm, context, Message::Request, headers, chunks, *end).unwrap();
    let reply = worker.vm.stream(context).reply.clone().unwrap();
    worker.vm.close(context, false).unwrap();
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn of_a_key_nothing_is_told_by_how_much_of_it_is_right() {
    let mut worker = worker();
    for (header, path, secret) in [
        ("authorization", "/v1/models", KEY),
        ("x-api-key", "/v1/models", KEY),
        ("authorization", "/keyward/me", KEY),
        ("authorization", "/keyward/status", ADMIN),
    ] {
        let mut of = |shared: usize| {
            let guesses = guesses(secret, shared);
            let guesses: Vec<_> =
                guesses.iter().map(|guess| with_key(get(path), header, guess)).collect();
            least(&mut worker, &guesses, 401)
        };
        of(0);
        let costs = [0, 1, 2, 16, secret.len() - 1].map(of);
        assert!(costs.iter().all(|cost| *cost == costs[0]), "{header} {path}: {costs:?}");
    }
    // What it does tell is known to who guesses: the meter sees one more block to be hashed.
    let long = with_key(get("/v1/models"), "authorization", &"x".repeat(KEY.len() + 64));
    let wrong = with_key(get("/v1/models"), "authorization", &"x".repeat(KEY.len()));
    assert!(cost(&mut worker, &long, 401) > cost(&mut worker, &wrong, 401));
}

#[test]
fn of_a_signature_nothing_is_told_by_how_much_of_it_is_right() {
    let mut worker = worker();
    let issued = issued(&mut worker);
    let key = issued["key"].as_str().unwrap();
    let (signed, signature) = key.rsplit_once('.').unwrap();
    assert_eq!(signature.len(), 43, "of 32 bytes");
    let mut of = |at: usize| {
        // Characters of one kind are decoded alike. The last one holds four bits, and two that have to be zero.
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let right = signature.chars().nth(at).unwrap();
        let kind = |c: char| (c.is_uppercase(), c.is_lowercase(), c.is_numeric());
        let others = ALPHABET.chars().enumerate().filter(|(index, other)| {
            *other != right && kind(*other) == kind(right) && (at < 42 || index % 4 == 0)
        });
        let forged = others.map(|(_, other)| {
            let mut signature = signature.to_owned();
            signature.replace_range(at..=at, &other.to_string());
            with_key(get("/v1/models"), "authorization", &format!("{signed}.{signature}"))
        });
        least(&mut worker, &forged.collect::<Vec<_>>(), 401)
    };
    of(0);
    let costs = [0, 1, 21, 41, 42].map(of);
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
}

#[test]
fn of_an_id_nothing_is_told_by_how_much_of_it_is_right() {
    let mut worker = worker();
    let issued = issued(&mut worker);
    let id = issued["id"].as_str().unwrap();
    // The last 16 digits are its tag.
    let tag = id.len() - 16;
    let mut of = |at: usize| {
        let forged = |add: u32| {
            let mut id = id.to_owned().into_bytes();
            let digit = (char::from(id[at]).to_digit(16).unwrap() + add) % 16;
            id[at] = u8::try_from(char::from_digit(digit, 16).unwrap()).unwrap();
            let path = format!("/keyward/keys/{}", String::from_utf8(id).unwrap());
            let mut request = with_key(get(&path), "authorization", KEY);
            set(&mut request.headers, b":method", b"DELETE");
            request
        };
        least(&mut worker, &(1..16).map(forged).collect::<Vec<_>>(), 404)
    };
    of(tag);
    let costs = [tag, tag + 1, tag + 8, tag + 15].map(of);
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
}

#[test]
fn of_a_second_factor_nothing_is_told_by_how_much_of_it_is_right() {
    let mut worker = worker();
    let mut consumers = 0..WITH_CODES;
    let mut of = |shared: usize| {
        let guess = |(add, number): (u32, usize)| {
            let wrong = |(at, digit): (usize, char)| {
                let digit = digit.to_digit(10).unwrap();
                let other = if at < shared { digit } else { (digit + add) % 10 };
                char::from_digit(other, 10).unwrap()
            };
            let code: String = CODE.chars().enumerate().map(wrong).collect();
            let body = json!({"totp": code}).to_string();
            with_key(
                post("/keyward/keys", &body),
                "authorization",
                &format!("key-of-ops-{number:02}"),
            )
        };
        let guesses: Vec<_> = (1..=9).zip(consumers.by_ref()).map(guess).collect();
        least(&mut worker, &guesses, 401)
    };
    of(0);
    let costs = [0, 1, 3, 5].map(&mut of);
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
    let right = json!({"totp": CODE}).to_string();
    let right = with_key(post("/keyward/keys", &right), "authorization", "key-of-ops-59");
    cost(&mut worker, &right, 201);
}

#[test]
fn of_a_state_nothing_is_told_by_how_much_of_its_tag_is_right() {
    // Both stages in one metered instance.
    let mut worker = Worker::new(&document());
    worker.vm = Vm::metered(&process(1));
    let bytes = document().to_string().into_bytes();
    worker.stages.gateway = worker.vm.start("gateway", &bytes).unwrap().0;
    worker.stages.attempt = worker.vm.start("attempt", &bytes).unwrap().0;
    let request = chat("fast", false);
    let routed = round(&mut worker.vm, worker.stages, &request, true, &mut detour).unwrap();
    let Routed::Redirect(headers) = routed else { panic!("{routed:?}") };
    let state = value(&headers, "x-keyward-state").unwrap().to_vec();
    let tag = state.iter().position(|byte| *byte == b'.').unwrap() + 1;
    let mut of = |at: usize| {
        let forged = |other: &u8| {
            let mut forged = state.clone();
            forged[at] = *other;
            // Without a body: what is wrong with the request is seen after the state.
            let mut headers = headers.clone();
            set(&mut headers, b"x-keyward-state", &forged);
            set(&mut headers, b":path", b"/nowhere");
            Request { headers, ..get("/nowhere") }
        };
        let others: Vec<_> = b"0123456789abcdef".iter().filter(|o| **o != state[at]).collect();
        least(&mut worker, &others.into_iter().map(forged).collect::<Vec<_>>(), 404)
    };
    of(tag);
    let costs = [tag, tag + 1, tag + 32, tag + 63].map(of);
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
}
