//! Ends a try that takes too long, where Pingora has no deadline for it:
//!
//! - the server of an upgrade is silent before it has switched protocols. Pingora knows one longest
//!   silence for the whole exchange, and afterwards silence is normal;
//! - the client of an HTTP/2 request is silent within its body, which Pingora reads without a deadline;
//! - the head of the answer, or its end, is not here in time.
//!
//! The connection to the server is shut down: Pingora finds it closed, and `retry` says why. Made by
//! `forward` when a connection stands, and only for a try that has such a deadline.

use super::refusal::Phase;
use crate::units::Time;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use pingora_core::{Error, ErrorType};
use socket2::SockRef;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Who must not be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The server, before its answer to an upgrade and within any other answer.
    Server,
    /// The client, within the body of its request.
    Client,
}

/// What a try must not take longer than.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Who must not be silent from now on, and for how long.
    pub silence: Option<(Who, Duration)>,
    /// Bytes per second that end a silence of the client; 0: any byte does.
    pub client_rate: u64,
    /// From the end of the request to the head of the answer.
    pub first_byte: Option<Duration>,
    /// The silences of the server within its answer.
    pub gaps: Option<Duration>,
    /// When the head of the answer must be here, and what the try was allowed.
    pub head_by: Option<(Instant, Duration)>,
    /// When the answer must be complete, and what the request was allowed.
    pub end_by: Option<(Instant, Duration)>,
    /// When the client of a call waits no longer, and how long it has.
    pub deadline: Option<(Instant, Duration)>,
}

impl Limits {
    /// Nothing is watched, now or later.
    pub fn is_none(&self) -> bool {
        self.silence.is_none()
            && self.first_byte.is_none()
            && self.gaps.is_none()
            && self.head_by.is_none()
            && self.end_by.is_none()
            && self.deadline.is_none()
    }
}

/// Watches one try until it is dropped.
pub struct Watchdog {
    state: Arc<State>,
    task: AbortHandle,
}

/// Why a try was ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bark {
    /// `None`: it was the client.
    pub phase: Option<Phase>,
    pub allowed: Duration,
}

struct State {
    armed: Mutex<Armed>,
    begun: Instant,
    /// Milliseconds after `begun` of the last sign of life.
    heard: AtomicU64,
    /// `armed` has changed.
    changed: Notify,
    barked: OnceLock<Bark>,
}

struct Armed {
    limits: Limits,
    /// When the head must be here because the request was sent.
    first_byte_by: Option<Instant>,
    /// The whole request was sent.
    sent: bool,
}

