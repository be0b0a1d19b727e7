//! The story of one connection: what a proxy says of it, TLS if the listener has it, then HTTP/1 or HTTP/2 until
//! either side is done, or it is cut. Started by `accept` as a task of its own.

use crate::config::words::ListenAddress;
use crate::edge::announcement::{self, Ended};
use crate::edge::conn::Conn;
use crate::edge::open::Slot;
use crate::edge::passing::{self, Passed};
use crate::edge::timer::{Timer, registered};
use crate::edge::transport::Transport;
use crate::edge::worker::Shared;
use crate::edge::{App, Listening, http1, http2, tls};
use crate::http::{Connection, NOWHERE, TlsFacts};
use crate::l4;
use crate::link::Link;
use crate::observe::events;
use crate::observe::metrics::{HandshakeFailure, NotAdmitted, TlsVersion};
use crate::proxy_protocol::Announced;
use pingora_core::server::ShutdownWatch;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long a connection that is cut may take to find its own end, with a log line for its request.
/// Who waits for nothing but the server would never.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The life of one connection, to its end or until it is cut.
pub fn serve<A: App>(
    shared: Arc<Shared<A>>,
    listening: Arc<Listening>,
    accepted: (Link, SocketAddr),
    slot: Slot,
) -> impl Future<Output = ()> + Send {
    let seat = slot.seat().clone();
    // in a box from the start, so that its state is not in memory twice
    let mut life = Life::Story(Box::pin(story(shared.clone(), listening, accepted, slot)));
    let mut timer = Timer::default();
    let mut end = None;
    poll_fn(move |cx| {
        if let Life::Story(story) = &mut life {
            match story.as_mut().poll(cx) {
                Poll::Ready(None) => return Poll::Ready(()),
                // in a box of its own: a flow waits for long, and needs less room than requests
                Poll::Ready(Some((arrival, slot))) => {
                    life = Life::Flow(Box::pin(flow(shared.clone(), arrival, slot)));
                }
                Poll::Pending => {}
            }
        }
        if let Life::Flow(flow) = &mut life
            && flow.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        if !seat.is_cut() {
            return Poll::Pending;
        }
        timer.poll(cx, *end.get_or_insert_with(|| Instant::now() + LAST_WORD))
    })
}

/// What a connection is at.
enum Life<S, F> {
    Story(Pin<Box<S>>),
    Flow(Pin<Box<F>>),
}

/// A connection that is passed on whole.
async fn flow<A: App>(shared: Arc<Shared<A>>, arrival: l4::Arrival, slot: Slot) {
    l4::serve(&shared.flows, arrival, &|| slot.seat().is_cut()).await;
}

/// Until the connection is over, or is to be passed on whole.
async fn story<A: App>(
    shared: Arc<Shared<A>>,
    listening: Arc<Listening>,
    (mut link, peer): (Link, SocketAddr),
    mut slot: Slot,
) -> Option<(l4::Arrival, Slot)> {
    let peer = canonical(peer);
    poll_fn(|cx| {
        slot.seat().taken_by(cx.waker());
        Poll::Ready(())
    })
    .await;
    let came = Instant::now();
    let announced = announcement(&listening, &mut link, peer, &slot).await.ok()?;
    let from = announced.as_ref().and_then(|announced| announced.ends).map_or(peer, |ends| ends.client);
    if !listening.admits(from.ip()) || !listening.welcomes(from.ip(), &mut slot) {
        return None;
    }
    let passed = passing(&listening, &mut link, (from, came), &slot).await.ok()?;
    let (io, tls, h2) = match passed {
        Some(_) => (Transport::Plain(link), None, false),
        None => handshake(&listening, link, (from, came), &slot).await?,
    };
    let facts = facts(&io, &listening, (peer, announced), tls, &slot);
    let upstream = passed.or_else(|| listening.plan.tcp.as_ref().map(Passed::by));
    if let Some(Passed { upstream, name }) = upstream {
        let (stream, ahead) = io.into_flow()?;
        return Some((l4::Arrival { stream, ahead, facts, upstream, name, began: came }, slot));
    }
    let conn = Conn::new(io, facts, slot).inspect_err(|e| log::error!("{peer}: {e}")).ok()?;
    let stopped = std::pin::pin!(stopping(listening.era.retired().clone()));
    let mut stop = Stop { stopped, ending: listening.era.ending(), waits: None, since: None };
    let conn = if h2 { Some(conn) } else { http1::serve(&shared, &listening, conn, &mut stop).await };
    if let Some(conn) = conn {
        Box::pin(http2::serve(&shared, &listening, conn, &mut stop)).await;
    }
    None
}

