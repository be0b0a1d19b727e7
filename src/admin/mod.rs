//! The admin address: where people and programs ask the process what it does, and tell it what to do. It is served by
//! a thread of its own, which no request for a server ever waits for.
//!
//! - [`Process`] is what it can see and control; `run` implements it.
//! - [`server`] is its socket and its connections, `guard` says who may ask what, `routes` is what there is to ask and
//!   `calls` does it, `answer` how answers look and [`view`] what they say; `openapi` says the same for programs, `page` for
//!   people.
//!
//! Begun, changed by a reload and ended by `run`.

mod answer;
mod calls;
mod guard;
mod openapi;
mod page;
mod routes;
pub mod server;
pub mod view;

pub use server::{Admin, Prepared};

use async_trait::async_trait;
use serde_json::Value;
use std::num::NonZeroU16;

/// What the admin address can see and control.
#[async_trait]
pub trait Process: Send + Sync {
    /// Whether clients are to be sent here.
    fn readiness(&self) -> Readiness;

    /// In the text format of Prometheus.
    fn metrics(&self) -> String;

    /// Which configuration is in use, since when, and what was refused last.
    fn status(&self) -> Value;

    fn listeners(&self) -> Vec<view::Listener>;

    /// So many, in the order of the file; and how many there are.
    fn routes(&self, most: usize) -> (Vec<view::Route>, usize);

    fn upstreams(&self) -> Vec<view::Upstream>;

    fn certificates(&self) -> Vec<view::Certificate>;

    /// Requests that failed after the one with this number.
    fn failures(&self, after: u64) -> view::Failures;

    /// Reads the configuration again.
    ///
    /// # Errors
    /// The report of why it was refused: nothing has changed.
    async fn reload(&self) -> Result<view::Reloaded, String>;

    /// Looks at a configuration, as if it were the text of its file.
    ///
    /// # Errors
    /// In words for the operator: the process is ending.
    async fn judge(&self, text: String) -> Result<(view::Judged, Option<view::Difference>), String>;

    /// What the server is then.
    ///
    /// # Errors
    /// Why not.
    fn change(&self, upstream: &str, server: &str, change: Change) -> Result<view::Server, Unchanged>;
}

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Weight(NonZeroU16),
    Drain,
    Undrain,
    Eject,
    Restore,
}

/// Why a server is as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unchanged {
    /// There is none.
    Unknown(String),
    /// It cannot be done.
    Refused(String),
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
