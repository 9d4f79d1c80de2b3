use super::*;
use crate::effect::Effect;
use crate::gateway::Gateway;
use crate::headers::Headers;
use crate::ledger::memory::Memory;
use crate::reply::Reply;
use crate::runtime::{Runtime, load};
use serde_json::{Value, json};

const T: UnixTime = UnixTime(1_800_000_000_000);
const RIGHT: &str = "Bearer right";
const WRONG: &str = "Bearer wrong";
const BODY: &[u8] = br#"{"model":"m","messages":[]}"#;

fn with(client_address: &Value) -> Runtime {
    let document = json!({
        "providers": [{"name": "openai", "keys": [{"id": "a", "secret": {"inline": "s"}}]}],
        "models": [
            {"name": "m", "targets": [{"provider": "openai"}]},
            {"name": "scarce", "targets": [{"provider": "openai"}],
             "limits": [{"requests": 1, "per": "day"}]},
        ],
        "consumers": [
            {"name": "c", "keys": [{"inline": "right"}]},
            {"name": "poor", "keys": [{"inline": "poor"}], "limits": [{"requests": 1, "per": "day"}]},
        ],
        "client_address": client_address,
    });
    load(document.to_string().as_bytes(), &|_| None).unwrap()
}

fn blocking(after: u32) -> Runtime {
    with(&json!({"block": {"after": after, "within": "1m", "for": "15m"}}))
}

/// What became of one request: the refusal, the line of the audit trail.
#[derive(Debug)]
struct Outcome {
    reply: Option<Reply>,
    audit: Vec<Value>,
}

impl Outcome {
    fn code(&self) -> &'static str {
        self.reply.as_ref().map_or("sent", |reply| reply.code)
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        let headers = &self.reply.as_ref()?.headers;
        headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    }
}

fn ask(
    runtime: &Runtime,
    memory: &Memory,
    now: UnixTime,
    address: &str,
    authorization: &'static str,
    body: &[u8],
) -> Outcome {
    let mut cx = Cx::new(runtime, memory, None, now, 1);
    let path = [(":method", "POST"), (":path", "/v1/chat/completions")];
    let headers: Headers = path.into_iter().chain([("authorization", authorization)]).collect();
    let caller = Caller { address: Some(address.to_owned()), ..Caller::default() };
    let mut gateway = Gateway::default();
    let _ = gateway.on_request_headers(&mut cx, &headers, &caller, false);
    if gateway.wants_request_body(true) {
        let _ = gateway.on_request_body(&mut cx, body, true);
    }
    let mut outcome = Outcome { reply: None, audit: Vec::new() };
    for effect in cx.effects {
        match effect {
            Effect::Reply(reply) => outcome.reply = Some(reply),
            Effect::Log(log::Level::Info, line) if line.starts_with('{') => {
                outcome.audit.push(serde_json::from_str(&line).unwrap());
            }
            _ => {}
        }
    }
    outcome
}

fn seconds(seconds: u64) -> UnixTime {
    T.after(Duration::from_secs(seconds))
}

