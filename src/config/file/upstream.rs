//! `upstreams`: named groups of servers, how one is chosen, watched and given up on.

use crate::config::decode::Located;
use crate::config::file::{
    Balance, Breakers, Discover, HealthCheck, OneOrMany, Outlier, Panic, Retry, Sticky, UpstreamLimits,
    UpstreamProtocol, UpstreamTls,
};
use crate::config::words::{HostName, ServerAddress};
use crate::units::{Percent, Time};
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU16;

/// A named group of servers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// How a server is chosen for a request: the name of an algorithm, or a map with its settings.
    pub balance: Balance,
    /// The servers: `IP:PORT` or `NAME:PORT`, or a map with `address`, `weight`, `priority`, `zone` and `drain`.
    pub servers: Vec<Located<Member>>,
    /// Where further servers come from while the gate runs: DNS or a watched file; one source or a list.
    pub discover: OneOrMany<Located<Discover>>,
    /// How the health of the servers is watched; they are taken to be up without it.
    pub health_check: Option<Located<HealthCheck>>,
    /// How a client stays with its server; each request is balanced on its own without it.
    pub sticky: Option<Located<Sticky>>,
    /// When a request is tried again, on another server.
    pub retry: Retry,
    /// When a server is ejected for a while because of how it answers; never without it.
    pub outlier: Option<Located<Outlier>>,
    /// Circuit breakers for the servers and for the group; none without it.
    pub breaker: Option<Located<Breakers>>,
    /// With less than this share of its servers healthy, requests go to all of them, whatever health
    /// checks, ejections and breakers say; or `off`.
    pub panic: Panic,
    /// How long to wait for a server.
    pub timeouts: Timeouts,
    /// The `Host` that servers see: `preserve` (the client's), `server` (the server's address), or a name.
    pub host: UpstreamHost,
    /// What is spoken to the servers: `h1`, `h2` (over TLS), `h2c` (in plaintext), or `auto`, whatever a
    /// server prefers of `h2` and `h1` over TLS.
    pub protocol: Located<UpstreamProtocol>,
    /// TLS is spoken to the servers, and their certificates are verified; plaintext without it.
    pub tls: Option<Located<UpstreamTls>>,
    /// The time over which a server that is new or has recovered comes to its whole share; at once
    /// without it.
    pub slow_start: Option<Time>,
    /// When traffic spills over to servers that come later.
    pub spill_over: SpillOver,
    /// How long a draining server keeps the sticky sessions it has.
    pub drain_timeout: DrainTimeout,
    /// How much its servers are asked to do at once, and who waits then; no limits without it.
    pub limits: Option<Located<UpstreamLimits>>,
    /// Connections begin with a header of the PROXY protocol, `v1` or `v2`, that tells the server of the client; of
    /// none without it.
    pub send_proxy: Option<SendProxy>,
}

/// The version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SendProxy {
    V1,
    /// With the name that the client has asked for by SNI, and what it speaks over TLS.
    V2,
}

/// The shares of servers, by weight, that must be usable for traffic to stay with them.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpillOver {
    /// With less than this share of a tier usable, requests go on to the next tier in proportion;
    /// at 0% only when none is.
    pub tier: Percent,
    /// With less than this share of the local zone's servers usable, requests go to other zones in
    /// proportion; at 0% only when none is.
    pub zone: Percent,
}

impl Default for SpillOver {
    fn default() -> Self {
        SpillOver { tier: Percent::of(0), zone: Percent::of(70) }
    }
}

/// A time with a default of its own.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct DrainTimeout(pub Time);

impl Default for DrainTimeout {
    fn default() -> Self {
        DrainTimeout(Time::secs(300))
    }
}

