//! The limits of a group, resolved.

use crate::config::file;
use std::num::NonZeroU32;
use std::time::Duration;

/// How much the servers of a group are asked to do at once; what is not limited is `usize::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Requests in flight in the group.
    pub of_group: usize,
    /// Requests in flight with each server.
    pub of_server: usize,
    /// How many wait at most, and how long.
    pub queue: usize,
    pub queue_timeout: Duration,
}

impl From<&file::UpstreamLimits> for UpstreamLimits {
    /// A request uses one connection at a time, so that the smaller number of both is what counts.
    fn from(file: &file::UpstreamLimits) -> Self {
        let file::UpstreamLimits { connections, requests, per_server, queue, queue_timeout } = *file;
        UpstreamLimits {
            of_group: least([connections, requests]),
            of_server: least([per_server.connections, per_server.requests]),
            queue: size(queue),
            queue_timeout: queue_timeout.0,
        }
    }
}

fn least(caps: [Option<NonZeroU32>; 2]) -> usize {
    caps.into_iter().flatten().min().map_or(usize::MAX, |cap| size(cap.get()))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
