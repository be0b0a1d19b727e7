//! Of an upstream and of each of its servers.

use super::cells::Cells;
use super::histogram::{self, Mark};
use super::kept::{Kept, Part};
use super::labels::{CODES, DIRECTIONS, Fault, FlowEnd, Refused, Success, Transport, code};
use super::requests::{self, Request};
use std::time::Duration;

/// Of an upstream.
#[derive(Debug)]
pub struct Upstream(Cells);

pub(super) const REFUSED: usize = requests::END;
pub(super) const BUDGET: usize = REFUSED + Refused::WORDS.len();
pub(super) const OPENED: usize = BUDGET + 1;
pub(super) const FLOWS: usize = OPENED + 1;
pub(super) const FLOW_BYTES: usize = FLOWS + Transport::WORDS.len() * FlowEnd::WORDS.len();
const PLACES: usize = FLOW_BYTES + Transport::WORDS.len() * DIRECTIONS.len();

impl Default for Upstream {
    fn default() -> Self {
        Upstream(Cells::new(PLACES))
    }
}

impl Kept for Upstream {
    const KIND: &'static str = "upstream";

    fn parts() -> Vec<Part> {
        let mut parts = requests::PARTS.to_vec();
        parts.extend([
            Part::each("refused", REFUSED, Refused::WORDS),
            Part::one("budget_exhausted", BUDGET),
            Part::one("breaker_opened", OPENED),
            Part::pairs("flows", FLOWS, Transport::WORDS, FlowEnd::WORDS),
            Part::pairs("flow_bytes", FLOW_BYTES, Transport::WORDS, DIRECTIONS),
        ]);
        parts
    }

    fn cells(&self) -> &Cells {
        &self.0
    }
}

/// A flow that ended.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub transport: Transport,
    pub end: FlowEnd,
    /// Bytes from the client and to it.
    pub moved: (u64, u64),
    pub queued: Option<Duration>,
    pub connect: Option<Duration>,
}

impl Upstream {
    /// A request that was for it ended.
    pub fn ended(&self, request: &Request) {
        requests::count(self.0.shard(), request);
    }

    /// A request or a flow that was for it was refused before a server was asked.
    pub fn refused(&self, why: Refused) {
        self.0.add(REFUSED + why.place(), 1);
    }

    /// A retry was not made, as there is none left.
    pub fn budget_exhausted(&self) {
        self.0.add(BUDGET, 1);
    }

    /// Its breaker opened.
    pub fn breaker_opened(&self) {
        self.0.add(OPENED, 1);
    }

    /// A flow that was for it ended.
    pub fn flow_ended(&self, flow: &Flow) {
        let (shard, transport) = (self.0.shard(), flow.transport.place());
        shard.add(FLOWS + transport * FlowEnd::WORDS.len() + flow.end.place(), 1);
        let bytes = FLOW_BYTES + transport * DIRECTIONS.len();
        shard.add(bytes, flow.moved.0);
        shard.add(bytes + 1, flow.moved.1);
        for (part, first) in [(flow.queued, requests::QUEUE), (flow.connect, requests::CONNECT)] {
            if let Some(time) = part {
                Mark::from(time).record(shard, first);
            }
        }
    }
}

/// Of a server.
#[derive(Debug)]
pub struct Server(Cells);

pub(super) mod server {
    use super::*;

    pub const CODE: usize = 0;
    pub const CONNECT: usize = CODE + CODES.len();
    pub const FIRST_BYTE: usize = CONNECT + histogram::PLACES;
    pub const RECEIVED: usize = FIRST_BYTE + histogram::PLACES;
    pub const SENT: usize = RECEIVED + 1;
    pub const FLOWS: usize = SENT + 1;
    pub const EJECTIONS: usize = FLOWS + Transport::WORDS.len() * Success::WORDS.len();
    pub const OPENED: usize = EJECTIONS + Fault::WORDS.len();
    pub const CHECKS: usize = OPENED + 1;
    pub const PLACES: usize = CHECKS + Success::WORDS.len();
}

impl Default for Server {
    fn default() -> Self {
        Server(Cells::new(server::PLACES))
    }
}

impl Kept for Server {
    const KIND: &'static str = "server";

    fn parts() -> Vec<Part> {
        vec![
            Part::each("requests", server::CODE, CODES),
            Part::histogram("connect", server::CONNECT),
            Part::histogram("first_byte", server::FIRST_BYTE),
            Part::one("received", server::RECEIVED),
            Part::one("sent", server::SENT),
            Part::pairs("flows", server::FLOWS, Transport::WORDS, Success::WORDS),
            Part::each("ejections", server::EJECTIONS, Fault::WORDS),
            Part::one("breaker_opened", server::OPENED),
            Part::each("checks", server::CHECKS, Success::WORDS),
        ]
    }

    fn cells(&self) -> &Cells {
        &self.0
    }
}

/// A try that ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Try {
    /// 0 without an answer.
    pub status: u16,
    /// Of a new connection.
    pub connect: Option<Duration>,
    /// To the head of the answer.
    pub first_byte: Option<Duration>,
}

impl Server {
    pub fn tried(&self, ended: &Try) {
        let shard = self.0.shard();
        shard.add(server::CODE + code(ended.status), 1);
        for (part, first) in [(ended.connect, server::CONNECT), (ended.first_byte, server::FIRST_BYTE)] {
            if let Some(time) = part {
                Mark::from(time).record(shard, first);
            }
        }
    }

    /// Of the request that it answered last.
    pub fn moved(&self, received: u64, sent: u64) {
        let shard = self.0.shard();
        for (place, bytes) in [(server::RECEIVED, received), (server::SENT, sent)] {
            if bytes > 0 {
                shard.add(place, bytes);
            }
        }
    }

    /// A flow was to be passed on to it, and could be or not. The connection took so long, if there was one to wait for.
    pub fn flow_tried(&self, transport: Transport, ok: bool, connect: Option<Duration>) {
        let result = Success::from(ok);
        let shard = self.0.shard();
        shard.add(server::FLOWS + transport.place() * Success::WORDS.len() + result.place(), 1);
        if let Some(time) = connect {
            Mark::from(time).record(shard, server::CONNECT);
        }
    }

    pub fn ejected(&self, why: Fault) {
        self.0.add(server::EJECTIONS + why.place(), 1);
    }

    pub fn breaker_opened(&self) {
        self.0.add(server::OPENED, 1);
    }

    /// A health check ended.
    pub fn checked(&self, passed: bool) {
        self.0.add(server::CHECKS + Success::from(passed).place(), 1);
    }
}
