//! `balance: power_of_two`: two different servers are drawn by weight, and the one with fewer
//! requests in flight, relative to its weight, is taken.
//!
//! Mitzenmacher: "The power of two choices in randomized load balancing", 2001. As Envoy's
//! `LEAST_REQUEST` and Finagle's `p2c` do it. It costs the same for any number of servers, and
//! several gates in front of the same servers do not all rush to the same one, as they would to
//! the least busy of all.

use super::algorithm::{Algorithm, Ask, Lane};
use super::pool::Pool;
use fastrand::Rng;

/// After so many candidates that were of no use the rest is gone through instead.
const CANDIDATES: usize = 8;
/// So often is drawn again for a second server that is not the first.
const DRAWS: usize = 8;

/// The better of two.
pub struct PowerOfTwo {
    pool: Pool,
}

impl Algorithm for PowerOfTwo {
    type Settings = ();

    const HEEDS_WARMTH: bool = true;

    fn build(lane: &Lane, (): &(), _before: Option<&Self>) -> Self {
        PowerOfTwo { pool: Pool::of(lane) }
    }

    fn candidate(&self, lane: &Lane, ask: &mut Ask) -> Option<usize> {
        if ask.nth >= CANDIDATES {
            return None;
        }
        // one that is this request's own is quicker to draw from than that of the thread
        let mut random = Rng::with_seed(fastrand::u64(..));
        let first = self.pool.draw(&mut random, lane, ask)?;
        let draws = if self.pool.members().len() > 1 { DRAWS } else { 0 };
        let mut others = (0..draws).filter_map(|_| self.pool.draw(&mut random, lane, ask));
        // of equals the first, so that idle servers are taken by their weights
        let better = others.find(|other| other.index != first.index).filter(|o| o.load() < first.load());
        Some(better.unwrap_or(first).index)
    }
}
