//! Passive health: what requests that went well or failed say about a server, and how long it is
//! ejected when they say that it is broken. The terms and the growth of ejections are those of
//! Envoy's outlier detection. Pure but for atomics: the time is given, nobody else is asked. Bound to
//! requests by [`Group`](super::Group).
//!
//! - [`Record`]: of one server; counts without locks while all is well.
//! - [`judge`]: compares the servers of a group, now and then.
//! - [`allowed`]: how many may be ejected at once.

use super::window::{Counts, Window};
use crate::config::plan::Outlier;
use crate::units::Time;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Response times are kept as binary logarithms, this exact.
const LOG_SCALE: f64 = 1024.0;

/// What is known about a server from its requests.
#[derive(Debug)]
pub struct Record {
    /// Failures since the last success.
    run: AtomicU32,
    failures: Window,
    answers: Window,
    /// Beside the lock, for every request.
    is_ejected: AtomicBool,
    ejections: Mutex<Ejections>,
}

#[derive(Debug, Default)]
struct Ejections {
    current: Option<Ejection>,
    /// How many of the past ones make the next longer.
    times: u32,
    back_since: Option<Instant>,
}

/// A server that gets no requests for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Ejection {
    pub why: Arc<str>,
    pub since: Instant,
    pub until: Instant,
}

impl Record {
    pub fn new(now: Instant) -> Record {
        Record {
            run: AtomicU32::new(0),
            failures: Window::new(now),
            answers: Window::new(now),
            is_ejected: AtomicBool::new(false),
            ejections: Mutex::default(),
        }
    }

    pub fn is_ejected(&self) -> bool {
        self.is_ejected.load(Ordering::Acquire)
    }

    pub fn ejection(&self) -> Option<Ejection> {
        if self.is_ejected() { self.ejections.lock().current.clone() } else { None }
    }

    /// When its ejection ends, if it is ejected.
    pub fn ejected_until(&self) -> Option<Instant> {
        if !self.is_ejected() {
            return None;
        }
        self.ejections.lock().current.as_ref().map(|ejection| ejection.until)
    }

    /// The head of a good answer came after this time. What an ejected server does comes from before
    /// or from a panic, and is not counted.
    pub fn answered(&self, took: Duration, now: Instant, rules: &Outlier) {
        if let Some(slowness) = rules.latency
            && !self.is_ejected()
        {
            let log = (took.as_secs_f64() * 1e6).max(1.0).log2() * LOG_SCALE;
            // at most 45 times the scale
            self.answers.measure(now, slowness.window, log as u64);
        }
    }

    /// A request went well.
    pub fn succeeded(&self, now: Instant, rules: &Outlier) {
        if self.is_ejected() {
            return;
        }
        // read before it is written, as all requests of all threads come by
        if self.run.load(Ordering::Relaxed) != 0 {
            self.run.store(0, Ordering::Relaxed);
        }
        if let Some(share) = rules.failure_share {
            self.failures.count(now, share.window, false);
        }
    }

    /// A request failed. `Some` when that makes too many in a row; then the count begins anew.
    pub fn failed(&self, now: Instant, rules: &Outlier) -> Option<u32> {
        if self.is_ejected() {
            return None;
        }
        if let Some(share) = rules.failure_share {
            self.failures.count(now, share.window, true);
        }
        let most = rules.consecutive_failures?;
        let run = self.run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if run < most {
            return None;
        }
        // of several at once only one has found too many
        self.run.compare_exchange(run, 0, Ordering::Relaxed, Ordering::Relaxed).ok()
    }

    /// Ejects the server and tells for how long; `None` when it is ejected already.
    pub fn eject(&self, now: Instant, rules: &Outlier, why: Arc<str>) -> Option<Duration> {
        let mut ejections = self.ejections.lock();
        if ejections.current.is_some() {
            return None;
        }
        let behaved = ejections.back_since.map_or(Duration::ZERO, |back| now.saturating_duration_since(back));
        let forgiven = behaved.as_nanos() / rules.ejection.as_nanos().max(1);
        let times = ejections.times.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        ejections.times = times.saturating_add(1);
        let lasts = rules.ejection.saturating_mul(ejections.times).min(rules.max_ejection);
        ejections.current = Some(Ejection { why, since: now, until: now + lasts });
        self.is_ejected.store(true, Ordering::Release);
        Some(lasts)
    }

    /// The ejection and how many of the past ones make the next longer, for another process.
    pub(super) fn handed_over(&self, now: Instant) -> Option<(Ejection, Duration, u32)> {
        let ejections = self.ejections.lock();
        let current = ejections.current.clone()?;
        let left = current.until.saturating_duration_since(now);
        Some((current, left, ejections.times))
    }

    /// Another process had ejected the server: this much of it is left.
    pub(super) fn resume(&self, now: Instant, why: Arc<str>, left: Duration, times: u32) {
        let mut ejections = self.ejections.lock();
        ejections.times = times;
        ejections.current = Some(Ejection { why, since: now, until: now + left });
        self.is_ejected.store(true, Ordering::Release);
    }

