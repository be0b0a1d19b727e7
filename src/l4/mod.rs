//! The life of a flow: a connection that is passed on whole, whatever is spoken on it.
//!
//! In reading order:
//! - `site` is where the flows of each listener go, read once per flow;
//! - [`serve`] is the story of one: `journey` finds a server and connects to it, `relay` moves bytes until both
//!   sides have ended or one has broken, `journal` writes it down;
//! - [`udp`] is the same for datagrams;
//! - `half` is one direction, `stream` a side of a flow, `splice` the way of bytes that are not looked at.
//!
//! `edge` hands connections in, once who may not connect is gone, the PROXY header is read and TLS is terminated; `run`
//! builds the [`Site`]. See decision 031.

mod half;
mod journal;
mod journey;
mod relay;
mod site;
mod splice;
mod stream;
pub mod udp;

pub use site::{Live, Site, Target};
pub use stream::{Duplex, Stream};

use crate::config::plan::Flows;
use crate::http::Connection;
use bytes::Bytes;
use journal::{End, Record};
use journey::Journey;
use relay::{Ended, Limits, Relay};
use splice::Pipes;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

/// What the flows of a worker share.
pub struct Desk {
    live: Arc<Live>,
    pipes: Pipes,
    datagrams: Arc<udp::Common>,
}

impl Desk {
    pub fn new(live: Arc<Live>) -> Desk {
        let datagrams = Arc::new(udp::Common::new(live.clone()));
        Desk { live, pipes: Pipes::default(), datagrams }
    }

    /// What sessions share.
    pub fn datagrams(&self) -> &Arc<udp::Common> {
        &self.datagrams
    }
}

/// A client that is to be passed on.
pub struct Arrival {
    pub stream: Stream,
    /// What of its bytes was read already.
    pub ahead: Bytes,
    pub facts: Connection,
    /// The group that it is to go to.
    pub upstream: Arc<str>,
    /// What it has asked for in a ClientHello that was not answered here.
    pub name: Option<Box<str>>,
    /// When it came.
    pub began: Instant,
}

/// Passes a connection on until either side, a deadline or `is_cut` ends it. Whoever sets that wakes the task.
pub async fn serve(desk: &Desk, arrival: Arrival, is_cut: &(dyn Fn() -> bool + Send + Sync)) {
    let target = desk.live.load().target(arrival.facts.listener.id, &arrival.upstream).cloned();
    // a listener of a configuration that came and went between two of its connections
    let Some(target) = target else { return };
    let Arrival { stream, ahead, facts, upstream: _, name, began } = arrival;
    let mut record = Record { journey: Journey::new(&target), moved: (0, 0), name, began };
    let end = {
        let mut flow = pin!(flow(desk, &target, (stream, ahead), &facts, &mut record));
        poll_fn(|cx| match is_cut() {
            true => Poll::Ready(End::Passed(Ended::Cut)),
            false => flow.as_mut().poll(cx),
        })
        .await
    };
    journal::count(&record, end);
    if let Some(log) = &desk.live.load().access_log {
        journal::write(log, &facts, &record, end);
    }
}

async fn flow(
    desk: &Desk,
    target: &Target,
    (client, ahead): (Stream, Bytes),
    facts: &Connection,
    record: &mut Record,
) -> End {
    let by = target.flows.total.map(|total| record.began + total);
    let reached = {
        let name = record.name.as_deref().or(facts.server_name());
        // boxed: a flow lasts, and needs the room for the way to its server no longer than that
        let reaching = Box::pin(record.journey.reach(target, (facts, name), &client));
        match by {
            Some(by) => tokio::time::timeout_at(by.into(), reaching).await.ok(),
            None => Some(reaching.await),
        }
    };
    let server = match reached {
        Some(Ok(server)) => server,
        Some(Err(end)) => return end,
        None => return End::Passed(Ended::TotalTimeout),
    };
    let Flows { idle, keepalive, .. } = target.flows;
    let mut relay = Relay::new((client, ahead), server, &desk.pipes);
    let ended = relay.run(Limits { idle, by, keepalive }, &mut record.moved).await;
    End::Passed(ended)
}
