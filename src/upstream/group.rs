//! A named group of servers: Pingora's `LoadBalancer` with our selection, and what its servers
//! share. Built from the plan by `run::snapshot`; `http::forward` asks it for a server at each try.

mod passive;

pub use passive::{Outcome, Pass, Watch};

use super::balance::{Selection, Shape};
use super::budget::Budget;
use super::caps::Caps;
use super::changes::Changes;
use super::endpoint::{Endpoint, InFlight};
use super::health::Probe;
use super::membership::{self, Membership};
use super::percentile::Times;
use super::queue::Search;
use super::registry::Registry;
use super::server::Servers;
use super::sticky::Sticky;
use super::transport::{Transport, Wanted};
use crate::config::plan;
use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::selection::BackendSelection;
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// A request that finds nobody looks again when something has changed meanwhile, so many times in all.
const LOOKS: usize = 16;

/// A group of servers of which any can answer a request.
pub struct Group {
    plan: Arc<plan::Upstream>,
    membership: Mutex<Membership>,
    shape: Shape,
    balancer: LoadBalancer<Selection>,
    probe: Option<Probe>,
    transport: Transport,
    sticky: Option<Sticky>,
    budget: Arc<Budget>,
    times: Arc<Times>,
    /// Where there are limits.
    caps: Option<Arc<Caps>>,
    /// How often the selection was built; counted before anybody is taken out in favour of who came.
    rebuilt: AtomicU64,
}

/// The servers that are in the group now, as Pingora asks for them.
struct Current(Arc<ArcSwap<Servers>>);

