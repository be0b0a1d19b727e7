//! How many connections each client has: counted before a byte of it is read, but for what a proxy says of it, and to
//! its close. Asked by `place`; a [`Ticket`] stays with the connection.

use crate::config::plan;
use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
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
    /// A place for one more connection of this client, as [`counted`]; `None` when it has as many as it may.
    pub fn admit(self: &Arc<Self>, client: IpAddr, most: NonZeroU32) -> Option<Ticket> {
        let mut shard = self.shard(client).lock();
        let open = shard.entry(client).or_default();
        if *open >= most.get() {
            return None;
        }
        *open += 1;
        drop(shard);
        Some(Ticket { clients: self.clone(), client })
    }

    fn shard(&self, client: IpAddr) -> &Mutex<AHashMap<IpAddr, u32>> {
        let index = self.hasher.hash_one(client) % SHARDS as u64;
        &self.shards[index as usize]
    }
}

/// As whom this client is counted where a listener has limits for each. Proxies that are trusted speak for many, and who
/// connects to a unix socket has no address: they are not.
pub fn counted(plan: &plan::Listener, client: IpAddr) -> Option<IpAddr> {
    let client = client.to_canonical();
    let exempt = client.is_unspecified() || plan.trusted.iter().any(|net| net.contains(&client));
    (!exempt).then(|| household(client))
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
    use crate::edge::tests::setup::listener;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn admit(clients: &Arc<Clients>, client: &str, most: u32) -> Option<Ticket> {
        clients.admit(counted(&listener(), ip(client)).unwrap(), NonZeroU32::new(most).unwrap())
    }

    #[test]
    fn a_client_has_so_many_and_others_theirs() {
        let clients = Arc::new(Clients::default());
        let admit = |client: &str| admit(&clients, client, 2);
        let (first, _second) = (admit("192.0.2.1").unwrap(), admit("::ffff:192.0.2.1").unwrap());
        assert!(admit("192.0.2.1").is_none());
        assert!(admit("192.0.2.2").is_some());
        drop(first);
        assert!(admit("192.0.2.1").is_some());
    }

    #[test]
    fn a_household_of_ipv6_is_one_client() {
        let clients = Arc::new(Clients::default());
        let _one = admit(&clients, "2001:db8:0:1::1", 1).unwrap();
        assert!(admit(&clients, "2001:db8:0:1:ffff::2", 1).is_none());
        assert!(admit(&clients, "2001:db8:0:2::1", 1).is_some());
    }

    #[test]
    fn trusted_proxies_and_those_without_an_address_are_not_counted() {
        let plan = plan::Listener { trusted: Arc::new(["10.0.0.0/8".parse().unwrap()]), ..listener() };
        for exempt in ["10.1.2.3", "::ffff:10.1.2.3", "0.0.0.0", "::"] {
            assert_eq!(counted(&plan, ip(exempt)), None, "{exempt}");
        }
        assert_eq!(counted(&plan, ip("::ffff:192.0.2.1")), Some(ip("192.0.2.1")));
    }

    #[test]
    fn who_has_left_is_forgotten_and_a_limit_may_change() {
        let clients = Arc::new(Clients::default());
        let client = "192.0.2.1";
        let tickets: Vec<_> = (0..100).map(|_| admit(&clients, client, 100).unwrap()).collect();
        assert!(admit(&clients, client, 50).is_none());
        drop(tickets);
        assert!(clients.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
