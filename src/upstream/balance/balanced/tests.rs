use super::*;
use crate::config::file;
use crate::config::file::Balance;
use crate::config::plan::{Member, Upstream};
use crate::units::Percent;
use crate::upstream::balance::round_robin::RoundRobin;
use crate::upstream::group::tests::plan;
use crate::upstream::health::Thresholds;
use crate::upstream::{Endpoint, Group, Registry, Tried};
use std::num::NonZeroU16;
use std::time::{Duration, Instant, SystemTime};

const ONCE: Thresholds = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
const SLOW_START: Duration = Duration::from_secs(60);

/// Algorithms of both kinds: those that see to servers that are warming up, and those that do not.
fn some() -> [Balance; 4] {
    [Balance::RoundRobin, Balance::Random, Balance::LeastConnections, by_key()]
}

fn by_key() -> Balance {
    Balance::ConsistentHash(file::ConsistentHash { key: file::Key::Client, fallback: None, max_load: None })
}

/// Servers in these tiers and zones, with weight 1, seen from zone `here`.
fn tiers(balance: &Balance, of: &[(u16, &str)], spill_over: file::SpillOver) -> Arc<Group> {
    let check = file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() };
    let plan = plan(&vec![1; of.len()], Some(check));
    let place = |(member, (priority, zone)): (Member, &(u16, &str))| Member {
        priority: *priority,
        zone: Some(Arc::from(*zone)),
        ..member
    };
    let servers = plan.servers.iter().cloned().zip(of).map(place).collect();
    let (zone, slow_start) = (Some(Arc::from("here")), Some(SLOW_START));
    let plan = Upstream { balance: balance.clone(), servers, spill_over, zone, slow_start, ..plan };
    Group::build(Arc::new(plan), &Registry::new()).unwrap()
}

fn spill_over(tier: u8, zone: u8) -> file::SpillOver {
    file::SpillOver { tier: Percent::of(tier), zone: Percent::of(zone) }
}

fn endpoint(group: &Group, place: usize) -> Arc<Endpoint> {
    group.servers()[place].endpoint.clone()
}

fn set_up(group: &Group, places: &[usize], up: bool) {
    for place in places {
        let result = if up { Ok(()) } else { Err("test") };
        endpoint(group, *place).observe(result, ONCE, SystemTime::now());
    }
    group.refresh();
}

fn place(group: &Group, chosen: &Arc<Endpoint>) -> usize {
    group.servers().iter().position(|server| Arc::ptr_eq(&server.endpoint, chosen)).unwrap()
}

/// How many of so many requests each server gets.
fn shares(group: &Group, requests: usize) -> Vec<usize> {
    let mut shares = vec![0; group.servers().len()];
    for _ in 0..requests {
        shares[place(group, &group.select(&Tried::default(), None).expect("a server"))] += 1;
    }
    shares
}

/// Within five standard deviations of a binomial: one run in a million fails.
fn about(count: usize, requests: usize, share: f64) -> bool {
    let (expected, deviation) = (requests as f64 * share, (requests as f64 * share * (1.0 - share)).sqrt());
    // the parts of a ring differ by some percent
    (count as f64 - expected).abs() <= 5.0 * deviation + 0.05 * expected
}

/// The servers of one request that fails everywhere, in order.
fn all_tries(group: &Group) -> Vec<usize> {
    let mut tried = Tried::default();
    let mut order = Vec::new();
    while let Some(chosen) = group.select(&tried, None) {
        order.push(place(group, &chosen));
        tried.push(&chosen);
    }
    order
}

#[test]
fn a_backup_waits_for_the_whole_tier_to_fail() {
    for balance in some() {
        let group = tiers(&balance, &[(0, ""), (0, ""), (1, ""), (2, "")], spill_over(0, 70));
        assert_eq!(shares(&group, 100)[2..], [0, 0]);
        set_up(&group, &[0], false);
        assert_eq!(shares(&group, 100), [0, 100, 0, 0]);
        set_up(&group, &[1], false);
        assert_eq!(shares(&group, 100), [0, 0, 100, 0]);
        set_up(&group, &[2], false);
        assert_eq!(shares(&group, 100), [0, 0, 0, 100]);
        set_up(&group, &[3], false);
        assert!(group.select(&Tried::default(), None).is_none());
        set_up(&group, &[1, 2], true);
        assert_eq!(shares(&group, 100), [0, 100, 0, 0], "cold as it is");
    }
}

#[test]
fn a_request_that_fails_goes_from_tier_to_tier() {
    for balance in some() {
        // not in the order of the file
        let group = tiers(&balance, &[(2, ""), (0, ""), (1, ""), (0, ""), (1, "")], spill_over(0, 70));
        for _ in 0..20 {
            let tiers: Vec<_> = all_tries(&group).iter().map(|place| group.servers()[*place].tier).collect();
            assert_eq!(tiers, [0, 0, 1, 1, 2], "{balance:?}");
        }
    }
}

