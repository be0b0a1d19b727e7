//! The life of a connection: socket, limits, TLS, then HTTP/1 or HTTP/2, and each request of it to
//! the application.
//!
//! In reading order:
//! - [`listener`] binds the sockets, [`open`](fn@open) makes of them what the workers need;
//! - `accept` takes connections off a socket, as many as [`open`](mod@open) allows;
//! - [`connection`] is the story of one: [`tls`] opens it, [`http1`] reads its heads ([`head`]
//!   judges them) or [`http2`] its streams (`frames` watches them);
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

#[cfg(test)]
mod tests;

pub use listener::{BindError, Bound, bind};
pub use open::{Count, Open};

use crate::config::plan;
use crate::edge::conn::{Conn, Transport};
use crate::edge::head::HeadLimits;
use crate::edge::open::{OncePerMinute, Slot};
use crate::http::{Connection, HeadRefuser, TlsFacts};
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

/// What a worker needs to serve: called with [`serve`] on its own runtime.
pub struct Worker<A> {
    pub app: Arc<A>,
    /// Answers heads that are not fit for `app`.
    pub refuser: Arc<dyn HeadRefuser>,
    /// Turns true when the process is to end: nothing more is accepted, idle connections are
    /// closed, requests are finished.
    pub shutdown: ShutdownWatch,
    /// Its share of every listener, from [`Opened::workers`].
    pub sockets: Vec<Socket>,
}

/// A listening socket of one worker.
pub struct Socket {
    listening: Arc<Listening>,
    socket: std::net::TcpListener,
}

/// The listeners, ready to be served.
pub struct Opened {
    /// Who is connected; to be waited on at the end.
    pub open: Arc<Open>,
    /// Name, address and connections of each listener, in the order of the configuration.
    pub listeners: Vec<Arc<Listening>>,
    /// The sockets of each worker.
    pub workers: Vec<Vec<Socket>>,
}

/// A listener at work, shared by the workers.
pub struct Listening {
    pub plan: Arc<plan::Listener>,
    pub address: SocketAddr,
    pub count: Arc<Count>,
    limits: HeadLimits,
    tls: Option<TlsAcceptor>,
    /// Log lines that must not become a flood.
    full: OncePerMinute,
    trouble: OncePerMinute,
}

/// Makes bound sockets ready to be served. Fails on certificates that [`tls::server_config`] refuses.
pub fn open(bound: Vec<Bound>) -> Result<Opened, String> {
    let open = Arc::new(Open::default());
    let mut listeners = Vec::new();
    let mut workers: Vec<Vec<Socket>> = Vec::new();
    for Bound { listener, address, sockets } in bound {
        let listening = Arc::new(Listening::new(listener, address, open.clone())?);
        workers.resize_with(workers.len().max(sockets.len()), Vec::new);
        for (worker, socket) in workers.iter_mut().zip(sockets) {
            worker.push(Socket { listening: listening.clone(), socket });
        }
        listeners.push(listening);
    }
    Ok(Opened { open, listeners, workers })
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
            full: OncePerMinute::default(),
            trouble: OncePerMinute::default(),
        })
    }
}

/// What all connections of a worker share.
struct Shared<A> {
    app: Arc<A>,
    refuser: Arc<dyn HeadRefuser>,
    shutdown: ShutdownWatch,
}

/// Starts accepting on all sockets of the worker, in tasks of the runtime it is called on. They
/// and the connections end after the shutdown signal; [`Open::drained`] tells when.
pub fn serve<A: App>(worker: Worker<A>) {
    let Worker { app, refuser, shutdown, sockets } = worker;
    let shared = Arc::new(Shared { app, refuser, shutdown });
    for socket in sockets {
        let hold = socket.listening.count.hold();
        tokio::spawn(accept::run(shared.clone(), socket, hold));
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
    let conn = if h2 {
        Some(conn)
    } else {
        http1::serve(&shared, &listening, conn, &mut stop).await
    };
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
            log::debug!("{peer}: TLS handshake on `{}` failed: {why}", listening.plan.name);
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
    let facts = Connection { listener: listening.plan.clone(), peer, local, tls };
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
