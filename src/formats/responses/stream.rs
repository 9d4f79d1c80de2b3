//! Writes a stream of typed events.

use serde_json::{Value, json};

use super::write::{
    Head, Status, annotation, call, input, message, proof, reasoning, redacted, refusal_part,
    text_part,
};
use crate::conversation::{Delta, Event, Failure, FinishReason, Opened};
use crate::formats::{Setup, stream};
use crate::sorted;
use crate::usage::Usage;

/// One stream.
#[derive(Debug)]
pub(in crate::formats) struct StreamWriter {
    setup: Setup,
    /// `None`: nothing was written yet.
    head: Option<Head>,
    /// `sequence_number` of the next event.
    sequence: u64,
    open: Vec<Item>,
    /// Items so far.
    items: u32,
    /// Characters of the texts that are complete.
    before: usize,
    /// Items that are complete, as JSON: the last event repeats them all.
    done: Vec<(u32, String)>,
    usage: Option<Usage>,
    finish: FinishReason,
}

/// An item that is being written.
#[derive(Debug)]
struct Item {
    /// The provider's index of the block.
    block: u32,
    /// In `output`.
    index: u32,
    id: String,
    kind: Kind,
    text: String,
    annotations: Vec<Value>,
}

#[derive(Debug)]
enum Kind {
    Text,
    Refusal,
    Thinking { origin: Option<&'static str>, signature: String },
    Redacted { proof: String },
    Call { call_id: String, name: String, custom: bool },
}

/// A model does not write this many blocks at once: more are not followed.
const MAX_OPEN: usize = 64;

impl StreamWriter {
    pub(in crate::formats) fn new(setup: Setup) -> Self {
        Self {
            setup,
            head: None,
            sequence: 0,
            open: Vec::new(),
            items: 0,
            before: 0,
            done: Vec::new(),
            usage: None,
            finish: FinishReason::Other,
        }
    }

    fn start(&mut self, id: &str, model: &str, out: &mut Vec<u8>) {
        if self.head.is_some() {
            return;
        }
        let head = Head::new(&self.setup, id, model);
        let response = head.response(Status::InProgress, "", None);
        self.head = Some(head);
        self.event("response.created", &[("response", &response)], out);
        self.event("response.in_progress", &[("response", &response)], out);
    }

    fn block_start(&mut self, block: u32, opened: &Opened<'_>, out: &mut Vec<u8>) {
        self.start("", "", out);
        let Some(head) = &self.head else { return };
        if self.open.len() >= MAX_OPEN {
            return;
        }
        let index = self.items;
        let (kind, item) = match opened {
            Opened::Text => (Kind::Text, message(head, index, "in_progress", None)),
            Opened::Refusal => (Kind::Refusal, message(head, index, "in_progress", None)),
            Opened::Thinking { origin } => {
                let signature = String::new();
                (Kind::Thinking { origin: *origin, signature }, reasoning(head, index, None, None))
            }
            Opened::Redacted { data, origin } => {
                let proof = redacted(Some(origin), data).unwrap_or_default();
                let item = reasoning(head, index, None, Some(&proof));
                (Kind::Redacted { proof: proof.into_owned() }, item)
            }
            Opened::ToolUse { id, name } => {
                let renamed = head.echo.renamed.iter().find(|r| r.known_as == *name);
                let custom = renamed.is_some_and(|renamed| renamed.custom);
                let (call_id, name) = (id.to_string(), name.to_string());
                let item = call(head, index, &call_id, &name, None);
                (Kind::Call { call_id, name, custom }, item)
            }
            Opened::Unknown => return,
        };
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let item = item.to_string();
        self.items = self.items.saturating_add(1);
        let at = index.to_string();
        self.event("response.output_item.added", &[("output_index", &at), ("item", &item)], out);
        let part = match kind {
            Kind::Text => Some(text_part("", &[])),
            Kind::Refusal => Some(refusal_part("")),
            Kind::Thinking { .. } | Kind::Redacted { .. } | Kind::Call { .. } => None,
        };
        let opened = Item { block, index, id, kind, text: String::new(), annotations: Vec::new() };
        if let Some(part) = part {
            let place = opened.place("content_index");
            self.event_at(
                "response.content_part.added",
                &place,
                &[("part", &part.to_string())],
                out,
            );
        }
        self.open.retain(|item| item.block != block);
        self.open.push(opened);
    }

