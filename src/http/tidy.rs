//! What of a request no server is to see, taken out before a route is looked for. Called by `intake`. What
//! clients claim about themselves is left to `forwarded`, and what concerns one connection to Pingora.

use super::refusal::Reject;
use crate::config::file::Underscores;
use http::{HeaderMap, HeaderName, Method, Version, header};
use pingora_http::RequestHeader;

/// Headers that frame a message or that the gate vouches for. A server that reads `_` as `-` must not find a second
/// one beside them.
const OURS: [&str; 6] =
    ["content-length", "transfer-encoding", "host", "connection", "upgrade", "x-request-id"];

/// Takes out:
/// - headers with an underscore, as `underscores` says, and always those that look like one of [`OURS`];
/// - `Proxy`, which CGI makes `HTTP_PROXY`, a setting (CVE-2016-5385, "httpoxy");
/// - an `Upgrade` to anything but a WebSocket: `h2c` would be a tunnel past every route and filter, and a server that
///   answers 101 to it would be believed.
///
/// # Errors
/// A header with an underscore where those are refused.
pub fn request(head: &mut RequestHeader, underscores: Underscores) -> Result<(), Reject> {
    // nearly always empty, and then without allocation
    let mut out: Vec<HeaderName> = Vec::new();
    for name in head.headers.keys() {
        let text = name.as_str();
        let goes = match text.len() {
            5 if text == "proxy" => true,
            7 if *name == header::UPGRADE => !asks_for_websocket(head),
            _ if memchr::memchr(b'_', text.as_bytes()).is_none() => false,
            _ => match underscores {
                Underscores::Allow => OURS.iter().any(|ours| alike(text, ours)),
                Underscores::Drop => true,
                Underscores::Reject => return Err(Reject::BadRequest("underscore in a header name")),
            },
        };
        if goes {
            out.push(name.clone());
        }
    }
    for name in &out {
        head.remove_header(name);
    }
    Ok(())
}

/// Whether a name in lower case is this one but for its underscores.
fn alike(name: &str, ours: &str) -> bool {
    name.len() == ours.len()
        && name.bytes().zip(ours.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

/// RFC 6455 §4.1. With a body it would be unclear where the other protocol begins. `edge::head` judges alike.
fn asks_for_websocket(head: &RequestHeader) -> bool {
    let has = |name| head.headers.contains_key(name);
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && only(&head.headers, header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"))
        && !has(header::TRANSFER_ENCODING)
        && only(&head.headers, header::CONTENT_LENGTH)
            .is_none_or(|length| length.iter().all(|digit| *digit == b'0'))
}

fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(method: &str, headers: &[(&str, &str)], underscores: Underscores) -> Result<Vec<String>, Reject> {
        let mut head = RequestHeader::build(method, b"/", None).unwrap();
        for (name, value) in headers {
            head.append_header((*name).to_string(), *value).unwrap();
        }
        request(&mut head, underscores)?;
        Ok(head.headers.keys().map(|name| name.as_str().to_string()).collect())
    }

    #[test]
    fn underscores_are_a_choice_but_never_beside_a_header_of_ours() {
        let headers =
            [("x_user", "1"), ("Content_Length", "5"), ("Transfer_encoding", "chunked"), ("x-user", "2")];
        assert_eq!(left("GET", &headers, Underscores::Allow).unwrap(), ["x_user", "x-user"]);
        assert_eq!(left("GET", &headers, Underscores::Drop).unwrap(), ["x-user"]);
        assert!(left("GET", &headers, Underscores::Reject).is_err());
        assert!(left("GET", &[("x-user", "2")], Underscores::Reject).is_ok());
    }

    #[test]
    fn only_a_websocket_is_upgraded_to() {
        let kept = |method, headers: &[(&str, &str)]| {
            let all = [&[("Connection", "Upgrade"), ("Proxy", "http://x")], headers].concat();
            left(method, &all, Underscores::Allow).unwrap().contains(&"upgrade".to_string())
        };
        let websocket = ("Upgrade", "WebSocket");
        assert!(kept("GET", &[websocket]));
        assert!(kept("GET", &[websocket, ("Content-Length", "0")]));
        assert!(!kept("POST", &[websocket]));
        assert!(!kept("GET", &[websocket, ("Content-Length", "5")]));
        assert!(!kept("GET", &[websocket, ("Transfer-Encoding", "chunked")]));
        assert!(!kept("GET", &[websocket, ("Upgrade", "h2c")]));
        assert!(!kept("GET", &[("Upgrade", "websocket, h2c")]));
        assert!(!kept("GET", &[("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")]));
    }

    #[test]
    fn proxy_is_no_header() {
        assert_eq!(
            left("GET", &[("Proxy", "http://x"), ("Proxy-X", "1")], Underscores::Allow).unwrap(),
            ["proxy-x"]
        );
    }
}
