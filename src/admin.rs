//! Keyward's own API, under `/keyward/`: for operators, and for consumers about themselves.
//!
//! | call | by | does |
//! |---|---|---|
//! | `GET /keyward/status` | admins | [`crate::status`] |
//! | `POST /keyward/keys` | admins, consumers for themselves | issues a temporary key (`keys`) |
//! | `DELETE /keyward/keys/{id}` | admins, consumers their own | revokes one |
//! | `POST /keyward/access` | consumers | asks for a role or a model (`access`) |
//! | `GET /keyward/access` | admins all, consumers their own | lists what was asked and decided |
//! | `POST /keyward/access/{id}` | admins | approves or refuses |
//! | `DELETE /keyward/blocks/{address}` | admins | lifts the block of an address (`blocks`) |
//! | `GET /keyward/me` | everybody | who is asking, and what is left (`me`) |
//! | `GET /keyward/usage` | admins all, consumers their own | what was used (`usage`) |
//!
//! Bodies are small JSON, read as strictly as the configuration. Errors are OpenAI's, nothing is cached, and everything that
//! is done or refused is a line of the audit trail.

mod access;
mod blocks;
mod keys;
mod me;
mod usage;

use core::fmt::Write;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::config::decode::{Decode, Place};
use crate::config::source::Document;
use crate::consumer::access::{Access, denied};
use crate::consumer::cidr;
use crate::consumer::identify::{By, Caller, MAX_KEY, Presented, presented, unauthenticated};
use crate::consumer::rule::OPERATIONS;
use crate::effect::Cx;
use crate::endpoint::{Dialect, Operation, RouteError, takes};
use crate::headers::Headers;
use crate::intake::{self, shortened};
use crate::reply::{Refusal, Reply};
use crate::runtime::{KeyDigest, Runtime};
use crate::{audit, status};

