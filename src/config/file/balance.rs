//! `balance`: how a group chooses a server, with the settings of those algorithms that have any.

use crate::config::file::Key;
use crate::units::{Multiple, Time};
use schemars::{JsonSchema, Schema};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a server is chosen: a name, or a map from the name to its settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = name_alone)]
pub enum Balance {
    /// In turn, each as often as its weight says, evenly spread (nginx's smooth weighted round robin).
    #[default]
    RoundRobin,
    /// By chance, each as often as its weight says.
    Random,
    /// The server with the fewest requests in flight, relative to its weight.
    LeastConnections,
    /// The better of two servers drawn by weight: the one with fewer requests in flight, relative to its weight.
    PowerOfTwo,
    /// The server that is expected to answer soonest: response time (peak EWMA) times requests in flight.
    LeastTime(LeastTime),
    /// By the client's address (IPv6 by /64): a client keeps its server as long as the servers stay the same.
    IpHash,
    /// By the hash of a key: requests with the same key go to the same server as long as the servers stay the same.
    #[serde(deserialize_with = "hash")]
    Hash(KeyHash),
    /// By the hash of a key on a ring (ketama): when a server comes or goes, few keys change their server.
    ConsistentHash(ConsistentHash),
    /// By the hash of a key in Maglev's table: as `consistent_hash`, with evener shares.
    #[serde(deserialize_with = "maglev")]
    Maglev(KeyHash),
}

impl Balance {
    /// The name that users write.
    pub fn name(&self) -> &'static str {
        match self {
            Balance::RoundRobin => "round_robin",
            Balance::Random => "random",
            Balance::LeastConnections => "least_connections",
            Balance::PowerOfTwo => "power_of_two",
            Balance::LeastTime(_) => "least_time",
            Balance::IpHash => "ip_hash",
            Balance::Hash(_) => "hash",
            Balance::ConsistentHash(_) => "consistent_hash",
            Balance::Maglev(_) => "maglev",
        }
    }

    /// The keys by which requests are told apart, the first that a request has counts; none for
    /// algorithms that do not look at requests.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let (key, fallback) = match self {
            Balance::IpHash => (Some(&Key::Client), None),
            Balance::Hash(hash) | Balance::Maglev(hash) => (Some(&hash.key), hash.fallback.as_ref()),
            Balance::ConsistentHash(hash) => (Some(&hash.key), hash.fallback.as_ref()),
            Balance::RoundRobin
            | Balance::Random
            | Balance::LeastConnections
            | Balance::PowerOfTwo
            | Balance::LeastTime(_) => (None, None),
        };
        key.into_iter().chain(fallback)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How response times are remembered.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeastTime {
    /// A response time counts for a third of itself after this, and so does the memory of a slow server.
    pub decay: Time,
    /// A try that failed counts as a response that took this long.
    pub failure_penalty: Time,
}

impl Default for LeastTime {
    fn default() -> Self {
        LeastTime { decay: Time::secs(10), failure_penalty: Time::secs(5) }
    }
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeyHash {
    /// Requests with the same key go to the same server.
    pub key: Key,
    /// The key of requests that do not have the first; they go anywhere without it.
    pub fallback: Option<Key>,
}

/// `hash` and `maglev` have the same settings; a mistake is told under the name that was written.
fn hash<'de, D: Deserializer<'de>>(d: D) -> Result<KeyHash, D::Error> {
    keyed(d, "hash")
}

fn maglev<'de, D: Deserializer<'de>>(d: D) -> Result<KeyHash, D::Error> {
    keyed(d, "maglev")
}

fn keyed<'de, D: Deserializer<'de>>(d: D, name: &str) -> Result<KeyHash, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Map {
        key: Option<Key>,
        fallback: Option<Key>,
    }
    let Map { key, fallback } = Map::deserialize(d)?;
    Ok(KeyHash { key: key.ok_or_else(|| keyless(name))?, fallback })
}

/// What is hashed, and how much of the load one key may bring upon its server.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConsistentHash {
    /// Requests with the same key go to the same server.
    pub key: Key,
    /// The key of requests that do not have the first; they go anywhere without it.
    pub fallback: Option<Key>,
    /// No server has more requests in flight than this much of the average; its keys go to the next then.
    /// Unbounded without it.
    pub max_load: Option<Multiple>,
}

impl<'de> Deserialize<'de> for ConsistentHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            key: Option<Key>,
            fallback: Option<Key>,
            max_load: Option<Multiple>,
        }
        let Map { key, fallback, max_load } = Map::deserialize(d)?;
        Ok(ConsistentHash { key: key.ok_or_else(|| keyless("consistent_hash"))?, fallback, max_load })
    }
}

fn keyless<E: Error>(name: &str) -> E {
    E::custom(format!(
        "it is not said what of a request is hashed\nname a key: `balance: {{ {name}: {{ key: client }} }}`, or path, host, {{ header: NAME }}, {{ cookie: NAME }}, {{ query: NAME }}"
    ))
}

/// `least_time` has settings but needs none, so its name alone will do.
fn name_alone(schema: &mut Schema) {
    let name = serde_json::json!({ "type": "string", "const": "least_time" });
    if let Some(choices) = schema.get_mut("oneOf").and_then(|choices| choices.as_array_mut()) {
        choices.push(name);
    }
}
