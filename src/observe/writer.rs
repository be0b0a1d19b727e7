//! The thread behind the access log: takes what the request threads have written into their
//! shards and hands it to the sink. Started by [`super::access_log`] with the first line.

use super::access_log::Shared;
use super::sink::Sink;
use super::throttle::Throttle;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a shard's buffer may keep of the room a burst needed.
const KEPT_CAPACITY: usize = 1024 * 1024;

/// How long a sink that will come back is left alone before it is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long the rest is offered to a slow sink after the end was announced: less than
/// [`super::access_log::GOODBYE`], so that the lines that stay behind can be counted.
const LAST_CALL: Duration = Duration::from_millis(600);

pub(super) struct Writer {
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
    /// Empty between passes; changes places with a shard's buffer.
    spare: Vec<u8>,
    /// The sink refused the last write; said once.
    failing: bool,
    /// A write ended within a line: the next one must not be glued to it.
    torn: bool,
    give_up_at: Option<Instant>,
    failure_said: Throttle,
    drops_said: Throttle,
    drops_reported: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, sink: Box<dyn Sink>) -> Self {
        let (failure_said, drops_said) = (Throttle::every_minute(), Throttle::every_minute());
        Writer {
            shared,
            sink,
            spare: Vec::new(),
            failing: false,
            torn: false,
            give_up_at: None,
            failure_said,
            drops_said,
            drops_reported: 0,
        }
    }

    /// Until the log is dropped and everything is written.
    pub(super) fn run(mut self) {
        loop {
            // read before the pass: what was asked for or announced before it is covered by it
            let stop = self.shared.stop.load(Ordering::Acquire);
            let ticket = self.shared.flush_asked.load(Ordering::Acquire);
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            let wrote = self.pass();
            self.shared.written_up_to(ticket);
            if stop {
                self.say_drops();
                return self.shared.finished();
            }
            self.report_drops();
            self.pause(wrote);
        }
    }

    /// Between passes a moment, in which lines gather; without traffic until one comes.
    fn pause(&mut self, wrote: bool) {
        if wrote {
            return std::thread::park_timeout(self.shared.limits.pause);
        }
        // A request thread looks at `idle` after it has unlocked its shard. Either it unlocks
        // before we look into that shard, and we see the line; or it locks after, and sees `idle`.
        self.shared.idle.store(true, Ordering::SeqCst);
        if self.shared.is_empty() && !self.shared.asked_for_something() {
            std::thread::park();
        }
        self.shared.idle.store(false, Ordering::SeqCst);
    }

    /// Empties every shard once; whether there was anything.
    fn pass(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.shared.shards.len() {
            let mut batch = std::mem::take(&mut self.spare);
            self.shared.take(index, &mut batch);
            if !batch.is_empty() {
                any = true;
                self.deliver(&batch);
                batch.clear();
                batch.shrink_to(KEPT_CAPACITY);
            }
            self.spare = batch;
        }
        any
    }

    /// Writes whole lines, or counts them as dropped.
    fn deliver(&mut self, batch: &[u8]) {
        if self.torn {
            match self.offer(b"\n") {
                Ok(()) => self.torn = false,
                Err((_, e)) => return self.lose(batch, &e),
            }
        }
        match self.offer(batch) {
            Ok(()) => self.recovered(),
            Err((written, e)) => {
                let (done, rest) = batch.split_at(written.min(batch.len()));
                self.torn = done.last().is_some_and(|byte| *byte != b'\n');
                self.lose(rest, &e);
            }
        }
    }

    /// Writes all, or says how much was written before an error. A sink that only is slow, or comes back, is
    /// waited for: the bounded shards drop lines meanwhile.
    fn offer(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.sink.write(rest) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.out_of_time() => self.report_drops(),
                Err(e) if self.sink.comes_back() && !self.out_of_time() => {
                    self.say_failing(&e);
                    self.report_drops();
                    std::thread::park_timeout(AGAIN);
                }
                Err(e) => return Err((written, e)),
            }
        }
        Ok(())
    }

    /// Whether the end was announced so long ago that a slow sink has had its time.
    fn out_of_time(&mut self) -> bool {
        if !self.shared.stop.load(Ordering::Acquire) {
            return false;
        }
        let now = Instant::now();
        self.shared.waited_in_vain.load(Ordering::Acquire)
            || now >= *self.give_up_at.get_or_insert(now + LAST_CALL)
    }

    fn lose(&mut self, rest: &[u8], why: &io::Error) {
        self.sink.forget();
        let lines = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        if why.kind() == io::ErrorKind::WouldBlock {
            // not a failure: nobody reads, and the process ends
            return;
        }
        // these are spoken for by the failure, not by the slowness
        self.drops_reported += lines;
        self.say_failing(why);
    }

    fn say_failing(&mut self, why: &io::Error) {
        if !self.failing && self.failure_said.admit(Instant::now()).is_some() {
            super::events::access_log_failing(&self.shared.name, why);
        }
        self.failing = true;
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            super::events::access_log_recovered(
                &self.shared.name,
                self.shared.dropped.load(Ordering::Relaxed),
            );
        }
    }

    fn report_drops(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.drops_reported && self.drops_said.admit(Instant::now()).is_some() {
            self.say_drops();
        }
    }

    fn say_drops(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.drops_reported {
            super::events::access_log_behind(&self.shared.name, dropped - self.drops_reported);
            self.drops_reported = dropped;
        }
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => self.torn = false,
            Err(e) => super::events::access_log_not_reopened(&self.shared.name, &e),
        }
    }
}
