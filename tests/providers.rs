//! The provider table in the configuration: which endpoints, which models, and with which words a mistake is refused.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy allows these in test functions, not in the helpers beside them"
)]

use keyward::consumer::rule::OPERATIONS;
use keyward::endpoint::{Endpoint, Endpoints, Operation};
use keyward::formats::{Call, Format, Way};
use keyward::provider::kinds;
use keyward::runtime::{Runtime, load};
use serde_json::{Value, json};

fn loaded(document: &Value) -> Result<Runtime, String> {
    load(document.to_string().as_bytes(), &|_| None).map_err(|error| error.to_string())
}

/// A provider with a key and some more fields.
fn provider(name: &str, more: &Value) -> Value {
    let mut provider = json!({"name": name, "keys": [{"id": "a", "secret": {"inline": name}}]});
    let members = provider.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    provider
}

#[test]
fn endpoints_are_the_row_s_or_the_operator_s() {
    let with = |kind: &str, endpoints: Value| {
        let mut more = json!({"kind": kind, "host": "p.test"});
        if !endpoints.is_null() {
            more["endpoints"] = endpoints;
        }
        loaded(&json!({
            "providers": [provider("p", &more)],
            "models": [{"name": "m", "targets": [{"provider": "p"}]}],
        }))
        .map(|runtime| runtime.providers[0].endpoints)
    };
    let generic = with("openai-compatible", Value::Null).unwrap();
    assert!(generic.has(Endpoint::Speech) && !generic.has(Endpoint::Responses));
    assert_eq!(
        with("openai-compatible", json!(["chat", "responses"])),
        Ok(Endpoints::of(&[Endpoint::ChatCompletions, Endpoint::Responses]))
    );
    for (kind, endpoints, message) in [
        (
            "openai",
            json!(["chat", "chats"]),
            "providers[0].endpoints[1]: \"chats\" is not an endpoint; known: chat, ",
        ),
        (
            "openai",
            json!(["models"]),
            "providers[0].endpoints[0]: models are listed from the configuration, not by providers",
        ),
        (
            "anthropic",
            json!(["chat"]),
            "providers[0].endpoints: the kind anthropic has its own format and endpoints",
        ),
    ] {
        let refused = with(kind, endpoints).unwrap_err();
        assert!(refused.contains(message), "{refused}");
    }
}

#[test]
fn a_version_of_azure_chooses_its_paths() {
    let with = |more: Value| {
        loaded(&json!({
            "providers": [provider("azure", &more)],
            "models": [{"name": "m", "targets": [{"provider": "azure"}]}],
        }))
    };
    for (version, base_path, own, responses, usage, expected) in [
        (None, "/openai/v1", None, true, true, "/chat/completions"),
        (Some("preview"), "/openai/v1", None, true, true, "/chat/completions?api-version=preview"),
        (
            Some("2024-06-01"),
            "/openai",
            None,
            false,
            false,
            "/deployments/m/chat/completions?api-version=2024-06-01",
        ),
        (
            Some("2025-04-01-preview"),
            "/team/openai",
            Some("/team/openai/"),
            true,
            true,
            "/deployments/m/chat/completions?api-version=2025-04-01-preview",
        ),
    ] {
        let mut more = json!({"host": "r.openai.azure.com"});
        if let Some(version) = version {
            more["api_version"] = json!(version);
        }
        if let Some(own) = own {
            more["base_path"] = json!(own);
        }
        let runtime = with(more).unwrap();
        let azure = &runtime.providers[0];
        assert_eq!((azure.base_path.as_str(), azure.include_usage), (base_path, usage));
        assert_eq!(azure.endpoints.has(Endpoint::Responses), responses);
        let endpoint = Endpoint::ChatCompletions;
        let call = Call { endpoint, way: Way::Native, model: "m", stream: false };
        assert_eq!(azure.path(&call).as_deref(), Some(expected));
    }
    for (more, message) in [
        (
            json!({"host": "r.test", "api_version": "2024"}),
            r#"providers[0].api_version: "2024" is not a version; write it like 2024-10-21, 2025-04-01-preview, preview, latest or v1"#,
        ),
        (
            json!({"kind": "openai", "api_version": "2024-10-21"}),
            "providers[0].api_version: the kind openai has no versions; azure has",
        ),
        (json!({}), "providers[0].host: missing; the kind azure has none of its own"),
    ] {
        assert_eq!(with(more).unwrap_err(), message);
    }
}

/// The targets of a model as `provider` or `provider:model`.
fn targets(runtime: &Runtime, name: &str) -> Option<Vec<String>> {
    let model = runtime.models.find(name)?;
    let shown = model.targets.iter().map(|target| {
        let provider = &runtime.providers[target.provider].name;
        target.model.as_ref().map_or(provider.clone(), |model| format!("{provider}:{model}"))
    });
    Some(shown.collect())
}

