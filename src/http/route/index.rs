//! The index behind [`super::Router`]: host, then path, then the few routes that share both.

use super::{RouteQuery, conditions};
use crate::config::plan::{PathMatch, Route};
use crate::config::words::HostPattern;
use ahash::{AHashMap, AHashSet};
use regex::{Regex, RegexSet};
use std::sync::Arc;

/// More patterns than this are matched in one pass over the path.
const FEW_PATTERNS: usize = 8;

type Routes = [Arc<Route>];

/// Looks on while routes are tried. For requests it is [`Take`], which leaves nothing of itself in
/// the code; `explain` notes what was tried, and why.
pub(super) trait Watch {
    /// Host and path of this route fit, and its conditions hold or not. Whether it is taken, which
    /// ends the search.
    fn tried(&mut self, route: usize, holds: bool) -> bool;
}

/// The first that holds is taken.
pub(super) struct Take;

impl Watch for Take {
    #[inline(always)]
    fn tried(&mut self, _: usize, holds: bool) -> bool {
        holds
    }
}

/// One search: for what, among which routes, and who looks on.
pub(super) struct Search<'a, W> {
    pub routes: &'a Routes,
    pub request: &'a RouteQuery<'a>,
    pub watch: W,
}

/// The routes of each host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: AHashMap<Box<str>, Paths>,
    /// By the name below which they are.
    below: AHashMap<Box<str>, Paths>,
    /// The length of the longest name in `below`: longer ones need no lookup, so that a host of a
    /// thousand labels costs no more than one that could match.
    longest_below: usize,
    any: Paths,
}

impl Hosts {
    pub(super) fn build(routes: &Routes) -> Hosts {
        let mut hosts = Hosts::default();
        for (position, route) in routes.iter().enumerate() {
            if route.matcher.hosts.is_empty() {
                hosts.any.insert(position, route);
            }
            let mut seen = AHashSet::new();
            for host in route.matcher.hosts.iter().filter(|host| seen.insert(*host)) {
                match host {
                    HostPattern::Exact(name) => hosts.exact.entry(name.as_str().into()),
                    HostPattern::Below(name) => hosts.below.entry(name.as_str().into()),
                }
                .or_default()
                .insert(position, route);
            }
        }
        hosts.longest_below = hosts.below.keys().map(|name| name.len()).max().unwrap_or(0);
        for paths in hosts.exact.values_mut().chain(hosts.below.values_mut()).chain([&mut hosts.any]) {
            paths.finish(routes);
        }
        hosts
    }

    pub(super) fn find(&self, search: &mut Search<'_, impl Watch>) -> Option<usize> {
        let host = search.request.host;
        let exact = self.exact.get(host).and_then(|paths| paths.find(search));
        exact
            .or_else(|| {
                if self.below.is_empty() {
                    return None;
                }
                let mut names = parents(host).skip_while(|name| name.len() > self.longest_below);
                names.find_map(|name| self.below.get(name)?.find(search))
            })
            .or_else(|| self.any.find(search))
    }
}

/// The names that `host` is below, the longest first: `b.c` and `c` for `a.b.c`.
pub(super) fn parents(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.')).map(|(_, rest)| rest)
}

/// The prefixes of `path` that end before a slash, the longest first, without the root: `/a/b` and
/// `/a` for `/a/b/c`. None is longer than `longest`.
pub(super) fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let cut = |text: &'_ str| -> Option<usize> { text.rfind('/').filter(|at| *at > 0) };
    // a prefix of the longest length ends before a slash that stands one further
    let window = path.as_bytes().get(..=longest).map_or(path.len(), <[u8]>::len);
    let first = path.as_bytes().get(..window).and_then(|w| w.iter().rposition(|b| *b == b'/'));
    let first = first.filter(|at| *at > 0).and_then(|at| path.get(..at));
    std::iter::successors(first, move |text| text.get(..cut(text)?))
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    /// Exact paths, and prefixes without trailing slash.
    nodes: AHashMap<Box<str>, Node>,
    /// The lengths of the longest of each, for the same reason as [`Hosts::longest_below`].
    longest: usize,
    longest_prefix: usize,
    /// By where each pattern stands first in the file.
    patterns: Vec<(Regex, Candidates)>,
    /// All patterns, when there are many.
    set: Option<RegexSet>,
    any: Candidates,
}

