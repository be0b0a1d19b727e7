//! The sockets of a listener that takes datagrams, and its door: who may begin a session. What becomes of datagrams is
//! for [`l4::udp`]. The sockets are opened by `listener` and `commit`, a worker starts [`run`] for each.

use crate::edge::App;
use crate::edge::listener::{self, Opened};
use crate::edge::open::{Hold, Slot};
use crate::edge::place::{Closing, Place};
use crate::edge::worker::Shared;
use crate::l4::udp::{self, Door, Room};
use crate::observe::events;
use crate::observe::metrics::NotAdmitted;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

/// What the kernel keeps of datagrams that were not taken yet, as far as it lets us (`net.core.rmem_max`).
const WAITING: usize = 4 * 1024 * 1024;

/// The first socket is bound without `SO_REUSEPORT`, unless it is `beside` one that is to be closed, as in
/// [`listener::open`]; and without `SO_REUSEADDR`, with which another process could take all datagrams to itself.
pub(super) fn open(address: SocketAddr, workers: usize, beside: bool) -> io::Result<Opened> {
    let first = bind(address, beside)?;
    let address = listener::address_of(&first)?;
    if workers > 1 {
        first.set_reuse_port(true)?;
    }
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bind(address, true)?);
    }
    Ok(Opened { address: address.into(), sockets, listens: true, shared: false, file: None })
}

/// With sockets that are open: all of them are read, and each worker has one. Those that are missing are opened, or
/// shared, as in [`listener::adopt`].
pub(super) fn adopt(inherited: Vec<Socket>, workers: usize, shared: bool) -> io::Result<Opened> {
    let first = inherited.first().ok_or_else(|| io::Error::other("there is no socket"))?;
    let address = listener::address_of(first)?;
    let joined = inherited.iter().all(|socket| socket.reuse_port().unwrap_or(false));
    let mut sockets = Vec::with_capacity(workers.max(inherited.len()));
    for socket in &inherited {
        socket.set_nonblocking(true)?;
        sockets.push(socket.try_clone()?);
    }
    for i in inherited.len()..workers {
        let common = inherited.get(i % inherited.len()).unwrap_or(first);
        let own = if joined { bind(address, true).ok() } else { None };
        sockets.push(own.map_or_else(|| common.try_clone(), Ok)?);
    }
    Ok(Opened { address: address.into(), sockets, listens: true, shared, file: None })
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    match bind_to(address, reuse_port) {
        Err(e) if address.ip().is_unspecified() && address.is_ipv6() && listener::no_ipv6(&e) => {
            bind_to(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), reuse_port)
        }
        bound => bound,
    }
}

fn bind_to(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // [::] takes IPv4 clients, too
        socket.set_only_v6(false)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    // the kernel gives as much as it may
    socket.set_recv_buffer_size(WAITING).ok();
    socket.set_send_buffer_size(WAITING).ok();
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Passes the datagrams of one socket on until its place is closed and its last session is over. `hold` keeps the process
/// from being seen as drained.
pub(super) async fn run<A: App>(shared: Arc<Shared<A>>, place: Arc<Place>, socket: Socket, hold: Hold) {
    let door = Threshold { place: place.clone(), worker: shared.worker };
    let closed = place.closed();
    let closing = async move { closed.await == Closing::Left };
    udp::serve(shared.flows.datagrams(), socket, Box::new(door), (closing, place.left())).await;
    drop(hold);
}

/// The door of a listener, as one worker sees it.
struct Threshold {
    place: Arc<Place>,
    worker: usize,
}

impl Door for Threshold {
    fn listener(&self) -> Arc<crate::config::plan::Listener> {
        self.place.now.load().plan.clone()
    }

    fn admits(&self, client: IpAddr) -> bool {
        self.place.now.load().admits(client)
    }

    fn enter(&self, client: IpAddr) -> Option<Box<dyn Room>> {
        let listening = self.place.now.load();
        listening.counted.accepted();
        if !listening.in_turn() {
            return None;
        }
        let Some(mut slot) = listening.count.enter(&listening.era, self.worker) else {
            listening.counted.refused(NotAdmitted::Limit);
            events::sessions_full(&listening.full, &listening.plan.name, listening.plan.limits.connections);
            return None;
        };
        listening.welcomes(client, &mut slot).then(|| Box::new(slot) as Box<dyn Room>)
    }

    fn failed(&self, error: &io::Error) {
        let listening = self.place.now.load();
        events::datagrams_failed(&listening.trouble, &listening.plan.name, error);
    }
}

impl Room for Slot {
    fn taken_by(&self, waker: &Waker) {
        self.seat().taken_by(waker);
    }

    fn is_cut(&self) -> bool {
        self.seat().is_cut()
    }
}
