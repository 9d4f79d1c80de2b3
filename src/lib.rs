//! Keyward: an AI gateway as one proxy-wasm filter for stock Envoy and Istio.
//!
//! It holds the keys of LLM providers. When a key is exhausted, the request moves on, to the next key, to a
//! shared pool or to another provider, before its client has seen anything; when nothing is left, the client
//! is told when to come back.
//!
//! # Life of a request
//!
//! ```text
//!  client ─► Envoy ─► [gateway] ─► router ─► [attempt] ─► provider
//!                      │   ▲                  │     │
//!                      │   └─ 307: next provider ◄──┤
//!                      │                      └─────┴─ x-keyward-retry: next key
//!                      └─ 429 with a hint, where nothing is left
//! ```
//!
//! 1. [`gateway`] (once per request) finds out who calls and what they may ([`consumer`]), takes the client's
//!    credentials off, reads the body once, charges the limits for an estimate, which is settled at the end of the
//!    stream ([`limit`], [`price`]), finds the model's targets and claims a key for the first that has one
//!    ([`routing`], [`keys`]). What it decided is a [`plan::Plan`], left in filter state.
//! 2. [`attempt`] (once per attempt, a fresh context in Envoy's upstream chain) puts the key in, addresses the
//!    request and patches its body ([`trip`], [`upstream`], [`members`]).
//! 3. The answer is held until its first event ([`answer`]). A good one goes on and is observed while it passes
//!    ([`observe`], [`usage`]). Any other is classified ([`signal`], [`hint`]) and settled in the records of key,
//!    account, model and provider ([`settle`], [`record`]).
//! 4. If another key of the provider can take the request, it is claimed and Envoy retries. If another provider
//!    can, the plan travels in an authenticated header through an internal redirect, and the gateway stage plans
//!    again. If nothing can, [`shortage`] and [`reply`] say when something will.
//!
//! [`standalone`] does 1 to 3 in one filter where upstream filters cannot be loaded; it moves on for the next
//! request only.
//!
//! # Where to start
//!
//! | to change | read |
//! |---|---|
//! | what the configuration may say | [`config`], then [`runtime`] |
//! | who may call, and what for | [`consumer`], [`grant`] |
//! | temporary keys | [`token`], [`totp`] |
//! | limits, of whom and what for | [`limit`], [`price`], of addresses [`address`] |
//! | Keyward's own API | [`admin`], [`status`], [`audit`] |
//! | a provider | [`provider`], [`providers`] |
//! | a known model | [`catalog`] |
//! | a format | [`conversation`], [`formats`] |
//! | what an answer means for a key | [`signal`], [`hint`] |
//! | how a key is chosen | [`keys`], [`record`] |
//! | what is limited, and how that is counted | [`limit`], [`price`] |
//! | what a client is told | [`reply`], [`shortage`] |
//! | how state is kept | [`ledger`], [`record`], [`tally`], [`table`] |
//! | what happens in Envoy, and what its other filters learn | [`effect`], `host`, [`filter_state`] |
//!
//! # Invariants
//!
//! - **The core is sans-io.** Bytes, headers, time and randomness are arguments; what is to be done comes out as
//!   [`effect::Effect`]s. Only `host`, compiled for wasm32 alone, names the SDK: a core file that did would not
//!   build natively. The one port is [`ledger::SharedData`].
//! - **Nothing panics.** A panic traps the VM that all requests of a worker share. Lints deny what could.
//! - **Every attempt starts clean.** Headers persist between attempts, so all credentials are stripped and path
//!   and host rebuilt at the start of each ([`upstream::address`]).
//! - **A key is claimed before it is promised.** Whoever asks Envoy to go on holds a claim on the key that the
//!   next attempt uses, so workers cannot send twice on what is left once.
//! - **After the first byte to the client there is no other attempt.** A stream that breaks then ends as failed.
//! - **Nothing grows without bound.** The slots in shared data, the labels of metrics and every buffer are bounded
//!   by the configuration or a documented constant.
//! - **A secret is never shown.** Its type does not print, errors and logs speak of a key by its id, and records
//!   hold eight bytes of its SHA-256.
//! - **Bodies are patched, not re-serialized.** What Keyward does not know about passes byte for byte.
//! - **Translation fails closed.** Between two formats, what is not understood is an error in the client's format;
//!   no byte of the provider's goes on.

pub mod address;
pub mod admin;
pub mod answer;
pub mod attempt;
pub mod audit;
pub mod catalog;
pub mod config;
pub mod consumer;
pub mod conversation;
pub mod effect;
pub mod endpoint;
pub(crate) mod error_body;
pub mod eventstream;
pub mod filter_state;
pub mod formats;
pub mod gateway;
pub mod grant;
pub mod headers;
pub mod hint;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod limit;
pub mod members;
pub mod multipart;
pub mod observe;
pub mod plan;
pub mod price;
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
pub(crate) mod sorted;
pub mod sse;
pub mod standalone;
pub mod status;
pub mod table;
pub mod tally;
pub mod time;
pub mod token;
pub mod totp;
pub mod trip;
pub mod upstream;
pub mod usage;

#[cfg(target_arch = "wasm32")]
mod host;
