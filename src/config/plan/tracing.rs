//! Tracing, resolved.

use super::Trust;
use crate::config::file::{self, OtlpProtocol, Propagator, RouteSampling, TraceTrust};
use crate::config::secret::Secret;
use crate::units::Percent;
use std::time::Duration;

/// What is done about traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    pub otlp: Option<Otlp>,
    /// Attributes of the process, `service.name` first.
    pub resource: Vec<(String, String)>,
    pub propagation: Vec<Propagator>,
    pub trust: TraceTrust,
    pub sampling: Sampling,
}

/// Where spans are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// With its path.
    pub endpoint: http::Uri,
    pub protocol: OtlpProtocol,
    /// Names and values that a header may have.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// Whose certificate the collector has to show, where it is spoken to over TLS.
    pub trust: Trust,
    pub timeout: Duration,
    pub interval: Duration,
    /// Requests.
    pub batch_size: usize,
    /// Requests.
    pub queue_size: usize,
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    pub ratio: Percent,
    pub parent_based: bool,
    pub errors: bool,
}

impl Sampling {
    /// As a route has it.
    #[must_use]
    pub fn with(self, route: RouteSampling) -> Sampling {
        Sampling {
            ratio: route.ratio.unwrap_or(self.ratio),
            parent_based: route.parent_based.unwrap_or(self.parent_based),
            errors: route.errors.unwrap_or(self.errors),
        }
    }
}

impl From<&file::Sampling> for Sampling {
    fn from(file: &file::Sampling) -> Sampling {
        Sampling { ratio: file.ratio, parent_based: file.parent_based, errors: file.errors }
    }
}
