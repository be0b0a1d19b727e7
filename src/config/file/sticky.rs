//! `sticky` of an upstream: how a client stays with its server.

use crate::config::decode::Located;
use crate::config::secret::Secret;
use crate::units::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

/// How a client stays with its server. Exactly one of `cookie` and `learn`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sticky {
    /// By a cookie of the gate's own, encrypted, which names the server.
    pub cookie: Option<Located<StickyCookie>>,
    /// By what the servers set themselves, such as the cookie of their sessions.
    pub learn: Option<Located<Learn>>,
}

/// The cookie that the gate sets and understands.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StickyCookie {
    /// The name of the cookie. Groups that serve one site need a name each.
    pub name: Located<String>,
    /// What the cookie is encrypted with, at least 16 bytes: `openssl rand -hex 32`. The same at
    /// every replica. Required.
    pub secret: Option<Located<Secret>>,
    /// The secret before this one: its cookies are understood and replaced.
    pub previous_secret: Option<Located<Secret>>,
    /// How long after the last visit a client stays with its server; until it closes the browser without this.
    pub ttl: Option<Located<Time>>,
    /// `Path`: where below the cookie is sent.
    pub path: Located<String>,
    /// `Domain`: the domain and all below it; without this, the host that was asked for.
    pub domain: Option<Located<String>>,
    /// `SameSite`: whether the cookie comes along when another site makes the request.
    pub same_site: SameSite,
    /// `Secure`: whether the cookie is sent over https only. `auto`: where the client used https.
    pub secure: Located<Secure>,
    /// `HttpOnly`: scripts do not see the cookie.
    pub http_only: bool,
}

impl Default for StickyCookie {
    fn default() -> Self {
        StickyCookie {
            name: Located::from("weirgate".to_string()),
            secret: None,
            previous_secret: None,
            ttl: None,
            path: Located::from("/".to_string()),
            domain: None,
            same_site: SameSite::default(),
            secure: Located::default(),
            http_only: true,
        }
    }
}

/// `SameSite` of a cookie (RFC 6265bis §5.6.7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    #[default]
    Lax,
    Strict,
    None,
}

impl SameSite {
    /// As in `Set-Cookie`.
    pub fn as_str(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}

/// When a cookie is `Secure`: `auto`, `true` or `false`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secure {
    #[default]
    Auto,
    Always,
    Never,
}

impl<'de> Deserialize<'de> for Secure {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Secure;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, true or false")
            }
            fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Secure, E> {
                Ok(if v { Secure::Always } else { Secure::Never })
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Secure, E> {
                match v {
                    "auto" => Ok(Secure::Auto),
                    v => Err(E::unknown_variant(v, &["auto", "true", "false"])),
                }
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for Secure {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Secure::Auto => s.serialize_str("auto"),
            Secure::Always => s.serialize_bool(true),
            Secure::Never => s.serialize_bool(false),
        }
    }
}

impl JsonSchema for Secure {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secure".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["auto", true, false] })
    }
}

/// What servers set, and clients bring again. Exactly one of `cookie` and `header`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Learn {
    /// The name of a cookie that servers set.
    pub cookie: Option<Located<String>>,
    /// The name of a header, of responses and of requests.
    pub header: Option<Located<String>>,
    /// How long a value is remembered after its last use.
    pub ttl: Located<Time>,
    /// How many values are remembered; the least recently used is forgotten first.
    pub entries: NonZeroU32,
}

impl Default for Learn {
    fn default() -> Self {
        Learn {
            cookie: None,
            header: None,
            ttl: Located::from(Time::secs(3600)),
            entries: NonZeroU32::MIN.saturating_add(99_999),
        }
    }
}