/// Bytes of a body: a key with 64 models of the longest names does not fit a header anyway.
const MAX_BODY: usize = 16 << 10;
/// What is wrong with a body, told in one answer.
const SHOWN_ERRORS: usize = 8;
const PREFIX: &str = "/keyward/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'p> {
    Status,
    IssueKey,
    /// By its id.
    RevokeKey(&'p str),
    AskAccess,
    ListAccess,
    /// By the id of the request.
    DecideAccess(&'p str),
    /// An address.
    Unblock(&'p str),
    Me,
    Usage,
}

/// A call whose body is still to come.
#[derive(Debug)]
pub struct Pending {
    order: Order,
    who: Who,
    origin: Origin,
}

/// What the body is for.
#[derive(Debug)]
enum Order {
    IssueKey,
    AskAccess,
    /// By the id of the request.
    DecideAccess(String),
}

/// Who calls.
#[derive(Debug)]
enum Who {
    /// How the audit trail names it: by the first bytes of the SHA-256 of its key.
    Admin(String),
    Consumer(Box<Access>, By),
}

/// For the audit trail: what was called, and from where.
#[derive(Debug, Clone)]
struct Origin {
    call: String,
    address: String,
}

impl Who {
    fn name(&self) -> &str {
        match self {
            Self::Admin(name) => name,
            Self::Consumer(access, _) => &access.consumer,
        }
    }
}

/// Whether a path is Keyward's own: the address of the caller is wanted then.
pub fn is_own(path: &[u8]) -> bool {
    path.starts_with(PREFIX.as_bytes())
}

/// Decides on the headers; `None`: no call of this API. `Err` is the answer.
pub fn head(
    cx: &mut Cx<'_>,
    headers: &Headers,
    caller: &Caller,
    end_of_stream: bool,
) -> Option<Result<Pending, Reply>> {
    let (method, path) = (headers.text(":method")?, headers.text(":path")?);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let rest = path.strip_prefix(PREFIX)?;
    let address = caller.address.as_deref().and_then(cidr::parse_address);
    let origin = Origin {
        call: format!("{method} {}", shortened(path)),
        address: address.map(|address| address.to_string()).unwrap_or_default(),
    };
    let call = match route(method, rest).and_then(|call| configured(cx.runtime, call)) {
        Ok(call) => call,
        Err(error) => {
            let refusal = intake::unknown(error, method, path);
            return Some(Err(finish(cx, "", &origin, Err(refusal))));
        }
    };
    let who = match who(cx, headers, caller, call) {
        Ok(who) => who,
        Err(refused) => {
            let (name, refusal) = *refused;
            return Some(Err(finish(cx, &name, &origin, Err(refusal))));
        }
    };
    let done = match call {
        Call::Status => Ok(Reply::json(200, status::render(cx))),
        Call::RevokeKey(id) => keys::revoke(cx, &who, &origin, &decoded(id)),
        Call::ListAccess => Ok(access::list(cx, &who)),
        Call::Unblock(address) => blocks::lift(cx, &who, &origin, &decoded(address)),
        Call::Me => Ok(me::render(cx, &who)),
        Call::Usage => Ok(usage::render(cx, &who)),
        Call::IssueKey | Call::AskAccess | Call::DecideAccess(_) => {
            let order = match call {
                Call::AskAccess => Order::AskAccess,
                Call::DecideAccess(id) => Order::DecideAccess(decoded(id)),
                _ => Order::IssueKey,
            };
            match intake::body_expected(cx, headers, end_of_stream) {
                Ok(()) => return Some(Ok(Pending { order, who, origin })),
                Err(refusal) => Err(refusal),
            }
        }
    };
    Some(Err(finish(cx, who.name(), &origin, done)))
}

/// The answer to a call with a body.
pub fn body(cx: &mut Cx<'_>, pending: &Pending, body: &[u8]) -> Reply {
    let Pending { order, who, origin } = pending;
    let done = match order {
        Order::IssueKey => keys::issue(cx, who, origin, body),
        Order::AskAccess => access::ask(cx, who, origin, body),
        Order::DecideAccess(id) => access::decide(cx, who, origin, id, body),
    };
    finish(cx, who.name(), origin, done)
}

/// Where the host cannot hold the headers until the body is there.
pub fn without_body(cx: &mut Cx<'_>, pending: &Pending) -> Reply {
    let message = "A call with a body needs the gateway stage, or mode: body.";
    let refusal = Refusal::server(501, "not_implemented", message);
    finish(cx, pending.who.name(), &pending.origin, Err(refusal))
}

fn route<'p>(method: &str, rest: &'p str) -> Result<Call<'p>, RouteError> {
    let id = |prefix| rest.strip_prefix(prefix).filter(|id| !id.is_empty() && !id.contains('/'));
    let (call, wanted) = match rest {
        "status" => (Call::Status, "GET"),
        "me" => (Call::Me, "GET"),
        "usage" => (Call::Usage, "GET"),
        "keys" => (Call::IssueKey, "POST"),
        "access" => match method {
            "GET" | "HEAD" => (Call::ListAccess, "GET"),
            "POST" => (Call::AskAccess, "POST"),
            _ => return Err(RouteError::Method("GET, HEAD, POST")),
        },
        // A block of IPv6 addresses is written with a slash.
        _ => match (id("keys/"), id("access/"), rest.strip_prefix("blocks/")) {
            (Some(id), ..) => (Call::RevokeKey(id), "DELETE"),
            (None, Some(id), _) => (Call::DecideAccess(id), "POST"),
            (None, None, Some(address)) if !address.is_empty() => {
                (Call::Unblock(address), "DELETE")
            }
            _ => return Err(RouteError::Unknown),
        },
    };
    takes(wanted, method).map(|()| call)
}

/// What is not configured does not exist.
fn configured<'p>(runtime: &Runtime, call: Call<'p>) -> Result<Call<'p>, RouteError> {
    let there = match call {
        Call::IssueKey | Call::RevokeKey(_) => runtime.consumers.signing.is_some(),
        Call::AskAccess | Call::ListAccess | Call::DecideAccess(_) => {
            runtime.consumers.access_ttl.is_some()
        }
        Call::Unblock(_) => {
            let guard = runtime.client_address.as_ref();
            guard.is_some_and(|guard| guard.block.is_some())
        }
        Call::Status | Call::Me | Call::Usage => true,
    };
    if there { Ok(call) } else { Err(RouteError::Unknown) }
}

fn decoded(id: &str) -> String {
    percent_decode_str(id).decode_utf8_lossy().into_owned()
}

