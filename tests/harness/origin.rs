//! A server behind the gate that speaks TLS or not, HTTP/1.1 or HTTP/2, and remembers how it was asked. What it does with
//! a request is in the path.

use super::net::{ServerAddress, own_loopback};
use super::runtime::{listen, runtime};
use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub method: String,
    pub path: String,
    /// `h1` or `h2`.
    pub protocol: &'static str,
    pub host: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Of HTTP/2.
    pub trailers: Option<HeaderMap>,
    /// Why it was given up, where it is not answered to its end (HTTP/2).
    pub given_up: Option<Reason>,
    /// Counted from 0, handshakes that failed included.
    pub connection: usize,
    /// The name in the client's hello.
    pub sni: Option<String>,
    /// Whether it has shown a certificate that we trust.
    pub certified: bool,
    /// Whether the session was one of before.
    pub resumed: bool,
}

/// How an origin speaks.
pub struct OriginBuilder {
    label: String,
    address: SocketAddr,
    tls: Option<(String, String)>,
    clients: Option<String>,
    alpn: Vec<Vec<u8>>,
    h2: bool,
}

/// A running origin, which answers 200 with its label until the path says otherwise:
///
/// - `/hang...`: never;
/// - `/slow...`: after 300 ms;
/// - `/drip...`: a byte, and nothing more;
/// - `/bye...`: and closes the connection;
/// - `/grpc...`: what was sent, and the trailer `grpc-status: 0`;
/// - `/refuse...`: the first stream of such a path with REFUSED_STREAM, later ones as usual;
/// - `/break...`: resets its stream with INTERNAL_ERROR;
/// - `/unwell...`: 503.
pub struct Origin {
    label: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    label: String,
    h2: bool,
    connections: AtomicUsize,
    arrived: Mutex<Vec<Arrived>>,
    refused: Mutex<BTreeSet<String>>,
}

/// What is known of a connection.
#[derive(Clone, Debug, Default)]
struct Facts {
    connection: usize,
    sni: Option<String>,
    certified: bool,
    resumed: bool,
}

impl OriginBuilder {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Speaks TLS with this certificate and key (PEM).
    pub fn tls(mut self, pair: (String, String)) -> Self {
        self.tls = Some(pair);
        self
    }

    /// Wants a certificate of this authority (PEM).
    pub fn clients_of(mut self, authority: String) -> Self {
        self.clients = Some(authority);
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Speaks HTTP/2 where nothing is agreed on.
    pub fn h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    pub fn start(self) -> Origin {
        let runtime = runtime();
        let (listener, address) = listen(&runtime, self.address);
        let acceptor = self.tls.as_ref().map(|_| TlsAcceptor::from(self.config()));
        let shared = Arc::new(Shared { label: self.label.clone(), h2: self.h2, ..Shared::default() });
        let accepting = shared.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (shared, acceptor) = (accepting.clone(), acceptor.clone());
                tokio::spawn(async move { shared.serve(tcp, acceptor).await });
            }
        });
        Origin { label: self.label, address, shared, _runtime: runtime }
    }

    fn config(&self) -> Arc<ServerConfig> {
        let (cert, key) = self.tls.as_ref().expect("a certificate");
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("TLS versions");
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let der = CertificateDer::from_pem_slice(authority.as_bytes()).expect("an authority");
                roots.add(der).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let mut config = builder.with_single_cert(chain, key).expect("a server's certificate");
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }
}

impl Origin {
    /// In plaintext HTTP/1.1, until more is said.
    pub fn with(label: &str) -> OriginBuilder {
        let address = (own_loopback(), 0).into();
        OriginBuilder {
            label: label.to_owned(),
            address,
            tls: None,
            clients: None,
            alpn: Vec::new(),
            h2: false,
        }
    }

