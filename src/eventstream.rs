//! AWS's binary event streams: bytes in, messages out.
//!
//! `application/vnd.amazon.eventstream`,
//! <https://smithy.io/2.0/aws/amazon-eventstream.html>. A message is
//!
//! ```text
//! total length (u32) | headers length (u32) | CRC of these 8 bytes (u32)
//! headers: name length (u8), name, type (u8), value …
//! payload
//! CRC of all before (u32)
//! ```
//!
//! all big-endian, the CRC that of gzip. Both are checked before a byte of a message is believed; the prelude's as
//! soon as it is here, so that something else than an event stream is found out at once.

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use serde_json::Value;

use crate::members;

pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Largest message in bytes, as [`crate::sse::MAX_EVENT`]; the format itself allows 16 MiB.
pub const MAX_MESSAGE: usize = crate::sse::MAX_EVENT;

/// Of the prelude and its checksum.
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// One byte at a time, with a table of 1 KiB: messages are small.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// A message whose checksums are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    headers: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The value of a header that is a string; `None`: there is none of this name.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.headers;
        loop {
            let (found, value, after) = header(rest)?;
            if let (true, HeaderValue::String(text)) = (found == name.as_bytes(), value) {
                return core::str::from_utf8(text).ok();
            }
            rest = after;
        }
    }

    /// What a message says that is none of the answer's: an error as JSON, `{"error":{"code","message"}}`.
    ///
    /// `:message-type` is `exception` for what the service models, with a JSON payload, and `error` for what it does
    /// not, with all there is in headers.
    pub fn exception(&self) -> Option<String> {
        let code = match self.header(":message-type") {
            Some("exception") => self.header(":exception-type"),
            Some("error") => self.header(":error-code"),
            _ => return None,
        };
        let payload = core::str::from_utf8(self.payload).unwrap_or_default();
        let mut message = self.header(":error-message").map(|text| Value::from(text).to_string());
        // A payload that is no object has no message.
        let _ = members::walk(payload, |name, value| {
            if name.eq_ignore_ascii_case("message") && value.starts_with('"') {
                message = Some(value.to_owned());
            }
        });
        let code = Value::from(code.unwrap_or("unknown"));
        let message = message.unwrap_or_else(|| "\"\"".to_owned());
        Some(format!("{{\"error\":{{\"code\":{code},\"message\":{message}}}}}"))
    }
}

/// The stream is not what it should be; what follows cannot be told apart any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    /// The checksum of the prelude is wrong: no event stream at all, most likely.
    Prelude,
    /// The checksum of the message is wrong.
    Message,
    /// Lengths that contradict each other, or headers that are none.
    Malformed,
    /// Longer than [`MAX_MESSAGE`].
    TooLong,
}

/// Cuts a stream into messages, each delivered with the chunk that completes it.
#[derive(Debug, Default)]
pub struct Framer {
    /// The incomplete message; shorter than [`MAX_MESSAGE`].
    pending: Vec<u8>,
    corrupt: Option<Corrupt>,
}

impl Framer {
    /// Takes a chunk and calls `each` for every message that is complete now, in order.
    ///
    /// # Errors
    ///
    /// Once the stream is corrupt, for good. What came before has been delivered.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Message<'_>)) -> Result<(), Corrupt> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt);
        }
        let result = if self.pending.is_empty() {
            let left = cut(chunk, &mut each);
            left.map(|left| self.pending.extend_from_slice(left))
        } else {
            let mut bytes = core::mem::take(&mut self.pending);
            bytes.extend_from_slice(chunk);
            let left = cut(&bytes, &mut each).map(|left| bytes.len() - left.len());
            left.map(|cut| {
                bytes.drain(..cut);
                self.pending = bytes;
            })
        };
        self.corrupt = result.err();
        result
    }

    /// Whether the stream may end here: between two messages.
    pub fn is_between(&self) -> bool {
        self.pending.is_empty() && self.corrupt.is_none()
    }
}

