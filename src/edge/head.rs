//! The head of an HTTP/1 request, checked byte by byte before anything believes it. Pure: called
//! by `http1` with the bytes read so far, it says "more", "complete" or what to refuse.
//!
//! Stricter than the parser behind it (RFC 9112): what two implementations could read in two ways
//! is refused here, so that nothing ambiguous reaches a server.

use crate::config::file::ListenerLimits;
use crate::http::{Reject, valid_authority};

mod request_line;

pub(super) use request_line::position;
use request_line::{RequestLine, method_of, request_line};

/// Limits of a listener on the heads of its requests.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Request line and headers with their line ends.
    pub bytes: usize,
    pub headers: usize,
    /// The request target.
    pub uri_bytes: usize,
}

impl From<&ListenerLimits> for HeadLimits {
    fn from(limits: &ListenerLimits) -> Self {
        HeadLimits {
            bytes: limits.max_header_bytes.as_usize(),
            headers: limits.max_headers,
            uri_bytes: limits.max_uri_bytes.as_usize(),
        }
    }
}

/// How the end of a request's body is found (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A complete head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Where it begins: 2 after an empty line before the request line, else 0.
    pub start: usize,
    /// Where the body begins.
    pub end: usize,
    pub framing: Framing,
    /// How many headers it has.
    pub headers: usize,
    /// It asks for a WebSocket (RFC 6455 §4.1): what follows may be another protocol. No other is switched to.
    pub upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// Scans a head that grows; every byte is checked once.
#[derive(Debug, Default)]
pub struct Scanner {
    start: usize,
    /// Where the line that is not complete yet begins.
    line: usize,
    /// Up to where there is no line end.
    scanned: usize,
    request: Option<RequestLine>,
    headers: usize,
    hosts: usize,
    content_length: Option<u64>,
    transfer_encoding: bool,
    /// There is an `Upgrade` header, and it is the only one and names a WebSocket.
    upgrade: Option<bool>,
    expects_continue: bool,
}

