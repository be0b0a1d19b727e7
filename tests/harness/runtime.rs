//! Where the asynchronous ends of tests run.

use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// A thread beside the test's own. Dropped, it stops what runs there.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime")
}

/// Listens at an address; with port 0 at one that is free.
#[track_caller]
pub fn listen(runtime: &Runtime, at: impl Into<SocketAddr>) -> (TcpListener, SocketAddr) {
    let listener = runtime.block_on(TcpListener::bind(at.into())).expect("an address");
    let address = listener.local_addr().expect("address");
    (listener, address)
}
