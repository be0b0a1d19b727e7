//! The life of a connection: socket, limits, PROXY protocol, TLS, then HTTP/1 or HTTP/2, and each request of
//! it to the application.
//!
//! In reading order:
//! - [`Edge`] is the listeners of the process, which open, change and close while it runs (`commit`,
//!   `listener` opens the sockets); each works at a `place`;
//! - [`serve`] is a worker, which is told what to accept on;
//! - `accept` takes connections off a socket, as many as [`open`] allows, and `clients` each client, in as fast a succession as `rates` does;
//! - `connection` is the story of one: `announcement` is what a proxy says of it, [`tls`] opens it, unless `passing` finds that it is to stay unopened ([`hello`]); `l4` passes it on whole, or `http1` reads its heads (`head` judges
//!   them, `http1::exchange` is a request) or `http2` its streams (`frames` watches them, `http2::websocket` is one that is more than a request); with the others of its `era` it is
//!   retired when its listener changes or goes;
//! - `link` is its socket, `transport` that with or without TLS, `conn` is the stream that requests are read from and answers written to (`tunnel`
//!   measures the frames of a WebSocket, so that it can be closed properly; `pace` is its patience
//!   with slow clients);
//! - `datagrams` opens the sockets of listeners that take datagrams, which `l4::udp` passes on, and says who may begin a
//!   session;
//! - `custom` is what both kinds of custom sessions (`http1::exchange`, `http2::websocket`) leave out;
//! - `linger` closes it so that the client can read the last answer.
//!
//! The application is Pingora's `HttpProxy` in the gate, and whatever else implements
//! `HttpServerApp` in tests.

mod accept;
mod announcement;
mod chunked;
mod clients;
mod commit;
mod conn;
mod connection;
mod custom;
mod datagrams;
mod era;
mod frames;
mod head;
pub mod hello;
mod http1;
mod http2;
mod linger;
pub mod listener;
pub mod open;
mod pace;
mod passing;
mod place;
mod rates;
pub mod tls;
mod transport;
mod tunnel;
mod worker;

#[cfg(test)]
mod tests;

pub use commit::{Changed, Changes, Prepared};
pub use listener::{BindError, Inherited};
pub use open::{Count, Open};
pub use place::Listening;
pub use worker::{Share, Worker, serve};

use crate::acme;
use crate::config::file::ListenerLimits;
use crate::config::plan::TicketKey;
use crate::edge::era::Era;
use crate::edge::place::{Closing, Place};
use crate::edge::worker::Order;
use crate::http::Reject;
use crate::observe::Metrics;
use crate::timer;
use parking_lot::Mutex;
use pingora_core::apps::HttpServerApp;
use std::sync::{Arc, Weak};
use tokio::sync::{mpsc, watch};

/// What is wrong with the head of an HTTP/1 request, if anything is: the judgement of a listener with
/// these limits. For those who ask before they send.
///
/// # Errors
/// What the request would be refused with.
pub fn judge_head(head: &[u8], limits: &ListenerLimits) -> Result<(), Reject> {
    match head::Scanner::default().advance(head, &head::HeadLimits::from(limits))? {
        Some(_) => Ok(()),
        None => Err(Reject::BadRequest("the head is not complete")),
    }
}

/// What answers requests.
pub trait App: HttpServerApp + Send + Sync + 'static {}
impl<T: HttpServerApp + Send + Sync + 'static> App for T {}

/// The listeners of the process and who is connected; lives as long as the process. A clone is the
/// same edge.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    open: Arc<Open>,
    /// Their number is fixed: each is a thread.
    workers: usize,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    /// Until the workers are started.
    shares: Mutex<Vec<Share>>,
    ended: watch::Sender<bool>,
    places: Mutex<Places>,
    common: tls::Common,
}

/// Locked by whoever changes or lists the listeners, never for a connection.
#[derive(Default)]
struct Places {
    /// In the order of the configuration.
    now: Vec<Arc<Place>>,
    /// Those whose sockets are being closed by the workers.
    closing: Vec<Weak<Place>>,
    /// Connections of listeners that were closed.
    leaving: Vec<Arc<Era>>,
    /// Sockets that another process opened and no listener has taken yet.
    inherited: Vec<Inherited>,
    /// There has been a commit.
    running: bool,
    ended: bool,
}

