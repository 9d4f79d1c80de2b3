//! The provider table: one row per service that Keyward can speak to.

/// One row of the table.
#[derive(Debug)]
pub struct Kind {
    /// Lower case, unique in the table.
    pub name: &'static str,
    /// Default host; empty where there is none (a self-hosted server).
    pub host: &'static str,
    pub base_path: &'static str,
    pub credential: Credential,
    /// Whether the service understands `stream_options.include_usage`.
    pub stream_options: bool,
}

/// How the key travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer KEY` (RFC 6750).
    Bearer,
    /// The key alone, in this header.
    Header(&'static str),
}
