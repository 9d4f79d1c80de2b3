//! The bytes that the host hands over, as one JSON value.
//!
//! Envoy passes a `google.protobuf.StringValue` or `BytesValue` on as its content, which is then JSON
//! text (RFC 8259), and a `google.protobuf.Struct` as its protobuf wire format. Both become the same
//! value: a `Struct` knows only doubles, so an integral double is an integer.

use core::fmt;

use prost::Message as _;
use prost_types::value::Kind;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::decode::Place;
use super::error::{ConfigError, Errors};

/// Bytes of a document: 20,000 consumers of 800 each.
const MAX_DOCUMENT: usize = 16 << 20;
/// Objects and arrays within each other; the deepest field is at 8.
const MAX_DEPTH: usize = 16;
/// Members of one object; the largest has 13. Bounds the search for a member's position.
const MAX_MEMBERS: usize = 64;
/// Tag of field 1 (`fields`), length-delimited: how every non-empty `Struct` starts.
const STRUCT_TAG: u8 = 0x0a;
/// Up to here every integer has a double of its own.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// A document and what is wrong with it already at this level: members given twice.
#[derive(Default)]
pub struct Document {
    pub(crate) value: Value,
    pub(crate) errors: Errors,
}

impl Document {
    /// # Errors
    /// Where there is no document: no bytes, too many, neither format, nested too deep.
    pub fn read(bytes: &[u8]) -> Result<Self, ConfigError> {
        let error = |message: String| ConfigError::new(Place::Root, message);
        let text = bytes.trim_ascii_start();
        if text.is_empty() {
            return Err(error("the configuration is empty".to_owned()));
        }
        if bytes.len() > MAX_DOCUMENT {
            let size = bytes.len();
            return Err(error(format!(
                "the configuration has {size} bytes; at most {MAX_DOCUMENT}"
            )));
        }
        let json = Self::from_json(bytes);
        // The tag of a `Struct` is also a line feed, with which JSON text may start: the format that
        // decodes decides, and JSON is the one that hardly any other bytes decode as.
        if json.is_err() && bytes.first() == Some(&STRUCT_TAG) {
            match prost_types::Struct::decode(bytes) {
                Ok(fields) => return Self::from_struct(fields).map_err(error),
                Err(_) if text.first() != Some(&b'{') => {
                    return Err(error("neither JSON nor a google.protobuf.Struct".to_owned()));
                }
                Err(_) => {}
            }
        }
        json.map_err(|e| error(format!("not valid JSON: {e}")))
    }

    /// # Errors
    /// Not JSON, or nested too deep.
    pub(crate) fn from_json(bytes: &[u8]) -> serde_json::Result<Self> {
        let mut errors = Errors::default();
        let text = core::str::from_utf8(bytes).map_err(de::Error::custom)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let root = Node { location: Place::Root, depth: 0, errors: &mut errors };
        let value = root.deserialize(&mut json)?;
        json.end()?;
        Ok(Self { value, errors })
    }

    fn from_struct(fields: prost_types::Struct) -> Result<Self, String> {
        let value = struct_value(prost_types::Value { kind: Some(Kind::StructValue(fields)) }, 0)?;
        Ok(Self { value, errors: Errors::default() })
    }
}

/// Like `serde_json::Value`, which would silently take the last of two equal members.
struct Node<'p, 'e> {
    location: Place<'p>,
    depth: usize,
    errors: &'e mut Errors,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let depth = deeper(self.depth).map_err(de::Error::custom)?;
        let mut array = Vec::new();
        loop {
            let location = self.location.element(array.len());
            match elements.next_element_seed(Node { location, depth, errors: &mut *self.errors })? {
                Some(value) => array.push(value),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let depth = deeper(self.depth).map_err(de::Error::custom)?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let location = self.location.member(&name);
            let value =
                members.next_value_seed(Node { location, depth, errors: &mut *self.errors })?;
            if object.contains_key(&name) {
                self.errors.push(location, "given twice");
                continue;
            }
            object.insert(name, value);
            few_members(object.len()).map_err(de::Error::custom)?;
        }
        Ok(Value::Object(object))
    }
}

pub(super) fn struct_value(value: prost_types::Value, depth: usize) -> Result<Value, String> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(value)) => number(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => {
            let depth = deeper(depth)?;
            let elements = list.values.into_iter().map(|value| struct_value(value, depth));
            Value::Array(elements.collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(fields)) => {
            let depth = deeper(depth)?;
            few_members(fields.fields.len())?;
            let members = fields.fields.into_iter();
            let members = members.map(|(name, value)| Ok((name, struct_value(value, depth)?)));
            Value::Object(members.collect::<Result<_, String>>()?)
        }
    })
}

#[expect(clippy::cast_possible_truncation, reason = "integral and in the range of exact integers")]
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() <= MAX_EXACT_INTEGER {
        return Value::from(value as i64);
    }
    // A `Struct` can hold what JSON cannot; as text it fits no numeric field.
    let other = if value.is_nan() { "NaN" } else { "infinity" };
    Number::from_f64(value).map_or_else(|| Value::String(other.to_owned()), Value::Number)
}

