//! The accept loop of one socket. Started by a worker when it is told to, ends when its place is
//! closed.

use crate::edge::open::Hold;
use crate::edge::place::{Closing, Place};
use crate::edge::worker::Shared;
use crate::edge::{App, connection};
use crate::observe::events;
use socket2::Socket;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait when the process has no file descriptors left for a connection.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a client whose handshake with the kernel has begun has to finish it: a long way and back.
const LET_IN: Duration = Duration::from_millis(100);

/// Accepts until the place is closed. `hold` keeps the process from being seen as drained.
pub async fn run<A: App>(shared: Arc<Shared<A>>, place: Arc<Place>, socket: Socket, hold: Hold) {
    let listener = match TcpListener::from_std(socket.into()) {
        Ok(listener) => listener,
        Err(e) => {
            let listening = place.now.load();
            return events::accept_failed(&listening.trouble, &listening.plan.name, &e);
        }
    };
    let how = tokio::select! {
        biased;
        how = place.closed() => how,
        never = each(&shared, &place, &listener) => match never {},
    };
    match how {
        Closing::DoorShut => {
            let _ = tokio::time::timeout(LET_IN, each(&shared, &place, &listener)).await;
            last_ones(&shared, &place, listener);
        }
        Closing::Served => last_ones(&shared, &place, listener),
        Closing::Left => {}
    }
    drop(hold);
}

/// Accepts one after the other.
async fn each<A: App>(shared: &Arc<Shared<A>>, place: &Place, listener: &TcpListener) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => admit(shared, place, tcp, peer),
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
fn last_ones<A: App>(shared: &Arc<Shared<A>>, place: &Place, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    loop {
        match listener.accept() {
            Ok((tcp, peer)) => {
                if tcp.set_nonblocking(true).is_ok()
                    && let Ok(tcp) = TcpStream::from_std(tcp)
                {
                    admit(shared, place, tcp, peer);
                }
            }
            Err(e) if is_of_the_client(&e) => {}
            Err(_) => return,
        }
    }
}

/// Starts the life of a connection, unless there are too many.
fn admit<A: App>(shared: &Arc<Shared<A>>, place: &Place, tcp: TcpStream, peer: SocketAddr) {
    let listening = place.now.load_full();
    let Some(slot) = listening.count.enter(&listening.era, shared.worker) else {
        events::connections_full(&listening.full, &listening.plan.name, listening.plan.limits.connections);
        return;
    };
    tokio::spawn(connection::serve(shared.clone(), listening, (tcp, peer), slot));
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
