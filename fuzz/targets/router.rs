//! The router against a matcher that looks at every route and compares those that fit. Both get the
//! same routes and request, made from the bytes; small vocabularies, so that routes meet.

use std::net::IpAddr;
use std::sync::Arc;
use weirgate::config::file::PriorityClass;
use weirgate::config::plan::{
    Action, ListenerId, Matcher, PathMatch, Pattern, Route, UpstreamId, ValueMatch,
};
use weirgate::config::words::HostPattern;
use weirgate::http::route::{RouteQuery, Router, precedence};

const HOSTS: &[&str] = &["a.test", "b.a.test", "c.b.a.test", "*.a.test", "*.b.a.test", "*.test", "test"];
const PATHS: &[&str] = &["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/a/c", "/x/y/z", "/a%20b"];
const PATTERNS: &[&str] =
    &["/a.*", "/[ab](/.*)?", "/a/b", "/.*c", "/[^/]+", ".*", "/a/[bc]", "/x/.*", "/b", "/a/b/.*"];
const METHODS: &[http::Method] = &[http::Method::GET, http::Method::POST, http::Method::HEAD];
const NETWORKS: &[&str] = &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32"];
const CLIENTS: &[&str] = &["10.1.2.3", "192.0.2.7", "::ffff:10.9.9.9", "2001:db8::1"];
const NAMES: &[&str] = &["x-a", "x-b"];
const VALUES: &[&str] = &["1", "12", "two words"];

/// Bytes as choices; zeros when they are used up.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % sides
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    fn some<T: Copy>(&mut self, of: &[T]) -> Vec<T> {
        (0..self.roll(8).saturating_sub(5)).map(|_| self.one(of)).collect()
    }
}

/// A request, with its parts as the naive matcher wants them.
struct Asked {
    host: &'static str,
    path: String,
    method: http::Method,
    fields: Vec<(&'static str, &'static str)>,
    cookies: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
    client: IpAddr,
    listener: usize,
}

pub fn run(data: &[u8]) {
    let mut dice = Dice(data);
    let routes: Vec<Arc<Route>> = (0..1 + dice.roll(24)).map(|at| Arc::new(route(&mut dice, at))).collect();
    let router = Router::build(&routes);
    let rows = precedence(&routes);
    for _ in 0..8 {
        let asked = ask(&mut dice);
        let expected = naive(&routes, &asked);
        let told = || format!("{}\nasked {}", written(&routes), asked.written());
        asked.with_query(|query| {
            assert_eq!(router.position(query), expected, "{}", told());
            let explained = router.explain(query, &[]);
            assert_eq!(explained.taken, expected, "explained: {}", told());
            // the table of routes tells the same: its first line that fits is the route
            let mut fitting = rows.iter().filter(|(host, at)| {
                host.as_ref().is_none_or(|host| host_fits(host, asked.host))
                    && fits(&routes[*at].matcher, &asked)
            });
            assert_eq!(fitting.next().map(|(_, at)| *at), expected, "the table: {}", told());
        });
    }
}