fn deeper(depth: usize) -> Result<usize, String> {
    let depth = depth.saturating_add(1);
    if depth > MAX_DEPTH {
        Err(format!("nested deeper than {MAX_DEPTH} levels"))
    } else {
        Ok(depth)
    }
}

fn few_members(count: usize) -> Result<(), String> {
    if count > MAX_MEMBERS {
        return Err(format!("an object with more than {MAX_MEMBERS} members"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(bytes: &[u8]) -> Result<Value, String> {
        let document = Document::read(bytes).map_err(|error| error.to_string())?;
        let errors: Vec<String> = document.errors.0.iter().map(ToString::to_string).collect();
        if errors.is_empty() { Ok(document.value) } else { Err(errors.join("\n")) }
    }

    /// `{name: value}` as a `Struct`.
    fn encoded(name: &str, kind: Kind) -> Vec<u8> {
        let value = prost_types::Value { kind: Some(kind) };
        prost_types::Struct { fields: [(name.to_owned(), value)].into() }.encode_to_vec()
    }

    #[test]
    fn json_text() {
        let table: &[(&str, Result<Value, &str>)] = &[
            (r#"{"b": [1, -2, 3.0, 2e3, 1.5], "a": null}"#, {
                Ok(json!({"b": [1, -2, 3, 2000, 1.5], "a": null}))
            }),
            ("\n\n {}\n", Ok(json!({}))),
            (" \t\r\n", Err("the configuration is empty")),
            ("", Err("the configuration is empty")),
            ("{} {}", Err("not valid JSON: trailing characters at line 1 column 4")),
            ("{\"a\":", Err("not valid JSON: EOF while parsing a value at line 1 column 5")),
            ("\n{\"a\" 1}", Err("not valid JSON: expected `:` at line 2 column 6")),
            ("sk-secret", Err("not valid JSON: expected value at line 1 column 1")),
            ("\u{a}sk-secret", Err("neither JSON nor a google.protobuf.Struct")),
            (
                r#"{"keys": [{"id": 1, "id": 2}], "x": {}, "x": {}, "sk-12": 1, "sk-12": 1}"#,
                Err("keys[0].id: given twice\nx: given twice\n…: given twice"),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(read(text.as_bytes()), expected.clone().map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn what_would_grow_without_bound_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
        let error = read(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(
            error.starts_with("not valid JSON: nested deeper than 16 levels at line"),
            "{error}"
        );

        let object = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("\"m{n}\": 0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(read(object(MAX_MEMBERS).as_bytes()).is_ok());
        let error = read(object(MAX_MEMBERS + 1).as_bytes()).unwrap_err();
        assert!(error.contains("an object with more than 64 members"), "{error}");

        let error = read(" ".repeat(MAX_DOCUMENT).as_bytes()).unwrap_err();
        assert_eq!(error, "the configuration is empty");
        let error = read(format!("{}{{}}", " ".repeat(MAX_DOCUMENT)).as_bytes()).unwrap_err();
        assert_eq!(error, "the configuration has 16777218 bytes; at most 16777216");
    }

    #[test]
    fn a_struct_reads_like_json() {
        let list = |kind| {
            Kind::ListValue(prost_types::ListValue {
                values: vec![prost_types::Value { kind: Some(kind) }],
            })
        };
        let table = [
            (Kind::NullValue(0), json!(null)),
            (Kind::BoolValue(true), json!(true)),
            (Kind::StringValue("x".to_owned()), json!("x")),
            (Kind::NumberValue(30.0), json!(30)),
            (Kind::NumberValue(-0.0), json!(0)),
            (Kind::NumberValue(0.5), json!(0.5)),
            (Kind::NumberValue(1e300), json!(1e300)),
            (Kind::NumberValue(f64::NAN), json!("NaN")),
            (Kind::NumberValue(f64::NEG_INFINITY), json!("infinity")),
            (list(Kind::NumberValue(1.0)), json!([1])),
        ];
        for (kind, value) in table {
            assert_eq!(read(&encoded("a", kind.clone())), Ok(json!({"a": value})), "{kind:?}");
        }

        let mut deep = Kind::BoolValue(true);
        for _ in 0..MAX_DEPTH {
            deep = list(deep);
        }
        assert_eq!(read(&encoded("a", deep)), Err("nested deeper than 16 levels".to_owned()));
    }

    /// A first entry of 123 bytes: the `Struct` starts with a line feed and an opening brace.
    #[test]
    fn a_struct_that_looks_like_json_is_a_struct() {
        let bytes = encoded("a", Kind::StringValue("x".repeat(116)));
        assert!(bytes.starts_with(b"\n{"), "{:?}", bytes.get(..2));
        assert_eq!(read(&bytes), Ok(json!({"a": "x".repeat(116)})));
    }
}
