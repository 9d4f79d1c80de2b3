//! JSON as it is not meant to be.

use serde_json::{Value, json};

/// A value as it is not meant to be, one member at a time: of another type, `null`, not there.
pub(crate) fn bent(value: &Value) -> Vec<Value> {
    let mut all: Vec<Value> = [
        json!(null),
        json!(7),
        json!(-1.5),
        json!("x"),
        json!(""),
        json!([]),
        json!({}),
        json!([{}]),
    ]
    .into();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let mut without = members.clone();
                without.remove(name);
                all.push(without.into());
                for other in bent(member) {
                    let mut with = members.clone();
                    with.insert(name.clone(), other);
                    all.push(with.into());
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                for other in bent(item) {
                    let mut with = items.clone();
                    with.splice(at..=at, [other]);
                    all.push(with.into());
                }
            }
        }
        _ => {}
    }
    all
}
