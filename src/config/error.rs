//! What is wrong with a configuration, and where in the document.
//!
//! Errors accumulate: an operator sees all of them in one message, each with its path. A message never
//! holds a secret: values are echoed only by the types of [`super::values`] that cannot hold one, and a
//! member name only if it looks like a field (YAML reads `secret: {sk-abc}` as a member `sk-abc`).

use core::fmt;
use std::collections::HashMap;

use serde_json::Value;

use super::decode::Place;
use crate::sorted;

/// Errors that [`LoadError`] shows; the rest are counted.
const SHOWN_ERRORS: usize = 50;
/// Characters of a value that an error echoes.
const ECHOED_CHARACTERS: usize = 64;
/// Known names that an error lists.
const LISTED_NAMES: usize = 32;
/// Characters of a member name that can be a mistyped field.
const FIELD_NAME_CHARACTERS: usize = 24;

/// One thing that is wrong: `providers[0].keys[1].weigth: unknown field; known: id, secret, …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: Vec<Segment>,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Field(String),
    Index(usize),
}

impl ConfigError {
    pub(crate) fn new(location: Place<'_>, message: impl Into<String>) -> Self {
        let mut path = Vec::new();
        let mut rest = location;
        loop {
            rest = match rest {
                Place::Root => break,
                Place::Member { name, of } => {
                    path.push(Segment::Field(presentable(name).to_owned()));
                    *of
                }
                Place::Element { index, of } => {
                    path.push(Segment::Index(index));
                    *of
                }
            };
        }
        path.reverse();
        Self { path, message: message.into() }
    }

    /// Where the path lies in `document`, as a key to sort by: the position at each level. What is not in
    /// the document (a missing field) comes last in its object.
    fn position(&self, document: &Value) -> Vec<usize> {
        let mut here = Some(document);
        let step = |segment: &Segment| match segment {
            Segment::Field(name) => {
                let members = here.and_then(Value::as_object);
                let position = members.and_then(|members| members.keys().position(|k| k == name));
                here = members.and_then(|members| members.get(name));
                position.unwrap_or(usize::MAX)
            }
            Segment::Index(index) => {
                here = here.and_then(|value| value.get(*index));
                *index
            }
        };
        self.path.iter().map(step).collect()
    }
}

