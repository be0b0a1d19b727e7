//! The small words of the configuration that mean more than text: addresses, networks, host
//! patterns, statuses. Each is parsed once, when the file is read, and prints back as written.

use http::uri::Authority;
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Serde through `FromStr` and `Display`, and a schema of type string.
macro_rules! text_word {
    ($type:ident, $examples:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "examples": $examples })
            }
        }
    };
}

mod listen;
mod server;
pub use listen::{ListenAddress, SocketMode};
pub use server::{DnsName, ResolverAddress, ServerAddress};

/// A network or a single address: `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`; or `unix`, whoever connects to a unix
/// socket: they all have the address 0.0.0.0, as no other client can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

const UNIX: &str = "unix";

impl FromStr for Cidr {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        if let Ok(ip) = s.parse::<IpAddr>() {
            return Ok(Cidr(IpNet::from(ip)));
        }
        if matches!(s, UNIX | "unix:") {
            return Ok(Cidr(IpNet::from(IpAddr::from(Ipv4Addr::UNSPECIFIED))));
        }
        let net: IpNet = s.parse().map_err(|_| {
            format!("`{s}` is not an address or network\nwrite it as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32")
        })?;
        if net.addr() != net.network() {
            return Err(format!(
                "`{s}` has bits set after its prefix\nwrite {} or a longer prefix",
                net.trunc()
            ));
        }
        Ok(Cidr(net))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == IpNet::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)) {
            f.write_str(UNIX)
        } else if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}
text_word!(Cidr, ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "unix"]);

/// The name of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldName(pub http::HeaderName);

impl FromStr for FieldName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let name = http::HeaderName::from_bytes(s.as_bytes());
        name.map(FieldName).map_err(|_| format!("`{s}` is not a header name\nwrite it as x-tenant"))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}
text_word!(FieldName, ["x-tenant"]);

/// The name of a host, with a port where one is allowed: `api.internal`, `api.internal:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromStr for HostName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.parse::<Authority>() {
            Ok(a) if !s.contains('@') && !a.host().is_empty() => Ok(HostName(s.to_string())),
            Ok(_) | Err(_) => {
                Err(format!("`{s}` is not a host name\nwrite it as api.internal or api.internal:8080"))
            }
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
text_word!(HostName, ["api.internal"]);

/// Which hosts a route is for. Lower case, without port or trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// `www.example.com`
    Exact(String),
    /// `*.example.com`, kept as `example.com`: every name below it, at any depth, but not itself.
    Below(String),
}

impl FromStr for HostPattern {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let lower = s.trim_end_matches('.').to_ascii_lowercase();
        let (name, below) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (lower.as_str(), false),
        };
        if name.contains('*') {
            return Err(format!("`{s}` has a * that is not the whole first label\nwrite *.example.com"));
        }
        let bare_ipv6 = name.starts_with('[') && name.ends_with(']');
        if !bare_ipv6 && name.contains(':') {
            return Err(format!("`{s}` has a port\nleave the port out: hosts are matched without it"));
        }
        if name.is_empty() || name.contains('/') || name.parse::<Authority>().is_err() || name.contains('@') {
            return Err(format!("`{s}` is not a host name\nwrite www.example.com or *.example.com"));
        }
        Ok(if below { HostPattern::Below(name.to_string()) } else { HostPattern::Exact(name.to_string()) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(name) => write!(f, "*.{name}"),
        }
    }
}
text_word!(HostPattern, ["www.example.com", "*.example.com"]);

/// A request method: `GET`, `POST`, or any other token (RFC 9110 §9.1), in capitals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodName(pub http::Method);

impl FromStr for MethodName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        if s.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(format!(
                "methods are case-sensitive and written in capitals\nwrite {}",
                s.to_ascii_uppercase()
            ));
        }
        if s == "CONNECT" {
            return Err("CONNECT is never routed: the gate answers it with 405".into());
        }
        http::Method::from_bytes(s.as_bytes()).map(MethodName).map_err(|_| format!("`{s}` is not a method"))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}
text_word!(MethodName, ["GET", "POST"]);

