//! The live state of one server: requests in flight, up or down, draining, warming up. Kept in the
//! [`Registry`](super::Registry); read by every choice of a server, written by requests that begin
//! and end, by the health checks and by whoever changes who is in a group.

use super::changes::{CacheLine, Changes};
use super::conduct::Conduct;
use super::group::Watch;
use super::health::{Change, Tally, Thresholds};
use super::latency::Latency;
use super::location::Location;
use crate::config::file::InitialHealth;
use crate::observe::{Throttle, metrics};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

mod drain;

pub use drain::{Drain, DrainReason};

/// A server that is down fails every request that is sent to it; the process log says it this often.
const FAILURE_LINES: Duration = Duration::from_secs(10);

/// The [`Endpoint::warmth`] of a server that takes its whole share.
pub const FULL_WARMTH: u16 = 256;

/// A server as one group knows it. Shared by every configuration that names it in that group.
#[derive(Debug)]
pub struct Endpoint {
    // what every request reads, and only a change of state writes
    /// [`UP`], [`DRAINING`], [`EJECTED`] and [`OPEN`].
    state: AtomicU8,
    warmth: AtomicU16,
    /// Whether its group has a slow start.
    ramps: AtomicBool,
    at: Location,
    changes: Arc<Changes>,
    health: Mutex<Health>,
    drain: Mutex<Option<Drain>>,
    /// Made when somebody first asks for it.
    conduct: OnceLock<Box<Conduct>>,
    warming_since: Mutex<Option<Instant>>,
    failures: Throttle,
    counted: Arc<metrics::Server>,
    // what every request writes
    load: CacheLine<Load>,
}

/// Together, as the same requests write them and the same choices read them.
#[derive(Debug, Default)]
struct Load {
    in_flight: AtomicUsize,
    latency: Latency,
}

const UP: u8 = 1;
const DRAINING: u8 = 2;
/// It is ejected.
pub(super) const EJECTED: u8 = 4;
/// Its breaker lets nothing pass just now.
pub(super) const OPEN: u8 = 8;

/// What of the state of its servers a group heeds. What was found under an earlier configuration is
/// nothing to one that does not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heed(u8);

impl Heed {
    pub fn of(checks: bool, ejections: bool, breakers: bool) -> Heed {
        let bit = |heeded, bit| if heeded { bit } else { 0 };
        Heed(bit(checks, UP) | bit(ejections, EJECTED) | bit(breakers, OPEN))
    }

    /// The same, whatever is ejected.
    pub fn but_ejections(self) -> Heed {
        Heed(self.0 & !EJECTED)
    }

    fn finds_sound(self, state: u8) -> bool {
        (state ^ UP) & self.0 == 0
    }
}

/// What is known about the health of a server, for people to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub tally: Tally,
    /// Why the last check that failed did so; it stays after the server has recovered.
    pub last_failure: Option<Arc<str>>,
    /// When it went up or down; for a server that never did, when it became known.
    pub since: SystemTime,
}

impl Endpoint {
    /// A server that is up until checks say otherwise, or `down` until the first one passes.
    pub(super) fn new(
        at: Location,
        changes: Arc<Changes>,
        counted: Arc<metrics::Server>,
        down: bool,
    ) -> Endpoint {
        Endpoint {
            state: AtomicU8::new(if down { 0 } else { UP }),
            warmth: AtomicU16::new(FULL_WARMTH),
            ramps: AtomicBool::new(false),
            at,
            changes,
            health: Mutex::new(Health {
                tally: if down { Tally::presumed_down() } else { Tally::default() },
                last_failure: None,
                since: SystemTime::now(),
            }),
            drain: Mutex::new(None),
            conduct: OnceLock::new(),
            warming_since: Mutex::new(None),
            failures: Throttle::new(FAILURE_LINES),
            counted,
            load: CacheLine::default(),
        }
    }

    /// Where it is.
    pub fn at(&self) -> &Location {
        &self.at
    }

    pub fn address(&self) -> SocketAddr {
        self.at.address()
    }

    /// The address as text, such as `127.0.0.1:3001` or `unix:/run/app.sock`; for logs.
    pub fn name(&self) -> &str {
        self.at.name()
    }

    /// How often tries that failed here are said in the process log.
    pub fn failures(&self) -> &Throttle {
        &self.failures
    }

    /// What is counted of it.
    pub fn counted(&self) -> &Arc<metrics::Server> {
        &self.counted
    }

