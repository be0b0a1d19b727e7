//! The life of a connection: socket, limits, TLS, then HTTP/1 or HTTP/2, and each request of it to
//! the application.
//!
//! In reading order:
//! - [`bind`] opens the listening sockets (`listener`), [`serve`] starts a worker on its share;
//! - `accept` takes connections off a socket, as many as [`open`] allows;
//! - `connection` is the story of one: [`tls`] opens it, `http1` reads its heads (`head` judges
//!   them) or `http2` its streams (`frames` watches them);
//! - `conn` is the stream that Pingora reads the request from and writes the answer to;
//! - `linger` closes it so that the client can read the last answer.
//!
//! The application is Pingora's `HttpProxy` in the gate, and whatever else implements
//! `HttpServerApp` in tests.

mod accept;
mod chunked;
mod conn;
mod frames;
mod head;
mod host;
mod http1;
mod http2;
mod linger;
pub mod listener;
pub mod open;
mod timer;
pub mod tls;
mod transport;

#[cfg(test)]
mod tests;

pub use listener::BindError;
pub use open::{Count, Open};

use crate::config::plan;
use crate::edge::conn::Conn;
use crate::edge::head::HeadLimits;
use crate::edge::open::Slot;
use crate::edge::transport::Transport;
use crate::http::{Connection, HeadRefuser, TlsFacts};
use crate::observe::{Throttle, events};
use pingora_core::apps::HttpServerApp;
use pingora_core::server::ShutdownWatch;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What answers requests.
pub trait App: HttpServerApp + Send + Sync + 'static {}
impl<T: HttpServerApp + Send + Sync + 'static> App for T {}

/// What a worker needs to [`serve`] on its own runtime.
pub struct Worker<A> {
    pub app: Arc<A>,
    /// Answers heads that are not fit for `app`.
    pub refuser: Arc<dyn HeadRefuser>,
    /// Its share of every listener.
    pub sockets: WorkerSockets,
    /// Turns true when the process is to end: nothing more is accepted, idle connections are
    /// closed, requests are finished.
    pub shutdown: ShutdownWatch,
}

/// A listening socket for each listener.
pub struct WorkerSockets(Vec<Socket>);

struct Socket {
    listening: Arc<Listening>,
    socket: std::net::TcpListener,
}

/// Listeners whose sockets are bound; clients can connect, and wait to be accepted.
pub struct Bound {
    open: Arc<Open>,
    listeners: Vec<Arc<Listening>>,
    workers: Vec<WorkerSockets>,
}

/// A listener at work, shared by the workers.
pub struct Listening {
    pub plan: Arc<plan::Listener>,
    /// With the port that the kernel chose for port 0.
    pub address: SocketAddr,
    /// Its connections.
    pub count: Arc<Count>,
    limits: HeadLimits,
    tls: Option<TlsAcceptor>,
    /// Log lines that must not become a flood.
    full: Throttle,
    trouble: Throttle,
}

