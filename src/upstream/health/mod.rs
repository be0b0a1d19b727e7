//! Health checks: what is asked of a server (Pingora's `TcpHealthCheck`, our [`http`] and [`grpc`], a datagram),
//! over what ([`dial`]), when ([`watch()`]), what a failure is called, and how many results change a
//! verdict ([`Tally`]).
//!
//! The truth about health is kept in our [`Endpoint`](super::Endpoint), not in Pingora's map, which
//! forgets it when a weight changes.

pub mod dial;
pub mod grpc;
pub mod http;
mod proto;
mod tcp;
mod udp;
mod watch;

pub use watch::watch;

use super::{reason, registry::Registry};
use crate::config::plan::{self, Question};
use crate::proxy_protocol;
use dial::Dial;
use grpc::GrpcHealthCheck;
use http::HttpHealthCheck;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tcp::DialHealthCheck;
use udp::UdpHealthCheck;

/// How many results in a row change the verdict on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub healthy_after: NonZeroU16,
    pub unhealthy_after: NonZeroU16,
}

impl Thresholds {
    /// As Pingora asks for them.
    fn of(self, success: bool) -> usize {
        let limit = if success { self.healthy_after } else { self.unhealthy_after };
        usize::from(limit.get())
    }
}

/// The verdict on a server, and how many results in a row speak against it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    down: bool,
    against: u16,
    /// It was never checked, and is down only because that was said of servers that come.
    presumed: bool,
}

/// A change of the verdict, with the number of results that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Up { passed: u16 },
    Down { failed: u16 },
}

impl Tally {
    /// A server that is down until its first check, which decides alone when it passes (as Envoy has
    /// it, and HAProxy with `init-state down`).
    pub fn presumed_down() -> Tally {
        Tally { down: true, against: 0, presumed: true }
    }

    /// A server that checks have found down.
    pub fn known_down() -> Tally {
        Tally { down: true, against: 0, presumed: false }
    }

    pub fn is_up(self) -> bool {
        !self.down
    }

    /// Takes in a result; tells if it changed the verdict.
    pub fn observe(&mut self, passed: bool, limits: Thresholds) -> Option<Change> {
        let first = std::mem::take(&mut self.presumed);
        if first && !passed {
            // no change for requests, but now it is known, and why
            return Some(Change::Down { failed: 1 });
        }
        if passed != self.down {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let limit = match passed {
            true if first => NonZeroU16::MIN,
            true => limits.healthy_after,
            false => limits.unhealthy_after,
        };
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
    port: Option<NonZeroU16>,
    interval: Duration,
    unhealthy_interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

impl Probe {
    /// # Errors
    /// A sentence for the operator.
    pub fn build(plan: &plan::HealthCheck, registry: &Registry) -> Result<Probe, String> {
        let thresholds =
            Thresholds { healthy_after: plan.healthy_after, unhealthy_after: plan.unhealthy_after };
        let dial = |alpn: &[&[u8]]| {
            Dial::build(plan.tls.as_ref(), alpn, registry).map(|dial| dial.announced(plan.send_proxy))
        };
        let check: Arc<dyn HealthCheck + Send + Sync> = match &plan.question {
            Question::Tcp if plan.tls.is_none() && plan.send_proxy.is_none() => registry.tcp_check(),
            Question::Tcp => Arc::new(DialHealthCheck { dial: dial(&[])?, thresholds }),
            Question::Udp(udp) => {
                let header = plan.send_proxy.map_or_else(Vec::new, |_| proxy_protocol::local());
                Arc::new(UdpHealthCheck::new(udp, &header, thresholds))
            }
            Question::Http(http) => {
                Arc::new(HttpHealthCheck::build(http, dial(&[b"http/1.1"])?, thresholds)?)
            }
            Question::Grpc(grpc) => {
                Arc::new(GrpcHealthCheck::build(grpc, dial(&[b"h2"])?, plan.timeout, thresholds)?)
            }
        };
        Ok(Probe {
            check,
            port: plan.port,
            interval: plan.interval,
            unhealthy_interval: plan.unhealthy_interval,
            timeout: plan.timeout,
            thresholds,
        })
    }

    /// How often a server is checked.
    pub fn interval(&self, up: bool) -> Duration {
        if up { self.interval } else { self.unhealthy_interval }
    }

    /// One check of one server.
    ///
    /// # Errors
    /// What is wrong with the server, in plain words.
    pub async fn check(&self, backend: &Backend) -> Result<(), String> {
        let mut backend = backend.clone();
        if let (Some(port), PingoraAddress::Inet(address)) = (self.port, &mut backend.addr) {
            address.set_port(port.get());
        }
        match tokio::time::timeout(self.timeout, self.check.check(&backend)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(reason::words(&error, self.timeout)),
            Err(_) => Err(reason::no_answer(self.timeout)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
