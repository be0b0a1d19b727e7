//! How long a server takes to answer, as `least_time` judges it: a peak-sensitive moving average
//! in one atomic. Each [`Endpoint`] has one; `http::forward` feeds it, [`balance`](super::balance)
//! reads it.
//!
//! As in Finagle's `PeakEwma` (`com.twitter.finagle.loadbalancer.peakewma`), a response that took
//! longer than was expected is believed at once, and one that took less only as time goes by: the
//! average moves towards it by `1 - e^(-t/decay)`, where `t` is the time since the response before.
//! What is expected also decays while there is no response, so that a server that was slow is
//! tried again. Unlike there, an average that nothing was added to for three times `decay` is given
//! up: the server is as one that was never asked, instead of one that is said to answer in no time.

use super::endpoint::Endpoint;
use crate::config::file::Balance;
use nix::time::ClockId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many decay times after the last response nothing is known any more.
const FORGOTTEN: f32 = 3.0;

/// Averages do not mind some milliseconds, and this clock is read in a fifth of the time.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC_COARSE;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// A point in time, in milliseconds since some other. They are a few milliseconds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Moment {
        // a clock that cannot be read stands still, and with it what is remembered
        Moment::after(CLOCK.now().map(Duration::from).unwrap_or_default())
    }

    /// This long after the first moment.
    pub fn after(time: Duration) -> Moment {
        Moment(time.as_secs().saturating_mul(1000).saturating_add(u64::from(time.subsec_millis())))
    }

    /// Milliseconds; 0 when `earlier` is later, as two threads may read the clock.
    fn since(self, earlier: Moment) -> f32 {
        // signed, as the processor has an instruction for that
        (self.0.saturating_sub(earlier.0) as i64) as f32
    }
}

/// How fast response times are forgotten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay {
    halvings_per_ms: f32,
}

impl Decay {
    /// What is remembered is 1/e of itself after this time.
    pub fn over(time: Duration) -> Decay {
        let ms = (time.as_secs_f32() * 1000.0).max(1.0);
        Decay { halvings_per_ms: std::f32::consts::LOG2_E / ms }
    }

    /// What is left after so many milliseconds, from 1 down; `None` when it is to be forgotten.
    fn left(self, ms: f32) -> Option<f32> {
        let halvings = ms * self.halvings_per_ms;
        (halvings <= FORGOTTEN * std::f32::consts::LOG2_E).then(|| half_to_the(halvings))
    }
}

/// 2^-x for x from 0 to 126, to a third of a percent, as one is needed for every server that is
/// compared: the whole halvings go to the exponent, and between them a parabola through the exact
/// values at 0, 1/2 and 1.
fn half_to_the(x: f32) -> f32 {
    let whole = x as i32;
    let part = x - whole as f32;
    let scale = f32::from_bits((127i32.wrapping_sub(whole) as u32) << 23);
    scale * (1.0 - part * (0.671_572_9 - 0.171_572_9 * part))
}

/// The response time of one server. Empty until the first response.
///
/// The average (microseconds) and the moment of its last change are one word, so readers see the
/// two that belong together and writers, who compare and swap, lose nothing.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

/// The low bits of the word are the average, a float without its sign and last bits: 1 in 100,000.
/// The rest is the moment, good for 34 years.
const FLOAT_BITS: u32 = 24;
const FLOAT_CUT: u32 = 7;

#[derive(Debug, Clone, Copy)]
struct Average {
    micros: f32,
    at: Moment,
}

impl Average {
    fn unpack(word: u64) -> Option<Average> {
        let float = (word & ((1 << FLOAT_BITS) - 1)) as u32;
        (float != 0)
            .then(|| Average { micros: f32::from_bits(float << FLOAT_CUT), at: Moment(word >> FLOAT_BITS) })
    }

    fn pack(self) -> u64 {
        // rounded, or an average that moves in small steps would creep down
        let float = (self.micros.to_bits() + (1 << (FLOAT_CUT - 1))) >> FLOAT_CUT;
        self.at.0 << FLOAT_BITS | u64::from(float)
    }

    fn and(self, micros: f32, now: Moment, decay: Decay) -> Average {
        let at = self.at.max(now);
        let Some(left) = decay.left(now.since(self.at)) else { return Average { micros, at } };
        let expected = self.micros * left;
        let micros = if micros > expected { micros } else { expected + micros * (1.0 - left) };
        Average { micros, at }
    }
}

