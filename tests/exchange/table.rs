//! Every row of OpenAI-compatible services, with its fixtures: addressed as the vendor documents, answers pass byte for
//! byte, errors are the client's, and an exhausted key moves the request on.

use std::fs;
use std::path::PathBuf;

use keyward::formats::Format;
use keyward::provider::{Credential, Kind, kinds};
use serde_json::{Value, json};

use crate::world::{Answer, Request, World, document, key, post, with};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compatible")
}

fn rows() -> impl Iterator<Item = (&'static Kind, Value)> {
    kinds().filter(|kind| kind.format == Format::OpenAi).map(|kind| {
        let path = folder().join(format!("{}.json", kind.name));
        let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("no fixtures: {path:?}"));
        (kind, serde_json::from_str(&text).unwrap())
    })
}

/// One provider of the kind, with two keys.
fn world(kind: &Kind) -> World {
    let host = if kind.host.is_empty() { "self.test" } else { kind.host };
    let keys = json!([key("k1"), with(key("k2"), json!({"tier": 1}))]);
    let provider = json!({"name": "a", "kind": kind.name, "host": host, "keys": keys});
    World::new(&with(document(json!([provider])), json!({"failover": {"max_attempts": 4}})))
}

fn ask(row: &Value) -> Request {
    match row["endpoint"].as_str() {
        Some("responses") => post("/v1/responses", &json!({"model": "fast", "input": "hello"})),
        Some("embeddings") => post("/v1/embeddings", &json!({"model": "fast", "input": "hello"})),
        _ => post("/v1/chat/completions", &json!({"model": "fast", "messages": []})),
    }
}

fn said(row: &Value, part: &str) -> Answer {
    let status = row[part]["status"].as_u64().unwrap();
    let mut answer = Answer::json(u16::try_from(status).unwrap(), &row[part]["body"].to_string());
    for (name, value) in row[part]["headers"].as_object().into_iter().flatten() {
        answer = answer.header(name, value.as_str().unwrap());
    }
    answer
}

#[test]
fn every_row_has_its_fixtures_and_every_fixture_its_row() {
    let names: Vec<_> = rows().map(|(kind, _)| format!("{}.json", kind.name)).collect();
    assert_eq!(names.len(), 25);
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || names.contains(&name), "{name} is of no row");
    }
}

#[test]
fn an_exhausted_key_moves_on_and_the_answer_passes_as_it_is() {
    for (kind, row) in rows() {
        let world = world(kind);
        let answer = row["answer"].to_string();
        world.on("k1", [said(&row, "exhausted")]);
        world.on("k2", [Answer::json(200, &answer)]);
        let got = world.ask(&ask(&row));
        let about_provider = row["rests"] == json!("provider");
        let name = kind.name;
        if about_provider {
            // No key would better it, and there is nobody else.
            assert_eq!(
                (got.status, got.outcome().as_str()),
                (503, "503 provider_overloaded"),
                "{name}"
            );
            assert!(world.provider_state("a").contains("overloaded"), "{name}");
            continue;
        }
        assert_eq!((got.status, got.keys()), (200, vec!["k1", "k2"]), "{name}: {}", got.body);
        assert_eq!(got.body, answer, "{name}");
        // A limit can be of the model alone.
        let states = [world.state("a/k1"), world.model_state("a/k1", "fast")];
        assert!(states.iter().any(|state| state != "ready"), "{name}: {states:?}");
        assert_eq!(world.state("a/k2"), "ready", "{name}");
        let call = &got.calls[1];
        let path = match row["endpoint"].as_str() {
            Some("chat") => "/chat/completions".to_owned(),
            endpoint => format!("/{}", endpoint.unwrap()),
        };
        assert_eq!(call.headers[":path"], format!("{}{path}", kind.base_path), "{name}");
        let (header, value) = match kind.credential {
            Credential::Header(header) => (header, "sk-k2"),
            _ => ("authorization", "Bearer sk-k2"),
        };
        assert_eq!(call.headers[header], value, "{name}");
        let used = world.status_of("keys", "a/k2");
        assert_eq!(used["tokens"]["completion"], 12, "{name}");
    }
}

#[test]
fn an_error_of_the_client_s_is_told_and_costs_no_key() {
    for (kind, row) in rows() {
        let world = world(kind);
        world.on("k1", [said(&row, "error")]);
        let got = world.ask(&ask(&row));
        let told = row.get("told").unwrap_or(&row["error"]["status"]);
        assert_eq!(json!(got.status), *told, "{}: {}", kind.name, got.body);
        assert_eq!(got.keys(), ["k1"], "{}", kind.name);
        assert_eq!(world.state("a/k1"), "ready", "{}", kind.name);
        if row.get("told").is_some() {
            let body: Value = serde_json::from_str(&got.body).unwrap();
            assert!(body["error"]["message"].is_string(), "{}: {body}", kind.name);
            assert_eq!(got.headers["content-length"], got.body.len().to_string());
        } else {
            assert_eq!(got.body, row["error"]["body"].to_string(), "{}", kind.name);
        }
    }
}
