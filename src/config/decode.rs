//! From a JSON value to what a field of the document takes, with all that is wrong at once.
//!
//! [`fields!`] reads objects, [`word`] sets of words, [`FromText`] all else that is written as a string. The walk over
//! an object is one function for all of them, which knows a field as a name and a [`Slot`]: what a derive would
//! generate for each type anew took a tenth of the filter.

use serde_json::Value;

use super::error::{Errors, Invalid, known, quoted, unknown_field, wrong_kind};

/// Where a value stands in the document.
#[derive(Debug, Clone, Copy)]
pub enum Place<'p> {
    Root,
    Member { name: &'p str, of: &'p Self },
    Element { index: usize, of: &'p Self },
}

impl<'p> Place<'p> {
    #[must_use]
    pub const fn member(&'p self, name: &'p str) -> Self {
        Self::Member { name, of: self }
    }

    #[must_use]
    pub const fn element(&'p self, index: usize) -> Self {
        Self::Element { index, of: self }
    }
}

pub trait Decode: Sized {
    /// # Errors
    /// All that is wrong with `value`, in document order.
    fn decode(value: &Value, place: Place<'_>) -> Result<Self, Errors>;
}

/// What is written as a string.
pub trait FromText: Sized {
    /// # Errors
    /// Why it is not acceptable.
    fn from_text(text: &str) -> Result<Self, Invalid>;
}

impl<T: FromText> Decode for T {
    fn decode(value: &Value, place: Place<'_>) -> Result<Self, Errors> {
        let Value::String(text) = value else {
            return Err(Errors::one(place, wrong_kind("a string", value)));
        };
        Self::from_text(text).map_err(|Invalid(message)| Errors::one(place, message))
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(text.to_owned())
    }
}

impl Decode for bool {
    fn decode(value: &Value, place: Place<'_>) -> Result<Self, Errors> {
        value.as_bool().ok_or_else(|| Errors::one(place, wrong_kind("a boolean", value)))
    }
}

/// `null` is as good as left out.
impl<T: Decode> Decode for Option<T> {
    fn decode(value: &Value, place: Place<'_>) -> Result<Self, Errors> {
        if value.is_null() { Ok(None) } else { T::decode(value, place).map(Some) }
    }
}

/// One of a set of words.
pub fn word<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Invalid> {
    let row = words.iter().find(|(name, _)| *name == text);
    row.map(|(_, value)| *value).ok_or_else(|| {
        let known = known(words.iter().map(|(name, _)| *name));
        Invalid(format!("{} is unknown; {known}", quoted(text)))
    })
}

/// A field of an object: its default, if it has one, until it is read.
pub struct Field<T>(pub Option<T>);

/// A [`Field`] of any type.
pub trait Slot {
    fn read(&mut self, value: &Value, place: Place<'_>) -> Result<(), Errors>;

    fn is_empty(&self) -> bool;
}

impl<T: Decode> Slot for Field<T> {
    fn read(&mut self, value: &Value, place: Place<'_>) -> Result<(), Errors> {
        self.0 = Some(T::decode(value, place)?);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// Fills the fields of an object; afterwards none is empty.
///
/// # Errors
/// Not an object; of its members in document order; then fields that are left out and have no default.
pub fn object(
    value: &Value,
    place: Place<'_>,
    fields: &mut [(&'static str, &mut dyn Slot)],
) -> Result<(), Errors> {
    let Value::Object(members) = value else {
        return Err(Errors::one(place, wrong_kind("an object", value)));
    };
    let mut errors = Errors::default();
    for (name, value) in members {
        let place = place.member(name);
        match fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, slot)) => errors.add(slot.read(value, place).err()),
            None => {
                let known: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                errors.push(place, unknown_field(&known));
            }
        }
    }
    for (name, slot) in fields {
        if slot.is_empty() && !members.contains_key(*name) {
            errors.push(place.member(name), "missing");
        }
    }
    if errors.0.is_empty() { Ok(()) } else { Err(errors) }
}

/// A struct that is read from an object: strict, and without the fields after which a default is written. A check
/// of the whole follows `=>`.
macro_rules! fields {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field_visibility:vis $field:ident: $type:ty $(as $written:literal)? $(= $default:expr)?,
            )*
        } $(=> $check:expr)?
    ) => {
        $(#[$meta])*
        $visibility struct $name {
            $($(#[$field_meta])* $field_visibility $field: $type,)*
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                value: &::serde_json::Value,
                place: $crate::config::decode::Place<'_>,
            ) -> Result<Self, $crate::config::error::Errors> {
                use $crate::config::decode::{Field, first, object};
                $(let mut $field = Field::<$type>(first!($(Some($default),)? None));)*
                object(value, place, &mut [
                    $((first!($($written,)? stringify!($field)), &mut $field),)*
                ])?;
                let ($(Field(Some($field)),)*) = ($($field,)*) else {
                    // Not so: an empty field is an error of `object`.
                    return Err($crate::config::error::Errors::default());
                };
                let read = Self { $($field,)* };
                $(let read = $check(read, place)?;)?
                Ok(read)
            }
        }
    };
}

macro_rules! first {
    ($first:expr $(, $more:expr)* $(,)?) => {
        $first
    };
}

pub(crate) use {fields, first};
