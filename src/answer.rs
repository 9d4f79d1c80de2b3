//! The answer of a provider on its way to the client: held until it is known to be one, then observed.

use std::borrow::Cow;

use memchr::memmem;

use crate::effect::{Cx, Effect};
use crate::endpoint::Endpoint;
use crate::formats::{self, Setup, Translation};
use crate::headers::Headers;
use crate::observe::{Class, JsonObserver, Outcome, Output, StreamObserver};
use crate::time::UnixTime;
use crate::usage::Usage;

/// Longest error body in bytes that is read; the rest says nothing more.
pub const MAX_ERROR: usize = 64 * 1024;

/// How long a stream that only sends preamble is held: keep-alive comments must reach the client before
/// it gives up.
const HELD_MS: u64 = 10_000;

/// An answer with a good status.
#[derive(Debug)]
pub struct Answer {
    kind: Kind,
    /// Headers are still held; the host then hands over all of the body that has come so far.
    held: bool,
    since: UnixTime,
    /// Bytes of the held body that were observed already.
    observed: usize,
    /// What goes to the client in place of the held body.
    out: Vec<u8>,
    changed: bool,
    errors_in_success: bool,
    /// The beginning of an answer that nobody could hold, and which may be an error all the same.
    unheld: Vec<u8>,
}

#[derive(Debug)]
enum Kind {
    Stream(StreamObserver, Endpoint),
    Json(JsonObserver),
    Translated(Box<Translation>),
}

/// What the client is to see of an answer.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Not the usage chunk of a stream.
    pub hide_usage: bool,
    /// Where the provider's words are not the client's.
    pub translation: Option<Setup>,
    /// As the row's.
    pub errors_in_success: bool,
}

/// What is known after a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Too early to say.
    Held,
    /// It is an answer: let it go on.
    Pass,
    /// It is an error in the clothes of an answer; its JSON.
    Failed(Vec<u8>),
}

impl Answer {
    /// `hold`: nothing of it goes on before it is known to be an answer.
    pub fn new(
        headers: &Headers,
        endpoint: Endpoint,
        shown: Shown,
        hold: bool,
        now: UnixTime,
    ) -> Self {
        let content_type = headers.text("content-type").unwrap_or_default();
        let streamed = content_type.starts_with("text/event-stream");
        let errors_in_success = shown.errors_in_success;
        let kind = match shown.translation {
            Some(setup) => {
                let streamed = setup.format.is_stream(content_type);
                Kind::Translated(Box::new(Translation::new(setup, streamed)))
            }
            None if streamed => Kind::Stream(StreamObserver::new(shown.hide_usage), endpoint),
            None => Kind::Json(JsonObserver::new()),
        };
        Self {
            kind,
            held: hold,
            since: now,
            observed: 0,
            out: Vec::new(),
            changed: false,
            errors_in_success,
            unheld: Vec::new(),
        }
    }

    /// The error that an answer turned out to be whose headers had gone on before.
    pub fn late_error(&self) -> Option<Vec<u8>> {
        error_in_success(&self.unheld)
    }

    /// Whether it is a stream in other words than the provider's; `None`: it is in the provider's.
    pub fn translated(&self) -> Option<bool> {
        match &self.kind {
            Kind::Translated(translation) => Some(translation.is_stream()),
            Kind::Stream(..) | Kind::Json(_) => None,
        }
    }