fn route(dice: &mut Dice<'_>, at: usize) -> Route {
    let pattern = |text: &str| Pattern(regex::Regex::new(&format!("^(?:{text})$")).expect("a pattern"));
    let path = match dice.roll(8) {
        0 => PathMatch::Any,
        1 | 2 => PathMatch::Exact(dice.one(PATHS).to_string()),
        3 | 4 => PathMatch::Regex(pattern(dice.one(PATTERNS))),
        _ => match dice.one(PATHS) {
            "/" => PathMatch::Any,
            prefix => PathMatch::Prefix(prefix.trim_end_matches('/').to_string()),
        },
    };
    let value = |dice: &mut Dice<'_>| match dice.roll(5) {
        0 | 1 => ValueMatch::Is(dice.one(VALUES).to_string()),
        2 => ValueMatch::Prefix(dice.one(VALUES).to_string()),
        3 => ValueMatch::Regex(Pattern(regex::Regex::new(dice.one(VALUES)).expect("a pattern"))),
        _ => ValueMatch::Present(dice.roll(2) == 0),
    };
    let named = |dice: &mut Dice<'_>| -> Vec<(&'static str, ValueMatch)> {
        dice.some(NAMES).into_iter().map(|name| (name, value(dice))).collect()
    };
    let owned =
        |all: Vec<(&str, ValueMatch)>| all.into_iter().map(|(name, v)| (name.to_string(), v)).collect();
    let headers = named(dice).into_iter().map(|(name, v)| (http::HeaderName::from_static(name), v)).collect();
    let matcher = Matcher {
        listeners: dice.some(&[0, 1]).into_iter().map(ListenerId).collect(),
        hosts: dice.some(HOSTS).into_iter().map(|host| host.parse().expect("a host")).collect(),
        path,
        methods: dice.some(&[0, 1, 2]).into_iter().map(|at| METHODS[at].clone()).collect(),
        headers,
        query: owned(named(dice)),
        cookies: owned(named(dice)),
        client: dice.some(NETWORKS).into_iter().map(|net| net.parse().expect("a network")).collect(),
        certificate: Vec::new(),
    };
    Route {
        name: at.to_string(),
        matcher,
        action: Action::Upstream(UpstreamId(0)),
        filters: Vec::new(),
        error_pages: Vec::new(),
        timeouts: None,
        max_body_bytes: None,
        retry: None,
        priority_class: PriorityClass::Normal,
        sampling: Default::default(),
        logged: None,
    }
}

fn ask(dice: &mut Dice<'_>) -> Asked {
    let pairs = |dice: &mut Dice<'_>| -> Vec<(&'static str, &'static str)> {
        dice.some(NAMES).into_iter().map(|name| (name, dice.one(VALUES))).collect()
    };
    let mut path = dice.one(PATHS).to_string();
    if dice.roll(3) == 0 && !path.ends_with('/') {
        path.push_str(dice.one(&["/c", "/b", "/", "x"]));
    }
    Asked {
        host: dice.one(&["a.test", "b.a.test", "c.b.a.test", "x.test", "other", "", "test"]),
        path,
        method: METHODS[dice.roll(METHODS.len())].clone(),
        fields: pairs(dice),
        cookies: pairs(dice),
        query: pairs(dice),
        client: dice.one(CLIENTS).parse().expect("an address"),
        listener: dice.roll(2),
    }
}

impl Asked {
    /// As the router is asked.
    fn with_query(&self, then: impl FnOnce(&RouteQuery<'_>)) {
        let mut headers = http::HeaderMap::new();
        for (name, value) in &self.fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            headers.append("cookie", cookies.join("; ").parse().expect("cookies"));
        }
        let query: Vec<String> =
            self.query.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+"))).collect();
        let query = query.join("&");
        then(&RouteQuery {
            listener: ListenerId(self.listener),
            host: self.host,
            path: &self.path,
            method: &self.method,
            headers: &headers,
            query: (!self.query.is_empty()).then_some(query.as_str()),
            client: self.client,
            certificate: None,
        });
    }

    fn written(&self) -> String {
        format!(
            "{} {} at {:?} headers {:?} cookies {:?} query {:?} client {} listener {}",
            self.method,
            self.path,
            self.host,
            self.fields,
            self.cookies,
            self.query,
            self.client,
            self.listener
        )
    }
}

fn written(routes: &[Arc<Route>]) -> String {
    routes.iter().enumerate().map(|(at, route)| format!("{at}: {:?}\n", route.matcher)).collect()
}

/// Every route is looked at; of those that fit, the best is taken.
fn naive(routes: &[Arc<Route>], asked: &Asked) -> Option<usize> {
    let fitting = (0..routes.len()).filter(|at| fits(&routes[*at].matcher, asked));
    let candidates = fitting.filter_map(|at| Some((rank(routes, at, asked)?, at)));
    candidates.max_by(|(a, x), (b, y)| a.cmp(b).then(y.cmp(x))).map(|(_, at)| at)
}

/// The larger, the better: host, path, how many conditions.
type Rank = ((u8, usize), (u8, usize), usize);

