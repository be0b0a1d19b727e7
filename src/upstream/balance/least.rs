//! The least of several servers by some measure: what [`least_connections`](super::least_connections)
//! and [`least_time`](super::least_time) have in common.
//!
//! Servers have turns by weight (the cycle of [`smooth`]). The one whose turn it is gets the
//! request if it has nothing to do; so does the next, if it has not; a group that is not busy is
//! shared by weight as `round_robin` would, as in nginx's `least_conn`. Otherwise all servers are
//! compared, beginning with the one whose turn it is, which decides between equals. In a group of
//! more than [`MANY`] servers only [`DRAWS`] of them are compared, drawn by weight: a server that
//! is worse than most is then as good as never taken, and a comparison of all would cost more than
//! it finds (Mitzenmacher: "The power of two choices in randomized load balancing", 2001).

use super::algorithm::{Ask, Lane};
use super::pool::{Member, Pool, is_open};
use super::smooth;
use crate::upstream::endpoint::CacheLine;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most servers that are all compared.
pub const MANY: usize = 32;
/// So many are compared where there are more.
const DRAWS: usize = 8;
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
    type Cost: PartialOrd;

    fn cost(&self, member: &Member) -> Self::Cost;

    /// Whether there can be no less.
    fn is_least(&self, cost: &Self::Cost) -> bool;
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
            let drawn = std::iter::repeat_with(|| self.pool.draw(lane, ask)).take(DRAWS);
            least(drawn.flatten(), measure)
        } else {
            let first = self.at(ask.note).unwrap_or_default();
            let (before, from) = self.pool.members().split_at_checked(first)?;
            let open = || from.iter().chain(before).filter(|member| is_open(member, lane, ask));
            least(open().filter(|member| member.takes_part()), measure).or_else(|| least(open(), measure))
        };
        Some(best?.index)
    }

    /// The position of the member whose turn it is; where there is no cycle, one drawn by weight.
    fn at(&self, turn: usize) -> Option<usize> {
        let Some(turn) = turn.checked_rem(self.cycle.len()) else { return self.pool.draw_position() };
        usize::try_from(*self.cycle.get(turn)?).ok()
    }

    /// A member whose turn it is, or will be soon, and which is as little busy as can be.
    fn idle_in_turn<M: Measure>(&self, turn: usize, measure: &M) -> Option<&Member> {
        for ahead in 0..LOOK_AHEAD {
            let member = self.pool.members().get(self.at(turn.wrapping_add(ahead))?)?;
            if measure.is_least(&measure.cost(member)) && member.takes_part() {
                if ahead > 0 {
                    // the turns of those that were passed over are gone
                    self.turns.fetch_add(ahead, Ordering::Relaxed);
                }
                return Some(member);
            }
        }
        None
    }
}

/// The first of the least.
fn least<'a, M: Measure>(members: impl Iterator<Item = &'a Member>, measure: &M) -> Option<&'a Member> {
    let mut best: Option<(&Member, M::Cost)> = None;
    for member in members {
        let cost = measure.cost(member);
        if best.as_ref().is_some_and(|(_, least)| *least <= cost) {
            continue;
        }
        if measure.is_least(&cost) {
            return Some(member);
        }
        best = Some((member, cost));
    }
    best.map(|(member, _)| member)
}