#[test]
fn the_local_zone_comes_first_and_then_the_tier_is_gone_through() {
    for balance in some() {
        let zones = [(1, "here"), (0, "there"), (0, "here"), (0, ""), (0, "here")];
        let group = tiers(&balance, &zones, spill_over(0, 70));
        let counts = shares(&group, 100);
        assert_eq!((counts[2] + counts[4], counts[0]), (100, 0), "{balance:?}: {counts:?}");
        let order = all_tries(&group);
        assert!(order[..2].iter().all(|place| [2, 4].contains(place)), "{balance:?}: {order:?}");
        assert!(order.len() == 5 && order[4] == 0, "{balance:?}: {order:?}");
        set_up(&group, &[2, 4], false);
        let counts = shares(&group, 100);
        assert_eq!((counts[1] + counts[3], counts[0]), (100, 0), "{balance:?}: {counts:?}");
    }
}

#[test]
fn a_tier_and_a_zone_that_are_short_share() {
    const REQUESTS: usize = 4_000;
    for balance in some() {
        let group = tiers(&balance, &[(0, ""), (0, ""), (0, ""), (0, ""), (1, "")], spill_over(50, 70));
        set_up(&group, &[0, 1], false);
        assert_eq!(shares(&group, 100)[4], 0, "half is enough");
        set_up(&group, &[2], false);
        assert!(about(shares(&group, REQUESTS)[4], REQUESTS, 0.5), "{balance:?}: a quarter is half of it");

        let group = tiers(&balance, &[(0, "here"), (0, "here"), (0, "there"), (1, "")], spill_over(0, 100));
        set_up(&group, &[0], false);
        let counts = shares(&group, REQUESTS);
        assert!(about(counts[2], REQUESTS, 0.5) && counts[3] == 0, "{balance:?}: {counts:?}");
        // one that drains because it was told to leave is not missing
        let servers = group.servers();
        let stay = servers.iter().skip(1).map(|server| Member {
            address: server.endpoint.address(),
            weight: NonZeroU16::MIN,
            priority: server.tier,
            unix: None,
            host: None,
            zone: server.zone.clone(),
            drain: false,
        });
        let in_flight = endpoint(&group, 0).begin();
        group.adopt(0, stay.collect()).unwrap();
        assert_eq!(shares(&group, 100), [0, 100, 0, 0], "{balance:?}");
        drop(in_flight);
    }
}

/// Half as warm as can be.
fn half_warm(group: &Group, place: usize) {
    let endpoint = endpoint(group, place);
    endpoint.warm(Instant::now() + SLOW_START / 2, SLOW_START);
    assert!((126..=160).contains(&endpoint.warmth()), "{}", endpoint.warmth());
}

#[test]
fn who_warms_up_is_spared_and_the_others_share_what_it_leaves_evenly() {
    const REQUESTS: usize = 6_000;
    for balance in some() {
        let group = tiers(&balance, &[(0, ""), (0, ""), (0, "")], spill_over(0, 70));
        set_up(&group, &[0], false);
        set_up(&group, &[0], true);
        // a 256th
        let cold = shares(&group, REQUESTS);
        assert!(cold[0] < REQUESTS / 50, "{balance:?}: {cold:?}");
        assert!(about(cold[1], REQUESTS, 0.5), "{balance:?}: {cold:?}");
        half_warm(&group, 0);
        let half = shares(&group, REQUESTS);
        assert!((REQUESTS / 9..REQUESTS / 4).contains(&half[0]), "{balance:?}: {half:?}");
        assert!(about(half[1], half[1] + half[2], 0.5), "{balance:?}: {half:?}");
        endpoint(&group, 0).warm(Instant::now() + SLOW_START, SLOW_START);
        let warm = shares(&group, REQUESTS);
        assert!(warm.iter().all(|count| about(*count, REQUESTS, 1.0 / 3.0)), "{balance:?}: {warm:?}");
    }
}

#[test]
fn all_cold_together_share_as_if_they_were_warm() {
    const REQUESTS: usize = 6_000;
    for balance in some() {
        let group = tiers(&balance, &[(0, ""), (0, ""), (0, "")], spill_over(0, 70));
        set_up(&group, &[0, 1, 2], false);
        set_up(&group, &[0, 1, 2], true);
        let cold = shares(&group, REQUESTS);
        assert!(cold.iter().all(|count| about(*count, REQUESTS, 1.0 / 3.0)), "{balance:?}: {cold:?}");
        (0..3).for_each(|place| half_warm(&group, place));
        let half = shares(&group, REQUESTS);
        assert!(half.iter().all(|count| about(*count, REQUESTS, 1.0 / 3.0)), "{balance:?}: {half:?}");
    }
}