    fn delta(&mut self, block: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let Some(item) = self.open.iter_mut().find(|item| item.block == block) else { return };
        let (kind, index, text) = match (&mut item.kind, delta) {
            (Kind::Text, Delta::Text(text)) => {
                ("response.output_text.delta", "content_index", text)
            }
            (Kind::Refusal, Delta::Text(text)) => ("response.refusal.delta", "content_index", text),
            (Kind::Thinking { .. }, Delta::Thinking(text)) => {
                ("response.reasoning_summary_text.delta", "summary_index", text)
            }
            (Kind::Thinking { signature, .. }, Delta::Signature(text)) => {
                signature.push_str(text);
                return;
            }
            (Kind::Call { custom: true, .. }, Delta::Arguments(text)) => {
                // Text inside of JSON: told when it is whole.
                item.text.push_str(text);
                return;
            }
            (Kind::Call { .. }, Delta::Arguments(text)) if !text.is_empty() => {
                ("response.function_call_arguments.delta", "", text)
            }
            (Kind::Text, Delta::Citation(citation)) => {
                let Some(annotation) = annotation(citation, self.before) else { return };
                let json = annotation.to_string();
                let number = item.annotations.len().to_string();
                item.annotations.push(annotation);
                let place = item.place("content_index");
                let members = [("annotation_index", number.as_str()), ("annotation", &json)];
                self.event_at("response.output_text.annotation.added", &place, &members, out);
                return;
            }
            _ => return,
        };
        let is_first = item.text.is_empty();
        item.text.push_str(text);
        let place = item.place(index);
        let logprobs = matches!(item.kind, Kind::Text);
        if is_first && index == "summary_index" {
            let part = json!({"type": "summary_text", "text": ""}).to_string();
            self.event_at("response.reasoning_summary_part.added", &place, &[("part", &part)], out);
        }
        let json = quoted(text);
        let members = [("delta", json.as_str()), ("logprobs", "[]")];
        self.event_at(
            kind,
            &place,
            members.get(..1 + usize::from(logprobs)).unwrap_or(&members),
            out,
        );
    }

    fn block_stop(&mut self, block: u32, out: &mut Vec<u8>) {
        let Some(at) = self.open.iter().position(|item| item.block == block) else { return };
        let item = self.open.swap_remove(at);
        self.close(&item, out);
    }

    fn close(&mut self, item: &Item, out: &mut Vec<u8>) {
        let Some(head) = &self.head else { return };
        let Item { index, text, .. } = item;
        let json = quoted(text);
        let whole = match &item.kind {
            Kind::Text => {
                let part = text_part(text, &item.annotations);
                let whole = message(head, *index, "completed", Some(part.clone()));
                let (place, part) = (item.place("content_index"), part.to_string());
                let members = [("text", json.as_str()), ("logprobs", "[]")];
                self.event_at("response.output_text.done", &place, &members, out);
                self.event_at("response.content_part.done", &place, &[("part", &part)], out);
                whole
            }
            Kind::Refusal => {
                let part = refusal_part(text);
                let whole = message(head, *index, "completed", Some(part.clone()));
                let (place, part) = (item.place("content_index"), part.to_string());
                self.event_at("response.refusal.done", &place, &[("refusal", &json)], out);
                self.event_at("response.content_part.done", &place, &[("part", &part)], out);
                whole
            }
            Kind::Thinking { origin, signature } => {
                let proof = proof(*origin, Some(signature));
                let whole = reasoning(head, *index, Some(text), proof.as_deref());
                if !text.is_empty() {
                    let place = item.place("summary_index");
                    let part = json!({"type": "summary_text", "text": text}).to_string();
                    let done = "response.reasoning_summary_text.done";
                    self.event_at(done, &place, &[("text", &json)], out);
                    let done = "response.reasoning_summary_part.done";
                    self.event_at(done, &place, &[("part", &part)], out);
                }
                whole
            }
            Kind::Redacted { proof } => reasoning(head, *index, None, Some(proof)),
            Kind::Call { call_id, name, custom } => {
                let whole = call(head, *index, call_id, name, Some(text));
                let place = item.place("");
                if *custom {
                    let text = quoted(&input(text));
                    let kind = "response.custom_tool_call_input.delta";
                    self.event_at(kind, &place, &[("delta", &text)], out);
                    let kind = "response.custom_tool_call_input.done";
                    self.event_at(kind, &place, &[("input", &text)], out);
                } else {
                    let json = whole.get("arguments").map(Value::to_string).unwrap_or_default();
                    let kind = "response.function_call_arguments.done";
                    self.event_at(kind, &place, &[("arguments", &json)], out);
                }
                whole
            }
        };
        if matches!(item.kind, Kind::Text) {
            self.before += text.chars().count();
        }
        let whole = whole.to_string();
        let at = item.index.to_string();
        self.event("response.output_item.done", &[("output_index", &at), ("item", &whole)], out);
        self.done.push((item.index, whole));
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start("", "", out);
        for item in core::mem::take(&mut self.open) {
            self.close(&item, out);
        }
        let kind = match self.finish {
            FinishReason::Length | FinishReason::Filtered => "response.incomplete",
            _ => "response.completed",
        };
        self.last(kind, Status::Over(self.finish), out);
    }

