//! Ends a try in which somebody is silent for too long, where Pingora has no deadline for it:
//!
//! - the server of an upgrade before it has switched protocols. Pingora knows one longest silence for
//!   the whole exchange, and afterwards silence is normal;
//! - the client of an HTTP/2 request within its body, which Pingora reads without a deadline.
//!
//! The connection to the server is shut down: Pingora finds it closed, and `forward` says why. Made by
//! `forward` when a connection stands.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pingora_core::{Error, ErrorType};
use socket2::SockRef;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Who must not be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The server, before its answer to an upgrade and within any other answer.
    Server,
    /// The client, within the body of its request.
    Client,
}

/// Watches one try until it is dropped.
pub struct Watchdog {
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    who: Who,
    longest: Duration,
    begun: Instant,
    /// Milliseconds after `begun` of the last sign of life.
    heard: AtomicU64,
    barked: AtomicBool,
}

impl Watchdog {
    /// Watches from now on. `connection` is that to the server, and open.
    ///
    /// # Errors
    /// The process has no file descriptor to spare.
    pub fn set(who: Who, longest: Duration, connection: RawFd) -> io::Result<Watchdog> {
        // SAFETY: Pingora owns the connection and keeps it open while its callback calls us.
        let connection = unsafe { BorrowedFd::borrow_raw(connection) }.try_clone_to_owned()?;
        let heard = AtomicU64::new(0);
        let state =
            Arc::new(State { who, longest, begun: Instant::now(), heard, barked: AtomicBool::new(false) });
        let task = tokio::spawn(watch(state.clone(), connection)).abort_handle();
        Ok(Watchdog { state, task })
    }

    pub fn who(&self) -> Who {
        self.state.who
    }

    /// There was a sign of life.
    pub fn heard(&self) {
        self.state.heard();
    }

    /// Why the try was ended, if it was ended here.
    pub fn bark(&self) -> Option<Box<Error>> {
        if !self.state.barked.load(Ordering::Acquire) {
            return None;
        }
        Some(match self.state.who {
            Who::Server => Error::explain(ErrorType::ReadTimedout, "no answer to an upgrade").into_up(),
            Who::Client => Error::explain(ErrorType::ReadTimedout, "the request body stalled").into_down(),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn heard(&self) {
        let after = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(after, Ordering::Release);
    }

    fn deadline(&self) -> Instant {
        self.begun + Duration::from_millis(self.heard.load(Ordering::Acquire)) + self.longest
    }

    /// Whether it is the other side that everything waits for. Its silence has a deadline elsewhere.
    fn excused(&self, connection: &OwnedFd) -> bool {
        match self.who {
            // it has said something that nobody takes
            Who::Server => ready(connection, PollFlags::POLLIN),
            // the server does not take what is there
            Who::Client => !ready(connection, PollFlags::POLLOUT),
        }
    }
}

async fn watch(state: Arc<State>, connection: OwnedFd) {
    loop {
        tokio::time::sleep_until(state.deadline().into()).await;
        if Instant::now() < state.deadline() {
            continue;
        }
        if !state.excused(&connection) {
            break;
        }
        state.heard();
    }
    state.barked.store(true, Ordering::Release);
    // who is gone already needs no end
    SockRef::from(&connection).shutdown(Shutdown::Both).ok();
}

fn ready(connection: &OwnedFd, how: PollFlags) -> bool {
    let mut fds = [PollFd::new(connection.as_fd(), how)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    /// Two ends of a connection.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    async fn until_barked(dog: &Watchdog) -> bool {
        for _ in 0..500 {
            if dog.bark().is_some() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn who_is_silent_finds_the_connection_closed() {
        for (who, source) in [
            (Who::Server, pingora_core::ErrorSource::Upstream),
            (Who::Client, pingora_core::ErrorSource::Downstream),
        ] {
            let (ours, mut theirs) = pair();
            let dog = Watchdog::set(who, Duration::from_millis(50), ours.as_raw_fd()).unwrap();
            assert!(until_barked(&dog).await, "{who:?}");
            assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
            assert_eq!(*dog.bark().unwrap().esource(), source);
        }
    }

    #[tokio::test]
    async fn a_server_that_was_not_listened_to_is_excused() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        let dog = Watchdog::set(Who::Server, Duration::from_millis(20), ours.as_raw_fd()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(dog.bark().is_none());
        (&ours).read_exact(&mut [0]).unwrap();
        assert!(until_barked(&dog).await);
    }

    #[tokio::test]
    async fn a_client_whose_server_does_not_listen_is_excused() {
        let (ours, theirs) = pair();
        ours.set_nonblocking(true).unwrap();
        while (&ours).write(&[0; 65536]).is_ok() {}
        let dog = Watchdog::set(Who::Client, Duration::from_millis(20), ours.as_raw_fd()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(dog.bark().is_none());
        drop(theirs);
    }

    #[tokio::test]
    async fn after_the_drop_nothing_is_closed() {
        let (ours, theirs) = pair();
        drop(Watchdog::set(Who::Server, Duration::from_millis(20), ours.as_raw_fd()).unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
        (&ours).write_all(b"x").unwrap();
        (&theirs).read_exact(&mut [0]).unwrap();
    }
}
