//! Churn: a gate that is changed again and again, then replaced again and again, under a constant load of everything that
//! lasts: kept connections, HTTP/2 over TLS, WebSockets, downloads and uploads that go on meanwhile. What its clients saw,
//! and what it has kept of it all when they have gone.
//!
//! `tests/churn.rs` tells it short, `benches/churn` in full.

// each of the two uses its own part of some of it
#![allow(dead_code, unused_imports)]

mod crowd;
mod server;
mod story;
mod vitals;
mod websockets;

pub use crowd::Seen;
pub use story::{Chapter, Scale, Told, tell};
