//! `listeners`: where connections are accepted, with which TLS and limits.

use crate::config::decode::{Located, Raw};
use crate::config::file::{LogShare, Tcp, Tls, Udp};
use crate::config::words::{ListenAddress, SocketMode};
use crate::filter::ip::Ip;
use crate::units::{Rate, Size, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// A socket that accepts connections.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name in routes, logs and metrics; the address without one.
    #[serde(default)]
    pub name: Option<Located<String>>,
    /// `IP:PORT`, `[IPv6]:PORT`, `*:PORT` for all addresses, or `unix:PATH`.
    pub address: Located<ListenAddress>,
    /// The permissions of a unix socket, such as `0660`: whoever may write may connect. Those of the process's umask
    /// without it.
    #[serde(default)]
    pub socket_mode: Option<Located<SocketMode>>,
    /// Connections begin with a header of the PROXY protocol, version 1 or 2, that names the client: `required` of all,
    /// or `optional`, believed from `trusted_proxies` only. Not looked for without it.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What is spoken: `h1` on plaintext and `[h1, h2]` on TLS without it. `h2` on a plaintext
    /// listener is h2c with prior knowledge.
    #[serde(default)]
    pub protocols: Option<Located<Vec<Protocol>>>,
    /// TLS termination; plaintext without it.
    #[serde(default)]
    pub tls: Option<Located<Tls>>,
    /// Connections are passed on to a group whole, after TLS termination where there is `tls`, instead of being read
    /// for requests.
    #[serde(default)]
    pub tcp: Option<Located<Tcp>>,
    /// Datagrams are passed on to a group, and connections are not accepted: those at the same address are for another
    /// listener.
    #[serde(default)]
    pub udp: Option<Located<Udp>>,
    /// Who may connect, by address; others are cut off before a byte is read. The client that a proxy announces, where
    /// there is `proxy_protocol`.
    #[serde(default)]
    pub ip: Option<Located<Ip>>,
    /// Answer every request with a redirect to https, except for routes that name this listener.
    #[serde(default)]
    pub redirect_https: RedirectHttps,
    /// Limits that protect the process from its clients.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// Headers whose name has an underscore, which some servers take for a hyphen.
    #[serde(default)]
    pub underscores_in_headers: Underscores,
    /// Filters for every request that came in here, before the route's own.
    #[serde(default)]
    pub filters: Vec<Raw>,
    /// Whether what comes in here has a line in the access log, where the route does not say. That of `log.access`
    /// without it.
    #[serde(default)]
    pub access_log: Option<LogShare>,
}

impl Listener {
    /// All that comes is passed on whole, or refused: nothing is read for requests.
    pub fn passes_all(&self) -> bool {
        let unopened = |tls: &Tls| tls.certificates.is_empty() && !tls.passthrough.is_empty();
        self.tcp.is_some() || self.udp.is_some() || self.tls.as_ref().is_some_and(|tls| unopened(tls))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    H1,
    H2,
}

/// Who sends a header of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// Everybody: whoever connects is believed, and who sends none is refused.
    Required,
    /// Those of `trusted_proxies` may; from others nothing is looked for.
    Optional,
}

/// What becomes of headers whose name has an underscore: to servers that hand headers to programs as variables (CGI,
/// WSGI, PHP) `X_User` and `X-User` are one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Underscores {
    /// They are passed on, but for those that look like a header that frames a message or that the gate writes.
    #[default]
    Allow,
    /// They are taken out.
    Drop,
    /// The request is refused (400).
    Reject,
}

/// `true`, or the port and status to use.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct RedirectHttps {
    pub enabled: bool,
    /// The port named in the redirect; that of the first TLS listener without it.
    pub port: Option<u16>,
    pub status: Option<u16>,
}

