//! The built filter in a small in-process host: what unit tests of the core cannot reach, without an Envoy.
//!
//! Needs `make build`; `KEYWARD_WASM` names another build of the filter.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy allows these in test functions, not in the helpers beside them"
)]
#![expect(unreachable_pub, reason = "one crate of its own")]

mod chunks;
mod cost;
mod ends;
mod forged;
mod headers;
mod host;
mod hostile;
mod memory;
mod message;
mod moves;
mod refusals;
mod router;
mod scene;
mod timing;
mod traps;
mod workers;
