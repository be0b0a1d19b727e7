//! HTTP/2 on a connection: the handshake, then each stream to the application in a task of its
//! own. Called by `edge::connection`, for TLS connections that agreed on it and for plaintext ones
//! that began with its preface.

mod websocket;

use crate::config::file::ListenerLimits;
use crate::config::plan::Listener;
use crate::edge::conn::{Conn, SLOW_FRAME};
use crate::edge::connection::Stop;
use crate::edge::era::Seat;
use crate::edge::frames::{FrameLimits, FrameWatch};
use crate::edge::head::HeadLimits;
use crate::edge::http2::websocket::{Tunnels, WebSocket};
use crate::edge::timer::Timer;
use crate::edge::worker::Shared;
use crate::edge::{App, Listening};
use crate::http::websocket::{is_extended_connect, refuse};
use crate::observe::events;
use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora_core::protocols::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl};
use pingora_core::server::ShutdownWatch;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

/// What a client may send before it is told that it was received, on all streams together. More
/// than the 64 KB of one stream, so that one slow request does not stop the others.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is buffered for a stream whose client reads slowly.
const SEND_BUFFER: usize = 128 * 1024;
/// Requests that break the rules of HTTP/2, for the whole life of a connection.
const MAX_MALFORMED: usize = 32;
/// After the shutdown: how long a connection without streams may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// When a connection is cut: how long its WebSockets may. Less than the connection is given.
const FAREWELL: Duration = Duration::from_millis(300);

/// Serves streams until the connection is closed.
pub async fn serve<A: App>(
    shared: &Arc<Shared<A>>,
    listening: &Listening,
    mut conn: Box<Conn>,
    stop: &mut Stop<'_>,
) {
    let limits = &listening.plan.limits;
    let header_timeout = limits.header_timeout.0;
    let peer = conn.facts().peer;
    let watch = FrameWatch::new(Instant::now(), frame_limits(limits));
    let breach = watch.breach();
    conn.watch_frames(watch);
    let seat = conn.seat();
    let digest = Arc::new(Digest {
        ssl_digest: conn.get_ssl_digest(),
        timing_digest: conn.get_timing_digest(),
        proxy_digest: conn.get_proxy_digest(),
        socket_digest: conn.get_socket_digest(),
    });
    let opening = tokio::time::timeout(header_timeout, handshake(conn, Some(options(limits))));
    let mut h2 = tokio::select! {
        biased;
        () = cut(seat.as_deref()) => return,
        opened = opening => match opened {
            Ok(Ok(h2)) => h2,
            Ok(Err(e)) => return log::debug!("{peer}: HTTP/2 handshake: {e}"),
            Err(_) => return log::debug!("{peer}: HTTP/2 handshake not complete after {header_timeout:?}"),
        },
    };
    let streams = Arc::new(Streams::new(shared.clone(), listening));
    let mut timer = Timer::default();
    let mut idle_timeout = limits.idle_timeout.0;
    let mut draining = false;
    let mut malformed = 0;
    let mut left = limits.requests_per_connection.map(|most| i64::from(most.get()));
    loop {
        let accepted = tokio::select! {
            biased;
            () = cut(seat.as_deref()) => return farewell(h2, &streams, digest).await,
            () = stop.stopped(), if !draining => {
                h2.graceful_shutdown();
                draining = true;
                idle_timeout = idle_timeout.min(GOODBYE);
                streams.touch();
                continue;
            }
            why = poll_fn(|_| breach.get().map_or(Poll::Pending, |why| Poll::Ready(*why))) => {
                return cut_off(listening, peer, h2, why).await;
            }
            accepted = HttpSession::from_h2_conn(&mut h2, digest.clone()) => accepted,
            () = poll_fn(|cx| timer.poll(cx, streams.idle_until(idle_timeout))) => {
                return log::debug!("{peer}: HTTP/2 connection idle for {idle_timeout:?}");
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                streams.spawn(session);
                let Some(number) = left.as_mut() else { continue };
                *number -= 1;
                if *number == 0 {
                    h2.graceful_shutdown();
                    idle_timeout = idle_timeout.min(GOODBYE);
                } else if *number < -i64::from(limits.max_streams) {
                    // those that were on their way are answered, but there cannot be so many
                    return cut_off(listening, peer, h2, "requests beyond limits.requests_per_connection")
                        .await;
                }
            }
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                if malformed >= MAX_MALFORMED {
                    return cut_off(listening, peer, h2, "too many malformed HTTP/2 requests").await;
                }
            }
            Ok(None) => return,
            Err(e) => return log::debug!("{peer}: HTTP/2: {e}"),
        }
    }
}

