//! Who may go on to a server of a full group, and in which order: how many requests are in flight,
//! and those that wait, by priority class and then as they came. Pure: it has no clock, no lock and no
//! task, and does not know what a server is; [`caps`](super::caps) is the shell that gives it those.
//!
//! Between two calls nobody waits who could go on: whatever makes room calls [`Queue::next`] until
//! it names nobody. That is why no wake-up can be lost.

use std::collections::BTreeMap;

/// The order of those who wait: first things first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Requests that are in flight already and need another server.
    Admitted,
    High,
    Normal,
    Low,
}

/// What came of looking for a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Search<P> {
    /// It has this place now.
    Found(P),
    /// Every server that could answer is at its cap: for whoever asks.
    Full,
    /// Those that this request may be given are at their caps; another may have more luck.
    NotForThis,
    /// There is no server to wait for.
    Nobody,
}

/// What became of a request that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered<P> {
    Placed(P),
    /// It has to wait, if it can: see [`Queue::wait`].
    MustWait,
    Nobody,
}

/// Where a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(Class, u64);

/// A request that wants to wait and cannot.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

/// What of the limits concerns one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    pub class: Class,
    /// It goes on only while fewer than this are in flight, and is counted from then on; `None` for
    /// one that is counted already.
    pub slot_below: Option<usize>,
}

impl Wants {
    fn fits(self, in_flight: usize) -> bool {
        self.slot_below.is_none_or(|cap| in_flight < cap)
    }
}

/// The state of one group. `W` is whatever is known of a request that waits.
#[derive(Debug)]
pub struct Queue<W> {
    in_flight: usize,
    came: u64,
    waiting: BTreeMap<Ticket, (Wants, W)>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Queue { in_flight: 0, came: 0, waiting: BTreeMap::new() }
    }
}

impl<W> Queue<W> {
    /// Requests that have a slot.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A request came: it goes on at once if there is room. To be called when [`Queue::next`] names
    /// nobody, so that it overtakes none that could go on too.
    pub fn enter<P>(&mut self, wants: Wants, search: impl FnOnce() -> Search<P>) -> Entered<P> {
        if !wants.fits(self.in_flight) {
            return Entered::MustWait;
        }
        match search() {
            Search::Found(place) => {
                self.count(wants);
                Entered::Placed(place)
            }
            Search::Full | Search::NotForThis => Entered::MustWait,
            Search::Nobody => Entered::Nobody,
        }
    }

    /// Lets a request wait among at most `longest`. In a queue that is full it takes the place of
    /// the last one of a lower class, which is returned and has to go.
    ///
    /// # Errors
    /// There is none of a lower class either.
    pub fn wait(
        &mut self,
        wants: Wants,
        longest: usize,
        waiter: impl FnOnce() -> W,
    ) -> Result<(Ticket, Option<W>), NoRoom> {
        let mut out = None;
        if self.waiting.len() >= longest {
            let last = self.waiting.last_entry().filter(|last| last.key().0 > wants.class && longest > 0);
            out = Some(last.ok_or(NoRoom)?.remove().1);
        }
        let ticket = Ticket(wants.class, self.came);
        self.came += 1;
        self.waiting.insert(ticket, (wants, waiter()));
        Ok((ticket, out))
    }

    /// A request no longer waits; `None` when it was named by [`Queue::next`] before, or had to go.
    pub fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.waiting.remove(&ticket).map(|(_, waiter)| waiter)
    }

    /// A request that had a slot has ended.
    pub fn release(&mut self) {
        debug_assert!(self.in_flight > 0, "more ended than began");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The first of those who wait that can go on, with its place; or without one when there is
    /// nobody to wait for. `None` when all have to wait on.
    pub fn next<P>(&mut self, mut search: impl FnMut(&W) -> Search<P>) -> Option<(W, Option<P>)> {
        let mut found = None;
        for (ticket, (wants, waiter)) in &self.waiting {
            if !wants.fits(self.in_flight) {
                break;
            }
            match search(waiter) {
                Search::Found(place) => found = Some((*ticket, Some(place))),
                Search::Nobody => found = Some((*ticket, None)),
                Search::NotForThis => continue,
                Search::Full => {}
            }
            break;
        }
        let (ticket, place) = found?;
        let (wants, waiter) = self.waiting.remove(&ticket)?;
        if place.is_some() {
            self.count(wants);
        }
        Some((waiter, place))
    }

    fn count(&mut self, wants: Wants) {
        self.in_flight += usize::from(wants.slot_below.is_some());
    }
}

#[cfg(test)]
mod tests;
