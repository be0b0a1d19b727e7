//! Facts about the connection a request came on. Made by `edge` once per connection, carried in
//! Pingora's `ProxyDigest`, which HTTP/1 and HTTP/2 sessions both expose.

use super::ClientCertificate;
use super::forwarded::Peer;
use crate::config::plan;
use pingora_core::protocols::Digest;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Facts about a connection.
#[derive(Debug)]
pub struct Connection {
    pub listener: Arc<plan::Listener>,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Our end of it.
    pub local: SocketAddr,
    /// `None` on plaintext.
    pub tls: Option<TlsFacts>,
    /// Set when it is to be closed after the request in flight.
    ending: Arc<AtomicBool>,
    /// Made with the first request: a connection that only waits does not need it.
    forwarded: OnceLock<Box<Peer>>,
}

/// What was agreed on in the TLS handshake.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    pub cipher: &'static str,
    /// The name the client asked for.
    pub sni: Option<String>,
    /// The policy under which it came in, as an index into those of the listener's `tls`.
    pub policy: usize,
    /// What the client has shown, and was believed.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Connection {
    pub fn new(
        listener: Arc<plan::Listener>,
        peer: SocketAddr,
        local: SocketAddr,
        tls: Option<TlsFacts>,
    ) -> Self {
        Connection { listener, peer, local, tls, ending: Arc::default(), forwarded: OnceLock::new() }
    }

    /// With what says that its end has come.
    #[must_use]
    pub fn ending_by(self, ending: Arc<AtomicBool>) -> Self {
        Connection { ending, ..self }
    }

    /// Whether a request for this host (lower case, without port; empty when it names none) is on other terms than
    /// those that the connection was opened on. It would get around a certificate that clients have to show, say.
    pub fn is_misdirected(&self, host: &str) -> bool {
        let (Some(facts), Some(tls)) = (&self.tls, &self.listener.tls) else { return false };
        tls.tells_names_apart() && !host.is_empty() && tls.policy(Some(host)) != Some(facts.policy)
    }

    /// The request in flight is its last.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// The certificate that the client has shown, if it was asked for one.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.certificate.as_deref()
    }

    /// What servers are told of the other end.
    pub fn forwarded(&self) -> &Peer {
        self.forwarded.get_or_init(|| {
            let peer = Peer::new(self.peer.ip(), self.tls.is_some());
            Box::new(peer.showing(self.certificate()))
        })
    }

    /// The facts that ride in the digest of a session; `None` for a session that is not ours.
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Connection>> {
        digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Connection>>()
    }
}
