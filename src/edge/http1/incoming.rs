//! The body of a request of HTTP/1.1, or what follows the switch to another protocol, as it comes: nothing is copied
//! but what a second try may need. Called by `exchange`.

use crate::edge::chunked::Chunked;
use crate::edge::conn::Conn;
use crate::edge::head::Framing;
use bytes::{Buf, Bytes, BytesMut};
use pingora_core::{Error, ErrorType, Result};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// A piece of a body has at most so much,
const PIECE: usize = 128 * 1024;
/// and a read finds room for so much, or for all that is left: pieces keep what they were read into, and a client that
/// sends byte by byte is not to have a buffer for each.
const ROOM: usize = 16 * 1024;
/// A read of a WebSocket, which may be silent for long and then needs no memory.
const TUNNEL_READ: usize = 16 * 1024;
/// What of a body is kept for another server: as much as Pingora keeps of one over HTTP/2.
const MAX_REPLAY: usize = 64 * 1024;
/// In at most so many pieces.
const MAX_PIECES: usize = 64;

/// What is still to come of a request.
pub struct Incoming {
    rest: Rest,
    /// Read, and not passed on yet; of a chunked body with its framing.
    buffer: BytesMut,
    bytes: usize,
    replay: Replay,
}

enum Rest {
    Length(u64),
    Chunked(Chunked),
    /// Bytes of another protocol, until the client closes its side.
    Tunnel,
    Nothing,
}

/// What has passed, for another try.
enum Replay {
    Off,
    Kept {
        pieces: Vec<Bytes>,
        bytes: usize,
    },
    /// It was too much.
    Lost,
}

impl Incoming {
    /// `begun` is what came with the head.
    pub fn new(framing: Framing, begun: BytesMut) -> Self {
        let rest = match framing {
            Framing::None | Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunked::default()),
        };
        Incoming { rest, buffer: begun, bytes: 0, replay: Replay::Off }
    }

    /// Whether nothing more comes.
    pub fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Whether nothing came and nothing will.
    pub fn is_empty(&self) -> bool {
        self.is_done() && self.bytes == 0
    }

    /// How much of the body has been passed on, without its framing.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What comes now is of another protocol.
    pub fn switch(&mut self) {
        self.rest = Rest::Tunnel;
    }

    /// Nobody wants more of the other protocol.
    pub fn end(&mut self) {
        self.rest = Rest::Nothing;
    }

    /// The next piece, `None` after the last.
    ///
    /// # Errors
    /// The client has closed its side too early (`ConnectionClosed`), or what [`Conn`] says.
    pub fn poll(&mut self, cx: &mut Context<'_>, conn: &mut Conn) -> Poll<Result<Option<Bytes>>> {
        loop {
            if let Rest::Length(left) = self.rest {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                // a read that could have had one byte more and has not is known to be the last for now
                ready!(self.fill(cx, conn, left.min(PIECE), left.saturating_add(1).min(PIECE)))?;
            }
            if let Some(piece) = self.piece()? {
                self.bytes += piece.len();
                self.replay.keep(&piece);
                return Poll::Ready(Ok(Some(piece)));
            }
            match self.rest {
                Rest::Nothing => return Poll::Ready(Ok(None)),
                Rest::Tunnel => return self.poll_tunnel(cx, conn),
                Rest::Length(_) => {}
                Rest::Chunked(_) => ready!(self.fill(cx, conn, 1, PIECE))?,
            }
        }
    }

    /// Reads until `enough` is in the buffer, or something is and nothing more has come; finds room for `most`.
    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Conn,
        enough: usize,
        most: usize,
    ) -> Poll<Result<()>> {
        while self.buffer.len() < enough {
            let missing = most - self.buffer.len();
            if self.buffer.capacity() - self.buffer.len() < missing.min(ROOM) {
                self.buffer.reserve(missing);
            }
            match pin!(conn.read_buf(&mut self.buffer)).poll(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.cut_short())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(failed(error))),
                Poll::Pending if self.buffer.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What is there already.
    fn piece(&mut self) -> Result<Option<Bytes>> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let taken = match &mut self.rest {
            // the connection gives no more than belongs to it
            Rest::Length(left) => {
                *left = left.saturating_sub(self.buffer.len() as u64);
                self.buffer.len()
            }
            Rest::Chunked(chunked) => {
                let framing = chunked.skip(&self.buffer).map_err(malformed)?;
                self.buffer.advance(framing);
                chunked.data(self.buffer.len())
            }
            Rest::Tunnel => self.buffer.len(),
            Rest::Nothing => return Ok(None),
        };
        let piece = self.buffer.split_to(taken).freeze();
        let over = match &mut self.rest {
            Rest::Length(left) => *left == 0,
            Rest::Chunked(chunked) => {
                let framing = chunked.skip(&self.buffer).map_err(malformed)?;
                self.buffer.advance(framing);
                chunked.done()
            }
            Rest::Tunnel | Rest::Nothing => false,
        };
        if over {
            (self.rest, self.buffer) = (Rest::Nothing, BytesMut::new());
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// By way of the stack, so that who waits holds no buffer.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>, conn: &mut Conn) -> Poll<Result<Option<Bytes>>> {
        let mut stack = [const { MaybeUninit::uninit() }; TUNNEL_READ];
        let mut buf = ReadBuf::uninit(&mut stack);
        ready!(Pin::new(conn).poll_read(cx, &mut buf)).map_err(failed)?;
        if buf.filled().is_empty() {
            self.rest = Rest::Nothing;
            return Poll::Ready(Ok(None));
        }
        self.bytes += buf.filled().len();
        Poll::Ready(Ok(Some(Bytes::copy_from_slice(buf.filled()))))
    }

    fn cut_short(&self) -> Box<Error> {
        let what = match self.rest {
            Rest::Length(left) => format!("{left} bytes before the end of its body"),
            _ => "before the end of its body".to_owned(),
        };
        Error::explain(ErrorType::ConnectionClosed, format!("the client has closed {what}")).into_down()
    }

    /// Keeps what passes from now on, for another try.
    pub fn keep(&mut self) {
        if matches!(self.replay, Replay::Off) {
            self.replay = Replay::Kept { pieces: Vec::new(), bytes: 0 };
        }
    }

    /// Whether there was too much to keep.
    pub fn lost(&self) -> bool {
        matches!(self.replay, Replay::Lost)
    }

    /// What was kept, if anything was.
    pub fn kept(&self) -> Option<Bytes> {
        match &self.replay {
            Replay::Kept { pieces, .. } => match pieces.as_slice() {
                [] => None,
                [piece] => Some(piece.clone()),
                pieces => Some(pieces.concat().into()),
            },
            Replay::Off | Replay::Lost => None,
        }
    }
}

impl Replay {
    fn keep(&mut self, piece: &Bytes) {
        let Replay::Kept { pieces, bytes } = self else { return };
        *bytes += piece.len();
        if *bytes > MAX_REPLAY {
            *self = Replay::Lost;
            return;
        }
        if pieces.len() == MAX_PIECES {
            *pieces = vec![pieces.concat().into()];
        }
        pieces.push(piece.clone());
    }
}

/// The connection has judged the coding already.
fn malformed(why: &'static str) -> Box<Error> {
    failed(io::Error::new(io::ErrorKind::InvalidData, why))
}

fn failed(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::ReadError, "reading from the client", error).into_down()
}
