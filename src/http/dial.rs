//! The connection below TLS to a server, which has a deadline of its own: Pingora has one for both, and
//! does not say which of them has passed. Handed to Pingora by `forward`; `retry` asks how far it came.

use crate::upstream::reason;
use crate::upstream::transport::Transport;
use async_trait::async_trait;
use nix::sys::socket::{setsockopt, sockopt};
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::{Error, ErrorType, OrErr, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpSocket;

/// Opens one connection.
#[derive(Debug)]
struct TcpDial {
    within: Duration,
    bind_to: Option<IpAddr>,
    stands: Arc<AtomicBool>,
}

/// How far a connection has come.
#[derive(Debug, Clone)]
pub struct Progress {
    stands: Arc<AtomicBool>,
    /// What it is allowed before it stands.
    pub connect: Duration,
    /// What the handshake is allowed.
    pub handshake: Duration,
}

impl Progress {
    /// TLS is being spoken on it.
    pub fn stands(&self) -> bool {
        self.stands.load(Ordering::Acquire)
    }
}

/// A connection to `server`, within the first of these times, and what can be known of it. The second
/// is for the handshake.
pub fn tcp(
    transport: &Transport,
    server: SocketAddr,
    (within, handshake): (Duration, Duration),
) -> (Arc<dyn L4Connect + Send + Sync>, Progress) {
    let stands = Arc::new(AtomicBool::new(false));
    let progress = Progress { stands: stands.clone(), connect: within, handshake };
    (Arc::new(TcpDial { within, bind_to: transport.bind_to(server), stands }), progress)
}

#[async_trait]
impl L4Connect for TcpDial {
    async fn connect(&self, address: &PingoraAddress) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Err(Error::explain(ErrorType::InternalError, "not an internet address"));
        };
        let socket = self.socket(*address)?;
        match tokio::time::timeout(self.within, socket.connect(*address)).await {
            Ok(Ok(connected)) => {
                self.stands.store(true, Ordering::Release);
                Ok(connected.into())
            }
            Ok(Err(error)) => Err(reason::not_connected(error)),
            Err(_) => Err(Error::explain(ErrorType::ConnectTimedout, "connecting")),
        }
    }
}

impl TcpDial {
    fn socket(&self, address: SocketAddr) -> Result<TcpSocket> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.or_err(ErrorType::SocketError, "no socket")?;
        if let Some(own) = self.bind_to {
            // the port is picked when the server is known, so that each server has all of them
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)
                .or_err(ErrorType::SocketError, "IP_BIND_ADDRESS_NO_PORT")?;
            socket.bind(SocketAddr::new(own, 0)).or_err(ErrorType::BindError, "bind")?;
        }
        Ok(socket)
    }
}
