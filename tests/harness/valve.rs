//! Holds requests at a backend until a test lets them go, and counts how many are held at once.

use super::PATIENCE;
use super::eventually;
use std::sync::{Arc, Condvar, Mutex};

/// Shared by a backend's script and the test. Clones are the same.
#[derive(Clone, Default)]
pub struct Valve {
    shared: Arc<(Mutex<Held>, Condvar)>,
}

#[derive(Default)]
struct Held {
    inside: usize,
    most: usize,
    passes: usize,
    open: bool,
}

impl Valve {
    /// For the backend: comes back when the test lets one go, or after a long time.
    pub fn hold(&self) {
        let (held, changed) = &*self.shared;
        let mut held = held.lock().unwrap();
        held.inside += 1;
        held.most = held.most.max(held.inside);
        let stays = |held: &mut Held| held.passes == 0 && !held.open;
        held = changed.wait_timeout_while(held, PATIENCE, stays).unwrap().0;
        held.passes = held.passes.saturating_sub(1);
        held.inside -= 1;
    }

    /// Lets so many go that are held, or will be.
    pub fn let_go(&self, count: usize) {
        self.change(|held| held.passes += count);
    }

    /// Lets all go from now on.
    pub fn open(&self) {
        self.change(|held| held.open = true);
    }

    /// Waits until so many are held.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests at the backend"), || self.inside() == count);
    }

    pub fn inside(&self) -> usize {
        self.shared.0.lock().unwrap().inside
    }

    /// The most that were held at once.
    pub fn most(&self) -> usize {
        self.shared.0.lock().unwrap().most
    }

    fn change(&self, how: impl FnOnce(&mut Held)) {
        how(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
    }
}
