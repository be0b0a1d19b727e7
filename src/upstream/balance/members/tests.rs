//! What holds for all algorithms that choose by key, and which of them moves how many keys.

use super::*;
use crate::config::file::{HealthCheck, TcpCheck};
use crate::units::Multiple;
use crate::upstream::balance::algorithm::Algorithm;
use crate::upstream::balance::consistent_hash::{ConsistentHash, Settings};
use crate::upstream::balance::hash::Hash;
use crate::upstream::balance::maglev::Maglev;
use crate::upstream::group::tests::plan;
use crate::upstream::health::Thresholds;
use crate::upstream::{Group, Registry};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::SystemTime;

/// A lane of the servers with these numbers and weights.
fn lane(servers: &[(u32, u16)]) -> Lane {
    let weights: Vec<u16> = servers.iter().map(|(_, weight)| *weight).collect();
    let check = HealthCheck { tcp: Some(TcpCheck {}), ..Default::default() };
    let mut plan = plan(&weights, Some(check));
    for (member, (number, _)) in plan.servers.iter_mut().zip(servers) {
        let [_, a, b, c] = number.to_be_bytes();
        member.address = SocketAddr::from(([10, a, b, c], 3000));
    }
    Lane::new(Group::build(Arc::new(plan), &Registry::new()).unwrap().servers().to_vec())
}

fn equal(servers: u32) -> Vec<(u32, u16)> {
    (0..servers).map(|number| (number, 1)).collect()
}

fn set_up(lane: &Lane, index: usize, up: bool) {
    let limits = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
    let result = if up { Ok(()) } else { Err("for the test") };
    lane.servers()[index].endpoint.observe(result, limits, SystemTime::now());
}

/// The server that a request with this hash is sent to, as the room's own loop finds it; and how
/// many candidates that took.
fn choose<A: Algorithm>(algorithm: &A, lane: &Lane, hash: u64) -> (Option<usize>, usize) {
    let mut ask = Ask::new(hash);
    loop {
        let Some(index) = algorithm.candidate(lane, &mut ask) else { return (None, ask.nth) };
        ask.nth += 1;
        if lane.is_usable(index) {
            return (Some(index), ask.nth);
        }
    }
}

/// The addresses to which many keys go, the same keys every time.
fn mapping<A: Algorithm>(algorithm: &A, lane: &Lane, keys: u64) -> Vec<SocketAddr> {
    let server = |key: u64| choose(algorithm, lane, key_hash::of(&key.to_le_bytes())).0.unwrap();
    (0..keys).map(|key| lane.servers()[server(key)].endpoint.address()).collect()
}

/// The part of keys that were not with `gone` and have moved all the same.
fn moved_besides(before: &[SocketAddr], after: &[SocketAddr], gone: SocketAddr) -> f64 {
    let moved = before.iter().zip(after).filter(|(before, after)| **before != gone && before != after);
    moved.count() as f64 / before.len() as f64
}

/// Runs a check of each algorithm.
macro_rules! each_algorithm {
    ($check:ident) => {
        $check::<Hash>("hash");
        $check::<ConsistentHash>("consistent_hash");
        $check::<Maglev>("maglev");
    };
}

fn build<A: Algorithm>(lane: &Lane) -> A {
    A::build(lane, &A::Settings::default(), None)
}

#[test]
fn a_key_goes_to_the_same_server_whatever_the_order_of_the_file() {
    fn check<A: Algorithm>(name: &str) {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for count in [1, 2, 3, 10, 100, 700] {
            let mut servers: Vec<_> = (0..count).map(|number| (number, random.u16(1..=20))).collect();
            let one = lane(&servers);
            random.shuffle(&mut servers);
            let other = lane(&servers);
            let (a, b) =
                (mapping(&build::<A>(&one), &one, 2_000), mapping(&build::<A>(&other), &other, 2_000));
            assert!(a == b, "{name} with {count} servers, seed {seed}");
        }
    }
    each_algorithm!(check);
}

#[test]
fn shares_follow_the_weights() {
    fn check<A: Algorithm>(name: &str) {
        // three standard deviations of the ring's points are 3 / sqrt(160 * weight)
        for weights in [&[1, 1, 1][..], &[5, 1, 1], &[10, 20, 30, 40], &[60_000, 30_000, 30_000]] {
            let lane = lane(&(0..).zip(weights.iter().copied()).collect::<Vec<_>>());
            let mapping = mapping(&build::<A>(&lane), &lane, 100_000);
            let sum: f64 = weights.iter().copied().map(f64::from).sum();
            for server in lane.servers() {
                let got = mapping.iter().filter(|address| **address == server.endpoint.address()).count();
                let share = f64::from(server.weight()) / sum;
                let off = got as f64 / 100_000.0 / share - 1.0;
                let bound = if name == "consistent_hash" { 0.25 } else { 0.04 };
                assert!(off.abs() < bound, "{name} {weights:?}: {off:+.3} of the share");
            }
        }
    }
    each_algorithm!(check);
}

