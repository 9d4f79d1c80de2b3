//! What consumers ask for beyond what the configuration gives them, and what an admin has granted: a role or a model, for a
//! while.
//!
//! One record of at most [`MOST`] requests per consumer in shared data: bounded by the configuration, seen by all
//! workers at once, and a consumer who asks too much is in nobody's way but its own. A new request takes the place of the oldest
//! that is refused or has ended. The records live as long as the Envoy process, over a reload of the configuration; after a
//! restart there are no requests and no grants. What is to stay belongs into the configuration: the role into the consumer's
//! `roles`, the model into its `allow`.

use serde::{Deserialize, Serialize};

use crate::ledger::{self, Edit, SharedData, Unwritten};
use crate::plan::hex;
use crate::runtime::SLOTS;
use crate::time::UnixTime;

/// Requests of one consumer that are remembered.
pub const MOST: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    Role(String),
    /// As clients name it.
    Model(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Drawn; with the consumer's name before it, [`id`].
    pub number: [u8; 8],
    pub wish: Wish,
    /// Why, in the consumer's words.
    pub reason: String,
    /// For how long, in milliseconds.
    pub ttl: u64,
    pub asked: UnixTime,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Pending,
    Granted { by: String, at: UnixTime, until: UnixTime },
    Refused { by: String, at: UnixTime },
}

/// What an admin says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Until then.
    Approve(UnixTime),
    /// Also takes a grant back.
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// So many are pending or granted that there is no place for another one.
    Full,
    Unwritten,
}

/// What the consumer has been granted and still has. One look at shared data.
pub fn granted(shared: &dyn SharedData, consumer: &str, now: UnixTime) -> Vec<Wish> {
    let mut requests = all(shared, consumer);
    requests.retain(|request| request.is_granted(now));
    requests.into_iter().map(|request| request.wish).collect()
}

pub fn all(shared: &dyn SharedData, consumer: &str) -> Vec<Request> {
    ledger::read(shared, &slot(consumer))
}

/// Adds a request. One that says the same and is pending or granted is returned instead.
///
/// # Errors
/// [`Refused`].
pub fn ask(
    shared: &dyn SharedData,
    consumer: &str,
    request: &Request,
    now: UnixTime,
) -> Result<Request, Refused> {
    let asked = ledger::update(shared, &slot(consumer), |requests: &mut Vec<Request>| {
        let mut open = requests.iter().filter(|known| known.is_open(now));
        if let Some(same) = open.find(|known| known.wish == request.wish) {
            return Edit::Keep(Ok(same.clone()));
        }
        if requests.len() >= MOST {
            // In the order in which they were asked.
            match requests.iter().position(|known| !known.is_open(now)) {
                Some(oldest) => drop(requests.remove(oldest)),
                None => return Edit::Keep(Err(Refused::Full)),
            }
        }
        requests.push(request.clone());
        Edit::Write(Ok(request.clone()))
    });
    asked.unwrap_or(Err(Refused::Unwritten))
}

/// `None` where there is no such request, or nothing to decide about it any more.
///
/// # Errors
/// It could not be written; nothing is decided.
pub fn decide(
    shared: &dyn SharedData,
    consumer: &str,
    number: [u8; 8],
    decision: &Decision,
    by: &str,
    now: UnixTime,
) -> Result<Option<Request>, Unwritten> {
    ledger::update(shared, &slot(consumer), |requests: &mut Vec<Request>| {
        let Some(request) = requests.iter_mut().find(|request| request.number == number) else {
            return Edit::Keep(None);
        };
        let by = by.to_owned();
        request.state = match (decision, &request.state) {
            (Decision::Approve(until), State::Pending) => {
                State::Granted { by, at: now, until: *until }
            }
            (Decision::Refuse, State::Pending) => State::Refused { by, at: now },
            (Decision::Refuse, State::Granted { .. }) if request.is_granted(now) => {
                State::Refused { by, at: now }
            }
            _ => return Edit::Keep(None),
        };
        Edit::Write(Some(request.clone()))
    })
}

/// `CONSUMER.HEX`.
pub fn id(consumer: &str, number: [u8; 8]) -> String {
    format!("{consumer}.{}", hex(&number))
}

impl Request {
    pub fn is_granted(&self, now: UnixTime) -> bool {
        matches!(self.state, State::Granted { until, .. } if now < until)
    }

