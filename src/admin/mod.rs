//! The admin address: where people and programs ask the process what it does, and tell it what to do. It is served by
//! a thread of its own, which no request for a server ever waits for.
//!
//! - [`Process`] is what it can see and control; `run` implements it.
//! - [`server`] is its socket and its connections, `guard` says who may ask what, `routes` is what there is to ask,
//!   `answer` how answers look.
//!
//! Begun, changed by a reload and ended by `run`.

mod answer;
mod guard;
mod routes;
pub mod server;

pub use server::{Admin, Prepared};

/// What the admin address can see and control.
pub trait Process: Send + Sync {
    /// Whether clients are to be sent here.
    fn readiness(&self) -> Readiness;

    /// In the text format of Prometheus.
    fn metrics(&self) -> String;
}

/// Whether clients are to be sent to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It does not accept yet: servers are still being discovered.
    Starting,
    Ready,
    /// It was told to end, or another process has taken over.
    Draining,
}

impl Readiness {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        }
    }
}
