//! What a request and its tries tell their trace, if they have one: without `tracing` in the configuration each of these
//! is a look at an empty field. Called by `intake`, `forward`, `retry` and `journal`; the rest is `observe::traces`.

use super::ctx::Ctx;
use super::journal;
use super::site::Site;
use super::websocket;
use crate::observe::is_failure;
use crate::observe::traces::{Failure, Request, Try, told};
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// A request is here, and it is known who asks and which route it takes.
pub fn begin(site: &Site, head: &RequestHeader, ctx: &mut Ctx) {
    if let (Some(tracer), Some(request)) = (&site.tracer, &ctx.request) {
        let sampling = request.info.route.as_ref().map(|route| route.sampling).unwrap_or_default();
        ctx.trace = Some(tracer.begin(&head.headers, request.headers.trusted, sampling));
    }
}

/// Another try begins; the one before is told of, if there is one.
pub fn try_begins(session: &Session, ctx: &mut Ctx) {
    if ctx.trace.is_none() {
        return;
    }
    try_over(session, ctx, Instant::now());
    // its connection was handed over
    let second = ctx.forward.socket.is_some();
    if let Some(trace) = &mut ctx.trace {
        trace.next_try(second);
    }
}

/// What the server of the current try is told.
///
/// # Errors
/// The head has 32,768 headers.
pub fn tell(ctx: &mut Ctx, head: &mut RequestHeader) -> Result<()> {
    let Some(trace) = &mut ctx.trace else { return Ok(()) };
    trace.current().version = Some(version(head.version));
    let mut written = Ok(());
    trace.tell(|name, value| {
        if written.is_ok() {
            written = set(head, name, value);
        }
    });
    written
}

/// And that of a second try beside it, whose head is a copy of the first's: but for what filters have said instead.
///
/// # Errors
/// The head has 32,768 headers.
pub fn tell_second(ctx: &mut Ctx, head: &mut RequestHeader) -> Result<()> {
    let Some(trace) = &mut ctx.trace else { return Ok(()) };
    let mut overruled = Vec::new();
    trace.tell(|name, value| {
        if head.headers.get(&name) != value.as_ref() {
            overruled.push(name);
        }
    });
    let mut written = Ok(());
    trace.tell_second(|name, value| {
        if written.is_ok() && !overruled.contains(&name) {
            written = set(head, name, value);
        }
    });
    written
}

fn set(head: &mut RequestHeader, name: HeaderName, value: Option<HeaderValue>) -> Result<()> {
    match value {
        Some(value) => head.insert_header(name, value),
        None => {
            head.remove_header(&name);
            Ok(())
        }
    }
}

/// The head of the answer of the current try is here.
pub fn answered(ctx: &mut Ctx, status: StatusCode) {
    if let Some(trace) = &mut ctx.trace
        && (!status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS)
    {
        trace.current().status = Some(status.as_u16());
    }
}

/// The current try has failed.
pub fn try_failed(ctx: &mut Ctx, error: &Error, why: &dyn Fn() -> String) {
    let Some(trace) = ctx.trace.as_mut().filter(|trace| trace.is_recorded()) else { return };
    let current = trace.current();
    current.failure = Some(Failure { kind: kind(error), why: why() });
    current.failed_at = Some(Instant::now());
}

/// The current try has not answered yet, and will not be heard: the second beside it has.
pub fn overtaken(ctx: &mut Ctx) {
    if let Some(trace) = ctx.trace.as_mut().filter(|trace| trace.is_recorded()) {
        let why = "another server was quicker".to_owned();
        trace.current().failure = Some(Failure { kind: "Overtaken".into(), why });
    }
}

fn kind(error: &Error) -> Cow<'static, str> {
    match error.root_etype() {
        ErrorType::HTTPStatus(status) => status.to_string().into(),
        etype => etype.as_str().to_owned().into(),
    }
}

