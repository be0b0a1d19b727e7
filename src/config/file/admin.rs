//! `admin`: where the process is asked what it does and told what to do.

use crate::config::decode::Located;
use crate::config::file::Tls;
use crate::config::secret::Secret;
use crate::config::words::{HostPattern, ListenAddress, SocketMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The admin address: health, metrics, the API and the dashboard. Off unless it has an address.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// `IP:PORT`, `[IPv6]:PORT`, `*:PORT` for all addresses, or `unix:PATH`. One that others than this machine can reach
    /// needs `token`, or `tls` with `client_auth`.
    pub address: Option<Located<ListenAddress>>,
    /// The permissions of a unix socket, such as `0660`: whoever may write may connect.
    pub socket_mode: Option<Located<SocketMode>>,
    /// What has to be shown (`Authorization: Bearer TOKEN`) to change anything; on an address that others can reach, to be
    /// answered at all, unless there is a certificate of the client. At least 16 bytes.
    pub token: Option<Located<Secret>>,
    /// TLS, and certificates of clients; plaintext without it.
    pub tls: Option<Located<Tls>>,
    /// Further names that may stand in `Host`. Addresses, `localhost` and names in the certificates may anyway; others are
    /// refused, as a page on the internet can have its name point to this machine (DNS rebinding).
    pub hosts: Vec<Located<HostPattern>>,
}
