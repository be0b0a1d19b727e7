//! Who the client is, and what servers are told about it: `X-Forwarded-For`, `-Proto`, `-Host`,
//! `Forwarded` (RFC 7239), `X-Request-Id`, and its certificate (`Client-Cert`, RFC 9440, and `X-Client-Cert-*`). Pure. [`resolve`] is called by `http::proxy` when a request head has
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
//! From clients that are not trusted: `Forwarded`, `X-Real-IP`, `X-Weirgate-Attempts` and everything
//! that starts with `X-Forwarded-`. From all: such names written with an underscore (`X_Forwarded_For`), which some
//! servers take for the same. And from all, trusted or not, what begins with `Client-Cert` or `X-Client-Cert-`: servers
//! take it for what this process has verified itself. (With `proxy_headers.client_certificate` off, trusted proxies
//! may say it.)

use super::ClientCertificate;
use super::head::{
    self, CLIENT_CERT, FORWARDED, Headers, Name, REQUEST_ID, X_CLIENT_CERT_FINGERPRINT, X_CLIENT_CERT_SAN,
    X_CLIENT_CERT_SUBJECT, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use super::request_id::RequestId;
use crate::config::file::ProxyHeaders;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use pingora_core::Result;
use pingora_http::RequestHeader;
use std::net::{IpAddr, SocketAddr};

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
    client.addr = match headers.contains_key(&X_FORWARDED_FOR.name) {
        true => walk_x_forwarded_for(peer, headers, is_trusted),
        false => standard.addr,
    };
    client.https = first_scheme(headers).or(standard.https).unwrap_or(https_here);
    client
}

