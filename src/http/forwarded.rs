//! Who the client is, and what servers are told about it: `X-Forwarded-For`, `-Proto`, `-Host`,
//! `Forwarded` (RFC 7239) and `X-Request-Id`. Pure. [`resolve`] is called by `http::proxy` when a request head has
//! arrived, [`apply`] for each head that is sent to a server.
//!
//! # Who is believed
//!
//! Only what comes from an address in `trusted_proxies`. The list of addresses is then read from the
//! right, where the nearest proxy wrote, past all that are trusted proxies themselves: the first
//! other address is the client, and what stands left of it may be made up. An entry that is no
//! address (`unknown`, a name, garbage) ends the walk at the proxy that reported it. When a request
//! has both headers, `X-Forwarded-For` names the client: see that your proxies set or remove it.
//!
//! # What is removed
//!
//! From clients that are not trusted: `Forwarded`, `X-Real-IP` and everything that starts with
//! `X-Forwarded-`. From all: such names written with an underscore (`X_Forwarded_For`), which some
//! servers take for the same.

use super::request_id::X_REQUEST_ID;
use crate::config::file::ProxyHeaders;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use pingora_http::RequestHeader;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The peer of the connection, or whom trusted proxies name. IPv4 addresses that came in as IPv6
    /// are IPv4 here.
    pub addr: IpAddr,
    /// Whether the client used https, towards us or towards a trusted proxy.
    pub https: bool,
    /// The peer of the connection is a trusted proxy: its headers are believed and continued.
    pub trusted: bool,
}

/// Who sent a request that came from `peer`, over TLS or not (`https_here`).
pub fn resolve(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet], https_here: bool) -> Client {
    let peer = peer.to_canonical();
    let is_trusted = |addr: IpAddr| trusted.iter().any(|net| net.contains(&addr));
    let mut client = Client { addr: peer, https: https_here, trusted: is_trusted(peer) };
    if !client.trusted {
        return client;
    }
    let standard = walk_forwarded(peer, headers, is_trusted);
    client.addr = match headers.contains_key(&X_FORWARDED_FOR) {
        true => walk_x_forwarded_for(peer, headers, is_trusted),
        false => standard.addr,
    };
    client.https = first_scheme(headers).or(standard.https).unwrap_or(https_here);
    client
}

fn walk_x_forwarded_for(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut addr = peer;
    for entry in from_the_right(headers, &X_FORWARDED_FOR) {
        let Some(named) = node(entry) else { break };
        addr = named;
        if !is_trusted(addr) {
            break;
        }
    }
    addr
}

struct Walked {
    addr: IpAddr,
    /// What the last proxy on the way that told it says.
    https: Option<bool>,
}

fn walk_forwarded(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Walked {
    let mut walked = Walked { addr: peer, https: None };
    for element in from_the_right(headers, &header::FORWARDED) {
        walked.https = parameter(element, b"proto").and_then(scheme).or(walked.https);
        let Some(named) = parameter(element, b"for").and_then(node) else { break };
        walked.addr = named;
        if !is_trusted(named) {
            break;
        }
    }
    walked
}

/// The elements of a list header, the last first, over all headers of that name; empty ones are
/// left out (RFC 9110 §5.6.1.2). Read from the right, so that a quote that a client opened does not
/// swallow what proxies added behind it.
fn from_the_right<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).into_iter().rev();
    values.flat_map(|value| Elements(Some(value.as_bytes()))).filter(|element| !element.is_empty())
}

struct Elements<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0.take()?;
        let mut quoted = false;
        let comma = text.iter().rposition(|b| {
            quoted ^= *b == b'"';
            *b == b',' && !quoted
        });
        let Some((rest, element)) = comma.and_then(|at| text.split_at_checked(at)) else {
            return Some(text.trim_ascii());
        };
        self.0 = Some(rest);
        Some(element.get(1..).unwrap_or_default().trim_ascii())
    }
}

/// The value of a parameter of a `forwarded-element` (RFC 7239 §4), without its quotes.
fn parameter<'a>(element: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut quoted = false;
    let pairs = element.split(move |b| {
        quoted ^= *b == b'"';
        *b == b';' && !quoted
    });
    pairs.into_iter().find_map(|pair| {
        let (key, value) = pair.split_at_checked(pair.iter().position(|b| *b == b'=')?)?;
        if !key.trim_ascii().eq_ignore_ascii_case(name) {
            return None;
        }
        let value = value.get(1..)?.trim_ascii();
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// An address, with or without port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`, and with the hidden ports of RFC 7239 §6.3 (`192.0.2.1:_hidden`).
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.rsplit_once(":_").map_or(text, |(address, _)| address);
    let ip = match text.parse::<SocketAddr>() {
        Ok(address) => address.ip(),
        Err(_) => text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok()?,
    };
    Some(ip.to_canonical())
}

/// Whether the first `X-Forwarded-Proto`, which the outermost proxy wrote, says https.
fn first_scheme(headers: &HeaderMap) -> Option<bool> {
    let value = headers.get(&X_FORWARDED_PROTO)?.as_bytes();
    scheme(value.split(|b| *b == b',').next()?.trim_ascii())
}

fn scheme(text: &[u8]) -> Option<bool> {
    let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
    if is(b"https") || is(b"wss") {
        Some(true)
    } else if is(b"http") || is(b"ws") {
        Some(false)
    } else {
        None
    }
}

/// What a server is told.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// As [`resolve`] found.
    pub trusted: bool,
    /// Whether the client used https, as [`resolve`] found.
    pub https: bool,
    /// Whether the connection to us is TLS.
    pub https_here: bool,
    /// The host asked for as it was written, with its port.
    pub host: Option<&'a [u8]>,
    pub request_id: &'a str,
}

