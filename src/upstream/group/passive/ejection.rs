//! What follows from what is known about the servers of a group: servers are ejected and taken back,
//! and when few are healthy there is panic mode. At once where a request has shown it; what is due later
//! is looked after by [`upkeep`](crate::upstream::upkeep).

use super::Group;
use crate::config::plan;
use crate::observe::{events, metrics};
use crate::upstream::outlier::{self, Standing};
use crate::upstream::{Endpoint, Server, panic};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The servers of a group are compared ten times in a window, but no more and no less often than this.
const COMPARED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// One server.
impl Group {
    pub(super) fn eject(
        &self,
        endpoint: &Arc<Endpoint>,
        rules: &plan::Outlier,
        (fault, why): (metrics::Fault, String),
        now: Instant,
    ) {
        let servers = self.shape.servers.load();
        let together = &self.changes().together;
        let deciding = together.deciding.lock();
        let staying = || servers.iter().filter(|server| !server.endpoint.is_draining());
        let is_it = |server: &&Arc<Server>| Arc::ptr_eq(&server.endpoint, endpoint);
        if !staying().any(|server| is_it(&server)) {
            return;
        }
        let allowed = outlier::allowed(staying().count(), rules.max_ejected);
        let ejected = staying().filter(|server| is_ejected(server)).count();
        let another = staying().any(|server| !is_it(&server) && server.healthy());
        if ejected >= allowed || !another {
            drop(deciding);
            events::ejection_spared(&together.spared, self.name(), endpoint.name(), &why, another);
            return;
        }
        let lasts = endpoint.conduct(now).record.eject(now, rules, why.as_str().into());
        endpoint.heed_conduct();
        drop(deciding);
        if let Some(lasts) = lasts {
            endpoint.counted().ejected(fault);
            events::ejected(self.name(), endpoint.name(), lasts, &why);
        }
        self.review(now);
    }

    pub(super) fn release(&self, server: &Server, now: Instant, why: events::Release) {
        if let Some(conduct) = server.endpoint.known_conduct()
            && conduct.record.release(now)
        {
            server.endpoint.heed_conduct();
            events::released(self.name(), server.endpoint.name(), why);
        }
    }

    /// Ejects servers that have done worse than the others.
    fn compare(&self, now: Instant) {
        let Some(rules) = self.plan.outlier.as_ref().filter(|rules| compares(rules)) else { return };
        let servers = self.shape.servers.load();
        let staying: Vec<_> = servers.iter().filter(|server| !server.endpoint.is_draining()).collect();
        let standing = |server: &&Arc<Server>| {
            let conduct = server.endpoint.known_conduct();
            conduct.map_or_else(Standing::default, |conduct| conduct.record.standing(now, rules))
        };
        let standings: Vec<Standing> = staying.iter().map(standing).collect();
        for (index, fault) in outlier::judge(&standings, rules) {
            if let Some(server) = staying.get(index) {
                let kind = match fault {
                    outlier::Fault::Fails { .. } => metrics::Fault::FailureShare,
                    outlier::Fault::IsSlow { .. } => metrics::Fault::Latency,
                };
                self.eject(&server.endpoint, rules, (kind, fault.to_string()), now);
            }
        }
    }

    /// Takes servers back whose time is over, and those that are too many since others have left.
    fn take_back(&self, now: Instant) {
        let servers = self.shape.servers.load();
        let until = |server: &Server| server.endpoint.known_conduct()?.record.ejected_until();
        for server in servers.iter().filter(|server| until(server).is_some_and(|until| until <= now)) {
            self.release(server, now, events::Release::Over);
        }
        let Some(rules) = &self.plan.outlier else { return };
        let staying = servers.iter().filter(|server| !server.endpoint.is_draining());
        let allowed = outlier::allowed(staying.clone().count(), rules.max_ejected);
        let mut ejected: Vec<_> = staying.filter_map(|server| Some((until(server)?, server))).collect();
        ejected.sort_by_key(|(until, _)| *until);
        let over = ejected.len().saturating_sub(allowed);
        for (_, server) in ejected.into_iter().take(over) {
            self.release(server, now, events::Release::TooMany);
        }
    }
}

/// All of them.
impl Group {
    /// What is due by now. Called beside the requests.
    pub(in crate::upstream) fn tend_conduct(&self, now: Instant) {
        self.take_back(now);
        if let Some(rules) = &self.plan.breaker.server {
            for server in self.shape.servers.load().iter() {
                if let Some(conduct) = server.endpoint.known_conduct()
                    && let Some(change) = conduct.breaker.look(now, rules)
                {
                    server.endpoint.heed_conduct();
                    self.tell(&server.endpoint, rules, change, now);
                }
            }
        }
        self.compare(now);
        self.review(now);
    }

    /// How long until something is due; `None` when nothing is.
    pub(in crate::upstream) fn next_due(&self, now: Instant) -> Option<Duration> {
        let compare = self.plan.outlier.as_ref().and_then(pace).map(|pace| now + pace);
        let servers = self.shape.servers.load();
        let conducts = servers.iter().filter_map(|server| server.endpoint.known_conduct());
        let due = conducts.flat_map(|conduct| [conduct.record.ejected_until(), conduct.breaker.open_until()]);
        let first = due.chain([compare]).flatten().min()?;
        Some(first.saturating_duration_since(now))
    }

    /// Whether to panic, and whether ejections have left nobody. At once when the state of a server
    /// has changed, and by a request that finds none.
    pub(in crate::upstream) fn review(&self, now: Instant) {
        let together = &self.changes().together;
        if self.plan.panic.is_none() && self.plan.outlier.is_none() && !together.panics() {
            return;
        }
        let servers = self.shape.servers.load();
        let deciding = together.deciding.lock();
        let staying = || servers.iter().filter(|server| !server.endpoint.is_draining());
        let (healthy, total) = (staying().filter(|server| server.healthy()).count(), staying().count());
        let panics = self.plan.panic.is_some_and(|below| panic::panics(healthy, total, below));
        if panics != together.panics() {
            together.set_panic(panics);
            self.changes().bump();
            events::panic(self.name(), panics, healthy, total, self.plan.panic);
        }
        if healthy == 0 && !panics && self.plan.outlier.is_some() {
            let only_ejected = |server: &&Arc<Server>| server.endpoint.is_sound(server.heed.but_ejections());
            staying().filter(only_ejected).for_each(|server| {
                self.release(server, now, events::Release::NobodyLeft);
            });
        }
        drop(deciding);
    }

    /// Whether a request that finds nobody is to ask again after [`Group::review`]: nobody is usable,
    /// and that may change.
    pub(in crate::upstream) fn may_recover(&self) -> bool {
        (self.plan.panic.is_some() || self.plan.outlier.is_some()) && !self.any_healthy()
    }
}

pub(super) fn is_ejected(server: &Server) -> bool {
    server.endpoint.known_conduct().is_some_and(|conduct| conduct.record.is_ejected())
}

fn compares(rules: &plan::Outlier) -> bool {
    rules.failure_share.is_some() || rules.latency.is_some()
}

/// How often servers are compared.
fn pace(rules: &plan::Outlier) -> Option<Duration> {
    let windows = [rules.failure_share.map(|rule| rule.window), rules.latency.map(|rule| rule.window)];
    let shortest = windows.into_iter().flatten().min()?;
    Some((shortest / 10).clamp(COMPARED.0, COMPARED.1))
}