impl Watchdog {
    /// Watches from now on. `connection` is that to the server, and open.
    ///
    /// # Errors
    /// The process has no file descriptor to spare.
    pub fn set(limits: Limits, connection: RawFd) -> io::Result<Watchdog> {
        if connection < 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket"));
        }
        // SAFETY: Pingora owns the connection and keeps it open while its callback calls us.
        let connection = unsafe { BorrowedFd::borrow_raw(connection) }.try_clone_to_owned()?;
        let state = Arc::new(State {
            armed: Mutex::new(Armed { limits, first_byte_by: None, sent: false }),
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            changed: Notify::new(),
            barked: OnceLock::new(),
        });
        let task = tokio::spawn(watch(state.clone(), connection)).abort_handle();
        Ok(Watchdog { state, task })
    }

    /// There was a sign of life, which counts when it was waited for.
    pub fn heard(&self, from: Who) {
        if self.state.armed.lock().limits.silence.is_some_and(|(who, _)| who == from) {
            self.state.heard();
        }
    }

    /// So many bytes of the request's body have come. Slower than its rate, a client is silent most of the time.
    pub fn heard_bytes(&self, bytes: usize) {
        let limits = self.state.armed.lock().limits;
        match (limits.silence, limits.client_rate) {
            (Some((Who::Client, _)), 0) => self.state.heard(),
            (Some((Who::Client, _)), rate) => {
                let worth = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1000) / rate;
                self.state.heard_until(self.state.heard.load(Ordering::Acquire).saturating_add(worth));
            }
            (Some((Who::Server, _)) | None, _) => {}
        }
    }

    /// The whole request was sent.
    pub fn request_sent(&self) {
        let mut armed = self.state.armed.lock();
        armed.sent = true;
        armed.limits.silence = armed.limits.silence.filter(|(who, _)| *who != Who::Client);
        armed.first_byte_by = armed.limits.first_byte.map(|allowed| Instant::now() + allowed);
        self.state.changed.notify_one();
    }

    /// The head of the answer is here; after one that is `switching` protocols nothing is watched.
    pub fn head_is_here(&self, switching: bool) {
        self.state.heard();
        let mut armed = self.state.armed.lock();
        armed.first_byte_by = None;
        let Limits { silence, gaps, end_by, deadline, .. } = armed.limits;
        // from here on the two may be silent as long as Pingora's deadlines allow
        let silence = silence.filter(|(who, _)| *who == Who::Server).or(gaps.map(|gap| (Who::Server, gap)));
        armed.limits = match switching {
            true => Limits::default(),
            false => Limits { silence, end_by, deadline, ..Limits::default() },
        };
        self.state.changed.notify_one();
    }

    /// Why the try was ended, if it was ended here.
    pub fn bark(&self) -> Option<Bark> {
        self.state.barked.get().copied()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bark {
    pub fn error(self) -> Box<Error> {
        match self.phase {
            Some(phase) => Error::explain(ErrorType::ReadTimedout, phase.reason()).into_up(),
            None => Error::explain(ErrorType::ReadTimedout, "the request body stalled").into_down(),
        }
    }

    /// For the process log.
    pub fn words(self) -> String {
        let allowed = Time(self.allowed);
        match self.phase {
            Some(Phase::Silence | Phase::Connect | Phase::Tls) => format!("no answer within {allowed}"),
            Some(Phase::FirstByte) => format!("no first byte within {allowed} (timeouts.first_byte)"),
            Some(Phase::Try) => format!("no answer within {allowed} of the try (timeouts.try)"),
            Some(Phase::Request) => format!("request not complete within {allowed} (timeouts.request)"),
            Some(Phase::Deadline) => format!("call not complete within {allowed} (grpc-timeout)"),
            None => format!("nothing from the client within {allowed}"),
        }
    }
}

impl State {
    fn heard(&self) {
        self.heard_until(u64::MAX);
    }

    /// As if the last sign of life had come so many milliseconds after the beginning, or now.
    fn heard_until(&self, millis: u64) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis.min(now), Ordering::Release);
    }

    /// The next deadline, whose silence it is, and what its end is called.
    fn next(&self) -> Option<(Instant, Option<Who>, Bark)> {
        let armed = self.armed.lock();
        let heard = self.begun + Duration::from_millis(self.heard.load(Ordering::Acquire));
        let silence = armed.limits.silence.map(|(who, allowed)| {
            let phase = (who == Who::Server).then_some(Phase::Silence);
            (heard + allowed, Some(who), Bark { phase, allowed })
        });
        let by = |at, allowed, phase| (at, None, Bark { phase, allowed });
        let first_byte = armed.first_byte_by.zip(armed.limits.first_byte);
        // with a request that is not complete it is the client who takes long
        let phase = |phase| armed.sent.then_some(phase);
        [
            silence,
            first_byte.map(|(at, allowed)| by(at, allowed, Some(Phase::FirstByte))),
            armed.limits.head_by.map(|(at, allowed)| by(at, allowed, phase(Phase::Try))),
            armed.limits.end_by.map(|(at, allowed)| by(at, allowed, phase(Phase::Request))),
            // whoever it is that takes long
            armed.limits.deadline.map(|(at, allowed)| by(at, allowed, Some(Phase::Deadline))),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, ..)| *at)
    }
}

/// Whether it is the other side that everything waits for. Its silence has a deadline elsewhere.
pub(super) fn excused(who: Who, connection: &OwnedFd) -> bool {
    match who {
        // it has said something that nobody takes
        Who::Server => ready(connection, PollFlags::POLLIN),
        // the server does not take what is there
        Who::Client => !ready(connection, PollFlags::POLLOUT),
    }
}

