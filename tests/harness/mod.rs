//! What every test file stands on: a real gate process, backends that misbehave on request, and clients that
//! send exactly the bytes they are told to.
//!
//! A test reads as a short story: start backends, start a gate in front of them, ask, look.
//!
//! ```ignore
//! let api = Backend::start("api");
//! let gate = Gate::start("listeners: [{ name: web, address: $web }] ...", &[&api]);
//! assert_eq!(gate.get("/api").text(), "api");
//! ```
//!
//! In a configuration `$name` stands for an address: a backend's when one has that label, otherwise a free
//! one that the gate listens on. `$dir` is the gate's own directory. Each gate and backend lives on a loopback
//! address of its own, so that tests run side by side, and only the processes started here are ever stopped.

// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]
// What a failing test found is for whoever reads its output.
#![allow(clippy::print_stderr)]

mod access_log;
mod backend;
mod document;
mod fronts;
mod gate;
pub mod grpc;
mod h2_client;
pub mod h2_frames;
mod health_server;
mod http_client;
mod load;
mod metrics;
mod net;
mod origin;
mod program;
mod raw_server;
mod recorder;
mod reply;
mod runtime;
mod stream;
mod tls;
mod unix_door;
mod valve;
pub mod websocket;

pub use backend::{Backend, Received};
pub use document::{Row, assert_judged, cell};
pub use gate::{Checked, Gate, GateBuilder, check, weirgate};
pub use h2_client::{Failure as H2Failure, H2Client, frame, h2_block, h2_get_headers, h2_opening};
pub use health_server::{HealthServer, NOT_SERVING, SERVING};
pub use http_client::{Client, Request, Response};
pub use load::Load;
pub use metrics::Page;
pub use net::{BlackHole, RefusedAddress, ServerAddress, free_address, own_loopback};
pub use origin::{Arrived, Origin, OriginBuilder};
pub use program::{Program, need_program, nginx, spawn};
pub use raw_server::{RawServer, read_head};
pub use recorder::{Recorder, Seen};
pub use reply::Reply;
pub use runtime::{listen, runtime};
pub use stream::{ask, connect};
pub use tls::{Authority, ClientTls};
pub use unix_door::UnixDoor;
pub use valve::Valve;

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen. Generous, because it is only ever used up by failures.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, or fails the test saying what it was waiting for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
