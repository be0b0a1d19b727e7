//! The retry budget of a group: how many retries there may be beside first tries, so that when
//! every server fails the load on them grows by a share and not by a factor. As in Finagle's
//! `RetryBudget`: a share of the requests of the last ten seconds, and a floor for groups with few.
//! Pure but for atomics; asked by `http::retry`.

use crate::config::file;
use crate::observe::Throttle;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The requests and retries of this many seconds count.
const WINDOW: u64 = 10;

/// How often the process log says that there is none left.
const SPENT_LINES: Duration = Duration::from_secs(10);

/// What a group may spend on retries.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    floor: u32,
    epoch: Instant,
    spent: Throttle,
    seconds: [Second; WINDOW as usize],
}

/// The counts of one second. It is used again for every tenth: who comes first in a new second
/// clears it. A count that comes in between is lost, which is one in a second's requests.
#[derive(Debug, Default)]
struct Second {
    number: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

impl Budget {
    pub fn new(settings: file::Budget, now: Instant) -> Budget {
        Budget {
            share: settings.share.fraction(),
            floor: settings.floor,
            epoch: now,
            spent: Throttle::new(SPENT_LINES),
            seconds: Default::default(),
        }
    }

    /// A request came for the group.
    pub fn request(&self, now: Instant) {
        if let Some(second) = self.second(now) {
            second.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a retry out of the budget; `false` when there is none left.
    pub fn retry(&self, now: Instant) -> bool {
        let Some(current) = self.second(now) else { return false };
        // taken first, so that of two at once not both get the last
        current.retries.fetch_add(1, Ordering::Relaxed);
        let (used, allowed) = self.used(now);
        if used <= allowed {
            return true;
        }
        current.retries.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// The retries of the last ten seconds, and how many were allowed.
    pub fn used(&self, now: Instant) -> (f64, f64) {
        let number = self.number(now);
        let live = |second: &&Second| number - second.number.load(Ordering::Relaxed).min(number) < WINDOW;
        let sum = |count: fn(&Second) -> &AtomicU32| -> f64 {
            let live = self.seconds.iter().filter(live);
            live.map(|second| u64::from(count(second).load(Ordering::Relaxed))).sum::<u64>() as f64
        };
        let allowed = f64::from(self.floor) * WINDOW as f64 + sum(|second| &second.requests) * self.share;
        (sum(|second| &second.retries), allowed)
    }

    /// How often it is said that there is none left.
    pub fn spent(&self) -> &Throttle {
        &self.spent
    }

    /// Which second it is, from 1, so that one that was never used is told from the first.
    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() + WINDOW
    }

    fn second(&self, now: Instant) -> Option<&Second> {
        let number = self.number(now);
        let second = self.seconds.get(usize::try_from(number % WINDOW).ok()?)?;
        let before = second.number.load(Ordering::Relaxed);
        if before < number
            && second.number.compare_exchange(before, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            second.requests.store(0, Ordering::Relaxed);
            second.retries.store(0, Ordering::Relaxed);
        }
        Some(second)
    }
}

/// How long to wait before try number `attempt`, from 2: up to `base`, then up to twice as long each
/// time, but never more than `max`; by chance, so that requests that failed together do not come
/// back together ("full jitter"). `random` is from 0 up to 1.
pub fn backoff(base: Duration, max: Duration, attempt: u16, random: f64) -> Duration {
    let doublings = u32::from(attempt.saturating_sub(2)).min(31);
    base.saturating_mul(1 << doublings).min(max).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Percent;

    fn budget(share: u8, floor: u32) -> (Budget, Instant) {
        let now = Instant::now();
        (Budget::new(file::Budget { share: Percent::of(share), floor }, now), now)
    }

    fn spend(budget: &Budget, now: Instant) -> usize {
        (0..100_000).take_while(|_| budget.retry(now)).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_retried() {
        let (budget, now) = budget(20, 0);
        assert!(!budget.retry(now));
        (0..1000).for_each(|_| budget.request(now));
        assert_eq!(spend(&budget, now), 200);
        let later = now + Duration::from_secs(5);
        assert_eq!(spend(&budget, later), 0);
        (0..10).for_each(|_| budget.request(later));
        assert_eq!(spend(&budget, later), 2);
    }

    #[test]
    fn a_few_are_always_allowed() {
        let (budget, now) = budget(0, 3);
        assert_eq!(spend(&budget, now), 30);
        assert_eq!(spend(&budget, now + Duration::from_secs(9)), 0);
        assert_eq!(spend(&budget, now + Duration::from_secs(10)), 30);
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let (budget, now) = budget(50, 0);
        (0..100).for_each(|_| budget.request(now));
        assert_eq!(spend(&budget, now + Duration::from_secs(10)), 0);
        assert_eq!(spend(&budget, now + Duration::from_secs(3600)), 0);
        (0..100).for_each(|_| budget.request(now + Duration::from_secs(3600)));
        assert_eq!(spend(&budget, now + Duration::from_secs(3605)), 50);
    }

    #[test]
    fn retries_never_exceed_the_budget_whatever_happens() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let (share, floor) = (random.u8(0..=100), random.u32(0..5));
            let (budget, start) = budget(share, floor);
            // by second: requests and retries
            let mut history = vec![(0u32, 0u32); 60];
            for second in 0..60u64 {
                let now = start + Duration::from_secs(second);
                for _ in 0..random.usize(0..50) {
                    let place = usize::try_from(second).unwrap();
                    if random.bool() {
                        budget.request(now);
                        history[place].0 += 1;
                        continue;
                    }
                    let granted = budget.retry(now);
                    history[place].1 += u32::from(granted);
                    let window = &history[place.saturating_sub(9)..=place];
                    let requests: u32 = window.iter().map(|(requests, _)| requests).sum();
                    let retries: u32 = window.iter().map(|(_, retries)| retries).sum();
                    let allowed =
                        f64::from(floor) * 10.0 + f64::from(requests) * Percent::of(share).fraction();
                    if granted {
                        assert!(f64::from(retries) <= allowed, "{retries} of {allowed}: seed {seed}");
                    } else {
                        assert!(
                            f64::from(retries + 1) > allowed,
                            "{retries} of {allowed} refused: seed {seed}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn waits_grow_and_vary() {
        let (base, max) = (Duration::from_millis(25), Duration::from_millis(250));
        assert_eq!(backoff(base, max, 2, 0.0), Duration::ZERO);
        assert_eq!(backoff(base, max, 2, 1.0), base);
        assert_eq!(backoff(base, max, 3, 1.0), base * 2);
        assert_eq!(backoff(base, max, 9, 1.0), max);
        assert_eq!(backoff(base, max, u16::MAX, 0.5), max / 2);
    }
}
