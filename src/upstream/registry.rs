//! The live state of all servers, by group and address. One per process, handed to every
//! [`Group::build`](super::Group::build): a reload finds the servers it already had, with their
//! counters and health.

use super::endpoint::{Changes, Endpoint};
use parking_lot::Mutex;
use pingora_load_balancing::health_check::TcpHealthCheck;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// Where endpoints are found again after a reload.
#[derive(Default)]
pub struct Registry {
    groups: Mutex<HashMap<String, Known>>,
    tcp_check: OnceLock<Arc<TcpHealthCheck>>,
}

/// What is known of one group.
#[derive(Default)]
struct Known {
    changes: Arc<Changes>,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
}

impl Registry {
    pub fn new() -> Registry {
        Registry::default()
    }

    /// The server at `address` as `group` knows it: the same one for as long as anybody uses it.
    pub fn endpoint(&self, group: &str, address: SocketAddr) -> Arc<Endpoint> {
        self.known(group, |known| {
            let changes = &known.changes;
            known
                .endpoints
                .entry(address)
                .or_insert_with(|| Arc::new(Endpoint::new(address, changes.clone())))
                .clone()
        })
    }

    /// What grows when a server of `group` goes up or down.
    pub fn changes(&self, group: &str) -> Arc<Changes> {
        self.known(group, |known| known.changes.clone())
    }

    /// Forgets the servers that nobody uses any more. To be called after a reload, when the
    /// groups of the old configuration are gone.
    pub fn prune(&self) {
        self.groups.lock().retain(|_, known| {
            known.endpoints.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
            !known.endpoints.is_empty()
        });
    }

    /// The TCP check of every group. One, because its connector reads the system's root
    /// certificates when it is made, which takes milliseconds and memory.
    pub(super) fn tcp_check(&self) -> Arc<TcpHealthCheck> {
        let build = || {
            let mut check = TcpHealthCheck::new();
            // the watch puts the group's own deadline around each check
            check.peer_template.options.connection_timeout = None;
            Arc::from(check)
        };
        self.tcp_check.get_or_init(build).clone()
    }

    fn known<T>(&self, group: &str, with: impl FnOnce(&mut Known) -> T) -> T {
        let mut groups = self.groups.lock();
        match groups.get_mut(group) {
            Some(known) => with(known),
            None => with(groups.entry(group.to_string()).or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_again_until_nobody_uses_it() {
        let registry = Registry::new();
        let address = "127.0.0.1:3001".parse().unwrap();
        let api = registry.endpoint("api", address);
        assert!(Arc::ptr_eq(&api, &registry.endpoint("api", address)));
        assert!(!Arc::ptr_eq(&api, &registry.endpoint("admin", address)), "each group has its own");

        registry.prune();
        assert!(Arc::ptr_eq(&api, &registry.endpoint("api", address)), "pruned although in use");
        let in_flight = api.begin();
        drop(api);
        registry.prune();
        assert_eq!(registry.endpoint("api", address).in_flight(), 1, "a request in flight is a use");
        drop(in_flight);
        registry.prune();
        assert!(registry.groups.lock().is_empty());
    }
}
