//! A second try beside the first, when that takes longer than most: the first answer wins, and the
//! other server finds its connection closed. Begun by `forward` when a request without a body goes to a
//! server, settled by `retry`.
//!
//! The second try is a task of its own, with a connection of its own on which it sends the same head.
//! When it is answered first, the connection of the first try is shut down, as the watchdog does it;
//! Pingora finds it closed, and its next try is given the connection that has the answer, so that
//! filters, the log and the client's connection see one request. See decision 016.

use crate::config::file::UpstreamHost;
use crate::link::Link;
use crate::observe::events;
use crate::upstream::caps::{Ask, Place};
use crate::upstream::location::Location;
use crate::upstream::queue::Class;
use crate::upstream::{Group, Outcome, Tried, latency, reason};
use async_trait::async_trait;
use bytes::BytesMut;
use http::{Method, header};
use parking_lot::Mutex;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use socket2::SockRef;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;

/// As much of an answer as tells its status: `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// What a second try needs to know.
pub struct Order {
    pub group: Arc<Group>,
    /// Those that the request was sent to, the first try's server among them.
    pub tried: Tried,
    pub key: Option<Box<[u8]>>,
    /// As it went to the first server.
    pub head: RequestHeader,
    /// What a connection begins with, if the server is told of the client.
    pub announcement: Option<Arc<[u8]>>,
    /// Longer than this the first try may take before a second begins.
    pub after: Duration,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

/// A second try that may begin, or has begun. It ends when this is dropped.
pub struct Hedge {
    state: Arc<State>,
    second: oneshot::Receiver<Result<Stream>>,
}

struct State {
    /// One of [`RACING`], [`FIRST`] and [`SECOND`].
    winner: AtomicU8,
    begun: AtomicBool,
    /// Where the second try counts as in flight, from its beginning until it fails, is taken over or is
    /// of no more use.
    place: Mutex<Option<Place>>,
    /// The connection of the second try, once it stands: Pingora is not told its number.
    socket: OnceLock<OwnedFd>,
}

const RACING: u8 = 0;
const FIRST: u8 = 1;
const SECOND: u8 = 2;

impl Hedge {
    /// Begins to wait. `first` is the connection to the first server, and open.
    ///
    /// # Errors
    /// The process has no file descriptor to spare.
    pub fn set(order: Order, first: RawFd) -> io::Result<Hedge> {
        // SAFETY: Pingora owns the connection and keeps it open while its callback calls us.
        let first = unsafe { BorrowedFd::borrow_raw(first) }.try_clone_to_owned()?;
        let state = Arc::new(State {
            winner: AtomicU8::new(RACING),
            begun: AtomicBool::new(false),
            place: Mutex::new(None),
            socket: OnceLock::new(),
        });
        let (sender, second) = oneshot::channel();
        tokio::spawn(race(order, first, state.clone(), sender));
        Ok(Hedge { state, second })
    }

    /// The first try is answered; `false` when the second was quicker.
    pub fn first_answered(&self) -> bool {
        self.state.decide(FIRST)
    }

    /// The second try was answered first, and has ended the first.
    pub fn second_answered(&self) -> bool {
        self.state.winner.load(Ordering::Acquire) == SECOND
    }

    /// Whether there was a second try, whatever has become of it.
    pub fn has_begun(&self) -> bool {
        self.state.begun.load(Ordering::Acquire)
    }

    /// Whether there is one that may still be answered.
    pub fn goes_on(&self) -> bool {
        self.state.place.lock().is_some()
    }

