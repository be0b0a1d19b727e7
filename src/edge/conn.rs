//! Our stream over a socket, plaintext or TLS. `http1` waits on it and lends it to each request, `http2` has it read by the
//! h2 crate, as Pingora's IO.
//!
//! - `reading`, `gate`: what of the bytes that arrive is for whom, and how long they may take.
//! - `writing`: what is joined, and how long the client may take to read it.
//! - `io_parts`: what Pingora asks for besides.
//!
//! It gives a request its own bytes and no others (what a client sends ahead is
//! held back for the next one, whose head is checked like every head), joins small writes to one,
//! and closes a connection whose client has stopped reading.

use crate::edge::chunked::Chunked;
use crate::edge::era::Seat;
use crate::edge::frames::FrameWatch;
use crate::edge::head::{Framing, Head};
use crate::edge::linger;
use crate::edge::open::Slot;
use crate::edge::pace::Pace;
use crate::edge::timer::Timer;
use crate::edge::transport::Transport;
use crate::edge::tunnel::{GOING_AWAY, Tunnel};
use crate::http::Connection;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{Digest, SocketDigest, TimingDigest};
use pingora_http::ResponseHeader;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::io::AsyncWrite;

mod gate;
mod io_parts;
mod reading;
mod writing;

use gate::Gate;

/// What is said of a client that sends an HTTP/2 frame, or the head of a request, too slowly.
pub const SLOW_FRAME: &str = "an HTTP/2 frame came too slowly";

/// A connection from a client.
pub struct Conn {
    io: Transport,
    id: i32,
    gate: Gate,
    /// Read, and not given to anyone yet.
    held: BytesMut,
    /// The client has closed its side after what is in `held`.
    ended: bool,
    /// Nothing can be sent any more.
    broken: bool,
    /// The client waits to be told that its body is wanted.
    owes_continue: bool,
    joins_writes: bool,
    write_buffer: Vec<u8>,
    written: usize,
    /// Until the client takes what is to be sent.
    sending: Pace,
    timer: Timer,
    /// Until it sends the body of its request.
    receiving: Option<Box<(Pace, Timer)>>,
    frames: Option<Box<(FrameWatch, Timer)>>,
    /// The client asked for a WebSocket.
    tunnel: Option<Box<Tunnel>>,
    /// Everything has been sent, and our side is closed.
    said_goodbye: bool,
    facts: Arc<Connection>,
    /// What Pingora asks about it.
    digest: Digest,
    slot: Option<Slot>,
}

