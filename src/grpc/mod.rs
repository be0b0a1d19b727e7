//! The words of gRPC over HTTP/2 (PROTOCOL-HTTP2.md of the gRPC project) and of gRPC-Web (PROTOCOL-WEB.md): what a
//! content type says, deadlines, statuses, the end of an answer as a part of its body. Nothing here knows of requests:
//! `http::call` and the filter `grpc_web` do.

pub mod base64;
pub mod status;
pub mod timeout;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

pub static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Marks a frame of gRPC-Web that holds trailers, where gRPC has the flag for a compressed message.
const TRAILERS: u8 = 0x80;

/// What a message is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// gRPC itself: its end is in the trailers of HTTP/2.
    Grpc,
    /// gRPC-Web: its end is in the body.
    Web,
    /// The same, as base64 text.
    WebText,
}

impl Kind {
    /// By the content type; `None` when that is something else.
    pub fn of(headers: &HeaderMap) -> Option<Kind> {
        Self::split(headers.get(header::CONTENT_TYPE)?.as_bytes()).map(|(kind, _)| kind)
    }

    /// What a content type says, and what it says of the messages: `+proto`, or nothing.
    pub fn split(content_type: &[u8]) -> Option<(Kind, &[u8])> {
        let rest = content_type.strip_prefix(b"application/grpc")?;
        let (kind, rest) = match rest.strip_prefix(b"-web") {
            Some(rest) => match rest.strip_prefix(b"-text") {
                Some(rest) => (Kind::WebText, rest),
                None => (Kind::Web, rest),
            },
            None => (Kind::Grpc, rest),
        };
        matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some((kind, rest))
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Kind::Grpc => "application/grpc",
            Kind::Web => "application/grpc-web",
            Kind::WebText => "application/grpc-web-text",
        }
    }

    /// The content type of messages of this kind which are what `other` says of its own.
    pub fn instead_of(self, other: &HeaderValue) -> HeaderValue {
        let rest = Self::split(other.as_bytes()).map_or(&b""[..], |(_, rest)| rest);
        let text = [self.content_type().as_bytes(), rest].concat();
        // a part of a value is one
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(self.content_type()))
    }
}

/// Trailers as the last frame of a body of gRPC-Web.
pub fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut frame = BytesMut::with_capacity(128);
    frame.put_u8(TRAILERS);
    frame.put_u32(0);
    for (name, value) in trailers {
        frame.put_slice(name.as_str().as_bytes());
        frame.put_u8(b':');
        frame.put_slice(value.as_bytes());
        frame.put_slice(b"\r\n");
    }
    // trailers of 4 GB were not read
    let length = u32::try_from(frame.len() - 5).unwrap_or(u32::MAX);
    if let Some(place) = frame.get_mut(1..5) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    frame.freeze()
}

/// A text as the value of `grpc-message`: percent-encoded but for the printable characters of ASCII.
pub fn message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        for (text, said) in [
            ("application/grpc", Some((Kind::Grpc, ""))),
            ("application/grpc+proto", Some((Kind::Grpc, "+proto"))),
            ("application/grpc;charset=x", Some((Kind::Grpc, ";charset=x"))),
            ("application/grpc-web", Some((Kind::Web, ""))),
            ("application/grpc-web+proto", Some((Kind::Web, "+proto"))),
            ("application/grpc-web-text", Some((Kind::WebText, ""))),
            ("application/grpc-web-text+json", Some((Kind::WebText, "+json"))),
            ("application/grpc-webs", None),
            ("application/grpcx", None),
            ("application/json", None),
        ] {
            let said = said.map(|(kind, rest)| (kind, rest.as_bytes()));
            assert_eq!(Kind::split(text.as_bytes()), said, "{text}");
        }
        let other = HeaderValue::from_static("application/grpc-web-text+proto");
        assert_eq!(Kind::Grpc.instead_of(&other), "application/grpc+proto");
        assert_eq!(
            Kind::WebText.instead_of(&HeaderValue::from_static("application/grpc")),
            "application/grpc-web-text"
        );
    }

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(message("100% ~ \n\u{e9}"), "100%25 ~ %0A%C3%A9");
        assert_eq!(message(""), "");
    }

    #[test]
    fn trailers_become_a_frame() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("grpc-message", HeaderValue::from_static("OK"));
        let text = b"grpc-status:0\r\ngrpc-message:OK\r\n";
        assert_eq!(trailers_frame(&trailers), [&[0x80, 0, 0, 0, 32], &text[..]].concat());
    }
}
