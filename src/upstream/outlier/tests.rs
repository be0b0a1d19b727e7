use super::*;
use crate::config::plan::{FailureShare, Slowness, Statuses};

const WINDOW: Duration = Duration::from_secs(10);
const BASE: Duration = Duration::from_secs(30);

fn rules() -> Outlier {
    Outlier {
        consecutive_failures: Some(3),
        failure_share: Some(FailureShare { share: 5000, requests: 10, window: WINDOW }),
        latency: Some(Slowness {
            times: 5,
            at_least: Duration::from_millis(50),
            requests: 10,
            window: WINDOW,
        }),
        statuses: Statuses::default(),
        ejection: BASE,
        max_ejection: 4 * BASE,
        max_ejected: 5000,
    }
}

fn record() -> (Record, Instant) {
    let now = Instant::now();
    (Record::new(now), now)
}

fn failures(failed: u32, count: u32) -> Standing {
    Standing { failures: Counts { count, failed, sum: 0 }, ..Standing::default() }
}

fn typical(ms: u64) -> Standing {
    Standing { typical: Some(Duration::from_millis(ms)), ..Standing::default() }
}

fn judged(standings: &[Standing]) -> Vec<usize> {
    judge(standings, &rules()).into_iter().map(|(index, _)| index).collect()
}

#[test]
fn only_failures_in_a_row_count() {
    let ((record, now), rules) = (record(), rules());
    for _ in 0..100 {
        assert_eq!(record.failed(now, &rules), None);
        assert_eq!(record.failed(now, &rules), None);
        record.succeeded(now, &rules);
    }
    assert_eq!((0..3).map(|_| record.failed(now, &rules)).collect::<Vec<_>>(), [None, None, Some(3)]);
    // if it could not be ejected, not every further failure asks for it
    assert_eq!((0..3).map(|_| record.failed(now, &rules)).collect::<Vec<_>>(), [None, None, Some(3)]);
    let off = Outlier { consecutive_failures: None, ..rules };
    assert!((0..100).all(|_| record.failed(now, &off).is_none()));
}

#[test]
fn one_of_many_threads_finds_the_last_failure() {
    let ((record, now), rules) = (record(), rules());
    let found = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for _ in 0..1000 {
                    let run = record.failed(now, &rules);
                    found.fetch_add(run.unwrap_or(0), Ordering::Relaxed);
                }
            });
        }
    });
    let left = record.run.load(Ordering::Relaxed);
    assert_eq!(found.load(Ordering::Relaxed) + left, 3000, "no failure counts for two");
}

#[test]
fn an_ejection_is_longer_each_time_until_it_is_forgotten() {
    let ((record, mut now), rules) = (record(), rules());
    let mut eject = |pause: Duration| {
        now += pause;
        let lasts = record.eject(now, &rules, "why".into()).expect("not ejected");
        assert_eq!(record.eject(now, &rules, "again".into()), None, "once");
        assert_eq!(record.ejected_until(), Some(now + lasts));
        assert_eq!(&*record.ejection().unwrap().why, "why");
        now += lasts;
        assert!(record.release(now) && !record.release(now));
        assert!(record.ejection().is_none() && record.ejected_until().is_none());
        lasts.as_secs() / BASE.as_secs()
    };
    assert_eq!([eject(BASE), eject(BASE / 2), eject(BASE / 2)], [1, 2, 3]);
    assert_eq!([eject(BASE / 2), eject(BASE / 2)], [4, 4], "the longest");
    assert_eq!(eject(BASE * 3), 3, "five times, and three are forgiven, so this is the third");
    assert_eq!(eject(BASE * 100), 1);
}

#[test]
fn what_happens_while_it_is_ejected_or_before_is_no_longer_counted() {
    let ((record, now), rules) = (record(), rules());
    for _ in 0..20 {
        record.failed(now, &rules);
        record.answered(WINDOW, now, &rules);
    }
    record.eject(now, &rules, "why".into());
    assert!(record.standing(now, &rules).ejected);
    assert!((0..20).all(|_| record.failed(now, &rules).is_none()));
    record.answered(WINDOW, now, &rules);
    record.release(now);
    assert_eq!(record.standing(now, &rules), Standing::default());
    assert_eq!((0..3).map(|_| record.failed(now, &rules)).collect::<Vec<_>>(), [None, None, Some(3)]);
}

#[test]
fn a_share_of_failures_is_held_against_the_others() {
    assert_eq!(judged(&[failures(5, 10), failures(0, 10)]), [0]);
    assert_eq!(judged(&[failures(4, 10), failures(0, 10)]), [0; 0], "less than half");
    assert_eq!(judged(&[failures(9, 9), failures(0, 10)]), [0; 0], "too few to tell");
    assert_eq!(judged(&[failures(5, 10), failures(9, 10)]), [0; 0], "it is not the server");
    assert_eq!(judged(&[failures(5, 10), failures(9, 10), failures(0, 10)]), [1, 0], "the worst first");
    assert_eq!(judged(&[failures(5, 10), failures(9, 9)]), [0], "nobody to compare it with");
    let ejected = Standing { ejected: true, ..failures(10, 10) };
    assert_eq!(judged(&[failures(5, 10), ejected]), [0], "those that are ejected are not asked");
}

#[test]
fn slow_is_what_is_far_above_the_others() {
    assert_eq!(judged(&[typical(100), typical(20), typical(20)]), [0]);
    assert_eq!(judged(&[typical(99), typical(20), typical(20)]), [0; 0], "not five times as slow");
    assert_eq!(judged(&[typical(49), typical(1), typical(1)]), [0; 0], "quick enough whatever the others");
    assert_eq!(judged(&[typical(500), typical(900), typical(20)]), [0; 0], "most are slow");
    assert_eq!(judged(&[typical(500), typical(900), typical(20), typical(20), typical(20)]), [1, 0]);
    assert_eq!(judged(&[typical(500)]), [0; 0], "nobody to compare it with");
    assert_eq!(judged(&[typical(900), typical(10), typical(10), failures(5, 10)]), [3, 0]);
}

#[test]
fn a_few_long_answers_do_not_make_a_server_slow() {
    let ((record, now), rules) = (record(), rules());
    (0..9).for_each(|_| record.answered(Duration::from_millis(10), now, &rules));
    assert_eq!(record.standing(now, &rules).typical, None, "too few");
    record.answered(Duration::from_secs(10), now, &rules);
    let typical = record.standing(now, &rules).typical.unwrap();
    assert!((19..=21).contains(&typical.as_millis()), "{typical:?}");
}

#[test]
fn all_but_one_may_be_ejected_at_the_most() {
    for (total, share, expected) in
        [(0, 5000, 0), (1, 10_000, 0), (2, 5000, 1), (3, 3400, 1), (3, 100, 1), (3, 6600, 1), (3, 6700, 2)]
    {
        assert_eq!(allowed(total, share), expected, "{share} of {total}");
    }
    assert_eq!((allowed(10, 5000), allowed(10, 10_000), allowed(10, 999)), (5, 9, 1));
}

#[test]
fn faults_are_told_in_words() {
    let counts = Counts { count: 20, failed: 12, sum: 0 };
    assert_eq!(Fault::Fails { counts, window: WINDOW }.to_string(), "12 of 20 requests failed in 10s");
    let slow = Fault::IsSlow { typical: Duration::from_millis(250), others: Duration::from_micros(4_320) };
    assert_eq!(slow.to_string(), "it typically answers in 250ms, the others in 4.3ms");
}
