//! What `weirgate check` warns about: routes that no request can take, and conditions that look
//! like protection and are none. Both compare what is written, not what requests will come, and
//! rather stay silent than raise a false alarm.

use super::conditions::{implied, overlap, relaxed, selects};
use super::index::{order, parents, prefixes};
use crate::config::plan::{Action, Matcher, PathMatch, Route};
use crate::config::words::HostPattern;
use ahash::{AHashMap, AHashSet};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Host<'a> {
    Exact(&'a str),
    Below(&'a str),
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Path<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Regex(&'a str),
    Any,
}

/// Routes by host and path, each group in the order in which its routes are tried.
type Groups<'a> = AHashMap<(Host<'a>, Path<'a>), Vec<usize>>;

/// Pairs of positions in `routes`: a route that no request can take, and the route that takes its
/// requests (the first of them, when there are several). In file order.
///
/// Found are routes for the same hosts and the same path whose conditions follow from those of the
/// hidden one, and patterns that stand wholly below a prefix.
pub fn hidden(routes: &[Arc<Route>]) -> Vec<(usize, usize)> {
    if apart(routes) {
        return Vec::new();
    }
    let groups = group(routes);
    let find = |position: usize, route: &Route| {
        let path = path_of(&route.matcher);
        let mut hiders = hosts_of(&route.matcher).map(|host| hider(routes, &groups, position, host, path));
        let first = hiders.next()??;
        hiders.all(|hider| hider.is_some()).then_some((position, first))
    };
    routes.iter().enumerate().filter_map(|(position, route)| find(position, route)).collect()
}

/// Whether no two are for the same host and path, and none has a pattern: so it is with most, and then none hides another.
fn apart(routes: &[Arc<Route>]) -> bool {
    let mut seen = AHashSet::with_capacity(routes.len());
    routes.iter().all(|route| {
        let path = path_of(&route.matcher);
        !matches!(path, Path::Regex(_)) && hosts_of(&route.matcher).all(|host| seen.insert((host, path)))
    })
}

/// The route that takes all requests of this one on one of its hosts.
fn hider<'a>(
    routes: &[Arc<Route>],
    groups: &Groups<'a>,
    position: usize,
    host: Host<'a>,
    path: Path<'a>,
) -> Option<usize> {
    let route = routes.get(position)?;
    let takes_all = |at: &usize| routes.get(*at).is_some_and(|r| implied(&r.matcher, &route.matcher));
    let same = groups.get(&(host, path))?.iter().take_while(|at| **at != position);
    if let Some(found) = same.copied().find(|at| takes_all(at)) {
        return Some(found);
    }
    let Path::Regex(pattern) = path else { return None };
    // prefixes are tried before patterns
    prefixes(literal_start(pattern), usize::MAX).find_map(|prefix| {
        groups.get(&(host, Path::Prefix(prefix)))?.iter().copied().find(|at| takes_all(at))
    })
}

/// Pairs of positions in `routes`: a route that passes requests on only when a condition holds, and
/// the wider route that passes on those that miss it. In file order.
///
/// For `client` this is said of every route whose requests fall to a wider host or a shorter path,
/// such as `/admin` with `client: 10.0.0.0/8` beside `/`; for headers, query parameters and cookies
/// only when they fall to a shorter path. Nothing is said of two routes for the same host and path:
/// that is how requests are sorted on purpose, as to a canary.
pub fn falls_through(routes: &[Arc<Route>]) -> Vec<(usize, usize)> {
    let mut guarded =
        routes.iter().enumerate().filter(|(_, r)| passes_on(&r.action) && selects(&r.matcher)).peekable();
    if guarded.peek().is_none() {
        return Vec::new();
    }
    let groups = group(routes);
    guarded
        .filter_map(|(position, route)| {
            let mut hosts = hosts_of(&route.matcher);
            let wider = hosts.find_map(|host| wider(routes, &groups, position, host))?;
            Some((position, wider))
        })
        .collect()
}

/// Where requests for `host` go that miss a condition of this route, if that is worth a warning.
fn wider<'a>(
    routes: &'a [Arc<Route>],
    groups: &Groups<'a>,
    position: usize,
    host: Host<'a>,
) -> Option<usize> {
    let guarded = &routes.get(position)?.matcher;
    let open = relaxed(guarded);
    let path = path_of(guarded);
    for host_tried in [host].into_iter().chain(wider_hosts(host)) {
        for path_tried in [path].into_iter().chain(wider_paths(path)) {
            let shorter = text(path_tried) != text(path);
            let worth = shorter || (host_tried != host && !guarded.client.is_empty());
            for at in groups.get(&(host_tried, path_tried)).into_iter().flatten() {
                let Some(other) = routes.get(*at).filter(|_| *at != position) else { continue };
                if selects(&other.matcher) || !overlap(&other.matcher, &open) {
                    continue;
                }
                if worth && passes_on(&other.action) {
                    return Some(*at);
                }
                if implied(&other.matcher, &open) {
                    // it takes all that missed the condition, and on purpose
                    return None;
                }
            }
        }
    }
    None
}