#[test]
fn who_keeps_failing_to_authenticate_is_blocked_for_a_while() {
    let (runtime, memory) = (blocking(3), Memory::default());
    let wrong = |at, address| ask(&runtime, &memory, at, address, WRONG, BODY);
    let right = |at, address| ask(&runtime, &memory, at, address, RIGHT, BODY);
    assert_eq!(wrong(T, "192.0.2.1:1").code(), "invalid_api_key");
    assert_eq!(wrong(T, "192.0.2.1:2").code(), "invalid_api_key");
    assert_eq!(right(T, "192.0.2.1:3").code(), "sent");
    let third = wrong(seconds(59), "192.0.2.1:4");
    assert_eq!(third.code(), "invalid_api_key");
    let until = seconds(59 + 15 * 60);
    assert_eq!(
        third.audit,
        [json!({
            "audit": "block", "when": seconds(59).rfc3339(), "who": "keyward", "what": "192.0.2.1",
            "from": "192.0.2.1", "reason": "authentication", "strikes": 3, "until": until.rfc3339(),
        })]
    );
    // The right key is of no use any more, and nobody else is concerned.
    let refused = right(seconds(60), "192.0.2.1:5");
    assert_eq!((refused.code(), refused.reply.as_ref().unwrap().status), ("address_blocked", 429));
    assert_eq!(refused.header("retry-after"), Some("899"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.audit, [] as [Value; 0]);
    assert_eq!(right(seconds(60), "192.0.2.2:5").code(), "sent");
    // What is refused meanwhile does not count: the block ends when it was said to, and then it starts anew.
    for _ in 0..10 {
        assert_eq!(wrong(seconds(120), "192.0.2.1:6").code(), "address_blocked");
    }
    assert_eq!(right(until, "192.0.2.1:7").code(), "sent");
    assert_eq!(wrong(until, "192.0.2.1:8").code(), "invalid_api_key");
    assert_eq!(right(until, "192.0.2.1:9").code(), "sent");
}

#[test]
fn a_block_lasts_no_longer_than_is_configured_now() {
    let runtime = blocking(1);
    let shorter = with(&json!({"block": {"after": 1, "within": "1m", "for": "10m"}}));
    let year = 365 * 86_400;
    for (blocked_at, runtime_now, now, expected) in [
        (0, &runtime, 899, "address_blocked"),
        (0, &shorter, 1, "sent"),
        (0, &shorter, 300, "address_blocked"),
        // The clock was ahead.
        (year, &runtime, 0, "sent"),
    ] {
        let memory = Memory::default();
        let at = |runtime, now, key| {
            ask(runtime, &memory, seconds(now), "192.0.2.1:80", key, BODY).code()
        };
        assert_eq!(at(&runtime, blocked_at, WRONG), "invalid_api_key");
        assert_eq!(at(runtime_now, now, RIGHT), expected, "{blocked_at} {now}");
    }
}

#[test]
fn strikes_count_within_their_time_alone() {
    let (runtime, memory) = (blocking(2), Memory::default());
    for minute in 0..5 {
        let outcome = ask(&runtime, &memory, seconds(minute * 60), "192.0.2.1:1", WRONG, BODY);
        assert_eq!((outcome.code(), outcome.audit.len()), ("invalid_api_key", 0));
    }
    let outcome = ask(&runtime, &memory, seconds(4 * 60 + 59), "192.0.2.1:1", WRONG, BODY);
    assert_eq!(outcome.audit.len(), 1);
}

#[test]
fn an_address_has_limits_of_its_own_before_anybody_asks_for_a_key() {
    let limits = json!([{"requests": 2, "per": "minute"}, {"requests": 3, "per": "hour"}]);
    let block = json!({"after": 2, "within": "2m", "for": "1h"});
    let runtime = with(&json!({"limits": limits, "block": block, "exempt": ["10.0.0.0/8"]}));
    let memory = Memory::default();
    let start = T.window_start(crate::limit::Per::Hour);
    let at = |seconds| start.after(Duration::from_secs(seconds));
    let code = |at, address, key| ask(&runtime, &memory, at, address, key, BODY).code();
    assert_eq!(code(start, "192.0.2.1:1", RIGHT), "sent");
    assert_eq!(code(start, "192.0.2.1:1", WRONG), "invalid_api_key");
    let refused = ask(&runtime, &memory, at(20), "192.0.2.1:1", WRONG, BODY);
    assert_eq!(
        (refused.code(), refused.header("retry-after")),
        ("rate_limit_exceeded", Some("40"))
    );
    // One strike by the key, one by the limit.
    assert_eq!(refused.audit.len(), 1);
    assert_eq!(refused.audit[0]["reason"], "limit");
    assert_eq!(code(at(60), "192.0.2.1:1", RIGHT), "address_blocked");
    for _ in 0..9 {
        assert_eq!(code(at(60), "10.1.2.3:1", RIGHT), "sent", "exempt");
    }
    assert_eq!(code(at(60), "@/run/socket", RIGHT), "sent", "no address");
}

#[test]
fn tokens_of_an_address_are_reserved_with_those_of_its_consumer() {
    let runtime = with(&json!({"limits": [{"tokens": 600, "per": "hour"}]}));
    let memory = Memory::default();
    let code = |address| ask(&runtime, &memory, T, address, RIGHT, BODY).code();
    // Each is taken for 256 tokens and its prompt.
    assert_eq!([code("192.0.2.1:1"), code("192.0.2.1:1")], ["sent", "sent"]);
    assert_eq!(code("192.0.2.1:1"), "rate_limit_exceeded");
    assert_eq!(code("192.0.2.2:1"), "sent");
}

#[test]
fn limits_of_its_consumer_count_against_an_address_and_those_of_a_model_do_not() {
    let (runtime, memory) = (blocking(2), Memory::default());
    let code = |address, key, body| ask(&runtime, &memory, T, address, key, body).code();
    let scarce: &[u8] = br#"{"model":"scarce","messages":[]}"#;
    let poor = |address| code(address, "Bearer poor", BODY);
    assert_eq!(poor("192.0.2.1:1"), "sent");
    assert_eq!([poor("192.0.2.1:1"), poor("192.0.2.1:1")], ["quota_exceeded", "quota_exceeded"]);
    assert_eq!(poor("192.0.2.1:1"), "address_blocked");
    assert_eq!(code("192.0.2.2:1", RIGHT, scarce), "sent");
    for _ in 0..5 {
        assert_eq!(code("192.0.2.2:1", RIGHT, scarce), "quota_exceeded");
    }
}

#[test]
fn an_ipv6_customer_is_one_and_a_mapped_address_is_ipv4() {
    for (written, shown) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
    ] {
        assert_eq!(Source::of(written.parse().unwrap()).to_string(), shown);
    }
    let (runtime, memory) = (blocking(2), Memory::default());
    for host in 1..=2 {
        let address = format!("[2001:db8::{host}]:1");
        ask(&runtime, &memory, T, &address, WRONG, BODY);
    }
    assert_eq!(ask(&runtime, &memory, T, "[2001:db8::3]:1", RIGHT, BODY).code(), "address_blocked");
    assert_eq!(ask(&runtime, &memory, T, "[2001:db8:0:1::3]:1", RIGHT, BODY).code(), "sent");
}