impl Conn {
    /// `facts` ride in the digest of every request on this connection.
    pub fn new(io: Transport, facts: Connection, slot: Slot) -> Result<Box<Conn>, String> {
        let id = io.id();
        let facts = Arc::new(facts);
        let socket = SocketDigest::from_raw_fd(id);
        // so that nobody asks the kernel again
        let _ = socket.peer_addr.set(Some(facts.peer.into()));
        let _ = socket.local_addr.set(Some(facts.local.into()));
        let response = ResponseHeader::build(200, Some(0)).map_err(|e| e.to_string())?;
        let timing = TimingDigest { established_ts: SystemTime::now(), ..TimingDigest::default() };
        let digest = Digest {
            ssl_digest: facts
                .tls
                .as_ref()
                .map(|tls| Arc::new(SslDigest::new(tls.cipher, tls.version, None, None, Vec::new()))),
            timing_digest: vec![Some(timing)],
            proxy_digest: Some(Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(facts.clone()))))),
            socket_digest: Some(Arc::new(socket)),
        };
        let limits = &facts.listener.limits;
        Ok(Box::new(Conn {
            io,
            id,
            gate: Gate::Open,
            held: BytesMut::new(),
            ended: false,
            broken: false,
            owes_continue: false,
            joins_writes: true,
            write_buffer: Vec::new(),
            written: 0,
            sending: Pace::new(limits.send_timeout.0, limits.min_send_rate.0),
            timer: Timer::default(),
            receiving: None,
            frames: None,
            tunnel: None,
            said_goodbye: false,
            digest,
            slot: Some(slot),
            facts,
        }))
    }

    pub fn facts(&self) -> &Arc<Connection> {
        &self.facts
    }

    /// What Pingora asks about it.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// As [`Self::digest`], to be changed.
    pub fn digest_mut(&mut self) -> &mut Digest {
        &mut self.digest
    }

    /// Reads for the next head: lets everything pass, and takes what is there already.
    pub fn begin_head(&mut self) -> BytesMut {
        self.gate = Gate::Open;
        self.receiving = None;
        std::mem::take(&mut self.held)
    }

    /// Leaves in `read` what belongs to the request with this head, and holds back what follows.
    /// From now on only the rest of its body can be read.
    pub fn begin_body(&mut self, read: &mut BytesMut, head: &Head) -> Result<(), &'static str> {
        self.gate = match head.framing {
            Framing::None => Gate::Shut,
            Framing::Length(length) => Gate::Length(length),
            Framing::Chunked => Gate::Chunked(Chunked::default()),
        };
        let limits = &self.facts.listener.limits;
        self.receiving = (head.framing != Framing::None)
            .then(|| Box::new((Pace::new(limits.body_timeout.0, limits.min_body_rate.0), Timer::default())));
        self.tunnel = match head.upgrade {
            true => Tunnel::asked_for(read.get(..head.end).unwrap_or_default()).map(Box::new),
            false => None,
        };
        let end = head.end + self.gate.admit(read.get(head.end..).unwrap_or_default())?;
        // a client that has sent some of it does not wait
        self.owes_continue = head.expects_continue && end == head.end;
        if end < read.len() {
            self.held = read.split_off(end);
        }
        if head.start > 0 {
            read.advance(head.start);
        }
        Ok(())
    }

    /// The request is over and the server has switched to another protocol: everything that follows is of that.
    pub fn switch(&mut self) {
        self.gate = Gate::Open;
    }

    /// Puts bytes back to be read by whoever speaks the protocol they begin.
    pub fn unread(&mut self, bytes: BytesMut) {
        self.gate = Gate::Open;
        self.held = bytes;
    }

    /// Whether another request may follow: the current one has been read to its end, and all that was written
    /// was taken.
    pub fn is_reusable(&self) -> bool {
        matches!(self.gate, Gate::Shut) && !self.broken && self.write_buffer.is_empty()
    }

    /// Prepares for HTTP/2: frames are watched, and writes are joined by the h2 crate already.
    pub fn watch_frames(&mut self, watch: FrameWatch) {
        self.frames = Some(Box::new((watch, Timer::default())));
        self.joins_writes = false;
    }

    /// Closes it slowly, as the client may still be sending. Call after the last write.
    pub fn abandon(mut self: Box<Self>) {
        linger::close_slowly(std::mem::replace(&mut self.io, Transport::Gone), self.slot.take());
    }

    /// Where it is said that its time is over.
    pub fn seat(&self) -> Option<Arc<Seat>> {
        self.slot.as_ref().map(|slot| slot.seat().clone())
    }

    /// Nothing more is read or written once its time is over. A WebSocket is told so, if no frame
    /// is half-way. `http2` sees to its own end.
    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.frames.is_some() || !self.slot.as_ref().is_some_and(|slot| slot.seat().is_cut()) {
            return Ok(());
        }
        let tunnel = self.tunnel.take();
        if !self.broken && tunnel.is_some_and(|tunnel| tunnel.between_frames()) {
            self.write_buffer.extend_from_slice(&GOING_AWAY);
            // who does not take it now is not waited for
            if matches!(self.poll_flush_buffer(cx), Poll::Ready(Ok(()))) {
                self.said_goodbye = matches!(Pin::new(&mut self.io).poll_shutdown(cx), Poll::Ready(Ok(())));
            }
        }
        self.broken = true;
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut: the listener or the process ends"))
    }

    /// Whether a goodbye is due before the socket is closed.
    pub fn is_tls(&self) -> bool {
        matches!(self.io, Transport::Tls(_))
    }

    /// Gives back what an idle connection does not need.
    pub fn trim(&mut self) {
        if self.write_buffer.is_empty() {
            self.write_buffer = Vec::new();
        }
    }
}

impl Drop for Conn {
    /// Closing a socket with unread bytes in it resets the connection, and the client may lose
    /// the answer that says why. Such a connection is closed slowly; so is a WebSocket whose client
    /// has been told.
    fn drop(&mut self) {
        let unread = !self.held.is_empty() || matches!(self.gate, Gate::Length(_) | Gate::Chunked(_));
        let plain = self.broken || (!self.flooded() && (!unread || self.frames.is_some()));
        if plain && !self.said_goodbye {
            return;
        }
        linger::close_slowly(std::mem::replace(&mut self.io, Transport::Gone), self.slot.take());
    }
}

#[cfg(test)]
mod tests;