/// One server of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    pub address: ServerAddress,
    pub weight: NonZeroU16,
    /// The tier: 0 is used first, the next when those before are down.
    pub priority: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// It gets no new sessions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            address: ServerAddress,
            #[serde(default = "one")]
            weight: Weight,
            #[serde(default)]
            priority: u16,
            #[serde(default)]
            zone: Option<String>,
            #[serde(default)]
            drain: bool,
        }
        fn one() -> Weight {
            Weight(NonZeroU16::MIN)
        }
        struct Weight(NonZeroU16);
        impl<'de> Deserialize<'de> for Weight {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let n = u64::deserialize(d)?;
                u16::try_from(n).ok().and_then(NonZeroU16::new).map(Weight).ok_or_else(|| {
                    serde::de::Error::custom(
                        "a weight is a whole number from 1 to 65535\nto take a server out, write `drain: true` or remove it from the list",
                    )
                })
            }
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Member;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("IP:PORT or NAME:PORT, or a map with address, weight, priority, zone and drain")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Member, E> {
                let address = v.parse().map_err(E::custom)?;
                Ok(Member { address, weight: NonZeroU16::MIN, priority: 0, zone: None, drain: false })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member, A::Error> {
                let m = Map::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let Map { address, weight: Weight(weight), priority, zone, drain } = m;
                Ok(Member { address, weight, priority, zone, drain })
            }
        }
        d.deserialize_any(V)
    }
}

impl JsonSchema for Member {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Member".into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let address = g.subschema_for::<ServerAddress>();
        schemars::json_schema!({
            "anyOf": [
                address,
                { "type": "object", "additionalProperties": false, "required": ["address"], "properties": {
                    "address": address,
                    "weight": { "description": "How many requests, relative to the other servers.",
                                "type": "integer", "minimum": 1, "maximum": 65535, "default": 1 },
                    "priority": { "description": "The tier: 0 is used first, the next when those before are down.",
                                  "type": "integer", "minimum": 0, "maximum": 65535, "default": 0 },
                    "zone": { "description": "Where it is; servers in the zone of the process are preferred.",
                              "type": "string" },
                    "drain": { "description": "It gets no new sessions.", "type": "boolean", "default": false } } }
            ]
        })
    }
}

/// How long to wait for a server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// A connection is made within this (504).
    pub connect: Time,
    /// The TLS handshake on it is complete within this (504); `connect` without it.
    pub tls: Option<Time>,
    /// The server's longest silence, before and within its answer (504).
    pub response: Time,
    /// The head of the answer is here within this after the whole request was sent (504); `response`
    /// without it.
    pub first_byte: Option<Time>,
    /// A try has brought the head of an answer within this after it began (504).
    #[serde(rename = "try")]
    pub one_try: Option<Time>,
    /// The answer is complete within this after the request began, whatever it takes (504).
    pub request: Option<Time>,
    /// The server's longest silence after it has switched protocols, as for a WebSocket.
    pub tunnel: Time,
    /// An unused connection to a server is kept this long.
    pub idle: Time,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Time::secs(3),
            tls: None,
            response: Time::secs(60),
            first_byte: None,
            one_try: None,
            request: None,
            tunnel: Time::secs(3600),
            idle: Time::secs(60),
        }
    }
}

/// The `Host` that servers see.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum UpstreamHost {
    #[default]
    Preserve,
    Server,
    Name(HostName),
}

impl<'de> Deserialize<'de> for UpstreamHost {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.as_str() {
            "preserve" => Ok(UpstreamHost::Preserve),
            "server" => Ok(UpstreamHost::Server),
            name => name.parse().map(UpstreamHost::Name).map_err(serde::de::Error::custom),
        }
    }
}

impl Serialize for UpstreamHost {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            UpstreamHost::Preserve => s.serialize_str("preserve"),
            UpstreamHost::Server => s.serialize_str("server"),
            UpstreamHost::Name(name) => name.serialize(s),
        }
    }
}

impl JsonSchema for UpstreamHost {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UpstreamHost".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["preserve", "server", "api.internal"] })
    }
}
