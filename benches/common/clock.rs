//! Requests that come by the clock, whatever becomes of those before: how many independent users come, and what shows
//! what waiting costs. The time of a request counts from when it was due, so a proxy that is slow to take it is not
//! let off ("coordinated omission", Gil Tene). Whoever is free takes the next request; none waits behind a slow one
//! as long as a client is free. Used by the loads of `effect` and `compare`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The load ends so long after its last request was due, whatever is left of it.
const GRACE: Duration = Duration::from_secs(10);

/// When requests are due, counted from the start.
pub struct Moments {
    at: Vec<Duration>,
    taken: AtomicUsize,
}

impl Moments {
    /// At random, `rate` in a second on the average (a Poisson process), the last of them before `length`. The same
    /// `seed` makes the same moments, so that all contenders of a round have the same.
    pub fn random(rate: u32, length: Duration, seed: u64) -> Moments {
        let mut random = fastrand::Rng::with_seed(seed);
        let gap = Duration::from_secs(1) / rate.max(1);
        let mut at = Duration::ZERO;
        let moments = std::iter::repeat_with(|| {
            at += gap.mul_f64(exponential(&mut random));
            at
        });
        Moments { at: moments.take_while(|at| *at < length).collect(), taken: AtomicUsize::new(0) }
    }

    /// How many requests there are to be.
    pub fn count(&self) -> usize {
        self.at.len()
    }

    /// Takes the next request and waits until it is due: the moment from which it counts. `None` when there is no
    /// more, or the time is over.
    pub fn next(&self, started: Instant) -> Option<Instant> {
        let due = started + *self.at.get(self.taken.fetch_add(1, Ordering::Relaxed))?;
        let last = started + self.at.last().copied().unwrap_or_default();
        if Instant::now() > last + GRACE {
            return None;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        Some(due)
    }
}

/// A random length between events that do not know of each other, 1 on the average.
pub fn exponential(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

/// What `part` of the sorted values does not exceed.
pub fn quantile<T>(sorted: &[T], part: f64) -> Option<&T> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).or(sorted.last())
}