/// A status or range of statuses: `200`, `2xx`, `200-299`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    pub from: u16,
    pub to: u16,
}

impl StatusRange {
    pub fn contains(&self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let status = |t: &str| t.parse::<u16>().ok().filter(|n| (100..=599).contains(n));
        let range = if let Some(class) = s.strip_suffix("xx").and_then(|c| c.parse::<u16>().ok()) {
            (1..=5).contains(&class).then_some((class * 100, class * 100 + 99))
        } else if let Some((from, to)) = s.split_once('-') {
            status(from).zip(status(to)).filter(|(from, to)| from <= to)
        } else {
            status(s).map(|n| (n, n))
        };
        range
            .map(|(from, to)| StatusRange { from, to })
            .ok_or_else(|| format!("`{s}` is not a status\nwrite 200, 2xx, 200-299 or a list of these"))
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (from, to) if from == to => write!(f, "{from}"),
            (from, to) if from % 100 == 0 && to == from + 99 => write!(f, "{}xx", from / 100),
            (from, to) => write!(f, "{from}-{to}"),
        }
    }
}

/// A number, or the text that `FromStr` takes.
fn number_or_text<'de, D, T>(d: D, what: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    struct V<T>(&'static str, std::marker::PhantomData<T>);
    impl<T: FromStr<Err = String>> Visitor<'_> for V<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<T, E> {
            self.visit_str(&v.to_string())
        }
        fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<T, E> {
            self.visit_str(&v.to_string())
        }
        fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<T, E> {
            v.parse().map_err(E::custom)
        }
    }
    d.deserialize_any(V(what, std::marker::PhantomData))
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        number_or_text(d, "a status such as 200, 2xx or 200-299")
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.from == self.to { s.serialize_u16(self.from) } else { s.collect_str(self) }
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^([1-5]xx|[1-5][0-9]{2}(-[1-5][0-9]{2})?)$" } ] })
    }
}

/// The status of a redirect: 301, 302, 303, 307 or 308 (RFC 9110 §15.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectStatus(pub u16);

impl Default for RedirectStatus {
    fn default() -> Self {
        RedirectStatus(308)
    }
}

impl FromStr for RedirectStatus {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.parse() {
            Ok(n @ (301 | 302 | 303 | 307 | 308)) => Ok(RedirectStatus(n)),
            Ok(_) | Err(_) => {
                Err(format!("`{s}` is not the status of a redirect\nuse 301, 302, 303, 307 or 308"))
            }
        }
    }
}

/// The status of an answer of our own: 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseStatus(pub u16);

impl ResponseStatus {
    pub const OK: ResponseStatus = ResponseStatus(200);
}

impl FromStr for ResponseStatus {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.parse() {
            Ok(n @ 200..=599) => Ok(ResponseStatus(n)),
            Ok(_) | Err(_) => Err(format!("`{s}` is not a final status\nuse a number from 200 to 599")),
        }
    }
}

macro_rules! status_word {
    ($type:ident, $schema:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                number_or_text(d, "a status")
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_u16(self.0)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}
status_word!(RedirectStatus, json_schema!({ "enum": [301, 302, 303, 307, 308] }));
status_word!(ResponseStatus, json_schema!({ "type": "integer", "minimum": 200, "maximum": 599 }));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_print_back_as_written() {
        for text in ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "unix"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["200", "2xx", "200-204"] {
            assert_eq!(text.parse::<StatusRange>().unwrap().to_string(), text);
        }
        for text in ["www.example.com", "*.example.com"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_refused_says_how_to_mend_it() {
        assert!("10.0.0.1/8".parse::<Cidr>().unwrap_err().contains("10.0.0.0/8"));
        assert!("a.*.b".parse::<HostPattern>().unwrap_err().contains("*.example.com"));
        assert!("a.b:80".parse::<HostPattern>().unwrap_err().contains("port"));
        assert!("get".parse::<MethodName>().unwrap_err().contains("GET"));
        assert!("6xx".parse::<StatusRange>().is_err());
        assert!("204-200".parse::<StatusRange>().is_err());
    }
}
