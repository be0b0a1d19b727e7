//! Bytes from socket to socket without a visit to user space: splice(2) by way of a pipe, on Linux. A pipe belongs to a
//! direction of a flow only while there are bytes in it.

use crate::l4::Stream;
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// The most bytes for one call; what fits depends on the pieces in which they came, of which a pipe has room for so many
/// pages. As much as anybody may have (`fs.pipe-max-size`): the fewer calls, the less a byte costs.
const MOST: usize = 1024 * 1024;
/// So many pipes that nobody needs just now are kept by a worker. They count for what a user may have before the system gives
/// smaller ones (`fs.pipe-user-pages-soft`, by default 64 of this size).
const KEPT: usize = 8;

/// Bytes on their way.
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    holds: usize,
}

impl Pipe {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn open() -> Option<Pipe> {
        use nix::fcntl::{FcntlArg, OFlag};
        let (out, into) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).ok()?;
        // one that stays small does, too
        nix::fcntl::fcntl(&into, FcntlArg::F_SETPIPE_SZ(i32::try_from(MOST).unwrap_or(i32::MAX))).ok();
        Some(Pipe { out, into, holds: 0 })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn open() -> Option<Pipe> {
        None
    }

    pub fn is_empty(&self) -> bool {
        self.holds == 0
    }

    /// Takes in what is there; 0 at the end. To be called when it is empty: it would not be known why nothing fits.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, from: &Stream) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty());
        let count =
            ready!(from.poll_act(cx, Interest::READABLE, |socket| splice(socket, self.into.as_fd(), MOST)))?;
        self.holds = count;
        Poll::Ready(Ok(count))
    }

    /// Gives out what is taken.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Stream) -> Poll<io::Result<usize>> {
        let count = ready!(to.poll_act(cx, Interest::WRITABLE, |socket| splice(
            self.out.as_fd(),
            socket,
            self.holds
        )))?;
        self.holds = self.holds.saturating_sub(count);
        Poll::Ready(Ok(count))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    use nix::fcntl::SpliceFFlags;
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    Ok(nix::fcntl::splice(from, None, to, None, most, flags)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn splice(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The pipes of a worker.
#[derive(Default)]
pub struct Pipes {
    // of one thread: nobody waits
    free: Mutex<Vec<Pipe>>,
}

impl Pipes {
    /// `None` where there is no such thing, or no file descriptor for it.
    pub fn take(&self) -> Option<Pipe> {
        let kept = self.free.lock().pop();
        kept.or_else(Pipe::open)
    }

    /// One that is empty is kept for the next.
    pub fn give_back(&self, pipe: Pipe) {
        let mut free = self.free.lock();
        if pipe.is_empty() && free.len() < KEPT {
            free.push(pipe);
        }
    }
}
