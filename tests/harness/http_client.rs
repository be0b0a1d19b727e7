//! A client that sends exactly the bytes it is given and reads HTTP/1.1 answers without being helpful.

use super::PATIENCE;
use socket2::SockRef;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A request as a test words it. Sent over HTTP/1.1 as written, over HTTP/2 by [`super::H2Client`].
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "gate.test".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", target) }
    }

    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The bytes of the request in HTTP/1.1.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer: the headers in the order and spelling they came in, the body with any chunking undone.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The header's value; several values of one name are joined as `a, b`.
    pub fn header(&self, name: &str) -> Option<String> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let values: Vec<_> = named.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// What a client speaks over: a socket, or TLS on one.
pub trait Wire: Read + Write + Send {
    fn socket(&self) -> SockRef<'_>;
}

impl Wire for TcpStream {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl Wire for UnixStream {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

/// One connection of a client.
pub struct Client {
    wire: BufReader<Box<dyn Wire>>,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("connect to the gate")
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(Box::new(TcpStream::connect(address)?)))
    }

    /// Connects to a unix socket.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> Self {
        Self::over(Box::new(UnixStream::connect(path).expect("connect to the gate")))
    }

    /// Connects from a loopback address of the caller's choice.
    #[track_caller]
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("bind the client's side");
        socket.connect(&address.into()).expect("connect to the gate");
        Self::over(Box::new(TcpStream::from(socket)))
    }

    pub(super) fn over(wire: Box<dyn Wire>) -> Self {
        wire.socket().set_read_timeout(Some(PATIENCE)).expect("read timeout");
        wire.socket().set_write_timeout(Some(PATIENCE)).expect("write timeout");
        let _ = wire.socket().set_tcp_nodelay(true);
        Self { wire: BufReader::new(wire) }
    }

    pub fn local_address(&self) -> SocketAddr {
        self.wire.get_ref().socket().local_addr().expect("address").as_socket().expect("an IP address")
    }

    /// Sends these bytes and nothing else. That the gate may have closed already is for `response` to show.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.try_send(bytes);
        self
    }

    /// Whether this is answered with 200. The connection may be closed before.
    pub fn is_served(&mut self, target: &str) -> bool {
        self.send(Request::get(target).bytes());
        self.try_response_to("GET").is_ok_and(|response| response.status == 200)
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let wire = self.wire.get_mut();
        wire.write_all(bytes.as_ref())?;
        wire.flush()
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> &mut Self {
        let _ = self.wire.get_ref().socket().shutdown(Shutdown::Write);
        self
    }

    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(request.bytes());
        self.try_response_to(&request.method)
            .unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.ask(&Request::get(target))
    }

    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response_to("GET").unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// Reads one answer to a request of this method.
    pub fn try_response_to(&mut self, method: &str) -> io::Result<Response> {
        let status_line = self.line()?;
        let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status: u16 =
            status.ok_or_else(|| io::Error::other(format!("not a status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| io::Error::other(format!("bad line {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if method != "HEAD" && status >= 200 && status != 204 && status != 304 {
            response.body = self.body_of(&response)?;
        }
        Ok(response)
    }

    fn body_of(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if response.header("transfer-encoding").is_some() {
            return read_chunked(&mut self.wire);
        }
        let mut body = Vec::new();
        match response.header("content-length") {
            Some(length) => {
                let length: usize = length.parse().map_err(io::Error::other)?;
                body.resize(length, 0);
                self.wire.read_exact(&mut body)?;
            }
            None => {
                self.wire.read_to_end(&mut body)?;
            }
        }
        Ok(body)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.wire.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::Error::other(format!("a line without CRLF: {line:?}"))),
        }
    }

    /// Reads until the gate closes; what came before that. Fails the test when it stays open.
    #[track_caller]
    pub fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.wire.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => rest,
            // rustls reports a peer that closed without close_notify this way.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => rest,
            Err(error) => panic!("the connection stays open ({error}); read {} bytes", rest.len()),
        }
    }

    /// Sends one byte of `bytes` at a time until the gate answers or closes, and returns what it answered.
    /// Fails the test when all bytes were taken.
    #[track_caller]
    pub fn drip(&mut self, bytes: &[u8], pause: Duration) -> Vec<u8> {
        let started = Instant::now();
        for byte in bytes {
            assert!(started.elapsed() < PATIENCE, "the gate waits for a dripped head for ever");
            if self.try_send([*byte]).is_err() || self.readable_within(pause) {
                return self.until_closed();
            }
        }
        panic!("the gate took all {} bytes of a drip", bytes.len());
    }

    /// Whether something (data, or the end) arrives within `wait`. On TLS this may be a record that carries no
    /// data, such as a session ticket, which is then taken in.
    fn readable_within(&mut self, wait: Duration) -> bool {
        let limit = |client: &Self, time| {
            client.wire.get_ref().socket().set_read_timeout(Some(time)).expect("timeout")
        };
        limit(self, wait.max(Duration::from_millis(1)));
        let seen = self.wire.fill_buf().map(<[u8]>::len);
        limit(self, PATIENCE);
        !matches!(seen, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Whether the gate keeps the connection open and silent for `wait`.
    pub fn silent_for(&mut self, wait: Duration) -> bool {
        !self.readable_within(wait)
    }

    /// Reads exactly this many raw bytes.
    pub fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.wire.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a chunked body to its end, trailers included and dropped.
pub(super) fn read_chunked(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
        if size == 0 {
            break;
        }
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_exact(&mut [0; 2])?;
    }
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body)
}
