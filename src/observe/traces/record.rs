//! What is told of a request and its tries: owned values, so that they can wait for their turn and be spelt out on another
//! thread. Filled in by `http`.
//!
//! What is not here is in no span: queries, headers but `User-Agent`, bodies.

use super::context::{Flags, SpanId, TraceId};
use crate::config::plan::Route;
use http::{HeaderValue, Method};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest text of a client that is told, in bytes: what waits is to have a bound in memory, and a message in size.
const LONGEST: usize = 2048;

/// A text as it is told: a copy of its own, so that the buffer of a whole head does not wait with it; cut where it is too long.
pub fn told(text: &[u8]) -> Box<str> {
    let cut = text.get(..LONGEST).unwrap_or(text);
    // half a character at the end is none
    let whole = match std::str::from_utf8(cut) {
        Err(error) if cut.len() < text.len() && error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => cut.len(),
    };
    String::from_utf8_lossy(cut.get(..whole).unwrap_or_default()).into()
}

/// A request that has ended.
#[derive(Debug)]
pub struct Record {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) flags: Flags,
    /// In the caller's process.
    pub(super) parent: Option<SpanId>,
    /// What was told by somebody whose traces do not go on here.
    pub(super) link: Option<(TraceId, SpanId)>,
    pub(super) state: Option<HeaderValue>,
    pub(super) began: SystemTime,
    pub(super) request: Request,
    pub(super) tries: Vec<(SpanId, Try)>,
}

impl Record {
    /// How many spans it becomes.
    pub(super) fn spans(&self) -> u64 {
        1 + self.tries.len() as u64
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub https: bool,
    /// The host asked for, if any.
    pub host: Box<str>,
    /// Of the listener, where it has one.
    pub port: Option<u16>,
    /// Without its query.
    pub path: Box<str>,
    /// `1.1`, `2`.
    pub version: &'static str,
    pub route: Option<Arc<Route>>,
    pub listener: Box<str>,
    /// The group's name.
    pub upstream: Option<Box<str>>,
    /// The client, as it is believed to be.
    pub client: Option<IpAddr>,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    pub user_agent: Option<Box<str>>,
    pub request_id: Box<str>,
    /// 0: the client went before there was an answer.
    pub status: u16,
    /// What a call of gRPC has ended with.
    pub grpc_status: Option<u16>,
    pub received: u64,
    pub sent: u64,
    pub queued: Option<Duration>,
    /// Second tries beside a first that were in vain.
    pub hedged: u16,
    pub took: Duration,
    /// It failed, and that is for its server or the gate to answer for.
    pub failed: bool,
    /// In a few words that are always the same for the same reason.
    pub error: Option<&'static str>,
}

/// A request was sent to a server, or was to be.
#[derive(Debug)]
pub struct Try {
    /// From the beginning of the request to that of the try.
    pub after: Duration,
    pub took: Duration,
    pub method: Method,
    pub path: Box<str>,
    pub https: bool,
    /// As its group calls it: `127.0.0.1:3001`, `unix:/run/app.sock`.
    pub server: Box<str>,
    /// `None`: it is at a unix socket.
    pub address: Option<SocketAddr>,
    /// Of the HTTP that was spoken, if a request was sent.
    pub version: Option<&'static str>,
    /// How long connecting took, TLS included; none on a connection that was kept, nor on one that did not come about.
    pub connect: Option<Duration>,
    pub reused: bool,
    /// From the beginning of the try to the head of the answer.
    pub first_byte: Option<Duration>,
    pub status: Option<u16>,
    /// How often the request had been sent before.
    pub resends: u16,
    pub failure: Option<Failure>,
    /// Why the request was sent again: what the try before has ended with.
    pub because: Option<Cow<'static, str>>,
}

/// Why a try failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// One of few words: `ConnectRefused`, `ReadTimedout`, `503`.
    pub kind: Cow<'static, str>,
    /// In words for people.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(&*told(b"/a\xff"), "/a\u{fffd}");
        assert_eq!(told(&[b'a'; LONGEST]).len(), LONGEST);
        assert_eq!(told(&[b'a'; LONGEST + 1]).len(), LONGEST);
        let umlauts = format!("a{}", "\u{e4}".repeat(LONGEST));
        assert_eq!(*told(umlauts.as_bytes()), umlauts[..LONGEST - 1]);
    }
}
