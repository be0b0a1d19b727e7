//! What is told of the process, as JSON: the shapes of answers, from which the OpenAPI document is made. Times are
//! RFC 3339, durations milliseconds. What is unknown or does not apply is left out.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// Whether the process lives.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Live {
    pub live: bool,
}

/// Whether clients are to be sent here.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ready {
    pub ready: bool,
    /// `starting`, `ready` or `draining`.
    pub state: &'static str,
}

/// All that a page shows, in one answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Overview {
    pub state: &'static str,
    /// As `GET /v1/config` has it.
    pub status: Value,
    /// Whether a token is needed for changes.
    pub token: bool,
    pub listeners: Vec<Listener>,
    /// The first few hundred.
    pub routes: Vec<Route>,
    pub routes_total: usize,
    pub upstreams: Vec<Upstream>,
    /// The number of the failure that came last.
    pub last_failure: u64,
}

/// Where connections are accepted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Listener {
    pub name: String,
    pub address: String,
    /// `h1`, `h2`, `tcp`.
    pub protocols: Vec<&'static str>,
    pub tls: bool,
    /// Connections that are open.
    pub open: usize,
    /// How many there may be.
    pub limit: usize,
    /// Connections that were refused because as many were open, since the address was opened.
    pub refused: u64,
    /// The upstreams that connections are passed on to whole.
    pub passes_to: Vec<String>,
}

/// Which requests go where.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Route {
    pub name: String,
    /// The hosts; none: every host.
    pub hosts: Vec<String>,
    /// As `weirgate routes` writes it.
    pub path: String,
    /// Other conditions, as they are written.
    pub conditions: Vec<String>,
    /// The listeners; none: all that read requests.
    pub listeners: Vec<String>,
    /// `upstream api`, `split stable 95, canary 5`, `redirect 308 /new`, `respond 200`.
    pub action: String,
    pub upstreams: Vec<String>,
}

/// A group of servers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Upstream {
    pub name: String,
    /// The algorithm.
    pub balance: &'static str,
    /// How many servers may get new sessions.
    pub usable: usize,
    pub in_flight: usize,
    /// Requests that wait for their turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<usize>,
    /// The health of servers is ignored, as too few are healthy.
    pub panics: bool,
    pub checked: bool,
    /// Servers can be ejected.
    pub ejects: bool,
    pub servers: Vec<Server>,
}

/// A server of a group.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Server {
    /// By which it is asked for.
    pub address: String,
    /// The host name by which it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub state: State,
    /// It may get new sessions.
    pub usable: bool,
    /// Why it is what it is; empty for a server that is up.
    pub why: Vec<Why>,
    pub in_flight: usize,
    pub weight: u16,
    /// The tier; 0 is used first.
    pub priority: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How much of its share it takes while it warms up, in percent.
    pub warmth: u8,
    /// When it went up or down, or became known.
    pub since: String,
    /// What the last health check that failed said; it stays when the server has recovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check_failure: Option<String>,
}

/// What a server is, in one word: the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Health checks fail.
    Down,
    /// Its requests have failed, or it was told to.
    Ejected,
    /// Its breaker lets nothing pass.
    BreakerOpen,
    /// It gets no new sessions.
    Draining,
    /// It takes less than its share yet.
    Warming,
    Up,
}

/// One of the reasons.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Why {
    pub state: State,
    /// In words.
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// How long it lasts yet, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

/// Requests that failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Failures {
    /// The oldest first.
    pub failures: Vec<Failure>,
    /// How many could not be kept, as there were too many at once.
    pub missed: u64,
}

/// A request that failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Failure {
    /// To ask for those after it.
    pub number: u64,
    pub at: String,
    pub listener: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    pub method: String,
    pub host: String,
    /// Without its query.
    pub path: String,
    /// 0: the client was not answered.
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    pub attempts: u32,
    pub duration_ms: f64,
    pub reason: String,
    pub request_id: String,
}

/// A certificate that is shown to clients.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Certificate {
    pub listener: String,
    pub names: Vec<String>,
    /// Where it was read; none of one that is ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The authority that it is ordered from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// SHA-256, in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// What became of a reload.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// In the words of `weirgate diff`; empty when nothing has changed.
    pub changes: Vec<String>,
    pub warnings: Vec<String>,
    /// As `GET /v1/config` has it.
    pub status: Value,
}

/// What a configuration is found to be.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Judged {
    /// It could be used.
    pub ok: bool,
    /// As `weirgate check` prints it; empty when there is nothing to say.
    pub text: String,
    /// `errors`, `warnings` and `diagnostics`, as `weirgate check --format json` has them.
    pub report: Value,
}

/// What a configuration would change.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Difference {
    pub same: bool,
    /// As `weirgate diff` prints them.
    pub text: Vec<String>,
    /// As `weirgate diff --format json` has them.
    pub changes: Value,
    /// What cannot change while the process runs, and the way to change it: a reload is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
}

/// Why something was not done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Refused {
    /// In words for the operator.
    pub error: String,
}
