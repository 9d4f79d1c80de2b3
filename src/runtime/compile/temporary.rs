//! Temporary keys and second factors: secrets read and checked.

use crate::config::decode::Place;

use super::{Compiler, Positions, ROOT};
use crate::config::consumers::Consumer;
use crate::config::error::quoted;
use crate::config::secrets::Hidden;
use crate::config::temporary::{KeptSecret, TemporaryKeys};
use crate::token::{Secret, Signing};
use crate::totp;

/// HS256 needs a key as long as its hash (RFC 7518, section 3.2).
const MIN_SIGNING_SECRET: usize = 32;

impl Compiler<'_> {
    pub(super) fn temporary_keys(&mut self, written: &TemporaryKeys) -> Signing {
        let at = ROOT.member("temporary_keys");
        let at = at.member("secrets");
        let mut seen = Positions::default();
        let mut secrets = Vec::with_capacity(written.secrets.0.len());
        for (index, signing) in written.secrets.0.iter().enumerate() {
            let at = at.element(index);
            let id = signing.id.0.as_str();
            if let Some(first) = seen.note(id, index) {
                let message = format!("{} is also the id of secrets[{first}]", quoted(id));
                self.errors.push(at.member("id"), message);
            }
            let Some(secret) = self.kept_secret(&signing.secret, at) else { continue };
            if secret.len() < MIN_SIGNING_SECRET {
                let message = format!("the secret is shorter than {MIN_SIGNING_SECRET} bytes");
                self.errors.push(at.member(field(&signing.secret)), message);
            }
            let id = id.to_owned();
            secrets.push(Secret { id, secret: Hidden(secret), valid: signing.valid });
        }
        Signing { secrets, max_ttl: written.max_ttl }
    }

    /// Of a consumer of whom one is `asked` for.
    pub(super) fn second_factor(
        &mut self,
        consumer: &Consumer,
        asked: bool,
        at: Place<'_>,
    ) -> Option<totp::Secret> {
        let Some(written) = &consumer.totp else {
            if asked {
                let message = "missing, and mfa asks for it here or in one of the roles";
                self.errors.push(at.member("totp"), message);
            }
            return None;
        };
        let at = at.member("totp");
        let text = self.kept_secret(written, at)?;
        let Some(secret) = totp::Secret::parse(&text) else {
            let message = "expected base32 of at least 16 bytes";
            self.errors.push(at.member(field(written)), message);
            return None;
        };
        if !asked {
            let name = &consumer.name.0;
            self.warnings
                .push(format!("consumer {name} has totp, but nothing asks for it: no mfa"));
        }
        asked.then_some(secret)
    }

    fn kept_secret(&mut self, secret: &KeptSecret, at: Place<'_>) -> Option<String> {
        let at = at.member(field(secret));
        match secret {
            KeptSecret::Environment(name) => self.environment_secret(name, at),
            KeptSecret::Inline(text) => self.header_secret(&text.0, at),
        }
    }
}

fn field(secret: &KeptSecret) -> &'static str {
    match secret {
        KeptSecret::Environment(_) => "env",
        KeptSecret::Inline(_) => "inline",
    }
}
