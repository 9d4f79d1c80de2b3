//! What an answer is based on: pages that Google's search found.
//!
//! <https://ai.google.dev/gemini-api/docs/google-search>

use std::borrow::Cow;

use serde::Deserialize;

use crate::conversation::Citation;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding<'a> {
    #[serde(borrow)]
    grounding_chunks: Option<Vec<Chunk<'a>>>,
    grounding_supports: Option<Vec<Support>>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    web: Option<Web<'a>>,
}

#[derive(Deserialize)]
struct Web<'a> {
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support {
    segment: Option<Segment>,
    grounding_chunk_indices: Option<Vec<usize>>,
}

/// In bytes of UTF-8; proto3 leaves 0 out.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Segment {
    start_index: usize,
    end_index: usize,
}

/// Every page for every segment of `text` that it supports; none where that is not as it should be: an answer is
/// worth more than its sources.
pub(super) fn citations<'a>(metadata: &'a str, text: &str) -> Vec<Citation<'a>> {
    let Ok(grounding) = serde_json::from_str::<Grounding<'a>>(metadata) else { return Vec::new() };
    let chunks = grounding.grounding_chunks.unwrap_or_default();
    let mut citations = Vec::new();
    for support in grounding.grounding_supports.into_iter().flatten() {
        let Segment { start_index, end_index } = support.segment.unwrap_or_default();
        let characters = |bytes: usize| {
            let head = text.get(..bytes)?;
            u32::try_from(head.chars().count()).ok()
        };
        let span = characters(start_index).zip(characters(end_index)).filter(|(a, b)| a < b);
        for index in support.grounding_chunk_indices.into_iter().flatten() {
            let page = chunks.get(index).and_then(|chunk| chunk.web.as_ref());
            let Some((page, uri)) = page.and_then(|page| Some((page, page.uri.as_ref()?))) else {
                continue;
            };
            let (url, title) = (Some(uri.clone()), page.title.clone());
            citations.push(Citation { url, title, span, ..Citation::default() });
        }
    }
    citations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_in_characters() {
        let chunks = r#""groundingChunks":[{"web":{"uri":"https://a.example","title":"A"}},{"maps":{}},{"web":{"uri":"https://b.example"}}]"#;
        let page = |url: &'static str, title: Option<&'static str>, span| Citation {
            url: Some(url.into()),
            title: title.map(Into::into),
            span,
            ..Citation::default()
        };
        for (supports, expected) in [
            (
                r#"[{"segment":{"endIndex":3},"groundingChunkIndices":[0,1,2,9]}]"#,
                vec![
                    page("https://a.example", Some("A"), Some((0, 2))),
                    page("https://b.example", None, Some((0, 2))),
                ],
            ),
            (
                r#"[{"segment":{"startIndex":3,"endIndex":6},"groundingChunkIndices":[2]},{"groundingChunkIndices":[0]}]"#,
                vec![
                    page("https://b.example", None, Some((2, 3))),
                    page("https://a.example", Some("A"), None),
                ],
            ),
            // Inside of a character, behind the end, the wrong way round.
            (
                r#"[{"segment":{"startIndex":1,"endIndex":3},"groundingChunkIndices":[2]}]"#,
                vec![page("https://b.example", None, None)],
            ),
            (
                r#"[{"segment":{"endIndex":99},"groundingChunkIndices":[2]}]"#,
                vec![page("https://b.example", None, None)],
            ),
            ("[{}]", vec![]),
            ("7", vec![]),
        ] {
            let metadata = format!(r#"{{{chunks},"groundingSupports":{supports}}}"#);
            assert_eq!(citations(&metadata, "Öa世"), expected, "{supports}");
        }
        assert!(
            citations(r#"{"groundingSupports":[{"groundingChunkIndices":[0]}]}"#, "").is_empty()
        );
    }
}
