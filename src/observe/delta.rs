//! Deltas that differ from one before them in little more than their text: nearly all of a stream.
//!
//! Looking through an event for what it may tell costs more than all else that is done with it. Where a chunk begins
//! and ends with the very bytes of a delta that was looked through, only what lies between is news.

use memchr::{memchr_iter, memrchr_iter};

use super::event::{Class, Observation, classify, is_telling, is_telling_at};
use crate::sse::Framer;

/// A delta that was looked through: one event, alone in its chunk, that tells nothing.
#[derive(Debug, Default)]
pub(super) struct Known {
    chunk: Vec<u8>,
    /// How many of its bytes must not differ: all fields but the last, and of that how it begins.
    fixed: usize,
    /// How often it was replaced. A stream whose events are never alike is not compared for ever.
    learned: u8,
}

/// Longest chunk in bytes that is compared.
const MAX_CHUNK: usize = 4 * 1024;

const MAX_LEARNED: u8 = 64;

/// So many quotes before the first difference are looked at again. [`is_telling_at`] looks at a name, and at no more
/// of its value than the quotes of an empty string: with three quotes behind the name's first, all of it is the same.
const AGAIN: usize = 3;

impl Known {
    /// Keeps a chunk that begins where an event does, if it is such a delta.
    pub(super) fn learn(&mut self, chunk: &[u8]) {
        const DATA: &[u8] = b"data: {";
        if chunk.len() > MAX_CHUNK || self.learned == MAX_LEARNED {
            return;
        }
        let Some(fields) = chunk.strip_suffix(b"\n\n") else { return };
        let last = memrchr_iter(b'\n', fields).next().map_or(0, |end| end + 1);
        if !fields.get(last..).is_some_and(|field| field.starts_with(DATA)) {
            return;
        }
        let (mut events, mut telling) = (0, is_telling(chunk) || chunk.contains(&b'\r'));
        let mut framer = Framer::new();
        let framed = framer.feed(chunk, |event| {
            events += 1;
            telling |= classify(&event) != Observation::of(Class::Content);
        });
        if framed.is_ok() && events == 1 && !telling {
            self.learned += 1;
            self.fixed = last + DATA.len();
            self.chunk.clear();
            self.chunk.extend_from_slice(chunk);
        }
    }

    /// Whether a chunk that begins where an event does is one more such delta.
    pub(super) fn is_like(&self, chunk: &[u8]) -> bool {
        let known = self.chunk.as_slice();
        if known.is_empty() || chunk.len() > MAX_CHUNK {
            return false;
        }
        // The blank line is for the tail.
        let shorter = known.len().min(chunk.len()).saturating_sub(2);
        let head = common_head(known, chunk).min(shorter);
        let (known, rest) =
            (known.get(head..).unwrap_or_default(), chunk.get(head..).unwrap_or_default());
        let end = chunk.len() - common_tail(known, rest);
        let (before, news) =
            (chunk.get(..head).unwrap_or_default(), chunk.get(head..end).unwrap_or_default());
        if head < self.fixed
            || end + 2 > chunk.len()
            || memchr::memchr2(b'\r', b'\n', news).is_some()
        {
            return false;
        }
        let from = memrchr_iter(b'"', before).nth(AGAIN - 1).unwrap_or_default();
        let changed = chunk.get(from..end).unwrap_or_default();
        !memchr_iter(b'"', changed).any(|quote| is_telling_at(chunk, from + quote))
    }
}