impl Latency {
    /// Takes in a response, or a failure that counts as one.
    pub fn observe(&self, took: Duration, now: Moment, decay: Decay) {
        let micros = (took.as_secs_f32() * 1e6).max(1.0);
        let add = |word| {
            let first = Average { micros, at: now };
            Some(Average::unpack(word).map_or(first, |average| average.and(micros, now, decay)).pack())
        };
        // the closure never declines
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// All of it in a word that means the same to every process on this machine until it is started anew.
    pub(super) fn word(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What another process knew.
    pub(super) fn set_word(&self, word: u64) {
        self.0.store(word, Ordering::Relaxed);
    }

    /// What a response is expected to take, in microseconds; `None` when that is not known, or was
    /// too long ago.
    pub fn expected(&self, now: Moment, decay: Decay) -> Option<f32> {
        let average = Average::unpack(self.0.load(Ordering::Relaxed))?;
        Some(average.micros * decay.left(now.since(average.at))?)
    }
}

/// The head of an answer of this server was there after this time. Costs nothing where response
/// times are not looked at.
pub fn answered(balance: &Balance, endpoint: &Endpoint, took: Duration) {
    if let Balance::LeastTime(settings) = balance {
        endpoint.latency().observe(took, Moment::now(), Decay::over(settings.decay.0));
    }
}

/// A try on this server failed after this time.
pub fn failed(balance: &Balance, endpoint: &Endpoint, took: Duration) {
    if let Balance::LeastTime(settings) = balance {
        answered(balance, endpoint, took.max(settings.failure_penalty.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    fn at(seconds: f32) -> Moment {
        Moment::after(Duration::from_secs_f32(seconds))
    }

    fn near(found: Option<f32>, exact: f32) {
        let found = found.expect("something is known");
        assert!((found / exact - 1.0).abs() < 0.005, "{found} instead of {exact}");
    }

    #[test]
    fn halvings_are_near_the_exact_ones() {
        for tenth in 0..=500u16 {
            let x = f32::from(tenth) / 100.0;
            let ratio = half_to_the(x) / (-x).exp2();
            assert!((ratio - 1.0).abs() < 0.003_3, "2^-{x} is off by {ratio}");
        }
    }

    #[test]
    fn a_slow_response_counts_at_once_and_a_fast_one_in_time() {
        let (latency, decay) = (Latency::default(), Decay::over(TEN_SECONDS));
        assert_eq!(latency.expected(at(0.0), decay), None);
        latency.observe(Duration::from_millis(20), at(1.0), decay);
        near(latency.expected(at(1.0), decay), 20_000.0);
        latency.observe(Duration::from_millis(200), at(1.1), decay);
        near(latency.expected(at(1.1), decay), 200_000.0);
        // after one decay time 1/e of the old and the rest of the new
        latency.observe(Duration::from_millis(20), at(11.1), decay);
        let left = (-1.0f32).exp();
        near(latency.expected(at(11.1), decay), 200_000.0 * left + 20_000.0 * (1.0 - left));
    }

    #[test]
    fn many_fast_responses_bring_the_average_down_over_the_decay_time() {
        let (latency, decay) = (Latency::default(), Decay::over(TEN_SECONDS));
        latency.observe(Duration::from_millis(100), at(0.0), decay);
        for ms in 1..=30_000u32 {
            latency.observe(Duration::from_millis(1), Moment(u64::from(ms)), decay);
        }
        let now = latency.expected(at(30.0), decay).unwrap();
        assert!((1_000.0..7_000.0).contains(&now), "{now} after three decay times");
    }

    #[test]
    fn without_responses_it_decays_and_is_forgotten() {
        let (latency, decay) = (Latency::default(), Decay::over(TEN_SECONDS));
        latency.observe(Duration::from_secs(1), at(5.0), decay);
        near(latency.expected(at(15.0), decay), 1e6 * (-1.0f32).exp());
        near(latency.expected(at(25.0), decay), 1e6 * (-2.0f32).exp());
        assert_eq!(latency.expected(at(35.1), decay), None);
        // what comes then is believed as the first was
        latency.observe(Duration::from_millis(1), at(40.0), decay);
        near(latency.expected(at(40.0), decay), 1_000.0);
    }

    #[test]
    fn a_clock_read_late_is_no_harm() {
        let (latency, decay) = (Latency::default(), Decay::over(TEN_SECONDS));
        latency.observe(Duration::from_millis(10), at(5.0), decay);
        latency.observe(Duration::from_millis(5), at(4.9), decay);
        near(latency.expected(at(4.8), decay), 10_000.0);
        near(latency.expected(at(15.0), decay), 10_000.0 * (-1.0f32).exp());
    }

    #[test]
    fn any_time_can_be_kept() {
        let decay = Decay::over(TEN_SECONDS);
        for micros in [0, 1, 777, 1_000_000, 31_536_000_000_000] {
            let latency = Latency::default();
            latency.observe(Duration::from_micros(micros), at(1e6), decay);
            near(latency.expected(at(1e6), decay), micros.max(1) as f32);
        }
    }

    #[test]
    fn threads_lose_no_peak() {
        let (latency, decay) = (Latency::default(), Decay::over(TEN_SECONDS));
        std::thread::scope(|threads| {
            for thread in 0..4u64 {
                let latency = &latency;
                threads.spawn(move || {
                    for n in 0..5_000u64 {
                        latency.observe(
                            Duration::from_micros(1 + (n * 7 + thread) % 10_000),
                            Moment(1),
                            decay,
                        );
                    }
                });
            }
        });
        // in one moment nothing decays, so the longest of all is what is left
        near(latency.expected(Moment(1), decay), 10_000.0);
    }
}
