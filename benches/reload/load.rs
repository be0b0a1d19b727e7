//! The load: one request after the other by the clock, over whichever connection is free, whatever becomes of those
//! before. The time of a request counts from when it was due. Called by `run`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::common::client::{connect, get, wake_on_time};
use crate::common::machine::Cores;

/// More than are ever in use at a time.
const CONNECTIONS: usize = 32;

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub due: Instant,
    /// `None` when it failed.
    pub took: Option<Duration>,
}

/// Load that goes on until it is ended.
pub struct Load {
    clients: Vec<JoinHandle<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub fn start(target: SocketAddr, path: &str, rate: u32, cores: &Cores) -> Result<Load> {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (started, gap) = (Instant::now(), Duration::from_secs(1) / rate);
        let mut clients = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let mut stream = connect(target)?;
            let (stop, taken, path, cores) = (stop.clone(), taken.clone(), path.to_owned(), cores.clone());
            clients.push(std::thread::spawn(move || {
                cores.pin_thread();
                wake_on_time();
                let mut asked = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let due = started + gap * taken.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let answer = get(&mut stream, &path);
                    asked.push(Asked { due, took: answer.is_ok().then(|| due.elapsed()) });
                    if answer.is_err() {
                        let Ok(another) = connect(target) else { break };
                        stream = another;
                    }
                }
                asked
            }));
        }
        Ok(Load { clients, stop })
    }

    pub fn end(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect()
    }
}

/// The p99 of those that were due in this time, in milliseconds, and how many of them failed.
pub fn p99(asked: &[Asked], from: Instant, length: Duration) -> Result<(f64, usize)> {
    let due: Vec<&Asked> = asked.iter().filter(|one| (from..from + length).contains(&one.due)).collect();
    let mut took: Vec<Duration> = due.iter().filter_map(|one| one.took).collect();
    took.sort_unstable();
    let rank = (took.len() * 99).div_ceil(100).saturating_sub(1);
    match took.get(rank) {
        Some(time) => Ok((time.as_secs_f64() * 1e3, due.len() - took.len())),
        None => bail!("no request was answered"),
    }
}
