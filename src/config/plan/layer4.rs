//! `tcp` of a listener, resolved.

use crate::config::file::{FlowTimeouts, OrOff, Tcp as Written};
use crate::units::Time;
use std::sync::Arc;
use std::time::Duration;

/// Where the connections of a listener are passed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// By its name: the listener is the same when other groups come and go.
    pub upstream: Arc<str>,
    pub flows: Flows,
}

/// How flows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flows {
    /// `None`: that of the group.
    pub connect: Option<Duration>,
    pub idle: Duration,
    pub total: Option<Duration>,
    /// `None`: nobody is probed.
    pub keepalive: Option<Duration>,
}

impl Flows {
    pub fn new(timeouts: &FlowTimeouts, keepalive: &OrOff<Time>) -> Flows {
        Flows {
            connect: timeouts.connect.map(|time| time.0),
            idle: timeouts.idle.0,
            total: timeouts.total.map(|time| time.0),
            keepalive: keepalive.on().map(|time| time.0),
        }
    }
}

impl Default for Flows {
    fn default() -> Self {
        Flows::new(&FlowTimeouts::default(), &Written::default_keepalive())
    }
}
