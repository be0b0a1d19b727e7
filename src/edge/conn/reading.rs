//! What is read of a connection: everything between requests and in HTTP/2, of a body no more than is left of it, and
//! none of it for longer than a client may take.

use super::{Conn, SLOW_FRAME};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of the following requests is read while one is being answered.
const MAX_HELD: usize = 16 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Conn {
    /// Reads from the socket and notes when it is of no more use.
    pub(super) fn poll_io(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.broken |= result.is_err();
        Poll::Ready(result)
    }

    /// Its client has sent frames for which it ends.
    pub(super) fn flooded(&self) -> bool {
        self.frames.as_deref().is_some_and(|(watch, _)| watch.is_over())
    }

    /// Everything that is there, for a head or for HTTP/2.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.flooded() {
            return Poll::Pending;
        }
        if !self.held.is_empty() {
            let here = self.held.len().min(buf.remaining());
            buf.put_slice(&self.held.split_to(here));
        } else if self.poll_io(cx, buf)?.is_pending() {
            return self.poll_frame(cx);
        }
        if let Some((watch, _)) = self.frames.as_deref_mut() {
            let new = buf.filled().get(before..).unwrap_or_default();
            if let Err(why) = watch.feed(new, Instant::now()) {
                watch.end(why);
                buf.set_filled(before);
                return self.poll_frame(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more comes of the frame that is awaited, or of any: `http2` says so to the client.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((watch, timer)) = self.frames.as_deref_mut() else { return Poll::Pending };
        if !watch.is_over() {
            let Some(deadline) = watch.deadline() else { return Poll::Pending };
            ready!(timer.poll(cx, deadline));
            watch.end(SLOW_FRAME);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The rest of a body; what is read beyond it is held back.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.send_continue(cx)?;
        let before = buf.filled().len();
        if self.poll_io(cx, buf)?.is_pending() {
            return self.poll_patience(cx);
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        if let Some((pace, _)) = self.receiving.as_deref_mut() {
            pace.moved(new.len());
        }
        match self.gate.admit(new) {
            Ok(taken) => {
                self.held.extend_from_slice(new.get(taken..).unwrap_or_default());
                buf.set_filled(before + taken);
                Poll::Ready(Ok(()))
            }
            Err(why) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
        }
    }

    /// The client sends nothing of its body: it may not for ever.
    pub(super) fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((pace, timer)) = self.receiving.as_deref_mut() else { return Poll::Pending };
        ready!(timer.poll(cx, pace.wait()));
        // the client may still be told: it is not broken
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client sends its body too slowly")))
    }

    /// The body is wanted: that is when the client is told, and not when the request has been
    /// answered without it.
    pub(super) fn send_continue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.owes_continue {
            self.owes_continue = false;
            self.join(CONTINUE);
            // what the socket does not take now goes before the answer
            if let Poll::Ready(result) = self.poll_flush_buffer(cx) {
                result?;
            }
            if let Poll::Ready(result) = self.send(cx, |io, cx| io.poll_flush(cx)) {
                result?;
            }
        }
        Ok(())
    }

    /// Nothing is left of the request, but Pingora reads on to learn that the client has gone.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.held.len() < MAX_HELD {
            let mut stack = [const { MaybeUninit::uninit() }; 1024];
            let mut buf = ReadBuf::uninit(&mut stack);
            ready!(self.poll_io(cx, &mut buf))?;
            self.held.extend_from_slice(buf.filled());
            if buf.filled().is_empty() {
                // a client may send its last requests and close its side
                self.ended = true;
            }
        }
        if self.held.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
