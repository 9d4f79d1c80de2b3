//! Keyward
pub mod config;
pub(crate) mod error_body;
pub mod headers;
pub mod hint;
pub mod limit;
pub mod provider;
pub mod providers;
pub mod runtime;
pub mod signal;
pub mod time;
