//! `client_address` in the configuration: what it comes to, and what is wrong with it.

use core::time::Duration;

use keyward::address::Block;
use keyward::runtime::{Runtime, load};
use serde_json::{Value, json};

fn loaded(client_address: &Value) -> Result<Runtime, String> {
    let document = json!({
        "providers": [{"name": "openai", "keys": [{"id": "a", "secret": {"inline": "s"}}]}],
        "models": [{"name": "m", "targets": [{"provider": "openai"}]}],
        "client_address": client_address,
    });
    load(document.to_string().as_bytes(), &|_| None).map_err(|error| error.to_string())
}

#[test]
fn everything_that_can_be_said() {
    let runtime = loaded(&json!({
        "limits": [{"requests": 20, "per": "second"}, {"tokens": 9, "per": "day"}],
        "block": {"after": 20, "within": "1m", "for": "15m"},
        "exempt": ["10.0.0.0/8", "2001:db8::/32"],
    }))
    .unwrap();
    let guard = runtime.client_address.unwrap();
    assert_eq!((guard.requests.list.len(), guard.amounts.list.len()), (1, 1));
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let block = Block { after: 20, within: minutes(1), lasts: minutes(15) };
    assert_eq!((guard.block, guard.exempt.len()), (Some(block), 2));
    assert!(runtime.consumers.asks.address);
    assert!(loaded(&Value::Null).unwrap().client_address.is_none());
}

#[test]
fn a_bad_value_is_refused_with_its_path() {
    let block = |member: &str, value: Value| {
        let mut block = json!({"after": 20, "within": "1m", "for": "15m"});
        block[member] = value;
        json!({"block": block})
    };
    for (value, message) in [
        (json!({}), "client_address: has neither limits nor block"),
        (json!({"limits": []}), "client_address: has neither limits nor block"),
        (json!({"exempt": ["10.0.0.0/8"]}), "client_address: has neither limits nor block"),
        (
            json!({"limits": [{"concurrency": 3}]}),
            "client_address.limits: concurrency is not for addresses",
        ),
        (
            json!({"limits": [{"cost": 1.5, "per": "day"}]}),
            "client_address.limits: a limit on cost, but no price is known for m (openai: m); see prices",
        ),
        (json!({"blok": 1}), "client_address.blok: unknown field; known: limits, block, exempt"),
        (
            json!({"block": {"after": 1}}),
            "client_address.block.within: missing\nclient_address.block.for: missing",
        ),
        (
            block("after", json!(0)),
            "client_address.block.after: expected an integer from 1 to 1000000",
        ),
        (
            block("for", json!("0s")),
            "client_address.block.for: expected a duration longer than zero",
        ),
        (
            block("within", json!("1 minute")),
            "client_address.block.within: \"1 minute\" is not a duration; write it like 500ms, 30s, 5m, 1h, 7d",
        ),
        (
            json!({"limits": [{"requests": 1, "per": "day"}], "exempt": ["10.0.0.1/8"]}),
            "client_address.exempt[0]: \"10.0.0.1/8\" is not a block of addresses; write it like 10.0.0.0/8 or 2001:db8::/32, with no bits behind the prefix",
        ),
    ] {
        assert_eq!(loaded(&value).unwrap_err(), message, "{value}");
    }
}
