//! Event-stream framing: bytes in, events out, and back.
//!
//! WHATWG HTML, section 9.2 "Server-sent events". Works on bytes, because a chunk may end anywhere: inside a
//! multi-byte character, between `\r` and `\n`, inside a field name. Nothing is decoded before an event is whole.

use std::borrow::Cow;

use memchr::memchr;

/// Largest event in bytes: room for `response.completed`, which repeats a whole answer. An image in base64 may be
/// larger.
pub const MAX_EVENT: usize = 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One block of a stream, up to and including the blank line that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The bytes as they came. All `raw`s in order, then [`Framer::pending`], are the input.
    ///
    /// Where `\r` ended the event before and its `\n` came in a later chunk, that `\n` is the first byte here.
    pub raw: &'a [u8],
    /// Value of the last `event` field, if it is not empty.
    pub name: Option<&'a [u8]>,
    /// Values of the `data` fields, joined by `\n`; empty for a block of comments.
    pub data: Cow<'a, [u8]>,
}

/// An event is larger than [`MAX_EVENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// Cuts a stream into events, each delivered with the chunk that completes it.
#[derive(Debug, Clone)]
pub struct Framer {
    /// The incomplete event; at most [`MAX_EVENT`] bytes while `overflow` is false.
    pending: Vec<u8>,
    /// How many bytes of the byte order mark the stream began with; 3 also once there can be none.
    mark: usize,
    /// Nothing but the byte order mark has been seen of the event in work, or of any before.
    first: bool,
    /// The line in work has no bytes yet: a terminator now makes it blank.
    line_empty: bool,
    /// The last byte was `\r`: a `\n` now belongs to it.
    after_return: bool,
    overflow: bool,
}

impl Framer {
    pub fn new() -> Self {
        Self {
            pending: Vec::new(),
            mark: 0,
            first: true,
            line_empty: true,
            after_return: false,
            overflow: false,
        }
    }

    /// Takes a chunk and calls `each` for every event that is complete now, in order.
    ///
    /// An event that lies whole inside `chunk` is borrowed from it.
    ///
    /// # Errors
    ///
    /// [`Overflow`] once an event is too large; [`Self::pending`] then holds every byte that was not delivered.
    /// Later calls fail and take nothing.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) -> Result<(), Overflow> {
        if self.overflow {
            return Err(Overflow);
        }
        let mut rest = chunk;
        while let Some((end, lines)) = self.end(rest)
            && let Some((head, tail)) = rest.split_at_checked(end)
        {
            if self.pending.len() + head.len() > MAX_EVENT {
                break;
            }
            if self.pending.is_empty() {
                // The lines of nearly all events: one field and the blank one.
                let field = head.strip_suffix(b"\n\n").filter(|_| lines == 2 && !self.first);
                each(field.map_or_else(|| parse(head, self.first), |field| parse_one(head, field)));
            } else {
                self.pending.extend_from_slice(head);
                each(parse(&self.pending, self.first));
                self.pending.clear();
            }
            self.first = false;
            rest = tail;
        }
        self.pending.extend_from_slice(rest);
        self.overflow = self.pending.len() > MAX_EVENT;
        if self.overflow { Err(Overflow) } else { Ok(()) }
    }

    /// Whether the next byte begins an event that is not the first.
    pub fn is_between_events(&self) -> bool {
        !self.first && self.pending.is_empty() && !self.after_return && !self.overflow
    }

    /// The bytes of the incomplete event at the end.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// End of the stream: delivers what came after the last blank line, if anything did.
    ///
    /// A browser drops such an event; a provider that closes right after `data: [DONE]` means it.
    pub fn finish(&mut self, each: impl FnOnce(Event<'_>)) {
        if !self.pending.is_empty() && !self.overflow {
            each(parse(&self.pending, self.first));
        }
        self.pending.clear();
    }

    /// Where in `bytes` the event in work ends, after its blank line, and how many lines of it end there. `None`: all of
    /// `bytes` belongs to it.
    fn end(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        let (mut at, mut lines) = (0, 0);
        while let Some(expected) = BYTE_ORDER_MARK.get(self.mark) {
            match bytes.get(at) {
                None => return None,
                Some(byte) if byte == expected => {
                    self.mark += 1;
                    at += 1;
                }
                Some(_) => {
                    self.line_empty = self.mark == 0;
                    self.mark = BYTE_ORDER_MARK.len();
                }
            }
        }
        loop {
            let line = bytes.get(at..).filter(|line| !line.is_empty())?;
            if core::mem::take(&mut self.after_return) && line.first() == Some(&b'\n') {
                at += 1;
                continue;
            }
            let Some(length) = line_end(line) else {
                self.line_empty = false;
                return None;
            };
            at += length + 1;
            lines += 1;
            if line.get(length) == Some(&b'\r') {
                if line.get(length + 1) == Some(&b'\n') {
                    at += 1;
                } else {
                    self.after_return = at == bytes.len();
                }
            }
            let blank = core::mem::replace(&mut self.line_empty, true) && length == 0;
            if blank {
                return Some((at, lines));
            }
        }
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends one event. Line breaks inside `data` become further `data` fields, those in `name` end it.
pub fn write_event(name: Option<&str>, data: &str, out: &mut Vec<u8>) {
    let field = |name: &str, value: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.push(b'\n');
    };
    if let Some(name) = name {
        field("event", next_line(name.as_bytes()).0, out);
    }
    let mut rest = Some(data.as_bytes());
    while let Some(text) = rest {
        let (line, after) = next_line(text);
        field("data", line, out);
        rest = after;
    }
    out.push(b'\n');
}

/// An event of one line, which is `field`.
fn parse_one<'a>(raw: &'a [u8], field: &'a [u8]) -> Event<'a> {
    match field.strip_prefix(b"data:") {
        Some(data) => {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            Event { raw, name: None, data: Cow::Borrowed(data) }
        }
        None => parse(raw, false),
    }
}

/// The fields of one whole event.
fn parse(raw: &[u8], first: bool) -> Event<'_> {
    let text = if first { raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw) } else { raw };
    let mut name = None;
    let mut data: Option<Cow<'_, [u8]>> = None;
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (line, after) = next_line(text);
        rest = after;
        let (field, value) = match memchr(b':', line).and_then(|colon| line.split_at_checked(colon))
        {
            Some((field, value)) => (field, value.get(1..).unwrap_or_default()),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = Some(value).filter(|name| !name.is_empty()),
            b"data" => match &mut data {
                None => data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
    Event { raw, name, data: data.unwrap_or_default() }
}

/// The first line without its terminator, and what follows the terminator if there is one.
fn next_line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some((line, rest)) = line_end(text).and_then(|end| text.split_at_checked(end)) else {
        return (text, None);
    };
    let after = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..));
    (line, after)
}

