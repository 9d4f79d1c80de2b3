//! What Keyward reads of a `multipart/form-data` body: uploads of audio and images.
//!
//! RFC 7578, and RFC 2046, section 5.1, for the delimiters. Only the parts `model` and `stream` are looked at; the
//! body is patched in place of the model's name and otherwise never touched. What another reader of the same bytes
//! could read differently is refused: a second `model`, a `model` in another case, an encoding on top of it.

use std::borrow::Cow;

use memchr::memmem;

use crate::members::{Ask, BodyError, Spans};

/// Parts of one body; OpenAI takes 16 images, and a few fields.
const MAX_PARTS: usize = 256;
/// Bytes of the headers of one part.
const MAX_PART_HEAD: usize = 8 * 1024;

/// What separates the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// Of a `content-type`. `None`: it is another type.
    ///
    /// # Errors
    ///
    /// There is no boundary, or it is none by RFC 2046, section 5.1.1.
    pub fn of(content_type: &str) -> Option<Result<Self, BodyError>> {
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary").filter(|boundary| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
            (1..=70).contains(&boundary.len())
                && boundary.bytes().all(allowed)
                && !boundary.ends_with(' ')
        });
        let boundary = boundary.ok_or(BodyError::NotAForm("the content-type has no boundary"));
        Some(boundary.map(|boundary| Self(boundary.into_owned())))
    }
}

/// What Keyward needs to know of a form.
///
/// # Errors
///
/// Whatever keeps gateway and provider from reading the same request.
pub fn read<'a>(body: &'a [u8], boundary: &Boundary) -> Result<Ask<'a>, BodyError> {
    if u32::try_from(body.len()).is_err() {
        return Err(BodyError::TooLarge);
    }
    let (mut model, mut stream, mut text) = (None, None, 0);
    let mut other_case = false;
    each_part(body, boundary, |part| {
        let Part { name, is_file, is_encoded, content } = part;
        if !is_file {
            text += content.len();
        }
        let (member, value) = match &*name {
            b"model" => ("model", &mut model),
            b"stream" => ("stream", &mut stream),
            _ => {
                other_case |= name.eq_ignore_ascii_case(b"model");
                return Ok(());
            }
        };
        let plain = core::str::from_utf8(content).ok().filter(|_| !is_file && !is_encoded);
        let plain = plain.ok_or(BodyError::Type { member, expected: "a plain text field" })?;
        match value.replace(plain) {
            Some(_) => Err(BodyError::Duplicate(member)),
            None => Ok(()),
        }
    })?;
    if other_case && model.is_some() {
        return Err(BodyError::Duplicate("model"));
    }
    let model = model.filter(|model| !model.is_empty()).ok_or(BodyError::MissingModel)?;
    Ok(Ask {
        model: Cow::Borrowed(model),
        // Written by people: Python's `str(True)` is `True`.
        stream: stream.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1"),
        include_usage: None,
        max_tokens: None,
        choices: 1,
        prompt_bytes: text,
        spans: Spans::of_text(model, body),
    })
}

struct Part<'a> {
    name: Cow<'a, [u8]>,
    /// It has a file name.
    is_file: bool,
    /// It has a transfer encoding that changes its bytes, which RFC 7578, section 4.7, deprecates.
    is_encoded: bool,
    content: &'a [u8],
}

fn each_part<'a>(
    body: &'a [u8],
    boundary: &Boundary,
    mut each: impl FnMut(Part<'a>) -> Result<(), BodyError>,
) -> Result<(), BodyError> {
    let delimiter = format!("\r\n--{}", boundary.0);
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // The first delimiter needs no line break before it where there is no preamble.
    let opening = delimiter.trim_start().as_bytes();
    let mut rest = match body.strip_prefix(opening) {
        Some(rest) => rest,
        None => {
            let at = finder.find(body).ok_or(BodyError::NotAForm("it has no part"))?;
            body.get(at + delimiter.len()..).unwrap_or_default()
        }
    };
    for _ in 0..MAX_PARTS {
        if rest.starts_with(b"--") {
            return Ok(());
        }
        // Spaces may pad the line of a delimiter; a longer boundary that begins like ours is somebody else's.
        let line = memmem::find(rest, b"\r\n").ok_or(BodyError::NotAForm(CUT))?;
        let (padding, after) = rest.split_at_checked(line).unwrap_or((rest, &[]));
        if !padding.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(BodyError::NotAForm("a part contains the boundary"));
        }
        let end = finder.find(after).ok_or(BodyError::NotAForm(CUT))?;
        each(part(after.get(2..end).unwrap_or_default())?)?;
        rest = after.get(end + delimiter.len()..).unwrap_or_default();
    }
    Err(BodyError::NotAForm("it has too many parts"))
}

