//! The YAML shape, as typed, and nothing else: every key a user can write, its default and its
//! documentation. `config::check` turns a [`File`] into a `Plan`.
//!
//! The doc comments here are the reference of the configuration: they become the JSON Schema.

mod access_log;
mod acme;
mod admin;
mod balance;
mod discover;
mod error_page;
mod health;
mod health_udp;
mod layer4;
mod limits;
mod listener;
mod passive;
mod passthrough;
mod retry;
mod route;
mod server;
mod sticky;
mod tls;
mod tracing;
mod udp;
mod upstream;
mod upstream_tls;

pub use access_log::*;
pub use acme::*;
pub use admin::*;
pub use balance::*;
pub use discover::*;
pub use error_page::*;
pub use health::*;
pub use health_udp::*;
pub use layer4::*;
pub use limits::*;
pub use listener::*;
pub use passive::*;
pub use passthrough::*;
pub use retry::*;
pub use route::*;
pub use server::*;
pub use sticky::*;
pub use tls::*;
pub use tracing::*;
pub use udp::*;
pub use upstream::*;
pub use upstream_tls::*;

use crate::config::decode::{Located, Raw};
use crate::config::words::Cidr;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// The configuration of a weirgate process.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Other files to read, as globs relative to this file. Their lists are appended and their maps merged.
    #[serde(skip_serializing)]
    pub include: Option<OneOrMany<String>>,
    /// The process: threads, pid file, user, graceful shutdown.
    pub server: Server,
    /// Whose `X-Forwarded-*`, `Forwarded` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<Located<Cidr>>,
    /// Which headers about the client are added to requests.
    pub proxy_headers: ProxyHeaders,
    /// The process log and the access log.
    pub log: Log,
    /// Where connections are accepted.
    pub listeners: Vec<Located<Listener>>,
    /// Named filter chains, used with `use: NAME`. Requests pass them as written, responses in reverse.
    pub filters: Table<Vec<Raw>>,
    /// Which request goes where. The most specific route wins: host, then exact path, then longest
    /// prefix, then regex in file order, then most conditions.
    #[serde(
        deserialize_with = "in_one_piece",
        serialize_with = "crate::config::secret::serialize_in_pieces"
    )]
    pub routes: Vec<Located<Route>>,
    /// Named groups of servers.
    #[serde(serialize_with = "crate::config::secret::serialize_in_pieces")]
    pub upstreams: Table<Upstream>,
    /// What clients are shown instead of the gate's own replies, where their route does not say.
    pub error_pages: Vec<Located<ErrorPage>>,
    /// How the names of servers are asked for.
    pub dns: Located<Dns>,
    /// The authorities that certificates are ordered from, over ACME.
    pub acme: Table<Located<Acme>>,
    /// Where the process is asked what it does and told what to do: metrics, API, dashboard.
    pub admin: Located<Admin>,
    /// Distributed tracing. Off without it.
    pub tracing: Option<Located<Tracing>>,

    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub caches: Later,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub stores: Later,
}

/// A key of the vocabulary that is not built yet: writing it is an error, never ignored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Later;

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(d)?;
        Err(serde::de::Error::custom("not supported yet"))
    }
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany(items))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Self::Value, E> {
                one(serde::de::value::StrDeserializer::new(v))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                one(serde::de::value::MapAccessDeserializer::new(map))
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Self::Value, E> {
                one(serde::de::value::U64Deserializer::new(v))
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Self::Value, E> {
                one(serde::de::value::I64Deserializer::new(v))
            }
        }
        fn one<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<OneOrMany<T>, D::Error> {
            Ok(OneOrMany(vec![T::deserialize(d)?]))
        }
        d.deserialize_any(V(PhantomData))
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let one = g.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A list of many large items. serde begins with room for 1 MiB of them, whatever the list says of its length, and
/// moves them each time that they have no room, which is a quarter of the time to read 10,000 routes.
fn in_one_piece<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    /// Bytes of room at first: a list may hold other things than what is made of them.
    const ROOM: usize = 64 << 20;
    struct V<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let room = ROOM / size_of::<T>().max(1);
            let mut items = Vec::with_capacity(seq.size_hint().unwrap_or_default().min(room));
            while let Some(item) = seq.next_element()? {
                items.push(item);
            }
            Ok(items)
        }
    }
    d.deserialize_seq(V(PhantomData))
}

/// A map from names to values that remembers the order and the place of each name.
#[derive(Debug, Clone, PartialEq)]
pub struct Table<T>(pub Vec<(Located<String>, T)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(Vec::new())
    }
}

impl<T> Table<T> {
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(k, _)| k.value == name).map(|(_, v)| v)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _)| k.value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Located<String>, &T)> {
        self.0.iter().map(|(k, v)| (k, v))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Table<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Table(entries))
            }
        }
        d.deserialize_map(V(PhantomData))
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(&name.value, value)?;
        }
        map.end()
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Table_{}", T::schema_name()).into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        <BTreeMap<String, T>>::json_schema(g)
    }
}
