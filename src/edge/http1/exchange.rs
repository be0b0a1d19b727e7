//! A request of HTTP/1.1 and its answer, as a session of Pingora's. The connection is lent to it and comes home with
//! the answer complete, or not at all.
//!
//! Pingora has a session for HTTP/1.1, too. This one takes the head from where it has been judged, passes bodies on
//! without copying them, and finds each end where `conn` finds it.

use super::incoming::Incoming;
use super::outgoing::{Manner, Outgoing, Pieces, Sent};
use super::request::Parsed;
use crate::edge::conn::Conn;
use crate::edge::custom::no_messages;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use parking_lot::Mutex;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::{Error, ErrorType, Result, protocols::Digest};
use pingora_http::{RequestHeader, ResponseHeader};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

/// Where a connection comes back to when its request has been answered.
#[derive(Default)]
pub struct Home(Mutex<Option<Back>>);

impl Home {
    /// What came back, if the answer is complete.
    pub fn take(&self) -> Option<Back> {
        self.0.lock().take()
    }
}

/// A connection that is not lent any more.
pub struct Back {
    pub conn: Box<Conn>,
    /// Another request may follow. Else it is to be closed, when the client has been told so.
    pub keep: bool,
}

/// See the module.
pub struct Exchange {
    /// Until it is given back.
    conn: Option<Box<Conn>>,
    home: Arc<Home>,
    head: RequestHeader,
    raw: Bytes,
    /// The client, and by now the answer, would keep the connection.
    keep: bool,
    incoming: Incoming,
    outgoing: Outgoing,
    switched: bool,
    abandoned: bool,
}

impl Exchange {
    /// `raw` is all bytes of the head.
    pub fn new(
        conn: Box<Conn>,
        home: Arc<Home>,
        request: Parsed,
        raw: Bytes,
        incoming: Incoming,
    ) -> Box<Exchange> {
        let Parsed { head, keep } = request;
        Box::new(Exchange {
            conn: Some(conn),
            home,
            head,
            raw,
            keep,
            incoming,
            outgoing: Outgoing::default(),
            switched: false,
            abandoned: false,
        })
    }

    /// Puts a head in front of what is sent next. Whether it is to be sent at once: an interim one, and one after which
    /// the body may take its time (RFC 9112 §7.1: of unknown length). Of a request whose `rest_is_read` more may come
    /// until the end of the answer.
    fn put_head(&mut self, head: Box<ResponseHeader>, rest_is_read: bool) -> bool {
        let upgrade = head.status == StatusCode::SWITCHING_PROTOCOLS && self.is_upgrade_req();
        let Some(conn) = self.conn.as_deref_mut() else { return false };
        let manner = Manner {
            to_head: self.head.method == Method::HEAD,
            final_only: self.head.version == Version::HTTP_10,
            keep: self.keep && (rest_is_read || self.incoming.is_done()) && !conn.facts().is_ending(),
            upgrade,
        };
        match self.outgoing.put_head(conn, head, manner) {
            Sent::Not | Sent::Interim => {}
            Sent::Switch => {
                self.keep = false;
                if upgrade {
                    conn.switch();
                    self.incoming.switch();
                    self.switched = true;
                }
            }
            Sent::Final { keep } => self.keep = keep,
        }
        !self.outgoing.awaits_body()
    }

    async fn send_head(&mut self, head: Box<ResponseHeader>) -> Result<()> {
        if self.put_head(head, false) { self.flush().await } else { Ok(()) }
    }

    async fn send(&mut self, pieces: &mut Pieces, end: bool) -> Result<()> {
        let Some(conn) = self.conn.as_deref_mut() else { return Ok(()) };
        self.outgoing.send(conn, pieces, end).await
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(conn) = self.conn.as_deref_mut() else { return Ok(()) };
        self.outgoing.flush(conn).await
    }

