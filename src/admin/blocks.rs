//! `DELETE /keyward/blocks/{address}`: an address may call again. Who is blocked is part of the status.

use serde_json::json;

use super::{Origin, Who, json as reply, note, unavailable};
use crate::address::{self, Source};
use crate::effect::Cx;
use crate::reply::{Refusal, Reply};

/// `address`: as the status shows it, or any of its block of IPv6 addresses.
pub(super) fn lift(
    cx: &mut Cx<'_>,
    who: &Who,
    origin: &Origin,
    address: &str,
) -> Result<Reply, Refusal> {
    let missing = || Refusal::client(404, "block_not_found", "This address is not blocked.");
    let source = Source::parse(address).ok_or_else(missing)?;
    let lifted = address::unblock(cx, source);
    if !lifted.map_err(|_| unavailable("The block cannot be lifted at the moment."))? {
        return Err(missing());
    }
    let address = source.to_string();
    note(cx, "unblock", who.name(), &address, origin, &[]);
    Ok(reply(200, &json!({"address": address, "blocked": false})))
}
