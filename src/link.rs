//! The socket of a connection, TCP or unix: what `edge::transport` speaks over with clients, health checks and second
//! tries with servers. What was read of it too early is read again by whoever comes next.

use crate::l4;
use bytes::{Buf, Bytes};
use pingora_core::protocols::l4::stream::Stream;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

#[derive(Debug)]
pub struct Link {
    io: Io,
    ahead: Bytes,
}

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Link {
    fn from(tcp: TcpStream) -> Link {
        Link { io: Io::Tcp(tcp), ahead: Bytes::new() }
    }
}

impl From<UnixStream> for Link {
    fn from(unix: UnixStream) -> Link {
        Link { io: Io::Unix(unix), ahead: Bytes::new() }
    }
}

/// As Pingora opens them. Nothing has been read.
impl From<Link> for Stream {
    fn from(link: Link) -> Stream {
        match link.io {
            Io::Tcp(tcp) => tcp.into(),
            Io::Unix(unix) => unix.into(),
        }
    }
}

impl Link {
    /// Connects to the socket at `path`, or else to `address`.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(address: SocketAddr, path: Option<&Path>) -> io::Result<Link> {
        match path {
            Some(path) => UnixStream::connect(path).await.map(Link::from),
            None => TcpStream::connect(address).await.map(Link::from),
        }
    }

    /// Sends at once what is written, which unix sockets do anyway.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match &self.io {
            Io::Tcp(tcp) => tcp.set_nodelay(true),
            Io::Unix(_) => Ok(()),
        }
    }

    /// Our end; `None` of a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.io {
            Io::Tcp(tcp) => tcp.local_addr().ok(),
            Io::Unix(_) => None,
        }
    }

    /// As a side of a flow, with what was read too early.
    pub fn into_flow(self) -> (l4::Stream, Bytes) {
        let stream = match self.io {
            Io::Tcp(tcp) => l4::Stream::Tcp(tcp),
            Io::Unix(unix) => l4::Stream::Unix(unix),
        };
        (stream, self.ahead)
    }

    /// Puts back what was read and is for whoever reads next.
    pub fn unread(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        match &self.io {
            Io::Tcp(tcp) => tcp.as_raw_fd(),
            Io::Unix(unix) => unix.as_raw_fd(),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.io {
            Io::Tcp(tcp) => tcp.as_fd(),
            Io::Unix(unix) => unix.as_fd(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        if !link.ahead.is_empty() {
            let here = link.ahead.len().min(buf.remaining());
            buf.put_slice(link.ahead.get(..here).unwrap_or_default());
            link.ahead.advance(here);
            if link.ahead.is_empty() {
                // the storage goes, too
                link.ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut link.io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Io::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Io::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Io::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}