impl ConfigError {
    /// `keys[0].id`; empty for the document itself.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        // A `String` takes everything.
        let _ = self.write_path(&mut path);
        path
    }

    fn write_path(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        for (depth, segment) in self.path.iter().enumerate() {
            match segment {
                Segment::Field(name) if depth == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_path(f)?;
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// A document that was refused, with everything that is wrong with it in document order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError(Vec<ConfigError>);

impl LoadError {
    pub(crate) fn new(mut errors: Vec<ConfigError>, document: &Value) -> Self {
        sorted::by_key(&mut errors, |error| error.position(document));
        Self(errors)
    }

    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl From<ConfigError> for LoadError {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// One error a line, at most 50.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().take(SHOWN_ERRORS).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        match self.0.len().saturating_sub(SHOWN_ERRORS) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl core::error::Error for LoadError {}

/// All errors so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors(pub(crate) Vec<ConfigError>);

impl Errors {
    pub(crate) fn one(location: Place<'_>, message: impl Into<String>) -> Self {
        Self(vec![ConfigError::new(location, message)])
    }

    /// Adds those about places that nothing is known of yet.
    pub(crate) fn add_news(&mut self, more: Self) {
        let known = self.0.iter().enumerate().map(|(index, error)| (error.path(), index));
        let known: HashMap<String, usize> = known.collect();
        self.0.extend(more.0.into_iter().filter(|error| !known.contains_key(&error.path())));
    }

    pub(crate) fn add(&mut self, more: Option<Self>) {
        self.0.extend(more.into_iter().flat_map(|more| more.0));
    }

    pub(crate) fn push(&mut self, location: Place<'_>, message: impl Into<String>) {
        self.0.push(ConfigError::new(location, message));
    }
}

/// Why a value is refused; where it stands is known to the caller.
#[derive(Debug)]
pub struct Invalid(pub(crate) String);

impl From<&str> for Invalid {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

pub(crate) fn wrong_kind(expected: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_u64() => "an integer",
        Value::Number(number) if number.is_i64() => "a negative integer",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    format!("expected {expected}, found {found}")
}

pub(crate) fn unknown_field(accepted: &[&str]) -> String {
    format!("unknown field; {}", known(accepted.iter().copied()))
}

/// `known: a, b, c`, bounded; `none is known`.
pub(crate) fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    list(&mut names.into_iter())
}

fn list(names: &mut dyn Iterator<Item = &str>) -> String {
    let mut listed: Vec<&str> = names.take(LISTED_NAMES).collect();
    if listed.is_empty() {
        return "none is known".to_owned();
    }
    if names.next().is_some() {
        listed.push("…");
    }
    format!("known: {}", listed.join(", "))
}

/// A value that is no secret, escaped and bounded.
pub(crate) fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(ECHOED_CHARACTERS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The name of a member, or `…` where it might be a misplaced secret: those are long or have digits.
fn presentable(name: &str) -> &str {
    let like_a_field = (1..=FIELD_NAME_CHARACTERS).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'-');
    if like_a_field || name == "sha256" { name } else { "…" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Place<'static> = Place::Root;

    #[test]
    fn a_path_reads_as_in_the_document() {
        let providers = ROOT.member("providers");
        let provider = providers.element(0);
        let keys = provider.member("keys");
        let key = keys.element(12);
        let table = [
            (ConfigError::new(ROOT, "empty"), "empty"),
            (ConfigError::new(providers, "missing"), "providers: missing"),
            (ConfigError::new(key, "bad"), "providers[0].keys[12]: bad"),
            (ConfigError::new(key.member("weigth"), "bad"), "providers[0].keys[12].weigth: bad"),
            (ConfigError::new(key.member("sha256"), "bad"), "providers[0].keys[12].sha256: bad"),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_member_name_that_may_be_a_secret_is_not_shown() {
        for name in ["sk-proj-1234", "", "averylongnamewithoutanydigits", "with space", "ключ"]
        {
            assert_eq!(ConfigError::new(ROOT.member(name), "x").to_string(), "…: x", "{name}");
        }
    }

    #[test]
    fn errors_come_in_document_order_and_bounded() {
        let document: Value = serde_json::json!({"b": [{}, {"z": 1, "y": 2}], "a": 1});
        let b = ROOT.member("b");
        let (first, second) = (b.element(0), b.element(1));
        let errors = vec![
            ConfigError::new(ROOT.member("missing"), "7"),
            ConfigError::new(ROOT.member("a"), "6"),
            ConfigError::new(second.member("missing"), "5"),
            ConfigError::new(second.member("y"), "4"),
            ConfigError::new(second.member("z"), "3"),
            ConfigError::new(first, "2"),
            ConfigError::new(b, "1"),
        ];
        let error = LoadError::new(errors, &document);
        let order: Vec<&str> = error.errors().iter().map(|error| error.message.as_str()).collect();
        assert_eq!(order, ["1", "2", "3", "4", "5", "6", "7"]);

        let many = vec![ConfigError::new(ROOT.member("a"), "x"); SHOWN_ERRORS + 3];
        let text = LoadError::new(many, &document).to_string();
        assert_eq!(text.lines().count(), SHOWN_ERRORS + 1);
        assert_eq!(text.lines().last(), Some("… and 3 more"));
    }

    #[test]
    fn echoes_and_lists_are_bounded_and_escaped() {
        assert_eq!(quoted("a\nb\"c"), r#""a\nb\"c""#);
        assert_eq!(quoted(&"é".repeat(65)), format!("\"{}…\"", "é".repeat(64)));
        assert_eq!(known([]), "none is known");
        let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let text = known(names.iter().map(String::as_str));
        assert!(text.starts_with("known: 0, 1, ") && text.ends_with("30, 31, …"), "{text}");
    }
}
