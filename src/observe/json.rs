//! Usage and error of an answer that is one JSON document, of any size, in constant memory.

use memchr::memchr2;

use super::{MAX_CAPTURE, is_absent};
use crate::usage::{self, Usage};

/// Longest name of a member that is looked for.
const MAX_NAME: usize = "usageMetadata".len();

/// Looks for the top-level members `usage` (of Google: `usageMetadata`) and `error` while the document passes.
///
/// The structure is followed, the rest is neither parsed nor kept: 50 MB of embeddings cost a scan. Where the
/// document is no JSON object, observing stops.
#[derive(Debug)]
pub struct JsonObserver {
    place: Place,
    /// Of the member in work; empty where it cannot be one that is looked for.
    name: Vec<u8>,
    /// The value in work, if it is looked for and not too long.
    value: Option<Vec<u8>>,
    usage: Option<Usage>,
    error: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the object.
    Start,
    /// Before a name, or the end of the object.
    Member,
    Name {
        escaped: bool,
    },
    /// Between name and value.
    Colon,
    /// In a value, outside of its strings; `depth` counts open brackets.
    Value {
        depth: u32,
    },
    String {
        depth: u32,
        escaped: bool,
    },
    /// After the object, or after what is no JSON.
    Stop,
}

impl JsonObserver {
    pub fn new() -> Self {
        Self { place: Place::Start, name: Vec::new(), value: None, usage: None, error: None }
    }

    pub fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() && self.place != Place::Stop {
            let taken = self.step(rest).max(1);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// The usage, once its value is whole.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The error as JSON, once its value is whole and if it is not `null` (up to 16 KiB).
    pub fn error(&self) -> Option<&[u8]> {
        self.error.as_deref()
    }

    /// Goes on from the head of `bytes`, which is not empty; gives how many bytes that took, at least one.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let first = bytes.first().copied().unwrap_or_default();
        match self.place {
            Place::Start | Place::Member | Place::Colon => {
                self.place = match (self.place, first) {
                    (place, b' ' | b'\t' | b'\r' | b'\n') => place,
                    // A byte order mark.
                    (Place::Start, 0xEF | 0xBB | 0xBF) => Place::Start,
                    (Place::Start, b'{') => Place::Member,
                    (Place::Member, b'"') => {
                        self.name.clear();
                        Place::Name { escaped: false }
                    }
                    (Place::Colon, b':') => {
                        let wanted =
                            matches!(self.name.as_slice(), b"usage" | b"usageMetadata" | b"error");
                        self.value = wanted.then(Vec::new);
                        Place::Value { depth: 0 }
                    }
                    _ => Place::Stop,
                };
                1
            }
            Place::Name { escaped } => {
                let (taken, place) = match string(bytes, escaped) {
                    (taken, Some(escaped)) => (taken, Place::Name { escaped }),
                    (taken, None) => (taken, Place::Colon),
                };
                let end = if place == Place::Colon { taken - 1 } else { taken };
                let room = (MAX_NAME + 1).saturating_sub(self.name.len());
                self.name.extend(bytes.iter().take(end.min(room)));
                self.place = place;
                taken
            }
            Place::String { depth, escaped } => {
                let (taken, place) = match string(bytes, escaped) {
                    (taken, Some(escaped)) => (taken, Place::String { depth, escaped }),
                    (taken, None) => (taken, Place::Value { depth }),
                };
                self.capture(bytes, taken);
                self.place = place;
                taken
            }
            Place::Value { depth } => {
                let (skipped, byte) = match structural(bytes, depth) {
                    Some(at) => (at, bytes.get(at)),
                    None => (bytes.len(), None),
                };
                self.place = match (byte, depth) {
                    (None, _) => self.place,
                    (Some(b'"'), _) => Place::String { depth, escaped: false },
                    (Some(b'{' | b'['), _) => Place::Value { depth: depth.saturating_add(1) },
                    (Some(b','), 0) => Place::Member,
                    (Some(b'}'), 0) => Place::Stop,
                    (Some(_), _) => match depth.checked_sub(1) {
                        Some(depth) => Place::Value { depth },
                        None => Place::Stop,
                    },
                };
                let ended = byte.is_some() && matches!(self.place, Place::Member | Place::Stop);
                let taken = skipped + usize::from(byte.is_some());
                self.capture(bytes, if ended { skipped } else { taken });
                if ended && byte != Some(&b']') {
                    self.end_value();
                }
                taken
            }
            Place::Stop => bytes.len(),
        }
    }

    fn capture(&mut self, bytes: &[u8], length: usize) {
        let Some(value) = &mut self.value else {
            return;
        };
        if value.len() + length > MAX_CAPTURE {
            self.value = None;
        } else {
            value.extend(bytes.iter().take(length));
        }
    }

    fn end_value(&mut self) {
        let Some(value) = self.value.take() else {
            return;
        };
        if self.name != b"error" {
            self.usage = usage::parse(&value);
        } else {
            let value = core::str::from_utf8(&value).ok().map(str::trim);
            self.error = value.filter(|value| !is_absent(value)).map(Into::into);
        }
    }
}

impl Default for JsonObserver {
    fn default() -> Self {
        Self::new()
    }
}

/// Goes on inside a string: how many bytes, its closing quote included, and, if it goes on, whether the next byte is
/// escaped.
fn string(bytes: &[u8], escaped: bool) -> (usize, Option<bool>) {
    let mut at = usize::from(escaped);
    while let Some(found) = memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return (at + 1, None);
        }
        at += 2;
    }
    (bytes.len(), Some(at > bytes.len()))
}