const CUT: &str = "it is cut off";

/// A part from its first header on.
fn part(bytes: &[u8]) -> Result<Part<'_>, BodyError> {
    let end =
        memmem::find(bytes.get(..bytes.len().min(MAX_PART_HEAD)).unwrap_or(bytes), b"\r\n\r\n")
            .ok_or(BodyError::NotAForm("a part has no headers, or too long ones"))?;
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let (mut name, mut is_file, mut is_encoded) = (None, false, false);
    for line in head.split("\r\n") {
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if field.eq_ignore_ascii_case("content-disposition") {
            let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
            if kind.trim().eq_ignore_ascii_case("form-data") {
                name = parameter(parameters, "name").map(|name| name.into_owned().into_bytes());
                is_file = parameter(parameters, "filename").is_some()
                    || parameter(parameters, "filename*").is_some();
            }
        } else if field.eq_ignore_ascii_case("content-transfer-encoding") {
            let same = ["7bit", "8bit", "binary"];
            is_encoded = !same.iter().any(|coding| value.eq_ignore_ascii_case(coding));
        }
    }
    let name = Cow::Owned(name.ok_or(BodyError::NotAForm("a part has no name"))?);
    Ok(Part { name, is_file, is_encoded, content: bytes.get(end + 4..).unwrap_or_default() })
}

/// A parameter of a header field: a token or a quoted string (RFC 9110, section 5.6.6).
fn parameter<'a>(parameters: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (value, left) = after.split_once(';').unwrap_or((after, ""));
                (Cow::Borrowed(value.trim_end()), left)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = left;
    }
}

