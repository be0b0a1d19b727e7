//! gRPC among the requests: what is known of a call, how long it may take, and how it is told that it has failed. A
//! call that the gate refuses or breaks off ends with a status of gRPC in place of one of HTTP, which its client would
//! have to guess at. Made by `intake`; asked by `forward`, `retry`, `answer` and `journal`.

use super::answer;
use super::ctx::Ctx;
use super::refusal::{Phase, Reject};
use super::watchdog::Bark;
use crate::grpc::status::{self, Status};
use crate::grpc::{self, GRPC_MESSAGE, GRPC_STATUS, GRPC_TIMEOUT, Kind, timeout};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::HttpTask;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// A request that is a call.
#[derive(Debug)]
pub struct Call {
    kind: Kind,
    /// When its client waits no longer, and how long that was when the call came.
    pub deadline: Option<(Instant, Duration)>,
    /// What it has ended with, if it has.
    pub status: Option<u16>,
}

impl Call {
    /// The call that this request is, which came at `now`. gRPC itself is spoken over HTTP/2 only.
    pub fn of(head: &RequestHeader, now: Instant) -> Option<Box<Call>> {
        if head.method != Method::POST {
            return None;
        }
        let kind = Kind::of(&head.headers)?;
        if kind == Kind::Grpc && head.version != Version::HTTP_2 {
            return None;
        }
        let time = head.headers.get(&GRPC_TIMEOUT).and_then(timeout::parse);
        let deadline = time.and_then(|time| Some((now.checked_add(time)?, time)));
        Some(Box::new(Call { kind, deadline, status: None }))
    }

    /// What is left of its time.
    fn left(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|(at, _)| at.saturating_duration_since(now))
    }
}

impl Ctx {
    pub fn call(&self) -> Option<&Call> {
        self.request.as_ref()?.call.as_deref()
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        self.request.as_mut()?.call.as_deref_mut()
    }

    /// How long the client of this call still waits, if it has said.
    pub fn patience(&self) -> Option<Duration> {
        self.call()?.left(Instant::now())
    }

    /// The client of this call waits no longer, and how long it has.
    pub fn out_of_patience(&self) -> Option<Duration> {
        let (at, allowed) = self.call()?.deadline?;
        (at <= Instant::now()).then_some(allowed)
    }

    /// The client of the call was told so.
    fn ended_with(&mut self, status: Status) {
        if let Some(call) = self.call_mut() {
            call.status = Some(status.number());
        }
    }

    /// What the call has ended with, if it has.
    pub fn call_status(&self) -> Option<u16> {
        self.call()?.status
    }
}

/// The call had its status before this happened: its client, who had more to say, has seen that nobody waits for it.
pub fn had_ended(ctx: &Ctx, error: &Error) -> bool {
    let unsent = matches!(error.etype(), ErrorType::WriteError | ErrorType::WriteTimedout);
    ctx.call_status().is_some() && *error.esource() == ErrorSource::Downstream && !unsent
}

/// A server that has not answered in time has run into the deadline of the call, if that has passed.
pub fn deadline_passed(ctx: &Ctx, error: &Error) -> Option<Bark> {
    let late = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    let allowed = ctx.out_of_patience().filter(|_| late)?;
    Some(Bark { phase: Some(Phase::Deadline), allowed })
}

/// Tells the server of a try how long its answer is waited for: what is left of the deadline of the call, or of
/// `timeouts.request` if that is less.
///
/// # Errors
/// The head has 32,768 headers.
pub fn tell_deadline(ctx: &Ctx, head: &mut RequestHeader) -> Result<()> {
    let limits = &ctx.forward.limits;
    let ends = [limits.deadline, limits.end_by].into_iter().flatten().map(|(at, _)| at).min();
    match ends.filter(|_| ctx.call().is_some()) {
        Some(at) => {
            let left = at.saturating_duration_since(Instant::now());
            head.insert_header(GRPC_TIMEOUT.clone(), timeout::format(left))
        }
        None => Ok(()),
    }
}

/// The head of a server's answer is here; the status that the server is judged by. A call may have ended with it.
pub fn answered(ctx: &mut Ctx, head: &ResponseHeader) -> StatusCode {
    match ctx.call_mut() {
        Some(call) => {
            call.status = status::of(&head.headers);
            judged(call.status).unwrap_or(head.status)
        }
        None => head.status,
    }
}

/// The trailers of an answer are here, on their way to the client: bytes of its body take their place, if there are
/// any.
pub fn trailers(session: &mut Session, ctx: &mut Ctx, trailers: &mut HeaderMap) -> Option<Bytes> {
    if let Some(call) = ctx.call_mut() {
        call.status = status::of(trailers);
        if let Some(judged) = judged(call.status) {
            ctx.forward.answered = Some(judged.as_u16());
        }
    }
    let (chain, mut exchange) = ctx.exchange(session)?;
    chain.response_trailers(&mut exchange, trailers)
}

fn judged(status: Option<u16>) -> Option<StatusCode> {
    StatusCode::from_u16(status::as_http(status?)).ok()
}

