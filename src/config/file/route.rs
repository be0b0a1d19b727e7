//! `routes`: the conditions a request must meet, and what is done with it then.

use crate::config::decode::{Located, Raw};
use crate::config::file::{LogShare, OneOrMany, PriorityClass, RouteTracing, Table};
use crate::config::words::{Cidr, HostPattern, MethodName, RedirectStatus, ResponseStatus};
use crate::template::Template;
use crate::units::{Size, Time};
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

/// A rule: all of its conditions must hold, and then its one action is done.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    // there may be a hundred thousand: what few have is boxed
    /// Its name in logs and metrics; what it matches without one.
    pub name: Option<Located<String>>,
    /// The listeners it is for; all without it.
    pub listeners: Vec<Located<String>>,
    /// `www.example.com`, or `*.example.com` for every name below. Any without it.
    pub host: Option<OneOrMany<Located<HostPattern>>>,
    /// A path prefix at a segment boundary: `/api` is for `/api` and `/api/x`, never for `/apix`.
    pub path: Option<Located<String>>,
    /// Exactly this path.
    pub exact: Option<Located<String>>,
    /// A regular expression that the whole path must match (it is anchored at both ends).
    pub regex: Option<Located<String>>,
    /// `GET` includes `HEAD`.
    pub methods: Vec<Located<MethodName>>,
    /// Headers and what they must be.
    pub headers: Table<ValueMatch>,
    /// Query parameters and what they must be.
    pub query: Table<ValueMatch>,
    /// Cookies and what they must be.
    pub cookies: Table<ValueMatch>,
    /// The client's address or network; behind `trusted_proxies`, the address they report.
    pub client: Vec<Located<Cidr>>,
    /// The certificate that the client has shown to a listener with `client_auth`.
    pub client_certificate: Option<Box<Located<CertificateMatch>>>,

    /// Action: pass the request to this group.
    pub upstream: Option<Located<String>>,
    /// Action: pass the request to one of several groups, chosen by weight.
    pub split: Option<Box<Located<Split>>>,
    /// Action: send the client elsewhere.
    pub redirect: Option<Box<Located<Redirect>>>,
    /// Action: answer here.
    pub respond: Option<Box<Located<Respond>>>,

    /// What happens to the request on its way in and the response on its way out.
    pub filters: Vec<Raw>,
    /// What clients are shown instead of the gate's own replies.
    pub error_pages: Vec<Located<crate::config::file::ErrorPage>>,
    /// Timeouts that differ from those of the group.
    pub timeouts: RouteTimeouts,
    /// Limits that differ from those of the listener.
    pub limits: RouteLimits,
    /// Retries that differ from those of the group.
    pub retry: Option<Box<crate::config::file::Retry>>,
    /// Whose turn it is when requests wait for a full group: `high`, `normal` or `low`.
    pub priority_class: PriorityClass,
    /// What of tracing differs from that of the file.
    pub tracing: Option<Box<RouteTracing>>,
    /// Whether its requests have a line in the access log: `on`, `off`, or a share of them. Those that failed always
    /// have one. That of the listener, or of `log.access`, without it.
    pub access_log: Option<LogShare>,
}

/// What a header, query parameter or cookie must be: a text, or one of `is`, `prefix`, `regex`, `present`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueMatch {
    Is(String),
    Prefix(String),
    Regex(Located<String>),
    Present(bool),
}

impl<'de> Deserialize<'de> for ValueMatch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            Is(String),
            Prefix(String),
            Regex(Located<String>),
            Present(bool),
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = ValueMatch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a map with one of is, prefix, regex, present")
            }
            fn visit_str<E>(self, v: &str) -> Result<ValueMatch, E> {
                Ok(ValueMatch::Is(v.to_string()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<ValueMatch, E> {
                Ok(ValueMatch::Is(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<ValueMatch, E> {
                Ok(ValueMatch::Is(v.to_string()))
            }
            fn visit_bool<E>(self, v: bool) -> Result<ValueMatch, E> {
                Ok(ValueMatch::Is(v.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ValueMatch, A::Error> {
                Ok(match Word::deserialize(serde::de::value::MapAccessDeserializer::new(map))? {
                    Word::Is(s) => ValueMatch::Is(s),
                    Word::Prefix(s) => ValueMatch::Prefix(s),
                    Word::Regex(s) => ValueMatch::Regex(s),
                    Word::Present(b) => ValueMatch::Present(b),
                })
            }
        }
        d.deserialize_any(V)
    }
}

impl JsonSchema for ValueMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ValueMatch".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": ["string", "number", "boolean"] },
                { "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
                  "properties": {
                    "is": { "type": "string" },
                    "prefix": { "type": "string" },
                    "regex": { "type": "string", "description": "Matches anywhere unless anchored with ^ and $." },
                    "present": { "type": "boolean" } } }
            ]
        })
    }
}

