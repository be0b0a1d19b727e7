//! What the service manager is told (sd_notify(3)): that the process serves, reloads, ends, lives, and which
//! process is the main one. Without `NOTIFY_SOCKET` nothing is said. Also the sockets that it has opened for
//! us (sd_listen_fds(3)).

use crate::config::words::ListenAddress;
use crate::edge::Inherited;
use sd_notify::NotifyState;
use socket2::{Socket, Type};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
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

/// Listening sockets that the service manager has opened. Those of other kinds are closed: their numbers, and what is
/// wrong with them.
pub fn sockets() -> (Vec<Inherited>, Vec<(RawFd, &'static str)>) {
    let (mut taken, mut closed) = (Vec::new(), Vec::new());
    for fd in sd_notify::listen_fds().into_iter().flatten() {
        // SAFETY: the service manager has made it for this process, and nobody else knows it.
        match listening(Socket::from(unsafe { OwnedFd::from_raw_fd(fd) })) {
            Ok(inherited) => taken.push(inherited),
            Err(why) => closed.push((fd, why)),
        }
    }
    (taken, closed)
}

/// # Errors
/// Why it cannot be accepted on.
fn listening(socket: Socket) -> Result<Inherited, &'static str> {
    let udp = match socket.r#type() {
        Ok(Type::STREAM) => false,
        Ok(Type::DGRAM) => true,
        _ => return Err("it is no stream (ListenStream=)"),
    };
    if !udp && !socket.is_listener().unwrap_or(false) {
        return Err("it does not listen (Accept=no)");
    }
    let address = socket.local_addr().map_err(|_| "it has no address")?;
    let address = match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => ListenAddress::Ip(address),
        (None, _) if udp => {
            return Err("it is no stream (ListenStream=), and none for UDP (ListenDatagram=)");
        }
        (None, Some(path)) => ListenAddress::Unix(path.into()),
        (None, None) => return Err("it is neither at an internet address nor at the path of a unix socket"),
    };
    socket.set_nonblocking(true).map_err(|_| "it cannot be set up")?;
    Ok(Inherited { address, udp, socket: OwnedFd::from(socket), lent: true })
}
