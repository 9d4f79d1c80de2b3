use super::*;
use crate::ledger::memory::Memory;
use crate::record::Cause;
use serde_json::json;

const T: UnixTime = UnixTime(1_800_000_000_000);

fn at(seconds: u64) -> UnixTime {
    T.after(Duration::from_secs(seconds))
}

/// One provider with a key `a`, which may send twice a minute, and `b`, both of one account.
fn runtime(group: &str) -> Runtime {
    let key = |id: &str, limits| json!({"id": id, "secret": {"inline": id}, "quota_group": group, "limits": limits});
    let keys = json!([key("a", json!([{"requests": 2, "per": "minute"}])), key("b", json!([]))]);
    let document = json!({
        "providers": [{"name": "openai", "keys": keys}],
        "models": [{"name": "m", "targets": [{"provider": "openai"}]}],
    });
    crate::runtime::load(document.to_string().as_bytes(), &|_| None).unwrap()
}

const NEED: Amounts = Amounts { requests: 1, prompt: 10, completion: 0, cost: 0 };
const WANT: Want<'_> = Want { model: "m", need: NEED, session: None, tried: &[], own: None };

fn rest(memory: &Memory, slot: &str, model: Option<&str>, until: UnixTime) {
    ledger::update(memory, slot, |record: &mut Record| {
        let rest = match model {
            Some(model) => record.model_entry(model),
            None => &mut record.rest,
        };
        let cause = Cause { reason: Reason::RateLimited, until, hinted: true };
        Edit::Write(rest.enter(cause, T, T))
    })
    .unwrap();
}

/// As every claim leaves it: otherwise the secret counts as a new one, which starts ready.
fn known(memory: &Memory, key: &Key) {
    ledger::update(memory, &key.slot, |record: &mut Record| {
        record.adopt(key.fingerprint);
        Edit::Write(())
    })
    .unwrap();
}

#[test]
fn names_survive_a_change_of_order() {
    let (one, other) = (runtime("g"), runtime("h"));
    assert_eq!(key_hash(&one.keys[0]), key_hash(&other.keys[0]));
    assert_ne!(key_hash(&one.keys[0]), key_hash(&one.keys[1]));
}

#[test]
fn what_was_tried_is_not_chosen_and_a_shortage_says_why() {
    let (memory, runtime) = (Memory::default(), runtime("g"));
    let provider = &runtime.providers[0];
    let tried: Vec<_> = runtime.keys.iter().map(key_hash).collect();
    let mut random = Random::new(1);
    for _ in 0..20 {
        let want = Want { tried: &tried[..1], ..WANT };
        let claim = claim(&memory, &runtime, provider, &want, T, &mut random).unwrap();
        assert_eq!(claim.key, 1);
    }
    let want = Want { tried: &tried, ..WANT };
    let shortage = claim(&memory, &runtime, provider, &want, T, &mut random).unwrap_err();
    assert!(shortage.tried && !shortage.limited);
    assert!(available(&memory, &runtime, provider, &WANT, T).is_ok());
    rest(&memory, &provider.slot, None, at(9));
    let shortage = available(&memory, &runtime, provider, &WANT, T).unwrap_err();
    assert_eq!(shortage.ready_at(), Some(at(9)));
}

/// Every rest that a claim can have the turn of, alone and together.
#[test]
fn a_turn_is_had_by_one_and_given_back_whole() {
    let runtime = runtime("g");
    let (provider, key) = (&runtime.providers[0], &runtime.keys[0]);
    let places = [
        (&key.slot, None),
        (&key.slot, Some("m")),
        (&key.group_slot, None),
        (&key.group_slot, Some("m")),
        (&provider.slot, None),
    ];
    for mask in 1..1 << places.len() {
        let memory = Memory::default();
        for (index, (slot, model)) in places.iter().enumerate() {
            if mask >> index & 1 == 1 {
                if **slot == key.slot {
                    known(&memory, key);
                }
                rest(&memory, slot, *model, at(1));
            }
        }
        let tried = [key_hash(&runtime.keys[1])];
        let want = Want { tried: &tried, ..WANT };
        let claim = || claim(&memory, &runtime, provider, &want, at(1), &mut Random::new(1));
        let held = claim().unwrap();
        assert!(held.probe && claim().is_err(), "{mask:b}");
        release(&memory, provider, key, "m", held);
        let again = claim().unwrap();
        assert!(again.probe, "{mask:b}");
        end_turn(&memory, provider, key, "m");
        assert!(claim().is_ok(), "{mask:b}: and what it was counted as stays counted");
        assert!(claim().is_err(), "{mask:b}: two a minute");
    }
}

#[test]
fn a_claim_that_only_the_account_refuses_leaves_no_trace() {
    let (memory, runtime) = (Memory::default(), runtime("g"));
    let key = &runtime.keys[0];
    rest(&memory, &key.group_slot, None, at(60));
    for _ in 0..5 {
        assert!(take(&memory, key, Found::in_slot(&memory, &key.slot), &WANT, T).is_err());
    }
    let own: Record = ledger::read(&memory, &key.slot);
    assert_eq!(own.headroom(&key.limits, T), 1.0);
}

#[test]
fn shared_data_that_takes_no_writes_stops_nothing() {
    let (memory, runtime) = (Memory::default(), runtime("g"));
    memory.mismatches.set(u32::MAX);
    let provider = &runtime.providers[0];
    assert!(claim(&memory, &runtime, provider, &WANT, T, &mut Random::new(1)).is_ok());
}

#[test]
fn draws_are_in_proportion_to_their_weights() {
    let mut random = Random::new(1);
    let wins = (0..10_000).filter(|_| spread(3.0, &mut random) > spread(1.0, &mut random));
    let share = wins.count();
    assert!((7_350..=7_650).contains(&share), "{share}");
}
