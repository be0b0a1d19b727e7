//! A circuit breaker: closed, it lets everything pass and counts; open, nothing; half-open, a few
//! trial requests, which decide. For each server, and for a group as a whole. The states are those of
//! Nygard's "Release It!", the rule of the trials that of gobreaker: so many must succeed, one that
//! fails is enough. Pure but for atomics: the time is given. Bound to requests by
//! [`Group`](super::Group).

use super::window::{Counts, Window};
use crate::config::plan::Breaker as Rules;
use crate::units::Time;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// A breaker. Closed, it costs its requests two atomic counts and no lock.
#[derive(Debug)]
pub struct Breaker {
    window: Window,
    /// The state, beside the lock.
    mode: AtomicU8,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Which half-open state it is, so that trials of an earlier one are told from those of this.
    round: u64,
    /// Trials under way, of any round.
    flying: u32,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    /// Of `most` trials so many have been let through, and `passed` have succeeded.
    HalfOpen {
        taken: u32,
        passed: u32,
        most: u32,
    },
}

/// What a breaker lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Closed,
    Open,
    /// Trials; there may be no room for another just now.
    HalfOpen {
        room: bool,
    },
}

/// What is said to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// It is a trial of this round: [`Breaker::succeeded`], [`Breaker::failed`] or
    /// [`Breaker::abandon`] is to be called for it, once.
    Trial(u64),
    /// Not for this long, as far as is known.
    Refused(Duration),
}

/// A change of state, to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Opened(Cause),
    HalfOpened { trials: u32 },
    Closed { trials: u32 },
}

/// Why it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Failures { counts: Counts, window: Duration },
    Pending(u32),
    TrialFailed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Failures { counts, window } => {
                write!(f, "{} of {} requests failed in {}", counts.failed, counts.count, Time(*window))
            }
            Cause::Pending(1) => f.write_str("1 request is in flight"),
            Cause::Pending(n) => write!(f, "{n} requests are in flight"),
            Cause::TrialFailed => f.write_str("a trial request failed"),
        }
    }
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;
const HALF_OPEN_FULL: u8 = 3;

