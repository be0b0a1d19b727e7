//! The connection to a server, where it is more than Pingora opens: below TLS it has a deadline of its own (Pingora
//! has one for both, and does not say which of them has passed), and it may begin with what the server is told of the
//! client by the PROXY protocol. Handed to Pingora by `forward`; `retry` asks how far it came.

use super::connection::Connection;
use crate::proxy_protocol::Ends;
use crate::upstream::dialer;
use crate::upstream::transport::Transport;
use async_trait::async_trait;
use http::Version;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::{Error, ErrorType, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Opens one connection.
#[derive(Debug)]
struct TcpDial {
    within: Duration,
    bind_to: Option<IpAddr>,
    /// The first bytes.
    announcement: Option<Arc<[u8]>>,
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

/// What a connection for this client is to begin with, if the server is told of it. It is asked for in this version of
/// HTTP. Where the client is from is what the connection says, as in the last element of `X-Forwarded-For`.
pub fn announcement(transport: &Transport, connection: &Connection, version: Version) -> Option<Arc<[u8]>> {
    let ends = Ends { client: connection.peer, to: connection.local };
    let ends = (!ends.client.ip().is_unspecified()).then_some(ends);
    let spoken = if version == Version::HTTP_2 { "h2" } else { "http/1.1" };
    let alpn = connection.tls.as_ref().map(|_| spoken);
    transport.announcement(ends, alpn, connection.server_name())
}

/// What keeps connections that begin with other bytes apart.
pub fn key_with(key: u64, announcement: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, announcement).hash(&mut hasher);
    hasher.finish()
}

/// A connection to `server`, within the first of these times, and what can be known of it. The second
/// is for the handshake.
pub fn tcp(
    transport: &Transport,
    server: SocketAddr,
    announcement: Option<Arc<[u8]>>,
    (within, handshake): (Duration, Duration),
) -> (Arc<dyn L4Connect + Send + Sync>, Progress) {
    let stands = Arc::new(AtomicBool::new(false));
    let progress = Progress { stands: stands.clone(), connect: within, handshake };
    let bind_to = transport.bind_to(server);
    (Arc::new(TcpDial { within, bind_to, announcement, stands }), progress)
}

#[async_trait]
impl L4Connect for TcpDial {
    async fn connect(&self, address: &PingoraAddress) -> Result<Stream> {
        let opening = dialer::open(address, self.bind_to, self.announcement.as_deref());
        match tokio::time::timeout(self.within, opening).await {
            Ok(Ok(link)) => {
                self.stands.store(true, Ordering::Release);
                Ok(link.into())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::explain(ErrorType::ConnectTimedout, "connecting")),
        }
    }
}
