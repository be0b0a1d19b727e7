//! Thousands of histories of servers that fail, hang, slow down, flap and recover, of clients that go
//! away and checks that come and go, held against what must always be true. `WEIRGATE_SEED=n` repeats
//! the histories of a run that failed.

use super::ejection::is_ejected;
use super::tests::{WINDOW, breaker, outlier};
use super::*;
use crate::config::file;
use crate::config::plan::{Breakers, FailureShare};
use crate::units::Percent;
use crate::upstream::breaker::Mode;
use crate::upstream::group::tests::plan as plan_of;
use crate::upstream::health::Thresholds;
use crate::upstream::{Registry, Tried};
use fastrand::Rng;
use std::num::NonZeroU16;
use std::time::SystemTime;

const HISTORIES: u64 = 2000;
const STEPS: usize = 120;
const ONCE: Thresholds = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };

/// How a server is at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Fine,
    Failing,
    Slow,
    /// Fails so many of a hundred.
    Flaky(u8),
}

struct Flight {
    place: usize,
    watch: Watch,
    _in_flight: crate::upstream::InFlight,
}

struct World {
    seed: u64,
    random: Rng,
    group: Arc<Group>,
    now: Instant,
    servers: Vec<Is>,
    /// Whether it has ever done anything but answer well and quickly.
    blameless: Vec<bool>,
    up: Vec<bool>,
    /// Failures in a row that count.
    run: Vec<u32>,
    ejected: Vec<bool>,
    /// Requests since each was asked last, while it could be.
    passed_over: Vec<usize>,
    flights: Vec<Flight>,
}

fn rules(random: &mut Rng) -> plan::Upstream {
    let servers = random.usize(1..9);
    let check = file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() };
    let mut plan = plan_of(&vec![1; servers], Some(check));
    let share = |random: &mut Rng| FailureShare {
        share: random.u16(1000..=10_000),
        requests: random.u32(1..20),
        window: WINDOW,
    };
    if random.u8(..4) > 0 {
        plan.outlier = Some(plan::Outlier {
            consecutive_failures: random.bool().then(|| random.u32(1..6)),
            failure_share: random.bool().then(|| share(random)),
            latency: random.bool().then(|| plan::Slowness {
                times: random.u16(2..6),
                at_least: Duration::from_millis(50),
                requests: random.u32(1..10),
                window: WINDOW,
            }),
            ejection: Duration::from_secs(random.u64(1..20)),
            max_ejection: Duration::from_secs(60),
            max_ejected: random.u16(1..=10_000),
            ..outlier()
        });
    }
    if random.bool() {
        let rules = plan::Breaker {
            failure_share: Some(share(random)),
            open: Duration::from_millis(random.u64(100..5000)),
            trials: random.u32(1..5),
            ..breaker()
        };
        plan.breaker = Breakers { server: Some(rules), group: None };
    }
    plan.panic = random.bool().then(|| Percent::of(random.u8(1..=100)));
    plan
}

impl World {
    fn new(seed: u64, registry: &Registry) -> World {
        // of the history before nobody is left
        registry.prune();
        let mut random = Rng::with_seed(seed);
        // where a search begins is drawn from the generator of the thread
        fastrand::seed(seed);
        let plan = rules(&mut random);
        let servers = plan.servers.len();
        World {
            seed,
            random,
            group: Group::build(Arc::new(plan), registry).unwrap(),
            now: Instant::now(),
            servers: vec![Is::Fine; servers],
            blameless: vec![true; servers],
            up: vec![true; servers],
            run: vec![0; servers],
            ejected: vec![false; servers],
            passed_over: vec![0; servers],
            flights: Vec::new(),
        }
    }

    fn endpoint(&self, place: usize) -> Arc<Endpoint> {
        self.group.servers()[place].endpoint.clone()
    }

