//! `balance: round_robin`: smooth weighted round robin over the usable servers of a lane.
//!
//! The turns of all usable servers are worked out when the table is made; a request then takes the
//! next of them with one atomic addition. Servers that are down have no turns, so the others keep
//! their shares by weight. Weights whose cycle would be too long are stepped under a lock. The
//! algorithm is nginx's, see `smooth`.
//!
//! A server that is warming up lets turns pass by chance, as many as it is cold. Those turns are
//! gone: whose turn is next goes on from there, so that the others share what it leaves evenly,
//! and not only the one that comes after it.

use super::algorithm::{Algorithm, Ask, Lane};
use super::smooth::{self, Turns};
use crate::upstream::changes::CacheLine;
use crate::upstream::endpoint::FULL_WARMTH;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many turns ahead is looked for a server that is warm enough, before the next is taken as it is.
const LOOK_AHEAD: usize = 64;

/// Smooth weighted round robin.
pub struct RoundRobin {
    order: Order,
    /// Turns taken. Goes on when the table changes, so that a server which flaps does not send
    /// every other request to the first of the list.
    turns: Arc<CacheLine<AtomicUsize>>,
    /// Whether any of the servers was warming up when this was made.
    warming: bool,
}

enum Order {
    /// Indices into the lane.
    Cycle(Box<[u32]>),
    /// The weights of these servers.
    Stepped { servers: Box<[u32]>, turns: Mutex<Turns> },
}

impl Algorithm for RoundRobin {
    type Settings = ();

    const HEEDS_WARMTH: bool = true;

    fn build(lane: &Lane, _: &(), before: Option<&Self>) -> Self {
        let usable = (0u32..).zip(lane.servers()).filter(|(_, server)| server.usable());
        let (indices, weights): (Vec<u32>, Vec<u16>) =
            usable.map(|(index, server)| (index, server.weight())).unzip();
        let order = match smooth::cycle(&weights) {
            Some(cycle) => {
                let index = |turn: &u32| indices.get(usize::try_from(*turn).ok()?).copied();
                Order::Cycle(cycle.iter().filter_map(index).collect())
            }
            None => Order::Stepped { servers: indices.into(), turns: Mutex::new(Turns::of(&weights)) },
        };
        RoundRobin {
            order,
            turns: before.map(|before| before.turns.clone()).unwrap_or_default(),
            warming: lane.servers().iter().any(|server| server.endpoint.warmth() < FULL_WARMTH),
        }
    }

    /// The server whose turn it is, then those whose turns come next. Only the first takes a turn,
    /// so a try that is declined leaves the sequence as it was.
    fn candidate(&self, lane: &Lane, ask: &mut Ask) -> Option<usize> {
        let index = match &self.order {
            Order::Cycle(cycle) => {
                let at = |turn: usize| cycle.get(turn.checked_rem(cycle.len())?);
                if ask.nth == 0 {
                    ask.note = self.turns.fetch_add(1, Ordering::Relaxed);
                    if self.warming {
                        self.pass_turns(lane, ask, at);
                    }
                }
                at(ask.note.wrapping_add(ask.nth))
            }
            // whose turn it will be is not known
            Order::Stepped { .. } if ask.nth > 0 => None,
            Order::Stepped { servers, turns } => {
                let mut turns = turns.lock();
                let mut turn = || servers.get(turns.turn()?);
                let first = turn();
                if !self.warming || takes_part(lane, first) {
                    first
                } else {
                    let mut others = (1..LOOK_AHEAD).map(|_| turn());
                    others.find(|index| takes_part(lane, *index)).unwrap_or(first)
                }
            }
        };
        usize::try_from(*index?).ok()
    }
}

impl RoundRobin {
    /// On to the turn of a server that is warm enough. When there is none nearby, none is passed:
    /// servers that are all cold take turns as if they were warm.
    fn pass_turns<'a>(&self, lane: &Lane, ask: &mut Ask, at: impl Fn(usize) -> Option<&'a u32>) {
        let ahead = (0..LOOK_AHEAD).find(|ahead| takes_part(lane, at(ask.note.wrapping_add(*ahead))));
        if let Some(ahead) = ahead.filter(|ahead| *ahead > 0) {
            self.turns.fetch_add(ahead, Ordering::Relaxed);
            ask.note = ask.note.wrapping_add(ahead);
        }
    }
}

/// Whether the server takes its turn: by chance while it is warming up.
fn takes_part(lane: &Lane, index: Option<&u32>) -> bool {
    let server = index.and_then(|index| lane.servers().get(usize::try_from(*index).ok()?));
    server.is_none_or(|server| {
        let warmth = server.endpoint.warmth();
        warmth >= FULL_WARMTH || fastrand::u16(0..FULL_WARMTH) < warmth
    })
}