/// Delivers every message that is complete; what is left of the last.
fn cut<'a>(mut bytes: &'a [u8], each: &mut impl FnMut(Message<'_>)) -> Result<&'a [u8], Corrupt> {
    while let Some((message, rest)) = message(bytes)? {
        each(message);
        bytes = rest;
    }
    Ok(bytes)
}

/// The first message and what follows; `None`: it is not complete yet.
fn message(bytes: &[u8]) -> Result<Option<(Message<'_>, &[u8])>, Corrupt> {
    let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE>() else { return Ok(None) };
    let (lengths, checksum) = prelude.split_at(8);
    if CRC.checksum(lengths) != number(checksum) {
        return Err(Corrupt::Prelude);
    }
    let (total, headers) = lengths.split_at(4);
    let (total, headers) = (number(total) as usize, number(headers) as usize);
    if total > MAX_MESSAGE {
        return Err(Corrupt::TooLong);
    }
    let payload = total
        .checked_sub(PRELUDE + CHECKSUM)
        .and_then(|rest| rest.checked_sub(headers))
        .ok_or(Corrupt::Malformed)?;
    let Some((whole, rest)) = bytes.split_at_checked(total) else { return Ok(None) };
    let (content, checksum) = whole.split_at_checked(total - CHECKSUM).ok_or(Corrupt::Malformed)?;
    if CRC.checksum(content) != number(checksum) {
        return Err(Corrupt::Message);
    }
    let parts = content.get(PRELUDE..).and_then(|parts| parts.split_at_checked(headers));
    let (headers, payload) = parts.filter(|(_, p)| p.len() == payload).ok_or(Corrupt::Malformed)?;
    if !are_headers(headers) {
        return Err(Corrupt::Malformed);
    }
    Ok(Some((Message { headers, payload }, rest)))
}

enum HeaderValue<'a> {
    String(&'a [u8]),
    /// Booleans, integers, byte strings, timestamps and UUIDs: none of them says anything about a message here.
    Other,
}

fn are_headers(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some((_, _, rest)) = header(bytes) else { return false };
        bytes = rest;
    }
    true
}

/// The first header and what follows. `None`: there is none, or it is none.
fn header(bytes: &[u8]) -> Option<(&[u8], HeaderValue<'_>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let fixed = match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        9 => 16,
        6 | 7 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let value = if *kind == 7 { HeaderValue::String(value) } else { HeaderValue::Other };
            return Some((name, value, rest));
        }
        _ => return None,
    };
    let (_, rest) = rest.split_at_checked(fixed)?;
    Some((name, HeaderValue::Other, rest))
}

