//! Keyward
pub mod headers;
pub mod limit;
pub mod members;
pub mod observe;
pub mod provider;
pub mod runtime;
pub mod sse;
pub mod time;
pub mod usage;
