//! Traces: whether a request is traced and by which ids, what its server is told, and spans for a collector. `http` begins
//! a [`Trace`] for each request and ends it; `run` opens the [`Tracer`]. See decision 037 and docs/tracing.md.
//!
//! - [`context`]: the ids. `propagation` reads and writes them in headers, in the spellings `w3c` and `b3`.
//! - `sampling` decides which are recorded: pure.
//! - [`trace`] is that of one request while it lasts; [`record`] what is told of it.
//! - `queue` takes records from requests without ever making one wait; the thread behind it (`exporter`) puts them into
//!   the messages of OTLP (`otlp`) and sends them to the `collector`.

mod b3;
mod collector;
pub mod context;
mod exporter;
mod otlp;
mod propagation;
mod queue;
pub mod record;
mod sampling;
pub mod trace;
mod w3c;

pub use context::{SpanId, TraceId};
pub use record::{Failure, Request, Try, told};
pub use trace::Trace;

use super::Metrics;
use crate::config::file::{RouteSampling, TraceTrust};
use crate::config::plan;
use http::HeaderMap;
use queue::Queue;
use std::sync::Arc;

/// What a configuration says about traces, at work. Dropping the last one sends what is left, for at most five seconds, so
/// let the last one be that of `run`, not that of a request.
pub struct Tracer {
    plan: Arc<plan::Tracing>,
    queue: Option<Queue>,
}

impl Tracer {
    /// Nothing is sent, and no thread started, before there is something to send.
    ///
    /// # Errors
    /// In words for the operator: the authorities that the system trusts cannot be read.
    pub fn open(plan: &Arc<plan::Tracing>, metrics: &Metrics) -> Result<Arc<Tracer>, String> {
        let queue = plan.otlp.as_ref().map(|otlp| Queue::new(otlp, &plan.resource, metrics)).transpose();
        let queue = queue.map_err(|why| format!("tracing: {why}"))?;
        Ok(Arc::new(Tracer { plan: plan.clone(), queue }))
    }

    /// A request with these headers is here, from a trusted proxy or somebody else.
    pub fn begin(self: &Arc<Self>, headers: &HeaderMap, trusted: bool, route: RouteSampling) -> Box<Trace> {
        let believed = match self.plan.trust {
            TraceTrust::Proxies => trusted,
            TraceTrust::Everyone => true,
            TraceTrust::Nobody => false,
        };
        let told = propagation::extract(headers, &self.plan.propagation).unwrap_or_default();
        Box::new(Trace::begin(self.clone(), told, believed, self.plan.sampling.with(route)))
    }

    /// Whether spans are sent anywhere.
    fn records(&self) -> bool {
        self.queue.is_some()
    }

    fn push(&self, record: record::Record) {
        if let Some(queue) = &self.queue {
            queue.push(record);
        }
    }

    /// Sends what is left, and waits for that, for five seconds at most. Spans of later requests are dropped.
    pub fn finish(&self) {
        if let Some(queue) = &self.queue {
            queue.finish();
        }
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}
