//! A client of HTTP/2 that asks for one thing at a time, on a thread of its own. Called by [`super::paced`].

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::common::client::{PATIENCE, drain};

pub struct Connection {
    /// Nothing happens on the connection while nobody asks.
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    uri: http::Uri,
}

impl Connection {
    /// Over TLS with `tls`, which offers h2 alone; otherwise in plaintext by prior knowledge.
    pub fn open(target: SocketAddr, path: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Connection> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let opening = async {
            let stream = TcpStream::connect(target).await.context("connect")?;
            stream.set_nodelay(true)?;
            match tls {
                None => shake_hands(stream).await,
                Some(config) => {
                    let connector = TlsConnector::from(Arc::clone(config));
                    shake_hands(connector.connect(ServerName::try_from("localhost")?, stream).await?).await
                }
            }
        };
        let sender = runtime.block_on(async { timeout(PATIENCE, opening).await.context("connect")? })?;
        Ok(Connection { runtime, sender, uri: format!("{scheme}://localhost{path}").parse()? })
    }

    /// One GET and its whole answer. Anything but a 200 is an error.
    pub fn get(&self) -> Result<()> {
        let exchange = exchange(self.sender.clone(), self.uri.clone());
        self.runtime.block_on(async { timeout(PATIENCE, exchange).await.context("no answer")? })
    }
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Bytes>> {
    let (sender, connection) = h2::client::handshake(stream).await.context("HTTP/2")?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn exchange(sender: SendRequest<Bytes>, uri: http::Uri) -> Result<()> {
    let request = http::Request::builder().uri(uri).body(())?;
    let (response, _) = sender.ready().await?.send_request(request, true)?;
    let response = response.await?;
    if response.status() != 200 {
        bail!("status {}", response.status());
    }
    drain(response.into_body()).await
}