impl Breaker {
    pub fn new(now: Instant) -> Breaker {
        Breaker {
            window: Window::new(now),
            mode: AtomicU8::new(CLOSED),
            state: Mutex::new(State { phase: Phase::Closed, round: 0, flying: 0 }),
        }
    }

    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            CLOSED => Mode::Closed,
            HALF_OPEN => Mode::HalfOpen { room: true },
            HALF_OPEN_FULL => Mode::HalfOpen { room: false },
            _ => Mode::Open,
        }
    }

    /// When it will let trials pass, while it is open.
    pub fn open_until(&self) -> Option<Instant> {
        if self.mode() != Mode::Open {
            return None;
        }
        match self.state.lock().phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::HalfOpen { .. } => None,
        }
    }

    /// Lets trials pass when it has been open for long enough.
    pub fn look(&self, now: Instant, rules: &Rules) -> Option<Change> {
        if self.mode() != Mode::Open {
            return None;
        }
        let mut state = self.state.lock();
        let Phase::Open { until } = state.phase else { return None };
        if now < until {
            return None;
        }
        state.round = state.round.wrapping_add(1);
        self.enter(&mut state, Phase::HalfOpen { taken: 0, passed: 0, most: rules.trials });
        Some(Change::HalfOpened { trials: rules.trials })
    }

    /// Asks whether a request may pass, while `pending` others are in flight. [`Breaker::look`] is to
    /// be called before.
    pub fn admit(&self, now: Instant, pending: usize, rules: &Rules) -> (Admission, Option<Change>) {
        let full = rules.pending.filter(|most| pending >= *most as usize);
        if self.mode() == Mode::Closed && full.is_none() {
            return (Admission::Pass, None);
        }
        let state = &mut *self.state.lock();
        match (&mut state.phase, full) {
            (Phase::Closed, None) => (Admission::Pass, None),
            (Phase::Open { until }, _) => (Admission::Refused(until.saturating_duration_since(now)), None),
            (Phase::Closed | Phase::HalfOpen { .. }, Some(_)) => {
                let cause = Cause::Pending(u32::try_from(pending).unwrap_or(u32::MAX));
                let change = self.open(state, now, rules, cause);
                (Admission::Refused(rules.open), Some(change))
            }
            (Phase::HalfOpen { taken, most, .. }, None) => {
                if *taken >= *most || state.flying >= *most {
                    return (Admission::Refused(Duration::ZERO), None);
                }
                *taken += 1;
                state.flying += 1;
                self.tell(state);
                (Admission::Trial(state.round), None)
            }
        }
    }

    /// A request went well.
    pub fn succeeded(&self, trial: Option<u64>, now: Instant, rules: &Rules) -> Option<Change> {
        let Some(round) = trial else {
            self.count(now, rules, false);
            return None;
        };
        let state = &mut *self.state.lock();
        self.land(state);
        let (_, passed, most) = trials(state, round)?;
        *passed += 1;
        let (passed, most) = (*passed, *most);
        if passed < most {
            return None;
        }
        self.window.clear();
        self.enter(state, Phase::Closed);
        Some(Change::Closed { trials: passed })
    }

    /// A request failed.
    pub fn failed(&self, trial: Option<u64>, now: Instant, rules: &Rules) -> Option<Change> {
        if let Some(round) = trial {
            let state = &mut *self.state.lock();
            self.land(state);
            trials(state, round)?;
            return Some(self.open(state, now, rules, Cause::TrialFailed));
        }
        self.count(now, rules, true);
        let rule = rules.failure_share?;
        let counts = self.window.counts(now, rule.window);
        if !counts.fail(rule.share, rule.requests) {
            return None;
        }
        let mut state = self.state.lock();
        match state.phase {
            Phase::Closed => {
                Some(self.open(&mut state, now, rules, Cause::Failures { counts, window: rule.window }))
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// A trial ended without a verdict: another may take its place.
    pub fn abandon(&self, round: u64) {
        let state = &mut *self.state.lock();
        if let Some((taken, _, _)) = trials(state, round) {
            *taken = taken.saturating_sub(1);
        }
        self.land(state);
    }

    /// A trial is over, of whichever round.
    fn land(&self, state: &mut State) {
        debug_assert!(state.flying > 0, "a trial ends once");
        state.flying = state.flying.saturating_sub(1);
        self.tell(state);
    }

    /// Requests that were let through before it opened say nothing about how it is now.
    fn count(&self, now: Instant, rules: &Rules, failed: bool) {
        if let Some(rule) = rules.failure_share
            && self.mode() == Mode::Closed
        {
            self.window.count(now, rule.window, failed);
        }
    }

    fn open(&self, state: &mut State, now: Instant, rules: &Rules, cause: Cause) -> Change {
        self.enter(state, Phase::Open { until: now + rules.open });
        Change::Opened(cause)
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        self.tell(state);
    }

    fn tell(&self, state: &State) {
        let mode = match state.phase {
            Phase::Closed => CLOSED,
            Phase::Open { .. } => OPEN,
            Phase::HalfOpen { taken, most, .. } if taken < most && state.flying < most => HALF_OPEN,
            Phase::HalfOpen { .. } => HALF_OPEN_FULL,
        };
        self.mode.store(mode, Ordering::Release);
    }
}

/// The counts of the half-open state, if it is that of this round.
fn trials(state: &mut State, round: u64) -> Option<(&mut u32, &mut u32, &u32)> {
    match &mut state.phase {
        Phase::HalfOpen { taken, passed, most } if state.round == round => Some((taken, passed, &*most)),
        Phase::Closed | Phase::Open { .. } | Phase::HalfOpen { .. } => None,
    }
}

#[cfg(test)]
mod tests;