impl<'de> Deserialize<'de> for RedirectHttps {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use std::fmt;
        #[derive(Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Map {
            enabled: bool,
            port: Option<u16>,
            status: Option<u16>,
        }
        impl Default for Map {
            fn default() -> Self {
                Map { enabled: true, port: None, status: None }
            }
        }
        struct V;
        impl<'de> serde::de::Visitor<'de> for V {
            type Value = RedirectHttps;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a map with port and status")
            }
            fn visit_bool<E>(self, enabled: bool) -> Result<Self::Value, E> {
                Ok(RedirectHttps { enabled, port: None, status: None })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let m = Map::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                if !matches!(m.status, None | Some(301 | 302 | 303 | 307 | 308)) {
                    return Err(serde::de::Error::custom(
                        "the status of a redirect is 301, 302, 303, 307 or 308",
                    ));
                }
                Ok(RedirectHttps { enabled: m.enabled, port: m.port, status: m.status })
            }
        }
        d.deserialize_any(V)
    }
}

impl JsonSchema for RedirectHttps {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RedirectHttps".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "boolean" },
                { "type": "object", "additionalProperties": false, "properties": {
                    "enabled": { "type": "boolean" },
                    "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
                    "status": { "enum": [301, 302, 303, 307, 308] } } }
            ]
        })
    }
}

/// Limits that protect the process from its clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// Connections open at once, or sessions of a `udp` listener; more are closed as they come.
    pub connections: usize,
    /// Connections open at once from one client address, or from one /64 of IPv6; more are closed as they come.
    /// Those of `trusted_proxies` are not counted. No limit without it.
    pub connections_per_client: Option<NonZeroU32>,
    /// How often somebody may connect; connections beyond are closed as they come. No limit without it.
    pub connection_rate: Option<Rate>,
    /// How often one client address, or one /64 of IPv6, may connect; connections beyond are closed as they come.
    /// Those of `trusted_proxies` are not counted. No limit without it.
    pub connection_rate_per_client: Option<Rate>,
    /// Requests on one connection, which is closed after the last. No limit without it.
    pub requests_per_connection: Option<NonZeroU32>,
    /// A TLS handshake ends within this.
    pub tls_handshake_timeout: Time,
    /// A whole request head arrives within this, from its first byte (408).
    pub header_timeout: Time,
    /// A connection with no request on it is closed after this.
    pub idle_timeout: Time,
    /// The longest silence of a client within a request body (408). On HTTP/2 until the server answers.
    pub body_timeout: Time,
    /// The longest a client may take to read what is sent to it before the connection is closed.
    pub send_timeout: Time,
    /// Bytes per second that a client has to send of a body, or `body_timeout` runs out a little more with every
    /// second (408). `0B`: any byte is enough.
    pub min_body_rate: Size,
    /// Bytes per second that a client has to take of what is sent to it, or `send_timeout` runs out a little more with
    /// every second. `0B`: any byte is enough.
    pub min_send_rate: Size,
    /// The whole head of a request: the request line and all headers (431).
    pub max_header_bytes: Size,
    /// How many headers a request may have (431); at most 256.
    pub max_headers: usize,
    /// The request target (414).
    pub max_uri_bytes: Size,
    /// The body of a request (413); no limit without it.
    pub max_body_bytes: Option<Size>,
    /// Requests in flight at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Requests that the client of an HTTP/2 connection may give up within one second; it is closed above that.
    pub stream_resets_per_second: NonZeroU32,
}

/// Above what one page of a browser gives up when it is left.
const STREAM_RESETS: NonZeroU32 = match NonZeroU32::new(200) {
    Some(resets) => resets,
    None => NonZeroU32::MIN,
};

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            connections: 10_000,
            connections_per_client: None,
            connection_rate: None,
            connection_rate_per_client: None,
            requests_per_connection: None,
            tls_handshake_timeout: Time::secs(10),
            header_timeout: Time::secs(10),
            idle_timeout: Time::secs(60),
            body_timeout: Time::secs(60),
            send_timeout: Time::secs(60),
            min_body_rate: Size(240),
            min_send_rate: Size(240),
            max_header_bytes: Size(64 * 1024),
            max_headers: 100,
            max_uri_bytes: Size(8 * 1024),
            max_body_bytes: None,
            max_streams: 128,
            stream_resets_per_second: STREAM_RESETS,
        }
    }
}
