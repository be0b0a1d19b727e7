//! What is counted of a request: of its listener, its route and its upstream once at its end, of each server that it was
//! tried on when that try is over. Called by `journal` and `forward`. What is added up is plain numbers (`observe::metrics`).

use super::ctx::{Ctx, Forward};
use super::refusal::{Refusal, Reject};
use super::websocket;
use crate::observe::metrics::{Protocol, Refused, Request, Try};
use http::Version;
use pingora_proxy::Session;
use std::time::Duration;

/// The request is over, after so long.
pub fn ended(session: &Session, ctx: &Ctx, took: Duration) {
    let Some(matched) = &ctx.request else { return };
    let status = session.response_written().map_or(0, |response| response.status.as_u16());
    if let Some(listener) = &matched.info.connection.counted {
        let protocol = match websocket::spoken(session.req_header()) {
            Version::HTTP_2 => Protocol::H2,
            _ => Protocol::H1,
        };
        listener.request(protocol, status);
    }
    if matched.at.is_none() && ctx.forward.group.is_none() {
        return;
    }
    let forward = &ctx.forward;
    let (received, sent) = (session.body_bytes_read() as u64, session.body_bytes_sent() as u64);
    let request = Request::new(status, took)
        .in_parts(forward.queued, new_connection(forward), forward.first_byte)
        .moving(received, sent)
        .tried_again(u32::from(forward.attempts.saturating_sub(1)), u32::from(forward.hedged));
    if let Some(at) = &matched.at {
        at.route().ended(&request);
    }
    let Some(group) = &forward.group else { return };
    group.counted().ended(&request);
    if let Some(why) = ctx.reject.and_then(refusal) {
        group.counted().refused(why);
    }
    try_over(forward);
    if let Some(try_on) = &forward.endpoint {
        try_on.endpoint().counted().moved(received, sent);
    }
}

/// A head was refused that never became a request.
pub fn refused(refusal: &Refusal<'_>) {
    if let Some(listener) = &refusal.connection.counted {
        listener.request(Protocol::H1, refusal.reject.status().as_u16());
    }
}

/// The current try is over, if there is one.
pub fn try_over(forward: &Forward) {
    let Some(try_on) = &forward.endpoint else { return };
    try_on.endpoint().counted().tried(&Try {
        status: forward.answered.unwrap_or_default(),
        connect: new_connection(forward),
        first_byte: forward.first_byte.filter(|_| forward.answered.is_some()),
    });
}

/// How long it took to connect; a connection that was kept took no time.
fn new_connection(forward: &Forward) -> Option<Duration> {
    forward.connect.filter(|took| !took.is_zero())
}

/// Whether no server was asked for that reason.
pub fn refusal(reject: Reject) -> Option<Refused> {
    match reject {
        Reject::QueueFull => Some(Refused::QueueFull),
        Reject::QueuedTooLong => Some(Refused::QueueTimeout),
        Reject::CircuitOpen { .. } => Some(Refused::BreakerOpen),
        Reject::Unavailable => Some(Refused::NoServer),
        _ => None,
    }
}
