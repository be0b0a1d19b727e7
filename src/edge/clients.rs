//! How many connections each client has: counted before a byte of it is read, but for what a proxy says of it, and to
//! its close. Asked by `connection`; a [`Ticket`] stays with the connection.

use crate::config::plan;
use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// So that workers seldom wait for each other.
const SHARDS: usize = 16;

/// The clients of one address that is listened on.
#[derive(Debug, Default)]
pub struct Clients {
    shards: [Mutex<AHashMap<IpAddr, u32>>; SHARDS],
    hasher: RandomState,
}

impl Clients {
    /// A place for one more connection of this client, if its listener counts it at all.
    ///
    /// # Errors
    /// How many it may have, and has.
    pub fn admit(self: &Arc<Self>, plan: &plan::Listener, client: IpAddr) -> Result<Option<Ticket>, u32> {
        let Some(limit) = plan.limits.connections_per_client else { return Ok(None) };
        let client = client.to_canonical();
        // who connects to a unix socket has no address
        if client.is_unspecified() || plan.trusted.iter().any(|net| net.contains(&client)) {
            return Ok(None);
        }
        let client = household(client);
        let mut shard = self.shard(client).lock();
        let open = shard.entry(client).or_default();
        if *open >= limit.get() {
            return Err(limit.get());
        }
        *open += 1;
        drop(shard);
        Ok(Some(Ticket { clients: self.clone(), client }))
    }

    fn shard(&self, client: IpAddr) -> &Mutex<AHashMap<IpAddr, u32>> {
        let index = self.hasher.hash_one(client) % SHARDS as u64;
        &self.shards[index as usize]
    }
}

/// What one customer of a provider has: an address of IPv4, a /64 of IPv6 (RFC 6177).
fn household(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut shard = self.clients.shard(self.client).lock();
        let Some(open) = shard.get_mut(&self.client) else { return };
        *open -= 1;
        if *open == 0 {
            shard.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ListenerLimits;
    use crate::edge::tests::setup::listener;
    use std::num::NonZeroU32;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limited(limit: u32) -> plan::Listener {
        let limits =
            ListenerLimits { connections_per_client: NonZeroU32::new(limit), ..ListenerLimits::default() };
        plan::Listener { limits, trusted: Arc::new(["10.0.0.0/8".parse().unwrap()]), ..listener() }
    }

    #[test]
    fn a_client_has_so_many_and_others_theirs() {
        let (clients, plan) = (Arc::new(Clients::default()), limited(2));
        let admit = |client: &str| clients.admit(&plan, ip(client));
        let (first, _second) = (admit("192.0.2.1").unwrap(), admit("::ffff:192.0.2.1").unwrap());
        assert_eq!(admit("192.0.2.1").err(), Some(2));
        assert!(admit("192.0.2.2").is_ok_and(|ticket| ticket.is_some()));
        drop(first);
        assert!(admit("192.0.2.1").is_ok());
    }

    #[test]
    fn a_household_of_ipv6_is_one_client() {
        let (clients, plan) = (Arc::new(Clients::default()), limited(1));
        let _one = clients.admit(&plan, ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(clients.admit(&plan, ip("2001:db8:0:1:ffff::2")).err(), Some(1));
        assert!(clients.admit(&plan, ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn trusted_proxies_speak_for_many() {
        let (clients, plan) = (Arc::new(Clients::default()), limited(1));
        for _ in 0..3 {
            assert!(clients.admit(&plan, ip("10.1.2.3")).is_ok_and(|ticket| ticket.is_none()));
        }
    }

    #[test]
    fn who_has_left_is_forgotten_and_a_limit_may_change() {
        let clients = Arc::new(Clients::default());
        let client = ip("192.0.2.1");
        let tickets: Vec<_> = (0..100).map(|_| clients.admit(&limited(100), client).unwrap()).collect();
        assert_eq!(clients.admit(&limited(50), client).err(), Some(50));
        drop(tickets);
        assert!(clients.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
