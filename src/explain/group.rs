//! What is in effect for a request at the group it goes to: of the route, or else of the group. The parts
//! of the plan are taken apart by name, so that a new one does not compile until it is told here or is
//! left out on purpose.

use crate::config::file::{self, HedgeAfter, SendProxy, UpstreamHost, UpstreamProtocol};
use crate::config::plan::{self, Retry, Route, Trust, Upstream, UpstreamTimeouts, UpstreamTls};
use crate::units::Time;
use serde::Serialize;

/// The group that a request goes to, with what is in effect for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    pub upstream: String,
    pub balance: String,
    /// Servers with an address of their own; others may be discovered.
    pub servers: Vec<String>,
    pub protocol: UpstreamProtocol,
    /// `null`: plaintext.
    pub tls: Option<Tls>,
    /// The version of the PROXY protocol in which they are told of the client.
    pub send_proxy: Option<SendProxy>,
    /// What servers see as `Host`: as under `upstreams.*.host`.
    pub host: UpstreamHost,
    pub timeouts: Timeouts,
    pub retry: Retries,
}

/// TLS to the servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// The name of every server; each has its own when it is `null`.
    pub sni: Option<String>,
    pub trusted: Trusted,
    /// Servers that ask for a certificate are shown one.
    pub client_certificate: bool,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trusted {
    /// Of the authorities that the system trusts.
    System,
    /// Of the authorities under `ca`.
    Ca,
    /// Anyone's: `verify: false`.
    Anyone,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeouts {
    pub connect: Time,
    /// `null`: plaintext.
    pub tls: Option<Time>,
    pub response: Time,
    pub first_byte: Option<Time>,
    #[serde(rename = "try")]
    pub one_try: Option<Time>,
    pub request: Option<Time>,
    pub tunnel: Time,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retries {
    /// Tries in all.
    pub attempts: u16,
    /// As under `retry.when`.
    pub when: Vec<String>,
    /// Whether this method is tried again once it may have reached a server.
    pub repeats: bool,
    pub within: Option<Time>,
    pub backoff: Option<file::Backoff>,
    /// When a second try begins beside the first.
    pub hedge: Option<HedgeAfter>,
}

impl Group {
    pub(super) fn new(group: &Upstream, route: &Route, method: &str) -> Group {
        let Upstream {
            name,
            balance,
            servers,
            protocol,
            tls,
            host,
            timeouts,
            retry,
            // of the servers, or of all requests together
            discover: _,
            health_check: _,
            sticky: _,
            retry_budget: _,
            outlier: _,
            breaker: _,
            panic: _,
            bind_to: _,
            zone: _,
            slow_start: _,
            spill_over: _,
            drain_timeout: _,
            limits: _,
            send_proxy,
        } = group;
        Group {
            upstream: name.clone(),
            balance: balance.to_string(),
            servers: servers.iter().map(plan::Member::place).collect(),
            protocol: *protocol,
            tls: tls.as_ref().map(Tls::new),
            send_proxy: *send_proxy,
            host: host.clone(),
            timeouts: Timeouts::new(timeouts.with(route.timeouts.as_deref()), tls.is_some()),
            retry: Retries::new(*route.retry.as_deref().unwrap_or(retry), method),
        }
    }
}

impl Tls {
    fn new(plan: &UpstreamTls) -> Tls {
        // `host` is for servers without a name of their own
        let UpstreamTls { sni, host: _, trust, client } = plan;
        let trusted = match trust {
            Trust::System => Trusted::System,
            Trust::These(_) => Trusted::Ca,
            Trust::Anyone => Trusted::Anyone,
        };
        Tls { sni: sni.clone(), trusted, client_certificate: client.is_some() }
    }
}

impl Timeouts {
    fn new(plan: UpstreamTimeouts, is_tls: bool) -> Timeouts {
        // `tls` is what `handshake` answers, `idle` is for connections without a request
        let UpstreamTimeouts { connect, tls: _, response, first_byte, one_try, request, tunnel, idle: _ } =
            plan;
        Timeouts {
            connect: Time(connect),
            tls: is_tls.then(|| Time(plan.handshake())),
            response: Time(response),
            first_byte: first_byte.map(Time),
            one_try: one_try.map(Time),
            request: request.map(Time),
            tunnel: Time(tunnel),
        }
    }
}

impl Retries {
    fn new(plan: Retry, method: &str) -> Retries {
        let Retry {
            attempts,
            on_connect,
            on_reset,
            on_timeout,
            on_status,
            non_idempotent,
            within,
            backoff,
            hedge,
        } = plan;
        let named = [(on_connect, "connect"), (on_reset, "reset"), (on_timeout, "timeout")];
        let words = named.into_iter().filter(|(on, _)| *on).map(|(_, word)| word.to_string());
        let statuses = (400..600).filter(|status| on_status.contains(*status)).map(|s| s.to_string());
        let idempotent =
            http::Method::from_bytes(method.as_bytes()).is_ok_and(|method| method.is_idempotent());
        Retries {
            attempts,
            when: words.chain(statuses).collect(),
            repeats: non_idempotent || idempotent,
            within: within.map(Time),
            backoff: backoff
                .map(|plan::Backoff { base, max }| file::Backoff { base: Time(base), max: Time(max) }),
            hedge: hedge.filter(|_| idempotent),
        }
    }
}
