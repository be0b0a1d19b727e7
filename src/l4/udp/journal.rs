//! The line of a session in the access log, and what is counted of it.

use super::session::Session;
use super::table::Flow;
use super::way::Way;
use crate::config::plan;
use crate::http::{self, Reject};
use crate::observe::metrics::{self, FlowEnd, Transport};
use crate::observe::{AccessLog, Entry, is_failure};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    IdleTimeout,
    ResponsesComplete,
    ServerUnreachable,
    Cut,
}

impl End {
    pub fn words(self) -> &'static str {
        match self {
            End::IdleTimeout => "idle_timeout",
            End::ResponsesComplete => "responses_complete",
            End::ServerUnreachable => "server_unreachable",
            End::Cut => "cut",
        }
    }
}

impl From<End> for FlowEnd {
    fn from(end: End) -> FlowEnd {
        match end {
            End::IdleTimeout => FlowEnd::IdleTimeout,
            End::ResponsesComplete => FlowEnd::ResponsesComplete,
            End::ServerUnreachable => FlowEnd::ServerUnreachable,
            End::Cut => FlowEnd::Cut,
        }
    }
}

/// Counts a session for its upstream; `way` has counted its tries.
pub fn count(way: &Way, end: FlowEnd, moved: (u64, u64)) {
    let flow = metrics::Flow { transport: Transport::Udp, end, moved, queued: None, connect: None };
    way.group.counted().flow_ended(&flow);
}

/// Counts one that did not begin.
pub fn count_refused(way: &Way, reject: Reject) {
    if let Some(why) = http::refusal(reject) {
        way.group.counted().refused(why);
    }
    count(way, FlowEnd::Refused, (0, 0));
}

/// A session that had a server.
pub fn ended<K>(log: &AccessLog, client: SocketAddr, flow: &Flow<K, Session>, end: End, now: Instant) {
    let session = &flow.value;
    let way = &session.way;
    let nobody = end == End::ServerUnreachable && way.answer.is_none();
    if !nobody && !log.samples_flow(session.listener.logged) {
        return;
    }
    log.write(&Entry {
        status: if nobody { Reject::BadGateway.status().as_u16() } else { 200 },
        request_bytes: flow.bytes.0,
        response_bytes: flow.bytes.1,
        datagrams: Some(flow.datagrams),
        duration: now.saturating_duration_since(session.began),
        upstream_response: way.answer,
        ended: Some(end.words()),
        error: nobody.then(|| Reject::BadGateway.reason()),
        ..of(&session.listener, client.ip(), way)
    });
}

/// One that did not begin.
pub fn refused(log: &AccessLog, listener: &plan::Listener, client: IpAddr, way: &Way, reject: Reject) {
    if !is_failure(reject.status().as_u16(), Some(reject.reason())) && !log.samples_flow(listener.logged) {
        return;
    }
    log.write(&Entry {
        status: reject.status().as_u16(),
        error: Some(reject.reason()),
        ..of(listener, client, way)
    });
}

fn of<'a>(listener: &'a plan::Listener, client: IpAddr, way: &'a Way) -> Entry<'a> {
    Entry {
        listener: &listener.name,
        client: Some(client.to_canonical()),
        protocol: Some("UDP"),
        upstream: Some(way.group.name()),
        server: way.server().map(|server| server.name()),
        attempts: u32::from(way.attempts),
        ..Entry::default()
    }
}
