use super::*;
use crate::config::plan::{FailureShare, Statuses};
use std::sync::atomic::AtomicU32;

const WINDOW: Duration = Duration::from_secs(10);
const OPEN: Duration = Duration::from_secs(5);

fn rules() -> Rules {
    Rules {
        failure_share: Some(FailureShare { share: 5000, requests: 10, window: WINDOW }),
        pending: Some(100),
        statuses: Statuses::default(),
        open: OPEN,
        trials: 3,
    }
}

fn breaker() -> (Breaker, Instant) {
    let now = Instant::now();
    (Breaker::new(now), now)
}

fn admit(breaker: &Breaker, now: Instant) -> Admission {
    breaker.look(now, &rules());
    breaker.admit(now, 0, &rules()).0
}

fn trial(breaker: &Breaker, now: Instant) -> u64 {
    match admit(breaker, now) {
        Admission::Trial(round) => round,
        other => panic!("{other:?}"),
    }
}

fn opened(now: Instant) -> Breaker {
    let breaker = Breaker::new(now);
    let changes: Vec<_> = (0..10).filter_map(|_| breaker.failed(None, now, &rules())).collect();
    assert_eq!((changes.len(), breaker.mode()), (1, Mode::Open));
    breaker
}

#[test]
fn it_opens_at_its_share_of_failures() {
    let (breaker, now) = breaker();
    for _ in 0..5 {
        assert_eq!(breaker.succeeded(None, now, &rules()), None);
    }
    for _ in 0..4 {
        assert_eq!(breaker.failed(None, now, &rules()), None);
    }
    assert_eq!(admit(&breaker, now), Admission::Pass);
    let counts = Counts { count: 10, failed: 5, sum: 0 };
    let cause = Cause::Failures { counts, window: WINDOW };
    assert_eq!(breaker.failed(None, now, &rules()), Some(Change::Opened(cause)));
    assert_eq!(cause.to_string(), "5 of 10 requests failed in 10s");
    assert_eq!(breaker.failed(None, now, &rules()), None, "once");
    assert_eq!(admit(&breaker, now + OPEN / 5), Admission::Refused(OPEN / 5 * 4));
    assert_eq!(breaker.open_until(), Some(now + OPEN));
}

#[test]
fn it_opens_on_pending_work() {
    let (breaker, now) = breaker();
    assert_eq!(breaker.admit(now, 99, &rules()), (Admission::Pass, None));
    let opened = Some(Change::Opened(Cause::Pending(100)));
    assert_eq!(breaker.admit(now, 100, &rules()), (Admission::Refused(OPEN), opened));
    assert_eq!(breaker.admit(now, 0, &rules()), (Admission::Refused(OPEN), None), "it stays open");
    // as many as before: nothing has got better
    let later = now + OPEN;
    assert_eq!(breaker.look(later, &rules()), Some(Change::HalfOpened { trials: 3 }));
    assert_eq!(breaker.admit(later, 100, &rules()), (Admission::Refused(OPEN), opened));
}

#[test]
fn trials_that_succeed_close_it() {
    let now = Instant::now();
    let breaker = opened(now);
    let now = now + OPEN;
    assert_eq!(breaker.look(now - Duration::from_millis(1), &rules()), None);
    assert_eq!(breaker.look(now, &rules()), Some(Change::HalfOpened { trials: 3 }));
    assert_eq!(breaker.look(now, &rules()), None);
    assert_eq!(breaker.mode(), Mode::HalfOpen { room: true });
    let rounds = [(); 3].map(|()| trial(&breaker, now));
    assert_eq!(breaker.mode(), Mode::HalfOpen { room: false });
    assert_eq!(admit(&breaker, now), Admission::Refused(Duration::ZERO));
    assert_eq!(breaker.succeeded(Some(rounds[0]), now, &rules()), None);
    assert_eq!(admit(&breaker, now), Admission::Refused(Duration::ZERO), "no more than it takes");
    assert_eq!(breaker.succeeded(Some(rounds[1]), now, &rules()), None);
    assert_eq!(breaker.succeeded(Some(rounds[2]), now, &rules()), Some(Change::Closed { trials: 3 }));
    assert_eq!(admit(&breaker, now), Admission::Pass);
    // what was before is forgotten
    assert!((0..9).all(|_| breaker.failed(None, now, &rules()).is_none()));
    assert!(breaker.failed(None, now, &rules()).is_some());
}

#[test]
fn one_trial_that_fails_opens_it_again() {
    let now = Instant::now();
    let breaker = opened(now);
    let now = now + OPEN;
    let (first, second) = (trial(&breaker, now), trial(&breaker, now));
    assert_eq!(breaker.succeeded(Some(first), now, &rules()), None);
    assert_eq!(breaker.failed(Some(second), now, &rules()), Some(Change::Opened(Cause::TrialFailed)));
    assert_eq!(admit(&breaker, now), Admission::Refused(OPEN));
}

#[test]
fn a_trial_whose_client_went_away_makes_room_for_another() {
    let now = Instant::now();
    let breaker = opened(now);
    let now = now + OPEN;
    let rounds = [(); 3].map(|()| trial(&breaker, now));
    breaker.abandon(rounds[0]);
    assert_eq!(breaker.mode(), Mode::HalfOpen { room: true });
    trial(&breaker, now);
    assert_eq!(admit(&breaker, now), Admission::Refused(Duration::ZERO));
}

#[test]
fn trials_of_an_earlier_round_say_nothing() {
    let start = Instant::now();
    let breaker = opened(start);
    let old = [(); 3].map(|()| trial(&breaker, start + OPEN));
    assert!(breaker.failed(Some(old[0]), start + OPEN, &rules()).is_some());
    let now = start + OPEN * 2;
    let new = trial(&breaker, now);
    assert_eq!(
        admit(&breaker, now),
        Admission::Refused(Duration::ZERO),
        "three are in flight, of both rounds"
    );
    assert_eq!(breaker.failed(Some(old[1]), now, &rules()), None);
    assert_eq!(breaker.mode(), Mode::HalfOpen { room: true });
    assert_eq!(breaker.succeeded(Some(old[2]), now, &rules()), None);
    assert_eq!((trial(&breaker, now), trial(&breaker, now)), (new, new));
    assert_eq!(admit(&breaker, now), Admission::Refused(Duration::ZERO), "three of this round");
    assert_eq!([(); 2].map(|()| breaker.succeeded(Some(new), now, &rules())), [None, None]);
    assert!(breaker.succeeded(Some(new), now, &rules()).is_some());
}

#[test]
fn requests_from_before_do_not_decide_a_half_open_state() {
    let now = Instant::now();
    let breaker = opened(now);
    let now = now + OPEN;
    breaker.look(now, &rules());
    assert!((0..50).all(|_| breaker.failed(None, now, &rules()).is_none()));
    assert!((0..50).all(|_| breaker.succeeded(None, now, &rules()).is_none()));
    assert_eq!(breaker.mode(), Mode::HalfOpen { room: true });
}

#[test]
fn threads_get_no_more_trials_than_there_are() {
    let now = Instant::now();
    for _ in 0..200 {
        let breaker = opened(now);
        let later = now + OPEN;
        let trials = AtomicU32::new(0);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..5 {
                        if matches!(admit(&breaker, later), Admission::Trial(_)) {
                            trials.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(trials.load(Ordering::Relaxed), 3);
    }
}
