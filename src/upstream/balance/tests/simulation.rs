//! Every algorithm, as a group asks it, while servers fail and return, are busy and idle, quick and
//! slow: whoever is usable can be had, once, and nobody else.

use crate::config::file::{self, Balance, Key};
use crate::units::Multiple;
use crate::upstream::group::tests::plan;
use crate::upstream::health::Thresholds;
use crate::upstream::{Group, InFlight, Registry, Tried, latency};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const ONCE: Thresholds = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };

fn all() -> Vec<Balance> {
    let key = || file::KeyHash { key: Key::Client, fallback: None };
    let ring = |max_load| file::ConsistentHash { key: Key::Client, fallback: None, max_load };
    vec![
        Balance::RoundRobin,
        Balance::Random,
        Balance::LeastConnections,
        Balance::PowerOfTwo,
        Balance::LeastTime(file::LeastTime::default()),
        Balance::IpHash,
        Balance::Hash(key()),
        Balance::ConsistentHash(ring(None)),
        Balance::ConsistentHash(ring(Some(Multiple::of(125)))),
        Balance::Maglev(key()),
    ]
}

/// One run, which says how to repeat it when it fails.
struct Run {
    seed: u64,
    balance: Balance,
    random: fastrand::Rng,
    group: Arc<Group>,
    open: Vec<InFlight>,
}

impl Drop for Run {
    fn drop(&mut self) {
        #[allow(clippy::print_stderr)]
        if std::thread::panicking() {
            eprintln!("the seed that failed: {} with {:?}", self.seed, self.balance);
        }
    }
}

impl Run {
    fn new(seed: u64, balance: Balance) -> Run {
        // what the algorithms draw is to be repeated too
        fastrand::seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let servers = if random.u8(..) < 32 { random.usize(100..300) } else { random.usize(1..10) };
        let most = if random.bool() { 1 } else { random.u16(2..200) };
        let weights: Vec<u16> = (0..servers).map(|_| random.u16(1..=most)).collect();
        let check = file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() };
        let plan = crate::config::plan::Upstream { balance: balance.clone(), ..plan(&weights, Some(check)) };
        let group = Group::build(Arc::new(plan), &Registry::new()).unwrap();
        Run { seed, balance, random, group, open: Vec::new() }
    }

    fn step(&mut self) {
        let at = self.random.usize(0..self.group.servers().len());
        let endpoint = self.group.servers()[at].endpoint.clone();
        match self.random.u8(0..10) {
            0 | 1 => {
                let result = if self.random.bool() { Ok(()) } else { Err("simulated") };
                endpoint.observe(result, ONCE, SystemTime::UNIX_EPOCH);
            }
            2 => latency::failed(&self.balance, &endpoint, Duration::ZERO),
            3 => {
                let took = Duration::from_micros(self.random.u64(1..1_000_000));
                latency::answered(&self.balance, &endpoint, took);
            }
            4 if !self.open.is_empty() => {
                let ended = self.random.usize(0..self.open.len());
                self.open.swap_remove(ended);
            }
            5 => self.whole_group(),
            // until then the tables are out of date
            6 => self.group.refresh(),
            _ => {
                let key = self.random.u64(..).to_be_bytes();
                let key = self.random.bool().then_some(&key[..]);
                let chosen = self.group.select(&Tried::default(), key);
                assert_eq!(chosen.is_some(), self.group.any_healthy());
                self.open.extend(chosen.map(|endpoint| endpoint.begin()));
            }
        }
    }

    /// A request that fails everywhere is tried everywhere, once.
    fn whole_group(&mut self) {
        let key = self.random.u64(..).to_be_bytes();
        let mut tried = Tried::default();
        let mut offered = 0;
        while let Some(endpoint) = self.group.select(&tried, Some(&key)) {
            assert!(!tried.contains(&endpoint), "{} is offered twice", endpoint.name());
            assert!(endpoint.is_up(), "{} is down", endpoint.name());
            tried.push(&endpoint);
            offered += 1;
        }
        assert_eq!(offered, self.group.healthy_count(), "of {}", self.group.servers().len());
    }
}

#[test]
fn whoever_is_usable_can_be_had_once_and_nobody_else() {
    // a new seed each time, besides those that any change must hold against
    for seed in [1, 2, 3, fastrand::u64(..), fastrand::u64(..)] {
        for balance in all() {
            let mut run = Run::new(seed, balance);
            (0..400).for_each(|_| run.step());
        }
    }
}
