//! What there is now, for the page: told by `run`, which knows the configuration in use and what lives. Whatever is not in
//! it is not on the page, so that what a reload has removed disappears.

use super::labels::BreakerState;
use super::listener::Listener;
use super::process::Authority;
use super::requests::Route;
use super::upstream::{Server, Upstream};
use std::sync::Arc;
use std::time::SystemTime;

/// Who knows what there is.
pub trait Live: Send + Sync {
    fn picture(&self) -> Picture;
}

/// All that is told apart by name. Of two with the same names the first counts.
#[derive(Debug, Default)]
pub struct Picture {
    pub listeners: Vec<ListenerNow>,
    pub routes: Vec<RouteNow>,
    pub upstreams: Vec<UpstreamNow>,
    pub certificates: Vec<CertificateNow>,
    pub authorities: Vec<AuthorityNow>,
    pub config_hash: String,
    /// Of the access log in use.
    pub log_dropped: u64,
}

#[derive(Debug)]
pub struct ListenerNow {
    pub name: String,
    pub counted: Arc<Listener>,
    pub open: usize,
    /// Whether TLS ends here, and whether there are requests.
    pub tls: bool,
    pub requests: bool,
}

#[derive(Debug)]
pub struct RouteNow {
    pub name: String,
    pub counted: Arc<Route>,
}

#[derive(Debug)]
pub struct UpstreamNow {
    pub name: String,
    pub counted: Arc<Upstream>,
    pub servers: Vec<ServerNow>,
    pub in_flight: usize,
    /// Whether there is a listener whose connections are passed on to it whole.
    pub flows: bool,
    /// Who waits, where there are limits.
    pub waiting: Option<usize>,
    /// Retries of the last ten seconds, and how many were allowed.
    pub budget: (f64, f64),
    pub breaker: Option<BreakerState>,
    pub panics: bool,
}

#[derive(Debug)]
pub struct ServerNow {
    /// The address.
    pub name: String,
    pub counted: Arc<Server>,
    pub in_flight: usize,
    /// As for its upstream.
    pub flows: bool,
    /// Whether its health is checked.
    pub checked: bool,
    pub healthy: bool,
    pub usable: bool,
    pub draining: bool,
    /// Where servers may be.
    pub ejected: Option<bool>,
    pub breaker: Option<BreakerState>,
    pub weight: u16,
}

#[derive(Debug)]
pub struct CertificateNow {
    pub listener: String,
    /// The file it is from; the names of one that is ordered.
    pub certificate: String,
    pub expires: SystemTime,
}

#[derive(Debug)]
pub struct AuthorityNow {
    pub name: String,
    pub counted: Arc<Authority>,
}
