//! Watches the silences of servers and the connections that are kept for the next request, by going round twice a
//! second: a timer for each would be set and taken back several times for every request. Deadlines that are too short
//! for that stay with Pingora's timers. One for each worker; `forward` reports to it.
//!
//! A connection is known by its descriptor and by the kernel's name for the socket, its cookie: before one is shut
//! down, both are held against each other, as the number may belong to another socket by then. Pingora finds a
//! connection that was shut down closed, as with [`watchdog`](super::watchdog).

use super::refusal::Phase;
use super::watchdog::{Bark, Who, excused};
use parking_lot::Mutex;
use socket2::SockRef;
use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const ROUND: Duration = Duration::from_millis(500);
/// The shortest deadline that may be overrun by a round.
const SHORTEST: Duration = Duration::from_secs(5);

/// Whether this kernel names its sockets.
static POSSIBLE: LazyLock<bool> = LazyLock::new(|| {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .is_ok_and(|socket| cookie(&SockRef::from(&socket)).is_ok())
});

/// The connections of a worker to servers.
#[derive(Default)]
pub struct Patrol(Mutex<Beat>);

#[derive(Default)]
struct Beat {
    /// By descriptor.
    posts: Vec<Option<Post>>,
    count: usize,
    /// Rounds so far: what time is counted in here. A worker that has no time to go round lets deadlines come later.
    round: u32,
    walks: bool,
    tries: u64,
}

struct Post {
    cookie: u64,
    /// The try that it is for, or was for last.
    of: u64,
    /// In which round something came last.
    heard: u32,
    /// How many rounds may pass.
    patience: u32,
    /// It waits for another try.
    idle: bool,
    barked: bool,
}

/// One try that is watched; when it is dropped, its connection is, until another try has it.
pub struct Watched {
    patrol: Arc<Patrol>,
    fd: RawFd,
    id: u64,
    allowed: Duration,
    idle: Duration,
}

/// Whether both deadlines, for silence and for connections out of use, can be seen to here.
pub fn can_see_to(silence: Duration, idle: Duration) -> bool {
    silence >= SHORTEST && idle >= SHORTEST && *POSSIBLE
}

impl Patrol {
    /// This connection, open and just made unless it was `reused`, is for a try now, in which the server may be silent
    /// for so long, and kept for so long afterwards.
    ///
    /// # Errors
    /// The kernel does not name the socket.
    pub fn watch(
        self: &Arc<Self>,
        (fd, reused): (RawFd, bool),
        (allowed, idle): (Duration, Duration),
    ) -> io::Result<Watched> {
        let place = usize::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut beat = self.0.lock();
        let known = beat.posts.get(place).and_then(Option::as_ref).filter(|_| reused);
        let cookie = match known {
            Some(post) => post.cookie,
            // SAFETY: Pingora owns the connection and keeps it open while its callback calls us.
            None => cookie(&SockRef::from(&unsafe { BorrowedFd::borrow_raw(fd) }))?,
        };
        beat.tries += 1;
        let (of, heard) = (beat.tries, beat.round);
        if beat.posts.len() <= place {
            beat.posts.resize_with(place + 1, || None);
        }
        let patience = rounds(allowed);
        if let Some(post) = beat.posts.get_mut(place) {
            let before = post.replace(Post { cookie, of, heard, patience, idle: false, barked: false });
            beat.count += usize::from(before.is_none());
        }
        if !std::mem::replace(&mut beat.walks, true) {
            tokio::spawn(walk(self.clone()));
        }
        Ok(Watched { patrol: self.clone(), fd, id: of, allowed, idle })
    }

    /// This connection is seen to by others from now on.
    pub fn leave(&self, fd: RawFd) {
        let mut beat = self.0.lock();
        beat.take(fd);
    }
}

impl Beat {
    fn post(&mut self, fd: RawFd, of: u64) -> Option<&mut Post> {
        let post = self.posts.get_mut(usize::try_from(fd).ok()?)?.as_mut();
        post.filter(|post| post.of == of)
    }

    fn take(&mut self, fd: RawFd) {
        let post = usize::try_from(fd).ok().and_then(|place| self.posts.get_mut(place));
        self.count -= usize::from(post.is_some_and(|post| post.take().is_some()));
    }

    /// Whether there is anybody left to go round for.
    fn go_round(&mut self) -> bool {
        self.round = self.round.wrapping_add(1);
        let round = self.round;
        let late = |post: &Post| !post.barked && round.wrapping_sub(post.heard) > post.patience;
        let late = (0..).zip(&self.posts).filter(|(_, post)| post.as_ref().is_some_and(late));
        let late: Vec<RawFd> = late.map(|(fd, _)| fd).collect();
        for fd in late {
            self.see_to(fd);
        }
        self.walks = self.count > 0;
        self.walks
    }

    /// The time of this one is over.
    fn see_to(&mut self, fd: RawFd) {
        let round = self.round;
        let Some(Some(post)) = usize::try_from(fd).ok().and_then(|place| self.posts.get_mut(place)) else {
            return;
        };
        let Some(connection) = same_socket(fd, post.cookie) else {
            // closed long ago
            return self.take(fd);
        };
        if !post.idle && excused(Who::Server, &connection) {
            post.heard = round;
            return;
        }
        // who is gone already needs no end
        SockRef::from(&connection).shutdown(Shutdown::Both).ok();
        post.barked = true;
        if post.idle {
            self.take(fd);
        }
    }
}

impl Watched {
    /// Something has come from the server, or is on its way to it.
    pub fn heard(&self) {
        let mut beat = self.patrol.0.lock();
        let round = beat.round;
        if let Some(post) = beat.post(self.fd, self.id) {
            post.heard = round;
        }
    }

    /// Why the try was ended, if it was ended here.
    pub fn bark(&self) -> Option<Bark> {
        let barked = self.patrol.0.lock().post(self.fd, self.id).is_some_and(|post| post.barked);
        barked.then_some(Bark { phase: Some(Phase::Silence), allowed: self.allowed })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut beat = self.patrol.0.lock();
        let round = beat.round;
        let ended = match beat.post(self.fd, self.id) {
            Some(post) => {
                (post.heard, post.patience, post.idle) = (round, rounds(self.idle), true);
                post.barked
            }
            None => false,
        };
        if ended {
            beat.take(self.fd);
        }
    }
}

/// So many rounds take at least this long.
fn rounds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(ROUND.as_millis())).unwrap_or(u32::MAX - 1)
}

/// The socket that a descriptor is of, if it is still that one.
fn same_socket(fd: RawFd, named: u64) -> Option<OwnedFd> {
    // SAFETY: the number is not negative. It may be closed, or of another file: the copy is held against the name.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().ok()?;
    let same = cookie(&SockRef::from(&copy)).is_ok_and(|cookie| cookie == named);
    same.then_some(copy)
}

#[cfg(target_os = "linux")]
fn cookie(socket: &SockRef<'_>) -> io::Result<u64> {
    socket.cookie()
}

#[cfg(not(target_os = "linux"))]
fn cookie(_: &SockRef<'_>) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

async fn walk(patrol: Arc<Patrol>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rounds.tick().await;
    loop {
        rounds.tick().await;
        if !patrol.0.lock().go_round() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
