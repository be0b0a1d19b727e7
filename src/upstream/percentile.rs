//! How long servers of a group take to answer, by share: "19 of 20 answers come within this". For
//! [hedging](crate::http), which sends a request a second time when it takes longer than most.
//! Pure but for atomics.
//!
//! A histogram whose classes grow by an eighth of a doubling, so that what is read from it is at most
//! 12.5% too long. When it has counted `WINDOW` answers all counts are halved: what it says is about the
//! last few thousand, and never about the day before.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Classes for each doubling, as bits.
const FINE: u32 = 3;
/// From a microsecond to more than an hour.
const CLASSES: usize = 32 << FINE;
/// After so many answers the past counts half.
const WINDOW: u32 = 4096;
/// So many are needed before anything is said.
const ENOUGH: u32 = 100;

/// The times of answers.
#[derive(Debug)]
pub struct Times {
    classes: [AtomicU32; CLASSES],
    counted: AtomicU32,
    halving: AtomicBool,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            classes: [const { AtomicU32::new(0) }; CLASSES],
            counted: AtomicU32::new(0),
            halving: AtomicBool::new(false),
        }
    }
}

impl Times {
    /// An answer has taken so long.
    pub fn record(&self, took: Duration) {
        let Some(class) = self.classes.get(class(took)) else { return };
        class.fetch_add(1, Ordering::Relaxed);
        // one at a time; what comes meanwhile is seen by whoever counts next
        if self.counted.fetch_add(1, Ordering::Relaxed) + 1 >= WINDOW
            && !self.halving.swap(true, Ordering::Acquire)
        {
            while self.counted.load(Ordering::Relaxed) >= WINDOW {
                self.halve();
            }
            self.halving.store(false, Ordering::Release);
        }
    }

    /// Within which time so many percent of the answers came; `None` before enough are known.
    pub fn within(&self, percent: u8) -> Option<Duration> {
        if self.counted.load(Ordering::Relaxed) < ENOUGH {
            return None;
        }
        let count = |class: &AtomicU32| u64::from(class.load(Ordering::Relaxed));
        let wanted = (self.classes.iter().map(count).sum::<u64>() * u64::from(percent)).div_ceil(100);
        let mut below = 0;
        let mut reached = |class: &AtomicU32| {
            below += count(class);
            below >= wanted
        };
        self.classes.iter().position(&mut reached).map(longest)
    }

    fn halve(&self) {
        let mut removed = 0;
        for class in &self.classes {
            let half = class.load(Ordering::Relaxed).div_ceil(2);
            class.fetch_sub(half, Ordering::Relaxed);
            removed += half;
        }
        self.counted.fetch_sub(removed, Ordering::Relaxed);
    }
}

fn class(took: Duration) -> usize {
    let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
    let doubling = micros.ilog2();
    // the bits after the first, as many as there are
    let place = match doubling.checked_sub(FINE) {
        Some(shift) => micros >> shift,
        None => micros << (FINE - doubling),
    } & ((1 << FINE) - 1);
    (doubling << FINE | place) as usize
}

/// The longest time of a class.
fn longest(class: usize) -> Duration {
    let (doubling, place) = (class >> FINE, class as u64 & ((1 << FINE) - 1));
    let eighths = (1u64 << FINE) + place + 1;
    Duration::from_micros((eighths << doubling) >> FINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_time_falls_into_a_class_that_is_hardly_longer() {
        let mut before = 0;
        for micros in (1..5000).chain((5000..4_000_000_000).step_by(999_983)) {
            let took = Duration::from_micros(micros);
            let class = class(took);
            assert!(class < CLASSES && class >= before, "{micros}");
            before = class;
            let longest = longest(class);
            assert!(
                longest >= took && longest.as_secs_f64() <= took.as_secs_f64() * 1.125 + 1e-6,
                "{micros}"
            );
        }
        assert!(class(Duration::MAX) < CLASSES);
    }

    #[test]
    fn a_share_of_the_answers_came_within_what_is_said() {
        let times = Times::default();
        (1..=99).for_each(|n| times.record(ms(n)));
        assert_eq!(times.within(95), None, "too few");
        times.record(ms(100));
        for percent in [50, 90, 95, 99] {
            let (said, exact) = (times.within(percent).unwrap(), ms(u64::from(percent)));
            assert!(said >= exact && said <= exact.mul_f64(1.13), "{percent}%: {said:?}");
        }
    }

    #[test]
    fn the_past_is_forgotten() {
        let times = Times::default();
        (0..10_000).for_each(|_| times.record(ms(500)));
        (0..10_000).for_each(|_| times.record(ms(10)));
        assert!(times.within(50).unwrap() <= ms(12));
        assert!(times.counted.load(Ordering::Relaxed) < WINDOW);
        let sum: u32 = times.classes.iter().map(|class| class.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, times.counted.load(Ordering::Relaxed));
    }

    #[test]
    fn counts_of_many_at_once_are_halved_all_the_same() {
        let times = Times::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|_| times.record(ms(7))));
            }
        });
        // nobody else counts now, so this one sees to whatever came while another halved
        times.record(ms(7));
        let counted = times.counted.load(Ordering::Relaxed);
        assert!(counted < WINDOW, "{counted}");
        let sum: u32 = times.classes.iter().map(|class| class.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, counted);
        assert!(times.within(99).unwrap() <= ms(8));
    }
}
