//! The live state of all servers, by group and address. One per process, handed to every
//! [`Group::build`](super::Group::build): a reload finds the servers it already had, with their
//! counters and health.

use super::endpoint::{Changes, Endpoint};
use super::sticky::Learned;
use crate::config::plan;
use parking_lot::Mutex;
use pingora_load_balancing::health_check::TcpHealthCheck;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// Where endpoints are found again after a reload. Clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    groups: Arc<Mutex<HashMap<String, Known>>>,
    tcp_check: Arc<OnceLock<Arc<TcpHealthCheck>>>,
}

/// What is known of one group.
#[derive(Default)]
struct Known {
    changes: Arc<Changes>,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
    /// The newest last; more than one while an older configuration is in use.
    learned: Vec<Arc<Learned>>,
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

    /// What is known of the values that the servers of `group` set: the same as before while what
    /// is to be learned is the same.
    ///
    /// # Errors
    /// A sentence for the operator, when the system has no randomness.
    pub fn learned(&self, group: &str, plan: &plan::Learn) -> Result<Arc<Learned>, String> {
        self.known(group, |known| {
            if let Some(same) = known.learned.iter().find(|learned| learned.plan() == plan) {
                return Ok(same.clone());
            }
            let before = known.learned.iter().rfind(|learned| learned.plan().from == plan.from);
            let learned = Arc::new(match before {
                Some(before) => before.with_limits(plan),
                None => Learned::build(plan)?,
            });
            known.learned.push(learned.clone());
            Ok(learned)
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
            known.learned.retain(|learned| Arc::strong_count(learned) > 1);
            !known.endpoints.is_empty() || !known.learned.is_empty()
        });
    }

    /// Forgets those servers of a group that nobody uses any more. To be called when servers have left it.
    pub(super) fn prune_group(&self, group: &str) {
        if let Some(known) = self.groups.lock().get_mut(group) {
            known.endpoints.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        }
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
    #[test]
    fn what_was_learned_survives_a_reload() {
        let registry = Registry::new();
        let plan = plan::Learn {
            from: plan::LearnFrom::Cookie("SID".into()),
            ttl: std::time::Duration::from_secs(60),
            entries: 10,
        };
        let first = registry.learned("api", &plan).unwrap();
        let session = first.session(b"alice").unwrap();
        first.remember(session, "127.0.0.1:3001".parse().unwrap());
        assert!(Arc::ptr_eq(&first, &registry.learned("api", &plan).unwrap()));
        assert!(
            registry.learned("admin", &plan).unwrap().server(&session).is_none(),
            "each group has its own"
        );

        let more = plan::Learn { entries: 20, ..plan.clone() };
        let second = registry.learned("api", &more).unwrap();
        assert!(second.server(&second.session(b"alice").unwrap()).is_some(), "carried over");
        let other = plan::Learn { from: plan::LearnFrom::Cookie("OTHER".into()), ..plan.clone() };
        let third = registry.learned("api", &other).unwrap();
        assert!(third.server(&third.session(b"alice").unwrap()).is_none(), "ids of another kind");
        // a configuration that was refused after all: the one in use goes on
        drop((second, third));
        registry.prune();
        assert!(Arc::ptr_eq(&first, &registry.learned("api", &plan).unwrap()));
        drop(first);
        registry.prune();
        assert!(registry.groups.lock().is_empty());
    }
}