    fn step(&mut self) {
        match self.random.u8(..40) {
            0 | 1 => self.turn(),
            2 => self.check(),
            3 => self.now += Duration::from_millis(self.random.u64(..3000)),
            4 => {
                // a client goes away
                let flight = self.flights.pop();
                drop(flight);
            }
            5..20 => self.begin(),
            _ => self.land(),
        }
        self.now += Duration::from_millis(self.random.u64(..20));
        if self.group.next_due(self.now).is_some_and(|due| due.is_zero()) || self.random.u8(..4) == 0 {
            self.group.tend(self.now);
        }
        self.group.refresh();
        self.note();
        self.holds();
    }

    /// A server begins to behave otherwise. The first never does.
    fn turn(&mut self) {
        let place = self.random.usize(..self.servers.len());
        if place > 0 {
            self.servers[place] = match self.random.u8(..4) {
                0 => Is::Fine,
                1 => Is::Failing,
                2 => Is::Slow,
                _ => Is::Flaky(self.random.u8(1..100)),
            };
        }
    }

    fn check(&mut self) {
        let place = self.random.usize(..self.servers.len());
        self.up[place] = self.random.bool();
        let result = if self.up[place] { Ok(()) } else { Err("test") };
        self.endpoint(place).observe(result, ONCE, SystemTime::now());
        self.group.refresh();
    }

    fn begin(&mut self) {
        let Some(endpoint) = self.group.select(&Tried::default(), None) else { return };
        let servers = self.group.servers();
        let place = servers.iter().position(|server| Arc::ptr_eq(&server.endpoint, &endpoint)).unwrap();
        for (other, passed_over) in self.passed_over.iter_mut().enumerate() {
            *passed_over = if other == place || !servers[other].usable() { 0 } else { *passed_over + 1 };
        }
        if let Some(watch) = self.group.admit(&endpoint, self.now) {
            let in_flight = endpoint.begin();
            self.flights.push(Flight { place, watch, _in_flight: in_flight });
        }
    }

    fn land(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let Flight { place, watch, .. } = self.flights.swap_remove(self.random.usize(..self.flights.len()));
        let is = self.servers[place];
        let fails = match is {
            Is::Fine | Is::Slow => false,
            Is::Failing => true,
            Is::Flaky(share) => self.random.u8(..100) < share,
        };
        self.blameless[place] &= !fails && is != Is::Slow;
        let endpoint = self.endpoint(place);
        if !self.ejected[place] {
            self.run[place] = if fails { self.run[place] + 1 } else { 0 };
        }
        if fails {
            let outcome =
                if self.random.bool() { Outcome::Answered(500) } else { Outcome::Failed(&|| "test".into()) };
            self.group.ended(&endpoint, watch, outcome, self.now);
            self.judged(place);
            return;
        }
        let took = if is == Is::Slow { 2000 } else { self.random.u64(1..40) };
        self.group.answered(&endpoint, Duration::from_millis(took), self.now);
        self.group.ended(&endpoint, watch, Outcome::Answered(200), self.now);
    }

    /// A failure has ejected the server when it was one of so many in a row, and not otherwise.
    fn judged(&self, place: usize) {
        let plan = self.group.plan();
        // the breakers may have taken somebody back meanwhile
        let (Some(rules), None) = (plan.outlier, plan.breaker.server) else { return };
        let ejected = is_ejected(&self.group.servers()[place]) && !self.ejected[place];
        let many = rules.consecutive_failures.is_some_and(|most| self.run[place].is_multiple_of(most));
        assert!(!ejected || many, "ejected after {} failures: seed {}", self.run[place], self.seed);
        let room = self.ejected.iter().filter(|ejected| **ejected).count()
            < most_ejected(self.servers.len(), &rules);
        let others = (0..self.servers.len()).filter(|other| *other != place);
        let another = others.into_iter().any(|other| self.up[other] && !self.ejected[other]);
        let must = many && room && another && !self.ejected[place];
        assert!(ejected || !must, "not ejected after {} failures: seed {}", self.run[place], self.seed);
    }

