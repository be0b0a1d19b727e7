use super::ejection::is_ejected;
use super::*;
use crate::config::file;
use crate::config::plan::{Breakers, FailureShare, Statuses};
use crate::units::Percent;
use crate::upstream::breaker::Mode;
use crate::upstream::group::tests as group;
use crate::upstream::health::Thresholds;
use crate::upstream::{Registry, Tried};
use std::num::NonZeroU16;
use std::time::SystemTime;

const ONCE: Thresholds = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
pub const WINDOW: Duration = Duration::from_secs(10);
const BASE: Duration = Duration::from_secs(30);

pub fn server_errors() -> Statuses {
    (500..=599).fold(Statuses::default(), |mut statuses, status| {
        statuses.insert(status);
        statuses
    })
}

pub fn outlier() -> plan::Outlier {
    plan::Outlier {
        consecutive_failures: Some(3),
        failure_share: None,
        latency: None,
        statuses: server_errors(),
        ejection: BASE,
        max_ejection: BASE * 10,
        max_ejected: 5000,
    }
}

pub fn breaker() -> plan::Breaker {
    plan::Breaker {
        failure_share: Some(FailureShare { share: 5000, requests: 4, window: WINDOW }),
        pending: None,
        statuses: server_errors(),
        open: Duration::from_secs(5),
        trials: 2,
    }
}

fn tcp() -> Option<file::HealthCheck> {
    Some(file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() })
}

/// So many servers, with these changes to the plan.
fn group(servers: usize, change: impl FnOnce(&mut plan::Upstream)) -> Arc<Group> {
    let mut plan = group::plan(&vec![1; servers], tcp());
    change(&mut plan);
    Group::build(Arc::new(plan), &Registry::new()).unwrap()
}

fn endpoint(group: &Group, place: usize) -> Arc<Endpoint> {
    group.servers()[place].endpoint.clone()
}

fn end(group: &Group, place: usize, outcome: Outcome<'_>, now: Instant) {
    let endpoint = endpoint(group, place);
    if let Some(watch) = group.admit(&endpoint, now) {
        group.ended(&endpoint, watch, outcome, now);
    }
}

fn fail(group: &Group, place: usize, times: usize, now: Instant) {
    (0..times).for_each(|_| end(group, place, Outcome::Failed(&|| "test".into()), now));
}

fn ejected(group: &Group) -> Vec<usize> {
    let servers = group.servers();
    (0..servers.len()).filter(|place| is_ejected(&servers[*place])).collect()
}

/// Who gets the next requests.
fn asked(group: &Group) -> Vec<usize> {
    let servers = group.servers();
    let chosen: Vec<_> = (0..24).filter_map(|_| group.select(&Tried::default(), None)).collect();
    (0..servers.len())
        .filter(|place| chosen.iter().any(|it| Arc::ptr_eq(it, &servers[*place].endpoint)))
        .collect()
}

#[test]
fn a_server_that_fails_is_ejected_at_once_and_longer_each_time() {
    let group = group(3, |plan| plan.outlier = Some(outlier()));
    let mut now = Instant::now();
    fail(&group, 1, 2, now);
    end(&group, 1, Outcome::Answered(404), now);
    fail(&group, 1, 2, now);
    assert_eq!(asked(&group), [0, 1, 2]);
    end(&group, 1, Outcome::Answered(503), now);
    assert_eq!(asked(&group), [0, 2], "before any table is made anew");
    let ejection = endpoint(&group, 1).known_conduct().unwrap().record.ejection().unwrap();
    assert_eq!(&*ejection.why, "3 failures in a row, the last: status 503");
    assert_eq!(group.next_due(now), Some(BASE));
    group.tend(now + BASE - Duration::from_millis(1));
    assert_eq!(ejected(&group), [1]);
    now += BASE;
    group.tend(now);
    group.refresh();
    assert_eq!(asked(&group), [0, 1, 2]);
    fail(&group, 1, 3, now);
    assert_eq!(group.next_due(now), Some(BASE * 2));
}

#[test]
fn no_more_are_ejected_than_may_be_and_never_the_last() {
    let three = group(3, |plan| plan.outlier = Some(outlier()));
    let now = Instant::now();
    (0..3).for_each(|place| fail(&three, place, 30, now));
    assert_eq!(ejected(&three), [0], "the first of three");

    let all = plan::Outlier { max_ejected: 10_000, ..outlier() };
    let three = group(3, |plan| plan.outlier = Some(all));
    (0..3).for_each(|place| fail(&three, place, 30, now));
    assert_eq!(ejected(&three), [0, 1]);

    let one = group(1, |plan| plan.outlier = Some(all));
    fail(&one, 0, 30, now);
    assert_eq!(asked(&one), [0]);

    // two, of which one is down: the other is not ejected
    let two = group(2, |plan| plan.outlier = Some(all));
    endpoint(&two, 0).observe(Err("test"), ONCE, SystemTime::now());
    fail(&two, 1, 30, now);
    assert_eq!(asked(&two), [1]);
}

