//! The way in: who asks, for what, which route answers, what its filters say, and how much body
//! it may have. Called by `proxy` when a head has been read.

use super::answer::{self, Reply};
use super::authority::valid_authority;
use super::call::Call;
use super::connection::Connection;
use super::ctx::{Ctx, Matched, ProxyHeaders};
use super::queue::Stop;
use super::refusal::Reject;
use super::request_id::RequestId;
use super::route::RouteQuery;
use super::site::Site;
use super::{forward, forwarded, path, split, tidy, trace, websocket};
use crate::acme::Challenges;
use crate::clock;
use crate::config::file::ListenerLimits;
use crate::config::plan::{Action, Listener, RedirectHttps, Route};
use crate::filter::{Flow, RequestInfo};
use crate::observe::metrics::AtRoute;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;
use std::sync::Arc;

/// `Ok(None)`: pass it on to the group that is now in `ctx`. `Ok(Some(..))`: answer that.
pub async fn admit(
    (site, challenges): (&Site, &Challenges),
    session: &mut Session,
    ctx: &mut Ctx,
) -> Result<Option<Reply>, Stop> {
    let connection = Connection::of(session.digest()).cloned().ok_or(Reject::Internal)?;
    let tidied = tidy::request(session.req_header_mut(), connection.listener.underscores);
    let refused = identify(site, session.req_header(), ctx, connection);
    trace::begin(site, session.req_header(), ctx);
    if let Some(reject) = tidied.err().or(refused) {
        return Err(reject.into());
    }
    if let Some(reply) = challenge(challenges, session.req_header(), ctx) {
        return Ok(Some(reply));
    }
    check_length(session.req_header(), ctx)?;
    if let Some(reply) = run_filters(session, ctx).await? {
        return Ok(Some(reply));
    }
    match act(site, session, ctx)? {
        Some(reply) => Ok(Some(reply)),
        None => forward::choose_first(session, ctx).await.map(|()| None),
    }
}

/// What an authority asks for, to see that a name is ours (RFC 8555 §8.3): no filter and no redirect is in its way.
fn challenge(challenges: &Challenges, head: &RequestHeader, ctx: &mut Ctx) -> Option<Reply> {
    let text = challenges.text(head.uri.path()).filter(|_| head.method == Method::GET)?;
    let request = ctx.request.as_mut()?;
    (request.chain, request.info.route, request.at) = (Arc::default(), None, None);
    let kind = HeaderValue::from_static("application/octet-stream");
    Some(Reply { status: StatusCode::OK, headers: vec![(answer::CONTENT_TYPE, kind)], body: text.into() })
}

/// Fills in [`Matched`]: what the request is and which route it takes. What is to be refused is
/// filled in as far as it goes, so that it is logged in full.
fn identify(site: &Site, head: &RequestHeader, ctx: &mut Ctx, connection: Arc<Connection>) -> Option<Reject> {
    let listener = &connection.listener;
    let peer = connection.peer.ip().to_canonical();
    let who = forwarded::resolve(peer, &head.headers, &site.trusted_proxies, connection.is_https());
    let host = requested_host(head);
    let normal = path::normalise(head.uri.path().as_bytes());
    let refused = refused(head, &listener.limits, &host, &normal).or_else(|| misdirected(&connection, &host));
    let found = match (refused, &host, &normal) {
        (None, Ok(host), Ok(path)) => site.router.position(&RouteQuery {
            listener: listener.id,
            host,
            path,
            method: &head.method,
            headers: &head.headers,
            query: head.uri.query(),
            client: who.addr,
            certificate: connection.certificate(),
        }),
        _ => None,
    };
    let route = found.and_then(|index| site.router.route(index)).cloned();
    let max_body = route.as_deref().and_then(|r| r.max_body_bytes);
    let chain = site.chain(listener.id, found);
    // never without the filters that it is to pass
    let refused = refused.or(chain.is_none().then_some(Reject::Internal));
    let started = clock::now();
    ctx.request = Some(Matched {
        chain: chain.unwrap_or_default(),
        headers: ProxyHeaders { config: site.proxy_headers, trusted: who.trusted },
        max_body_bytes: max_body.or(listener.limits.max_body_bytes.map(|size| size.0)),
        at: found.and_then(|index| site.counted(index)).cloned().map(AtRoute::begin),
        error_pages: site.error_pages.clone(),
        call: Call::of(head, started),
        info: RequestInfo {
            client: if who.addr == peer { connection.peer } else { (who.addr, 0).into() },
            https: who.https,
            host: host.map(Cow::into_owned).unwrap_or_default(),
            normalised_path: match normal {
                Ok(Cow::Owned(path)) => Some(path),
                Ok(Cow::Borrowed(_)) | Err(_) => None,
            },
            request_id: RequestId::of(&head.headers, who.trusted),
            route,
            started,
            connection,
        },
    });
    refused
}

