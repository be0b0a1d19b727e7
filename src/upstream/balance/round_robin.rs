//! `balance: round_robin`: smooth weighted round robin over the usable servers of a group.
//!
//! The turns of all usable servers are worked out once per change of health; a request then takes
//! the next of them with one atomic addition. Servers that are down have no turns, so the others
//! keep their shares by weight. Weights whose cycle would be too long are stepped under a lock.

use super::{Shape, smooth};
use crate::upstream::Server;
use crate::upstream::endpoint::{CacheLine, Changes};
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use smooth::Smooth;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many turns ahead a request looks for a server that is not the one it was offered, before it
/// takes any: with a weight of a thousand the other may be hundreds of turns away.
const LOOK_AHEAD: usize = 64;

/// Smooth weighted round robin.
pub struct RoundRobin {
    /// In file order.
    members: Box<[(Backend, Arc<Server>)]>,
    changes: Arc<Changes>,
    schedule: ArcSwap<Schedule>,
    rescheduling: Mutex<()>,
    /// Turns taken. Goes on when the schedule changes, so that a server which flaps does not send
    /// every other request to the first of the list.
    turns: CacheLine<AtomicUsize>,
}

/// Whose turn it is, as long as the same servers are usable.
struct Schedule {
    /// The [`Changes`] it was made at.
    made_at: u64,
    order: Order,
}

enum Order {
    /// Indices of members.
    Cycle(Box<[u32]>),
    /// The weights of these members.
    Stepped { members: Box<[u32]>, smooth: Mutex<Smooth> },
}

impl BackendSelection for RoundRobin {
    type Iter = Offers;
    type Config = Shape;

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Shape::default())
    }

    fn build_with_config(backends: &BTreeSet<Backend>, shape: &Shape) -> Self {
        let known = |backend: &Backend| Some((backend.clone(), shape.servers.find(backend)?.clone()));
        let mut members: Vec<_> = backends.iter().filter_map(known).collect();
        members.sort_by_key(|(_, server)| server.place);
        let members = members.into_boxed_slice();
        let schedule = Schedule::make(&members, shape.changes.seen());
        RoundRobin {
            members,
            changes: shape.changes.clone(),
            schedule: ArcSwap::from_pointee(schedule),
            rescheduling: Mutex::new(()),
            turns: CacheLine::default(),
        }
    }

    fn iter(self: &Arc<Self>, _key: &[u8]) -> Offers {
        Offers { algorithm: self.clone(), turn: 0, stage: Stage::Start, first: None, others: Vec::new() }
    }
}

impl RoundRobin {
    /// Takes the next turn: its number and the member it falls to.
    fn take_turn(&self) -> (usize, Option<usize>) {
        let schedule = self.schedule();
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        (turn, schedule.at(turn))
    }

    /// The schedule of the servers that are usable now.
    fn schedule(&self) -> Guard<Arc<Schedule>> {
        let schedule = self.schedule.load();
        let now = self.changes.seen();
        if schedule.made_at == now {
            return schedule;
        }
        // one request makes the new schedule; those beside it use the old one, which is right but
        // for the shares, as what it offers is checked
        let Some(_guard) = self.rescheduling.try_lock() else { return schedule };
        self.schedule.store(Arc::new(Schedule::make(&self.members, now)));
        self.schedule.load()
    }

    /// A member that may be offered now.
    fn usable(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(|(_, server)| server.usable())
    }
}

impl Schedule {
    /// `now` was read before the state of the servers is, so that a change in between is noticed.
    fn make(members: &[(Backend, Arc<Server>)], now: u64) -> Schedule {
        let usable = (0u32..).zip(members).filter(|(_, (_, server))| server.usable());
        let (indices, weights): (Vec<u32>, Vec<u16>) =
            usable.map(|(index, (_, server))| (index, server.weight())).unzip();
        let order = match smooth::cycle(&weights) {
            Some(cycle) => {
                let index = |turn: &u32| indices.get(usize::try_from(*turn).ok()?).copied();
                Order::Cycle(cycle.iter().filter_map(index).collect())
            }
            None => Order::Stepped { members: indices.into(), smooth: Mutex::new(Smooth::new(&weights)) },
        };
        Schedule { made_at: now, order }
    }

    /// Whose turn it is; steps on where turns are not numbered.
    fn at(&self, turn: usize) -> Option<usize> {
        let index = match &self.order {
            Order::Cycle(cycle) => cycle.get(turn.checked_rem(cycle.len())?),
            Order::Stepped { members, smooth } => members.get(smooth.lock().turn()?),
        };
        usize::try_from(*index?).ok()
    }

    /// Whose turn it will be; `None` where that is not known.
    fn ahead(&self, turn: usize) -> Option<usize> {
        match &self.order {
            Order::Cycle(_) => self.at(turn),
            Order::Stepped { .. } => None,
        }
    }
}

/// The servers offered to one request: the one whose turn it is, then those whose turns come
/// next, then all others; each once. Only the first takes a turn, so a try that is declined
/// leaves the sequence as it was.
pub struct Offers {
    algorithm: Arc<RoundRobin>,
    turn: usize,
    stage: Stage,
    // the first offer is nearly always taken: no allocation for it
    first: Option<usize>,
    others: Vec<usize>,
}

enum Stage {
    Start,
    /// This many turns after the first.
    Ahead(usize),
    /// All members, this many past the one to begin with.
    Rest(usize),
}

impl Offers {
    /// The next candidate and nothing else: it may be unusable, or a repetition.
    fn candidate(&mut self) -> Option<Option<usize>> {
        let members = self.algorithm.members.len();
        match self.stage {
            Stage::Start => {
                let (turn, candidate) = self.algorithm.take_turn();
                self.turn = turn;
                self.stage = Stage::Ahead(1);
                Some(candidate)
            }
            Stage::Ahead(turns) => {
                let candidate = self.algorithm.schedule.load().ahead(self.turn.wrapping_add(turns));
                let further = candidate.is_some() && turns < LOOK_AHEAD;
                self.stage = if further { Stage::Ahead(turns + 1) } else { Stage::Rest(0) };
                Some(candidate)
            }
            Stage::Rest(past) if past < members => {
                self.stage = Stage::Rest(past + 1);
                Some(self.turn.wrapping_add(past).checked_rem(members))
            }
            Stage::Rest(_) => None,
        }
    }
}

impl BackendIter for Offers {
    fn next(&mut self) -> Option<&Backend> {
        loop {
            let Some(index) = self.candidate()? else { continue };
            let known = self.first == Some(index) || self.others.contains(&index);
            if known || !self.algorithm.usable(index) {
                continue;
            }
            match self.first {
                None => self.first = Some(index),
                Some(_) => self.others.push(index),
            }
            return self.algorithm.members.get(index).map(|(backend, _)| backend);
        }
    }
}
