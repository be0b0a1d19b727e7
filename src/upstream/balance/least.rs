//! The least of several servers by some measure: what [`least_connections`](super::least_connections)
//! and [`least_time`](super::least_time) have in common.
//!
//! Servers have turns by weight (the cycle of `smooth`). The one whose turn it is gets the
//! request if it has nothing to do; so does the next, if it has not; a group that is not busy is
//! shared by weight as `round_robin` would, as in nginx's `least_conn`. Otherwise all servers are
//! compared, beginning with the one whose turn it is, which decides between equals. In a group of
//! more than [`MANY`] servers only `DRAWS` of them are compared, drawn by weight: a server that
//! is worse than most is then as good as never taken, and a comparison of all would cost more than
//! it finds (Mitzenmacher: "The power of two choices in randomized load balancing", 2001).

use super::algorithm::{Ask, Lane};
use super::pool::{Member, Pool, is_open};
use super::smooth;
use crate::upstream::changes::CacheLine;
use fastrand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most servers that are all compared.
pub const MANY: usize = 32;
/// So many are compared where there are more.
const DRAWS: usize = 5;
/// So many candidates, where there are more, before the rest is gone through.
const CANDIDATES: usize = 8;
/// So many turns ahead is looked for a server with nothing to do, before servers are compared.
const LOOK_AHEAD: usize = 4;

/// The servers to compare, and whose turn it is.
pub struct Least {
    pool: Pool,
    /// Positions in the pool; empty where the cycle would be too long.
    cycle: Box<[u32]>,
    /// Turns taken. Goes on when the servers change.
    turns: Arc<CacheLine<AtomicUsize>>,
}

/// What servers are compared by.
pub trait Measure {
    /// The least is the best.
    type Cost: PartialOrd + Copy;

    fn cost(&self, member: &Member) -> Self::Cost;

    /// Whether nobody can cost less.
    fn costs_nothing(&self, member: &Member) -> bool;
}

impl Least {
    pub fn of(lane: &Lane, before: Option<&Least>) -> Least {
        let pool = Pool::of(lane);
        let cycle = smooth::cycle(&pool.weights()).unwrap_or_default();
        Least { pool, cycle, turns: before.map_or_else(Arc::default, |before| before.turns.clone()) }
    }

    /// As [`Algorithm::candidate`](super::algorithm::Algorithm::candidate).
    pub fn candidate<M: Measure>(&self, lane: &Lane, ask: &mut Ask, measure: &M) -> Option<usize> {
        let many = self.pool.members().len() > MANY;
        if many && ask.nth >= CANDIDATES {
            return None;
        }
        if ask.nth == 0 {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            ask.note = turn;
            if let Some(idle) = self.idle_in_turn(turn, measure) {
                return Some(idle.index);
            }
        }
        let best = if many {
            let mut random = Rng::with_seed(fastrand::u64(..));
            least((0..DRAWS).filter_map(|_| self.pool.draw(&mut random, lane, ask)), measure)
        } else {
            let first = self.at(ask.note).1.unwrap_or_default();
            let (before, from) = self.pool.members().split_at_checked(first)?;
            let open = || from.iter().chain(before).filter(|member| is_open(member, lane, ask));
            least(open().filter(|member| member.takes_part()), measure).or_else(|| least(open(), measure))
        };
        Some(best?.index)
    }

    /// Where in the cycle this turn is, and the position of the member whose turn it is. Where there
    /// is no cycle it is one drawn by weight.
    fn at(&self, turn: usize) -> (usize, Option<usize>) {
        // of 32 bits, as that takes half as long; that turns jump every four billion is no matter here
        let length = u32::try_from(self.cycle.len()).unwrap_or(u32::MAX);
        match (turn as u32).checked_rem(length).map(|place| place as usize) {
            Some(place) => (place, self.member_at(place)),
            None => (0, self.pool.draw_position(&mut Rng::with_seed(fastrand::u64(..)))),
        }
    }

    fn member_at(&self, place: usize) -> Option<usize> {
        usize::try_from(*self.cycle.get(place)?).ok()
    }

    /// A member whose turn it is, or will be soon, and which costs nothing.
    fn idle_in_turn<M: Measure>(&self, turn: usize, measure: &M) -> Option<&Member> {
        let (mut place, mut position) = self.at(turn);
        for ahead in 0..LOOK_AHEAD {
            let member = self.pool.members().get(position?)?;
            if measure.costs_nothing(member) && member.takes_part() {
                if ahead > 0 {
                    // the turns of those that were passed over are gone
                    self.turns.fetch_add(ahead, Ordering::Relaxed);
                }
                return Some(member);
            }
            place = if place + 1 < self.cycle.len() { place + 1 } else { 0 };
            position = self.member_at(place);
        }
        None
    }
}

/// The first of the least.
fn least<'a, M: Measure>(mut members: impl Iterator<Item = &'a Member>, measure: &M) -> Option<&'a Member> {
    let mut best = members.next()?;
    let mut least = measure.cost(best);
    for member in members {
        let cost = measure.cost(member);
        // two plain choices, which the compiler can make without a jump
        best = if cost < least { member } else { best };
        least = if cost < least { cost } else { least };
    }
    Some(best)
}
