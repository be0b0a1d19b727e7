//! `grpc_web`: browsers call gRPC servers. They have no trailers, and speak gRPC-Web instead (PROTOCOL-WEB.md of the
//! gRPC project), in which the end of an answer is a part of its body; the server sees gRPC.

use super::{Exchange, Filter, FilterSettings, Phases};
use crate::grpc::base64::{self, Decoder};
use crate::grpc::{Kind, trailers_frame};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

static GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Translate calls of gRPC-Web, binary or text, to gRPC for servers that are spoken to over HTTP/2, and their answers
/// back. All other requests pass as they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcWeb {}

/// The behaviour of [`GrpcWeb`].
pub struct GrpcWebFilter;

impl FilterSettings for GrpcWeb {
    const KEY: &'static str = "grpc_web";
    type Filter = GrpcWebFilter;

    fn build(&self) -> Result<GrpcWebFilter, String> {
        Ok(GrpcWebFilter)
    }
}

/// A call that is translated on its way to a server.
#[derive(Debug, Clone, Copy)]
struct Bridge {
    text: bool,
    request: Decoder,
    /// The server answers in gRPC.
    answered: bool,
}

fn bridge<'a>(ex: &'a mut Exchange<'_>) -> Option<&'a mut Bridge> {
    ex.state().get_mut::<Bridge>()
}

impl Filter for GrpcWebFilter {
    fn phases(&self) -> Phases {
        let request = Phases::UPSTREAM_REQUEST.and(Phases::REQUEST_BODY);
        request.and(Phases::RESPONSE).and(Phases::RESPONSE_BODY).and(Phases::RESPONSE_TRAILERS)
    }

    fn upstream_request(&self, ex: &mut Exchange<'_>, head: &mut RequestHeader) {
        // a try before this one may have begun to translate
        ex.state().remove::<Bridge>();
        let text = match Kind::of(&head.headers) {
            Some(Kind::Web) => false,
            Some(Kind::WebText) => true,
            Some(Kind::Grpc) | None => return,
        };
        // over HTTP/1.1 there are no trailers that could be translated back
        if head.version == Version::HTTP_2 && translate(head, text).is_some() {
            ex.state().insert(Bridge { text, request: Decoder::default(), answered: false });
        }
    }

    fn request_body(
        &self,
        ex: &mut Exchange<'_>,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), (StatusCode, &'static str)> {
        let Some(bridge) = bridge(ex).filter(|bridge| bridge.text) else { return Ok(()) };
        let piece = bridge.request.decode(body.as_deref().unwrap_or_default(), end);
        let piece = piece.ok_or((StatusCode::BAD_REQUEST, "malformed base64 of gRPC-Web"))?;
        if body.is_some() || !piece.is_empty() {
            *body = Some(piece);
        }
        Ok(())
    }

    fn response(&self, ex: &mut Exchange<'_>, head: &mut ResponseHeader) {
        let asked = ex.request().headers.get(header::CONTENT_TYPE).cloned();
        let (Some(bridge), Some(asked)) = (bridge(ex), asked) else { return };
        if Kind::of(&head.headers) != Some(Kind::Grpc) {
            return;
        }
        bridge.answered = true;
        // the end makes the body longer, and so does text
        head.remove_header(&header::CONTENT_LENGTH);
        // takes the place of another
        head.insert_header(header::CONTENT_TYPE, asked).ok();
    }

    fn response_body(&self, ex: &mut Exchange<'_>, body: &mut Option<Bytes>, _end: bool) {
        let text = bridge(ex).is_some_and(|bridge| bridge.text && bridge.answered);
        if let Some(piece) = body.as_mut().filter(|piece| text && !piece.is_empty()) {
            *piece = base64::encode(piece);
        }
    }

    fn response_trailers(&self, ex: &mut Exchange<'_>, trailers: &mut HeaderMap) -> Option<Bytes> {
        let bridge = bridge(ex).filter(|bridge| bridge.answered)?;
        let frame = trailers_frame(trailers);
        Some(if bridge.text { base64::encode(&frame) } else { frame })
    }
}

/// The head of a call of gRPC-Web as that of gRPC. `None`: it has too many headers.
fn translate(head: &mut RequestHeader, text: bool) -> Option<()> {
    let kind = Kind::Grpc.instead_of(head.headers.get(header::CONTENT_TYPE)?);
    head.insert_header(header::CONTENT_TYPE, kind).ok()?;
    // says that trailers arrive; without it servers suspect a proxy that does not pass them on
    head.insert_header(header::TE, "trailers").ok()?;
    if !head.headers.contains_key(&GRPC_ACCEPT_ENCODING) {
        // what the client can read is not said; Envoy does the same
        head.insert_header(GRPC_ACCEPT_ENCODING.clone(), HeaderValue::from_static("identity")).ok()?;
    }
    if text {
        head.remove_header(&header::CONTENT_LENGTH);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_translated() {
        for (web, grpc) in [
            ("application/grpc-web", "application/grpc"),
            ("application/grpc-web+proto", "application/grpc+proto"),
            ("application/grpc-web-text+proto", "application/grpc+proto"),
        ] {
            let mut head = RequestHeader::build("POST", b"/a.B/C", None).unwrap();
            head.insert_header("content-type", web).unwrap();
            head.insert_header("content-length", 8).unwrap();
            let text = web.contains("text");
            translate(&mut head, text).unwrap();
            assert_eq!(head.headers["content-type"], grpc);
            assert_eq!(head.headers["te"], "trailers");
            assert_eq!(head.headers["grpc-accept-encoding"], "identity");
            assert_eq!(head.headers.contains_key("content-length"), !text);
        }
    }
}
