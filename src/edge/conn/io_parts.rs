//! The parts of Pingora's `IO` that [`Conn`] has to implement.

use super::Conn;
use super::gate::Gate;
use super::writing::WRITE_BUFFER;
use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        match self.gate {
            Gate::Open => self.poll_open(cx, buf),
            Gate::Length(_) | Gate::Chunked(_) => self.poll_body(cx, buf),
            Gate::Shut => self.poll_gone(cx),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        self.owes_continue = false;
        if self.joins_writes && self.write_buffer.len() + buf.len() <= WRITE_BUFFER {
            self.join(buf);
            self.passed(&[IoSlice::new(buf)], buf.len());
            return Poll::Ready(Ok(buf.len()));
        }
        let bufs = [IoSlice::new(buf)];
        let sent = ready!(self.send_through(cx, &bufs))?;
        self.passed(&bufs, sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        self.owes_continue = false;
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.joins_writes && self.write_buffer.len() + total <= WRITE_BUFFER {
            for buf in bufs {
                self.join(buf);
            }
            self.passed(bufs, total);
            return Poll::Ready(Ok(total));
        }
        let sent = ready!(self.send_through(cx, bufs))?;
        self.passed(bufs, sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        ready!(self.poll_flush_buffer(cx))?;
        self.send(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        ready!(self.poll_flush_buffer(cx))?;
        self.send(cx, |io, cx| io.poll_shutdown(cx))
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        if let Err(e) = AsyncWriteExt::shutdown(self).await {
            log::debug!("{}: closing: {e}", self.facts.peer);
        }
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.digest.ssl_digest.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        // a connection whose frames are watched has been found to speak HTTP/2
        self.frames.as_ref().map(|_| ALPN::H2)
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.digest.timing_digest.clone()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.digest.proxy_digest.clone()
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.digest.socket_digest.clone()
    }
}

impl Peek for Conn {}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("peer", &self.facts.peer).field("gate", &self.gate).finish()
    }
}
