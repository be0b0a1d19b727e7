//! The end of a request: the filters' last look and the line in the access log.

use super::call;
use super::ctx::Ctx;
use super::forward;
use super::measure;
use super::refusal::{HeadRefuser, Refusal, Reject};
use super::reply::{self, Kind};
use super::request_id::RequestId;
use super::site::{Live, Site};
use super::trace;
use super::verdict;
use super::websocket;
use crate::filter::Phases;
use crate::observe::{AccessLog, CLIENT_CLOSED, Entry, Recent, is_failure, protocol};
use http::{HeaderMap, header};
use pingora_core::{Error, ErrorSource};
use pingora_proxy::Session;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Called last for every request that became one. What the site says of the log that is there now, it says of requests
/// that came before as well.
pub fn close((site, recent): (&Site, &Recent), session: &mut Session, ctx: &mut Ctx, error: Option<&Error>) {
    if let Some((chain, mut exchange)) = ctx.exchange(session)
        && chain.has(Phases::LOG)
    {
        chain.log(&mut exchange);
    }
    verdict::ended(session, ctx, error);
    forward::forget_hedge(ctx);
    if let Some(took) = ctx.request.as_ref().map(|request| request.info.started.elapsed()) {
        measure::ended(session, ctx, took);
        write_entry((site, recent), session, (ctx, took), error);
        trace::ended(session, ctx, took, error);
    }
    // no longer in flight: the server first, as whoever waits for the slot wants one
    ctx.forward.endpoint = None;
    ctx.forward.slot = None;
}

fn write_entry(
    (site, recent): (&Site, &Recent),
    session: &Session,
    (ctx, took): (&Ctx, Duration),
    error: Option<&Error>,
) {
    let Some(request) = &ctx.request else {
        return;
    };
    let (status, why) = (session.response_written().map_or(0, |r| r.status.as_u16()), why(ctx, error));
    let (info, head, forward) = (&request.info, session.req_header(), &ctx.forward);
    let failed = is_failure(status, why);
    let logged = info.route.as_deref().and_then(|route| route.logged).or(info.connection.listener.logged);
    let sampled = |log: &&Arc<AccessLog>| failed || log.samples(logged, info.request_id.as_bytes());
    let log = site.access_log.as_ref().filter(sampled);
    if log.is_none() && !failed {
        return;
    }
    let (tls, certificate) = (info.connection.tls.as_ref(), info.connection.certificate());
    let trace = ctx.trace.as_ref().map(|trace| trace.id().digits());
    let entry = Entry {
        listener: &info.connection.listener.name,
        client: known(info.client.ip()),
        proxy: info.connection.proxy.and_then(|proxy| known(proxy.ip())),
        scheme: Some(if info.https { "https" } else { "http" }),
        method: Some(head.method.as_str()),
        host: Some(info.host.as_bytes()).filter(|h| !h.is_empty()),
        path: Some(head.raw_path()),
        protocol: Some(protocol(websocket::spoken(head))),
        status,
        grpc_status: ctx.call_status(),
        route: info.route.as_deref().map(|r| r.name.as_str()),
        upstream: forward.group.as_deref().map(|g| g.plan().name.as_str()),
        server: forward.endpoint.as_ref().map(|e| e.endpoint().name()),
        attempts: u32::from(forward.attempts) + u32::from(forward.hedged),
        request_bytes: session.body_bytes_read() as u64,
        response_bytes: session.body_bytes_sent() as u64,
        datagrams: None,
        duration: took,
        queued: forward.queued,
        upstream_connect: forward.connect,
        upstream_response: forward.first_byte,
        request_id: Some(info.request_id.as_bytes()),
        trace_id: trace.as_ref().map(|digits| digits.as_slice()),
        tls: tls.map(|tls| tls.version),
        tls_cipher: tls.map(|tls| tls.cipher),
        sni: tls.and_then(|tls| tls.sni.as_deref()),
        client_cert_subject: certificate.map(|certificate| certificate.subject.as_str()),
        client_cert_fingerprint: certificate.map(|certificate| certificate.fingerprint.as_str()),
        user_agent: text(&head.headers, header::USER_AGENT),
        referer: text(&head.headers, header::REFERER),
        ended: None,
        error: why,
        request_headers: Some(&head.headers),
        response_headers: session.response_written().map(|head| &head.headers),
    };
    if failed {
        recent.note(&entry);
    }
    if let Some(log) = log {
        log.write(&entry);
    }
}

