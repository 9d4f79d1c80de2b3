//! What the two stages tell each other about one request.
//!
//! Within a round it travels as filter state, which no client can write. Across an internal redirect,
//! where filter state is gone, it travels in the header `x-keyward-state`, authenticated with a key that
//! only this Envoy process knows.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::endpoint::Endpoint;
use crate::keys::Claim;
use crate::ledger::{ABSENT, SharedData};
use crate::limit::toll::Toll;
use crate::members::Spans;
use crate::runtime::ProviderIndex;
use crate::time::UnixTime;
use crate::usage::Usage;

/// The name of the filter state.
pub const FILTER_STATE: &str = "keyward.plan";
/// The header that carries a plan into the next round.
pub const STATE_HEADER: &str = "x-keyward-state";

/// One request on its way: what the client asked for, what has been tried, what is next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub endpoint: Endpoint,
    /// As the client asked for it.
    pub scheme: String,
    pub host: String,
    pub path: String,
    pub model: String,
    /// Names of who asks and of that one's team, empty where there is none.
    pub consumer: String,
    pub team: String,
    pub stream: bool,
    /// The client asked for the usage chunk of a stream itself.
    pub wants_usage: bool,
    /// Where to patch the body.
    pub spans: Spans,
    pub body_length: u32,
    /// Tokens that one attempt may take.
    pub estimate: Usage,
    /// What limits were charged for the request, all attempts and rounds.
    pub toll: Option<Box<Toll>>,
    pub session: Option<u64>,
    /// What a client says to the vendor of its API, by [`crate::upstream::is_for_vendor`], where an attempt may take it
    /// away from those behind it. `anthropic-version` and `anthropic-beta` always, since every attempt does.
    pub own_headers: Vec<(String, String)>,
    /// The one provider that the route leads to, where the filter does not choose.
    pub only: Option<ProviderIndex>,
    /// When the request came, and after which moment no attempt may start.
    pub started: UnixTime,
    pub deadline: UnixTime,

    /// Targets that the caller may not use, by [`crate::routing::Resolved::id`].
    pub barred: Vec<u64>,
    /// Index into the model's targets of this round.
    pub target: u32,
    /// Attempts so far, all rounds; counts the one that is about to start.
    pub attempts: u32,
    /// Envoy's number of the attempt in this round that `claim` is for.
    pub round_attempt: u32,
    /// The key for that attempt.
    pub claim: Option<Claim>,
    /// Hashes of keys used with this target.
    pub tried: Vec<u64>,
    /// Targets that this request is done with, by [`crate::routing::Resolved::id`]: a reload may turn
    /// their order round.
    pub done: Vec<u64>,
    /// Targets, by the same id, that this request cannot go to: their format has no word for what it asks.
    pub unfit: Vec<u64>,
    /// Server errors and broken connections with this target.
    pub failures: u32,
    /// An attempt must not start before.
    pub not_before: UnixTime,
}

impl Plan {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// For [`STATE_HEADER`]: hexadecimal plan, a dot, hexadecimal HMAC-SHA-256.
    pub fn seal(&self, key: &ProcessKey) -> String {
        let bytes = self.encode();
        let tag = key.mac(&bytes).finalize().into_bytes();
        format!("{}.{}", hex(&bytes), hex(&tag))
    }

    /// The reverse; `None` for anything that was not sealed in this process.
    pub fn open(text: &str, key: &ProcessKey) -> Option<Self> {
        let (bytes, tag) = text.split_once('.')?;
        let (bytes, tag) = (unhex(bytes)?, unhex(tag)?);
        key.mac(&bytes).verify_slice(&tag).ok()?;
        Self::decode(&bytes)
    }
}

/// A random key that lives as long as the Envoy process.
#[derive(Clone, PartialEq, Eq)]
pub struct ProcessKey([u8; 32]);

impl core::fmt::Debug for ProcessKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ProcessKey(***)")
    }
}

const PROCESS_KEY_SLOT: &str = "keyward/1/process-key";

