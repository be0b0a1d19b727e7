//! Who is measured and what each has on: the names of the command line and of the tables, and who does the same work
//! as whom. Called by everything else here.

use anyhow::Result;

use crate::common::programs::Program;
use crate::others;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The yardstick, a face of the benchmark.
    MinimalPingora,
    Weirgate,
    Nginx,
    Haproxy,
    /// Only where somebody has installed it; without anything on.
    Envoy,
    /// The same.
    Caddy,
}

/// What it does beside forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// Nothing, to one route.
    Bare,
    /// An access log in JSON and metrics.
    Log,
    /// These, a request id, forwarded headers, and three filters: by address, headers both ways, HSTS.
    Production,
    /// Nothing, to one of two path prefixes.
    TwoRoutes,
    /// Nothing, to one of ten thousand.
    ManyRoutes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub who: Who,
    pub dress: Dress,
}

const fn kind(who: Who, dress: Dress) -> Kind {
    Kind { who, dress }
}

impl Kind {
    /// In the order in which they are measured and printed.
    pub const ALL: [Kind; 18] = [
        kind(Who::MinimalPingora, Dress::Bare),
        kind(Who::Weirgate, Dress::Bare),
        kind(Who::Nginx, Dress::Bare),
        kind(Who::Haproxy, Dress::Bare),
        kind(Who::Envoy, Dress::Bare),
        kind(Who::Caddy, Dress::Bare),
        kind(Who::Weirgate, Dress::Log),
        kind(Who::Nginx, Dress::Log),
        kind(Who::Haproxy, Dress::Log),
        kind(Who::Weirgate, Dress::Production),
        kind(Who::Nginx, Dress::Production),
        kind(Who::Haproxy, Dress::Production),
        kind(Who::Weirgate, Dress::TwoRoutes),
        kind(Who::Weirgate, Dress::ManyRoutes),
        kind(Who::Nginx, Dress::TwoRoutes),
        kind(Who::Nginx, Dress::ManyRoutes),
        kind(Who::Haproxy, Dress::TwoRoutes),
        kind(Who::Haproxy, Dress::ManyRoutes),
    ];

    pub fn name(self) -> String {
        let who = self.who.name();
        match self.dress {
            Dress::Bare => who.to_owned(),
            Dress::Log => format!("{who}-log"),
            Dress::Production => format!("{who}-production"),
            Dress::TwoRoutes => format!("{who}-2-routes"),
            Dress::ManyRoutes => format!("{who}-10000-routes"),
        }
    }

    /// From the command line.
    pub fn parse(name: &str) -> Result<Kind, String> {
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| format!("none of {}", Kind::ALL.map(Kind::name).join(", ")))
    }

    pub fn wearing(self, dress: Dress) -> Kind {
        Kind { dress, ..self }
    }
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::MinimalPingora => "minimal-pingora",
            Who::Weirgate => Program::Weirgate.name(),
            Who::Nginx => Program::Nginx.name(),
            Who::Haproxy => Program::Haproxy.name(),
            Who::Envoy => "envoy",
            Who::Caddy => "caddy",
        }
    }

    /// Why it cannot be measured on this machine.
    pub fn missing(self) -> Option<anyhow::Error> {
        match self {
            Who::MinimalPingora => None,
            Who::Weirgate => Program::Weirgate.missing(),
            Who::Nginx => Program::Nginx.missing(),
            Who::Haproxy => Program::Haproxy.missing(),
            Who::Envoy => others::envoy().err(),
            Who::Caddy => others::caddy().err(),
        }
    }
}

impl Dress {
    /// The access log and the metrics are on.
    pub fn records(self) -> bool {
        match self {
            Dress::Log | Dress::Production => true,
            Dress::Bare | Dress::TwoRoutes | Dress::ManyRoutes => false,
        }
    }

    pub fn is_production(self) -> bool {
        self == Dress::Production
    }

    /// The path prefixes that have a route beside `/`, which takes the rest. All have the same group.
    pub fn prefixes(self) -> impl Iterator<Item = String> {
        let numbers = match self {
            Dress::Bare | Dress::Log | Dress::Production => 0..0,
            Dress::TwoRoutes => ASKED_ROUTE..ASKED_ROUTE + 1,
            Dress::ManyRoutes => 1..10_000,
        };
        numbers.map(|number| format!("/app{number}/part"))
    }
}

/// Both configurations of routes have this one.
const ASKED_ROUTE: u32 = 5_000;
/// A path that it takes.
pub const ROUTED: &str = "/app5000/part/item";
