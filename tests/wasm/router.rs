//! What Envoy does around the stages: its router with retries and internal redirects.

use wasmi::Error;

use super::host::stream::{FilterState, Message};
use super::host::vm::Vm;
use super::host::{Fields, fields, remove, set, text};
use super::message::{Answer, End, Request, Script, Sent};

/// The two plugins of a worker by their contexts.
#[derive(Debug, Clone, Copy)]
pub struct Stages {
    pub gateway: u32,
    pub attempt: u32,
}

/// Runs one request through both stages to its end.
pub fn exchange(
    vm: &mut Vm,
    stages: Stages,
    request: &Request,
    provider: &mut dyn FnMut(&Sent) -> Script,
) -> Result<Answer, Error> {
    const MAX_REDIRECTS: usize = 10;
    let mut request = request.clone();
    for redirects_left in (0..=MAX_REDIRECTS).rev() {
        match round(vm, stages, &request, redirects_left > 0, provider)? {
            Routed::Answer(answer) => return Ok(answer),
            Routed::Redirect(next) => request.headers = next,
        }
    }
    panic!("the router redirects without end")
}

/// What a round of a request comes to.
#[derive(Debug)]
pub enum Routed {
    Answer(Answer),
    /// Another round, with these headers.
    Redirect(Fields),
}

/// Runs one request through both stages, up to an internal redirect.
pub fn round(
    vm: &mut Vm,
    stages: Stages,
    request: &Request,
    may_redirect: bool,
    provider: &mut dyn FnMut(&Sent) -> Script,
) -> Result<Routed, Error> {
    let state = FilterState::default();
    let gateway = vm.open(stages.gateway, &state)?;
    feed(vm, gateway, Message::Request, &request.headers, &request.chunks, request.end)?;
    let routed = match local_reply(vm, gateway) {
        Some(reply) => Routed::Answer(reply),
        None => attempts(vm, stages.attempt, gateway, &state, may_redirect, provider)?,
    };
    let routed = match routed {
        Routed::Answer(answer) if answer.status != 0 => {
            let end = if answer.complete { End::WithLastChunk } else { End::Reset };
            let chunks = if answer.body.is_empty() { Vec::new() } else { vec![answer.body] };
            Routed::Answer(pass(vm, gateway, &answer.headers, &chunks, end)?)
        }
        other => other,
    };
    vm.close(gateway, false)?;
    Ok(routed)
}

/// Runs one request through a single stage in front of one provider.
pub fn exchange_standalone(
    vm: &mut Vm,
    standalone: u32,
    name: &str,
    request: &Request,
    provider: &mut dyn FnMut(&Sent) -> Script,
) -> Result<Answer, Error> {
    let context = vm.open(standalone, &FilterState::default())?;
    let path = ["xds", "route_metadata", "filter_metadata", "keyward", "provider"];
    vm.stream(context).property(&path, name);
    feed(vm, context, Message::Request, &request.headers, &request.chunks, request.end)?;
    let answer = match local_reply(vm, context) {
        Some(reply) => {
            let chunks = [reply.body];
            pass(vm, context, &reply.headers, &chunks, End::WithLastChunk)?
        }
        None => {
            let out = &mut vm.stream(context).request.out;
            let headers = out.headers.take().unwrap_or_default();
            let sent =
                Sent { provider: name.to_owned(), headers, body: core::mem::take(&mut out.body) };
            match provider(&sent) {
                Script::Answer { headers, chunks, end } => {
                    pass(vm, context, &headers, &chunks, end)?
                }
                Script::Refused => {
                    let reply = unreachable_provider();
                    pass(vm, context, &reply.headers, &[reply.body], End::WithLastChunk)?
                }
            }
        }
    };
    vm.close(context, false)?;
    Ok(answer)
}

/// Hands a message over as it comes.
pub fn feed(
    vm: &mut Vm,
    context: u32,
    message: Message,
    headers: &Fields,
    chunks: &[Vec<u8>],
    end: End,
) -> Result<(), Error> {
    let replied = |vm: &mut Vm| message == Message::Request && vm.stream(context).reply.is_some();
    let with_headers = chunks.is_empty() && end == End::WithLastChunk;
    vm.headers(context, message, headers.clone(), with_headers)?;
    for (index, chunk) in chunks.iter().enumerate() {
        if replied(vm) {
            return Ok(());
        }
        let last = index + 1 == chunks.len() && end == End::WithLastChunk;
        vm.body(context, message, chunk, last)?;
    }
    match end {
        _ if replied(vm) => Ok(()),
        End::WithEmptyChunk => vm.body(context, message, b"", true),
        End::WithTrailers => vm.trailers(context, message),
        End::WithLastChunk | End::Reset => Ok(()),
    }
}

