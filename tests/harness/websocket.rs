//! WebSockets: a server that does what its path says, and clients that come by HTTP/1.1 or HTTP/2, with TLS or without.

use super::PATIENCE;
use super::net::{ServerAddress, own_loopback};
use super::runtime::{listen, runtime};
use super::tls::ClientTls;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::handshake::server::ErrorResponse;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

/// A byte stream, whatever carries it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The client's end.
pub type Socket = WebSocketStream<Box<dyn Wire>>;

/// What a server has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request to switch: method and target, and `HeaderMap` beside it.
    Opened(String),
    /// A close frame with this code and reason; 1005 when it had none.
    Closed(u16, String),
    /// The end without one.
    Gone,
}

/// A server that sends back what it gets, until the path of the request says otherwise:
///
/// - `/close`: closes with 4001 `enough` after the first message;
/// - `/abrupt`: drops the connection after the first message;
/// - `/pieces`: sends `one, two, three` in three frames with a ping between them;
/// - `/ping`: sends a ping, and then what the pong held;
/// - `/push`: sends a thousand messages of 1000 bytes at once;
/// - `/deaf`: reads nothing;
/// - `/forbidden`: 403 `no`, and the connection stays.
pub struct WebSocketServer {
    address: SocketAddr,
    label: String,
    seen: Arc<Mutex<Vec<Event>>>,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    _runtime: Runtime,
}

impl WebSocketServer {
    pub fn start(label: &str) -> Self {
        let runtime = runtime();
        let (listener, address) = listen(&runtime, (own_loopback(), 0));
        let (seen, heads) = (Arc::default(), Arc::default());
        let books = (Arc::clone(&seen), Arc::clone(&heads));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, books.clone()));
            }
        });
        Self { address, label: label.to_owned(), seen, heads, _runtime: runtime }
    }

    pub fn seen(&self) -> Vec<Event> {
        self.seen.lock().unwrap().clone()
    }

    /// The head of the last request.
    #[track_caller]
    pub fn last_head(&self) -> HeaderMap {
        self.heads.lock().unwrap().last().cloned().expect("a request")
    }
}

impl ServerAddress for WebSocketServer {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

type Books = (Arc<Mutex<Vec<Event>>>, Arc<Mutex<Vec<HeaderMap>>>);

// The error is of the library's making.
#[allow(clippy::result_large_err)]
async fn serve(tcp: TcpStream, (seen, heads): Books) {
    let mut path = String::new();
    let opened = |request: &Request<()>, mut answer: Response<()>| {
        path = request.uri().path().to_owned();
        seen.lock().unwrap().push(Event::Opened(format!("{} {}", request.method(), request.uri())));
        heads.lock().unwrap().push(request.headers().clone());
        if path == "/forbidden" {
            let no = Response::builder().status(403).header("content-length", "2").body(Some("no".into()));
            return Err::<_, ErrorResponse>(no.expect("a response"));
        }
        // what it is asked for it can do, as far as anyone here looks
        for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
            let first = request.headers().get(name).and_then(|value| value.to_str().ok()?.split(',').next());
            if let Some(first) = first.and_then(|first| first.trim().parse().ok()) {
                answer.headers_mut().insert(name, first);
            }
        }
        Ok(answer)
    };
    let Ok(mut socket) = accept_hdr_async(tcp, opened).await else { return };
    let end = converse(&path, &mut socket).await;
    seen.lock().unwrap().push(end);
}

