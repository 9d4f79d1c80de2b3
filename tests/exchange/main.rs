//! Scripted dialogues: whole requests through the pure core, with a clock that stands still unless moved,
//! shared data with Envoy's own semantics, and a router that does what Envoy's does. See [`world`].

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy allows these in test functions, not in the helpers beside them"
)]
#![expect(clippy::needless_pass_by_value, reason = "what a test writes down is used there only")]

mod admin;
mod attacks;
mod failover;
mod limits;
mod router;
mod selection;
mod standalone;
mod states;
mod table;
mod temporary;
mod trust;
mod usage;
mod workers;
mod world;
