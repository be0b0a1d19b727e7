//! The access log: a line per request, without making the request wait. `run` opens it, `http`
//! and `edge` write to it.
//!
//! A request thread formats its line into the shard of its thread (an uncontended lock and an
//! append) and goes on. One thread empties the shards every 50 ms, or sooner when one is large,
//! and writes. Lines of one thread keep their order; those of different threads may be written
//! up to 50 ms apart from it. A shard holds at most 4 MiB: when the sink is so slow that it is
//! full, lines are dropped, counted, and reported in the process log once a minute. An error of
//! the sink (disk full, reader gone) is reported once, and every pass tries again.
//!
//! No thread is started before the first line: a log may be opened before a daemon forks.

use super::entry::Entry;
use super::format::{Desk, Format};
use super::sink::{FileSink, Sink, StreamSink};
use super::syslog::SyslogSink;
use super::writer::Writer;
use crate::clock;
use crate::config::file::LogTarget;
use crate::config::plan;
use crate::units::Percent;
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};
use twox_hash::XxHash3_64;

/// A [`Percent`] has parts of ten thousand.
const WHOLE: u64 = 10_000;

/// How long a flush or a drop waits. After a flush that waited in vain the drop waits no longer
/// than one look of the writer, so that an end with both takes a second at most.
pub(super) const GOODBYE: Duration = Duration::from_millis(800);

/// How much is held back, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A shard with this many bytes takes no more lines.
    pub shard_bytes: usize,
    /// A shard with this many bytes wakes the writer.
    pub wake_bytes: usize,
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { shard_bytes: 4 * 1024 * 1024, wake_bytes: 256 * 1024, pause: Duration::from_millis(50) }
    }
}

/// An open access log. Share it in an `Arc`; dropping the last one writes what is left, for at
/// most a second, so let the last one be that of `run`, not that of a request.
pub struct AccessLog {
    shared: Arc<Shared>,
    /// The one that it has replaced, as long as that is there.
    before: Mutex<Weak<AccessLog>>,
}

impl AccessLog {
    /// Opens what `plan` names: a file is appended to, and created with mode 0640 when missing.
    /// `None` when the log is off.
    ///
    /// # Errors
    /// The file cannot be opened; the words name it, the reason and what to do.
    pub fn open(plan: &plan::AccessLog) -> io::Result<Option<AccessLog>> {
        let (name, sink): (String, Box<dyn Sink>) = match &plan.to.value {
            LogTarget::Off => return Ok(None),
            LogTarget::Stdout => ("on standard output".to_owned(), Box::new(StreamSink::stdout())),
            LogTarget::Stderr => ("on standard error".to_owned(), Box::new(StreamSink::stderr())),
            LogTarget::File(path) => {
                let rotate = plan.rotate.as_deref();
                let sink = FileSink::open(path, rotate).map_err(|e| cannot_open(path, &e))?;
                (path.display().to_string(), Box::new(sink))
            }
            // connected to when there is a line: a server that is not there is told of then
            LogTarget::Syslog(syslog) => {
                (format!("at the syslog server {}", syslog.address.value), Box::new(SyslogSink::new(syslog)))
            }
        };
        Ok(Some(AccessLog::with_sink(plan, name, sink, Limits::default())))
    }

    pub(super) fn with_sink(
        plan: &plan::AccessLog,
        name: String,
        sink: Box<dyn Sink>,
        limits: Limits,
    ) -> Self {
        // more shards than workers, so that two workers seldom meet; an unused one is a few words
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (0..cores.next_power_of_two().clamp(16, 64)).map(|_| Padded::default()).collect();
        let shared = Shared {
            format: Format::new(plan),
            sample: plan.sample,
            name,
            limits,
            shards,
            dropped: Arc::default(),
            idle: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            waited_in_vain: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            flush_asked: AtomicU64::new(0),
            progress: Mutex::new(Progress::default()),
            progressed: Condvar::new(),
            writer: OnceLock::new(),
            unstarted: Mutex::new(Some(sink)),
        };
        AccessLog { shared: Arc::new(shared), before: Mutex::default() }
    }

    /// Whether a request has a line that did not fail: one of so many as `share` says, or the log where that says nothing.
    /// It is always the same of those with one id, here and at other gates.
    pub fn samples(&self, share: Option<Percent>, request_id: &[u8]) -> bool {
        match share.unwrap_or(self.shared.sample) {
            all if all >= Percent::of(100) => true,
            none if none == Percent::of(0) => false,
            share => XxHash3_64::oneshot(request_id) % WHOLE < u64::from(share.0),
        }
    }

    /// The same of what has no id: a flow.
    pub fn samples_flow(&self, share: Option<Percent>) -> bool {
        self.samples(share, &fastrand::u64(..).to_ne_bytes())
    }

