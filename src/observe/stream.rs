//! A stream of events while it passes.

use super::MAX_CAPTURE;
use super::delta::Known;
use super::event::{Class, Observation, announces, classify};
use crate::sse::{Event, Framer};
use crate::usage::Usage;

/// What to do with a chunk of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Output {
    /// It goes on as it is.
    Unchanged,
    /// These bytes go on in its place; there may be none.
    Replace(Vec<u8>),
}

/// How a stream stands; after its last chunk, how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No proper end yet: after the last chunk, the answer was cut off.
    Open,
    Complete,
    Failed,
    /// Observing was given up; nothing can be said.
    Unknown,
}

/// Observes one event stream and, if told so, keeps the usage chunk from the client.
#[derive(Debug)]
pub struct StreamObserver {
    framer: Framer,
    hide_usage: bool,
    /// The last event, if it ended in `\r`: a `\n` at the head of the next is a part of it, hidden or not.
    after_return: Option<Fate>,
    /// No longer, once an event was too large.
    observing: bool,
    known: Known,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    opening: Option<Class>,
    usage: Option<Usage>,
    error: Option<Vec<u8>>,
    failed: bool,
    ended: bool,
}

impl StreamObserver {
    /// `hide_usage`: [`Class::UsageOnly`] does not go on. For that, incomplete events are held back until the chunk
    /// that completes them; otherwise every chunk goes on unchanged.
    pub fn new(hide_usage: bool) -> Self {
        Self {
            framer: Framer::new(),
            hide_usage,
            after_return: None,
            observing: true,
            known: Known::default(),
            seen: Seen::default(),
        }
    }

    /// Whether [`Self::feed`] would learn nothing from a chunk that is not the last, and let it go on unchanged.
    pub fn is_delta(&self, chunk: &[u8]) -> bool {
        self.observing
            && self.seen.opening.is_some()
            && self.framer.is_between_events()
            && self.known.is_like(chunk)
    }

    /// Takes the next chunk. With `end_of_stream`, what was held back goes on too.
    pub fn feed(&mut self, chunk: &[u8], end_of_stream: bool) -> Output {
        if !self.observing {
            return Output::Unchanged;
        }
        let Self { framer, seen, hide_usage, after_return, .. } = self;
        if framer.is_between_events() {
            self.known.learn(chunk);
        }
        if !*hide_usage {
            let mut each = |event: Event<'_>| {
                seen.note(&event);
            };
            self.observing = framer.feed(chunk, &mut each).is_ok();
            if !self.observing {
                self.give_up();
            } else if end_of_stream {
                framer.finish(each);
            }
            return Output::Unchanged;
        }

        let mut passed = Passed { chunk, head: 0, own: None };
        if !framer.pending().is_empty() {
            passed.own = Some(Vec::new());
        }
        let mut each = |event: Event<'_>| {
            let (line_feed, own) = match (after_return.take(), event.raw.strip_prefix(b"\n")) {
                (Some(fate), Some(own)) => (Some(fate), own),
                _ => (None, event.raw),
            };
            if let Some(fate) = line_feed {
                passed.put(b"\n", fate);
            }
            let hidden = seen.note(&event) == Class::UsageOnly;
            let fate = if hidden { Fate::Hidden } else { Fate::Passed };
            passed.put(own, fate);
            *after_return = own.ends_with(b"\r").then_some(fate);
        };
        self.observing = framer.feed(chunk, &mut each).is_ok();
        if !self.observing {
            passed.put(framer.pending(), Fate::Passed);
            self.give_up();
        } else if end_of_stream {
            framer.finish(each);
        }
        passed.output()
    }

    /// What is too large to be looked at is content: whoever waits for the opening must not wait on.
    fn give_up(&mut self) {
        self.framer = Framer::new();
        self.seen.opening.get_or_insert(Class::Content);
    }

    /// The class of the first event that is not a preamble; `None` while there is none.
    ///
    /// Until then an attempt has told its client nothing that another attempt could not.
    pub fn opening(&self) -> Option<Class> {
        self.seen.opening
    }

    /// The usage reported so far, cumulative: for [`Meter`](crate::usage::Meter), as soon as seen.
    pub fn usage(&self) -> Option<Usage> {
        self.seen.usage
    }

    /// The first error as the provider gave it, usually JSON; `None` also where it is longer than 16 KiB.
    pub fn error(&self) -> Option<&[u8]> {
        self.seen.error.as_deref()
    }

    pub fn outcome(&self) -> Outcome {
        if self.seen.failed {
            Outcome::Failed
        } else if self.seen.ended {
            Outcome::Complete
        } else if self.observing {
            Outcome::Open
        } else {
            Outcome::Unknown
        }
    }
}

impl Seen {
    fn note(&mut self, event: &Event<'_>) -> Class {
        let Observation { class, usage, ended, error } = classify(event);
        if self.opening.is_none() && class != Class::Preamble && !announces(&event.data) {
            self.opening = Some(class);
        }
        if let Some(usage) = usage {
            self.usage = Some(self.usage.unwrap_or_default().max(usage));
        }
        if class == Class::Error && !core::mem::replace(&mut self.failed, true) {
            self.error = error.filter(|error| error.len() <= MAX_CAPTURE).map(<[u8]>::to_vec);
        }
        self.ended |= ended;
        class
    }
}

/// Whether bytes go on to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passed,
    Hidden,
}

/// The bytes of a call that go on: the first `head` of the chunk, until they differ from it.
struct Passed<'a> {
    chunk: &'a [u8],
    head: usize,
    own: Option<Vec<u8>>,
}

