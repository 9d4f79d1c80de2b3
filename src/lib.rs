//! Keyward
pub(crate) mod error_body;
pub mod headers;
pub mod hint;
pub mod limit;
pub mod provider;
pub mod runtime;
pub mod time;
