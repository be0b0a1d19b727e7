//! Where a server is: an internet address, or a unix socket and the address by which it is known (`config::plan` gives
//! it one). Kept in its [`Endpoint`](super::Endpoint), asked by whoever connects or shows it.

use crate::config::plan::Member;
use crate::link::Link;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixAddress;
use std::path::Path;
use std::sync::Arc;

/// The `Host` of a server at a unix socket that has no other name.
pub(super) const LOCAL_AUTHORITY: &str = "localhost";

/// Where a server is.
#[derive(Debug)]
pub struct Location {
    address: SocketAddr,
    unix: Option<Arc<Path>>,
    name: Box<str>,
}

impl Location {
    /// What it is known by. No connection goes there when it is at a unix socket.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As text, such as `127.0.0.1:3001` or `unix:/run/app.sock`; for logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is called as a `Host`.
    pub fn authority(&self) -> &str {
        if self.is_unix() { LOCAL_AUTHORITY } else { &self.name }
    }

    /// Whether it is at a unix socket.
    pub fn is_unix(&self) -> bool {
        self.unix.is_some()
    }

    /// As Pingora wants it.
    pub fn socket(&self) -> PingoraAddress {
        match self.unix.as_ref().map(UnixAddress::from_pathname) {
            // that a path is too long is a mistake in the configuration
            Some(Ok(socket)) => PingoraAddress::Unix(socket),
            Some(Err(_)) | None => PingoraAddress::Inet(self.address),
        }
    }

    /// A connection to it.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(&self) -> io::Result<Link> {
        Link::connect(self.address, self.unix.as_deref()).await
    }
}

impl From<SocketAddr> for Location {
    fn from(address: SocketAddr) -> Location {
        Location { address, unix: None, name: address.to_string().into() }
    }
}

impl From<&Member> for Location {
    fn from(member: &Member) -> Location {
        Location { address: member.address, unix: member.unix.clone(), name: member.place().into() }
    }
}