#[test]
fn a_server_that_fails_moves_its_own_keys_only_and_spreads_them() {
    fn check<A: Algorithm>(name: &str) {
        let lane = lane(&equal(10));
        let all = build::<A>(&lane);
        let before = mapping(&all, &lane, 20_000);
        let gone = lane.servers()[4].endpoint.address();
        set_up(&lane, 4, false);
        let rebuilt = A::build(&lane, &A::Settings::default(), Some(&all));
        for algorithm in [&all, &rebuilt] {
            let after = mapping(algorithm, &lane, 20_000);
            let moved = moved_besides(&before, &after, gone);
            assert!(moved == 0.0, "{name}: {moved} of the others' keys moved");
            for server in lane.servers() {
                let address = server.endpoint.address();
                let got = after.iter().zip(&before).filter(|(a, b)| **b == gone && **a == address).count();
                assert_eq!(got > 0, address != gone, "{name}: {got} keys of the failed server to {address}");
            }
        }
        set_up(&lane, 4, true);
        let back = A::build(&lane, &A::Settings::default(), Some(&rebuilt));
        assert!(mapping(&back, &lane, 20_000) == before, "{name}: the server has its keys back");
    }
    each_algorithm!(check);
}

#[test]
fn with_few_of_many_servers_usable_a_request_finds_one_soon_and_all_get_some() {
    fn check<A: Algorithm>(name: &str) {
        let lane = lane(&equal(2_000));
        for index in 0..2_000 {
            set_up(&lane, index, index % 500 == 0);
        }
        let algorithm = build::<A>(&lane);
        let mut got = std::collections::HashMap::new();
        for key in 0..4_000u64 {
            let (server, candidates) = choose(&algorithm, &lane, key_hash::of(&key.to_le_bytes()));
            assert!(candidates <= OWN_WAY + 1, "{name}: {candidates} candidates");
            *got.entry(server.unwrap()).or_insert(0) += 1;
        }
        assert!(got.len() == 4 && got.values().all(|got| (800..1_200).contains(got)), "{name}: {got:?}");
    }
    each_algorithm!(check);
}

#[test]
fn retries_find_other_servers_and_end() {
    fn check<A: Algorithm>(name: &str) {
        let lane = lane(&equal(3));
        let algorithm = build::<A>(&lane);
        let mut alone = 0;
        for key in 0..1_000u64 {
            let mut ask = Ask::new(key_hash::of(&key.to_le_bytes()));
            let mut offered = std::collections::HashSet::new();
            while let Some(index) = algorithm.candidate(&lane, &mut ask) {
                offered.insert(index);
                ask.nth += 1;
                assert!(ask.nth <= OWN_WAY + SPARE, "{name} goes on for ever");
            }
            alone += usize::from(offered.len() < 3);
        }
        // the caller goes through the rest: but hardly ever needs to
        assert!(alone < 20, "{name}: {alone} of 1000 requests were not offered all servers");
    }
    each_algorithm!(check);
}

#[test]
fn without_servers_there_is_no_candidate() {
    fn check<A: Algorithm>(name: &str) {
        let nobody = lane(&[]);
        assert_eq!(choose(&build::<A>(&nobody), &nobody, 7), (None, 0), "{name}");
        let one = lane(&[(1, 65_535)]);
        assert_eq!(choose(&build::<A>(&one), &one, u64::MAX), (Some(0), 1), "{name}");
        set_up(&one, 0, false);
        assert_eq!(choose(&build::<A>(&one), &one, 7).0, None, "{name}");
    }
    each_algorithm!(check);
}

/// The part of all keys that were with others and have moved when one leaves, and its share.
fn moved_when_one_leaves<A: Algorithm>(servers: &[(u32, u16)], leaving: usize) -> (f64, f64) {
    let before = lane(servers);
    let mut fewer = servers.to_vec();
    fewer.remove(leaving);
    let after = lane(&fewer);
    let (a, b) =
        (mapping(&build::<A>(&before), &before, 20_000), mapping(&build::<A>(&after), &after, 20_000));
    let gone = before.servers()[leaving].endpoint.address();
    let all: f64 = servers.iter().map(|(_, weight)| f64::from(*weight)).sum();
    (moved_besides(&a, &b, gone), f64::from(servers[leaving].1) / all)
}

