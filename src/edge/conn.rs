//! Our stream: Pingora's IO over a socket, plaintext or TLS. `http1` and `http2` wait on it and
//! lend it to Pingora for each request.
//!
//! It gives Pingora the bytes of the current request and no others (what a client sends ahead is
//! held back for the next one, whose head is checked like every head), joins small writes to one,
//! and closes a connection whose client has stopped reading.

use crate::edge::chunked::Chunked;
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
use pingora_core::protocols::{SocketDigest, TimingDigest};
use pingora_http::ResponseHeader;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

mod io_parts;

/// Writes up to this are joined; a response head with a short body goes out as one packet.
const WRITE_BUFFER: usize = 4096;
/// How much of the following requests is read while one is being answered.
const MAX_HELD: usize = 16 * 1024;

/// What is said of a client that sends an HTTP/2 frame, or the head of a request, too slowly.
pub const SLOW_FRAME: &str = "an HTTP/2 frame came too slowly";

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Which of the bytes that arrive the reader may have.
#[derive(Debug)]
enum Gate {
    /// All: between requests, in HTTP/2, and after an `Upgrade`.
    Open,
    /// What is left of a body of known length.
    Length(u64),
    Chunked(Chunked),
    /// None; the request is complete.
    Shut,
}

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
    digests: Digests,
    slot: Option<Slot>,
}

/// What Pingora asks about a connection.
struct Digests {
    facts: Arc<Connection>,
    proxy: Arc<ProxyDigest>,
    socket: Arc<SocketDigest>,
    ssl: Option<Arc<SslDigest>>,
    timing: TimingDigest,
}

