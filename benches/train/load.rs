//! The clients: each kind of work for so many requests. Called by `main`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::client::drain;
use crate::configs::Places;

/// The whole of one kind of work may take this long.
const PATIENCE: Duration = Duration::from_secs(300);
/// Connections at a time.
const CONNECTIONS: u32 = 16;
const UPLOAD: usize = 100 * 1024;

#[derive(Clone)]
pub struct Load {
    places: Places,
    h1: TlsConnector,
    h2: TlsConnector,
    anew: TlsConnector,
}

/// The request that is sent, and whether a body goes with it.
#[derive(Clone, Copy)]
struct Ask {
    path: &'static str,
    upload: usize,
}

const SMALL: Ask = Ask { path: "/", upload: 0 };
const API: Ask = Ask { path: "/api/users/1?sort=name&page=2", upload: 0 };
const LARGE: Ask = Ask { path: "/100k", upload: 0 };
const SEND: Ask = Ask { path: "/api/files", upload: UPLOAD };

impl Load {
    pub fn new(places: &Places, certificate: CertificateDer<'static>) -> Result<Load> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let connector = |alpn: &[&[u8]], resumes: bool| -> Result<TlsConnector> {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            if !resumes {
                config.resumption = Resumption::disabled();
            }
            Ok(TlsConnector::from(Arc::new(config)))
        };
        let places = places.clone();
        let (h1, h2) = (connector(&[b"http/1.1"], true)?, connector(&[b"h2", b"http/1.1"], true)?);
        Ok(Load { places, h1, h2, anew: connector(&[b"http/1.1"], false)? })
    }

    async fn plain(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.places.plain).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn secure(&self, connector: &TlsConnector) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.places.secure).await?;
        stream.set_nodelay(true)?;
        Ok(connector.connect(ServerName::try_from("localhost")?, stream).await?)
    }
}

/// The kinds of work, with the part of `requests` that each gets.
#[derive(Clone, Copy, Debug)]
enum Work {
    PlainH1,
    TlsH1,
    TlsH2,
    PlainH2,
    Bodies,
    Handshakes,
    Resumed,
    Tcp,
}

const ALL: [(Work, u32); 8] = [
    (Work::PlainH1, 1),
    (Work::TlsH1, 1),
    (Work::TlsH2, 1),
    (Work::PlainH2, 4),
    (Work::Bodies, 10),
    (Work::Handshakes, 20),
    (Work::Resumed, 20),
    (Work::Tcp, 10),
];

/// Does all kinds of work, one after the other.
pub async fn all(load: &Arc<Load>, requests: u32) -> Result<()> {
    for (work, share) in ALL {
        let each = requests / share / CONNECTIONS + 1;
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let load = Arc::clone(load);
            clients.spawn(async move { client(&load, work, each).await });
        }
        let done = async {
            while let Some(ended) = clients.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        let done = timeout(PATIENCE, done).await.context("it takes too long").and_then(|done| done);
        done.with_context(|| format!("{work:?}"))?;
    }
    Ok(())
}

/// One client's part.
async fn client(load: &Load, work: Work, requests: u32) -> Result<()> {
    match work {
        Work::PlainH1 => h1(load.plain().await?, requests, &[SMALL, SMALL, API]).await,
        Work::TlsH1 => h1(load.secure(&load.h1).await?, requests, &[SMALL, SMALL, API]).await,
        Work::TlsH2 => h2(load.secure(&load.h2).await?, requests, &[SMALL, API]).await,
        Work::PlainH2 => h2(load.plain().await?, requests, &[SMALL]).await,
        Work::Bodies => {
            h1(load.plain().await?, requests, &[LARGE, SEND]).await?;
            h1(load.secure(&load.h1).await?, requests / 2, &[LARGE, SEND]).await?;
            h2(load.secure(&load.h2).await?, requests / 2, &[LARGE, SEND]).await
        }
        Work::Handshakes => handshakes(load, &load.anew, requests).await,
        Work::Resumed => handshakes(load, &load.h1, requests).await,
        Work::Tcp => {
            let stream = TcpStream::connect(load.places.tcp).await?;
            h1(stream, requests, &[SMALL, LARGE]).await
        }
    }
}

