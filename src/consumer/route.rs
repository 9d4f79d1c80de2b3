//! How a route narrows what its callers may: the route's metadata `keyward`.
//!
//! Envoy has no configuration of a wasm filter per route, but each route has metadata, which costs no VM and is
//! replaced with the route. It can only take away: what is left out is not narrowed, and what cannot be understood
//! refuses every request of the route, since guessing might allow too much.
//!
//! ```yaml
//! metadata:
//!   filter_metadata:
//!     keyward:
//!       {consumer: acme, models: [fast, "gpt-*"], endpoints: [chat, models], providers: openai,
//!        limits: [{requests: 10, per: minute}]}
//! ```

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::value::Kind;

use super::rule::{OPERATIONS, Pattern};
use crate::config::limits;
use crate::endpoint::Operation;
use crate::limit::Limits;

/// What the route allows; `None`: everything. Names of the configuration are not resolved here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    pub consumers: Option<Vec<String>>,
    pub teams: Option<Vec<String>>,
    pub models: Option<Vec<Pattern>>,
    pub endpoints: Option<Vec<Operation>>,
    pub providers: Option<Vec<String>>,
    /// Of each consumer on this route.
    pub limits: Limits,
}

/// What of `envoy.config.core.v3.Metadata` is read. Each value is a `Struct`; those of others stay encoded.
#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(btree_map = "string, bytes", tag = "1")]
    filter_metadata: BTreeMap<String, Vec<u8>>,
}

/// The members of `keyward`. `provider` is for the `standalone` stage.
const KNOWN: &str = "consumer, team, models, endpoints, providers, limits, provider";

impl Narrowing {
    /// `bytes`: the encoded metadata of the route; empty where it has none.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut narrowing = Self::default();
        if bytes.is_empty() {
            return Ok(narrowing);
        }
        let unreadable = |_| "the route's metadata cannot be read".to_owned();
        let metadata = Metadata::decode(bytes).map_err(unreadable)?;
        let Some(keyward) = metadata.filter_metadata.get("keyward") else {
            return Ok(narrowing);
        };
        let keyward = prost_types::Struct::decode(keyward.as_slice()).map_err(unreadable)?;
        for (name, value) in keyward.fields {
            let wrong = |what: &str| format!("route metadata keyward.{name}: {what}");
            if name == "limits" {
                narrowing.limits = limits::of_metadata(value)
                    .map_err(|error| format!("route metadata keyward.{error}"))?;
                continue;
            }
            let texts = || texts(value.kind).ok_or_else(|| wrong("expected names"));
            match name.as_str() {
                "consumer" => narrowing.consumers = Some(texts()?),
                "team" => narrowing.teams = Some(texts()?),
                "providers" => narrowing.providers = Some(texts()?),
                "models" => {
                    narrowing.models =
                        Some(texts()?.iter().map(|m| Pattern::of_model(m)).collect());
                }
                "endpoints" => {
                    let operation = |text: &String| {
                        let row = OPERATIONS.iter().find(|(name, _)| name == text);
                        row.map(|(_, operation)| *operation)
                            .ok_or_else(|| wrong("unknown endpoint"))
                    };
                    narrowing.endpoints =
                        Some(texts()?.iter().map(operation).collect::<Result<_, _>>()?);
                }
                "provider" => {}
                _ => return Err(wrong(&format!("unknown; known: {KNOWN}"))),
            }
        }
        Ok(narrowing)
    }
}

