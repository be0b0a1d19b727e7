//! How a group is put together: from the plan, with what the one before it knew; and anew when its servers
//! are others.

use super::Group;
use crate::config::plan;
use crate::upstream::balance::Shape;
use crate::upstream::budget::Budget;
use crate::upstream::health::Probe;
use crate::upstream::membership::{self, Membership};
use crate::upstream::registry::Registry;
use crate::upstream::server::Servers;
use crate::upstream::state::Standing;
use crate::upstream::sticky::Sticky;
use crate::upstream::transport::Transport;
use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::{Backend, Backends, HealthRegistry, LoadBalancer};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The servers that are in the group now, as Pingora asks for them.
struct Current(Arc<ArcSwap<Servers>>);

#[async_trait]
impl ServiceDiscovery for Current {
    async fn discover(&self) -> pingora_core::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.load().iter().map(|server| server.backend()).collect(), HashMap::new()))
    }
}

/// From the plan.
impl Group {
    /// Builds a group and puts it to work, with the servers that `registry` knows already where it does.
    ///
    /// # Errors
    /// A sentence for the operator, without the name of the group.
    pub fn build(plan: Arc<plan::Upstream>, registry: &Registry) -> Result<Arc<Group>, String> {
        let group = Group::prepare(plan, registry, None)?;
        group.take_over(None);
        Ok(group)
    }

    /// Builds a group that may take the place of `before`, and changes nothing: neither that group nor the
    /// state of servers that both share.
    ///
    /// # Errors
    /// A sentence for the operator, without the name of the group.
    pub fn prepare(
        plan: Arc<plan::Upstream>,
        registry: &Registry,
        before: Option<&Group>,
    ) -> Result<Arc<Group>, String> {
        refuse_repeated(&plan.servers)?;
        let probe = plan.health_check.as_ref().map(|check| Probe::build(check, registry)).transpose()?;
        let transport = Transport::build(&plan)?;
        let membership = {
            let known = before.map(|before| (&*before.plan, before.membership.lock()));
            Membership::new(&plan, registry, known.as_ref().map(|(plan, known)| (*plan, &**known)))
        };
        let shape = Shape {
            balance: plan.balance.clone(),
            servers: Arc::new(ArcSwap::from_pointee(membership.servers().clone())),
            changes: registry.changes(&plan.name),
            zone: plan.zone.clone(),
            spill_over: plan.spill_over,
            current: Arc::new(ArcSwapOption::empty()),
        };
        let balancer = LoadBalancer::from_backends_with_config(backends(&shape), Some(shape.clone()));
        let sticky =
            plan.sticky.as_ref().map(|sticky| Sticky::build(sticky, &plan.name, registry)).transpose()?;
        let membership = Mutex::new(membership);
        let budget = match before {
            Some(before) if before.plan.retry_budget == plan.retry_budget => before.budget.clone(),
            Some(_) | None => Arc::new(Budget::new(plan.retry_budget, Instant::now())),
        };
        let times = before.map(|before| before.times.clone()).unwrap_or_default();
        let caps = plan.limits.map(|_| registry.caps(&plan.name));
        let (rebuilt, counted) = (AtomicU64::new(0), registry.counted(&plan.name));
        let group = Group {
            plan,
            membership,
            shape,
            balancer,
            probe,
            transport,
            sticky,
            budget,
            times,
            caps,
            counted,
            rebuilt,
        };
        group.put_together(&group.membership.lock())?;
        Ok(Arc::new(group))
    }

    /// Requests come to this group from now on, and no longer to `before`: what its servers are to be under
    /// this configuration, they become.
    pub fn take_over(&self, before: Option<&Group>) {
        let mut membership = self.membership.lock();
        if let Some(before) = before {
            let mut known = before.membership.lock();
            membership.succeed(&self.plan, &before.plan, &known);
            known.retire();
        }
        membership.take_over();
        if let Err(error) = self.renew(&mut membership) {
            log::error!(target: crate::observe::events::UPSTREAM, "upstream {:?}: {error}", self.name());
        }
    }

    /// Whether this group knows what this configuration's group would learn from its sources at first.
    pub fn knows_sources_of(&self, plan: &plan::Upstream) -> bool {
        plan.discover.iter().all(|source| self.plan.discover.contains(source))
    }
}

