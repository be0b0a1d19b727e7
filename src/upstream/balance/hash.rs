//! `balance: hash` and `balance: ip_hash`: the server follows from the hash of the request's key,
//! each server getting as many keys as its weight says, exactly.
//!
//! As in nginx (`ngx_http_upstream_hash_module`), the key chooses among all servers that are
//! configured, usable or not, and draws again where it finds an unusable one: the keys of a server
//! that fails are spread over the others, all other keys stay, and the server has its own back when
//! it is back. Which server a key falls to depends on the addresses and weights of all servers, not
//! on their order, so that most keys move when one is added or taken away: `consistent_hash` and
//! `maglev` are for that.

use super::algorithm::{Algorithm, Ask, Lane};
use super::alias::Alias;
use super::key_hash;
use super::members::{Members, OWN_WAY, Spare};
use std::sync::Arc;

/// A server by the hash of a key.
pub struct Hash {
    table: Arc<Table>,
    spare: Spare,
}

struct Table {
    members: Members,
    /// Makes the hash another one, so that keys which all fell to one server of another group, of
    /// this gate or one before it, are spread here.
    salt: u64,
    draws: Alias,
}

impl Table {
    fn of(members: Members) -> Table {
        let sorted = members.sorted();
        let salt = sorted.iter().fold(0, |salt, member| key_hash::nth(salt ^ member.seed, 0));
        let weights: Vec<_> = sorted.iter().map(|member| (member.index, member.weight)).collect();
        Table { members, salt, draws: Alias::new(&weights) }
    }
}

impl Algorithm for Hash {
    type Settings = ();

    fn build(lane: &Lane, (): &(), before: Option<&Self>) -> Self {
        let members = Members::of(lane);
        let table = match before {
            Some(before) if before.table.members == members => before.table.clone(),
            _ => Arc::new(Table::of(members)),
        };
        Hash { table, spare: Spare::of(lane) }
    }

    fn candidate(&self, _lane: &Lane, ask: &mut Ask) -> Option<usize> {
        if ask.nth < OWN_WAY {
            return self.table.draws.draw(key_hash::nth(ask.hash ^ self.table.salt, ask.nth as u64));
        }
        self.spare.candidate(ask)
    }
}

#[cfg(test)]
impl Hash {
    /// Whether the table of the other was taken over.
    pub fn has_table_of(&self, other: &Hash) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}
