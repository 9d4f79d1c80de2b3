use super::*;
use crate::ledger::memory::Memory;
use crate::ledger::{ABSENT, SetError};
use crate::limit::{Algorithm, Per, Unit};
use crate::runtime::{Runtime, load};
use serde_json::json;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};

const T: UnixTime = UnixTime(1_800_000_000_000);

fn runtime() -> Runtime {
    let document = json!({
        "providers": [{"name": "openai", "keys": [{"id": "a", "secret": {"inline": "s"}}]}],
        "models": [{"name": "m", "targets": [{"provider": "openai"}]}],
    });
    load(document.to_string().as_bytes(), &|_| None).unwrap()
}

fn limit(unit: Unit, max: u64, per: Per) -> Limit {
    Limit { unit, max, per, algorithm: Algorithm::FixedWindow }
}

fn subject(name: &'static str, list: &[Limit], concurrency: Option<u32>) -> Subject<'static> {
    Subject {
        kind: Kind::Consumer,
        name: Cow::Borrowed(name),
        slot: Cow::Borrowed(name),
        owner: 0,
        limits: Cow::Owned(Limits { list: list.to_vec(), concurrency }),
    }
}

fn tokens(prompt: u64) -> Amounts {
    Amounts { requests: 1, prompt, ..Amounts::default() }
}

fn left(shared: &dyn SharedData, subject: &Subject<'_>, now: UnixTime) -> Vec<u64> {
    statement(shared, subject, now).limits.iter().map(|standing| standing.left).collect()
}

#[test]
fn all_subjects_are_charged_or_none() {
    let (runtime, memory) = (runtime(), Memory::default());
    let mut cx = Cx::new(&runtime, &memory, None, T, 1);
    let day = limit(Unit::Tokens, 100, Per::Day);
    let consumer = subject("c", &[limit(Unit::Requests, 3, Per::Minute), day], Some(9));
    let team = subject("t", &[limit(Unit::Requests, 2, Per::Hour)], None);
    let both = [consumer.clone(), team.clone()];
    let (first, statements) = charge(&mut cx, &both, tokens(40)).unwrap();
    assert_eq!(statements.len(), 2);
    assert_eq!(statements[0].concurrency, Some((9, 1)));
    charge(&mut cx, &both, tokens(40)).unwrap();
    // The team has no room: the consumer gets everything back.
    let exceeded = charge(&mut cx, &both, tokens(5)).unwrap_err();
    assert_eq!((exceeded.name.as_str(), exceeded.until), ("t", T.window_end(Per::Hour)));
    assert_eq!(left(&memory, &consumer, T), [1, 20]);
    assert_eq!(statement(&memory, &consumer, T).concurrency, Some((9, 2)));
    // The consumer has none: the team is not even asked.
    let exceeded = charge(&mut cx, &both, tokens(21)).unwrap_err();
    assert_eq!((exceeded.name.as_str(), exceeded.what), ("c", Full::Limit(day)));
    assert_eq!(left(&memory, &team, T), [0]);
    // What the first really took.
    settle(&mut cx, &both, &first, &tokens(90));
    assert_eq!(left(&memory, &consumer, T), [1, 0]);
    assert_eq!(left(&memory, &team, T), [0]);
    assert_eq!(statement(&memory, &consumer, T).concurrency, Some((9, 1)));
    let held = |effects: &[Effect]| {
        let hold = effects.iter().filter(|e| matches!(e, Effect::Hold(_))).count();
        hold - effects.iter().filter(|e| matches!(e, Effect::Release(_))).count()
    };
    assert_eq!(held(&cx.effects), 1);
}

#[test]
fn shared_data_that_takes_no_writes_stops_nobody() {
    let (runtime, memory) = (runtime(), Memory::default());
    let mut cx = Cx::new(&runtime, &memory, None, T, 1);
    memory.mismatches.set(u32::MAX);
    let consumer = subject("c", &[limit(Unit::Requests, 1, Per::Minute)], Some(1));
    let (charged, _) = charge(&mut cx, &[consumer], tokens(1)).unwrap();
    assert!(charged.held.is_empty());
    assert_eq!(cx.effects, [Effect::Count("records_unwritten".to_owned(), 1)]);
}

#[test]
fn places_are_held_as_long_as_the_holder_says_so() {
    let (runtime, memory) = (runtime(), Memory::default());
    let consumer = [subject("c", &[], Some(2))];
    let vm = |holder, now| {
        let mut cx = Cx::new(&runtime, &memory, None, now, 1);
        cx.holder = holder;
        cx
    };
    let mut leases = Leases::default();
    let mut requests = Vec::new();
    for _ in 0..2 {
        requests.push(charge(&mut vm(1, T), &consumer, tokens(1)).unwrap().0);
        leases.hold("c".to_owned());
    }
    let full = |now| charge(&mut vm(2, now), &consumer, tokens(1)).map(|_| ()).unwrap_err();
    assert_eq!(full(T).what, Full::Concurrency(2));
    assert_eq!(full(T).until, T.after(PLACE_WAIT));
    // Streams of an hour, of which nothing is heard but that they are still there.
    let mut now = T;
    while T.until(now) < Duration::from_secs(3_600) {
        now = now.after(Duration::from_secs(5));
        leases.renew(&memory, 1, now);
        assert_eq!(full(now).what, Full::Concurrency(2));
    }
    // One ends: one place.
    settle(&mut vm(1, now), &consumer, &requests[0], &tokens(1));
    leases.release("c");
    let other = charge(&mut vm(2, now), &consumer, tokens(1)).unwrap().0;
    full(now);
    // The first VM traps. Nobody says anything any more; its place is free after the lease.
    let just = UnixTime(now.after(LEASE).0 - 1);
    leases.renew(&memory, 1, now);
    full(just);
    let mut second = Leases::default();
    second.hold("c".to_owned());
    second.renew(&memory, 2, just);
    let later = now.after(LEASE);
    charge(&mut vm(3, later), &consumer, tokens(1)).unwrap();
    full(later);
    settle(&mut vm(2, later), &consumer, &other, &tokens(1));
    charge(&mut vm(3, later), &consumer, tokens(1)).unwrap();
}

#[test]
fn a_holder_s_own_word_corrects_the_record() {
    let memory = Memory::default();
    let consumer = subject("c", &[], Some(5));
    let held = |now| statement(&memory, &consumer, now).concurrency.unwrap().1;
    let mut leases = Leases::default();
    for _ in 0..3 {
        leases.hold("c".to_owned());
    }
    leases.renew(&memory, 7, T);
    assert_eq!(held(T), 3);
    leases.release("c");
    leases.renew(&memory, 7, T);
    assert_eq!(held(T), 3, "not yet");
    leases.renew(&memory, 7, T.after(RENEWAL));
    assert_eq!(held(T.after(RENEWAL)), 2);
    // A clock that goes back far makes what was said look like the future: not believed, said again soon.
    let back = UnixTime(T.0 - 3_600_000);
    assert_eq!(held(back), 0);
    leases.renew(&memory, 7, back);
    assert_eq!(held(back), 2);
    leases.release("c");
    leases.release("c");
    leases.release("c");
    assert!(leases.held.is_empty());
}

#[test]
fn holders_are_bounded() {
    let mut account = Account::default();
    for id in 0..1_000 {
        account.renew(id, 1, UnixTime(T.0 + id));
    }
    assert_eq!(account.holders.len(), MAX_HOLDERS);
    assert!(account.holders.iter().any(|holder| holder.id == 999));
}

#[test]
fn round_trip_of_places() {
    let (runtime, memory) = (runtime(), Memory::default());
    let mut cx = Cx::new(&runtime, &memory, None, T, 1);
    let consumer = [subject("c", &[], Some(1))];
    let (charged, _) = charge(&mut cx, &consumer, tokens(1)).unwrap();
    cx.effects.clear();
    let_go(&mut cx, &charged);
    take_over(&mut cx, &charged);
    assert_eq!(cx.effects, [Effect::Release("c".to_owned()), Effect::Hold("c".to_owned())]);
    cx.effects.clear();
    cx.holder = 99;
    let_go(&mut cx, &charged);
    take_over(&mut cx, &charged);
    assert_eq!(cx.effects, [], "another VM holds nothing of it");
    // A reload took the subject away: what it held is let go all the same.
    cx.holder = 0;
    settle(&mut cx, &[], &charged, &tokens(1));
    assert_eq!(cx.effects, [Effect::Release("c".to_owned())]);
}

#[test]
fn a_late_settlement_changes_nothing_of_the_next_owner() {
    let (runtime, memory) = (runtime(), Memory::default());
    let mut cx = Cx::new(&runtime, &memory, None, T, 1);
    let of =
        |owner| Subject { owner, ..subject("s", &[limit(Unit::Tokens, 100, Per::Day)], Some(3)) };
    let (first, _) = charge(&mut cx, &[of(1)], tokens(60)).unwrap();
    charge(&mut cx, &[of(2)], tokens(70)).unwrap();
    settle(&mut cx, &[of(1)], &first, &tokens(0));
    assert_eq!(left(&memory, &of(2), T), [30]);
    assert_eq!(statement(&memory, &of(2), T).concurrency, Some((3, 1)));
    assert_eq!(left(&memory, &of(1), T), [100]);
}

/// Workers that charge and settle in every order that the accesses to shared data can have.
///
/// The program of a worker is run from its start with the values that its reads got; at the first access that is not
/// decided yet it stops (by the panic that unwinds it), and the explorer decides who comes next. So every interleaving
/// of the accesses of all workers is tried, or a bounded number of them at random where there are too many.
mod interleavings {
    use super::*;
    use crate::random::Random;
    use std::collections::HashMap;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// The host's map, as far as it was decided.
    type Map = HashMap<String, (Vec<u8>, u32)>;

    #[derive(Clone)]
    enum Access {
        Got(Option<(Vec<u8>, u32)>),
        Set(Result<(), SetError>),
    }

    enum Ask {
        Get(String),
        Set(String, Vec<u8>, u32),
    }

    /// Replays what was decided, and stops at what was not.
    struct Replay<'a> {
        history: &'a [Access],
        position: Cell<usize>,
        asked: RefCell<Option<Ask>>,
    }

    struct Stop;

    impl Replay<'_> {
        fn next(&self, ask: Ask) -> Access {
            let position = self.position.get();
            self.position.set(position + 1);
            match self.history.get(position) {
                Some(access) => access.clone(),
                None => {
                    self.asked.replace(Some(ask));
                    resume_unwind(Box::new(Stop))
                }
            }
        }
    }

    impl SharedData for Replay<'_> {
        fn get(&self, slot: &str) -> Option<(Vec<u8>, u32)> {
            match self.next(Ask::Get(slot.to_owned())) {
                Access::Got(value) => value,
                Access::Set(_) => panic!("the program took another way"),
            }
        }

        fn set(&self, slot: &str, value: &[u8], token: u32) -> Result<(), SetError> {
            match self.next(Ask::Set(slot.to_owned(), value.to_vec(), token)) {
                Access::Set(result) => result,
                Access::Got(_) => panic!("the program took another way"),
            }
        }
    }

    /// Runs a worker's program on `history`; what it asks next, or its result.
    fn advance<R>(history: &[Access], program: &dyn Fn(&dyn SharedData) -> R) -> Result<R, Ask> {
        let replay = Replay { history, position: Cell::new(0), asked: RefCell::new(None) };
        match catch_unwind(AssertUnwindSafe(|| program(&replay))) {
            Ok(result) => Ok(result),
            Err(stop) if stop.is::<Stop>() => Err(replay.asked.take().unwrap()),
            Err(panic) => resume_unwind(panic),
        }
    }

    type Program<'p, R> = dyn Fn(&dyn SharedData) -> R + 'p;

    struct World<'p, R> {
        workers: usize,
        /// Of each of them.
        program: &'p Program<'p, R>,
        /// Checked at the end of every interleaving.
        check: &'p dyn Fn(&[R], &Memory),
        explored: usize,
    }

    #[derive(Clone, Default)]
    struct Moment {
        map: Map,
        next: u32,
        histories: Vec<Vec<Access>>,
    }

    impl<R> World<'_, R> {
        /// All of them.
        fn explore(&mut self, moment: &Moment) {
            let steps: Vec<_> = (0..self.workers)
                .map(|worker| advance(&moment.histories[worker], self.program))
                .collect();
            if steps.iter().all(Result::is_ok) {
                self.end(moment, steps);
                return;
            }
            for (worker, step) in steps.into_iter().enumerate() {
                if let Err(ask) = step {
                    let mut moment = moment.clone();
                    moment.carry_out(worker, ask);
                    self.explore(&moment);
                }
            }
        }

        /// One of them, drawn at random.
        fn draw(&mut self, random: &mut Random) {
            let mut moment = Moment::of(self.workers);
            loop {
                let steps: Vec<_> = (0..self.workers)
                    .map(|worker| advance(&moment.histories[worker], self.program))
                    .collect();
                let mut open: Vec<_> = steps
                    .into_iter()
                    .enumerate()
                    .filter_map(|(worker, step)| Some((worker, step.err()?)))
                    .collect();
                if open.is_empty() {
                    break;
                }
                let drawn = usize::try_from(random.next_u64()).unwrap() % open.len();
                let (worker, ask) = open.swap_remove(drawn);
                moment.carry_out(worker, ask);
            }
            let results = (0..self.workers)
                .map(|worker| advance(&moment.histories[worker], self.program))
                .collect();
            self.end(&moment, results);
        }

        fn end(&mut self, moment: &Moment, steps: Vec<Result<R, Ask>>) {
            self.explored += 1;
            let memory = Memory::default();
            for (slot, (value, _)) in &moment.map {
                memory.set(slot, value, ABSENT).unwrap();
            }
            let results: Vec<R> = steps.into_iter().filter_map(Result::ok).collect();
            (self.check)(&results, &memory);
        }
    }

    impl Moment {
        fn of(workers: usize) -> Self {
            Self { histories: vec![Vec::new(); workers], ..Self::default() }
        }

        fn carry_out(&mut self, worker: usize, ask: Ask) {
            let access = match ask {
                Ask::Get(slot) => Access::Got(self.map.get(&slot).cloned()),
                Ask::Set(slot, value, token) => {
                    let stale = self.map.get(&slot).is_some_and(|(_, current)| *current != token);
                    if !stale {
                        self.next += 1;
                        self.map.insert(slot, (value, self.next));
                    }
                    Access::Set(if stale { Err(SetError::Mismatch) } else { Ok(()) })
                }
            };
            self.histories[worker].push(access);
        }
    }

    /// Checks every interleaving of so many workers, or so many that are drawn; how many there were.
    fn explore<R>(
        workers: usize,
        program: &Program<'_, R>,
        check: &dyn Fn(&[R], &Memory),
        drawn: Option<u64>,
    ) -> usize {
        let mut world = World { workers, program, check, explored: 0 };
        match drawn {
            None => world.explore(&Moment::of(workers)),
            Some(count) => {
                let mut random = Random::new(count);
                for _ in 0..count {
                    world.draw(&mut random);
                }
            }
        }
        world.explored
    }

    #[test]
    fn no_order_lets_more_through_than_the_limit_nor_fewer() {
        let runtime = runtime();
        let consumer = [subject("c", &[limit(Unit::Requests, 2, Per::Minute)], None)];
        let program = |shared: &dyn SharedData| {
            let mut cx = Cx::new(&runtime, shared, None, T, 1);
            charge(&mut cx, &consumer, tokens(1)).is_ok()
        };
        let check = |through: &[bool], memory: &Memory| {
            assert_eq!(through.iter().filter(|through| **through).count(), 2);
            assert_eq!(left(memory, &consumer[0], T), [0]);
        };
        assert!(explore(3, &program, &check, None) > 100);
        explore(8, &program, &check, Some(300));
    }

    #[test]
    fn reservations_bound_the_tokens_whatever_the_order() {
        // Each reserves 40 of 100 and takes 45 in the end: what is exceeded is the error of those under way.
        let runtime = runtime();
        let consumer = [subject("c", &[limit(Unit::Tokens, 100, Per::Day)], Some(2))];
        let program = |shared: &dyn SharedData| {
            let mut cx = Cx::new(&runtime, shared, None, T, 1);
            let Ok((charged, _)) = charge(&mut cx, &consumer, tokens(40)) else { return 0 };
            settle(&mut cx, &consumer, &charged, &tokens(45));
            45
        };
        let check = |used: &[u64], memory: &Memory| {
            let used: u64 = used.iter().sum();
            assert!(used <= 100 + 2 * 5, "{used}");
            assert_eq!(left(memory, &consumer[0], T), [100_u64.saturating_sub(used)]);
            assert_eq!(statement(memory, &consumer[0], T).concurrency, Some((2, 0)));
        };
        assert!(explore(2, &program, &check, None) > 10);
        explore(6, &program, &check, Some(300));
    }

    #[test]
    fn a_refusal_by_one_subject_leaves_nothing_on_the_others_in_any_order() {
        let runtime = runtime();
        let both = [
            subject("c", &[limit(Unit::Requests, 9, Per::Minute)], Some(9)),
            subject("t", &[limit(Unit::Requests, 1, Per::Minute)], None),
        ];
        let program = |shared: &dyn SharedData| {
            let mut cx = Cx::new(&runtime, shared, None, T, 1);
            charge(&mut cx, &both, tokens(1)).is_ok()
        };
        let check = |through: &[bool], memory: &Memory| {
            assert_eq!(through.iter().filter(|through| **through).count(), 1);
            assert_eq!(left(memory, &both[0], T), [8]);
            assert_eq!(left(memory, &both[1], T), [0]);
            assert_eq!(statement(memory, &both[0], T).concurrency, Some((9, 1)));
        };
        assert!(explore(2, &program, &check, None) > 100);
        explore(5, &program, &check, Some(300));
    }
}
