//! An HTTP/2 client over TLS or in plaintext, and hand-made frames for tests that break the rules.

use super::PATIENCE;
use super::http_client::{Request, Response};
use super::runtime::runtime;
use super::tls::ClientTls;
use bytes::Bytes;
use h2::client::SendRequest;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One HTTP/2 connection.
pub struct H2Client {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    scheme: &'static str,
}

impl H2Client {
    /// Connects with ALPN `h2` alone.
    #[track_caller]
    pub fn connect(address: SocketAddr, tls: &ClientTls) -> Self {
        Self::try_connect(address, tls).expect("HTTP/2")
    }

    pub fn try_connect(address: SocketAddr, tls: &ClientTls) -> Result<Self, Failure> {
        let tls = tls.clone().alpn(&["h2"]);
        Self::open("https", async move {
            let socket = TcpStream::connect(address).await?;
            let connector = tokio_rustls::TlsConnector::from(tls.config());
            spawn(connector.connect(tls.server(), socket).await?).await
        })
    }

    /// Connects in plaintext with prior knowledge.
    #[track_caller]
    pub fn connect_plaintext(address: SocketAddr) -> Self {
        Self::open("http", async move { spawn(TcpStream::connect(address).await?).await }).expect("HTTP/2")
    }

    fn open(
        scheme: &'static str,
        opening: impl Future<Output = Result<SendRequest<Bytes>, Failure>>,
    ) -> Result<Self, Failure> {
        let runtime = runtime();
        let sender = runtime.block_on(async { tokio::time::timeout(PATIENCE, opening).await })??;
        Ok(Self { runtime, sender, scheme })
    }

    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.try_ask(request).unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.ask(&Request::get(target))
    }

    pub fn try_ask(&mut self, request: &Request) -> Result<Response, Failure> {
        let exchange = exchange(self.sender.clone(), request, self.scheme, true);
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await })?
    }

    /// Sends the head and the body, but not its end; what is answered to that.
    #[track_caller]
    pub fn ask_and_stall(&mut self, request: &Request) -> Response {
        let exchange = exchange(self.sender.clone(), request, self.scheme, false);
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
        answer.expect("an answer in time").expect("an answer")
    }

    /// Asks, and gives the request up (RST_STREAM) when `enough` holds; whether it came to hold.
    pub fn ask_and_leave(&mut self, request: &Request, enough: impl Fn() -> bool) -> bool {
        let (sender, request, scheme) = (self.sender.clone(), request.clone(), self.scheme);
        let task =
            self.runtime.spawn(async move { exchange(sender, &request, scheme, true).await.map(drop) });
        let deadline = std::time::Instant::now() + PATIENCE;
        while !enough() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        task.abort();
        let _ = self.runtime.block_on(task);
        enough()
    }

    /// Asks all of these at once on this one connection; the answers in the same order.
    pub fn try_ask_all(&mut self, requests: &[Request]) -> Vec<Result<Response, Failure>> {
        let scheme = self.scheme;
        let running: Vec<_> = requests
            .iter()
            .map(|request| {
                let (sender, request) = (self.sender.clone(), request.clone());
                self.runtime.spawn(async move {
                    tokio::time::timeout(PATIENCE, exchange(sender, &request, scheme, true)).await?
                })
            })
            .collect();
        running.into_iter().map(|task| self.runtime.block_on(task).expect("a request task")).collect()
    }
}

async fn spawn<S>(stream: S) -> Result<SendRequest<Bytes>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(async move {
        // A connection that the gate ends shows in the request that fails.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: &Request,
    scheme: &str,
    whole: bool,
) -> Result<Response, Failure> {
    let uri = format!("{scheme}://{}{}", request.host, request.target);
    let mut head = http::Request::builder().method(request.method.as_str()).uri(uri);
    for (name, value) in &request.headers {
        head = head.header(name, value);
    }
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(head.body(())?, request.body.is_empty())?;
    if !request.body.is_empty() {
        body.send_data(Bytes::from(request.body.clone()), whole)?;
    }
    let (head, mut stream) = response.await?.into_parts();
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let mut answer = Response { status: head.status.as_u16(), headers: headers.collect(), body: Vec::new() };
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        answer.body.extend_from_slice(&data);
    }
    Ok(answer)
}

/// What a client sends first: the preface and empty SETTINGS (RFC 9113 §3.4).
pub fn h2_opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(0x4, 0, 0, &[])].concat()
}

/// One frame (RFC 9113 §4.1). `kind`: 0 DATA, 1 HEADERS, 4 SETTINGS, 6 PING, 9 CONTINUATION.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An HPACK block that spells every field out (RFC 7541 §6.2.2), whatever it holds.
pub fn h2_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short field"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The HPACK block of `GET https://AUTHORITY/`.
pub fn h2_get_headers(authority: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", authority)];
    h2_block(&fields)
}