/// The current try is over, if there is one.
fn try_over(session: &Session, ctx: &mut Ctx, now: Instant) {
    let Ctx { trace, request, forward, .. } = ctx;
    let (Some(trace), Some(request)) = (trace.as_mut().filter(|trace| trace.is_recorded()), request) else {
        return;
    };
    let (Some(endpoint), Some(started)) = (&forward.endpoint, forward.try_started) else { return };
    let (at, head) = (endpoint.endpoint().at(), session.req_header());
    let current = std::mem::take(trace.current());
    let sent = request.info.normalised_path.as_deref().unwrap_or_else(|| head.uri.path());
    let over = Try {
        after: started.saturating_duration_since(request.info.started),
        took: current.failed_at.unwrap_or(now).saturating_duration_since(started),
        method: head.method.clone(),
        path: told(sent.as_bytes()),
        https: forward.group.as_ref().is_some_and(|group| group.transport().is_tls()),
        server: at.name().into(),
        address: (!at.is_unix()).then(|| at.address()),
        version: current.version,
        connect: forward.connect.filter(|took| !took.is_zero()),
        reused: forward.was_kept(),
        first_byte: forward.first_byte.filter(|_| current.status.is_some()),
        status: current.status,
        resends: forward.attempts.saturating_sub(1),
        because: current.because.map(|failure| failure.kind),
        failure: current.failure.clone(),
    };
    trace.try_over(over);
    // why the next one is made
    trace.current().failure = current.failure;
}

/// The request is over, after so long.
pub fn ended(session: &Session, ctx: &mut Ctx, took: Duration, error: Option<&Error>) {
    if ctx.trace.is_none() {
        return;
    }
    let why = journal::why(ctx, error);
    unanswered(ctx, why);
    if let Some(began) = ctx.request.as_ref().map(|request| request.info.started) {
        try_over(session, ctx, began + took);
    }
    let status = session.response_written().map_or(0, |response| response.status.as_u16());
    let failed = is_failure(status, why) || ctx.call_status().is_some_and(is_failure_of_grpc);
    if let Some(trace) = ctx.trace.take_if(|trace| trace.is_told(failed))
        && let Some(request) = request(session, ctx, (status, failed, why), took)
    {
        trace.end(request);
    }
}

/// By OpenTelemetry's conventions for gRPC: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
fn is_failure_of_grpc(status: u16) -> bool {
    matches!(status, 2 | 4 | 12..=15)
}

/// What ended the request has ended its last try.
fn unanswered(ctx: &mut Ctx, why: Option<&'static str>) {
    if let (Some(trace), Some(why)) = (&mut ctx.trace, why)
        && let current = trace.current()
        && current.status.is_none()
        && current.failure.is_none()
    {
        current.failure = Some(Failure { kind: why.into(), why: why.to_owned() });
    }
}

fn request(
    session: &Session,
    ctx: &Ctx,
    (status, failed, why): (u16, bool, Option<&'static str>),
    took: Duration,
) -> Option<Request> {
    let info = &ctx.request.as_ref()?.info;
    let (head, forward) = (session.req_header(), &ctx.forward);
    let (listener, peer) = (&info.connection.listener, info.connection.peer);
    Some(Request {
        method: head.method.clone(),
        https: info.https,
        host: told(info.host.as_bytes()),
        port: listener.address.ip().map(|address| address.port()),
        path: told(head.uri.path().as_bytes()),
        version: version(websocket::spoken(head)),
        route: info.route.clone(),
        listener: listener.name.as_str().into(),
        upstream: forward.group.as_ref().map(|group| group.name().into()),
        client: journal::known(info.client.ip()),
        peer: journal::known(peer.ip()).map(|_| peer),
        user_agent: head.headers.get(header::USER_AGENT).map(|agent| told(agent.as_bytes())),
        request_id: told(info.request_id.as_str().as_bytes()),
        status,
        grpc_status: ctx.call_status(),
        received: session.body_bytes_read() as u64,
        sent: session.body_bytes_sent() as u64,
        queued: forward.queued,
        hedged: forward.hedged,
        took,
        failed,
        error: why,
    })
}

/// As OpenTelemetry writes it.
fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        // not our enum, and open to new versions
        _ => "1.1",
    }
}