/// Answers a call that is refused: its status is in the head, which is all there is.
pub async fn refuse(session: &mut Session, ctx: &mut Ctx, reject: Reject) -> Result<()> {
    let Some(kind) = ctx.call().map(|call| call.kind) else { return Ok(()) };
    let mut head = ResponseHeader::build(StatusCode::OK, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, kind.content_type())?;
    let status = status_of(reject);
    for (name, value) in end_of(ctx, reject, status) {
        head.insert_header(name, value)?;
    }
    if session.req_header().version != Version::HTTP_2 {
        head.insert_header(header::CONTENT_LENGTH, 0)?;
    }
    answer::response_head(session, ctx, &mut head);
    // in one frame, as a client takes the status from a head only if the stream ends with it
    session.write_response_tasks(vec![HttpTask::Header(Box::new(head), true)]).await?;
    ctx.ended_with(status);
    Ok(())
}

/// Ends a call, if it is one, whose answer has begun: in its trailers.
pub async fn break_off(session: &mut Session, ctx: &mut Ctx, reject: Reject) {
    if ctx.call().is_none_or(|call| call.status.is_some()) {
        return;
    }
    let status = status_of(reject);
    let mut trailers: HeaderMap = end_of(ctx, reject, status).into_iter().collect();
    let instead = match ctx.exchange(session) {
        Some((chain, mut exchange)) => chain.response_trailers(&mut exchange, &mut trailers),
        None => None,
    };
    // a client that is not told sees the stream or the connection end, as with any other answer
    let told = match instead {
        Some(bytes) => session.write_response_body(Some(bytes), true).await,
        None => session.as_mut().write_response_trailers(trailers).await,
    };
    if told.is_ok() {
        ctx.ended_with(status);
    }
}

/// The end of a call that has failed here.
fn end_of(ctx: &Ctx, reject: Reject, status: Status) -> [(HeaderName, HeaderValue); 2] {
    let id = ctx.request.as_ref().map_or("-", |request| request.info.request_id.as_str());
    let http = reject.status();
    let reason = match reject == Reject::GatewayTimeout(Phase::Deadline) {
        true => "Deadline Exceeded",
        false => http.canonical_reason().unwrap_or("Error"),
    };
    let text = grpc::message(&format!("{} {reason}; request id: {id}", http.as_u16()));
    [(GRPC_STATUS.clone(), HeaderValue::from(status.number())), (GRPC_MESSAGE.clone(), text)]
}

/// By the gRPC project's table, where the gate knows no better.
fn status_of(reject: Reject) -> Status {
    match reject {
        Reject::GatewayTimeout(Phase::Deadline | Phase::Request) | Reject::RequestTimeout => {
            Status::DeadlineExceeded
        }
        Reject::BodyTooLarge | Reject::HeadersTooLarge | Reject::UriTooLong => Status::ResourceExhausted,
        Reject::Internal => Status::Internal,
        Reject::NotImplemented | Reject::MethodNotAllowed => Status::Unimplemented,
        Reject::GatewayTimeout(
            Phase::Connect | Phase::Tls | Phase::FirstByte | Phase::Silence | Phase::Try,
        )
        | Reject::BadRequest(_)
        | Reject::Forbidden
        | Reject::NotFound
        | Reject::BadGateway
        | Reject::Unavailable
        | Reject::QueueFull
        | Reject::QueuedTooLong
        | Reject::CircuitOpen { .. }
        | Reject::VersionNotSupported
        | Reject::Misdirected
        | Reject::Filter(..) => Status::of_http(reject.status()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, version: Version, headers: &[(&'static str, &str)]) -> Option<Box<Call>> {
        let mut head = RequestHeader::build(method, b"/a.B/C", None).unwrap();
        head.set_version(version);
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        Call::of(&head, Instant::now())
    }

    #[test]
    fn a_call_is_known_by_method_version_and_content_type() {
        let (grpc, web) =
            (("content-type", "application/grpc+proto"), ("content-type", "application/grpc-web"));
        assert!(call("POST", Version::HTTP_2, &[grpc]).is_some());
        assert!(call("GET", Version::HTTP_2, &[grpc]).is_none());
        assert!(call("POST", Version::HTTP_11, &[grpc]).is_none());
        assert!(call("POST", Version::HTTP_11, &[web]).is_some());
        assert!(call("POST", Version::HTTP_2, &[]).is_none());
    }

    #[test]
    fn its_deadline_is_what_the_client_says_if_that_can_be_read() {
        let deadline = |text| {
            let headers = [("content-type", "application/grpc"), ("grpc-timeout", text)];
            call("POST", Version::HTTP_2, &headers).unwrap().deadline.map(|(_, time)| time)
        };
        assert_eq!(deadline("250m"), Some(Duration::from_millis(250)));
        assert_eq!(deadline("soon"), None);
    }

    #[test]
    fn refusals_are_statuses() {
        for (reject, status) in [
            (Reject::NotFound, 12),
            (Reject::Unavailable, 14),
            (Reject::QueueFull, 14),
            (Reject::BadGateway, 14),
            (Reject::GatewayTimeout(Phase::Silence), 14),
            (Reject::GatewayTimeout(Phase::Deadline), 4),
            (Reject::GatewayTimeout(Phase::Request), 4),
            (Reject::BodyTooLarge, 8),
            (Reject::BadRequest(""), 13),
            (Reject::Filter(StatusCode::FORBIDDEN, ""), 7),
            (Reject::Filter(StatusCode::UNAUTHORIZED, ""), 16),
            (Reject::Filter(StatusCode::TOO_MANY_REQUESTS, ""), 14),
            (Reject::Misdirected, 2),
        ] {
            assert_eq!(status_of(reject).number(), status, "{reject:?}");
        }
    }
}
