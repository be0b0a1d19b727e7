//! The accept loop of one socket. Started by a worker when it is told to, ends when its place is
//! closed.

use crate::config::words::ListenAddress;
use crate::edge::open::Hold;
use crate::edge::place::{Closing, Place};
use crate::edge::worker::Shared;
use crate::edge::{App, connection};
use crate::http::NOWHERE;
use crate::link::Link;
use crate::observe::events;
use crate::observe::metrics::NotAdmitted;
use socket2::Socket;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How long to wait when the process has no file descriptors left for a connection.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a client whose handshake with the kernel has begun has to finish it: a long way and back.
const LET_IN: Duration = Duration::from_millis(100);

/// A listening socket.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The same, without the runtime.
enum Threshold {
    Tcp(std::net::TcpListener),
    Unix(unix::net::UnixListener),
}

impl Door {
    fn open(address: &ListenAddress, socket: Socket) -> io::Result<Door> {
        match address {
            ListenAddress::Ip(_) => TcpListener::from_std(socket.into()).map(Door::Tcp),
            ListenAddress::Unix(_) => UnixListener::from_std(socket.into()).map(Door::Unix),
        }
    }

    /// Who connects to a unix socket has no address.
    async fn accept(&self) -> io::Result<(Link, SocketAddr)> {
        match self {
            Door::Tcp(listener) => listener.accept().await.map(|(tcp, peer)| (tcp.into(), peer)),
            Door::Unix(listener) => listener.accept().await.map(|(unix, _)| (unix.into(), NOWHERE)),
        }
    }

    fn leave(self) -> io::Result<Threshold> {
        match self {
            Door::Tcp(listener) => listener.into_std().map(Threshold::Tcp),
            Door::Unix(listener) => listener.into_std().map(Threshold::Unix),
        }
    }
}

impl Threshold {
    /// Somebody who waits; `None` for one who cannot be served.
    fn accept(&self) -> io::Result<Option<(Link, SocketAddr)>> {
        match self {
            Threshold::Tcp(listener) => {
                let (tcp, peer) = listener.accept()?;
                let tcp = tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp));
                Ok(tcp.ok().map(|tcp| (tcp.into(), peer)))
            }
            Threshold::Unix(listener) => {
                let (unix, _) = listener.accept()?;
                let unix = unix.set_nonblocking(true).and_then(|()| UnixStream::from_std(unix));
                Ok(unix.ok().map(|unix| (unix.into(), NOWHERE)))
            }
        }
    }
}

/// Accepts until the place is closed. `hold` keeps the process from being seen as drained.
pub async fn run<A: App>(shared: Arc<Shared<A>>, place: Arc<Place>, socket: Socket, hold: Hold) {
    let door = match Door::open(&place.wanted, socket) {
        Ok(door) => door,
        Err(e) => {
            let listening = place.now.load();
            return events::accept_failed(&listening.trouble, &listening.plan.name, &e);
        }
    };
    let how = tokio::select! {
        biased;
        how = place.closed() => how,
        never = each(&shared, &place, &door) => match never {},
    };
    match how {
        Closing::DoorShut => {
            let _ = tokio::time::timeout(LET_IN, each(&shared, &place, &door)).await;
            last_ones(&shared, &place, door);
        }
        Closing::Served => last_ones(&shared, &place, door),
        Closing::Left => {}
    }
    drop(hold);
}

/// Accepts one after the other.
async fn each<A: App>(shared: &Arc<Shared<A>>, place: &Place, door: &Door) -> Infallible {
    loop {
        match door.accept().await {
            Ok(arrived) => admit(shared, place, arrived),
            // the client has gone again, or the network has trouble: not ours
            Err(e) if is_of_the_client(&e) => {}
            Err(e) => {
                let listening = place.now.load_full();
                events::accept_failed(&listening.trouble, &listening.plan.name, &e);
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Who has been let in by the kernel is served: closing the socket would reset them.
fn last_ones<A: App>(shared: &Arc<Shared<A>>, place: &Place, door: Door) {
    let Ok(threshold) = door.leave() else { return };
    loop {
        match threshold.accept() {
            Ok(Some(arrived)) => admit(shared, place, arrived),
            Ok(None) => {}
            Err(e) if is_of_the_client(&e) => {}
            Err(_) => return,
        }
    }
}

/// Starts the life of a connection, unless there are too many, or they come too fast.
fn admit<A: App>(shared: &Arc<Shared<A>>, place: &Place, arrived: (Link, SocketAddr)) {
    let listening = place.now.load_full();
    listening.counted.accepted();
    if !listening.in_turn() {
        return;
    }
    let Some(slot) = listening.count.enter(&listening.era, shared.worker) else {
        listening.counted.refused(NotAdmitted::Limit);
        events::connections_full(&listening.full, &listening.plan.name, listening.plan.limits.connections);
        return;
    };
    tokio::spawn(connection::serve(shared.clone(), listening, arrived, slot));
}

fn is_of_the_client(e: &io::Error) -> bool {
    // accept(2): errors of the network are passed on to the caller, who should try again
    matches!(
        e.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EINTR
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
        )
    )
}
