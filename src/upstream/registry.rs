//! The live state of all servers, by group and address. One per process, handed to every
//! [`Group::build`](super::Group::build): a reload finds the servers it already had, with their
//! counters and health.

use super::caps::Caps;
use super::changes::Changes;
use super::endpoint::Endpoint;
use super::location::Location;
pub use super::state::ServerState;
use super::state::Standing;
use super::sticky::Learned;
use crate::config::file::InitialHealth;
use crate::config::plan;
use crate::observe::{Metrics, metrics};
use parking_lot::Mutex;
use pingora_load_balancing::health_check::TcpHealthCheck;
use rustls::RootCertStore;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// Of so many servers that left a group while they were down it is known that they were.
const DEPARTED: usize = 1000;

/// Where endpoints are found again after a reload. Clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    groups: Arc<Mutex<HashMap<String, Known>>>,
    tcp_check: Arc<OnceLock<Arc<TcpHealthCheck>>>,
    roots: Arc<OnceLock<Arc<RootCertStore>>>,
    metrics: Metrics,
}

/// What is known of one group.
#[derive(Default)]
struct Known {
    changes: Arc<Changes>,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
    /// Those of them that were down when they were forgotten, for as long as there is anybody else.
    left_down: Departed,
    caps: Arc<Caps>,
    /// What another process knew of servers that have not come here yet.
    handed_over: HashMap<SocketAddr, ServerState>,
    /// The newest last; more than one while an older configuration is in use.
    learned: Vec<Arc<Learned>>,
}

impl Registry {
    pub fn new() -> Registry {
        Registry::default()
    }

    /// One whose groups and servers are counted here.
    pub fn counting(metrics: Metrics) -> Registry {
        Registry { metrics, ..Registry::default() }
    }

    /// Where they are counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is counted of `group`.
    pub(super) fn counted(&self, group: &str) -> Arc<metrics::Upstream> {
        self.metrics.upstream(group)
    }

