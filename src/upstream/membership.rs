//! Who is in a group: what each source names (the configuration, and what is discovered), put
//! together and held against who was there before. Servers that are no longer named drain, and
//! leave when they are done. Owned by [`Group`](super::Group).

use super::endpoint::DrainReason;
use super::registry::Registry;
use super::server::{Server, Servers};
use crate::config::plan::{Member, Upstream};
use crate::observe::events;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The members of a group and where they come from.
pub struct Membership {
    group: String,
    registry: Registry,
    watched: bool,
    slow_start: bool,
    sticky: bool,
    drain_timeout: Duration,
    /// What each source has named last; `None` before it named anybody.
    sources: Vec<Option<Vec<Member>>>,
    servers: Servers,
    revision: u32,
}

impl Membership {
    /// The group with the servers of its configuration.
    pub fn new(plan: &Upstream, registry: &Registry, watched: bool) -> Membership {
        let mut membership = Membership {
            group: plan.name.clone(),
            registry: registry.clone(),
            watched,
            slow_start: plan.slow_start.is_some(),
            sticky: plan.sticky.is_some(),
            drain_timeout: plan.drain_timeout,
            sources: Vec::new(),
            servers: Servers::default(),
            revision: 0,
        };
        membership.adopt(0, plan.servers.clone());
        membership.let_go();
        membership
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Takes in whom a source names now; tells if that makes a difference. Whoever has to go is still
    /// there, and goes with [`Membership::let_go`] once the others can be chosen: no request may find
    /// that the old servers are gone and the new ones not there yet.
    pub fn adopt(&mut self, source: usize, members: Vec<Member>) -> bool {
        if self.sources.len() <= source {
            self.sources.resize(source + 1, None);
        }
        match self.sources.get_mut(source) {
            Some(before) if before.as_ref() != Some(&members) => *before = Some(members),
            _ => return false,
        }
        self.merge();
        true
    }

    /// Puts the servers together anew.
    fn merge(&mut self) {
        let sources = std::mem::take(&mut self.sources);
        let mut named = HashSet::new();
        let mut next = Vec::new();
        let mut places = Places::beside(&self.servers);
        // servers that are all new have nobody to be spared by
        let later = self.servers.iter().any(|server| server.usable());
        for member in sources.iter().flatten().flatten() {
            if named.insert(member.address) {
                next.push(self.member(member, &mut places, later));
            } else {
                log::debug!(target: events::UPSTREAM, "upstream {:?}: {} is named twice", self.group, member.address);
            }
        }
        self.sources = sources;
        let gone = self.servers.iter().filter(|server| !named.contains(&server.endpoint.address()));
        next.extend(gone.cloned());
        self.servers = next.into_iter().collect();
    }

    /// Takes out those that are to drain or are no longer named, and lets go of those of them that
    /// are done; tells if anybody left.
    pub fn let_go(&mut self) -> bool {
        let mut drains = HashMap::new();
        for member in self.sources.iter().flatten().flatten() {
            drains.entry(member.address).or_insert(member.drain);
        }
        for server in self.servers.iter() {
            match drains.get(&server.endpoint.address()) {
                Some(true) => self.take_out(server, DrainReason::Configured),
                Some(false) => {}
                None => self.take_out(server, DrainReason::Removed),
            }
        }
        self.reap(Instant::now())
    }

    /// The server that this member is.
    fn member(&mut self, member: &Member, places: &mut Places, later: bool) -> Arc<Server> {
        let known = self.servers.at(member.address).cloned();
        let is_new = known.is_none();
        let server = match known {
            Some(server) if server.tier == member.priority && server.zone == member.zone => {
                if server.weight() != member.weight.get() {
                    let revision = self.next_revision();
                    server.set_weight(member.weight, revision);
                    events::weight_changed(&self.group, server.endpoint.name(), member.weight.get());
                }
                server
            }
            Some(server) => self.server(member, server.place),
            None => {
                let server = self.server(member, places.next());
                if later {
                    server.endpoint.start_warming();
                    events::server_added(&self.group, server.endpoint.name());
                }
                server
            }
        };
        let endpoint = &server.endpoint;
        match endpoint.drain().map(|drain| drain.why) {
            // one that nobody has been sent to yet; the others wait for `let_go`
            None if member.drain && is_new => self.take_out(&server, DrainReason::Configured),
            Some(DrainReason::Removed | DrainReason::Configured) if !member.drain => {
                endpoint.stop_draining();
                events::server_back(&self.group, endpoint.name());
            }
            Some(DrainReason::Removed | DrainReason::Configured | DrainReason::Asked) | None => {}
        }
        server
    }

    fn server(&mut self, member: &Member, place: usize) -> Arc<Server> {
        let endpoint = self.registry.endpoint(&self.group, member.address);
        endpoint.set_slow_start(self.slow_start);
        let revision = self.next_revision();
        Arc::new(Server::new(endpoint, member, place, revision, self.watched))
    }

    fn next_revision(&mut self) -> u32 {
        self.revision = self.revision.wrapping_add(1);
        self.revision
    }

    /// No new sessions for this server.
    fn take_out(&self, server: &Server, why: DrainReason) {
        if server.endpoint.start_draining(why, self.drain_timeout) {
            events::server_draining(&self.group, server.endpoint.name(), why == DrainReason::Removed);
        }
    }

    /// Takes a server out, or lets it have sessions again; `None` when it is not of the group.
    pub fn drain(&self, address: SocketAddr, drain: bool) -> Option<()> {
        let server = self.servers.at(address)?;
        if drain {
            self.take_out(server, DrainReason::Asked);
        } else if server.endpoint.stop_draining() {
            events::server_back(&self.group, server.endpoint.name());
        }
        Some(())
    }

    /// Gives a server another weight until its source names another; `None` when it is not of the group.
    pub fn set_weight(&mut self, address: SocketAddr, weight: NonZeroU16) -> Option<()> {
        let server = self.servers.at(address)?.clone();
        let revision = self.next_revision();
        server.set_weight(weight, revision);
        events::weight_changed(&self.group, server.endpoint.name(), weight.get());
        Some(())
    }

    /// Lets go of the servers that are no longer named and done; tells if there were any.
    pub fn reap(&mut self, now: Instant) -> bool {
        let done = |server: &Arc<Server>| is_leaving(server) && self.is_done(server, now);
        if !self.servers.iter().any(done) {
            return false;
        }
        for server in self.servers.iter().filter(|server| done(server)) {
            events::server_removed(&self.group, server.endpoint.name());
        }
        self.servers = self.servers.iter().filter(|server| !done(server)).cloned().collect();
        true
    }

    /// Whether any server waits to leave.
    pub fn any_leaving(&self) -> bool {
        self.servers.iter().any(|server| is_leaving(server))
    }

    /// Nobody needs it any more: no request is with it, and no session is its own.
    fn is_done(&self, server: &Server, now: Instant) -> bool {
        let sessions = self.sticky && server.endpoint.drain().is_some_and(|drain| now < drain.until);
        !sessions && server.endpoint.in_flight() == 0
    }
}

/// Whether the server is only in its group until it is done.
pub fn is_leaving(server: &Server) -> bool {
    server.endpoint.drain().is_some_and(|drain| drain.why == DrainReason::Removed)
}

/// Places that no server has, the lowest first.
struct Places {
    taken: BTreeSet<usize>,
    next: usize,
}

impl Places {
    fn beside(servers: &Servers) -> Places {
        Places { taken: servers.iter().map(|server| server.place).collect(), next: 0 }
    }

    fn next(&mut self) -> usize {
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}