/// Opens every listener for this many workers, or none of them.
///
/// # Errors
/// Every address that cannot be had and every certificate that cannot be used, with the fix.
pub fn bind(listeners: &[Arc<plan::Listener>], workers: usize) -> Result<Bound, BindError> {
    let open = Arc::new(Open::default());
    let mut bound = Bound { open, listeners: Vec::new(), workers: Vec::new() };
    bound.workers.resize_with(workers.max(1), || WorkerSockets(Vec::new()));
    let mut errors = Vec::new();
    for plan in listeners {
        match bound.add(plan) {
            Ok(()) => {}
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(BindError(errors)) }
}

impl Bound {
    fn add(&mut self, plan: &Arc<plan::Listener>) -> Result<(), String> {
        let (address, sockets) = listener::listen_on(plan, self.workers.len())?;
        let listening = Arc::new(Listening::new(plan.clone(), address, self.open.clone())?);
        for (worker, socket) in self.workers.iter_mut().zip(sockets) {
            worker.0.push(Socket { listening: listening.clone(), socket });
        }
        self.listeners.push(listening);
        Ok(())
    }

    /// Who is connected; to be waited on at the end.
    pub fn open(&self) -> Arc<Open> {
        self.open.clone()
    }

    /// In the order of the configuration.
    pub fn listeners(&self) -> &[Arc<Listening>] {
        &self.listeners
    }

    pub fn into_workers(self) -> Vec<WorkerSockets> {
        self.workers
    }
}

impl Listening {
    fn new(plan: Arc<plan::Listener>, address: SocketAddr, open: Arc<Open>) -> Result<Listening, String> {
        let tls = match &plan.tls {
            None => None,
            Some(tls) => {
                let config = tls::server_config(tls, plan.h1, plan.h2)
                    .map_err(|e| format!("listener `{}`: {e}", plan.name))?;
                Some(TlsAcceptor::from(config))
            }
        };
        let limits = HeadLimits {
            bytes: plan.limits.max_header_bytes.as_usize(),
            headers: plan.limits.max_headers,
            uri_bytes: plan.limits.max_uri_bytes.as_usize(),
        };
        Ok(Listening {
            count: Count::new(open, plan.limits.connections),
            plan,
            address,
            limits,
            tls,
            full: Throttle::every_minute(),
            trouble: Throttle::every_minute(),
        })
    }
}

/// What all connections of a worker share.
struct Shared<A> {
    app: Arc<A>,
    refuser: Arc<dyn HeadRefuser>,
    shutdown: ShutdownWatch,
}

/// Accepts and serves on the runtime it is called on, until the shutdown signal has been given and
/// the last connection of the process is closed.
pub async fn serve<A: App>(worker: Worker<A>) {
    let Worker { app, refuser, sockets, shutdown } = worker;
    let stop = stopping(shutdown.clone());
    let shared = Arc::new(Shared { app, refuser, shutdown });
    let mut open = None;
    for socket in sockets.0 {
        let count = &socket.listening.count;
        open = Some(count.all().clone());
        tokio::spawn(accept::run(shared.clone(), count.all().hold(), socket));
    }
    stop.await;
    if let Some(open) = open {
        open.drained().await;
    }
}

/// The life of one connection.
async fn connection<A: App>(
    shared: Arc<Shared<A>>,
    listening: Arc<Listening>,
    tcp: TcpStream,
    peer: SocketAddr,
    slot: Slot,
) {
    let peer = canonical(peer);
    let Some((io, tls, h2)) = handshake(&listening, tcp, peer).await else { return };
    let Some(conn) = wrap(io, &listening, peer, tls, slot) else { return };
    let stopped = std::pin::pin!(stopping(shared.shutdown.clone()));
    let mut stop = Stop { stopped, since: None };
    let conn = if h2 { Some(conn) } else { http1::serve(&shared, &listening, conn, &mut stop).await };
    if let Some(conn) = conn {
        Box::pin(http2::serve(&shared, &listening, conn, &mut stop)).await;
    }
}

/// TLS, if the listener has it; and whether HTTP/2 is spoken from the first byte.
async fn handshake(
    listening: &Listening,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Option<(Transport, Option<TlsFacts>, bool)> {
    let h2_only = listening.plan.h2 && !listening.plan.h1;
    let Some(tls) = &listening.tls else {
        return Some((Transport::Plain(tcp), None, h2_only));
    };
    let limit = listening.plan.limits.tls_handshake_timeout.0;
    // boxed: its state is large, and gone when the connection is established
    match Box::pin(tls::accept(tls, tcp, limit)).await {
        Ok(accepted) => Some((accepted.io, Some(accepted.facts), accepted.h2 || h2_only)),
        Err(why) => {
            events::handshake_failed(&listening.plan.name, peer.ip(), &why);
            None
        }
    }
}

/// The stream for Pingora, with the facts about the connection.
fn wrap(
    io: Transport,
    listening: &Listening,
    peer: SocketAddr,
    tls: Option<TlsFacts>,
    slot: Slot,
) -> Option<Box<Conn>> {
    let local = if listening.address.ip().is_unspecified() {
        io.local_addr().map_or(listening.address, canonical)
    } else {
        listening.address
    };
    let facts = Connection::new(listening.plan.clone(), peer, local, tls);
    Conn::new(io, facts, slot).inspect_err(|e| log::error!("{peer}: {e}")).ok()
}

/// An IPv4 client of an IPv6 socket under its own address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns when the process is to end.
async fn stopping(mut shutdown: ShutdownWatch) {
    // an error says that the sender has gone, and with it the server
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The shutdown signal as a connection sees it: registered once, asked many times.
struct Stop<'a> {
    stopped: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
    since: Option<Instant>,
}

impl Stop<'_> {
    /// Since when it has been given; else the task is woken when it is.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        if self.since.is_none() && self.stopped.as_mut().poll(cx).is_ready() {
            self.since = Some(Instant::now());
        }
        self.since
    }

    async fn stopped(&mut self) {
        std::future::poll_fn(|cx| match self.poll(cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        })
        .await;
    }
}
