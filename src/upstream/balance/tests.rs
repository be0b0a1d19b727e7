//! The algorithms that look at how busy servers are, each alone, asked as `balance` asks it.

mod simulation;

use super::algorithm::{Algorithm, Ask, Lane};
use super::least_connections::LeastConnections;
use super::least_time::LeastTime;
use super::power_of_two::PowerOfTwo;
use super::random::Random;
use crate::config::file::{self, Balance};
use crate::units::Time;
use crate::upstream::group::tests::plan;
use crate::upstream::{Group, InFlight, Registry, latency};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Servers `a`, `b`, ... of these weights.
fn lane(weights: &[u16]) -> Lane {
    let group = Group::build(Arc::new(plan(weights, None)), &Registry::new()).unwrap();
    Lane::new(group.servers().to_vec())
}

fn build<A: Algorithm>(lane: &Lane) -> A {
    A::build(lane, &A::Settings::default(), None)
}

/// The first server that may be had.
fn choose<A: Algorithm>(algorithm: &A, lane: &Lane) -> usize {
    let mut ask = Ask::new(fastrand::u64(..));
    while ask.nth < 1000 {
        match algorithm.candidate(lane, &mut ask) {
            Some(index) if lane.is_usable(index) => return index,
            Some(_) => ask.nth += 1,
            None => break,
        }
    }
    panic!("nobody after {} candidates", ask.nth);
}

/// The servers of so many requests, each over before the next comes.
fn in_turn<A: Algorithm>(lane: &Lane, requests: usize) -> String {
    let algorithm = build::<A>(lane);
    (0..requests).map(|_| char::from(b'a' + u8::try_from(choose(&algorithm, lane)).unwrap())).collect()
}

/// How many requests each server has when so many have come and none has gone.
fn piled_up<A: Algorithm>(lane: &Lane, requests: usize) -> Vec<usize> {
    let algorithm = build::<A>(lane);
    let open: Vec<_> = (0..requests).map(|_| begin(lane, choose(&algorithm, lane))).collect();
    let counts = lane.servers().iter().map(|server| server.endpoint.in_flight()).collect();
    drop(open);
    assert!(lane.servers().iter().all(|server| server.endpoint.in_flight() == 0));
    counts
}

fn begin(lane: &Lane, index: usize) -> InFlight {
    lane.servers()[index].endpoint.begin()
}

/// Each count is within five standard deviations of its share by weight: one run in a million fails.
fn assert_shares(counts: &[usize], weights: &[u16]) {
    let (total, sum) = (counts.iter().sum::<usize>() as f64, weights.iter().sum::<u16>());
    for (count, weight) in counts.iter().zip(weights) {
        let share = f64::from(*weight) / f64::from(sum);
        let (expected, deviation) = (total * share, (total * share * (1.0 - share)).sqrt());
        let off = (*count as f64 - expected).abs();
        assert!(off <= 5.0 * deviation, "{counts:?} of weights {weights:?}: {count}, not {expected:.0}");
    }
}

fn count<A: Algorithm>(lane: &Lane, requests: usize) -> Vec<usize> {
    let algorithm = build::<A>(lane);
    let mut counts = vec![0; lane.servers().len()];
    (0..requests).for_each(|_| counts[choose(&algorithm, lane)] += 1);
    counts
}

#[test]
fn chance_keeps_to_the_weights() {
    for weights in [&[1, 1, 1][..], &[5, 1, 1], &[100, 1], &[1, 2, 3, 4, 5, 6, 7, 8]] {
        assert_shares(&count::<Random>(&lane(weights), 20_000), weights);
        assert_shares(&count::<PowerOfTwo>(&lane(weights), 20_000), weights);
    }
}

#[test]
fn a_group_with_nothing_to_do_is_shared_as_in_turn() {
    assert_eq!(in_turn::<LeastConnections>(&lane(&[5, 1, 1]), 14), "aabacaaaabacaa");
    assert_eq!(in_turn::<LeastConnections>(&lane(&[1, 1, 1]), 6), "abcabc");
    // nobody has answered yet, so nobody is known to be slow
    assert_eq!(in_turn::<LeastTime>(&lane(&[5, 1, 1]), 14), "aabacaaaabacaa");
    // a cycle of such weights would be too long; the shares are the same
    let weights = [65535, 32767, 1];
    assert_shares(&count::<LeastConnections>(&lane(&weights), 20_000), &[65535 / 2, 32767 / 2, 1]);
}