impl Scanner {
    /// Goes on with `buf`, which holds all bytes from the first on. `None`: not complete yet.
    pub fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Reject> {
        while let Some(rest) = buf.get(self.scanned..).filter(|rest| !rest.is_empty()) {
            let Some(at) = memchr::memchr(b'\n', rest) else {
                self.scanned = buf.len();
                break;
            };
            let lf = self.scanned + at;
            if lf + 1 - self.start > limits.bytes {
                return Err(self.too_large(buf, limits));
            }
            let line = buf.get(self.line..lf).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(Reject::BadRequest("a line of the head ends in a bare LF"));
            };
            let begin = self.line;
            (self.line, self.scanned) = (lf + 1, lf + 1);
            if line.is_empty() {
                match self.request {
                    Some(request) => return self.finish(request, lf + 1).map(Some),
                    // RFC 9112 §2.2: one empty line before the request line is forgiven
                    None if self.start == 0 => self.start = self.line,
                    None => return Err(Reject::BadRequest("empty lines before the request line")),
                }
                continue;
            }
            match self.request {
                None => self.request = Some(request_line(line, begin, limits)?),
                Some(request) => self.field(line, buf, request, limits)?,
            }
        }
        self.partial(buf, limits)?;
        Ok(None)
    }

    /// What can be refused before the line is complete.
    fn partial(&self, buf: &[u8], limits: &HeadLimits) -> Result<(), Reject> {
        if buf.len() - self.start.min(buf.len()) > limits.bytes {
            return Err(self.too_large(buf, limits));
        }
        let line = buf.get(self.line..).unwrap_or_default();
        if self.request.is_some() || matches!(line, [] | [b'\r']) {
            return Ok(());
        }
        let Some((_, rest)) = method_of(line)? else { return Ok(()) };
        match position(rest, b' ') {
            None if rest.len() > limits.uri_bytes => Err(Reject::UriTooLong),
            Some(end) if end > limits.uri_bytes => Err(Reject::UriTooLong),
            // SP HTTP/1.1 CR
            Some(end) if rest.len() > end + 10 => Err(Reject::BadRequest("malformed request line")),
            None | Some(_) => Ok(()),
        }
    }

    /// A head above the limit of bytes: because of its target, or of the rest.
    fn too_large(&self, buf: &[u8], limits: &HeadLimits) -> Reject {
        if self.request.is_some() {
            return Reject::HeadersTooLarge;
        }
        let line = buf.get(self.line..).unwrap_or_default();
        match method_of(line) {
            Err(reject) => reject,
            Ok(None) => Reject::HeadersTooLarge,
            Ok(Some((_, rest))) => match position(rest, b' ') {
                Some(end) if end <= limits.uri_bytes => Reject::HeadersTooLarge,
                None | Some(_) => Reject::UriTooLong,
            },
        }
    }

    /// One header line, without its line end.
    fn field(
        &mut self,
        line: &[u8],
        buf: &[u8],
        request: RequestLine,
        limits: &HeadLimits,
    ) -> Result<(), Reject> {
        self.headers += 1;
        if self.headers > limits.headers {
            return Err(Reject::HeadersTooLarge);
        }
        let colon = line.iter().position(|b| !is(*b, TOKEN)).unwrap_or(line.len());
        let (name, value) = match (line.split_at_checked(colon), line.get(colon)) {
            (Some((name, value)), Some(b':')) if !name.is_empty() => (name, value),
            (_, Some(b' ' | b'\t')) if colon == 0 => {
                return Err(Reject::BadRequest("a header is folded over lines (obs-fold)"));
            }
            (_, Some(b' ' | b'\t')) => {
                return Err(Reject::BadRequest("whitespace before the colon of a header"));
            }
            _ => return Err(Reject::BadRequest("malformed header name")),
        };
        let value = value.get(1..).unwrap_or_default();
        if !value.iter().all(|b| is(*b, VALUE)) {
            return Err(Reject::BadRequest("control character in a header"));
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(trim(value), buf, request),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue = request.http_11 && trim(value).eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = Some(self.upgrade.is_none() && trim(value).eq_ignore_ascii_case(b"websocket"));
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(trim(value)),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(trim(value), request),
            _ => Ok(()),
        }
    }

    /// RFC 9112 §3.2: exactly one, and the same as in an absolute-form target.
    fn host(&mut self, value: &[u8], buf: &[u8], request: RequestLine) -> Result<(), Reject> {
        self.hosts += 1;
        if self.hosts > 1 {
            return Err(Reject::BadRequest("more than one Host header"));
        }
        if !valid_authority(value) {
            return Err(Reject::BadRequest("malformed Host header"));
        }
        match request.authority {
            Some((from, to)) if buf.get(from..to) != Some(value) => {
                Err(Reject::BadRequest("Host differs from the request target"))
            }
            None | Some(_) => Ok(()),
        }
    }

    /// RFC 9110 §8.6, without its allowance for repeated equal values.
    fn length(&mut self, value: &[u8]) -> Result<(), Reject> {
        if self.content_length.is_some() {
            return Err(Reject::BadRequest("more than one Content-Length"));
        }
        if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
            return Err(Reject::BadRequest("malformed Content-Length"));
        }
        // 18 digits fit
        let length = value.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
        self.content_length = Some(length);
        Ok(())
    }

    /// RFC 9112 §6.1: only `chunked` is understood.
    fn coding(&mut self, value: &[u8], request: RequestLine) -> Result<(), Reject> {
        if self.transfer_encoding {
            return Err(Reject::BadRequest("more than one Transfer-Encoding"));
        }
        self.transfer_encoding = true;
        if !request.http_11 {
            return Err(Reject::BadRequest("Transfer-Encoding on HTTP/1.0"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            return Ok(());
        }
        let mut codings = value.split(|b| *b == b',').map(trim).rev();
        let last_is_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        // RFC 9112 §6.3: without `chunked` at its end the length is unknown; with another coding
        // before it the request is sound, but not understood
        let others_known = codings.all(|c| !c.is_empty() && !c.eq_ignore_ascii_case(b"chunked"));
        if last_is_chunked && others_known {
            return Err(Reject::NotImplemented);
        }
        Err(Reject::BadRequest("Transfer-Encoding is not chunked"))
    }

    fn finish(&self, request: RequestLine, end: usize) -> Result<Head, Reject> {
        if request.http_11 && self.hosts == 0 {
            return Err(Reject::BadRequest("no Host header"));
        }
        let framing = match (self.transfer_encoding, self.content_length) {
            (true, Some(_)) => {
                return Err(Reject::BadRequest("both Content-Length and Transfer-Encoding"));
            }
            (true, None) => Framing::Chunked,
            (false, Some(0)) | (false, None) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        };
        let expects_continue = self.expects_continue && framing != Framing::None;
        // with a body it would be unclear where the other protocol begins
        let upgrade =
            self.upgrade == Some(true) && request.get && request.http_11 && framing == Framing::None;
        Ok(Head { start: self.start, end, framing, headers: self.headers, upgrade, expects_continue })
    }
}

/// Without optional whitespace (RFC 9110 §5.6.3) around.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Characters of a token (RFC 9110 §5.6.2).
pub(super) const TOKEN: u8 = 1;
/// Characters of a field value with the whitespace in it (RFC 9110 §5.5).
pub(super) const VALUE: u8 = 2;
/// Characters of a request target: visible ASCII. `#` begins a fragment, which some servers cut
/// off and others take as part of the path.
const TARGET: u8 = 4;

static CLASS: [u8; 256] = classes();

pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0usize;
    while i < 256 {
        let b = i as u8;
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            table[i] |= TOKEN;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            table[i] |= VALUE;
        }
        if b > b' ' && b < 0x7f && b != b'#' {
            table[i] |= TARGET;
        }
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests;
