//! When to ask a source again. Pure.

use std::time::Duration;

/// How long an answer holds: its TTL, within bounds. A TTL of 0 means "do not keep it", which a group
/// that has to know its servers cannot do: it becomes `min`.
pub fn clamped(ttl: Duration, min: Duration, max: Duration) -> Duration {
    ttl.min(max).max(min)
}

/// The pause after this many failures in a row (from 1): it doubles from `first` up to `longest`. Between
/// half and all of that, so that gates which failed together do not ask together. `random` is from 0 up to 1.
pub fn backoff(failures: u32, first: Duration, longest: Duration, random: f64) -> Duration {
    const MOST_DOUBLINGS: u32 = 20;
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(MOST_DOUBLINGS));
    doubled.min(longest).mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_ttl_holds_within_its_bounds() {
        let pause = |ttl| clamped(ttl, secs(1), secs(60));
        assert_eq!(pause(secs(30)), secs(30));
        assert_eq!(pause(Duration::ZERO), secs(1));
        assert_eq!(pause(secs(86400)), secs(60));
        assert_eq!(pause(Duration::MAX), secs(60));
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_varies() {
        let longest = |failures| backoff(failures, secs(1), secs(60), 1.0);
        assert_eq!([1, 2, 3, 6, 7, 8].map(longest), [1, 2, 4, 32, 60, 60].map(secs));
        assert_eq!(longest(u32::MAX), secs(60));
        assert_eq!(backoff(3, secs(1), secs(60), 0.0), secs(2));
        for _ in 0..1000 {
            let pause = backoff(3, secs(1), secs(60), fastrand::f64());
            assert!((secs(2)..=secs(4)).contains(&pause), "{pause:?}");
        }
    }
}
