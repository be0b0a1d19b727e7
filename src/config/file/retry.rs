//! `retry`: when a request is tried again, of a group or a route.

use crate::config::decode::Located;
use crate::units::{Percent, Time};
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU16;

/// When a request is tried again, on another server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The most tries of one request, the first included.
    pub attempts: NonZeroU16,
    /// What is tried again. `connect`: no connection was made, so nothing was sent. `reset`: the
    /// connection ended before any of the answer came. `timeout`: nothing of the answer came in
    /// time. A status: the server answered that. All but `connect` only for idempotent methods (RFC
    /// 9110 §9.2.2).
    pub when: Vec<RetryWhen>,
    /// Whether requests of other methods (POST, PATCH) are tried again as well, although a server
    /// may have acted on them.
    pub non_idempotent: bool,
    /// No try begins later than this after the request came.
    pub within: Option<Time>,
    /// How long to wait before the next try; each wait is up to twice as long as the one before, by
    /// chance. At once without it.
    pub backoff: Option<Backoff>,
    /// A second try beside the first when that takes longer than most; the first answer wins. For
    /// requests without a body whose method is idempotent. Never without it.
    pub hedge: Option<Located<Hedge>>,
    /// How many retries there may be beside first tries, so that they do not make an outage worse.
    /// Tries after `connect` are not counted: they cost no server anything.
    pub budget: Option<Located<Budget>>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: NonZeroU16::MIN.saturating_add(2),
            when: vec![RetryWhen::Connect, RetryWhen::Reset],
            non_idempotent: false,
            within: None,
            backoff: None,
            hedge: None,
            budget: None,
        }
    }
}

/// The pause before a further try.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// Before the second try, at most.
    pub base: Time,
    /// Before any try, at most.
    pub max: Time,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base: Time::millis(25), max: Time::millis(250) }
    }
}

/// A second try beside the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// When it begins: a time after the first, or a percentile of what the group's answers take, such as `p95`.
    pub after: HedgeAfter,
}

/// How long a first try may take before a second begins beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// So many percent of the group's answers come within it: 50 to 99.
    Percentile(u8),
    Time(Time),
}

impl Default for HedgeAfter {
    fn default() -> Self {
        HedgeAfter::Percentile(95)
    }
}

impl<'de> Deserialize<'de> for HedgeAfter {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.strip_prefix('p').map(str::parse) {
            Some(Ok(percent @ 50..=99)) => Ok(HedgeAfter::Percentile(percent)),
            Some(_) => Err(serde::de::Error::custom(format!(
                "`{text}` is not a percentile\nwrite p95, or another from p50 to p99, or a time such as 50ms"
            ))),
            None => text.parse().map(HedgeAfter::Time).map_err(serde::de::Error::custom),
        }
    }
}

impl Serialize for HedgeAfter {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            HedgeAfter::Percentile(percent) => s.collect_str(&format_args!("p{percent}")),
            HedgeAfter::Time(time) => time.serialize(s),
        }
    }
}

impl JsonSchema for HedgeAfter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HedgeAfter".into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let time = g.subschema_for::<Time>();
        schemars::json_schema!({
            "anyOf": [{ "type": "string", "pattern": "^p[5-9][0-9]$" }, time]
        })
    }
}

/// The retries of a group, beside its requests, over the last ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Budget {
    pub share: Percent,
    /// So many a second are always allowed.
    pub floor: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { share: Percent::of(20), floor: 10 }
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Map {
            share: Percent,
            floor: u32,
        }
        impl Default for Map {
            fn default() -> Self {
                let Budget { share, floor } = Budget::default();
                Map { share, floor }
            }
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Budget;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as 20%, or a map with share and floor")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Budget, E> {
                Ok(Budget { share: v.parse().map_err(E::custom)?, ..Budget::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Budget, A::Error> {
                let m = Map::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Budget { share: m.share, floor: m.floor })
            }
        }
        d.deserialize_any(V)
    }
}

impl JsonSchema for Budget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Budget".into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let share = g.subschema_for::<Percent>();
        schemars::json_schema!({
            "anyOf": [
                share,
                { "type": "object", "additionalProperties": false, "properties": {
                    "share": share,
                    "floor": { "description": "So many a second are always allowed.",
                               "type": "integer", "minimum": 0, "maximum": u32::MAX, "default": 10 } } }
            ]
        })
    }
}

/// What has gone wrong with a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryWhen {
    Connect,
    Reset,
    Timeout,
    /// 400 to 599.
    Status(u16),
}

impl<'de> Deserialize<'de> for RetryWhen {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = RetryWhen;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("connect, reset, timeout, or a status such as 503")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<RetryWhen, E> {
                match v {
                    "connect" => Ok(RetryWhen::Connect),
                    "reset" => Ok(RetryWhen::Reset),
                    "timeout" => Ok(RetryWhen::Timeout),
                    v => match v.parse() {
                        Ok(status) => self.visit_u64(status),
                        Err(_) => Err(E::unknown_variant(v, &["connect", "reset", "timeout"])),
                    },
                }
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<RetryWhen, E> {
                match u16::try_from(v) {
                    Ok(status @ 400..=599) => Ok(RetryWhen::Status(status)),
                    _ => Err(E::custom(format!(
                        "{v} is not the status of a failure\nwrite one from 400 to 599, such as 503"
                    ))),
                }
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for RetryWhen {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            RetryWhen::Connect => s.serialize_str("connect"),
            RetryWhen::Reset => s.serialize_str("reset"),
            RetryWhen::Timeout => s.serialize_str("timeout"),
            RetryWhen::Status(status) => s.serialize_u16(*status),
        }
    }
}

impl JsonSchema for RetryWhen {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RetryWhen".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "enum": ["connect", "reset", "timeout"] },
                { "type": "integer", "minimum": 400, "maximum": 599 }
            ]
        })
    }
}