/// The routes of one path.
#[derive(Debug, Default)]
struct Node {
    exact: Candidates,
    prefix: Candidates,
}

impl Paths {
    fn insert(&mut self, position: usize, route: &Route) {
        let candidate = Candidate { route: position, free: conditions::count(&route.matcher) == 0 };
        self.candidates(&route.matcher.path).0.push(candidate);
    }

    fn candidates(&mut self, path: &PathMatch) -> &mut Candidates {
        match path {
            PathMatch::Any => &mut self.any,
            PathMatch::Prefix(prefix) => match prefix.trim_end_matches('/') {
                "" => &mut self.any,
                prefix => &mut self.nodes.entry(prefix.into()).or_default().prefix,
            },
            PathMatch::Exact(path) => &mut self.nodes.entry(path.as_str().into()).or_default().exact,
            PathMatch::Regex(pattern) => {
                let known = self.patterns.iter().position(|(p, _)| p.as_str() == pattern.0.as_str());
                let at = known.unwrap_or(self.patterns.len());
                if known.is_none() {
                    self.patterns.push((pattern.0.clone(), Candidates::default()));
                }
                &mut self.patterns[at].1
            }
        }
    }

    fn finish(&mut self, routes: &Routes) {
        for (path, node) in &mut self.nodes {
            self.longest = self.longest.max(path.len());
            if !node.prefix.0.is_empty() {
                self.longest_prefix = self.longest_prefix.max(path.len());
            }
            node.exact.finish(routes);
            node.prefix.finish(routes);
        }
        self.patterns.iter_mut().for_each(|(_, candidates)| candidates.finish(routes));
        self.any.finish(routes);
        if self.patterns.len() > FEW_PATTERNS {
            // too large to be one automaton: matched one after the other
            self.set = RegexSet::new(self.patterns.iter().map(|(pattern, _)| pattern.as_str())).ok();
        }
    }

    fn find(&self, search: &mut Search<'_, impl Watch>) -> Option<usize> {
        self.find_literal(search).or_else(|| self.find_pattern(search)).or_else(|| self.any.pick(search))
    }

    fn find_literal(&self, search: &mut Search<'_, impl Watch>) -> Option<usize> {
        let path = search.request.path;
        if path.len() <= self.longest
            && let Some(node) = self.nodes.get(path)
            && let found @ Some(_) = node.exact.pick(search).or_else(|| node.prefix.pick(search))
        {
            return found;
        }
        if self.longest_prefix == 0 {
            return None;
        }
        prefixes(path, self.longest_prefix).find_map(|prefix| self.nodes.get(prefix)?.prefix.pick(search))
    }

    fn find_pattern(&self, search: &mut Search<'_, impl Watch>) -> Option<usize> {
        let path = search.request.path;
        match &self.set {
            Some(set) => {
                let mut matched = set.matches(path).into_iter();
                matched.find_map(|at| self.patterns.get(at)?.1.pick(search))
            }
            None => self
                .patterns
                .iter()
                .find_map(|(pattern, candidates)| pattern.is_match(path).then(|| candidates.pick(search))?),
        }
    }
}

/// Routes that share host and path, in the order they are tried.
#[derive(Debug, Default)]
struct Candidates(Vec<Candidate>);

#[derive(Debug)]
struct Candidate {
    route: usize,
    /// It has no conditions to look at.
    free: bool,
}

impl Candidates {
    fn finish(&mut self, routes: &Routes) {
        self.0.sort_by_key(|c| order(routes, c.route));
        self.0.shrink_to_fit();
    }

    fn pick(&self, search: &mut Search<'_, impl Watch>) -> Option<usize> {
        let Search { routes, request, watch } = search;
        let holds = |route: &Arc<Route>| conditions::hold(&route.matcher, request);
        let mut tried = |c: &&Candidate| {
            let holds = c.free || routes.get(c.route).is_some_and(holds);
            watch.tried(c.route, holds)
        };
        self.0.iter().find(|c| tried(c)).map(|c| c.route)
    }
}

/// What routes with the same host and path are sorted by: most conditions, then file order.
pub(super) fn order(routes: &Routes, position: usize) -> (std::cmp::Reverse<usize>, usize) {
    let conditions = routes.get(position).map_or(0, |route| conditions::count(&route.matcher));
    (std::cmp::Reverse(conditions), position)
}
