//! The way out: answers of the gate's own, and what is done to every response head and body.

use super::call;
use super::connection::Connection;
use super::ctx::{Ctx, Matched};
use super::error_page;
use super::head::{self, REQUEST_ID};
use super::refusal::{Phase, Reject};
use super::reply::{self, Kind};
use super::websocket;
use crate::config::plan::{self, Action, Route};
use crate::filter::{Answer, Phases, RequestInfo};
use crate::template::Placeholder;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, Session};

pub(super) const CONTENT_TYPE: Bytes = Bytes::from_static(b"Content-Type");

/// A response made here.
pub struct Reply {
    pub status: StatusCode,
    /// Names as they are written on HTTP/1.
    pub headers: Vec<(Bytes, HeaderValue)>,
    pub body: Bytes,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let named = |(name, value): (HeaderName, HeaderValue)| {
            (Bytes::copy_from_slice(name.as_str().as_bytes()), value)
        };
        let headers = answer.headers.into_iter().map(named).collect();
        Reply { status: answer.status, headers, body: answer.body }
    }
}

/// Sends a response made here, past the response side of the filters.
pub async fn send(session: &mut Session, ctx: &mut Ctx, reply: Reply) -> Result<()> {
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 4))?;
    for (name, value) in reply.headers {
        head.append_header(name, value)?;
    }
    let bodyless = reply.status == StatusCode::NO_CONTENT || reply.status == StatusCode::NOT_MODIFIED;
    if !bodyless {
        head.insert_header(header::CONTENT_LENGTH, reply.body.len())?;
    }
    response_head(session, ctx, &mut head);
    let without_body = bodyless || reply.body.is_empty() || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), without_body).await?;
    if !without_body {
        session.write_response_body(Some(reply.body), true).await?;
    } else if websocket::spoken(session.req_header()) == Version::HTTP_2 {
        // Pingora does not end the stream with the head, nor itself when a request has failed
        session.write_response_body(None, true).await?;
    }
    Ok(())
}

/// Sends the short reply for a refused request; to a call, its status.
pub async fn refuse(session: &mut Session, ctx: &mut Ctx, reject: Reject) -> Result<()> {
    ctx.reject = Some(reject);
    if reject.closes() {
        last(session);
    }
    if ctx.call().is_some() {
        return call::refuse(session, ctx, reject).await;
    }
    let mut reply = error_page::reply(session.req_header(), ctx, reject.status())
        .unwrap_or_else(|| short(session.req_header(), ctx, reject));
    reply.headers.push((Bytes::from_static(b"Cache-Control"), HeaderValue::from_static("no-store")));
    if let Some(seconds) = retry_after(ctx, reject) {
        reply.headers.push((Bytes::from_static(b"Retry-After"), HeaderValue::from(seconds)));
    }
    send(session, ctx, reply).await
}

/// No request follows this one, on a connection that has one at a time.
fn last(session: &Session) {
    let alone = websocket::spoken(session.req_header()) != Version::HTTP_2;
    if let Some(connection) = Connection::of(session.digest()).filter(|_| alone) {
        connection.ends_now();
    }
}

/// The reply when nothing else is configured.
fn short(head: &RequestHeader, ctx: &Ctx, reject: Reject) -> Reply {
    let kind = Kind::preferred(&head.headers);
    let id = ctx.request.as_ref().map_or("-", |r| r.info.request_id.as_str());
    let body = reply::body(reject, kind, id).into();
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(kind.content_type()))];
    Reply { status: reject.status(), headers, body }
}

/// In how many seconds it may be otherwise: a server of the group may be up again after its next
/// health check, and who waits now has had its turn after the longest wait. A
/// breaker says when it lets requests through.
fn retry_after(ctx: &Ctx, reject: Reject) -> Option<u64> {
    if let Reject::CircuitOpen { left } = reject {
        return Some(left.as_secs_f64().ceil().max(1.0) as u64);
    }
    let plan = ctx.forward.group.as_ref().map(|group| group.plan());
    let time = if reject == Reject::Unavailable {
        plan.and_then(|plan| plan.health_check.as_ref()).map(|check| check.unhealthy_interval)
    } else if matches!(reject, Reject::QueueFull | Reject::QueuedTooLong) {
        plan.and_then(|plan| plan.limits).map(|limits| limits.queue_timeout)
    } else {
        return None;
    };
    Some(time.map_or(1, |time| time.as_secs().max(1)))
}

/// What every response head passes, a server's or our own: the request id, then the filters.
pub fn response_head(session: &mut Session, ctx: &mut Ctx, head: &mut ResponseHeader) {
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let client = session.req_header().version;
    if client == Version::HTTP_10 {
        // HTTP/1.0 has no chunks: the body ends with the connection (RFC 9112 §6.1)
        head.remove_header(&header::TRANSFER_ENCODING);
    }
    if client != Version::HTTP_2 {
        // the version is that of our connection, whatever the server's is (RFC 9110 §6.2)
        head.set_version(Version::HTTP_11);
    }
    let told = ctx.request.as_ref().filter(|request| request.headers.config.request_id);
    if told.is_some() || client == Version::HTTP_2 {
        // only a head with 32,768 headers refuses it
        head::write_response(head, client, |headers| {
            let Some(Matched { info, .. }) = told else { return Ok(()) };
            let mut id = info.request_id.header();
            // never seen twice: in the table of HPACK it would only push out what is (RFC 7541 §6.2.3)
            id.set_sensitive(client == Version::HTTP_2);
            headers.set(&REQUEST_ID, id)
        })
        .ok();
    }
    if let Some((chain, mut exchange)) = ctx.exchange(session)
        && chain.has(Phases::RESPONSE)
    {
        chain.response(&mut exchange, head);
    }
}

