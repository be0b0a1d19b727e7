//! A WebSocket that a client of HTTP/2 asks for (RFC 8441), in the words of HTTP/1.1 (RFC 6455), so that it goes the
//! way of every other request. `edge::http2` translates its head, `forward` holds the server's answer against it.

use super::cookie;
use super::intake;
use super::refusal::Reject;
use crate::config::file::ListenerLimits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

/// What a server adds to the key before it hashes it (RFC 6455 §1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// On the head of a translated request: what `Sec-WebSocket-Accept` has to be.
#[derive(Debug, Clone)]
struct Expected(HeaderValue);

/// On the head of a CONNECT that will not be served: what it is answered with, if not that the method is not allowed.
#[derive(Debug, Clone, Copy)]
struct Refused(Reject);

/// Whether it is a CONNECT with a `:protocol` (RFC 8441 §4).
pub fn is_extended_connect(head: &RequestHeader) -> bool {
    head.method == Method::CONNECT && head.extensions.get::<Protocol>().is_some()
}

/// The request with which a client of HTTP/1.1 would have asked for the WebSocket that this CONNECT asks for. Its
/// values are those that were sent: whether HTTP/1.1 can have them is for the caller to see.
///
/// # Errors
/// It is malformed, above a limit (as any request of HTTP/2 would be), or wants another protocol: that is 501, as
/// RFC 9220 §3 says.
pub fn as_upgrade(head: &RequestHeader, limits: &ListenerLimits) -> Result<RequestHeader, Reject> {
    let protocol = head.extensions.get::<Protocol>();
    if !protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket")) {
        return Err(Reject::NotImplemented);
    }
    intake::sound(head, limits)?;
    if head.headers.contains_key(header::CONTENT_LENGTH) {
        // its end is that of the stream, and what is in it is no content (RFC 9110 §9.3.6)
        return Err(Reject::BadRequest("Content-Length on a WebSocket"));
    }
    translate(head).map_err(|_| Reject::BadRequest("malformed WebSocket request"))
}

fn translate(head: &RequestHeader) -> Result<RequestHeader> {
    let mut request =
        RequestHeader::build_no_case(Method::GET, head.raw_path(), Some(head.headers.len() + 4))?;
    request.set_version(Version::HTTP_11);
    let host = head.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    let host = host.and_then(Result::ok).or_else(|| head.headers.get(header::HOST).cloned());
    if let Some(host) = host {
        request.insert_header(header::HOST, host)?;
    }
    for (name, value) in head.headers.iter().filter(|(name, _)| !is_said_anew(name)) {
        request.append_header(name.clone(), value.clone())?;
    }
    cookie::join(&mut request);
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    request.extensions_mut().insert(Expected(accept(&key)?));
    request.insert_header(header::CONNECTION, "Upgrade")?;
    request.insert_header(header::UPGRADE, "websocket")?;
    request.insert_header(header::SEC_WEBSOCKET_KEY, key)?;
    Ok(request)
}

/// What is of one connection, and what each side of the translation has for itself.
fn is_said_anew(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRANSFER_ENCODING,
        header::SEC_WEBSOCKET_KEY,
    ]
    .contains(name)
}

/// The answer to this key (RFC 6455 §4.2.2).
fn accept(key: &str) -> Result<HeaderValue> {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(MAGIC);
    HeaderValue::from_str(&STANDARD.encode(context.finish()))
        .map_err(|e| Error::because(ErrorType::InternalError, "base64 in a header", e))
}

/// Has this CONNECT answered so, instead of with 405.
pub fn refuse(head: &mut RequestHeader, reject: Reject) {
    head.extensions_mut().insert(Refused(reject));
}

/// What a CONNECT is answered with that has not been translated: it would be a tunnel to anywhere.
pub fn refusal(head: &RequestHeader) -> Reject {
    head.extensions.get::<Refused>().map_or(Reject::MethodNotAllowed, |refused| refused.0)
}

/// The version that the client speaks, whatever its request was translated to.
pub fn spoken(head: &RequestHeader) -> Version {
    match head.extensions.get::<Expected>() {
        Some(_) => Version::HTTP_2,
        None => head.version,
    }
}

/// Whether the server has switched to a WebSocket with the one who asked (RFC 6455 §4.1). A client of HTTP/1.1 sees to
/// that itself; to one of HTTP/2 the key is ours.
///
/// # Errors
/// The key was of no interest to the server.
pub fn switched(request: &RequestHeader, answer: &ResponseHeader) -> Result<()> {
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let Some(Expected(expected)) = request.extensions.get::<Expected>() else { return Ok(()) };
    let mut accepts = answer.headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    match (accepts.next().map(|value| value.as_bytes().trim_ascii()), accepts.next()) {
        (Some(accept), None) if accept == expected.as_bytes() => Ok(()),
        (Some(_) | None, _) => {
            let why = "the server switches protocols without the answer to our key";
            Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up())
        }
    }
}