    /// Says that the answer is at its end, and sends what is left of it.
    async fn end(&mut self) -> Result<()> {
        let Some(conn) = self.conn.as_deref_mut() else { return Ok(()) };
        self.outgoing.end(conn).await?;
        self.outgoing.flush(conn).await?;
        if self.switched {
            // the server has closed, and nobody reads what the client still says
            self.incoming.end();
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(conn) = self.conn.as_deref_mut() else { return Ok(None) };
        poll_fn(|cx| self.incoming.poll(cx, conn)).await
    }

    /// Comes to an end when the client has gone, or has closed its side with nothing left to answer.
    async fn gone(&mut self) -> Box<Error> {
        let Some(conn) = self.conn.as_deref_mut() else {
            return left("and the connection has been given back");
        };
        if !self.incoming.is_done() {
            // what comes would be of the body that nobody wants
            return pending().await;
        }
        // nothing is read into it: the connection keeps what belongs to the next request
        let mut none = ReadBuf::new(&mut []);
        match poll_fn(|cx| Pin::new(&mut *conn).poll_read(cx, &mut none)).await {
            Ok(()) => self.keep = false,
            Err(error) => {
                return Error::because(ErrorType::ReadError, "waiting for the server", error).into_down();
            }
        }
        left(if self.outgoing.head().is_none() {
            "before it was answered"
        } else {
            "before the end of its answer"
        })
    }
}

fn left(when: &str) -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, format!("the client has gone {when}")).into_down()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if self.abandoned || !self.outgoing.is_done() {
            return;
        }
        // what the client was told holds, whatever has come to an end since
        let keep = self.keep && conn.is_reusable();
        *self.home.0.lock() = Some(Back { conn, keep });
    }
}

#[async_trait]
impl Session for Exchange {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    fn is_upgrade_req(&self) -> bool {
        self.head.version == Version::HTTP_11 && self.head.headers.contains_key(header::UPGRADE)
    }

    fn was_upgraded(&self) -> bool {
        self.switched
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.next().await
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.incoming.is_done() { Err(self.gone().await) } else { self.next().await }
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    fn is_body_done(&mut self) -> bool {
        self.incoming.is_done()
    }

    fn is_body_empty(&mut self) -> bool {
        self.incoming.is_empty()
    }

    fn body_bytes_read(&self) -> usize {
        self.incoming.bytes()
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.send_head(head).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        self.send_head(Box::new(head.clone())).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.send(&mut Pieces::of(data), end).await?;
        if end { self.end().await } else { self.flush().await }
    }

    /// HTTP/1.1 has them only after a chunked body, for who has asked (RFC 9112 §7.1.2): they are left out.
    async fn write_trailers(&mut self, _trailers: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let (mut pieces, mut over, mut at_once) = (Pieces::default(), false, false);
        for task in tasks {
            match task {
                HttpTask::Header(head, end) => {
                    // a server that begins its answer while it reads goes on reading, unless it refuses
                    let refuses = head.status.is_client_error() || head.status.is_server_error();
                    at_once |= self.put_head(head, !refuses);
                    over |= end;
                }
                HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                    if pieces.is_full() {
                        self.send(&mut pieces, false).await?;
                        pieces = Pieces::default();
                    }
                    pieces.push(data.unwrap_or_default());
                    (at_once, over) = (true, over || end);
                }
                HttpTask::Trailer(_) | HttpTask::Done => over = true,
                HttpTask::Failed(error) => {
                    // what was said before is said
                    self.send(&mut pieces, false).await?;
                    self.flush().await?;
                    return Err(error);
                }
            }
        }
        self.send(&mut pieces, over).await?;
        if over {
            self.end().await?;
        } else if at_once {
            self.flush().await?;
        }
        Ok(over || self.outgoing.is_done())
    }

    /// Called when the body of the answer has ended, and when nothing is left to do: mostly it has been done, and a future
    /// without any state takes no memory. The lifetimes are those that `async_trait` gives to the trait.
    fn finish<'s, 'f>(&'s mut self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        if self.outgoing.is_sent() && !self.switched {
            return Box::pin(poll_fn(|_| Poll::Ready(Ok(()))));
        }
        Box::pin(self.end())
    }

    async fn shutdown(&mut self, _code: u32, context: &str) {
        self.abandon(context).await;
    }

    /// A client of HTTP/1.1 sees a message that breaks off when the connection is closed (RFC 9112 §8).
    async fn abandon(&mut self, _context: &str) {
        self.abandoned = true;
        if let Some(conn) = self.conn.as_deref_mut() {
            // who does not listen is not told
            let _ = conn.shutdown().await;
        }
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.outgoing.head()
    }

    fn body_bytes_sent(&self) -> usize {
        self.outgoing.bytes()
    }

    fn enable_retry_buffering(&mut self) {
        self.incoming.keep();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.incoming.lost()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.incoming.kept()
    }

    fn request_summary(&self) -> String {
        let host = self.head.headers.get(header::HOST).map_or(&b""[..], |host| host.as_bytes());
        let target = String::from_utf8_lossy(self.head.raw_path());
        format!("{} {target}, Host: {}", self.head.method, String::from_utf8_lossy(host))
    }

    fn digest(&self) -> Option<&Digest> {
        self.conn.as_deref().map(Conn::digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.conn.as_deref_mut().map(Conn::digest_mut)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest()?.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest()?.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.raw.clone()
    }

    // the connection is patient with its client on both ways, by the limits of the listener

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    no_messages!();
}
