//! Why a request takes its route and not another. The search is the one of [`Router::position`],
//! watched: it goes on behind the route that is taken, and notes every route whose host and path fit.

use super::conditions::{self, Condition, each};
use super::index::{Search, Watch, parents};
use super::words::{in_words, path_words};
use super::{RouteQuery, Router};
use crate::config::plan::{Listener, Matcher, PathMatch, Route};
use crate::config::secret::{MASK, is_secret_key};
use crate::config::words::HostPattern;
use crate::http::{cookie, query};
use serde::Serialize;
use std::sync::Arc;

/// At most so many routes are told for each reason that concerns host or path.
const MOST: usize = 5;

/// Which route a request takes, and which not.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The place of the route among those given to [`Router::build`].
    pub taken: Option<usize>,
    /// In the order in which they were tried; then those that were not tried because of their host or
    /// path alone.
    pub lost: Vec<Lost>,
}

/// A route that a request does not take.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    pub route: usize,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// These conditions do not hold: at least one.
    Conditions(Vec<Held>),
    /// It would have been taken, had the other not come first.
    LessSpecific(String),
    /// Everything else fits.
    Host,
    /// Everything else fits, and the path nearly.
    Path(&'static str),
}

/// A condition, held against a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// As in the file: `methods`, `headers.x-team`.
    pub key: String,
    pub wants: String,
    /// What the request has.
    pub has: String,
    pub holds: bool,
}

/// Every route whose host and path fit, in the order they are tried.
#[derive(Default)]
struct Note {
    tried: Vec<(usize, bool)>,
}

impl Watch for Note {
    fn tried(&mut self, route: usize, holds: bool) -> bool {
        // a route for several hosts is met at each
        if !self.tried.iter().any(|(known, _)| *known == route) {
            self.tried.push((route, holds));
        }
        false
    }
}

impl Router {
    /// As [`Router::position`], with the reasons. `listeners` give their names.
    pub fn explain(&self, request: &RouteQuery<'_>, listeners: &[Arc<Listener>]) -> Explained {
        let request = &RouteQuery { client: request.client.to_canonical(), ..*request };
        let mut search = Search { routes: &self.routes, request, watch: Note::default() };
        self.hosts.find(&mut search);
        let note = search.watch;
        let taken = note.tried.iter().find(|(_, holds)| *holds).map(|(route, _)| *route);
        debug_assert_eq!(taken, self.position(request), "the search is the same, watched or not");
        let mut lost: Vec<Lost> = Vec::new();
        for (route, holds) in note.tried.iter().filter(|(route, _)| Some(*route) != taken) {
            let Some(matcher) = self.route(*route).map(|r| &r.matcher) else { continue };
            let why = match (holds, taken.and_then(|winner| self.route(winner))) {
                (true, Some(winner)) => {
                    Why::LessSpecific(less_specific(&winner.matcher, matcher, request.host))
                }
                _ => Why::Conditions(failures(matcher, request, listeners)),
            };
            lost.push(Lost { route: *route, why });
        }
        lost.extend(self.near(request, &note));
        Explained { taken, lost }
    }

    /// Every condition of a route, held against a request.
    pub fn held(&self, route: &Route, request: &RouteQuery<'_>, listeners: &[Arc<Listener>]) -> Vec<Held> {
        let request = &RouteQuery { client: request.client.to_canonical(), ..*request };
        each(&route.matcher).map(|condition| held(condition, request, listeners)).collect()
    }

    /// Routes that only their host or path has kept out, the likeliest first.
    fn near(&self, request: &RouteQuery<'_>, note: &Note) -> Vec<Lost> {
        let (mut hosts, mut paths) = (Vec::new(), Vec::new());
        for (at, route) in self.routes.iter().enumerate() {
            let matcher = &route.matcher;
            if note.tried.iter().any(|(known, _)| *known == at) || !conditions::hold(matcher, request) {
                continue;
            }
            let host = best_host(matcher, request.host);
            match (host, path_fits(&matcher.path, request.path)) {
                (None, true) => hosts.push((likeness(matcher, request.host), at)),
                (Some(_), false) => paths.extend(nearly(&matcher.path, request.path).map(|why| (why, at))),
                _ => {}
            }
        }
        hosts.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.cmp(y)));
        let paths = paths.into_iter().map(|(why, route)| Lost { route, why: Why::Path(why) }).take(MOST);
        let hosts = hosts.into_iter().map(|(_, route)| Lost { route, why: Why::Host }).take(MOST);
        paths.chain(hosts).collect()
    }
}

fn failures(matcher: &Matcher, request: &RouteQuery<'_>, listeners: &[Arc<Listener>]) -> Vec<Held> {
    let failed = each(matcher).filter(|condition| !condition.holds(request));
    failed.map(|condition| held(condition, request, listeners)).collect()
}

