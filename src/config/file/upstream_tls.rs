//! `tls` and `protocol` of an upstream: how its servers are spoken to.

use crate::config::decode::Located;
use crate::config::words::HostName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How TLS is spoken to the servers of a group.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name sent (SNI) and looked for in the certificate; without it the server's host name, else
    /// the name in `host`, else the server's address.
    pub sni: Option<Located<HostName>>,
    /// A PEM file with the authorities that are trusted; those of the system without it.
    pub ca: Option<Located<PathBuf>>,
    /// Whether the certificate is looked at; `false` takes any.
    pub verify: bool,
    /// A PEM file with our own certificate, and those between it and its authority, for servers that
    /// ask for one.
    pub cert: Option<Located<PathBuf>>,
    /// The PEM file with its key.
    pub key: Option<Located<PathBuf>>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        UpstreamTls { sni: None, ca: None, verify: true, cert: None, key: None }
    }
}

/// What is spoken to the servers of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 over TLS, agreed on by ALPN; a server that does not speak it gets no requests.
    H2,
    /// HTTP/2 in plaintext, by prior knowledge.
    H2c,
    /// Over TLS HTTP/2 where the server speaks it, else HTTP/1.1; in plaintext HTTP/1.1.
    Auto,
}

impl UpstreamProtocol {
    /// Whether a connection, over `tls` or not, may turn out to carry several requests at a time.
    pub fn may_be_h2(self, tls: bool) -> bool {
        match self {
            UpstreamProtocol::H1 => false,
            UpstreamProtocol::H2 | UpstreamProtocol::H2c => true,
            UpstreamProtocol::Auto => tls,
        }
    }
}
