//! The way to a server: which one, with which timeouts and head.

use super::ctx::{Ctx, Dialled, Forward, Matched};
use super::hedge::{self, Hedge};
use super::queue::{self, Stop};
use super::refusal::Reject;
use super::watchdog::{Watchdog, Who};
use super::{cookie, forwarded, key, path, sticky, verdict};
use crate::config::file::{Balance, HedgeAfter, UpstreamHost};
use crate::filter::Phases;
use crate::upstream::{Endpoint, Group, InFlight, latency};
use http::{StatusCode, Version, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::borrow::Cow;
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
/// 502 when every server that is up has been tried.
pub fn next_peer(session: &Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let route_timeouts = ctx.route().map(|r| r.timeouts).unwrap_or_default();
    let Some(group) = ctx.forward.group.clone() else {
        return Err(Error::explain(ErrorType::InternalError, "no group was chosen"));
    };
    let chosen = ctx.forward.chosen.take().or_else(|| choose(&group, session, ctx));
    let Some(try_on) = chosen else {
        return Err(give_up(ctx, Reject::BadGateway));
    };
    let endpoint = try_on.endpoint();
    let timeouts = &group.plan().timeouts;
    let mut peer = HttpPeer::new(endpoint.address(), false, String::new());
    peer.options.connection_timeout = Some(route_timeouts.connect.unwrap_or(timeouts.connect));
    let response = route_timeouts.response.unwrap_or(timeouts.response);
    ctx.forward.upgrade = session.is_upgrade_req();
    let silence = match ctx.forward.upgrade {
        // holds for what comes after the switch; a watchdog sees to what comes before
        true => route_timeouts.tunnel.unwrap_or(timeouts.tunnel).max(response),
        false => response,
    };
    peer.options.read_timeout = Some(silence);
    peer.options.write_timeout = Some(response);
    peer.options.idle_timeout = Some(timeouts.idle);
    if let Some(second) = ctx.forward.handover.take() {
        peer.options.custom_l4 = Some(Arc::new(second));
        // it has been asked already: no kept connection will do, nor can this one be kept
        peer.group_key = fastrand::u64(1..);
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    // what was read of it already is seen again
    ctx.body_bytes = 0;
    let now = Instant::now();
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
    Ok(Box::new(peer))
}

/// The connection of this try stands.
pub fn connected(
    session: &mut Session,
    ctx: &mut Ctx,
    peer: &HttpPeer,
    (reused, fd): (bool, RawFd),
) -> Result<()> {
    let forward = &mut ctx.forward;
    forward.connection = match (forward.retry.and_then(|retry| retry.hedge), &peer.options) {
        (Some(_), options) if forward.attempts == 1 => Some(Dialled {
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
    let watched = if forward.upgrade {
        peer.options.write_timeout.map(|response| (Who::Server, response))
    } else if session.req_header().version == Version::HTTP_2 && !session.is_body_done() {
        let request = ctx.request.as_ref();
        request.map(|r| (Who::Client, r.info.connection.listener.limits.body_timeout.0))
    } else {
        None
    };
    let watchdog = watched.map(|(who, longest)| Watchdog::set(who, longest, fd)).transpose();
    forward.watchdog = watchdog.or_err(ErrorType::InternalError, "no watchdog")?;
    Ok(())
}

/// The head of the server's answer is here.
pub fn answered(ctx: &mut Ctx, head: &ResponseHeader) {
    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        let (forward, now) = (&mut ctx.forward, Instant::now());
        // from here on the two may be silent as long as Pingora's deadlines allow
        forward.watchdog = forward.watchdog.take().filter(|dog| match dog.who() {
            Who::Server => head.status != StatusCode::SWITCHING_PROTOCOLS,
            Who::Client => false,
        });
        heard(forward, Who::Server);
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
}

/// A piece of the answer's body has come.
pub fn answering(ctx: &mut Ctx) {
    heard(&ctx.forward, Who::Server);
    verdict::answering(&mut ctx.forward);
}

/// A piece of the request's body has come, the last one or not.
pub fn body_passed(ctx: &mut Ctx, end: bool) {
    heard(&ctx.forward, Who::Client);
    if end {
        ctx.forward.watchdog = ctx.forward.watchdog.take().filter(|dog| dog.who() != Who::Client);
        if ctx.body_bytes > 0 {
            ctx.forward.body_ended = Some(Instant::now());
        }
    }
}

/// A sign of life, if it is waited for.
fn heard(forward: &Forward, from: Who) {
    if let Some(watchdog) = forward.watchdog.as_ref().filter(|dog| dog.who() == from) {
        watchdog.heard();
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
    Ok(())
}

/// Prepares a second try beside the first, if the configuration wants one and this request can be
/// sent twice.
fn hedge(session: &Session, ctx: &mut Ctx, head: &RequestHeader) {
    let Ctx { forward, request, .. } = ctx;
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
    let Some(after) = after else { return };
    let info = request.as_ref().map(|request| &request.info);
    let key = info.and_then(|info| key::first(group.plan().balance.keys(), session.req_header(), info));
    let order = hedge::Order {
        tried: forward.tried.clone(),
        key: key.as_deref().map(Box::from),
        head: head.clone(),
        after,
        connect_timeout: dialled.connect_timeout,
        response_timeout: dialled.response_timeout,
        group,
    };
    // without a file descriptor to spare there is none
    forward.hedge = Hedge::set(order, dialled.fd).ok();
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
        UpstreamHost::Preserve => Ok(()),
        UpstreamHost::Server => match &forward.endpoint {
            Some(try_on) => head.insert_header(header::HOST, try_on.endpoint().name()),
            None => Ok(()),
        },
        UpstreamHost::Name(name) => head.insert_header(header::HOST, name.0.as_str()),
    }
}
