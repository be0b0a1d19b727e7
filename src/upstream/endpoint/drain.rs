//! A server that is on its way out: it gets no new sessions, and keeps for a while those that are its own. Begun and
//! ended by whoever changes who is in a group.

use super::{DRAINING, Endpoint};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// A server that gets no new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    pub why: DrainReason,
    pub since: SystemTime,
    /// Until when it keeps the sessions that are its own.
    pub until: Instant,
}

/// Who took a server out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// `drain: true` is written with it.
    Configured,
    /// It is no longer named by the configuration or by discovery.
    Removed,
    /// Somebody asked for it while the process runs.
    Asked,
}

impl Endpoint {
    /// Why and since when it drains, if it does.
    pub fn drain(&self) -> Option<Drain> {
        *self.drain.lock()
    }

    /// Takes it out for new sessions; tells if it was not out already. The first reason stands, but
    /// for a server that is removed.
    pub(in crate::upstream) fn start_draining(&self, why: DrainReason, timeout: Duration) -> bool {
        let mut drain = self.drain.lock();
        if let Some(drain) = &mut *drain {
            if why == DrainReason::Removed && drain.why != why {
                drain.why = why;
                self.changes.bump();
            }
            return false;
        }
        *drain = Some(Drain { why, since: SystemTime::now(), until: Instant::now() + timeout });
        self.state.fetch_or(DRAINING, Ordering::Release);
        drop(drain);
        self.changes.bump();
        true
    }

    /// It was on its way out in the process before. For an endpoint that nobody uses yet.
    pub(in crate::upstream) fn resume_drain(&self, drain: Drain) {
        *self.drain.lock() = Some(drain);
        self.state.fetch_or(DRAINING, Ordering::Release);
    }

    /// Gives another reason why it drains, if it does.
    pub(in crate::upstream) fn drain_because(&self, why: DrainReason) {
        if let Some(drain) = &mut *self.drain.lock() {
            drain.why = why;
            self.changes.bump();
        }
    }

    /// Lets it have new sessions again; tells if it had none before.
    pub(in crate::upstream) fn stop_draining(&self) -> bool {
        if self.drain.lock().take().is_none() {
            return false;
        }
        self.start_warming();
        self.state.fetch_and(!DRAINING, Ordering::Release);
        self.changes.bump();
        true
    }
}
