//! `udp` of a listener: datagrams that are passed on, in sessions.

use crate::config::decode::Located;
use crate::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// Datagrams are passed on to a group. Those of one client, by address and port, are a session, which stays with its
/// server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Udp {
    /// The group that they are passed on to.
    pub upstream: Located<String>,
    /// How long a session lasts.
    #[serde(default)]
    pub timeouts: SessionTimeouts,
    /// After so many datagrams of a client its next one begins another session; no limit without it.
    #[serde(default)]
    pub requests: Option<NonZeroU32>,
    /// So many answers belong to each datagram of a client, and a session ends with the last of them: 1 for DNS, 0 where
    /// nothing is answered. It ends by `timeouts.idle` alone without it.
    #[serde(default)]
    pub responses: Option<u32>,
    /// What becomes of sessions whose server is down: they stay with it (`keep`), or go to another one (`move`).
    #[serde(default)]
    pub on_server_down: OnServerDown,
    /// Where the group has `send_proxy: v2`: which datagrams to a server have the header in front.
    #[serde(default)]
    pub proxy_header: ProxyHeader,
}

/// How long sessions last.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionTimeouts {
    /// A session ends when nothing has come from either side for this long.
    pub idle: Time,
}

impl Default for SessionTimeouts {
    fn default() -> Self {
        SessionTimeouts { idle: Time::secs(60) }
    }
}

/// What becomes of sessions whose server is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnServerDown {
    /// They stay with it.
    #[default]
    Keep,
    /// They go to another server of the group.
    Move,
}

/// Which datagrams to a server begin with a header of the PROXY protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyHeader {
    /// All, as name servers want it: each is read for itself.
    #[default]
    Every,
    /// The first of a session, for servers that remember it.
    First,
}