    /// Whether bytes of the body may be taken out or added.
    pub fn may_change(&self) -> bool {
        matches!(self.kind, Kind::Stream(..) | Kind::Translated(_))
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether [`Self::feed`] would do nothing with a chunk that is not the last, and let it go on unchanged.
    pub fn is_delta(&self, chunk: &[u8]) -> bool {
        !self.held && matches!(&self.kind, Kind::Stream(observer, _) if observer.is_delta(chunk))
    }

    /// Takes what the host has: all of it while held, then chunk by chunk. Replaces the chunk where
    /// the client is to get something else.
    pub fn feed(&mut self, cx: &mut Cx<'_>, body: &[u8], end_of_stream: bool) -> Step {
        if !self.held {
            // Where it was held it is known to be none, but for the length of an error no more.
            if self.errors_in_success && self.observed == 0 && self.unheld.len() < MAX_ERROR {
                self.unheld.extend_from_slice(body);
            }
            let (out, changed) = self.observe(body, end_of_stream);
            if changed {
                cx.set_body(out);
            }
            return Step::Pass;
        }
        let news = body.get(self.observed..).unwrap_or_default();
        self.observed = body.len();
        let (out, changed) = self.observe(news, end_of_stream);
        self.out.extend_from_slice(&out);
        self.changed |= changed;
        match self.opening(body, end_of_stream, cx.now) {
            Step::Held => Step::Held,
            Step::Pass => {
                self.held = false;
                let out = core::mem::take(&mut self.out);
                if self.changed {
                    cx.effects.push(Effect::SetBody(out));
                }
                Step::Pass
            }
            failed @ Step::Failed(_) => failed,
        }
    }

    pub fn usage(&self) -> Option<Usage> {
        match &self.kind {
            Kind::Stream(observer, _) => observer.usage(),
            Kind::Json(observer) => observer.usage(),
            Kind::Translated(translation) => translation.usage(),
        }
    }

    /// Whether a stream ended without being complete; `None` where that cannot be told.
    pub fn outcome(&self) -> Outcome {
        match &self.kind {
            Kind::Stream(observer, endpoint) => stream_outcome(observer, *endpoint),
            Kind::Json(_) => Outcome::Unknown,
            Kind::Translated(translation) => translation.outcome(),
        }
    }

    fn opening(&self, body: &[u8], end_of_stream: bool, now: UnixTime) -> Step {
        if self.errors_in_success {
            if let Some(error) = error_in_success(body) {
                return Step::Failed(error);
            }
            // It may be the last member; what is longer than any error is an answer.
            if matches!(self.kind, Kind::Json(_)) && !end_of_stream && body.len() <= MAX_ERROR {
                return Step::Held;
            }
        }
        match &self.kind {
            Kind::Stream(observer, _) => match observer.opening() {
                Some(Class::Error) => Step::Failed(observer.error().unwrap_or(b"null").to_vec()),
                Some(_) => Step::Pass,
                // An end before any event is no answer either.
                None if end_of_stream && observer.outcome() == Outcome::Open => {
                    Step::Failed(b"null".to_vec())
                }
                None if end_of_stream || now.0.saturating_sub(self.since.0) >= HELD_MS => {
                    Step::Pass
                }
                None if observer.outcome() == Outcome::Unknown => Step::Pass,
                None => Step::Held,
            },
            Kind::Translated(translation) => match translation.opening() {
                Some(Class::Error) => Step::Failed(translation.error().unwrap_or(b"null").to_vec()),
                Some(_) => Step::Pass,
                None if end_of_stream => Step::Failed(b"null".to_vec()),
                None if translation.is_document() => Step::Held,
                None if now.0.saturating_sub(self.since.0) >= HELD_MS => Step::Pass,
                None => Step::Held,
            },
            Kind::Json(observer) => match opens_with_error(body) {
                Some(false) => Step::Pass,
                None if !end_of_stream => Step::Held,
                None => Step::Pass,
                Some(true) => match observer.error() {
                    Some(error) => Step::Failed(error.to_vec()),
                    None if end_of_stream || body.len() > MAX_ERROR => Step::Pass,
                    None => Step::Held,
                },
            },
        }
    }

    /// The bytes for the client and whether they differ from `chunk`.
    fn observe(&mut self, chunk: &[u8], end_of_stream: bool) -> (Vec<u8>, bool) {
        match &mut self.kind {
            Kind::Json(observer) => {
                observer.feed(chunk);
                // Never changed: nothing to copy.
                (Vec::new(), false)
            }
            Kind::Translated(translation) => (translation.feed(chunk, end_of_stream), true),
            Kind::Stream(observer, endpoint) => {
                let output = observer.feed(chunk, end_of_stream);
                let truncated =
                    end_of_stream && stream_outcome(observer, *endpoint) == Outcome::Open;
                let copy = self.held || truncated;
                let (mut out, mut changed) = match output {
                    Output::Unchanged if copy => (chunk.to_vec(), false),
                    Output::Unchanged => (Vec::new(), false),
                    Output::Replace(out) => (out, true),
                };
                if truncated && observer.opening().is_some() {
                    changed = true;
                    formats::cut_event(endpoint.dialect(), &mut out);
                }
                (out, changed)
            }
        }
    }
}

fn stream_outcome(observer: &StreamObserver, endpoint: Endpoint) -> Outcome {
    match observer.outcome() {
        Outcome::Open if observer.opening().is_some() && !endpoint.ends_streams_alike() => {
            Outcome::Unknown
        }
        outcome => outcome,
    }
}

/// The error that MiniMax puts into a success, in OpenAI's words; `None`: it says that it is one, or nothing yet.
fn error_in_success(body: &[u8]) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Outcome<'a> {
        status_code: i64,
        #[serde(borrow, default)]
        status_msg: Cow<'a, str>,
    }
    const NAME: &[u8] = b"\"base_resp\"";
    let after = body.get(memmem::find(body, NAME)? + NAME.len()..)?;
    let value = after.trim_ascii_start().strip_prefix(b":")?;
    // What comes after it may be cut within a character.
    let value = value.utf8_chunks().next()?.valid();
    let mut values = serde_json::Deserializer::from_str(value).into_iter::<Outcome<'_>>();
    let outcome = values.next()?.ok().filter(|outcome| outcome.status_code != 0)?;
    let code = outcome.status_code.to_string();
    let error = serde_json::json!({"message": outcome.status_msg, "code": code});
    Some(error.to_string().into_bytes())
}