impl Conn {
    /// `facts` ride in the digest of every session on this connection.
    pub fn new(io: Transport, facts: Connection, slot: Slot) -> Result<Box<Conn>, String> {
        let id = io.id();
        let facts = Arc::new(facts);
        let socket = SocketDigest::from_raw_fd(id);
        // so that nobody asks the kernel again
        let _ = socket.peer_addr.set(Some(facts.peer.into()));
        let _ = socket.local_addr.set(Some(facts.local.into()));
        let response = ResponseHeader::build(200, Some(0)).map_err(|e| e.to_string())?;
        let digests = Digests {
            proxy: Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(facts.clone())))),
            socket: Arc::new(socket),
            ssl: facts
                .tls
                .as_ref()
                .map(|tls| Arc::new(SslDigest::new(tls.cipher, tls.version, None, None, Vec::new()))),
            timing: TimingDigest { established_ts: SystemTime::now(), ..TimingDigest::default() },
            facts,
        };
        let limits = &digests.facts.listener.limits;
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
            digests,
            slot: Some(slot),
        }))
    }

    pub fn facts(&self) -> &Arc<Connection> {
        &self.digests.facts
    }

    /// Reads for the next head: lets everything pass, and takes what is there already.
    pub fn begin_head(&mut self) -> BytesMut {
        self.gate = Gate::Open;
        self.receiving = None;
        std::mem::take(&mut self.held)
    }

    /// Leaves in `read` what belongs to the request with this head, and holds back what follows.
    /// From now on only the rest of its body can be read. After an `Upgrade` everything belongs
    /// to it, as the next bytes may be of another protocol.
    pub fn begin_body(&mut self, read: &mut BytesMut, head: &Head) -> Result<(), &'static str> {
        self.gate = match head.framing {
            _ if head.upgrade => Gate::Open,
            Framing::None => Gate::Shut,
            Framing::Length(length) => Gate::Length(length),
            Framing::Chunked => Gate::Chunked(Chunked::default()),
        };
        let limits = &self.digests.facts.listener.limits;
        self.receiving = (head.framing != Framing::None && !head.upgrade)
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

    /// Puts bytes back to be read by whoever speaks the protocol they begin.
    pub fn unread(&mut self, bytes: BytesMut) {
        self.gate = Gate::Open;
        self.held = bytes;
    }

    /// Whether the body of the current request has been read to its end.
    pub fn body_done(&self) -> bool {
        matches!(self.gate, Gate::Shut | Gate::Open)
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

    /// Nothing more is read or written once its time is over. A WebSocket is told so, if no frame
    /// is half-way.
    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.slot.as_ref().is_some_and(|slot| slot.seat().is_cut()) {
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

    /// So many of these bytes were taken to be sent.
    fn passed(&mut self, bufs: &[IoSlice<'_>], taken: usize) {
        if let Some((watch, _)) = self.frames.as_deref_mut() {
            watch.sent(taken);
        }
        let Some(tunnel) = &mut self.tunnel else { return };
        let mut left = taken;
        for buf in bufs {
            let here = left.min(buf.len());
            tunnel.pass(buf.get(..here).unwrap_or_default());
            left -= here;
        }
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

    /// Reads from the socket and notes when it is of no more use.
    fn poll_io(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.broken |= result.is_err();
        Poll::Ready(result)
    }

    /// Its client has sent frames for which it ends.
    fn flooded(&self) -> bool {
        self.frames.as_deref().is_some_and(|(watch, _)| watch.is_over())
    }

    /// Everything that is there, for a head or for HTTP/2.
    fn poll_open(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.flooded() {
            return Poll::Pending;
        }
        if !self.held.is_empty() {
            let here = self.held.len().min(buf.remaining());
            buf.put_slice(&self.held.split_to(here));
        } else if self.poll_io(cx, buf)?.is_pending() {
            return self.poll_frame(cx);
        }
        if let Some((watch, _)) = self.frames.as_deref_mut() {
            let new = buf.filled().get(before..).unwrap_or_default();
            if let Err(why) = watch.feed(new, Instant::now()) {
                watch.end(why);
                buf.set_filled(before);
                return self.poll_frame(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more comes of the frame that is awaited, or of any: `http2` says so to the client.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((watch, timer)) = self.frames.as_deref_mut() else { return Poll::Pending };
        if !watch.is_over() {
            let Some(deadline) = watch.deadline() else { return Poll::Pending };
            ready!(timer.poll(cx, deadline));
            watch.end(SLOW_FRAME);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The rest of a body; what is read beyond it is held back.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.send_continue(cx)?;
        let before = buf.filled().len();
        if self.poll_io(cx, buf)?.is_pending() {
            return self.poll_patience(cx);
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        if let Some((pace, _)) = self.receiving.as_deref_mut() {
            pace.moved(new.len());
        }
        match self.gate.admit(new) {
            Ok(taken) => {
                self.held.extend_from_slice(new.get(taken..).unwrap_or_default());
                buf.set_filled(before + taken);
                Poll::Ready(Ok(()))
            }
            Err(why) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
        }
    }

    /// The client sends nothing of its body: it may not for ever.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((pace, timer)) = self.receiving.as_deref_mut() else { return Poll::Pending };
        ready!(timer.poll(cx, pace.wait()));
        // the client may still be told: it is not broken
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client sends its body too slowly")))
    }

    /// The body is wanted: that is when the client is told, and not when the request has been
    /// answered without it.
    fn send_continue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.owes_continue {
            self.owes_continue = false;
            self.join(CONTINUE);
            // what the socket does not take now goes before the answer
            if let Poll::Ready(result) = self.poll_flush_buffer(cx) {
                result?;
            }
            if let Poll::Ready(result) = self.send(cx, |io, cx| io.poll_flush(cx)) {
                result?;
            }
        }
        Ok(())
    }

    /// Nothing is left of the request, but Pingora reads on to learn that the client has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.held.len() < MAX_HELD {
            let mut stack = [const { MaybeUninit::uninit() }; 1024];
            let mut buf = ReadBuf::uninit(&mut stack);
            ready!(self.poll_io(cx, &mut buf))?;
            self.held.extend_from_slice(buf.filled());
            if buf.filled().is_empty() {
                // a client may send its last requests and close its side
                self.ended = true;
            }
        }
        if self.held.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// A write to the socket, given up when the client takes nothing for too long.
    fn send<T: Moved>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Transport>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match write(Pin::new(&mut self.io), cx) {
            Poll::Ready(result) => {
                self.sending.moved(result.as_ref().map_or(0, Moved::bytes));
                self.broken |= result.is_err();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.timer.poll(cx, self.sending.wait()));
                self.broken = true;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")))
            }
        }
    }

    /// Sends what is buffered and then `bufs`, in one system call if the socket takes it.
    fn send_through(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let unsent = self.write_buffer.len() - self.written;
            if unsent == 0 {
                return self.send(cx, |io, cx| io.poll_write_vectored(cx, bufs));
            }
            let buffer = std::mem::take(&mut self.write_buffer);
            let mut slices = [IoSlice::new(&[]); 16];
            let ours = IoSlice::new(buffer.get(self.written..).unwrap_or_default());
            let mut count = 0;
            for (slot, slice) in slices.iter_mut().zip(std::iter::once(ours).chain(bufs.iter().copied())) {
                *slot = slice;
                count += 1;
            }
            let result =
                self.send(cx, |io, cx| io.poll_write_vectored(cx, slices.get(..count).unwrap_or_default()));
            self.write_buffer = buffer;
            let sent = ready!(result)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += sent.min(unsent);
            if sent >= unsent {
                self.write_buffer.clear();
                self.written = 0;
            }
            if sent > unsent {
                return Poll::Ready(Ok(sent - unsent));
            }
        }
    }

    /// Puts `bytes` into the buffer if they are few enough to be joined with others.
    fn join(&mut self, bytes: &[u8]) {
        if self.write_buffer.capacity() == 0 {
            self.write_buffer.reserve(WRITE_BUFFER / 2);
        }
        self.write_buffer.extend_from_slice(bytes);
    }

    fn poll_flush_buffer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write_buffer.is_empty() {
            let buffer = std::mem::take(&mut self.write_buffer);
            let written = self.written;
            let result = self.send(cx, |io, cx| io.poll_write(cx, buffer.get(written..).unwrap_or_default()));
            self.write_buffer = buffer;
            let sent = ready!(result)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += sent;
            if self.written >= self.write_buffer.len() {
                self.write_buffer.clear();
                self.written = 0;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What became of a write.
trait Moved {
    /// How much the client has taken with it.
    fn bytes(&self) -> usize;
}

impl Moved for usize {
    fn bytes(&self) -> usize {
        *self
    }
}

/// A flush or the end: what they move was counted when it was written.
impl Moved for () {
    fn bytes(&self) -> usize {
        0
    }
}

impl Gate {
    /// How many of `bytes` belong to the request; shuts at its end.
    fn admit(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let taken = match self {
            Gate::Open => bytes.len(),
            Gate::Shut => 0,
            Gate::Length(left) => {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                *left -= here;
                here as usize
            }
            Gate::Chunked(chunked) => chunked.feed(bytes)?,
        };
        let end = match self {
            Gate::Open | Gate::Shut => false,
            Gate::Length(left) => *left == 0,
            Gate::Chunked(chunked) => chunked.done(),
        };
        if end {
            *self = Gate::Shut;
        }
        Ok(taken)
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
