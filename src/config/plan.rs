//! The resolved configuration: names have become references, defaults are filled in, files
//! are read. Immutable and comparable, so that a reload can tell what changed. Made by
//! `config::check`, consumed by `run::snapshot`.

mod acme;
mod admin;
mod discovery;
mod error_page;
mod health;
mod layer4;
mod limits;
mod passive;
mod passthrough;
mod sticky;
mod succession;
mod timeouts;
mod tls;
mod tracing;
mod udp;
mod upstream_tls;

pub use acme::{Authority, ExternalAccount, HmacKey, Ordered};
pub use admin::Admin;
pub use discovery::{Discovery, Dns, DnsDiscovery, Families, FileDiscovery, Records};
pub use error_page::{ErrorPage, Shows};
pub use health::{BodyMatch, HealthCheck, HttpCheck, Question, UdpAnswer, UdpCheck};
pub use layer4::{Flows, Tcp};
pub use limits::UpstreamLimits;
pub use passive::{Breaker, Breakers, FailureShare, Outlier, Slowness};
pub use passthrough::{Passthrough, Unopened};
pub use sticky::{Learn, LearnFrom, Sticky, StickyCookie};
pub use succession::ListenerIds;
pub(in crate::config) use succession::like;
pub use timeouts::{RouteTimeouts, UpstreamTimeouts};
pub use tls::{
    Certificate, CertificateFiles, CertificateSource, ClientAuth, Ocsp, PrivateKey, TicketKey, Tickets, Tls,
    TlsPolicy, TlsSettings,
};
pub use tracing::{Otlp, Sampling, Tracing};
pub use udp::{Sessions, Udp};
pub use upstream_tls::{ClientCertificate, Trust, UpstreamTls};

pub use crate::config::file::AccessLog;

use crate::config::file::{
    Budget, HedgeAfter, Key, ListenerLimits, LogLevel, PriorityClass, ProxyHeaders, ProxyProtocol, RetryWhen,
    RouteSampling, SendProxy, Server, SpillOver, Underscores, UpstreamHost, UpstreamProtocol,
};
use crate::config::words::{HostPattern, ListenAddress, SocketMode};
use crate::filter::{FilterPlan, ip::IpFilter};
use crate::template::Template;
use crate::units::Percent;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Everything a process needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub server: Server,
    pub trusted_proxies: Vec<IpNet>,
    pub proxy_headers: ProxyHeaders,
    pub log_level: LogLevel,
    pub access_log: AccessLog,
    pub listeners: Vec<Arc<Listener>>,
    /// In file order.
    pub routes: Vec<Arc<Route>>,
    /// For requests whose route has none that fits, in file order.
    pub error_pages: Arc<[Arc<ErrorPage>]>,
    /// Where it is asked and told, if it is.
    pub admin: Option<Arc<Admin>>,
    /// What is done about traces, if anything is.
    pub tracing: Option<Arc<Tracing>>,
    /// Referred to by [`UpstreamId`].
    pub upstreams: Vec<Arc<Upstream>>,
}

impl Plan {
    /// The certificates that are ordered, as often as a listener shows them.
    pub fn ordered(&self) -> impl Iterator<Item = &Arc<Ordered>> {
        let of_listeners = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        of_listeners.flat_map(|tls| &tls.certificates).filter_map(Certificate::ordered)
    }
}

/// The index of a group in [`Plan::upstreams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub usize);

/// The index of a listener in [`Plan::listeners`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub usize);

/// A socket that accepts connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub id: ListenerId,
    pub name: String,
    pub address: ListenAddress,
    /// Of a unix socket.
    pub socket_mode: Option<SocketMode>,
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `trusted_proxies`, where the listener has to know them.
    pub trusted: Arc<[IpNet]>,
    pub h1: bool,
    pub h2: bool,
    pub tls: Option<Arc<Tls>>,
    /// Connections are passed on whole; `None`: they bring requests.
    pub tcp: Option<Tcp>,
    /// Datagrams are passed on, and no connection is accepted.
    pub udp: Option<Udp>,
    /// Who may connect; everybody without it.
    pub ip: Option<IpFilter>,
    pub redirect_https: Option<RedirectHttps>,
    pub limits: ListenerLimits,
    pub underscores: Underscores,
    pub filters: Vec<FilterPlan>,
    /// The share of what comes in that has a line in the access log; `None`: that of the log.
    pub logged: Option<Percent>,
}

