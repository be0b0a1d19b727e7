//! What live requests say about the servers of a group: reported by `http::verdict`, told to the
//! breakers and the records of the servers. What follows from it is in [`ejection`];
//! [`by_hand`] is what operators do.

mod by_hand;
mod ejection;

use super::Group;
use crate::config::plan;
use crate::observe::{events, metrics};
use crate::upstream::breaker::{Admission, Breaker, Change};
use crate::upstream::changes::Changes;
use crate::upstream::conduct::Conduct;
use crate::upstream::{Endpoint, InFlight};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A try that is watched for what it says about its server. Dropped, it has said nothing.
#[derive(Debug, Default)]
pub struct Watch {
    trial: Option<Trial>,
}

/// A request that the breaker of the group has let through. Dropped, it has said nothing.
#[derive(Debug, Default)]
pub struct Pass {
    trial: Option<Trial>,
}

/// What a half-open breaker lets through to see.
#[derive(Debug)]
struct Trial {
    /// `None` when it has a verdict.
    of: Option<Whose>,
    round: u64,
}

/// Whose breaker it is.
#[derive(Debug)]
enum Whose {
    Server(Arc<Endpoint>),
    Group(Arc<Changes>),
}

impl Trial {
    fn new(of: Whose, round: u64) -> Option<Trial> {
        Some(Trial { of: Some(of), round })
    }

    /// It has a verdict.
    fn settle(mut self) -> u64 {
        self.of = None;
        self.round
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        match &self.of {
            Some(Whose::Server(endpoint)) => {
                if let Some(conduct) = endpoint.known_conduct() {
                    conduct.breaker.abandon(self.round);
                    endpoint.heed_conduct();
                }
            }
            Some(Whose::Group(changes)) => changes.together.breaker(Instant::now()).abandon(self.round),
            None => {}
        }
    }
}

/// Tells a breaker how it went, in this round if it was a trial.
fn tell_breaker(
    breaker: &Breaker,
    round: Option<u64>,
    outcome: Outcome<'_>,
    now: Instant,
    rules: &plan::Breaker,
) -> Option<Change> {
    match outcome.is_failure(&rules.statuses) {
        true => breaker.failed(round, now, rules),
        false => breaker.succeeded(round, now, rules),
    }
}

/// How a try or a request went.
#[derive(Clone, Copy)]
pub enum Outcome<'a> {
    Answered(u16),
    /// It is connected to; what becomes of a flow says nothing about it.
    Connected,
    /// There was no answer, or half of one. Why is asked only when it is told.
    Failed(&'a dyn Fn() -> String),
}

impl Outcome<'_> {
    fn is_failure(&self, statuses: &plan::Statuses) -> bool {
        match self {
            Outcome::Answered(status) => statuses.contains(*status),
            Outcome::Connected => false,
            Outcome::Failed(_) => true,
        }
    }

    fn words(&self) -> String {
        match self {
            Outcome::Answered(status) => format!("status {status}"),
            Outcome::Connected => "connected".to_owned(),
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
                Some(Watch { trial: Trial::new(Whose::Server(endpoint.clone()), round) })
            }
            Admission::Refused(_) => self.changes().panics().then(Watch::default),
        }
    }

    fn tell(&self, endpoint: &Endpoint, rules: &plan::Breaker, change: Change, now: Instant) {
        if matches!(change, Change::Opened(_)) {
            endpoint.counted().breaker_opened();
        }
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
            self.eject(endpoint, rules, (metrics::Fault::ConsecutiveFailures, why), now);
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
        let change = tell_breaker(&conduct.breaker, round, outcome, now, rules);
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
            self.tell_own(rules, change);
        }
        match admission {
            Admission::Pass => Ok(Some(Pass::default())),
            Admission::Trial(round) => {
                Ok(Some(Pass { trial: Trial::new(Whose::Group(self.shape.changes.clone()), round) }))
            }
            Admission::Refused(left) => Err(left),
        }
    }

    /// A request that was let in is over.
    pub fn left(&self, pass: Pass, outcome: Outcome<'_>, now: Instant) {
        let Some(rules) = &self.plan.breaker.group else { return };
        let breaker = self.changes().together.breaker(now);
        let round = pass.trial.map(Trial::settle);
        let change = tell_breaker(breaker, round, outcome, now, rules);
        if let Some(change) = change {
            self.tell_own(rules, change);
        }
    }

    fn tell_own(&self, rules: &plan::Breaker, change: Change) {
        if matches!(change, Change::Opened(_)) {
            self.counted.breaker_opened();
        }
        events::breaker(self.name(), None, change_words(change, rules));
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

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
