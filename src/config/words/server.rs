//! Where servers and name servers are: addresses and names.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Where a server listens: `127.0.0.1:3001`, `unix:/run/app.sock`, or a name whose addresses are asked for:
/// `api.internal:3001`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerAddress {
    Ip(SocketAddr),
    /// A unix socket; a relative path starts at the working directory.
    Unix(Arc<Path>),
    Name(DnsName, NonZeroU16),
}

impl FromStr for ServerAddress {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.parse::<SocketAddr>() {
            Ok(a) if a.port() == 0 => Err(format!("`{s}` has port 0\nname the port the server listens on")),
            Ok(a) if a.ip().is_unspecified() => Err(format!(
                "`{s}` is no address to connect to\nname the server's own address, such as 127.0.0.1"
            )),
            Ok(a) => Ok(ServerAddress::Ip(a)),
            Err(_) => server_by_name(s),
        }
    }
}

fn server_by_name(s: &str) -> Result<ServerAddress, String> {
    if let Some((_, rest)) = s.split_once("://") {
        return Err(format!("`{s}` is a URL\nwrite only the address and port, such as {rest}"));
    }
    if let Some(path) = s.strip_prefix("unix:") {
        return super::listen::unix(s, path).map(ServerAddress::Unix);
    }
    if s.parse::<IpAddr>().is_ok() {
        return Err(format!("`{s}` has no port\nwrite it as IP:PORT, IPv6 in brackets"));
    }
    let Some((host, port)) = s.rsplit_once(':') else {
        let help = match s.parse::<DnsName>() {
            Ok(_) => format!("`{s}` has no port\nwrite {s}:3001, with the port the server listens on"),
            Err(_) => format!("`{s}` is not a server address\nwrite IP:PORT, such as 127.0.0.1:3001"),
        };
        return Err(help);
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(format!("`{s}` is not a server address\nwrite IP:PORT, such as 127.0.0.1:3001"));
    };
    let Some(port) = NonZeroU16::new(port) else {
        return Err(format!("`{s}` has port 0\nname the port the server listens on"));
    };
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("`{s}` is not a server address: `{host}` is not an IPv4 address"));
    }
    match host.parse() {
        Ok(name) => Ok(ServerAddress::Name(name, port)),
        Err(_) => Err(format!(
            "`{s}` is not a server address\nwrite 127.0.0.1:{port}, [::1]:{port} or api.internal:{port}"
        )),
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Ip(address) => write!(f, "{address}"),
            ServerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ServerAddress::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
text_word!(ServerAddress, ["127.0.0.1:3001", "[::1]:3001", "api.internal:3001", "unix:/run/app.sock"]);

/// A name to ask DNS for: `api.internal`, `_http._tcp.api.internal`. With a dot at its end, the search
/// domains of the system are not tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(pub String);

impl FromStr for DnsName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        const LONGEST_NAME: usize = 253;
        const LONGEST_LABEL: usize = 63;
        let bare = s.strip_suffix('.').unwrap_or(s);
        let label = |label: &str| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if bare.len() <= LONGEST_NAME && bare.split('.').all(label) {
            return Ok(DnsName(s.to_string()));
        }
        let help = match s.is_ascii() {
            true => "write a name such as api.internal",
            false => "write names beyond ASCII in their xn-- spelling",
        };
        Err(format!("`{s}` is not a name for DNS\n{help}"))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
text_word!(DnsName, ["api.internal", "_http._tcp.api.internal"]);

/// Where a name server listens: `127.0.0.1`, `[::1]:5353`. The port is 53 unless named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolverAddress(pub SocketAddr);

impl FromStr for ResolverAddress {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        const DOMAIN: u16 = 53;
        let with_port = || s.parse().ok();
        let bare = || s.parse().ok().map(|ip: IpAddr| SocketAddr::from((ip, DOMAIN)));
        match with_port().or_else(bare) {
            Some(address) if address.port() == 0 => Err(format!("`{s}` has port 0\nleave it out for 53")),
            Some(address) => Ok(ResolverAddress(address)),
            None => Err(format!(
                "`{s}` is not the address of a name server\nwrite IP or IP:PORT, such as 127.0.0.1 or [::1]:5353"
            )),
        }
    }
}

impl fmt::Display for ResolverAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
text_word!(ResolverAddress, ["127.0.0.1", "[::1]:5353"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_print_back_as_written() {
        for text in ["127.0.0.1:3001", "[::1]:3001", "localhost:3001", "api.internal.:80", "a_b-c.d:1"] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_name_server_listens_on_port_53_unless_it_says_otherwise() {
        for (text, address) in
            [("127.0.0.1", "127.0.0.1:53"), ("::1", "[::1]:53"), ("[::1]:5353", "[::1]:5353")]
        {
            assert_eq!(text.parse::<ResolverAddress>().unwrap().to_string(), address);
        }
    }

    #[test]
    fn what_is_refused_says_how_to_mend_it() {
        assert!("localhost".parse::<ServerAddress>().unwrap_err().contains("localhost:3001"));
        assert!("10.0.0:3001".parse::<ServerAddress>().unwrap_err().contains("IPv4"));
        assert!("a b:3001".parse::<ServerAddress>().unwrap_err().contains("api.internal:3001"));
        assert!("bücher.example".parse::<DnsName>().unwrap_err().contains("xn--"));
        assert!("a..b".parse::<DnsName>().is_err());
        assert!("dns.internal".parse::<ResolverAddress>().unwrap_err().contains("IP:PORT"));
        assert!("http://127.0.0.1:1".parse::<ServerAddress>().unwrap_err().contains("URL"));
    }
}
