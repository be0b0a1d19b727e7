//! What a balancing algorithm is to the rest of this room: tables made off the request path, and
//! candidates taken from them by requests. Each algorithm is a file beside this one; [`super`]
//! makes it a `BackendSelection` of Pingora's.

use crate::upstream::Server;
use std::sync::Arc;

/// A way to choose one of the servers of a [`Lane`].
pub trait Algorithm: Send + Sync + Sized + 'static {
    /// What users write about it beside its name.
    type Settings: Clone + Default + Send + Sync;

    /// Whether its choices heed [`Endpoint::warmth`](crate::upstream::Endpoint::warmth), so that servers
    /// that are warming up get little of themselves. With others they are passed over by chance, by
    /// whoever asks.
    const HEEDS_WARMTH: bool = false;

    /// Makes what is needed to choose, from the state of the servers now. Called off the request
    /// path, whenever servers come, go or change their weight, and when one becomes usable or is
    /// no longer. `before` is what was made for the same lane earlier: counters go on from there.
    fn build(lane: &Lane, settings: &Self::Settings, before: Option<&Self>) -> Self;

    /// An index into the servers of the lane: the best that this request was not given yet.
    /// Those that are not usable or were offered already are passed over by the caller, so an
    /// algorithm that draws from a table need not look. `None` when it has nobody to name; the
    /// caller then goes through the rest in turn.
    fn candidate(&self, lane: &Lane, ask: &mut Ask) -> Option<usize>;
}

/// The servers among which an algorithm chooses, in file order: all servers of a group, or those
/// of one tier in one zone.
#[derive(Debug, Clone, Default)]
pub struct Lane {
    servers: Box<[Arc<Server>]>,
}

impl Lane {
    pub fn new(servers: Vec<Arc<Server>>) -> Lane {
        Lane { servers: servers.into_boxed_slice() }
    }

    pub fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    pub fn is_usable(&self, index: usize) -> bool {
        self.servers.get(index).is_some_and(|server| server.usable())
    }
}

/// One request's search for a server.
#[derive(Debug, Default)]
pub struct Ask {
    /// The hash of the request's key; a random number when it has none.
    pub hash: u64,
    /// How many candidates it was given before.
    pub nth: usize,
    /// What the algorithm wants to remember from one candidate to the next.
    pub note: usize,
    // the first offer is nearly always taken: no allocation for it
    first: Option<usize>,
    others: Vec<usize>,
}

impl Ask {
    pub fn new(hash: u64) -> Ask {
        Ask { hash, ..Ask::default() }
    }

    /// Whether the request has been offered this server.
    pub fn was_offered(&self, index: usize) -> bool {
        self.first == Some(index) || self.others.contains(&index)
    }

    /// Notes that the request has been offered this server.
    pub fn offer(&mut self, index: usize) {
        match self.first {
            None => self.first = Some(index),
            Some(_) => self.others.push(index),
        }
    }
}
