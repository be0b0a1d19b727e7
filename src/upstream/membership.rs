//! Who is in a group: what each source names (the configuration, and what is discovered), put
//! together and held against who was there before. Servers that are no longer named drain, and
//! leave when they are done. Owned by [`Group`](super::Group).

use super::endpoint::{DrainReason, Heed};
use super::registry::Registry;
use super::server::{Server, Servers};
use super::state::{Said, Standing};
use crate::config::file::InitialHealth;
use crate::config::plan::{Member, Upstream};
use crate::observe::events;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The members of a group and where they come from.
pub struct Membership {
    group: String,
    registry: Registry,
    heed: Heed,
    initial: InitialHealth,
    slow_start: bool,
    sticky: bool,
    drain_timeout: Duration,
    /// What each source has named last; `None` before it named anybody.
    sources: Vec<Option<Vec<Member>>>,
    /// What all of them together said of each server last.
    named: Named,
    servers: Servers,
    /// For [`Membership::receive`].
    coming: Vec<(Arc<Server>, News)>,
    /// To be taken out by [`Membership::settle`].
    going: Vec<(Arc<Server>, DrainReason)>,
    /// Whether it is in use: until then the servers, which an earlier configuration may share, are not told
    /// anything.
    live: bool,
    /// Whether those that come now come late: not while the sources are asked for the first time.
    begun: bool,
    revision: u32,
}

/// What is to be done to a server that has come, or of which another thing is said than before.
#[derive(Debug, Clone, Copy)]
enum News {
    SlowStart,
    ComeBack,
    /// And whether that is said.
    StopDraining(bool),
    StayDraining,
    /// It is new in a group that has requests already.
    Late,
    Weigh(NonZeroU16),
}

type Named = HashMap<SocketAddr, Member, ahash::RandomState>;

impl Membership {
    /// The group with the servers of its configuration, after the `before` that it takes the place of: servers
    /// stay what they are, those that are no longer named leave, and what discovery has found holds until it
    /// finds something else. Nothing is done to servers before [`Membership::take_over`].
    pub fn new(plan: &Upstream, registry: &Registry, before: Option<(&Upstream, &Membership)>) -> Membership {
        let watched = plan.health_check.is_some();
        let mut membership = Membership {
            group: plan.name.clone(),
            registry: registry.clone(),
            heed: Heed::of(watched, plan.outlier.is_some(), plan.breaker.server.is_some()),
            initial: plan.health_check.as_ref().map(|check| check.initial).unwrap_or_default(),
            slow_start: plan.slow_start.is_some(),
            sticky: plan.sticky.is_some(),
            drain_timeout: plan.drain_timeout,
            sources: std::iter::once(Some(plan.servers.clone()))
                .chain(plan.discover.iter().map(|_| None))
                .collect(),
            named: Named::default(),
            servers: Servers::default(),
            coming: Vec::new(),
            going: Vec::new(),
            live: false,
            begun: plan.discover.is_empty(),
            revision: 0,
        };
        if let Some((before_plan, before)) = before {
            membership.named = before.named.clone();
            membership.servers = before.servers.clone();
            membership.begun |= before.begun;
            membership.revision = before.revision;
            membership.find_again(plan, before_plan, before);
        }
        membership.merge();
        membership
    }

    /// Takes in what the sources that stay have said under the configuration before; tells if that makes a
    /// difference.
    pub fn succeed(&mut self, plan: &Upstream, before_plan: &Upstream, before: &Membership) -> bool {
        let changed = self.find_again(plan, before_plan, before);
        if changed {
            self.merge();
        }
        changed
    }

    fn find_again(&mut self, plan: &Upstream, before_plan: &Upstream, before: &Membership) -> bool {
        let mut changed = false;
        for (place, discovery) in plan.discover.iter().enumerate() {
            let same = before_plan.discover.iter().position(|other| other == discovery);
            let Some(Some(known)) = same.and_then(|same| before.sources.get(same + 1)) else { continue };
            changed |= self.name(place + 1, known.clone());
        }
        changed
    }

