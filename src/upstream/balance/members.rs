//! What the algorithms that choose by key have in common: servers whichever order they are written
//! in, and where a request goes when its key leads nowhere. Used by [`hash`](super::hash),
//! [`consistent_hash`](super::consistent_hash) and [`maglev`](super::maglev).

use super::algorithm::{Ask, Lane};
use super::alias::Alias;
use super::key_hash;
use std::net::SocketAddr;

/// As far as this many candidates a request goes the way of its key, on which the keys of an
/// unusable server, and no others, go to another. With one of two servers unusable, one of 65,536
/// such keys needs more.
pub const OWN_WAY: usize = 16;
/// So many more candidates are drawn from the usable servers. A request that gets this far has
/// been offered all of them, or nearly.
const SPARE: usize = 16;

/// What a table is made from: while that is the same, so is the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Members(Box<[(SocketAddr, u16)]>);

/// A server in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Where it is in its lane.
    pub index: u32,
    pub address: SocketAddr,
    pub weight: u16,
    /// The hash of its address.
    pub seed: u64,
}

impl Members {
    pub fn of(lane: &Lane) -> Members {
        lane.servers().iter().map(|server| (server.endpoint.address(), server.weight())).collect()
    }

    /// In the order of their addresses, so that nothing depends on that of the file.
    pub fn sorted(&self) -> Vec<Member> {
        let mut all: Vec<_> = (0u32..).zip(&self.0).collect();
        all.sort_unstable_by_key(|(_, (address, _))| *address);
        let member = |(index, (address, weight)): (u32, &(SocketAddr, u16))| Member {
            index,
            address: *address,
            weight: *weight,
            seed: key_hash::of_address(*address),
        };
        all.into_iter().map(member).collect()
    }
}

impl FromIterator<(SocketAddr, u16)> for Members {
    fn from_iter<I: IntoIterator<Item = (SocketAddr, u16)>>(members: I) -> Members {
        Members(members.into_iter().collect())
    }
}

/// The usable servers, drawn by weight for requests whose keys lead to unusable ones again and
/// again: where few of many servers are usable, looking for these one by one would take long.
#[derive(Debug, Default)]
pub struct Spare {
    /// Empty when all servers are usable.
    usable: Alias,
}

impl Spare {
    pub fn of(lane: &Lane) -> Spare {
        let usable = (0u32..).zip(lane.servers()).filter(|(_, server)| server.usable());
        let usable: Vec<_> = usable.map(|(index, server)| (index, server.weight())).collect();
        if usable.len() == lane.servers().len() {
            return Spare::default();
        }
        Spare { usable: Alias::new(&usable) }
    }

    /// The candidate after those of the key's own way: the same for the same key for as long as
    /// the same servers are usable.
    pub fn candidate(&self, ask: &Ask) -> Option<usize> {
        if ask.nth >= OWN_WAY + SPARE {
            return None;
        }
        self.usable.draw(key_hash::nth(ask.hash, ask.nth as u64))
    }
}

#[cfg(test)]
mod tests;
