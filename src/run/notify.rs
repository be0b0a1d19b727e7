//! What the service manager is told (sd_notify(3)): that the process serves, reloads, ends, lives, and which
//! process is the main one. Without `NOTIFY_SOCKET` nothing is said. Also the sockets that it has opened for
//! us (sd_listen_fds(3)).

use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        log::debug!("the service manager was not told: {why}");
    }
}

/// Requests are served.
pub fn ready() {
    let pid = std::process::id();
    tell(&[NotifyState::Ready, NotifyState::MainPid(pid), NotifyState::Status("serving")]);
}

/// A reload begins; [`reloaded`] is to follow.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// A reload is over, one way or the other.
pub fn reloaded(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Another process has taken over.
pub fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Says for ever that the process lives, if the service manager wants to know.
pub async fn alive() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let pace = (limit / 3).max(Duration::from_millis(10));
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(pace).await;
    }
}

/// Listening sockets that the service manager has opened, with their addresses. Those of other kinds are left.
pub fn sockets() -> Vec<(SocketAddr, OwnedFd)> {
    let Ok(descriptors) = sd_notify::listen_fds() else {
        return Vec::new();
    };
    let address = |fd: OwnedFd| {
        let socket = socket2::Socket::from(fd);
        socket.set_nonblocking(true).ok()?;
        let address = socket.local_addr().ok()?.as_socket()?;
        Some((address, OwnedFd::from(socket)))
    };
    // SAFETY: the service manager has made them for this process, and nobody else knows them.
    descriptors.filter_map(|fd| address(unsafe { OwnedFd::from_raw_fd(fd) })).collect()
}