#[async_trait]
impl ServiceDiscovery for Current {
    async fn discover(&self) -> pingora_core::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.load().iter().map(|server| server.backend()).collect(), HashMap::new()))
    }
}

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
        let discovery = Box::new(Current(shape.servers.clone()));
        let balancer = LoadBalancer::from_backends_with_config(Backends::new(discovery), Some(shape.clone()));
        let sticky =
            plan.sticky.as_ref().map(|sticky| Sticky::build(sticky, &plan.name, registry)).transpose()?;
        let membership = Mutex::new(membership);
        let budget = match before {
            Some(before) if before.plan.retry_budget == plan.retry_budget => before.budget.clone(),
            Some(_) | None => Arc::new(Budget::new(plan.retry_budget, Instant::now())),
        };
        let times = before.map(|before| before.times.clone()).unwrap_or_default();
        let caps = plan.limits.map(|_| registry.caps(&plan.name));
        let rebuilt = AtomicU64::new(0);
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

    pub fn name(&self) -> &str {
        &self.plan.name
    }

    pub fn plan(&self) -> &Arc<plan::Upstream> {
        &self.plan
    }

    /// Those that are in the group now, in file order; those that are leaving it too.
    pub fn servers(&self) -> Servers {
        Servers::clone(&self.shape.servers.load())
    }

    pub fn balancer(&self) -> &LoadBalancer<Selection> {
        &self.balancer
    }

    /// The algorithm by itself, for benchmarks.
    pub fn selection(&self) -> Option<Arc<Selection>> {
        self.shape.current.load_full()
    }

    /// How its servers are spoken to.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// This server as Pingora wants it described.
    pub fn peer(&self, endpoint: &Endpoint, wanted: Wanted) -> HttpPeer {
        let address = endpoint.address();
        if self.transport.is_plain_h1() {
            return self.transport.peer(address, None, wanted);
        }
        let servers = self.shape.servers.load();
        self.transport.peer(address, servers.at(address).map(AsRef::as_ref), wanted)
    }

    /// What may be spent on retries.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How long answers take, of the requests that may be sent a second time.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Who may be in flight and who waits, if that is limited.
    pub fn caps(&self) -> Option<&Arc<Caps>> {
        self.caps.as_ref()
    }

    /// How clients stay with their servers, if they do.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// The server at `address`, if it is of this group and may still get the requests of clients
    /// that are its own: it answers, and does not drain or has not drained for long enough.
    pub fn kept(&self, address: SocketAddr) -> Option<Arc<Endpoint>> {
        let servers = self.shape.servers.load();
        let server = servers.at(address)?;
        let endpoint = &server.endpoint;
        let kept = (server.healthy() || self.changes().panics())
            && (!endpoint.is_draining() || endpoint.drain().is_none_or(|drain| Instant::now() < drain.until));
        kept.then(|| endpoint.clone())
    }

    pub(super) fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.shape.changes
    }

    /// A server for the next try: usable, and not among those tried. `None` when there is none left;
    /// [`Group::any_healthy`] then tells "all are down" from "all have been tried".
    /// `key` is what the request is hashed by; an algorithm that hashes draws by chance without it.
    pub fn select(&self, tried: &Tried, key: Option<&[u8]>) -> Option<Arc<Endpoint>> {
        self.find(tried, key, |endpoint| Some(endpoint.clone()))
    }

    /// As [`Group::select`], and begins the try.
    pub fn begin_any(&self, tried: &Tried, key: Option<&[u8]>) -> Option<InFlight> {
        self.find(tried, key, |endpoint| self.begin_try(endpoint))
    }

    /// As [`Group::begin_any`], within the cap of each server. With a `home`, that server or none while
    /// it may be kept.
    pub(super) fn search(
        &self,
        home: Option<SocketAddr>,
        tried: &Tried,
        key: Option<&[u8]>,
    ) -> Search<InFlight> {
        let cap = self.plan.limits.map_or(usize::MAX, |limits| limits.of_server);
        if let Some(home) = home.and_then(|home| self.kept(home)) {
            let place = home.begin_below(cap).and_then(|place| self.watched(place));
            return place.map_or(Search::NotForThis, Search::Found);
        }
        match self.find(tried, key, |endpoint| self.watched(endpoint.begin_below(cap)?)) {
            Some(place) => Search::Found(place),
            None if !self.any_left(tried) => Search::Nobody,
            None if tried.is_empty() => Search::Full,
            None => Search::NotForThis,
        }
    }

    /// The first server that is offered and that `take` takes.
    fn find<T>(
        &self,
        tried: &Tried,
        key: Option<&[u8]>,
        take: impl Fn(&Arc<Endpoint>) -> Option<T>,
    ) -> Option<T> {
        for _ in 1..LOOKS {
            let version = self.version();
            let found = self.look(tried, key, &take);
            if found.is_some() || (self.version() == version && !self.may_recover()) {
                return found;
            }
            self.review(Instant::now());
            if self.version() == version {
                return None;
            }
        }
        self.look(tried, key, &take)
    }

    /// Another one after each change: whoever finds nobody may have looked at servers that are gone
    /// already, while others have come.
    fn version(&self) -> u64 {
        self.rebuilt.load(Ordering::Acquire).wrapping_add(self.shape.changes.seen())
    }

    /// Asks the selection itself: Pingora's `select_with` would keep a set of what it has offered and
    /// copy each backend, and ours offers each server once already.
    fn look<T>(
        &self,
        tried: &Tried,
        key: Option<&[u8]>,
        take: impl Fn(&Arc<Endpoint>) -> Option<T>,
    ) -> Option<T> {
        let selection = self.shape.current.load();
        let mut offers = selection.as_ref()?.iter(key.unwrap_or_default());
        while let Some(server) = offers.next_server() {
            if !tried.contains(&server.endpoint)
                && let Some(taken) = take(&server.endpoint)
            {
                return Some(taken);
            }
        }
        None
    }

    pub fn any_healthy(&self) -> bool {
        self.shape.servers.load().iter().any(|server| server.usable())
    }

    /// Whether any server is usable that is not among those tried.
    pub fn any_left(&self, tried: &Tried) -> bool {
        self.shape.servers.load().iter().any(|server| server.usable() && !tried.contains(&server.endpoint))
    }

    pub fn healthy_count(&self) -> usize {
        self.shape.servers.load().iter().filter(|server| server.usable()).count()
    }

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

    /// Requests are served from now on: servers that come later are new, and have a slow start.
    pub(super) fn begin(&self) {
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

    /// Brings what is chosen from up to date with the state of the servers. Not for the request
    /// path: see [`upkeep`](super::upkeep).
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
    pub(super) fn tend(&self, now: Instant) -> bool {
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

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name()).field("servers", &self.servers()).finish()
    }
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

/// The servers that one request has been sent to. The usual number of tries needs no allocation.
#[derive(Debug, Default, Clone)]
pub struct Tried {
    first: [Option<Arc<Endpoint>>; 3],
    more: Vec<Arc<Endpoint>>,
}

impl Tried {
    pub fn push(&mut self, endpoint: &Arc<Endpoint>) {
        match self.first.iter_mut().find(|slot| slot.is_none()) {
            Some(free) => *free = Some(endpoint.clone()),
            None => self.more.push(endpoint.clone()),
        }
    }

    pub fn contains(&self, endpoint: &Arc<Endpoint>) -> bool {
        let is_it = |tried: &Arc<Endpoint>| Arc::ptr_eq(tried, endpoint);
        self.first.iter().map_while(Option::as_ref).any(is_it) || self.more.iter().any(is_it)
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.first, [None, ..])
    }
}

#[cfg(test)]
pub(super) mod tests;
