//! One stream: callbacks become inputs of its stage, effects become host calls. Nothing is decided here.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::abi::{self, Message};
use super::root::Plugin;
use crate::admin;
use crate::attempt::{self, Attempt};
use crate::consumer::identify::Caller;
use crate::effect::{Cx, Effect, Flow};
use crate::gateway::{self, Gateway, Local};
use crate::headers::Headers;
use crate::limit::toll::SPENT;
use crate::plan::FILTER_STATE;
use crate::runtime::Runtime;
use crate::standalone::{self, Standalone};

/// What a plugin was loaded as; its `root_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Gateway,
    Attempt,
    Standalone,
}

enum Exchange {
    Gateway(Gateway),
    Attempt(Attempt),
    Standalone(Standalone),
}

pub(super) struct Http {
    context_id: u32,
    exchange: Exchange,
    /// `None`: the plugin has no valid configuration; nothing is let through.
    plugin: Option<Rc<Plugin>>,
    /// Kept back until a time comes, whatever the stage's flow says.
    waiting: Rc<Cell<bool>>,
}

/// `DownstreamConnectionTermination` in Envoy's `response.flags`.
const CLIENT_GONE: u64 = 1 << 14;

impl Http {
    pub(super) fn new(context_id: u32, stage: Stage, plugin: Option<Rc<Plugin>>) -> Self {
        let exchange = match stage {
            Stage::Gateway => Exchange::Gateway(Gateway::default()),
            Stage::Attempt => Exchange::Attempt(Attempt::default()),
            Stage::Standalone => Exchange::Standalone(Standalone::default()),
        };
        Self { context_id, exchange, plugin, waiting: Rc::default() }
    }

