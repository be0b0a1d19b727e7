//! What live requests say about the servers of a group, and what follows from it: servers ejected and
//! taken back, breakers, panic mode. Requests report through `http::verdict`;
//! [`upkeep`](crate::upstream::upkeep) looks after what is due later.

use super::Group;
use crate::config::plan;
use crate::observe::events;
use crate::upstream::breaker::{Admission, Change};
use crate::upstream::conduct::Conduct;
use crate::upstream::endpoint::Changes;
use crate::upstream::outlier::{self, Standing};
use crate::upstream::{Endpoint, InFlight, Server, panic};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The servers of a group are compared ten times in a window, but no more and no less often than this.
const COMPARED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A try that is watched for what it says about its server. Dropped, it has said nothing.
#[derive(Debug, Default)]
pub struct Watch {
    trial: Option<Trial>,
}

/// A try that a server's breaker lets through to see.
#[derive(Debug)]
struct Trial {
    endpoint: Option<Arc<Endpoint>>,
    round: u64,
}

impl Trial {
    /// It has a verdict.
    fn settle(mut self) -> u64 {
        self.endpoint = None;
        self.round
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(endpoint) = &self.endpoint
            && let Some(conduct) = endpoint.known_conduct()
        {
            conduct.breaker.abandon(self.round);
            endpoint.heed_conduct();
        }
    }
}

/// A request that the breaker of the group has let through. Dropped, it has said nothing.
#[derive(Debug, Default)]
pub struct Pass {
    trial: Option<GroupTrial>,
}

#[derive(Debug)]
struct GroupTrial {
    changes: Option<Arc<Changes>>,
    round: u64,
}

impl GroupTrial {
    fn settle(mut self) -> u64 {
        self.changes = None;
        self.round
    }
}

impl Drop for GroupTrial {
    fn drop(&mut self) {
        if let Some(changes) = &self.changes {
            changes.together.breaker(Instant::now()).abandon(self.round);
        }
    }
}

/// How a try or a request went.
#[derive(Clone, Copy)]
pub enum Outcome<'a> {
    Answered(u16),
    /// There was no answer, or half of one. Why is asked only when it is told.
    Failed(&'a dyn Fn() -> String),
}

impl Outcome<'_> {
    fn is_failure(&self, statuses: &plan::Statuses) -> bool {
        match self {
            Outcome::Answered(status) => statuses.contains(*status),
            Outcome::Failed(_) => true,
        }
    }

    fn words(&self) -> String {
        match self {
            Outcome::Answered(status) => format!("status {status}"),
            Outcome::Failed(why) => why(),
        }
    }
}

/// Of a server, by its breaker.
impl Group {
    /// Whether its tries are to be watched; without that none of this costs anything.
    fn watches(&self) -> bool {
        self.plan.outlier.is_some() || self.plan.breaker.server.is_some()
    }

    /// Begins a try on this server, if its breaker has room for it.
    pub fn begin_try(&self, endpoint: &Arc<Endpoint>) -> Option<InFlight> {
        self.watched(endpoint.begin())
    }

    /// The same for a try that is counted already.
    pub(super) fn watched(&self, mut try_on: InFlight) -> Option<InFlight> {
        if self.watches() {
            try_on.watch = Some(self.admit(try_on.endpoint(), Instant::now())?);
        }
        Some(try_on)
    }

    /// Lets a try through to this server, which is counted there, or not.
    fn admit(&self, endpoint: &Arc<Endpoint>, now: Instant) -> Option<Watch> {
        let Some(rules) = &self.plan.breaker.server else { return Some(Watch::default()) };
        let breaker = &endpoint.conduct(now).breaker;
        let half_open = breaker.look(now, rules);
        let (admission, change) = breaker.admit(now, endpoint.in_flight().saturating_sub(1), rules);
        if half_open.is_some() || change.is_some() || matches!(admission, Admission::Trial(_)) {
            endpoint.heed_conduct();
        }
        for change in [half_open, change].into_iter().flatten() {
            self.tell(endpoint, rules, change, now);
        }
        match admission {
            Admission::Pass => Some(Watch::default()),
            Admission::Trial(round) => {
                Some(Watch { trial: Some(Trial { endpoint: Some(endpoint.clone()), round }) })
            }
            Admission::Refused(_) => self.changes().panics().then(Watch::default),
        }
    }

    fn tell(&self, endpoint: &Endpoint, rules: &plan::Breaker, change: Change, now: Instant) {
        events::breaker(self.name(), Some(endpoint.name()), change_words(change, rules));
        // even when it is as closed to requests as before: there is a new time to look at it
        self.changes().bump();
        self.review(now);
    }
}

/// Of tries.
impl Group {
    /// Whether this status is a failure of the server, so that there is no need to see the rest.
    pub fn finds_bad(&self, status: u16) -> bool {
        let breaker = self.plan.breaker.server.as_ref().map(|rules| &rules.statuses);
        let outlier = self.plan.outlier.as_ref().map(|rules| &rules.statuses);
        [breaker, outlier].into_iter().flatten().any(|statuses| statuses.contains(status))
    }

