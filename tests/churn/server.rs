//! The server behind the gate: small answers, a slow download, an upload that it sums up, and WebSockets that it echoes.

use crate::harness::RawServer;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use twox_hash::XxHash3_64;

/// A body is so many pieces, each of so many bytes, with a pause before each.
pub const PIECES: usize = 48;
pub const PIECE: usize = 32 * 1024;
pub const PAUSE: Duration = Duration::from_millis(50);

/// What every small answer says.
pub const SMALL: &str = "churn";

pub fn start(label: &str) -> RawServer {
    // whoever goes away ends the conversation
    RawServer::start(label, |stream| drop(serve(stream)))
}

/// The bytes of a piece; no two pieces of a body are the same.
pub fn piece(number: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    std::iter::repeat_with(|| random.u8(..)).take(PIECE).collect()
}

/// What tells one body from another.
pub fn sum(body: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(body))
}

/// A whole body.
pub fn body() -> Vec<u8> {
    (0..PIECES).flat_map(piece).collect()
}

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, mut write) = (BufReader::new(stream.try_clone()?), stream);
    while let Some(head) = read_head(&mut read)? {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/chat" => {
                write.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                )?;
                return echo(&mut read, &mut write);
            }
            "/download" => {
                let length = PIECES * PIECE;
                write!(write, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
                for number in 0..PIECES {
                    std::thread::sleep(PAUSE);
                    write.write_all(&piece(number))?;
                }
            }
            _ => {
                let length = header(&head, "content-length").and_then(|length| length.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                read.read_exact(&mut body)?;
                let answer = if path == "/upload" { sum(&body) } else { SMALL.to_owned() };
                write!(write, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())?;
            }
        }
    }
    Ok(())
}

/// `None` when the client has closed.
fn read_head(read: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if read.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Sends short frames back without their mask, which is of zeros.
fn echo(read: &mut impl Read, write: &mut impl Write) -> io::Result<()> {
    let mut head = [0; 6];
    loop {
        read.read_exact(&mut head)?;
        let [first, length, ..] = head;
        let mut frame = vec![0; usize::from(length & 0x7f)];
        read.read_exact(&mut frame)?;
        frame.splice(0..0, [first, length & 0x7f]);
        write.write_all(&frame)?;
    }
}