    /// It is in use from now on. To be followed by [`Membership::settle`].
    pub fn take_over(&mut self) {
        self.live = true;
        for server in self.servers.iter() {
            server.endpoint.set_slow_start(self.slow_start);
        }
        self.receive();
    }

    /// Another one has taken over: whatever its sources say from now on, servers are not told by this one.
    pub fn retire(&mut self) {
        self.live = false;
    }

    pub fn is_live(&self) -> bool {
        self.live
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Requests are served from now on: servers that come are new, and warm up.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Takes in whom a source names now; tells if that makes a difference. Nobody is told before
    /// [`Membership::receive`], or taken out before [`Membership::settle`].
    pub fn adopt(&mut self, source: usize, members: Vec<Member>) -> bool {
        let changed = self.name(source, members);
        if changed {
            self.merge();
        }
        if changed && self.live && self.is_complete() {
            self.registry.forget_handed_over_of(&self.group);
        }
        changed
    }

    /// Whether every source has named its servers.
    pub fn is_complete(&self) -> bool {
        self.sources.iter().all(Option::is_some)
    }

    fn name(&mut self, source: usize, members: Vec<Member>) -> bool {
        if self.sources.len() <= source {
            self.sources.resize(source + 1, None);
        }
        match self.sources.get_mut(source) {
            Some(before) if before.as_ref() != Some(&members) => *before = Some(members),
            _ => return false,
        }
        true
    }

    /// Makes those that have come what they are to be, before they are chosen.
    pub fn receive(&mut self) {
        for (server, news) in std::mem::take(&mut self.coming) {
            self.heed_news(&server, news);
        }
    }

    fn heed_news(&mut self, server: &Server, news: News) {
        let endpoint = &server.endpoint;
        match news {
            News::SlowStart => endpoint.set_slow_start(self.slow_start),
            News::ComeBack => endpoint.come_back(self.initial),
            News::StopDraining(said) => {
                if endpoint.stop_draining() && said {
                    events::server_back(&self.group, endpoint.name());
                }
            }
            News::StayDraining => endpoint.drain_because(DrainReason::Configured),
            News::Late => {
                endpoint.start_warming();
                events::server_added(&self.group, endpoint.name());
            }
            News::Weigh(weight) => self.weigh(server, weight),
        }
    }

    /// Takes out those that are to drain. To be called when the servers that have come can be chosen:
    /// if they replace all others, requests would find nobody until then.
    pub fn settle(&mut self) {
        for (server, why) in std::mem::take(&mut self.going) {
            self.take_out(&server, why);
        }
    }

    /// Puts the servers together anew.
    fn merge(&mut self) {
        let sources = std::mem::take(&mut self.sources);
        let before = std::mem::take(&mut self.named);
        let mut next = Vec::new();
        let mut places = Places::beside(&self.servers);
        // servers that are all new have nobody to be spared by
        let late = self.begun && self.servers.iter().any(|server| server.usable());
        for member in sources.iter().flatten().flatten() {
            if self.named.contains_key(&member.address) {
                log::debug!(target: events::UPSTREAM, "upstream {:?}: {} is named twice", self.group, member.place());
                continue;
            }
            let said_before = before.get(&member.address).map(Said::from);
            // before it is made, which takes what another process has told of it
            let stood = match said_before {
                Some(_) => None,
                None => self.registry.standing(&self.group, member.address),
            };
            let said_before = said_before.or(stood.map(|stood| stood.said));
            let (server, is_back) = self.member(member, said_before, &mut places, late);
            if let Some(stood) = stood {
                self.keep_weight(&server, member, stood);
            }
            self.heed_drain(&server, member, said_before, is_back);
            next.push(server);
            self.named.insert(member.address, member.clone());
        }
        self.sources = sources;
        for gone in self.servers.iter().filter(|server| !self.named.contains_key(&server.endpoint.address()))
        {
            if !is_leaving(gone) {
                self.going.push((gone.clone(), DrainReason::Removed));
            }
            next.push(gone.clone());
        }
        self.servers = next.into_iter().collect();
    }

    /// The server that this member is, and whether it was leaving and nobody has forgotten it yet. `before` is
    /// what was said of it until now.
    fn member(
        &mut self,
        member: &Member,
        before: Option<Said>,
        places: &mut Places,
        late: bool,
    ) -> (Arc<Server>, bool) {
        match self.servers.at(member.address).cloned() {
            Some(server) if self.is(&server, member) => {
                // a weight given while the process runs stays until another one is named
                let another = before.is_none_or(|before| before.weight != member.weight);
                if another && server.weight() != member.weight.get() {
                    self.coming.push((server.clone(), News::Weigh(member.weight)));
                }
                (server, false)
            }
            Some(known) => {
                let server = self.server(member, known.place);
                if let Some(weight) = NonZeroU16::new(known.weight())
                    && before.is_some_and(|before| before.weight == member.weight)
                {
                    let revision = self.next_revision();
                    server.set_weight(weight, revision);
                }
                (server, false)
            }
            None => {
                let server = self.server(member, places.next());
                let is_back = server.endpoint.drain().is_some_and(|drain| drain.why == DrainReason::Removed);
                if is_back {
                    self.coming.push((server.clone(), News::ComeBack));
                    self.coming.push((server.clone(), News::StopDraining(false)));
                }
                if late {
                    self.coming.push((server.clone(), News::Late));
                }
                (server, is_back)
            }
        }
    }

    /// A weight given in the process before this one stays until another one is named.
    fn keep_weight(&mut self, server: &Server, member: &Member, stood: Standing) {
        if stood.said.weight == member.weight && stood.weighs != member.weight {
            let revision = self.next_revision();
            server.set_weight(stood.weighs, revision);
        }
    }

    /// Whether the group would make the same of this member.
    fn is(&self, server: &Server, member: &Member) -> bool {
        server.tier == member.priority
            && server.zone == member.zone
            && server.host == member.host
            && server.heed == self.heed
    }

    /// Whether a member drains is what was said last, by a source or by somebody while the process runs.
    fn heed_drain(&mut self, server: &Arc<Server>, member: &Member, before: Option<Said>, is_back: bool) {
        let drain = server.endpoint.drain().filter(|_| !is_back);
        match (drain.map(|drain| drain.why), member.drain) {
            (None, true) if before.is_none_or(|before| !before.drain) => {
                self.going.push((server.clone(), DrainReason::Configured));
            }
            // it was to leave, and stays
            (Some(DrainReason::Removed), true) => self.coming.push((server.clone(), News::StayDraining)),
            (Some(DrainReason::Removed | DrainReason::Configured), false) => {
                self.coming.push((server.clone(), News::StopDraining(true)));
            }
            (None | Some(DrainReason::Asked), _) | (Some(DrainReason::Configured), true) => {}
        }
    }

    fn server(&mut self, member: &Member, place: usize) -> Arc<Server> {
        let endpoint = self.registry.endpoint(&self.group, member, self.initial);
        let revision = self.next_revision();
        let server = Arc::new(Server::new(endpoint, member, place, revision, self.heed));
        self.coming.push((server.clone(), News::SlowStart));
        server
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
        self.weigh(&server, weight);
        Some(())
    }

    fn weigh(&mut self, server: &Server, weight: NonZeroU16) {
        let revision = self.next_revision();
        server.set_weight(weight, revision);
        events::weight_changed(&self.group, server.endpoint.name(), weight.get());
    }

    /// Where those that are named stand.
    pub fn standings(&self) -> Vec<(SocketAddr, Standing)> {
        let standing = |server: &Arc<Server>| {
            let address = server.endpoint.address();
            let said = Said::from(self.named.get(&address)?);
            Some((address, Standing { said, weighs: NonZeroU16::new(server.weight())? }))
        };
        self.servers.iter().filter_map(standing).collect()
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

    /// Forgets the servers that have left, unless somebody still uses them: addresses that are handed
    /// out anew for each instance would add up for ever.
    pub fn forget(&self) {
        self.registry.prune_group(&self.group);
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

#[cfg(test)]
mod tests;
