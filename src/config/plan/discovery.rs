//! Where servers of a group come from while the gate runs.

use super::Member;
use crate::config::file;
use crate::config::words::ServerAddress;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use twox_hash::XxHash3_64;

/// A source of servers.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    Dns(DnsDiscovery),
    File(FileDiscovery),
}

/// Servers found in DNS.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsDiscovery {
    /// As written.
    pub name: String,
    pub records: Records,
    pub dns: Dns,
}

/// What is asked for, and what becomes of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Records {
    /// Each address is a server like `server`, whose own IP address means nothing.
    Addresses { families: Families, server: Member },
    /// Each address of each target is a server with the record's port, priority and weight.
    Srv,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}

impl Families {
    pub const BOTH: Families = Families { v4: true, v6: true };
}

/// How a name is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Empty: those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// From above zero, at most `max_interval`.
    pub min_interval: Duration,
    pub max_interval: Duration,
    pub timeout: Duration,
}

/// A watched file with a list of servers.
#[derive(Debug, Clone, PartialEq)]
pub struct FileDiscovery {
    /// As written.
    pub name: String,
    /// Absolute, as a daemon may change its working directory.
    pub path: PathBuf,
    pub interval: Duration,
}

impl Member {
    /// What is said of a server, at one address of it.
    pub fn new(server: &file::Member, address: SocketAddr) -> Member {
        let host = match &server.address {
            ServerAddress::Ip(_) | ServerAddress::Unix(_) => None,
            ServerAddress::Name(name, _) => Some(Arc::from(name.0.as_str())),
        };
        Member {
            address,
            unix: None,
            host,
            weight: server.weight,
            priority: server.priority,
            zone: server.zone.as_deref().map(Arc::from),
            drain: server.drain,
        }
    }

    /// A server that needs no looking up; `None` for one that is a name.
    pub fn listed(server: &file::Member) -> Option<Member> {
        match &server.address {
            ServerAddress::Ip(address) => Some(Member::new(server, *address)),
            ServerAddress::Unix(path) => {
                Some(Member { unix: Some(path.clone()), ..Member::new(server, stand_in(path)) })
            }
            ServerAddress::Name(..) => None,
        }
    }

    /// Where it is, as text.
    pub fn place(&self) -> String {
        match &self.unix {
            Some(path) => format!("unix:{}", path.display()),
            None => self.address.to_string(),
        }
    }

    /// A server of which nothing more is known.
    pub fn at(address: SocketAddr) -> Member {
        Member {
            address,
            unix: None,
            host: None,
            weight: NonZeroU16::MIN,
            priority: 0,
            zone: None,
            drain: false,
        }
    }

    /// The same, found by this name.
    pub fn named(self, host: &str) -> Member {
        Member { host: Some(Arc::from(host)), ..self }
    }
}

/// An address by which the server at this path is known: one of those that are never on a wire (100::/64, RFC 6666).
fn stand_in(path: &Path) -> SocketAddr {
    // the same in every process and every version, for what one hands to another, and for cookies
    let hash = XxHash3_64::oneshot(path.as_os_str().as_bytes());
    let bits = 0x0100_u128 << 112 | u128::from(hash);
    SocketAddr::from((Ipv6Addr::from_bits(bits), 0))
}

/// What the process log calls it: `dns api.internal:3001`, `file servers.yaml`.
impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Discovery::Dns(dns) => match &dns.records {
                Records::Addresses { server, .. } => write!(f, "dns {}:{}", dns.name, server.address.port()),
                Records::Srv => write!(f, "dns {}", dns.name),
            },
            Discovery::File(file) => write!(f, "file {}", file.name),
        }
    }
}
