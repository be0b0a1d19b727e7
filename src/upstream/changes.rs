//! What the servers of a group share while it runs: that something has changed, and how many requests
//! they have in all. Each [`Endpoint`](super::Endpoint) of the group holds it, and whoever keeps
//! something that was made from their state looks here whether it is out of date.

use super::conduct::Together;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::watch;

/// What the servers of a group have in common. It grows whenever the state of one of them changes,
/// so that whoever keeps something made from it can tell with one load that it is out of date; and
/// it counts their requests in flight, together.
#[derive(Debug, Default)]
pub struct Changes {
    count: AtomicU64,
    news: watch::Sender<()>,
    pub(super) together: Together,
    // what every request writes
    pub(super) in_flight: CacheLine<AtomicUsize>,
}

impl Changes {
    /// Ordered before what the caller reads next of the servers' state.
    pub fn seen(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Requests that are now with any of them.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the health of the servers is ignored.
    pub fn panics(&self) -> bool {
        self.together.panics()
    }

    /// Something has changed.
    pub(super) fn bump(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.news.send_replace(());
    }

    /// Tells when something changes from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

/// A value alone on its cache lines (two, as neighbours are fetched in pairs), so that writing it
/// takes nothing else from other cores.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CacheLine<T>(pub T);

impl<T> Deref for CacheLine<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
