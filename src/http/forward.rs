//! The way to a server: which one, with which timeouts and head.

use super::ctx::{Ctx, Forward, Matched};
use super::refusal::Reject;
use super::{cookie, forwarded, key, path, sticky};
use crate::config::file::{Balance, UpstreamHost};
use crate::filter::Phases;
use crate::upstream::{Endpoint, latency};
use http::{StatusCode, Version, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// The server for the next try.
///
/// # Errors
/// 503 when no server of the group is up; 502 when every one that is up has been tried.
pub fn next_peer(session: &Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let route_timeouts = ctx.route().map(|r| r.timeouts).unwrap_or_default();
    let forward = &mut ctx.forward;
    let Some(group) = forward.group.clone() else {
        return Err(Error::explain(ErrorType::InternalError, "no group was chosen"));
    };
    let head = session.req_header();
    let info = ctx.request.as_ref().map(|request| &request.info);
    let key = info.and_then(|info| key::first(group.plan().balance.keys(), head, info));
    let mut chosen = sticky::server(&group, head, forward);
    if chosen.is_none() {
        chosen = group.select(&forward.tried, key.as_deref());
    }
    if chosen.is_none() && std::mem::take(&mut forward.stale) {
        // nobody else is left, and the last server only closed an idle connection: ask it again
        forward.tried = Default::default();
        chosen = group.select(&forward.tried, key.as_deref());
    }
    let Some(endpoint) = chosen else {
        let reject = if forward.attempts == 0 { Reject::Unavailable } else { Reject::BadGateway };
        ctx.reject.get_or_insert(reject);
        let why = Error::explain(ErrorType::HTTPStatus(reject.status().as_u16()), reject.reason());
        return Err(why.into_up());
    };
    let timeouts = &group.plan().timeouts;
    let mut peer = HttpPeer::new(endpoint.address(), false, String::new());
    peer.options.connection_timeout = Some(route_timeouts.connect.unwrap_or(timeouts.connect));
    peer.options.read_timeout = Some(route_timeouts.response.unwrap_or(timeouts.response));
    peer.options.write_timeout = peer.options.read_timeout;
    peer.options.idle_timeout = Some(timeouts.idle);
    // what was read of it already is seen again
    ctx.body_bytes = 0;
    let now = Instant::now();
    if forward.attempts == 0 {
        group.budget().request(now);
    }
    forward.attempts += 1;
    forward.tried.push(&endpoint);
    // counted before connect, so that a slow dial weighs too
    forward.endpoint = Some(endpoint.begin());
    forward.try_started = Some(now);
    forward.connect = None;
    Ok(Box::new(peer))
}

/// The connection of this try stands.
pub fn connected(ctx: &mut Ctx) {
    ctx.forward.connect = ctx.forward.try_started.map(|t| t.elapsed());
}

/// The head of the server's answer is here.
pub fn answered(ctx: &mut Ctx, head: &ResponseHeader) {
    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        let forward = &mut ctx.forward;
        forward.first_byte = forward.try_started.map(|t| t.elapsed());
        // who says at once that it cannot answer is not quick
        let unable = matches!(head.status.as_u16(), 502..=504);
        judge(forward, if unable { latency::failed } else { latency::answered });
    }
}

/// The whole body of the request has come in.
pub fn body_ended(ctx: &mut Ctx) {
    if ctx.body_bytes > 0 {
        ctx.forward.body_ended = Some(Instant::now());
    }
}

/// Tells how long the server of this try took. It is not to blame for the time that the client
/// took to send its body.
pub(super) fn judge(forward: &Forward, tell: fn(&Balance, &Endpoint, Duration)) {
    if let (Some(group), Some(try_on), Some(started)) =
        (&forward.group, &forward.endpoint, forward.try_started)
    {
        let since = forward.body_ended.map_or(started, |ended| ended.max(started));
        tell(&group.plan().balance, try_on.endpoint(), since.elapsed());
    }
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
    Ok(())
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
