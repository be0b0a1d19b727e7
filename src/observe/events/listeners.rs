//! What becomes of listeners and of those who connect to them.

use super::and;
use crate::observe::throttle::Throttle;
use crate::units::Rate;
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const LISTENER: &str = "weirgate::listener";

/// A listener accepts connections, or takes datagrams.
pub fn listening(listener: &str, address: &dyn Display, kind: &str) {
    log::info!(target: LISTENER, "listener {listener:?} listens on {address}{kind}");
}

/// The admin address is listened on.
pub fn admin_listens(address: &dyn Display) {
    log::info!(target: LISTENER, "admin listens on {address}");
}

/// A listener serves new connections by another plan. `retired`: those that are open end after their request.
pub fn listener_changed(listener: &str, address: &dyn Display, retired: bool) {
    let open = match retired {
        true => "; open connections end after the request they are at",
        false => "",
    };
    log::info!(target: LISTENER, "listener {listener:?} on {address} has changed{open}");
}

/// A listener accepts no more; its connections have `grace` to end.
pub fn listener_closed(listener: &str, address: &dyn Display, open: usize, grace: Duration) {
    let seconds = grace.as_secs();
    let open = match open {
        0 => String::new(),
        1 => format!("; 1 connection has {seconds} s to end"),
        n => format!("; {n} connections have {seconds} s to end"),
    };
    log::info!(target: LISTENER, "listener {listener:?} on {address} is closed{open}");
}

/// A socket that was bound cannot listen.
pub fn listener_failed(listener: &str, address: &dyn Display, error: &io::Error) {
    log::error!(target: LISTENER, "listener {listener:?} cannot listen on {address}: {error}");
}

/// A socket that another process opened for this one is closed.
pub fn socket_not_wanted(address: &dyn Display) {
    log::warn!(target: LISTENER, "the socket on {address} that was handed to this process is closed: no listener has this address");
}

/// A descriptor that the service manager has opened for this process cannot be used.
pub fn socket_of_no_use(fd: i32, why: &str) {
    log::warn!(target: LISTENER, "descriptor {fd}, which the service manager handed to this process, is closed: {why}");
}

/// `accept` failed: mostly too many open files. Said once a minute.
pub fn accept_failed(throttle: &Throttle, listener: &str, error: &io::Error) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let fix = match error.raw_os_error() {
        Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n, LimitNOFILE)",
        Some(libc::ENFILE) => "; the machine's limit of open files is reached (fs.file-max)",
        _ => "",
    };
    log::error!(target: LISTENER, "listener {listener:?} cannot accept a connection: {error}{fix}{}", and(more));
}

/// A connection was refused because `limits.connections` are open. Said once a minute.
pub fn connections_full(throttle: &Throttle, listener: &str, limit: usize) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?} has {limit} connections and refuses more (limits.connections){}", and(more)
    );
}

/// A datagram that would have begun a session was dropped because `limits.connections` have begun. Said once a minute.
pub fn sessions_full(throttle: &Throttle, listener: &str, limit: usize) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?} has {limit} sessions and begins no more (limits.connections){}", and(more)
    );
}

/// Datagrams cannot be taken from the socket of a listener, or a session has no socket of its own. Said once a minute.
pub fn datagrams_failed(throttle: &Throttle, listener: &str, error: &io::Error) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let fix = match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "; raise the limit of open files (ulimit -n, LimitNOFILE), or lower limits.connections"
        }
        _ => "",
    };
    log::error!(target: LISTENER, "listener {listener:?} cannot pass datagrams on: {error}{fix}{}", and(more));
}

/// A connection was closed because it did not begin with a header of the PROXY protocol. Said once a minute.
pub fn not_announced(throttle: &Throttle, listener: &str, peer: IpAddr, why: &str) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: a connection from {} is closed, its PROXY header is refused: {why} (proxy_protocol){}",
        end(peer), and(more)
    );
}

/// An end of a connection; that of a unix socket has no address.
fn end(ip: IpAddr) -> String {
    if ip.is_unspecified() { "a unix socket".to_owned() } else { ip.to_string() }
}

/// A connection was refused because its client has as many as it may. Said once a minute.
pub fn client_full(throttle: &Throttle, listener: &str, client: IpAddr, limit: u32) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let client = client.to_canonical();
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: {client} has {limit} connections and gets no more (limits.connections_per_client){}",
        and(more)
    );
}

/// A connection was refused because too many came in a short time. Said once a minute.
pub fn too_many_come(throttle: &Throttle, listener: &str, rate: Rate) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?} gets more connections than {rate} and refuses the rest (limits.connection_rate){}",
        and(more)
    );
}

/// A connection was refused because its client connects too often. Said once a minute.
pub fn client_too_often(throttle: &Throttle, listener: &str, client: IpAddr, rate: Rate) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let client = client.to_canonical();
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: {client} connects more often than {rate} and is refused \
         (limits.connection_rate_per_client){}",
        and(more)
    );
}

/// A connection was refused because its client is not to come here. Said once a minute.
pub fn client_denied(throttle: &Throttle, listener: &str, client: IpAddr) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::info!(target: LISTENER, "listener {listener:?}: {} is refused (ip){}", end(client.to_canonical()), and(more));
}

/// A client was cut off for what it did on its connection. Said every ten seconds.
pub fn client_cut(throttle: &Throttle, listener: &str, client: IpAddr, why: &str) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(target: LISTENER, "listener {listener:?}: {client} is cut off: {why}{}", and(more));
}

/// A client did not get through the TLS handshake. Anybody can cause it at will, so it is for
/// those who debug.
pub fn handshake_failed(listener: &str, client: IpAddr, why: &dyn Display) {
    log::debug!(target: LISTENER, "listener {listener:?}: TLS handshake with {}: {why}", end(client));
}

/// A certificate is to be renewed, and was not.
pub fn certificate_expires(listener: &str, file: &Path, when: &str) {
    log::warn!(target: LISTENER, "listener {listener:?}: the certificate in {file:?} {when}: renew it, and reload");
}

/// What the authority says of a certificate is out of date, and is not shown any more.
pub fn ocsp_outdated(listener: &str, file: &Path) {
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: the OCSP response for {file:?} is out of date and not shown: fetch it anew, and reload"
    );
}