    /// What the health checks say. Whether a group heeds it is for [`Server::usable`](super::Server::usable).
    pub fn is_up(&self) -> bool {
        self.state.load(Ordering::Acquire) & UP != 0
    }

    /// Whether it gets no new sessions.
    pub fn is_draining(&self) -> bool {
        self.state.load(Ordering::Acquire) & DRAINING != 0
    }

    /// Whether it may get new sessions.
    pub fn takes_sessions(&self, heed: Heed) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state & DRAINING == 0 && (heed.finds_sound(state) || self.changes.together.panics())
    }

    /// Whether nothing that is heeded is wrong with it. It may drain.
    pub fn is_sound(&self, heed: Heed) -> bool {
        heed.finds_sound(self.state.load(Ordering::Acquire))
    }

    /// What its requests have shown of it. `now` is when that began if nobody has asked before.
    pub(super) fn conduct(&self, now: Instant) -> &Conduct {
        self.conduct.get_or_init(|| Box::new(Conduct::new(now)))
    }

    /// What its requests have shown of it, if they were looked at.
    pub fn known_conduct(&self) -> Option<&Conduct> {
        self.conduct.get().map(Box::as_ref)
    }

    /// To be called when its [`Conduct`] has changed in a way that concerns the choice of a server.
    pub(super) fn heed_conduct(&self) {
        let Some(conduct) = self.known_conduct() else { return };
        let telling = conduct.telling.lock();
        let learned = conduct.state();
        let before = self.state.load(Ordering::Acquire) & (EJECTED | OPEN);
        if learned == before {
            return;
        }
        if before & EJECTED != 0 && learned & EJECTED == 0 {
            self.start_warming();
        }
        // one of the two at a time, so that what others change meanwhile is kept
        self.state.fetch_or(learned, Ordering::AcqRel);
        self.state.fetch_and(!(before & !learned), Ordering::AcqRel);
        drop(telling);
        self.changes.bump();
    }

    /// Whether it comes to its whole share slowly when it is new or back.
    pub(super) fn set_slow_start(&self, slow: bool) {
        self.ramps.store(slow, Ordering::Relaxed);
        if !slow {
            self.warmth.store(FULL_WARMTH, Ordering::Relaxed);
        }
    }

    /// Begins the slow start, if it has one.
    pub(super) fn start_warming(&self) {
        if self.ramps.load(Ordering::Relaxed) {
            *self.warming_since.lock() = Some(Instant::now());
            self.warmth.store(1, Ordering::Relaxed);
        }
    }

    /// Brings [`Endpoint::warmth`] up to date; tells if it is still warming up. Its share grows
    /// evenly over `slow_start`.
    pub(super) fn warm(&self, now: Instant, slow_start: Duration) -> bool {
        if self.warmth() == FULL_WARMTH {
            return false;
        }
        let mut since = self.warming_since.lock();
        let passed = since.map_or(slow_start, |since| now.saturating_duration_since(since));
        if passed >= slow_start {
            *since = None;
            self.warmth.store(FULL_WARMTH, Ordering::Relaxed);
            return false;
        }
        let share = passed.as_secs_f64() / slow_start.as_secs_f64();
        // from 0 to 255, as the share is below 1
        let warmth = (share * f64::from(FULL_WARMTH)) as u16;
        self.warmth.store(warmth.max(1), Ordering::Relaxed);
        true
    }

    /// How much of its share the server takes, from 1 to [`FULL_WARMTH`]: less than all while it is
    /// warming up.
    pub fn warmth(&self) -> u16 {
        self.warmth.load(Ordering::Relaxed)
    }

    pub fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// Requests that are now with this server.
    pub fn in_flight(&self) -> usize {
        self.load.in_flight.load(Ordering::Relaxed)
    }

    /// How long it takes to answer.
    pub fn latency(&self) -> &Latency {
        &self.load.latency
    }

    /// Requests that are now with any server of the group.
    pub fn group_in_flight(&self) -> usize {
        self.changes.in_flight()
    }

    /// Counts a request as in flight here for as long as the guard lives.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.load.in_flight.fetch_add(1, Ordering::Relaxed);
        self.changes.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { endpoint: self.clone(), counted: true, watch: None }
    }

    /// The same, but only while fewer than `cap` are in flight here.
    pub fn begin_below(self: &Arc<Self>, cap: usize) -> Option<InFlight> {
        let more = |in_flight: usize| (in_flight < cap).then_some(in_flight + 1);
        self.load.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.changes.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(InFlight { endpoint: self.clone(), counted: true, watch: None })
    }

    /// It had left its group and is in it again: what was known of its health counts as `initial` says.
    pub(super) fn come_back(&self, initial: InitialHealth) {
        let mut health = self.health.lock();
        match initial {
            InitialHealth::LastKnown => return,
            InitialHealth::Up => {
                health.tally = Tally::default();
                self.state.fetch_or(UP, Ordering::Release);
            }
            InitialHealth::Down => {
                health.tally = Tally::presumed_down();
                self.state.fetch_and(!UP, Ordering::Release);
            }
        }
        health.since = SystemTime::now();
        drop(health);
        self.changes.bump();
    }

    /// What another process knew of its health.
    pub(super) fn resume_health(&self, tally: Tally, last_failure: Option<Arc<str>>, since: SystemTime) {
        match tally.is_up() {
            true => self.state.fetch_or(UP, Ordering::Release),
            false => self.state.fetch_and(!UP, Ordering::Release),
        };
        *self.health.lock() = Health { tally, last_failure, since };
    }

    /// Takes in the result of a check; tells if it took the server up or down.
    pub fn observe(&self, result: Result<(), &str>, limits: Thresholds, now: SystemTime) -> Option<Change> {
        let mut health = self.health.lock();
        if let Err(reason) = result {
            health.last_failure = Some(Arc::from(reason));
        }
        let change = health.tally.observe(result.is_ok(), limits)?;
        health.since = now;
        match change {
            Change::Up { .. } => {
                self.start_warming();
                self.state.fetch_or(UP, Ordering::Release);
                // the checks have seen it broken and mended: nothing else is known of it now
                if self.known_conduct().is_some_and(|conduct| conduct.record.release(Instant::now())) {
                    self.heed_conduct();
                }
            }
            Change::Down { .. } => {
                self.state.fetch_and(!UP, Ordering::Release);
            }
        }
        self.changes.bump();
        Some(change)
    }
}

