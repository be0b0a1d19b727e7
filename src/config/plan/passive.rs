//! What live requests say about servers, resolved: when a server is ejected, when a breaker opens.

use super::Statuses;
use std::time::Duration;

/// When a server is ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    pub consecutive_failures: Option<u32>,
    pub failure_share: Option<FailureShare>,
    pub latency: Option<Slowness>,
    /// The answers that are failures.
    pub statuses: Statuses,
    /// The first time; so many times longer each further time.
    pub ejection: Duration,
    /// The longest.
    pub max_ejection: Duration,
    /// Of the servers of the group, in basis points.
    pub max_ejected: u16,
}

/// A share of the requests in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureShare {
    /// In basis points.
    pub share: u16,
    /// With fewer requests in the window nothing is said.
    pub requests: u32,
    pub window: Duration,
}

/// Response times far above those of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowness {
    pub times: u16,
    pub at_least: Duration,
    pub requests: u32,
    pub window: Duration,
}

/// When a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    pub failure_share: Option<FailureShare>,
    /// Requests in flight at which it opens.
    pub pending: Option<u32>,
    pub statuses: Statuses,
    pub open: Duration,
    pub trials: u32,
}

/// The breakers of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breakers {
    /// Each server's own.
    pub server: Option<Breaker>,
    pub group: Option<Breaker>,
}
