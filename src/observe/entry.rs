//! What a line of the access log says. Filled in by `http` at the end of a request (and by
//! `edge` for a head that never became one), read by [`super::json`], [`super::combined`] and
//! `super::line`.

use http::HeaderMap;
use std::net::IpAddr;
use std::time::Duration;

/// A request that ended, borrowed from whoever knew it. Text that came from outside is bytes:
/// nothing about it is assumed. `None` is "unknown" or "did not happen" and is left out of JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The client as the gate believes it (after `trusted_proxies`); none on a unix socket.
    pub client: Option<IpAddr>,
    /// The proxy that has announced the client by the PROXY protocol.
    pub proxy: Option<IpAddr>,
    /// `http` or `https`, as the client has connected or a trusted proxy says it has.
    pub scheme: Option<&'a str>,
    pub method: Option<&'a str>,
    pub host: Option<&'a [u8]>,
    /// The request target as the client wrote it, query included.
    pub path: Option<&'a [u8]>,
    /// `HTTP/1.1`, `HTTP/2.0`: see [`protocol`]; `TCP` of a connection that was passed on, `UDP` of a session.
    pub protocol: Option<&'a str>,
    /// 0: the client went before there was an answer.
    pub status: u16,
    /// What a call of gRPC has ended with.
    pub grpc_status: Option<u16>,
    pub route: Option<&'a str>,
    /// The group's name.
    pub upstream: Option<&'a str>,
    /// The server that gave the answer, or the last one that was tried: its address and port.
    pub server: Option<&'a str>,
    /// Tries made on servers; 0 when none was needed.
    pub attempts: u32,
    /// Bytes of the request's body that were read; all that came from the client where there are no requests.
    pub request_bytes: u64,
    /// Bytes of the response's body that were sent; all that went to the client where there are no requests.
    pub response_bytes: u64,
    /// Datagrams from the client and to it, of a session.
    pub datagrams: Option<(u64, u64)>,
    /// From the first byte of the head to the last of the answer.
    pub duration: Duration,
    /// Spent waiting for a turn, as the group was full.
    pub queued: Option<Duration>,
    /// To a connection with the server, TLS included; next to nothing for a kept one.
    pub upstream_connect: Option<Duration>,
    /// From the request's start upstream to the first byte of the server's answer.
    pub upstream_response: Option<Duration>,
    pub request_id: Option<&'a [u8]>,
    /// That of its trace, where traces are looked at: 32 hexadecimal digits.
    pub trace_id: Option<&'a [u8]>,
    /// `TLSv1.3`; none on plaintext.
    pub tls: Option<&'a str>,
    /// IANA's name of the cipher suite.
    pub tls_cipher: Option<&'a str>,
    /// The name that the client asked for in the handshake.
    pub sni: Option<&'a str>,
    /// Of the certificate that the client has shown.
    pub client_cert_subject: Option<&'a str>,
    pub client_cert_fingerprint: Option<&'a str>,
    pub user_agent: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
    /// Who or what has ended a connection that was passed on, or a session: `client_closed`, `idle_timeout`. Requests have
    /// none.
    pub ended: Option<&'a str>,
    /// Why there was no proper answer, in a few words: `head deadline`, `no healthy server`.
    pub error: Option<&'a str>,
    /// Of the request, for those that are asked for by name.
    pub request_headers: Option<&'a HeaderMap>,
    /// Of the response, likewise.
    pub response_headers: Option<&'a HeaderMap>,
}

/// The [error](Entry::error) of a request whose client went.
pub const CLIENT_CLOSED: &str = "client closed";

/// What operators want to see: not what clients have done wrong, or that they have gone. It always has a line in the
/// access log, and is among the [recent](super::recent) failures.
pub fn is_failure(status: u16, why: Option<&str>) -> bool {
    status >= 500 || (!(400..500).contains(&status) && why.is_some_and(|why| why != CLIENT_CLOSED))
}

/// The version in the words of access logs, which give HTTP/2 a minor number like nginx and Apache.
pub fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        // not our enum, and open to new versions
        _ => "HTTP/1.1",
    }
}
