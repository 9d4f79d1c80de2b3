//! Limits and prices in the configuration: what they become, and the exact message for what is wrong.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, not in the helpers beside them"
)]

use keyward::limit::{Algorithm, Limit, Limits, Per, Unit};
use keyward::runtime::{Runtime, load};
use serde_json::{Value, json};

fn document() -> Value {
    json!({
        "providers": [
            {"name": "openai", "keys": [{"id": "a", "secret": {"inline": "sk-1"}}], "pools": ["shared"]},
            {"name": "local", "kind": "vllm", "host": "llm.internal", "keys": [{"id": "b", "secret": {"inline": "sk-2"}}]},
        ],
        "key_pools": [{"name": "shared", "keys": [{"id": "c", "secret": {"inline": "sk-3"}}]}],
        "models": [
            {"name": "fast", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}, {"provider": "local", "model": "llama"}]},
            {"name": "gpt-*", "targets": [{"provider": "openai"}]},
        ],
        "roles": [{"name": "listed", "allow": {"models": ["gpt-*"]}}],
        "teams": [{"name": "research"}],
        "consumers": [{"name": "acme", "team": "research"}, {"name": "beta"}],
        "anonymous": {"consumer": "acme"},
    })
}

/// The document with `value` at `pointer`, whose last part is a new member.
fn with(pointer: &str, value: &Value) -> Value {
    let mut document = document();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[name] = value.clone();
    document
}

fn compiled(document: &Value) -> Result<Runtime, String> {
    load(document.to_string().as_bytes(), &|_| None).map_err(|error| error.to_string())
}

#[test]
fn limits_are_read_for_everybody_who_can_have_them() {
    let written = json!([
        {"requests": 60, "per": "minute", "algorithm": "sliding_window"},
        {"tokens": 200_000, "per": "day"},
        {"prompt_tokens": 7, "per": "second", "algorithm": "token_bucket"},
        {"completion_tokens": 8, "per": "week", "algorithm": "fixed_window"},
        {"cost": "25.5", "per": "month"},
        {"cost": 1, "per": "hour"},
        {"concurrency": 4},
    ]);
    let limit = |unit, max, per, algorithm| Limit { unit, max, per, algorithm };
    let list = vec![
        limit(Unit::Requests, 60, Per::Minute, Algorithm::SlidingWindow),
        limit(Unit::Tokens, 200_000, Per::Day, Algorithm::FixedWindow),
        limit(Unit::PromptTokens, 7, Per::Second, Algorithm::TokenBucket),
        limit(Unit::CompletionTokens, 8, Per::Week, Algorithm::FixedWindow),
        limit(Unit::Cost, 25_500_000_000, Per::Month, Algorithm::FixedWindow),
        limit(Unit::Cost, 1_000_000_000, Per::Hour, Algorithm::FixedWindow),
    ];
    let expected = Limits { list, concurrency: Some(4) };
    let free = json!([{"provider": "local", "model": "llama", "input": 0, "output": 0}]);
    for pointer in ["/consumers/0/limits", "/teams/0/limits", "/models/0/limits"] {
        let mut document = with(pointer, &written);
        document["prices"] = free.clone();
        let runtime = compiled(&document).unwrap();
        let limits = match pointer.split('/').nth(1).unwrap() {
            "consumers" => &runtime.consumers.list[0].limits,
            "teams" => &runtime.consumers.teams[0].limits,
            _ => &runtime.models.list[0].limits,
        };
        assert_eq!(*limits, expected);
    }
    let key = json!([{"cost": 3, "per": "day"}, {"requests": 5, "per": "second"}]);
    let runtime = compiled(&with("/providers/0/keys/0/limits", &key)).unwrap();
    assert_eq!(runtime.keys.iter().map(|key| key.limits.len()).sum::<usize>(), 2);
    assert!(runtime.keys_count_cost);
}

