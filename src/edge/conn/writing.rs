//! What is written to a connection: small writes joined, large ones in one call with what was joined, and nothing to a
//! client that has stopped reading.

use super::Conn;
use crate::edge::transport::Transport;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Writes up to this are joined; a response head with a short body goes out as one packet.
pub(super) const WRITE_BUFFER: usize = 4096;

impl Conn {
    /// Has `write` put a head in front of what is sent next.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.owes_continue = false;
        let mut buffer = std::mem::take(&mut self.write_buffer);
        if buffer.capacity() == 0 {
            buffer.reserve(WRITE_BUFFER / 2);
        }
        let before = buffer.len();
        write(&mut buffer);
        let head = buffer.get(before..).unwrap_or_default();
        self.passed(&[IoSlice::new(head)], head.len());
        self.write_buffer = buffer;
    }

    /// Sends all of this; what is little waits for what follows, or for the flush.
    ///
    /// # Errors
    /// The client takes nothing any more.
    pub async fn send_all(&mut self, mut all: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut all, 0);
        while !all.is_empty() {
            let sent = self.write_vectored(all).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut all, sent);
        }
        Ok(())
    }

    /// So many of these bytes were taken to be sent.
    pub(super) fn passed(&mut self, bufs: &[IoSlice<'_>], taken: usize) {
        if let Some((watch, _)) = self.frames.as_deref_mut() {
            watch.sent(taken);
        }
        let Some(tunnel) = &mut self.tunnel else { return };
        let mut left = taken;
        for buf in bufs {
            let here = left.min(buf.len());
            tunnel.pass(buf.get(..here).unwrap_or_default());
            left -= here;
        }
    }

    /// A write to the socket, given up when the client takes nothing for too long.
    pub(super) fn send<T: Moved>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Transport>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match write(Pin::new(&mut self.io), cx) {
            Poll::Ready(result) => {
                self.sending.moved(result.as_ref().map_or(0, Moved::bytes));
                self.broken |= result.is_err();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.timer.poll(cx, self.sending.wait()));
                self.broken = true;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")))
            }
        }
    }

    /// Sends what is buffered and then `bufs`, in one system call if the socket takes it.
    pub(super) fn send_through(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let unsent = self.write_buffer.len() - self.written;
            if unsent == 0 {
                return self.send(cx, |io, cx| io.poll_write_vectored(cx, bufs));
            }
            let buffer = std::mem::take(&mut self.write_buffer);
            let mut slices = [IoSlice::new(&[]); 16];
            let ours = IoSlice::new(buffer.get(self.written..).unwrap_or_default());
            let mut count = 0;
            for (slot, slice) in slices.iter_mut().zip(std::iter::once(ours).chain(bufs.iter().copied())) {
                *slot = slice;
                count += 1;
            }
            let result =
                self.send(cx, |io, cx| io.poll_write_vectored(cx, slices.get(..count).unwrap_or_default()));
            self.write_buffer = buffer;
            let sent = ready!(result)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += sent.min(unsent);
            if sent >= unsent {
                self.write_buffer.clear();
                self.written = 0;
            }
            if sent > unsent {
                return Poll::Ready(Ok(sent - unsent));
            }
        }
    }

    /// Puts `bytes` into the buffer if they are few enough to be joined with others.
    pub(super) fn join(&mut self, bytes: &[u8]) {
        if self.write_buffer.capacity() == 0 {
            self.write_buffer.reserve(WRITE_BUFFER / 2);
        }
        self.write_buffer.extend_from_slice(bytes);
    }

    pub(super) fn poll_flush_buffer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write_buffer.is_empty() {
            let buffer = std::mem::take(&mut self.write_buffer);
            let written = self.written;
            let result = self.send(cx, |io, cx| io.poll_write(cx, buffer.get(written..).unwrap_or_default()));
            self.write_buffer = buffer;
            let sent = ready!(result)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += sent;
            if self.written >= self.write_buffer.len() {
                self.write_buffer.clear();
                self.written = 0;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What became of a write.
pub(super) trait Moved {
    /// How much the client has taken with it.
    fn bytes(&self) -> usize;
}

impl Moved for usize {
    fn bytes(&self) -> usize {
        *self
    }
}

/// A flush or the end: what they move was counted when it was written.
impl Moved for () {
    fn bytes(&self) -> usize {
        0
    }
}
