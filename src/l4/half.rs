//! One direction of a flow: what comes from one side goes to the other, in order and all of it, and then the end.

use super::splice::{Pipe, Pipes};
use super::stream::Stream;
use bytes::{Buf, Bytes};
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// A read, on the stack: a direction that waits has no buffer.
const READ: usize = 16 * 1024;
/// So many reads in a row that were full make it worth while to splice; each makes up for a small splice.
const EAGER: u8 = 2;
const EAGEREST: u8 = 8;
/// Below this a splice costs more than a copy.
const SMALL: usize = 8 * 1024;
/// So many steps, and others have their turn.
const TURNS: usize = 16;

/// One direction.
pub struct Half {
    carried: Carried,
    stage: Stage,
    appetite: u8,
    /// TLS may hold some of it back.
    unflushed: bool,
    /// It has been, at least for a while.
    busy: bool,
    /// What looks like the end of the one side is none.
    no_end: bool,
    moved: u64,
}

/// What was taken from the one side, and not yet by the other.
enum Carried {
    Nothing,
    Bytes(Bytes),
    Piped(Pipe),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The one side has ended.
    Ended,
    /// And the other was told.
    Shut,
}

/// A side that is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    From,
    To {
        /// It was reset before it had said its end. The system says so once: who reads from it next finds an end.
        unfinished: bool,
    },
}

impl Broken {
    fn to(error: &io::Error) -> Broken {
        // with the end before, it is a broken pipe (tcp(7): EPIPE)
        Broken::To { unfinished: error.kind() == io::ErrorKind::ConnectionReset }
    }
}

/// The sides as one direction sees them.
pub struct Sides<'a> {
    pub from: &'a mut Stream,
    pub to: &'a mut Stream,
    pub pipes: &'a Pipes,
    /// The other direction has come to its end: this one's end is that of the connection.
    pub last: bool,
}

impl Half {
    /// `ahead` goes first.
    pub fn new(ahead: Bytes) -> Half {
        let carried = if ahead.is_empty() { Carried::Nothing } else { Carried::Bytes(ahead) };
        Half {
            carried,
            stage: Stage::Open,
            appetite: 0,
            unflushed: false,
            busy: false,
            no_end: false,
            moved: 0,
        }
    }

    /// Bytes that the other side has taken.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The one side has ended.
    pub fn has_ended(&self) -> bool {
        self.stage != Stage::Open
    }

    /// It came to its end, and the other side was told, or is about to be.
    pub fn is_shut(&self) -> bool {
        self.stage == Stage::Shut
    }

    /// The one side was reset: what it has said is passed on, and then that it broke.
    pub fn expect_no_end(&mut self) {
        self.no_end = true;
    }

    /// Moves what can be moved; ready at the end, when the other side has been told.
    pub fn poll(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> Poll<Result<(), Broken>> {
        for _ in 0..TURNS {
            ready!(self.poll_deliver(cx, sides)).map_err(|e| Broken::to(&e))?;
            match self.stage {
                Stage::Open => {}
                Stage::Ended if self.no_end => return Poll::Ready(Err(Broken::From)),
                // nothing can come from there any more: to close it says as much
                Stage::Ended if sides.last && sides.to.is_plain() => self.stage = Stage::Shut,
                Stage::Ended => {
                    ready!(sides.to.poll_shutdown(cx)).map_err(|e| Broken::to(&e))?;
                    self.stage = Stage::Shut;
                }
                Stage::Shut => return Poll::Ready(Ok(())),
            }
            if self.poll_take(cx, sides)?.is_pending() {
                return self
                    .rest(cx, sides)
                    .map_or_else(|e| Poll::Ready(Err(Broken::to(&e))), |()| Poll::Pending);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives the other side what was taken.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> Poll<io::Result<()>> {
        loop {
            let count = match &mut self.carried {
                Carried::Nothing => return Poll::Ready(Ok(())),
                Carried::Piped(pipe) if pipe.is_empty() => return Poll::Ready(Ok(())),
                Carried::Piped(pipe) => ready!(pipe.poll_drain(cx, sides.to))?,
                Carried::Bytes(bytes) => {
                    let count = ready!(sides.to.poll_write(cx, bytes))?;
                    bytes.advance(count.min(bytes.len()));
                    self.unflushed = true;
                    if bytes.is_empty() {
                        self.carried = Carried::Nothing;
                    }
                    count
                }
            };
            self.passed(count)?;
        }
    }

    fn passed(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.moved = self.moved.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Takes what has come, or its end.
    fn poll_take(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> Result<Poll<()>, Broken> {
        if self.stage != Stage::Open {
            return Ok(Poll::Ready(()));
        }
        if self.appetite >= EAGER && sides.from.is_plain() && sides.to.is_plain() {
            let pipe = match std::mem::replace(&mut self.carried, Carried::Nothing) {
                Carried::Piped(pipe) => Some(pipe),
                Carried::Nothing | Carried::Bytes(_) => sides.pipes.take(),
            };
            if !std::mem::replace(&mut self.busy, true) {
                sides.to.expect_much();
            }
            if let Some(pipe) = pipe {
                return self.poll_splice(cx, sides, pipe);
            }
        }
        self.poll_copy(cx, sides)
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_>,
        mut pipe: Pipe,
    ) -> Result<Poll<()>, Broken> {
        let filled = pipe.poll_fill(cx, sides.from);
        self.carried = Carried::Piped(pipe);
        match filled {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Ok(0)) => self.end(sides),
            Poll::Ready(Ok(count)) if count < SMALL => self.appetite -= 1,
            Poll::Ready(Ok(_)) => self.appetite = (self.appetite + 1).min(EAGEREST),
            Poll::Ready(Err(_)) => return Err(Broken::From),
        }
        if self.appetite < EAGER && matches!(&self.carried, Carried::Piped(pipe) if pipe.is_empty()) {
            self.return_pipe(sides);
        }
        Ok(Poll::Ready(()))
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> Result<Poll<()>, Broken> {
        self.return_pipe(sides);
        let mut stack = [const { MaybeUninit::uninit() }; READ];
        let mut buf = ReadBuf::uninit(&mut stack);
        match sides.from.poll_read(cx, &mut buf) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Ok(())) => {}
            // many close TLS without a goodbye, and mean no harm
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Poll::Ready(Err(_)) => return Err(Broken::From),
        }
        let mut rest = buf.filled();
        if rest.is_empty() {
            self.end(sides);
            return Ok(Poll::Ready(()));
        }
        self.appetite = if rest.len() == READ { (self.appetite + 1).min(EAGEREST) } else { 0 };
        self.unflushed = true;
        while !rest.is_empty() {
            match sides.to.poll_write(cx, rest) {
                Poll::Ready(Ok(count)) => {
                    self.passed(count).map_err(|e| Broken::to(&e))?;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Poll::Ready(Err(e)) => return Err(Broken::to(&e)),
                Poll::Pending => {
                    self.carried = Carried::Bytes(Bytes::copy_from_slice(rest));
                    break;
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn end(&mut self, sides: &Sides<'_>) {
        self.stage = Stage::Ended;
        self.return_pipe(sides);
    }

    /// Nothing comes just now: nothing is kept for it.
    fn rest(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> io::Result<()> {
        self.return_pipe(sides);
        if self.unflushed && sides.to.poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }

    fn return_pipe(&mut self, sides: &Sides<'_>) {
        if matches!(&self.carried, Carried::Piped(pipe) if pipe.is_empty())
            && let Carried::Piped(pipe) = std::mem::replace(&mut self.carried, Carried::Nothing)
        {
            sides.pipes.give_back(pipe);
        }
    }
}
