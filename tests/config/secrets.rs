//! No error and no log line shows a secret.

use crate::{example, loaded};
use serde_json::{Value, json};

/// A key pasted into any field around the keys is not shown, whether as a value or as a member name
/// (YAML's `{sk-abc}`).
#[test]
fn a_misplaced_secret_is_not_shown() {
    const MISPLACED: &str = "sk-proj-mi5placed";
    let example = example();
    let mut places = Vec::new();
    let sections = ["/providers/0/keys", "/key_pools", "/admin", "/consumers/0/keys"];
    for section in sections.into_iter().chain(["/providers/0/host", "/sticky"]) {
        collect_places(example.pointer(section).unwrap(), section, &mut places);
    }
    // Names, times and windows are echoed: no place for a key.
    let echoed = |place: &&String| {
        place.ends_with("/name") || place.ends_with("/per") || place.contains("/valid_")
    };
    places.retain(|place| !echoed(&place));
    assert!(places.len() > 40, "{places:?}");

    let mut refusals = 0;
    for place in places {
        let values = [
            json!(MISPLACED),
            json!([MISPLACED]),
            json!({MISPLACED: null}),
            json!({"env": MISPLACED}),
            json!({"name": "shared", "keys": [{"id": "x", "secret": MISPLACED}]}),
        ];
        for value in values {
            let mut document = example.clone();
            *document.pointer_mut(&place).unwrap() = value;
            if let Err(message) = loaded(&document) {
                assert!(!message.contains(MISPLACED), "{place}: {message}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 150, "{refusals}");
}

/// The pointers to `value`, which is at `at`, and to all within it.
fn collect_places(value: &Value, at: &str, places: &mut Vec<String>) {
    places.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                collect_places(member, &format!("{at}/{name}"), places);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                collect_places(element, &format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
}

#[test]
fn a_runtime_does_not_print_its_secrets() {
    let text = format!("{:?}", loaded(&example()).unwrap());
    assert!(text.contains("Value(***)"));
    for secret in ["sk-env", "sk-inline", "sk-admin"] {
        assert!(!text.contains(secret), "{secret}");
    }
}
