//! Embeddings in OpenAI's words, for providers that say them in others: requests read, answers written.
//!
//! <https://platform.openai.com/docs/api-reference/embeddings/create>
//!
//! | member | |
//! |---|---|
//! | `model`, `input` | mapped; texts, not tokens, which are another tokenizer's |
//! | `dimensions`, `encoding_format` | mapped |
//! | `user` | dropped |
//! | any other | refused |

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::json::{count, items, members, must_be, not_supported, string};
use crate::conversation::Unsupported;
use crate::usage::Usage;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// At least one.
    pub(super) inputs: Vec<Cow<'a, str>>,
    pub(super) dimensions: Option<u64>,
    /// The client wants numbers as base64, as official SDKs do.
    pub(super) base64: bool,
}

/// What a provider said.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// An array of numbers for each input, in order.
    pub(super) vectors: Vec<&'a RawValue>,
    pub(super) usage: Option<Usage>,
}

/// # Errors
///
/// What is malformed, and what no other format has a word for; each by the name of its member.
pub(super) fn read(body: &str) -> Result<Request<'_>, Unsupported> {
    let mut request = Request::default();
    members("body", body, |name, value| {
        match name {
            "model" | "user" => {}
            "input" => request.inputs = inputs(value)?,
            "dimensions" => request.dimensions = Some(count(name, value)?),
            "encoding_format" => match value {
                "\"base64\"" => request.base64 = true,
                "\"float\"" => request.base64 = false,
                _ => return Err(must_be(name, "float or base64")),
            },
            _ => return Err(not_supported(name)),
        }
        Ok(())
    })?;
    if request.inputs.is_empty() {
        return Err(must_be("input", "a text or a list of at least one text"));
    }
    Ok(request)
}

fn inputs(value: &str) -> Result<Vec<Cow<'_, str>>, Unsupported> {
    if !value.starts_with('[') {
        return Ok(vec![string("input", value)?]);
    }
    let each = items("input", value)?.into_iter().enumerate();
    each.map(|(index, item)| {
        let path = format!("input[{index}]");
        string(&path, item).map_err(|_| must_be(&path, "a text: tokens are another model's"))
    })
    .collect()
}

/// `None`: a vector holds what is no number.
pub(super) fn write(answer: &Answer<'_>, model: &str, base64: bool) -> Option<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        object: &'static str,
        data: Vec<Item<'a>>,
        model: &'a str,
        usage: WireUsage,
    }
    #[derive(Serialize)]
    struct Item<'a> {
        object: &'static str,
        index: usize,
        embedding: Cow<'a, RawValue>,
    }
    #[derive(Serialize)]
    struct WireUsage {
        prompt_tokens: u64,
        total_tokens: u64,
    }
    let mut data = Vec::with_capacity(answer.vectors.len());
    for (index, vector) in answer.vectors.iter().enumerate() {
        let numbers: Vec<f32> = serde_json::from_str(vector.get()).ok()?;
        let embedding = if base64 {
            let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
            Cow::Owned(RawValue::from_string(format!("\"{}\"", encode(&bytes))).ok()?)
        } else {
            Cow::Borrowed(*vector)
        };
        data.push(Item { object: "embedding", index, embedding });
    }
    let tokens = answer.usage.map_or(0, |usage| usage.prompt);
    let usage = WireUsage { prompt_tokens: tokens, total_tokens: tokens };
    serde_json::to_vec(&Body { object: "list", data, model, usage }).ok()
}

/// Base64 (RFC 4648, section 4).
fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) as usize & 63;
            let letter = ALPHABET.get(index).copied().unwrap_or_default();
            text.push(if digit > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (body, inputs, dimensions, base64) in [
            (r#"{"model":"m","input":"a"}"#, &["a"][..], None, false),
            (r#"{"model":"m","input":["a","é\n"],"dimensions":8}"#, &["a", "é\n"], Some(8), false),
            (
                r#"{"input":"a","encoding_format":"base64","user":"u","dimensions":null}"#,
                &["a"],
                None,
                true,
            ),
            (r#"{"input":"","encoding_format":"float"}"#, &[""], None, false),
        ] {
            let request = read(body).unwrap();
            assert_eq!(request.inputs, inputs, "{body}");
            assert_eq!((request.dimensions, request.base64), (dimensions, base64), "{body}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (body, param) in [
            (r#"{"model":"m"}"#, "input"),
            (r#"{"input":[]}"#, "input"),
            (r#"{"input":7}"#, "input"),
            (r#"{"input":[1,2]}"#, "input[0]"),
            (r#"{"input":["a",[1]]}"#, "input[1]"),
            (r#"{"input":"a","dimensions":"8"}"#, "dimensions"),
            (r#"{"input":"a","encoding_format":"int8"}"#, "encoding_format"),
            (r#"{"input":"a","input_type":"query"}"#, "input_type"),
        ] {
            assert_eq!(read(body).unwrap_err().param, param, "{body}");
        }
    }

    #[test]
    fn answers() {
        let raw = |text| serde_json::from_str::<&RawValue>(text).unwrap();
        let usage = Some(Usage { prompt: 3, ..Usage::default() });
        let answer = Answer { vectors: vec![raw("[1, -0.5]"), raw("[1e-3]")], usage };
        let found = String::from_utf8(write(&answer, "m", false).unwrap()).unwrap();
        let expected = concat!(
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1, -0.5]},"#,
            r#"{"object":"embedding","index":1,"embedding":[1e-3]}],"model":"m","#,
            r#""usage":{"prompt_tokens":3,"total_tokens":3}}"#
        );
        assert_eq!(found, expected);
        let found = String::from_utf8(write(&answer, "m", true).unwrap()).unwrap();
        assert!(found.contains(r#""embedding":"AACAPwAAAL8=""#), "{found}");
        assert!(
            write(&Answer { vectors: vec![raw("[\"a\"]")], usage: None }, "m", false).is_none()
        );
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes), text);
        }
    }
}
