//! The life of a server: discovered -> probed -> chosen.
//!
//! - [`registry`]: the live state of servers, kept by group and address; outlives reloads.
//! - [`endpoint`]: that state: in flight, up or down; [`changes`]: what those of a group share.
//! - [`state`]: what of it goes to a process that takes over.
//! - [`location`]: where a server is; [`latency`]: and how long it takes to answer.
//! - [`server`]: a server's part in one group.
//! - [`membership`]: who is in a group, and who is leaving it.
//! - [`upkeep`]: what a group needs done beside its requests.
//! - [`group`]: a named group of servers, from which requests choose one. Built from the plan by
//!   `run::snapshot`, asked by `http::forward`.
//! - [`balance`]: the algorithms that choose, as Pingora's `BackendSelection`.
//! - [`sticky`]: how clients find their way back to the server they were with.
//! - [`conduct`]: what live requests have shown of servers: [`outlier`] says when one is ejected, [`breaker`]
//!   when one is left alone, both by [`window`]; [`panic`](mod@panic) when all of that is ignored.
//! - [`transport`]: how servers are spoken to: plaintext or TLS, HTTP/1.1 or HTTP/2; [`dialer`] connects to them, in
//!   plaintext and for flows, [`client_tls`] where Pingora does not; [`wire`] is what comes of it.
//! - [`budget`]: how many retries there may be.
//! - [`caps`]: how many requests may be in flight, and who waits for their turn: [`queue`] is the order.
//! - [`percentile`]: how long most answers take.
//! - [`reason`]: what is wrong with a server, in plain words.
//! - [`discover`]: sources of servers: DNS and watched files.
//! - [`health`]: the checks that run in the background and mark servers up and down.
//! - `tasks`: how those two, and the upkeep, run beside the requests until the process ends.

pub mod balance;
pub mod breaker;
pub mod budget;
pub mod caps;
pub mod changes;
pub mod client_tls;
pub mod conduct;
pub mod dialer;
pub mod discover;
pub mod endpoint;
pub mod group;
pub mod health;
pub mod latency;
pub mod location;
pub mod membership;
pub mod outlier;
pub mod panic;
pub mod percentile;
mod picture;
pub mod queue;
pub mod reason;
pub mod registry;
pub mod server;
pub mod state;
pub mod sticky;
pub(crate) mod tasks;
pub mod transport;
pub mod upkeep;
pub mod window;
pub mod wire;

pub use endpoint::{Endpoint, InFlight};
pub use group::{Group, Outcome, Pass, Tried, Watch};
pub use registry::Registry;
pub use server::{Server, Servers};
pub use sticky::Sticky;
