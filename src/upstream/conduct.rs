//! What live requests have shown of a server and of a group: kept in [`Endpoint`] and [`Changes`], so
//! that it survives reloads. The machines are in [`outlier`](super::outlier) and
//! [`breaker`](super::breaker); the rules come from the plan, with each call, in
//! [`Group`](super::Group).
//!
//! [`Endpoint`]: super::Endpoint
//! [`Changes`]: super::changes::Changes

use super::breaker::{Breaker, Mode};
use super::endpoint::{EJECTED, OPEN};
use super::outlier::Record;
use crate::observe::Throttle;
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A group that may eject no more servers says so this often.
const SPARED_LINES: Duration = Duration::from_secs(10);

/// Of a server.
#[derive(Debug)]
pub struct Conduct {
    pub record: Record,
    pub breaker: Breaker,
    /// Held while the state of the endpoint is brought in line with these two.
    pub(super) telling: Mutex<()>,
}

impl Conduct {
    pub fn new(now: Instant) -> Conduct {
        Conduct { record: Record::new(now), breaker: Breaker::new(now), telling: Mutex::new(()) }
    }

    /// As bits of [`Endpoint`](super::Endpoint)'s state.
    pub(super) fn state(&self) -> u8 {
        let ejected = if self.record.is_ejected() { EJECTED } else { 0 };
        ejected
            | match self.breaker.mode() {
                Mode::Closed | Mode::HalfOpen { room: true } => 0,
                Mode::Open | Mode::HalfOpen { room: false } => OPEN,
            }
    }
}

/// Of a group.
#[derive(Debug)]
pub struct Together {
    panics: AtomicBool,
    /// Held by whoever decides about several servers: how many are ejected, and whether to panic.
    pub(super) deciding: Mutex<()>,
    pub(super) spared: Throttle,
    breaker: OnceLock<Box<Breaker>>,
}

impl Default for Together {
    fn default() -> Self {
        Together {
            panics: AtomicBool::new(false),
            deciding: Mutex::new(()),
            spared: Throttle::new(SPARED_LINES),
            breaker: OnceLock::new(),
        }
    }
}

impl Together {
    /// Whether health is ignored.
    pub fn panics(&self) -> bool {
        self.panics.load(Ordering::Acquire)
    }

    pub(super) fn set_panic(&self, panics: bool) {
        self.panics.store(panics, Ordering::Release);
    }

    /// The breaker of the group as a whole.
    pub(super) fn breaker(&self, now: Instant) -> &Breaker {
        self.breaker.get_or_init(|| Box::new(Breaker::new(now)))
    }
}
