//! Connections to servers that are kept open for the next request: HTTP/1.1, with deadlines that the
//! [`patrol`](super::patrol) sees to, which are nearly all. One for each worker. The others Pingora keeps.
//!
//! Pingora watches what it keeps by a task for each connection, which begins after a request and has to end before the
//! next one, and then asks the kernel whose connection it is. Here nothing runs beside requests: when something
//! happens to a connection that nobody uses, its [`Watch`] is woken, and the tender looks at it.
//!
//! To Pingora this is a `Connector` for a protocol of its own that turns out to be HTTP/1.1, with connections that are [`Lent`].
//! See decision 042.

mod front;
mod shelf;

use crate::upstream::dialer;
use crate::upstream::wire::Wire;
use async_trait::async_trait;
use front::Front;
use parking_lot::Mutex;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{ALPN, CustomALPN, SslDigest, TlsRef};
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, OrErr, Result};
use shelf::{Shelf, Ticket};
use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::coop::unconstrained;

/// Has Pingora ask the connector. No server is told of it.
static ASK: LazyLock<ALPN> = LazyLock::new(|| ALPN::Custom(CustomALPN::new(b"kept".to_vec())));
/// The same for a request with a body.
static ASK_WITH_BODY: LazyLock<ALPN> = LazyLock::new(|| ALPN::Custom(CustomALPN::new(b"body".to_vec())));

/// The connection to this server is for whoever comes next. `body`: one follows the head of the request.
pub fn keep(peer: &mut HttpPeer, body: bool) {
    peer.options.alpn = if body { ASK_WITH_BODY.clone() } else { ASK.clone() };
}

/// The connections of a worker that nobody uses.
pub struct Kept {
    shelf: Mutex<Shelf<Idle>>,
    /// To the tender.
    stirred: UnboundedSender<Arc<Watch>>,
    /// Until it has begun.
    tender: Mutex<Option<UnboundedReceiver<Arc<Watch>>>>,
    /// The connection that was lent last, if it was kept before.
    known: AtomicI32,
}

struct Idle {
    stream: Stream,
    watch: Arc<Watch>,
}

/// What is woken when something happens to a connection while nobody uses it: its end, mostly.
struct Watch {
    stirred: AtomicBool,
    ticket: Mutex<Ticket>,
    tell: UnboundedSender<Arc<Watch>>,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.stirred.swap(true, Ordering::Relaxed) {
            // nobody is there any more when the worker ends
            self.tell.send(self.clone()).ok();
        }
    }
}

/// Reads, so that `watch` is woken when more could be read.
fn poll_read(stream: &mut Stream, watch: &Arc<Watch>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    watch.stirred.store(false, Ordering::Relaxed);
    let waker = Waker::from(watch.clone());
    Pin::new(stream).poll_read(&mut Context::from_waker(&waker), buf)
}

/// Whether this connection is still one that could be used: it is open, and there is nothing to read.
async fn is_quiet(idle: &mut Idle) -> bool {
    let mut byte = [0];
    // else nothing is read when this task has had its turn
    let read = unconstrained(poll_fn(|_| {
        Poll::Ready(poll_read(&mut idle.stream, &idle.watch, &mut ReadBuf::new(&mut byte)))
    }));
    read.await.is_pending()
}

impl Kept {
    fn new(room: usize) -> Arc<Kept> {
        let (stirred, tender) = unbounded_channel();
        let shelf = Mutex::new(Shelf::new(room));
        Arc::new(Kept { shelf, stirred, tender: Mutex::new(Some(tender)), known: AtomicI32::new(-1) })
    }

    /// Whether the connection to `peer`, which was just handed out, has served a request before. (Pingora takes for new what
    /// its connector hands out.)
    pub fn knew(&self, peer: &HttpPeer, fd: RawFd) -> bool {
        matches!(peer.options.alpn, ALPN::Custom(_)) && self.known.load(Ordering::Relaxed) == fd
    }

    fn put(&self, key: u64, stream: Stream, watch: &Arc<Watch>) {
        let gone = self.shelf.lock().put(key, |ticket| {
            *watch.ticket.lock() = ticket;
            Idle { stream, watch: watch.clone() }
        });
        // closed when nobody else is kept waiting for it
        drop(gone);
    }

    /// One that can be used.
    async fn take(&self, key: u64) -> Option<Idle> {
        loop {
            let mut idle = self.shelf.lock().take(key)?;
            if !idle.watch.stirred.load(Ordering::Relaxed) || is_quiet(&mut idle).await {
                return Some(idle);
            }
            log::debug!("a kept connection was closed by the server");
        }
    }
}

/// Looks at connections to which something has happened.
async fn tend(kept: Arc<Kept>, mut stirred: UnboundedReceiver<Arc<Watch>>) {
    while let Some(watch) = stirred.recv().await {
        let ticket = *watch.ticket.lock();
        let Some((key, mut idle)) = kept.shelf.lock().remove(ticket) else { continue };
        // TLS may have had something to say to itself
        if is_quiet(&mut idle).await {
            kept.put(key, idle.stream, &watch);
        }
    }
}

/// What opens connections, for all workers. It keeps none.
pub struct Opener {
    tls: TransportConnector,
    /// Addresses of this machine to connect from, if not any will do.
    bind_to: Box<[IpAddr]>,
}

impl Opener {
    /// Reads the authorities of the system.
    pub fn new(conf: &ServerConf) -> Opener {
        let options = ConnectorOptions::from_server_conf(conf);
        let bind_to = options.bind_to_v4.iter().chain(&options.bind_to_v6).map(SocketAddr::ip).collect();
        Opener { tls: TransportConnector::new(Some(options)), bind_to }
    }