#[test]
fn nobody_is_told_from_others_without_the_setting() {
    let (runtime, memory) = (with(&Value::Null), Memory::default());
    assert!(!runtime.consumers.asks.address);
    for _ in 0..50 {
        ask(&runtime, &memory, T, "192.0.2.1:1", WRONG, BODY);
    }
    assert_eq!(memory.writes.get(), 0);
}

#[test]
fn of_two_workers_one_blocks() {
    let (runtime, memory) = (blocking(1), Memory::default());
    // Another worker is faster with the strike, and then with the block.
    memory.mismatches.set(2);
    let outcome = ask(&runtime, &memory, T, "192.0.2.1:1", WRONG, BODY);
    assert_eq!(outcome.audit.len(), 1);
    assert_eq!(ask(&runtime, &memory, T, "192.0.2.1:1", RIGHT, BODY).code(), "address_blocked");
}

/// 100,000 addresses fail, twice each, and one of them without end: all memory stays within its bound, nobody
/// is blocked who did not do it, and who did not stop is.
#[test]
fn any_number_of_addresses_fits_the_bound() {
    const COUNT: u32 = 100_000;
    let runtime = with(&json!({
        "limits": [{"requests": 1000, "per": "minute"}],
        "block": {"after": 5, "within": "10m", "for": "1h"},
    }));
    let memory = Memory::default();
    let address = |n: u32| Source::of(IpAddr::V4((0x0a00_0000 + n).into()));
    let stubborn = Source::of("192.0.2.1".parse().unwrap());
    let strike = |source, n: u32| {
        let mut cx = Cx::new(&runtime, &memory, None, T.after(Duration::from_millis(n.into())), 1);
        strike(&mut cx, source, Offence::Authentication);
    };
    let arrives = |source: Source, n: u32| {
        let caller = Caller { address: Some(source.0.to_string()), ..Caller::default() };
        let mut cx = Cx::new(&runtime, &memory, None, T.after(Duration::from_millis(n.into())), 1);
        arrive(&mut cx, &caller).is_ok()
    };
    for n in 0..COUNT {
        assert!(arrives(address(n), n), "{n}");
        for _ in 0..2 {
            strike(address(n), n);
        }
        if n % 10_000 == 0 && n < 50_000 {
            strike(stubborn, n);
        }
    }
    assert!(!arrives(stubborn, COUNT));
    for n in (0..COUNT).step_by(97) {
        assert!(arrives(address(n), COUNT), "{n} did it twice only");
    }
    let (slots, bytes) = memory.size();
    assert!(slots <= 8_192 + 2_048, "{slots}");
    assert!(bytes + slots * 160 <= 8 << 20, "{bytes} in {slots}");
}

#[test]
fn any_number_of_blocks_fits_and_the_last_ones_hold() {
    let (runtime, memory) = (blocking(1), Memory::default());
    let address = |n: u32| Source::of(IpAddr::V4((0x0a00_0000 + n).into()));
    for n in 0..40_000 {
        let mut cx = Cx::new(&runtime, &memory, None, T.after(Duration::from_millis(n.into())), 1);
        strike(&mut cx, address(n), Offence::Limit);
    }
    let cx = Cx::new(&runtime, &memory, None, seconds(40), 1);
    let all = blocked(&cx);
    assert!((16_300..=2_048 * 8).contains(&all.len()), "{}", all.len());
    let last: Vec<Source> = all.iter().rev().take(5_000).map(|b| b.source).collect();
    let kept = (35_000..40_000).filter(|n| last.contains(&address(*n))).count();
    assert!(kept > 4_900, "{kept}");
}