#[test]
fn turns_go_on_when_servers_change() {
    let lane = lane(&[1, 1, 1]);
    let first = build::<LeastConnections>(&lane);
    assert_eq!(choose(&first, &lane), 0);
    let second = LeastConnections::build(&lane, &(), Some(&first));
    assert_eq!((choose(&second, &lane), choose(&second, &lane)), (1, 2));
}

#[test]
fn requests_pile_up_by_weight() {
    assert_eq!(piled_up::<LeastConnections>(&lane(&[5, 1, 1]), 70), [50, 10, 10]);
    assert_eq!(piled_up::<LeastConnections>(&lane(&[1; 32]), 96), [3; 32]);
    assert_eq!(piled_up::<LeastTime>(&lane(&[2, 1, 1]), 40), [20, 10, 10]);
}

#[test]
fn a_server_that_warms_up_is_spared_and_then_is_not() {
    fn spares<A: Algorithm>() {
        let lane = lane(&[1, 1, 1]);
        let slow_start = Duration::from_secs(60);
        let endpoint = &lane.servers()[0].endpoint;
        endpoint.set_slow_start(true);
        endpoint.start_warming();
        let name = std::any::type_name::<A>();
        // a third of a 256th would be four
        let one_by_one = count::<A>(&lane, 3_000);
        assert!(one_by_one[0] < 40, "{name}: {one_by_one:?}");
        let at_once = piled_up::<A>(&lane, 300);
        assert!(at_once[0] < 10, "{name}: {at_once:?}");
        // half warm it weighs half as much
        endpoint.warm(Instant::now() + slow_start / 2, slow_start);
        let at_once = piled_up::<A>(&lane, 300);
        assert!((50..70).contains(&at_once[0]), "{name}: {at_once:?}");
        endpoint.warm(Instant::now() + slow_start, slow_start);
        assert_shares(&count::<A>(&lane, 3_000), &[1, 1, 1]);
    }
    spares::<LeastConnections>();
    spares::<PowerOfTwo>();
    spares::<LeastTime>();
}

#[test]
fn who_is_busy_is_passed_over_and_the_others_share_evenly() {
    let lane = lane(&[1, 1, 1]);
    let busy: Vec<_> = (0..3).map(|_| begin(&lane, 0)).collect();
    assert_eq!(in_turn::<LeastConnections>(&lane, 8), "bcbcbcbc");
    drop(busy);
    assert_eq!(in_turn::<LeastConnections>(&lane, 6), "abcabc");
}

#[test]
fn two_choices_are_far_better_than_one() {
    let (servers, requests) = (100, 10_000);
    let most = |counts: Vec<usize>| counts.into_iter().max().unwrap();
    // one in a hundred thousand servers by chance has 145; the better of two is log log n above 100
    assert!(most(piled_up::<PowerOfTwo>(&lane(&vec![1; servers]), requests)) <= 106);
    assert!(most(piled_up::<Random>(&lane(&vec![1; servers]), requests)) > 110);
    let counts = piled_up::<PowerOfTwo>(&lane(&[3, 1]), 400);
    assert!((298..=302).contains(&counts[0]), "{counts:?}");
}

#[test]
fn many_servers_are_compared_by_the_dozen_and_kept_as_even() {
    let counts = piled_up::<LeastConnections>(&lane(&vec![1; 1_000]), 20_000);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least >= 17 && *most <= 22, "from {least} to {most} where the average is 20");
}

