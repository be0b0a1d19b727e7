//! Routes in words: their conditions as they are written, and the order in which they are tried. For
//! operators who look at a configuration; nothing here is called for a request.

use super::conditions::{self, each};
use super::index::order;
use crate::config::plan::{Action, Listener, Matcher, PathMatch, Route, Upstream, UpstreamId, ValueMatch};
use crate::config::secret::{MASK, is_secret_key};
use crate::config::words::HostPattern;
use crate::template::Template;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// A condition as it is written: `methods` and `[GET, POST]`, `headers.x-team` and `ops`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    pub key: String,
    pub wants: String,
}

/// The conditions of a route besides host and path, in the order in which they are looked at.
pub fn conditions(matcher: &Matcher, listeners: &[Arc<Listener>]) -> Vec<Condition> {
    each(matcher).map(|condition| in_words(condition, listeners)).collect()
}

pub(super) fn in_words(condition: conditions::Condition<'_>, listeners: &[Arc<Listener>]) -> Condition {
    use conditions::Condition as C;
    let (key, wants) = match condition {
        C::Listeners(ids) => {
            let name = |id: &crate::config::plan::ListenerId| {
                listeners.get(id.0).map_or("", |listener| listener.name.as_str()).to_string()
            };
            ("listeners".to_string(), list(ids.iter().map(name)))
        }
        C::Methods(methods) => ("methods".to_string(), list(methods.iter().map(ToString::to_string))),
        C::Client(networks) => ("client".to_string(), list(networks.iter().map(ToString::to_string))),
        C::Certificate(part, wanted) => {
            let part = part.name();
            (format!("client_certificate.{part}"), value(part, wanted))
        }
        C::Header(name, wanted) => (format!("headers.{name}"), value(name.as_str(), wanted)),
        C::Cookie(name, wanted) => (format!("cookies.{name}"), value(name, wanted)),
        C::Query(name, wanted) => (format!("query.{name}"), value(name, wanted)),
    };
    Condition { key, wants }
}

/// What a route does: `upstream api`, `split stable 95, canary 5`, `redirect 308 /new`, `respond 200`.
pub fn action_words(route: &Route, upstreams: &[Arc<Upstream>]) -> String {
    let name = |id: UpstreamId| upstreams.get(id.0).map_or("", |group| group.name.as_str());
    match &route.action {
        Action::Upstream(id) => format!("upstream {}", name(*id)),
        Action::Split(split) => {
            let shares = split.weights().map(|(weight, id)| format!("{} {weight}", name(id)));
            format!("split {}", shares.collect::<Vec<_>>().join(", "))
        }
        Action::Redirect { to, status } => format!("redirect {status} {}", as_written(to)),
        Action::Respond(respond) => format!("respond {}", respond.status),
    }
}

fn as_written(template: &Template) -> String {
    serde_json::to_value(template).ok().and_then(|text| Some(text.as_str()?.to_string())).unwrap_or_default()
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

fn value(name: &str, wanted: &ValueMatch) -> String {
    let text = |text: &str| if is_secret_key(name) { MASK.to_string() } else { text.to_string() };
    match wanted {
        ValueMatch::Is(wanted) => text(wanted),
        ValueMatch::Prefix(wanted) => format!("{{ prefix: {} }}", text(wanted)),
        ValueMatch::Regex(pattern) => format!("{{ regex: {} }}", text(pattern.0.as_str())),
        ValueMatch::Present(present) => format!("{{ present: {present} }}"),
    }
}

/// `www.example.com`, `*.example.com`, `*` for every host; several with a comma.
pub fn host_words(matcher: &Matcher) -> String {
    match matcher.hosts.is_empty() {
        true => "*".to_string(),
        false => matcher.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// `= /exact`, `/prefix`, `~ regex`, in the signs of nginx.
pub fn path_words(path: &PathMatch) -> String {
    match path {
        PathMatch::Any => "/".to_string(),
        PathMatch::Prefix(prefix) => prefix.clone(),
        PathMatch::Exact(exact) => format!("= {exact}"),
        PathMatch::Regex(pattern) => {
            let text = pattern.0.as_str();
            let written = text.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$"));
            format!("~ {}", written.unwrap_or(text))
        }
    }
}

/// The order in which routes are tried: a host and a position in `routes` for each, the hosts that
/// exclude each other in file order. A route for several hosts comes once for each.
pub fn precedence(routes: &[Arc<Route>]) -> Vec<(Option<HostPattern>, usize)> {
    let mut rows: Vec<(Option<HostPattern>, usize)> = Vec::new();
    for (position, route) in routes.iter().enumerate() {
        let hosts = route.matcher.hosts.iter().map(|host| Some(host.clone()));
        for host in hosts.chain(route.matcher.hosts.is_empty().then_some(None)) {
            if rows.last() != Some(&(host.clone(), position)) {
                rows.push((host, position));
            }
        }
    }
    // where each host, and each pattern of a host, stands first
    let mut first_host: HashMap<Option<HostPattern>, usize> = HashMap::new();
    let mut first_pattern: HashMap<(Option<HostPattern>, String), usize> = HashMap::new();
    for (host, position) in &rows {
        first_host.entry(host.clone()).or_insert(*position);
        if let Some(PathMatch::Regex(pattern)) = routes.get(*position).map(|route| &route.matcher.path) {
            first_pattern.entry((host.clone(), pattern.0.as_str().into())).or_insert(*position);
        }
    }
    rows.sort_by_cached_key(|(host, position)| {
        let of_host = match host {
            Some(HostPattern::Exact(_)) => (0, Reverse(0)),
            Some(HostPattern::Below(name)) => (1, Reverse(name.len())),
            None => (2, Reverse(0)),
        };
        let of_path = match routes.get(*position).map(|route| &route.matcher.path) {
            Some(PathMatch::Exact(path)) => (0, Reverse(0), path.clone(), 0),
            Some(PathMatch::Prefix(prefix)) => (1, Reverse(prefix.len()), prefix.clone(), 0),
            Some(PathMatch::Regex(pattern)) => {
                let key = (host.clone(), pattern.0.as_str().to_string());
                (2, Reverse(0), String::new(), first_pattern.get(&key).copied().unwrap_or(0))
            }
            Some(PathMatch::Any) | None => (3, Reverse(0), String::new(), 0),
        };
        (of_host, first_host.get(host).copied(), of_path, order(routes, *position))
    });
    rows
}