fn rank(routes: &[Arc<Route>], at: usize, asked: &Asked) -> Option<Rank> {
    let matcher = &routes[at].matcher;
    let of = |host: &HostPattern| match host {
        HostPattern::Exact(_) => (2, 0),
        HostPattern::Below(name) => (1, name.len()),
    };
    let best = matcher.hosts.iter().filter(|host| host_fits(host, asked.host)).max_by_key(|host| of(host));
    let host = match (best, matcher.hosts.is_empty()) {
        (Some(host), _) => of(host),
        (None, true) => (0, 0),
        (None, false) => return None,
    };
    let path = match &matcher.path {
        PathMatch::Exact(_) => (3, 0),
        PathMatch::Prefix(prefix) => (2, prefix.len()),
        PathMatch::Regex(pattern) => {
            // where the pattern first stands among the routes of this host
            let same = |route: &Arc<Route>| {
                let pattern_of = match &route.matcher.path {
                    PathMatch::Regex(other) => Some(other.0.as_str()),
                    PathMatch::Any | PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
                };
                let host_of = match best {
                    Some(host) => route.matcher.hosts.contains(host),
                    None => route.matcher.hosts.is_empty(),
                };
                pattern_of == Some(pattern.0.as_str()) && host_of
            };
            let first = routes.iter().position(same).unwrap_or(at);
            (1, usize::MAX - first)
        }
        PathMatch::Any => (0, 0),
    };
    let lists = [!matcher.listeners.is_empty(), !matcher.methods.is_empty(), !matcher.client.is_empty()];
    let conditions = lists.iter().filter(|set| **set).count()
        + matcher.headers.len()
        + matcher.query.len()
        + matcher.cookies.len();
    Some((host, path, conditions))
}

fn fits(matcher: &Matcher, asked: &Asked) -> bool {
    let host = matcher.hosts.is_empty() || matcher.hosts.iter().any(|host| host_fits(host, asked.host));
    let path = match &matcher.path {
        PathMatch::Any => true,
        PathMatch::Exact(path) => *path == asked.path,
        PathMatch::Prefix(prefix) => {
            let wanted: Vec<&str> = prefix.split('/').collect();
            let there: Vec<&str> = asked.path.split('/').collect();
            there.starts_with(&wanted)
        }
        PathMatch::Regex(pattern) => pattern.0.is_match(&asked.path),
    };
    let listener = matcher.listeners.is_empty() || matcher.listeners.iter().any(|id| id.0 == asked.listener);
    let method = matcher.methods.is_empty()
        || matcher.methods.contains(&asked.method)
        || asked.method == http::Method::HEAD && matcher.methods.contains(&http::Method::GET);
    let client = match asked.client {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(asked.client, IpAddr::V4),
        IpAddr::V4(_) => asked.client,
    };
    let client = matcher.client.is_empty() || matcher.client.iter().any(|net| net.contains(&client));
    let headers = matcher.headers.iter().all(|(name, wanted)| holds(wanted, name.as_str(), &asked.fields));
    let cookies = matcher.cookies.iter().all(|(name, wanted)| holds(wanted, name, &asked.cookies));
    let query = matcher.query.iter().all(|(name, wanted)| holds(wanted, name, &asked.query));
    host && path && listener && method && client && headers && cookies && query
}

fn host_fits(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Below(name) => {
            let (wanted, there): (Vec<&str>, Vec<&str>) =
                (name.split('.').collect(), host.split('.').collect());
            there.len() > wanted.len() && there.ends_with(&wanted)
        }
    }
}

fn holds(wanted: &ValueMatch, name: &str, all: &[(&str, &str)]) -> bool {
    let mut values = all.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value);
    match wanted {
        ValueMatch::Is(text) => values.any(|value| value == text),
        ValueMatch::Prefix(text) => values.any(|value| value.starts_with(text.as_str())),
        ValueMatch::Regex(pattern) => values.any(|value| pattern.0.is_match(value)),
        ValueMatch::Present(wanted) => values.next().is_some() == *wanted,
    }
}
