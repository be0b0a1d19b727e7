//! Listening sockets: one per address and worker (unix sockets: one for all), opened here or by another process.
//! Called by `edge::commit` before anything is changed.

use crate::config::plan;
use crate::config::words::{ListenAddress, SocketMode};
use crate::edge::datagrams;
use crate::unix_socket::{self, Inode, SocketFile};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Connections that the kernel keeps until they are accepted (limited by `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// What may wait in the kernel until it can be sent to a client. Without a bound that is megabytes for each that reads
/// slowly (`net.ipv4.tcp_wmem`): a thousand of them use up the memory that the kernel has for all connections
/// (`tcp_mem`). What is on its way is not counted, so that no client is served slower.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// All listeners that could not be opened, each with the fix.
#[derive(Debug)]
pub struct BindError(pub Vec<String>);

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for BindError {}

/// The sockets of one address, all bound.
pub(super) struct Opened {
    /// With the port that the kernel chose for port 0.
    pub address: ListenAddress,
    /// At least one for each worker: the one with index i is for worker i modulo their number.
    pub sockets: Vec<Socket>,
    /// Clients can connect already. Not so beside a listener on an address that covers this one:
    /// its clients would be taken away from it.
    pub listens: bool,
    /// Another process has opened them, and may have them still.
    pub shared: bool,
    /// Of a unix socket that is ours.
    pub file: Option<SocketFile>,
}

/// A listening socket that another process has opened.
#[derive(Debug)]
pub struct Inherited {
    pub address: ListenAddress,
    /// For datagrams, and not for connections.
    pub udp: bool,
    pub socket: OwnedFd,
    /// The file of a unix socket stays when the listener goes: whoever has made it sees to it.
    pub lent: bool,
}

impl Opened {
    /// A second descriptor for each socket.
    pub fn doubles(&self) -> io::Result<Vec<Socket>> {
        self.sockets.iter().map(Socket::try_clone).collect()
    }

    /// Lets clients connect, where that was put off.
    pub fn listen(&self) -> io::Result<()> {
        match self.listens {
            true => Ok(()),
            false => self.sockets.iter().try_for_each(|socket| socket.listen(BACKLOG)),
        }
    }
}

/// Sockets on an address that nobody of this process listens on.
pub(super) fn open(plan: &plan::Listener, workers: usize) -> io::Result<Opened> {
    match &plan.address {
        ListenAddress::Ip(address) if plan.is_udp() => datagrams::open(*address, workers, false),
        ListenAddress::Ip(address) => open_ip(*address, workers),
        ListenAddress::Unix(path) => open_unix(path, plan.socket_mode.map(|mode| mode.0), workers),
    }
}

/// One socket, that listens, on an address that is no listener's: that of `who`. With its file, where it is a unix
/// socket. One of these that another process has opened is taken instead. `running`: the process serves already.
///
/// # Errors
/// In words for the operator.
pub fn open_one(
    who: &str,
    (address, mode): (&ListenAddress, Option<SocketMode>),
    inherited: Vec<Inherited>,
    running: bool,
) -> Result<(Socket, Option<SocketFile>), String> {
    let lent = inherited.iter().any(|inherited| inherited.lent);
    let sockets: Vec<_> = inherited.into_iter().map(|inherited| Socket::from(inherited.socket)).collect();
    let opened = match address {
        _ if !sockets.is_empty() => adopt(address, sockets, 1, true).map(|mut opened| {
            if let (ListenAddress::Unix(path), false) = (address, lent) {
                opened.file = Inode::of(path).map(|inode| SocketFile::handed(path, inode));
            }
            opened
        }),
        ListenAddress::Ip(address) => open_ip(*address, 1),
        ListenAddress::Unix(path) => open_unix(path, mode.map(|mode| mode.0), 1),
    };
    let mut opened = opened.map_err(|e| explain_at(who, address, &e, running))?;
    let socket = opened.sockets.pop().ok_or_else(|| format!("{who}: there is no socket"))?;
    Ok((socket, opened.file))
}

/// A unix socket has no `SO_REUSEPORT`: all workers accept on one.
fn open_unix(path: &Path, mode: Option<u32>, workers: usize) -> io::Result<Opened> {
    let (first, inode) = unix_socket::bind(path, mode)?;
    let file = Some(SocketFile::made(path, inode));
    first.listen(BACKLOG)?;
    let mut sockets = (1..workers).map(|_| first.try_clone()).collect::<io::Result<Vec<_>>>()?;
    sockets.push(first);
    Ok(Opened { address: ListenAddress::Unix(path.into()), sockets, listens: true, shared: false, file })
}

/// The first socket is bound and listens without `SO_REUSEPORT`: were it set, a second gate could
/// bind the same address and silently take a share of the connections. It is set once the address
/// is ours, for the sockets of the other workers.
fn open_ip(address: SocketAddr, workers: usize) -> io::Result<Opened> {
    let first = bind(address, false)?;
    first.listen(BACKLOG)?;
    let address = address_of(&first)?;
    if workers > 1 {
        first.set_reuse_port(true)?;
    }
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(listen(address)?);
    }
    Ok(Opened { address: address.into(), sockets, listens: true, shared: false, file: None })
}

/// Beside sockets of this process on an address that overlaps: they have `SO_REUSEPORT` and are
/// there to be closed. Listening is put off until they are not needed any more.
pub(super) fn open_beside(address: SocketAddr, workers: usize) -> io::Result<Opened> {
    let first = bind(address, true)?;
    let address = address_of(&first)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bind(address, true)?);
    }
    Ok(Opened { address: address.into(), sockets, listens: false, shared: false, file: None })
}

/// With sockets that are open, mostly of another process: all of them are accepted on, and each worker has
/// one. Those that are missing are opened, or shared where the kernel does not let us: systemd's
/// have no `SO_REUSEPORT`, and those of another user cannot be joined.
pub(super) fn adopt(
    wanted: &ListenAddress,
    inherited: Vec<Socket>,
    workers: usize,
    shared: bool,
) -> io::Result<Opened> {
    let first = inherited.first().ok_or_else(|| io::Error::other("there is no socket"))?;
    let ip = wanted.ip().map(|_| address_of(first)).transpose()?;
    let mut sockets = Vec::with_capacity(workers.max(inherited.len()));
    for socket in &inherited {
        socket.set_nonblocking(true)?;
        if ip.is_some() {
            prepare(socket)?;
        }
        sockets.push(socket.try_clone()?);
    }
    let joined = inherited.iter().all(|socket| socket.reuse_port().unwrap_or(false));
    for i in inherited.len()..workers {
        let common = inherited.get(i % inherited.len()).unwrap_or(first);
        let own = ip.filter(|_| joined).and_then(|address| listen(address).ok());
        sockets.push(own.map_or_else(|| common.try_clone(), Ok)?);
    }
    let address = ip.map_or_else(|| wanted.clone(), ListenAddress::Ip);
    Ok(Opened { address, sockets, listens: true, shared, file: None })
}

/// Where a listening socket listens; an error for any other.
pub(super) fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::other("the socket has no internet address"))
}

/// The kernel lets nobody in any more, but whose handshake has begun: a filter drops the first packet
/// of a connection (SYN without ACK), which the client will send again. Without it a client that is
/// let in between the last `accept` and `close` would be reset.
#[cfg(target_os = "linux")]
pub(super) fn shut_door(socket: &Socket) -> io::Result<()> {
    use socket2::SockFilter;
    // classic BPF (kernel Documentation/networking/filter.rst); the packet begins at its TCP header
    let [load_byte, and, jump_if_equal, answer] = [
        libc::BPF_LD | libc::BPF_B | libc::BPF_ABS,
        libc::BPF_ALU | libc::BPF_AND | libc::BPF_K,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    ]
    .map(|code| code as u16);
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket.attach_filter(&[
        SockFilter::new(load_byte, 0, 0, FLAGS),
        SockFilter::new(and, 0, 0, SYN | ACK),
        SockFilter::new(jump_if_equal, 0, 1, SYN),
        SockFilter::new(answer, 0, 0, 0),
        SockFilter::new(answer, 0, 0, u32::MAX),
    ])
}

/// Takes the filter off again.
#[cfg(target_os = "linux")]
pub(super) fn open_door(socket: &Socket) {
    // an error says that there is none
    let _ = socket.detach_filter();
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open_door(_: &Socket) {}

#[cfg(not(target_os = "linux"))]
pub(super) fn shut_door(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = bind(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    match bind_to(address, reuse_port) {
        Err(e) if address.ip().is_unspecified() && address.is_ipv6() && no_ipv6(&e) => {
            // `*:80` on a machine without IPv6
            bind_to(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), reuse_port)
        }
        bound => bound,
    }
}

fn bind_to(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
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
    prepare(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What accepted sockets inherit.
fn prepare(socket: &Socket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_nodelay(true)
}

pub(super) fn no_ipv6(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::AddrNotAvailable || e.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// What went wrong and what to do about it. `running`: the process serves already.
pub(super) fn explain(listener: &plan::Listener, e: &io::Error, running: bool) -> String {
    explain_at(&format!("listener `{}`", listener.name), &listener.address, e, running)
}

fn explain_at(who: &str, address: &ListenAddress, e: &io::Error, running: bool) -> String {
    let address = match address {
        ListenAddress::Ip(address) => *address,
        ListenAddress::Unix(_) => return explain_unix(who, address, e),
    };
    match e.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{who}: address {address} is in use: another process (or another weirgate) listens \
             there; stop it or choose another port"
        ),
        io::ErrorKind::PermissionDenied if address.port() < 1024 && running => format!(
            "{who}: no permission to listen on {address}: ports below 1024 are for root, and the \
             process has given up that right since it was started; choose a higher port, or let it keep the \
             right (`AmbientCapabilities=CAP_NET_BIND_SERVICE` in the unit, or `setcap cap_net_bind_service=+ep` \
             on the weirgate program) and restart it"
        ),
        io::ErrorKind::PermissionDenied if address.port() < 1024 => format!(
            "{who}: no permission to listen on {address}: ports below 1024 are for root; choose a \
             higher port, or allow this one with `setcap cap_net_bind_service=+ep` on the weirgate program"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{who}: no permission to listen on {address}; a security policy forbids it")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "{who}: address {address} does not belong to this machine; use one of its own \
             addresses (`ip address` shows them), or *:{} for all",
            address.port()
        ),
        _ => format!("{who}: cannot listen on {address}: {e}"),
    }
}

fn explain_unix(who: &str, address: &ListenAddress, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{who}: {address} is in use: another process (or another weirgate) listens there; stop it or \
             choose another path"
        ),
        io::ErrorKind::AlreadyExists => {
            format!("{who}: {address} is a file and no socket; remove it or choose another path")
        }
        io::ErrorKind::NotFound => {
            format!("{who}: the directory of {address} does not exist; make it, or choose another path")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{who}: no permission for {address}; let the user of the process write to its directory")
        }
        _ => format!("{who}: cannot listen on {address}: {e}"),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn connections_inherit_that_they_send_at_once_and_keep_little_back() {
        let opened = open_ip(SocketAddr::from(([127, 0, 0, 1], 0)), 2).unwrap();
        let inherited = open_ip(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        // as another program opens them
        inherited.sockets[0].set_tcp_notsent_lowat(0).unwrap();
        let adopted = adopt(&inherited.address, inherited.sockets, 2, true).unwrap();
        for opened in [opened, adopted] {
            let address = opened.address.ip().unwrap();
            let _clients: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
            let accepted: Vec<_> = opened
                .sockets
                .iter()
                .flat_map(|socket| std::iter::from_fn(|| socket.accept().ok()))
                .map(|(connection, _)| connection)
                .collect();
            assert_eq!(accepted.len(), 8);
            for connection in accepted {
                assert_eq!(connection.tcp_notsent_lowat().unwrap(), UNSENT);
                assert!(connection.tcp_nodelay().unwrap());
            }
        }
    }
}