async fn watch(state: Arc<State>, connection: OwnedFd) {
    let bark = loop {
        let changed = state.changed.notified();
        let Some((at, silent, bark)) = state.next() else {
            changed.await;
            continue;
        };
        if Instant::now() < at {
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = changed => {}
            }
        } else if silent.is_some_and(|who| excused(who, &connection)) {
            state.heard();
        } else {
            break bark;
        }
    };
    state.barked.set(bark).ok();
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
    use pingora_core::ErrorSource;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    /// Two ends of a connection.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn silence(who: Who, longest: Duration) -> Limits {
        Limits { silence: Some((who, longest)), ..Limits::default() }
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
        for (who, source) in [(Who::Server, ErrorSource::Upstream), (Who::Client, ErrorSource::Downstream)] {
            let (ours, mut theirs) = pair();
            let dog = Watchdog::set(silence(who, Duration::from_millis(50)), ours.as_raw_fd()).unwrap();
            assert!(until_barked(&dog).await, "{who:?}");
            assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
            assert_eq!(*dog.bark().unwrap().error().esource(), source);
        }
    }

    #[tokio::test]
    async fn a_server_that_was_not_listened_to_is_excused() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        let dog = Watchdog::set(silence(Who::Server, Duration::from_millis(20)), ours.as_raw_fd()).unwrap();
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
        let dog = Watchdog::set(silence(Who::Client, Duration::from_millis(20)), ours.as_raw_fd()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(dog.bark().is_none());
        drop(theirs);
    }

    #[tokio::test]
    async fn a_byte_now_and_then_is_silence() {
        for (client_rate, lives) in [(0, true), (1, true), (1_000_000, false)] {
            let (ours, _theirs) = pair();
            let limits = Limits { client_rate, ..silence(Who::Client, Duration::from_millis(400)) };
            let dog = Watchdog::set(limits, ours.as_raw_fd()).unwrap();
            for _ in 0..80 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                dog.heard_bytes(1);
            }
            assert_eq!(dog.bark().is_none(), lives, "{client_rate} bytes a second");
        }
    }

    #[tokio::test]
    async fn after_the_drop_nothing_is_closed() {
        let (ours, theirs) = pair();
        drop(Watchdog::set(silence(Who::Server, Duration::from_millis(20)), ours.as_raw_fd()).unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
        (&ours).write_all(b"x").unwrap();
        (&theirs).read_exact(&mut [0]).unwrap();
    }

    const SOON: Duration = Duration::from_millis(30);

    fn soon() -> Option<(Instant, Duration)> {
        Some((Instant::now() + SOON, SOON))
    }

    #[tokio::test]
    async fn each_deadline_has_its_name() {
        let of = |phase| Some(Bark { phase, allowed: SOON });
        for (limits, sent, bark) in [
            (Limits { first_byte: Some(SOON), ..Limits::default() }, true, of(Some(Phase::FirstByte))),
            (Limits { head_by: soon(), ..Limits::default() }, true, of(Some(Phase::Try))),
            (Limits { end_by: soon(), ..Limits::default() }, true, of(Some(Phase::Request))),
            (Limits { deadline: soon(), ..Limits::default() }, true, of(Some(Phase::Deadline))),
            (Limits { deadline: soon(), ..Limits::default() }, false, of(Some(Phase::Deadline))),
            // the client has not sent all of it
            (Limits { end_by: soon(), ..Limits::default() }, false, of(None)),
            (Limits { head_by: soon(), ..Limits::default() }, false, of(None)),
        ] {
            let (ours, mut theirs) = pair();
            let dog = Watchdog::set(limits, ours.as_raw_fd()).unwrap();
            if sent {
                dog.request_sent();
            }
            assert!(until_barked(&dog).await, "{limits:?}");
            assert_eq!(dog.bark(), bark, "{limits:?}");
            assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn the_head_ends_what_is_about_it() {
        let (ours, _theirs) = pair();
        let limits = Limits { first_byte: Some(SOON), head_by: soon(), ..Limits::default() };
        let dog = Watchdog::set(limits, ours.as_raw_fd()).unwrap();
        dog.request_sent();
        dog.head_is_here(false);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(dog.bark(), None);

        let limits = Limits { gaps: Some(SOON), ..Limits::default() };
        let dog = Watchdog::set(limits, ours.as_raw_fd()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(dog.bark(), None, "not before the answer");
        dog.head_is_here(false);
        assert!(until_barked(&dog).await);
        assert_eq!(dog.bark().unwrap().phase, Some(Phase::Silence));

        let (ours, _theirs) = pair();
        let dog = Watchdog::set(Limits { end_by: soon(), ..limits }, ours.as_raw_fd()).unwrap();
        dog.head_is_here(true);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(dog.bark(), None, "another protocol has other habits");
    }

    #[tokio::test]
    async fn the_first_byte_is_waited_for_when_the_request_was_sent() {
        let (ours, _theirs) = pair();
        let limits = Limits { first_byte: Some(SOON), ..Limits::default() };
        let dog = Watchdog::set(limits, ours.as_raw_fd()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(dog.bark(), None);
        dog.request_sent();
        assert!(until_barked(&dog).await);
    }
}
