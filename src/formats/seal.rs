//! Where the proof of a provider's thinking goes through the words of another vendor, which has no place for whose
//! it is.
//!
//! Anthropic's own signatures go to Anthropic's clients as they are, so that a conversation can go on without
//! Keyward. Everything else is `keyward:ORIGIN:PROOF`, in a signature of Anthropic's as in OpenAI's
//! `encrypted_content`.

use std::borrow::Cow;

use crate::conversation::Block;

const MARK: &str = "keyward:";

/// The proof as a client is to send it back. `native`: the origin whose proofs this client's words are made for.
pub(super) fn seal<'a>(native: &str, origin: Option<&str>, proof: &'a str) -> Cow<'a, str> {
    match origin {
        Some(origin) if origin != native => format!("{MARK}{origin}:{proof}").into(),
        _ => proof.into(),
    }
}

/// The reverse: whose it is, if anybody said, and the proof; `None` where there is none.
pub(super) fn open<'a>(
    native: Option<&'static str>,
    sealed: Cow<'a, str>,
) -> (Option<Cow<'a, str>>, Option<Cow<'a, str>>) {
    if sealed.is_empty() {
        return (None, None);
    }
    let marked = sealed.strip_prefix(MARK).and_then(|rest| {
        let (origin, _) = rest.split_once(':')?;
        Some((MARK.len(), MARK.len() + origin.len()))
    });
    let Some((from, to)) = marked else { return (native.map(Cow::Borrowed), Some(sealed)) };
    let part =
        |text: &str, from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    match sealed {
        Cow::Borrowed(text) => (
            Some(text.get(from..to).unwrap_or_default().into()),
            Some(text.get(to + 1..).unwrap_or_default().into()),
        ),
        Cow::Owned(text) => {
            let end = text.len();
            (Some(part(&text, from, to).into()), Some(part(&text, to + 1, end).into()))
        }
    }
}

/// As [`Block::Thinking`] names the origin in a stream, where it is one of those that are known.
pub(super) fn known_origin(origin: &str) -> Option<&'static str> {
    const KNOWN: [&str; 5] = [
        Block::ANTHROPIC,
        Block::GEMINI,
        "openai-responses-v1",
        "xai-responses-v1",
        "azure-openai-responses-v1",
    ];
    KNOWN.into_iter().find(|known| *known == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_comes_back_with_its_origin() {
        for (origin, proof, sealed) in [
            (Some(Block::ANTHROPIC), "EqQB+/==", "EqQB+/=="),
            (Some("google-gemini-v1"), "a:b", "keyward:google-gemini-v1:a:b"),
            (Some("google-gemini-v1"), "", "keyward:google-gemini-v1:"),
        ] {
            let text = seal(Block::ANTHROPIC, origin, proof);
            assert_eq!(text, sealed);
            for text in [Cow::Borrowed(sealed), Cow::Owned(sealed.to_owned())] {
                let (whose, what) = open(Some(Block::ANTHROPIC), text);
                assert_eq!((whose.as_deref(), what.as_deref()), (origin, Some(proof)));
            }
        }
        assert_eq!(open(Some(Block::ANTHROPIC), "".into()), (None, None));
        assert_eq!(open(None, "x".into()), (None, Some("x".into())));
        assert_eq!(open(None, "keyward:x".into()), (None, Some("keyward:x".into())));
    }
}
