//! When a certificate is renewed, and how long to wait after a failure. Pure: the time and the chance are given.

use std::time::{Duration, SystemTime};

/// Renewals are spread over this part of a lifetime, so that certificates of one hour are not renewed in another.
const SPREAD: u32 = 30;

/// Each failure makes the wait so many times as long.
const GROWTH: u32 = 3;

/// An authority that says when to come back is believed up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// When an authority wants a certificate to be renewed (RFC 9773 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start: SystemTime,
    pub end: SystemTime,
}

/// How long before its end a certificate is renewed: as the operator says, though not for more than half of its
/// lifetime; or a third of its lifetime.
fn margin(lifetime: Duration, before: Option<Duration>) -> Duration {
    before.map_or(lifetime / 3, |before| before.min(lifetime / 2))
}

/// When to renew what is valid `from` .. `to`. `chance`, from 0 to 1, is always the same for the same certificate.
pub fn renewal(
    (from, to): (SystemTime, SystemTime),
    before: Option<Duration>,
    window: Option<Window>,
    chance: f64,
) -> SystemTime {
    if let Some(Window { start, end }) = window {
        return start + end.duration_since(start).unwrap_or_default().mul_f64(chance);
    }
    let lifetime = to.duration_since(from).unwrap_or_default();
    let early = margin(lifetime, before) + (lifetime / SPREAD).mul_f64(chance);
    to.checked_sub(early).unwrap_or(from)
}

/// The wait after so many failures in a row, the first of which waits for `first`, up to `max`, and a quarter more or
/// less by `chance`. Not less than the authority asks for.
pub fn wait(
    failures: u32,
    (first, max): (Duration, Duration),
    retry_after: Option<Duration>,
    chance: f64,
) -> Duration {
    let times = GROWTH.saturating_pow(failures.saturating_sub(1));
    let wait = first.saturating_mul(times).min(max).mul_f64(0.75 + chance / 2.0);
    wait.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * (20_000 + days)
    }

    #[test]
    fn with_a_third_left_and_up_to_a_thirtieth_earlier() {
        assert_eq!(renewal((at(0), at(90)), None, None, 0.0), at(60));
        assert_eq!(renewal((at(0), at(90)), None, None, 1.0), at(57));
        assert_eq!(renewal((at(0), at(90)), Some(DAY * 10), None, 0.0), at(80));
        assert_eq!(renewal((at(0), at(6)), Some(DAY * 30), None, 0.0), at(3), "not all the time");
        assert_eq!(renewal((at(5), at(5)), None, None, 0.5), at(5));
    }

    #[test]
    fn the_authority_says_when() {
        let window = Some(Window { start: at(10), end: at(20) });
        assert_eq!(renewal((at(0), at(90)), None, window, 0.0), at(10));
        assert_eq!(renewal((at(0), at(90)), Some(DAY), window, 0.5), at(15));
        let upside_down = Some(Window { start: at(20), end: at(10) });
        assert_eq!(renewal((at(0), at(90)), None, upside_down, 0.5), at(20));
    }

    #[test]
    fn five_tries_in_the_first_hour_and_then_fewer() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let retry = (minutes(1), minutes(360));
        let waits: Vec<_> = (1..=7).map(|n| wait(n, retry, None, 0.5)).collect();
        let expected: Vec<_> = [1, 3, 9, 27, 81, 243, 360].map(minutes).into();
        assert_eq!(waits, expected);
        assert_eq!(wait(u32::MAX, retry, None, 0.5), minutes(360));
        assert_eq!(wait(1, retry, None, 0.0), Duration::from_secs(45));
        assert_eq!(wait(1, retry, None, 1.0), Duration::from_secs(75));
        assert_eq!(wait(1, retry, Some(minutes(50)), 0.5), minutes(50));
        assert_eq!(wait(1, retry, Some(DAY * 365), 0.5), DAY * 7);
    }
}
