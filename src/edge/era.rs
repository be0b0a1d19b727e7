//! Connections that end together: those of one listener under plans that do not differ in how a
//! connection is served. A reload that changes that begins a new era and retires the old one; the
//! end of the process retires them all. `commit` makes and ends them, `open` puts connections in.

use ahash::AHashMap;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use tokio::sync::watch;

type Seats = Mutex<AHashMap<usize, Arc<Seat>>>;

/// The connections of a listener that were accepted under the same terms.
pub(super) struct Era {
    retire: watch::Sender<bool>,
    retired: ShutdownWatch,
    /// The same, where only a look is wanted: once per answer.
    ending: Arc<AtomicBool>,
    /// By worker, so that none waits for another; by address of the seat.
    seats: Box<[Seats]>,
}

impl Era {
    pub fn new(workers: usize) -> Arc<Era> {
        let (retire, retired) = watch::channel(false);
        let seats = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        Arc::new(Era { retire, retired, ending: Arc::default(), seats })
    }

    /// Requests in flight are finished, then their connections are closed; idle ones now.
    pub fn retire(&self) {
        self.ending.store(true, Ordering::Release);
        self.retire.send_replace(true);
    }

    /// Turns true when the era is retired.
    pub fn retired(&self) -> &ShutdownWatch {
        &self.retired
    }

    /// As [`Era::retired`], for whoever answers a request.
    pub fn ending(&self) -> &Arc<AtomicBool> {
        &self.ending
    }

    /// Breaks off what is still open; how many connections that were.
    pub fn cut(&self) -> usize {
        let mut count = 0;
        for seats in &self.seats {
            // woken outside of the lock: whoever leaves takes it
            let all: Vec<_> = seats.lock().values().cloned().collect();
            count += all.iter().filter(|seat| seat.cut()).count();
        }
        count
    }

    pub fn enter(&self, worker: usize) -> Arc<Seat> {
        let seat = Arc::new(Seat { worker, ..Seat::default() });
        if let Some(seats) = self.seats_of(worker) {
            seats.lock().insert(seat.key(), seat.clone());
        }
        seat
    }

    pub fn leave(&self, seat: &Arc<Seat>) {
        if let Some(seats) = self.seats_of(seat.worker) {
            seats.lock().remove(&seat.key());
        }
    }

    fn seats_of(&self, worker: usize) -> Option<&Seats> {
        self.seats.get(worker % self.seats.len().max(1))
    }
}

/// How a connection is told that its time is over.
#[derive(Debug, Default)]
pub(super) struct Seat {
    worker: usize,
    cut: AtomicBool,
    task: OnceLock<Waker>,
}

impl Seat {
    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Whom to wake when the connection is cut: its task, whose waker stays the same.
    pub fn taken_by(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
        // either the task sees the cut, or the cut sees the task
        fence(Ordering::SeqCst);
    }

    /// Nothing more is to be read or written.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Whether it was not cut before.
    fn cut(&self) -> bool {
        let first = !self.cut.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_reaches_everybody_who_has_not_left() {
        let era = Era::new(2);
        let seats: Vec<_> = (0..5).map(|i| era.enter(i)).collect();
        seats[0].taken_by(Waker::noop());
        era.leave(&seats[1]);
        assert_eq!(era.cut(), 4);
        assert_eq!(
            seats.iter().map(|seat| seat.is_cut()).collect::<Vec<_>>(),
            [true, false, true, true, true]
        );
        assert_eq!(era.cut(), 0, "nobody is cut twice");
        assert!(!era.ending().load(Ordering::Relaxed) && !*era.retired().borrow());
        era.retire();
        assert!(era.ending().load(Ordering::Relaxed) && *era.retired().borrow());
    }
}