#[test]
fn the_ejected_are_better_than_nobody() {
    let group = group(2, |plan| plan.outlier = Some(outlier()));
    fail(&group, 0, 3, Instant::now());
    assert_eq!(asked(&group), [1]);
    endpoint(&group, 1).observe(Err("test"), ONCE, SystemTime::now());
    assert_eq!(asked(&group), [0], "found by the request itself");
    assert!(ejected(&group).is_empty());
}

#[test]
fn a_group_that_becomes_smaller_takes_servers_back() {
    let group = group(4, |plan| plan.outlier = Some(outlier()));
    let now = Instant::now();
    fail(&group, 0, 3, now);
    fail(&group, 1, 3, now + BASE / 2);
    assert_eq!(ejected(&group), [0, 1]);
    assert!(group.drain(endpoint(&group, 3).address(), true));
    group.tend(now + BASE / 2);
    assert_eq!(ejected(&group), [1], "the one whose time is over sooner");
}

#[test]
fn checks_that_have_seen_it_broken_and_mended_end_an_ejection() {
    let group = group(3, |plan| plan.outlier = Some(outlier()));
    fail(&group, 0, 3, Instant::now());
    let endpoint = endpoint(&group, 0);
    endpoint.observe(Ok(()), ONCE, SystemTime::now());
    assert_eq!(ejected(&group), [0], "to pass a check is not enough: it has passed them before");
    endpoint.observe(Err("test"), ONCE, SystemTime::now());
    endpoint.observe(Ok(()), ONCE, SystemTime::now());
    group.refresh();
    assert_eq!(asked(&group), [0, 1, 2]);
}

#[test]
fn a_configuration_without_it_does_not_heed_it() {
    let registry = Registry::new();
    let with = plan::Upstream { outlier: Some(outlier()), ..group::plan(&[1, 1, 1], tcp()) };
    let with = Group::build(Arc::new(with), &registry).unwrap();
    fail(&with, 0, 3, Instant::now());
    let without = Group::build(Arc::new(group::plan(&[1, 1, 1], tcp())), &registry).unwrap();
    assert_eq!((asked(&with), asked(&without)), (vec![1, 2], vec![0, 1, 2]));
    // and what was known stays known
    let again = Group::build(with.plan().clone(), &registry).unwrap();
    assert_eq!(asked(&again), [1, 2]);
}

#[test]
fn a_share_of_failures_and_slowness_are_found_by_comparison() {
    let rules = plan::Outlier {
        consecutive_failures: None,
        failure_share: Some(FailureShare { share: 4000, requests: 10, window: WINDOW }),
        latency: Some(plan::Slowness {
            times: 5,
            at_least: Duration::from_millis(50),
            requests: 10,
            window: WINDOW,
        }),
        ..outlier()
    };
    let group = group(4, |plan| plan.outlier = Some(rules));
    let now = Instant::now();
    for place in 0..4 {
        let took = Duration::from_millis(if place == 2 { 300 } else { 20 });
        for n in 0..20 {
            group.answered(&endpoint(&group, place), took, now);
            let status = if place == 1 && n % 2 == 0 { 500 } else { 200 };
            end(&group, place, Outcome::Answered(status), now);
        }
    }
    assert!(ejected(&group).is_empty());
    assert_eq!(group.next_due(now), Some(Duration::from_secs(1)));
    group.tend(now + Duration::from_secs(1));
    assert_eq!(ejected(&group), [1, 2]);
    let why = |place| endpoint(&group, place).known_conduct().unwrap().record.ejection().unwrap().why;
    assert_eq!(&*why(1), "10 of 20 requests failed in 10s");
    assert_eq!(&*why(2), "it typically answers in 300ms, the others in 20ms");
}

#[test]
fn a_breaker_takes_a_server_out_and_lets_exact_trials_in() {
    let group = group(2, |plan| plan.breaker = Breakers { server: Some(breaker()), group: None });
    let now = Instant::now();
    fail(&group, 0, 4, now);
    assert_eq!(asked(&group), [1]);
    assert_eq!(group.next_due(now), Some(Duration::from_secs(5)));
    let now = now + Duration::from_secs(5);
    group.tend(now);
    group.refresh();
    assert_eq!(asked(&group), [0, 1], "half-open");
    let endpoint = endpoint(&group, 0);
    let first = group.admit(&endpoint, now).unwrap();
    let second = group.admit(&endpoint, now).unwrap();
    assert!(first.is_trial() && second.is_trial());
    assert!(group.admit(&endpoint, now).is_none());
    assert_eq!(asked(&group), [1], "there is no room");
    drop(second);
    group.refresh();
    assert_eq!(asked(&group), [0, 1], "its client went away");
    group.ended(&endpoint, first, Outcome::Answered(200), now);
    end(&group, 0, Outcome::Answered(200), now);
    assert_eq!(endpoint.known_conduct().unwrap().breaker.mode(), Mode::Closed);
    assert!(!group.admit(&endpoint, now).unwrap().is_trial());
}

