//! Listening sockets: one per listener and worker, all bound before anything is accepted. Called
//! by `edge::bind` at the start, while the process may still have the rights for low ports.

use crate::config::plan;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Connections that the kernel keeps until they are accepted (limited by `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// All listeners that could not be opened, each with the fix.
#[derive(Debug)]
pub struct BindError(pub Vec<String>);

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for BindError {}

/// The address, with the port that the kernel chose for port 0, and a socket for each worker. An
/// error says what to do about it.
pub fn listen_on(
    listener: &plan::Listener,
    workers: usize,
) -> Result<(SocketAddr, Vec<TcpListener>), String> {
    sockets(listener.address, workers.max(1)).map_err(|e| explain(listener, &e))
}

/// The first socket is bound and listens without `SO_REUSEPORT`: were it set, a second gate could
/// bind the same address and silently take a share of the connections. It is set once the address
/// is ours, for the sockets of the other workers.
fn sockets(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = match listen(address, false) {
        Err(e) if address.ip().is_unspecified() && address.is_ipv6() && no_ipv6(&e) => {
            // `*:80` on a machine without IPv6
            listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), false)?
        }
        first => first?,
    };
    let actual = first
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no internet address"))?;
    let mut sockets = Vec::with_capacity(workers);
    if workers > 1 {
        first.set_reuse_port(true)?;
    }
    sockets.push(first.into());
    for _ in 1..workers {
        sockets.push(listen(actual, true)?.into());
    }
    Ok((actual, sockets))
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // a restart does not have to wait for old connections to time out
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // [::] takes IPv4 clients, too
        socket.set_only_v6(false)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    // accepted sockets inherit it
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn no_ipv6(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::AddrNotAvailable || e.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// What went wrong and what to do about it.
fn explain(listener: &plan::Listener, e: &io::Error) -> String {
    let address = listener.address;
    let name = &listener.name;
    match e.kind() {
        io::ErrorKind::AddrInUse => format!(
            "listener `{name}`: address {address} is in use: another process (or another weirgate) listens \
             there; stop it or choose another port"
        ),
        io::ErrorKind::PermissionDenied if address.port() < 1024 => format!(
            "listener `{name}`: no permission to listen on {address}: ports below 1024 are for root; choose a \
             higher port, or allow this one with `setcap cap_net_bind_service=+ep` on the weirgate program"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("listener `{name}`: no permission to listen on {address}; a security policy forbids it")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "listener `{name}`: address {address} does not belong to this machine; use one of its own \
             addresses (`ip address` shows them), or *:{} for all",
            address.port()
        ),
        _ => format!("listener `{name}`: cannot listen on {address}: {e}"),
    }
}
