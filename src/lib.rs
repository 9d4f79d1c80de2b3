//! Keyward
pub mod headers;
pub mod limit;
pub mod provider;
pub mod runtime;
pub mod time;