fn held(condition: Condition<'_>, request: &RouteQuery<'_>, listeners: &[Arc<Listener>]) -> Held {
    let words = in_words(condition, listeners);
    let values = |name: &str, values: Vec<String>| match values.as_slice() {
        [] => "none".to_string(),
        _ if is_secret_key(name) => MASK.to_string(),
        several => several.join(", "),
    };
    let has = match condition {
        Condition::Listeners(_) => {
            listeners.get(request.listener.0).map_or_else(String::new, |listener| listener.name.clone())
        }
        Condition::Methods(_) => request.method.to_string(),
        Condition::Client(_) => request.client.to_string(),
        Condition::Certificate(part, _) => {
            let all = conditions::part_of(request.certificate, part);
            values(part.name(), all.map(String::from).collect())
        }
        Condition::Header(name, _) => {
            let all = request.headers.get_all(name).into_iter();
            values(name.as_str(), all.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect())
        }
        Condition::Cookie(name, _) => {
            let all = cookie::values(request.headers, name);
            values(name, all.map(|v| String::from_utf8_lossy(v).into_owned()).collect())
        }
        Condition::Query(name, _) => {
            let all = query::values(request.query.unwrap_or_default(), name);
            values(name, all.map(|v| v.into_owned()).collect())
        }
    };
    Held { key: words.key, wants: words.wants, has, holds: condition.holds(request) }
}

/// The most specific of its hosts that this one is; `Some(None)` when it is for every host.
fn best_host<'a>(matcher: &'a Matcher, host: &str) -> Option<Option<&'a HostPattern>> {
    if matcher.hosts.is_empty() {
        return Some(None);
    }
    let fits = |pattern: &&HostPattern| match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Below(name) => parents(host).any(|parent| parent == name),
    };
    matcher.hosts.iter().filter(fits).max_by_key(|pattern| host_rank(Some(pattern))).map(Some)
}

/// The larger, the more specific.
fn host_rank(host: Option<&HostPattern>) -> (u8, usize) {
    match host {
        Some(HostPattern::Exact(_)) => (2, 0),
        Some(HostPattern::Below(name)) => (1, name.len()),
        None => (0, 0),
    }
}

fn path_fits(pattern: &PathMatch, path: &str) -> bool {
    match pattern {
        PathMatch::Any => true,
        PathMatch::Exact(exact) => exact == path,
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Regex(pattern) => pattern.0.is_match(path),
    }
}

/// How a path that does not fit misses, when it is likely that it was meant to.
fn nearly(pattern: &PathMatch, path: &str) -> Option<&'static str> {
    let (PathMatch::Exact(wanted) | PathMatch::Prefix(wanted)) = pattern else { return None };
    let start = path.get(..wanted.len());
    let few = |a: &str, b: &str| a.len().min(b.len()) > 3 && strsim::damerau_levenshtein(a, b) <= 2;
    match pattern {
        PathMatch::Exact(_) if path.strip_suffix('/') == Some(wanted) => Some("it has no slash at its end"),
        PathMatch::Exact(_) if wanted.strip_suffix('/') == Some(path) => Some("it has a slash at its end"),
        PathMatch::Exact(_) if wanted.eq_ignore_ascii_case(path) => Some("upper and lower case differ"),
        PathMatch::Exact(_)
            if start == Some(wanted) && path.get(wanted.len()..).is_some_and(|r| r.starts_with('/')) =>
        {
            Some("`exact` is not for what is below it")
        }
        PathMatch::Exact(_) if few(wanted, path) => Some("it is spelt otherwise"),
        PathMatch::Prefix(_) if start == Some(wanted) => Some("a prefix ends where a segment does"),
        PathMatch::Prefix(_) if start.is_some_and(|start| start.eq_ignore_ascii_case(wanted)) => {
            Some("upper and lower case differ")
        }
        PathMatch::Prefix(_) if few(wanted, segments(path, wanted)) => Some("it is spelt otherwise"),
        PathMatch::Any | PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Regex(_) => None,
    }
}

/// As many segments of `path` as `like` has.
fn segments<'a>(path: &'a str, like: &str) -> &'a str {
    let mut slashes = path.match_indices('/').map(|(at, _)| at).skip(like.matches('/').count());
    slashes.next().and_then(|end| path.get(..end)).unwrap_or(path)
}

fn likeness(matcher: &Matcher, host: &str) -> f64 {
    let name = |pattern: &HostPattern| strsim::jaro_winkler(&pattern.to_string(), host);
    matcher.hosts.iter().map(name).fold(0.0, f64::max)
}

/// Why `winner` comes before `other`, which fits as well: by the rule in the head of this module's
/// parent, host, path, number of conditions, file.
fn less_specific(winner: &Matcher, other: &Matcher, host: &str) -> String {
    let hosts = (best_host(winner, host).flatten(), best_host(other, host).flatten());
    if host_rank(hosts.0) != host_rank(hosts.1) {
        return match hosts.1 {
            None => "it is for every host".to_string(),
            Some(wider) => format!("its host {wider} is wider"),
        };
    }
    let paths = (path_words(&winner.path), path_words(&other.path));
    match (&winner.path, &other.path) {
        (PathMatch::Exact(_), PathMatch::Exact(_)) | (PathMatch::Any, PathMatch::Any) => {}
        (PathMatch::Prefix(_), PathMatch::Prefix(_)) | (PathMatch::Regex(_), PathMatch::Regex(_))
            if paths.0 == paths.1 => {}
        (PathMatch::Exact(_), _) => return format!("{} is not exact", paths.1),
        (_, PathMatch::Any) => return "it is for every path".to_string(),
        (PathMatch::Prefix(_), PathMatch::Prefix(_)) => return format!("its path {} is shorter", paths.1),
        (PathMatch::Prefix(_), _) => return "patterns are tried after paths".to_string(),
        _ => return "its pattern stands later in the file".to_string(),
    }
    let (more, fewer) = (conditions::count(winner), conditions::count(other));
    match more > fewer {
        true => format!("it has fewer conditions ({fewer}, not {more})"),
        false => "it stands later in the file".to_string(),
    }
}