/// Envoy's router: attempts of one round.
fn attempts(
    vm: &mut Vm,
    root: u32,
    gateway: u32,
    state: &FilterState,
    may_redirect: bool,
    provider: &mut dyn FnMut(&Sent) -> Script,
) -> Result<Routed, Error> {
    let out = &mut vm.stream(gateway).request.out;
    let Some(mut headers) = out.headers.take().filter(|_| out.ended) else {
        return Ok(Routed::Answer(Answer::default()));
    };
    let body = core::mem::take(&mut out.body);
    let name = text(&headers, "x-keyward-cluster").unwrap_or_default().to_owned();
    let retries = text(&headers, "x-envoy-max-retries").and_then(|n| n.parse().ok()).unwrap_or(0);
    headers.retain(|(name, _)| !name.starts_with(b"x-envoy-"));
    for number in 1_u64.. {
        let may_retry = number <= retries;
        let attempt = vm.open(root, state)?;
        let metadata = ["xds", "upstream_host_metadata", "filter_metadata", "keyward", "provider"];
        let stream = vm.stream(attempt);
        stream.property(&metadata, name.as_str());
        stream.property(&["upstream", "request_attempt_count"], number.to_le_bytes());
        feed(
            vm,
            attempt,
            Message::Request,
            &headers,
            core::slice::from_ref(&body),
            End::WithLastChunk,
        )?;
        wait(vm, root, attempt)?;
        if let Some(reply) = local_reply(vm, attempt) {
            vm.close(attempt, true)?;
            return Ok(Routed::Answer(reply));
        }
        let out = &mut vm.stream(attempt).request.out;
        // Every attempt starts from the headers that the last one left, and from the original body.
        let Some(left) = out.headers.take() else {
            vm.close(attempt, true)?;
            return Ok(Routed::Answer(Answer::default()));
        };
        headers = left;
        let sent = Sent {
            provider: name.clone(),
            headers: headers.clone(),
            body: core::mem::take(&mut out.body),
        };
        let Script::Answer { headers: answered, chunks, end } = provider(&sent) else {
            vm.close(attempt, true)?;
            if may_retry {
                continue;
            }
            return Ok(Routed::Answer(unreachable_provider()));
        };
        feed(vm, attempt, Message::Response, &answered, &chunks, end)?;
        let reply = local_reply(vm, attempt);
        let out = core::mem::take(&mut vm.stream(attempt).response.out);
        vm.close(attempt, true)?;
        if let Some(reply) = reply {
            return Ok(Routed::Answer(reply));
        }
        let Some(answer) = out.headers else {
            if end != End::Reset {
                return Ok(Routed::Answer(Answer::default()));
            }
            if may_retry {
                continue;
            }
            return Ok(Routed::Answer(unreachable_provider()));
        };
        if may_retry && text(&answer, "x-keyward-retry").is_some() {
            continue;
        }
        if may_redirect && let Some(next) = redirected(&headers, &answer) {
            return Ok(Routed::Redirect(next));
        }
        let status = status_of(&answer);
        let (body, complete) = (out.body, out.ended);
        return Ok(Routed::Answer(Answer { status, headers: answer, body, complete }));
    }
    panic!("the router retries without end")
}

/// Lets time pass while the filter keeps a request until its time.
fn wait(vm: &mut Vm, root: u32, attempt: u32) -> Result<(), Error> {
    const LONGEST: usize = 100; // periods
    for _ in 0..LONGEST {
        let stream = vm.stream(attempt);
        if stream.reply.is_some() || stream.request.out.ended {
            break;
        }
        vm.process().advance_ms(vm.tick_period_ms(root).into());
        vm.tick(root)?;
    }
    Ok(())
}

/// The request headers of the next round, where Envoy follows the redirect.
fn redirected(request: &Fields, answer: &Fields) -> Option<Fields> {
    let (status, state) = (text(answer, ":status")?, text(answer, "x-keyward-state")?);
    let (_, rest) = text(answer, "location")?.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let mut next = request.clone();
    remove(&mut next, b"x-keyward-cluster");
    set(&mut next, b":authority", host.as_bytes());
    set(&mut next, b":path", format!("/{path}").as_bytes());
    set(&mut next, b"x-keyward-state", state.as_bytes());
    set(&mut next, b"x-envoy-original-url", b"http://gateway/");
    (status == "307").then_some(next)
}

/// An answer on its way to the client.
fn pass(
    vm: &mut Vm,
    context: u32,
    headers: &Fields,
    chunks: &[Vec<u8>],
    end: End,
) -> Result<Answer, Error> {
    let was_local = vm.stream(context).reply.is_some();
    feed(vm, context, Message::Response, headers, chunks, end)?;
    if !was_local && let Some(reply) = local_reply(vm, context) {
        return Ok(reply);
    }
    let out = core::mem::take(&mut vm.stream(context).response.out);
    let headers = out.headers.unwrap_or_default();
    Ok(Answer { status: status_of(&headers), headers, body: out.body, complete: out.ended })
}

/// What the filter answered itself, as Envoy sends it.
fn local_reply(vm: &mut Vm, context: u32) -> Option<Answer> {
    let reply = vm.stream(context).reply.clone()?;
    let status = u16::try_from(reply.status).unwrap();
    let mut headers = fields(&[(":status", &status.to_string())]);
    headers.extend(reply.headers);
    Some(Answer { status, headers, body: reply.body, complete: true })
}

fn unreachable_provider() -> Answer {
    Answer {
        status: 503,
        headers: fields(&[(":status", "503"), ("content-type", "text/plain")]),
        body: b"upstream connect error or disconnect/reset before headers".to_vec(),
        complete: true,
    }
}

fn status_of(headers: &Fields) -> u16 {
    text(headers, ":status").and_then(|status| status.parse().ok()).unwrap_or_default()
}
