//! What an operator sees. Called by every room and calls none: it takes plain values and
//! borrowed text, never an endpoint or a session.
//!
//! - [`access_log`]: a line per request, written off the hot path ([`entry`] is what a line
//!   says; `format` its spelling: [`json`], [`combined`] or the `line` of a template, with `headers` and `redact`
//!   beside them and `text` and `stamp` below; `writer` is the thread that writes, `sink` what it writes to, with
//!   `rotation` for files and `syslog` for a server).
//! - [`metrics`]: what is counted and measured, and the page that Prometheus reads.
//! - [`recent`]: the requests that failed last.
//! - [`traces`]: what becomes of a request and its tries, for a collector.
//! - [`process_log`]: what the process says about itself, on standard error.
//! - [`events`]: one function for each thing that can happen, which logs it once.

pub mod access_log;
pub mod combined;
pub mod entry;
pub mod events;
mod format;
mod headers;
pub mod json;
mod line;
pub mod metrics;
pub mod process_log;
pub mod recent;
mod redact;
mod rotation;
mod sink;
mod stamp;
mod syslog;
mod text;
pub mod throttle;
pub mod traces;
mod writer;

pub use access_log::AccessLog;
pub use entry::{CLIENT_CLOSED, Entry, is_failure, protocol};
pub use metrics::Metrics;
pub use recent::Recent;
pub use stamp::{Stamp, at_text};
pub use throttle::Throttle;
pub use traces::Tracer;