    /// Ends the ejection, and forgets what led to it; tells if there was one.
    pub fn release(&self, now: Instant) -> bool {
        let mut ejections = self.ejections.lock();
        if ejections.current.take().is_none() {
            return false;
        }
        ejections.back_since = Some(now);
        self.run.store(0, Ordering::Relaxed);
        self.failures.clear();
        self.answers.clear();
        self.is_ejected.store(false, Ordering::Release);
        true
    }

    /// What its requests of late look like.
    pub fn standing(&self, now: Instant, rules: &Outlier) -> Standing {
        let mut standing = Standing { ejected: self.is_ejected(), ..Standing::default() };
        if let Some(share) = rules.failure_share {
            standing.failures = self.failures.counts(now, share.window);
        }
        if let Some(slowness) = rules.latency {
            let answers = self.answers.counts(now, slowness.window);
            if answers.count >= slowness.requests.max(1) {
                let log = answers.sum as f64 / f64::from(answers.count) / LOG_SCALE;
                standing.typical = Some(Duration::from_secs_f64(log.exp2() / 1e6));
            }
        }
        standing
    }
}

/// A server beside the others.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Standing {
    pub ejected: bool,
    pub failures: Counts,
    /// The geometric mean of its response times, which a few long ones move little; `None` when there
    /// are too few to tell.
    pub typical: Option<Duration>,
}

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    Fails { counts: Counts, window: Duration },
    IsSlow { typical: Duration, others: Duration },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Fails { counts, window } => {
                write!(f, "{} of {} requests failed in {}", counts.failed, counts.count, Time(*window))
            }
            Fault::IsSlow { typical, others } => {
                write!(f, "it typically answers in {}, the others in {}", Brief(*typical), Brief(*others))
            }
        }
    }
}

/// A measured time, in as few digits as are of interest.
struct Brief(Duration);

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() * 1e3 {
            ms if ms < 10.0 => write!(f, "{ms:.1}ms"),
            ms => write!(f, "{ms:.0}ms"),
        }
    }
}

/// Which of these servers are worse than the others, the worst first: an index into `standings`, and
/// what is wrong. Where more than half of the others fail as much, it is not the server.
pub fn judge(standings: &[Standing], rules: &Outlier) -> Vec<(usize, Fault)> {
    let mut found: Vec<(usize, Fault, f64)> = Vec::new();
    let judged = standings.iter().enumerate().filter(|(_, standing)| !standing.ejected);
    for (index, standing) in judged {
        let others = || {
            let others = standings.iter().enumerate().filter(move |(other, _)| *other != index);
            others.map(|(_, other)| other).filter(|other| !other.ejected)
        };
        if let Some(bad) = fails(standing, others(), rules) {
            found.push((index, bad, 1.0 + standing.failures.failed_share()));
        } else if let Some(slow @ Fault::IsSlow { typical, others }) = is_slow(standing, others(), rules) {
            // behind those that fail, by how slow they are
            found.push((index, slow, 1.0 - others.as_secs_f64() / typical.as_secs_f64()));
        }
    }
    found.sort_by(|(_, _, a), (_, _, b)| b.total_cmp(a));
    found.into_iter().map(|(index, fault, _)| (index, fault)).collect()
}

fn fails<'a>(
    standing: &Standing,
    others: impl Iterator<Item = &'a Standing>,
    rules: &Outlier,
) -> Option<Fault> {
    let rule = rules.failure_share?;
    if !standing.failures.fail(rule.share, rule.requests) {
        return None;
    }
    let compared = others.filter(|other| other.failures.count >= rule.requests);
    let (bad, all) = compared.fold((0, 0), |(bad, all), other| {
        (bad + usize::from(other.failures.fail(rule.share, rule.requests)), all + 1)
    });
    (bad * 2 <= all).then_some(Fault::Fails { counts: standing.failures, window: rule.window })
}

fn is_slow<'a>(
    standing: &Standing,
    others: impl Iterator<Item = &'a Standing>,
    rules: &Outlier,
) -> Option<Fault> {
    let rule = rules.latency?;
    let typical = standing.typical.filter(|typical| *typical >= rule.at_least)?;
    let mut others: Vec<Duration> = others.filter_map(|other| other.typical).collect();
    others.sort_unstable();
    // of an even number the slower one in the middle
    let others = *others.get(others.len() / 2)?;
    (typical >= others.saturating_mul(u32::from(rule.times))).then_some(Fault::IsSlow { typical, others })
}

/// How many of `total` servers may be ejected at once: one at least, but never all.
pub fn allowed(total: usize, max_ejected: u16) -> usize {
    let share = total as u64 * u64::from(max_ejected) / 10_000;
    usize::try_from(share).unwrap_or(usize::MAX).max(1).min(total.saturating_sub(1))
}

#[cfg(test)]
mod tests;
