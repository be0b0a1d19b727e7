//! The requests that failed last, for whoever looks: a ring of a few hundred, filled at the end of a request by
//! `http::journal`. A request never waits for it: where two meet, one is only counted.

use super::entry::Entry;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// So many are kept.
const KEPT: usize = 256;
/// Bytes of a path or host that are kept.
const LONGEST: usize = 200;

/// A request that failed. Of its path the query is left out, which may hold secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Counts from 1; the next one has the next number.
    pub number: u64,
    pub at: SystemTime,
    pub listener: String,
    pub client: Option<IpAddr>,
    pub method: String,
    pub host: String,
    pub path: String,
    /// 0: the client was not answered.
    pub status: u16,
    pub route: Option<String>,
    pub upstream: Option<String>,
    pub server: Option<String>,
    pub attempts: u32,
    pub duration: Duration,
    /// In a few words; without it the server has answered so.
    pub error: Option<String>,
    pub request_id: String,
}

/// Those of a process.
#[derive(Debug, Default)]
pub struct Recent {
    ring: Mutex<Ring>,
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    /// How many there ever were.
    seen: u64,
    kept: VecDeque<Arc<Failure>>,
}

impl Recent {
    /// This request failed.
    pub fn note(&self, entry: &Entry<'_>) {
        let Some(mut ring) = self.ring.try_lock() else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        ring.seen += 1;
        let failure = Failure::of(entry, ring.seen);
        if ring.kept.len() >= KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(Arc::new(failure));
    }

    /// Those that came after the one with this number, the oldest first; and how many there ever were that could not be kept.
    pub fn after(&self, number: u64) -> (Vec<Arc<Failure>>, u64) {
        let ring = self.ring.lock();
        let later = ring.kept.iter().filter(|failure| failure.number > number).cloned().collect();
        (later, self.missed.load(Ordering::Relaxed))
    }
}

impl Failure {
    fn of(entry: &Entry<'_>, number: u64) -> Failure {
        let path = entry.path.unwrap_or_default();
        let path = path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        let name = |name: Option<&str>| name.map(str::to_owned);
        Failure {
            number,
            at: SystemTime::now(),
            listener: entry.listener.to_owned(),
            client: entry.client,
            method: entry.method.unwrap_or_default().to_owned(),
            host: text(entry.host.unwrap_or_default()),
            path: text(path),
            status: entry.status,
            route: name(entry.route),
            upstream: name(entry.upstream),
            server: name(entry.server),
            attempts: entry.attempts,
            duration: entry.duration,
            error: name(entry.error),
            request_id: text(entry.request_id.unwrap_or_default()),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_without_what_is_secret() {
        let recent = Recent::default();
        let entry = Entry {
            listener: "web",
            path: Some(b"/pay?token=secret"),
            status: 502,
            error: Some("connection refused"),
            ..Entry::default()
        };
        for _ in 0..KEPT + 10 {
            recent.note(&entry);
        }
        let (all, missed) = recent.after(0);
        assert_eq!((all.len(), all[0].number, missed), (KEPT, 11, 0));
        assert_eq!((all[0].path.as_str(), all[0].status), ("/pay", 502));
        let (later, _) = recent.after(all[KEPT - 3].number);
        assert_eq!(later.len(), 2);
        let long = Entry { path: Some(&[b'x'; 5_000]), ..entry };
        recent.note(&long);
        assert_eq!(recent.after(KEPT as u64 + 10).0[0].path.len(), LONGEST);
    }

    #[test]
    fn many_threads_are_all_counted() {
        let recent = Recent::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| recent.note(&Entry::default())));
            }
        });
        let (kept, missed) = recent.after(0);
        assert_eq!(kept.last().unwrap().number + missed, 4_000);
    }
}
