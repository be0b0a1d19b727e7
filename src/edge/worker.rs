//! A worker: one thread with its own runtime, sockets, connections and connections to servers.
//! What it is to accept on comes through a channel, from `commit`. Started by `run::server`.

use crate::edge::connection::stopping;
use crate::edge::era::Era;
use crate::edge::open::Hold;
use crate::edge::place::Place;
use crate::edge::{App, Open, accept, datagrams};
use crate::http::HeadRefuser;
use crate::l4;
use pingora_core::server::ShutdownWatch;
use socket2::Socket;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// At least so often a worker's timers are looked at.
const TICK: Duration = Duration::from_secs(1);

/// What a worker needs to [`serve`] on its own runtime.
pub struct Worker<A> {
    pub app: Arc<A>,
    /// Answers heads that are not fit for `app`.
    pub refuser: Arc<dyn HeadRefuser>,
    /// Where connections go that are passed on whole.
    pub flows: Arc<l4::Live>,
    pub share: Share,
}

/// A worker's share of the edge: its part of every listener, now and later.
pub struct Share {
    pub(super) index: usize,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) open: Arc<Open>,
    /// Turns true when nothing more will be ordered.
    pub(super) ended: ShutdownWatch,
}

/// What a worker is told to do.
pub(super) enum Order {
    /// Accept on this socket until its place is closed. `hold` keeps the process from being seen
    /// as drained until then.
    Accept { place: Arc<Place>, socket: Socket, hold: Hold },
    /// Break off at that time what is left of these.
    CutAt(Instant, Vec<Arc<Era>>),
}

/// What all connections of a worker share.
pub(super) struct Shared<A> {
    pub app: Arc<A>,
    pub refuser: Arc<dyn HeadRefuser>,
    pub flows: l4::Desk,
    pub worker: usize,
}

/// Accepts and serves on the runtime it is called on, until the edge is shut down and the last
/// connection of the process is closed.
pub async fn serve<A: App>(worker: Worker<A>) {
    let Worker { app, refuser, flows, share } = worker;
    let Share { index, mut orders, open, ended } = share;
    let shared = Arc::new(Shared { app, refuser, flows: l4::Desk::new(flows), worker: index });
    let mut ended = std::pin::pin!(stopping(ended));
    // A timer that is to fire later than the next one costs nothing. Without a next one each wakes the runtime, by a write
    // to itself: for each connection to a server, which is to be made within some seconds.
    let mut next = tokio::time::interval(TICK);
    loop {
        // what was ordered before the end is done
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(order) => obey(&shared, order),
                None => break,
            },
            () = &mut ended => break,
            _ = next.tick() => {}
        }
    }
    open.drained().await;
}

fn obey<A: App>(shared: &Arc<Shared<A>>, order: Order) {
    match order {
        Order::Accept { place, socket, hold } if place.udp => {
            tokio::spawn(datagrams::run(shared.clone(), place, socket, hold));
        }
        Order::Accept { place, socket, hold } => {
            tokio::spawn(accept::run(shared.clone(), place, socket, hold));
        }
        Order::CutAt(deadline, eras) => {
            tokio::spawn(async move {
                tokio::time::sleep_until(deadline.into()).await;
                for era in eras {
                    era.cut();
                }
            });
        }
    }
}
