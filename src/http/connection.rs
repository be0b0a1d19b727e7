//! Facts about the connection a request came on. Made by `edge` once per connection, carried in
//! Pingora's `ProxyDigest`, which sessions of HTTP/1 and HTTP/2 both expose.

use super::ClientCertificate;
use super::forwarded::Peer;
use crate::config::plan;
use crate::observe::metrics;
use crate::proxy_protocol::Announced;
use pingora_core::protocols::Digest;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The ends of a connection over a unix socket, which have no addresses. No other end is unspecified.
pub const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Facts about a connection.
#[derive(Debug)]
pub struct Connection {
    pub listener: Arc<plan::Listener>,
    /// The other end of the connection, or whom a proxy has announced; [`NOWHERE`] on a unix socket.
    pub peer: SocketAddr,
    /// Our end of it, or that of the proxy; [`NOWHERE`] on a unix socket.
    pub local: SocketAddr,
    /// `None` on plaintext.
    pub tls: Option<TlsFacts>,
    /// Its file descriptor, as long as it is open.
    pub socket: Option<RawFd>,
    /// The proxy that has announced the client by the PROXY protocol.
    pub proxy: Option<SocketAddr>,
    /// What is counted of its listener, where somebody asks.
    pub counted: Option<Arc<metrics::Listener>>,
    /// What else it said.
    announced: Option<Box<Announced>>,
    /// Set when it is to be closed after the request in flight.
    ending: Arc<AtomicBool>,
    /// Set when it has had as many requests as it may, with the one in flight.
    last: AtomicBool,
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
        Connection {
            listener,
            peer,
            local,
            tls,
            socket: None,
            proxy: None,
            counted: None,
            announced: None,
            ending: Arc::default(),
            last: AtomicBool::new(false),
            forwarded: OnceLock::new(),
        }
    }

    /// With what says that its end has come.
    #[must_use]
    pub fn ending_by(self, ending: Arc<AtomicBool>) -> Self {
        Connection { ending, ..self }
    }

    /// With its file descriptor.
    #[must_use]
    pub fn on(self, socket: RawFd) -> Self {
        Connection { socket: Some(socket), ..self }
    }

    /// With what is counted of its listener.
    #[must_use]
    pub fn counting(self, counted: Arc<metrics::Listener>) -> Self {
        Connection { counted: Some(counted), ..self }
    }

    /// Whether a request for this host (lower case, without port; empty when it names none) is on other terms than
    /// those that the connection was opened on. It would get around a certificate that clients have to show, say.
    pub fn is_misdirected(&self, host: &str) -> bool {
        let (Some(facts), Some(tls)) = (&self.tls, &self.listener.tls) else { return false };
        tls.tells_names_apart() && !host.is_empty() && tls.policy(Some(host)) != Some(facts.policy)
    }

    /// With what a proxy has said of it.
    #[must_use]
    pub fn announced(self, announced: Option<Announced>) -> Self {
        match announced.as_ref().and_then(|announced| announced.ends) {
            Some(ends) => Connection {
                peer: ends.client,
                local: ends.to,
                proxy: Some(self.peer),
                announced: announced.map(Box::new),
                ..self
            },
            // the proxy speaks for itself
            None => self,
        }
    }

    /// Whether the client speaks TLS, with us or with the proxy that has announced it.
    pub fn is_https(&self) -> bool {
        self.tls.is_some() || self.announced.as_ref().is_some_and(|announced| announced.tls)
    }

    /// The name that the client has asked for in its TLS handshake, with us or with the proxy.
    pub fn server_name(&self) -> Option<&str> {
        let ours = self.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        ours.or_else(|| self.announced.as_ref()?.authority.as_deref())
    }

    /// The request in flight is its last.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) || self.last.load(Ordering::Relaxed)
    }

    /// No request follows the one that begins now.
    pub fn ends_now(&self) {
        self.last.store(true, Ordering::Relaxed);
    }

    /// The certificate that the client has shown, if it was asked for one.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.certificate.as_deref()
    }

    /// What servers are told of the other end.
    pub fn forwarded(&self) -> &Peer {
        self.forwarded.get_or_init(|| {
            let peer = Peer::new(self.peer.ip(), self.is_https());
            Box::new(peer.showing(self.certificate()))
        })
    }

    /// The facts that ride in the digest of a session; `None` for a session that is not ours.
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Connection>> {
        digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Connection>>()
    }
}