/// Who connects over a unix socket has no address.
pub(super) fn known(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&[u8]> {
    headers.get(name).map(|v| v.as_bytes())
}

/// Why there was no proper answer, in words that are always the same for the same reason.
pub(super) fn why(ctx: &Ctx, error: Option<&Error>) -> Option<&'static str> {
    ctx.error.or(ctx.reject.map(Reject::reason)).or_else(|| {
        error.filter(|e| !call::had_ended(ctx, e)).map(|e| match e.esource() {
            ErrorSource::Upstream => "server broke off",
            ErrorSource::Downstream => CLIENT_CLOSED,
            ErrorSource::Internal | ErrorSource::Unset => "internal error",
        })
    })
}

/// Answers heads that never became a request, and logs them like one.
pub struct Refuser {
    live: Arc<Live>,
}

impl Refuser {
    pub fn new(live: Arc<Live>) -> Self {
        Refuser { live }
    }
}

impl HeadRefuser for Refuser {
    fn refuse(&self, refusal: Refusal<'_>) -> Vec<u8> {
        let id = RequestId::new();
        let seen = Seen::of(refusal.head);
        let kind = Kind::of_accept(seen.accept.iter().filter_map(|v| std::str::from_utf8(v).ok()));
        let bytes = reply::raw(refusal.reject, kind, id.as_str());
        let body_bytes = reply::body(refusal.reject, kind, id.as_str()).len() as u64;
        measure::refused(&refusal);
        let site = self.live.load();
        let (reject, logged) = (refusal.reject, refusal.connection.listener.logged);
        let failed = is_failure(reject.status().as_u16(), Some(reject.reason()));
        let sampled = |log: &&Arc<AccessLog>| failed || log.samples(logged, id.as_bytes());
        if let Some(log) = site.access_log.as_ref().filter(sampled) {
            log.write(&seen.entry(&refusal, id.as_str(), body_bytes, refusal.started));
        }
        bytes
    }
}

/// What can be made out of the head of a request that was not accepted.
#[derive(Default)]
struct Seen<'a> {
    method: &'a [u8],
    target: &'a [u8],
    host: &'a [u8],
    accept: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
}

impl<'a> Seen<'a> {
    /// Reads leniently: this is only shown, never acted on.
    fn of(head: &'a [u8]) -> Self {
        let mut lines = head.split(|b| *b == b'\n');
        let first = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
        let mut words = first.trim_ascii_end().splitn(3, |b| *b == b' ');
        let mut seen = Seen {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            ..Seen::default()
        };
        for line in lines {
            let mut parts = line.splitn(2, |b| *b == b':');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
                continue;
            };
            let value = value.trim_ascii();
            if name.eq_ignore_ascii_case(b"host") {
                seen.host = value;
            } else if name.eq_ignore_ascii_case(b"accept") {
                seen.accept = Some(value);
            } else if name.eq_ignore_ascii_case(b"user-agent") {
                seen.user_agent = Some(value);
            }
        }
        seen
    }

    fn entry(
        &'a self,
        refusal: &'a Refusal<'a>,
        request_id: &'a str,
        response_bytes: u64,
        started: Instant,
    ) -> Entry<'a> {
        let (tls, certificate) = (refusal.connection.tls.as_ref(), refusal.connection.certificate());
        Entry {
            listener: &refusal.connection.listener.name,
            client: known(refusal.connection.peer.ip()),
            proxy: refusal.connection.proxy.and_then(|proxy| known(proxy.ip())),
            scheme: Some(if refusal.connection.is_https() { "https" } else { "http" }),
            method: std::str::from_utf8(clip(self.method, 32)).ok().filter(|m| !m.is_empty()),
            host: Some(clip(self.host, 255)).filter(|h| !h.is_empty()),
            path: Some(clip(self.target, 1024)).filter(|p| !p.is_empty()),
            protocol: Some("HTTP/1.1"),
            status: refusal.reject.status().as_u16(),
            response_bytes,
            duration: started.elapsed(),
            request_id: Some(request_id.as_bytes()),
            tls: tls.map(|tls| tls.version),
            tls_cipher: tls.map(|tls| tls.cipher),
            sni: tls.and_then(|tls| tls.sni.as_deref()),
            client_cert_subject: certificate.map(|certificate| certificate.subject.as_str()),
            client_cert_fingerprint: certificate.map(|certificate| certificate.fingerprint.as_str()),
            user_agent: self.user_agent.map(|v| clip(v, 255)),
            error: Some(refusal.reject.reason()),
            ..Entry::default()
        }
    }
}

/// A refused head may be anything and of any length; the log gets the beginning.
fn clip(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}
