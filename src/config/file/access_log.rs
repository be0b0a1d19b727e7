//! `log.access`: what a line of the access log says, of which requests, and where it goes.

use crate::config::decode::Located;
use crate::config::words::{FieldName, ServerAddress};
use crate::template::LogLine;
use crate::units::{Percent, Size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

/// A line per request.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// JSON lines, the combined format of Apache and nginx, or a template.
    pub format: AccessFormat,
    /// Where the lines go.
    pub to: Located<LogTarget>,
    /// Headers that a JSON line has, beside its other fields.
    pub headers: Located<LoggedHeaders>,
    /// What is written as `[redacted]`.
    pub redact: Redact,
    /// The share of the requests that have a line. Those that failed always have one.
    pub sample: Percent,
    /// Begin the file anew when it has grown so large, and keep some of the old ones.
    pub rotate: Option<Located<Rotate>>,
}

impl Default for AccessLog {
    fn default() -> Self {
        AccessLog {
            format: AccessFormat::default(),
            to: Located::default(),
            headers: Located::default(),
            redact: Redact::default(),
            sample: Percent::of(100),
            rotate: None,
        }
    }
}

/// What a line looks like: `json`, `combined`, or a map with `template`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AccessFormat {
    #[default]
    Json,
    Combined,
    Template(LogTemplate),
}

/// A line of your own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogTemplate {
    /// The line, with placeholders: `{client} "{request}" {status} {duration_ms}`.
    pub template: LogLine,
    /// How bytes are written that could be taken for something else.
    #[serde(default)]
    pub escape: Escape,
}

/// How text from outside is written into a template, as `escape` of nginx's `log_format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Escape {
    /// `\xNN`, as in the combined format; `-` stands for what is missing.
    #[default]
    Hex,
    /// As in a JSON string; nothing stands for what is missing.
    Json,
}

const FORMATS: &[&str] = &["json", "combined"];

impl<'de> Deserialize<'de> for AccessFormat {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = AccessFormat;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("json, combined, or a map with template")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<AccessFormat, E> {
                match word {
                    "json" => Ok(AccessFormat::Json),
                    "combined" => Ok(AccessFormat::Combined),
                    "template" => Err(E::custom(
                        "a template needs its line\nwrite `format: { template: \"{client} {uri}\" }`",
                    )),
                    other => Err(E::unknown_variant(other, FORMATS)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AccessFormat, A::Error> {
                LogTemplate::deserialize(MapAccessDeserializer::new(map)).map(AccessFormat::Template)
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for AccessFormat {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            AccessFormat::Json => s.serialize_str("json"),
            AccessFormat::Combined => s.serialize_str("combined"),
            AccessFormat::Template(template) => template.serialize(s),
        }
    }
}

impl JsonSchema for AccessFormat {
    fn schema_name() -> Cow<'static, str> {
        "AccessFormat".into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": FORMATS }, g.subschema_for::<LogTemplate>()] })
    }
}

/// Where lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    #[default]
    Stdout,
    Stderr,
    /// No access log.
    Off,
    /// A file, appended to and created when missing.
    File(PathBuf),
    /// A syslog server, in the words of RFC 5424.
    Syslog(Syslog),
}

/// A syslog server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Syslog {
    /// `unix:PATH`, `IP:PORT` or `NAME:PORT`.
    pub address: Located<ServerAddress>,
    /// Over the network: `udp` (RFC 5426) or `tcp`, where the length stands before each message (RFC 6587 §3.4.1). A
    /// unix socket takes datagrams.
    pub protocol: Option<Located<SyslogProtocol>>,
    /// The facility that messages are of.
    pub facility: Facility,
    /// The APP-NAME of messages.
    pub app_name: Located<String>,
}

impl Default for Syslog {
    fn default() -> Self {
        Syslog {
            address: Located::from(ServerAddress::Unix(Path::new("/dev/log").into())),
            protocol: None,
            facility: Facility::default(),
            app_name: Located::from("weirgate".to_owned()),
        }
    }
}

/// How a syslog server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyslogProtocol {
    #[default]
    Udp,
    Tcp,
}

/// A facility of syslog (RFC 5424 §6.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Facility {
    User = 1,
    Daemon = 3,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    #[default]
    Local7 = 23,
}

/// Headers that are logged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoggedHeaders {
    /// Of the request, as the client sent it.
    pub request: Vec<FieldName>,
    /// Of the response, as the client gets it.
    pub response: Vec<FieldName>,
}

impl LoggedHeaders {
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// What no line shows. `authorization`, `proxy-authorization`, `cookie` and `set-cookie` are among the headers always.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redact {
    /// Headers, wherever a line shows them.
    pub headers: Vec<FieldName>,
    /// Parameters of a query, in the request target, in `Referer` and in other headers that a line shows.
    pub query: Vec<Located<String>>,
    /// Cookies that a template names.
    pub cookies: Vec<Located<String>>,
}

/// When a file is begun anew, and how many old ones are kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The file is renamed to `NAME.1` before it is larger.
    pub size: Located<Size>,
    /// So many old files are kept, `NAME.1` being the youngest.
    #[serde(default = "five")]
    pub keep: Located<NonZeroU16>,
}

fn five() -> Located<NonZeroU16> {
    Located::from(NonZeroU16::MIN.saturating_add(4))
}

/// Whether the requests of a route, or what a listener accepts, have lines: `on`, `off`, or a map with `sample`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogShare(pub Percent);

impl<'de> Deserialize<'de> for LogShare {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Sampled {
            sample: Percent,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = LogShare;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("on, off, or a map with sample")
            }
            fn visit_bool<E>(self, on: bool) -> Result<LogShare, E> {
                Ok(LogShare(Percent::of(if on { 100 } else { 0 })))
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<LogShare, E> {
                match word {
                    "on" => self.visit_bool(true),
                    "off" => self.visit_bool(false),
                    other => Err(E::unknown_variant(other, &["on", "off"])),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LogShare, A::Error> {
                let Sampled { sample } = Sampled::deserialize(MapAccessDeserializer::new(map))?;
                Ok(LogShare(sample))
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for LogShare {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            all if all == Percent::of(100) => s.serialize_str("on"),
            none if none == Percent::of(0) => s.serialize_str("off"),
            sample => {
                let mut map = s.serialize_map(Some(1))?;
                map.serialize_entry("sample", &sample)?;
                map.end()
            }
        }
    }
}

impl JsonSchema for LogShare {
    fn schema_name() -> Cow<'static, str> {
        "LogShare".into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["on", "off", true, false] },
            {
                "type": "object",
                "properties": { "sample": g.subschema_for::<Percent>() },
                "required": ["sample"],
                "additionalProperties": false,
            },
        ] })
    }
}
