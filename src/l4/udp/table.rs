//! The flow table: who has a session, how much has gone through it, and when it is over. Pure: it has no sockets and reads no
//! clock. Each socket of a listener has one; the `reader` asks it.

use crate::config::plan::Sessions;
use ahash::AHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;
use std::time::Instant;

/// Names a flow for as long as it is in the table, and nothing after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    place: usize,
    /// Places are used again.
    turn: u64,
}

/// The flows of one socket, by the key that tells clients from each other.
#[derive(Debug)]
pub struct Table<K, V> {
    by_key: AHashMap<K, Id>,
    places: Vec<Place<K, V>>,
    free: Vec<usize>,
    /// When a place is to be looked at, the first one on top: as a rule one entry for each place, whoever is there. An
    /// entry is not moved when its flow is used, but put back when its time has come and that of the flow has not.
    looks: BinaryHeap<Reverse<(Instant, usize)>>,
}

#[derive(Debug)]
struct Place<K, V> {
    flow: Option<Flow<K, V>>,
    turn: u64,
    /// The earliest entry in `looks`; others of this place are void.
    look: Option<Instant>,
}

/// Datagrams between one client and one server.
#[derive(Debug)]
pub struct Flow<K, V> {
    pub key: K,
    pub rules: Sessions,
    /// Datagrams from the client and to it.
    pub datagrams: (u64, u64),
    /// Their bytes.
    pub bytes: (u64, u64),
    /// What it is to the owner of the table.
    pub value: V,
    /// The last datagram in either direction, or the beginning.
    last: Instant,
}

/// Why a flow is over when it is over by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// All answers have come.
    Answered,
}

impl<K, V> Flow<K, V> {
    /// How many more datagrams of its client belong to it.
    fn room(&self) -> u64 {
        self.rules.requests.map_or(u64::MAX, |most| most.saturating_sub(self.datagrams.0))
    }

    /// As nginx has it (`proxy_requests`, `proxy_responses`): all datagrams that belong to it have come, if there is a limit,
    /// and all answers to those that have.
    fn over(&self) -> Option<Over> {
        let answers = self.rules.responses?.saturating_mul(self.datagrams.0);
        let asked = self.rules.requests.is_none_or(|most| self.datagrams.0 >= most);
        (asked && self.datagrams.0 > 0 && self.datagrams.1 >= answers).then_some(Over::Answered)
    }

    fn deadline(&self) -> Instant {
        self.last + self.rules.idle
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table { by_key: AHashMap::new(), places: Vec::new(), free: Vec::new(), looks: BinaryHeap::new() }
    }
}

impl<K: Hash + Eq + Clone, V> Table<K, V> {
    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The flow that the next datagram with this key belongs to.
    pub fn find(&self, key: &K) -> Option<Id> {
        self.by_key.get(key).copied()
    }

    pub fn get(&self, id: Id) -> Option<&Flow<K, V>> {
        self.places.get(id.place).filter(|place| place.turn == id.turn)?.flow.as_ref()
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut Flow<K, V>> {
        self.places.get_mut(id.place).filter(|place| place.turn == id.turn)?.flow.as_mut()
    }

    /// All of them, in no order.
    pub fn ids(&self) -> Vec<Id> {
        let live =
            |(place, at): (usize, &Place<K, V>)| at.flow.is_some().then_some(Id { place, turn: at.turn });
        self.places.iter().enumerate().filter_map(live).collect()
    }

    /// A new flow, which datagrams with this key belong to from now on.
    pub fn begin(&mut self, key: K, rules: Sessions, value: V, now: Instant) -> Id {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { flow: None, turn: 0, look: None });
            self.places.len() - 1
        });
        let flow = Flow { key: key.clone(), rules, datagrams: (0, 0), bytes: (0, 0), value, last: now };
        let deadline = flow.deadline();
        let mut turn = 0;
        if let Some(at) = self.places.get_mut(place) {
            turn = at.turn;
            at.flow = Some(flow);
            if at.look.is_none_or(|look| look > deadline) {
                at.look = Some(deadline);
                self.looks.push(Reverse((deadline, place)));
            }
        }
        let id = Id { place, turn };
        self.by_key.insert(key, id);
        id
    }

    /// How many more datagrams of its client belong to a flow; at least one, as long as it can be found by its key.
    pub fn room(&self, id: Id) -> u64 {
        self.get(id).map_or(0, Flow::room)
    }

    /// So many datagrams of the client, and so many bytes, have been passed on. When no more belong to it, the next one with
    /// its key finds nothing.
    pub fn forwarded(&mut self, id: Id, (datagrams, bytes): (u64, u64), now: Instant) -> Option<Over> {
        let flow = self.get_mut(id)?;
        flow.datagrams.0 += datagrams;
        flow.bytes.0 += bytes;
        flow.last = now;
        let (over, full) = (flow.over(), flow.room() == 0);
        if full {
            let key = flow.key.clone();
            self.unbind(&key, id);
        }
        over
    }

    /// So many answers, and so many bytes, have been passed back.
    pub fn answered(&mut self, id: Id, (datagrams, bytes): (u64, u64), now: Instant) -> Option<Over> {
        let flow = self.get_mut(id)?;
        flow.datagrams.1 += datagrams;
        flow.bytes.1 += bytes;
        flow.last = now;
        flow.over()
    }

    /// Takes a flow out.
    pub fn end(&mut self, id: Id) -> Option<Flow<K, V>> {
        let place = self.places.get_mut(id.place).filter(|place| place.turn == id.turn)?;
        let flow = place.flow.take()?;
        place.turn += 1;
        self.free.push(id.place);
        self.unbind(&flow.key, id);
        Some(flow)
    }

    fn unbind(&mut self, key: &K, id: Id) {
        // another one may have it by now
        if self.by_key.get(key) == Some(&id) {
            self.by_key.remove(key);
        }
    }

    /// A flow that nothing has come through for as long as it may last; `None` when there is none at this time.
    pub fn idle(&mut self, now: Instant) -> Option<Id> {
        while let Some(Reverse((at, place))) = self.looks.peek().copied() {
            if at > now {
                return None;
            }
            self.looks.pop();
            let Some(here) = self.places.get_mut(place).filter(|here| here.look == Some(at)) else {
                continue;
            };
            here.look = None;
            let Some(flow) = &here.flow else { continue };
            let deadline = flow.deadline();
            // looked at again even if it is over, should nobody end it
            let next = deadline.max(at);
            here.look = Some(next);
            self.looks.push(Reverse((next, place)));
            if deadline <= now {
                return Some(Id { place, turn: here.turn });
            }
        }
        None
    }

    /// When [`Table::idle`] is to be asked next; it may find nobody then.
    pub fn next_look(&self) -> Option<Instant> {
        self.looks.peek().map(|Reverse((at, _))| *at)
    }
}