    /// The head of an answer was there after this time.
    pub fn answered(&self, endpoint: &Endpoint, took: Duration, now: Instant) {
        if let Some(rules) = &self.plan.outlier
            && rules.latency.is_some()
        {
            endpoint.conduct(now).record.answered(took, now, rules);
        }
    }

    /// A try is over.
    pub fn ended(&self, endpoint: &Arc<Endpoint>, watch: Watch, outcome: Outcome<'_>, now: Instant) {
        let conduct = endpoint.conduct(now);
        if let Some(rules) = &self.plan.breaker.server {
            self.count(endpoint, conduct, watch, rules, (outcome, now));
        }
        let Some(rules) = &self.plan.outlier else { return };
        if !outcome.is_failure(&rules.statuses) {
            conduct.record.succeeded(now, rules);
        } else if let Some(run) = conduct.record.failed(now, rules) {
            let why = match run {
                1 => outcome.words(),
                n => format!("{n} failures in a row, the last: {}", outcome.words()),
            };
            self.eject(endpoint, rules, why, now);
        }
    }

    /// Tells the breaker how a try went.
    fn count(
        &self,
        endpoint: &Endpoint,
        conduct: &Conduct,
        watch: Watch,
        rules: &plan::Breaker,
        (outcome, now): (Outcome<'_>, Instant),
    ) {
        let round = watch.trial.map(Trial::settle);
        let change = match outcome.is_failure(&rules.statuses) {
            true => conduct.breaker.failed(round, now, rules),
            false => conduct.breaker.succeeded(round, now, rules),
        };
        if round.is_some() || change.is_some() {
            endpoint.heed_conduct();
        }
        if let Some(change) = change {
            self.tell(endpoint, rules, change, now);
        }
    }
}

impl Watch {
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

impl Pass {
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

/// Of requests, by the breaker of the group as a whole.
impl Group {
    /// Lets a request in. `Ok(None)`: without a breaker.
    ///
    /// # Errors
    /// How long the breaker will stay open, as far as is known.
    pub fn enter(&self, now: Instant) -> Result<Option<Pass>, Duration> {
        let Some(rules) = &self.plan.breaker.group else { return Ok(None) };
        let breaker = self.changes().together.breaker(now);
        let half_open = breaker.look(now, rules);
        let (admission, change) = breaker.admit(now, self.in_flight(), rules);
        for change in [half_open, change].into_iter().flatten() {
            events::breaker(self.name(), None, change_words(change, rules));
        }
        match admission {
            Admission::Pass => Ok(Some(Pass::default())),
            Admission::Trial(round) => {
                let changes = Some(self.shape.changes.clone());
                Ok(Some(Pass { trial: Some(GroupTrial { changes, round }) }))
            }
            Admission::Refused(left) => Err(left),
        }
    }

    /// A request that was let in is over.
    pub fn left(&self, pass: Pass, outcome: Outcome<'_>, now: Instant) {
        let Some(rules) = &self.plan.breaker.group else { return };
        let breaker = self.changes().together.breaker(now);
        let round = pass.trial.map(GroupTrial::settle);
        let change = match outcome.is_failure(&rules.statuses) {
            true => breaker.failed(round, now, rules),
            false => breaker.succeeded(round, now, rules),
        };
        if let Some(change) = change {
            events::breaker(self.name(), None, change_words(change, rules));
        }
    }

    fn in_flight(&self) -> usize {
        self.changes().in_flight()
    }
}

/// What has become of a breaker, in words.
fn change_words(change: Change, rules: &plan::Breaker) -> events::Breaker {
    match change {
        Change::Opened(cause) => events::Breaker::Opens { lasts: rules.open, why: cause.to_string() },
        Change::HalfOpened { trials } => events::Breaker::Tries { trials },
        Change::Closed { trials } => events::Breaker::Closes { trials },
    }
}

/// Ejection.
impl Group {
    fn eject(&self, endpoint: &Arc<Endpoint>, rules: &plan::Outlier, why: String, now: Instant) {
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
            events::ejected(self.name(), endpoint.name(), lasts, &why);
        }
        self.review(now);
    }

    fn release(&self, server: &Server, now: Instant, why: events::Release) {
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
                self.eject(&server.endpoint, rules, fault.to_string(), now);
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

/// Now and then, and when nobody is left.
impl Group {
    /// What is due by now. Called beside the requests.
    pub(super) fn tend_conduct(&self, now: Instant) {
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
    pub(crate) fn next_due(&self, now: Instant) -> Option<Duration> {
        let compare = self.plan.outlier.as_ref().and_then(pace).map(|pace| now + pace);
        let servers = self.shape.servers.load();
        let conducts = servers.iter().filter_map(|server| server.endpoint.known_conduct());
        let due = conducts.flat_map(|conduct| [conduct.record.ejected_until(), conduct.breaker.open_until()]);
        let first = due.chain([compare]).flatten().min()?;
        Some(first.saturating_duration_since(now))
    }

    /// Whether to panic, and whether ejections have left nobody. At once when the state of a server
    /// has changed, and by a request that finds none.
    pub(super) fn review(&self, now: Instant) {
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
    pub(super) fn may_recover(&self) -> bool {
        (self.plan.panic.is_some() || self.plan.outlier.is_some()) && !self.any_healthy()
    }
}

fn is_ejected(server: &Server) -> bool {
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

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
