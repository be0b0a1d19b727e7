//! The head of a request whose body follows, held back so that both go with one write: Pingora writes it, flushes, and
//! only then looks for the body, which in most requests came with the head. A write of its own costs as much as a
//! small body does, and wakes the server for what it can do nothing with.
//!
//! The head waits for nothing but what is there: it goes alone when the task has had a turn and there was no body in it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// So many pieces are written beside the head. Pingora writes three of a chunk.
const PIECES: usize = 4;

/// What has become of the head.
#[derive(Default)]
pub enum Front {
    /// Nothing is held, or nothing any more.
    #[default]
    Gone,
    /// It is what is written next.
    Awaited,
    Held {
        head: Vec<u8>,
        sent: usize,
        asked: Asked,
    },
    /// It was sent, and may be in a buffer of the stream still.
    Unflushed,
}

/// What has happened since the head was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    /// The flush that follows each head.
    Flushed,
    /// Somebody looks for the answer. The body may be written in the same turn.
    Looked,
}

impl Front {
    /// Whether the server has not seen it, or not all of it.
    pub fn is_held(&self) -> bool {
        matches!(self, Front::Awaited | Front::Held { .. })
    }

    /// Writes `bufs` to `stream`, behind the head if that is held; the head itself is taken. How much of `bufs` was
    /// written, as `poll_write` says it.
    pub fn poll_write<S: AsyncWrite + ?Sized>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self, Front::Awaited) {
            let mut head = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
            bufs.iter().for_each(|buf| head.extend_from_slice(buf));
            let size = head.len();
            *self = Front::Held { head, sent: 0, asked: Asked::Nothing };
            return Poll::Ready(Ok(size));
        }
        while let Front::Held { head, sent, .. } = self {
            let left = head.get(*sent..).unwrap_or_default();
            let mut all = [IoSlice::new(&[]); PIECES + 1];
            let [first, rest @ ..] = &mut all;
            *first = IoSlice::new(left);
            for (slot, buf) in rest.iter_mut().zip(bufs) {
                *slot = IoSlice::new(buf);
            }
            let all = all.get(..=bufs.len()).unwrap_or(&all);
            let written = ready!(stream.as_mut().poll_write_vectored(cx, all))?;
            let of_body = written.checked_sub(left.len());
            match (written, of_body) {
                (0, _) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                (_, None) => *sent += written,
                (_, Some(of_body)) => {
                    *self = Front::Unflushed;
                    if of_body > 0 {
                        return Poll::Ready(Ok(of_body));
                    }
                }
            }
        }
        stream.poll_write_vectored(cx, bufs)
    }

    /// Sends what is held, and flushes `stream`, unless this is the flush that follows the head.
    pub fn poll_flush<S: AsyncWrite + ?Sized>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Front::Held { asked: asked @ Asked::Nothing, .. } = self {
            *asked = Asked::Flushed;
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(stream.as_mut(), cx))?;
        ready!(stream.poll_flush(cx))?;
        *self = Front::Gone;
        Poll::Ready(Ok(()))
    }

    /// Somebody looks for the answer, and waits for it if there is none: what is held does not stay for longer than a turn.
    pub fn poll_look<S: AsyncWrite + ?Sized>(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Front::Gone | Front::Awaited => Poll::Ready(Ok(())),
            Front::Held { asked, .. } if *asked != Asked::Looked => {
                *asked = Asked::Looked;
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            Front::Held { .. } | Front::Unflushed => self.poll_flush(stream, cx),
        }
    }

    /// Sends the head alone.
    fn poll_send<S: AsyncWrite + ?Sized>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Front::Held { head, sent, .. } = self {
            let left = head.get(*sent..).unwrap_or_default();
            match ready!(stream.as_mut().poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                all if all == left.len() => *self = Front::Unflushed,
                some => *sent += some,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes no more than so much at once, and nothing each second time.
    struct Sips {
        most: usize,
        tired: bool,
        taken: Vec<u8>,
        flushed: usize,
    }

    impl AsyncWrite for Sips {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.tired = !self.tired;
            if self.tired {
                return Poll::Pending;
            }
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).take(self.most).collect();
            self.taken.extend(&all);
            Poll::Ready(Ok(all.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.taken.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sips(most: usize) -> Sips {
        Sips { most, tired: false, taken: Vec::new(), flushed: 0 }
    }

    /// Again and again until there is something.
    fn until_ready<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> T {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = (0..100).find_map(|_| match poll(&mut cx) {
            Poll::Ready(result) => Some(result.unwrap()),
            Poll::Pending => None,
        });
        ready.unwrap()
    }

    #[test]
    fn however_little_is_taken_at_once_all_of_it_comes_in_order() {
        let pieces: [&[u8]; 6] = [b"1", b"", b"23", b"4", b"5", b"67"];
        for most in 1..16 {
            let (mut stream, mut front) = (sips(most), Front::Awaited);
            let head =
                until_ready(|cx| front.poll_write(Pin::new(&mut stream), cx, &[IoSlice::new(b"head")]));
            assert_eq!((head, stream.taken.len()), (4, 0));
            let (mut body, mut bufs) = (b"1234567".to_vec(), pieces.to_vec());
            while !body.is_empty() {
                let slices: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
                let count = until_ready(|cx| front.poll_write(Pin::new(&mut stream), cx, &slices));
                assert!(count > 0);
                body.drain(..count);
                bufs = vec![&b"1234567"[7 - body.len()..]];
            }
            assert_eq!(stream.taken, b"head1234567", "{most}");
        }
    }

    #[test]
    fn who_looks_for_the_second_time_sends_it() {
        let (mut stream, mut front) = (sips(3), Front::Awaited);
        until_ready(|cx| front.poll_write(Pin::new(&mut stream), cx, &[IoSlice::new(b"head")]));
        until_ready(|cx| front.poll_flush(Pin::new(&mut stream), cx));
        until_ready(|cx| front.poll_look(Pin::new(&mut stream), cx));
        assert!(front.is_held() && stream.taken.is_empty());
        until_ready(|cx| front.poll_look(Pin::new(&mut stream), cx));
        assert!(!front.is_held());
        assert_eq!((stream.taken.as_slice(), stream.flushed), (&b"head"[..], 4));
    }
}
