//! Where records wait to be sent: bounded, so that a collector that does not answer costs memory for so many requests and
//! no more, and a request never waits. What finds no room is counted.
//!
//! No thread is started before the first record: a tracer may be opened before a daemon forks.

use super::collector::Collector;
use super::exporter::Exporter;
use super::record::Record;
use crate::config::plan;
use crate::observe::metrics::Spans;
use crate::observe::{Metrics, events};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long the end waits for what is left to be sent.
const GOODBYE: Duration = Duration::from_secs(5);

pub(super) struct Queue {
    sender: mpsc::Sender<Record>,
    metrics: Metrics,
    started: AtomicBool,
    /// Until its thread takes it.
    unstarted: Mutex<Option<Exporter>>,
    /// Says that the end has come.
    ending: watch::Sender<bool>,
    done: Arc<Done>,
}

/// Whether everything was sent, or given up.
#[derive(Default)]
pub(super) struct Done {
    done: Mutex<bool>,
    changed: Condvar,
}

impl Done {
    pub(super) fn tell(&self) {
        *self.done.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self, until: Instant) {
        let mut done = self.done.lock();
        while !*done {
            if self.changed.wait_until(&mut done, until).timed_out() {
                return;
            }
        }
    }
}

impl Queue {
    /// # Errors
    /// In words for the operator: the authorities that the system trusts cannot be read.
    pub(super) fn new(
        plan: &plan::Otlp,
        resource: &[(String, String)],
        metrics: &Metrics,
    ) -> Result<Queue, String> {
        let (sender, records) = mpsc::channel(plan.queue_size);
        let (ending, end) = watch::channel(false);
        let done = Arc::<Done>::default();
        let exporter = Exporter::new(
            (Collector::new(plan)?, resource),
            (plan.batch_size, plan.interval),
            metrics.clone(),
            (records, end, done.clone()),
        );
        let unstarted = Mutex::new(Some(exporter));
        Ok(Queue {
            sender,
            metrics: metrics.clone(),
            started: AtomicBool::new(false),
            unstarted,
            ending,
            done,
        })
    }

    pub(super) fn push(&self, record: Record) {
        if let Err(refused) = self.sender.try_send(record) {
            let (mpsc::error::TrySendError::Full(record) | mpsc::error::TrySendError::Closed(record)) =
                refused;
            self.metrics.process().spans(Spans::Dropped, record.spans());
        }
        if !self.started.load(Ordering::Relaxed) {
            self.start();
        }
    }

    #[cold]
    fn start(&self) {
        let mut unstarted = self.unstarted.lock();
        if let Some(exporter) = unstarted.take() {
            let spawned = std::thread::Builder::new().name("traces".to_owned()).spawn(move || exporter.run());
            if let Err(why) = spawned {
                events::traces::lost(&format!("no thread can be started: {why}"));
                self.done.tell();
            }
        }
        self.started.store(true, Ordering::Relaxed);
    }

    /// Sends what is left, and waits for that, but not for long.
    pub(super) fn finish(&self) {
        if self.unstarted.lock().is_some() {
            return;
        }
        self.ending.send_replace(true);
        self.done.wait(Instant::now() + GOODBYE);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.finish();
    }
}
