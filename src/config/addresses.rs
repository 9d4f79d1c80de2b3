//! `client_address` as the operator writes it.

use core::time::Duration;

use super::decode::{Place, fields};
use super::error::Errors;
use super::values::{List, Whole};
use crate::address::{Block, Guard};
use crate::consumer::cidr::Cidr;
use crate::limit::{Limits, Unit};

const MAX_EXEMPT: usize = 256;
const MAX_AFTER: u64 = 1_000_000;

fields! {
    #[derive(Debug)]
    pub struct ClientAddress {
        /// Of each address by itself.
        limits: Limits = Limits::default(),
        block: Option<BlockWritten> = None,
        /// Addresses that are neither limited nor blocked.
        exempt: List<Cidr, 0, MAX_EXEMPT> = List::default(),
    } => ClientAddress::says_something
}

fields! {
    /// `{after: 20, within: 1m, for: 15m}`
    #[derive(Debug)]
    struct BlockWritten {
        after: Whole<1, MAX_AFTER>,
        within: Duration,
        lasts: Duration as "for",
    }
}

impl ClientAddress {
    fn says_something(self, location: Place<'_>) -> Result<Self, Errors> {
        if self.limits.concurrency.is_some() {
            let message = "concurrency is not for addresses";
            return Err(Errors::one(location.member("limits"), message));
        }
        if self.limits.is_empty() && self.block.is_none() {
            return Err(Errors::one(location, "has neither limits nor block"));
        }
        Ok(self)
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn into_guard(self) -> Guard {
        let is_request = |limit: &crate::limit::Limit| limit.unit == Unit::Requests;
        let (requests, amounts) = self.limits.list.into_iter().partition(is_request);
        let limits = |list| Limits { list, concurrency: None };
        Guard {
            requests: limits(requests),
            amounts: limits(amounts),
            block: self.block.map(|block| Block {
                after: block.after.to_u32(),
                within: block.within,
                lasts: block.lasts,
            }),
            exempt: self.exempt.0,
        }
    }
}