/// The next byte outside of strings that matters: a quote or bracket, and at the top level a comma.
fn structural(bytes: &[u8], depth: u32) -> Option<usize> {
    let matters = |byte: u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
    if depth == 0 {
        bytes.iter().position(|byte| matters(*byte) || *byte == b',')
    } else {
        bytes.iter().position(|byte| matters(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<Usage>, Option<String>) {
        let mut observer = JsonObserver::new();
        for piece in pieces {
            observer.feed(piece);
        }
        let error = observer.error().map(|error| String::from_utf8(error.to_vec()).unwrap());
        (observer.usage(), error)
    }

    /// Whole, cut at every byte, and byte by byte.
    #[track_caller]
    fn check(document: &[u8], prompt: Option<u64>, error: Option<&str>) {
        let usage = prompt.map(|prompt| Usage { prompt, completion: 1, ..Usage::default() });
        let expected = (usage, error.map(str::to_owned));
        let shown = String::from_utf8_lossy(document);
        assert_eq!(observed([document]), expected, "{shown}");
        for cut in 0..=document.len() {
            let (head, tail) = document.split_at(cut);
            assert_eq!(observed([head, tail]), expected, "{shown} cut at {cut}");
        }
        assert_eq!(observed(document.chunks(1)), expected, "{shown} byte by byte");
    }

    const USAGE: &str = r#"{"prompt_tokens":7,"completion_tokens":1,"x":{"y":[1,{"z":"}\"]"}]}}"#;

    #[test]
    fn finds_the_top_level_members() {
        let table = [
            (r#"{"usage":USAGE}"#, Some(7), None),
            (r#" { "id" : "x" , "usage" : USAGE , "n" : 1 } "#, Some(7), None),
            (r#"{"a":[[1.5,-2e3],[]],"b":{"c":"\\"},"usage":USAGE,"error":null}"#, Some(7), None),
            (
                r#"{"error":{"message":"a\"b}","code":429},"usage":null}"#,
                None,
                Some(r#"{"message":"a\"b}","code":429}"#),
            ),
            (r#"{"error":"text, with } and ]" }"#, None, Some(r#""text, with } and ]""#)),
            (r#"{"error":7}"#, None, Some("7")),
            (
                r#"{"usageMetadatas":1,"usageMetadat":1,"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":1}}"#,
                Some(7),
                None,
            ),
            (r#"{"error":""}"#, None, None),
            (r#"{"error":,"usage":USAGE}"#, Some(7), None),
            // The last one counts, as in any other reader.
            (r#"{"usage":{"prompt_tokens":99},"usage":USAGE}"#, Some(7), None),
            // Not the top level, not that name, not in a string.
            (r#"{"response":{"usage":USAGE,"error":1}}"#, None, None),
            (
                r#"{"usages":USAGE,"usag":USAGE,"\u0075sage":USAGE,"":USAGE,"usage\"":USAGE}"#,
                None,
                None,
            ),
            (r#"{"a":"\"usage\":{\"prompt_tokens\":7}","b":"usage"}"#, None, None),
            // Found before the document breaks.
            (r#"{"usage":USAGE,"x":[1,"#, Some(7), None),
            (r#"{"usage":USAGE,oops,"error":7}"#, Some(7), None),
            // No object, broken before, or cut in the value.
            (r#"[{"usage":USAGE}]"#, None, None),
            (r#"{"a":1]{"usage":USAGE}"#, None, None),
            (r#"{"usage" USAGE}"#, None, None),
            (r#"{"usage":{"prompt_tokens":7,"completion_tokens":1"#, None, None),
            (r#"{}{"usage":USAGE}"#, None, None),
            ("", None, None),
        ];
        for (document, prompt, error) in table {
            let document = document.replace("USAGE", USAGE);
            check(document.as_bytes(), prompt, error);
        }
        check(
            ["\u{feff}", r#"{"a":"\u{4f60}","usage":"#, USAGE, "}"].concat().as_bytes(),
            Some(7),
            None,
        );
    }

    #[test]
    fn captures_are_bounded() {
        let error =
            |length: usize| format!(r#"{{"error":"{}","usage":{USAGE}}}"#, "x".repeat(length - 2));
        for (length, kept) in [(MAX_CAPTURE, true), (MAX_CAPTURE + 1, false), (1 << 20, false)] {
            for piece in [1000, 1 << 21] {
                let (usage, found) = observed(error(length).as_bytes().chunks(piece));
                assert_eq!(found.map(|found| found.len()), kept.then_some(length));
                assert_eq!(usage.map(|usage| usage.prompt), Some(7));
            }
        }
    }

    #[test]
    fn no_input_panics() {
        let mut seed = 7_u32;
        let mut found = 0;
        for _ in 0..20_000 {
            let mut document =
                format!(r#"{{"a":["x\\"],"usage":{USAGE},"error":{{}}}}"#).into_bytes();
            for _ in 0..2 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 8) as usize % document.len();
                document[at] = b"{}[]\",:\\ n\xFF"[(seed >> 4) as usize % 11];
            }
            let cut = (seed >> 12) as usize % document.len();
            let (head, tail) = document.split_at(cut);
            let whole = observed([&document[..]]);
            assert_eq!(observed([head, tail]), whole);
            found += usize::from(whole.0.is_some());
        }
        assert!(found > 100, "{found}");
    }
}
