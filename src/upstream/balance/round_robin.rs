//! `balance: round_robin`: smooth weighted round robin over the usable servers of a lane.
//!
//! The turns of all usable servers are worked out when the table is made; a request then takes the
//! next of them with one atomic addition. Servers that are down have no turns, so the others keep
//! their shares by weight. Weights whose cycle would be too long are stepped under a lock. The
//! algorithm is nginx's, see [`smooth`].

use super::algorithm::{Algorithm, Ask, Lane};
use super::smooth::{self, Turns};
use crate::upstream::endpoint::CacheLine;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Smooth weighted round robin.
pub struct RoundRobin {
    order: Order,
    /// Turns taken. Goes on when the table changes, so that a server which flaps does not send
    /// every other request to the first of the list.
    turns: Arc<CacheLine<AtomicUsize>>,
}

enum Order {
    /// Indices into the lane.
    Cycle(Box<[u32]>),
    /// The weights of these servers.
    Stepped { servers: Box<[u32]>, turns: Mutex<Turns> },
}

impl Algorithm for RoundRobin {
    type Settings = ();

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
        RoundRobin { order, turns: before.map(|before| before.turns.clone()).unwrap_or_default() }
    }

    /// The server whose turn it is, then those whose turns come next. Only the first takes a turn,
    /// so a try that is declined leaves the sequence as it was.
    fn candidate(&self, _: &Lane, ask: &mut Ask) -> Option<usize> {
        if ask.nth == 0 {
            ask.note = self.turns.fetch_add(1, Ordering::Relaxed);
        }
        let index = match &self.order {
            Order::Cycle(cycle) => cycle.get(ask.note.wrapping_add(ask.nth).checked_rem(cycle.len())?),
            // whose turn it will be is not known
            Order::Stepped { .. } if ask.nth > 0 => None,
            Order::Stepped { servers, turns } => servers.get(turns.lock().turn()?),
        };
        usize::try_from(*index?).ok()
    }
}
