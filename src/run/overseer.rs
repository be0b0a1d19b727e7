//! What the admin address sees and controls of this process: the answers to `admin`'s questions, from those who know.
//! Made by `server`.

use crate::admin::{Process, Readiness};
use crate::observe::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether clients are to be sent here. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<AtomicU8>);

const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Standing {
    /// Connections are served. One that drains already goes on with that.
    pub fn ready(&self) {
        self.0.fetch_or(READY, Ordering::AcqRel);
    }

    /// The end has begun.
    pub fn draining(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }

    fn readiness(&self) -> Readiness {
        match self.0.load(Ordering::Acquire) {
            bits if bits & DRAINING != 0 => Readiness::Draining,
            bits if bits & READY != 0 => Readiness::Ready,
            _ => Readiness::Starting,
        }
    }
}

/// Who is asked.
pub struct Overseer {
    pub standing: Standing,
    pub metrics: Metrics,
}

impl Process for Overseer {
    fn readiness(&self) -> Readiness {
        self.standing.readiness()
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }
}