    /// The requests so far.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn last(&self) -> Arrived {
        self.arrived().pop().expect("a request")
    }

    /// How many connections were made, handshakes that failed included.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl ServerAddress for Origin {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, tcp: TcpStream, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        let Some(acceptor) = acceptor else {
            let facts = Facts { connection, ..Facts::default() };
            let h2 = self.h2;
            return self.speak(tcp, facts, h2).await;
        };
        let tls = acceptor.accept(tcp).await?;
        let (facts, h2) = {
            let session: &ServerConnection = tls.get_ref().1;
            let facts = Facts {
                connection,
                sni: session.server_name().map(str::to_owned),
                certified: session.peer_certificates().is_some(),
                resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            };
            (facts, session.alpn_protocol().map_or(self.h2, |name| name == b"h2"))
        };
        self.speak(tls, facts, h2).await
    }

    async fn speak<S>(self: Arc<Self>, stream: S, facts: Facts, h2: bool) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match h2 {
            true => self.speak_h2(stream, facts).await.map_err(io::Error::other),
            false => self.speak_h1(stream, facts).await,
        }
    }

    fn keep(&self, facts: &Facts, head: &http::request::Parts, protocol: &'static str) -> usize {
        let host = head.headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let authority = head.uri.authority().map(ToString::to_string);
        let mut arrived = self.arrived.lock().unwrap();
        arrived.push(Arrived {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            protocol,
            host: authority.or(host).unwrap_or_default(),
            headers: head.headers.clone(),
            body: Vec::new(),
            trailers: None,
            given_up: None,
            connection: facts.connection,
            sni: facts.sni.clone(),
            certified: facts.certified,
            resumed: facts.resumed,
        });
        arrived.len() - 1
    }

    fn given_up(&self, place: usize, reason: Reason) {
        self.arrived.lock().unwrap()[place].given_up = Some(reason);
    }

    async fn speak_h1<S>(&self, mut stream: S, facts: Facts) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                text.push(stream.read_u8().await?);
            }
            let head = parsed(&text);
            let length =
                head.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).await?;
            let place = self.keep(&facts, &head, "h1");
            self.arrived.lock().unwrap()[place].body = body;
            if head.headers.contains_key("upgrade") {
                let key = head.headers.get("sec-websocket-key").map(HeaderValue::as_bytes);
                let accept = derive_accept_key(key.unwrap_or_default());
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\nhello"
                );
                stream.write_all(answer.as_bytes()).await?;
                return stream.read_u8().await.map(drop);
            }
            let path = head.uri.path();
            if path.starts_with("/hang") {
                return std::future::pending().await;
            }
            if path.starts_with("/slow") {
                tokio::time::sleep(SLOW).await;
            }
            let close = path.starts_with("/bye");
            let last = if close { "Connection: close\r\n" } else { "" };
            let label = &self.label;
            let answer = format!("HTTP/1.1 200 OK\r\n{last}Content-Length: {}\r\n\r\n{label}", label.len());
            stream.write_all(answer.as_bytes()).await?;
            if close {
                return stream.shutdown().await;
            }
        }
    }

    async fn speak_h2<S>(self: Arc<Self>, stream: S, facts: Facts) -> Result<(), h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            let (shared, facts) = (self.clone(), facts.clone());
            if request.uri().path().starts_with("/bye") {
                connection.graceful_shutdown();
            }
            tokio::spawn(async move { shared.answer_h2(request, respond, &facts).await });
        }
        Ok(())
    }

    async fn answer_h2(
        &self,
        request: http::Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
        facts: &Facts,
    ) -> Result<(), h2::Error> {
        let (head, mut stream) = request.into_parts();
        let path = head.uri.path().to_owned();
        if path.starts_with("/refuse") && self.refused.lock().unwrap().insert(path.clone()) {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        let place = self.keep(facts, &head, "h2");
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece?;
            stream.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        let trailers = stream.trailers().await?;
        {
            let mut arrived = self.arrived.lock().unwrap();
            (arrived[place].body, arrived[place].trailers) = (body.clone(), trailers);
        }
        match path.as_str() {
            path if path.starts_with("/hang") => {
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
                self.given_up(place, reason);
                return Ok(());
            }
            path if path.starts_with("/break") => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            path if path.starts_with("/slow") => tokio::time::sleep(SLOW).await,
            _ => {}
        }
        let status = if path.starts_with("/unwell") { 503 } else { 200 };
        let head = http::Response::builder().status(status).body(()).expect("a head");
        let mut answer = respond.send_response(head, false)?;
        if path.starts_with("/grpc") {
            answer.send_data(Bytes::from(body), false)?;
            let status = HeaderValue::from_static("0");
            return answer.send_trailers(HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                status,
            )]));
        }
        if path.starts_with("/drip") {
            answer.send_data(Bytes::from_static(b"x"), false)?;
            let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await?;
            self.given_up(place, reason);
            return Ok(());
        }
        answer.send_data(Bytes::from(self.label.clone()), true)
    }
}

const SLOW: Duration = Duration::from_millis(300);

fn parsed(text: &[u8]) -> http::request::Parts {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut request = http::Request::builder()
        .method(words.next().unwrap_or_default())
        .uri(words.next().unwrap_or_default());
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        request = request.header(name, value.trim());
    }
    request.body(()).expect("a head").into_parts().0
}
