//! A server's part in one group: what the configuration or discovery says of it, beside the live
//! state it shares with every configuration that names it.

use super::endpoint::Endpoint;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_load_balancing::{Backend, Extensions};
use std::num::NonZeroU16;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// A server of a group.
#[derive(Debug)]
pub struct Server {
    pub endpoint: Arc<Endpoint>,
    /// The position in the file, which decides between equals.
    pub place: usize,
    /// Whether this group checks the health of its servers.
    pub watched: bool,
    weight: AtomicU16,
}

impl Server {
    pub fn new(endpoint: Arc<Endpoint>, weight: NonZeroU16, place: usize, watched: bool) -> Server {
        Server { endpoint, place, watched, weight: AtomicU16::new(weight.get()) }
    }

    /// How many requests it gets, relative to the other servers; from 1.
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }

    /// The weight times [`FULL_WARMTH`](super::endpoint::FULL_WARMTH), or less while the server is warming up; at least 1.
    pub fn effective_weight(&self) -> u32 {
        u32::from(self.weight()) * u32::from(self.endpoint.warmth())
    }

    /// Whether requests may be sent to it. A group without checks does not believe what the checks
    /// of an earlier configuration found.
    pub fn usable(&self) -> bool {
        !self.watched || self.endpoint.is_up()
    }

    /// The backend that stands for this server in Pingora's sets, which tell backends apart by
    /// address and weight and take no notice when another one has come with the same. Its `weight`
    /// is therefore whatever makes a difference to the choice of a server, rolled into a number.
    pub fn backend(&self) -> Backend {
        Backend {
            addr: PingoraAddress::Inet(self.endpoint.address()),
            weight: self.place << 16 | usize::from(self.weight()),
            ext: Extensions::new(),
        }
    }
}

/// The servers of a group, in file order.
#[derive(Debug, Clone, Default)]
pub struct Servers(Arc<[Arc<Server>]>);

impl Servers {
    /// The server that this backend stands for; `None` for a backend that is not of this group.
    ///
    /// The backend itself could carry the server in its `ext`, but Pingora copies that, a map on
    /// the heap, for each server it offers.
    pub fn find(&self, backend: &Backend) -> Option<&Arc<Server>> {
        let server = self.0.get(backend.weight >> 16)?;
        (backend.addr.as_inet() == Some(&server.endpoint.address())).then_some(server)
    }
}

impl FromIterator<Arc<Server>> for Servers {
    fn from_iter<I: IntoIterator<Item = Arc<Server>>>(servers: I) -> Servers {
        Servers(servers.into_iter().collect())
    }
}

impl Deref for Servers {
    type Target = [Arc<Server>];
    fn deref(&self) -> &[Arc<Server>] {
        &self.0
    }
}