#[test]
fn a_retry_is_not_offered_what_it_was_offered() {
    fn offers<A: Algorithm>(weights: &[u16]) -> Vec<usize> {
        let lane = lane(weights);
        let algorithm = build::<A>(&lane);
        let mut ask = Ask::new(7);
        let mut offers = Vec::new();
        while let Some(index) = algorithm.candidate(&lane, &mut ask) {
            offers.push(index);
            ask.offer(index);
            ask.nth += 1;
            assert!(offers.len() <= weights.len(), "{offers:?}");
        }
        offers.sort_unstable();
        offers
    }
    assert_eq!(offers::<LeastConnections>(&[3, 2, 1]), [0, 1, 2]);
    assert_eq!(offers::<LeastTime>(&[3, 2, 1]), [0, 1, 2]);
    assert_eq!(offers::<PowerOfTwo>(&[1]), [0]);
    // where many are drawn from, the caller goes through what was not drawn
    let many = offers::<LeastConnections>(&vec![1; 1_000]);
    assert!(many.len() >= 4 && many.windows(2).all(|pair| pair[0] < pair[1]), "{many:?}");
}

/// Clients that ask again as soon as they are answered, by a clock of their own: which server
/// answered how many requests, where each takes so many milliseconds.
fn closed_loop(
    weights: &[u16],
    millis: impl Fn(usize) -> u64,
    clients: usize,
    requests: usize,
) -> Vec<usize> {
    let lane = lane(weights);
    // nothing decays while this runs, so the clock of the process does not matter
    let settings = file::LeastTime { decay: Time::secs(86_400), ..Default::default() };
    let algorithm = LeastTime::build(&lane, &settings, None);
    let balance = Balance::LeastTime(settings);
    let mut counts = vec![0; weights.len()];
    let mut open: Vec<(u64, usize, InFlight)> = Vec::new();
    let mut now = 0;
    for _ in 0..requests {
        if open.len() == clients {
            let (first, _) = open.iter().enumerate().min_by_key(|(_, (end, ..))| *end).unwrap();
            let (end, index, in_flight) = open.remove(first);
            now = end;
            latency::answered(&balance, in_flight.endpoint(), Duration::from_millis(millis(index)));
        }
        let index = choose(&algorithm, &lane);
        counts[index] += 1;
        open.push((now + millis(index), index, begin(&lane, index)));
    }
    counts
}

#[test]
fn equal_response_times_leave_the_weights() {
    for (weights, clients) in [(&[1, 1, 1][..], 12), (&[2, 1, 1], 16)] {
        let counts = closed_loop(weights, |_| 10, clients, 20_000);
        let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        for (count, weight) in counts.iter().zip(weights) {
            let share = 20_000 * usize::from(*weight) / sum;
            assert!(count.abs_diff(share) <= share / 50, "{counts:?} of weights {weights:?}");
        }
    }
}

#[test]
fn a_server_ten_times_slower_gets_next_to_nothing() {
    let counts = closed_loop(&[1, 1, 1], |index| if index == 0 { 100 } else { 10 }, 8, 20_000);
    assert!(counts[0] < 400, "{counts:?}");
    let (more, less) = (counts[1].max(counts[2]), counts[1].min(counts[2]));
    assert!(more - less < 400, "{counts:?}");
    // so many clients that waiting for a fast server takes longer: a tenth as many wait at the slow
    // one as at each of the others, and for ten times as long
    let counts = closed_loop(&[1, 1, 1], |index| if index == 0 { 100 } else { 10 }, 100, 20_000);
    assert!((50..200).contains(&counts[0]), "{counts:?}");
}

#[test]
fn a_failure_keeps_requests_away_until_it_is_forgotten() {
    let lane = lane(&[1, 1]);
    let settings = file::LeastTime { decay: Time::millis(50), failure_penalty: Time::secs(5) };
    let algorithm = LeastTime::build(&lane, &settings, None);
    let balance = Balance::LeastTime(settings);
    let [a, b] = [0, 1].map(|index| lane.servers()[index].endpoint.clone());
    let failed = Instant::now();
    latency::failed(&balance, &a, Duration::ZERO);
    // refuses at once, which is not to be taken for speed
    latency::answered(&balance, &b, Duration::from_millis(10));
    let next = choose(&algorithm, &lane);
    assert!(next == 1 || failed.elapsed() > Duration::from_millis(100), "the failed server was asked");
    while choose(&algorithm, &lane) != 0 {
        assert!(failed.elapsed() < Duration::from_secs(20), "the server that failed is never tried again");
        latency::answered(&balance, &b, Duration::from_millis(10));
        std::thread::sleep(Duration::from_millis(1));
    }
}
