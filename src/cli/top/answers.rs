//! What `/v1/overview` and `/v1/errors` say, as far as it is shown. What a process of another version does not say is empty.

use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Overview {
    pub state: String,
    pub status: Status,
    pub listeners: Vec<Listener>,
    pub routes: Vec<Route>,
    pub routes_total: usize,
    pub upstreams: Vec<Upstream>,
    pub last_failure: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub config: Config,
    pub reloads: u64,
    pub refusals: u64,
    pub last_refused: Option<Refused>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    pub file: String,
    pub hash: String,
    pub since: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Refused {
    pub at: String,
    pub by: String,
    pub why: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Listener {
    pub name: String,
    pub address: String,
    pub protocols: Vec<String>,
    pub tls: bool,
    pub open: usize,
    pub passes_to: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Route {
    pub name: String,
    pub hosts: Vec<String>,
    pub path: String,
    pub conditions: Vec<String>,
    pub action: String,
    pub upstreams: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Upstream {
    pub name: String,
    pub balance: String,
    pub usable: usize,
    pub in_flight: usize,
    pub queued: Option<usize>,
    pub panics: bool,
    pub servers: Vec<Server>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Server {
    pub address: String,
    pub host: Option<String>,
    pub state: String,
    pub why: Vec<Why>,
    pub in_flight: usize,
    pub weight: u16,
    pub priority: u16,
    pub zone: Option<String>,
    pub warmth: u8,
    pub since: String,
    pub last_check_failure: Option<String>,
}

impl Server {
    pub fn is(&self, state: &str) -> bool {
        self.why.iter().any(|why| why.state == state)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Why {
    pub state: String,
    pub reason: String,
    pub since: Option<String>,
    pub left_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Failures {
    pub failures: Vec<Failure>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Failure {
    pub number: u64,
    pub at: String,
    pub method: String,
    pub host: String,
    pub path: String,
    /// 0: the client was not answered.
    pub status: u16,
    pub route: Option<String>,
    pub upstream: Option<String>,
    pub server: Option<String>,
    pub duration_ms: f64,
    pub reason: String,
}
