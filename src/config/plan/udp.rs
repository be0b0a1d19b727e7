//! `udp` of a listener, resolved.

use crate::config::file::{OnServerDown, ProxyHeader, Udp as Written};
use std::sync::Arc;
use std::time::Duration;

/// Where the datagrams of a listener are passed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udp {
    /// By its name: the listener is the same when other groups come and go.
    pub upstream: Arc<str>,
    pub sessions: Sessions,
}

/// How sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    pub idle: Duration,
    /// The most datagrams of a client; `None`: as many as come.
    pub requests: Option<u64>,
    /// Answers to each of them; `None`: as many as come.
    pub responses: Option<u64>,
    pub on_server_down: OnServerDown,
    pub proxy_header: ProxyHeader,
}

impl From<&Written> for Udp {
    fn from(written: &Written) -> Udp {
        let sessions = Sessions {
            idle: written.timeouts.idle.0,
            requests: written.requests.map(|requests| u64::from(requests.get())),
            responses: written.responses.map(u64::from),
            on_server_down: written.on_server_down,
            proxy_header: written.proxy_header,
        };
        Udp { upstream: written.upstream.value.as_str().into(), sessions }
    }
}
