//! `discover` of a group: where servers come from while the gate runs; and `dns`, how names are asked for.

use crate::config::decode::Located;
use crate::config::words::{DnsName, ResolverAddress};
use crate::units::Time;
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU16;

/// How names are asked for: those of servers, and those under `discover` that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// The name servers, `IP` or `IP:PORT`; those of the system (`/etc/resolv.conf`) when none is given.
    pub resolvers: Vec<ResolverAddress>,
    /// A name is asked for again when its TTL is over, but not before this; a TTL of 0 means this.
    pub min_interval: Time,
    /// A name is asked for again after this at the latest, however long its TTL.
    pub max_interval: Time,
    /// How long one question may take, with all its tries.
    pub timeout: Time,
}

impl Default for Dns {
    fn default() -> Self {
        Dns {
            resolvers: Vec::new(),
            min_interval: Time::secs(1),
            max_interval: Time::secs(60),
            timeout: Time::secs(5),
        }
    }
}

/// A source of servers. Exactly one of `dns` and `file`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discover {
    /// The addresses of a name, or the servers in its SRV records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsDiscovery>,
    /// A file with a list of servers, YAML or JSON, which is watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileDiscovery>,
}

/// Servers found in DNS.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsDiscovery {
    /// The name asked for.
    pub name: Located<DnsName>,
    /// The port of each address. SRV records bring their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Located<NonZeroU16>>,
    /// Which records are asked for: `srv` when the name begins with `_`, otherwise `a_aaaa`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub records: Option<DnsRecords>,
    /// Instead of those of the top-level `dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolvers: Option<Vec<ResolverAddress>>,
    /// Instead of that of the top-level `dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_interval: Option<Time>,
    /// Instead of that of the top-level `dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_interval: Option<Time>,
    /// Instead of that of the top-level `dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
}

impl DnsDiscovery {
    /// The records asked for, by the form of the name when they are not named.
    pub fn records(&self) -> DnsRecords {
        let by_name = if self.name.0.starts_with('_') { DnsRecords::Srv } else { DnsRecords::AAaaa };
        self.records.unwrap_or(by_name)
    }

    /// What is said here, and for the rest the top-level `dns`.
    pub fn settings(&self, top: &Dns) -> Dns {
        Dns {
            resolvers: self.resolvers.clone().unwrap_or_else(|| top.resolvers.clone()),
            min_interval: self.min_interval.unwrap_or(top.min_interval),
            max_interval: self.max_interval.unwrap_or(top.max_interval),
            timeout: self.timeout.unwrap_or(top.timeout),
        }
    }
}

/// The DNS records that name servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsRecords {
    /// IPv4 and IPv6 addresses.
    #[serde(rename = "a_aaaa")]
    AAaaa,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Names with port, priority and weight (RFC 2782).
    Srv,
}

/// A file with a list of servers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileDiscovery {
    pub path: Located<String>,
    pub interval: Time,
}

impl FileDiscovery {
    const INTERVAL: Time = Time::secs(1);
}

impl<'de> Deserialize<'de> for FileDiscovery {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            path: Located<String>,
            #[serde(default = "interval")]
            interval: Time,
        }
        fn interval() -> Time {
            FileDiscovery::INTERVAL
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = FileDiscovery;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a map with path and interval")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<FileDiscovery, E> {
                let path = Located::deserialize(serde::de::value::StrDeserializer::new(v))?;
                Ok(FileDiscovery { path, interval: FileDiscovery::INTERVAL })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FileDiscovery, A::Error> {
                let m = Map::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(FileDiscovery { path: m.path, interval: m.interval })
            }
        }
        d.deserialize_any(V)
    }
}

impl JsonSchema for FileDiscovery {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FileDiscovery".into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let time = g.subschema_for::<Time>();
        schemars::json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "object", "additionalProperties": false, "required": ["path"], "properties": {
                    "path": { "description": "The file, relative to the working directory.", "type": "string" },
                    "interval": time } }
            ]
        })
    }
}
