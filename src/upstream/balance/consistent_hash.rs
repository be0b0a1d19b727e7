//! `balance: consistent_hash`: the server whose point on a ring comes next after the hash of the
//! request's key. When servers come and go, only the keys of these change their server.
//!
//! The ring is that of ketama (see `ring.rs`). A request that finds an unusable server walks
//! on to the next point, so that the keys of a server that is down go where they would go if it
//! were taken away, each to a different one, and come back with it.
//!
//! With `max_load` no server is given a request while it has more in flight than this multiple of
//! the average, by weight, rounded up, the request itself counted (Mirrokni, Thorup, Zadimoghaddam:
//! "Consistent hashing with bounded loads", 2016; as HAProxy's `hash-balance-factor`). A key that
//! finds its server full draws another place on the ring, always the same sequence of places, as
//! Envoy does it: were it to take the next server on the ring, that one would soon be full too, and
//! a request would pass one full server after the other.

use super::algorithm::{Algorithm, Ask, Lane};
use super::key_hash;
use super::members::{Members, OWN_WAY, Spare};
use super::ring::Ring;
use crate::units::Multiple;
use std::sync::Arc;

/// Places that a key draws which finds its server full. With `max_load` at 125% at most four of
/// five servers are full, by weight, so one such request in 1,300 draws as often in vain.
const DRAWS: u64 = 32;

/// What users write about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// How much of the average load a server may have. Unbounded without it.
    pub max_load: Option<Multiple>,
}

/// A server by the hash of a key, with few keys that change their server.
pub struct ConsistentHash {
    table: Arc<Table>,
    bound: Option<Bound>,
    spare: Spare,
}

struct Table {
    members: Members,
    ring: Ring,
}

impl Algorithm for ConsistentHash {
    type Settings = Settings;

    fn build(lane: &Lane, settings: &Settings, before: Option<&Self>) -> Self {
        let members = Members::of(lane);
        let table = match before {
            Some(before) if before.table.members == members => before.table.clone(),
            Some(ConsistentHash { table: before, .. }) => {
                let ring = before.ring.renewed(&before.members.sorted(), &members.sorted());
                Arc::new(Table { ring, members })
            }
            None => Arc::new(Table { ring: Ring::new(&members.sorted()), members }),
        };
        let bound = settings.max_load.map(|multiple| Bound::new(lane, multiple));
        ConsistentHash { table, bound, spare: Spare::of(lane) }
    }

    fn candidate(&self, lane: &Lane, ask: &mut Ask) -> Option<usize> {
        let own = if ask.nth < OWN_WAY { self.next_on_ring(ask) } else { self.spare.candidate(ask) }?;
        match &self.bound {
            // who is not usable is passed over by the caller: the key goes on from there
            Some(bound) if lane.is_usable(own) => bound.heed(own, lane, ask, &self.table.ring),
            _ => Some(own),
        }
    }
}

impl ConsistentHash {
    fn next_on_ring(&self, ask: &mut Ask) -> Option<usize> {
        // the note is the place of the last candidate
        ask.note = if ask.nth == 0 { self.table.ring.place(ask.hash) } else { ask.note + 1 };
        self.table.ring.owner(ask.note)
    }
}

/// How many requests a server may have in flight.
struct Bound {
    /// In parts of 10,000.
    multiple: u64,
    /// Of all usable servers together, times 10,000.
    weights: u64,
}

impl Bound {
    fn new(lane: &Lane, multiple: Multiple) -> Bound {
        let usable = lane.servers().iter().filter(|server| server.usable());
        let weights: u64 = usable.map(|server| u64::from(server.weight())).sum();
        Bound { multiple: u64::from(multiple.basis_points()), weights: weights * 10_000 }
    }

    /// The server to which the key belongs, or another one where that is full.
    fn heed(&self, own: usize, lane: &Lane, ask: &Ask, ring: &Ring) -> Option<usize> {
        let total = lane.servers().first()?.endpoint.group_in_flight();
        if self.has_room(lane, own, total) {
            return Some(own);
        }
        let free = |index: &usize| {
            !ask.was_offered(*index) && lane.is_usable(*index) && self.has_room(lane, *index, total)
        };
        let drawn = |nth| ring.owner(ring.place(key_hash::nth(ask.hash, nth)));
        if let Some(found) = (0..DRAWS).filter_map(drawn).find(free) {
            return Some(found);
        }
        // there is one all the same, unless it was declined: the first after a place drawn
        let count = lane.servers().len();
        let start = key_hash::scale(key_hash::nth(ask.hash, DRAWS), count as u64).0 as usize;
        Some((start..count).chain(0..start).find(free).unwrap_or(own))
    }

    /// Whether the server may be given one more of what are then `total + 1` requests in flight.
    /// A whole number is below a fraction just when it is below that rounded up.
    fn has_room(&self, lane: &Lane, index: usize, total: usize) -> bool {
        let Some(server) = lane.servers().get(index) else { return false };
        let share = (total as u64 + 1).saturating_mul(self.multiple * u64::from(server.weight()));
        (server.endpoint.in_flight() as u64).saturating_mul(self.weights) < share
    }
}

#[cfg(test)]
impl ConsistentHash {
    /// Whether the table of the other was taken over.
    pub fn has_table_of(&self, other: &ConsistentHash) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}