impl Passed<'_> {
    fn put(&mut self, bytes: &[u8], fate: Fate) {
        match (fate, &mut self.own) {
            (Fate::Passed, Some(own)) => own.extend_from_slice(bytes),
            (Fate::Passed, None) => self.head += bytes.len(),
            (Fate::Hidden, _) => {
                self.own();
            }
        }
    }

    /// From here on what goes on is not the chunk.
    fn own(&mut self) -> &mut Vec<u8> {
        let Self { chunk, head, own } = self;
        own.get_or_insert_with(|| chunk.get(..*head).unwrap_or_default().to_vec())
    }

    fn output(mut self) -> Output {
        if self.own.is_none() && self.head == self.chunk.len() {
            return Output::Unchanged;
        }
        Output::Replace(core::mem::take(self.own()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, completion: u64) -> Usage {
        Usage { prompt, completion, ..Usage::default() }
    }

    /// What goes on of the pieces.
    fn passed<'a>(observer: &mut StreamObserver, pieces: &[&'a str]) -> Vec<String> {
        let last = pieces.len() - 1;
        let text = |output, piece: &'a str| match output {
            Output::Unchanged => piece.to_owned(),
            Output::Replace(bytes) => String::from_utf8(bytes).unwrap(),
        };
        pieces
            .iter()
            .enumerate()
            .map(|(i, p)| text(observer.feed(p.as_bytes(), i == last), p))
            .collect()
    }

    const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    const DELTA: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    const USAGE: &str =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn hides_the_usage_chunk_and_holds_back_nothing_that_is_whole() {
        let (head, tail) = USAGE.split_at(20);
        let (start, rest) = DELTA.split_at(9);
        let joined = [DELTA, USAGE, DONE].concat();
        let table: &[(&[&str], &[&str])] = &[
            (&[DELTA, USAGE, DONE], &[DELTA, "", DONE]),
            (&[&joined], &[&[DELTA, DONE].concat()]),
            (&[&[DELTA, head].concat(), &[tail, DONE].concat()], &[DELTA, DONE]),
            (&[start, rest, ""], &["", DELTA, ""]),
            (
                &[&[DELTA, start].concat(), &[rest, DONE].concat()],
                &[DELTA, &[DELTA, DONE].concat()],
            ),
            // What is left at the end goes on, unless it is what is hidden.
            (&[DELTA, "data: [DONE]"], &[DELTA, "data: [DONE]"]),
            (&[DELTA, USAGE.trim_end()], &[DELTA, ""]),
            (&["not an event stream"], &["not an event stream"]),
        ];
        for (pieces, expected) in table {
            assert_eq!(passed(&mut StreamObserver::new(true), pieces), *expected);
            assert_eq!(passed(&mut StreamObserver::new(false), pieces), *pieces);
        }
    }

    #[test]
    fn a_line_feed_cut_off_from_a_hidden_event_is_hidden_too() {
        let crlf = |text: &str| text.replace('\n', "\r\n");
        let (usage, done) = (crlf(USAGE), crlf(DONE));
        let (usage, line_feed) = usage.split_at(usage.len() - 1);
        let pieces = [usage, &[line_feed, &done].concat()];
        assert_eq!(passed(&mut StreamObserver::new(true), &pieces), ["", &done]);
        let pieces = [usage, line_feed];
        assert_eq!(passed(&mut StreamObserver::new(true), &pieces), ["", ""]);
    }

    #[test]
    fn tells_how_the_stream_stands() {
        let mut observer = StreamObserver::new(false);
        let seen = |observer: &StreamObserver| (observer.opening(), observer.outcome());
        let mut feed = |text: &str| {
            let _ = observer.feed(text.as_bytes(), false);
            seen(&observer)
        };
        assert_eq!(feed(": wait\n\n"), (None, Outcome::Open));
        assert_eq!(feed(ROLE), (None, Outcome::Open));
        assert_eq!(feed(DELTA), (Some(Class::Content), Outcome::Open));
        assert_eq!(feed(USAGE), (Some(Class::Content), Outcome::Open));
        assert_eq!(feed(DONE), (Some(Class::Content), Outcome::Complete));
        assert_eq!(observer.usage(), Some(usage(7, 1)));
        assert_eq!(observer.error(), None);

        let mut observer = StreamObserver::new(false);
        let _ = observer.feed(b"data: {\"error\":{\"code\":1}}\n\ndata: {\"error\":2}\n\n", false);
        assert_eq!(seen(&observer), (Some(Class::Error), Outcome::Failed));
        let _ = observer.feed(DONE.as_bytes(), true);
        assert_eq!(seen(&observer), (Some(Class::Error), Outcome::Failed), "an error stays one");
        assert_eq!(observer.error(), Some(&b"{\"code\":1}"[..]));
    }

    #[test]
    fn an_event_too_large_passes_unobserved() {
        let large = format!("data: {}\n\n", "x".repeat(crate::sse::MAX_EVENT));
        let (head, tail) = large.split_at(large.len() / 2);
        for hide_usage in [false, true] {
            let mut observer = StreamObserver::new(hide_usage);
            let out = passed(&mut observer, &[": wait\n\n", head, tail, USAGE, DONE]);
            assert_eq!(out.concat(), [": wait\n\n", &large, USAGE, DONE].concat());
            assert_eq!(observer.opening(), Some(Class::Content));
            assert_eq!(observer.outcome(), Outcome::Unknown);
            assert_eq!(observer.usage(), None);
        }
    }

    #[test]
    fn long_errors_are_not_kept() {
        let mut observer = StreamObserver::new(false);
        let error = format!("data: {{\"error\":\"{}\"}}\n\n", "x".repeat(MAX_CAPTURE));
        let _ = observer.feed(error.as_bytes(), true);
        assert_eq!((observer.outcome(), observer.error()), (Outcome::Failed, None));
    }
}