#[test]
fn a_bad_limit_is_refused_with_its_path() {
    let units = "requests, tokens, prompt_tokens, completion_tokens, cost, concurrency";
    let algorithms = "known: fixed_window, sliding_window, token_bucket";
    for (limits, message) in [
        (json!([{"per": "day"}]), format!("[0]: expected exactly one of {units}")),
        (
            json!([{"tokens": 1, "cost": 1, "per": "day"}]),
            format!("[0]: expected exactly one of {units}"),
        ),
        (json!([{"tokens": 1, "concurrency": 1}]), format!("[0]: expected exactly one of {units}")),
        (json!([{"cost": 1}]), "[0].per: missing".to_owned()),
        (
            json!([{"requests": 0, "per": "day"}]),
            "[0].requests: expected an integer of at least 1".to_owned(),
        ),
        (
            json!([{"prompt_tokens": 1.5, "per": "day"}]),
            "[0].prompt_tokens: expected an integer of at least 1".to_owned(),
        ),
        (
            json!([{"cost": "25 USD", "per": "day"}]),
            "[0].cost: expected US dollars, from 0.000001 to 1000000000".to_owned(),
        ),
        (
            json!([{"cost": 0, "per": "day"}]),
            "[0].cost: expected US dollars, from 0.000001 to 1000000000".to_owned(),
        ),
        (
            json!([{"concurrency": 0}]),
            "[0].concurrency: expected an integer from 1 to 1000000".to_owned(),
        ),
        (
            json!([{"concurrency": 1, "per": "day"}]),
            "[0].per: not for concurrency, which has no window".to_owned(),
        ),
        (
            json!([{"concurrency": 1, "algorithm": "token_bucket"}]),
            "[0].algorithm: not for concurrency, which has no window".to_owned(),
        ),
        (
            json!([{"requests": 1, "per": "day", "algorithm": "sliding_window"}]),
            "[0].algorithm: a day and longer are calendar windows: fixed_window".to_owned(),
        ),
        (
            json!([{"requests": 1, "per": "hour", "algorithm": "gcra"}]),
            format!("[0].algorithm: \"gcra\" is unknown; {algorithms}"),
        ),
        (
            json!([{"cost": 9_000, "per": "hour", "algorithm": "token_bucket"}]),
            "[0].algorithm: a token_bucket holds at most 2562 US dollars per hour".to_owned(),
        ),
        (
            json!([{"tokens": 9_000_000_000_000_u64, "per": "hour", "algorithm": "token_bucket"}]),
            "[0].algorithm: a token_bucket holds at most 2562047788015 per hour".to_owned(),
        ),
        (
            json!([{"requests": 1, "per": "day"}, {"concurrency": 2}, {"requests": 2, "per": "day"}]),
            "[2]: counts the same as [0]".to_owned(),
        ),
        (json!([{"concurrency": 2}, {"concurrency": 3}]), "[1]: counts the same as [0]".to_owned()),
        (json!([{"requests": 1, "per": "day", "pre": 1}]), "[0].pre: unknown field".to_owned()),
        (json!(vec![json!({"concurrency": 2}); 9]), ": expected at most 8, found 9".to_owned()),
        (json!({"requests": 1, "per": "day"}), ": expected an array, found an object".to_owned()),
    ] {
        let error = compiled(&with("/consumers/0/limits", &limits)).unwrap_err();
        let expected = format!("consumers[0].limits{message}");
        assert!(
            error == expected || error.starts_with(&format!("{expected};")),
            "{error}\n{expected}"
        );
    }
    let places = json!([{"concurrency": 2}]);
    let error = compiled(&with("/providers/0/keys/0/limits", &places)).unwrap_err();
    assert_eq!(error, "providers[0].keys[0].limits: a provider key has no concurrency limit");
}

