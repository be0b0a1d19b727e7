//! Load: some keep-alive clients that ask again and again, bounded in count and in time.

use super::PATIENCE;
use super::http_client::{Client, Request};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Load that is running. `finish` ends it and tells how every request went.
pub struct Load {
    workers: Vec<JoinHandle<Vec<Result<u16, String>>>>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Load {
    /// `clients` keep-alive connections, each asking `request` over and over: at most `each` times.
    pub fn start(address: SocketAddr, request: &Request, clients: usize, each: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let workers = (0..clients)
            .map(|_| {
                let (stop, done, request) = (stop.clone(), done.clone(), request.clone());
                std::thread::spawn(move || ask_repeatedly(address, &request, each, &stop, &done))
            })
            .collect();
        Self { workers, stop, done }
    }

    /// Waits until this many requests have been answered in all.
    #[track_caller]
    pub fn wait_for(&self, answered: usize) {
        super::eventually(&format!("{answered} requests under load"), || {
            self.answered() >= answered || self.workers.iter().all(JoinHandle::is_finished)
        });
    }

    /// Waits until every client has asked as often as it was to.
    #[track_caller]
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + PATIENCE * 3;
        while !self.workers.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub fn answered(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Stops asking and returns how every request went: its status, or what went wrong.
    pub fn finish(self) -> Vec<Result<u16, String>> {
        self.stop.store(true, Ordering::SeqCst);
        self.workers.into_iter().flat_map(|worker| worker.join().expect("a load client")).collect()
    }
}

fn ask_repeatedly(
    address: SocketAddr,
    request: &Request,
    each: usize,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Vec<Result<u16, String>> {
    let deadline = Instant::now() + PATIENCE * 3;
    let mut outcomes = Vec::new();
    let mut client = Client::connect(address);
    while outcomes.len() < each && !stop.load(Ordering::SeqCst) && Instant::now() < deadline {
        client.send(request.bytes());
        match client.try_response_to(&request.method) {
            Ok(response) => {
                if response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    client = Client::connect(address);
                }
                outcomes.push(Ok(response.status));
            }
            Err(error) => {
                outcomes.push(Err(error.to_string()));
                client = Client::connect(address);
            }
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    outcomes
}