/// The answer in the words of HTTP/2. A switch is a success there (RFC 8441 §5), and a success without a switch would be
/// taken for one: it is 501.
pub fn as_connect_answer(answer: &ResponseHeader) -> Result<ResponseHeader> {
    let mut answer = answer.clone();
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        answer.set_status(StatusCode::OK)?;
        // RFC 9110 §9.3.6; the others are taken out as HTTP/2 has none of them
        for name in [header::SEC_WEBSOCKET_ACCEPT, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            answer.remove_header(&name);
        }
    } else if answer.status.is_success() {
        answer.set_status(StatusCode::NOT_IMPLEMENTED)?;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(protocol: &'static str, headers: &[(&str, &str)]) -> RequestHeader {
        let mut request = http::Request::builder().method("CONNECT").uri("https://a.example/chat?x=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.version(Version::HTTP_2).body(()).unwrap();
        request.extensions_mut().insert(Protocol::from_static(protocol));
        RequestHeader::from(request.into_parts().0)
    }

    fn translated(headers: &[(&str, &str)]) -> Result<RequestHeader, Reject> {
        as_upgrade(&connect("websocket", headers), &ListenerLimits::default())
    }

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_connect_becomes_an_upgrade() {
        let sent = [
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat, superchat"),
            ("sec-websocket-key", "theirs"),
            ("te", "trailers"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("host", "a.example"),
        ];
        let upgrade = translated(&sent).unwrap();
        assert_eq!((upgrade.method.as_str(), upgrade.version), ("GET", Version::HTTP_11));
        assert_eq!(upgrade.raw_path(), b"/chat?x=1");
        let all = |name: &str| -> Vec<&str> {
            upgrade.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!(all("host"), ["a.example"]);
        assert_eq!((all("connection"), all("upgrade")), (vec!["Upgrade"], vec!["websocket"]));
        assert_eq!(all("sec-websocket-version"), ["13"]);
        assert_eq!(all("sec-websocket-protocol"), ["chat, superchat"]);
        assert_eq!(all("cookie"), ["a=1; b=2"]);
        assert!(all("te").is_empty());
        let [key] = all("sec-websocket-key")[..] else { panic!("one key") };
        assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
        assert_ne!(translated(&sent).unwrap().headers["sec-websocket-key"], key, "a key for each");
        assert_eq!(
            (spoken(&upgrade), spoken(&connect("websocket", &[]))),
            (Version::HTTP_2, Version::HTTP_2)
        );
    }

    #[test]
    fn what_is_no_websocket_is_refused() {
        let other = connect("connect-udp", &[]);
        assert!(is_extended_connect(&other));
        assert_eq!(as_upgrade(&other, &ListenerLimits::default()).err(), Some(Reject::NotImplemented));
        assert!(matches!(translated(&[("content-length", "0")]), Err(Reject::BadRequest(_))));
        assert!(matches!(translated(&[("x-a", " padded")]), Err(Reject::BadRequest(_))));
        let many: Vec<_> = (0..200).map(|_| ("x-a", "1")).collect();
        assert_eq!(translated(&many).err(), Some(Reject::HeadersTooLarge));
        let mut plain = RequestHeader::build("CONNECT", b"/", None).unwrap();
        assert!(!is_extended_connect(&plain));
        assert_eq!(refusal(&plain), Reject::MethodNotAllowed);
        refuse(&mut plain, Reject::NotImplemented);
        assert_eq!(refusal(&plain), Reject::NotImplemented);
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn only_the_answer_to_our_key_is_a_switch() {
        let upgrade = translated(&[]).unwrap();
        let right = accept(upgrade.headers["sec-websocket-key"].to_str().unwrap()).unwrap();
        let right = right.to_str().unwrap();
        let (right, wrong) = (("Sec-WebSocket-Accept", right), ("Sec-WebSocket-Accept", "x"));
        assert!(switched(&upgrade, &answer(101, &[right])).is_ok());
        for headers in [&[][..], &[wrong], &[right, right], &[wrong, right]] {
            assert!(switched(&upgrade, &answer(101, headers)).is_err(), "{headers:?}");
        }
        let of_h1 = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(switched(&of_h1, &answer(101, &[])).is_ok(), "its client looks for itself");
    }

    #[test]
    fn a_success_is_a_switch_and_nothing_else_is() {
        let status = |status| as_connect_answer(&answer(status, &[])).unwrap().status.as_u16();
        assert_eq!([101, 200, 204, 302, 403, 426, 503].map(status), [200, 501, 501, 302, 403, 426, 503]);
        let headers =
            [("Sec-WebSocket-Accept", "x"), ("Content-Length", "0"), ("Sec-WebSocket-Protocol", "chat")];
        let answer = as_connect_answer(&answer(101, &headers)).unwrap();
        assert_eq!(answer.headers.keys().collect::<Vec<_>>(), ["sec-websocket-protocol"]);
    }
}