#[test]
fn a_limit_on_cost_needs_prices_of_all_that_may_be_used() {
    let cost = json!([{"cost": 5, "per": "day"}]);
    let message = "a limit on cost, but no price is known for fast (local: llama); see prices";
    for (document, error) in [
        (with("/consumers/0/limits", &cost), Some("consumers[0].limits: ")),
        (with("/teams/0/limits", &cost), Some("teams[0].limits: ")),
        (with("/models/0/limits", &cost), Some("models[0].limits: ")),
        (with("/models/1/limits", &cost), None),
        (with("/providers/0/keys/0/limits", &cost), None),
        (with("/key_pools/0/keys/0/limits", &cost), None),
        (with("/providers/1/keys/0/limits", &cost), Some("limits of the key local/b: ")),
    ] {
        let said = compiled(&document).map(|_| ());
        assert_eq!(said, error.map_or(Ok(()), |path| Err(format!("{path}{message}"))));
    }
    // Rules that never let the consumer use the model, or that provider.
    for (rules, allowed) in [
        (json!({"allow": {"models": ["gpt-*"]}}), true),
        (json!({"allow": {"models": ["fa*"]}}), false),
        (json!({"allow": {"providers": ["openai"]}}), true),
        (json!({"deny": {"models": ["fast"]}}), true),
        (json!({"deny": {"providers": ["local"]}}), true),
        (json!({"deny": {"models": ["fast"], "hours": ["09:00-17:00"]}}), false),
        (json!({"roles": ["listed"]}), true),
        (json!({"allow": [{"models": ["gpt-*"]}, {"route": "internal"}]}), false),
    ] {
        let mut document = with("/consumers/0/limits", &cost);
        for (name, value) in rules.as_object().unwrap() {
            document["consumers"][0][name] = value.clone();
        }
        assert_eq!(compiled(&document).is_ok(), allowed, "{rules}");
    }
    let mut document = with("/consumers/0/limits", &cost);
    document["teams"][0]["allow"] = json!({"models": ["gpt-*"]});
    assert!(compiled(&document).is_ok(), "the team never lets it");
    // Given a price, be it nothing, or one for all that have none.
    for model in ["llama", "*"] {
        let price = json!([{"provider": "local", "model": model, "input": 0, "output": 0}]);
        let mut document = with("/consumers/0/limits", &cost);
        document["prices"] = price;
        assert!(compiled(&document).is_ok());
    }
    // The list is bounded.
    let models: Vec<_> = (0..10)
        .map(|n| json!({"name": format!("m{n}"), "targets": [{"provider": "local", "model": "x"}]}))
        .collect();
    let mut document = with("/consumers/1/limits", &cost);
    document["models"] = json!(models);
    let error = compiled(&document).unwrap_err();
    assert!(error.ends_with("m7 (local: x) and 2 more; see prices"), "{error}");
}

#[test]
fn prices_are_read_and_refused_with_their_path() {
    let full = json!({
        "provider": "openai", "model": "gpt-4o-mini", "input": 1.5, "output": 6,
        "cached_input": "0.75", "cache_write": 2, "reasoning": 7,
    });
    let short = json!({"provider": "local", "model": "*", "input": 0.000001, "output": 4000});
    let runtime = compiled(&with("/prices", &json!([full, short]))).unwrap();
    let price = runtime.providers[0].price("gpt-4o-mini").unwrap();
    assert_eq!(
        (price.input, price.cached_input, price.cache_write),
        (1_500_000, 750_000, 2_000_000)
    );
    assert_eq!((price.output, price.reasoning), (6_000_000, 7_000_000));
    let price = runtime.providers[1].price("anything").unwrap();
    assert_eq!((price.input, price.cached_input, price.cache_write), (1, 1, 1));
    assert_eq!((price.output, price.reasoning), (4_000_000_000, 4_000_000_000));
    assert_eq!(runtime.providers[0].price("gpt-4o").unwrap().input, 2_500_000);
    assert_eq!(runtime.providers[0].price("gpt-x"), None);

    let rate = "expected US dollars per million tokens, from 0 to 4000";
    for (row, message) in [
        (json!({"provider": "openai", "model": "m", "input": 1}), "[0].output: missing".to_owned()),
        (
            json!({"provider": "openai", "model": "m", "input": -1, "output": 1}),
            format!("[0].input: {rate}"),
        ),
        (
            json!({"provider": "openai", "model": "m", "input": 1, "output": "1e3"}),
            format!("[0].output: {rate}"),
        ),
        (
            json!({"provider": "openai", "model": "m", "input": 1, "output": 1, "reasoning": 4001}),
            format!("[0].reasoning: {rate}"),
        ),
        (
            json!({"provider": "opnai", "model": "m", "input": 1, "output": 1}),
            "[0].provider: \"opnai\" is not a provider; known: openai, local".to_owned(),
        ),
        (
            json!({"provider": "openai", "model": "a*b", "input": 1, "output": 1}),
            "[0].model: `*` may only be the last character".to_owned(),
        ),
        (
            json!({"provider": "openai", "model": "m", "input": 1, "output": 1, "batch": 1}),
            "[0].batch: unknown field; known: provider, model, input, output, cached_input, \
             cache_write, reasoning"
                .to_owned(),
        ),
    ] {
        let error = compiled(&with("/prices", &json!([row]))).unwrap_err();
        assert_eq!(error, format!("prices{message}"));
    }
    let twice = json!({"provider": "openai", "model": "m", "input": 1, "output": 1});
    let error = compiled(&with("/prices", &json!([twice, twice]))).unwrap_err();
    assert_eq!(error, "prices[1].model: \"m\" of openai has a price already");
}