/// A piece of a server's body passes the filters.
pub fn response_body(session: &mut Session, ctx: &mut Ctx, body: &mut Option<Bytes>, end: bool) {
    if let Some((chain, mut exchange)) = ctx.exchange(session)
        && chain.has(Phases::RESPONSE_BODY)
    {
        chain.response_body(&mut exchange, body, end);
    }
}

/// The answer of a `redirect` or `respond` route.
pub fn of_route(session: &Session, ctx: &Ctx, route: &Route) -> Result<Option<Reply>, Reject> {
    let info = ctx.request.as_ref().map(|r| &r.info).ok_or(Reject::Internal)?;
    of_action(session.req_header(), info, &route.action)
}

/// What is answered here; `None` when a server is asked.
pub fn of_action(head: &RequestHeader, info: &RequestInfo, action: &Action) -> Result<Option<Reply>, Reject> {
    match action {
        Action::Redirect { to, status } => {
            let to = to.render(|placeholder, out| info.fill(head, placeholder, out));
            redirect(*status, &to).map(Some)
        }
        Action::Respond(respond) => Ok(Some(respond_with(head, info, respond))),
        Action::Upstream(_) | Action::Split(_) => Ok(None),
    }
}

fn respond_with(head: &RequestHeader, info: &RequestInfo, respond: &plan::Respond) -> Reply {
    let render =
        |t: &crate::template::Template| t.render(|placeholder, out| info.fill(head, placeholder, out));
    let body = render(&respond.body);
    let mut headers: Vec<_> = respond
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_str(&render(value)).ok()?)))
        .collect();
    if !body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(&CONTENT_TYPE)) {
        headers.push((CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
    }
    let status = StatusCode::from_u16(respond.status).unwrap_or(StatusCode::OK);
    Reply { status, headers, body: body.into() }
}

/// The same resource over https. The port is left out when it is the default.
pub fn to_https(
    head: &RequestHeader,
    info: &RequestInfo,
    redirect_to: &plan::RedirectHttps,
) -> Result<Reply, Reject> {
    if info.host.is_empty() {
        return Err(Reject::BadRequest("no host to redirect to"));
    }
    let mut to = format!("https://{}", info.host);
    if redirect_to.port != 443 {
        to.push_str(&format!(":{}", redirect_to.port));
    }
    info.fill(head, Placeholder::Uri, &mut to);
    redirect(redirect_to.status, &to)
}

fn redirect(status: u16, to: &str) -> Result<Reply, Reject> {
    let location = HeaderValue::from_str(to).map_err(|_| Reject::BadRequest("bad redirect target"))?;
    Ok(Reply {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::PERMANENT_REDIRECT),
        headers: vec![(Bytes::from_static(b"Location"), location)],
        body: Bytes::new(),
    })
}

/// Whether the client has seen the beginning of its answer, after which nothing else can be said.
pub fn begun(session: &Session) -> bool {
    let last = session.response_written().map(|head| head.status);
    last.is_some_and(|status| !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS)
}

/// No more tries: the client is told, unless it is gone or an answer has already begun.
pub async fn failed(session: &mut Session, ctx: &mut Ctx, error: &Error) -> FailToProxy {
    let closed = FailToProxy { error_code: 0, can_reuse_downstream: false };
    if call::had_ended(ctx, error) {
        return closed;
    }
    let Some(reject) = ctx.reject.or_else(|| reject_for(error, ctx.forward.late)) else {
        ctx.error = Some("client closed");
        return closed;
    };
    if begun(session) {
        // whatever the client did wrong then, it wanted no more
        let gone = *error.esource() == ErrorSource::Downstream && reject != Reject::RequestTimeout;
        if !gone {
            call::break_off(session, ctx, reject).await;
        }
        ctx.error = Some(if gone { "client closed" } else { reject.reason() });
        return closed;
    }
    // the request body may be half read: the connection is not used again
    last(session);
    if refuse(session, ctx, reject).await.is_err() {
        ctx.error = Some("client closed");
    }
    FailToProxy { error_code: reject.status().as_u16(), can_reuse_downstream: false }
}

/// The edge checks bodies as they pass, and how fast; the client is there and waits for the answer.
fn refused_by_edge(error: &Error) -> Option<Reject> {
    match error.root_cause().downcast_ref::<std::io::Error>()?.kind() {
        std::io::ErrorKind::InvalidData => Some(Reject::BadRequest("malformed chunked body")),
        std::io::ErrorKind::TimedOut => Some(Reject::RequestTimeout),
        _ => None,
    }
}

/// Which reply an error of Pingora's means; `None` when there is nobody to reply to.
fn reject_for(error: &Error, late: Option<Phase>) -> Option<Reject> {
    use ErrorType::{ConnectTimedout, HTTPStatus, ReadTimedout, TLSHandshakeTimedout, WriteTimedout};
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, ConnectTimedout | TLSHandshakeTimedout) => {
            Some(Reject::GatewayTimeout(late.unwrap_or(Phase::Connect)))
        }
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => {
            Some(Reject::GatewayTimeout(late.unwrap_or(Phase::Silence)))
        }
        (ErrorSource::Upstream, _) => Some(Reject::BadGateway),
        (ErrorSource::Downstream, ReadTimedout) => Some(Reject::RequestTimeout),
        (ErrorSource::Downstream, ErrorType::ReadError) => refused_by_edge(error),
        (ErrorSource::Downstream, ErrorType::ConnectionClosed | ErrorType::WriteError | WriteTimedout) => {
            None
        }
        (ErrorSource::Downstream, HTTPStatus(413)) => Some(Reject::BodyTooLarge),
        (ErrorSource::Downstream, _) => Some(Reject::BadRequest("malformed request body")),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Reject::Internal),
    }
}