/// What the certificate of a client must be; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateMatch {
    /// `true`: there is one; `false`: there is none.
    pub verified: Option<bool>,
    /// Its subject, as RFC 4514 writes it: `CN=client one,O=Example`.
    pub subject: Option<ValueMatch>,
    /// One of its alternative names, with its kind: `DNS:a.example`, `URI:spiffe://example/a`,
    /// `email:a@example.com`, `IP:192.0.2.7`.
    pub san: Option<ValueMatch>,
    /// SHA-256 of the certificate, in hexadecimal digits, with or without colons.
    pub fingerprint: Option<ValueMatch>,
}

/// Groups by weight: a list of `upstream` and `weight`, or a map with `key` and `groups`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Split {
    /// Requests with the same key go to the same group; by chance without it.
    pub key: Option<Key>,
    pub groups: Vec<Located<SplitGroup>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitGroup {
    /// The group.
    pub upstream: Located<String>,
    /// Its share, relative to the other groups; 0 takes it out.
    pub weight: u32,
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            #[serde(default)]
            key: Option<Key>,
            groups: Vec<Located<SplitGroup>>,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Split;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of upstream and weight, or a map with key and groups")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Split, A::Error> {
                let groups = Deserialize::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))?;
                Ok(Split { key: None, groups })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Split, A::Error> {
                let m = Map::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Split { key: m.key, groups: m.groups })
            }
        }
        d.deserialize_any(V)
    }
}

impl JsonSchema for Split {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Split".into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let groups = <Vec<SplitGroup>>::json_schema(g);
        let key = g.subschema_for::<Key>();
        schemars::json_schema!({
            "anyOf": [
                groups,
                { "type": "object", "additionalProperties": false, "required": ["groups"],
                  "properties": { "key": key, "groups": groups } }
            ]
        })
    }
}

/// What of a request makes it the same as another: `client`, `path`, `host`, or the value of a
/// header, cookie or query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The client's address (IPv6 by /64).
    Client,
    Path,
    Host,
    Header(String),
    Cookie(String),
    Query(String),
}

/// Send the client elsewhere.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// The `Location`. Placeholders: `{scheme}`, `{host}`, `{path}`, `{query}`, `{uri}`.
    pub to: Located<Template>,
    /// 301, 302, 303, 307 or 308.
    #[serde(default)]
    pub status: RedirectStatus,
}

/// Answer here.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Respond {
    pub status: ResponseStatus,
    /// The body. Placeholders as in `redirect`, and `{client_ip}`, `{method}`, `{request_id}`.
    pub body: Template,
    /// Headers; `content-type` is `text/plain; charset=utf-8` without one.
    pub headers: Table<Located<Template>>,
}

impl Default for Respond {
    fn default() -> Self {
        Respond { status: ResponseStatus::OK, body: Template::default(), headers: Table::default() }
    }
}

/// Timeouts that differ from those of the group.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTimeouts {
    /// A connection is made within this.
    pub connect: Option<Time>,
    /// The TLS handshake on it is complete within this.
    pub tls: Option<Time>,
    /// The server's longest silence.
    pub response: Option<Time>,
    /// The head of the answer is here within this after the whole request was sent.
    pub first_byte: Option<Time>,
    /// A try has brought the head of an answer within this after it began.
    #[serde(rename = "try")]
    pub one_try: Option<Time>,
    /// The answer is complete within this after the request began.
    pub request: Option<Time>,
    /// The server's longest silence after it has switched protocols.
    pub tunnel: Option<Time>,
}

/// Limits that differ from those of the listener.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteLimits {
    /// The body of a request (413).
    pub max_body_bytes: Option<Size>,
}

/// The sum of the weights of a split that has at least one group with a share.
pub fn total_weight(split: &Split) -> Option<NonZeroU32> {
    let sum = split.groups.iter().try_fold(0u32, |sum, g| sum.checked_add(g.weight))?;
    NonZeroU32::new(sum)
}