fn walk_x_forwarded_for(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut addr = peer;
    for entry in from_the_right(headers, &X_FORWARDED_FOR.name) {
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
    Some(ip.to_canonical()).filter(|ip| !ip.is_unspecified())
}

/// Whether the first `X-Forwarded-Proto`, which the outermost proxy wrote, says https.
fn first_scheme(headers: &HeaderMap) -> Option<bool> {
    let value = headers.get(&X_FORWARDED_PROTO.name)?.as_bytes();
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

/// What servers are told of the peer of a connection, written out once for all its requests.
#[derive(Debug)]
pub struct Peer {
    /// `None` on a unix socket.
    address: Option<HeaderValue>,
    /// The beginning of our element of `Forwarded`.
    element: Box<[u8]>,
    /// What is said of its certificate; empty when it has shown none.
    certificate: Vec<(&'static Name, HeaderValue)>,
}

impl Peer {
    /// `https_here`: whether the connection to us is TLS.
    pub fn new(peer: IpAddr, https_here: bool) -> Peer {
        let ip = peer.to_canonical();
        // IPv6 addresses stand in brackets and quotes (RFC 7239 §6)
        let node = match ip {
            // RFC 7239 §6.2
            _ if ip.is_unspecified() => "unknown".to_string(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("\"[{ip}]\""),
        };
        // an address has neither line breaks nor control characters
        let address = HeaderValue::from_maybe_shared(Bytes::from(ip.to_string())).ok();
        Peer {
            address: address.filter(|_| !ip.is_unspecified()),
            element: format!("for={node};proto={}", scheme_name(https_here)).into_bytes().into(),
            certificate: Vec::new(),
        }
    }

    /// With the certificate it has shown.
    #[must_use]
    pub fn showing(mut self, certificate: Option<&ClientCertificate>) -> Peer {
        let Some(certificate) = certificate else { return self };
        // RFC 9440 §2.2: a byte sequence of structured fields
        let whole = format!(":{}:", STANDARD.encode(&certificate.der));
        let san = certificate.san.iter().map(|name| name.replace(',', "\\,")).collect::<Vec<_>>().join(", ");
        let told = [
            (&CLIENT_CERT, whole),
            (&X_CLIENT_CERT_SUBJECT, certificate.subject.clone()),
            (&X_CLIENT_CERT_SAN, san),
            (&X_CLIENT_CERT_FINGERPRINT, certificate.fingerprint.clone()),
        ];
        let told = told.into_iter().filter(|(_, text)| !text.is_empty());
        let told = told
            .filter_map(|(name, text)| Some((name, HeaderValue::from_maybe_shared(Bytes::from(text)).ok()?)));
        self.certificate = told.collect();
        self
    }
}

/// What a server is told.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The other end of the connection.
    pub peer: &'a Peer,
    /// As [`resolve`] found.
    pub trusted: bool,
    /// Whether the client used https, as [`resolve`] found.
    pub https: bool,
    /// The host asked for as it was written, with its port.
    pub host: Option<&'a HeaderValue>,
    pub request_id: &'a RequestId,
}

/// Writes the headers that tell a server about the client, and removes what is not believed.
///
/// What a trusted proxy said is continued: the peer is added to `X-Forwarded-For` and `Forwarded`;
/// its `X-Forwarded-Proto` and `X-Forwarded-Host` are kept. A header that is switched off is left
/// alone when it came from a trusted proxy. `X-Request-Id` is the one that this process uses.
///
/// # Errors
/// When a head holds more headers than it may.
pub fn apply(head: &mut RequestHeader, facts: &Facts<'_>, config: &ProxyHeaders) -> Result<()> {
    let certificate = config.client_certificate && !facts.peer.certificate.is_empty();
    if config.x_forwarded || config.forwarded || config.request_id || certificate {
        return head::write_request(head, |headers| write(headers, facts, config));
    }
    write(head, facts, config)
}

fn write(headers: &mut dyn Headers, facts: &Facts<'_>, config: &ProxyHeaders) -> Result<()> {
    remove_claims(headers, facts.trusted, config);
    if config.x_forwarded {
        // a unix socket has no address to add, and whom a trusted proxy names there is told as it is
        if let Some(address) = &facts.peer.address {
            let list = continued(headers.map(), &X_FORWARDED_FOR.name, facts, address.as_bytes());
            headers.set(&X_FORWARDED_FOR, list.unwrap_or_else(|| address.clone()))?;
        }
        if !facts.trusted || first_scheme(headers.map()).is_none() {
            headers.set(&X_FORWARDED_PROTO, HeaderValue::from_static(scheme_name(facts.https)))?;
        }
        if let Some(host) = facts.host.filter(|host| !host.is_empty())
            && !(facts.trusted && headers.map().contains_key(&X_FORWARDED_HOST.name))
        {
            headers.set(&X_FORWARDED_HOST, host.clone())?;
        }
    }
    if config.forwarded {
        let element = element(facts.peer, facts.host);
        match continued(headers.map(), &FORWARDED.name, facts, &element) {
            Some(list) => headers.set(&FORWARDED, list)?,
            None => set(headers, &FORWARDED, element)?,
        }
    }
    if config.client_certificate {
        for (name, value) in &facts.peer.certificate {
            headers.set(name, value.clone())?;
        }
    }
    if config.request_id {
        headers.set(&REQUEST_ID, facts.request_id.header())?;
    } else if !facts.trusted {
        headers.remove(&REQUEST_ID.name);
    }
    Ok(())
}

fn set(headers: &mut dyn Headers, name: &Name, value: Vec<u8>) -> Result<()> {
    match HeaderValue::from_maybe_shared(Bytes::from(value)) {
        Ok(value) => headers.set(name, value),
        // a host that may not stand in a header: nothing is said rather than something wrong
        Err(_) => {
            headers.remove(&name.name);
            Ok(())
        }
    }
}

fn scheme_name(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

fn remove_claims(headers: &mut dyn Headers, trusted: bool, config: &ProxyHeaders) {
    let claims = headers.map().keys().filter(|name| is_claim(name.as_str(), trusted, config));
    // nearly always empty, and then without allocation
    let claims: Vec<HeaderName> = claims.cloned().collect();
    for name in &claims {
        headers.remove(name);
    }
}

/// `name` is in lower case.
fn is_claim(name: &str, trusted: bool, config: &ProxyHeaders) -> bool {
    let alike = |text: &str| {
        name.len() >= text.len()
            && name.bytes().zip(text.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    };
    let of_certificate = || alike("client-cert") || alike("x-client-cert-");
    let claim = match name.as_bytes().first() {
        Some(b'c' | b'x') if of_certificate() => {
            return !trusted || config.client_certificate || name.contains('_');
        }
        Some(b'x') => {
            alike("x-forwarded-")
                || (alike("x-real-ip") && name.len() == "x-real-ip".len())
                || (alike("x-weirgate-attempts") && name.len() == "x-weirgate-attempts".len())
        }
        Some(b'f') => name == "forwarded",
        _ => false,
    };
    claim && (!trusted || name.contains('_'))
}

/// The list that came in with `ours` behind it; `None` when none is believed or none came in.
fn continued(headers: &HeaderMap, name: &HeaderName, facts: &Facts<'_>, ours: &[u8]) -> Option<HeaderValue> {
    if !facts.trusted {
        return None;
    }
    let before = headers.get_all(name).into_iter().filter(|v| !v.as_bytes().trim_ascii().is_empty());
    let mut list = Vec::new();
    for value in before {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        return None;
    }
    list.extend_from_slice(ours);
    HeaderValue::from_maybe_shared(Bytes::from(list)).ok()
}

/// Where a byte of a host may stand in `Forwarded`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Nowhere,
    InQuotes,
    /// In a token (RFC 9110 §5.6.2).
    Bare,
}

static FITNESS: [Fit; 256] = {
    let mut fitness = [Fit::Nowhere; 256];
    let mut byte = 0;
    while byte < 128u8 {
        fitness[byte as usize] = match byte {
            b'"' | b'\\' => Fit::Nowhere,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => Fit::Bare,
            _ if byte.is_ascii_alphanumeric() => Fit::Bare,
            _ if byte.is_ascii_graphic() => Fit::InQuotes,
            _ => Fit::Nowhere,
        };
        byte += 1;
    }
    fitness
};

/// `for=192.0.2.1;proto=https;host=example.com`. A host that is no token stands in quotes (RFC 7239 §4).
fn element(peer: &Peer, host: Option<&HeaderValue>) -> Vec<u8> {
    let host = host.map_or(&[][..], HeaderValue::as_bytes);
    let mut element = Vec::with_capacity(peer.element.len() + host.len() + 8);
    element.extend_from_slice(&peer.element);
    let quote: &[u8] = match host.iter().map(|byte| FITNESS[usize::from(*byte)]).min() {
        None | Some(Fit::Nowhere) => return element,
        Some(Fit::InQuotes) => b"\"",
        Some(Fit::Bare) => b"",
    };
    for part in [b";host=", quote, host, quote] {
        element.extend_from_slice(part);
    }
    element
}

#[cfg(test)]
mod tests;