    fn fail(&mut self, failure: &Failure<'_>, out: &mut Vec<u8>) {
        self.start("", "", out);
        self.last("response.failed", Status::Failed(failure), out);
    }

    fn last(&mut self, kind: &str, status: Status<'_>, out: &mut Vec<u8>) {
        sorted::by_key(&mut self.done, |(index, _)| *index);
        let items: Vec<&str> = self.done.iter().map(|(_, item)| item.as_str()).collect();
        let Some(head) = &self.head else { return };
        let usage = self.usage.or(matches!(status, Status::Over(_)).then(Usage::default));
        let response = head.response(status, &items.join(","), usage);
        self.event(kind, &[("response", &response)], out);
    }

    fn event_at(
        &mut self,
        kind: &str,
        place: &Place<'_>,
        members: &[(&str, &str)],
        out: &mut Vec<u8>,
    ) {
        let at = place.output_index.to_string();
        let mut all = vec![("item_id", place.item_id.as_str()), ("output_index", at.as_str())];
        if !place.part.is_empty() {
            all.push((place.part, "0"));
        }
        all.extend_from_slice(members);
        self.event(kind, &all, out);
    }

    /// One event: type, number, and members that are JSON already. JSON written compactly has no line breaks.
    fn event(&mut self, kind: &str, members: &[(&str, &str)], out: &mut Vec<u8>) {
        let sequence = self.sequence.to_string();
        self.sequence = self.sequence.saturating_add(1);
        for part in
            ["event: ", kind, "\ndata: {\"type\":\"", kind, "\",\"sequence_number\":", &sequence]
        {
            out.extend_from_slice(part.as_bytes());
        }
        for (name, json) in members {
            for part in [",\"", name, "\":", json] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"}\n\n");
    }
}

/// Where in the output something is.
struct Place<'a> {
    /// JSON.
    item_id: String,
    output_index: u32,
    /// The name of the index of the part, which is always the first; empty: there are no parts.
    part: &'a str,
}

impl Item {
    fn place<'a>(&self, part: &'a str) -> Place<'a> {
        Place { item_id: quoted(&self.id), output_index: self.index, part }
    }
}

fn quoted(text: &str) -> String {
    // Memory takes everything: this cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

impl stream::StreamWriter for StreamWriter {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model } => self.start(id, model, out),
            Event::BlockStart { index, block } => self.block_start(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::BlockStop { index } => self.block_stop(*index, out),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish(finish) => self.finish = finish.reason,
            Event::End => self.end(out),
            Event::Failed(failure) => self.fail(failure, out),
            // A comment keeps proxies and clients from giving up.
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
        }
    }
}