impl Listener {
    /// The groups that its connections are passed on to whole, or its datagrams, if they are.
    pub fn passes_to(&self) -> impl Iterator<Item = &Arc<str>> {
        let unopened = self.tls.iter().flat_map(|tls| tls.settings.passthrough.all());
        let datagrams = self.udp.iter().map(|udp| &udp.upstream);
        let whole = self.tcp.iter().map(|tcp| &tcp.upstream);
        whole.chain(unopened.map(|unopened| &unopened.group)).chain(datagrams)
    }

    /// Whether it takes datagrams, and not connections.
    pub fn is_udp(&self) -> bool {
        self.udp.is_some()
    }

    /// How flows are kept.
    pub fn flows(&self) -> Flows {
        self.tcp.as_ref().map_or_else(Flows::default, |tcp| tcp.flows)
    }

    /// Whether there are connections that are read for requests.
    pub fn has_requests(&self) -> bool {
        self.tcp.is_none()
            && !self.is_udp()
            && self.tls.as_ref().is_none_or(|tls| !tls.certificates.is_empty())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectHttps {
    /// 443 is left out of the `Location`.
    pub port: u16,
    pub status: u16,
}

/// A rule: conditions and one action.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    // as in the file: what few have is boxed
    /// The name given, or what it matches.
    pub name: String,
    pub matcher: Matcher,
    pub action: Action,
    pub filters: Vec<FilterPlan>,
    /// The first that fits is shown.
    pub error_pages: Vec<Arc<ErrorPage>>,
    /// `None`: those of the group.
    pub timeouts: Option<Box<RouteTimeouts>>,
    /// `None`: that of the listener.
    pub max_body_bytes: Option<u64>,
    /// `None`: that of the group.
    pub retry: Option<Box<Retry>>,
    pub priority_class: PriorityClass,
    /// What differs from that of the file.
    pub sampling: RouteSampling,
    /// The share of its requests that have a line in the access log; `None`: that of the listener.
    pub logged: Option<Percent>,
}

/// The conditions of a route; all of them must hold. Empty lists hold always.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matcher {
    /// Empty: every listener.
    pub listeners: Vec<ListenerId>,
    /// Empty: every host. One of them must match.
    pub hosts: Vec<HostPattern>,
    pub path: PathMatch,
    pub methods: Vec<http::Method>,
    /// Lower-case names.
    pub headers: Vec<(http::HeaderName, ValueMatch)>,
    pub query: Vec<(String, ValueMatch)>,
    pub cookies: Vec<(String, ValueMatch)>,
    pub client: Vec<IpNet>,
    pub certificate: Vec<(CertificatePart, ValueMatch)>,
}

/// What a condition says of the certificate of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificatePart {
    /// That there is one.
    Verified,
    Subject,
    San,
    Fingerprint,
}

impl CertificatePart {
    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            CertificatePart::Verified => "verified",
            CertificatePart::Subject => "subject",
            CertificatePart::San => "san",
            CertificatePart::Fingerprint => "fingerprint",
        }
    }
}

/// What the normalised path must be.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum PathMatch {
    #[default]
    Any,
    /// Normalised, without trailing slash (`/api`); the root prefix is [`PathMatch::Any`].
    Prefix(String),
    /// Normalised.
    Exact(String),
    /// Anchored at both ends.
    Regex(Pattern),
}

#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatch {
    Is(String),
    Prefix(String),
    Regex(Pattern),
    Present(bool),
}

/// A regular expression, compared by its text.
#[derive(Debug, Clone)]
pub struct Pattern(pub regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Upstream(UpstreamId),
    Split(Split),
    Redirect { to: Template, status: u16 },
    Respond(Respond),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    pub key: Option<Key>,
    /// Each group with the running sum of weights, so that a draw below `total` picks the first
    /// whose sum is above it. Groups of weight 0 are left out.
    pub groups: Vec<(u32, UpstreamId)>,
    pub total: u32,
}

