//! What one request carries through the callbacks: its route and group once they are found, its
//! tries, and when things happened. It keeps no Site: a long request does not keep an old
//! configuration in memory.

use super::call::Call;
use super::dial::Progress;
use super::hedge::{Handover, Hedge, Socket};
use super::patrol::Watched;
use super::refusal::{Phase, Reject};
use super::sticky::Brought;
use super::watchdog::{Limits, Watchdog};
use crate::config::plan;
use crate::filter::{Chain, Exchange, RequestInfo};
use crate::observe::metrics;
use crate::observe::traces::Trace;
use crate::upstream::caps::Slot;
use crate::upstream::{Group, InFlight, Pass, Tried};
use pingora_proxy::Session;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The state of one request.
#[derive(Default)]
pub struct Ctx {
    /// Set by the first callback; without it the request was refused before it was looked at.
    pub request: Option<Matched>,
    pub forward: Forward,
    /// What was answered by the gate itself, if it was.
    pub reject: Option<Reject>,
    /// Why the request did not end well, for the log.
    pub error: Option<&'static str>,
    /// Per-request state of filters.
    pub state: http::Extensions,
    /// The body so far, to hold it against the limit.
    pub body_bytes: u64,
    /// What it belongs to, if traces are looked at.
    pub trace: Option<Box<Trace>>,
}

/// A request that was looked at, and its route if it has one.
pub struct Matched {
    pub info: RequestInfo,
    pub chain: Arc<Chain>,
    pub headers: ProxyHeaders,
    pub max_body_bytes: Option<u64>,
    /// Where it counts as in flight, if it has a route.
    pub at: Option<metrics::AtRoute>,
    /// Those of the site: see [`Site`](super::site::Site).
    pub error_pages: Option<Arc<[Arc<plan::ErrorPage>]>>,
    /// What is known of it as a call of gRPC, if it is one.
    pub call: Option<Box<Call>>,
}

/// What is to be told to servers about the client.
#[derive(Debug, Clone, Copy)]
pub struct ProxyHeaders {
    pub config: crate::config::file::ProxyHeaders,
    /// Whether the peer is a trusted proxy, so that what it says is kept.
    pub trusted: bool,
}

/// The way of a request to a server.
#[derive(Default)]
pub struct Forward {
    pub group: Option<Arc<Group>>,
    pub retry: Option<plan::Retry>,
    pub tried: Tried,
    pub attempts: u16,
    /// The server for the next try, when it is known already.
    pub chosen: Option<InFlight>,
    /// What the request brought to stay with its server; `None` before the first try, and in a
    /// group whose clients do not stay.
    pub sticky: Option<Brought>,
    /// A try failed only because the server had closed an idle connection.
    pub stale: bool,
    /// The server's answer was a status that is tried again.
    pub bad_answer: bool,
    /// The client asks to switch protocols, as for a WebSocket.
    pub upgrade: bool,
    /// What the current try must not take longer than, beside what Pingora knows.
    pub limits: Limits,
    /// Sees to that.
    pub watchdog: Option<Watchdog>,
    /// The longest silence of the server and what becomes of its connection, where the patrol sees to them.
    pub patrolled: Option<(Duration, Duration)>,
    /// Sees to those of the current try.
    pub watched: Option<Watched>,
    /// How far the connection of the current try has come, where TLS is spoken on it.
    pub dialled: Option<Progress>,
    /// What the connection of the current try begins with, if the server is told of the client.
    pub announcement: Option<Arc<[u8]>>,
    /// What the end of the time to connect means: another deadline may come first.
    pub connect_phase: Option<Phase>,
    /// What took the last try too long, if that is how it ended.
    pub late: Option<Phase>,
    /// The server of the current try, where the request counts as in flight.
    pub endpoint: Option<InFlight>,
    /// And so it does in its group, if that has limits. After the servers, so that they are let go first.
    pub slot: Option<Slot>,
    /// The connection of the current try, for requests that may be sent a second time.
    pub connection: Option<Dialled>,
    /// The second try beside the first.
    pub hedge: Option<Hedge>,
    /// The connection of the second try, when the request goes on there.
    pub handover: Option<Handover>,
    /// The connection of the current try, if it is one that was handed over.
    pub socket: Option<Socket>,
    /// Second tries that were in vain.
    pub hedged: u16,
    /// When the first try began, if the time to its answer is to be known.
    pub timed: Option<Instant>,
    /// How long it has waited for its turn, if it had to.
    pub queued: Option<Duration>,
    /// What the request has to say about its group, until it has said it.
    pub pass: Option<Pass>,
    /// The status that the server of the current try has answered.
    pub answered: Option<u16>,
    /// When the whole body of the request had come in, if it has one.
    pub body_ended: Option<Instant>,
    /// When the current try began.
    pub try_started: Option<Instant>,
    /// From then until the connection stood; nothing of one that was kept.
    pub connect: Option<Duration>,
    /// From then until the head of the answer was there.
    pub first_byte: Option<Duration>,
}

impl Forward {
    /// The connection of the current try had served another request before.
    pub fn was_kept(&self) -> bool {
        self.connect.is_some_and(|took| took.is_zero())
    }
}

/// A connection to a server, and the patience with it.
#[derive(Debug, Clone, Copy)]
pub struct Dialled {
    pub fd: RawFd,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

impl Ctx {
    /// The chain, and the view of this request for its filters.
    pub fn exchange<'a>(&'a mut self, session: &'a mut Session) -> Option<(&'a Chain, Exchange<'a>)> {
        let Matched { info, chain, .. } = self.request.as_ref()?;
        Some((chain, Exchange::new(session, info, &mut self.state)))
    }

    pub fn route(&self) -> Option<&Arc<plan::Route>> {
        self.request.as_ref()?.info.route.as_ref()
    }
}
