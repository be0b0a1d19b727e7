//! Addresses: a loopback address per gate and per backend, and addresses that do not answer.

use super::program::no_process_starting;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Something that a configuration can name as `$label`.
pub trait ServerAddress {
    fn label(&self) -> &str;
    fn address(&self) -> SocketAddr;
}

/// A loopback address that no other test of this run is using: derived from the process id and a counter.
pub fn own_loopback() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let octet = |divisor: u32, base: u32| u8::try_from(base + n / divisor % 250).expect("fits an octet");
    // 127.0.x.x is left to whatever else runs on the machine.
    Ipv4Addr::new(127, octet(250 * 250, 2), octet(250, 1), octet(1, 1))
}

/// A port on `ip` that was free a moment ago. On an address of our own nobody else takes it meanwhile.
pub fn free_address(ip: Ipv4Addr) -> SocketAddr {
    let _starting = no_process_starting();
    TcpListener::bind((ip, 0)).and_then(|socket| socket.local_addr()).expect("a free port on loopback")
}

/// Whether somebody listens at this address, from the kernel's table of sockets (proc_net_tcp(5)). Connecting
/// would tell too, but the gate would count that connection among those of the test.
pub fn is_listening(address: SocketAddr) -> bool {
    const LISTEN: &str = "0A";
    let SocketAddr::V4(v4) = address else { panic!("{address} is not of IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of sockets");
    table.lines().any(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        columns.next() == Some(&local) && columns.nth(1) == Some(LISTEN)
    })
}

/// An address that refuses connections for as long as this lives: bound, so that nobody else takes it, but
/// not listening.
pub struct RefusedAddress {
    label: String,
    address: SocketAddr,
    _socket: Socket,
}

impl RefusedAddress {
    pub fn new(label: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("socket");
        socket.bind(&SocketAddr::from((own_loopback(), 0)).into()).expect("bind");
        let address = socket.local_addr().expect("address").as_socket().expect("an IP address");
        Self { label: label.to_owned(), address, _socket: socket }
    }
}

impl ServerAddress for RefusedAddress {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An address where connecting neither succeeds nor fails: its accept queue is full and nobody accepts.
pub struct BlackHole {
    label: String,
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub fn new(label: &str) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("socket");
        listener.bind(&SocketAddr::from((own_loopback(), 0)).into()).expect("bind");
        listener.listen(0).expect("listen");
        let address = listener.local_addr().expect("address").as_socket().expect("an IP address");
        let mut queued = Vec::new();
        // Linux lets one more in than the backlog says; a handful is always enough to fill it.
        for _ in 0..8 {
            match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(stream) => queued.push(stream),
                Err(_) => {
                    return Self { label: label.to_owned(), address, _listener: listener, _queued: queued };
                }
            }
        }
        panic!("the accept queue of {address} never filled");
    }
}

impl ServerAddress for BlackHole {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}
