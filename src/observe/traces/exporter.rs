//! The thread behind the traces: gathers records into messages, and sends them, again if need be. Started by `queue` with
//! the first record.

use super::collector::{Collector, Refused};
use super::otlp;
use super::queue::Done;
use super::record::Record;
use crate::observe::metrics::Spans;
use crate::observe::{Metrics, Throttle, events};
use bytes::Bytes;
use opentelemetry_proto::tonic::resource::v1::Resource;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time;

/// The wait before a message is sent a second time; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Whatever the collector says.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often one message is sent.
const MOST_TRIES: u32 = 5;

/// The receiving end of a queue, and where it all goes.
pub(super) struct Exporter {
    collector: Collector,
    resource: Resource,
    batch_size: usize,
    interval: Duration,
    metrics: Metrics,
    records: mpsc::Receiver<Record>,
    end: watch::Receiver<bool>,
    done: Arc<Done>,
    failing: bool,
    said: Throttle,
}

impl Exporter {
    pub(super) fn new(
        (collector, resource): (Collector, &[(String, String)]),
        (batch_size, interval): (usize, Duration),
        metrics: Metrics,
        (records, end, done): (mpsc::Receiver<Record>, watch::Receiver<bool>, Arc<Done>),
    ) -> Exporter {
        let (resource, said) = (otlp::resource(resource), Throttle::every_minute());
        Exporter {
            collector,
            resource,
            batch_size,
            interval,
            metrics,
            records,
            end,
            done,
            failing: false,
            said,
        }
    }

    /// Until the end has come and everything is sent or given up.
    pub(super) fn run(mut self) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.export()),
            Err(why) => events::traces::lost(&why.to_string()),
        }
        // requests see that nobody takes their records
        self.records.close();
        self.done.tell();
    }

    async fn export(&mut self) {
        let mut batch = Vec::with_capacity(self.batch_size);
        while self.gather(&mut batch).await {
            self.deliver(std::mem::take(&mut batch)).await;
        }
    }

    /// Waits for a message's worth of records; `false` when there are no more.
    async fn gather(&mut self, batch: &mut Vec<Record>) -> bool {
        let mut due = None;
        while batch.len() < self.batch_size {
            let due_at = due.unwrap_or_else(time::Instant::now);
            let room = self.batch_size - batch.len();
            tokio::select! {
                biased;
                // an error means that nobody is left who could send anything
                _ = self.end.wait_for(|end| *end), if !self.records.is_closed() => self.records.close(),
                taken = self.records.recv_many(batch, room) => match taken {
                    0 => return !batch.is_empty(),
                    _ => due = due.or(Some(time::Instant::now() + self.interval)),
                },
                () = time::sleep_until(due_at), if due.is_some() => return true,
            }
        }
        true
    }

    async fn deliver(&mut self, batch: Vec<Record>) {
        let spans = batch.iter().map(|record| record.spans()).sum();
        let message = otlp::message(&self.resource, batch);
        let (result, count) = match self.send(message).await {
            Ok(rejected) => {
                let rejected = rejected.min(spans);
                self.metrics.process().spans(Spans::Failed, rejected);
                self.recovered();
                (Spans::Sent, spans - rejected)
            }
            Err(why) => {
                self.failed(&why, spans);
                (Spans::Failed, spans)
            }
        };
        self.metrics.process().spans(result, count);
    }

    /// How many spans the collector did not want, or why it has none of them.
    async fn send(&mut self, message: Bytes) -> Result<u64, String> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let Refused { why, again } = match self.collector.export(message.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(refused) => refused,
            };
            let Some(wanted) = again.filter(|_| tries < MOST_TRIES && !*self.end.borrow()) else {
                return Err(why);
            };
            tries += 1;
            // not all gates at the same time
            let jittered = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
            tokio::select! {
                _ = self.end.wait_for(|end| *end) => {}
                () = time::sleep(wanted.unwrap_or(jittered).min(LONGEST_PAUSE)) => {}
            }
            pause *= 2;
        }
    }

    fn failed(&mut self, why: &str, spans: u64) {
        self.failing = true;
        if self.said.admit(Instant::now()).is_some() {
            events::traces::failing(self.collector.name(), why, spans);
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            events::traces::recovered(self.collector.name());
        }
    }
}
