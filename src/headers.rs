//! Header fields as bytes, in order.
//!
//! Values are bytes because Envoy accepts `obs-text` (RFC 9110, section 5.5): a filter that insists on
//! UTF-8 can be brought down by one header byte.

/// A header section: names as the host gives them (lower case), values as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// The first value of `name`, which is given in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n.as_slice() == name.as_bytes()).map(|(_, v)| v.as_slice())
    }

    /// Like [`Self::get`], where the value is UTF-8; surrounding white space is removed.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| core::str::from_utf8(value).ok()).map(str::trim)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))
    }

    pub fn push(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }
}

impl From<Vec<(Vec<u8>, Vec<u8>)>> for Headers {
    fn from(fields: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self(fields)
    }
}

impl<N: Into<Vec<u8>>, V: Into<Vec<u8>>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
    }
}
