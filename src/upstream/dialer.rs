//! Connections to servers for flows: below them nothing of HTTP is known. Made with the [`Site`](crate::l4::Site), used by
//! `l4` at each try; connections of requests are opened here, too, by `http::dial` and `http::kept`.

use super::client_tls::ClientTls;
use super::wire::Wire;
use super::{Endpoint, Group, Registry, reason};
use crate::config::plan;
use crate::link::Link;
use nix::sys::socket::{setsockopt, sockopt};
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::{Error, ErrorType, OrErr, Result};
use rustls::client::Resumption;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, UnixStream};

/// How the servers of a group are connected to.
pub struct Dialer {
    tls: Option<ClientTls>,
}

/// A connection that did not come about.
#[derive(Debug)]
pub enum Failed {
    Connecting(Box<Error>),
    /// TLS could not be spoken.
    Handshake(Box<Error>),
}

impl Dialer {
    /// # Errors
    /// A sentence for the operator.
    pub fn build(plan: &plan::Upstream, registry: &Registry) -> Result<Dialer, String> {
        let build = |tls| ClientTls::build(tls, &[], Resumption::default(), registry);
        Ok(Dialer { tls: plan.tls.as_ref().map(build).transpose()? })
    }

    /// A connection that begins with `announcement`, within the first of these times; the second is for the handshake.
    ///
    /// # Errors
    /// What the system or TLS says, or that it took too long.
    pub async fn connect(
        &self,
        group: &Group,
        endpoint: &Endpoint,
        announcement: Option<&[u8]>,
        (within, handshake): (Duration, Duration),
    ) -> Result<Wire, Failed> {
        let bind_to = group.transport().bind_to(endpoint.address());
        let at = endpoint.at().socket();
        let opening = tokio::time::timeout(within, open(&at, bind_to, announcement));
        let link = opening.await.unwrap_or_else(|_| late("connecting")).map_err(Failed::Connecting)?;
        let Some(tls) = &self.tls else { return Ok(Wire::Plain(link)) };
        let host = group.host_of(endpoint);
        // boxed: room for a handshake is not set aside for every flow
        let shaking = Box::pin(tls.over(link, host.as_deref(), endpoint.address().ip()));
        let shaken = tokio::time::timeout(handshake, shaking).await.unwrap_or_else(|_| late("handshake"));
        shaken.map(|stream| Wire::Tls(Box::new(stream))).map_err(Failed::Handshake)
    }
}

fn late<T>(what: &'static str) -> Result<T> {
    Error::e_explain(ErrorType::ConnectTimedout, what)
}

/// A plaintext connection to `server` that begins with `announcement`, from this address of the machine if there is one.
///
/// # Errors
/// What the system says.
pub async fn open(
    server: &PingoraAddress,
    bind_to: Option<IpAddr>,
    announcement: Option<&[u8]>,
) -> Result<Link> {
    let connected = match server {
        PingoraAddress::Inet(address) => socket(*address, bind_to)?.connect(*address).await.map(Link::from),
        PingoraAddress::Unix(address) => match address.as_pathname() {
            Some(path) => UnixStream::connect(path).await.map(Link::from),
            None => Err(io::ErrorKind::InvalidInput.into()),
        },
    };
    let mut link = connected.map_err(reason::not_connected)?;
    // what comes does not wait until what was sent is acknowledged
    link.set_nodelay().map_err(reason::not_connected)?;
    if let Some(announcement) = announcement {
        link.write_all(announcement).await.map_err(reason::not_connected)?;
    }
    Ok(link)
}

/// One of these addresses of the machine from which a server can be connected to.
pub fn own_address(all: &[IpAddr], server: SocketAddr) -> Option<IpAddr> {
    let fit: Vec<_> = all.iter().filter(|own| own.is_ipv4() == server.is_ipv4()).collect();
    fastrand::choice(fit).copied()
}

/// # Errors
/// There is none to spare, or the address is not ours.
fn socket(server: SocketAddr, bind_to: Option<IpAddr>) -> Result<TcpSocket> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.or_err(ErrorType::SocketError, "no socket")?;
    if let Some(own) = bind_to {
        // the port is picked when the server is known, so that each server has all of them
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)
            .or_err(ErrorType::SocketError, "IP_BIND_ADDRESS_NO_PORT")?;
        socket.bind(SocketAddr::new(own, 0)).or_err(ErrorType::BindError, "bind")?;
    }
    Ok(socket)
}

impl Failed {
    fn error(&self) -> &Error {
        match self {
            Failed::Connecting(error) | Failed::Handshake(error) => error,
        }
    }

    pub fn is_timeout(&self) -> bool {
        *self.error().root_etype() == ErrorType::ConnectTimedout
    }

    /// Whether it can be the server's fault: not that we had no socket to spare.
    pub fn is_servers(&self) -> bool {
        reason::is_servers(self.error())
    }

    /// For the operator. The times are what connecting and the handshake were allowed.
    pub fn words(&self, (within, handshake): (Duration, Duration)) -> String {
        match self {
            Failed::Connecting(error) => reason::words(error, within),
            Failed::Handshake(_) if self.is_timeout() => reason::no_handshake(handshake),
            Failed::Handshake(error) => reason::words(error, handshake),
        }
    }
}
