//! The live state of one server: requests in flight, up or down. Kept in the
//! [`Registry`](super::Registry); read by every choice of a server, written by requests that begin
//! and end and by the health checks.

use super::health::{Change, Tally, Thresholds};
use super::latency::Latency;
use crate::observe::Throttle;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// A server that is down fails every request that is sent to it; the process log says it this often.
const FAILURE_LINES: Duration = Duration::from_secs(10);

/// The [`Endpoint::warmth`] of a server that takes its whole share.
pub const FULL_WARMTH: u16 = 256;

/// A server as one group knows it. Shared by every configuration that names it in that group.
#[derive(Debug)]
pub struct Endpoint {
    // what every request reads, and only a change of health writes
    up: AtomicBool,
    warmth: AtomicU16,
    address: SocketAddr,
    name: Box<str>,
    changes: Arc<Changes>,
    health: Mutex<Health>,
    failures: Throttle,
    // what every request writes
    load: CacheLine<Load>,
}

/// Together, as the same requests write them and the same choices read them.
#[derive(Debug, Default)]
struct Load {
    in_flight: AtomicUsize,
    latency: Latency,
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
    /// A server that is up until checks say otherwise.
    pub(super) fn new(address: SocketAddr, changes: Arc<Changes>) -> Endpoint {
        Endpoint {
            up: AtomicBool::new(true),
            warmth: AtomicU16::new(FULL_WARMTH),
            address,
            name: address.to_string().into_boxed_str(),
            changes,
            health: Mutex::new(Health {
                tally: Tally::default(),
                last_failure: None,
                since: SystemTime::now(),
            }),
            failures: Throttle::new(FAILURE_LINES),
            load: CacheLine::default(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as text, such as `127.0.0.1:3001`; for logs and `Host`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often tries that failed here are said in the process log.
    pub fn failures(&self) -> &Throttle {
        &self.failures
    }

    /// What the health checks say. Whether a group heeds it is for [`Server::usable`](super::Server::usable).
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
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

    /// Counts a request as in flight here for as long as the guard lives.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.load.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { endpoint: self.clone() }
    }

    /// Takes in the result of a check; tells if it took the server up or down.
    pub fn observe(&self, result: Result<(), &str>, limits: Thresholds, now: SystemTime) -> Option<Change> {
        let mut health = self.health.lock();
        if let Err(reason) = result {
            health.last_failure = Some(Arc::from(reason));
        }
        let change = health.tally.observe(result.is_ok(), limits)?;
        health.since = now;
        self.up.store(health.tally.is_up(), Ordering::Release);
        self.changes.bump();
        Some(change)
    }
}

/// A request in flight; the count goes down when this is dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
}

impl InFlight {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Grows whenever a server of a group goes up or down, so that whoever keeps something made from
/// the healthy servers can tell with one load that it is out of date.
#[derive(Debug, Default)]
pub struct Changes(AtomicU64);

impl Changes {
    /// Ordered before what the caller reads next of the servers' state.
    pub fn seen(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn bump(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// A value alone on its cache lines (two, as neighbours are fetched in pairs), so that writing it
/// takes nothing else from other cores.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CacheLine<T>(pub T);

impl<T> Deref for CacheLine<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint::new("127.0.0.1:3001".parse().unwrap(), Arc::default()))
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
