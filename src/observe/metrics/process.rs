//! Of the process as a whole: reloads, certificates that are ordered, and what the kernel knows of it.

use super::cells::Cells;
use super::families;
use super::kept::{Kept, Part};
use super::labels::{Spans, Success};
use super::text::{Labels, Text};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Of the process.
#[derive(Debug)]
pub struct Process {
    cells: Cells,
    started: SystemTime,
    /// Nanoseconds since 1970.
    last_success: AtomicU64,
    last_failed: AtomicBool,
}

pub(super) const RELOADS: usize = 0;
pub(super) const DROPPED: usize = RELOADS + Success::WORDS.len();
pub(super) const SPANS: usize = DROPPED + 1;
const PLACES: usize = SPANS + Spans::WORDS.len();

impl Default for Process {
    fn default() -> Self {
        let started = SystemTime::now();
        Process {
            cells: Cells::new(PLACES),
            started,
            last_success: AtomicU64::new(since_1970(started)),
            last_failed: AtomicBool::new(false),
        }
    }
}

impl Kept for Process {
    const KIND: &'static str = "process";

    fn parts() -> Vec<Part> {
        vec![
            Part::each("reloads", RELOADS, Success::WORDS),
            Part::one("access_log_dropped", DROPPED),
            Part::each("trace_spans", SPANS, Spans::WORDS),
        ]
    }

    fn cells(&self) -> &Cells {
        &self.cells
    }
}

impl Process {
    /// A reload was done, or refused.
    pub fn reloaded(&self, ok: bool) {
        self.cells.add(RELOADS + Success::from(ok).place(), 1);
        self.last_failed.store(!ok, Ordering::Relaxed);
        if ok {
            self.last_success.store(since_1970(SystemTime::now()), Ordering::Relaxed);
        }
    }

    /// An access log is not in use any more, which has dropped so many lines.
    pub fn log_replaced(&self, dropped: u64) {
        self.cells.add(DROPPED, dropped);
    }

    /// So many spans were sent to a collector, or not.
    pub fn spans(&self, result: Spans, count: u64) {
        self.cells.add(SPANS + result.place(), count);
    }

    pub(super) fn write(&self, text: &mut Text, log_dropped: u64) {
        let none = Labels::default();
        let mut reloads = text.family(&families::RELOADS);
        for (place, word) in Success::WORDS.iter().enumerate() {
            reloads.with(&none, &[("result", word)], self.cells.sum(RELOADS + place));
        }
        let ok = u8::from(!self.last_failed.load(Ordering::Relaxed));
        text.family(&families::LAST_RELOAD_OK).sample(&none, ok);
        let last = self.last_success.load(Ordering::Relaxed);
        text.family(&families::LAST_RELOAD_TIME).sample(&none, seconds(last));
        let dropped = self.cells.sum(DROPPED) + log_dropped;
        text.family(&families::LOG_DROPPED).sample(&none, dropped);
        let mut spans = text.family(&families::TRACE_SPANS);
        for (place, word) in Spans::WORDS.iter().enumerate() {
            spans.with(&none, &[("result", word)], self.cells.sum(SPANS + place));
        }
        let started = seconds(since_1970(self.started));
        text.family(&families::START_TIME).sample(&none, started);
        if let Some(system) = System::now() {
            text.family(&families::CPU_TIME).sample(&none, system.cpu.as_secs_f64());
            text.family(&families::MEMORY).sample(&none, system.resident_bytes);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // one is that of the folder itself
            text.family(&families::OPEN_FILES).sample(&none, open.count().saturating_sub(1));
        }
        if let Some(most) = most_files() {
            text.family(&families::MOST_FILES).sample(&none, most);
        }
    }
}

fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as seconds, to the millisecond: more would be noise in a floating-point number of this size.
fn seconds(nanos: u64) -> f64 {
    (nanos / 1_000_000) as f64 / 1e3
}

/// What the kernel knows, as `proc(5)` has it.
struct System {
    cpu: Duration,
    resident_bytes: u64,
}

impl System {
    fn now() -> Option<System> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // the second field is a name in brackets, which may have spaces in it
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        // fields 14 and 15 of all, which are 12 and 13 behind the name; 24 is the number of pages
        let (user, system, pages) = (number(11)?, number(0)?, number(8)?);
        let (ticks, page) = (limit(libc::_SC_CLK_TCK)?, limit(libc::_SC_PAGESIZE)?);
        let cpu = Duration::from_secs_f64((user + system) as f64 / ticks as f64);
        Some(System { cpu, resident_bytes: pages * page })
    }
}

/// The soft limit, as `proc(5)` has it.
fn most_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn limit(name: libc::c_int) -> Option<u64> {
    // SAFETY: it only looks the number up.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0)
}

/// Of an authority that certificates are ordered from.
#[derive(Debug)]
pub struct Authority(Cells);

impl Default for Authority {
    fn default() -> Self {
        Authority(Cells::new(Success::WORDS.len()))
    }
}

impl Kept for Authority {
    const KIND: &'static str = "acme";

    fn parts() -> Vec<Part> {
        vec![Part::each("orders", 0, Success::WORDS)]
    }

    fn cells(&self) -> &Cells {
        &self.0
    }
}

impl Authority {
    /// A certificate was ordered, and obtained or not.
    pub fn ordered(&self, ok: bool) {
        self.0.add(Success::from(ok).place(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_kernel_says_is_read_from_the_right_fields() {
        let before = System::now().unwrap();
        assert!((1 << 20..1 << 34).contains(&before.resident_bytes), "{}", before.resident_bytes);
        let begun = std::time::Instant::now();
        let mut number = 1_u64;
        while System::now().unwrap().cpu < before.cpu + Duration::from_millis(20) {
            (0..100_000).for_each(|n| number = std::hint::black_box(number.wrapping_mul(31) ^ n));
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
    }
}