/// Why a request is refused before it is held against routes, if it is.
pub(super) fn refused(
    head: &RequestHeader,
    limits: &ListenerLimits,
    host: &Result<Cow<'_, str>, &'static str>,
    normal: &Result<Cow<'_, str>, path::BadPath>,
) -> Option<Reject> {
    fits(head, limits).err().or(match (host, normal) {
        (Err(reason), _) => Some(Reject::BadRequest(reason)),
        (_, Err(bad)) => Some(Reject::BadRequest(bad.reason())),
        (Ok(_), Ok(_)) => None,
    })
}

/// RFC 9110 §15.5.20: the client is to ask again on a connection that it opens for this host.
fn misdirected(connection: &Connection, host: &Result<Cow<'_, str>, &'static str>) -> Option<Reject> {
    let host = host.as_deref().ok()?;
    connection.is_misdirected(host).then_some(Reject::Misdirected)
}

/// HTTP/2 heads were not judged by the edge, which sees them only decoded.
fn fits(head: &RequestHeader, limits: &ListenerLimits) -> Result<(), Reject> {
    if head.version != Version::HTTP_2 {
        return Ok(());
    }
    match head.method {
        Method::TRACE => Err(Reject::MethodNotAllowed),
        // what asks for a WebSocket has become something else
        Method::CONNECT => Err(websocket::refusal(head)),
        _ => sound(head, limits),
    }
}

/// What the edge sees to in heads of HTTP/1.
pub(super) fn sound(head: &RequestHeader, limits: &ListenerLimits) -> Result<(), Reject> {
    if head.raw_path() == b"*" && head.method != Method::OPTIONS {
        return Err(Reject::BadRequest("request target * is for OPTIONS"));
    }
    // without an authority the scheme is not told
    if head.uri.authority().is_some() && !matches!(head.uri.scheme_str(), Some("http" | "https")) {
        return Err(Reject::BadRequest("malformed :scheme"));
    }
    let host = || head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes()).or_else(host);
    if !authority.is_some_and(valid_authority) {
        return Err(Reject::BadRequest("malformed :authority"));
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded =
        |value: &HeaderValue| is_space(value.as_bytes().first()) || is_space(value.as_bytes().last());
    if head.headers.values().any(padded) {
        // RFC 9113 §8.2.1
        return Err(Reject::BadRequest("whitespace around a header value"));
    }
    if head.headers.len() > limits.max_headers {
        return Err(Reject::HeadersTooLarge);
    }
    if head.raw_path().len() > limits.max_uri_bytes.as_usize() {
        return Err(Reject::UriTooLong);
    }
    Ok(())
}

/// The host asked for, lower case, without port and trailing dot. Pingora has made sure that the
/// request target and the `Host` header do not disagree.
pub(super) fn requested_host(head: &RequestHeader) -> Result<Cow<'_, str>, &'static str> {
    let authority = match (head.uri.authority(), head.headers.get(header::HOST)) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| "host is not ASCII")?,
        (None, None) => "",
    };
    let name = match authority.as_bytes().first() {
        // [::1]:8080
        Some(b'[') => authority.rfind(']').and_then(|end| authority.get(..=end)),
        _ => authority.as_bytes().iter().position(|b| *b == b':').and_then(|end| authority.get(..end)),
    };
    let name = name.unwrap_or(authority);
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Ok(Cow::Owned(name.to_ascii_lowercase())),
        false => Ok(Cow::Borrowed(name)),
    }
}

