//! The answer to a request of HTTP/1.1 on its way out: the head as bytes, the framing of the body (RFC 9112 §6), and
//! what has been sent. Pure but for the connection it is written to; called by `exchange`.

use crate::edge::conn::Conn;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{HeaderNameVariant, ResponseHeader};
use std::io::{self, IoSlice, Write as _};
use tokio::io::AsyncWriteExt;

/// So many pieces of a body are sent at once: as many as Pingora passes on at once.
const PIECES: usize = 4;
/// The size of a chunk and its line end are not longer.
const CHUNK_SIZE: usize = 18;

/// Pieces of a body that are sent together.
#[derive(Default)]
pub struct Pieces {
    all: [Bytes; PIECES],
    count: usize,
}

impl Pieces {
    pub fn of(piece: Bytes) -> Self {
        let mut pieces = Pieces::default();
        pieces.push(piece);
        pieces
    }

    /// Only while it [is not full](Self::is_full).
    pub fn push(&mut self, piece: Bytes) {
        if let Some(slot) = self.all.get_mut(self.count).filter(|_| !piece.is_empty()) {
            *slot = piece;
            self.count += 1;
        }
    }

    pub fn is_full(&self) -> bool {
        self.count == PIECES
    }

    fn len(&self) -> usize {
        self.all.iter().map(Bytes::len).sum()
    }

    /// Leaves no more than the first `left` bytes.
    fn shorten(&mut self, mut left: usize) {
        for piece in &mut self.all {
            piece.truncate(left);
            left -= piece.len();
        }
    }
}

/// What has become of the answer.
#[derive(Default)]
pub struct Outgoing {
    /// The last head that was sent, the final one in the end.
    head: Option<Box<ResponseHeader>>,
    rest: Rest,
    bytes: usize,
    /// Something waits to be flushed.
    unflushed: bool,
}

/// What is still to come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    #[default]
    Head,
    Length(u64),
    Chunked,
    /// Until the connection is closed.
    Close,
    Nothing,
}

/// How the answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// The method of the request has an answer without body.
    pub to_head: bool,
    /// The client of HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
    pub final_only: bool,
    /// The request and the gate would keep the connection.
    pub keep: bool,
    /// It asks for a switch to another protocol.
    pub upgrade: bool,
}

/// What became of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is none for this client, or there has been one.
    Not,
    Interim,
    /// Another protocol follows.
    Switch,
    /// The connection can be used again afterwards, and the client has been told whether.
    Final {
        keep: bool,
    },
}

impl Outgoing {
    /// The last head that was sent.
    pub fn head(&self) -> Option<&ResponseHeader> {
        self.head.as_deref()
    }

    /// How much of the body has been sent, without its framing.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the answer is complete.
    pub fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Whether the client has all of it, as far as is in our hands.
    pub fn is_sent(&self) -> bool {
        self.is_done() && !self.unflushed
    }

    /// Whether a body of this length has to be waited for, rather than the head sent alone.
    pub fn awaits_body(&self) -> bool {
        matches!(self.rest, Rest::Length(_))
    }

    /// Puts a head in front of what is sent next.
    pub fn put_head(&mut self, conn: &mut Conn, head: Box<ResponseHeader>, manner: Manner) -> Sent {
        let interim = head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
        if self.rest != Rest::Head {
            log::warn!("a second answer to one request is not sent");
            return Sent::Not;
        }
        if interim && manner.final_only {
            return Sent::Not;
        }
        let sent = if interim {
            Sent::Interim
        } else if head.status == StatusCode::SWITCHING_PROTOCOLS {
            self.rest = if manner.upgrade { Rest::Close } else { Rest::Nothing };
            Sent::Switch
        } else {
            self.rest = framing(&head, manner.to_head);
            Sent::Final { keep: manner.keep && self.rest != Rest::Close }
        };
        conn.append(|wire| write_head(wire, &head, sent));
        self.unflushed = true;
        self.head = Some(head);
        sent
    }

