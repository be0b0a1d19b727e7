//! A WebSocket on a stream of HTTP/2 (RFC 8441), shown to Pingora as the HTTP/1.1 upgrade that it knows how to serve: the
//! head as that would have been, DATA frames as the bytes after the switch. `http2` makes one of a CONNECT; the way of
//! the request is that of every other.

use crate::config::file::ListenerLimits;
use crate::edge::custom::no_messages;
use crate::edge::head::{HeadLimits, Scanner};
use crate::edge::tunnel::{GOING_AWAY, Tunnel};
use crate::http::{Reject, websocket};
use async_trait::async_trait;
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, StatusCode};
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::http::v2::server::HttpSession;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::{Error, ErrorType, Result, protocols::Digest};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// When one side has ended: how long the other may still have something to say.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What HTTP/1.1 would have asked for the WebSocket with, after the judgement that a head of HTTP/1.1 gets.
///
/// # Errors
/// What the request is to be refused with.
pub fn head(
    session: &HttpSession,
    limits: &ListenerLimits,
    of_h1: &HeadLimits,
) -> Result<RequestHeader, Reject> {
    let head = websocket::as_upgrade(session.req_header(), limits)?;
    let wire = http_req_header_to_wire(&head).ok_or(Reject::BadRequest("malformed request target"))?;
    match Scanner::default().advance(&wire, of_h1)? {
        Some(judged) if judged.upgrade && judged.end == wire.len() => Ok(head),
        Some(_) | None => Err(Reject::BadRequest("malformed WebSocket request")),
    }
}

/// The WebSockets of a connection: how many there are, and that their end has come.
#[derive(Debug, Default)]
pub struct Tunnels {
    open: AtomicUsize,
    closing: AtomicBool,
    told: Notify,
}

impl Tunnels {
    pub fn is_empty(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Their clients are told to go, and they end.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    async fn closing(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        // registered before the look, so that nothing is missed
        told.as_mut().enable();
        if !self.closing.load(Ordering::Acquire) {
            told.await;
        }
    }
}

/// One of them, as a session of Pingora's.
pub struct WebSocket {
    stream: HttpSession,
    head: RequestHeader,
    answered: Option<Box<ResponseHeader>>,
    /// The server has switched.
    upgraded: bool,
    /// Since when the client has nothing more to say.
    silent: Option<Instant>,
    /// Nor does anyone listen.
    over: bool,
    /// What passes to the client.
    frames: Tunnel,
    tunnels: Arc<Tunnels>,
}

impl WebSocket {
    /// `head` is that of [`head`].
    pub fn new(stream: HttpSession, head: RequestHeader, tunnels: Arc<Tunnels>) -> Box<WebSocket> {
        tunnels.open.fetch_add(1, Ordering::AcqRel);
        Box::new(WebSocket {
            stream,
            head,
            answered: None,
            upgraded: false,
            silent: None,
            over: false,
            frames: Tunnel::begun(),
            tunnels,
        })
    }

