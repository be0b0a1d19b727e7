//! `balance: least_connections`: the server with the fewest requests in flight, relative to its
//! weight; of equals the one whose turn it is by weight. As nginx's `least_conn` and HAProxy's
//! `leastconn`. How servers are compared is in [`least`](super::least).

use super::algorithm::{Algorithm, Ask, Lane};
use super::least::{Least, Measure};
use super::pool::{Load, Member};

/// The least busy server.
pub struct LeastConnections {
    least: Least,
}

struct InFlight;

impl Measure for InFlight {
    type Cost = Load;

    fn cost(&self, member: &Member) -> Load {
        member.load()
    }

    fn costs_nothing(&self, member: &Member) -> bool {
        member.in_flight() == 0
    }
}

impl Algorithm for LeastConnections {
    type Settings = ();

    const HEEDS_WARMTH: bool = true;

    fn build(lane: &Lane, (): &(), before: Option<&Self>) -> Self {
        LeastConnections { least: Least::of(lane, before.map(|before| &before.least)) }
    }

    fn candidate(&self, lane: &Lane, ask: &mut Ask) -> Option<usize> {
        self.least.candidate(lane, ask, &InFlight)
    }
}
