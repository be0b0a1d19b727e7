//! The time for what happens to every request: asked for often, and read seldom.

use std::cell::Cell;
use std::time::{Instant, SystemTime};

/// As many times the answer of [`now`] is the same, while a worker is busy: of some two requests.
const USES: u8 = 8;

thread_local! {
    /// The time when it was read last, and how often it may still be told.
    static READ: Cell<Option<(Instant, u8)>> = const { Cell::new(None) };
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Called by a worker when it has been waiting: what was read before is of no use any more.
pub fn awake() {
    READ.set(None);
    IS_WORKER.set(true);
}

/// The time, as event loops know it: on a worker as of when it woke up, or as of some two requests ago, whichever is later.
/// For when something begins: what took a time that matters ends by the clock itself.
/// Times of one thread are in order.
pub fn now() -> Instant {
    match READ.get() {
        Some((at, left)) if left > 0 => {
            READ.set(Some((at, left - 1)));
            at
        }
        _ => {
            let at = Instant::now();
            READ.set(IS_WORKER.get().then_some((at, USES - 1)));
            at
        }
    }
}

/// The time of day as of the kernel's last tick, 1 to 10 milliseconds ago: a quarter of the price of
/// `SystemTime::now`, and nginx's way. It never runs ahead, and behind itself only when the clock is set back.
pub fn coarse() -> SystemTime {
    #[cfg(target_os = "linux")]
    {
        use nix::time::{ClockId, clock_gettime};
        if let Ok(since) = clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
            return SystemTime::UNIX_EPOCH + std::time::Duration::from(since);
        }
    }
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_worker_reads_the_clock_when_it_wakes_up_and_every_eight_times() {
        let differ = || {
            let first = now();
            // the clock moves on
            while Instant::now() == first {}
            (1..20).take_while(|_| now() == first).count()
        };
        assert_eq!(differ(), 0, "not on a worker");
        awake();
        assert_eq!(differ(), 7);
        awake();
        let first = now();
        while Instant::now() == first {}
        awake();
        assert!(now() > first);
    }

    #[test]
    fn it_is_the_time_of_day_and_not_ahead_of_it() {
        let (coarse, exact) = (coarse(), SystemTime::now());
        assert!(exact >= coarse);
        assert!(exact.duration_since(coarse).unwrap() < Duration::from_secs(60));
    }
}
