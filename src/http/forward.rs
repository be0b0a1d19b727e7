//! The life of a try, in the order of Pingora's callbacks: which server, the way there (`peer`), the head that it sees
//! (`request`), its answer. Called by `proxy`; `retry` decides whether another follows.

mod peer;
mod request;

pub use request::request_head;

use super::ctx::{Ctx, Dialled, Forward};
use super::hedge::Socket;
use super::patrol::Patrol;
use super::queue::{self, Stop};
use super::refusal::{Phase, Reject};
use super::watchdog::{Bark, Watchdog, Who};
use super::{key, measure, sticky, trace, verdict};
use crate::config::file::Balance;
use crate::upstream::{Endpoint, Group, InFlight, latency};
use http::{StatusCode, Version};
use peer::Allowed;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_proxy::Session;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Chooses the server for the first try, while a refusal can still be sent without closing the
/// client's connection.
///
/// # Errors
/// No server of the group is up, its breaker is open, or it is full.
pub async fn choose_first(session: &mut Session, ctx: &mut Ctx) -> Result<(), Stop> {
    let group = ctx.forward.group.clone().ok_or(Reject::Internal)?;
    verdict::enter(ctx, &group)?;
    if group.caps().is_some() {
        // boxed: room for a wait is not set aside for every request
        return Box::pin(queue::first(session, ctx, &group)).await;
    }
    ctx.forward.chosen = Some(choose(&group, session, ctx).ok_or(Reject::Unavailable)?);
    Ok(())
}

/// The server for a further try, where servers may be at their caps: otherwise it is chosen when
/// [`next_peer`] is called.
///
/// # Errors
/// As [`queue::again`].
pub async fn choose_again(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let group = ctx.forward.group.as_ref().filter(|group| group.caps().is_some()).cloned();
    let Some(group) = group.filter(|_| ctx.forward.chosen.is_none()) else {
        return Ok(());
    };
    match Box::pin(queue::again(session, ctx, &group)).await {
        Ok(()) => Ok(()),
        Err(Stop::Gone(why)) => Err(why),
        Err(Stop::Refuse(reject)) => Err(give_up(ctx, reject)),
    }
}

/// The error that ends a request for which there is no further server.
fn give_up(ctx: &mut Ctx, reject: Reject) -> Box<Error> {
    let reject = *ctx.reject.get_or_insert(reject);
    Error::explain(ErrorType::HTTPStatus(reject.status().as_u16()), reject.reason()).into_up()
}

/// What the client is told when every server that is up has been tried.
pub(super) fn nobody_left(forward: &Forward) -> Reject {
    forward.late.map_or(Reject::BadGateway, Reject::GatewayTimeout)
}

/// The server for the next try, not one that was tried before.
fn choose(group: &Group, session: &Session, ctx: &mut Ctx) -> Option<InFlight> {
    let Ctx { forward, request, .. } = ctx;
    let head = session.req_header();
    let info = request.as_ref().map(|request| &request.info);
    let key = info.and_then(|info| key::first(group.plan().balance.keys(), head, info));
    let mut chosen = sticky::server(group, head, forward).and_then(|kept| group.begin_try(&kept));
    if chosen.is_none() {
        chosen = group.begin_any(&forward.tried, key.as_deref());
    }
    if chosen.is_none() && std::mem::take(&mut forward.stale) {
        // nobody else is left, and the last server only closed an idle connection: ask it again
        forward.tried = Default::default();
        chosen = group.begin_any(&forward.tried, key.as_deref());
    }
    chosen
}

/// The way to the server for the next try.
///
/// # Errors
/// 502 when every server that is up has been tried, 504 when the last one was too slow.
pub fn next_peer(session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let Some(group) = ctx.forward.group.clone() else {
        return Err(Error::explain(ErrorType::InternalError, "no group was chosen"));
    };
    let allowed = Allowed::by(ctx, &group);
    if let Some(phase) = allowed.is_over() {
        return Err(give_up(ctx, Reject::GatewayTimeout(phase)));
    }
    let chosen = ctx.forward.chosen.take().or_else(|| choose(&group, session, ctx));
    let Some(try_on) = chosen else {
        let reject = nobody_left(&ctx.forward);
        return Err(give_up(ctx, reject));
    };
    ctx.forward.upgrade = session.is_upgrade_req();
    let peer = peer::to(session, ctx, &group, (try_on.endpoint(), &allowed));
    trace::try_begins(session, ctx);
    begin(ctx, &group, try_on, allowed.now);
    Ok(peer)
}

/// A try begins.
fn begin(ctx: &mut Ctx, group: &Group, try_on: InFlight, now: Instant) {
    // what was read of it already is seen again
    ctx.body_bytes = 0;
    let forward = &mut ctx.forward;
    if forward.attempts == 0 {
        group.budget().request(now);
    }
    measure::try_over(forward);
    forward.attempts += 1;
    forward.tried.push(try_on.endpoint());
    // counted since before the connect, so that a slow dial weighs too
    forward.endpoint = Some(try_on);
    forward.try_started = Some(now);
    forward.watched = None;
    forward.answered = None;
    forward.connect = None;
    forward.late = None;
}

