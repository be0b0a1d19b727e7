//! A server that writes down every byte it gets and takes them apart as strictly as HTTP can be read: what it does not
//! understand in exactly one way it complains about. For tests of what reaches a server from hostile clients.

use super::net::ServerAddress;
use super::raw_server::RawServer;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers every whole request with 200 `ok`.
pub struct Recorder {
    server: RawServer,
    seen: Arc<Mutex<Seen>>,
}

/// What has come so far, in the order of its end.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `METHOD target`, and ` + N bytes` when there is a body.
    pub requests: Vec<String>,
    /// The exact bytes of all connections, in the order of their arrival.
    pub bytes: Vec<u8>,
    /// Connections on which a request has begun and is not complete.
    pub unfinished: usize,
    /// What could be understood in more than one way, or in none.
    pub complaints: Vec<String>,
}

impl Recorder {
    pub fn start(label: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let book = seen.clone();
        Self { server: RawServer::start(label, move |stream| record(stream, &book)), seen }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// What was seen, which is forgotten.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl ServerAddress for Recorder {
    fn label(&self) -> &str {
        self.server.label()
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

fn record(mut stream: TcpStream, book: &Mutex<Seen>) {
    let mut rest = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut begun = false;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut seen = book.lock().unwrap();
        seen.bytes.extend_from_slice(&buffer[..count]);
        rest.extend_from_slice(&buffer[..count]);
        let mut answers = Vec::new();
        loop {
            match request(&rest) {
                Ok(Some((end, line))) => {
                    answers.extend_from_slice(answer(&line));
                    seen.requests.push(line);
                    rest.drain(..end);
                }
                Ok(None) => break,
                Err(why) => {
                    seen.complaints.push(format!("{why}: {}", rest.escape_ascii()));
                    return;
                }
            }
        }
        if begun == rest.is_empty() {
            begun = !begun;
            seen.unfinished = if begun { seen.unfinished + 1 } else { seen.unfinished.saturating_sub(1) };
        }
        drop(seen);
        if !answers.is_empty() && stream.write_all(&answers).is_err() {
            return;
        }
    }
}

fn answer(line: &str) -> &'static [u8] {
    match line.starts_with("HEAD ") {
        true => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        false => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    }
}

/// The first whole request in `bytes`, where it ends and what it is.
fn request(bytes: &[u8]) -> Result<Option<(usize, String)>, &'static str> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = Vec::new();
    let mut rest = &bytes[..end];
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if lines.iter().any(|line| line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))) {
        return Err("a bare line end or NUL");
    }
    let first = line_of(lines[0])?;
    let framing = framing(&lines[1..])?;
    let body = &bytes[end + 4..];
    let Some((used, size)) = framing.find(body)? else { return Ok(None) };
    let line = if size == 0 { first } else { format!("{first} + {size} bytes") };
    Ok(Some((end + 4 + used, line)))
}

fn line_of(line: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "a request line that is not text")?;
    let words: Vec<_> = text.split(' ').collect();
    match words[..] {
        [method, target, "HTTP/1.1"] if !method.is_empty() && target.starts_with(['/', '*']) => {
            Ok(format!("{method} {target}"))
        }
        _ => Err("a strange request line"),
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

/// From all header lines, each of which must be beyond doubt.
fn framing(lines: &[&[u8]]) -> Result<Framing, &'static str> {
    let (mut hosts, mut framings) = (0, Vec::new());
    for line in lines {
        let colon = line.iter().position(|b| *b == b':').ok_or("a header without a colon")?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty()
            || !name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
        {
            return Err("a header name that is no token");
        }
        if value.iter().any(|b| *b < b' ' && *b != b'\t' || *b == 0x7f) {
            return Err("a control character in a header");
        }
        match name.to_ascii_lowercase().replace_underscores().as_slice() {
            b"host" => hosts += 1,
            b"content-length" => {
                let digits =
                    std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                let length = digits.and_then(|digits| digits.parse().ok()).ok_or("a strange length")?;
                framings.push(Framing::Length(length));
            }
            b"transfer-encoding" if value == b"chunked" => framings.push(Framing::Chunked),
            b"transfer-encoding" => return Err("a strange coding"),
            b"upgrade" if value != b"websocket" => return Err("an upgrade to something else"),
            b"te" | b"proxy" | b"http2-settings" | b"keep-alive" => {
                return Err("a header that should not pass");
            }
            _ => {}
        }
    }
    match (hosts, framings.len()) {
        (1, 0) => Ok(Framing::Length(0)),
        (1, 1) => Ok(framings.remove(0)),
        (1, _) => Err("more than one framing"),
        _ => Err("not one Host"),
    }
}

trait ReplaceUnderscores {
    fn replace_underscores(self) -> Self;
}

impl ReplaceUnderscores for Vec<u8> {
    fn replace_underscores(mut self) -> Self {
        self.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
        self
    }
}

impl Framing {
    /// How many bytes the body takes, and how many of these are its own; `None` when it is not complete.
    fn find(&self, body: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
        match self {
            Framing::Length(length) => Ok((body.len() >= *length).then_some((*length, *length))),
            Framing::Chunked => chunks(body),
        }
    }
}

fn chunks(body: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let (mut at, mut size) = (0, 0);
    loop {
        let Some(line) = find(&body[at..], b"\r\n") else { return Ok(None) };
        let digits = std::str::from_utf8(&body[at..at + line]).map_err(|_| "a strange chunk size")?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("a strange chunk size");
        }
        let chunk = usize::from_str_radix(digits, 16).map_err(|_| "a strange chunk size")?;
        at += line + 2;
        let Some(end) = body.get(at + chunk..at + chunk + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err("a chunk of another size than it says, or a trailer");
        }
        (at, size) = (at + chunk + 2, size + chunk);
        if chunk == 0 {
            return Ok(Some((at, size)));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
