//! A collector inside the test process: it takes what is sent over OTLP, by HTTP/1.1 or gRPC, with TLS or without, and
//! reads it with the messages that the OpenTelemetry project generates.

use crate::harness::{PATIENCE, ServerAddress, eventually, listen, own_loopback, runtime};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{self as otlp, span::SpanKind};
use prost::Message as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Http,
    Grpc,
}

/// A running collector.
pub struct Collector {
    label: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    /// What is answered next: statuses of HTTP, or codes of gRPC. Otherwise all is well.
    answers: Mutex<VecDeque<u16>>,
    messages: Mutex<Vec<Message>>,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    pub path: String,
    pub headers: HeaderMap,
    /// Encoded, without what gRPC puts before it.
    pub bytes: Bytes,
    /// Whether it was answered that all is well.
    pub taken: bool,
    pub resource: BTreeMap<String, String>,
    pub spans: Vec<Span>,
}

/// A span, in words.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty: it has none.
    pub parent: String,
    pub name: String,
    pub kind: SpanKind,
    pub state: String,
    pub flags: u32,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    /// That something went wrong, and what.
    pub error: Option<String>,
    /// Traces and spans.
    pub links: Vec<(String, String)>,
}

impl Span {
    /// An attribute, or nothing.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    pub fn start(label: &str) -> Collector {
        Collector::with(label, SocketAddr::from((own_loopback(), 0)), Carrier::Http, None)
    }

    pub fn with(
        label: &str,
        address: SocketAddr,
        carrier: Carrier,
        pair: Option<(String, String)>,
    ) -> Collector {
        let runtime = runtime();
        let (listener, address) = listen(&runtime, address);
        let acceptor = pair.map(|pair| acceptor(&pair, carrier));
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (shared, acceptor) = (accepting.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(tcp, carrier, shared).await,
                        Some(acceptor) => {
                            if let Ok(tls) = acceptor.accept(tcp).await {
                                serve(tls, carrier, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Collector { label: label.to_owned(), address, shared, _runtime: runtime }
    }

    /// What the next messages are answered with.
    pub fn answers(&self, statuses: &[u16]) {
        self.shared.answers.lock().expect("lock").extend(statuses);
    }

    pub fn messages(&self) -> Vec<Message> {
        self.shared.messages.lock().expect("lock").clone()
    }

    /// Those that were taken, in the order in which they came.
    pub fn spans(&self) -> Vec<Span> {
        self.messages()
            .into_iter()
            .filter(|message| message.taken)
            .flat_map(|message| message.spans)
            .collect()
    }

    /// Waits for the spans of a request for this path: its own, and then those of its tries in their order.
    #[track_caller]
    pub fn request(&self, path: &str) -> (Span, Vec<Span>) {
        let of_request = |span: &Span| span.kind == SpanKind::Server && span.get("url.path") == path;
        eventually(&format!("the span of {path}"), || self.spans().iter().any(of_request));
        let all = self.spans();
        let mut found = all.iter().filter(|span| of_request(span));
        let request = found.next().expect("it was there").clone();
        assert!(found.next().is_none(), "{path} is told of twice");
        let mut tries: Vec<Span> = all.into_iter().filter(|span| span.parent == request.id).collect();
        tries.sort_by_key(|span| span.start);
        (request, tries)
    }
}

impl ServerAddress for Collector {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

fn acceptor((cert, key): &(String, String), carrier: Carrier) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    if carrier == Carrier::Grpc {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    TlsAcceptor::from(Arc::new(config))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    carrier: Carrier,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| answer(request, carrier, shared.clone()));
    let stream = TokioIo::new(stream);
    // whoever breaks off is the gate's affair
    match carrier {
        Carrier::Http => drop(http1::Builder::new().serve_connection(stream, service).await),
        Carrier::Grpc => {
            drop(http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await);
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    carrier: Carrier,
    shared: Arc<Shared>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if carrier == Carrier::Grpc {
        let prefix = bytes.split_to(5.min(bytes.len()));
        assert_eq!(prefix.last_chunk().map(|length| u32::from_be_bytes(*length) as usize), Some(bytes.len()));
    }
    let well = if carrier == Carrier::Http { 200 } else { 0 };
    let status = shared.answers.lock().expect("lock").pop_front().unwrap_or(well);
    let message = read(head.uri.path().to_owned(), head.headers, bytes, status == well);
    shared.messages.lock().expect("lock").push(message);
    if status == HANG {
        tokio::time::sleep(PATIENCE * 10).await;
    }
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    Ok(match carrier {
        Carrier::Http => {
            Response::builder().status(status).body(Full::from(answer).boxed()).expect("a response")
        }
        Carrier::Grpc => {
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(u32::try_from(answer.len()).expect("short"));
            framed.extend_from_slice(&answer);
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                HeaderValue::from(status),
            )]);
            let body = Full::from(framed.freeze()).with_trailers(async move { Some(Ok(trailers)) });
            let response = Response::builder().header("content-type", "application/grpc");
            response.body(body.boxed()).expect("a response")
        }
    })
}

/// Says that there is no answer.
pub const HANG: u16 = 999;

fn read(path: String, headers: HeaderMap, bytes: Bytes, taken: bool) -> Message {
    let request = ExportTraceServiceRequest::decode(bytes.clone()).expect("a message of OTLP");
    let mut resource = BTreeMap::new();
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        resource.extend(words(of_resource.resource.unwrap_or_default().attributes));
        spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(span));
    }
    Message { path, headers, bytes, taken, resource, spans }
}

fn span(span: otlp::Span) -> Span {
    let kind = span.kind();
    let status = span.status.unwrap_or_default();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind,
        state: span.trace_state,
        flags: span.flags,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: words(span.attributes),
        error: (status.code() == otlp::status::StatusCode::Error).then_some(status.message),
        links: span.links.into_iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
    }
}

fn words(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let word = |attribute: KeyValue| {
        let value = match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(number)) => number.to_string(),
            Some(Value::BoolValue(truth)) => truth.to_string(),
            other => panic!("{}: {other:?}", attribute.key),
        };
        (attribute.key, value)
    };
    attributes.into_iter().map(word).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
