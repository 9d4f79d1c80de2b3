//! One stream of a stage: the two messages as the filter may see and change them, and what it lets go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::Fields;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    Request,
    Response,
}

/// Filter state of one round of a request: the stages share it.
pub type FilterState = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

#[derive(Default)]
pub struct Stream {
    pub root: u32,
    pub request: Side,
    pub response: Side,
    /// By path, its parts joined by zero bytes.
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub filter_state: FilterState,
    /// What the filter answered itself.
    pub reply: Option<Reply>,
}

impl Stream {
    pub fn side(&mut self, message: Message) -> &mut Side {
        match message {
            Message::Request => &mut self.request,
            Message::Response => &mut self.response,
        }
    }

    pub fn property(&mut self, path: &[&str], value: impl Into<Vec<u8>>) {
        self.properties.insert(path.join("\0").into_bytes(), value.into());
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u32,
    pub headers: Fields,
    pub body: Vec<u8>,
}

/// One direction of a stream.
#[derive(Default)]
pub struct Side {
    /// As the filter sees and changes them; `None` before they come and once they have gone on.
    pub headers: Option<Fields>,
    /// What the filter sees of the body: all that is held, or else the chunk that has come.
    pub body: Vec<u8>,
    /// The body is held: chunks add up.
    buffering: bool,
    /// Nothing more will come.
    ended: bool,
    /// What has gone on.
    pub out: Out,
}

#[derive(Default)]
pub struct Out {
    pub headers: Option<Fields>,
    pub body: Vec<u8>,
    pub ended: bool,
}

impl Side {
    pub(super) fn headers_come(&mut self, headers: Fields, end_of_stream: bool) {
        self.headers = Some(headers);
        self.ended |= end_of_stream;
    }

    /// How much of the body the filter sees now.
    pub(super) fn body_comes(&mut self, chunk: &[u8], end_of_stream: bool) -> usize {
        if !self.buffering {
            self.body.clear();
        }
        self.body.extend_from_slice(chunk);
        self.ended |= end_of_stream;
        self.body.len()
    }

    pub(super) fn hold_body(&mut self) {
        self.buffering = true;
    }

    pub(super) fn trailers_come(&mut self) {
        self.ended = true;
    }

    pub(super) fn go_on(&mut self) {
        if let Some(headers) = self.headers.take() {
            self.out.headers = Some(headers);
        }
        self.out.body.append(&mut self.body);
        self.buffering = false;
        self.out.ended |= self.ended;
    }

    /// As `Buffer::copyFrom` of Envoy: the first `size` bytes make room for `bytes`.
    pub(super) fn replace_body(&mut self, start: usize, size: usize, bytes: &[u8]) -> bool {
        if start == 0 {
            self.body.splice(..size.min(self.body.len()), bytes.iter().copied());
            return true;
        }
        let appends = start >= self.body.len() && size == 0;
        if appends {
            self.body.extend_from_slice(bytes);
        }
        appends
    }
}
