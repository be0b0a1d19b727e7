//! A server that only health checks talk to: gRPC's health service or plain HTTP, over TLS or not.

use super::runtime::{listen, runtime};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;

/// `HealthCheckResponse.ServingStatus`.
pub const SERVING: u8 = 1;
pub const NOT_SERVING: u8 = 2;

/// One check as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// The name in the client's hello.
    pub sni: Option<String>,
    /// `Host` or `:authority`.
    pub host: String,
    /// The gRPC message, without the five bytes in front of it.
    pub message: Vec<u8>,
}

/// A running server.
pub struct HealthServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    grpc: bool,
    status: AtomicU8,
    probes: Mutex<Vec<Probe>>,
}

impl HealthServer {
    /// Says of itself whatever [`HealthServer::says`] was told last, and at first that it serves.
    /// `tls` is a certificate and its key, as PEM.
    pub fn grpc(ip: IpAddr, tls: Option<&(String, String)>) -> Self {
        Self::start(ip, true, tls)
    }

    /// Answers 200 to everything, over HTTP/1.1.
    pub fn http(ip: IpAddr, tls: Option<&(String, String)>) -> Self {
        Self::start(ip, false, tls)
    }

    fn start(ip: IpAddr, grpc: bool, tls: Option<&(String, String)>) -> Self {
        let runtime = runtime();
        let shared = Arc::new(Shared { grpc, status: AtomicU8::new(SERVING), probes: Mutex::default() });
        let (listener, address) = listen(&runtime, (ip, 0));
        let acceptor = tls.map(|tls| tokio_rustls::TlsAcceptor::from(config(tls, grpc)));
        let accepting = shared.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (shared, acceptor) = (accepting.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => shared.serve(tcp, None).await,
                        Some(acceptor) => {
                            let tls = acceptor.accept(tcp).await?;
                            let sni = tls.get_ref().1.server_name().map(str::to_owned);
                            shared.serve(tls, sni).await
                        }
                    }
                });
            }
        });
        Self { address, shared, _runtime: runtime }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn says(&self, status: u8) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// The checks that got as far as a request.
    pub fn probes(&self) -> Vec<Probe> {
        self.shared.probes.lock().unwrap().clone()
    }
}

fn config((cert, key): &(String, String), grpc: bool) -> Arc<rustls::ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a server's certificate");
    config.alpn_protocols = vec![if grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Arc::new(config)
}

impl Shared {
    async fn serve<S>(&self, stream: S, sni: Option<String>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.grpc {
            true => self.serve_grpc(stream, sni).await.map_err(io::Error::other),
            false => self.serve_http(stream, sni).await,
        }
    }

    async fn serve_http<S>(&self, mut stream: S, sni: Option<String>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        self.probes.lock().unwrap().push(Probe { sni, host: host.to_owned(), message: Vec::new() });
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine").await?;
        stream.shutdown().await
    }

    async fn serve_grpc<S>(&self, stream: S, sni: Option<String>) -> Result<(), h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(accepted) = connection.accept().await {
            let (request, mut respond) = accepted?;
            let asked = request.uri().path() == "/grpc.health.v1.Health/Check";
            let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let mut probe = Probe { sni: sni.clone(), host, message: Vec::new() };
            let head = http::Response::builder().header("content-type", "application/grpc");
            if !asked {
                // UNIMPLEMENTED
                let head = head.header("grpc-status", "12").body(()).expect("a head");
                respond.send_response(head, true)?;
                continue;
            }
            let mut stream = respond.send_response(head.body(()).expect("a head"), false)?;
            let mut body = request.into_body();
            // the frames of the body arrive while the connection is asked for the next request
            let message = async {
                while let Some(piece) = body.data().await {
                    probe.message.extend_from_slice(&piece?);
                }
                Ok::<_, h2::Error>(())
            };
            tokio::select! {
                read = message => read?,
                next = connection.accept() => {
                    assert!(next.is_none(), "a second request on a check's connection");
                    return Ok(());
                }
            }
            probe.message.drain(..5.min(probe.message.len()));
            self.probes.lock().unwrap().push(probe);
            let status = self.status.load(Ordering::SeqCst);
            stream.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]), false)?;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            stream.send_trailers(trailers)?;
        }
        Ok(())
    }
}