/// Who calls, if that one may make this call; else the name, as far as it is known, and why not.
fn who(
    cx: &Cx<'_>,
    headers: &Headers,
    caller: &Caller,
    call: Call<'_>,
) -> Result<Who, Box<(String, Refusal)>> {
    if let Some(admin) = admin(cx.runtime, headers) {
        if call == Call::AskAccess {
            let message = "An admin key has no roles and models to ask for: use a consumer's.";
            return Err(Box::new((admin, denied(message.to_owned()))));
        }
        return Ok(Who::Admin(admin));
    }
    if call == Call::Status {
        let message = "The status needs an admin key.";
        let refusal = unauthenticated(message, presented(headers).is_some());
        return Err(Box::new((String::new(), refusal)));
    }
    let entered = intake::enter(cx, headers, caller);
    let (access, by) = entered.map_err(|refusal| Box::new((String::new(), refusal)))?;
    match permitted(cx, &access, &by, call) {
        Ok(()) => Ok(Who::Consumer(Box::new(access), by)),
        Err(refusal) => Err(Box::new((access.consumer, refusal))),
    }
}

fn permitted(cx: &Cx<'_>, access: &Access, by: &By, call: Call<'_>) -> Result<(), Refusal> {
    // Rules say what for and from where; whoever may do nothing may not do this either.
    let check = |(_, operation): &(_, Operation)| access.check(cx.runtime, *operation);
    OPERATIONS.iter().map(check).reduce(Result::or).unwrap_or(Ok(()))?;
    match (call, by) {
        (Call::DecideAccess(_), _) => {
            Err(denied("Access requests are decided with an admin key.".to_owned()))
        }
        (Call::Unblock(_), _) => Err(denied("Blocks are lifted with an admin key.".to_owned())),
        (Call::IssueKey | Call::RevokeKey(_) | Call::AskAccess, By::Default) => {
            Err(unauthenticated("This call needs a consumer's key, or an admin's.", false))
        }
        (Call::IssueKey | Call::AskAccess, By::Temporary(_)) => {
            Err(denied("A temporary key cannot ask for more than it has.".to_owned()))
        }
        _ => Ok(()),
    }
}

fn admin(runtime: &Runtime, headers: &Headers) -> Option<String> {
    let Some(Presented::Key(key)) = presented(headers) else { return None };
    if key.len() > MAX_KEY {
        return None;
    }
    let digest = KeyDigest::of(key);
    // Every digest is compared, whichever matches.
    let is_one = runtime.admin.iter().fold(false, |found, admin| found | admin.matches(&digest));
    is_one.then(|| format!("admin:{:08x}", digest.prefix() >> 32))
}

/// Reads a body. Errors as in the configuration: all at once, each with its path.
fn read<T: Decode>(body: &[u8]) -> Result<(T, Value), Refusal> {
    if body.len() > MAX_BODY {
        let message = format!("The request body is larger than {MAX_BODY} bytes.");
        return Err(Refusal::client(413, "request_too_large", message));
    }
    let document = Document::from_json(body).map_err(|error| {
        Refusal::client(400, "invalid_body", format!("The body is not valid JSON: {error}."))
    })?;
    let mut errors = document.errors;
    match T::decode(&document.value, Place::Root) {
        Ok(read) if errors.0.is_empty() => return Ok((read, document.value)),
        Ok(_) => {}
        Err(more) => errors.0.extend(more.0),
    }
    let mut message = String::new();
    for error in errors.0.iter().take(SHOWN_ERRORS) {
        let separator = if message.is_empty() { "" } else { "; " };
        let _ = write!(message, "{separator}{error}");
    }
    let refusal = Refusal::client(400, "invalid_body", message);
    match errors.0.first().map(crate::config::error::ConfigError::path) {
        Some(path) if !path.is_empty() => Err(refusal.param(path)),
        _ => Err(refusal),
    }
}

/// Refusals go into the audit trail; what was done has a line of its own there.
fn finish(cx: &mut Cx<'_>, who: &str, origin: &Origin, done: Result<Reply, Refusal>) -> Reply {
    let mut reply = done.unwrap_or_else(|refusal| {
        let more = [("status", refusal.status.into()), ("code", refusal.code.into())];
        note(cx, "refusal", who, &origin.call, origin, &more);
        refusal.reply(Dialect::OpenAi)
    });
    reply.headers.push(("cache-control", "no-store".to_owned()));
    reply
}

fn note(
    cx: &mut Cx<'_>,
    audit: &'static str,
    who: &str,
    what: &str,
    origin: &Origin,
    more: &[(&str, Value)],
) {
    audit::note(cx, &audit::Event { audit, who, what, from: &origin.address }, more);
}

fn json(status: u16, value: &Value) -> Reply {
    Reply::json(status, value.to_string().into_bytes())
}

/// Of billionths of one.
fn dollars(billionths: u64) -> Value {
    Value::from(billionths as f64 / 1e9)
}

fn unavailable(message: &str) -> Refusal {
    Refusal::server(503, "unavailable", message)
}
