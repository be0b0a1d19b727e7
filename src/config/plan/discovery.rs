//! Where servers of a group come from while the gate runs.

use super::Member;
use crate::config::file;
use crate::config::words::ServerAddress;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
            ServerAddress::Ip(_) => None,
            ServerAddress::Name(name, _) => Some(Arc::from(name.0.as_str())),
        };
        Member {
            address,
            host,
            weight: server.weight,
            priority: server.priority,
            zone: server.zone.as_deref().map(Arc::from),
            drain: server.drain,
        }
    }

    /// A server of which nothing more is known.
    pub fn at(address: SocketAddr) -> Member {
        Member { address, host: None, weight: NonZeroU16::MIN, priority: 0, zone: None, drain: false }
    }

    /// The same, found by this name.
    pub fn named(self, host: &str) -> Member {
        Member { host: Some(Arc::from(host)), ..self }
    }
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
