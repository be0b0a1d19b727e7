use super::*;
use crate::config::{file, plan};
use crate::upstream::endpoint::FULL_WARMTH;
use crate::upstream::group::tests::plan as plan_of;
use crate::upstream::health::Thresholds;
use crate::upstream::state::states;
use crate::upstream::{Endpoint, Group, Tried};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// `127.0.0.1:PORT` with weight 1.
fn member(port: u16) -> Member {
    plan_of(&[1; 9], None).servers.swap_remove(usize::from(port - 1))
}

fn members(ports: &[u16]) -> Vec<Member> {
    ports.iter().map(|port| member(*port)).collect()
}

fn weighing(port: u16, weight: u16) -> Member {
    Member { weight: NonZeroU16::new(weight).unwrap(), ..member(port) }
}

fn draining(port: u16) -> Member {
    Member { drain: true, ..member(port) }
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A group of the servers at these ports.
fn group(ports: &[u16], registry: &Registry) -> Arc<Group> {
    group_of(Upstream { servers: members(ports), ..plan_of(&[], None) }, registry)
}

fn group_of(plan: Upstream, registry: &Registry) -> Arc<Group> {
    Group::build(Arc::new(plan), registry).unwrap()
}

fn at(group: &Group, port: u16) -> Arc<Server> {
    group.servers().at(address(port)).expect("a server of the group").clone()
}

fn choose(group: &Group) -> Arc<Endpoint> {
    group.select(&Tried::default(), None).expect("a server")
}

/// How many of so many requests each port gets.
fn shares(group: &Group, requests: usize) -> BTreeMap<u16, usize> {
    (0..requests).fold(BTreeMap::new(), |mut shares, _| {
        *shares.entry(choose(group).address().port()).or_default() += 1;
        shares
    })
}

/// The ports of the group, leaving or not.
fn ports(group: &Group) -> Vec<u16> {
    group.servers().iter().map(|server| server.endpoint.address().port()).collect()
}

#[test]
fn whoever_comes_gets_requests_at_once() {
    let group = group(&[1, 2], &Registry::new());
    group.adopt(0, members(&[1, 2, 3])).unwrap();
    assert_eq!(shares(&group, 30), BTreeMap::from([(1, 10), (2, 10), (3, 10)]));
    group.adopt(0, members(&[3, 4])).unwrap();
    assert_eq!(shares(&group, 30), BTreeMap::from([(3, 15), (4, 15)]));
}

#[test]
fn whoever_is_removed_leaves_when_its_requests_have_ended() {
    let group = group(&[1, 2], &Registry::new());
    let in_flight = at(&group, 1).endpoint.begin();
    group.adopt(0, members(&[2])).unwrap();
    let leaving = at(&group, 1);
    assert!(leaving.endpoint.is_draining() && is_leaving(&leaving) && !leaving.usable());
    assert_eq!(shares(&group, 4), BTreeMap::from([(2, 4)]));
    assert!(group.tend(Instant::now()), "there is more to be done");
    assert_eq!(ports(&group), [1, 2]);
    drop(in_flight);
    assert!(!group.tend(Instant::now()));
    assert_eq!(ports(&group), [2]);
    assert_eq!(shares(&group, 4), BTreeMap::from([(2, 4)]));
}

#[test]
fn a_place_that_is_free_is_given_to_one_who_comes() {
    let group = group(&[1, 2, 3], &Registry::new());
    group.adopt(0, members(&[1, 3])).unwrap();
    group.tend(Instant::now());
    group.adopt(0, members(&[1, 3, 4, 5])).unwrap();
    let places: Vec<_> = [1, 3, 4, 5].iter().map(|port| at(&group, *port).place).collect();
    assert_eq!(places, [0, 2, 1, 3]);
    assert_eq!(shares(&group, 40).into_values().collect::<Vec<_>>(), [10; 4]);
}

#[test]
fn sessions_keep_a_removed_server_until_the_deadline() {
    let from = plan::LearnFrom::Cookie("sid".into());
    let sticky = plan::Sticky::Learn(plan::Learn { from, ttl: Duration::from_secs(60), entries: 10 });
    let group = group_of(Upstream { sticky: Some(sticky), ..plan_of(&[1, 1], None) }, &Registry::new());
    group.adopt(0, members(&[2])).unwrap();
    let now = Instant::now();
    assert!(group.tend(now) && group.tend(now + Duration::from_secs(299)));
    assert!(group.kept(address(1)).is_some(), "its sessions go on");
    assert_eq!(shares(&group, 4), BTreeMap::from([(2, 4)]));
    assert!(!group.tend(now + Duration::from_secs(301)));
    assert_eq!(ports(&group), [2]);
    assert!(group.kept(address(1)).is_none());
}

#[test]
fn a_server_that_returns_while_it_leaves_is_the_same() {
    let group = group(&[1, 2], &Registry::new());
    let before = at(&group, 1);
    let in_flight = before.endpoint.begin();
    group.adopt(0, members(&[2])).unwrap();
    group.adopt(0, members(&[1, 2])).unwrap();
    assert!(Arc::ptr_eq(&before, &at(&group, 1)));
    assert!(!before.endpoint.is_draining());
    assert_eq!(before.endpoint.in_flight(), 1);
    assert_eq!(shares(&group, 4), BTreeMap::from([(1, 2), (2, 2)]));
    drop(in_flight);
    assert!(!group.tend(Instant::now()));
    assert_eq!(ports(&group), [1, 2]);
}

#[test]
fn a_server_that_returns_to_drain_does_not_leave() {
    let group = group(&[1, 2], &Registry::new());
    let in_flight = at(&group, 1).endpoint.begin();
    group.adopt(0, members(&[2])).unwrap();
    group.adopt(0, vec![draining(1), member(2)]).unwrap();
    drop(in_flight);
    assert!(!group.tend(Instant::now()));
    assert_eq!(ports(&group), [1, 2]);
    assert_eq!(at(&group, 1).endpoint.drain().unwrap().why, DrainReason::Configured);
    assert_eq!(shares(&group, 4), BTreeMap::from([(2, 4)]));
}

#[test]
fn a_server_that_was_gone_comes_back_as_if_new() {
    let registry = Registry::new();
    let group = group(&[1, 2], &registry);
    // something still holds it, so that it is found again
    let held = at(&group, 1).endpoint.clone();
    group.adopt(0, members(&[2])).unwrap();
    group.tend(Instant::now());
    assert_eq!(ports(&group), [2]);
    group.adopt(0, members(&[1, 2])).unwrap();
    assert!(Arc::ptr_eq(&held, &at(&group, 1).endpoint));
    assert_eq!(shares(&group, 4), BTreeMap::from([(1, 2), (2, 2)]));
}

#[test]
fn servers_that_are_gone_are_forgotten() {
    let registry = Registry::new();
    let group = group(&[1, 2], &registry);
    let gone = Arc::downgrade(&at(&group, 1).endpoint);
    group.adopt(0, members(&[2, 3])).unwrap();
    group.tend(Instant::now());
    assert!(gone.upgrade().is_none(), "addresses that are never seen again would add up");
    assert!(Arc::ptr_eq(&registry.endpoint("test", address(2), Default::default()), &at(&group, 2).endpoint));
}

#[test]
fn what_is_said_by_hand_holds_until_the_source_says_otherwise() {
    let group = group(&[1, 2], &Registry::new());
    group.adopt(0, vec![weighing(1, 3), draining(2)]).unwrap();
    assert!(group.set_weight(address(1), NonZeroU16::new(5).unwrap()).unwrap());
    assert!(group.drain(address(2), false));
    // another server comes, and nothing new is said of these
    group.adopt(0, vec![weighing(1, 3), draining(2), member(3)]).unwrap();
    assert_eq!(shares(&group, 70), BTreeMap::from([(1, 50), (2, 10), (3, 10)]));
    group.adopt(0, vec![weighing(1, 4), member(2), member(3)]).unwrap();
    assert_eq!(at(&group, 1).weight(), 4);
    group.adopt(0, vec![weighing(1, 4), draining(2), member(3)]).unwrap();
    assert!(at(&group, 2).endpoint.is_draining());
    assert!(group.drain(address(3), true));
    group.adopt(0, vec![weighing(1, 2), draining(2), member(3)]).unwrap();
    assert_eq!(at(&group, 3).endpoint.drain().unwrap().why, DrainReason::Asked);
    assert!(!group.drain(address(9), true) && !group.set_weight(address(9), NonZeroU16::MIN).unwrap());
}

/// A registry of a process that takes over from one with this registry and group.
fn successor(registry: &Registry, group: &Arc<Group>) -> Registry {
    let told = serde_json::to_string(&states(registry, std::slice::from_ref(group))).unwrap();
    let new = Registry::new();
    new.resume(serde_json::from_str(&told).unwrap());
    new
}

fn why(group: &Group, port: u16) -> Option<DrainReason> {
    at(group, port).endpoint.drain().map(|drain| drain.why)
}

#[test]
fn what_is_said_by_hand_goes_to_a_process_that_takes_over() {
    let old = Registry::new();
    let of = |servers: Vec<Member>, registry: &Registry| {
        group_of(Upstream { servers, ..plan_of(&[], None) }, registry)
    };
    let servers = vec![weighing(1, 3), draining(2), member(3), draining(4), member(5)];
    let group = of(servers.clone(), &old);
    assert!(group.set_weight(address(1), NonZeroU16::new(5).unwrap()).unwrap());
    assert!(group.drain(address(2), false) && group.drain(address(3), true));
    let since = at(&group, 3).endpoint.drain().unwrap().since;

    let same = of(servers, &successor(&old, &group));
    assert_eq!(at(&same, 1).weight(), 5);
    let whys = [2, 3, 4, 5].map(|port| why(&same, port));
    assert_eq!(whys, [None, Some(DrainReason::Asked), Some(DrainReason::Configured), None]);
    assert_eq!(at(&same, 3).endpoint.drain().unwrap().since, since);
    assert_eq!(shares(&same, 70), BTreeMap::from([(1, 50), (2, 10), (5, 10)]));
    assert!(same.drain(address(3), false));
    assert!(shares(&same, 80).contains_key(&3));

    // what is written says something else of them now, but of the one that was drained by hand
    let others = vec![weighing(1, 2), member(2), member(3), member(4), draining(5)];
    let second = successor(&old, &group);
    let other = of(others, &second);
    assert_eq!(at(&other, 1).weight(), 2);
    let whys = [2, 3, 4, 5].map(|port| why(&other, port));
    assert_eq!(whys, [None, Some(DrainReason::Asked), None, Some(DrainReason::Configured)]);
    // and it goes on to the next one
    let third = of(vec![member(2), member(3)], &successor(&second, &other));
    assert_eq!(why(&third, 3), Some(DrainReason::Asked));
}

#[test]
fn what_was_handed_over_waits_for_sources_that_do_not_answer_yet() {
    let old = Registry::new();
    let before = group(&[1, 2], &old);
    assert!(before.drain(address(2), true));
    let new = successor(&old, &before);
    let found = plan::Discovery::File(plan::FileDiscovery {
        name: "servers".into(),
        path: "servers".into(),
        interval: Duration::from_secs(1),
    });
    let group = group_of(Upstream { discover: vec![found], ..plan_of(&[], None) }, &new);
    assert!(!group.is_complete());
    new.forget_handed_over(&[group.name()]);
    group.adopt(1, members(&[1, 2])).unwrap();
    assert!(group.is_complete());
    assert_eq!(why(&group, 2), Some(DrainReason::Asked));
    assert!(new.standing(group.name(), address(2)).is_none());
}

#[test]
fn shares_follow_a_weight_that_changes() {
    let group = group(&[1, 2, 3], &Registry::new());
    for weight in [2, 7, 1, 4] {
        // in the middle of a cycle
        choose(&group);
        let in_flight = at(&group, 2).endpoint.begin();
        group.set_weight(address(2), NonZeroU16::new(weight).unwrap()).unwrap();
        assert_eq!(at(&group, 2).endpoint.in_flight(), 1);
        drop(in_flight);
        let weight = usize::from(weight);
        let expected = BTreeMap::from([(1, 10), (2, 10 * weight), (3, 10)]);
        assert_eq!(shares(&group, 10 * (weight + 2)), expected);
    }
}

#[test]
fn who_is_named_by_two_sources_stays_until_both_have_let_go() {
    let group = group(&[1], &Registry::new());
    group.adopt(1, vec![weighing(1, 9), member(2)]).unwrap();
    assert_eq!(at(&group, 1).weight(), 1, "the first that names it decides");
    group.adopt(0, vec![]).unwrap();
    assert!(!at(&group, 1).endpoint.is_draining());
    assert_eq!(at(&group, 1).weight(), 9);
    group.adopt(1, members(&[2])).unwrap();
    assert!(is_leaving(&at(&group, 1)));
}

#[test]
fn another_tier_is_the_same_server_elsewhere() {
    let group = group(&[1, 2], &Registry::new());
    let before = at(&group, 1);
    group.adopt(0, vec![Member { priority: 1, ..member(1) }, member(2)]).unwrap();
    let after = at(&group, 1);
    assert!(Arc::ptr_eq(&before.endpoint, &after.endpoint));
    assert_eq!((after.place, after.tier), (before.place, 1));
    assert_eq!(shares(&group, 4), BTreeMap::from([(2, 4)]));
    group.adopt(0, vec![Member { priority: 1, ..member(1) }]).unwrap();
    assert_eq!(shares(&group, 4), BTreeMap::from([(1, 4)]));
}

#[test]
fn health_and_draining_do_not_get_into_each_others_way() {
    let check = file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() };
    let group = group_of(plan_of(&[1, 1], Some(check)), &Registry::new());
    let once = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
    let health = |result| {
        at(&group, 1).endpoint.observe(result, once, SystemTime::now());
        group.refresh();
    };
    group.drain(address(1), true);
    assert!(group.kept(address(1)).is_some());
    health(Err("test"));
    assert!(group.kept(address(1)).is_none(), "nobody stays with a server that is down");
    health(Ok(()));
    assert!(!at(&group, 1).usable(), "it is up, and still draining");
    health(Err("test"));
    group.drain(address(1), false);
    assert!(!at(&group, 1).usable(), "it is no longer draining, and still down");
    assert_eq!(shares(&group, 4), BTreeMap::from([(2, 4)]));
    health(Ok(()));
    assert_eq!(shares(&group, 4), BTreeMap::from([(1, 2), (2, 2)]));
}