async fn handshakes(load: &Load, connector: &TlsConnector, requests: u32) -> Result<()> {
    for _ in 0..requests {
        h1(load.secure(connector).await?, 1, &[SMALL]).await?;
    }
    Ok(())
}

/// One keep-alive connection; the requests in turn.
async fn h1(mut stream: impl AsyncRead + AsyncWrite + Unpin, requests: u32, asks: &[Ask]) -> Result<()> {
    let mut room = Vec::with_capacity(256 * 1024);
    for ask in asks.iter().cycle().take(requests as usize) {
        let (path, upload) = (ask.path, ask.upload);
        let mut request = match upload {
            0 => format!("GET {path} HTTP/1.1\r\n"),
            length => format!("POST {path} HTTP/1.1\r\nContent-Length: {length}\r\n"),
        };
        request.push_str(
            "Host: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, br\r\nCookie: session=0123456789abcdef; theme=dark\r\n\r\n",
        );
        let mut bytes = request.into_bytes();
        bytes.resize(bytes.len() + upload, b'u');
        stream.write_all(&bytes).await?;
        read_answer(&mut stream, &mut room).await?;
    }
    stream.shutdown().await.ok();
    Ok(())
}

/// Reads one answer with a `Content-Length`. Anything but a 200 is an error.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin), room: &mut Vec<u8>) -> Result<()> {
    room.clear();
    let mut whole = None;
    while whole.is_none_or(|whole| room.len() < whole) {
        if stream.read_buf(room).await? == 0 {
            bail!("the answer stopped after {} bytes", room.len());
        }
        if whole.is_none() {
            whole = length_of(room)?;
        }
    }
    Ok(())
}

/// The length of the whole answer, when its head is there.
fn length_of(answer: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer)? else { return Ok(None) };
    if response.code != Some(200) {
        bail!("status {:?}", response.code);
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("no Content-Length")?;
    Ok(Some(head + std::str::from_utf8(length.value)?.parse::<usize>()?))
}

/// One connection with four requests at a time.
async fn h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    requests: u32,
    asks: &'static [Ask],
) -> Result<()> {
    let (sender, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let mut streams = JoinSet::new();
    for _ in 0..4 {
        let sender = sender.clone();
        streams.spawn(async move {
            for ask in asks.iter().cycle().take(requests as usize / 4 + 1) {
                exchange(sender.clone(), *ask).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = streams.join_next().await {
        ended??;
    }
    drop(sender);
    driver.abort();
    Ok(())
}

async fn exchange(sender: h2::client::SendRequest<Bytes>, ask: Ask) -> Result<()> {
    let method = if ask.upload == 0 { "GET" } else { "POST" };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("https://localhost{}", ask.path))
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
        .header("accept", "*/*")
        .header("cookie", "session=0123456789abcdef; theme=dark")
        .body(())?;
    let (response, mut body) = sender.ready().await?.send_request(request, ask.upload == 0)?;
    if ask.upload > 0 {
        send_whole(&mut body, Bytes::from(vec![b'u'; ask.upload])).await?;
    }
    let response = response.await?;
    if response.status() != 200 {
        bail!("status {}", response.status());
    }
    drain(response.into_body()).await
}

/// As fast as the peer's window allows.
async fn send_whole(body: &mut h2::SendStream<Bytes>, mut rest: Bytes) -> Result<()> {
    while !rest.is_empty() {
        body.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|context| body.poll_capacity(context)).await;
        let room = room.context("the stream has ended")??;
        let piece = rest.split_to(room.min(rest.len()));
        body.send_data(piece, rest.is_empty())?;
    }
    Ok(())
}