    /// Pending or granted.
    fn is_open(&self, now: UnixTime) -> bool {
        self.state == State::Pending || self.is_granted(now)
    }
}

fn slot(consumer: &str) -> String {
    format!("{SLOTS}/access/{consumer}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;

    const NOW: UnixTime = UnixTime(1_000);

    fn request(number: u8, model: &str) -> Request {
        Request {
            number: [number; 8],
            wish: Wish::Model(model.to_owned()),
            reason: "why not".to_owned(),
            ttl: 1_000,
            asked: NOW,
            state: State::Pending,
        }
    }

    fn approve(memory: &Memory, number: u8, until: u64) -> Option<Request> {
        let decision = Decision::Approve(UnixTime(until));
        decide(memory, "acme", [number; 8], &decision, "boss", NOW).unwrap()
    }

    #[test]
    fn a_grant_holds_from_the_approval_to_its_end() {
        let memory = Memory::default();
        ask(&memory, "acme", &request(1, "m"), NOW).unwrap();
        assert_eq!(granted(&memory, "acme", NOW), []);
        assert!(approve(&memory, 1, 2_000).is_some());
        let wish = Wish::Model("m".to_owned());
        assert_eq!(granted(&memory, "acme", UnixTime(1_999)), [wish]);
        assert_eq!(granted(&memory, "acme", UnixTime(2_000)), []);
        assert_eq!(granted(&memory, "beta", NOW), []);
    }

    #[test]
    fn a_request_is_decided_once_and_a_grant_can_be_taken_back() {
        let memory = Memory::default();
        for (number, model) in [(1, "a"), (2, "b")] {
            ask(&memory, "acme", &request(number, model), NOW).unwrap();
        }
        let refuse =
            |number| decide(&memory, "acme", [number; 8], &Decision::Refuse, "boss", NOW).unwrap();
        // Another admin is faster at the first try.
        memory.mismatches.set(1);
        assert!(approve(&memory, 1, 2_000).is_some());
        assert!(approve(&memory, 1, 9_000).is_none(), "decided");
        assert_eq!(granted(&memory, "acme", UnixTime(2_000)), [], "not prolonged");
        assert!(refuse(1).is_some());
        assert_eq!(granted(&memory, "acme", NOW), []);
        assert!(refuse(1).is_none());
        assert!(refuse(2).is_some());
        assert!(approve(&memory, 2, 2_000).is_none(), "refused before");
        assert!(approve(&memory, 3, 2_000).is_none(), "never asked");
    }

    #[test]
    fn the_same_is_asked_once() {
        let memory = Memory::default();
        ask(&memory, "acme", &request(1, "m"), NOW).unwrap();
        assert_eq!(ask(&memory, "acme", &request(2, "m"), NOW).unwrap().number, [1; 8]);
        approve(&memory, 1, 2_000);
        assert_eq!(ask(&memory, "acme", &request(3, "m"), NOW).unwrap().number, [1; 8]);
        let later = UnixTime(2_000);
        assert_eq!(ask(&memory, "acme", &request(4, "m"), later).unwrap().number, [4; 8]);
    }

    #[test]
    fn what_is_over_makes_room_and_what_is_open_does_not() {
        let memory = Memory::default();
        let many = u8::try_from(MOST).unwrap();
        for number in 0..many {
            ask(&memory, "acme", &request(number, &number.to_string()), NOW).unwrap();
        }
        let more = request(many, "more");
        assert_eq!(ask(&memory, "acme", &more, NOW), Err(Refused::Full));
        ask(&memory, "beta", &more, NOW).unwrap();
        approve(&memory, 3, 2_000);
        decide(&memory, "acme", [5; 8], &Decision::Refuse, "boss", NOW).unwrap();
        ask(&memory, "acme", &more, NOW).unwrap();
        let numbers = |memory| all(memory, "acme").iter().map(|r| r.number[0]).collect::<Vec<_>>();
        assert!(!numbers(&memory).contains(&5) && numbers(&memory).contains(&3));
        assert_eq!(ask(&memory, "acme", &request(99, "even more"), NOW), Err(Refused::Full));
        ask(&memory, "acme", &request(99, "even more"), UnixTime(2_000)).unwrap();
        assert!(!numbers(&memory).contains(&3), "the grant has ended");
        assert_eq!(numbers(&memory).len(), MOST);
    }
}