/// One text, or a list of texts.
fn texts(kind: Option<Kind>) -> Option<Vec<String>> {
    match kind? {
        Kind::StringValue(text) => Some(vec![text]),
        Kind::ListValue(list) => {
            let text = |value: prost_types::Value| match value.kind? {
                Kind::StringValue(text) => Some(text),
                _ => None,
            };
            list.values.into_iter().map(text).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    fn text(text: &str) -> prost_types::Value {
        prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    fn list(texts: &[&str]) -> prost_types::Value {
        let values = texts.iter().map(|t| text(t)).collect();
        prost_types::Value { kind: Some(Kind::ListValue(prost_types::ListValue { values })) }
    }

    fn decoded(members: Vec<(&str, prost_types::Value)>) -> Result<Narrowing, String> {
        let fields = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let keyward = prost_types::Struct { fields }.encode_to_vec();
        let keyward = ("keyward".to_owned(), keyward);
        let other = ("envoy.lb".to_owned(), b"whatever".to_vec());
        let metadata = Metadata { filter_metadata: [keyward, other].into() };
        Narrowing::decode(&metadata.encode_to_vec())
    }

    #[test]
    fn one_name_or_several() {
        let narrowing = decoded(vec![
            ("consumer", text("acme")),
            ("team", list(&["a", "b"])),
            ("models", list(&["fast", "gpt-*"])),
            ("endpoints", text("chat")),
            ("providers", list(&[])),
            ("provider", text("openai")),
        ]);
        let expected = Narrowing {
            consumers: Some(vec!["acme".to_owned()]),
            teams: Some(vec!["a".to_owned(), "b".to_owned()]),
            models: Some(vec![
                Pattern::Exact("fast".to_owned()),
                Pattern::Prefix("gpt-".to_owned()),
            ]),
            endpoints: Some(vec![Operation::Api(Endpoint::ChatCompletions)]),
            providers: Some(Vec::new()),
            limits: Limits::default(),
        };
        assert_eq!(narrowing, Ok(expected));
        assert_eq!(decoded(Vec::new()), Ok(Narrowing::default()));
        assert_eq!(Narrowing::decode(b""), Ok(Narrowing::default()));
    }

    fn object(members: &[(&str, Kind)]) -> prost_types::Value {
        let value = |kind: &Kind| prost_types::Value { kind: Some(kind.clone()) };
        let fields = members.iter().map(|(name, kind)| ((*name).to_owned(), value(kind)));
        let fields = prost_types::Struct { fields: fields.collect() };
        prost_types::Value { kind: Some(Kind::StructValue(fields)) }
    }

    #[test]
    fn limits_read_like_those_of_the_configuration() {
        let listed = |values| prost_types::Value {
            kind: Some(Kind::ListValue(prost_types::ListValue { values })),
        };
        let per = |word: &str| ("per", Kind::StringValue(word.to_owned()));
        let requests = object(&[("requests", Kind::NumberValue(60.0)), per("minute")]);
        let places = object(&[("concurrency", Kind::NumberValue(2.0))]);
        let limits = decoded(vec![("limits", listed(vec![requests, places]))]).unwrap().limits;
        assert_eq!((limits.list.len(), limits.concurrency), (1, Some(2)));
        assert_eq!((limits.list[0].max, limits.list[0].per), (60, crate::limit::Per::Minute));
        let year = object(&[("tokens", Kind::NumberValue(1.0)), per("year")]);
        for (value, message) in [
            (
                listed(vec![year]),
                "route metadata keyward.limits[0].per: \"year\" is unknown; known: second, minute, hour, \
                 day, week, month",
            ),
            (text("60"), "route metadata keyward.limits: expected an array, found a string"),
        ] {
            assert_eq!(decoded(vec![("limits", value)]), Err(message.to_owned()));
        }
    }

    #[test]
    fn what_is_not_understood_refuses() {
        let number = prost_types::Value { kind: Some(Kind::NumberValue(1.0)) };
        for (members, message) in [
            (vec![("models", number.clone())], "route metadata keyward.models: expected names"),
            (
                vec![("endpoints", text("chats"))],
                "route metadata keyward.endpoints: unknown endpoint",
            ),
            (
                vec![("model", text("fast"))],
                "route metadata keyward.model: unknown; known: consumer, team, models, endpoints, \
                 providers, limits, provider",
            ),
        ] {
            assert_eq!(decoded(members), Err(message.to_owned()));
        }
        assert!(Narrowing::decode(&[0xff; 8]).is_err());
        let filter_metadata = [("keyward".to_owned(), vec![0xff; 8])].into();
        assert!(Narrowing::decode(&Metadata { filter_metadata }.encode_to_vec()).is_err());
    }
}
