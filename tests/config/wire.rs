//! The two forms in which hosts hand a document over.

use crate::{environment, example, smallest};
use keyward::runtime::{Runtime, Secret, load};
use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Envoy hands a `Struct` over as its wire format; Istio and Envoy Gateway send JSON.
#[test]
fn a_struct_and_json_give_the_same_runtime() {
    for document in [example(), smallest()] {
        let from_struct = load(&encoded(&document), &environment).unwrap();
        let from_json = load(document.to_string().as_bytes(), &environment).unwrap();
        assert_eq!(view(&from_struct), view(&from_json));
    }
    let error = load(&encoded(&json!({"mode": "x"})), &environment).unwrap_err();
    let message =
        "mode: \"x\" is unknown; known: headers, body\nproviders: missing\nmodels: missing";
    assert_eq!(error.to_string(), message);
}

/// The wire format of an object as `google.protobuf.Struct`.
pub(crate) fn encoded(document: &Value) -> Vec<u8> {
    let Kind::StructValue(fields) = protobuf(document) else { panic!("an object") };
    fields.encode_to_vec()
}

fn protobuf(value: &Value) -> Kind {
    let wrapped = |value| prost_types::Value { kind: Some(protobuf(value)) };
    match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(elements) => {
            let values = elements.iter().map(wrapped).collect();
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(members) => {
            let fields = members.iter().map(|(name, value)| (name.clone(), wrapped(value)));
            Kind::StructValue(prost_types::Struct { fields: fields.collect() })
        }
    }
}

/// All of a runtime as text, its secrets too, in an order that does not depend on a hash.
fn view(runtime: &Runtime) -> String {
    let Runtime { providers, keys, models, admin, consumers, failover, mode, .. } = runtime;
    let Runtime { response_headers, sticky, max_body, warnings, .. } = runtime;
    let exact: BTreeMap<_, _> = models.exact.iter().collect();
    let secret = |secret: &Secret| match secret {
        Secret::Value(text) | Secret::Header(text) => text.clone(),
        Secret::None => String::new(),
    };
    let secrets: BTreeSet<_> = keys.iter().map(|key| (&key.name, secret(&key.secret))).collect();
    format!(
        "{providers:#?}{keys:#?}{secrets:#?}{:#?}{exact:#?}{:#?}{admin:?}{:?}{failover:?}\
         {mode:?}{response_headers}{sticky:?}{max_body}{warnings:?}",
        models.list, models.prefixes, consumers.list
    )
}
