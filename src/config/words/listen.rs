//! Where a listener listens, and who may connect there.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// What the kernel takes, with a zero at its end (unix(7)).
const LONGEST_PATH: usize = 107;

/// Where a listener listens: `127.0.0.1:8080`, `[::]:8443`, `*:80`, `unix:/run/weirgate.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    Ip(SocketAddr),
    /// A unix socket; a relative path starts at the working directory.
    Unix(Arc<Path>),
}

impl ListenAddress {
    /// `None` of a unix socket.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Ip(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    pub fn port(&self) -> Option<u16> {
        self.ip().map(|address| address.port())
    }
}

impl Default for ListenAddress {
    fn default() -> Self {
        ListenAddress::Ip(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        ListenAddress::Ip(address)
    }
}

impl FromStr for ListenAddress {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(path) = s.strip_prefix("unix:") {
            return unix(s, path).map(ListenAddress::Unix);
        }
        let address = match s.strip_prefix("*:") {
            Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            None => s.parse().ok(),
        };
        match address {
            Some(a) if a.port() == 0 => Err(format!("`{s}` has port 0\nname the port, from 1 to 65535")),
            Some(a) => Ok(ListenAddress::Ip(a)),
            None => Err(format!(
                "`{s}` is not an address to listen on\nwrite IP:PORT, such as 127.0.0.1:8080, [::1]:8080 or *:8080{}",
                if s.starts_with("localhost") { " (for localhost: 127.0.0.1)" } else { "" }
            )),
        }
    }
}

/// The path of a unix socket, as it stands in `s`.
pub(super) fn unix(s: &str, path: &str) -> Result<Arc<Path>, String> {
    if path.starts_with('@') {
        return Err("not supported yet: sockets in the abstract namespace\nname a file, such as unix:/run/weirgate.sock".into());
    }
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err(format!("`{s}` names no file\nwrite it as unix:/run/weirgate.sock"));
    }
    if path.len() > LONGEST_PATH {
        return Err(format!(
            "the path of a unix socket has at most {LONGEST_PATH} bytes, and this one has {}\nuse a shorter one",
            path.len()
        ));
    }
    Ok(Path::new(path).into())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
text_word!(ListenAddress, ["127.0.0.1:8080", "[::]:8443", "*:80", "unix:/run/weirgate.sock"]);

/// The permissions of a unix socket, as in chmod(1): `0660`. Whoever may write may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl FromStr for SocketMode {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let octal = (3..=4).contains(&s.len()) && s.bytes().all(|digit| (b'0'..b'8').contains(&digit));
        match u32::from_str_radix(s, 8) {
            Ok(mode) if octal && mode <= 0o777 => Ok(SocketMode(mode)),
            Ok(_) | Err(_) => {
                Err(format!("`{s}` is no mode\nwrite three or four octal digits, such as 0660"))
            }
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}
text_word!(SocketMode, ["0660"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_back_as_written() {
        for text in ["127.0.0.1:8080", "[::]:8443", "unix:/run/weirgate.sock", "unix:weirgate.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        let unix = "unix:/run/weirgate.sock".parse::<ListenAddress>().unwrap();
        assert_eq!((unix.ip(), unix.port()), (None, None));
        for text in ["0660", "0666", "0007"] {
            assert_eq!(text.parse::<SocketMode>().unwrap().to_string(), text);
        }
        assert_eq!("660".parse(), Ok(SocketMode(0o660)));
    }

    #[test]
    fn what_is_no_place_to_listen_is_refused() {
        let long = format!("unix:/{}", "x".repeat(LONGEST_PATH));
        for text in ["unix:", "unix:/run/", "unix:@name", "unix:a\0b", &long, "localhost:80", "127.0.0.1:0"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
        for text in ["", "66", "0668", "1777", "00660", "rw-"] {
            assert!(text.parse::<SocketMode>().is_err(), "{text}");
        }
    }
}
