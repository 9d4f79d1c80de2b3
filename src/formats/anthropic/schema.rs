//! JSON schemas as Anthropic takes them.
//!
//! Where it holds the model to a schema it refuses, with 400, what its grammar cannot express. The official SDKs
//! then send the schema without that and say it in the description; so does this
//! (<https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations>).

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::members;

/// Constraints that the model is told of instead of held to.
const TOLD: [&str; 14] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "contains",
    "minContains",
    "maxContains",
];

/// Nesting that is followed; beyond it a schema stays as it is.
const MAX_DEPTH: u32 = 64;

/// For `input_schema`: an object whose type is said, otherwise byte for byte.
pub(in crate::formats) fn input(schema: Option<&RawValue>) -> Option<Cow<'_, RawValue>> {
    const OPEN: &str = r#"{"type":"object""#;
    let Some(schema) = schema else {
        return RawValue::from_string(format!("{OPEN}}}")).ok().map(Cow::Owned);
    };
    let mut typed = false;
    members::walk(schema.get(), |name, _| typed |= name == "type").ok()?;
    if typed {
        return Some(Cow::Borrowed(schema));
    }
    let rest = schema.get().strip_prefix('{')?;
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    RawValue::from_string(format!("{OPEN}{comma}{rest}")).ok().map(Cow::Owned)
}

/// For what Anthropic holds the model to; byte for byte where nothing has to change.
pub(in crate::formats) fn strict(schema: &RawValue) -> Option<Cow<'_, RawValue>> {
    let mut value: Value = serde_json::from_str(schema.get()).ok()?;
    if !adapt(&mut value, MAX_DEPTH) {
        return Some(Cow::Borrowed(schema));
    }
    serde_json::value::to_raw_value(&value).ok().map(Cow::Owned)
}

/// Whether anything changed.
fn adapt(schema: &mut Value, depth: u32) -> bool {
    let (Some(schema), Some(depth)) = (schema.as_object_mut(), depth.checked_sub(1)) else {
        return false;
    };
    let mut changed = tell(schema);
    if schema.contains_key("properties") || schema.get("type").is_some_and(|t| t == "object") {
        let closed = schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        changed |= closed != Some(Value::Bool(false));
    }
    for (name, value) in schema.iter_mut() {
        changed |= match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().fold(false, |changed, schema| adapt(schema, depth) | changed)
            }
            ("anyOf" | "allOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter_mut().fold(false, |changed, schema| adapt(schema, depth) | changed)
            }
            ("items", schema) => adapt(schema, depth),
            _ => false,
        };
    }
    changed
}

/// Moves constraints into the description.
fn tell(schema: &mut Map<String, Value>) -> bool {
    let told = |name: &str, value: &Value| {
        // Of `minItems`, 0 and 1 are taken.
        TOLD.contains(&name) || name == "minItems" && !matches!(value.as_u64(), Some(0 | 1))
    };
    let constraints: Vec<String> = schema
        .iter()
        .filter(|(name, value)| told(name, value))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    if constraints.is_empty() {
        return false;
    }
    schema.retain(|name, value| !told(name, value));
    let constraints = format!("{{{}}}", constraints.join(", "));
    let description = match schema.get("description").and_then(Value::as_str) {
        Some(description) => format!("{description}\n\n{constraints}"),
        None => constraints,
    };
    schema.insert("description".to_owned(), Value::String(description));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn inputs_are_objects_and_otherwise_as_they_were() {
        for (schema, expected) in [
            (None, r#"{"type":"object"}"#),
            (Some("{}"), r#"{"type":"object"}"#),
            (
                Some(r#"{ "properties": {"a": {"type":"string"}} }"#),
                r#"{"type":"object", "properties": {"a": {"type":"string"}} }"#,
            ),
            (Some(r#"{"z":1, "type":"object","a":1e2}"#), r#"{"z":1, "type":"object","a":1e2}"#),
        ] {
            assert_eq!(input(schema.map(raw)).unwrap().get(), expected);
        }
    }

    #[test]
    fn what_a_grammar_cannot_express_is_told() {
        for (schema, expected) in [
            (
                r#"{"type":"object","properties":{"n":{"type":"integer","minimum":1,"maximum":9}},"required":["n"]}"#,
                r#"{"type":"object","properties":{"n":{"type":"integer","description":"{minimum: 1, maximum: 9}"}},"required":["n"],"additionalProperties":false}"#,
            ),
            (
                r#"{"anyOf":[{"type":"array","minItems":1,"items":{"type":"string","description":"Word.","maxLength":3}}]}"#,
                r#"{"anyOf":[{"type":"array","minItems":1,"items":{"type":"string","description":"Word.\n\n{maxLength: 3}"}}]}"#,
            ),
            // A property may have the name of a constraint.
            (
                r#"{"type":"object","properties":{"minimum":{"type":"number"}},"additionalProperties":true}"#,
                r#"{"type":"object","properties":{"minimum":{"type":"number"}},"additionalProperties":false}"#,
            ),
            (
                r#"{ "z": 1e2, "type":"object", "additionalProperties":false }"#,
                r#"{ "z": 1e2, "type":"object", "additionalProperties":false }"#,
            ),
        ] {
            assert_eq!(strict(raw(schema)).unwrap().get(), expected);
        }
    }
}