impl Edge {
    /// Without listeners. Each of the `workers` (at least one) gets a [`Share`].
    pub fn new(workers: usize) -> Edge {
        Edge::with_inherited(workers, Vec::new())
    }

    /// With listening sockets that another process has opened: the service manager, or the gate
    /// that this one follows. A listener on such an address uses them, all of them, whatever the
    /// number of workers; those that no listener wants are closed by the first commit.
    pub fn with_inherited(workers: usize, inherited: Vec<Inherited>) -> Edge {
        Edge::with(workers, inherited, acme::Registry::default(), Metrics::default())
    }

    /// As [`Edge::with_inherited`], showing `certificates` where the plan says that one is ordered, and counted in
    /// `metrics`.
    pub fn with(
        workers: usize,
        inherited: Vec<Inherited>,
        certificates: acme::Registry,
        metrics: Metrics,
    ) -> Edge {
        let workers = workers.max(1);
        let open = Arc::new(Open::default());
        let (ended, ending) = watch::channel(false);
        let (orders, shares) = (0..workers)
            .map(|index| {
                let (order, orders) = mpsc::unbounded_channel();
                (order, Share { index, orders, open: open.clone(), ended: ending.clone() })
            })
            .unzip();
        let places = Mutex::new(Places { inherited, ..Places::default() });
        let common = tls::Common { certificates, metrics, ..tls::Common::default() };
        let shares = Mutex::new(shares);
        Edge(Arc::new(Inner { open, workers, orders, shares, ended, places, common }))
    }

    /// What the workers need, one for each, in the order of their numbers. Empty when they have
    /// been taken already, and after the end.
    pub fn shares(&self) -> Vec<Share> {
        std::mem::take(&mut self.0.shares.lock())
    }

    /// Who is connected; to be waited on at the end.
    pub fn open(&self) -> Arc<Open> {
        self.0.open.clone()
    }

    /// In the order of the configuration.
    pub fn listeners(&self) -> Vec<Arc<Listening>> {
        self.0.places.lock().now.iter().map(|place| place.now.load_full()).collect()
    }

    /// A descriptor of every listening socket, for a process that is to accept on them, too.
    ///
    /// # Errors
    /// When the process may not have so many open files.
    pub fn sockets(&self) -> std::io::Result<Vec<Inherited>> {
        let mut all = Vec::new();
        for place in &self.0.places.lock().now {
            let (address, lent) = (place.now.load().address.clone(), place.is_lent());
            let udp = place.udp;
            let inherited = |socket| Inherited { address: address.clone(), udp, socket, lent };
            all.extend(place.hand_out()?.into_iter().map(inherited));
        }
        Ok(all)
    }

    /// The secrets of session tickets, and when they were made (seconds since 1970), for a process that is to open the
    /// tickets of this one.
    pub fn ticket_secrets(&self) -> Vec<(u64, TicketKey)> {
        self.0.common.secrets.hand_out()
    }

    /// Opens the tickets of the process that these are from. To be called before the first connection.
    pub fn inherit_tickets(&self, secrets: Vec<(u64, TicketKey)>) {
        self.0.common.secrets.inherit(secrets);
    }

    /// The end: nothing more is accepted once those whom the kernel has let in are, requests in
    /// flight are finished, idle connections closed. [`Open::drained`] says when that is done.
    pub fn shut_down(&self) {
        self.end(Closing::Served);
    }

    /// The end of a process whose sockets another one has, too: as [`Edge::shut_down`], but whoever
    /// has not been accepted yet is left to it.
    pub fn hand_over(&self) {
        self.end(Closing::Left);
    }

    fn end(&self, how: Closing) {
        let mut places = self.0.places.lock();
        places.ended = true;
        for place in std::mem::take(&mut places.now) {
            let eras = place.close(how);
            places.leaving.extend(eras);
        }
        places.inherited.clear();
        drop(places);
        self.0.ended.send_replace(true);
        // workers that were never started have nothing to do any more
        drop(self.shares());
    }

    /// Breaks off what is still open after [`Edge::shut_down`]; how many connections that were.
    pub fn cut(&self) -> usize {
        let leaving = self.0.places.lock().leaving.clone();
        leaving.iter().map(|era| era.cut()).sum()
    }

    /// To the worker with this index, counted on from the first again. One that has ended needs
    /// no orders.
    fn order(&self, index: usize, order: Order) {
        if let Some(orders) = self.0.orders.get(index % self.0.workers) {
            let _ = orders.send(order);
        }
    }
}
