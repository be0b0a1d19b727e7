//! `outlier`, `breaker` and `panic`: what a group learns from live requests, and what it does about it.

use crate::config::decode::Located;
use crate::config::file::OneOrMany;
use crate::config::words::StatusRange;
use crate::units::{Percent, Time};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::{NonZeroU16, NonZeroU32};

/// When a server is ejected because of how it answers requests: it gets none for a while.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outlier {
    /// So many failures in a row, or `off`.
    pub consecutive_failures: OrOff<NonZeroU32>,
    /// This share of its requests fails, and not those of most others as well; or `off`.
    pub failure_share: OrOff<Located<FailureShare>>,
    /// It answers far slower than the others; or `off`.
    pub latency: OrOff<Located<Slowness>>,
    /// The answers that are failures, beside none at all: `5xx`, `502`, `500-504`, or a list of these.
    pub statuses: OneOrMany<Located<StatusRange>>,
    /// How long a server is ejected the first time; twice as long the second, and so on. One time is
    /// forgotten for each such time in which it is not ejected.
    pub ejection: Located<Time>,
    /// The longest ejection.
    pub max_ejection: Located<Time>,
    /// The most servers of the group that are ejected at once: at least one, but never all.
    pub max_ejected: Located<Percent>,
}

impl Default for Outlier {
    fn default() -> Self {
        Outlier {
            consecutive_failures: OrOff::On(NonZeroU32::MIN.saturating_add(4)),
            failure_share: OrOff::On(FailureShare::default().into()),
            latency: OrOff::Off,
            statuses: server_errors(),
            ejection: Time::secs(30).into(),
            max_ejection: Time::secs(300).into(),
            max_ejected: Percent::of(50).into(),
        }
    }
}

fn server_errors() -> OneOrMany<Located<StatusRange>> {
    OneOrMany(vec![StatusRange { from: 500, to: 599 }.into()])
}

/// Response times far above those of the other servers.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slowness {
    /// So many times the median of the others.
    pub times: NonZeroU16,
    /// Quicker than this is never too slow.
    pub at_least: Time,
    /// With fewer answers within the window nothing is said about a server.
    pub requests: NonZeroU32,
    /// How far back answers count.
    pub window: Time,
}

impl Default for Slowness {
    fn default() -> Self {
        Slowness {
            times: NonZeroU16::MIN.saturating_add(4),
            at_least: Time::millis(50),
            requests: NonZeroU32::MIN.saturating_add(19),
            window: Time::secs(10),
        }
    }
}

/// The share of requests in a window that fail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FailureShare {
    pub share: Percent,
    /// With fewer requests in the window nothing is said.
    pub requests: NonZeroU32,
    pub window: Time,
}

impl Default for FailureShare {
    fn default() -> Self {
        FailureShare {
            share: Percent::of(50),
            requests: NonZeroU32::MIN.saturating_add(19),
            window: Time::secs(10),
        }
    }
}

impl<'de> Deserialize<'de> for FailureShare {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Map {
            share: Percent,
            requests: NonZeroU32,
            window: Time,
        }
        impl Default for Map {
            fn default() -> Self {
                let FailureShare { share, requests, window } = FailureShare::default();
                Map { share, requests, window }
            }
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = FailureShare;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as 50%, or a map with share, requests and window")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<FailureShare, E> {
                Ok(FailureShare { share: v.parse().map_err(E::custom)?, ..FailureShare::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FailureShare, A::Error> {
                let Map { share, requests, window } = Map::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FailureShare { share, requests, window })
            }
        }
        d.deserialize_any(V)
    }
}

impl JsonSchema for FailureShare {
    fn schema_name() -> Cow<'static, str> {
        "FailureShare".into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let share = g.subschema_for::<Percent>();
        let window = g.subschema_for::<Time>();
        schemars::json_schema!({
            "anyOf": [
                share,
                { "type": "object", "additionalProperties": false, "properties": {
                    "share": share,
                    "requests": { "description": "With fewer requests in the window nothing is said.",
                                  "type": "integer", "minimum": 1, "maximum": u32::MAX, "default": 20 },
                    "window": window } }
            ]
        })
    }
}

/// Breakers: one for each server, one for the group as a whole.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breakers {
    /// A server whose breaker is open gets no requests. `off` for none.
    pub server: OrOff<Located<Breaker>>,
    /// While the breaker of the group is open, requests are answered 503 at once. `off` for none.
    pub group: OrOff<Located<Breaker>>,
}

impl Default for Breakers {
    fn default() -> Self {
        Breakers { server: OrOff::On(Breaker::default().into()), group: OrOff::Off }
    }
}

/// When a breaker opens, and how it closes again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// It opens when this share of the requests fails; or `off`.
    pub failure_share: OrOff<Located<FailureShare>>,
    /// It opens when a request comes while so many are in flight.
    pub pending: Option<NonZeroU32>,
    /// The answers that are failures, beside none at all: `5xx`, `502`, `500-504`, or a list of these.
    pub statuses: OneOrMany<Located<StatusRange>>,
    /// How long it stays open, before trial requests are let through.
    pub open: Located<Time>,
    /// So many trial requests at once, and so many must succeed before it closes; one that fails
    /// opens it again.
    pub trials: NonZeroU16,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            failure_share: OrOff::On(FailureShare::default().into()),
            pending: None,
            statuses: server_errors(),
            open: Time::secs(5).into(),
            trials: NonZeroU16::MIN.saturating_add(2),
        }
    }
}

/// The share of healthy servers below which health is ignored.
pub type Panic = OrOff<Located<Percent>>;

/// Something that can be turned `off`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum OrOff<T> {
    #[default]
    Off,
    On(T),
}

impl<T> OrOff<T> {
    pub fn on(&self) -> Option<&T> {
        match self {
            OrOff::Off => None,
            OrOff::On(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = OrOff<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("off, or what it is to be")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<OrOff<T>, E> {
                if v == "off" {
                    return Ok(OrOff::Off);
                }
                T::deserialize(v.into_deserializer()).map(OrOff::On)
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<OrOff<T>, E> {
                T::deserialize(v.into_deserializer()).map(OrOff::On)
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<OrOff<T>, E> {
                T::deserialize(v.into_deserializer()).map(OrOff::On)
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<OrOff<T>, E> {
                T::deserialize(v.into_deserializer()).map(OrOff::On)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OrOff<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OrOff::On)
            }
        }
        d.deserialize_any(V(PhantomData))
    }
}

impl<T: Serialize> Serialize for OrOff<T> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            OrOff::Off => s.serialize_str("off"),
            OrOff::On(value) => value.serialize(s),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrOff<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let on = g.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [on, { "const": "off" }] })
    }
}
