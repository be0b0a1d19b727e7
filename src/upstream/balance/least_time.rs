//! `balance: least_time`: the server that is expected to answer soonest. The cost of a server is its
//! response time, a [peak-sensitive average](crate::upstream::latency), times the requests in
//! flight there and this one, divided by its weight.
//!
//! As Finagle's `p2c` with `PeakEwma` metrics, which compares two servers; here all are compared,
//! or as many as [`least`](super::least) says. A server that has never answered, or not for long,
//! costs nothing while it has nothing to do, so one request finds out; until that is answered, all
//! others cost less.

use super::algorithm::{Algorithm, Ask, Lane};
use super::least::{Least, Measure};
use super::pool::Member;
use crate::config::file;
use crate::upstream::latency::{Decay, Moment};

/// The microseconds that a server is expected to take which has been asked and has not answered
/// yet: 11 days.
const UNKNOWN: f32 = 1e12;

/// The server that answers soonest.
pub struct LeastTime {
    least: Least,
    decay: Decay,
}

/// The cost at a moment, in microseconds per weight.
struct Expected {
    now: Moment,
    decay: Decay,
}

impl Measure for Expected {
    type Cost = f32;

    fn cost(&self, member: &Member) -> f32 {
        let in_flight = member.in_flight();
        let micros = match self.micros(member) {
            Some(micros) => micros,
            None if in_flight == 0 => return 0.0,
            None => UNKNOWN,
        };
        micros * (in_flight as i64 + 1) as f32 * member.per_weight()
    }

    fn costs_nothing(&self, member: &Member) -> bool {
        member.in_flight() == 0 && self.micros(member).is_none()
    }
}

impl Expected {
    /// The response time of a server, if it is known.
    fn micros(&self, member: &Member) -> Option<f32> {
        member.endpoint.latency().expected(self.now, self.decay)
    }
}

impl Algorithm for LeastTime {
    type Settings = file::LeastTime;

    const HEEDS_WARMTH: bool = true;

    fn build(lane: &Lane, settings: &file::LeastTime, before: Option<&Self>) -> Self {
        let least = Least::of(lane, before.map(|before| &before.least));
        LeastTime { least, decay: Decay::over(settings.decay.0) }
    }

    fn candidate(&self, lane: &Lane, ask: &mut Ask) -> Option<usize> {
        let measure = Expected { now: Moment::now(), decay: self.decay };
        self.least.candidate(lane, ask, &measure)
    }
}
