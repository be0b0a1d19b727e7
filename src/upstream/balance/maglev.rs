//! `balance: maglev`: a server by the hash of a key, looked up in a table in which each server has
//! filled as many slots as its weight says, all but exactly, in an order that is its own (Eisenbud
//! et al.: "Maglev: a fast and reliable software network load balancer", NSDI 2016, section 3.4;
//! weights as in Envoy).
//!
//! The table has 65,537 slots for up to 655 servers, then 131,101 up to 13,110 servers, 262,147 up
//! to 26,214, then 1,048,583: at least a hundred, then ten for each server. With equal weights the
//! slots of two servers differ by one at most, so that none has over 1%, then 10%, more keys than it
//! should; with weights, by two slots and twice these parts of its share. When the number of
//! servers passes from one size of the table to the next, most keys change their server.
//!
//! Servers that are unusable keep their slots: a key that finds one draws another slot, so that the
//! keys of a server that fails are spread over the others and no other key moves.

use super::algorithm::{Algorithm, Ask, Lane};
use super::key_hash;
use super::members::{Member, Members, OWN_WAY, Spare};
use std::sync::Arc;

/// Sizes of tables, all primes, and up to how many servers each is for.
const SIZES: [(u32, usize); 3] = [(65_537, 655), (131_101, 13_110), (262_147, 26_214)];
const LARGEST: u32 = 1_048_583;

/// A server by the hash of a key, in even shares.
pub struct Maglev {
    table: Arc<Table>,
    spare: Spare,
}

struct Table {
    members: Members,
    /// Indices of servers.
    slots: Box<[u32]>,
}

impl Algorithm for Maglev {
    type Settings = ();

    fn build(lane: &Lane, (): &(), before: Option<&Self>) -> Self {
        let members = Members::of(lane);
        let table = match before {
            Some(before) if before.table.members == members => before.table.clone(),
            _ => Arc::new(Table { slots: fill(&members.sorted()), members }),
        };
        Maglev { table, spare: Spare::of(lane) }
    }

    fn candidate(&self, _lane: &Lane, ask: &mut Ask) -> Option<usize> {
        if ask.nth >= OWN_WAY {
            return self.spare.candidate(ask);
        }
        let hash = if ask.nth == 0 { ask.hash } else { key_hash::nth(ask.hash, ask.nth as u64) };
        let (slot, _) = key_hash::scale(hash, self.table.slots.len() as u64);
        self.table.slots.get(slot as usize).map(|server| *server as usize)
    }
}

/// All slots, filled in rounds: one after the other, the servers whose turn it is fill the next
/// empty slot in the order that each has for itself.
fn fill(members: &[Member]) -> Box<[u32]> {
    if members.is_empty() {
        return Box::default();
    }
    let size = SIZES.iter().find(|(_, most)| members.len() <= *most).map_or(LARGEST, |(size, _)| *size);
    let mut orders: Vec<Order> = members.iter().map(|member| Order::of(member, size)).collect();
    let mut slots = vec![0; size as usize];
    let mut taken = Taken::none_of(size);
    let mut calendar = Calendar::of(members);
    let mut empty = size;
    loop {
        for place in calendar.round() {
            let order = &mut orders[*place as usize];
            while taken.has(order.at) {
                order.advance(size);
            }
            taken.add(order.at);
            slots[order.at as usize] = order.index;
            empty -= 1;
            if empty == 0 {
                return slots.into();
            }
        }
    }
}

/// Which slots are filled, a bit each: asked a dozen times for every slot, it stays in the nearest cache, where
/// the slots themselves have no room.
struct Taken(Vec<u64>);

impl Taken {
    fn none_of(size: u32) -> Taken {
        Taken(vec![0; size.div_ceil(u64::BITS) as usize])
    }

    fn has(&self, slot: u32) -> bool {
        self.0[(slot / u64::BITS) as usize] & (1 << (slot % u64::BITS)) != 0
    }

    fn add(&mut self, slot: u32) {
        self.0[(slot / u64::BITS) as usize] |= 1 << (slot % u64::BITS);
    }
}

