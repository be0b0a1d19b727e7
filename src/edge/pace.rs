//! Patience with a client that has to send or to take something. Pure; `conn` has one for each
//! direction.
//!
//! Waiting for the client uses its patience up, and what it moves gives some of it back: at `rate`
//! bytes a second it stays where it is. So a client may stop once for the whole of its patience, but
//! not live on a byte now and then (the `MinRate` of Apache's mod_reqtimeout, without its growing sum:
//! a body that began fast gets no more credit for it).

use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Pace {
    whole: Duration,
    left: Duration,
    /// Nanoseconds that a byte is worth; all of the patience without a rate.
    per_byte: u64,
    waiting: Option<Instant>,
}

impl Pace {
    /// At 0 bytes a second any byte gives all patience back.
    pub fn new(patience: Duration, rate: u64) -> Pace {
        let per_byte = 1_000_000_000u64.checked_div(rate).unwrap_or(u64::MAX);
        Pace { whole: patience, left: patience, per_byte, waiting: None }
    }

    /// The client is waited for; when that is to end.
    pub fn wait(&mut self) -> Instant {
        *self.waiting.get_or_insert_with(Instant::now) + self.left
    }

    /// It has moved so many bytes.
    pub fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_nanos(self.per_byte.saturating_mul(bytes));
        self.left = self.left.saturating_add(earned).min(self.whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// After `seconds` of waiting as if they had passed.
    fn waited(pace: &mut Pace, seconds: u64) {
        pace.wait();
        pace.waiting = Instant::now().checked_sub(Duration::from_secs(seconds));
    }

    fn left(pace: &Pace) -> u64 {
        pace.left.as_secs_f64().round() as u64
    }

    #[test]
    fn a_byte_now_and_then_runs_out_of_patience() {
        let mut pace = Pace::new(MINUTE, 100);
        for expected in [41, 22, 3, 1] {
            waited(&mut pace, 20);
            // worth a second
            pace.moved(100);
            assert_eq!(left(&pace), expected);
        }
        waited(&mut pace, 20);
        pace.moved(1);
        assert_eq!(left(&pace), 0);
    }

    #[test]
    fn at_the_rate_it_goes_on_for_ever_and_speed_is_not_saved_up() {
        let mut pace = Pace::new(MINUTE, 100);
        pace.moved(1_000_000);
        assert_eq!(left(&pace), 60);
        for _ in 0..100 {
            waited(&mut pace, 30);
            pace.moved(3000);
            assert_eq!(left(&pace), 60);
        }
        waited(&mut pace, 59);
        pace.moved(1);
        assert_eq!(left(&pace), 1);
        pace.moved(1000);
        assert_eq!(left(&pace), 11);
    }

    #[test]
    fn without_a_rate_any_byte_is_enough() {
        let mut pace = Pace::new(MINUTE, 0);
        for _ in 0..10 {
            waited(&mut pace, 59);
            pace.moved(1);
            assert_eq!(left(&pace), 60);
        }
    }

    #[test]
    fn the_deadline_stands_while_it_waits() {
        let mut pace = Pace::new(MINUTE, 100);
        let first = pace.wait();
        assert_eq!(pace.wait(), first);
    }
}