    /// Whoever is no longer ejected begins anew.
    fn note(&mut self) {
        for (place, server) in self.group.servers().iter().enumerate() {
            let ejected = is_ejected(server);
            if ejected || self.ejected[place] {
                self.run[place] = 0;
            }
            self.ejected[place] = ejected;
        }
    }

    /// What must be true at any time.
    fn holds(&self) {
        let (group, seed) = (&self.group, self.seed);
        let plan = group.plan();
        let (total, servers) = (self.servers.len(), group.servers());
        let conduct = |place: usize| {
            let known = servers[place].endpoint.known_conduct();
            known.map_or((false, Mode::Closed), |known| (known.record.is_ejected(), known.breaker.mode()))
        };
        let (mut ejected, mut healthy, mut usable) = (0, 0, 0);
        for place in 0..total {
            let (is_ejected, mode) = conduct(place);
            ejected += usize::from(is_ejected);
            let open = matches!(mode, Mode::Open | Mode::HalfOpen { room: false });
            healthy += usize::from(self.up[place] && !is_ejected && !open);
            usable += usize::from(servers[place].usable());
            if self.blameless[place] {
                assert!(!is_ejected, "server {place} never failed and is ejected: seed {seed}");
                assert_eq!(mode, Mode::Closed, "server {place} never failed: seed {seed}");
            }
            assert!(self.passed_over[place] <= 4 * total, "server {place} is starved: seed {seed}");
            self.trials_hold(place, mode);
        }
        let most = plan.outlier.map_or(0, |rules| most_ejected(total, &rules));
        assert!(ejected <= most, "{ejected} of {total} ejected, {most} may be: seed {seed}");
        let panics = plan.panic.is_some_and(|below| (healthy * 10_000) < total * usize::from(below.0));
        assert_eq!(group.changes().panics(), panics, "{healthy} of {total}, {:?}: seed {seed}", plan.panic);
        assert_eq!(usable, if panics { total } else { healthy }, "seed {seed}");
        let only_ejections = plan.breaker.server.is_none() && self.up.contains(&true);
        assert!(!only_ejections || usable > 0, "ejections left nobody: seed {seed}");
    }

    fn trials_hold(&self, place: usize, mode: Mode) {
        let trials = self.flights.iter().filter(|flight| flight.place == place && flight.watch.is_trial());
        let most = self.group.plan().breaker.server.map_or(0, |rules| rules.trials as usize);
        let trials = trials.count();
        assert!(trials <= most, "more than {most} trials: seed {}", self.seed);
        let waits = mode == Mode::HalfOpen { room: false };
        assert!(!waits || trials > 0, "no room for trials, and none in flight: seed {}", self.seed);
    }
}

/// What may be ejected: the share, but one at least and never all.
fn most_ejected(total: usize, rules: &plan::Outlier) -> usize {
    match total * usize::from(rules.max_ejected) / 10_000 {
        _ if total < 2 => 0,
        0 => 1,
        all if all >= total => total - 1,
        some => some,
    }
}

#[test]
fn whatever_happens_nothing_gets_worse() {
    let seed = std::env::var("WEIRGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut seeds = seed.map_or_else(Rng::new, Rng::with_seed);
    let histories = if seed.is_some() { 1 } else { HISTORIES };
    let registry = Registry::new();
    for _ in 0..histories {
        // a failure names the seed of its own history
        let mut world = World::new(seed.unwrap_or_else(|| seeds.u64(..)), &registry);
        (0..STEPS).for_each(|_| world.step());
    }
}

#[test]
fn a_history_can_be_repeated() {
    let registry = Registry::new();
    let end = |seed| {
        let mut world = World::new(seed, &registry);
        (0..STEPS).for_each(|_| world.step());
        let ejected: Vec<bool> = world.group.servers().iter().map(|server| is_ejected(server)).collect();
        (world.servers, world.up, world.blameless, ejected)
    };
    for seed in 0..20 {
        assert_eq!(end(seed), end(seed), "seed {seed}");
    }
}
