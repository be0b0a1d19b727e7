//! A named group of servers: Pingora's `LoadBalancer` with our selection, and what its servers
//! share. Built from the plan by `run::snapshot`; `http::forward` asks it for a server at each try.

use super::balance::{self, Selection, Shape};
use super::endpoint::Endpoint;
use super::health::Probe;
use super::registry::Registry;
use super::server::{Server, Servers};
use super::sticky::Sticky;
use crate::config::plan;
use pingora_load_balancing::{Backend, Backends, LoadBalancer, discovery};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A group of servers of which any can answer a request.
pub struct Group {
    plan: Arc<plan::Upstream>,
    servers: Servers,
    balancer: LoadBalancer<Selection>,
    probe: Option<Probe>,
    sticky: Option<Sticky>,
}

impl Group {
    /// Builds a group, with the servers that `registry` knows already where it does.
    ///
    /// # Errors
    /// A sentence for the operator, without the name of the group.
    pub fn build(plan: Arc<plan::Upstream>, registry: &Registry) -> Result<Arc<Group>, String> {
        balance::supported(&plan.balance)?;
        let probe = plan.health_check.as_ref().map(|check| Probe::build(check, registry)).transpose()?;
        let servers = plan
            .servers
            .iter()
            .enumerate()
            .map(|(place, member)| {
                let endpoint = registry.endpoint(&plan.name, member.address);
                Arc::new(Server::new(endpoint, member.weight, place, probe.is_some()))
            })
            .collect::<Servers>();
        let changes = registry.changes(&plan.name);
        let shape = Shape { balance: plan.balance.clone(), servers: servers.clone(), changes };
        let balancer = balancer(shape)?;
        let sticky =
            plan.sticky.as_ref().map(|sticky| Sticky::build(sticky, &plan.name, registry)).transpose()?;
        Ok(Arc::new(Group { plan, servers, balancer, probe, sticky }))
    }

    pub fn name(&self) -> &str {
        &self.plan.name
    }

    pub fn plan(&self) -> &Arc<plan::Upstream> {
        &self.plan
    }

    /// In file order.
    pub fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    pub fn balancer(&self) -> &LoadBalancer<Selection> {
        &self.balancer
    }

    /// How clients stay with their servers, if they do.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// The server at `address`, if it is of this group and may still get the requests of clients
    /// that are its own.
    pub fn kept(&self, address: SocketAddr) -> Option<Arc<Endpoint>> {
        let server = self.servers.iter().find(|server| server.endpoint.address() == address)?;
        server.usable().then(|| server.endpoint.clone())
    }

    pub(super) fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    /// A server for the next try: usable, and not among those tried. `None` when there is none left;
    /// [`Group::any_healthy`] then tells "all are down" from "all have been tried".
    /// `key` is what the request is hashed by; an algorithm that hashes draws by chance without it.
    pub fn select(&self, tried: &Tried, key: Option<&[u8]>) -> Option<Arc<Endpoint>> {
        let accept = |backend: &Backend, _: bool| {
            // our selection offers usable servers only
            self.servers.find(backend).is_some_and(|server| !tried.contains(&server.endpoint))
        };
        let backend = self.balancer.select_with(key.unwrap_or_default(), self.servers.len(), accept)?;
        self.servers.find(&backend).map(|server| server.endpoint.clone())
    }

    pub fn any_healthy(&self) -> bool {
        self.servers.iter().any(|server| server.usable())
    }

    pub fn healthy_count(&self) -> usize {
        self.servers.iter().filter(|server| server.usable()).count()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name()).field("servers", &self.servers).finish()
    }
}

/// A balancer over a fixed set.
fn balancer(shape: Shape) -> Result<LoadBalancer<Selection>, String> {
    let backends: BTreeSet<Backend> = shape.servers.iter().map(|server| server.backend()).collect();
    let mut addresses: Vec<_> = shape.servers.iter().map(|server| server.endpoint.address()).collect();
    addresses.sort_unstable();
    if let Some(twice) = addresses.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first)
    {
        return Err(format!("server {twice} is named twice\nname it once, with the sum of the weights"));
    }
    let balancer =
        LoadBalancer::from_backends_with_config(Backends::new(discovery::Static::new(backends)), Some(shape));
    // a static set is there at the first poll
    let update = std::pin::pin!(balancer.update()).poll(&mut Context::from_waker(Waker::noop()));
    match update {
        Poll::Ready(Ok(())) => Ok(balancer),
        Poll::Ready(Err(error)) => Err(format!("the servers could not be set up: {error}")),
        Poll::Pending => Err("the servers could not be set up: they are not known at once".into()),
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