    /// Writes one line, with the time of now. Never waits for the sink and never panics.
    pub fn write(&self, entry: &Entry<'_>) {
        let shared = &self.shared;
        // a power of two
        let Some(shard) = shared.shards.get(thread_number() & (shared.shards.len() - 1)) else { return };
        let now = clock::coarse();
        let full = {
            let mut shard = shard.0.lock();
            let Shard { lines, desk } = &mut *shard;
            let before = lines.len();
            if before >= shared.limits.shard_bytes {
                drop(shard);
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            shared.format.push_line(lines, desk, now, entry);
            before < shared.limits.wake_bytes && lines.len() >= shared.limits.wake_bytes
        };
        if full || (shared.idle.load(Ordering::SeqCst) && shared.idle.swap(false, Ordering::SeqCst)) {
            shared.wake();
        }
    }

    /// Lines that were never written, because the sink was too slow or failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Counts them, also when the log is gone.
    pub fn drops(&self) -> Arc<AtomicU64> {
        self.shared.dropped.clone()
    }

    /// It takes the place of another one, whose lines are to be written before the process ends as well.
    pub fn follow(&self, before: &Arc<AccessLog>) {
        *self.before.lock() = Arc::downgrade(before);
    }

    /// Waits until the lines of every `write` that has returned are with the sink, for 800 ms
    /// at most. Whether they are. Before that, the same for the log that it has replaced.
    pub fn flush(&self) -> bool {
        let before = self.before.lock().upgrade();
        if let Some(before) = before {
            before.flush();
        }
        if self.shared.writer.get().is_none() {
            return self.shared.is_empty();
        }
        let ticket = self.shared.flush_asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.wake();
        let done = self.shared.wait_until(|progress| progress.written_up_to >= ticket || progress.finished);
        self.shared.waited_in_vain.store(!done, Ordering::Release);
        done
    }

    /// Opens the file anew before the next line is written: a rotation has moved it away. A
    /// failure is reported in the process log, and the old file written on.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        if self.shared.writer.get().is_some() {
            self.shared.wake();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if self.shared.writer.get().is_none() && self.shared.is_empty() {
            return;
        }
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        self.shared.wait_until(|progress| progress.finished);
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("to", &self.shared.name).finish_non_exhaustive()
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> io::Error {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => ": create its directory first",
        io::ErrorKind::PermissionDenied => ": let the gate's user write there",
        io::ErrorKind::IsADirectory => ": name a file in it",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot open the access log {}: {error}{fix}", path.display()))
}

/// The lines of one thread, or of several that share a number modulo the shards.
#[derive(Default)]
struct Shard {
    lines: Vec<u8>,
    desk: Desk,
}

/// On cache lines of its own, so that two workers do not slow each other by being neighbours.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Padded(Mutex<Shard>);

/// What the request threads and the writer share.
pub(super) struct Shared {
    format: Format,
    sample: Percent,
    /// For messages.
    pub(super) name: String,
    pub(super) limits: Limits,
    pub(super) shards: Box<[Padded]>,
    pub(super) dropped: Arc<AtomicU64>,
    /// The writer sleeps until it is woken. True before it is started.
    pub(super) idle: AtomicBool,
    pub(super) stop: AtomicBool,
    /// The last flush ran out of time: the sink had its chance.
    pub(super) waited_in_vain: AtomicBool,
    pub(super) reopen: AtomicBool,
    pub(super) flush_asked: AtomicU64,
    progress: Mutex<Progress>,
    progressed: Condvar,
    writer: OnceLock<Thread>,
    /// Until the writer takes it.
    unstarted: Mutex<Option<Box<dyn Sink>>>,
}

#[derive(Default)]
struct Progress {
    /// The last flush that was answered.
    written_up_to: u64,
    finished: bool,
}

impl Shared {
    fn wake(self: &Arc<Self>) {
        match self.writer.get() {
            Some(writer) => writer.unpark(),
            None => self.start(),
        }
    }

    #[cold]
    fn start(self: &Arc<Self>) {
        let unstarted = self.unstarted.lock();
        if let Some(writer) = self.writer.get() {
            // another thread was faster
            return writer.unpark();
        }
        let shared = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            // waits for the lock that the starter holds: `writer` is set by then
            let sink = shared.unstarted.lock().take();
            if let Some(sink) = sink {
                Writer::new(shared, sink).run();
            }
        });
        match spawned {
            Ok(handle) => drop(self.writer.set(handle.thread().clone())),
            // tried again when a shard fills up, not with every line
            Err(e) => super::events::access_log_failing(&self.name, &e),
        }
        drop(unstarted);
    }

    /// Swaps the empty `batch` with what shard `index` holds.
    pub(super) fn take(&self, index: usize, batch: &mut Vec<u8>) {
        if let Some(shard) = self.shards.get(index) {
            let mut shard = shard.0.lock();
            if !shard.lines.is_empty() {
                std::mem::swap(&mut shard.lines, batch);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.0.lock().lines.is_empty())
    }

    /// Whether something but lines waits for the writer.
    pub(super) fn asked_for_something(&self) -> bool {
        self.stop.load(Ordering::Acquire)
            || self.reopen.load(Ordering::Acquire)
            || self.flush_asked.load(Ordering::Acquire) > self.progress.lock().written_up_to
    }

    pub(super) fn written_up_to(&self, ticket: u64) {
        let mut progress = self.progress.lock();
        if progress.written_up_to < ticket {
            progress.written_up_to = ticket;
            self.progressed.notify_all();
        }
    }

    pub(super) fn finished(&self) {
        self.progress.lock().finished = true;
        self.progressed.notify_all();
    }

    fn wait_until(&self, done: impl Fn(&Progress) -> bool) -> bool {
        let deadline = Instant::now() + GOODBYE;
        let mut progress = self.progress.lock();
        while !done(&progress) {
            if self.progressed.wait_until(&mut progress, deadline).timed_out() {
                return done(&progress);
            }
        }
        true
    }
}

/// A number for this thread: the workers' are consecutive, so that they meet in no shard. It is
/// a name, not state, which is why it may be a static.
pub(super) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    // a thread whose locals are gone already (a line written while it ends) shares a shard
    NUMBER
        .try_with(|number| {
            number.get().unwrap_or_else(|| {
                let next = NEXT.fetch_add(1, Ordering::Relaxed);
                number.set(Some(next));
                next
            })
        })
        .unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
