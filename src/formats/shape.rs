//! Messages of a stream that differ in their text alone, or in that and one more value: nearly all of them do.

/// A message that was read, without the text in it.
///
/// JSON tells what it is byte by byte. A message that has the same bytes up to its text and behind it, and text that is
/// written without escapes, says the same with that text.
#[derive(Debug)]
pub(super) struct Shape {
    /// Up to the text, its quote included.
    head: String,
    /// Behind the text, from its quote.
    middle: String,
    /// Behind the other value.
    tail: String,
}

impl Shape {
    /// Of `message`, in which `text` is a string as it was written, without its quotes, and `other` a value behind it or
    /// the empty end.
    pub(super) fn of(message: &str, text: &str, other: &str) -> Option<Self> {
        let offset = |part: &str| part.as_ptr().addr().checked_sub(message.as_ptr().addr());
        let (text_at, other_at) = (offset(text)?, offset(other)?);
        let shape = Self {
            head: message.get(..text_at)?.to_owned(),
            middle: message.get(text_at + text.len()..other_at)?.to_owned(),
            tail: message.get(other_at + other.len()..)?.to_owned(),
        };
        (shape.head.ends_with('"') && shape.middle.starts_with('"')).then_some(shape)
    }

    /// The text of another message of this shape, which is not empty, and what stands in the place of its other value.
    /// `None`: it has another shape, or its text needs reading.
    pub(super) fn fill<'a>(&self, message: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = strip_prefix(message, &self.head)?;
        let end = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        let (text, rest) = rest.split_at_checked(end)?;
        let rest = strip_prefix(rest, &self.middle)?;
        let (other, tail) = rest.split_at_checked(rest.len().checked_sub(self.tail.len())?)?;
        let fits = !text.is_empty() && same(tail.as_bytes(), self.tail.as_bytes());
        fits.then_some((text, other))
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.as_bytes().get(..prefix.len())?;
    text.get(prefix.len()..).filter(|_| same(start, prefix.as_bytes()))
}

/// By words: in wasm, slices are compared byte by byte.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    a.len() == b.len()
        && words.iter().zip(other_words).all(|(a, b)| word(a) == word(b))
        && rest == other_rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of a message in which `<` and `>` stand around the text, `[` and `]` around the other value.
    fn shape(marked: &str) -> Option<Shape> {
        let message = marked.replace(['<', '>', '[', ']'], "");
        let text = &marked[marked.find('<').unwrap() + 1..marked.find('>').unwrap()];
        let text_at = marked.find('<').unwrap();
        let other = marked.find('[').map_or("", |at| &marked[at + 1..marked.find(']').unwrap()]);
        let other_at = marked.find('[').map_or(message.len(), |at| at - 2);
        let part = |at: usize, part: &str| &message[at..at + part.len()];
        Shape::of(&message, part(text_at, text), part(other_at, other))
    }

    const ONE: &str = r#"{"type":"delta","text":"<a>","index":0}"#;
    const TWO: &str = r#"{"parts":[{"text":"a"}],"usage":{"n":1},"id":"x"}"#;

    fn two() -> Shape {
        let (text, usage) = (TWO.find("a\"}").unwrap(), TWO.find("{\"n").unwrap());
        Shape::of(TWO, &TWO[text..=text], &TWO[usage..usage + 7]).unwrap()
    }

    #[test]
    fn gives_what_is_new() {
        let shape = shape(ONE).unwrap();
        let message = ONE.replace(['<', '>'], "");
        for text in ["a", " b", "h\u{e9} \u{1f600}", "{}[],:", "usage"] {
            let message = message.replace("\"a\"", &format!("\"{text}\""));
            assert_eq!(shape.fill(&message), Some((text, "")), "{message}");
        }
        for usage in [r#"{"n":1}"#, r#"{"n":12,"m":[{}]}"#, "null", ""] {
            let message = TWO.replace(r#"{"n":1}"#, usage).replace("\"a\"", "\"b c\"");
            assert_eq!(two().fill(&message), Some(("b c", usage)), "{message}");
        }
    }

    #[test]
    fn what_needs_reading_is_none() {
        let message = ONE.replace(['<', '>'], "");
        for (from, to) in [
            ("\"a\"", "\"\""),
            ("\"a\"", "\"a\\n\""),
            ("\"a\"", "\"\\u0041\""),
            ("\"a\"", "\"a\\\"\""),
            ("\"a\"", "\"a\nb\""),
            ("\"a\"", "\"a\u{1f}\""),
            ("\"a\"", "null"),
            ("\"a\"", "\"a\", \"x\":1"),
            ("\"a\"", "\"a"),
            ("delta", "Delta"),
            ("0}", "1}"),
            ("0}", "0,\"more\":1}"),
            ("{\"type", " {\"type"),
        ] {
            let message = message.replace(from, to);
            assert!(
                shape(ONE).unwrap().fill(&message).is_none_or(|(_, rest)| !rest.is_empty()),
                "{message}"
            );
        }
        for at in 0..TWO.len() {
            assert_eq!(two().fill(&TWO[..at]), None);
        }
        assert!(Shape::of(TWO, &TWO[1..3], &TWO[4..5]).is_none(), "no string");
        assert!(Shape::of(TWO, &TWO[9..10], &TWO[4..5]).is_none(), "another order");
    }
}
