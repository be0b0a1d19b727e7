//! How long to wait for servers: what a group says, and what a route says instead.

use crate::config::file;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpstreamTimeouts {
    pub connect: Duration,
    /// From there to the end of the TLS handshake; `None`: as long again.
    pub tls: Option<Duration>,
    /// The longest silence, before the answer when `first_byte` does not say otherwise, and within it.
    pub response: Duration,
    /// From the end of the request to the head of its answer.
    pub first_byte: Option<Duration>,
    /// From the beginning of a try to the head of its answer.
    pub one_try: Option<Duration>,
    /// From the beginning of the request to the end of its answer.
    pub request: Option<Duration>,
    pub tunnel: Duration,
    pub idle: Duration,
}

/// `None`: that of the group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouteTimeouts {
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
    pub response: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub one_try: Option<Duration>,
    pub request: Option<Duration>,
    pub tunnel: Option<Duration>,
}

impl UpstreamTimeouts {
    /// How long a TLS handshake may take.
    pub fn handshake(&self) -> Duration {
        self.tls.unwrap_or(self.connect)
    }

    /// These, but for what the route says.
    pub fn with(&self, route: Option<&RouteTimeouts>) -> UpstreamTimeouts {
        let Some(route) = route else { return *self };
        UpstreamTimeouts {
            connect: route.connect.unwrap_or(self.connect),
            tls: route.tls.or(self.tls),
            response: route.response.unwrap_or(self.response),
            first_byte: route.first_byte.or(self.first_byte),
            one_try: route.one_try.or(self.one_try),
            request: route.request.or(self.request),
            tunnel: route.tunnel.unwrap_or(self.tunnel),
            idle: self.idle,
        }
    }
}

impl From<&file::Timeouts> for UpstreamTimeouts {
    fn from(file: &file::Timeouts) -> Self {
        UpstreamTimeouts {
            connect: file.connect.0,
            tls: file.tls.map(|time| time.0),
            response: file.response.0,
            first_byte: file.first_byte.map(|time| time.0),
            one_try: file.one_try.map(|time| time.0),
            request: file.request.map(|time| time.0),
            tunnel: file.tunnel.0,
            idle: file.idle.0,
        }
    }
}

impl RouteTimeouts {
    /// `None` where nothing is said, as in most routes.
    pub fn boxed(file: &file::RouteTimeouts) -> Option<Box<RouteTimeouts>> {
        if *file == file::RouteTimeouts::default() {
            return None;
        }
        Some(Box::new(RouteTimeouts {
            connect: file.connect.map(|time| time.0),
            tls: file.tls.map(|time| time.0),
            response: file.response.map(|time| time.0),
            first_byte: file.first_byte.map(|time| time.0),
            one_try: file.one_try.map(|time| time.0),
            request: file.request.map(|time| time.0),
            tunnel: file.tunnel.map(|time| time.0),
        }))
    }
}