/// Returns when its time is over; its task is woken then.
async fn cut(seat: Option<&Seat>) {
    poll_fn(|_| match seat {
        Some(seat) if seat.is_cut() => Poll::Ready(()),
        Some(_) | None => Poll::Pending,
    })
    .await;
}

/// The end of a connection whose time is over: its WebSockets may say so.
async fn farewell<A: App>(mut h2: Connection<Stream, Bytes>, streams: &Streams<A>, digest: Arc<Digest>) {
    let Some(tunnels) = streams.tunnels.get().filter(|tunnels| !tunnels.is_empty()) else { return };
    tunnels.close();
    h2.graceful_shutdown();
    // until all is sent, which is when nobody is left; requests that come now are not looked at
    let sending =
        async { while let Ok(Some(_)) = HttpSession::from_h2_conn(&mut h2, digest.clone()).await {} };
    let _ = tokio::time::timeout(FAREWELL, sending).await;
}

/// Tells the client that it has gone too far (RFC 9113 §7), and ends the connection.
async fn cut_off(
    listening: &Listening,
    peer: SocketAddr,
    mut h2: Connection<Stream, Bytes>,
    why: &'static str,
) {
    match why {
        SLOW_FRAME => log::debug!("{peer}: {why}"),
        _ => events::client_cut(&listening.abuse, &listening.plan.name, peer.ip(), why),
    }
    h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    // whether it hears it or not
    let _ = tokio::time::timeout(GOODBYE, poll_fn(|cx| h2.poll_closed(cx))).await;
}

fn frame_limits(limits: &ListenerLimits) -> FrameLimits {
    FrameLimits {
        whole: limits.header_timeout.0,
        silence: limits.body_timeout.0,
        resets: limits.stream_resets_per_second.get(),
    }
}

fn options(limits: &ListenerLimits) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes.as_usize()).unwrap_or(u32::MAX))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        // for WebSockets (RFC 8441 §3)
        .enable_connect_protocol();
    options
}

/// The streams of a connection that are being answered.
struct Streams<A> {
    shared: Arc<Shared<A>>,
    retired: ShutdownWatch,
    send_timeout: Duration,
    open: AtomicUsize,
    begun: Instant,
    /// Milliseconds after `begun` when the last stream ended.
    idle_since: AtomicU64,
    plan: Arc<Listener>,
    of_h1: HeadLimits,
    /// Since there was the first.
    tunnels: OnceLock<Arc<Tunnels>>,
}

impl<A: App> Streams<A> {
    fn new(shared: Arc<Shared<A>>, listening: &Listening) -> Self {
        Streams {
            shared,
            retired: listening.era.retired().clone(),
            send_timeout: listening.plan.limits.send_timeout.0,
            open: AtomicUsize::new(0),
            begun: Instant::now(),
            idle_since: AtomicU64::new(0),
            plan: listening.plan.clone(),
            of_h1: listening.limits,
            tunnels: OnceLock::new(),
        }
    }

    fn spawn(self: &Arc<Self>, session: HttpSession) {
        self.open.fetch_add(1, Ordering::AcqRel);
        let stream = OpenStream(self.clone());
        let mut session = self.session(session);
        tokio::spawn(async move {
            let streams = &stream.0;
            session.set_write_timeout(Some(streams.send_timeout));
            streams.shared.app.process_new_http(session, &streams.retired).await;
        });
    }

    /// What the application is to see of a stream.
    fn session(&self, mut session: HttpSession) -> ServerSession {
        if !is_extended_connect(session.req_header()) {
            return ServerSession::new_http2(session);
        }
        match websocket::head(&session, &self.plan.limits, &self.of_h1) {
            Ok(head) => {
                let tunnels = self.tunnels.get_or_init(Arc::default).clone();
                ServerSession::new_custom(WebSocket::new(session, head, tunnels))
            }
            Err(reject) => {
                refuse(session.req_header_mut(), reject);
                ServerSession::new_http2(session)
            }
        }
    }
}

impl<A> Streams<A> {
    /// When the connection has been idle for too long. Moves on while streams are open; the timer
    /// looks again when the old time has come.
    fn idle_until(&self, timeout: Duration) -> Instant {
        if self.open.load(Ordering::Acquire) > 0 {
            return Instant::now() + timeout;
        }
        self.begun + Duration::from_millis(self.idle_since.load(Ordering::Acquire)) + timeout
    }

    fn touch(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.idle_since.store(now, Ordering::Release);
    }
}

/// Counts a stream as open until it is dropped, however its task ends.
struct OpenStream<A>(Arc<Streams<A>>);

impl<A> Drop for OpenStream<A> {
    fn drop(&mut self) {
        self.0.touch();
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}