    /// What the client sends next; at its end the server may finish what it has begun.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let tunnels = self.tunnels.clone();
            let cut = tokio::select! {
                biased;
                () = tunnels.closing() => true,
                read = read(&mut self.stream, self.silent) => match read? {
                    Read::Data(data) => return Ok(Some(data)),
                    Read::Silent => {
                        self.silent = Some(Instant::now());
                        false
                    }
                    Read::Over => {
                        self.over = true;
                        return Ok(None);
                    }
                },
            };
            if cut {
                return Err(self.say_goodbye().await);
            }
        }
    }

    /// The connection ends. A close frame of ours may follow where none of the server's is half-way.
    async fn say_goodbye(&mut self) -> Box<Error> {
        if self.upgraded && self.frames.between_frames() {
            let goodbye = self.stream.write_body(Bytes::from_static(&GOING_AWAY), true);
            // who does not take it now is not waited for
            let _ = tokio::time::timeout(LAST_WORDS, goodbye).await;
        }
        cut()
    }

    /// The server has ended: so has the answer, and in a tunnel the request.
    fn end(&mut self) -> Result<()> {
        self.over |= self.upgraded;
        self.stream.finish().map_err(|e| e.into_down())
    }

    async fn write_head(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let answer = websocket::as_connect_answer(&head)?;
        let answered = if switched { head } else { Box::new(answer.clone()) };
        self.stream.write_response_header(Box::new(answer), end && !switched)?;
        self.upgraded |= switched;
        self.answered = Some(answered);
        Ok(())
    }

    async fn write(&mut self, data: Bytes) -> Result<()> {
        self.frames.pass(&data);
        let tunnels = self.tunnels.clone();
        tokio::select! {
            biased;
            written = self.stream.write_body(data, false) => written,
            () = tunnels.closing() => Err(cut()),
        }
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.tunnels.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What comes of a client.
enum Read {
    Data(Bytes),
    /// It has ended its side.
    Silent,
    /// And had time to listen since.
    Over,
}

async fn read(stream: &mut HttpSession, silent: Option<Instant>) -> Result<Read> {
    let Some(since) = silent else {
        return Ok(stream.read_body_bytes().await?.map_or(Read::Silent, Read::Data));
    };
    tokio::select! {
        () = tokio::time::sleep_until((since + LAST_WORDS).into()) => Ok(Read::Over),
        gone = stream.idle() => Err(left(gone?)),
    }
}

fn cut() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "cut: the listener or the process ends").into_down()
}

fn left(reason: Reason) -> Box<Error> {
    Error::explain(ErrorType::H2Error, format!("the client has left: {reason}")).into_down()
}

#[async_trait]
impl Session for WebSocket {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    fn is_upgrade_req(&self) -> bool {
        true
    }

    fn was_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Nothing before the switch; what comes early is kept by HTTP/2.
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        if self.is_body_done() { Ok(None) } else { self.next().await }
    }

    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        if !self.is_body_done() {
            return self.next().await;
        }
        let tunnels = self.tunnels.clone();
        tokio::select! {
            gone = self.stream.idle() => Err(left(gone?)),
            () = tunnels.closing() => Err(cut()),
        }
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_done(&mut self) -> bool {
        !self.upgraded || self.over
    }

    fn is_body_empty(&mut self) -> bool {
        !self.upgraded
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(head, end).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(Box::new(head.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if !data.is_empty() {
            self.write(data).await?;
        }
        if end { self.end() } else { Ok(()) }
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.stream.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut over = false;
        for task in tasks {
            over |= match task {
                HttpTask::Header(head, end) => {
                    self.write_head(head, end).await.map_err(|e| e.into_down())?;
                    end
                }
                HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                    if let Some(data) = data.filter(|data| !data.is_empty()) {
                        self.write(data).await.map_err(|e| e.into_down())?;
                    }
                    end
                }
                HttpTask::Trailer(trailers) => {
                    if let Some(trailers) = trailers {
                        self.stream.write_trailers(*trailers)?;
                    }
                    true
                }
                HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if over {
            self.end()?;
        }
        Ok(over)
    }

    /// An end that is in order on both sides (RFC 8441 §5): the client may close its own.
    async fn finish(&mut self) -> Result<()> {
        self.end()?;
        if self.upgraded && self.silent.is_none() {
            let _ = tokio::time::timeout(LAST_WORDS, async {
                while let Ok(Some(_)) = self.stream.read_body_bytes().await {}
            })
            .await;
        }
        Ok(())
    }

    async fn shutdown(&mut self, _code: u32, context: &str) {
        self.abandon(context).await;
    }

    /// RFC 8441 §5: what would have been a TCP reset.
    async fn abandon(&mut self, _context: &str) {
        self.stream.shutdown_with_reason(if self.upgraded { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.answered.as_deref()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.stream.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.stream.get_write_timeout()
    }

    // a WebSocket may be silent for as long as the server lets it, and there is no other body

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    fn request_summary(&self) -> String {
        self.stream.request_summary()
    }

    fn body_bytes_sent(&self) -> usize {
        self.stream.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.stream.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.stream.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.stream.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.stream.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.stream.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        http_req_header_to_wire(&self.head).map(|wire| wire.freeze()).unwrap_or_default()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    no_messages!();
}
