//! `health_check`: what is asked of the servers of a group, how, and how often.

use crate::config::decode::Located;
use crate::config::file::{OneOrMany, OrOff, Table, UdpCheck};
use crate::config::words::{HostName, MethodName, StatusRange};
use crate::units::{Size, Time};
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// How the health of each server is watched. Exactly one of `tcp`, `http`, `grpc` and `udp`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// A connection is accepted.
    pub tcp: Option<TcpCheck>,
    /// A request is answered as expected.
    pub http: Option<HttpCheck>,
    /// The service `grpc.health.v1.Health` says that it is serving.
    pub grpc: Option<GrpcCheck>,
    /// A datagram is answered as expected.
    pub udp: Option<Located<UdpCheck>>,
    /// The check speaks TLS; as requests to the servers do without it. `off` for plaintext whatever they do.
    pub tls: Option<OrOff<CheckTls>>,
    /// The port that is checked; the server's own without it.
    pub port: Option<NonZeroU16>,
    /// How often each server is checked.
    pub interval: Time,
    /// How often a server is checked while it is down; `interval` without it.
    pub unhealthy_interval: Option<Time>,
    /// How long one check may take in all.
    pub timeout: Time,
    /// This many checks in a row must pass before a server is used again.
    pub healthy_after: NonZeroU16,
    /// This many checks in a row must fail before a server is no longer used.
    pub unhealthy_after: NonZeroU16,
    /// What a server is taken to be before its first check.
    pub initial: InitialHealth,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            tcp: None,
            http: None,
            grpc: None,
            udp: None,
            tls: None,
            port: None,
            interval: Time::secs(5),
            unhealthy_interval: None,
            timeout: Time::secs(1),
            healthy_after: NonZeroU16::MIN.saturating_add(1),
            unhealthy_after: NonZeroU16::MIN.saturating_add(1),
            initial: InitialHealth::Up,
        }
    }
}

/// What a server is taken to be before its first check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitialHealth {
    /// It gets requests at once.
    #[default]
    Up,
    /// It gets none before its first check, which comes at once. When that one passes it is up;
    /// otherwise `healthy_after` checks have to.
    Down,
    /// What it was when it left the group, and up when that is not known.
    LastKnown,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpCheck {}

/// A request that a healthy server answers as expected.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCheck {
    /// The method; `GET` without it.
    pub method: Located<MethodName>,
    /// The path (and query) asked for.
    pub path: Located<String>,
    /// The statuses that count as healthy: `200`, `2xx`, `200-299`, or a list of these.
    pub status: OneOrMany<StatusRange>,
    /// The `Host` header; the server's address without it.
    pub host: Option<HostName>,
    /// Further headers of the request.
    pub headers: Table<Located<String>>,
    /// A text that the body must contain, or `{ regex: ... }` that it must match.
    pub body: Option<BodyMatch>,
    /// How much of the body is read to find `body`.
    pub max_body_bytes: Size,
}

impl Default for HttpCheck {
    fn default() -> Self {
        HttpCheck {
            method: Located::from(MethodName(http::Method::GET)),
            path: Located::from("/".to_string()),
            status: OneOrMany(vec![StatusRange { from: 200, to: 299 }]),
            host: None,
            headers: Table::default(),
            body: None,
            max_body_bytes: Size(64 * 1024),
        }
    }
}

/// What the body of an answer must be like: a text it contains, or a map with `regex`.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyMatch {
    Contains(String),
    /// Matches anywhere unless anchored with `^` and `$`.
    Regex(Located<String>),
}

impl<'de> Deserialize<'de> for BodyMatch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            regex: Located<String>,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = BodyMatch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a map with regex")
            }
            fn visit_str<E>(self, v: &str) -> Result<BodyMatch, E> {
                Ok(BodyMatch::Contains(v.to_string()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<BodyMatch, E> {
                Ok(BodyMatch::Contains(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<BodyMatch, E> {
                Ok(BodyMatch::Contains(v.to_string()))
            }
            fn visit_bool<E>(self, v: bool) -> Result<BodyMatch, E> {
                Ok(BodyMatch::Contains(v.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BodyMatch, A::Error> {
                let map = Map::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(BodyMatch::Regex(map.regex))
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for BodyMatch {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            BodyMatch::Contains(text) => s.serialize_str(text),
            BodyMatch::Regex(regex) => {
                let mut map = s.serialize_map(Some(1))?;
                map.serialize_entry("regex", &regex.value)?;
                map.end()
            }
        }
    }
}

impl JsonSchema for BodyMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BodyMatch".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": ["string", "number", "boolean"], "description": "A text that the body must contain." },
                { "type": "object", "additionalProperties": false, "required": ["regex"],
                  "properties": {
                    "regex": { "type": "string", "description": "Matches anywhere unless anchored with ^ and $." } } }
            ]
        })
    }
}

/// The standard question to a gRPC server, over HTTP/2.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcCheck {
    /// The service asked about; the server as a whole without it.
    pub service: String,
    /// The `:authority`; the server's address without it.
    pub authority: Option<HostName>,
}

/// How checks speak TLS. What is not said here is as the group's `tls` says, if it has one.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckTls {
    /// The name sent (SNI) and looked for in the certificate; without it that of `http.host` or
    /// `grpc.authority`, or the server's address.
    pub sni: Option<Located<HostName>>,
    /// A PEM file with the authorities that are trusted; those of the system without it.
    pub ca: Option<Located<PathBuf>>,
    /// Whether the certificate is looked at; `false` takes any.
    pub verify: bool,
}

impl Default for CheckTls {
    fn default() -> Self {
        CheckTls { sni: None, ca: None, verify: true }
    }
}