impl ProcessKey {
    /// The key of this process: the first worker's draw is everybody's. `None` if shared data fails.
    pub fn obtain(shared: &dyn SharedData, drawn: [u8; 32]) -> Option<Self> {
        for _ in 0..2 {
            if let Some((bytes, _)) = shared.get(PROCESS_KEY_SLOT) {
                return bytes.try_into().ok().map(Self);
            }
            // Whoever comes first; the loser reads the winner's.
            let _ = shared.set(PROCESS_KEY_SLOT, &drawn, ABSENT);
        }
        None
    }

    /// A number for `id` that nobody outside this process can foresee, and another one in every `domain`, which has
    /// no zero byte.
    pub fn fingerprint(&self, domain: &str, id: &[u8]) -> u64 {
        let mut mac = self.mac(domain.as_bytes());
        mac.update(&[0]);
        mac.update(id);
        let tag = mac.finalize().into_bytes();
        tag.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        // HMAC takes a key of any length; the fallback keeps the core free of panics.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        mac.update(bytes);
        mac
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ledger::memory::Memory;
    use crate::limit::Amounts;

    pub(crate) fn plan() -> Plan {
        let reserved = Amounts { requests: 1, prompt: 4, completion: 5, cost: 6 };
        Plan {
            endpoint: Endpoint::Responses,
            scheme: "https".to_owned(),
            host: "gateway.test".to_owned(),
            path: "/v1/responses?x=\u{e9}".to_owned(),
            model: "fast".to_owned(),
            consumer: "anyone".to_owned(),
            team: String::new(),
            stream: true,
            wants_usage: false,
            spans: crate::members::Ask::read(br#"{"model":"fast"}"#).unwrap().spans,
            body_length: 16,
            estimate: Usage { prompt: u64::MAX, ..Usage::default() },
            toll: Some(Box::default()),
            session: Some(7),
            own_headers: vec![("anthropic-beta".to_owned(), "b".to_owned())],
            only: None,
            started: UnixTime(1),
            deadline: UnixTime::NEVER,
            barred: Vec::new(),
            target: 1,
            attempts: 2,
            round_attempt: 1,
            claim: Some(Claim { key: 3, reserved, probe: true, at: UnixTime(5) }),
            tried: vec![u64::MAX],
            done: vec![1],
            unfit: Vec::new(),
            failures: 1,
            not_before: UnixTime(0),
        }
    }

    #[test]
    fn comes_back_as_it_went() {
        let key = ProcessKey([1; 32]);
        assert_eq!(Plan::decode(&plan().encode()), Some(plan()));
        assert_eq!(Plan::open(&plan().seal(&key), &key), Some(plan()));
        assert_eq!(Plan::decode(b""), None);
    }

    #[test]
    fn opens_with_its_own_key_and_whole_alone() {
        let (key, other) = (ProcessKey([1; 32]), ProcessKey([2; 32]));
        let sealed = plan().seal(&key);
        assert_eq!(Plan::open(&sealed, &other), None);
        for at in 0..sealed.len() {
            assert_eq!(Plan::open(sealed.get(..at).unwrap(), &key), None, "{at}");
            let mut changed = sealed.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Plan::open(&changed, &key), None, "{at}");
        }
        for odd in ["", ".", "..", "0.0", "zz.zz", "\u{ff10}\u{ff10}.00"] {
            assert_eq!(Plan::open(odd, &key), None, "{odd}");
        }
    }

    #[test]
    fn the_first_key_drawn_is_everybody_s() {
        let memory = Memory::default();
        let first = ProcessKey::obtain(&memory, [1; 32]).unwrap();
        assert!(ProcessKey::obtain(&memory, [2; 32]).unwrap() == first);
        assert_eq!(format!("{first:?}"), "ProcessKey(***)");
        // Another worker is faster between the look and the write.
        let memory = Memory::default();
        memory.mismatches.set(1);
        assert!(ProcessKey::obtain(&memory, [1; 32]).is_none_or(|key| key.0 == [1; 32]));
        memory.set(PROCESS_KEY_SLOT, b"short", 0).unwrap();
        assert!(ProcessKey::obtain(&memory, [1; 32]).is_none());
    }
}
