//! A named group of servers: Pingora's `LoadBalancer` with our selection, and what its servers
//! share. Built from the plan by `run::snapshot` (`assembly`); `http::forward` asks it for a server at each try.

mod assembly;
mod passive;
mod tried;

pub use passive::{Outcome, Pass, Watch};
pub use tried::Tried;

use super::balance::{Selection, Shape};
use super::budget::Budget;
use super::caps::Caps;
use super::changes::Changes;
use super::endpoint::{Endpoint, InFlight};
use super::health::Probe;
use super::membership::Membership;
use super::percentile::Times;
use super::queue::Search;
use super::server::Servers;
use super::sticky::Sticky;
use super::transport::{Transport, Wanted};
use crate::config::plan;
use crate::observe::metrics;
use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::BackendSelection;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    counted: Arc<metrics::Upstream>,
    /// How often the selection was built; counted before anybody is taken out in favour of who came.
    rebuilt: AtomicU64,
}

impl Group {
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
    pub fn peer(&self, endpoint: &Endpoint, wanted: Wanted) -> Box<HttpPeer> {
        let address = endpoint.address();
        let mut peer = if self.transport.is_plain_h1() {
            self.transport.peer(address, None, wanted)
        } else {
            let servers = self.shape.servers.load();
            self.transport.peer(address, servers.at(address).map(AsRef::as_ref), wanted)
        };
        if endpoint.at().is_unix() {
            peer._address = endpoint.at().socket();
        }
        peer
    }

    /// The host name by which this server was found, if it was.
    pub fn host_of(&self, endpoint: &Endpoint) -> Option<Arc<str>> {
        self.shape.servers.load().at(endpoint.address())?.host.clone()
    }

    /// What is counted of it.
    pub fn counted(&self) -> &Arc<metrics::Upstream> {
        &self.counted
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
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name()).field("servers", &self.servers()).finish()
    }
}

#[cfg(test)]
pub(super) mod tests;
