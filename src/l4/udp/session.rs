//! One session, as its `reader` keeps it in the table.

use super::link::Link;
use super::way::Way;
use super::{Room, batch::Batch};
use crate::config::file::ProxyHeader;
use crate::config::plan;
use crate::proxy_protocol::{self, Ends};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::AbortHandle;

/// How many datagrams are kept until the server has answered, and how many bytes of each at most.
const KEPT: usize = 4;
const KEPT_BYTES: usize = 2048;

/// What is known of a session beside how much has gone through it.
pub struct Session {
    pub listener: Arc<plan::Listener>,
    pub room: Box<dyn Room>,
    pub way: Way,
    pub link: Arc<Link>,
    /// Passes back what the server answers.
    pub task: Option<AbortHandle>,
    pub began: Instant,
    /// The header of the PROXY protocol, if there is to be one.
    header: Box<[u8]>,
    /// The present server was sent nothing yet.
    fresh: bool,
    /// What it was sent and has not answered: for another one, should nobody be there.
    kept: Vec<Box<[u8]>>,
}

impl Session {
    pub fn new(
        listener: Arc<plan::Listener>,
        room: Box<dyn Room>,
        (way, link): (Way, Link),
        ends: Ends,
        now: Instant,
    ) -> Session {
        let header = match way.group.plan().send_proxy {
            Some(_) => proxy_protocol::datagram(ends).into(),
            None => Box::default(),
        };
        let link = Arc::new(link);
        Session { listener, room, way, link, task: None, began: now, header, fresh: true, kept: Vec::new() }
    }

    /// What stands in front of the next datagrams to the server, and of how many of them.
    pub fn prefix(&self, header: ProxyHeader) -> (&[u8], usize) {
        match header {
            ProxyHeader::Every => (&self.header, usize::MAX),
            ProxyHeader::First if self.fresh => (&self.header, 1),
            ProxyHeader::First => (&[], usize::MAX),
        }
    }

    /// These were sent.
    pub fn sent(&mut self, batch: &Batch, which: Range<usize>, answers: Option<u64>) {
        self.fresh &= which.is_empty();
        if self.way.has_answered() || answers == Some(0) {
            return;
        }
        let room = KEPT.saturating_sub(self.kept.len());
        let short = which.map(|index| batch.datagram(index)).filter(|text| text.len() <= KEPT_BYTES);
        self.kept.extend(short.take(room).map(Box::from));
    }

    /// The server has answered.
    pub fn answered(&mut self, now: Instant) {
        self.way.answered(now);
        self.kept = Vec::new();
    }

    /// It is with another server, which is sent what the one before has not answered.
    pub fn moved(&mut self, link: Link, header: ProxyHeader) {
        self.link = Arc::new(link);
        self.fresh = true;
        for datagram in &self.kept {
            let prefix = self.prefix(header).0;
            // what cannot be sent is lost, as on any way
            self.link.send(prefix, datagram).ok();
            self.fresh = false;
        }
    }
}
