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
    let mut free = Free::all(size);
    let mut calendar = Calendar::of(members);
    loop {
        for place in calendar.round() {
            let order = &mut orders[*place as usize];
            free.take_next_of(order);
            slots[order.at as usize] = order.index;
            if free.count == 0 {
                return slots.into();
            }
        }
    }
}

/// The slots that no server has filled. While there are many, a server tries one after the other in its order;
/// of the last few, which it would find after hundreds of others, each is asked how far it is. Both ways lead to the
/// same slot, and the second is quicker below the square root of the size; half of all tries would follow then.
struct Free {
    size: u32,
    count: u32,
    /// A bit for each slot that is filled: asked so often, they should stay in the nearest cache.
    filled: Vec<u64>,
    /// All of them, when there are few.
    last: Vec<u32>,
}

impl Free {
    fn all(size: u32) -> Free {
        Free { size, count: size, filled: vec![0; size.div_ceil(u64::BITS) as usize], last: Vec::new() }
    }

    /// Moves on to the first one in this order. There must be one.
    fn take_next_of(&mut self, order: &mut Order) {
        if self.count > self.size.isqrt() {
            while self.is_filled(order.at) {
                order.advance(self.size);
            }
            self.filled[(order.at / u64::BITS) as usize] |= 1 << (order.at % u64::BITS);
        } else {
            if self.last.is_empty() {
                self.last = (0..self.size).filter(|slot| !self.is_filled(*slot)).collect();
            }
            let steps = order.steps(self.size);
            let nearest = (0..self.last.len()).min_by_key(|which| steps.to(self.last[*which]));
            if let Some(nearest) = nearest {
                order.at = self.last.swap_remove(nearest);
            }
        }
        self.count -= 1;
    }

    fn is_filled(&self, slot: u32) -> bool {
        self.filled[(slot / u64::BITS) as usize] & (1 << (slot % u64::BITS)) != 0
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

    fn steps(&self, size: u32) -> Steps {
        let size = u64::from(size);
        // the inverse of the step (Fermat: the size is prime), by squaring
        let (mut inverse, mut power, mut exponent) = (1, u64::from(self.step), size - 2);
        while exponent > 0 {
            if exponent % 2 == 1 {
                inverse = inverse * power % size;
            }
            power = power * power % size;
            exponent /= 2;
        }
        Steps { at: u64::from(self.at), inverse, size }
    }

    fn advance(&mut self, size: u32) {
        // both are below the size, which is far below the half of what the type holds
        self.at += self.step;
        if self.at >= size {
            self.at -= size;
        }
    }
}

/// How often a server has to move on to come to a slot.
struct Steps {
    at: u64,
    inverse: u64,
    size: u64,
}

impl Steps {
    fn to(&self, slot: u32) -> u64 {
        (u64::from(slot) + self.size - self.at) % self.size * self.inverse % self.size
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

    fn member(index: u32, weight: u16) -> Member {
        let address = ([127, 0, 0, 1], 80).into();
        Member { index, address, weight, seed: key_hash::nth(7, u64::from(index)) }
    }

    /// The slots of each, of members with these weights.
    fn slots(weights: &[u16]) -> Vec<u32> {
        let members: Vec<_> = (0..).zip(weights).map(|(index, weight)| member(index, *weight)).collect();
        let mut counts = vec![0; weights.len()];
        for server in fill(&members) {
            counts[server as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_last_slots_are_found_as_by_trying() {
        let (size, mut order) = (SIZES[0].0, Order { index: 0, at: 17, step: 40_961 });
        for steps in 0..1000 {
            let there = order.at;
            assert_eq!(Order { index: 0, at: 17, step: 40_961 }.steps(size).to(there), steps);
            order.advance(size);
        }
        let members: Vec<_> = (0..300).map(|index| member(index, 1 + index as u16 % 7)).collect();
        let mut orders: Vec<_> = members.iter().map(|member| Order::of(member, size)).collect();
        let (mut expected, mut left) = (vec![u32::MAX; size as usize], size);
        let mut calendar = Calendar::of(&members);
        while left > 0 {
            for place in calendar.round().iter().take(left as usize) {
                let order = &mut orders[*place as usize];
                while expected[order.at as usize] != u32::MAX {
                    order.advance(size);
                }
                expected[order.at as usize] = order.index;
                left -= 1;
            }
        }
        assert!(*fill(&members) == *expected);
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