    /// Sends these pieces of the body, as far as they belong to it, and with `end` what ends it. Lent, as they are many
    /// bytes to move into a future.
    ///
    /// # Errors
    /// The client takes no more (`WriteError`).
    pub async fn send(&mut self, conn: &mut Conn, pieces: &mut Pieces, end: bool) -> Result<()> {
        if let Rest::Length(left) = self.rest
            && pieces.len() as u64 > left
        {
            log::warn!("an answer is longer than its Content-Length says: what is too much is left out");
            pieces.shorten(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let total = pieces.len();
        let Some(rest) = self.after(total, end) else { return Ok(()) };
        let chunked = self.rest == Rest::Chunked;
        let mut size = [0; CHUNK_SIZE];
        let size = match chunked && total > 0 {
            true => chunk_size(&mut size, total),
            false => b"",
        };
        let after: &[u8] = match (chunked, total > 0, end) {
            (true, true, true) => b"\r\n0\r\n\r\n",
            (true, true, false) => b"\r\n",
            (true, false, true) => b"0\r\n\r\n",
            (true, false, false) | (false, ..) => b"",
        };
        let mut all = [IoSlice::new(&[]); PIECES + 2];
        let [first, middle @ .., last] = &mut all;
        (*first, *last) = (IoSlice::new(size), IoSlice::new(after));
        for (slot, piece) in middle.iter_mut().zip(&pieces.all) {
            *slot = IoSlice::new(piece);
        }
        self.unflushed = true;
        conn.send_all(&mut all).await.map_err(failed)?;
        // not before: who gives up half-way has not sent it
        self.rest = rest;
        self.bytes += total;
        Ok(())
    }

    /// What will be to come after so many bytes more; `None` when nothing belongs to the answer.
    fn after(&self, total: usize, end: bool) -> Option<Rest> {
        Some(match self.rest {
            Rest::Head | Rest::Nothing => return None,
            Rest::Length(left) => match left.saturating_sub(total as u64) {
                0 => Rest::Nothing,
                left => Rest::Length(left),
            },
            Rest::Chunked | Rest::Close if end => Rest::Nothing,
            rest @ (Rest::Chunked | Rest::Close) => rest,
        })
    }

    /// The answer has ended, says who made it.
    ///
    /// # Errors
    /// It was shorter than its head says, or the client takes no more.
    pub async fn end(&mut self, conn: &mut Conn) -> Result<()> {
        if let Rest::Length(left) = self.rest {
            let why = format!("the answer ends {left} bytes before its Content-Length");
            return Err(Error::explain(CUT_SHORT, why));
        }
        match self.rest {
            // nothing ends it but its length, or it has been said
            Rest::Head | Rest::Nothing => Ok(()),
            _ => self.send(conn, &mut Pieces::default(), true).await,
        }
    }

    /// Sees to it that the client has everything.
    ///
    /// # Errors
    /// The client takes no more (`WriteError`).
    pub async fn flush(&mut self, conn: &mut Conn) -> Result<()> {
        if std::mem::take(&mut self.unflushed) {
            conn.flush().await.map_err(failed)?;
        }
        Ok(())
    }
}

/// An answer that is shorter than its head says.
const CUT_SHORT: ErrorType = ErrorType::new("PrematureBodyEnd");

fn failed(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "writing to the client", error).into_down()
}

/// Where the body of an answer with this head ends (RFC 9112 §6.3).
fn framing(head: &ResponseHeader, to_head: bool) -> Rest {
    let bodyless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if to_head || bodyless {
        return Rest::Nothing;
    }
    if is_chunked(&head.headers) {
        return Rest::Chunked;
    }
    match length(&head.headers) {
        Some(0) => Rest::Nothing,
        Some(length) => Rest::Length(length),
        None => Rest::Close,
    }
}

/// Whether `chunked` is the last coding.
fn is_chunked(headers: &HeaderMap) -> bool {
    let Some(last) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() else { return false };
    let last = last.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// What `Content-Length` says, if everything that says it agrees.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut all = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let digits = |text: &[u8]| -> Option<u64> {
        let text = text.trim_ascii();
        let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        plain.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
    };
    let first = digits(all.next()?)?;
    all.all(|other| digits(other) == Some(first)).then_some(first)
}

/// The size of a chunk (RFC 9112 §7.1), written into `room`.
fn chunk_size(room: &mut [u8; CHUNK_SIZE], size: usize) -> &[u8] {
    let mut left = &mut room[..];
    // 16 digits and a line end fit
    let _ = write!(left, "{size:X}\r\n");
    let unused = left.len();
    room.get(..CHUNK_SIZE - unused).unwrap_or_default()
}

/// A head on the wire (RFC 9112 §4). Date and Connection are ours, whatever the server has said.
fn write_head(wire: &mut Vec<u8>, head: &ResponseHeader, sent: Sent) {
    wire.extend_from_slice(b"HTTP/1.1 ");
    wire.extend_from_slice(head.status.as_str().as_bytes());
    wire.push(b' ');
    wire.extend_from_slice(head.get_reason_phrase().unwrap_or_default().as_bytes());
    wire.extend_from_slice(b"\r\n");
    let ours = matches!(sent, Sent::Final { .. });
    // the closure does not fail
    let _ = head.map(|name, value| {
        let name = match &name {
            HeaderNameVariant::Case(name) => name.as_slice(),
            HeaderNameVariant::Titled(name) => name.as_bytes(),
        };
        let theirs = match name.len() {
            4 => name.eq_ignore_ascii_case(b"date"),
            10 => name.eq_ignore_ascii_case(b"connection"),
            _ => false,
        };
        if !(ours && theirs) {
            line(wire, name, value.as_bytes());
        }
        Ok(())
    });
    if let Sent::Final { keep } = sent {
        line(wire, b"Date", get_cached_date().as_bytes());
        line(wire, b"Connection", if keep { b"keep-alive" } else { b"close" });
    }
    wire.extend_from_slice(b"\r\n");
}

fn line(wire: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    wire.reserve(name.len() + value.len() + 4);
    wire.extend_from_slice(name);
    wire.extend_from_slice(b": ");
    wire.extend_from_slice(value);
    wire.extend_from_slice(b"\r\n");
}
