//! The PROXY protocol, versions 1 and 2 (haproxy.org, `doc/proxy-protocol.txt`): what a proxy writes before the first
//! byte of a connection, so that whoever is behind it knows the client. Pure.
//!
//! [`read()`] is called by `edge` for what comes in; [`text`] and [`binary`] by `http` and the health checks of
//! `upstream` for what goes out, [`datagram`] by `l4`.

mod read;
mod write;

pub use read::{Malformed, Seen, read};
pub use write::{binary, datagram, local, text, unknown};

use std::net::SocketAddr;

/// The longest header that is read. The longest that version 1 can have is 107 bytes; in version 2 a certificate of
/// the client may be with it, and no proxy is known to send more than fits in one of its buffers of 16 KB.
pub const LONGEST: usize = 16 * 1024;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TEXT: &[u8; 6] = b"PROXY ";

/// Types of what version 2 says beside addresses (§2.2).
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
/// In the first byte of [`SSL`]: the client is connected over TLS.
const OVER_TLS: u8 = 0x01;

/// Whom a connection is from, and whom it is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    pub client: SocketAddr,
    /// What the client has connected to.
    pub to: SocketAddr,
}

/// What a proxy says of the connection it passes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// `None`: the proxy speaks for itself, as in a health check, or the client has no internet address. The
    /// connection counts as that of the proxy then.
    pub ends: Option<Ends>,
    /// The client has spoken TLS with the proxy.
    pub tls: bool,
    /// The name that the client asked the proxy for in its TLS handshake.
    pub authority: Option<Box<str>>,
}
