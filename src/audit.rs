//! The audit trail: what was done to who may call, one line of JSON each in Envoy's log, at `info`.
//!
//! `{"audit":"block","when":"2026-12-01T00:00:00Z","who":"keyward","what":"192.0.2.1","from":"192.0.2.1",…}`: the kind of
//! the event, the moment (RFC 3339), who did it, to what, from which address, and what else the kind tells. No value
//! may be a secret.

use serde_json::{Map, Value};

use crate::effect::Cx;

#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Its kind, a fixed word.
    pub audit: &'static str,
    /// A consumer, `admin`, or `keyward` itself.
    pub who: &'a str,
    /// An address, an identifier, a name.
    pub what: &'a str,
    /// The caller's address; empty where it is not known.
    pub from: &'a str,
}

/// Logs an event; `more` follows its own members.
pub fn note(cx: &mut Cx<'_>, event: &Event<'_>, more: &[(&str, Value)]) {
    let when = cx.now.rfc3339();
    let own = [
        ("audit", event.audit),
        ("when", &when),
        ("who", event.who),
        ("what", event.what),
        ("from", event.from),
    ];
    let own = own.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text)));
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let line: Map<String, Value> = own.chain(more).collect();
    cx.log(log::Level::Info, Value::Object(line).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Effect;
    use crate::ledger::memory::Memory;
    use crate::runtime::load;
    use crate::time::UnixTime;

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let document =
            br#"{"providers":[{"name":"openai","keys":[{"id":"a","secret":{"inline":"s"}}]}],
            "models":[{"name":"m","targets":[{"provider":"openai"}]}],
            "consumers":[{"name":"c"}],"anonymous":{"consumer":"c"}}"#;
        let runtime = load(document, &|_| None).unwrap();
        let memory = Memory::default();
        let mut cx = Cx::new(&runtime, &memory, None, UnixTime(1_796_083_200_000), 1);
        let event = Event { audit: "block", who: "keyward", what: "a\n\"b", from: "192.0.2.1" };
        note(&mut cx, &event, &[("until", Value::from(5))]);
        let line = r#"{"audit":"block","when":"2026-12-01T00:00:00Z","who":"keyward","what":"a\n\"b","from":"192.0.2.1","until":5}"#;
        assert_eq!(cx.effects, [Effect::Log(log::Level::Info, line.to_owned())]);
    }
}
