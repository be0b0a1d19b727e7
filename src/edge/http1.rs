//! HTTP/1 on a connection: wait for a head, check it, lend the connection to Pingora for the
//! request, take it back. Called by `edge::connection`.
//!
//! - `request` makes of the bytes of a head what Pingora knows as one;
//! - `exchange` is what Pingora sees of the request: `incoming` its body, `outgoing` the answer.
//!
//! While a connection waits, nothing of Pingora's is in memory.

use crate::clock;
use crate::edge::conn::Conn;
use crate::edge::connection::Stop;
use crate::edge::frames::PREFACE;
use crate::edge::head::{Head, Scanner};
use crate::edge::timer::Timer;
use crate::edge::worker::Shared;
use crate::edge::{App, Listening};
use crate::http::{Refusal, Reject};
use bytes::BytesMut;
use pingora_core::apps::ReusedHttpStream;
use pingora_core::protocols::http::ServerSession;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

mod exchange;
mod incoming;
mod outgoing;
mod request;

use exchange::{Exchange, Home};
use incoming::Incoming;

/// A read for a head; longer heads take several.
const READ: usize = 8 * 1024;
/// A connection that was accepted just before the end may send its first request this long.
const LAST_CALL: Duration = Duration::from_millis(500);
/// A connection that had a request so recently may have the next one on its way: it is answered,
/// with the word that it is the last, instead of reset.
const STILL_BUSY: Duration = Duration::from_secs(1);

/// Serves requests until the connection is closed. Returns it when its client speaks HTTP/2 with
/// prior knowledge instead.
pub async fn serve<A: App>(
    shared: &Shared<A>,
    listening: &Listening,
    mut conn: Box<Conn>,
    stop: &mut Stop<'_>,
) -> Option<Box<Conn>> {
    let mut timer = Timer::default();
    let home = Arc::new(Home::default());
    let mut fresh = true;
    let mut left = listening.plan.limits.requests_per_connection.map(NonZeroU32::get);
    loop {
        let mut waiting = Waiting::new(&mut conn, listening, fresh);
        match poll_fn(|cx| waiting.poll(cx, &mut conn, &mut timer, stop)).await {
            Next::Request(head) => {
                left = left.map(|left| left.saturating_sub(1));
                if left == Some(0) {
                    conn.facts().ends_now();
                }
                match begin(conn, waiting.read, &head, &home) {
                    Ok(exchange) => process(shared, listening, exchange).await,
                    Err((conn, refused)) => {
                        Box::pin(refuse(shared, conn, refused)).await;
                        return None;
                    }
                };
                let back = home.take()?;
                conn = back.conn;
                if !back.keep {
                    let _ = Box::pin(conn.shutdown()).await;
                    return None;
                }
                fresh = false;
            }
            Next::Http2 => {
                conn.unread(waiting.read);
                return Some(conn);
            }
            Next::Refuse(reject, started) => {
                Box::pin(refuse(shared, conn, (reject, waiting.read, started))).await;
                return None;
            }
            Next::Close => {
                if conn.is_tls() {
                    let _ = Box::pin(conn.shutdown()).await;
                }
                return None;
            }
        }
    }
}

/// Why a request is not begun, its bytes, and when it came.
type Refused = (Reject, BytesMut, Instant);

/// What Pingora is to see of the request with this head, which begins what was read.
///
/// # Errors
/// It is malformed after all.
fn begin(
    mut conn: Box<Conn>,
    mut read: BytesMut,
    head: &Head,
    home: &Arc<Home>,
) -> Result<Box<Exchange>, (Box<Conn>, Refused)> {
    let body = match conn.begin_body(&mut read, head) {
        // most have no body, and a buffer that is not split costs less
        Ok(()) if read.len() == head.end - head.start => BytesMut::new(),
        Ok(()) => read.split_off(head.end - head.start),
        Err(why) => return Err((conn, (Reject::BadRequest(why), read, Instant::now()))),
    };
    let raw = read.freeze();
    match request::parse(&raw, head) {
        Ok(parsed) => Ok(Exchange::new(conn, home.clone(), parsed, raw, Incoming::new(head.framing, body))),
        Err(reject) => Err((conn, (reject, BytesMut::from(&raw[..]), Instant::now()))),
    }
}

/// Hands a request to the application. Not async, so that the session lives in Pingora's future
/// only and not in that of the connection as well.
fn process<'a, A: App>(
    shared: &'a Shared<A>,
    listening: &'a Listening,
    exchange: Box<Exchange>,
) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'a>> {
    shared.app.process_new_http(ServerSession::new_custom(exchange), listening.era.retired())
}