/// Whether a JSON document's first member is a real `error`; `None`: too little has come to tell.
fn opens_with_error(body: &[u8]) -> Option<bool> {
    let body = body.trim_ascii_start();
    let (first, rest) = body.split_first()?;
    if *first != b'{' {
        return Some(false);
    }
    let rest = rest.trim_ascii_start();
    let (name, after) = rest.split_at_checked(ERROR.len()).unwrap_or((rest, &[]));
    if name != ERROR {
        return if ERROR.starts_with(name) { None } else { Some(false) };
    }
    let value = after.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
    match value.and_then(<[u8]>::first) {
        Some(b'n') => Some(false),
        Some(_) => Some(true),
        None => None,
    }
}

const ERROR: &[u8] = b"\"error\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_success_is_found_wherever_it_is() {
        let error =
            |body: &str| error_in_success(body.as_bytes()).map(|e| String::from_utf8(e).unwrap());
        let said = Some(r#"{"message":"no balance","code":"1008"}"#.to_owned());
        for (body, expected) in [
            (r#"{"base_resp":{"status_code":1008,"status_msg":"no balance"}}"#, &said),
            (
                r#"{"choices":null,"base_resp" : {"status_msg":"no balance","status_code":1008}}"#,
                &said,
            ),
            (r#"data: {"base_resp":{"status_code":1008,"status_msg":"no balance"},"#, &said),
            (r#"{"choices":[],"base_resp":{"status_code":0,"status_msg":""}}"#, &None),
            (r#"{"choices":[{"text":"\"base_resp\":{\"status_code\":1}"}]}"#, &None),
            (r#"{"base_resp":{"status_code":1008,"status"#, &None),
            (r#"{"base_resp":1008}"#, &None),
            (r#"{"base_resp""#, &None),
            ("", &None),
        ] {
            assert_eq!(error(body), *expected, "{body}");
        }
    }

    #[test]
    fn an_error_as_first_member_is_told_from_an_answer() {
        for (body, expected) in [
            (r#"{"error":{"message":"m"}}"#, Some(true)),
            (" \n{ \"error\" : {", Some(true)),
            (r#"{"error":"overloaded"}"#, Some(true)),
            (r#"{"error":null,"id":1}"#, Some(false)),
            (r#"{"id":"chatcmpl-1","error":{}}"#, Some(false)),
            (r#"[1]"#, Some(false)),
            ("plain", Some(false)),
            ("", None),
            ("{", None),
            (r#"{"err"#, None),
            (r#"{"error":"#, None),
        ] {
            assert_eq!(opens_with_error(body.as_bytes()), expected, "{body}");
        }
    }
}