    /// Runs a callback of the stage and carries out its effects.
    fn run(
        &mut self,
        message: Message,
        body_size: usize,
        callback: impl FnOnce(&mut Exchange, &mut Cx<'_>) -> Flow,
    ) -> Action {
        let Some(plugin) = self.plugin.clone() else {
            abi::send_local_response(503, "keyward_unconfigured", &[], b"");
            return Action::Pause;
        };
        let mut cx = plugin.cx();
        let flow = callback(&mut self.exchange, &mut cx);
        for effect in cx.effects {
            self.apply(&plugin, message, body_size, effect);
        }
        if flow == Flow::Pause || message == Message::Request && self.waiting.get() {
            Action::Pause
        } else {
            Action::Continue
        }
    }

    fn apply(&self, plugin: &Plugin, message: Message, body_size: usize, effect: Effect) {
        match effect {
            Effect::SetHeader(name, value) => {
                abi::set_header(message, &name, &value);
            }
            Effect::RemoveHeader(name) => abi::remove_header(message, &name),
            Effect::SetBody(bytes) => {
                abi::set_body(message, body_size, &bytes);
            }
            Effect::SetFilterState(name, value) => {
                abi::set_property(name, &value);
            }
            Effect::ResumeResponse => abi::resume_response(),
            Effect::Reply(reply) => {
                let headers: Vec<_> =
                    reply.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
                let details = format!("keyward_{}", reply.code);
                abi::send_local_response(reply.status, &details, &headers, &reply.body);
            }
            Effect::Count(counter, by) => plugin.metrics.count(&counter, by),
            Effect::Measure(histogram, value) => plugin.metrics.measure(&histogram, value),
            Effect::Log(level, text) => abi::log(level, &format!("keyward: {text}")),
            Effect::Hold(slot) => plugin.hold(slot),
            Effect::Release(slot) => plugin.release(&slot),
            Effect::Wait(until) => {
                self.waiting.set(true);
                plugin.wait(self.context_id, until, Rc::clone(&self.waiting));
            }
        }
    }
}

impl Context for Http {
    fn on_done(&mut self) -> bool {
        self.waiting.set(false);
        let open = match &self.exchange {
            Exchange::Gateway(gateway) => gateway.is_open(),
            Exchange::Attempt(attempt) => attempt.is_open(),
            Exchange::Standalone(standalone) => standalone.is_open(),
        };
        let Some(plugin) = self.plugin.clone().filter(|_| open) else { return true };
        let gone = abi::property(&["response", "flags"])
            .and_then(|flags| flags.try_into().ok().map(u64::from_le_bytes))
            .is_some_and(|flags| flags & CLIENT_GONE != 0);
        let mut cx = plugin.cx();
        match &mut self.exchange {
            Exchange::Gateway(gateway) => {
                let spent = abi::property(&["filter_state", &format!("wasm.{SPENT}")]);
                gateway.on_done(&mut cx, spent.as_deref());
            }
            Exchange::Attempt(attempt) => attempt.on_done(&mut cx, gone),
            Exchange::Standalone(standalone) => standalone.on_done(&mut cx, gone),
        }
        // The messages are gone: what concerns them cannot be carried out.
        for effect in cx.effects {
            if matches!(
                effect,
                Effect::Count(..)
                    | Effect::Measure(..)
                    | Effect::Log(..)
                    | Effect::Hold(_)
                    | Effect::Release(_)
                    | Effect::SetFilterState(..)
            ) {
                self.apply(&plugin, Message::Response, 0, effect);
            }
        }
        true
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let headers = abi::headers(Message::Request);
        self.run(Message::Request, 0, |exchange, cx| match exchange {
            Exchange::Gateway(gateway) => gateway.on_request_headers(
                cx,
                &headers,
                &caller(cx.runtime, &headers),
                end_of_stream,
            ),
            Exchange::Attempt(attempt) => attempt_head(attempt, cx, &headers, end_of_stream),
            Exchange::Standalone(standalone) => {
                let provider =
                    text(&["xds", "route_metadata", "filter_metadata", "keyward", "provider"]);
                let cluster = text(&["xds", "cluster_name"]);
                let host =
                    standalone::Host { provider: provider.as_deref(), cluster: cluster.as_deref() };
                let caller = caller(cx.runtime, &headers);
                standalone.on_request_headers(cx, &headers, &host, &caller, end_of_stream)
            }
        })
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let wanted = match &self.exchange {
            Exchange::Gateway(gateway) => gateway.wants_request_body(end_of_stream),
            Exchange::Attempt(attempt) => attempt.wants_request_body(end_of_stream),
            Exchange::Standalone(standalone) => standalone.wants_request_body(end_of_stream),
        };
        let body = if wanted { abi::body(Message::Request, size) } else { Vec::new() };
        self.run(Message::Request, size, |exchange, cx| match exchange {
            Exchange::Gateway(gateway) => gateway.on_request_body(cx, &body, end_of_stream),
            Exchange::Attempt(attempt) => attempt.on_request_body(cx, &body, end_of_stream),
            Exchange::Standalone(standalone) => {
                standalone.on_request_body(cx, &body, end_of_stream)
            }
        })
    }

    /// Trailers end the body.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let size = abi::body(Message::Request, usize::MAX).len();
        self.on_http_request_body(size, true)
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        let holds = match &self.exchange {
            Exchange::Gateway(_) => false,
            Exchange::Attempt(attempt) => attempt.holds_response(),
            Exchange::Standalone(standalone) => standalone.holds_response(),
        };
        let size = if holds { abi::body(Message::Response, usize::MAX).len() } else { 0 };
        self.on_http_response_body(size, true)
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let headers = abi::headers(Message::Response);
        self.run(Message::Response, 0, |exchange, cx| match exchange {
            Exchange::Gateway(gateway) => {
                let local = if gateway::is_answered(&headers) { Local::default() } else { local() };
                gateway.on_response_headers(cx, &headers, local)
            }
            Exchange::Attempt(attempt) => attempt.on_response_headers(cx, &headers, end_of_stream),
            Exchange::Standalone(standalone) => {
                standalone.on_response_headers(cx, &headers, end_of_stream)
            }
        })
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let wanted = match &self.exchange {
            Exchange::Gateway(_) => false,
            Exchange::Attempt(attempt) => attempt.wants_response_body(),
            Exchange::Standalone(standalone) => standalone.wants_response_body(),
        };
        if !wanted {
            return Action::Continue;
        }
        let body = abi::body(Message::Response, size);
        // Nearly all of a stream: not even the time has to be asked for.
        let is_delta = match &self.exchange {
            Exchange::Gateway(_) => false,
            Exchange::Attempt(attempt) => attempt.is_delta(&body),
            Exchange::Standalone(standalone) => standalone.is_delta(&body),
        };
        if is_delta && !end_of_stream {
            return Action::Continue;
        }
        self.run(Message::Response, size, |exchange, cx| match exchange {
            Exchange::Gateway(_) => Flow::Continue,
            Exchange::Attempt(attempt) => attempt.on_response_body(cx, &body, end_of_stream),
            Exchange::Standalone(standalone) => {
                standalone.on_response_body(cx, &body, end_of_stream)
            }
        })
    }
}

