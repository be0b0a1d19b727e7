//! The time of day for what needs no more than milliseconds: names and lines of requests.

use std::time::SystemTime;

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
    fn it_is_the_time_of_day_and_not_ahead_of_it() {
        let (coarse, exact) = (coarse(), SystemTime::now());
        assert!(exact >= coarse);
        assert!(exact.duration_since(coarse).unwrap() < Duration::from_secs(60));
    }
}
