//! The proxy-wasm host: callbacks in, effects out. The only code that names the SDK, and that calls out.
//!
//! The SDK's own host calls panic on statuses they do not expect and on bytes that are not UTF-8, and a
//! panic takes down every request of the worker. So only its dispatcher is used; the calls are [`abi`]'s.

mod abi;
mod http;
mod root;
mod telemetry;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|context_id| Box::new(root::Root::new(context_id)));
}}
