//! The way to a server: which one, with which timeouts and head.

use super::ctx::{Ctx, Dialled, Forward, Matched};
use super::hedge::{self, Hedge, Socket};
use super::queue::{self, Stop};
use super::refusal::{Phase, Reject};
use super::watchdog::{Limits, Watchdog, Who};
use super::{cookie, dial, forwarded, key, path, retry, sticky, verdict};
use crate::config::file::{Balance, HedgeAfter, UpstreamHost};
use crate::filter::Phases;
use crate::upstream::reason::NO_H2;
use crate::upstream::transport::Wanted;
use crate::upstream::{Endpoint, Group, InFlight, latency};
use http::{StatusCode, Version, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shortest time for a timer of Pingora's, which cannot be set to none at all.
const AT_ONCE: Duration = Duration::from_millis(1);
/// How long a connection that is of use to one client only is kept for its next request.
const PRIVATE_IDLE: Duration = Duration::from_secs(5);

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
pub fn next_peer(session: &Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let route_timeouts = ctx.route().map(|r| r.timeouts).unwrap_or_default();
    let Some(group) = ctx.forward.group.clone() else {
        return Err(Error::explain(ErrorType::InternalError, "no group was chosen"));
    };
    let timeouts = group.plan().timeouts.with(route_timeouts);
    let now = Instant::now();
    let end_by = ctx.request.as_ref().zip(timeouts.request).map(|(r, all)| (r.info.started + all, all));
    if end_by.is_some_and(|(at, _)| at <= now) {
        return Err(give_up(ctx, Reject::GatewayTimeout(Phase::Request)));
    }
    let chosen = ctx.forward.chosen.take().or_else(|| choose(&group, session, ctx));
    let Some(try_on) = chosen else {
        let reject = nobody_left(&ctx.forward);
        return Err(give_up(ctx, reject));
    };
    let endpoint = try_on.endpoint();
    let head_by = timeouts.one_try.map(|all| (now + all, all));
    ctx.forward.upgrade = session.is_upgrade_req();
    // a watchdog ends the connection of a try
    let alone = timeouts.first_byte.is_some() || head_by.is_some() || end_by.is_some();
    let mut peer = group.peer(endpoint, Wanted { upgrade: ctx.forward.upgrade, alone });
    let (connect, phase) = first_of(now, (timeouts.connect, Phase::Connect), head_by, end_by);
    peer.options.connection_timeout = Some(connect);
    ctx.forward.connect_phase = Some(phase);
    peer.options.idle_timeout = Some(timeouts.idle);
    dial_ourselves(session, ctx, &group, (endpoint.address(), &mut peer), (connect, timeouts.handshake()));
    if group.transport().is_tls() {
        let left = [head_by, end_by].into_iter().flatten().map(|(at, _)| at.saturating_duration_since(now));
        peer.options.total_connection_timeout = left.min().map(|left| left.max(AT_ONCE));
    }
    // Pingora knows one deadline; a watchdog sees to what is to be shorter
    let silence = match (ctx.forward.upgrade, timeouts.first_byte) {
        // what comes after the switch
        (true, first_byte) => timeouts.tunnel.max(timeouts.response).max(first_byte.unwrap_or_default()),
        (false, Some(first_byte)) => timeouts.response.max(first_byte),
        (false, None) => timeouts.response,
    };
    peer.options.read_timeout = Some(silence);
    peer.options.write_timeout = Some(timeouts.response);
    ctx.forward.socket = None;
    if let Some(second) = ctx.forward.handover.take() {
        ctx.forward.socket = Some(second.socket());
        peer.options.custom_l4 = Some(Arc::new(second));
        // it has been asked already: no kept connection will do, nor can this one be kept
        peer.group_key = fastrand::u64(1..);
        peer.options.idle_timeout = Some(AT_ONCE);
    }
    ctx.forward.limits = Limits {
        // with another deadline for the first byte, silence counts from there
        silence: match timeouts.first_byte {
            None if ctx.forward.upgrade => Some((Who::Server, timeouts.response)),
            None | Some(_) => None,
        },
        client_rate: 0,
        gaps: Some(timeouts.response).filter(|gap| *gap < silence),
        first_byte: timeouts.first_byte,
        head_by,
        end_by,
    };
    // what was read of it already is seen again
    ctx.body_bytes = 0;
    let forward = &mut ctx.forward;
    if forward.attempts == 0 {
        group.budget().request(now);
    }
    forward.attempts += 1;
    forward.tried.push(endpoint);
    // counted since before the connect, so that a slow dial weighs too
    forward.endpoint = Some(try_on);
    forward.try_started = Some(now);
    forward.answered = None;
    forward.connect = None;
    forward.late = None;
    Ok(Box::new(peer))
}

/// Opens the connection to the server in a way of our own, where its two deadlines have to be told apart or the server
/// is told of the client. Such a connection is for the requests of one connection of a client only.
fn dial_ourselves(
    session: &Session,
    ctx: &mut Ctx,
    group: &Group,
    (server, peer): (SocketAddr, &mut HttpPeer),
    (connect, handshake): (Duration, Duration),
) {
    let transport = group.transport();
    let connection = ctx.request.as_ref().map(|request| &request.info.connection);
    let announcement =
        connection.and_then(|from| dial::announcement(transport, from, session.req_header().version));
    ctx.forward.dialled = None;
    if let Some(announcement) = &announcement {
        peer.group_key = dial::key_with(peer.group_key, announcement);
        // others have no use for it, and it takes a place in the pool
        peer.options.idle_timeout = peer.options.idle_timeout.map(|idle| idle.min(PRIVATE_IDLE));
    }
    if transport.is_tls() || announcement.is_some() {
        let (tcp, progress) = dial::tcp(transport, server, announcement.clone(), (connect, handshake));
        peer.options.custom_l4 = Some(tcp);
        if transport.is_tls() {
            ctx.forward.dialled = Some(progress);
            peer.options.connection_timeout = Some(handshake);
        }
    }
    ctx.forward.announcement = announcement;
}

/// How long a step may take, and what it means when it takes longer.
pub(super) fn first_of(
    now: Instant,
    step: (Duration, Phase),
    head_by: Option<(Instant, Duration)>,
    end_by: Option<(Instant, Duration)>,
) -> (Duration, Phase) {
    let until = |by: Option<(Instant, Duration)>| by.map(|(at, _)| at.saturating_duration_since(now));
    let mut first = step;
    for (until, phase) in [(until(head_by), Phase::Try), (until(end_by), Phase::Request)] {
        if let Some(until) = until.filter(|until| *until < first.0) {
            first = (until.max(AT_ONCE), phase);
        }
    }
    first
}

/// The connection of this try stands.
pub fn connected(
    session: &mut Session,
    ctx: &mut Ctx,
    peer: &HttpPeer,
    (reused, fd): (bool, RawFd),
) -> Result<()> {
    let forward = &mut ctx.forward;
    let hedged = forward.retry.and_then(|retry| retry.hedge).is_some()
        && forward.group.as_ref().is_some_and(|group| group.transport().is_plain_h1());
    forward.connection = match &peer.options {
        options if hedged && forward.attempts == 1 => Some(Dialled {
            fd,
            connect_timeout: options.connection_timeout.unwrap_or_default(),
            response_timeout: options.read_timeout.unwrap_or_default(),
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
    if limits.silence.is_none()
        && !shared
        && session.req_header().version == Version::HTTP_2
        && !session.is_body_done()
        && let Some(request) = &ctx.request
    {
        let of_client = &request.info.connection.listener.limits;
        limits.silence = Some((Who::Client, of_client.body_timeout.0));
        // the messages of a gRPC stream come when there is something to say
        limits.client_rate = if is_grpc(session.req_header()) { 0 } else { of_client.min_body_rate.0 };
    }
    // of a second try that was handed over Pingora does not know the socket
    let fd = forward.socket.as_ref().and_then(Socket::fd).unwrap_or(fd);
    let watchdog = (!limits.is_none() && !shared).then(|| Watchdog::set(limits, fd)).transpose();
    forward.watchdog = watchdog.or_err(ErrorType::InternalError, "no watchdog")?;
    Ok(())
}

/// The head of the server's answer is here.
///
/// # Errors
/// It is to be the last, of a protocol that nobody has asked for.
pub fn answered(ctx: &mut Ctx, head: &ResponseHeader) -> Result<()> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS && !ctx.forward.upgrade {
        let why = "the server switches protocols, which nobody has asked for";
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    }
    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        let (forward, now) = (&mut ctx.forward, Instant::now());
        if let Some(watchdog) = &forward.watchdog {
            watchdog.head_is_here(head.status == StatusCode::SWITCHING_PROTOCOLS);
        }
        forward.first_byte = forward.try_started.map(|t| now - t);
        if let (Some(began), Some(group)) = (forward.timed.take(), &forward.group) {
            // of both tries, when there were two: that of the first would have been longer
            group.times().record(now - began);
        }
        // who says at once that it cannot answer is not quick
        let status = head.status.as_u16();
        let unable =
            matches!(status, 502..=504) || forward.retry.is_some_and(|r| r.on_status.contains(status));
        let took = judge(forward, now, if unable { latency::failed } else { latency::answered });
        verdict::answered(forward, head.status, took, now);
    }
    Ok(())
}

/// A piece of the answer's body has come, the last one or not.
///
/// # Errors
/// It ended because we ended it. A body that ends with its connection would seem complete.
pub fn answering(ctx: &mut Ctx, end: bool) -> Result<()> {
    if let Some(watchdog) = &ctx.forward.watchdog {
        watchdog.heard(Who::Server);
        if let Some(bark) = watchdog.bark().filter(|_| end) {
            return Err(bark.error());
        }
    }
    verdict::answering(&mut ctx.forward);
    Ok(())
}

fn is_grpc(head: &RequestHeader) -> bool {
    head.headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A piece of the request's body of so many bytes has come, the last one or not.
pub fn body_passed(ctx: &mut Ctx, bytes: usize, end: bool) {
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

/// The head that the server will see: path as `path::forwarded` says, `Host`, who asks, the filters.
pub fn request_head(session: &mut Session, ctx: &mut Ctx, head: &mut RequestHeader) -> Result<()> {
    let Some(Matched { info, headers, .. }) = &ctx.request else {
        return Ok(());
    };
    set_path(head, info.normalised_path.as_deref())?;
    // the edge has told the client to go on, or will
    head.remove_header(&header::EXPECT);
    sticky::keep_to_ourselves(&ctx.forward, head);
    if session.req_header().version == Version::HTTP_2 {
        cookie::join(head);
    }
    let host = head.headers.get(header::HOST).cloned();
    set_host(head, &ctx.forward)?;
    let facts = forwarded::Facts {
        peer: info.connection.forwarded(),
        trusted: headers.trusted,
        https: info.https,
        host: host.as_ref(),
        request_id: &info.request_id,
    };
    forwarded::apply(head, &facts, &headers.config)?;
    if ctx.forward.attempts > 1 {
        head.insert_header("X-Weirgate-Attempts", ctx.forward.attempts)?;
    }
    if let Some((chain, mut exchange)) = ctx.exchange(session)
        && chain.has(Phases::UPSTREAM_REQUEST)
    {
        chain.upstream_request(&mut exchange, head);
    }
    hedge(session, ctx, head);
    if let Some(watchdog) = &ctx.forward.watchdog
        && head.version == Version::HTTP_2
        && session.as_mut().is_body_empty()
    {
        // there is no body of which the end would be told
        watchdog.request_sent();
    }
    h2_where_wanted(ctx, head)
}

/// Pingora falls back to HTTP/1.1 where TLS was agreed on without a word about protocols.
fn h2_where_wanted(ctx: &Ctx, head: &RequestHeader) -> Result<()> {
    let wanted = ctx.forward.group.as_ref().is_some_and(|group| group.transport().must_be_h2());
    if wanted && !ctx.forward.upgrade && head.version != Version::HTTP_2 {
        return Err(Error::explain(NO_H2, "TLS: the server does not speak HTTP/2").into_up());
    }
    Ok(())
}

/// Prepares a second try beside the first, if the configuration wants one and this request can be
/// sent twice.
fn hedge(session: &Session, ctx: &mut Ctx, head: &RequestHeader) {
    let forward = &mut ctx.forward;
    let (Some(dialled), Some(after)) = (forward.connection.take(), forward.retry.and_then(|r| r.hedge))
    else {
        return;
    };
    let bound = forward.sticky.as_ref().is_some_and(sticky::Brought::is_bound);
    let Some(group) = forward.group.clone().filter(|_| !bound && hedge::is_for(head)) else {
        return;
    };
    forward.timed = forward.try_started;
    let after = match after {
        HedgeAfter::Time(after) => Some(after.0),
        HedgeAfter::Percentile(percent) => group.times().within(percent),
    };
    let Some(after) = after.filter(|after| retry::may_begin_in(ctx, *after)) else { return };
    let info = ctx.request.as_ref().map(|request| &request.info);
    let key = info.and_then(|info| key::first(group.plan().balance.keys(), session.req_header(), info));
    let order = hedge::Order {
        tried: ctx.forward.tried.clone(),
        key: key.as_deref().map(Box::from),
        head: head.clone(),
        announcement: ctx.forward.announcement.clone(),
        after,
        connect_timeout: dialled.connect_timeout,
        response_timeout: dialled.response_timeout,
        group,
    };
    // without a file descriptor to spare there is none
    ctx.forward.hedge = Hedge::set(order, dialled.fd).ok();
}

/// The second try is of no more use.
pub(super) fn forget_hedge(ctx: &mut Ctx) {
    if let Some(hedge) = ctx.forward.hedge.take() {
        ctx.forward.hedged += u16::from(hedge.has_begun());
    }
}

fn set_path(head: &mut RequestHeader, normalised: Option<&str>) -> Result<()> {
    let absolute = !head.raw_path().starts_with(b"/") && head.raw_path() != b"*";
    let target = match (normalised, absolute) {
        (None, false) => return Ok(()),
        (normalised, _) => {
            let original = head.uri.path();
            let path = match normalised.map(|normal| path::forwarded(original.as_bytes(), normal)) {
                Some(path::Forward::Rewritten(path)) => Cow::Owned(path),
                Some(path::Forward::Original) if !absolute => return Ok(()),
                Some(path::Forward::Original) | None => Cow::Borrowed(original),
            };
            match head.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.into_owned(),
            }
        }
    };
    head.set_raw_path(target.as_bytes())
}

fn set_host(head: &mut RequestHeader, forward: &Forward) -> Result<()> {
    let Some(group) = &forward.group else {
        return Ok(());
    };
    match &group.plan().host {
        UpstreamHost::Preserve
            if head.headers.contains_key(header::HOST) || head.uri.authority().is_some() =>
        {
            Ok(())
        }
        // HTTP/1.0 may have none, HTTP/1.1 has one (RFC 9112 §3.2)
        UpstreamHost::Preserve | UpstreamHost::Server => match &forward.endpoint {
            Some(try_on) => head.insert_header(header::HOST, try_on.endpoint().name()),
            None => Ok(()),
        },
        UpstreamHost::Name(name) => head.insert_header(header::HOST, name.0.as_str()),
    }
}