/// A request in flight; the count goes down when this is dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    counted: bool,
    /// What it has to say about the server, until it has said it.
    pub watch: Option<Watch>,
}

impl InFlight {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The try is over, though it is remembered which server it was with.
    pub fn end(&mut self) {
        self.watch = None;
        if std::mem::take(&mut self.counted) {
            self.endpoint.load.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.endpoint.changes.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;

    fn endpoint() -> Arc<Endpoint> {
        let at = SocketAddr::from(([127, 0, 0, 1], 3001));
        Arc::new(Endpoint::new(at.into(), Arc::default(), Arc::default(), false))
    }

    #[test]
    fn a_request_is_counted_while_its_guard_lives() {
        let endpoint = endpoint();
        let first = endpoint.begin();
        let second = first.endpoint().begin();
        assert_eq!(endpoint.in_flight(), 2);
        drop(first);
        assert_eq!(endpoint.in_flight(), 1);
        drop(second);
        assert_eq!(endpoint.in_flight(), 0);
    }

    #[test]
    fn a_cap_holds_whoever_comes_and_an_end_is_counted_once() {
        let endpoint = endpoint();
        let mut first = endpoint.begin_below(2).unwrap();
        let second = endpoint.begin_below(2).unwrap();
        assert!(endpoint.begin_below(2).is_none());
        first.end();
        assert_eq!((endpoint.in_flight(), endpoint.group_in_flight()), (1, 1));
        assert!(endpoint.begin_below(2).is_some());
        drop((first, second));
        assert_eq!((endpoint.in_flight(), endpoint.group_in_flight()), (0, 0));
    }

    #[test]
    fn a_change_of_health_is_seen_and_explained() {
        let endpoint = endpoint();
        let limits =
            Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::new(2).unwrap() };
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        assert_eq!(endpoint.observe(Err("first"), limits, later), None);
        assert!(endpoint.is_up());
        assert_eq!(endpoint.changes.seen(), 0);
        assert_eq!(endpoint.observe(Err("second"), limits, later), Some(Change::Down { failed: 2 }));
        assert!(!endpoint.is_up());
        assert_eq!(endpoint.changes.seen(), 1);
        let health = endpoint.health();
        assert_eq!(health.last_failure.as_deref(), Some("second"));
        assert_eq!(health.since, later);
        assert_eq!(endpoint.observe(Ok(()), limits, later), Some(Change::Up { passed: 1 }));
        assert!(endpoint.is_up());
    }
}
