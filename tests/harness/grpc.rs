//! Real gRPC on both sides of the gate (tonic): a server that does what a call's metadata says, and its client. Messages
//! are plain bytes: what they are encoded in is nothing to a proxy.

use super::PATIENCE;
use super::net::{ServerAddress, own_loopback};
use super::runtime::{listen, runtime};
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::client::Grpc as Calls;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::server::{ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

/// Answers with what was sent.
pub const UNARY: &str = "/test.Test/Unary";
/// Sends the message as often as its first byte says.
pub const SERVER_STREAM: &str = "/test.Test/ServerStream";
/// Answers with all messages in one.
pub const CLIENT_STREAM: &str = "/test.Test/ClientStream";
/// Answers each message with itself as it comes.
pub const BOTH_STREAM: &str = "/test.Test/BothStream";

const LARGEST: usize = 64 * 1024 * 1024;

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A running server. What a call's metadata `do` says, it does:
///
/// - `fail`: ends at once with the status in `code`, a message, details and metadata;
/// - `fail-late`: the same, after the first message of a stream;
/// - `hang`: says nothing more, after the first message of a stream.
///
/// Metadata whose name begins with `echo-` is sent back.
pub struct GrpcServer {
    label: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<MetadataMap>>,
    cancelled: AtomicUsize,
}

impl GrpcServer {
    pub fn start(label: &str) -> Self {
        Self::start_with(label, (own_loopback(), 0).into(), None)
    }

    /// Over TLS, with this certificate and key as PEM.
    pub fn start_tls(label: &str, address: SocketAddr, pair: (String, String)) -> Self {
        Self::start_with(label, address, Some(pair))
    }

    fn start_with(label: &str, address: SocketAddr, tls: Option<(String, String)>) -> Self {
        // there may be two in the program, of which neither is chosen
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let runtime = runtime();
        let (listener, address) = listen(&runtime, address);
        let shared = Arc::new(Shared::default());
        let mut server = Server::builder();
        if let Some((cert, key)) = tls {
            let identity = Identity::from_pem(cert, key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).expect("a certificate");
        }
        let service = TestService(shared.clone());
        runtime.spawn(server.serve_with_incoming(service, TcpListenerStream::new(listener)));
        Self { label: label.to_owned(), address, shared, _runtime: runtime }
    }

    /// The metadata of the calls so far.
    pub fn seen(&self) -> Vec<MetadataMap> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many calls that were told to hang were given up.
    pub fn cancelled(&self) -> usize {
        self.shared.cancelled.load(Ordering::SeqCst)
    }
}

impl ServerAddress for GrpcServer {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Runs a story to its end.
#[track_caller]
pub fn run<T>(story: impl Future<Output = T>) -> T {
    let bounded = async { tokio::time::timeout(PATIENCE, story).await };
    runtime().block_on(bounded).expect("in time")
}

/// A client of plaintext, or of TLS with certificates of this authority (PEM).
pub async fn client(to: SocketAddr, authority: Option<String>) -> Calls<Channel> {
    let scheme = if authority.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{to}")).expect("an address");
    if let Some(pem) = authority {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)).domain_name("gate.test");
        endpoint = endpoint.tls_config(tls).expect("an authority");
    }
    let channel = endpoint.connect().await.expect("a connection");
    Calls::new(channel).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST)
}

pub fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

/// A call of [`UNARY`].
pub async fn unary(calls: &mut Calls<Channel>, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    calls.ready().await.expect("a connection");
    calls.unary(request, path(UNARY), Raw).await
}

/// A message with these pairs of metadata.
pub fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().expect("a value"));
    }
    request
}

#[derive(Clone)]
struct TestService(Arc<Shared>);

impl Service<http::Request<Body>> for TestService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = Handler(self.0.clone());
        Box::pin(async move {
            let mut grpc =
                Grpc::new(Raw).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
            Ok(match request.uri().path() {
                UNARY => grpc.unary(handler, request).await,
                SERVER_STREAM => grpc.server_streaming(handler, request).await,
                CLIENT_STREAM => grpc.client_streaming(handler, request).await,
                BOTH_STREAM => grpc.streaming(handler, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

struct Handler(Arc<Shared>);

/// Counts a call as given up unless it comes to an end.
struct GivenUp(Arc<Shared>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a call is to do, and the metadata that goes back.
struct Orders {
    what: String,
    failure: Status,
    echo: MetadataMap,
}

impl Handler {
    fn orders(&self, metadata: &MetadataMap) -> Orders {
        self.0.seen.lock().unwrap().push(metadata.clone());
        let text = |name| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut echo = metadata.clone().into_headers();
        let others: Vec<_> =
            echo.keys().filter(|name| !name.as_str().starts_with("echo-")).cloned().collect();
        others.iter().for_each(|name| drop(echo.remove(name)));
        let echo = MetadataMap::from_headers(echo);
        let code = Code::from_i32(text("code").parse().unwrap_or_default());
        let details = Bytes::from_static(b"\0\xffdetails");
        let failure = Status::with_details_and_metadata(code, "100% \u{2717}", details, echo.clone());
        Orders { what: text("do").to_owned(), failure, echo }
    }
}

impl Orders {
    fn answer<T>(self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        *response.metadata_mut() = self.echo;
        response
    }
}

impl UnaryService<Bytes> for Handler {
    type Response = Bytes;
    type Future = Later<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (orders, shared) = (self.orders(request.metadata()), self.0.clone());
        Box::pin(async move {
            match orders.what.as_str() {
                "fail" => Err(orders.failure),
                "hang" => {
                    let _given_up = GivenUp(shared);
                    std::future::pending().await
                }
                _ => Ok(orders.answer(request.into_inner())),
            }
        })
    }
}

impl ServerStreamingService<Bytes> for Handler {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Later<Result<Response<Messages>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (orders, shared) = (self.orders(request.metadata()), self.0.clone());
        let message = request.into_inner();
        let (sender, receiver) = mpsc::channel(1);
        let (what, failure) = (orders.what.clone(), orders.failure.clone());
        tokio::spawn(async move {
            for _ in 0..message.first().copied().unwrap_or_default() {
                if sender.send(Ok(message.clone())).await.is_err() {
                    return;
                }
                match what.as_str() {
                    "fail-late" => return drop(sender.send(Err(failure)).await),
                    "hang" => {
                        let _given_up = GivenUp(shared);
                        return sender.closed().await;
                    }
                    _ => {}
                }
            }
        });
        Box::pin(async move {
            if orders.what == "fail" {
                return Err(orders.failure);
            }
            Ok(orders.answer(Box::pin(ReceiverStream::new(receiver)) as Messages))
        })
    }
}

impl ClientStreamingService<Bytes> for Handler {
    type Response = Bytes;
    type Future = Later<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let orders = self.orders(request.metadata());
        Box::pin(async move {
            if orders.what == "fail" {
                return Err(orders.failure);
            }
            let (mut messages, mut all) = (request.into_inner(), Vec::new());
            while let Some(message) = messages.message().await? {
                all.extend_from_slice(&message);
            }
            Ok(orders.answer(all.into()))
        })
    }
}

impl StreamingService<Bytes> for Handler {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Later<Result<Response<Messages>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let orders = self.orders(request.metadata());
        Box::pin(async move {
            if orders.what == "fail" {
                return Err(orders.failure);
            }
            let messages = request.into_inner().filter(|message| {
                // that the client has gone is no message
                message.is_ok()
            });
            Ok(orders.answer(Box::pin(messages) as Messages))
        })
    }
}
