//! Requests that ended, as a route and an upstream count them; and those that are at a route now.

use super::cells::{Cells, Shard};
use super::histogram::{self, Mark};
use super::kept::{Kept, Part};
use super::labels::{CODES, code};
use std::sync::Arc;
use std::time::Duration;

/// What is known of a request at its end. Made once, for all who count it.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    code: usize,
    total: Mark,
    queued: Option<Mark>,
    connect: Option<Mark>,
    first_byte: Option<Mark>,
    received: u64,
    sent: u64,
    retries: u32,
    hedges: u32,
}

impl Request {
    /// Answered with this status, 0 if not at all, after so long.
    pub fn new(status: u16, total: Duration) -> Request {
        Request {
            code: code(status),
            total: total.into(),
            queued: None,
            connect: None,
            first_byte: None,
            received: 0,
            sent: 0,
            retries: 0,
            hedges: 0,
        }
    }

    /// With the parts of that time: the wait for a turn, a new connection, the head of the answer.
    #[must_use]
    pub fn in_parts(
        self,
        queued: Option<Duration>,
        connect: Option<Duration>,
        first_byte: Option<Duration>,
    ) -> Request {
        let [queued, connect, first_byte] = [queued, connect, first_byte].map(|part| part.map(Mark::from));
        Request { queued, connect, first_byte, ..self }
    }

    /// With the bytes of its body and of that of the answer.
    #[must_use]
    pub fn moving(self, received: u64, sent: u64) -> Request {
        Request { received, sent, ..self }
    }

    /// With its tries beyond the first, and second tries in vain.
    #[must_use]
    pub fn tried_again(self, retries: u32, hedges: u32) -> Request {
        Request { retries, hedges, ..self }
    }
}

pub(super) const CODE: usize = 0;
pub(super) const TOTAL: usize = CODE + CODES.len();
pub(super) const QUEUE: usize = TOTAL + histogram::PLACES;
pub(super) const CONNECT: usize = QUEUE + histogram::PLACES;
pub(super) const FIRST_BYTE: usize = CONNECT + histogram::PLACES;
pub(super) const RECEIVED: usize = FIRST_BYTE + histogram::PLACES;
pub(super) const SENT: usize = RECEIVED + 1;
pub(super) const RETRIES: usize = SENT + 1;
pub(super) const HEDGES: usize = RETRIES + 1;
/// Where what else is counted may begin.
pub(super) const END: usize = HEDGES + 1;

/// What of it another process goes on from.
pub(super) const PARTS: [Part; 9] = [
    Part::each("requests", CODE, CODES),
    Part::histogram("total", TOTAL),
    Part::histogram("queue", QUEUE),
    Part::histogram("connect", CONNECT),
    Part::histogram("first_byte", FIRST_BYTE),
    Part::one("received", RECEIVED),
    Part::one("sent", SENT),
    Part::one("retries", RETRIES),
    Part::one("hedges", HEDGES),
];

/// Counts it where these places begin with the first.
pub(super) fn count(shard: Shard<'_>, request: &Request) {
    shard.add(CODE + request.code, 1);
    request.total.record(shard, TOTAL);
    for (part, first) in
        [(request.queued, QUEUE), (request.connect, CONNECT), (request.first_byte, FIRST_BYTE)]
    {
        if let Some(mark) = part {
            mark.record(shard, first);
        }
    }
    let rest = [
        (RECEIVED, request.received),
        (SENT, request.sent),
        (RETRIES, u64::from(request.retries)),
        (HEDGES, u64::from(request.hedges)),
    ];
    for (place, more) in rest {
        if more > 0 {
            shard.add(place, more);
        }
    }
}

/// Of a route.
#[derive(Debug)]
pub struct Route(Cells);

const IN_FLIGHT: usize = END;

impl Default for Route {
    fn default() -> Self {
        Route(Cells::new(IN_FLIGHT + 1))
    }
}

impl Kept for Route {
    const KIND: &'static str = "route";

    fn parts() -> Vec<Part> {
        PARTS.to_vec()
    }

    fn cells(&self) -> &Cells {
        &self.0
    }
}

impl Route {
    /// A request that took it ended.
    pub fn ended(&self, request: &Request) {
        count(self.0.shard(), request);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.0.sum(IN_FLIGHT)
    }
}

/// A request at a route, until this is dropped.
#[derive(Debug)]
pub struct AtRoute(Arc<Route>);

impl AtRoute {
    pub fn begin(route: Arc<Route>) -> AtRoute {
        route.0.add(IN_FLIGHT, 1);
        AtRoute(route)
    }

    pub fn route(&self) -> &Route {
        &self.0
    }
}

impl Drop for AtRoute {
    fn drop(&mut self) {
        self.0.0.add(IN_FLIGHT, 1_u64.wrapping_neg());
    }
}
