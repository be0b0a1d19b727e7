//! Who the client is and what servers are told of it: nobody is believed who is not trusted, and what is written is well-formed.
//!
//! The first byte says who the peer is, each line after it is a header.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::RequestHeader;
use std::net::IpAddr;
use weirgate::config::file::ProxyHeaders;
use weirgate::http::RequestId;
use weirgate::http::forwarded::{Facts, Peer, apply, resolve};

const NAMES: [&str; 8] = [
    "x-forwarded-for",
    "forwarded",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-real-ip",
    "x-request-id",
    "x_forwarded_for",
    "x-forwarded-anything",
];

pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let trusted_peer = first & 1 == 0;
    let peer: IpAddr = if trusted_peer { [10, 0, 0, 1].into() } else { [192, 0, 2, 1].into() };
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let mut head = RequestHeader::build("GET", b"/", None).expect("a head");
    for line in rest.split(|b| *b == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        head.append_header(name, value).expect("few headers");
    }
    let client = resolve(peer, &head.headers, &trusted, false);
    assert_eq!(client.trusted, trusted_peer);
    if !trusted_peer {
        assert_eq!((client.addr, client.https), (peer, false), "a stranger is believed");
    }
    let request_id = RequestId::of(&head.headers, client.trusted);
    let facts = Facts {
        peer: &Peer::new(peer, false),
        trusted: client.trusted,
        https: client.https,
        host: None,
        request_id: &request_id,
    };
    apply(&mut head, &facts, &ProxyHeaders::default()).expect("few headers");
    told(&head.headers, peer, trusted_peer);
}

/// What a server reads.
fn told(headers: &HeaderMap, peer: IpAddr, trusted: bool) {
    let only = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().unwrap_or_else(|| panic!("no {name}"));
        assert!(values.next().is_none(), "two {name}");
        value.as_bytes()
    };
    let list = only("x-forwarded-for");
    let last = list.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
    assert_eq!(last, peer.to_string().as_bytes(), "the nearest proxy is the last of the list");
    assert!(trusted || list == last, "a stranger's list is continued");
    let element = only("forwarded").rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
    assert!(element.starts_with(format!("for={peer};proto=").as_bytes()), "{}", element.escape_ascii());
    // that of a trusted proxy is kept as it is
    assert!(trusted || only("x-forwarded-proto") == b"http");
    let id = only("x-request-id");
    assert!(!id.is_empty() && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b)));
    assert!(headers.keys().all(|name| !name.as_str().contains('_')), "a lookalike");
    assert!(trusted || !headers.contains_key("x-real-ip") && !headers.contains_key("x-forwarded-anything"));
}
