//! What of a message was meant for the gate alone. Called by the switchboard for every response head of a server, before
//! any filter sees it, and by `forward` for every request.

use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora_core::upstreams::peer::HttpUpstreamRequestPolicy;
use pingora_http::ResponseHeader;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What Pingora is to do about the headers of a request that concern one connection. It searches for each name that is
/// one of them, and for what `Connection` names. Where there is none to be found it need not.
pub fn policy(headers: &HeaderMap) -> HttpUpstreamRequestPolicy {
    if headers.keys().any(is_of_one_hop) {
        HttpUpstreamRequestPolicy::default()
    } else {
        HttpUpstreamRequestPolicy::preserve()
    }
}

/// All that Pingora removes from requests, by `HttpUpstreamRequestPolicy::default()`.
fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes the headers that concern one connection: those that `Connection` names, and the two that old servers
/// send without naming them (RFC 9110 §7.6.1). `Connection` itself is written anew by Pingora; with a switch of
/// protocols it is what the client waits for.
pub fn strip(head: &mut ResponseHeader) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if head.status.is_informational() {
        return strip_interim(head);
    }
    remove_hop(head);
}

fn remove_hop(head: &mut ResponseHeader) {
    // one look at each name instead of a search for each of the three, as there is mostly none
    let (mut names, mut old) = (false, false);
    for name in head.headers.keys() {
        match name.as_str() {
            "connection" => names = true,
            "keep-alive" | "proxy-connection" => old = true,
            _ => {}
        }
    }
    // nearly every server says no more than this
    if names && !head.headers.get_all(header::CONNECTION).iter().all(|value| names_nothing(value.as_bytes()))
    {
        remove_named(head);
    }
    if old {
        head.remove_header(&KEEP_ALIVE);
        head.remove_header(&PROXY_CONNECTION);
    }
}

/// Whether this element of `Connection` names no header that is there, or one that goes anyway.
fn names_nothing(element: &[u8]) -> bool {
    element.eq_ignore_ascii_case(b"close") || element.eq_ignore_ascii_case(b"keep-alive")
}

/// An interim answer has no body that anything could frame (RFC 9112 §6.1, §6.2), and nobody writes its `Connection` anew.
fn strip_interim(head: &mut ResponseHeader) {
    remove_hop(head);
    for name in [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        head.remove_header(&name);
    }
}

fn remove_named(head: &mut ResponseHeader) {
    let named: Vec<HeaderName> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !names_nothing(name.as_bytes()))
        .filter_map(|name| name.parse().ok())
        .filter(|name| !frames(name))
        .collect();
    for name in &named {
        head.remove_header(name);
    }
}

/// Where the body ends is not for `Connection` to take away.
fn frames(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_is_removed_but_not_the_framing() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Connection", "X-Back, close"),
            ("connection", "content-length"),
            ("X-Back", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Content-Length", "3"),
            ("X-Stays", "1"),
        ] {
            head.append_header(name, value).unwrap();
        }
        strip(&mut head);
        let mut left: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["connection", "content-length", "x-stays"]);
    }

    #[test]
    fn an_interim_answer_frames_nothing_and_a_switch_keeps_all() {
        for (status, kept) in [(103, 1), (100, 1), (101, 7)] {
            let mut head = ResponseHeader::build(status, None).unwrap();
            for (name, value) in [
                ("Connection", "Upgrade, X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Upgrade", "websocket"),
                ("Content-Length", "3"),
                ("Transfer-Encoding", "chunked"),
                ("Link", "</a>"),
            ] {
                head.append_header(name, value).unwrap();
            }
            strip(&mut head);
            assert_eq!(head.headers.len(), kept, "{status}: {:?}", head.headers);
        }
    }
}
