//! The accept loop of one listener on one worker. Started by `edge::serve`, ends at shutdown.

use crate::edge::open::Hold;
use crate::edge::{App, Listening, Shared, Socket, connection, stopping};
use crate::observe::events;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait when the process has no file descriptors left for a connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts until the shutdown signal. `hold` keeps the process from being seen as drained.
pub async fn run<A: App>(shared: Arc<Shared<A>>, hold: Hold, socket: Socket) {
    let Socket { listening, socket } = socket;
    let name = &listening.plan.name;
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(e) => return log::error!("listener `{name}`: cannot accept on {}: {e}", listening.address),
    };
    let mut stop = std::pin::pin!(stopping(shared.shutdown.clone()));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => admit(&shared, &listening, tcp, peer),
            // the client has gone again, or the network has trouble: not ours
            Err(e) if is_of_the_client(&e) => {}
            Err(e) => {
                events::accept_failed(&listening.trouble, name, &e);
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
    last_ones(&shared, &listening, listener);
    drop(hold);
}

/// Who has been let in by the kernel is served: closing the socket would reset them.
fn last_ones<A: App>(shared: &Arc<Shared<A>>, listening: &Arc<Listening>, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((tcp, peer)) = listener.accept() {
        if tcp.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(tcp)
        {
            admit(shared, listening, tcp, peer);
        }
    }
}

/// Starts the life of a connection, unless there are too many.
fn admit<A: App>(shared: &Arc<Shared<A>>, listening: &Arc<Listening>, tcp: TcpStream, peer: SocketAddr) {
    let Some(slot) = listening.count.enter() else {
        events::connections_full(&listening.full, &listening.plan.name, listening.plan.limits.connections);
        return;
    };
    tokio::spawn(connection(shared.clone(), listening.clone(), tcp, peer, slot));
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