#[test]
fn a_trial_that_fails_is_news_although_the_server_stays_closed_to_requests() {
    let rules = plan::Breaker { trials: 1, ..breaker() };
    let group = group(2, |plan| plan.breaker = Breakers { server: Some(rules), group: None });
    let now = Instant::now();
    fail(&group, 0, 4, now);
    let now = now + rules.open;
    let trial = group.admit(&endpoint(&group, 0), now).unwrap();
    assert_eq!((trial.is_trial(), group.next_due(now)), (true, None));
    let news = group.changes().subscribe();
    group.ended(&endpoint(&group, 0), trial, Outcome::Answered(500), now);
    assert!(news.has_changed().unwrap(), "the upkeep waits for nothing else");
    assert_eq!(group.next_due(now), Some(rules.open));
}

#[test]
fn a_breaker_opens_when_a_request_comes_while_too_many_are_in_flight() {
    let rules = plan::Breaker { pending: Some(2), ..breaker() };
    let group = group(2, |plan| plan.breaker = Breakers { server: Some(rules), group: None });
    let endpoint = endpoint(&group, 0);
    let _in_flight = [(); 2].map(|()| group.begin_try(&endpoint).unwrap());
    assert_eq!(asked(&group), [0, 1]);
    assert!(group.begin_try(&endpoint).is_none());
    assert_eq!(endpoint.in_flight(), 2);
    assert_eq!(asked(&group), [1]);
}

#[test]
fn the_breaker_of_a_group_refuses_and_recovers() {
    let group = group(2, |plan| plan.breaker = Breakers { server: None, group: Some(breaker()) });
    assert!(!group.watches(), "tries are nothing to it");
    let now = Instant::now();
    let left = |group: &Group, status, now| {
        group.left(group.enter(now).unwrap().unwrap(), Outcome::Answered(status), now);
    };
    [200, 200, 500, 500].into_iter().for_each(|status| left(&group, status, now));
    let later = now + Duration::from_secs(2);
    assert_eq!(group.enter(later).err(), Some(Duration::from_secs(3)));
    let later = now + Duration::from_secs(5);
    let trials = [(); 2].map(|()| group.enter(later).unwrap().unwrap());
    assert_eq!(group.enter(later).err(), Some(Duration::ZERO));
    let [first, second] = trials;
    drop(first);
    group.left(second, Outcome::Answered(200), later);
    left(&group, 200, later);
    assert!(!group.enter(later).unwrap().unwrap().is_trial());
}

#[test]
fn a_panic_ignores_everything_and_ends() {
    let group = group(4, |plan| {
        plan.panic = Some(Percent::of(50));
        plan.outlier = Some(plan::Outlier { max_ejected: 10_000, ..outlier() });
        plan.breaker = Breakers { server: Some(breaker()), group: None };
        // in reserve
        plan.servers[3].priority = 1;
    });
    let now = Instant::now();
    assert_eq!(asked(&group), [0, 1, 2]);
    endpoint(&group, 0).observe(Err("test"), ONCE, SystemTime::now());
    fail(&group, 1, 4, now);
    group.refresh();
    assert_eq!(asked(&group), [2], "two of four is not less than half");
    assert!(!group.changes().panics());
    endpoint(&group, 2).observe(Err("test"), ONCE, SystemTime::now());
    group.refresh();
    assert!(group.changes().panics());
    assert_eq!(asked(&group), [0, 1, 2, 3], "of all tiers");
    assert!(group.admit(&endpoint(&group, 1), now).is_some_and(|watch| !watch.is_trial()));
    assert!(group.drain(endpoint(&group, 3).address(), true));
    assert_eq!(asked(&group), [0, 1, 2], "but for those that drain");
    endpoint(&group, 0).observe(Ok(()), ONCE, SystemTime::now());
    endpoint(&group, 2).observe(Ok(()), ONCE, SystemTime::now());
    group.refresh();
    assert!(!group.changes().panics());
    assert_eq!(asked(&group), [0, 2]);
}

#[test]
fn a_request_that_finds_nobody_begins_the_panic_itself() {
    let group = group(2, |plan| plan.panic = Some(Percent::of(50)));
    for place in 0..2 {
        endpoint(&group, place).observe(Err("test"), ONCE, SystemTime::now());
    }
    assert!(group.select(&Tried::default(), None).is_some());
    assert!(group.kept(endpoint(&group, 0).address()).is_some(), "sessions stay where they are");
}
