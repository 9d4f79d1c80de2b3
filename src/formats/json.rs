//! Reading JSON a member at a time, with errors that say where.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::conversation::{Request, Unsupported};
use crate::members;

/// Calls `each` with every member that is not `null`: absent and `null` are the same to all clients.
pub(super) fn members<'a>(
    path: &str,
    object: &'a str,
    mut each: impl FnMut(&str, &'a str) -> Result<(), Unsupported>,
) -> Result<(), Unsupported> {
    let mut failed = None;
    let read = members::walk(object, |name, value| {
        if failed.is_none() && value != "null" {
            failed = each(name, value).err();
        }
    });
    match failed {
        Some(error) => Err(error),
        None => read.map_err(|_| must_be(path, "an object")),
    }
}

pub(super) fn items<'a>(path: &str, array: &'a str) -> Result<Vec<&'a str>, Unsupported> {
    let items: Vec<&RawValue> =
        serde_json::from_str(array).map_err(|_| must_be(path, "an array"))?;
    Ok(items.into_iter().map(RawValue::get).collect())
}

pub(super) fn string<'a>(path: &str, value: &'a str) -> Result<Cow<'a, str>, Unsupported> {
    /// Borrowed where it has no escapes.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(value).map(|Text(text)| text).map_err(|_| must_be(path, "a string"))
}

pub(super) fn boolean(path: &str, value: &str) -> Result<bool, Unsupported> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(must_be(path, "a boolean")),
    }
}

pub(super) fn count(path: &str, value: &str) -> Result<u64, Unsupported> {
    members::count(value).ok_or_else(|| must_be(path, "a number that is not negative"))
}

/// A number as it was written.
pub(super) fn number<'a>(path: &str, value: &'a str) -> Result<&'a RawValue, Unsupported> {
    members::float(value).ok_or_else(|| must_be(path, "a number"))?;
    raw(path, value)
}

pub(super) fn object<'a>(path: &str, value: &'a str) -> Result<&'a RawValue, Unsupported> {
    if !value.starts_with('{') {
        return Err(must_be(path, "an object"));
    }
    raw(path, value)
}

fn raw<'a>(path: &str, value: &'a str) -> Result<&'a RawValue, Unsupported> {
    serde_json::from_str(value).map_err(|_| must_be(path, "valid JSON"))
}

pub(super) fn must_be(path: &str, what: &str) -> Unsupported {
    Unsupported::new(path, format!("must be {what}"))
}

/// Arguments of a call, for a format that takes nothing but an object. What is none is told as it is: a model that
/// once wrote nonsense would otherwise end its conversation for good. Empty: no arguments.
pub(super) fn arguments(text: &str) -> Cow<'_, RawValue> {
    let object = if text.trim().is_empty() { "{}" } else { text.trim() };
    match serde_json::from_str::<&RawValue>(object) {
        Ok(raw) if object.starts_with('{') => Cow::Borrowed(raw),
        _ => {
            let wrapped = serde_json::json!({ "malformed_arguments": text }).to_string();
            Cow::Owned(RawValue::from_string(wrapped).unwrap_or_default())
        }
    }
}

/// For formats that refuse texts of nothing.
pub(super) fn empty(request: &Request<'_>) -> Unsupported {
    must_be(request.list(), "more than empty texts")
}

/// Something that a client may ask for elsewhere, by its name.
pub(super) fn not_supported(path: impl Into<String>) -> Unsupported {
    Unsupported::new(path, "is not supported by the providers of this model")
}

/// The values of these members of an object, absent where they are `null`; `None`: it is no object.
///
/// For answers, of which nothing is refused by name. One pass, and one instantiation for all that is read so.
pub(super) fn pick<'a, const N: usize>(
    object: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a str>; N]> {
    let mut values = [None; N];
    pick_into(object, &names, &mut values).then_some(values)
}

fn pick_into<'a>(object: &'a str, names: &[&str], values: &mut [Option<&'a str>]) -> bool {
    members::walk(object, |name, value| {
        let mut slots = names.iter().zip(values.iter_mut());
        if let Some((_, slot)) = slots.find(|(known, _)| **known == name) {
            *slot = Some(value).filter(|value| *value != "null");
        }
    })
    .is_ok()
}

/// The elements of an array; `None`: it is none.
pub(super) fn elements(array: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(array).ok()
}

/// A string, borrowed where it has no escapes; `None`: it is none.
pub(super) fn text(value: &str) -> Option<Cow<'_, str>> {
    string("", value).ok()
}
