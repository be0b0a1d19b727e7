//! `limits` of a group: how much its servers are asked to do at once, and who waits when that is reached.

use crate::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// How much the servers of a group are asked to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamLimits {
    /// Connections to servers that are in use by requests, each of which uses one.
    pub connections: Option<NonZeroU32>,
    /// Requests in flight: from the choice of a server to the end of the answer, or of the tunnel.
    pub requests: Option<NonZeroU32>,
    /// The same for each server.
    pub per_server: ServerLimits,
    /// How many requests may wait for one in flight to end; more are answered 503 at once.
    pub queue: u32,
    /// How long a request waits at most (503).
    pub queue_timeout: Time,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        UpstreamLimits {
            connections: None,
            requests: None,
            per_server: ServerLimits::default(),
            queue: 100,
            queue_timeout: Time::secs(1),
        }
    }
}

/// How much one server is asked to do at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerLimits {
    /// Connections to it that are in use by requests.
    pub connections: Option<NonZeroU32>,
    /// Requests in flight with it.
    pub requests: Option<NonZeroU32>,
}

/// Whose turn it is among requests that wait for a full group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriorityClass {
    /// Before the others.
    High,
    #[default]
    Normal,
    /// After the others.
    Low,
}
