//! How listeners, routes and servers look to whoever asks at the admin address: what is known of them, put into words.
//! Called by `overseer`.

use crate::acme::Managed;
use crate::admin::view::{self, State, Why};
use crate::config::plan::{Action, Certificate, Plan, Route};
use crate::edge::Listening;
use crate::http::route::{action_words, conditions, path_words};
use crate::observe::{at_text, recent};
use crate::upstream::breaker::Mode;
use crate::upstream::endpoint::{DrainReason, FULL_WARMTH};
use crate::upstream::{Group, Server};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub fn listener(listening: &Listening) -> view::Listener {
    let plan = &listening.plan;
    let spoken = [(plan.h1, "h1"), (plan.h2, "h2"), (plan.tcp.is_some(), "tcp"), (plan.is_udp(), "udp")];
    view::Listener {
        name: plan.name.clone(),
        address: listening.address.to_string(),
        protocols: spoken.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect(),
        tls: plan.tls.is_some(),
        open: listening.count.open(),
        limit: plan.limits.connections,
        refused: listening.count.refused(),
        passes_to: plan.passes_to().map(ToString::to_string).collect(),
    }
}

pub fn route(route: &Route, plan: &Plan) -> view::Route {
    let matcher = &route.matcher;
    let ids = match &route.action {
        Action::Upstream(id) => vec![*id],
        Action::Split(split) => split.weights().map(|(_, id)| id).collect(),
        Action::Redirect { .. } | Action::Respond(_) => Vec::new(),
    };
    let listeners = matcher.listeners.iter().filter_map(|id| plan.listeners.get(id.0));
    let conditions = conditions(matcher, &plan.listeners);
    view::Route {
        name: route.name.clone(),
        hosts: matcher.hosts.iter().map(ToString::to_string).collect(),
        path: path_words(&matcher.path),
        conditions: conditions.into_iter().map(|c| format!("{}: {}", c.key, c.wants)).collect(),
        listeners: listeners.map(|listener| listener.name.clone()).collect(),
        action: action_words(route, &plan.upstreams),
        upstreams: ids.iter().filter_map(|id| Some(plan.upstreams.get(id.0)?.name.clone())).collect(),
    }
}

pub fn upstream(group: &Group) -> view::Upstream {
    let (plan, servers) = (group.plan(), group.servers());
    view::Upstream {
        name: group.name().to_owned(),
        balance: plan.balance.name(),
        usable: group.healthy_count(),
        in_flight: servers.iter().map(|server| server.endpoint.in_flight()).sum(),
        queued: group.caps().map(|caps| caps.counts().1),
        panics: group.ignores_health(),
        checked: plan.health_check.is_some(),
        ejects: plan.outlier.is_some(),
        servers: servers.iter().map(|server| self::server(server)).collect(),
    }
}

pub fn server(server: &Server) -> view::Server {
    let endpoint = &server.endpoint;
    let (health, why) = (endpoint.health(), why(server));
    let warmth = u32::from(endpoint.warmth()) * 100 / u32::from(FULL_WARMTH);
    let warming = if warmth < 100 { State::Warming } else { State::Up };
    view::Server {
        address: endpoint.name().to_owned(),
        host: server.host.as_deref().map(str::to_owned),
        state: why.first().map_or(warming, |why| why.state),
        usable: server.usable(),
        why,
        in_flight: endpoint.in_flight(),
        weight: server.weight(),
        priority: server.tier,
        zone: server.zone.as_deref().map(str::to_owned),
        warmth: u8::try_from(warmth).unwrap_or(100),
        since: at_text(health.since),
        last_check_failure: health.last_failure.as_deref().map(str::to_owned),
    }
}

/// Why it is not simply up, the gravest first.
fn why(server: &Server) -> Vec<Why> {
    let (endpoint, now) = (&server.endpoint, Instant::now());
    let left = |until: Instant| Some(milliseconds(until.saturating_duration_since(now)));
    let mut all = Vec::new();
    if !endpoint.is_up() {
        let health = endpoint.health();
        let reason = health.last_failure.as_deref().unwrap_or("it has not passed a check yet").to_owned();
        all.push(Why { state: State::Down, reason, since: Some(at_text(health.since)), left_ms: None });
    }
    if let Some(conduct) = endpoint.known_conduct() {
        if let Some(ejection) = conduct.record.ejection() {
            let reason = ejection.why.as_ref().to_owned();
            all.push(Why { state: State::Ejected, reason, since: None, left_ms: left(ejection.until) });
        }
        let reason = match conduct.breaker.mode() {
            Mode::Closed => None,
            Mode::Open => Some("too many of its requests failed, or are in flight"),
            Mode::HalfOpen { .. } => Some("a few requests are tried"),
        };
        if let Some(reason) = reason {
            let left_ms = conduct.breaker.open_until().and_then(left);
            all.push(Why { state: State::BreakerOpen, reason: reason.to_owned(), since: None, left_ms });
        }
    }
    if let Some(drain) = endpoint.drain() {
        let reason = match drain.why {
            DrainReason::Configured => "`drain: true` is written with it",
            DrainReason::Removed => "it is no longer named, and leaves when its requests have ended",
            DrainReason::Asked => "somebody asked for it",
        };
        let (reason, since) = (reason.to_owned(), Some(at_text(drain.since)));
        all.push(Why { state: State::Draining, reason, since, left_ms: None });
    }
    all
}

pub fn failure(failure: &recent::Failure) -> view::Failure {
    view::Failure {
        number: failure.number,
        at: at_text(failure.at),
        listener: failure.listener.clone(),
        client: failure.client.map(|client| client.to_string()),
        method: failure.method.clone(),
        host: failure.host.clone(),
        path: failure.path.clone(),
        status: failure.status,
        route: failure.route.clone(),
        upstream: failure.upstream.clone(),
        server: failure.server.clone(),
        attempts: failure.attempts,
        duration_ms: (failure.duration.as_secs_f64() * 1e6).round() / 1e3,
        reason: failure.error.clone().unwrap_or_else(|| "the server has answered so".into()),
        request_id: failure.request_id.clone(),
    }
}

/// The certificates that are ordered from authorities.
pub fn ordered(plan: &Plan, kept: &[Arc<Managed>]) -> Vec<view::Certificate> {
    let mut all = Vec::new();
    for listener in &plan.listeners {
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
        for wanted in certificates.filter_map(Certificate::ordered) {
            let managed = kept.iter().find(|managed| managed.plan() == wanted);
            all.push(view::Certificate {
                listener: listener.name.clone(),
                names: wanted.names.clone(),
                file: None,
                acme: Some(wanted.authority.name.clone()),
                not_after: managed.and_then(|managed| managed.standing().expires).map(at_text),
                fingerprint: None,
            });
        }
    }
    all
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