/// What a proxy says of the connection, where one may or has to.
///
/// # Errors
/// The connection is to end.
async fn announcement(
    listening: &Listening,
    link: &mut Link,
    peer: SocketAddr,
    slot: &Slot,
) -> Result<Option<Announced>, ()> {
    let Some(wanted) = announcement::asked_of(listening, peer.ip()) else { return Ok(None) };
    let limits = &listening.plan.limits;
    let limit = if listening.tls.is_some() { limits.tls_handshake_timeout } else { limits.header_timeout };
    // boxed, as the handshake is
    let mut expecting = Box::pin(tokio::time::timeout(limit.0, announcement::expect(wanted, link)));
    let expected = poll_fn(|cx| match slot.seat().is_cut() {
        true => Poll::Ready(None),
        false => expecting.as_mut().poll(cx).map(Some),
    });
    let why = match expected.await {
        Some(Ok(Ok(announced))) => return Ok(announced),
        Some(Ok(Err(Ended::Malformed(why)))) => why,
        Some(Err(_)) => "it did not come in time",
        // somebody has looked whether the port is open
        Some(Ok(Err(Ended::Silent))) | None => return Err(()),
    };
    listening.counted.refused(NotAdmitted::ProxyProtocol);
    events::not_announced(&listening.unannounced, &listening.plan.name, peer.ip(), why);
    Err(())
}

/// Whether the connection is to stay unopened, where some do.
///
/// # Errors
/// The connection is to end.
async fn passing(
    listening: &Listening,
    link: &mut Link,
    (peer, came): (SocketAddr, Instant),
    slot: &Slot,
) -> Result<Option<Passed>, ()> {
    let tls = listening.tls.as_ref().map(|tls| tls.plan());
    let Some(tls) = tls.filter(|tls| !tls.settings.passthrough.is_empty()) else { return Ok(None) };
    let limit = listening.plan.limits.tls_handshake_timeout.0.saturating_sub(came.elapsed());
    // boxed, as the handshake is
    let mut looking = Box::pin(tokio::time::timeout(limit, passing::look(tls, link)));
    let found = poll_fn(|cx| match slot.seat().is_cut() {
        true => Poll::Ready(None),
        false => looking.as_mut().poll(cx).map(Some),
    });
    let (kind, why) = match found.await.ok_or(())? {
        Ok(Ok(passed)) => return Ok(passed),
        Ok(Err(e)) => (HandshakeFailure::Malformed, e.to_string()),
        Err(_) => (HandshakeFailure::Timeout, format!("no ClientHello after {limit:?}")),
    };
    listening.counted.handshake_failed(kind);
    events::handshake_failed(&listening.plan.name, peer.ip(), &why);
    Err(())
}

/// TLS, if the listener has it; and whether HTTP/2 is spoken from the first byte.
async fn handshake(
    listening: &Listening,
    link: Link,
    (peer, came): (SocketAddr, Instant),
    slot: &Slot,
) -> Option<(Transport, Option<TlsFacts>, bool)> {
    let h2_only = listening.plan.h2 && !listening.plan.h1;
    let Some(tls) = &listening.tls else {
        return Some((Transport::Plain(link), None, h2_only));
    };
    let limit = listening.plan.limits.tls_handshake_timeout.0.saturating_sub(came.elapsed());
    // boxed: its state is large, and gone when the connection is established
    let mut accepting = Box::pin(tls::accept(tls, link, limit));
    let accepted = poll_fn(|cx| match slot.seat().is_cut() {
        true => Poll::Ready(None),
        false => accepting.as_mut().poll(cx).map(Some),
    });
    match accepted.await? {
        Ok(accepted) => {
            let version =
                if accepted.facts.version == "TLSv1.3" { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
            listening.counted.handshake(version, accepted.resumed);
            Some((accepted.io, Some(accepted.facts), accepted.h2 || h2_only))
        }
        Err(failed) => {
            listening.counted.handshake_failed(failed.kind);
            events::handshake_failed(&listening.plan.name, peer.ip(), &failed);
            None
        }
    }
}

/// What is known of the connection.
fn facts(
    io: &Transport,
    listening: &Listening,
    (peer, announced): (SocketAddr, Option<Announced>),
    tls: Option<TlsFacts>,
    slot: &Slot,
) -> Connection {
    let local = match &listening.address {
        ListenAddress::Ip(address) if address.ip().is_unspecified() => {
            io.local_addr().map_or(*address, canonical)
        }
        ListenAddress::Ip(address) => *address,
        ListenAddress::Unix(_) => NOWHERE,
    };
    let facts = Connection::new(listening.plan.clone(), peer, local, tls).ending_by(slot.ending().clone());
    facts.on(io.id()).counting(listening.counted.clone()).announced(announced)
}

/// An IPv4 client of an IPv6 socket under its own address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns when what is watched is to end.
pub async fn stopping(mut shutdown: ShutdownWatch) {
    // an error says that the sender has gone, and with it the server
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The end of its era as a connection sees it: registered once, asked many times.
pub struct Stop<'a> {
    stopped: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
    /// Set before `stopped` is ready.
    ending: &'a AtomicBool,
    /// Who is woken when it is.
    waits: Option<Waker>,
    since: Option<Instant>,
}

impl Stop<'_> {
    /// Since when it has been given; else the task is woken when it is.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let waits = self.waits.as_ref().is_some_and(|waits| waits.will_wake(cx.waker()));
        if self.since.is_some() || waits && !self.ending.load(Ordering::Acquire) {
            return self.since;
        }
        match self.stopped.as_mut().poll(cx) {
            Poll::Ready(()) => self.since = Some(Instant::now()),
            Poll::Pending => self.waits = registered(cx),
        }
        self.since
    }

    pub async fn stopped(&mut self) {
        std::future::poll_fn(|cx| match self.poll(cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        })
        .await;
    }
}