/// How many bytes two slices have in common at their beginning. By words: in wasm, `memcmp` goes byte by byte.
fn common_head(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let same =
        8 * words.take_while(|(a, b)| u64::from_ne_bytes(**a) == u64::from_ne_bytes(**b)).count();
    let (a, b) = (a.get(same..).unwrap_or_default(), b.get(same..).unwrap_or_default());
    same + a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The same at their end.
fn common_tail(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_rchunks::<8>().1.iter().rev().zip(b.as_rchunks::<8>().1.iter().rev());
    let same =
        8 * words.take_while(|(a, b)| u64::from_ne_bytes(**a) == u64::from_ne_bytes(**b)).count();
    let rest = |slice: &[u8]| slice.len() - same;
    let (a, b) = (a.get(..rest(a)).unwrap_or_default(), b.get(..rest(b)).unwrap_or_default());
    same + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Event;

    fn known(chunk: &str) -> Known {
        let mut known = Known::default();
        known.learn(chunk.as_bytes());
        known
    }

    const DELTA: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}],\"usage\":null}\n\n";

    #[test]
    fn what_differs_in_its_text_is_alike() {
        let known = known(DELTA);
        for text in
            ["", "a", "b", " and \\\"more\\\"", "\u{e9}", "{}", "\\n", "usages", "\\\"usage\\\":1"]
        {
            let chunk = DELTA.replace("\"a\"", &format!("\"{text}\""));
            assert!(known.is_like(chunk.as_bytes()), "{chunk}");
        }
        let tool = DELTA.replace("\"content\":\"a\"", "\"tool_calls\":[{\"index\":0}]");
        assert!(known.is_like(tool.as_bytes()));
    }

    #[test]
    fn what_tells_more_is_not() {
        let known = known(DELTA);
        for (from, to) in [
            ("finish_reason\":null", "finish_reason\":\"stop\""),
            ("finish_reason\":null", "finish_reason\":\"\\\"\""),
            ("usage\":null", "usage\":{}"),
            ("usage\":null", "usage\":nul"),
            ("usage\":null", "usage\":7"),
            ("\"choices\":[{", "\"choices\":[],\"x\":[{"),
            ("\"choices\":[", "\"error\":{},\"choices\":["),
            ("\"content\":\"a\"", "\"content\":\"a\",\"error\":1"),
            // It could be a name; it is looked through.
            ("\"content\":\"a\"", "\"content\":\"usage\""),
            ("}\n\n", "}\n"),
            ("}\n\n", "}\n\n\n"),
            ("}\n\n", "}\n\ndata: {\"error\":1}\n\n"),
            ("}\n\n", "}\r\n\r\n"),
            ("\"a\"", "\"a\n\ndata: {\""),
            ("\"a\"", "\"a\rdata: {\""),
            ("data: {", "data: "),
            ("data: {", "event: error\ndata: {"),
            ("data: {", ": data: {"),
        ] {
            let chunk = DELTA.replace(from, to);
            assert!(!known.is_like(chunk.as_bytes()), "{chunk}");
        }
        assert!(
            !known.is_like(b"data: [DONE]\n\n") && !known.is_like(b"") && !known.is_like(b"\n\n")
        );
    }

    #[test]
    fn only_a_whole_delta_is_learned() {
        let named = format!("event: content_block_delta\n{DELTA}");
        assert!(known(&named).is_like(named.replace("\"a\"", "\"b\"").as_bytes()));
        assert!(!known(&named).is_like(named.replace("block_delta", "block_stop").as_bytes()));
        for chunk in [
            &DELTA.replace("null", "1"),
            &DELTA.replace("\n\n", "\n"),
            &DELTA.replace("\n\n", "\r\n\r\n"),
            &DELTA.repeat(2),
            &format!("\n\n{DELTA}"),
            &format!("event: error\n{DELTA}"),
            &format!("event: message_stop\n{DELTA}"),
            "data: [DONE]\n\n",
            ": wait\n\n",
            "",
        ] {
            let known = known(chunk);
            assert!(known.chunk.is_empty(), "{chunk}");
            assert!(!known.is_like(chunk.as_bytes()));
        }
    }

    /// Whatever is put in anywhere: what is found alike is classified alike.
    #[test]
    fn alike_is_never_said_of_what_is_not() {
        let news = [
            "",
            "\"",
            "\"usage\"",
            "\"usage\":1,",
            "null",
            "\"error\":{},",
            "[]",
            "\n",
            "\r",
            "\n\n",
            "ping\"",
            "x",
        ];
        for template in
            [DELTA, "event: a\ndata: {\"type\":\"b\",\"usage\" : \"\",\"choices\" :[ 1]}\n\n"]
        {
            let known = known(template);
            assert!(!known.chunk.is_empty());
            let mut alike = 0;
            for at in 0..=template.len() {
                for to in at..template.len().min(at + 12) {
                    for put in news {
                        let (head, tail) =
                            (template.get(..at).unwrap(), template.get(to..).unwrap());
                        let chunk = [head, put, tail].concat();
                        if !known.is_like(chunk.as_bytes()) {
                            continue;
                        }
                        alike += 1;
                        let (mut framer, mut seen) = (Framer::new(), 0);
                        let each = |event: Event<'_>| {
                            seen += 1;
                            assert_eq!(
                                classify(&event),
                                Observation::of(Class::Content),
                                "{chunk:?}"
                            );
                        };
                        framer.feed(chunk.as_bytes(), each).unwrap();
                        assert!(seen == 1 && framer.pending().is_empty(), "{chunk:?}");
                    }
                }
            }
            assert!(alike > 1_000, "{alike}");
        }
    }

    #[test]
    fn what_slices_have_in_common() {
        let text: Vec<u8> = (0..40).collect();
        for length in 0..text.len() {
            for at in 0..length {
                let mut other = text[..length].to_vec();
                other[at] = 255;
                assert_eq!(common_head(&text, &other), at);
                assert_eq!(common_tail(&text[..length], &other), length - at - 1);
                assert_eq!(common_tail(&[&[7], &text[..length]].concat(), &other), length - at - 1);
            }
            assert_eq!(common_head(&text, &text[..length]), length);
            assert_eq!(common_tail(&text, &text[text.len() - length..]), length);
        }
    }
}
