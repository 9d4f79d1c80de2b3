//! Keyward
pub mod answer;
pub mod attempt;
pub mod config;
pub mod effect;
pub mod endpoint;
mod error_body;
pub mod gateway;
pub mod headers;
pub mod hint;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod limit;
pub mod members;
pub mod observe;
pub mod plan;
pub mod provider;
pub mod providers;
pub mod random;
pub mod record;
pub mod reply;
pub mod routing;
pub mod runtime;
pub mod settle;
pub mod shortage;
pub mod signal;
pub mod sse;
pub mod standalone;
pub mod status;
pub mod tally;
pub mod time;
pub mod trip;
pub mod upstream;
pub mod usage;

#[cfg(target_arch = "wasm32")]
mod host;
