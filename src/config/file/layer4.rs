//! `tcp` of a listener: connections that are passed on whole.

use crate::config::decode::Located;
use crate::config::file::OrOff;
use crate::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Connections are passed on to a group, whatever is spoken on them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// The group that they are passed on to.
    pub upstream: Located<String>,
    /// How long they last.
    #[serde(default)]
    pub timeouts: FlowTimeouts,
    /// An idle connection is probed after this, on both sides, and given up when nobody has answered for as long
    /// again; `off`: never.
    #[serde(default = "Tcp::default_keepalive")]
    pub keepalive: OrOff<Time>,
}

impl Tcp {
    pub fn default_keepalive() -> OrOff<Time> {
        OrOff::On(Time::secs(60))
    }
}

/// How long connections that are passed on last.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FlowTimeouts {
    /// A connection to a server is made within this; `timeouts.connect` of the group without it.
    pub connect: Option<Time>,
    /// It ends when nothing has come from either side for this long.
    pub idle: Time,
    /// It ends this long after it began, whatever is going on; never without it.
    pub total: Option<Time>,
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        FlowTimeouts { connect: None, idle: Time::secs(3600), total: None }
    }
}
