//! The names of all metrics: what each is, once. docs/metrics.md says the same at length, and a test compares.

use std::fmt;

/// What a value does in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gauge,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Gauge => "gauge",
        })
    }
}

/// Samples of one name.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

pub const BUILD_INFO: Family = gauge("weirgate_build_info", "Which program this is; always 1.");
