//! An event that may happen a million times a second is said once in a while. Owned by
//! whoever can meet such an event (a listener, the access log), never a static.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets one through per interval and counts what it kept back.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    since: Instant,
    /// Milliseconds after `since` from which the next one passes.
    next: AtomicU64,
    kept_back: AtomicU64,
}

impl Throttle {
    /// The interval of the process's messages.
    pub fn every_minute() -> Self {
        Throttle::new(Duration::from_secs(60))
    }

    pub fn new(interval: Duration) -> Self {
        Throttle { interval, since: Instant::now(), next: AtomicU64::new(0), kept_back: AtomicU64::new(0) }
    }

    /// `Some(n)`: say it, and that it happened `n` times more since it was last said.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let at = millis(now.saturating_duration_since(self.since));
        let next = self.next.load(Ordering::Relaxed);
        let after = at.saturating_add(millis(self.interval));
        let won = at >= next
            && self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if won {
            return Some(self.kept_back.swap(0, Ordering::Relaxed));
        }
        self.kept_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_and_the_rest_counted() {
        let throttle = Throttle::every_minute();
        let start = Instant::now();
        let at = |seconds| throttle.admit(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!([at(0), at(1), at(59)], [None; 3]);
        assert_eq!(at(61), Some(3));
        assert_eq!(at(62), None);
        assert_eq!(at(500), Some(1));
    }
}
