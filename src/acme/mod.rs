//! The life of a certificate that nobody brings: ordered from an authority over ACME (RFC 8555), stored, shown by
//! listeners, renewed before it ends.
//!
//! In reading order:
//! - [`Registry`] is what the process has of them; it outlives configurations.
//! - [`managed`] is one certificate as listeners see it, exchanged while they show it; `held` is what is shown.
//! - [`challenge`]: what the authority asks of listeners to see that a name is ours.
//! - `keepers` are at work in the background, one for each certificate (`keeper`); `timing` says when.
//! - `order` is the way to a new certificate, from `account` to the chain; `http` carries it.
//! - `store` is the directory in which all of it survives, and in which processes meet.
//!
//! Called by `edge`, which shows the certificates, by `http`, which answers challenges, and by `run`.

mod account;
pub mod challenge;
mod held;
mod http;
mod keeper;
mod keepers;
pub mod managed;
mod order;
mod store;
mod timing;

pub use challenge::Challenges;
pub use keepers::Keepers;
pub use managed::{Managed, Standing};

use crate::config::plan::{self, Trust};
use crate::observe::Metrics;
use http::Carrier;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use tokio::sync::Semaphore;

/// So many certificates are ordered at once.
const AT_ONCE: usize = 4;

/// The certificates of a process.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    challenges: Arc<Challenges>,
    /// They live as long as a listener shows them or somebody takes care of them.
    certificates: Mutex<Vec<Weak<Managed>>>,
    /// Those that are taken care of.
    kept: Mutex<Vec<Arc<Managed>>>,
    turns: Semaphore,
    /// One for each kind of trust.
    carriers: Mutex<Vec<(Trust, Carrier)>>,
    metrics: Metrics,
}

impl Default for Registry {
    fn default() -> Self {
        Registry::counting(Metrics::default())
    }
}

impl Registry {
    /// One whose orders are counted here.
    pub fn counting(metrics: Metrics) -> Registry {
        Registry(Arc::new(Inner {
            challenges: Arc::default(),
            certificates: Mutex::default(),
            kept: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            carriers: Mutex::default(),
            metrics,
        }))
    }

    /// What authorities may ask listeners for now.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.0.challenges
    }

    /// The certificate that is ordered in this way: the one there is, or another, with what is stored for it.
    pub fn managed(&self, plan: &Arc<plan::Ordered>) -> Arc<Managed> {
        let mut certificates = self.0.certificates.lock();
        certificates.retain(|known| known.strong_count() > 0);
        let known = certificates.iter().filter_map(Weak::upgrade).find(|known| known.plan() == plan);
        known.unwrap_or_else(|| {
            let managed = Arc::new(Managed::from_storage(plan.clone()));
            certificates.push(Arc::downgrade(&managed));
            managed
        })
    }

    /// The certificates of the plan in use.
    pub fn kept(&self) -> Vec<Arc<Managed>> {
        self.0.kept.lock().clone()
    }

    /// Where orders are counted.
    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Held while a certificate is ordered.
    fn turns(&self) -> &Semaphore {
        &self.0.turns
    }

    /// A way to authorities that are trusted so. Reads files, the first time.
    fn carrier(&self, trust: &Trust) -> Result<Carrier, String> {
        let mut carriers = self.0.carriers.lock();
        if let Some((_, carrier)) = carriers.iter().find(|(known, _)| known == trust) {
            return Ok(carrier.for_another());
        }
        let carrier = Carrier::new(trust)?;
        carriers.push((trust.clone(), carrier.clone()));
        Ok(carrier)
    }
}
