//! Reads the events of a stream.

use std::borrow::Cow;

use super::answer::{finish, tool_call, usage};
use super::{PLAN, THINKING};
use crate::conversation::{Delta, Event, Failure, FailureKind, Opened};
use crate::formats::failure;
use crate::formats::json::{pick, text};
use crate::formats::stream::{self, Corrupt, Frame};
use crate::members;

/// Tool calls are counted apart from content: their blocks come behind these.
const CALLS: u32 = 1 << 16;
/// The plan is one block, which Cohere neither begins nor ends.
const PLAN_BLOCK: u32 = CALLS - 1;

/// One stream.
#[derive(Debug, Default)]
pub(in crate::formats) struct StreamReader {
    /// The plan has begun, and nothing else yet.
    planning: bool,
}

impl stream::StreamReader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Corrupt> {
        let data = core::str::from_utf8(frame.data).map_err(|_| Corrupt)?.trim();
        if data.is_empty() || data == "[DONE]" {
            return Ok(());
        }
        self.translate(data, each).ok_or(Corrupt)
    }
}

impl StreamReader {
    /// `None`: the event lacks what its type says it has.
    fn translate(&mut self, data: &str, each: &mut dyn FnMut(Event<'_>)) -> Option<()> {
        let [kind, id, index, delta, error] =
            pick(data, ["type", "id", "index", "delta", "error"])?;
        let Some(kind) = kind else {
            // An error body in place of an event.
            let [message] = pick(data, ["message"])?;
            message.or(error)?;
            each(Event::Failed(failure::read(None, data.as_bytes())));
            return Some(());
        };
        let kind = text(kind)?;
        let message = || pick(delta?, ["message"])?[0];
        let index = || u32::try_from(members::count(index?)?).ok().filter(|i| *i < PLAN_BLOCK);
        match kind.as_ref() {
            "message-start" => {
                let id = id.and_then(text).unwrap_or_default();
                each(Event::Start { id, model: Cow::Borrowed("") });
            }
            "content-start" => {
                self.end_plan(each);
                let [content] = pick(message()?, ["content"])?;
                content_start(index()?, content?, each)?;
            }
            "content-delta" => {
                let [content] = pick(message()?, ["content"])?;
                let [told, thinking] = pick(content?, ["text", "thinking"])?;
                let delta = match (told, thinking) {
                    (Some(told), _) => Delta::Text(text(told)?),
                    (None, thinking) => Delta::Thinking(text(thinking?)?),
                };
                each(Event::Delta { index: index()?, delta });
            }
            "content-end" => each(Event::BlockStop { index: index()? }),
            "tool-plan-delta" => {
                let [plan] = pick(message()?, ["tool_plan"])?;
                if !core::mem::replace(&mut self.planning, true) {
                    let block = Opened::Thinking { origin: Some(PLAN) };
                    each(Event::BlockStart { index: PLAN_BLOCK, block });
                }
                let delta = Delta::Thinking(text(plan?)?);
                each(Event::Delta { index: PLAN_BLOCK, delta });
            }
            "tool-call-start" => {
                self.end_plan(each);
                let [call] = pick(message()?, ["tool_calls"])?;
                let (id, name, arguments) = tool_call(call?)?;
                let index = CALLS + index()?;
                each(Event::BlockStart { index, block: Opened::ToolUse { id, name } });
                if !arguments.is_empty() {
                    each(Event::Delta { index, delta: Delta::Arguments(arguments) });
                }
            }
            "tool-call-delta" => {
                let [call] = pick(message()?, ["tool_calls"])?;
                let [function] = pick(call?, ["function"])?;
                let [arguments] = pick(function?, ["arguments"])?;
                let delta = Delta::Arguments(text(arguments?)?);
                each(Event::Delta { index: CALLS + index()?, delta });
            }
            "tool-call-end" => each(Event::BlockStop { index: CALLS + index()? }),
            "message-end" => {
                self.end_plan(each);
                end(delta?, each)?;
            }
            _ => {}
        }
        Some(())
    }

    fn end_plan(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if core::mem::take(&mut self.planning) {
            each(Event::BlockStop { index: PLAN_BLOCK });
        }
    }
}

fn content_start(index: u32, content: &str, each: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    let [kind, told, thinking] = pick(content, ["type", "text", "thinking"])?;
    let (block, first) = match text(kind?)?.as_ref() {
        "text" => (Opened::Text, told.and_then(text).map(Delta::Text)),
        "thinking" => (
            Opened::Thinking { origin: Some(THINKING) },
            thinking.and_then(text).map(Delta::Thinking),
        ),
        _ => (Opened::Unknown, None),
    };
    each(Event::BlockStart { index, block });
    if let Some(delta) = first
        && !matches!(&delta, Delta::Text(text) | Delta::Thinking(text) if text.is_empty())
    {
        each(Event::Delta { index, delta });
    }
    Some(())
}

fn end(delta: &str, each: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    let [reason, counts, error] = pick(delta, ["finish_reason", "usage", "error"])?;
    if let Some(usage) = counts.and_then(usage) {
        each(Event::Usage(usage));
    }
    match finish(reason.and_then(text).unwrap_or(Cow::Borrowed("COMPLETE"))) {
        Some(finish) if error.is_none() => {
            each(Event::Finish(finish));
            each(Event::End);
        }
        _ => {
            let message = error.and_then(text).unwrap_or("The provider failed.".into());
            each(Event::Failed(Failure { kind: FailureKind::Server, message }));
        }
    }
    Some(())
}
