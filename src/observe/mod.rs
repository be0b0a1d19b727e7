//! What an operator sees. Called by every room and calls none: it takes plain values and
//! borrowed text, never an endpoint or a session.
//!
//! - [`access_log`]: a line per request, written off the hot path ([`entry`] is what a line
//!   says; [`json`] and [`combined`] are its two spellings, with `text` and `stamp` below
//!   them; `writer` is the thread that writes and `sink` what it writes to).
//! - [`metrics`]: what is counted and measured, and the page that Prometheus reads.
//! - [`recent`]: the requests that failed last.
//! - [`traces`]: what becomes of a request and its tries, for a collector.
//! - [`process_log`]: what the process says about itself, on standard error.
//! - [`events`]: one function for each thing that can happen, which logs it once.

pub mod access_log;
pub mod combined;
pub mod entry;
pub mod events;
pub mod json;
pub mod metrics;
pub mod process_log;
pub mod recent;
mod sink;
mod stamp;
mod text;
pub mod throttle;
pub mod traces;
mod writer;

pub use access_log::AccessLog;
pub use entry::{Entry, protocol};
pub use metrics::Metrics;
pub use recent::Recent;
pub use stamp::{Stamp, at_text};
pub use throttle::Throttle;
pub use traces::Tracer;