/// Answers a head that will not be served, and closes the connection so that the client can read
/// the answer.
async fn refuse<A: App>(shared: &Shared<A>, mut conn: Box<Conn>, refused: Refused) {
    let (reject, read, started) = refused;
    let refusal = Refusal { reject, connection: conn.facts(), head: &read, started };
    let answer = shared.refuser.refuse(refusal);
    if conn.write_all(&answer).await.is_ok() {
        let _ = conn.shutdown().await;
    }
    conn.abandon();
}

/// What comes next on a connection.
enum Next {
    Request(Head),
    Http2,
    Refuse(Reject, Instant),
    /// Idle for too long, gone, or not wanted any more.
    Close,
}

/// Waiting for a head.
struct Waiting<'a> {
    listening: &'a Listening,
    read: BytesMut,
    scanner: Scanner,
    /// There are bytes that have not been looked at.
    news: bool,
    since: Instant,
    /// When the first byte of the head came.
    started: Option<Instant>,
    /// No request has come yet.
    fresh: bool,
    /// It may still turn out to be HTTP/2.
    maybe_h2: bool,
}

impl<'a> Waiting<'a> {
    fn new(conn: &mut Conn, listening: &'a Listening, fresh: bool) -> Self {
        let read = conn.begin_head();
        Waiting {
            listening,
            news: !read.is_empty(),
            read,
            scanner: Scanner::default(),
            since: clock::now(),
            started: None,
            fresh,
            maybe_h2: fresh && listening.plan.h2 && !conn.is_tls(),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Conn,
        timer: &mut Timer,
        stop: &mut Stop<'_>,
    ) -> Poll<Next> {
        loop {
            if std::mem::take(&mut self.news)
                && let Some(next) = self.look()
            {
                return Poll::Ready(next);
            }
            match self.fill(cx, conn) {
                Poll::Ready(Ok(true)) => self.news = true,
                // without a whole head there is nothing to answer
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Next::Close),
                Poll::Pending => break,
            }
        }
        conn.trim();
        ready!(self.poll_deadline(cx, timer, stop));
        Poll::Ready(match self.started {
            Some(started) => Next::Refuse(Reject::RequestTimeout, started),
            None => Next::Close,
        })
    }

    /// Judges what has been read so far.
    fn look(&mut self) -> Option<Next> {
        let started = *self.started.get_or_insert_with(clock::now);
        if self.maybe_h2 {
            let common = self.read.iter().zip(PREFACE).take_while(|(a, b)| a == b).count();
            if common == PREFACE.len() {
                return Some(Next::Http2);
            }
            if common == self.read.len() {
                return None;
            }
            self.maybe_h2 = false;
        }
        match self.scanner.advance(&self.read, &self.listening.limits) {
            Ok(head) => head.map(Next::Request),
            Err(reject) => Some(Next::Refuse(reject, started)),
        }
    }

    /// Reads what is there, on the stack first: an idle connection has no buffer. `false` at the end.
    fn fill(&mut self, cx: &mut Context<'_>, conn: &mut Conn) -> Poll<std::io::Result<bool>> {
        let mut stack = [const { MaybeUninit::uninit() }; READ];
        let mut buf = ReadBuf::uninit(&mut stack);
        ready!(Pin::new(conn).poll_read(cx, &mut buf))?;
        if self.read.is_empty() {
            // exactly as long as what was read: it becomes the storage of the request's headers
            self.read = BytesMut::with_capacity(buf.filled().len());
        }
        self.read.extend_from_slice(buf.filled());
        Poll::Ready(Ok(!buf.filled().is_empty()))
    }

    fn poll_deadline(&self, cx: &mut Context<'_>, timer: &mut Timer, stop: &mut Stop<'_>) -> Poll<()> {
        let limits = &self.listening.plan.limits;
        let deadline = match (self.started, stop.poll(cx)) {
            (Some(started), _) => started + limits.header_timeout.0,
            (None, None) => self.since + limits.idle_timeout.0,
            (None, Some(stopped)) if self.fresh => stopped + LAST_CALL.min(limits.idle_timeout.0),
            (None, Some(_)) => self.since + STILL_BUSY.min(limits.idle_timeout.0),
        };
        timer.poll(cx, deadline)
    }
}

#[cfg(test)]
mod tests;