/// The order in which a server wants the slots: each once before any again, as the size is prime.
struct Order {
    /// Of the server.
    index: u32,
    at: u32,
    step: u32,
}

impl Order {
    fn of(member: &Member, size: u32) -> Order {
        let (at, _) = key_hash::scale(key_hash::nth(member.seed, 0), u64::from(size));
        let (step, _) = key_hash::scale(key_hash::nth(member.seed, 1), u64::from(size) - 1);
        Order { index: member.index, at: at as u32, step: step as u32 + 1 }
    }

    fn advance(&mut self, size: u32) {
        // both are below the size, which is far below the half of what the type holds
        self.at += self.step;
        if self.at >= size {
            self.at -= size;
        }
    }
}

/// Who has a turn in which round: all in the first, then the heaviest in every round and one of
/// half its weight in every second. Looks at nobody who has none, as weights may be far apart.
struct Calendar {
    weights: Vec<u64>,
    heaviest: u64,
    round: u64,
    /// The turns that each has had.
    turns: Vec<u64>,
    /// Who has a turn in the coming rounds, one after the other, going round.
    days: Vec<Vec<u32>>,
    today: Vec<u32>,
}

impl Calendar {
    fn of(members: &[Member]) -> Calendar {
        let weights: Vec<u64> = members.iter().map(|member| u64::from(member.weight.max(1))).collect();
        let heaviest = weights.iter().copied().max().unwrap_or(1);
        let lightest = weights.iter().copied().min().unwrap_or(1);
        // the longest pause is shorter than this
        let mut days = vec![Vec::new(); heaviest.div_ceil(lightest) as usize + 1];
        if let Some(first) = days.first_mut() {
            first.extend((0u32..).take(members.len()));
        }
        Calendar { turns: vec![0; weights.len()], weights, heaviest, round: 0, days, today: Vec::new() }
    }

    /// Whose turn it is in the next round: places in order.
    fn round(&mut self) -> &[u32] {
        let days = self.days.len() as u64;
        self.today.clear();
        std::mem::swap(&mut self.today, &mut self.days[(self.round % days) as usize]);
        self.today.sort_unstable();
        self.round += 1;
        for place in &self.today {
            let (turns, weight) = (&mut self.turns[*place as usize], self.weights[*place as usize]);
            *turns += 1;
            let next = (*turns * self.heaviest).div_ceil(weight);
            self.days[(next % days) as usize].push(*place);
        }
        &self.today
    }
}

#[cfg(test)]
impl Maglev {
    /// Whether the table of the other was taken over.
    pub fn has_table_of(&self, other: &Maglev) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slots of each, of members with these weights.
    fn slots(weights: &[u16]) -> Vec<u32> {
        let member = |(index, weight): (u32, &u16)| Member {
            index,
            address: ([127, 0, 0, 1], 80).into(),
            weight: *weight,
            seed: key_hash::nth(7, u64::from(index)),
        };
        let members: Vec<_> = (0..).zip(weights).map(member).collect();
        let mut counts = vec![0; weights.len()];
        for server in fill(&members) {
            counts[server as usize] += 1;
        }
        counts
    }

    #[test]
    fn equal_weights_fill_the_table_evenly() {
        for count in [1, 2, 3, 100, 655, 656] {
            let slots = slots(&vec![3; count]);
            let (most, fewest) = (slots.iter().max().unwrap(), slots.iter().min().unwrap());
            assert!(most - fewest <= 1, "{count} servers have from {fewest} to {most} slots");
        }
    }

    #[test]
    fn slots_follow_the_weights_within_the_bound() {
        for weights in [&[5, 1, 1][..], &[1, 2, 3, 4, 5, 6, 7], &[100, 1], &[65_535, 1, 30_000], &[9; 50]] {
            let sum: f64 = weights.iter().copied().map(f64::from).sum();
            for (weight, slots) in weights.iter().zip(slots(weights)) {
                let share = f64::from(*weight) / sum;
                let off = f64::from(slots) - share * 65_537.0;
                let bound = 2.0 + 2.0 * share * weights.len() as f64;
                assert!(off.abs() <= bound, "{weights:?}: {slots} slots for {weight}");
            }
        }
    }
}