impl Split {
    /// Each group with its own weight, as it is written.
    pub fn weights(&self) -> impl Iterator<Item = (u32, UpstreamId)> {
        let before = std::iter::once(0).chain(self.groups.iter().map(|(sum, _)| *sum));
        self.groups.iter().zip(before).map(|((sum, id), before)| (sum - before, *id))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Respond {
    pub status: u16,
    pub body: Template,
    /// Names as they were written; each is a token.
    pub headers: Vec<(bytes::Bytes, Template)>,
}

/// A named group of servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub name: String,
    pub balance: crate::config::file::Balance,
    /// Those with an address of their own.
    pub servers: Vec<Member>,
    /// Where further servers come from.
    pub discover: Vec<Discovery>,
    pub health_check: Option<HealthCheck>,
    pub sticky: Option<Sticky>,
    pub retry: Retry,
    pub retry_budget: Budget,
    pub outlier: Option<Outlier>,
    pub breaker: Breakers,
    /// Health is ignored while less than this share of the servers is healthy.
    pub panic: Option<Percent>,
    pub timeouts: UpstreamTimeouts,
    pub host: UpstreamHost,
    pub protocol: UpstreamProtocol,
    pub tls: Option<UpstreamTls>,
    /// The addresses of this machine from which connections are made; empty: those the system picks.
    pub bind_to: Arc<[IpAddr]>,
    /// The zone of this process.
    pub zone: Option<Arc<str>>,
    pub slow_start: Option<Duration>,
    pub spill_over: SpillOver,
    pub drain_timeout: Duration,
    pub limits: Option<UpstreamLimits>,
    pub send_proxy: Option<SendProxy>,
}

/// One server of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// That of a unix socket only stands for it.
    pub address: SocketAddr,
    /// The path of its unix socket, if it is at one.
    pub unix: Option<Arc<std::path::Path>>,
    /// The host name by which it was found, if it was.
    pub host: Option<Arc<str>>,
    pub weight: std::num::NonZeroU16,
    /// The tier: 0 is used first.
    pub priority: u16,
    pub zone: Option<Arc<str>>,
    /// It gets no new sessions.
    pub drain: bool,
}

/// When a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// The most tries, the first included.
    pub attempts: u16,
    pub on_connect: bool,
    pub on_reset: bool,
    pub on_timeout: bool,
    pub on_status: Statuses,
    pub non_idempotent: bool,
    /// No try begins later than this after the request came.
    pub within: Option<Duration>,
    pub backoff: Option<Backoff>,
    pub hedge: Option<HedgeAfter>,
}

/// How long to wait before a further try, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second try.
    pub base: Duration,
    /// Before any.
    pub max: Duration,
}

/// A set of statuses from 400 to 599.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statuses([u64; 4]);

impl Statuses {
    const FIRST: u16 = 400;

    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    pub fn contains(&self, status: u16) -> bool {
        let Some(place) = status.checked_sub(Self::FIRST) else { return false };
        self.0.get(usize::from(place / 64)).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// One that is out of range is left out.
    pub fn insert(&mut self, status: u16) {
        let Some(place) = status.checked_sub(Self::FIRST) else { return };
        if let Some(bits) = self.0.get_mut(usize::from(place / 64)) {
            *bits |= 1 << (place % 64);
        }
    }
}

impl From<&crate::config::file::Retry> for Retry {
    fn from(file: &crate::config::file::Retry) -> Self {
        let mut on_status = Statuses::default();
        for when in &file.when {
            if let RetryWhen::Status(status) = when {
                on_status.insert(*status);
            }
        }
        Retry {
            attempts: file.attempts.get(),
            on_connect: file.when.contains(&RetryWhen::Connect),
            on_reset: file.when.contains(&RetryWhen::Reset),
            on_timeout: file.when.contains(&RetryWhen::Timeout),
            on_status,
            non_idempotent: file.non_idempotent,
            within: file.within.map(|time| time.0),
            hedge: file.hedge.as_ref().map(|hedge| hedge.after),
            backoff: file.backoff.map(|backoff| Backoff { base: backoff.base.0, max: backoff.max.0 }),
        }
    }
}
