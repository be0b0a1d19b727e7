//! A gate on a port of its own, and clients for it.

use crate::config::file::{ListenerLimits, Underscores};
use crate::config::plan::{self, ListenerId};
use crate::edge::conn::Conn;
use crate::edge::era::Era;
use crate::edge::transport::Transport;
use crate::edge::{BindError, Changes, Count, Edge, Open, Worker, serve};
use crate::http::{Connection, HeadRefuser, NOWHERE, Refusal};
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Answers `METHOD target body` with facts about the connection in headers. `/slow` waits to be
/// released; `/early` answers before it has read the body.
pub struct Echo {
    pub release: Semaphore,
    pub entered: Semaphore,
}

#[async_trait]
impl HttpServerApp for Echo {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        let target = session.req_header().uri.path().to_string();
        let mut text = format!("{} {target} ", session.req_header().method).into_bytes();
        if !target.starts_with("/early") {
            while let Some(piece) = session.read_request_body().await.ok()? {
                text.extend_from_slice(&piece);
            }
        }
        if target.starts_with("/slow") {
            self.entered.add_permits(1);
            // as a proxy does: waits for its server and for the client to leave
            tokio::select! {
                permit = self.release.acquire() => permit.ok()?.forget(),
                gone = session.read_body_or_idle(true), if !session.is_http2() => {
                    gone.ok()?;
                    return None;
                }
            }
        }
        if target.starts_with("/big") {
            text.resize(3_000_000, b'x');
        }
        let connection = Connection::of(session.digest())?.clone();
        let mut head = ResponseHeader::build(200, None).ok()?;
        head.insert_header("content-length", text.len().to_string()).ok()?;
        head.insert_header("x-listener", connection.listener.name.clone()).ok()?;
        head.insert_header("x-peer", connection.peer.to_string()).ok()?;
        if let Some(tls) = &connection.tls {
            let sni = tls.sni.as_deref().unwrap_or("-");
            head.insert_header("x-tls", format!("{} {} {sni}", tls.version, tls.cipher)).ok()?;
        }
        session.write_response_header(Box::new(head)).await.ok()?;
        session.write_response_body(Bytes::from(text), true).await.ok()?;
        // the connection goes back to the edge by itself
        session.finish().await.ok().flatten().map(|_| unreachable!("a session of Pingora's own"))
    }
}

/// `Refused: STATUS reason` and how much of the head was read.
struct Refuser;

impl HeadRefuser for Refuser {
    fn refuse(&self, refusal: Refusal<'_>) -> Vec<u8> {
        let Refusal { reject, head, connection, .. } = refusal;
        let body = format!("{} [{} bytes on {}]", reject.reason(), head.len(), connection.listener.name);
        format!(
            "HTTP/1.1 {} Refused\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            reject.status().as_u16(),
            body.len()
        )
        .into_bytes()
    }
}

/// A connection as it has been accepted, and its client.
pub async fn accepted() -> (Box<Conn>, TcpStream) {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (socket, peer) = door.accept().await.unwrap();
    let slot = Count::new(Arc::new(Open::default()), 1).enter(&Era::new(1), 0).unwrap();
    let facts = Connection::new(Arc::new(listener()), peer, address, None);
    (Conn::new(Transport::Plain(socket.into()), facts, slot).unwrap(), client)
}

/// A running gate.
pub struct Gate {
    /// Of the first listener.
    pub address: SocketAddr,
    pub app: Arc<Echo>,
    pub open: Arc<Open>,
    pub edge: Edge,
    /// Ends when all workers have.
    pub worker: JoinHandle<()>,
}

pub fn listener() -> plan::Listener {
    plan::Listener {
        id: ListenerId(0),
        name: "web".to_string(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        socket_mode: None,
        proxy_protocol: None,
        trusted: Arc::default(),
        h1: true,
        h2: false,
        tls: None,
        tcp: None,
        udp: None,
        ip: None,
        redirect_https: None,
        limits: ListenerLimits::default(),
        underscores: Underscores::default(),
        logged: None,
        filters: Vec::new(),
    }
}

impl Gate {
    pub fn start(listener: plan::Listener) -> Gate {
        Gate::start_all(&[listener], 1)
    }

    pub fn start_all(listeners: &[plan::Listener], workers: usize) -> Gate {
        let edge = Edge::new(workers);
        change(&edge, listeners).unwrap();
        Gate::serve(edge)
    }

    /// Starts the workers of an edge that has a listener.
    pub fn serve(edge: Edge) -> Gate {
        let app = Arc::new(Echo { release: Semaphore::new(0), entered: Semaphore::new(0) });
        let refuser = Arc::new(Refuser);
        let serving = |share| {
            let (app, refuser, flows) = (app.clone(), refuser.clone(), Arc::default());
            tokio::spawn(serve(Worker { app, refuser, flows, share }))
        };
        let workers: Vec<_> = edge.shares().into_iter().map(serving).collect();
        let worker = tokio::spawn(async move {
            for worker in workers {
                worker.await.unwrap();
            }
        });
        Gate {
            address: edge.listeners()[0].address.ip().unwrap_or(NOWHERE),
            app,
            open: edge.open(),
            edge,
            worker,
        }
    }

    /// A reload.
    pub fn change(&self, listeners: &[plan::Listener]) -> Result<Changes, BindError> {
        change(&self.edge, listeners)
    }

    /// The first listener as it is, on the address it got.
    pub fn plan(&self) -> plan::Listener {
        let listening = &self.edge.listeners()[0];
        plan::Listener { address: listening.plan.address.clone(), ..(*listening.plan).clone() }
    }

    pub async fn connect(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends bytes on a new connection and reads until the gate closes it.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.rest().await
    }
}

/// The workers of an edge, each on a thread of its own.
pub fn threads(edge: &Edge) -> Vec<std::thread::JoinHandle<()>> {
    let app = Arc::new(Echo { release: Semaphore::new(0), entered: Semaphore::new(0) });
    let serving = |share| {
        let worker = Worker { app: app.clone(), refuser: Arc::new(Refuser), flows: Arc::default(), share };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(serve(worker)))
    };
    edge.shares().into_iter().map(serving).collect()
}

/// A reload with the grace period that tests have.
pub fn change(edge: &Edge, listeners: &[plan::Listener]) -> Result<Changes, BindError> {
    let listeners: Vec<_> = listeners.iter().cloned().map(Arc::new).collect();
    Ok(edge.commit(edge.prepare(&listeners)?, PATIENCE))
}

/// A port that nobody listens on.
pub fn free() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// A client that speaks in bytes.
pub struct Client<S>(pub S);

impl<S: AsyncReadExt + AsyncWriteExt + Unpin> Client<S> {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads to the end of the connection.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes))
            .await
            .expect("the gate should have closed the connection")
            .unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads one response with a Content-Length.
    pub async fn response(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.read_response()).await.expect("a response should have come")
    }

    async fn read_response(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(bytes).unwrap();
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    pub async fn get(&mut self, target: &str) -> String {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        self.response().await
    }
}

pub fn millis(n: u64) -> crate::units::Time {
    crate::units::Time(Duration::from_millis(n))
}
