//! What Envoy's other filters and its access log learn of a request: filter state, which they read as
//! `%FILTER_STATE(wasm.NAME:PLAIN)%`.
//!
//! | name | value |
//! |---|---|
//! | `keyward.consumer`, `keyward.team` | who calls; the team is empty where there is none |
//! | `keyward.model` | the name of the model in the configuration, which bounds it |
//! | `keyward.requests` | 1; not there where an internal redirect runs the filters again for the same request |
//! | `keyward.tokens`, `keyward.prompt_tokens`, `keyward.completion_tokens` | what the answer took, as soon as it is known; before that, 0 |
//! | `keyward.cost_microdollars` | what that costs, rounded up; 0 also where nobody knows the price |
//!
//! The names but the first are written only where the configuration says `filter_state: true`. They are for
//! `hits_addend` of Envoy's `ratelimit` filter: requests are charged when they come, tokens when the stream is done.
//! All numbers are there from the start, so that a request that never gets an answer is charged nothing.

use crate::effect::{Cx, Effect};
use crate::limit::Amounts;
use crate::plan::Plan;

const CONSUMER: &str = "keyward.consumer";
const TEAM: &str = "keyward.team";
const MODEL: &str = "keyward.model";
const REQUESTS: &str = "keyward.requests";
const TOKENS: &str = "keyward.tokens";
const PROMPT_TOKENS: &str = "keyward.prompt_tokens";
const COMPLETION_TOKENS: &str = "keyward.completion_tokens";
const COST: &str = "keyward.cost_microdollars";
/// Billionths of a dollar, as costs are counted, in a millionth.
const MICRO: u64 = 1_000;

/// A round of a request is planned.
pub fn planned(cx: &mut Cx<'_>, plan: &Plan, first_round: bool) {
    let runtime = cx.runtime;
    set(cx, CONSUMER, &plan.consumer);
    if !runtime.filter_state {
        return;
    }
    set(cx, TEAM, &plan.team);
    set(cx, MODEL, runtime.models.find(&plan.model).map_or("", |model| &model.name));
    if first_round {
        set(cx, REQUESTS, "1");
    }
    used(cx, &Amounts::default());
}

/// All that is known to have been used by the answer.
pub fn used(cx: &mut Cx<'_>, total: &Amounts) {
    if !cx.runtime.filter_state {
        return;
    }
    for (name, amount) in [
        (TOKENS, total.tokens()),
        (PROMPT_TOKENS, total.prompt),
        (COMPLETION_TOKENS, total.completion),
        (COST, total.cost.div_ceil(MICRO)),
    ] {
        set(cx, name, &amount.to_string());
    }
}

fn set(cx: &mut Cx<'_>, name: &'static str, value: &str) {
    cx.effects.push(Effect::SetFilterState(name, value.as_bytes().to_vec()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;
    use crate::members::Ask;
    use crate::plan::tests::plan;
    use crate::runtime::load;
    use crate::time::UnixTime;
    use serde_json::json;

    fn written(enabled: bool, act: impl Fn(&mut Cx<'_>)) -> Vec<(&'static str, String)> {
        let document = json!({
            "providers": [{"name": "openai", "keys": [{"id": "a", "secret": {"inline": "s"}}]}],
            "models": [{"name": "gpt-*", "targets": [{"provider": "openai"}]}],
            "teams": [{"name": "research"}],
            "consumers": [{"name": "acme", "team": "research", "keys": [{"inline": "k"}]}],
            "filter_state": enabled,
        });
        let runtime = load(document.to_string().as_bytes(), &|_| None).unwrap();
        let memory = Memory::default();
        let mut cx = Cx::new(&runtime, &memory, None, UnixTime(1_800_000_000_000), 1);
        act(&mut cx);
        let state = |effect| match effect {
            Effect::SetFilterState(name, value) => (name, String::from_utf8(value).unwrap()),
            other => panic!("{other:?}"),
        };
        cx.effects.into_iter().map(state).collect()
    }

    fn of_acme(model: &str) -> Plan {
        let spans = Ask::read(br#"{"model":"gpt-4o"}"#).unwrap().spans;
        Plan {
            model: model.to_owned(),
            consumer: "acme".to_owned(),
            team: "research".to_owned(),
            spans,
            ..plan()
        }
    }

    fn owned(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    #[test]
    fn a_plan_tells_who_and_for_what_and_nothing_used() {
        let rest = [(TOKENS, "0"), (PROMPT_TOKENS, "0"), (COMPLETION_TOKENS, "0"), (COST, "0")];
        let who = [(CONSUMER, "acme"), (TEAM, "research"), (MODEL, "gpt-*")];
        let first = written(true, |cx| planned(cx, &of_acme("gpt-4o"), true));
        assert_eq!(first, owned(&[&who[..], &[(REQUESTS, "1")], &rest].concat()));
        let later = written(true, |cx| planned(cx, &of_acme("gpt-4o"), false));
        assert_eq!(later, owned(&[&who[..], &rest].concat()));
    }

    #[test]
    fn an_answer_tells_what_it_took() {
        let amounts = Amounts { requests: 1, prompt: 3, completion: 4, cost: 1_234_001 };
        let tokens = [(TOKENS, "7"), (PROMPT_TOKENS, "3"), (COMPLETION_TOKENS, "4")];
        let expected = [&tokens[..], &[(COST, "1235")]].concat();
        assert_eq!(written(true, |cx| used(cx, &amounts)), owned(&expected));
    }

    #[test]
    fn without_the_setting_there_is_the_consumer_alone() {
        let act = |cx: &mut Cx<'_>| {
            planned(cx, &of_acme("gpt-4o"), true);
            used(cx, &Amounts { prompt: 3, ..Amounts::default() });
        };
        assert_eq!(written(false, act), owned(&[(CONSUMER, "acme")]));
    }
}