/// A body that says its length is refused before any of it is read.
fn check_length(head: &RequestHeader, ctx: &Ctx) -> Result<(), Reject> {
    let Some(limit) = ctx.request.as_ref().and_then(|r| r.max_body_bytes) else {
        return Ok(());
    };
    match content_length(&head.headers) {
        Some(length) if length > limit => Err(Reject::BodyTooLarge),
        Some(_) | None => Ok(()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn run_filters(session: &mut Session, ctx: &mut Ctx) -> Result<Option<Reply>, Reject> {
    let Some((chain, mut exchange)) = ctx.exchange(session) else {
        return Err(Reject::Internal);
    };
    match chain.request(&mut exchange).await {
        Flow::Continue | Flow::Wait => Ok(None),
        Flow::Answer(answer) => Ok(Some(Reply::from(answer))),
        Flow::Refuse(status, reason) => Err(Reject::Filter(status, reason)),
    }
}

/// Does what the route says: answers, or finds the group that is to answer.
fn act(site: &Site, session: &mut Session, ctx: &mut Ctx) -> Result<Option<Reply>, Reject> {
    let Some(Matched { info, .. }) = ctx.request.as_ref() else {
        return Err(Reject::Internal);
    };
    let listener = &info.connection.listener;
    let route = info.route.clone();
    if let Some(redirect) = to_https(listener, route.as_deref()) {
        return answer::to_https(session.req_header(), info, redirect).map(Some);
    }
    let Some(route) = route else {
        return Err(Reject::NotFound);
    };
    let id = match &route.action {
        Action::Upstream(id) => *id,
        Action::Split(split) => split::choose(split, session.req_header(), info),
        Action::Redirect { .. } | Action::Respond(_) => return answer::of_route(session, ctx, &route),
    };
    forward_to(site, ctx, &route, id)?;
    Ok(None)
}

/// Whether the client is sent to https first.
pub(super) fn to_https<'a>(listener: &'a Listener, route: Option<&Route>) -> Option<&'a RedirectHttps> {
    // a route that names this listener is meant to be served here, unencrypted
    let exempt = route.is_some_and(|route| route.matcher.listeners.contains(&listener.id));
    listener.redirect_https.as_ref().filter(|_| !exempt)
}

fn forward_to(
    site: &Site,
    ctx: &mut Ctx,
    route: &Route,
    id: crate::config::plan::UpstreamId,
) -> Result<(), Reject> {
    let group = site.group(id).ok_or(Reject::Internal)?;
    ctx.forward.retry = Some(*route.retry.as_deref().unwrap_or(&group.plan().retry));
    ctx.forward.group = Some(group.clone());
    Ok(())
}

/// A piece of the request body: within the limit, then past the filters.
pub fn body(session: &mut Session, ctx: &mut Ctx, body: &mut Option<Bytes>, end: bool) -> Result<()> {
    let limit = ctx.request.as_ref().and_then(|r| r.max_body_bytes);
    ctx.body_bytes += body.as_ref().map_or(0, |b| b.len() as u64);
    // what comes after a switch of protocols is no body
    if limit.is_some_and(|limit| ctx.body_bytes > limit) && !session.was_upgraded() {
        return Err(reject(ctx, Reject::BodyTooLarge));
    }
    let Some((chain, mut exchange)) = ctx.exchange(session) else {
        return Ok(());
    };
    match chain.request_body(&mut exchange, body, end) {
        Ok(()) => Ok(()),
        Err((status, reason)) => Err(reject(ctx, Reject::Filter(status, reason))),
    }
}

/// The error that ends a request with this reply.
fn reject(ctx: &mut Ctx, reject: Reject) -> Box<Error> {
    ctx.reject = Some(reject);
    Error::explain(ErrorType::HTTPStatus(reject.status().as_u16()), reject.reason()).into_down()
}
