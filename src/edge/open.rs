//! Who is connected: the count of open connections of each listener and of all, shared by the
//! workers. `accept` asks here before it keeps a connection; the server waits here for the last one.

use crate::edge::clients::Ticket;
use crate::edge::era::{Era, Seat};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// What keeps the process from ending: accept loops and connections.
#[derive(Debug, Default)]
pub struct Open {
    busy: AtomicUsize,
    connections: AtomicUsize,
    last_one_left: Notify,
}

impl Open {
    /// Connections open now, on all listeners.
    pub fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns when nothing is accepted any more and the last connection is closed. Does not make
    /// it so: that is what the shutdown signal of the workers is for.
    pub async fn drained(&self) {
        loop {
            let left = self.last_one_left.notified();
            tokio::pin!(left);
            // registered before the count is read, so that no departure is missed
            left.as_mut().enable();
            if self.busy.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }

    /// Keeps [`Open::drained`] waiting until it is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Hold(self.clone())
    }
}

/// A reason not to be drained.
#[derive(Debug)]
pub(super) struct Hold(Arc<Open>);

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.last_one_left.notify_waiters();
        }
    }
}

/// The open connections of one address, whatever the plan they were accepted under.
#[derive(Debug)]
pub struct Count {
    all: Arc<Open>,
    open: AtomicUsize,
    limit: AtomicUsize,
    refused: AtomicU64,
}

impl Count {
    pub(super) fn new(all: Arc<Open>, limit: usize) -> Arc<Count> {
        Arc::new(Count {
            all,
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            refused: AtomicU64::new(0),
        })
    }

    /// Connections above a lower limit stay; no more come until enough have left.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A place for one more connection, kept until the [`Slot`] is dropped; `None` at the limit.
    pub(super) fn enter(self: &Arc<Self>, era: &Arc<Era>, worker: usize) -> Option<Slot> {
        if self.open.fetch_add(1, Ordering::AcqRel) >= self.limit.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::AcqRel);
            self.refuse();
            return None;
        }
        self.all.connections.fetch_add(1, Ordering::Relaxed);
        let seat = era.enter(worker);
        Some(Slot { count: self.clone(), era: era.clone(), seat, ticket: None, _hold: self.all.hold() })
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A connection is closed at once because of a limit.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections closed at once because of a limit, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The place of one connection among the open ones.
pub struct Slot {
    count: Arc<Count>,
    era: Arc<Era>,
    seat: Arc<Seat>,
    ticket: Option<Ticket>,
    _hold: Hold,
}

impl Slot {
    /// It is one of the connections of a client, if that may have it.
    pub(super) fn belongs(&mut self, ticket: Option<Ticket>) -> bool {
        self.ticket = ticket;
        self.ticket.is_some()
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// True from when the connection is to be closed after its request.
    pub(super) fn ending(&self) -> &Arc<AtomicBool> {
        self.era.ending()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.era.leave(&self.seat);
        self.count.open.fetch_sub(1, Ordering::AcqRel);
        self.count.all.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_places_come_back() {
        let open = Arc::new(Open::default());
        let count = Count::new(open.clone(), 2);
        let era = Era::new(1);
        let enter = || count.enter(&era, 0);
        let (first, second) = (enter(), enter());
        assert!(first.is_some() && second.is_some() && enter().is_none());
        assert_eq!((count.open(), count.refused(), open.count()), (2, 1, 2));
        drop(first);
        assert!(enter().is_some());
        count.set_limit(1);
        assert!(enter().is_none());
        drop(second);
        assert!(enter().is_some());
        assert_eq!((count.open(), open.count()), (0, 0));
    }

    #[tokio::test]
    async fn drained_when_the_last_one_leaves() {
        let open = Arc::new(Open::default());
        open.drained().await;
        let accepting = open.hold();
        let connection = Count::new(open.clone(), 1).enter(&Era::new(1), 0);
        let waiting = tokio::spawn({
            let open = open.clone();
            async move { open.drained().await }
        });
        tokio::task::yield_now().await;
        drop(accepting);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(connection);
        waiting.await.unwrap();
    }
}