/// Writes the headers that tell a server about the client, and removes what is not believed.
///
/// What a trusted proxy said is continued: the peer is added to `X-Forwarded-For` and `Forwarded`;
/// its `X-Forwarded-Proto` and `X-Forwarded-Host` are kept. A header that is switched off is left
/// alone when it came from a trusted proxy. `X-Request-Id` is the one that this process uses.
///
/// # Errors
/// When a head holds more headers than it may.
pub fn apply(head: &mut RequestHeader, facts: &Facts<'_>, config: &ProxyHeaders) -> pingora_core::Result<()> {
    remove_claims(head, facts.trusted);
    let peer = facts.peer.to_canonical();
    if config.x_forwarded {
        let mut list = continued(&head.headers, &X_FORWARDED_FOR);
        // writing to a Vec cannot fail
        let _ = write!(list, "{peer}");
        insert(head, "X-Forwarded-For", list)?;
        if first_scheme(&head.headers).is_none() {
            let scheme = HeaderValue::from_static(scheme_name(facts.https));
            head.insert_header("X-Forwarded-Proto", scheme)?;
        }
        if let Some(host) = facts.host.filter(|h| !h.is_empty())
            && !head.headers.contains_key(&X_FORWARDED_HOST)
        {
            insert(head, "X-Forwarded-Host", host.to_vec())?;
        }
    }
    if config.forwarded {
        let mut list = continued(&head.headers, &header::FORWARDED);
        write_element(&mut list, peer, facts.https_here, facts.host.unwrap_or_default());
        insert(head, "Forwarded", list)?;
    }
    if config.request_id {
        insert(head, "X-Request-Id", facts.request_id.as_bytes().to_vec())?;
    } else if !facts.trusted {
        head.remove_header(&X_REQUEST_ID);
    }
    Ok(())
}

fn insert(head: &mut RequestHeader, name: &'static str, value: Vec<u8>) -> pingora_core::Result<()> {
    match HeaderValue::from_maybe_shared(Bytes::from(value)) {
        Ok(value) => head.insert_header(name, value),
        // a host that may not stand in a header: nothing is said rather than something wrong
        Err(_) => {
            head.remove_header(name);
            Ok(())
        }
    }
}

fn scheme_name(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

fn remove_claims(head: &mut RequestHeader, trusted: bool) {
    let claims = head.headers.keys().filter(|name| is_claim(name.as_str(), trusted));
    // nearly always empty, and then without allocation
    let claims: Vec<HeaderName> = claims.cloned().collect();
    for name in &claims {
        head.remove_header(name);
    }
}

/// `name` is in lower case.
fn is_claim(name: &str, trusted: bool) -> bool {
    let alike = |text: &str| {
        name.len() >= text.len()
            && name.bytes().zip(text.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    };
    let claim = match name.as_bytes().first() {
        Some(b'x') => alike("x-forwarded-") || (alike("x-real-ip") && name.len() == "x-real-ip".len()),
        Some(b'f') => name == "forwarded",
        _ => false,
    };
    claim && (!trusted || name.contains('_'))
}

/// The list that came in, ready to be added to.
fn continued(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let before = headers.get_all(name);
    let length: usize = before.iter().map(|v| v.len() + 2).sum();
    // room for an address, and in Forwarded for what stands around it
    let mut list = Vec::with_capacity(length + 96);
    for value in before.iter().filter(|v| !v.as_bytes().trim_ascii().is_empty()) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list
}

/// `for=192.0.2.1;proto=https;host=example.com`. IPv6 addresses stand in brackets and quotes (RFC
/// 7239 §6), and so does a host that is no token.
fn write_element(list: &mut Vec<u8>, peer: IpAddr, https: bool, host: &[u8]) {
    // writing to a Vec cannot fail
    let _ = match peer {
        IpAddr::V4(ip) => write!(list, "for={ip}"),
        IpAddr::V6(ip) => write!(list, "for=\"[{ip}]\""),
    };
    let _ = write!(list, ";proto={}", scheme_name(https));
    if host.is_empty() || host.iter().any(|b| !b.is_ascii_graphic() || matches!(b, b'"' | b'\\')) {
        return;
    }
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let quote: &[u8] = if host.iter().all(is_token) { b"" } else { b"\"" };
    for part in [b";host=", quote, host, quote] {
        list.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