async fn converse(path: &str, socket: &mut WebSocketStream<TcpStream>) -> Event {
    if open_with(path, socket).await.is_err() {
        return Event::Gone;
    }
    while let Some(Ok(message)) = socket.next().await {
        let answer = match (path, message) {
            (_, Message::Close(frame)) => {
                // flushes the answer to it, and reads to the end
                while socket.next().await.is_some_and(|next| next.is_ok()) {}
                return frame.map_or(Event::Closed(1005, String::new()), |frame| {
                    Event::Closed(frame.code.into(), frame.reason.to_string())
                });
            }
            ("/abrupt", Message::Text(_)) => return Event::Gone,
            ("/close", Message::Text(_)) => {
                Message::Close(Some(CloseFrame { code: 4001.into(), reason: "enough".into() }))
            }
            ("/ping", Message::Pong(data)) => Message::binary(data),
            (_, same @ (Message::Text(_) | Message::Binary(_))) => same,
            (_, Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
        };
        if socket.send(answer).await.is_err() {
            return Event::Gone;
        }
    }
    Event::Gone
}

/// What it says before it is spoken to.
async fn open_with(path: &str, socket: &mut WebSocketStream<TcpStream>) -> Result<(), Error> {
    match path {
        "/deaf" => std::future::pending().await,
        "/ping" => socket.send(Message::Ping("are you there".into())).await,
        "/pieces" => {
            for frame in pieces(["one, ", "two, ", "three"]) {
                socket.send(Message::Frame(frame)).await?;
            }
            Ok(())
        }
        "/push" => {
            for _ in 0..1000 {
                socket.feed(Message::binary(vec![7; 1000])).await?;
            }
            socket.flush().await
        }
        _ => Ok(()),
    }
}

/// A message in three frames, with a ping between them.
pub fn pieces(texts: [&'static str; 3]) -> Vec<Frame> {
    let piece = |text: &'static str, data, last| Frame::message(text.as_bytes(), OpCode::Data(data), last);
    vec![
        piece(texts[0], Data::Text, false),
        Frame::ping("between"),
        piece(texts[1], Data::Continue, false),
        piece(texts[2], Data::Continue, true),
    ]
}

/// Runs a conversation, which has an end.
#[track_caller]
pub fn within<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = runtime();
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, conversation).await });
    runtime.shutdown_background();
    ended.expect("the conversation has an end")
}

/// Over HTTP/1.1.
pub async fn by_h1(address: SocketAddr, tls: Option<&ClientTls>, path: &str) -> Socket {
    let wire: Box<dyn Wire> = match tls {
        Some(tls) => Box::new(over_tls(address, &tls.clone().alpn(&["http/1.1"])).await),
        None => Box::new(TcpStream::connect(address).await.expect("connect")),
    };
    client_async(format!("ws://localhost{path}"), wire).await.expect("a WebSocket").0
}

async fn over_tls(address: SocketAddr, tls: &ClientTls) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.expect("connect");
    tokio_rustls::TlsConnector::from(tls.config()).connect(tls.server(), tcp).await.expect("TLS")
}

/// A connection of HTTP/2 whose server has said that it takes an extended CONNECT.
pub async fn h2(address: SocketAddr, tls: Option<&ClientTls>) -> SendRequest<Bytes> {
    let wire: Box<dyn Wire> = match tls {
        Some(tls) => Box::new(over_tls(address, &tls.clone().alpn(&["h2"])).await),
        None => Box::new(TcpStream::connect(address).await.expect("connect")),
    };
    let (sender, connection) = h2::client::handshake(wire).await.expect("HTTP/2");
    tokio::spawn(async move {
        // a connection that the gate ends shows in the stream that fails
        let _ = connection.await;
    });
    // its SETTINGS have not been read yet
    while !sender.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    sender
}

/// The CONNECT for a WebSocket (RFC 8441 §5.1).
pub fn connect(path: &str) -> http::request::Builder {
    Request::builder()
        .method("CONNECT")
        .uri(format!("http://localhost{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
}

/// What a CONNECT is answered, and the stream.
pub async fn ask(
    sender: &SendRequest<Bytes>,
    request: http::request::Builder,
) -> Result<(http::response::Parts, H2Stream), h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (answer, send) = sender.send_request(request.body(()).expect("a request"), false)?;
    let (head, recv) = answer.await?.into_parts();
    Ok((head, H2Stream { send, recv, rest: Bytes::new() }))
}

/// Over HTTP/2, on a connection of its own.
pub async fn by_h2(address: SocketAddr, tls: Option<&ClientTls>, path: &str) -> Socket {
    let sender = h2(address, tls).await;
    open(&sender, path).await
}

/// Over HTTP/2, on this connection.
pub async fn open(sender: &SendRequest<Bytes>, path: &str) -> Socket {
    let (head, stream) = ask(sender, connect(path)).await.expect("an answer");
    assert_eq!(head.status, 200);
    let wire: Box<dyn Wire> = Box::new(stream);
    WebSocketStream::from_raw_socket(wire, Role::Client, None).await
}

/// The DATA of a stream as bytes.
pub struct H2Stream {
    pub send: SendStream<Bytes>,
    pub recv: RecvStream,
    rest: Bytes,
}

impl AsyncRead for H2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => {
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    self.rest = data;
                }
                // the stream had ended in order, and there is no more to come
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let here = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(here));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(buf.len());
        let capacity = loop {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(capacity)) => break capacity,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        };
        let here = capacity.min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..here]);
        self.send.send_data(data, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(here))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