/// In groups of 2 to 100 servers, with equal and with random weights, one at random leaves. Of the
/// keys of the others at most `bound` of all keys move, as the weights of all and the share of the
/// one allow.
fn few_keys_move<A: Algorithm>(name: &str, bound: impl Fn(u32, f64) -> f64) {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for count in [2, 3, 5, 10, 33, 100] {
        for heaviest in [1, 10, 100, 60_000] {
            let servers: Vec<_> = (0..count).map(|number| (number, random.u16(1..=heaviest))).collect();
            let leaving = random.usize(0..servers.len());
            let (moved, share) = moved_when_one_leaves::<A>(&servers, leaving);
            let bound = bound(servers.iter().map(|(_, weight)| u32::from(*weight)).sum(), share);
            assert!(
                moved <= bound,
                "{name}, seed {seed}: of {count} servers up to {heaviest} one with {share:.4} left, {moved:.4} moved besides"
            );
        }
    }
}

#[test]
fn few_keys_move_when_one_leaves() {
    // on a ring none, while its points need not be rationed; then at most the share, as counted
    few_keys_move::<ConsistentHash>(
        "consistent_hash",
        |weights, share| {
            if weights <= 3_276 { 0.0 } else { share + 0.003 }
        },
    );
    few_keys_move::<Maglev>("maglev", |_, _| 0.02);
}

#[test]
fn tables_are_kept_while_servers_and_weights_are() {
    let servers = equal(20);
    let one = lane(&servers);
    let ring = build::<ConsistentHash>(&one);
    set_up(&one, 3, false);
    let again = ConsistentHash::build(&one, &Settings { max_load: Some(Multiple::of(125)) }, Some(&ring));
    assert!(ring.has_table_of(&again));
    let heavier: Vec<_> =
        servers.iter().map(|(number, weight)| (*number, weight + u16::from(*number == 7))).collect();
    for other in [lane(&heavier), lane(&servers[1..])] {
        assert!(!ring.has_table_of(&ConsistentHash::build(&other, &Settings::default(), Some(&ring))));
        let maglev = build::<Maglev>(&one);
        assert!(maglev.has_table_of(&Maglev::build(&one, &(), Some(&maglev))));
        assert!(!maglev.has_table_of(&Maglev::build(&other, &(), Some(&maglev))));
        let hash = build::<Hash>(&one);
        assert!(hash.has_table_of(&Hash::build(&one, &(), Some(&hash))));
        assert!(!hash.has_table_of(&Hash::build(&other, &(), Some(&hash))));
    }
}

#[test]
fn a_hot_key_fills_no_server_above_the_bound() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for (percent, count) in [(101, 5), (125, 3), (125, 50), (150, 10), (1000, 20)] {
        let servers: Vec<_> = (0..count).map(|number| (number, random.u16(1..=5))).collect();
        let lane = lane(&servers);
        let settings = Settings { max_load: Some(Multiple::of(percent)) };
        let algorithm = ConsistentHash::build(&lane, &settings, None);
        let weights: u64 = servers.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut in_flight = Vec::new();
        for step in 0..3_000 {
            // nine of ten requests have one key; now and then requests end
            let key = if random.u8(0..10) == 0 { random.u64(..) } else { 42 };
            let (index, _) = choose(&algorithm, &lane, key_hash::of(&key.to_le_bytes()));
            let server = &lane.servers()[index.unwrap()];
            in_flight.push(server.endpoint.begin());
            let share = in_flight.len() as u64 * u64::from(percent) * u64::from(server.weight());
            let bound = share.div_ceil(weights * 100);
            let got = server.endpoint.in_flight() as u64;
            assert!(got <= bound, "seed {seed}, step {step}, {percent}%: {got} in flight, bound {bound}");
            while in_flight.len() > 400 || (!in_flight.is_empty() && random.u8(0..4) == 0) {
                in_flight.swap_remove(random.usize(0..in_flight.len()));
            }
        }
    }
}

#[test]
fn within_the_bound_keys_stay_where_they_belong() {
    let lane = lane(&equal(10));
    let unbounded = build::<ConsistentHash>(&lane);
    let settings = Settings { max_load: Some(Multiple::of(125)) };
    let bounded = ConsistentHash::build(&lane, &settings, None);
    // with nothing in flight every server may have one
    assert!(mapping(&unbounded, &lane, 5_000) == mapping(&bounded, &lane, 5_000));
}

#[test]
fn the_bound_is_that_of_the_usable_servers() {
    let lane = lane(&equal(4));
    set_up(&lane, 0, false);
    set_up(&lane, 1, false);
    let settings = Settings { max_load: Some(Multiple::of(150)) };
    let algorithm = ConsistentHash::build(&lane, &settings, None);
    let in_flight: Vec<_> =
        (0..100).map(|_| lane.servers()[choose(&algorithm, &lane, 42).0.unwrap()].endpoint.begin()).collect();
    let most = lane.servers().iter().map(|server| server.endpoint.in_flight()).max();
    assert_eq!((most, in_flight.len()), (Some(75), 100));
}
