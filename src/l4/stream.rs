//! A side of a flow: a socket, or TLS over one.

use crate::upstream::wire::Wire;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// So often is a peer probed that does not answer.
const PROBES: u32 = 4;

/// What may wait in the kernel until it can be sent, where much is sent. With less, as `edge` allows for whoever connects,
/// the two sides take turns, and a byte costs twice as much; without a bound it is megabytes for each that reads slowly.
#[cfg(target_os = "linux")]
const MUCH: u32 = 1024 * 1024;

/// What is spoken over TLS.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// A client or a server of a flow.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<dyn Duplex>),
}

impl From<Wire> for Stream {
    fn from(wire: Wire) -> Stream {
        match wire {
            Wire::Plain(link) => link.into_flow().0,
            Wire::Tls(tls) => Stream::Tls(tls),
        }
    }
}

impl Stream {
    /// The socket, where nothing is between it and the bytes.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Stream::Tcp(tcp) => Some(tcp.as_fd()),
            Stream::Unix(unix) => Some(unix.as_fd()),
            Stream::Tls(_) => None,
        }
    }

    /// Whether its bytes are those on the socket.
    pub fn is_plain(&self) -> bool {
        self.socket().is_some()
    }

    /// A peer that is gone without a word is found out by the system: after as much silence, and as much again.
    pub fn keep_alive(&self, after: Option<Duration>) {
        let (Stream::Tcp(tcp), Some(after)) = (self, after) else { return };
        let interval = (after / PROBES).max(Duration::from_secs(1));
        let probes = TcpKeepalive::new().with_time(after).with_interval(interval).with_retries(PROBES);
        // without it the flow has its other deadlines
        SockRef::from(tcp).set_tcp_keepalive(&probes).ok();
    }

    /// Much is to be sent: more of it may wait in the kernel than is good for one that is not in a hurry.
    #[cfg(target_os = "linux")]
    pub fn expect_much(&self) {
        if let Stream::Tcp(tcp) = self {
            // without it the flow is slower
            SockRef::from(tcp).set_tcp_notsent_lowat(MUCH).ok();
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub fn expect_much(&self) {}

    /// The peer is to see that it did not end well: it gets a reset when this is dropped.
    pub fn break_off(&self) {
        if let Stream::Tcp(tcp) = self {
            // what cannot be said is that something is wrong with a socket that is wrong
            SockRef::from(tcp).set_linger(Some(Duration::ZERO)).ok();
        }
    }

    /// Whether the peer has gone for good. One that has closed its sending side only waits for an answer.
    pub fn has_gone(&self) -> bool {
        let Some(socket) = self.socket() else { return false };
        let mut fds = [PollFd::new(socket, PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Does this with the socket when it can be read from, or written to; again when it says that it cannot.
    pub fn poll_act<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let reads = interest.is_readable();
        loop {
            let tried = match self {
                Stream::Tcp(tcp) => {
                    ready!(if reads { tcp.poll_read_ready(cx) } else { tcp.poll_write_ready(cx) })?;
                    tcp.try_io(interest, || act(tcp.as_fd()))
                }
                Stream::Unix(unix) => {
                    ready!(if reads { unix.poll_read_ready(cx) } else { unix.poll_write_ready(cx) })?;
                    unix.try_io(interest, || act(unix.as_fd()))
                }
                Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            match tried {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // nothing is held back
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    /// Nothing more is sent; what comes is still read.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