#[test]
fn who_comes_late_warms_up_and_who_is_there_from_the_beginning_does_not() {
    let discovery = plan::Discovery::File(plan::FileDiscovery {
        name: "servers.yaml".into(),
        path: "servers.yaml".into(),
        interval: Duration::from_secs(5),
    });
    let slow_start = Duration::from_secs(10);
    let plan = Upstream { slow_start: Some(slow_start), discover: vec![discovery], ..plan_of(&[1], None) };
    let group = group_of(plan, &Registry::new());
    let warmth = |port| at(&group, port).endpoint.warmth();
    // what the sources say before requests are served
    group.adopt(1, members(&[2, 3])).unwrap();
    assert_eq!([warmth(1), warmth(2), warmth(3)], [FULL_WARMTH; 3]);
    group.begin();
    group.adopt(1, members(&[2, 4])).unwrap();
    assert_eq!([warmth(1), warmth(2), warmth(4)], [FULL_WARMTH, FULL_WARMTH, 1]);
    let now = Instant::now();
    assert!(group.tend(now + slow_start / 2));
    assert!((127..=129).contains(&warmth(4)), "{}", warmth(4));
    assert!(!group.tend(now + slow_start));
    assert_eq!(warmth(4), FULL_WARMTH);
    // back from draining it is new to its work, too
    group.drain(address(2), true);
    group.drain(address(2), false);
    assert_eq!(warmth(2), 1);
}

#[test]
fn somebody_is_found_while_everybody_is_replaced() {
    let registry = Registry::new();
    let group = group(&[1], &registry);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert!(group.select(&Tried::default(), None).is_some());
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                group.tend(Instant::now());
            }
        });
        for round in 0..2_000u16 {
            let port = 1 + round % 5;
            group.adopt(0, members(if round % 2 == 0 { &[9] } else { std::slice::from_ref(&port) })).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    group.tend(Instant::now());
    assert_eq!(group.servers().len(), 1);
}
