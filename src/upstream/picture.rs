//! What there is of a group and its servers now, for metrics. Called at a scrape, by `run`.

use super::breaker::Mode;
use super::group::Group;
use super::server::Server;
use crate::observe::metrics::BreakerState;
use crate::observe::metrics::picture::{ServerNow, UpstreamNow};
use std::time::Instant;

impl From<Mode> for BreakerState {
    fn from(mode: Mode) -> BreakerState {
        match mode {
            Mode::Closed => BreakerState::Closed,
            Mode::Open => BreakerState::Open,
            Mode::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

impl Group {
    /// What there is; `flows` whether connections are passed on to it whole.
    pub fn picture(&self, flows: bool, now: Instant) -> UpstreamNow {
        let together = &self.changes().together;
        UpstreamNow {
            name: self.name().to_owned(),
            counted: self.counted().clone(),
            servers: self.servers().iter().map(|server| self.server(server, flows)).collect(),
            in_flight: self.changes().in_flight(),
            flows,
            waiting: self.caps().map(|caps| caps.counts().1),
            budget: self.budget().used(now),
            breaker: self.plan().breaker.group.is_some().then(|| together.breaker(now).mode().into()),
            panics: together.panics(),
        }
    }

    fn server(&self, server: &Server, flows: bool) -> ServerNow {
        let (plan, endpoint) = (self.plan(), &server.endpoint);
        let conduct = endpoint.known_conduct();
        let breaker = || conduct.map_or(Mode::Closed, |conduct| conduct.breaker.mode()).into();
        let is_ejected = || conduct.is_some_and(|conduct| conduct.record.is_ejected());
        ServerNow {
            name: endpoint.name().to_owned(),
            counted: endpoint.counted().clone(),
            in_flight: endpoint.in_flight(),
            flows,
            checked: plan.health_check.is_some(),
            healthy: server.healthy(),
            usable: server.usable(),
            draining: endpoint.is_draining(),
            ejected: plan.outlier.is_some().then(is_ejected),
            breaker: plan.breaker.server.is_some().then(breaker),
            weight: server.weight(),
        }
    }
}
