//! How messages get to a collector: OTLP over HTTP/1.1 or gRPC, with the collector's certificate verified over TLS, in
//! bounded time and size (OTLP Specification 1.9).

use crate::config::file::OtlpProtocol;
use crate::config::plan;
use crate::grpc::{GRPC_MESSAGE, GRPC_STATUS};
use crate::roots;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::error::Error;
use std::time::Duration;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("weirgate/", env!("CARGO_PKG_VERSION")));
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// The largest answer: there are a few words in it.
const LARGEST: usize = 64 * 1024;

/// Bytes before a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    name: String,
    protocol: OtlpProtocol,
    headers: HeaderMap,
    timeout: Duration,
}

/// A message was not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub why: String,
    /// It may be sent again; and after how long, if the collector said so.
    pub again: Option<Option<Duration>>,
}

impl Refused {
    fn now(why: impl Into<String>) -> Refused {
        Refused { why: why.into(), again: None }
    }

    fn for_now(why: impl Into<String>) -> Refused {
        Refused { why: why.into(), again: Some(None) }
    }
}

impl Collector {
    /// # Errors
    /// In words: no trusted authorities are found on this system.
    pub(super) fn new(plan: &plan::Otlp) -> Result<Collector, String> {
        let tls = match plan.endpoint.scheme_str() {
            Some("https") => roots::client(&plan.trust)?,
            // never spoken
            _ => roots::client(&plan::Trust::These(Vec::new()))?,
        };
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let mut client = Client::builder(TokioExecutor::new());
        let client = match plan.protocol {
            OtlpProtocol::HttpProtobuf => client.build(https.enable_http1().build()),
            OtlpProtocol::Grpc => client.http2_only(true).build(https.enable_http2().build()),
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, AGENT);
        for (name, value) in &plan.headers {
            let mut value = HeaderValue::from_bytes(value.reveal()).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        match plan.protocol {
            OtlpProtocol::HttpProtobuf => drop(headers.insert(CONTENT_TYPE, PROTOBUF)),
            OtlpProtocol::Grpc => {
                headers.insert(CONTENT_TYPE, GRPC);
                headers.insert(TE, TRAILERS);
            }
        }
        let name = plan.endpoint.authority().map(ToString::to_string).unwrap_or_default();
        let (endpoint, protocol, timeout) = (plan.endpoint.clone(), plan.protocol, plan.timeout);
        Ok(Collector { client, endpoint, name, protocol, headers, timeout })
    }

    /// Where it is.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sends one message: how many of its spans were not wanted.
    pub(super) async fn export(&self, message: Bytes) -> Result<u64, Refused> {
        match tokio::time::timeout(self.timeout, self.exchange(message)).await {
            Ok(answered) => answered,
            Err(_) => Err(Refused::for_now("no answer in time")),
        }
    }

    async fn exchange(&self, message: Bytes) -> Result<u64, Refused> {
        let body = match self.protocol {
            OtlpProtocol::HttpProtobuf => message,
            OtlpProtocol::Grpc => framed(&message)?,
        };
        let mut request = Request::post(self.endpoint.clone())
            .body(Full::new(body))
            .map_err(|error| Refused::now(error.to_string()))?;
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.request(request).await.map_err(|error| Refused::for_now(causes(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|error| Refused::for_now(causes(error.as_ref())))?;
        match self.protocol {
            OtlpProtocol::HttpProtobuf => of_http(head.status, &head.headers, &body.to_bytes()),
            OtlpProtocol::Grpc => of_grpc(head.status, &head.headers, body),
        }
    }
}

/// With its length before it, as gRPC has it.
fn framed(message: &Bytes) -> Result<Bytes, Refused> {
    let length =
        u32::try_from(message.len()).map_err(|_| Refused::now("the message is too large for gRPC"))?;
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    Ok(framed.freeze())
}

/// OTLP/HTTP Response: four statuses mean that it may be sent again.
fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<u64, Refused> {
    if status.is_success() {
        return Ok(rejected(body));
    }
    let why = format!("it answers {status}");
    if !matches!(status.as_u16(), 429 | 502..=504) {
        return Err(Refused::now(why));
    }
    let seconds = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
    Err(Refused { why, again: Some(seconds.map(Duration::from_secs)) })
}

/// OTLP/gRPC Response: so do seven codes.
fn of_grpc(status: StatusCode, headers: &HeaderMap, body: Collected<Bytes>) -> Result<u64, Refused> {
    if status != StatusCode::OK {
        return Err(Refused::for_now(format!("it answers {status}, which is not gRPC")));
    }
    // without a message all there is to say is in the head
    let said = body.trailers().filter(|trailers| trailers.contains_key(&GRPC_STATUS)).unwrap_or(headers);
    let text = |name| said.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (code, words) = (text(&GRPC_STATUS), text(&GRPC_MESSAGE));
    match code.as_str() {
        "0" => Ok(rejected(body.to_bytes().get(PREFIX..).unwrap_or_default())),
        // CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
        "1" | "4" | "8" | "10" | "11" | "14" | "15" => {
            Err(Refused::for_now(format!("it answers gRPC status {code} {words}")))
        }
        _ => Err(Refused::now(format!("it answers gRPC status {code} {words}"))),
    }
}

/// What was taken is said by leaving it out; an answer that cannot be read says that all was.
fn rejected(body: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}

/// An error and what is behind it: that which says something comes last.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        next = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    #[test]
    fn what_may_be_sent_again() {
        let refused = |status: u16, after: Option<&'static str>| {
            let after = after.map(|after| (RETRY_AFTER, HeaderValue::from_static(after)));
            let status = StatusCode::from_u16(status).unwrap();
            of_http(status, &after.into_iter().collect(), b"").unwrap_err().again
        };
        assert_eq!(refused(400, None), None);
        assert_eq!(refused(500, None), None);
        assert_eq!(refused(503, None), Some(None));
        assert_eq!(refused(429, Some("7")), Some(Some(Duration::from_secs(7))));
        assert_eq!(refused(502, Some("soon")), Some(None));
    }

    #[test]
    fn what_was_not_wanted_is_counted() {
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "full".into() };
        let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(of_http(StatusCode::OK, &HeaderMap::new(), &body).unwrap(), 3);
        assert_eq!(of_http(StatusCode::ACCEPTED, &HeaderMap::new(), b"").unwrap(), 0);
        assert_eq!(of_http(StatusCode::OK, &HeaderMap::new(), b"\xff\xff").unwrap(), 0);
    }

    #[test]
    fn a_message_of_grpc_has_its_length_before_it() {
        assert_eq!(&framed(&Bytes::from_static(b"abc")).unwrap()[..], b"\0\0\0\0\x03abc");
    }
}
