//! A server's part in one group: what the configuration or discovery says of it, beside the live
//! state it shares with every configuration that names it.

use super::endpoint::{Endpoint, Heed};
use crate::config::plan::Member;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_load_balancing::{Backend, Extensions};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// A server of a group.
#[derive(Debug)]
pub struct Server {
    pub endpoint: Arc<Endpoint>,
    /// The position in the file, which decides between equals. It does not change while the server
    /// is in the group, and no two servers have the same.
    pub place: usize,
    /// 0 is used first.
    pub tier: u16,
    pub zone: Option<Arc<str>>,
    /// The host name by which it was found, if it was.
    pub host: Option<Arc<str>>,
    /// What of its state this group heeds.
    pub heed: Heed,
    weight: AtomicU16,
    revision: AtomicU32,
}

/// Half of a `usize` is for the place and half for the revision.
const HALF: u32 = usize::BITS / 2;

impl Server {
    /// `revision` is a number that no server of the group has had before.
    pub fn new(endpoint: Arc<Endpoint>, member: &Member, place: usize, revision: u32, heed: Heed) -> Server {
        Server {
            endpoint,
            place,
            tier: member.priority,
            zone: member.zone.clone(),
            host: member.host.clone(),
            heed,
            weight: AtomicU16::new(member.weight.get()),
            revision: AtomicU32::new(revision),
        }
    }

    /// How many requests it gets, relative to the other servers; from 1.
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }

    pub(super) fn set_weight(&self, weight: NonZeroU16, revision: u32) {
        self.weight.store(weight.get(), Ordering::Relaxed);
        self.revision.store(revision, Ordering::Relaxed);
    }

    /// The weight times [`FULL_WARMTH`](super::endpoint::FULL_WARMTH), or less while the server is
    /// warming up; at least 1.
    pub fn effective_weight(&self) -> u32 {
        u32::from(self.weight()) * u32::from(self.endpoint.warmth())
    }

    /// Whether new sessions may be sent to it.
    pub fn usable(&self) -> bool {
        self.endpoint.takes_sessions(self.heed)
    }

    /// Whether it answers, as far as this group can tell; a draining server may.
    pub fn healthy(&self) -> bool {
        self.endpoint.is_sound(self.heed)
    }

    /// The backend that stands for this server in Pingora's sets, which tell backends apart by
    /// address and weight and take no notice when another one has come with the same. Its `weight`
    /// is therefore its place and its revision, which changes with whatever makes a difference to
    /// the choice of a server.
    pub fn backend(&self) -> Backend {
        let revision = usize::try_from(self.revision.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        Backend {
            addr: PingoraAddress::Inet(self.endpoint.address()),
            weight: self.place << HALF | revision & (usize::MAX >> HALF),
            ext: Extensions::new(),
        }
    }
}

/// The servers of a group at one time, by place.
#[derive(Debug, Clone, Default)]
pub struct Servers(Arc<List>);

#[derive(Debug, Default)]
struct List {
    by_place: Box<[Arc<Server>]>,
    by_address: HashMap<SocketAddr, usize, ahash::RandomState>,
}

impl Servers {
    /// The server that this backend stands for; `None` for a backend that is not of this group.
    ///
    /// The backend itself could carry the server in its `ext`, but Pingora copies that, a map on
    /// the heap, for each server it offers.
    pub fn find(&self, backend: &Backend) -> Option<&Arc<Server>> {
        let place = backend.weight >> HALF;
        let servers = &self.0.by_place;
        // while no server has left, each is where its place says
        let server = servers.get(place).filter(|server| server.place == place).or_else(|| {
            let index = servers.binary_search_by_key(&place, |server| server.place).ok()?;
            servers.get(index)
        })?;
        (backend.addr.as_inet() == Some(&server.endpoint.address())).then_some(server)
    }

    /// The server at this address.
    pub fn at(&self, address: SocketAddr) -> Option<&Arc<Server>> {
        self.0.by_place.get(*self.0.by_address.get(&address)?)
    }

    /// Whether these are the very same.
    pub fn same(&self, other: &Servers) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl FromIterator<Arc<Server>> for Servers {
    fn from_iter<I: IntoIterator<Item = Arc<Server>>>(servers: I) -> Servers {
        let mut by_place: Box<[_]> = servers.into_iter().collect();
        by_place.sort_unstable_by_key(|server| server.place);
        let addresses = by_place.iter().enumerate().map(|(index, server)| (server.endpoint.address(), index));
        Servers(Arc::new(List { by_address: addresses.collect(), by_place }))
    }
}

impl Deref for Servers {
    type Target = [Arc<Server>];
    fn deref(&self) -> &[Arc<Server>] {
        &self.0.by_place
    }
}
