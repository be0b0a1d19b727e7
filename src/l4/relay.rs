//! Both directions of a flow until it ends, and why it did.

use super::half::{Broken, Half, Sides};
use super::splice::Pipes;
use super::stream::Stream;
use crate::observe::metrics::FlowEnd;
use crate::timer::Timer;
use bytes::Bytes;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have ended, the client first.
    ClientClosed,
    ServerClosed,
    /// The connection broke on its side.
    ClientReset,
    ServerReset,
    IdleTimeout,
    TotalTimeout,
    /// The listener or the process ends.
    Cut,
}

impl Ended {
    /// As in the access log.
    pub fn words(self) -> &'static str {
        match self {
            Ended::ClientClosed => "client_closed",
            Ended::ServerClosed => "server_closed",
            Ended::ClientReset => "client_reset",
            Ended::ServerReset => "server_reset",
            Ended::IdleTimeout => "idle_timeout",
            Ended::TotalTimeout => "total_timeout",
            Ended::Cut => "cut",
        }
    }
}

impl From<Ended> for FlowEnd {
    fn from(ended: Ended) -> FlowEnd {
        match ended {
            Ended::ClientClosed => FlowEnd::ClientClosed,
            Ended::ServerClosed => FlowEnd::ServerClosed,
            Ended::ClientReset => FlowEnd::ClientReset,
            Ended::ServerReset => FlowEnd::ServerReset,
            Ended::IdleTimeout => FlowEnd::IdleTimeout,
            Ended::TotalTimeout => FlowEnd::TotalTimeout,
            Ended::Cut => FlowEnd::Cut,
        }
    }
}

/// How long a flow lasts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without a byte.
    pub idle: Duration,
    /// Whatever is going on.
    pub by: Option<Instant>,
    /// Peers that are silent for so long are probed.
    pub keepalive: Option<Duration>,
}

impl Limits {
    /// When, and why, it ends if nothing comes any more.
    fn end(&self, last: Instant) -> (Instant, Ended) {
        let idle_at = last + self.idle;
        match self.by.filter(|by| *by < idle_at) {
            Some(by) => (by, Ended::TotalTimeout),
            None => (idle_at, Ended::IdleTimeout),
        }
    }
}

/// One that has lasted for so long may last longer: peers are probed from then on. The system counts from their last byte, and
/// most flows never come to the eight calls that it takes to say so.
const SETTLED: Duration = Duration::from_secs(1);

/// A flow whose server is connected to.
pub struct Relay<'a> {
    client: Stream,
    server: Stream,
    up: Direction,
    down: Direction,
    /// Who has ended first.
    first: Option<Ended>,
    pipes: &'a Pipes,
}

/// A half, until it can do no more.
struct Direction {
    half: Half,
    over: bool,
}

impl Direction {
    fn new(ahead: Bytes) -> Direction {
        Direction { half: Half::new(ahead), over: false }
    }

    /// A side that broke, when it does.
    fn poll(&mut self, cx: &mut Context<'_>, mut sides: Sides<'_>) -> Option<Broken> {
        if self.over {
            return None;
        }
        match self.half.poll(cx, &mut sides) {
            Poll::Pending => None,
            Poll::Ready(done) => {
                self.over = true;
                done.err()
            }
        }
    }
}

impl<'a> Relay<'a> {
    pub fn new((client, ahead): (Stream, Bytes), server: Stream, pipes: &'a Pipes) -> Relay<'a> {
        let (up, down) = (Direction::new(ahead), Direction::new(Bytes::new()));
        Relay { client, server, up, down, first: None, pipes }
    }

    /// Until either side, or a deadline, ends it. `moved` is what went up and down so far.
    pub async fn run(&mut self, limits: Limits, moved: &mut (u64, u64)) -> Ended {
        let mut timer = Timer::default();
        let mut last = Instant::now();
        let mut settles = limits.keepalive.map(|_| last + SETTLED);
        poll_fn(|cx| {
            if let Some(ended) = self.poll(cx) {
                *moved = self.moved();
                return Poll::Ready(ended);
            }
            let now_moved = self.moved();
            if now_moved != *moved {
                *moved = now_moved;
                last = Instant::now();
                // bytes move often, and deadlines seldom come
                if timer.is_set_beyond(last) {
                    return Poll::Pending;
                }
            }
            let (at, ended) = limits.end(last);
            if let Some(settled) = settles.filter(|settled| *settled < at) {
                ready!(timer.poll(cx, settled));
                settles = None;
                self.client.keep_alive(limits.keepalive);
                self.server.keep_alive(limits.keepalive);
            }
            timer.poll(cx, at).map(|()| ended)
        })
        .await
    }

    fn moved(&self) -> (u64, u64) {
        (self.up.half.moved(), self.down.half.moved())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        let Relay { client, server, up, down, pipes, .. } = self;
        let last = down.half.is_shut();
        let up_broke = up.poll(cx, Sides { from: client, to: server, pipes, last });
        if up_broke == Some(Broken::To { unfinished: true }) {
            down.half.expect_no_end();
        }
        let last = up.half.is_shut();
        let down_broke = down.poll(cx, Sides { from: server, to: client, pipes, last });
        if down_broke == Some(Broken::To { unfinished: true }) {
            up.half.expect_no_end();
        }
        match (up_broke, down_broke) {
            // what it has said before is still good, and may be on its way
            (Some(Broken::To { .. }), None) => self.first = Some(Ended::ServerReset),
            (None, Some(Broken::To { .. })) => self.first = Some(Ended::ClientReset),
            (Some(Broken::From), _) | (_, Some(Broken::To { .. })) => {
                return Some(self.broke(Ended::ClientReset));
            }
            (Some(Broken::To { .. }), _) | (_, Some(Broken::From)) => {
                return Some(self.broke(Ended::ServerReset));
            }
            (None, None) => {}
        }
        if self.first.is_none() {
            self.first = match (self.up.half.has_ended(), self.down.half.has_ended()) {
                (true, _) => Some(Ended::ClientClosed),
                (false, true) => Some(Ended::ServerClosed),
                (false, false) => None,
            };
        }
        let first = self.first.filter(|_| self.up.over && self.down.over)?;
        Some(first)
    }

    /// A side has broken, which the other is to see.
    fn broke(&mut self, ended: Ended) -> Ended {
        self.client.break_off();
        self.server.break_off();
        // who broke before is the cause
        match self.first {
            Some(first @ (Ended::ClientReset | Ended::ServerReset)) => first,
            Some(_) | None => ended,
        }
    }
}

#[cfg(test)]
mod tests;