/// Where the first line ends. Eight bytes at a time: without SIMD, as in wasm, `memchr` looks at four.
fn line_end(text: &[u8]) -> Option<usize> {
    /// The same byte in all places.
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let ends = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let (words, rest) = text.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_ne_bytes(*bytes);
        // Whether any is a control character, of which JSON has no others.
        if word.wrapping_sub(all(b' ')) & !word & all(0x80) != 0
            && let Some(at) = bytes.iter().position(ends)
        {
            return Some(index * 8 + at);
        }
    }
    rest.iter().position(ends).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and data of an event.
    type Fields = (Option<String>, String);

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Feeds the pieces; returns what a browser would dispatch, having checked that no byte is lost or invented.
    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Fields> {
        let mut framer = Framer::new();
        let (mut input, mut raws, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let mut each = |event: Event<'_>| {
            raws.extend_from_slice(event.raw);
            if event.name.is_some() || !event.data.is_empty() {
                events.push((event.name.map(text), text(&event.data)));
            }
        };
        for piece in pieces {
            input.extend_from_slice(piece);
            framer.feed(piece, &mut each).unwrap();
        }
        framer.finish(&mut each);
        assert_eq!(raws, input);
        events
    }

    fn fields(list: &[(&str, &str)]) -> Vec<Fields> {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        list.iter().map(|(n, data)| (name(n), (*data).to_owned())).collect()
    }

    /// Every single cut, every byte alone, and pseudo-random cuts give the events of the whole.
    #[track_caller]
    fn check(stream: &[u8], expected: &[(&str, &str)]) {
        let expected = fields(expected);
        assert_eq!(events([stream]), expected, "whole");
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(events([head, tail]), expected, "cut at {cut}");
        }
        assert_eq!(events(stream.chunks(1)), expected, "byte by byte");
        let mut seed = 0x9E37_79B9_u32;
        for round in 0..64 {
            let (mut pieces, mut rest) = (Vec::new(), stream);
            while !rest.is_empty() {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (piece, after) = rest.split_at(rest.len().min((seed >> 24) as usize % 9));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(events(pieces), expected, "round {round}");
        }
    }

    #[test]
    fn fields_of_the_standard() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]),
            ("data:a\n\ndata:  b\n\n", &[("", "a"), ("", " b")]),
            ("data: a\ndata: b\ndata\ndata: c\n\n", &[("", "a\nb\n\nc")]),
            ("event: x\ndata: a\n\n", &[("x", "a")]),
            ("data: a\nevent:x\nevent: y\n\n", &[("y", "a")]),
            ("event\ndata: a\n\n", &[("", "a")]),
            (": comment\n\n:\n\ndata: a\n\n", &[("", "a")]),
            ("id: 7\nretry: 10\nunknown\ndatas: no\n data: no\ndata: a:b\n\n", &[("", "a:b")]),
            ("\n\n\ndata: a\n\n\n\n", &[("", "a")]),
            ("data: last", &[("", "last")]),
            ("data: a\n\ndata: last\n", &[("", "a"), ("", "last")]),
            ("data\n\n", &[]),
            ("", &[]),
            ("data: h\u{e9} \u{4f60}\u{1f600}\n\n", &[("", "h\u{e9} \u{4f60}\u{1f600}")]),
        ];
        for (stream, expected) in table {
            for line_end in ["\n", "\r\n", "\r"] {
                let stream = stream.replace('\n', line_end);
                check(stream.as_bytes(), expected);
                check(["\u{feff}", &stream].concat().as_bytes(), expected);
            }
        }
    }

    #[test]
    fn mixed_line_ends_and_marks() {
        check(
            b"data: a\r\ndata: b\n\rdata: c\r\r\ndata: d\n\n",
            &[("", "a\nb"), ("", "c"), ("", "d")],
        );
        check(b"data: a\r\r\rdata: b\n\r\n", &[("", "a"), ("", "b")]);
        // Only the mark at the very start is one; half a mark is none.
        check("data: a\n\n\u{feff}data: b\n\n".as_bytes(), &[("", "a")]);
        check("\u{feff}\u{feff}data: b\n\n".as_bytes(), &[]);
        let mut framer = Framer::new();
        let mut count = 0;
        framer.feed(b"\xEF\xBB\n", |_| count += 1).unwrap();
        assert_eq!(count, 0, "half a mark is a line of its own, not a blank one");
        framer.feed(b"\n", |_| count += 1).unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn delivers_with_the_byte_that_completes_the_blank_line() {
        for (head, next, raw) in [
            ("data: a\n", "\n", "data: a\n\n"),
            ("data: a\r\n", "\r", "data: a\r\n\r"),
            ("data: a\r", "\r", "data: a\r\r"),
        ] {
            let mut framer = Framer::new();
            framer.feed(head.as_bytes(), |_| panic!("too early: {head:?}")).unwrap();
            assert_eq!(framer.pending(), head.as_bytes());
            let mut seen = Vec::new();
            framer.feed(next.as_bytes(), |event| seen.push(text(event.raw))).unwrap();
            assert_eq!(seen, [raw]);
            assert_eq!(framer.pending(), b"");
        }
    }

    #[test]
    fn lines_end_wherever_they_do() {
        for length in 0..30 {
            for filler in [b'a', b' ', b'\t', 0, 0x7F, 0x80, 0x8A, 0xFF] {
                let text = vec![filler; length];
                assert_eq!(line_end(&text), None);
                for at in 0..length {
                    for end in [b'\r', b'\n'] {
                        let mut text = text.clone();
                        text[at] = end;
                        assert_eq!(line_end(&text), Some(at));
                        text[length - 1] = b'\n';
                        assert_eq!(line_end(&text), Some(at));
                    }
                }
            }
        }
    }

    #[test]
    fn a_stray_line_feed_goes_to_the_next_event() {
        let mut framer = Framer::new();
        let mut raws = Vec::new();
        framer.feed(b"data: a\r\n\r", |event| raws.push(text(event.raw))).unwrap();
        framer.feed(b"\ndata: b\r\n\r\n", |event| raws.push(text(event.raw))).unwrap();
        assert_eq!(raws, ["data: a\r\n\r", "\ndata: b\r\n\r\n"]);
    }

    #[test]
    fn borrows_an_event_that_lies_whole_in_the_chunk() {
        let chunk = b"data: a\n\n";
        let mut raw = core::ptr::null();
        Framer::new().feed(chunk, |event| raw = event.raw.as_ptr()).unwrap();
        assert_eq!(raw, chunk.as_ptr());
    }

    #[test]
    fn gives_up_on_an_event_that_is_too_large_wherever_it_is_cut() {
        let event = |length: usize| format!("data: {}\n\n", "x".repeat(length - 8));
        let fits = event(MAX_EVENT);
        let large = event(MAX_EVENT + 1);
        for piece in [1 << 16, (1 << 20) - 1, 1 << 20, 1 << 22] {
            let mut framer = Framer::new();
            let mut count = 0;
            for chunk in fits.as_bytes().chunks(piece) {
                framer.feed(chunk, |_| count += 1).unwrap();
            }
            assert_eq!(count, 1);
            let input = ["data: before\n\n", &large, "data: after\n\n"].concat();
            let (mut raws, mut taken, mut failed) = (Vec::new(), 0, false);
            for chunk in input.as_bytes().chunks(piece) {
                if !failed {
                    taken += chunk.len();
                }
                failed = framer.feed(chunk, |event| raws.extend_from_slice(event.raw)).is_err();
            }
            assert!(failed);
            assert_eq!(raws, b"data: before\n\n");
            raws.extend_from_slice(framer.pending());
            assert_eq!(raws, input.as_bytes()[..taken]);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (name, data) in [
            (None, "{}"),
            (Some("error"), "{\"error\":{}}"),
            (None, "a\nb\r\nc\rd"),
            (None, ""),
            (None, " led by a space\n"),
        ] {
            let mut out = Vec::new();
            write_event(name, data, &mut out);
            let data = data.replace("\r\n", "\n").replace('\r', "\n");
            let mut seen = Vec::new();
            let each = |event: Event<'_>| seen.push((event.name.map(text), text(&event.data)));
            Framer::new().feed(&out, each).unwrap();
            assert_eq!(seen, [(name.map(str::to_owned), data)]);
        }
        let mut out = Vec::new();
        write_event(Some("a\ndata: forged"), "x", &mut out);
        assert_eq!(text(&out), "event: a\ndata: x\n\n");
    }
}
