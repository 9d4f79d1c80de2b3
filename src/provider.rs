//! The provider table: one row per service that Keyward can speak to.

use crate::formats::Format;
use crate::providers::{anthropic, compatible};
use crate::signal::Verdict;

/// One row of the table.
#[derive(Debug)]
pub struct Kind {
    /// Lower case, unique in the table.
    pub name: &'static str,
    /// Default host; empty where there is none (a self-hosted server).
    pub host: &'static str,
    /// With a leading slash, without a trailing one.
    pub base_path: &'static str,
    pub format: Format,
    pub credential: Credential,
    /// Whether the service understands `stream_options.include_usage`.
    pub stream_options: bool,
    /// Whether the service has OpenAI's Responses API; where it has not, requests to it are translated.
    pub responses: bool,
    /// Whether its rate limits are counted per model: other models of the key go on.
    pub model_scoped_limits: bool,
    /// What the service's own error codes mean, where they are unknown elsewhere or mean something else
    /// there. They come before the codes of [`crate::signal`].
    pub codes: &'static [(&'static str, Verdict)],
    /// What a status means where no code says more, if not the usual.
    pub statuses: &'static [(u16, Verdict)],
}

/// How the key travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer KEY` (RFC 6750).
    Bearer,
    /// The key alone, in this header.
    Header(&'static str),
}

/// Every row, in the order in which they are listed to operators.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    [anthropic::KINDS, compatible::KINDS].into_iter().flatten().copied()
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    kinds().find(|kind| kind.name == name)
}

/// The names of all rows, for the message about an unknown one.
pub fn names() -> impl Iterator<Item = &'static str> {
    kinds().map(|kind| kind.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        for (index, name) in names().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(!name.is_empty() && name.chars().all(plain), "{name}");
            assert_eq!(
                names().position(|other| other == name),
                Some(index),
                "{name} is there twice"
            );
            assert_eq!(find(name).map(|kind| kind.name), Some(name));
        }
        assert!(find("opnai").is_none());
        assert!(find("").is_none());
    }

    #[test]
    fn hosts_and_paths_are_well_formed() {
        for kind in kinds() {
            let label = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && label
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            };
            let host = kind.host;
            assert!(
                host.is_empty() || (host.contains('.') && host.split('.').all(label)),
                "{host}"
            );
            let path = kind.base_path;
            assert!(
                path.starts_with('/') && !path.ends_with('/') && !path.contains("//"),
                "{path}"
            );
        }
    }

    #[test]
    fn credentials_are_lower_case_headers() {
        for kind in kinds() {
            if let Credential::Header(name) = kind.credential {
                assert!(
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                );
            }
        }
    }

    #[test]
    fn quirks_say_something() {
        for kind in kinds() {
            for (index, (code, verdict)) in kind.codes.iter().enumerate() {
                let first =
                    kind.codes.iter().position(|(other, _)| other.eq_ignore_ascii_case(code));
                assert_eq!(first, Some(index), "{}: {code} is there twice", kind.name);
                assert_ne!(*verdict, Verdict::Success, "{}: {code}", kind.name);
            }
            assert!(
                kind.statuses.iter().all(|(status, _)| (400..600).contains(status)),
                "{}",
                kind.name
            );
        }
    }
}
