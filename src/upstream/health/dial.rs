//! The connection that a check is made on: TCP or a unix socket, and TLS over it where that is asked for. Its
//! failures come out in plain words. Called by the checks, within their deadline.

use crate::config::file::SendProxy;
use crate::config::plan::UpstreamTls;
use crate::link::Link;
use crate::proxy_protocol;
use crate::upstream::client_tls::ClientTls;
use crate::upstream::location::LOCAL_AUTHORITY;
use crate::upstream::reason;
use crate::upstream::registry::Registry;
use crate::upstream::wire::Wire;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_load_balancing::Backend;
use rustls::client::Resumption;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixAddress;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Opens connections to servers.
pub struct Dial {
    tls: Option<ClientTls>,
    /// What a connection begins with: it is one of our own, and not that of a client.
    header: Vec<u8>,
}

impl Dial {
    /// `alpn` is what is spoken above TLS.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn build(tls: Option<&UpstreamTls>, alpn: &[&[u8]], registry: &Registry) -> Result<Dial, String> {
        // each check sees the certificate, which a resumed session does not show again
        let tls = tls.map(|tls| ClientTls::build(tls, alpn, Resumption::disabled(), registry)).transpose()?;
        Ok(Dial { tls, header: Vec::new() })
    }

    /// For servers that wait for a header of the PROXY protocol.
    #[must_use]
    pub fn announced(self, version: Option<SendProxy>) -> Dial {
        let header = match version {
            None => Vec::new(),
            Some(SendProxy::V1) => proxy_protocol::unknown().to_vec(),
            Some(SendProxy::V2) => proxy_protocol::local(),
        };
        Dial { header, ..self }
    }

    /// # Errors
    /// What the system or TLS says.
    pub async fn connect(&self, backend: &Backend) -> Result<Wire> {
        let (address, path) = match &backend.addr {
            PingoraAddress::Inet(address) => (*address, None),
            PingoraAddress::Unix(socket) => (NOWHERE, Some(path(socket)?)),
        };
        let mut link = Link::connect(address, path).await.map_err(reason::not_connected)?;
        link.write_all(&self.header).await.or_err(ErrorType::WriteError, "PROXY header")?;
        let Some(tls) = &self.tls else { return Ok(Wire::Plain(link)) };
        let own = backend.ext.get::<HostName>().map(|host| &*host.0);
        tls.over(link, own, address.ip()).await.map(|stream| Wire::Tls(Box::new(stream)))
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// The host name by which a server was found, in the [`Backend::ext`] of a check.
#[derive(Debug, Clone)]
pub struct HostName(pub Arc<str>);

/// What stands for the address of a server at a unix socket, where none is asked for.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// What a server is called as a `Host` when it has no other name.
pub fn authority(backend: &Backend) -> String {
    match &backend.addr {
        PingoraAddress::Inet(address) => address.to_string(),
        PingoraAddress::Unix(_) => LOCAL_AUTHORITY.to_string(),
    }
}

fn path(socket: &UnixAddress) -> Result<&Path> {
    let path = socket.as_pathname();
    path.ok_or_else(|| Error::explain(ErrorType::InternalError, "a unix socket without a path"))
}
