//! What happened lately, counted without locks: ten slots, of which each is used again when its time
//! has come round. Pure but for atomics. [`outlier`](super::outlier) and [`breaker`](super::breaker)
//! judge by it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SLOTS: u64 = 10;

/// Counts of the last while. How long that is is said each time, as it may be configured anew: then
/// the counts begin anew.
#[derive(Debug)]
pub struct Window {
    epoch: Instant,
    /// The length of a slot in microseconds, as it was said last.
    slot: AtomicU64,
    slots: [Slot; SLOTS as usize],
}

/// The counts of a tenth of the window. Who comes first when it is its turn again clears it; a count
/// that comes in between is lost.
#[derive(Debug, Default)]
struct Slot {
    number: AtomicU64,
    count: AtomicU32,
    failed: AtomicU32,
    sum: AtomicU64,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub count: u32,
    pub failed: u32,
    /// Of the values given to [`Window::measure`].
    pub sum: u64,
}

impl Counts {
    /// Whether there are at least so many, and this share of them has failed, in basis points.
    pub fn fail(self, share: u16, least: u32) -> bool {
        self.count >= least.max(1)
            && u64::from(self.failed) * 10_000 >= u64::from(self.count) * u64::from(share)
    }

    /// The part that failed, from 0 to 1.
    pub fn failed_share(self) -> f64 {
        f64::from(self.failed) / f64::from(self.count.max(1))
    }
}

impl Window {
    pub fn new(epoch: Instant) -> Window {
        Window { epoch, slot: AtomicU64::new(0), slots: Default::default() }
    }

    /// Counts something that went well or failed.
    pub fn count(&self, now: Instant, length: Duration, failed: bool) {
        if let Some(slot) = self.slot(now, length) {
            slot.count.fetch_add(1, Ordering::Relaxed);
            if failed {
                slot.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts something that has a value.
    pub fn measure(&self, now: Instant, length: Duration, value: u64) {
        if let Some(slot) = self.slot(now, length) {
            slot.count.fetch_add(1, Ordering::Relaxed);
            slot.sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// All that is no longer ago than the window, but for up to a tenth of it.
    pub fn counts(&self, now: Instant, length: Duration) -> Counts {
        let number = self.number(now, length);
        let live = |slot: &&Slot| {
            let age = number.checked_sub(slot.number.load(Ordering::Relaxed));
            age.is_some_and(|age| age < SLOTS)
        };
        self.slots.iter().filter(live).fold(Counts::default(), |all, slot| Counts {
            count: all.count.saturating_add(slot.count.load(Ordering::Relaxed)),
            failed: all.failed.saturating_add(slot.failed.load(Ordering::Relaxed)),
            sum: all.sum.saturating_add(slot.sum.load(Ordering::Relaxed)),
        })
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for slot in &self.slots {
            slot.number.store(0, Ordering::Relaxed);
        }
    }

    /// Which tenth it is, from [`SLOTS`], so that a slot that was never used is told from the first.
    fn number(&self, now: Instant, length: Duration) -> u64 {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let slot = (micros(length) / SLOTS).max(1);
        if self.slot.load(Ordering::Relaxed) != slot && self.slot.swap(slot, Ordering::Relaxed) != 0 {
            self.clear();
        }
        micros(now.saturating_duration_since(self.epoch)) / slot + SLOTS
    }

    fn slot(&self, now: Instant, length: Duration) -> Option<&Slot> {
        let number = self.number(now, length);
        let slot = self.slots.get(usize::try_from(number % SLOTS).ok()?)?;
        let before = slot.number.load(Ordering::Relaxed);
        if before < number
            && slot.number.compare_exchange(before, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            slot.count.store(0, Ordering::Relaxed);
            slot.failed.store(0, Ordering::Relaxed);
            slot.sum.store(0, Ordering::Relaxed);
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_long_ago_does_not_count() {
        let start = Instant::now();
        let window = Window::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(window.counts(at(0), TEN), Counts::default());
        window.count(at(0), TEN, true);
        window.count(at(5), TEN, false);
        assert_eq!(window.counts(at(5), TEN), Counts { count: 2, failed: 1, sum: 0 });
        assert_eq!(window.counts(at(9), TEN).count, 2);
        assert_eq!(window.counts(at(10), TEN), Counts { count: 1, failed: 0, sum: 0 });
        assert_eq!(window.counts(at(15), TEN), Counts::default());
        assert_eq!(window.counts(at(3600), TEN), Counts::default());
        // the slots are used again, clean
        window.count(at(3600), TEN, true);
        assert_eq!(window.counts(at(3601), TEN), Counts { count: 1, failed: 1, sum: 0 });
    }

    #[test]
    fn it_can_be_cleared_and_have_another_length() {
        let start = Instant::now();
        let window = Window::new(start);
        (0..100).for_each(|n| window.measure(start + Duration::from_millis(n * 100), TEN, 7));
        let end = start + TEN - Duration::from_millis(1);
        assert_eq!(window.counts(end, TEN), Counts { count: 100, failed: 0, sum: 700 });
        let minute = Duration::from_secs(60);
        window.measure(end, minute, 3);
        assert_eq!(window.counts(end, minute), Counts { count: 1, failed: 0, sum: 3 });
        window.clear();
        assert_eq!(window.counts(end, minute), Counts::default());
        assert_eq!(window.counts(end, TEN), Counts::default());
    }

    #[test]
    fn a_clock_read_late_is_no_harm() {
        let start = Instant::now();
        let window = Window::new(start + TEN);
        window.count(start, TEN, true);
        assert_eq!(window.counts(start + TEN, TEN).count, 1);
    }

    #[test]
    fn a_share_is_exact_at_its_bound() {
        let counts = |count, failed| Counts { count, failed, sum: 0 };
        assert!(counts(20, 10).fail(5000, 20));
        assert!(!counts(20, 9).fail(5000, 20), "less than half");
        assert!(!counts(19, 19).fail(5000, 20), "too few to tell");
        assert!(counts(3, 1).fail(3333, 1));
        assert!(!counts(3, 1).fail(3334, 1));
        assert!(counts(10, 10).fail(10_000, 1) && !counts(10, 9).fail(10_000, 1));
        assert!(!counts(0, 0).fail(1, 0), "nothing happened");
    }

    #[test]
    fn threads_lose_nothing_within_a_slot() {
        let start = Instant::now();
        let window = Window::new(start);
        window.count(start, TEN, false);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| (0..10_000).for_each(|n| window.count(start, TEN, n % 2 == 0)));
            }
        });
        assert_eq!(window.counts(start, TEN), Counts { count: 40_001, failed: 20_000, sum: 0 });
    }
}
