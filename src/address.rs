//! Limits of client addresses, and addresses that are blocked.
//!
//! An address is what Envoy's `source.address` tells: behind proxies that the connection manager is told to trust
//! (`xff_num_trusted_hops`, `original_ip_detection_extensions`) the client's, else that of the peer, whatever
//! `x-forwarded-for` says. IPv6 counts by /64, the block that one customer gets (RFC 6177). Requests over a Unix socket
//! have no address and pass.
//!
//! Limits on requests are charged and blocks looked up before anything else is done with a request: before its key is
//! hashed. All other limits are charged with those of its consumer.
//!
//! # Blocks
//!
//! A request that is refused with 401, or by a limit of its address, its consumer, the consumer's team, a temporary key
//! or a route, is a strike against its address; not one that a model's own limit refuses, which others use up. With
//! `after` strikes `within` a time, counted from the first of them, the address is blocked `for` a time: every request
//! gets 429 `address_blocked`, and counts for nothing. Then, or when an admin lifts the block, it starts anew.
//!
//! # Bounds
//!
//! Two tables ([`crate::table`]) hold all of it: 65,536 addresses that were seen and 16,384 that are blocked, in at most
//! 8 MB of shared data, however many addresses there are. Where more come than that, those are forgotten first whose
//! windows end first, and of several that end at once the one that was not heard of for longest: the limits of an address
//! start anew then, and a block ends early. A stranger is taken for a blocked address with probability 1e-15 at the most
//! (16,384 / 2^64), and nobody outside can choose for whom.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::audit::{self, Event};
use crate::consumer::cidr::{Cidr, parse_address};
use crate::consumer::identify::Caller;
use crate::effect::Cx;
use crate::ledger::{Edit, Unwritten};
use crate::limit::account::{self, Account, Statement};
use crate::limit::{Amounts, Kind, Limits, Subject, refusal};
use crate::reply::{Refusal, in_words, whole_seconds};
use crate::runtime::Runtime;
use crate::sorted;
use crate::table::{Change, Full, Listed, Place, Refused, Table};
use crate::time::UnixTime;

const SEEN: Table =
    Table { name: "address", buckets: 8_192, ways: 8, full: Full::EvictFirstToExpire };
const BLOCKED: Table =
    Table { name: "blocked", buckets: 2_048, ways: 8, full: Full::EvictFirstToExpire };

/// What the configuration says about client addresses.
#[derive(Debug)]
pub struct Guard {
    /// Limits on requests.
    pub requests: Limits,
    /// All others.
    pub amounts: Limits,
    pub block: Option<Block>,
    /// Neither limited nor blocked.
    pub exempt: Vec<Cidr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub after: u32,
    pub within: Duration,
    pub lasts: Duration,
}

/// An IPv4 address or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source(IpAddr);

/// Why an address gets a strike, and then a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offence {
    Authentication,
    Limit,
}

/// What is known of an address.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    account: Account,
    strikes: u32,
    /// The first of them.
    since: UnixTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    pub source: Source,
    pub offence: Offence,
    pub until: UnixTime,
}

/// A request comes. Where it is from, if that is limited or may be blocked, and how its limits on requests stand.
///
/// # Errors
/// The refusal, 429: it is blocked, or has no requests left.
pub fn arrive(
    cx: &mut Cx<'_>,
    caller: &Caller,
) -> Result<(Option<Source>, Vec<Statement>), Refusal> {
    let nobody = (None, Vec::new());
    let Some(guard) = &cx.runtime.client_address else { return Ok(nobody) };
    let address = caller.address.as_deref().and_then(parse_address);
    let Some(address) = address.filter(|a| !guard.exempt.iter().any(|cidr| cidr.contains(*a)))
    else {
        return Ok(nobody);
    };
    let source = Source::of(address);
    if let Some(block) = guard.block
        && let Some(blocked) = BLOCKED.read::<Blocked>(Place::of(cx), &source.id())
        && block.still_holds(&blocked, cx.now)
    {
        return Err(refusal_of(&blocked, cx.now));
    }
    if guard.requests.is_empty() {
        return Ok((Some(source), Vec::new()));
    }
    let one = Amounts { requests: 1, ..Amounts::default() };
    match account::charge(cx, &[source.subject(&guard.requests)], one) {
        Ok((_, statements)) => Ok((Some(source), statements)),
        Err(exceeded) => {
            let labels = [("by", Kind::Address.as_str()), ("limit", &refusal::label(&exceeded))];
            cx.count("limited", &labels);
            strike(cx, source, Offence::Limit);
            Err(refusal::of(&exceeded, cx.now))
        }
    }
}

/// The limits of an address that are charged when it is known what a request asks for.
pub fn subject(runtime: &Runtime, source: Option<Source>) -> Option<Subject<'_>> {
    let amounts = &runtime.client_address.as_ref()?.amounts;
    let source = source.filter(|_| !amounts.is_empty())?;
    Some(source.subject(amounts))
}

pub fn limits_requests(runtime: &Runtime) -> bool {
    runtime.client_address.as_ref().is_some_and(|guard| !guard.requests.is_empty())
}

