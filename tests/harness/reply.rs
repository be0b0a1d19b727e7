//! What a test backend answers: an ordinary response, or one of the ways in which servers go wrong.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// One answer of a backend. Ordinary by default; the builder methods make it slow, broken or absent.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    wait: Duration,
    drip: Option<Duration>,
    ending: Ending,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// The response is whole and the connection stays open for the next request.
    KeepAlive,
    /// The response is whole and the connection is closed after it.
    Close,
    /// The connection is reset before any byte of the response.
    Reset,
    /// Nothing is ever answered; the connection stays open.
    Hang,
    /// Half of the announced body is sent, then the connection is closed.
    CutShort,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length,
    Chunked,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            wait: Duration::ZERO,
            drip: None,
            ending: Ending::KeepAlive,
            framing: Framing::Length,
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    pub fn status(status: u16) -> Self {
        Self::new(status, format!("status {status}"))
    }

    /// The connection is reset instead of an answer.
    pub fn reset() -> Self {
        Self { ending: Ending::Reset, ..Self::ok("") }
    }

    /// The request is read and never answered.
    pub fn hang() -> Self {
        Self { ending: Ending::Hang, ..Self::ok("") }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits before the first byte of the answer.
    pub fn after(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Sends the body one byte at a time with this pause between two bytes.
    pub fn dripping(self, pause: Duration) -> Self {
        Self { drip: Some(pause), ..self }
    }

    pub fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// Closes the connection after a whole answer.
    pub fn then_close(self) -> Self {
        Self { ending: Ending::Close, ..self }
    }

    /// Announces the whole body, sends half of it and closes.
    pub fn cut_short(self) -> Self {
        Self { ending: Ending::CutShort, ..self }
    }

    /// Writes the answer; `Ok(true)` when the connection is to stay open.
    pub(super) fn write_to(&self, stream: &mut TcpStream, head_only: bool) -> io::Result<bool> {
        std::thread::sleep(self.wait);
        match self.ending {
            Ending::Reset => {
                socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
                return Ok(false);
            }
            Ending::Hang => return Ok(true),
            Ending::KeepAlive | Ending::Close | Ending::CutShort => {}
        }
        let whole = self.drip.is_none() && self.framing == Framing::Length && self.ending != Ending::CutShort;
        if whole && !head_only {
            // at once, so that a backend that is stopped has answered in full or not at all
            stream.write_all(&[self.head().as_bytes(), &self.body].concat())?;
        } else {
            stream.write_all(self.head().as_bytes())?;
            if !head_only {
                self.write_body(stream)?;
            }
        }
        match self.ending {
            Ending::KeepAlive => Ok(true),
            Ending::Close | Ending::CutShort | Ending::Reset | Ending::Hang => {
                stream.shutdown(Shutdown::Write)?;
                Ok(false)
            }
        }
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Because\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            Framing::Length if self.status == 204 || self.status == 304 => {}
            Framing::Length => head.push_str(&format!("content-length: {}\r\n", self.body.len())),
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        }
        if self.ending == Ending::Close {
            head.push_str("connection: close\r\n");
        }
        head + "\r\n"
    }

    fn write_body(&self, stream: &mut TcpStream) -> io::Result<()> {
        let cut = self.ending == Ending::CutShort;
        let body = if cut { &self.body[..self.body.len() / 2] } else { &self.body[..] };
        let piece = if self.drip.is_some() { 1 } else { body.len().max(1) };
        for part in body.chunks(piece) {
            if self.framing == Framing::Chunked {
                stream.write_all(format!("{:x}\r\n", part.len()).as_bytes())?;
            }
            stream.write_all(part)?;
            if self.framing == Framing::Chunked {
                stream.write_all(b"\r\n")?;
            }
            std::thread::sleep(self.drip.unwrap_or(Duration::ZERO));
        }
        if self.framing == Framing::Chunked && !cut {
            stream.write_all(b"0\r\n\r\n")?;
        }
        Ok(())
    }
}
