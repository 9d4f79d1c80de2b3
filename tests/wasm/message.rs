//! What goes to and fro between client, filter and provider.

use crate::host::{Fields, fields, text};
use crate::scene::leaked;

/// What a client sends.
#[derive(Debug, Clone)]
pub struct Request {
    pub headers: Fields,
    /// None: the headers end the request.
    pub chunks: Vec<Vec<u8>>,
    pub end: End,
}

/// How a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    WithLastChunk,
    WithEmptyChunk,
    WithTrailers,
    /// The connection breaks.
    Reset,
}

/// What reaches a provider.
#[derive(Debug, Clone)]
pub struct Sent {
    pub provider: String,
    pub headers: Fields,
    pub body: Vec<u8>,
}

impl Sent {
    /// The provider key, without its scheme.
    pub fn key(&self) -> &str {
        text(&self.headers, "authorization").unwrap_or_default().trim_start_matches("Bearer ")
    }
}

/// What a provider does.
#[derive(Debug, Clone)]
pub enum Script {
    Answer {
        headers: Fields,
        chunks: Vec<Vec<u8>>,
        end: End,
    },
    /// Nobody listens.
    Refused,
}

impl Script {
    pub fn json(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let length = body.len().to_string();
        let base = [("content-type", "application/json"), ("content-length", &length)];
        let chunks = vec![body.as_bytes().to_vec()];
        Self::answer(status, &[&base, headers].concat(), chunks, End::WithLastChunk)
    }

    pub fn stream(chunks: Vec<Vec<u8>>, end: End) -> Self {
        Self::answer(200, &[("content-type", "text/event-stream")], chunks, end)
    }

    pub fn answer(status: u16, headers: &[(&str, &str)], chunks: Vec<Vec<u8>>, end: End) -> Self {
        let mut all = fields(&[(":status", &status.to_string())]);
        all.extend(fields(headers));
        Self::Answer { headers: all, chunks, end }
    }
}

/// What the client gets. Without a status: nothing, for the filter holds the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Fields,
    pub body: Vec<u8>,
    /// It ended as a message ends, not by a broken connection.
    pub complete: bool,
}

impl Answer {
    /// A secret that the client gets to see.
    pub fn leak(&self) -> Option<&'static str> {
        let fields = self.headers.iter().flat_map(|(name, value)| [name, value]);
        fields.chain([&self.body]).find_map(|bytes| leaked(bytes))
    }
}