    async fn open(&self, peer: &HttpPeer) -> Result<Stream> {
        if peer.is_tls() { self.tls.new_stream(peer).await } else { Ok(Box::new(self.plain(peer).await?)) }
    }

    /// Without what Pingora has around it: buffers that nobody fills, and clocks.
    async fn plain(&self, peer: &HttpPeer) -> Result<Wire> {
        let server = peer.address();
        let bind_to = server.as_inet().and_then(|server| dialer::own_address(&self.bind_to, *server));
        let opening = dialer::open(server, bind_to, None);
        let link = match peer.options.connection_timeout {
            Some(within) => tokio::time::timeout(within, opening).await,
            None => Ok(opening.await),
        };
        link.or_err(ErrorType::ConnectTimedout, "connecting")?.map(Wire::Plain)
    }
}

/// What gives Pingora the connections of a worker, kept or new.
pub struct Keeper {
    opener: Arc<Opener>,
    kept: Arc<Kept>,
}

impl Keeper {
    /// For a worker, with room for so many that nobody uses.
    pub fn new(opener: Arc<Opener>, room: usize) -> Keeper {
        Keeper { opener, kept: Kept::new(room) }
    }

    pub fn kept(&self) -> Arc<Kept> {
        self.kept.clone()
    }

    async fn connect<P: Peer + 'static>(&self, peer: &P) -> Result<Idle> {
        let peer: Option<&HttpPeer> = (peer as &dyn Any).downcast_ref();
        let Some(mut peer) = peer.cloned() else {
            return Error::e_explain(ErrorType::InternalError, "a peer of another kind");
        };
        peer.options.alpn = ALPN::H1;
        let stream = self.opener.open(&peer).await?;
        if let Some(stirred) = self.kept.tender.lock().take() {
            tokio::spawn(tend(self.kept.clone(), stirred));
        }
        let (stirred, ticket) = (AtomicBool::new(false), Mutex::default());
        let watch = Arc::new(Watch { stirred, ticket, tell: self.kept.stirred.clone() });
        Ok(Idle { stream, watch })
    }
}

#[async_trait]
impl Connector for Keeper {
    /// There are none: what is spoken is HTTP/1.1.
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<()>, bool)> {
        let key = peer.reuse_hash();
        let idle = self.kept.take(key).await;
        let known = idle.as_ref().map_or(-1, |idle| idle.stream.id());
        let Idle { stream, watch } = match idle {
            Some(idle) => idle,
            // boxed: room for a new connection is not set aside for every request
            None => Box::pin(self.connect(peer)).await?,
        };
        self.kept.known.store(known, Ordering::Relaxed);
        let body = peer.get_alpn().is_some_and(|alpn| *alpn == *ASK_WITH_BODY);
        let front = if body { Front::Awaited } else { Front::Gone };
        let lent = Lent { key, stream: Some(stream), front, watch, kept: self.kept.clone() };
        Ok((Connection::Stream(Box::new(lent)), known >= 0))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        _session: (),
        _peer: &P,
        _idle_timeout: Option<Duration>,
    ) {
    }
}

/// A connection while it is used. It is closed when it is dropped, unless Pingora asked before whether there is anything
/// to read, which it does in one place: when the answer is complete and the connection could be used again, before it
/// keeps it (`release_stream`). It does not wait for that, so that its waker wakes nobody. The connection goes
/// back then, and Pingora finds it closed.
struct Lent {
    key: u64,
    stream: Option<Stream>,
    front: Front,
    watch: Arc<Watch>,
    kept: Arc<Kept>,
}

impl Lent {
    fn give_back(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut stream) = self.stream.take() else { return Poll::Ready(Ok(())) };
        let read = poll_read(&mut stream, &self.watch, buf);
        if read.is_pending() {
            // else the server has answered before it was asked
            if !self.front.is_held() {
                self.kept.put(self.key, stream, &self.watch);
            }
            return Poll::Ready(Ok(()));
        }
        read
    }

    fn parts(&mut self) -> io::Result<(Pin<&mut Stream>, &mut Front)> {
        let stream = self.stream.as_mut().map(Pin::new).ok_or(io::ErrorKind::NotConnected)?;
        Ok((stream, &mut self.front))
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if wakes_nobody(cx.waker()) {
            return self.give_back(buf);
        }
        let (mut stream, front) = self.parts()?;
        ready!(front.poll_look(stream.as_mut(), cx))?;
        stream.poll_read(cx, buf)
    }
}

/// That of `FutureExt::now_or_never`. (Its table of functions need not be the same everywhere.)
fn wakes_nobody(waker: &Waker) -> bool {
    waker.data().is_null()
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (stream, front) = self.parts()?;
        front.poll_write(stream, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (stream, front) = self.parts()?;
        front.poll_flush(stream, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.parts()?.0.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Lent {
    async fn shutdown(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.shutdown().await;
        }
    }
}

impl UniqueID for Lent {
    fn id(&self) -> UniqueIDType {
        self.stream.as_ref().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for Lent {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.as_ref()?.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.as_ref()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for Lent {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.as_ref().map(|stream| stream.get_timing_digest()).unwrap_or_default()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.as_ref().map(|stream| stream.get_read_pending_time()).unwrap_or_default()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.as_ref().map(|stream| stream.get_write_pending_time()).unwrap_or_default()
    }
}

impl GetProxyDigest for Lent {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.as_ref()?.get_proxy_digest()
    }
}

impl GetSocketDigest for Lent {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.as_ref()?.get_socket_digest()
    }
}

impl Peek for Lent {}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("key", &self.key).field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