/// The connection of this try stands.
pub fn connected(
    session: &mut Session,
    ctx: &mut Ctx,
    peer: &HttpPeer,
    (reused, fd): (bool, RawFd),
    patrol: &Arc<Patrol>,
) -> Result<()> {
    let forward = &mut ctx.forward;
    let response_timeout = forward.patrolled.map(|(silence, _)| silence).or(peer.options.read_timeout);
    let hedged = forward.retry.and_then(|retry| retry.hedge).is_some()
        && forward.group.as_ref().is_some_and(|group| group.transport().is_plain_h1());
    forward.connection = match &peer.options {
        options if hedged && forward.attempts == 1 => Some(Dialled {
            fd,
            connect_timeout: options.connection_timeout.unwrap_or_default(),
            response_timeout: response_timeout.unwrap_or_default(),
        }),
        _ => None,
    };
    forward.connect = match reused {
        true => Some(Duration::ZERO),
        false => forward.try_started.map(|t| t.elapsed()),
    };
    let mut limits = forward.limits;
    // what several requests share is not shut down: there the server's silence has to do
    let shared = forward.group.as_ref().is_some_and(|group| group.transport().may_be_h2())
        && peer.options.max_h2_streams > 1;
    // the messages of a call come when there is something to say, and its server's silence has an end
    if limits.silence.is_none()
        && !shared
        && session.req_header().version == Version::HTTP_2
        && !session.is_body_done()
        && let Some(request) = ctx.request.as_ref().filter(|request| request.call.is_none())
    {
        let of_client = &request.info.connection.listener.limits;
        limits.silence = Some((Who::Client, of_client.body_timeout.0));
        limits.client_rate = of_client.min_body_rate.0;
    }
    match forward.patrolled {
        Some(deadlines) => {
            let watched = patrol.watch((fd, reused), deadlines);
            forward.watched = Some(watched.or_err(ErrorType::InternalError, "no patrol")?);
        }
        None => patrol.leave(fd),
    }
    // of a second try that was handed over Pingora does not know the socket
    let fd = forward.socket.as_ref().and_then(Socket::fd).unwrap_or(fd);
    let watchdog = (!limits.is_none() && !shared).then(|| Watchdog::set(limits, fd)).transpose();
    forward.watchdog = watchdog.or_err(ErrorType::InternalError, "no watchdog")?;
    Ok(())
}

/// The head of the server's answer is here, with this status, and is `judged` by that one.
///
/// # Errors
/// It is to be the last, of a protocol that nobody has asked for.
pub fn answered(ctx: &mut Ctx, status: StatusCode, judged: StatusCode) -> Result<()> {
    if status == StatusCode::SWITCHING_PROTOCOLS && !ctx.forward.upgrade {
        let why = "the server switches protocols, which nobody has asked for";
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    }
    if let Some(watched) = &ctx.forward.watched {
        watched.heard();
    }
    if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
        let (forward, now) = (&mut ctx.forward, Instant::now());
        if let Some(watchdog) = &forward.watchdog {
            watchdog.head_is_here(status == StatusCode::SWITCHING_PROTOCOLS);
        }
        forward.first_byte = forward.try_started.map(|t| now - t);
        if let (Some(began), Some(group)) = (forward.timed.take(), &forward.group) {
            // of both tries, when there were two: that of the first would have been longer
            group.times().record(now - began);
        }
        // who says at once that it cannot answer is not quick
        let status = judged.as_u16();
        let unable =
            matches!(status, 502..=504) || forward.retry.is_some_and(|r| r.on_status.contains(status));
        let took = judge(forward, now, if unable { latency::failed } else { latency::answered });
        verdict::answered(forward, judged, took, now);
    }
    Ok(())
}

/// A piece of the answer's body has come, the last one or not.
///
/// # Errors
/// It ended because we ended it, or the client waits no longer. A body that ends with its connection would seem complete.
pub fn answering(ctx: &mut Ctx, end: bool) -> Result<()> {
    if let Some(watchdog) = &ctx.forward.watchdog {
        watchdog.heard(Who::Server);
        if let Some(bark) = watchdog.bark().filter(|_| end) {
            return Err(bark.error());
        }
    }
    if let Some(allowed) = ctx.out_of_patience() {
        // a stream that goes on and on: between two messages nobody looks at the time
        return Err(Bark { phase: Some(Phase::Deadline), allowed }.error());
    }
    if let Some(watched) = &ctx.forward.watched {
        watched.heard();
        if end {
            if let Some(bark) = watched.bark() {
                return Err(bark.error());
            }
            // it is out of use, or closed
            ctx.forward.watched = None;
        }
    }
    verdict::answering(&mut ctx.forward);
    Ok(())
}

/// A piece of the request's body of so many bytes has come, the last one or not.
pub fn body_passed(ctx: &mut Ctx, bytes: usize, end: bool) {
    if let Some(watched) = &ctx.forward.watched {
        watched.heard();
    }
    if let Some(watchdog) = &ctx.forward.watchdog {
        watchdog.heard_bytes(bytes);
        if end {
            watchdog.request_sent();
        }
    }
    if end && ctx.body_bytes > 0 {
        ctx.forward.body_ended = Some(Instant::now());
    }
}

/// Tells how long the server of this try took. It is not to blame for the time that the client
/// took to send its body.
pub(super) fn judge(forward: &Forward, now: Instant, tell: fn(&Balance, &Endpoint, Duration)) -> Duration {
    let (Some(group), Some(try_on), Some(started)) = (&forward.group, &forward.endpoint, forward.try_started)
    else {
        return Duration::ZERO;
    };
    let since = forward.body_ended.map_or(started, |ended| ended.max(started));
    tell(&group.plan().balance, try_on.endpoint(), now - since);
    now - since
}

/// The second try is of no more use.
pub(super) fn forget_hedge(ctx: &mut Ctx) {
    if let Some(hedge) = ctx.forward.hedge.take() {
        ctx.forward.hedged += u16::from(hedge.has_begun());
    }
}
