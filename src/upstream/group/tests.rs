use super::*;
use crate::config::file;
use crate::upstream::Registry;
use crate::upstream::health::Thresholds;
use crate::upstream::health::tests::planned;
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::time::{Duration, SystemTime};

const ONCE: Thresholds = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };

/// A group "test" of servers `127.0.0.1:1`, `127.0.0.1:2`, ... with these weights.
pub fn plan(weights: &[u16], health_check: Option<file::HealthCheck>) -> plan::Upstream {
    let member = |(port, weight): (u16, &u16)| plan::Member {
        address: ([127, 0, 0, 1], port).into(),
        weight: NonZeroU16::new(*weight).unwrap(),
        priority: 0,
        unix: None,
        host: None,
        zone: None,
        drain: false,
    };
    plan::Upstream {
        name: "test".into(),
        balance: file::Balance::RoundRobin,
        discover: Vec::new(),
        servers: (1..).zip(weights).map(member).collect(),
        health_check: health_check.as_ref().map(planned),
        sticky: None,
        retry: plan::Retry::from(&file::Retry::default()),
        retry_budget: file::Budget::default(),
        outlier: None,
        breaker: plan::Breakers::default(),
        panic: None,
        timeouts: plan::UpstreamTimeouts {
            connect: Duration::from_secs(1),
            tls: None,
            response: Duration::from_secs(1),
            first_byte: None,
            one_try: None,
            request: None,
            tunnel: Duration::from_secs(1),
            idle: Duration::from_secs(1),
        },
        host: file::UpstreamHost::Preserve,
        protocol: file::UpstreamProtocol::H1,
        tls: None,
        bind_to: Arc::default(),
        zone: None,
        slow_start: None,
        spill_over: file::SpillOver::default(),
        drain_timeout: Duration::from_secs(300),
        limits: None,
        send_proxy: None,
    }
}

fn tcp() -> Option<file::HealthCheck> {
    Some(file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() })
}

fn watched(weights: &[u16]) -> Arc<Group> {
    Group::build(Arc::new(plan(weights, tcp())), &Registry::new()).unwrap()
}

fn set_up(group: &Group, place: usize, up: bool) {
    let result = if up { Ok(()) } else { Err("test") };
    group.servers()[place].endpoint.observe(result, ONCE, SystemTime::now());
    group.refresh();
}

fn letter(group: &Group, endpoint: &Arc<Endpoint>) -> char {
    let place = group.servers().iter().position(|s| Arc::ptr_eq(&s.endpoint, endpoint)).unwrap();
    char::from(b'a' + u8::try_from(place).unwrap())
}

/// The servers of so many requests, as letters in file order.
fn sequence(group: &Group, requests: usize) -> String {
    (0..requests).map(|_| letter(group, &group.select(&Tried::default(), None).unwrap())).collect()
}

fn shares(group: &Group, requests: usize) -> HashMap<char, usize> {
    sequence(group, requests).chars().fold(HashMap::new(), |mut shares, letter| {
        *shares.entry(letter).or_default() += 1;
        shares
    })
}

#[test]
fn sequences_are_smooth_and_exact() {
    assert_eq!(sequence(&watched(&[5, 1, 1]), 14), "aabacaaaabacaa");
    assert_eq!(sequence(&watched(&[1, 1, 1]), 7), "abcabca");
    assert_eq!(sequence(&watched(&[3, 2]), 10), "ababaababa");
    assert_eq!(sequence(&watched(&[4]), 3), "aaa");
}

#[test]
fn equals_come_in_file_order_and_not_by_address() {
    let mut plan = plan(&[1, 1, 1], None);
    plan.servers.reverse();
    let group = Group::build(Arc::new(plan), &Registry::new()).unwrap();
    assert_eq!(sequence(&group, 4), "abca");
    assert_eq!(group.servers()[0].endpoint.name(), "127.0.0.1:3");
}

#[test]
fn the_others_keep_their_shares_when_one_is_down() {
    let group = watched(&[5, 3, 2]);
    set_up(&group, 0, false);
    assert_eq!(shares(&group, 50), HashMap::from([('b', 30), ('c', 20)]));
    set_up(&group, 0, true);
    assert_eq!(shares(&group, 100), HashMap::from([('a', 50), ('b', 30), ('c', 20)]));
}

#[test]
fn equal_servers_share_evenly_when_one_is_down() {
    let group = watched(&[1, 1, 1, 1]);
    set_up(&group, 1, false);
    assert_eq!(shares(&group, 30), HashMap::from([('a', 10), ('c', 10), ('d', 10)]));
}

#[test]
fn weights_with_a_long_cycle_are_exact_too() {
    let weights = [65535, 65534, 3];
    let group = watched(&weights);
    let whole = weights.iter().map(|w| usize::from(*w)).sum();
    assert_eq!(shares(&group, whole), HashMap::from([('a', 65535), ('b', 65534), ('c', 3)]));
    set_up(&group, 0, false);
    assert_eq!(shares(&group, 65537), HashMap::from([('b', 65534), ('c', 3)]));
}