    /// Makes the second try, if it still goes on, the one that counts.
    pub fn take_over(self) -> Option<(Place, Handover)> {
        let place = self.state.place.lock().take()?;
        Some((place, Handover { state: self.state, second: Mutex::new(Some(self.second)) }))
    }
}

impl State {
    fn decide(&self, winner: u8) -> bool {
        self.winner.compare_exchange(RACING, winner, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Whether a second try of this request does no harm: it may be repeated (RFC 9110 §9.2.2) and is
/// nothing but its head.
pub fn is_for(head: &RequestHeader) -> bool {
    let bodyless = !head.headers.contains_key(header::TRANSFER_ENCODING)
        && head.headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
    let upgrade = head.headers.contains_key(header::UPGRADE) || head.method == Method::CONNECT;
    head.method.is_idempotent() && bodyless && !upgrade
}

async fn race(order: Order, first: OwnedFd, state: Arc<State>, mut sender: oneshot::Sender<Result<Stream>>) {
    tokio::select! {
        () = sender.closed() => return,
        () = tokio::time::sleep(order.after) => {}
    }
    let Some(place) = order.place() else { return };
    let (server, begun) = (place.server.endpoint().clone(), Instant::now());
    *state.place.lock() = Some(place);
    state.begun.store(true, Ordering::Release);
    let outcome = tokio::select! {
        biased;
        () = sender.closed() => {
            state.place.lock().take();
            return;
        }
        outcome = order.exchange(server.at(), &state.socket) => outcome,
    };
    match outcome {
        Ok((stream, good)) => {
            // a server that says at once that it cannot answer is of use only when the first cannot either
            let won = good && state.decide(SECOND);
            if sender.send(Ok(stream)).is_err() {
                state.place.lock().take();
            } else if won {
                // who is gone already needs no end
                SockRef::from(&first).shutdown(Shutdown::Both).ok();
            }
        }
        Err(error) => {
            let place = state.place.lock().take();
            match place {
                Some(place) => order.failed(place, &error, begun),
                // who has taken it over tells about it
                None => drop(sender.send(Err(error))),
            }
        }
    }
}

impl Order {
    /// A server that was not tried, if one has room at once and the budget allows it.
    fn place(&self) -> Option<Place> {
        let key = self.key.as_deref();
        let place = match self.group.caps() {
            Some(caps) => {
                let ask = Ask { class: Class::Normal, home: None, key, tried: &self.tried };
                caps.enter_free(&self.group, &ask)?
            }
            None => Place { server: self.group.begin_any(&self.tried, key)?, slot: None },
        };
        let budget = self.group.budget();
        if !budget.retry(Instant::now()) {
            self.group.counted().budget_exhausted();
            events::budget_spent(budget.spent(), self.group.name());
            return None;
        }
        Some(place)
    }

    /// The second try has failed while the first still goes on.
    fn failed(&self, mut place: Place, error: &Error, begun: Instant) {
        let (server, now) = (place.server.endpoint().clone(), Instant::now());
        latency::failed(&self.group.plan().balance, &server, now - begun);
        let why = || reason::words(error, self.connect_timeout);
        if let Some(watch) = place.server.watch.take() {
            self.group.ended(&server, watch, Outcome::Failed(&why), now);
        }
        events::try_failed(server.failures(), self.group.name(), server.name(), &why(), false);
    }

    /// Asks the server; its answer has begun, and is not that it cannot answer.
    async fn exchange(&self, server: &Location, socket: &OnceLock<OwnedFd>) -> Result<(Stream, bool)> {
        let head = self.head_for(server.authority())?;
        let connect = tokio::time::timeout(self.connect_timeout, server.connect());
        let mut stream = match connect.await {
            Ok(connected) => connected.or_err(ErrorType::ConnectError, "second try")?,
            Err(_) => return Err(Error::explain(ErrorType::ConnectTimedout, "second try")),
        };
        stream.set_nodelay().or_err(ErrorType::SocketError, "second try")?;
        let own = stream.as_fd().try_clone_to_owned().or_err(ErrorType::SocketError, "second try")?;
        // the only try that connects here
        socket.set(own).ok();
        if let Some(announcement) = &self.announcement {
            stream.write_all(announcement).await.or_err(ErrorType::WriteError, "second try")?;
        }
        stream.write_all(&head).await.or_err(ErrorType::WriteError, "second try")?;
        let mut begun = BytesMut::new();
        let answer = async {
            while begun.len() < STATUS_END {
                if stream.read_buf(&mut begun).await.or_err(ErrorType::ReadError, "second try")? == 0 {
                    return Err(Error::explain(ErrorType::ConnectionClosed, "second try"));
                }
            }
            Ok(())
        };
        match tokio::time::timeout(self.response_timeout, answer).await {
            Ok(answered) => answered?,
            Err(_) => return Err(Error::explain(ErrorType::ReadTimedout, "second try")),
        }
        let good = begun.get(9).is_some_and(|class| *class < b'5');
        let mut stream = Stream::from(VirtualSocketStream::new(Box::new(Answering(stream))));
        stream.rewind(&begun);
        Ok((stream, good))
    }

    fn head_for(&self, authority: &str) -> Result<BytesMut> {
        let mut head = self.head.clone();
        head.insert_header("X-Weirgate-Attempts", "2")?;
        if self.group.plan().host == UpstreamHost::Server {
            head.insert_header(header::HOST, authority)?;
        }
        http_req_header_to_wire(&head)
            .ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "second try"))
    }
}

/// Gives Pingora the connection of the second try when it wants one.
pub struct Handover {
    state: Arc<State>,
    second: Mutex<Option<oneshot::Receiver<Result<Stream>>>>,
}

impl Handover {
    /// Where the connection is found when it has been handed over.
    pub fn socket(&self) -> Socket {
        Socket(self.state.clone())
    }
}

/// The connection of a second try, kept open as long as this lives.
pub struct Socket(Arc<State>);

impl Socket {
    /// `None` before it stands.
    pub fn fd(&self) -> Option<RawFd> {
        self.0.socket.get().map(AsRawFd::as_raw_fd)
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handover")
    }
}

#[async_trait]
impl L4Connect for Handover {
    async fn connect(&self, _address: &PingoraAddress) -> Result<Stream> {
        let second = self.second.lock().take();
        match second {
            Some(second) => second.await.or_err(ErrorType::ConnectError, "the second try has ended")?,
            None => Err(Error::explain(ErrorType::ConnectError, "the second try was taken already")),
        }
    }
}

/// A connection on which the request has been sent already: what Pingora writes is that request
/// again, and goes nowhere.
#[derive(Debug)]
struct Answering(Link);

impl VirtualSocket for Answering {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Answering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Answering {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