fn group(routes: &[Arc<Route>]) -> Groups<'_> {
    let mut groups = Groups::new();
    for (position, route) in routes.iter().enumerate() {
        for host in hosts_of(&route.matcher) {
            let group = groups.entry((host, path_of(&route.matcher))).or_default();
            if group.last() != Some(&position) {
                group.push(position);
            }
        }
    }
    groups.values_mut().for_each(|group| group.sort_by_key(|at| order(routes, *at)));
    groups
}

fn hosts_of(matcher: &Matcher) -> impl Iterator<Item = Host<'_>> {
    let named = matcher.hosts.iter().map(|host| match host {
        HostPattern::Exact(name) => Host::Exact(name),
        HostPattern::Below(name) => Host::Below(name),
    });
    named.chain(matcher.hosts.is_empty().then_some(Host::Any))
}

fn path_of(matcher: &Matcher) -> Path<'_> {
    match &matcher.path {
        PathMatch::Any => Path::Any,
        PathMatch::Prefix(prefix) => match prefix.trim_end_matches('/') {
            "" => Path::Any,
            prefix => Path::Prefix(prefix),
        },
        PathMatch::Exact(path) => Path::Exact(path),
        PathMatch::Regex(pattern) => Path::Regex(pattern.0.as_str()),
    }
}

/// What tells whether one path is shorter than another.
fn text(path: Path<'_>) -> &str {
    match path {
        Path::Exact(text) | Path::Prefix(text) | Path::Regex(text) => text,
        Path::Any => "/",
    }
}

fn wider_hosts(host: Host<'_>) -> impl Iterator<Item = Host<'_>> {
    let name = match host {
        Host::Exact(name) | Host::Below(name) => name,
        Host::Any => "",
    };
    let any = (host != Host::Any).then_some(Host::Any);
    parents(name).map(Host::Below).chain(any)
}

/// The paths tried after this one for the same request, patterns aside.
fn wider_paths(path: Path<'_>) -> impl Iterator<Item = Path<'_>> {
    let (same, shorter) = match path {
        Path::Exact(text) => (Some(Path::Prefix(text)), text),
        Path::Prefix(text) => (None, text),
        Path::Regex(pattern) => (None, literal_start(pattern)),
        Path::Any => (None, ""),
    };
    let any = (path != Path::Any).then_some(Path::Any);
    same.into_iter().chain(prefixes(shorter, usize::MAX).map(Path::Prefix)).chain(any)
}

fn passes_on(action: &Action) -> bool {
    match action {
        Action::Upstream(_) | Action::Split(_) => true,
        Action::Redirect { .. } | Action::Respond(_) => false,
    }
}

/// How every path that an anchored pattern matches starts, as far as it is plain to see: `/api/v`
/// for `^(?:/api/v[0-9]+)$`. Empty for patterns with alternatives or flags.
fn literal_start(pattern: &str) -> &str {
    let mut text = pattern;
    while let Some(rest) = text.strip_prefix('^').or_else(|| text.strip_prefix("(?:")) {
        text = rest;
    }
    if text.contains('|') || text.contains("(?") {
        return "";
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '/' | '-' | '_' | '~' | '%'));
    let (literal, rest) = text.split_at(end.unwrap_or(text.len()));
    match rest.bytes().next() {
        // the last character may be missing
        Some(b'?' | b'*' | b'{') => literal.get(..literal.len().saturating_sub(1)).unwrap_or_default(),
        _ => literal,
    }
}