/// Of four bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a service writes it; headers with their type and value as bytes.
    fn encode(headers: &[(&str, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (name, value) in headers {
            encoded.push(u8::try_from(name.len()).unwrap());
            encoded.extend_from_slice(name.as_bytes());
            encoded.extend_from_slice(value);
        }
        let total = u32::try_from(PRELUDE + encoded.len() + payload.len() + CHECKSUM).unwrap();
        let mut out = total.to_be_bytes().to_vec();
        out.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
        out.extend(CRC.checksum(&out).to_be_bytes());
        out.extend(encoded);
        out.extend_from_slice(payload);
        out.extend(CRC.checksum(&out).to_be_bytes());
        out
    }

    fn text(value: &str) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        [&[7][..], &length.to_be_bytes(), value.as_bytes()].concat()
    }

    type Read = Vec<(Option<String>, Vec<u8>)>;

    fn read(pieces: &[&[u8]]) -> (Read, Result<bool, Corrupt>) {
        let (mut framer, mut read) = (Framer::default(), Vec::new());
        let mut result = Ok(());
        for piece in pieces {
            result = framer.feed(piece, |message| {
                let name = message.header(":event-type").map(str::to_owned);
                read.push((name, message.payload.to_vec()));
            });
        }
        (read, result.map(|()| framer.is_between()))
    }

    fn stream() -> Vec<u8> {
        messages().concat()
    }

    fn messages() -> [Vec<u8>; 3] {
        let delta = text("contentBlockDelta");
        let json = text("application/json");
        let (yes, no) = ([0_u8], [1_u8]);
        let integer = [&[4_u8][..], &7_i32.to_be_bytes()].concat();
        let binary = [&[6_u8, 0, 3][..], b"abc"].concat();
        let time = [&[8_u8][..], &1_790_000_000_000_i64.to_be_bytes()].concat();
        let id = [&[9_u8][..], &[1; 16]].concat();
        [
            encode(&[(":event-type", &delta), (":content-type", &json)], br#"{"p":"abcd"}"#),
            encode(&[], b""),
            encode(
                &[
                    ("yes", &yes),
                    ("no", &no),
                    ("byte", &[2, 9]),
                    ("short", &[3, 0, 9]),
                    ("integer", &integer),
                    ("long", &[5, 0, 0, 0, 0, 0, 0, 0, 1]),
                    ("binary", &binary),
                    ("time", &time),
                    ("id", &id),
                    (":event-type", &delta),
                ],
                "{\"delta\":\"é🦀\"}".as_bytes(),
            ),
        ]
    }

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(CRC.checksum(b"123456789"), 0xCBF4_3926);
        // The empty message of Amazon's own test vectors.
        let empty = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(encode(&[], b""), empty);
    }

    #[test]
    fn however_it_is_cut() {
        let bytes = stream();
        let whole = read(&[&bytes]);
        let name = Some("contentBlockDelta".to_owned());
        let names: Vec<_> = whole.0.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, [name.clone(), None, name]);
        assert_eq!(whole.0[2].1, "{\"delta\":\"é🦀\"}".as_bytes());
        assert_eq!(whole.1, Ok(true));
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), whole);
    }

    #[test]
    fn the_end_is_between_two_messages() {
        let [first, second, third] = messages().map(|message| message.len());
        let ends = [0, first, first + second, first + second + third];
        let bytes = stream();
        for end in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..end]]).1, Ok(ends.contains(&end)), "{end}");
        }
    }

    #[test]
    fn no_byte_of_a_corrupted_message_is_believed() {
        let bytes = stream();
        let whole = read(&[&bytes]);
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut broken = bytes.clone();
                broken[at] ^= bit;
                let (messages, result) = read(&[&broken]);
                assert!(result.is_err(), "byte {at}");
                assert_eq!(messages, whole.0[..messages.len()], "byte {at}");
                let single: Vec<&[u8]> = broken.chunks(1).collect();
                assert_eq!(read(&single), (messages, result), "byte {at}");
            }
        }
    }

    #[test]
    fn what_is_no_event_stream_is_found_out() {
        let header = |bytes: &[u8]| {
            let mut out =
                u32::try_from(PRELUDE + bytes.len() + CHECKSUM).unwrap().to_be_bytes().to_vec();
            out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend(CRC.checksum(&out).to_be_bytes());
            out.extend_from_slice(bytes);
            out.extend(CRC.checksum(&out).to_be_bytes());
            out
        };
        let lengths = |total: u32, headers: u32| {
            let mut out = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            out.extend(CRC.checksum(&out).to_be_bytes());
            out
        };
        for (bytes, expected) in [
            (b"data: {\"choices\":[]}\n\n".to_vec(), Corrupt::Prelude),
            (br#"{"message":"m"}"#.to_vec(), Corrupt::Prelude),
            (lengths(15, 0), Corrupt::Malformed),
            (lengths(0, 0), Corrupt::Malformed),
            (lengths(20, 5), Corrupt::Malformed),
            (lengths(u32::try_from(MAX_MESSAGE).unwrap() + 1, 0), Corrupt::TooLong),
            (header(b"\x09a"), Corrupt::Malformed),
            (header(b"\x01a\x0a"), Corrupt::Malformed),
            (header(b"\x01a\x07\x00\x05ab"), Corrupt::Malformed),
            (header(b"\x01a\x05\x00"), Corrupt::Malformed),
        ] {
            let (messages, result) = read(&[&bytes, &stream()]);
            assert_eq!((messages.len(), result), (0, Err(expected)), "{bytes:?}");
        }
    }
}
