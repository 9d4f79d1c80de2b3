use super::*;
use crate::limit::{Per, Unit};
use core::time::Duration;

fn time(text: &str) -> UnixTime {
    UnixTime::parse_rfc3339(text).unwrap()
}

fn limit(max: u64, per: Per, algorithm: Algorithm) -> Limit {
    Limit { unit: Unit::Requests, max, per, algorithm }
}

fn requests(requests: u64) -> Amounts {
    Amounts { requests, ..Amounts::default() }
}

/// Lets one request through if there is room.
fn ask(windows: &mut Windows, limit: &Limit, now: UnixTime) -> Result<(), UnixTime> {
    match windows.full(&[*limit], &requests(1), now) {
        Some((_, until)) => Err(until),
        None => {
            windows.add(&[*limit], &requests(1), now);
            Ok(())
        }
    }
}

#[test]
fn calendar_windows_end_where_the_calendar_says() {
    for (per, now, end) in [
        (Per::Second, "2026-11-22T10:20:30.999Z", "2026-11-22T10:20:31Z"),
        (Per::Minute, "2026-11-22T10:20:30Z", "2026-11-22T10:21:00Z"),
        (Per::Hour, "2026-11-22T10:59:59.999Z", "2026-11-22T11:00:00Z"),
        (Per::Day, "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        (Per::Week, "2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z"),
        (Per::Week, "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
        (Per::Month, "2024-02-29T12:00:00Z", "2024-03-01T00:00:00Z"),
        (Per::Month, "2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z"),
        (Per::Month, "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        // A leap second (the last was 2016-12-31T23:59:60Z) is no second of Unix time.
        (Per::Minute, "2016-12-31T23:59:59.999Z", "2017-01-01T00:00:00Z"),
    ] {
        let (now, end, limit) = (time(now), time(end), limit(2, per, Algorithm::FixedWindow));
        let mut windows = Windows::default();
        assert_eq!(ask(&mut windows, &limit, now), Ok(()));
        assert_eq!(ask(&mut windows, &limit, now), Ok(()));
        assert_eq!(ask(&mut windows, &limit, now), Err(end), "{per:?}");
        let before = UnixTime(end.0 - 1);
        assert_eq!(ask(&mut windows, &limit, before), Err(end), "{per:?}");
        let standing = windows.standing(&[limit], before).next().unwrap();
        assert_eq!((standing.left, standing.reset), (0, end));
        assert_eq!(ask(&mut windows, &limit, end), Ok(()), "{per:?}");
        assert_eq!(windows.standing(&[limit], end).next().unwrap().left, 1);
    }
}

#[test]
fn a_sliding_window_fades_what_was_before() {
    let limit = limit(60, Per::Minute, Algorithm::SlidingWindow);
    let start = time("2026-11-22T10:20:00Z");
    let at = |seconds: f64| start.after(Duration::from_secs_f64(seconds));
    let mut windows = Windows::default();
    for _ in 0..60 {
        assert_eq!(ask(&mut windows, &limit, at(59.0)), Ok(()));
    }
    // One second into the next minute 59 of the 60 still count.
    assert_eq!(ask(&mut windows, &limit, at(59.0)), Err(at(61.0)));
    assert_eq!(ask(&mut windows, &limit, at(60.999)), Err(at(61.0)));
    assert_eq!(ask(&mut windows, &limit, at(61.0)), Ok(()));
    assert_eq!(ask(&mut windows, &limit, at(61.0)), Err(at(62.0)));
    let standing = windows.standing(&[limit], at(90.0)).next().unwrap();
    assert_eq!((standing.left, standing.reset), (29, at(180.0)));
    // Two windows later nothing is left of it.
    assert_eq!(windows.standing(&[limit], at(185.0)).next().unwrap().left, 60);
    // At no time are there more than 120 in any two minutes, nor 60 at once.
    let mut windows = Windows::default();
    let through =
        (0..2400).filter(|tick| ask(&mut windows, &limit, at(f64::from(*tick) / 10.0)).is_ok());
    assert!((180..=240).contains(&through.count()));
}

#[test]
fn a_bucket_refills_steadily() {
    let limit = limit(3, Per::Minute, Algorithm::TokenBucket);
    let start = time("2026-11-22T10:20:07Z");
    let at = |seconds| start.after(Duration::from_secs(seconds));
    let mut windows = Windows::default();
    for _ in 0..3 {
        assert_eq!(ask(&mut windows, &limit, start), Ok(()));
    }
    assert_eq!(ask(&mut windows, &limit, start), Err(at(20)));
    assert_eq!(ask(&mut windows, &limit, at(19)), Err(at(20)));
    assert_eq!(ask(&mut windows, &limit, at(20)), Ok(()));
    assert_eq!(ask(&mut windows, &limit, at(20)), Err(at(40)));
    let standing = windows.standing(&[limit], at(50)).next().unwrap();
    assert_eq!((standing.left, standing.reset), (1, at(80)));
    // Whole again, and never more than that.
    for _ in 0..3 {
        assert_eq!(ask(&mut windows, &limit, at(600)), Ok(()));
    }
    assert!(ask(&mut windows, &limit, at(600)).is_err());
    // A rate that no whole number of milliseconds divides is kept all the same.
    let limit = Limit { max: 7, ..limit };
    let mut windows = Windows::default();
    let through =
        (0..600_000).filter(|ms| ask(&mut windows, &limit, UnixTime(start.0 + ms)).is_ok());
    assert_eq!(through.count(), 7 + 69, "7 at first, then 7 a minute for ten minutes");
}

#[test]
fn told_moments_are_exact() {
    // Whatever was used before: at the moment that is told there is room, a millisecond earlier there is none.
    let mut random = crate::random::Random::new(3);
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        for per in [Per::Second, Per::Minute, Per::Hour] {
            for _ in 0..300 {
                let max = 1 + random.next_u64() % 50;
                let limit = limit(max, per, algorithm);
                let mut windows = Windows::default();
                let mut now = UnixTime(1_800_000_000_000 + random.next_u64() % 10_000_000);
                for _ in 0..random.next_u64() % 100 {
                    let _ = ask(&mut windows, &limit, now);
                    now = UnixTime(now.0 + random.next_u64() % (per.length().unwrap() / 20));
                }
                let need = requests(1 + random.next_u64() % max);
                let Some((_, until)) = windows.full(&[limit], &need, now) else { continue };
                assert!(until > now);
                assert_eq!(windows.full(&[limit], &need, until), None, "{limit:?}");
                let before = UnixTime(until.0 - 1);
                assert!(windows.full(&[limit], &need, before).is_some(), "{limit:?}");
            }
        }
    }
}

#[test]
fn a_clock_that_goes_back_gives_nobody_a_window_twice() {
    let now = time("2026-11-22T10:20:30Z");
    let back = time("2026-11-22T10:19:30Z");
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        let limit = limit(5, Per::Minute, algorithm);
        let mut windows = Windows::default();
        for _ in 0..3 {
            assert_eq!(ask(&mut windows, &limit, now), Ok(()));
        }
        assert_eq!(ask(&mut windows, &limit, back), Ok(()), "{algorithm:?}");
        assert_eq!(ask(&mut windows, &limit, back), Ok(()), "{algorithm:?}");
        let until = ask(&mut windows, &limit, back).unwrap_err();
        assert!(until > now, "{algorithm:?}");
        assert_eq!(ask(&mut windows, &limit, until), Ok(()), "{algorithm:?}");
        // What was taken before the clock went back is given back only where it still counts.
        let before = windows.clone();
        windows.correct(&[limit], &requests(1), &requests(0), back, now);
        let left = |windows: &Windows| windows.standing(&[limit], until).next().unwrap().left;
        assert!(left(&windows) <= left(&before) + 1, "{algorithm:?}");
    }
}

/// A virtual machine that wakes up in another year, or a wrong answer of a time server.
#[test]
fn a_clock_that_was_far_ahead_takes_no_budget_away() {
    let ahead = time("2038-01-19T03:14:07Z");
    let now = time("2026-11-22T10:20:30Z");
    for (per, algorithm) in [
        (Per::Second, Algorithm::SlidingWindow),
        (Per::Minute, Algorithm::FixedWindow),
        (Per::Minute, Algorithm::SlidingWindow),
        (Per::Hour, Algorithm::TokenBucket),
        (Per::Day, Algorithm::FixedWindow),
        (Per::Week, Algorithm::FixedWindow),
        (Per::Month, Algorithm::FixedWindow),
    ] {
        let limit = limit(3, per, algorithm);
        let mut windows = Windows::default();
        for _ in 0..3 {
            assert_eq!(ask(&mut windows, &limit, ahead), Ok(()));
        }
        assert!(ask(&mut windows, &limit, ahead).is_err());
        for _ in 0..3 {
            assert_eq!(ask(&mut windows, &limit, now), Ok(()), "{per:?} {algorithm:?}");
        }
        assert!(ask(&mut windows, &limit, now).is_err(), "and counts again");
    }
}

#[test]
fn corrections_go_where_the_reservation_went() {
    let minute = time("2026-11-22T10:20:00Z");
    let at = |seconds| minute.after(Duration::from_secs(seconds));
    let tokens = |prompt| Amounts { requests: 1, prompt, ..Amounts::default() };
    let left = |windows: &Windows, limit: &Limit, now| {
        windows.standing(&[*limit], now).next().unwrap().left
    };
    let limit = Limit { unit: Unit::Tokens, ..limit(100, Per::Minute, Algorithm::FixedWindow) };
    let reserved = |algorithm| {
        let limit = Limit { algorithm, ..limit };
        let mut windows = Windows::default();
        windows.add(&[limit], &tokens(60), at(10));
        (limit, windows)
    };
    for (algorithm, real, now, expected) in [
        (Algorithm::FixedWindow, 10, 20, 90),
        (Algorithm::FixedWindow, 75, 20, 25),
        // In the next window the reservation is forgotten; what it took on top counts there.
        (Algorithm::FixedWindow, 10, 70, 100),
        (Algorithm::FixedWindow, 75, 70, 85),
        (Algorithm::SlidingWindow, 10, 20, 90),
        // Half of it still counts.
        (Algorithm::SlidingWindow, 10, 90, 95),
        (Algorithm::SlidingWindow, 75, 90, 55),
        // 60 drain within 36 s. Of 50 given back after 12 s, 20 have drained already.
        (Algorithm::TokenBucket, 10, 22, 90),
        (Algorithm::TokenBucket, 10, 70, 100),
        (Algorithm::TokenBucket, 60, 22, 60),
    ] {
        let (limit, mut windows) = reserved(algorithm);
        windows.correct(&[limit], &tokens(60), &tokens(real), at(10), at(now));
        assert_eq!(left(&windows, &limit, at(now)), expected, "{algorithm:?} {real} {now}");
    }
}

#[test]
fn a_bucket_gives_back_no_more_than_is_left_of_the_reservation() {
    // 60 are reserved, drain to nothing, others take 50: what comes back then is nothing.
    let limit = Limit { unit: Unit::Tokens, ..limit(60, Per::Minute, Algorithm::TokenBucket) };
    let tokens = |prompt| Amounts { prompt, ..Amounts::default() };
    let start = UnixTime(1_800_000_000_000);
    let later = start.after(Duration::from_secs(61));
    let mut windows = Windows::default();
    windows.add(&[limit], &tokens(60), start);
    windows.add(&[limit], &tokens(50), later);
    windows.correct(&[limit], &tokens(60), &tokens(0), start, later);
    assert_eq!(windows.standing(&[limit], later).next().unwrap().left, 10);
}

#[test]
fn what_is_larger_than_a_limit_never_has_room() {
    let limit = limit(5, Per::Minute, Algorithm::FixedWindow);
    let windows = Windows::default();
    let full = windows.full(&[limit], &requests(6), UnixTime(1));
    assert_eq!(full, Some((limit, UnixTime::NEVER)));
}

#[test]
fn all_limits_have_to_leave_room_and_the_longest_is_told() {
    let limits = [
        limit(2, Per::Second, Algorithm::FixedWindow),
        limit(3, Per::Hour, Algorithm::FixedWindow),
        Limit { unit: Unit::PromptTokens, ..limit(10, Per::Day, Algorithm::FixedWindow) },
    ];
    let now = time("2026-11-22T10:20:30Z");
    let need = Amounts { requests: 1, prompt: 5, completion: 900, cost: 0 };
    let mut windows = Windows::default();
    windows.add(&limits, &need, now);
    windows.add(&limits, &need, now);
    let until = |now| windows.full(&limits, &need, now).map(|(limit, until)| (limit.per, until));
    assert_eq!(until(now), Some((Per::Day, time("2026-11-23T00:00:00Z"))));
    let alone = |limits: &[Limit]| windows.full(limits, &need, now).map(|(_, until)| until);
    assert_eq!(alone(&limits[..2]), Some(time("2026-11-22T10:20:31Z")));
    assert_eq!(alone(&limits[1..2]), None);
}

/// A reload that changes a limit's `max` or takes other limits away keeps what was counted.
#[test]
fn counts_belong_to_unit_window_and_algorithm() {
    let now = UnixTime(1_800_000_000_000);
    let minute = limit(5, Per::Minute, Algorithm::FixedWindow);
    let day = limit(5, Per::Day, Algorithm::FixedWindow);
    let mut windows = Windows::default();
    windows.add(&[minute, day], &requests(4), now);
    windows.add(&[day], &requests(1), now);
    let smaller = Limit { max: 4, ..minute };
    assert!(windows.full(&[smaller], &requests(1), now).is_some());
    assert!(windows.full(&[day], &requests(1), now).is_some());
    let other = Limit { algorithm: Algorithm::TokenBucket, ..minute };
    assert_eq!(windows.full(&[other], &requests(5), now), None);
    // Whatever is configured in the course of time, the record stays small.
    let units =
        [Unit::Requests, Unit::Tokens, Unit::PromptTokens, Unit::CompletionTokens, Unit::Cost];
    for unit in units {
        for per in [Per::Second, Per::Minute, Per::Hour, Per::Day, Per::Week, Per::Month] {
            for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
                let limit = Limit { unit, max: 9, per, algorithm };
                windows.add(&[limit], &requests(1), now);
            }
        }
    }
    assert_eq!(windows.0.len(), MAX_WINDOWS);
}