    /// The server at `address` as `group` knows it: the same one for as long as anybody uses it.
    /// One that is not known is what `initial` says.
    pub fn endpoint(&self, group: &str, at: impl Into<Location>, initial: InitialHealth) -> Arc<Endpoint> {
        let at = at.into();
        self.known(group, |known| {
            let address = at.address();
            let Known { changes, endpoints, left_down, handed_over, .. } = known;
            let build = || {
                let was_down = left_down.take(address);
                let down = match initial {
                    InitialHealth::Up => false,
                    InitialHealth::Down => true,
                    InitialHealth::LastKnown => was_down,
                };
                let counted = self.metrics.server(group, at.name());
                let endpoint = Endpoint::new(at, changes.clone(), counted, down);
                if let Some(state) = handed_over.remove(&address) {
                    endpoint.resume(&state);
                }
                Arc::new(endpoint)
            };
            endpoints.entry(address).or_insert_with(build).clone()
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

    /// How many requests of `group` are in flight, and who waits. Whoever waits knows the limits.
    pub fn caps(&self, group: &str) -> Arc<Caps> {
        self.known(group, |known| known.caps.clone())
    }

    /// Where a server stood in another process that has not come here yet.
    pub(super) fn standing(&self, group: &str, address: SocketAddr) -> Option<Standing> {
        self.groups.lock().get(group)?.handed_over.get(&address)?.standing
    }

    /// What is known of all servers, but for where they stand: see [`states`](super::state::states).
    pub(super) fn states(&self) -> Vec<ServerState> {
        let groups = self.groups.lock();
        let of_group = |(group, known): (&String, &Known)| -> Vec<ServerState> {
            known.endpoints.values().map(|endpoint| endpoint.state_of(group)).collect()
        };
        groups.iter().flat_map(of_group).collect()
    }

    /// Another process knew this of its servers: those that come here go on from it.
    pub fn resume(&self, states: Vec<ServerState>) {
        for state in states {
            self.known(&state.group.clone(), |known| {
                known.handed_over.insert(state.address, state);
            });
        }
    }

    /// What was handed over and is not needed, as those servers are not named any more. Groups that do not know their
    /// servers yet, `but` these, do so when they do.
    pub fn forget_handed_over(&self, but: &[&str]) {
        let mut groups = self.groups.lock();
        let known = groups.iter_mut().filter(|(group, _)| !but.contains(&group.as_str()));
        known.for_each(|(_, known)| known.handed_over = HashMap::new());
    }

    /// The same of one group.
    pub(super) fn forget_handed_over_of(&self, group: &str) {
        if let Some(known) = self.groups.lock().get_mut(group) {
            known.handed_over = HashMap::new();
        }
    }

    /// Forgets the servers that nobody uses any more. To be called after a reload, when the
    /// groups of the old configuration are gone.
    pub fn prune(&self) {
        self.groups.lock().retain(|_, known| {
            known.forget_unused();
            known.learned.retain(|learned| Arc::strong_count(learned) > 1);
            let used = Arc::strong_count(&known.caps) > 1;
            used || !known.endpoints.is_empty() || !known.learned.is_empty()
        });
        self.metrics.prune();
    }

    /// Forgets those servers of a group that nobody uses any more. To be called when servers have left it.
    pub(super) fn prune_group(&self, group: &str) {
        if let Some(known) = self.groups.lock().get_mut(group) {
            known.forget_unused();
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

    /// The authorities that the system trusts. Read once, which takes milliseconds.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs()
            .map_err(|error| format!("the certificates that the system trusts cannot be read: {error}"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            return Err("this system trusts no certificate: name authorities with `ca`".into());
        }
        Ok(self.roots.get_or_init(|| Arc::new(roots)).clone())
    }

    fn known<T>(&self, group: &str, with: impl FnOnce(&mut Known) -> T) -> T {
        let mut groups = self.groups.lock();
        match groups.get_mut(group) {
            Some(known) => with(known),
            None => with(groups.entry(group.to_string()).or_default()),
        }
    }
}

impl Known {
    /// Nobody but this registry holds them.
    fn forget_unused(&mut self) {
        let left_down = &mut self.left_down;
        self.endpoints.retain(|address, endpoint| {
            let used = Arc::strong_count(endpoint) > 1;
            if !used && !endpoint.is_up() {
                left_down.add(*address);
            }
            used
        });
    }
}

/// Servers that were down when they were forgotten, the last ones to go.
#[derive(Default)]
struct Departed(VecDeque<SocketAddr>);

impl Departed {
    fn add(&mut self, address: SocketAddr) {
        self.0.push_back(address);
        if self.0.len() > DEPARTED {
            self.0.pop_front();
        }
    }

    /// Whether it was among them; it is not any more.
    fn take(&mut self, address: SocketAddr) -> bool {
        let before = self.0.len();
        self.0.retain(|departed| *departed != address);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::health::Thresholds;
    use std::num::NonZeroU16;
    use std::time::SystemTime;

    const UP: InitialHealth = InitialHealth::Up;

    #[test]
    fn what_a_server_is_at_first() {
        let once = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
        let registry = Registry::new();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let come = |port, initial| registry.endpoint("api", at(port), initial);
        assert!(come(1, UP).is_up());
        assert!(!come(2, InitialHealth::Down).is_up());
        assert!(come(3, InitialHealth::LastKnown).is_up(), "nothing is known of it");

        come(3, InitialHealth::LastKnown).observe(Err("sick"), once, SystemTime::now());
        assert!(!come(3, UP).is_up(), "one that is known stays what it is");
        registry.prune_group("api");
        assert!(!come(3, InitialHealth::LastKnown).is_up(), "it left when it was down");
        assert!(come(2, UP).is_up());
        assert!(come(1, InitialHealth::LastKnown).is_up());
    }

    #[test]
    fn not_every_server_that_ever_left_is_remembered() {
        let mut departed = Departed::default();
        let at = |n: usize| SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8], 80));
        (0..DEPARTED + 10).for_each(|n| departed.add(at(n)));
        assert_eq!(departed.0.len(), DEPARTED);
        assert!(!departed.take(at(9)) && departed.take(at(10)) && !departed.take(at(10)));
    }

    #[test]
    fn a_server_is_found_again_until_nobody_uses_it() {
        let registry = Registry::new();
        let address: SocketAddr = "127.0.0.1:3001".parse().unwrap();
        let api = registry.endpoint("api", address, UP);
        assert!(Arc::ptr_eq(&api, &registry.endpoint("api", address, UP)));
        assert!(!Arc::ptr_eq(&api, &registry.endpoint("admin", address, UP)), "each group has its own");

        registry.prune();
        assert!(Arc::ptr_eq(&api, &registry.endpoint("api", address, UP)), "pruned although in use");
        let in_flight = api.begin();
        drop(api);
        registry.prune();
        assert_eq!(registry.endpoint("api", address, UP).in_flight(), 1, "a request in flight is a use");
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
