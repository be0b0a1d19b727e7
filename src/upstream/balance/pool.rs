//! The usable servers of a lane, in a form in which many are quickly compared or a few quickly
//! drawn. For the algorithms that look at how busy servers are: [`least`](super::least) and
//! [`power_of_two`](super::power_of_two).

use super::algorithm::{Ask, Lane};
use super::alias::Alias;
use crate::upstream::endpoint::FULL_WARMTH;
use crate::upstream::{Endpoint, Server};
use fastrand::Rng;
use std::cmp::Ordering;
use std::sync::Arc;

/// So often is drawn again for a server that is not to be had, before any is taken.
const DRAWS: usize = 8;

/// The servers of a lane that were usable when this was made.
pub struct Pool {
    members: Box<[Member]>,
    alias: Alias,
}

/// A server of a lane, with what every comparison reads side by side.
pub struct Member {
    pub endpoint: Arc<Endpoint>,
    /// Its index in the lane.
    pub index: usize,
    weight: u16,
    /// 1 over the weight, warm.
    per_weight: f32,
    /// Whether it was warming up when this was made; only then its warmth is looked at.
    warming: bool,
}

impl Member {
    pub fn in_flight(&self) -> usize {
        self.endpoint.in_flight()
    }

    /// The weight times [`FULL_WARMTH`], or less while the server is warming up.
    pub fn weight(&self) -> u32 {
        u32::from(self.weight) * u32::from(self.warmth())
    }

    /// 1 over the weight.
    pub fn per_weight(&self) -> f32 {
        if self.warming { per(self.weight()) } else { self.per_weight }
    }

    fn warmth(&self) -> u16 {
        if self.warming { self.endpoint.warmth() } else { FULL_WARMTH }
    }

    /// Whether the server is to be thought of for this request: by chance while it is warming up.
    /// Its weight alone would not spare it: a server with nothing to do is the least busy of all,
    /// whatever its weight.
    pub fn takes_part(&self) -> bool {
        !self.warming || fastrand::u16(0..FULL_WARMTH) < self.warmth()
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        Load { in_flight: self.in_flight(), weight: self.weight() }
    }
}

/// Requests in flight relative to the weight. Compared exactly, by cross multiplication.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    in_flight: usize,
    weight: u32,
}

fn per(weight: u32) -> f32 {
    1.0 / weight.max(1) as f32
}

impl Load {
    /// This load at that weight.
    fn scaled(&self, weight: u32) -> u64 {
        (self.in_flight as u64).saturating_mul(u64::from(weight))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Load) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Load) -> Option<Ordering> {
        self.scaled(other.weight).partial_cmp(&other.scaled(self.weight))
    }
}

impl Pool {
    pub fn of(lane: &Lane) -> Pool {
        let usable = lane.servers().iter().enumerate().filter(|(_, server)| server.usable());
        let member = |(index, server): (usize, &Arc<Server>)| Member {
            endpoint: server.endpoint.clone(),
            index,
            weight: server.weight(),
            per_weight: per(u32::from(server.weight()) * u32::from(FULL_WARMTH)),
            warming: server.endpoint.warmth() < FULL_WARMTH,
        };
        let members: Box<[Member]> = usable.map(member).collect();
        let weights: Vec<(u32, u16)> = (0..).zip(members.iter().map(|member| member.weight)).collect();
        Pool { alias: Alias::new(&weights), members }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What each member weighs, warm or not.
    pub fn weights(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.weight).collect()
    }

    /// The position of a member drawn by weight.
    pub fn draw_position(&self, random: &mut Rng) -> Option<usize> {
        self.alias.draw(random.u64(..))
    }

    /// A member by weight, if a few draws find one that the request may be given.
    pub fn draw(&self, random: &mut Rng, lane: &Lane, ask: &Ask) -> Option<&Member> {
        for draw in 0..=DRAWS {
            let member = self.members.get(self.draw_position(random)?)?;
            // the last is taken cold
            if is_open(member, lane, ask) && (draw == DRAWS || member.takes_part()) {
                return Some(member);
            }
        }
        None
    }
}

/// Whether the request may be given this server. The first candidate is not asked: the caller sees
/// to it, and comes again if it may not.
pub fn is_open(member: &Member, lane: &Lane, ask: &Ask) -> bool {
    ask.nth == 0 || (!ask.was_offered(member.index) && lane.is_usable(member.index))
}
