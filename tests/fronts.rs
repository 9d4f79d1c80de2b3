//! Streams of providers in the words of clients of Messages and Responses: every fixture cut everywhere, and what comes
//! out held to the rules of its protocol.
//!
//! `KEYWARD_BLESS=1 cargo test --test fronts` writes what is expected anew, to be read in the diff.

#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

mod protocol;

use std::path::{Path, PathBuf};

use keyward::endpoint::Endpoint;
use keyward::formats::{self, Echo, Format, Setup, Translation, Upstream};
use keyward::observe::Outcome;

/// Folder of the fixtures, format, endpoint of the client, its name in the names of files.
const WAYS: [(&str, Format, Endpoint, &str); 7] = [
    ("chat", Format::OpenAi, Endpoint::Messages, "anthropic"),
    ("chat", Format::OpenAi, Endpoint::Responses, "responses"),
    ("anthropic", Format::Anthropic, Endpoint::Responses, "responses"),
    ("gemini", Format::Gemini, Endpoint::Messages, "anthropic"),
    ("gemini", Format::Gemini, Endpoint::Responses, "responses"),
    ("cohere", Format::Cohere, Endpoint::Messages, "anthropic"),
    ("cohere", Format::Cohere, Endpoint::Responses, "responses"),
];

/// Of formats whose other streams are told in chat completions: what is special about them.
const SPECIAL: [&str; 5] = ["chat.sse", "cited.sse", "grounded.sse", "thinking.sse", "tools.sse"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The streams of providers in a folder.
fn fixtures(name: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder(name)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let all = matches!(name, "chat" | "anthropic");
    let mut names: Vec<String> = names
        .filter(|name| name.ends_with(".sse") && name.matches('.').count() == 1)
        .filter(|name| all || SPECIAL.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

fn translation(format: Format, endpoint: Endpoint) -> Translation {
    // A response repeats members of its request.
    let kind = keyward::provider::find("cohere").unwrap();
    let upstream = Upstream { kind, model: "m", include_usage: true };
    let asked = br#"{"model":"m","input":"x"}"#;
    let echo = match endpoint {
        Endpoint::Responses => formats::request(&upstream, endpoint, asked).unwrap().echo,
        _ => Echo::default(),
    };
    let setup = Setup {
        endpoint,
        format,
        include_usage: false,
        created: 1_790_000_000,
        nonce: 0xabc,
        model: String::new(),
        echo,
    };
    Translation::new(setup, true)
}

fn fed(translation: &mut Translation, pieces: &[&[u8]]) -> Vec<u8> {
    let last = pieces.len() - 1;
    pieces.iter().enumerate().flat_map(|(i, piece)| translation.feed(piece, i == last)).collect()
}

#[test]
fn however_it_is_cut() {
    for (source, format, endpoint, client) in WAYS {
        for file in fixtures(source) {
            let bytes = std::fs::read(folder(source).join(&file)).unwrap();
            let whole = fed(&mut translation(format, endpoint), &[&bytes]);
            let stem = file.strip_suffix(".sse").unwrap();
            let golden = folder("front").join(format!("{source}.{stem}.{client}.sse"));
            if std::env::var_os("KEYWARD_BLESS").is_some() {
                std::fs::write(&golden, &whole).unwrap();
            }
            let golden = String::from_utf8(std::fs::read(golden).unwrap()).unwrap();
            assert_eq!(String::from_utf8(whole).unwrap(), golden, "{file}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let out = fed(&mut translation(format, endpoint), &single);
            assert_eq!(String::from_utf8(out).unwrap(), golden, "{file}, byte by byte");
            for cut in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                let out = fed(&mut translation(format, endpoint), &[head, tail]);
                assert!(out == golden.as_bytes(), "{file}, cut at {cut}");
            }
        }
    }
}

#[test]
fn every_stream_keeps_the_rules_of_its_protocol() {
    for (source, format, endpoint, _) in WAYS {
        for file in fixtures(source) {
            let bytes = std::fs::read(folder(source).join(&file)).unwrap();
            // As it is, and cut off anywhere.
            for end in (0..=bytes.len()).rev().step_by(7) {
                let mut translation = translation(format, endpoint);
                let out = fed(&mut translation, &[&bytes[..end]]);
                let complete = translation.outcome() == Outcome::Complete;
                protocol::check(endpoint, core::str::from_utf8(&out).unwrap(), complete, &file);
            }
        }
    }
}

#[test]
fn no_token_waits_for_the_next() {
    for (source, format, endpoint, client) in WAYS {
        let text = std::fs::read_to_string(folder(source).join("tools.sse")).unwrap();
        let mut translation = translation(format, endpoint);
        let wanted = if client == "anthropic" { "text_delta" } else { "output_text.delta" };
        let mut seen = 0;
        for event in text.split_inclusive("\n\n") {
            let out = String::from_utf8(translation.feed(event.as_bytes(), false)).unwrap();
            if event.contains(r#"{"content":"I"#) || event.contains(r#""text":"I look"#) {
                assert!(out.contains(wanted), "{event}: {out}");
                seen += 1;
            }
        }
        // In the others, calls stand alone.
        let has_text = matches!(source, "chat" | "anthropic");
        assert_eq!(seen, u32::from(has_text), "{source} {client}");
    }
}
