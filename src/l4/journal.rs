//! The line of a flow in the access log, and what is counted of it.

use super::journey::Journey;
use super::relay::Ended;
use crate::http::{self, Connection, Reject};
use crate::observe::metrics::{Flow, FlowEnd, Transport};
use crate::observe::{AccessLog, Entry, is_failure};
use std::net::IpAddr;
use std::time::Instant;

/// What is known of a flow.
pub struct Record {
    pub journey: Journey,
    /// Bytes from the client and to it.
    pub moved: (u64, u64),
    /// What it has asked for in a ClientHello that was not answered here.
    pub name: Option<Box<str>>,
    pub began: Instant,
}

/// What became of it.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// It had a server, or was on the way to one.
    Passed(Ended),
    Refused(Reject),
}

/// Counts it for its upstream; `journey` has counted its tries.
pub fn count(record: &Record, end: End) {
    let Record { journey, moved, .. } = record;
    let counted = journey.group.counted();
    if let Refused(reject) = end
        && let Some(why) = http::refusal(reject)
    {
        counted.refused(why);
    }
    let end = match end {
        Passed(ended) => ended.into(),
        Refused(_) => FlowEnd::Refused,
    };
    let (queued, connect) = (journey.queued, journey.connect);
    counted.flow_ended(&Flow { transport: Transport::Tcp, end, moved: *moved, queued, connect });
}

pub fn write(log: &AccessLog, facts: &Connection, record: &Record, end: End) {
    let journey = &record.journey;
    let (tls, certificate) = (facts.tls.as_ref(), facts.certificate());
    let (status, ended, error) = match end {
        Passed(ended) if journey.connect.is_some() => (200, Some(ended.words()), None),
        // there was no server yet
        Passed(ended) => (0, Some(ended.words()), None),
        Refused(reject) => (reject.status().as_u16(), None, Some(reject.reason())),
    };
    if !is_failure(status, error) && !log.samples_flow(facts.listener.logged) {
        return;
    }
    log.write(&Entry {
        listener: &facts.listener.name,
        client: known(facts.peer.ip()),
        proxy: facts.proxy.and_then(|proxy| known(proxy.ip())),
        protocol: Some("TCP"),
        status,
        upstream: Some(journey.group.name()),
        server: journey.server.as_ref().map(|server| server.endpoint().name()),
        attempts: u32::from(journey.attempts),
        request_bytes: record.moved.0,
        response_bytes: record.moved.1,
        duration: record.began.elapsed(),
        queued: journey.queued,
        upstream_connect: journey.connect,
        tls: tls.map(|tls| tls.version),
        tls_cipher: tls.map(|tls| tls.cipher),
        sni: record.name.as_deref().or(facts.server_name()),
        client_cert_subject: certificate.map(|certificate| certificate.subject.as_str()),
        client_cert_fingerprint: certificate.map(|certificate| certificate.fingerprint.as_str()),
        ended,
        error,
        ..Entry::default()
    });
}

use End::{Passed, Refused};

/// Who connects over a unix socket has no address.
fn known(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}
