//! Health checks: what is asked of a server (Pingora's `TcpHealthCheck`, our [`http`]), when
//! ([`watch()`]), what a failure is called, and how many results change a verdict ([`Tally`]).
//!
//! The truth about health is kept in our [`Endpoint`](super::Endpoint), not in Pingora's map, which
//! forgets it when a weight changes.

pub mod http;
mod watch;

pub use watch::watch;

use super::{reason, registry::Registry};
use crate::config::file;
use http::HttpHealthCheck;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// How many results in a row change the verdict on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub healthy_after: NonZeroU16,
    pub unhealthy_after: NonZeroU16,
}

/// The verdict on a server, and how many results in a row speak against it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    down: bool,
    against: u16,
}

/// A change of the verdict, with the number of results that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Up { passed: u16 },
    Down { failed: u16 },
}

impl Tally {
    pub fn is_up(self) -> bool {
        !self.down
    }

    /// Takes in a result; tells if it changed the verdict.
    pub fn observe(&mut self, passed: bool, limits: Thresholds) -> Option<Change> {
        if passed != self.down {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let limit = if passed { limits.healthy_after } else { limits.unhealthy_after };
        if self.against < limit.get() {
            return None;
        }
        self.down = !passed;
        let count = std::mem::take(&mut self.against);
        Some(if passed { Change::Up { passed: count } } else { Change::Down { failed: count } })
    }
}

/// The check of a group, made from its plan.
pub struct Probe {
    check: Arc<dyn HealthCheck + Send + Sync>,
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

impl Probe {
    /// # Errors
    /// A sentence for the operator.
    pub fn build(plan: &file::HealthCheck, registry: &Registry) -> Result<Probe, String> {
        let thresholds =
            Thresholds { healthy_after: plan.healthy_after, unhealthy_after: plan.unhealthy_after };
        let check: Arc<dyn HealthCheck + Send + Sync> = match (&plan.tcp, &plan.http) {
            (Some(file::TcpCheck {}), None) => registry.tcp_check(),
            (None, Some(http)) => Arc::new(HttpHealthCheck::build(http, thresholds)?),
            (None, None) | (Some(_), Some(_)) => {
                return Err("a health check needs exactly one of tcp and http".into());
            }
        };
        Ok(Probe { check, interval: plan.interval.duration(), timeout: plan.timeout.duration(), thresholds })
    }

    /// One check of one server.
    ///
    /// # Errors
    /// What is wrong with the server, in plain words.
    pub async fn check(&self, backend: &Backend) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.check.check(backend)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(reason::words(&error, self.timeout)),
            Err(_) => Err(reason::no_answer(self.timeout)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
