//! HTTP/2 by hand: frames one by one, whatever the protocol allows, and what the gate says to them.

use super::PATIENCE;
use super::h2_client::frame;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITISED: u8 = 0x20;
/// Of a whole request without a body.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

/// A header block that spells every field out (RFC 7541 §6.2.2), whatever it holds.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// What the gate says about a stream or the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The status of an answer; 0 when it is not one of those that stand in HPACK's table.
    Status(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    GoAway(u32),
    /// The connection has ended.
    Closed,
    /// Nothing, for a while.
    Silence,
}

/// A connection in plaintext on which nothing is done by itself.
pub struct H2Wire {
    stream: TcpStream,
    read: Vec<u8>,
    /// Frames other than those that [`Said`] tells of.
    pub others: Vec<(u8, u8, u32)>,
}

impl H2Wire {
    /// Connects and sends nothing.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect to the gate");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        let _ = stream.set_nodelay(true);
        Self { stream, read: Vec::new(), others: Vec::new() }
    }

    /// Sends these bytes; that the gate has closed already is for what it says to show.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// What it says next about this stream or the connection.
    pub fn said_about(&mut self, stream: u32) -> Said {
        self.said_within(stream, PATIENCE)
    }

    pub fn said_within(&mut self, stream: u32, patience: Duration) -> Said {
        let deadline = Instant::now() + patience;
        loop {
            while let Some((kind, flags, id, payload)) = self.frame() {
                match kind {
                    HEADERS if id == stream => return Said::Status(status(&payload)),
                    RST_STREAM if id == stream => return Said::Reset(code(&payload)),
                    GOAWAY => return Said::GoAway(payload.get(4..).map_or(0, code)),
                    _ => self.others.push((kind, flags, id)),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Said::Silence;
            }
            self.stream.set_read_timeout(Some(left)).expect("read timeout");
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Said::Closed,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Said::Silence;
                }
                Err(_) => return Said::Closed,
            }
        }
    }

    /// Reads until the connection ends.
    pub fn until_closed(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.said_about(0) == Said::Closed {
                return true;
            }
        }
        false
    }

    fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let head: [u8; 9] = self.read.get(..9)?.try_into().ok()?;
        let end = 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.read.get(9..end)?.to_vec();
        self.read.drain(..end);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some((head[3], head[4], stream, payload))
    }
}

fn code(payload: &[u8]) -> u32 {
    payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
}

/// The status at the beginning of a header block: one of the static table, or three digits after an index of it, plain
/// or in Huffman's code (RFC 7541 §5.2, Appendix B).
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // a change of the table's size may stand first
    let block = if block.first().is_some_and(|b| b & 0xe0 == 0x20) { &block[1..] } else { block };
    match block {
        [index @ 0x88..=0x8e, ..] => STATIC[usize::from(index - 0x88)],
        [0x08 | 0x48, 3, digits @ ..] => {
            std::str::from_utf8(&digits[..3]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
        }
        [0x08 | 0x48, length, digits @ ..] if length & 0x80 != 0 => {
            let bits =
                digits[..usize::from(length & 0x7f)].iter().fold(0u64, |bits, b| bits << 8 | u64::from(*b));
            huffman_digits(bits, u32::from(length & 0x7f) * 8)
        }
        _ => 0,
    }
}

/// Three digits: 0 to 2 have five bits, 3 to 9 six.
fn huffman_digits(bits: u64, mut left: u32) -> u16 {
    let mut number = 0;
    for _ in 0..3 {
        let five = (bits >> (left - 5)) & 0x1f;
        let digit = if five <= 2 {
            left -= 5;
            five
        } else {
            left -= 6;
            ((bits >> left) & 0x3f) - 0x19 + 3
        };
        number = number * 10 + digit as u16;
    }
    number
}

/// A frame of SETTINGS (RFC 9113 §6.5.1).
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A frame whose payload is one number: RST_STREAM, WINDOW_UPDATE.
pub fn number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    frame(kind, 0, stream, &number.to_be_bytes())
}
