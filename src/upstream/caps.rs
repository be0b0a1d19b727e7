//! The limits of a group at work: requests in flight are counted, those for whom there is no room wait
//! in the [`queue`](super::queue), and whatever ends makes room for the first of them. Kept in the
//! [`Registry`](super::Registry), so that the counts survive a reload. Asked by `http::queue`.

use super::endpoint::InFlight;
use super::group::{Group, Tried};
use super::queue::{Class, Entered, NoRoom, Queue, Search, Ticket, Wants};
use crate::observe::Throttle;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often the process log says that requests are refused.
const FULL_LINES: Duration = Duration::from_secs(10);

/// The requests of one group, in flight and waiting.
#[derive(Debug)]
pub struct Caps {
    queue: Mutex<Queue<Waiter>>,
    full: Throttle,
}

/// A request that wants to go to a server.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub class: Class,
    /// The server that it belongs to.
    pub home: Option<SocketAddr>,
    pub key: Option<&'a [u8]>,
    pub tried: &'a Tried,
}

/// What a request is told.
#[derive(Debug)]
pub enum Admission {
    Now(Place),
    Later(Turn),
    /// The queue is full.
    Full,
    /// No server is there to wait for.
    Nobody,
}

/// A server for a request, in whose group it is counted.
#[derive(Debug)]
pub struct Place {
    // in this order: whoever waits for the slot wants a server
    pub server: InFlight,
    /// `None` for a request that has one.
    pub slot: Option<Slot>,
}

/// A request in flight in a group; whoever waits longest has its turn when this is dropped.
#[derive(Debug)]
pub struct Slot {
    caps: Arc<Caps>,
}

/// A place in the queue, given up when it is dropped.
#[derive(Debug)]
pub struct Turn {
    caps: Arc<Caps>,
    ticket: Ticket,
    answer: oneshot::Receiver<Answer>,
}

/// What comes of waiting.
#[derive(Debug)]
pub enum Answer {
    Go(Place),
    /// One of a higher class has taken its place in the queue.
    PushedOut,
    /// All servers went down meanwhile.
    Nobody,
}

/// What is known of a request that waits.
#[derive(Debug)]
struct Waiter {
    group: Arc<Group>,
    home: Option<SocketAddr>,
    key: Option<Box<[u8]>>,
    tried: Tried,
    wants_slot: bool,
    answer: oneshot::Sender<Answer>,
}

impl Default for Caps {
    fn default() -> Self {
        Caps { queue: Mutex::default(), full: Throttle::new(FULL_LINES) }
    }
}

impl Caps {
    /// Requests that have a slot now, and those that wait.
    pub fn counts(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.in_flight(), queue.waiting())
    }

    /// How often it is said that requests are refused.
    pub fn full(&self) -> &Throttle {
        &self.full
    }

    /// A request wants to go to a server of `group`, whose caps these are.
    pub fn enter(self: &Arc<Self>, group: &Arc<Group>, ask: &Ask<'_>) -> Admission {
        let limits = group.plan().limits;
        let wants_slot = ask.class != Class::Admitted;
        let cap = limits.map_or(usize::MAX, |limits| limits.of_group);
        let wants = Wants { class: ask.class, slot_below: wants_slot.then_some(cap) };
        let mut queue = self.queue.lock();
        if queue.waiting() > 0 {
            drop(queue);
            self.settle();
            queue = self.queue.lock();
        }
        match queue.enter(wants, || group.search(ask.home, ask.tried, ask.key)) {
            Entered::Placed(server) => Admission::Now(self.place(server, wants_slot)),
            Entered::Nobody => Admission::Nobody,
            Entered::MustWait => {
                let (sender, answer) = oneshot::channel();
                let waiter = || Waiter {
                    group: group.clone(),
                    home: ask.home,
                    key: ask.key.map(Box::from),
                    tried: ask.tried.clone(),
                    wants_slot,
                    answer: sender,
                };
                let waits = queue.wait(wants, limits.map_or(0, |limits| limits.queue), waiter);
                drop(queue);
                match waits {
                    Ok((ticket, out)) => {
                        if let Some(out) = out {
                            tell(out, Answer::PushedOut);
                        }
                        Admission::Later(Turn { caps: self.clone(), ticket, answer })
                    }
                    Err(NoRoom) => Admission::Full,
                }
            }
        }
    }

    /// A place for what can as well be left undone: only when nobody waits and there is room at once.
    pub fn enter_free(self: &Arc<Self>, group: &Group, ask: &Ask<'_>) -> Option<Place> {
        let cap = group.plan().limits.map_or(usize::MAX, |limits| limits.of_group);
        let wants = Wants { class: ask.class, slot_below: Some(cap) };
        let mut queue = self.queue.lock();
        if queue.waiting() > 0 {
            return None;
        }
        match queue.enter(wants, || group.search(ask.home, ask.tried, ask.key)) {
            Entered::Placed(server) => Some(self.place(server, true)),
            Entered::MustWait | Entered::Nobody => None,
        }
    }

    /// Lets those go on who can now. To be called whenever there may be room that was not there.
    pub fn settle(self: &Arc<Self>) {
        loop {
            // answered without the lock, which an answer that nobody takes needs when it is dropped
            let next = self.queue.lock().next(Waiter::search);
            let Some((waiter, server)) = next else { return };
            let answer = match server {
                Some(server) => Answer::Go(self.place(server, waiter.wants_slot)),
                None => Answer::Nobody,
            };
            tell(waiter, answer);
        }
    }

    fn place(self: &Arc<Self>, server: InFlight, wants_slot: bool) -> Place {
        Place { server, slot: wants_slot.then(|| Slot { caps: self.clone() }) }
    }
}

/// One that has gone meanwhile drops the answer, and with it a place that it may hold.
fn tell(waiter: Waiter, answer: Answer) {
    drop(waiter.answer.send(answer));
}

impl Waiter {
    fn search(&self) -> Search<InFlight> {
        self.group.search(self.home, &self.tried, self.key.as_deref())
    }
}

impl Turn {
    /// Waits for as long as the caller does. What comes is lost when the future is dropped together
    /// with this, and only then.
    pub async fn answer(&mut self) -> Answer {
        // whoever forgets to answer has nothing to give
        (&mut self.answer).await.unwrap_or(Answer::PushedOut)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let left = self.caps.queue.lock().leave(self.ticket);
        // what it knows may be large, and is let go without the lock
        drop(left);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.caps.queue.lock().release();
        self.caps.settle();
    }
}

#[cfg(test)]
mod tests;