#[test]
fn auto_is_every_known_model_of_every_provider() {
    let none = json!({});
    let providers = json!([
        provider("groq", &none),
        provider("openai", &none),
        provider("second", &json!({"kind": "openai"})),
        provider("cerebras", &none),
        provider("ollama", &json!({"host": "o.test", "models": ["qwen3:8b", "local/*"]})),
    ]);
    let runtime = loaded(&json!({"providers": providers, "models": "auto"})).unwrap();
    for (name, expected) in [
        ("gpt-4o", Some(&["openai", "second"][..])),
        ("gpt-4o-2024-08-06", Some(&["openai", "second"])),
        ("gpt-6.7-nova", Some(&["openai", "second"])),
        ("gpt-oss-120b", Some(&["groq:openai/gpt-oss-120b", "cerebras"])),
        ("openai/gpt-oss-120b", Some(&["groq"])),
        ("gpt-oss-20b", Some(&["groq:openai/gpt-oss-20b"])),
        ("qwen3:8b", Some(&["ollama"])),
        ("local/anything", Some(&["ollama"])),
        ("claude-opus-5-5", None),
        ("gpt-oss-9b", None),
        ("mystery", None),
    ] {
        let expected = expected.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(targets(&runtime, name), expected, "{name}");
    }
    assert!(runtime.warnings.is_empty(), "{:?}", runtime.warnings);
}

#[test]
fn what_is_written_goes_before_auto() {
    let none = json!({});
    let document = |models: Value| {
        let azure = json!({"host": "r.openai.azure.com"});
        let pair = json!([provider("openai", &none), provider("azure", &azure)]);
        json!({"providers": pair, "models": models})
    };
    let written = json!([
        "auto",
        {"name": "gpt-4o", "targets": [{"provider": "azure", "model": "prod"}]},
        {"name": "gpt-5*", "targets": [{"provider": "azure"}]},
        {"name": "fast", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}]},
    ]);
    let runtime = loaded(&document(written)).unwrap();
    for (name, expected) in [
        ("gpt-4o", "azure:prod"),
        ("gpt-4o-mini", "openai"),
        ("gpt-5.5", "azure"),
        ("gpt-5-2025-08-07", "azure"),
        ("fast", "openai:gpt-4o-mini"),
        ("gpt-6-sol", "openai"),
    ] {
        assert_eq!(targets(&runtime, name), Some(vec![expected.to_owned()]), "{name}");
    }
    let unknown = "models: auto knows no model of the provider azure: list its models there";
    assert_eq!(runtime.warnings, [unknown]);

    let unused = loaded(&document(json!("auto"))).unwrap().warnings;
    assert_eq!(unused, [unknown, "no model uses the provider azure"]);
    for (models, message) in [
        (json!(["auto", "auto"]), "models[1]: auto is also models[0]"),
        (json!("all"), "models: expected a list of models, or the word auto"),
        (json!(["all"]), "models[0]: expected a model, or the word auto"),
        (
            json!([{"auto": true}]),
            "models[0].auto: unknown field; known: name, targets, limits\nmodels[0].name: missing\nmodels[0].targets: missing",
        ),
    ] {
        assert_eq!(loaded(&document(models)).unwrap_err(), message);
    }
    let mut broken = document(json!("auto"));
    broken["providers"][0]["models"] = json!(["a*b"]);
    let message = "providers[0].models[0]: `*` may only be the last character";
    assert_eq!(loaded(&broken).unwrap_err(), message);
}

/// A limit on cost needs prices of all models that it is about, wherever `auto` stands.
#[test]
fn auto_beside_limits_on_cost() {
    let limits = json!([{"cost": 5, "per": "day"}]);
    let fast = json!({
        "name": "fast", "targets": [{"provider": "openai", "model": "mine"}], "limits": limits,
    });
    let document = |models: Value, more: Value| {
        let mut document = json!({
            "providers": [provider("openai", &json!({}))], "models": models,
            "consumers": [{"name": "c", "limits": []}],
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    let unpriced = loaded(&document(json!(["auto", fast]), json!({}))).unwrap_err();
    assert_eq!(
        unpriced,
        "models[1].limits: a limit on cost, but no price is known for fast (openai: mine); see prices"
    );
    let price =
        json!({"prices": [{"provider": "openai", "model": "mine", "input": 1, "output": 2}]});
    assert!(loaded(&document(json!(["auto", fast]), price)).is_ok());
    let consumer = json!({"consumers": [{"name": "c", "limits": limits}]});
    let unpriced = loaded(&document(json!("auto"), consumer.clone())).unwrap_err();
    let start = "consumers[0].limits: a limit on cost, but no price is known for ";
    assert!(unpriced.starts_with(start), "{unpriced}");
    let mut rest = consumer;
    rest["prices"] = json!([{"provider": "openai", "model": "*", "input": 10, "output": 50}]);
    assert!(loaded(&document(json!("auto"), rest)).is_ok());
}

#[test]
fn the_readme_has_the_table() {
    let (readme, mut missing) = (include_str!("../README.md"), Vec::new());
    for kind in kinds().filter(|kind| kind.format == Format::OpenAi) {
        let endpoints: Vec<_> = OPERATIONS
            .iter()
            .filter(
                |(_, of)| matches!(of, Operation::Api(endpoint) if kind.endpoints.has(*endpoint)),
            )
            .map(|(name, _)| *name)
            .collect();
        let host = if kind.host.is_empty() { "`host`" } else { kind.host };
        let (name, path) = (kind.name, kind.base_path);
        let line = format!("| `{name}` | {host}{path} | {} |\n", endpoints.join(", "));
        missing.extend((!readme.contains(&line)).then_some(line));
    }
    assert!(missing.is_empty(), "README lacks:\n{}", missing.concat());
}
