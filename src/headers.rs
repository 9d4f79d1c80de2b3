//! Header fields as bytes, in order.
//!
//! Values are bytes because Envoy accepts `obs-text` (RFC 9110, section 5.5): a filter that insists on
//! UTF-8 can be brought down by one header byte.

use core::ops::Range;

/// A header section: names as the host gives them (lower case), values as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Names and values. The host hands a section over as one piece of memory, and that is kept.
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

/// Where in `bytes` a field lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: Range<usize>,
    pub value: Range<usize>,
}

impl Headers {
    /// A part of a field that lies outside of `bytes` is empty.
    pub fn new(bytes: Vec<u8>, fields: Vec<Field>) -> Self {
        Self { bytes, fields }
    }

    /// The first value of `name`, which is given in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let named = |field: &&Field| {
            field.name.len() == name.len() && self.part(&field.name) == name.as_bytes()
        };
        self.fields.iter().find(named).map(|field| self.part(&field.value))
    }

    /// Like [`Self::get`], where the value is UTF-8; surrounding white space is removed.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| core::str::from_utf8(value).ok()).map(str::trim_ascii)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.part(&field.name), self.part(&field.value)))
    }

    /// Inlined always: looked up for every name of every field.
    #[inline(always)]
    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in fields {
            let mut append = |part: &[u8]| {
                let start = headers.bytes.len();
                headers.bytes.extend_from_slice(part);
                start..headers.bytes.len()
            };
            let field = Field { name: append(name.as_ref()), value: append(value.as_ref()) };
            headers.fields.push(field);
        }
        headers
    }
}