/// What the configuration asks for of a request besides its headers.
fn caller(runtime: &Runtime, headers: &Headers) -> Caller {
    let asks = &runtime.consumers.asks;
    let address = asks.address || headers.get(":path").is_some_and(admin::is_own);
    let properties = asks.properties.iter().map(|path| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        abi::property(&path).unwrap_or_default()
    });
    let route_metadata = abi::property(&["xds", "route_metadata"]).unwrap_or_default();
    // Limits in the metadata are counted by the route's name.
    let route_asked = asks.route || !route_metadata.is_empty();
    Caller {
        address: if address { text(&["source", "address"]) } else { None },
        route: if route_asked { text(&["xds", "route_name"]) } else { None },
        route_metadata,
        properties: properties.collect(),
    }
}

/// Of an answer that no attempt stage has let through.
fn local() -> Local {
    let attempts = abi::property(&["upstream", "request_attempt_count"]);
    let details = abi::property(&["response", "code_details"]);
    Local {
        unsent: attempts.is_some_and(|count| count.iter().all(|byte| *byte == 0)),
        undecided: details.is_some_and(|details| details == b"rate_limiter_error"),
    }
}

/// Envoy before 1.37; unknown versions count as newer. Asked once a VM.
fn is_before_1_37() -> bool {
    thread_local! {
        static OLD: OnceCell<bool> = const { OnceCell::new() };
    }
    let number = |part| {
        let path = ["xds", "node", "user_agent_build_version", "version", part];
        abi::property(&path).and_then(|n| n.try_into().ok().map(u64::from_le_bytes))
    };
    let old =
        || number("major_number") == Some(1) && number("minor_number").is_some_and(|n| n < 37);
    OLD.with(|known| *known.get_or_init(old))
}

fn attempt_head(
    attempt: &mut Attempt,
    cx: &mut Cx<'_>,
    headers: &Headers,
    end_of_stream: bool,
) -> Flow {
    const ENDPOINT: [&str; 4] = ["xds", "upstream_host_metadata", "filter_metadata", "keyward"];
    let [xds, metadata, filter, keyward] = ENDPOINT;
    let plan = abi::property(&["filter_state", &format!("wasm.{FILTER_STATE}")]);
    let provider = text(&[xds, metadata, filter, keyward, "provider"]);
    let replan = provider.is_none()
        && abi::property(&[xds, metadata, filter, keyward, "replan"])
            .is_some_and(|value| value.first().is_some_and(|byte| *byte != 0));
    let number = abi::property(&["upstream", "request_attempt_count"])
        .and_then(|count| count.try_into().ok().map(u64::from_le_bytes))
        .and_then(|count| u32::try_from(count).ok());
    let host = attempt::Host {
        plan: plan.as_deref(),
        provider: provider.as_deref(),
        replan,
        attempt: number.unwrap_or(1),
        leaves_early: is_before_1_37(),
    };
    attempt.on_request_headers(cx, headers, &host, end_of_stream)
}

fn text(path: &[&str]) -> Option<String> {
    abi::property(path).and_then(|bytes| String::from_utf8(bytes).ok()).filter(|s| !s.is_empty())
}
