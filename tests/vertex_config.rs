//! Where a provider of Vertex AI is, by its project and location; and which words refuse what makes no sense.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

use keyward::runtime::{Runtime, load};
use serde_json::{Value, json};

fn loaded(kind: &str, fields: Value) -> Result<Runtime, String> {
    let mut provider = json!({
        "name": "p", "kind": kind, "keys": [{"id": "t", "secret": {"header": "x-keyward-secret-1"}}],
    });
    provider.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let models = json!([{"name": "m", "targets": [{"provider": "p"}]}]);
    let document = json!({"providers": [provider], "models": models});
    load(document.to_string().as_bytes(), &|_| None).map_err(|error| error.to_string())
}

#[test]
fn host_and_path_are_made_of_project_and_location() {
    let base = "/v1/projects/p-1/locations/";
    for (kind, fields, host, base_path) in [
        (
            "vertex",
            json!({"project": "p-1", "location": "us-central1"}),
            "us-central1-aiplatform.googleapis.com",
            format!("{base}us-central1"),
        ),
        (
            "vertex-anthropic",
            json!({"project": "p-1", "location": "global"}),
            "aiplatform.googleapis.com",
            format!("{base}global"),
        ),
        (
            "vertex",
            json!({"project": "p-1", "location": "eu"}),
            "aiplatform.eu.rep.googleapis.com",
            format!("{base}eu"),
        ),
        (
            "vertex",
            json!({"project": "example.com:p", "location": "eu", "host": "proxy.test:8443"}),
            "proxy.test:8443",
            "/v1/projects/example.com:p/locations/eu".to_owned(),
        ),
        (
            "vertex",
            json!({"location": "global", "base_path": "/v1beta1/projects/7/locations/global"}),
            "aiplatform.googleapis.com",
            "/v1beta1/projects/7/locations/global".to_owned(),
        ),
        (
            "vertex",
            json!({"host": "proxy.test", "base_path": "/vertex"}),
            "proxy.test",
            "/vertex".to_owned(),
        ),
        ("gemini", json!({}), "generativelanguage.googleapis.com", "/v1beta".to_owned()),
    ] {
        let runtime = loaded(kind, fields.clone()).unwrap();
        let provider = runtime.providers.first().unwrap();
        assert_eq!((provider.host.as_str(), &provider.base_path), (host, &base_path), "{fields}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_path() {
    for (kind, fields, message) in [
        (
            "vertex",
            json!({"location": "eu"}),
            "providers[0].project: missing; host and base path of the kind vertex are made of project and location",
        ),
        (
            "vertex-anthropic",
            json!({"project": "p-1"}),
            "providers[0].location: missing; host and base path of the kind vertex-anthropic are made of project and location",
        ),
        (
            "vertex",
            json!({"project": "p-1", "host": "proxy.test"}),
            "providers[0].location: missing; host and base path of the kind vertex are made of project and location",
        ),
        (
            "vertex",
            json!({"project": "p/1", "location": "eu"}),
            "providers[0].project: expected the id of a project such as my-project-1, or its number",
        ),
        (
            "vertex",
            json!({"project": "p-1", "location": "eu.example"}),
            "providers[0].location: expected a location such as us-central1, eu or global",
        ),
        (
            "gemini",
            json!({"project": "p-1"}),
            "providers[0].project: the kind gemini has none: it is of Vertex AI",
        ),
        (
            "openai",
            json!({"endpoints": ["chat", "generate_content"]}),
            "providers[0].endpoints[1]: only the kinds gemini and vertex have it",
        ),
    ] {
        let refused = loaded(kind, fields.clone()).unwrap_err();
        assert!(refused.contains(message), "{fields}: {refused}");
    }
}