#[test]
fn a_retry_goes_to_every_other_server_once_and_then_nowhere() {
    for weights in [&[1000, 1, 1, 1, 1][..], &[1, 1, 1, 1, 1], &[65535, 65534, 65533, 1, 1]] {
        let group = watched(weights);
        let mut tried = Tried::default();
        let mut order = String::new();
        while let Some(endpoint) = group.select(&tried, None) {
            assert!(!tried.contains(&endpoint), "{weights:?}: {endpoint:?} twice");
            order.push(letter(&group, &endpoint));
            tried.push(&endpoint);
        }
        assert_eq!(order.len(), 5, "{weights:?}: {order}");
        assert!(group.any_healthy(), "all were tried, which is not the same as all being down");
    }
}

#[test]
fn retries_are_spread_over_the_servers_that_answer() {
    // a is dead but not yet known to be: each request that meets it goes on to another
    let group = watched(&[1, 1, 1]);
    let dead = group.servers()[0].endpoint.clone();
    let mut answered = HashMap::new();
    for _ in 0..300 {
        let mut tried = Tried::default();
        let mut endpoint = group.select(&tried, None).unwrap();
        if Arc::ptr_eq(&endpoint, &dead) {
            tried.push(&endpoint);
            endpoint = group.select(&tried, None).unwrap();
        }
        *answered.entry(letter(&group, &endpoint)).or_insert(0) += 1;
    }
    assert_eq!(answered, HashMap::from([('b', 150), ('c', 150)]));
}

#[test]
fn all_down_is_told_from_all_tried() {
    let group = watched(&[1, 2]);
    for place in 0..2 {
        set_up(&group, place, false);
    }
    assert!(group.select(&Tried::default(), None).is_none());
    assert!(!group.any_healthy());
    assert_eq!(group.healthy_count(), 0);
    set_up(&group, 1, true);
    assert_eq!(group.healthy_count(), 1);
    assert_eq!(sequence(&group, 2), "bb");
}

#[test]
fn no_servers_are_no_panic() {
    let group = watched(&[]);
    assert!(group.select(&Tried::default(), None).is_none());
    assert!(!group.any_healthy());
    assert!(group.servers().is_empty());
}

#[test]
fn a_server_named_twice_is_refused() {
    let mut plan = plan(&[1, 1], None);
    plan.servers[1].address = plan.servers[0].address;
    let error = Group::build(Arc::new(plan), &Registry::new()).unwrap_err();
    assert!(error.contains("127.0.0.1:1 is named twice"), "{error}");
}

#[test]
fn health_and_counters_survive_a_rebuild() {
    let registry = Registry::new();
    let old = Group::build(Arc::new(plan(&[1, 1], tcp())), &registry).unwrap();
    set_up(&old, 0, false);
    let in_flight = old.servers()[1].endpoint.begin();
    let new = Group::build(Arc::new(plan(&[2, 1, 1], tcp())), &registry).unwrap();
    drop(old);
    assert_eq!(sequence(&new, 4), "bcbc");
    assert_eq!(new.servers()[1].endpoint.in_flight(), 1);
    drop(in_flight);
    assert_eq!(new.servers()[1].endpoint.in_flight(), 0);
}

#[test]
fn a_group_that_stops_checking_uses_all_its_servers() {
    let registry = Registry::new();
    let checked = Group::build(Arc::new(plan(&[1, 1], tcp())), &registry).unwrap();
    set_up(&checked, 0, false);
    let unchecked = Group::build(Arc::new(plan(&[1, 1], None)), &registry).unwrap();
    assert_eq!(unchecked.healthy_count(), 2);
    assert_eq!(sequence(&unchecked, 4), "abab");
    assert_eq!(sequence(&checked, 2), "bb");
}

#[test]
fn threads_share_one_sequence() {
    let group = watched(&[5, 3, 2]);
    let total = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| shares(&group, 2500))).collect();
        threads.into_iter().fold(HashMap::new(), |mut total, thread| {
            for (letter, count) in thread.join().unwrap() {
                *total.entry(letter).or_insert(0) += count;
            }
            total
        })
    });
    assert_eq!(total, HashMap::from([('a', 5000), ('b', 3000), ('c', 2000)]));
}

#[test]
fn a_server_that_is_up_is_found_while_others_change() {
    // b never goes down, so that no request may be told that there is no server
    let group = watched(&[1, 1, 1]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..2000 {
                set_up(&group, if round % 4 < 2 { 0 } else { 2 }, round % 2 == 1);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    assert!(group.select(&Tried::default(), None).is_some());
                }
            });
        }
    });
}

#[test]
fn no_request_is_without_a_server_while_all_are_replaced() {
    let group = watched(&[1]);
    let (first, second) = (group.plan().servers.clone(), plan(&[1, 1, 1], None).servers.split_off(1));
    let drained: Vec<_> = first.iter().cloned().map(|m| plan::Member { drain: true, ..m }).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..1000 {
                group.adopt(0, second.clone()).unwrap();
                group.adopt(0, first.clone()).unwrap();
                group.adopt(0, [&drained[..], &second].concat()).unwrap();
                group.adopt(0, first.clone()).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..40_000 {
                    assert!(group.select(&Tried::default(), None).is_some());
                }
            });
        }
    });
}

#[test]
fn what_was_tried_is_remembered_beyond_the_inline_slots() {
    let group = watched(&[1, 1, 1, 1, 1, 1]);
    let mut tried = Tried::default();
    assert!(tried.is_empty());
    for server in &group.servers()[..5] {
        tried.push(&server.endpoint);
    }
    assert!(!tried.is_empty());
    assert!(group.servers()[..5].iter().all(|server| tried.contains(&server.endpoint)));
    assert!(!tried.contains(&group.servers()[5].endpoint));
}