#[test]
fn turns_that_are_too_many_to_write_down_are_passed_too() {
    const REQUESTS: usize = 2_000;
    let group = tiers(&Balance::RoundRobin, &[(0, ""), (0, ""), (0, "")], spill_over(0, 70));
    for (place, weight) in [65535, 65534, 65533].into_iter().enumerate() {
        let address = endpoint(&group, place).address();
        assert!(group.set_weight(address, NonZeroU16::new(weight).unwrap()).unwrap());
    }
    set_up(&group, &[0], false);
    set_up(&group, &[0], true);
    let cold = shares(&group, REQUESTS);
    assert!(cold[0] < REQUESTS / 30, "{cold:?}");
    assert!(about(cold[1], REQUESTS, 0.5), "{cold:?}");
    set_up(&group, &[1, 2], false);
    set_up(&group, &[1, 2], true);
    let cold = shares(&group, REQUESTS);
    assert!(cold.iter().all(|count| about(*count, REQUESTS, 1.0 / 3.0)), "{cold:?}");
}

#[test]
fn a_cold_tier_is_not_passed_over_for_its_backup() {
    for balance in some() {
        let group = tiers(&balance, &[(0, ""), (1, "")], spill_over(0, 70));
        set_up(&group, &[0], false);
        set_up(&group, &[0], true);
        assert_eq!(shares(&group, 500), [500, 0], "{balance:?}");
    }
}

#[test]
fn older_tables_never_take_the_place_of_newer_ones() {
    let group = tiers(&Balance::RoundRobin, &[(0, ""); 20], spill_over(0, 70));
    std::thread::scope(|scope| {
        for first in 0..4 {
            let group = &group;
            scope.spawn(move || (0..200).for_each(|round| set_up(group, &[first], round % 2 == 1)));
        }
    });
    let selection = group.selection().unwrap();
    let balanced = RoundRobin::of(&selection).unwrap();
    assert_eq!(balanced.tables.load().made_at, balanced.changes.seen());
}

/// Where each of these keys goes.
fn keyed(group: &Group, keys: u32) -> Vec<usize> {
    let of = |key: u32| group.select(&Tried::default(), Some(&key.to_be_bytes())).expect("a server");
    (0..keys).map(|key| place(group, &of(key))).collect()
}

#[test]
fn keys_stay_with_their_tier_and_come_back_to_it() {
    const KEYS: u32 = 1_000;
    let group = tiers(&by_key(), &[(0, ""), (0, ""), (1, ""), (1, "")], spill_over(0, 70));
    let before = keyed(&group, KEYS);
    assert!(before.iter().all(|place| *place < 2));
    set_up(&group, &[0, 1], false);
    let meanwhile = keyed(&group, KEYS);
    assert!(meanwhile.iter().all(|place| *place >= 2));
    assert_eq!(meanwhile, keyed(&group, KEYS));
    set_up(&group, &[0, 1], true);
    for place in [0, 1] {
        endpoint(&group, place).warm(Instant::now() + SLOW_START, SLOW_START);
    }
    assert_eq!(before, keyed(&group, KEYS));
}

#[test]
fn keys_come_to_a_server_that_warms_up_one_by_one() {
    const KEYS: u32 = 2_000;
    let group = tiers(&by_key(), &[(0, ""), (0, "")], spill_over(0, 70));
    let warm = keyed(&group, KEYS);
    set_up(&group, &[0], false);
    set_up(&group, &[0], true);
    let cold = keyed(&group, KEYS);
    half_warm(&group, 0);
    let half = keyed(&group, KEYS);
    let with = |places: &[usize]| places.iter().filter(|place| **place == 0).count();
    assert!(with(&cold) < with(&half) / 10 && with(&half) < with(&warm) * 2 / 3, "{}", with(&half));
    // who has come stays
    assert!(cold.iter().zip(&half).zip(&warm).all(|((cold, half), warm)| cold >= half && half >= warm));
}

#[test]
fn a_tier_that_is_short_gives_the_same_keys_away_each_time() {
    const KEYS: u32 = 4_000;
    let group = tiers(&by_key(), &[(0, ""), (0, ""), (1, "")], spill_over(100, 70));
    set_up(&group, &[0], false);
    let half = keyed(&group, KEYS);
    let away = half.iter().filter(|place| **place == 2).count();
    assert!(about(away, KEYS as usize, 0.5), "{away}");
    assert_eq!(half, keyed(&group, KEYS));
}