/// How all limits of an address stand.
pub fn statements(cx: &Cx<'_>, source: Source) -> Vec<Statement> {
    let Some(guard) = &cx.runtime.client_address else { return Vec::new() };
    let seen: Seen = SEEN.read(Place::of(cx), source.to_string().as_bytes()).unwrap_or_default();
    let limits = [&guard.requests, &guard.amounts].into_iter().filter(|limits| !limits.is_empty());
    limits.map(|limits| seen.account.statement(Kind::Address, limits, cx.now)).collect()
}

/// A request from there was refused.
pub fn strike(cx: &mut Cx<'_>, source: Source, offence: Offence) {
    let Some(block) = cx.runtime.client_address.as_ref().and_then(|guard| guard.block) else {
        return;
    };
    let (now, text) = (cx.now, source.to_string());
    let due = SEEN.update(Place::of(cx), text.as_bytes(), |entry: Option<(Seen, UnixTime)>| {
        let (mut seen, expires) = entry.unwrap_or_default();
        let over = seen.since.after(block.within) <= now || now < seen.since;
        if over || seen.strikes == 0 {
            (seen.strikes, seen.since) = (0, now);
        }
        seen.strikes = seen.strikes.saturating_add(1);
        let due = seen.strikes >= block.after;
        if due {
            seen.strikes = 0;
        }
        (Change::Put(seen, expires.max(now.after(block.within))), due)
    });
    match due {
        Ok(false) => return,
        Ok(true) => {}
        Err(_) => return cx.lost(Err(Unwritten)),
    }
    let until = now.after(block.lasts);
    let blocked = Blocked { source, offence, until };
    let written = BLOCKED
        .update(Place::of(cx), &source.id(), |_| (Change::Put(blocked.clone(), blocked.until), ()));
    if written.is_err() {
        return cx.lost(Err(Unwritten));
    }
    cx.count("addresses_blocked", &[("reason", offence.as_str())]);
    let event = Event { audit: "block", who: "keyward", what: &text, from: &text };
    let more = [
        ("reason", offence.as_str().into()),
        ("strikes", block.after.into()),
        ("until", until.rfc3339().into()),
    ];
    audit::note(cx, &event, &more);
}

/// Who is blocked now.
pub fn blocked(cx: &Cx<'_>) -> Vec<Blocked> {
    let Some(block) = cx.runtime.client_address.as_ref().and_then(|guard| guard.block) else {
        return Vec::new();
    };
    let listed = BLOCKED.list(Place::of(cx)).into_iter().map(|Listed { payload, .. }| payload);
    let mut all: Vec<Blocked> = listed.filter(|b| block.still_holds(b, cx.now)).collect();
    sorted::by_key(&mut all, |blocked| blocked.until);
    all
}

/// Lifts a block; `false`: there is none.
///
/// # Errors
/// It stands.
pub fn unblock(cx: &Cx<'_>, source: Source) -> Result<bool, Refused> {
    BLOCKED.update(Place::of(cx), &source.id(), |entry: Option<(Blocked, UnixTime)>| {
        (Change::Remove, entry.is_some())
    })
}

/// Changes the account of an address, as [`crate::ledger::update`] those of others.
pub(crate) fn update_account<R>(
    cx: &Cx<'_>,
    subject: &Subject<'_>,
    mut change: impl FnMut(&mut Account) -> Edit<R>,
) -> Result<R, Unwritten> {
    let now = cx.now;
    let updated = SEEN.update(Place::of(cx), subject.slot.as_bytes(), |entry| {
        let (mut seen, expires): (Seen, UnixTime) = entry.unwrap_or_default();
        match change(&mut seen.account) {
            Edit::Keep(result) => (Change::Keep, result),
            Edit::Write(result) => {
                let idle = seen.account.idle_from(&subject.limits, now);
                (Change::Put(seen, expires.max(idle)), result)
            }
        }
    });
    updated.map_err(|_| Unwritten)
}

fn refusal_of(blocked: &Blocked, now: UnixTime) -> Refusal {
    let wait = now.until(blocked.until);
    let why = match blocked.offence {
        Offence::Authentication => "it kept failing to authenticate",
        Offence::Limit => "it kept exceeding its limits",
    };
    let message = format!(
        "Requests from {} are blocked because {why}; try again in {}.",
        blocked.source,
        in_words(wait)
    );
    let mut refusal =
        Refusal { kind: "rate_limit_error", ..Refusal::client(429, "address_blocked", message) };
    refusal.wait = Some(wait);
    refusal.header("retry-after", whole_seconds(wait).to_string()).header("x-should-retry", "false")
}

impl Block {
    /// Not what was written by a clock that has gone back since, or when blocks were longer.
    fn still_holds(&self, blocked: &Blocked, now: UnixTime) -> bool {
        now.until(blocked.until) <= self.lasts
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }

    /// As it is written, or any address of it.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_suffix("/64").unwrap_or(text).parse().ok().map(Self::of)
    }

    /// What finds it among the blocked.
    fn id(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }

    fn subject(self, limits: &Limits) -> Subject<'_> {
        let name = self.to_string();
        Subject {
            kind: Kind::Address,
            slot: Cow::Owned(name.clone()),
            name: Cow::Owned(name),
            owner: 0,
            limits: Cow::Borrowed(limits),
        }
    }
}

/// `192.0.2.1`, `2001:db8::/64`.
impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let suffix = if self.0.is_ipv6() { "/64" } else { "" };
        write!(f, "{}{suffix}", self.0)
    }
}

impl Offence {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Limit => "limit",
        }
    }
}

#[cfg(test)]
mod tests;