/// From after the opening quote: the text, and what follows the closing one.
fn unquote(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let (text, left) = quoted.split_once('"')?;
    if !text.contains('\\') {
        return Some((Cow::Borrowed(text), left));
    }
    let (mut text, mut characters) = (String::new(), quoted.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(text), characters.as_str())),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{Changes, patch};

    fn boundary() -> Boundary {
        Boundary::of("multipart/form-data; boundary=b").unwrap().unwrap()
    }

    /// A form of these parts: the rest of a Content-Disposition, and content.
    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (disposition, content) in parts {
            body.extend_from_slice(
                format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--b--\r\n");
        body
    }

    const MODEL: (&str, &[u8]) = (r#"name="model""#, b"whisper-1");
    /// With all that could be taken for a delimiter.
    const FILE: (&str, &[u8]) = (
        r#"name="file"; filename="a;name=model;.wav""#,
        b"RIFF\x00\xFF\r\n--B\r\n--\r\n\r\nmodel\r\n-b",
    );

    #[test]
    fn boundaries() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=b", Some(Some("b"))),
            ("Multipart/Form-Data;charset=utf-8;BOUNDARY=\"a b:1\"", Some(Some("a b:1"))),
            (r#"multipart/form-data; boundary="a\b""#, Some(Some("ab"))),
            ("multipart/form-data", Some(None)),
            ("multipart/form-data; boundary=", Some(None)),
            ("multipart/form-data; boundary=\"a \"", Some(None)),
            ("multipart/form-data; boundary=a@b", Some(None)),
            ("multipart/form-data; boundary=\"a", Some(None)),
            ("application/json", None),
            ("multipart/mixed; boundary=b", None),
        ] {
            let found = Boundary::of(content_type);
            let found = found.as_ref().map(|b| b.as_ref().ok().map(|b| b.0.as_str()));
            assert_eq!(found, expected, "{content_type}");
        }
        let longest = format!("multipart/form-data; boundary={}", "x".repeat(70));
        assert!(Boundary::of(&longest).unwrap().is_ok());
        assert!(Boundary::of(&format!("{longest}x")).unwrap().is_err());
    }

    #[test]
    fn reads_and_patches_the_model_and_nothing_else() {
        let stream = ("name=stream", &b"true"[..]);
        for (parts, streams, text) in [
            (&[MODEL][..], false, 9),
            (&[FILE, MODEL], false, 9),
            (&[MODEL, FILE, stream, ("name=\"prompt\"", b"\r\n")], true, 15),
            (&[FILE, MODEL, ("name=\"stream\"", b"false"), FILE], false, 14),
        ] {
            for preamble in ["", "ignored\r\n", "\r\n"] {
                let body = [preamble.as_bytes(), &form(parts), b"epilogue"].concat();
                let ask = read(&body, &boundary()).unwrap();
                assert_eq!((&*ask.model, ask.stream), ("whisper-1", streams));
                assert_eq!(ask.prompt_bytes, text);
                let change = |model| Changes { model, ..Changes::default() };
                let same = patch(&body, &ask.spans, change(None)).unwrap();
                assert_eq!(same, &body[..]);
                let other = patch(&body, &ask.spans, change(Some("w\"2"))).unwrap();
                let at = memmem::find(&body, b"whisper-1").unwrap();
                let expected = [&body[..at], b"w\"2", &body[at + 9..]].concat();
                assert_eq!(other, &expected[..]);
                assert_eq!(read(&other, &boundary()).unwrap().model, "w\"2");
            }
        }
    }

    #[test]
    fn headers_in_any_order_and_case() {
        let body =
            b"--b  \r\ncontent-type: text/plain\r\nCONTENT-DISPOSITION: Form-Data ; Name=model\r\n\
                     Content-Transfer-Encoding: 8BIT\r\n\r\nm\r\n--b--";
        assert_eq!(read(body, &boundary()).unwrap().model, "m");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let with = |parts: &[(&str, &[u8])]| read(&form(parts), &boundary()).map(|_| ());
        let text = |member| Err(BodyError::Type { member, expected: "a plain text field" });
        for (parts, expected) in [
            (&[FILE][..], Err(BodyError::MissingModel)),
            (&[("name=\"model\"", b"")], Err(BodyError::MissingModel)),
            (&[MODEL, FILE, MODEL], Err(BodyError::Duplicate("model"))),
            (&[MODEL, ("name=Model", b"other")], Err(BodyError::Duplicate("model"))),
            (&[("name=model; filename=x", b"m")], text("model")),
            (&[("name=model; filename*=utf-8''x", b"m")], text("model")),
            (&[("name=model\r\nContent-Transfer-Encoding: base64", b"bQ==")], text("model")),
            (&[("name=model", b"\xFF")], text("model")),
            (&[MODEL, ("name=stream; filename=x", b"true")], text("stream")),
            (&[("filename=x", b"")], Err(BodyError::NotAForm("a part has no name"))),
        ] {
            assert_eq!(with(parts), expected, "{parts:?}");
        }
        let raw = |body: &str| read(body.as_bytes(), &boundary()).map(|_| ());
        for (body, reason) in [
            ("", "it has no part"),
            ("{\"model\":\"m\"}", "it has no part"),
            ("--b", CUT),
            ("--b\r\n", CUT),
            ("--bb\r\n\r\n\r\n--bb--", "a part contains the boundary"),
            ("--b\n\n--b--", CUT),
            ("--b\r\nContent-Disposition: form-data; name=a\r\n\r\n--c--", CUT),
        ] {
            assert_eq!(raw(body), Err(BodyError::NotAForm(reason)), "{body}");
        }
        let many: Vec<_> = core::iter::repeat_n(("name=a", &b""[..]), MAX_PARTS).collect();
        assert_eq!(with(&many), Err(BodyError::NotAForm("it has too many parts")));
        let long = format!("name=a; x={}", "x".repeat(MAX_PART_HEAD));
        let reason = "a part has no headers, or too long ones";
        assert_eq!(with(&[(long.as_str(), b"")]), Err(BodyError::NotAForm(reason)));
    }

    #[test]
    fn a_form_cut_anywhere_is_refused_and_nothing_panics() {
        let body = form(&[FILE, MODEL]);
        let end = body.len() - "--\r\n".len();
        for at in 0..body.len() {
            let cut = &body[..at];
            assert_eq!(read(cut, &boundary()).is_ok(), at > end + 1, "{at}");
        }
        let mut seed = 7_u32;
        for _ in 0..20_000 {
            let mut body = body.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 8) as usize % body.len();
                body[at] = b"\r\n-b\"\\;=:\xFF"[(seed >> 4) as usize % 10];
            }
            let _ = read(&body, &boundary());
        }
    }
}