/// While it runs.
impl Group {
    /// The servers that this source names are these now: 0 is the list in the configuration, the
    /// others are those of discovery. New ones get requests, those that are no longer named drain.
    /// Not for the request path.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn adopt(&self, source: usize, members: Vec<plan::Member>) -> Result<(), String> {
        // held throughout, so that the last to change the membership is the last to rebuild
        let mut membership = self.membership.lock();
        if membership.adopt(source, members) { self.renew(&mut membership) } else { Ok(()) }
    }

    /// Whether every source of its servers has named them.
    pub fn is_complete(&self) -> bool {
        self.membership.lock().is_complete()
    }

    /// Requests are served from now on: servers that come later are new, and have a slow start.
    pub(in crate::upstream) fn begin(&self) {
        self.membership.lock().begin();
    }

    /// Takes a server out for new sessions, or lets it have them again. Tells if it is of this group.
    pub fn drain(&self, address: SocketAddr, drain: bool) -> bool {
        let known = self.membership.lock().drain(address, drain).is_some();
        self.refresh();
        known
    }

    /// Gives a server another weight, until the configuration or discovery names another. Tells if
    /// it is of this group.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn set_weight(&self, address: SocketAddr, weight: NonZeroU16) -> Result<bool, String> {
        let mut membership = self.membership.lock();
        if membership.set_weight(address, weight).is_none() {
            return Ok(false);
        }
        self.rebuild(&membership).map(|()| true)
    }

    /// Where its servers stand, for a process that takes the place of this one.
    pub(in crate::upstream) fn standings(&self) -> Vec<(SocketAddr, Standing)> {
        self.membership.lock().standings()
    }

    /// Brings what is chosen from up to date with the state of the servers. Not for the request
    /// path: see [`upkeep`](crate::upstream::upkeep).
    pub fn refresh(&self) {
        self.review(Instant::now());
        if let Some(selection) = &*self.shape.current.load() {
            selection.refresh();
        }
        if let Some(caps) = &self.caps {
            // somebody may be there now for those who wait
            caps.settle();
        }
    }

    /// Warms servers up and lets go of those that have drained; tells if there is more of that to
    /// be done soon.
    pub(in crate::upstream) fn tend(&self, now: Instant) -> bool {
        self.let_go(now);
        self.tend_conduct(now);
        let servers = self.shape.servers.load();
        let mut busy = servers.iter().any(|server| membership::is_leaving(server));
        if let Some(slow_start) = self.plan.slow_start {
            for server in servers.iter() {
                busy |= server.endpoint.warm(now, slow_start);
            }
        }
        busy
    }

    fn let_go(&self, now: Instant) {
        let mut membership = self.membership.lock();
        if !membership.reap(now) {
            return;
        }
        if let Err(error) = self.rebuild(&membership) {
            log::error!(target: crate::observe::events::UPSTREAM, "upstream {:?}: {error}", self.name());
        }
        membership.forget();
    }

    /// Lets those who have come be chosen, and then takes out those who are to go. A group that is not at work
    /// yet does neither to its servers.
    fn renew(&self, membership: &mut Membership) -> Result<(), String> {
        if !membership.is_live() {
            return self.put_together(membership);
        }
        membership.receive();
        self.rebuild(membership)?;
        membership.settle();
        self.refresh();
        Ok(())
    }

    /// Has the selection built anew from the servers of the membership, and from what they are now.
    fn rebuild(&self, membership: &Membership) -> Result<(), String> {
        let built = self.put_together(membership);
        // where the set is the same, Pingora does nothing
        self.refresh();
        built
    }

    /// Has Pingora build the selection from the servers of the membership.
    fn put_together(&self, membership: &Membership) -> Result<(), String> {
        self.shape.servers.store(Arc::new(membership.servers().clone()));
        // before the tables are made, so that they are of now
        self.shape.changes.bump();
        // the set is there at the first poll
        let update = std::pin::pin!(self.balancer.update()).poll(&mut Context::from_waker(Waker::noop()));
        self.rebuilt.fetch_add(1, Ordering::Release);
        match update {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => Err(format!("the servers could not be set up: {error}")),
            Poll::Pending => Err("the servers could not be set up: they are not known at once".into()),
        }
    }
}

/// The servers as Pingora keeps them. Of their health it keeps one entry for all, which always says "up": what a
/// server is, its [`Endpoint`](crate::upstream::Endpoint) knows, and the selection offers usable ones only. An entry
/// for each would be looked up, sorted and copied with every change of a server.
fn backends(shape: &Shape) -> Backends {
    let current = Box::new(Current(shape.servers.clone()));
    Backends::new_with_health_registry(current, Arc::new(HealthRegistry::with_equivalence(|_| 0)))
}

fn refuse_repeated(members: &[plan::Member]) -> Result<(), String> {
    let mut addresses: Vec<_> = members.iter().map(|member| member.address).collect();
    addresses.sort_unstable();
    match addresses.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
        Some(twice) => {
            Err(format!("server {twice} is named twice\nname it once, with the sum of the weights"))
        }
        None => Ok(()),
    }
}
