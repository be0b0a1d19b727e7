use super::*;
use crate::config::plan::{
    Action, Matcher, PathMatch, Pattern, Respond, RouteTimeouts, UpstreamId, ValueMatch,
};
use crate::template::Template;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;

/// A route as a test writes it: `get("/api").on("a.example.com").upstream(1)`.
struct Draft(Matcher, Action);

fn respond() -> Action {
    Action::Respond(Respond { status: 403, body: Template::default(), headers: Vec::new() })
}

fn route(path: PathMatch) -> Draft {
    Draft(Matcher { path, ..Matcher::default() }, Action::Upstream(UpstreamId(0)))
}

fn any() -> Draft {
    route(PathMatch::Any)
}

fn prefix(path: &str) -> Draft {
    route(PathMatch::Prefix(path.into()))
}

fn exact(path: &str) -> Draft {
    route(PathMatch::Exact(path.into()))
}

fn regex(pattern: &str) -> Draft {
    route(PathMatch::Regex(Pattern(Regex::new(&format!("^(?:{pattern})$")).unwrap())))
}

fn is(text: &str) -> ValueMatch {
    ValueMatch::Is(text.into())
}

impl Draft {
    fn host(mut self, host: &str) -> Self {
        self.0.hosts.push(host.parse().unwrap());
        self
    }
    fn methods(mut self, methods: &[Method]) -> Self {
        self.0.methods = methods.to_vec();
        self
    }
    fn header(mut self, name: &'static str, value: ValueMatch) -> Self {
        self.0.headers.push((HeaderName::from_static(name), value));
        self
    }
    fn query(mut self, name: &str, value: ValueMatch) -> Self {
        self.0.query.push((name.into(), value));
        self
    }
    fn cookie(mut self, name: &str, value: ValueMatch) -> Self {
        self.0.cookies.push((name.into(), value));
        self
    }
    fn client(mut self, net: &str) -> Self {
        self.0.client.push(net.parse().unwrap());
        self
    }
    fn listener(mut self, id: usize) -> Self {
        self.0.listeners.push(ListenerId(id));
        self
    }
    fn refuses(mut self) -> Self {
        self.1 = respond();
        self
    }
}

fn plan(drafts: Vec<Draft>) -> Vec<Arc<Route>> {
    let route = |(i, draft): (usize, Draft)| Route {
        name: i.to_string(),
        matcher: draft.0,
        action: draft.1,
        error_pages: Vec::new(),
        filters: Vec::new(),
        timeouts: RouteTimeouts::default(),
        max_body_bytes: None,
        retry: None,
        priority_class: crate::config::file::PriorityClass::Normal,
    };
    drafts.into_iter().enumerate().map(|d| Arc::new(route(d))).collect()
}

/// A request as a test writes it: `Ask::path("/api").host("a.example.com").of(&router)`.
struct Ask {
    host: String,
    path: String,
    method: Method,
    headers: HeaderMap,
    query: Option<String>,
    client: IpAddr,
    listener: usize,
}

impl Ask {
    fn path(path: &str) -> Self {
        Ask {
            host: "www.example.com".into(),
            path: path.into(),
            method: Method::GET,
            headers: HeaderMap::new(),
            query: None,
            client: IpAddr::from([192, 0, 2, 1]),
            listener: 0,
        }
    }
    fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }
    fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }
    fn query(mut self, query: &str) -> Self {
        self.query = Some(query.into());
        self
    }
    fn client(mut self, client: &str) -> Self {
        self.client = client.parse().unwrap();
        self
    }
    fn listener(mut self, id: usize) -> Self {
        self.listener = id;
        self
    }
    fn request(&self) -> RouteQuery<'_> {
        RouteQuery {
            listener: ListenerId(self.listener),
            host: &self.host,
            path: &self.path,
            method: &self.method,
            headers: &self.headers,
            query: self.query.as_deref(),
            client: self.client,
        }
    }
    fn of(&self, router: &Router) -> Option<usize> {
        router.position(&self.request())
    }
}

fn router(drafts: Vec<Draft>) -> Router {
    Router::build(&plan(drafts))
}

#[test]
fn a_prefix_ends_at_a_segment() {
    let router = router(vec![prefix("/api")]);
    for path in ["/api", "/api/", "/api/x", "/api/x/y"] {
        assert_eq!(Ask::path(path).of(&router), Some(0), "{path}");
    }
    for path in ["/apix", "/ap", "/", "/x/api", "/API", "*"] {
        assert_eq!(Ask::path(path).of(&router), None, "{path}");
    }
}

#[test]
fn exact_then_longest_prefix_then_regex_then_root() {
    let router = router(vec![
        any(),
        regex("/api/.*"),
        regex("/r[0-9]+"),
        regex("/r.*"),
        prefix("/api/v1"),
        prefix("/api"),
        exact("/api/v1"),
        exact("/r7"),
    ]);
    for (path, expected) in [
        ("/api/v1", 6),
        ("/api/v1/", 4),
        ("/api/v1/x", 4),
        ("/api/v10", 5),
        ("/api", 5),
        ("/r7", 7),
        ("/r8", 2),
        ("/rx", 3),
        ("/xr8", 0),
        ("/", 0),
        ("*", 0),
    ] {
        assert_eq!(Ask::path(path).of(&router), Some(expected), "{path}");
    }
}

#[test]
fn hosts_from_exact_to_any() {
    let router = router(vec![
        any(),
        any().host("*.example.com"),
        any().host("*.a.example.com"),
        any().host("b.a.example.com"),
        any().host("other.test").host("*.other.test"),
        any().host("[::1]"),
    ]);
    for (host, expected) in [
        ("b.a.example.com", 3),
        ("c.a.example.com", 2),
        ("x.c.a.example.com", 2),
        ("a.example.com", 1),
        ("example.com", 0),
        ("notexample.com", 0),
        ("other.test", 4),
        ("x.y.other.test", 4),
        ("[::1]", 5),
        ("", 0),
        ("127.0.0.1", 0),
    ] {
        assert_eq!(Ask::path("/").host(host).of(&router), Some(expected), "{host}");
    }
}

#[test]
fn the_host_comes_before_the_path() {
    let router = router(vec![exact("/a/b"), any().host("www.example.com")]);
    assert_eq!(Ask::path("/a/b").of(&router), Some(1));
    assert_eq!(Ask::path("/a/b").host("x.test").of(&router), Some(0));
}

#[test]
fn most_conditions_then_file_order() {
    let router = router(vec![
        prefix("/a"),
        prefix("/a").header("x", is("1")),
        prefix("/a").header("x", is("1")).header("y", is("1")),
        prefix("/a").methods(&[Method::GET, Method::POST, Method::PUT]),
        prefix("/a"),
    ]);
    assert_eq!(Ask::path("/a").method(Method::DELETE).of(&router), Some(0));
    assert_eq!(Ask::path("/a").of(&router), Some(3));
    assert_eq!(Ask::path("/a").header("x", "1").of(&router), Some(1), "one condition each: file order");
    assert_eq!(Ask::path("/a").header("x", "1").header("y", "1").of(&router), Some(2));
}

#[test]
fn a_pattern_counts_from_its_first_place() {
    let router = router(vec![regex("/x.*"), regex("/.*"), regex("/x.*").header("v", is("2")), regex("/x1")]);
    assert_eq!(Ask::path("/x1").of(&router), Some(0));
    assert_eq!(Ask::path("/x1").header("v", "2").of(&router), Some(2));
    assert_eq!(Ask::path("/y").header("v", "2").of(&router), Some(1));
}

#[test]
fn what_misses_its_conditions_falls_through_step_by_step() {
    let wanted = || is("1");
    let router = router(vec![
        exact("/a/b").host("www.example.com").header("h1", wanted()),
        prefix("/a/b").host("www.example.com").header("h2", wanted()),
        prefix("/a").host("www.example.com").header("h3", wanted()),
        regex("/a/.*").host("www.example.com").header("h4", wanted()),
        any().host("www.example.com").header("h5", wanted()),
        exact("/a/b").host("*.example.com").header("h6", wanted()),
        any().host("*.example.com").header("h7", wanted()),
        prefix("/a").header("h8", wanted()),
        any(),
    ]);
    let names = ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8"];
    for first in 0..=names.len() {
        let ask = names[first..].iter().fold(Ask::path("/a/b"), |ask, name| ask.header(name, "1"));
        assert_eq!(ask.of(&router), Some(first), "with {:?}", &names[first..]);
    }
}

#[test]
fn get_includes_head() {
    let router = router(vec![
        prefix("/get").methods(&[Method::GET]),
        prefix("/head").methods(&[Method::HEAD]),
        prefix("/own").methods(&[Method::from_bytes(b"PURGE").unwrap()]),
    ]);
    let ask = |path, method| Ask::path(path).method(method).of(&router);
    assert_eq!(ask("/get", Method::GET), Some(0));
    assert_eq!(ask("/get", Method::HEAD), Some(0));
    assert_eq!(ask("/get", Method::POST), None);
    assert_eq!(ask("/head", Method::HEAD), Some(1));
    assert_eq!(ask("/head", Method::GET), None);
    assert_eq!(ask("/own", Method::from_bytes(b"PURGE").unwrap()), Some(2));
}

#[test]
fn values_of_headers() {
    let pattern = ValueMatch::Regex(Pattern(Regex::new("^v[0-9]$").unwrap()));
    let router = router(vec![
        prefix("/is").header("x", is("one")),
        prefix("/prefix").header("x", ValueMatch::Prefix("on".into())),
        prefix("/regex").header("x", pattern),
        prefix("/present").header("x", ValueMatch::Present(true)),
        prefix("/absent").header("x", ValueMatch::Present(false)),
    ]);
    let takes = |path: &str, values: &[&str]| {
        values.iter().fold(Ask::path(path), |ask, v| ask.header("x", v)).of(&router).is_some()
    };
    assert!(takes("/is", &["one"]) && takes("/is", &["two", "one"]));
    assert!(!takes("/is", &["One"]) && !takes("/is", &["one, two"]) && !takes("/is", &[]));
    assert!(takes("/prefix", &["one"]) && !takes("/prefix", &["o"]) && !takes("/prefix", &[]));
    assert!(takes("/regex", &["v1"]) && takes("/regex", &["x", "v2"]));
    assert!(!takes("/regex", &["v12"]) && !takes("/regex", &["\u{e9}"]));
    assert!(takes("/present", &[""]) && !takes("/present", &[]));
    assert!(takes("/absent", &[]) && !takes("/absent", &[""]));
}

#[test]
fn values_of_query_and_cookies() {
    let router = router(vec![
        prefix("/q").query("a", is("two words")),
        prefix("/flag").query("debug", ValueMatch::Present(true)),
        prefix("/none").query("debug", ValueMatch::Present(false)),
        prefix("/c").cookie("canary", is("1")),
    ]);
    let query = |path, query| Ask::path(path).query(query).of(&router);
    assert_eq!(query("/q", "a=two+words"), Some(0));
    assert_eq!(query("/q", "b=1&%61=two%20words"), Some(0));
    assert_eq!(query("/q", "a=two"), None);
    assert_eq!(Ask::path("/q").of(&router), None);
    assert_eq!(query("/flag", "debug"), Some(1));
    assert_eq!(query("/flag", "debugger"), None);
    assert_eq!(query("/none", "x"), Some(2));
    assert_eq!(Ask::path("/none").of(&router), Some(2));
    let cookie = |value| Ask::path("/c").header("cookie", value).of(&router);
    assert_eq!(cookie("a=b; canary=1"), Some(3));
    assert_eq!(cookie("a=canary; canary=2"), None);
}

#[test]
fn clients_and_listeners() {
    let router = router(vec![
        prefix("/c").client("10.0.0.0/8").client("2001:db8::/32"),
        prefix("/l").listener(1).listener(2),
    ]);
    let client = |client| Ask::path("/c").client(client).of(&router);
    assert_eq!(client("10.1.2.3"), Some(0));
    assert_eq!(client("::ffff:10.1.2.3"), Some(0), "IPv4 on an IPv6 socket");
    assert_eq!(client("2001:db8::7"), Some(0));
    assert_eq!(client("11.0.0.1"), None);
    assert_eq!(Ask::path("/l").listener(2).of(&router), Some(1));
    assert_eq!(Ask::path("/l").of(&router), None);
}

#[test]
fn many_patterns_are_tried_in_file_order() {
    let mut drafts: Vec<Draft> = (0..40).map(|i| regex(&format!("/p{i}/.*"))).collect();
    drafts.push(regex("/p7/x").header("v", is("2")));
    drafts.push(regex(".*"));
    drafts.insert(0, regex("/p3.*").header("v", is("2")));
    let router = router(drafts);
    for i in 0..40 {
        assert_eq!(Ask::path(&format!("/p{i}/x")).of(&router), Some(i + 1));
    }
    assert_eq!(Ask::path("/p30/x").header("v", "2").of(&router), Some(0));
    assert_eq!(Ask::path("/q").of(&router), Some(42));
}

#[test]
fn a_prefix_with_trailing_slash_is_one_without() {
    let router = router(vec![prefix("/a/"), prefix("/").host("x.test")]);
    assert_eq!(Ask::path("/a").of(&router), Some(0));
    assert_eq!(Ask::path("/b").host("x.test").of(&router), Some(1));
}

/// The rule of this module, written as a scan.
fn scan(routes: &[Arc<Route>], ask: &Ask) -> Option<usize> {
    use crate::config::words::HostPattern;
    let request = ask.request();
    let host = |m: &Matcher| -> Option<(u8, usize)> {
        let one = |h: &HostPattern| match h {
            HostPattern::Exact(name) => (*name == ask.host).then_some((0, 0)),
            HostPattern::Below(name) => {
                ask.host.ends_with(&format!(".{name}")).then_some((1, usize::MAX - name.len()))
            }
        };
        if m.hosts.is_empty() { Some((2, 0)) } else { m.hosts.iter().filter_map(one).min() }
    };
    let path = |i: usize, m: &Matcher| -> Option<(u8, usize)> {
        match &m.path {
            PathMatch::Any => Some((3, 0)),
            PathMatch::Exact(p) => (*p == ask.path).then_some((0, 0)),
            PathMatch::Prefix(p) => (ask.path == *p || ask.path.starts_with(&format!("{p}/")))
                .then_some((1, usize::MAX - p.len())),
            PathMatch::Regex(p) => {
                let first = routes.iter().position(|r| {
                    r.matcher.path == m.path && r.matcher.hosts.iter().any(|h| m.hosts.contains(h))
                        || r.matcher.path == m.path && r.matcher.hosts.is_empty() && m.hosts.is_empty()
                });
                p.0.is_match(&ask.path).then_some((2, first.unwrap_or(i)))
            }
        }
    };
    let rank = |(i, r): (usize, &Arc<Route>)| {
        let m = &r.matcher;
        let rank = (host(m)?, path(i, m)?, std::cmp::Reverse(conditions::count(m)), i);
        conditions::hold(m, &request).then_some(rank)
    };
    routes.iter().enumerate().filter_map(rank).min().map(|rank| rank.3)
}

#[test]
fn the_index_finds_what_a_scan_finds() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let paths = ["/a", "/a/b", "/a/b/c", "/ab", "/b", "/a/c", "/b/"];
    let hosts = ["a.test", "b.test", "x.a.test", "test"];
    let mut found = 0;
    for _ in 0..300 {
        let drafts = (0..rng.usize(1..25))
            .map(|_| {
                let path = paths[rng.usize(..paths.len())];
                let mut draft = match rng.u8(..6) {
                    0 => exact(path),
                    1 => regex(&format!("{path}.*")),
                    2 => any(),
                    _ => prefix(path.trim_end_matches('/')),
                };
                draft = match rng.u8(..6) {
                    0 => draft.host(hosts[rng.usize(..hosts.len())]),
                    1 => draft.host(&format!("*.{}", hosts[rng.usize(..hosts.len())])),
                    _ => draft,
                };
                for name in ["x", "y"] {
                    if rng.u8(..3) == 0 {
                        draft = draft.header(name, is("1"));
                    }
                }
                if rng.u8(..4) == 0 { draft.methods(&[Method::POST]) } else { draft }
            })
            .collect();
        let routes = plan(drafts);
        let router = Router::build(&routes);
        for _ in 0..60 {
            let mut ask = Ask::path(paths[rng.usize(..paths.len())]).host(hosts[rng.usize(..hosts.len())]);
            for name in ["x", "y"] {
                if rng.bool() {
                    ask = ask.header(name, "1");
                }
            }
            if rng.bool() {
                ask = ask.method(Method::POST);
            }
            let expected = scan(&routes, &ask);
            found += usize::from(expected.is_some());
            let matchers: Vec<_> = routes.iter().map(|r| &r.matcher).collect();
            assert_eq!(ask.of(&router), expected, "seed {seed}: {} {} of {matchers:#?}", ask.host, ask.path);
        }
    }
    assert!(found > 1000, "only {found} requests had a route");
}

#[test]
fn long_hosts_and_paths_are_no_trouble() {
    let router = router(vec![prefix("/a"), any().host("*.a.a.test")]);
    assert_eq!(Ask::path(&"/a".repeat(100_000)).of(&router), Some(0));
    assert_eq!(Ask::path("/b").host(&format!("{}a.test", "a.".repeat(100_000))).of(&router), Some(1));
}

mod analysis {
    use super::*;

    fn hidden_in(drafts: Vec<Draft>) -> Vec<(usize, usize)> {
        hidden(&plan(drafts))
    }

    fn falls(drafts: Vec<Draft>) -> Vec<(usize, usize)> {
        falls_through(&plan(drafts))
    }

    #[test]
    fn the_second_of_two_equal_routes_is_hidden() {
        assert_eq!(hidden_in(vec![prefix("/a"), any(), prefix("/a")]), [(2, 0)]);
        assert_eq!(hidden_in(vec![exact("/a"), exact("/a")]), [(1, 0)]);
        assert_eq!(hidden_in(vec![regex("/a.*"), regex("/a.*")]), [(1, 0)]);
        assert_eq!(hidden_in(vec![any(), prefix("/")]), [(1, 0)]);
        let h = || prefix("/a").header("x", is("1"));
        assert_eq!(hidden_in(vec![h(), h()]), [(1, 0)]);
    }

    #[test]
    fn conditions_that_follow_from_others_hide() {
        let get = || prefix("/a").methods(&[Method::GET]);
        let both = prefix("/a").methods(&[Method::GET, Method::POST]);
        assert_eq!(hidden_in(vec![both, get()]), [(1, 0)]);
        let head = prefix("/a").methods(&[Method::HEAD]);
        assert_eq!(hidden_in(vec![get(), head]), [(1, 0)]);
        let (wide, narrow) = (prefix("/a").client("10.0.0.0/8"), prefix("/a").client("10.1.0.0/16"));
        assert_eq!(hidden_in(vec![wide, narrow]), [(1, 0)]);
        let present = prefix("/a").header("x", ValueMatch::Present(true));
        assert_eq!(hidden_in(vec![present, prefix("/a").header("x", is("1"))]), [(1, 0)]);
    }

    #[test]
    fn routes_that_some_request_takes_are_not_hidden() {
        let x = || prefix("/a").header("x", is("1"));
        // most conditions first, whatever the order in the file
        assert!(hidden_in(vec![prefix("/a"), x()]).is_empty());
        assert!(hidden_in(vec![x(), prefix("/a")]).is_empty());
        assert!(hidden_in(vec![x(), prefix("/a").header("x", is("2"))]).is_empty());
        assert!(hidden_in(vec![any(), prefix("/a"), exact("/a"), prefix("/a/b"), regex("/b.*")]).is_empty());
        assert!(hidden_in(vec![prefix("/a"), prefix("/a").host("x.test")]).is_empty());
        assert!(hidden_in(vec![prefix("/a").listener(0), prefix("/a").listener(1)]).is_empty());
        let (narrow, wide) = (prefix("/a").client("10.1.0.0/16"), prefix("/a").client("10.0.0.0/8"));
        assert!(hidden_in(vec![narrow, wide]).is_empty());
    }

    #[test]
    fn all_hosts_must_be_hidden() {
        let two = || prefix("/a").host("x.test").host("y.test");
        assert!(hidden_in(vec![prefix("/a").host("x.test"), two()]).is_empty());
        assert_eq!(hidden_in(vec![two(), prefix("/a").host("y.test")]), [(1, 0)]);
        let (x, y) = (prefix("/a").host("x.test"), prefix("/a").host("y.test"));
        assert_eq!(hidden_in(vec![x, y, two()]), [(2, 0)]);
        assert!(hidden_in(vec![prefix("/a").host("x.test").host("x.test")]).is_empty(), "not by itself");
    }

    #[test]
    fn a_prefix_hides_the_patterns_below_it() {
        assert_eq!(hidden_in(vec![regex("/api/v[0-9]+"), prefix("/api")]), [(0, 1)]);
        assert!(hidden_in(vec![regex("/api[^/]*"), prefix("/api")]).is_empty());
        assert!(hidden_in(vec![regex("/api/?x"), prefix("/api")]).is_empty());
        assert!(hidden_in(vec![regex("/api/x|/y"), prefix("/api")]).is_empty());
        assert!(hidden_in(vec![regex("(?i)/api/x"), prefix("/api")]).is_empty());
        assert!(hidden_in(vec![regex("/api/.*"), prefix("/api").methods(&[Method::POST])]).is_empty());
        assert!(hidden_in(vec![regex("/.*"), any()]).is_empty());
    }

    #[test]
    fn what_is_hidden_is_never_found() {
        let routes = plan(vec![
            regex("/a/.*"),
            prefix("/a"),
            prefix("/a").methods(&[Method::GET]),
            prefix("/a").methods(&[Method::GET]),
            any(),
            any(),
        ]);
        let router = Router::build(&routes);
        let hidden = hidden(&routes);
        assert_eq!(hidden, [(0, 1), (3, 2), (5, 4)]);
        for path in ["/", "/a", "/a/x", "/b"] {
            for method in [Method::GET, Method::POST] {
                let found = Ask::path(path).method(method).of(&router).unwrap();
                assert!(hidden.iter().all(|(h, _)| *h != found), "{path}");
            }
        }
    }

    #[test]
    fn a_client_condition_that_only_selects_is_named() {
        let admin = || prefix("/admin").client("10.0.0.0/8");
        assert_eq!(falls(vec![admin(), any()]), [(0, 1)]);
        assert_eq!(falls(vec![any(), exact("/admin").client("10.0.0.0/8")]), [(1, 0)]);
        assert_eq!(falls(vec![any().host("admin.test").client("10.0.0.0/8"), any()]), [(0, 1)]);
        assert_eq!(falls(vec![admin().host("a.x.test"), any().host("*.x.test"), any()]), [(0, 1)]);
        assert_eq!(falls(vec![regex("/admin/.*").client("10.0.0.0/8"), any()]), [(0, 1)]);
        // the nearest one is named, and each of two guarded routes
        assert_eq!(falls(vec![prefix("/a/b").client("10.0.0.0/8"), prefix("/a"), any()]), [(0, 1)]);
        assert_eq!(falls(vec![admin(), prefix("/admin").client("192.0.2.0/24"), any()]), [(0, 2), (1, 2)]);
        // part of the requests is enough
        assert_eq!(falls(vec![admin(), any().methods(&[Method::GET])]), [(0, 1)]);
    }

    #[test]
    fn headers_are_named_when_the_path_is_narrower() {
        assert_eq!(falls(vec![prefix("/admin").header("x-team", is("ops")), any()]), [(0, 1)]);
        assert_eq!(falls(vec![prefix("/admin").cookie("c", is("1")), any()]), [(0, 1)]);
        assert_eq!(falls(vec![prefix("/admin").query("q", is("1")), any()]), [(0, 1)]);
        assert!(falls(vec![any().host("x.test").header("x-team", is("ops")), any()]).is_empty());
    }

    #[test]
    fn what_is_sorted_on_purpose_is_not_named() {
        let canary = || prefix("/app").header("x-canary", is("1"));
        assert!(falls(vec![canary(), prefix("/app"), any()]).is_empty());
        assert!(falls(vec![exact("/app").header("x-canary", is("1")), prefix("/app"), any()]).is_empty());
        assert!(falls(vec![any().header("x-canary", is("1")), any()]).is_empty());
        assert!(falls(vec![prefix("/app").client("10.0.0.0/8"), prefix("/app"), any()]).is_empty());
        assert!(falls(vec![prefix("/app").methods(&[Method::POST]), any()]).is_empty());
        assert!(falls(vec![prefix("/app").client("10.0.0.0/8")]).is_empty());
    }

    #[test]
    fn a_refusal_behind_the_condition_is_protection() {
        let admin = || prefix("/admin").client("10.0.0.0/8");
        assert!(falls(vec![admin(), prefix("/admin").refuses(), any()]).is_empty());
        assert!(falls(vec![admin(), any().refuses()]).is_empty());
        let posts = prefix("/admin").methods(&[Method::POST]).refuses();
        assert_eq!(falls(vec![admin(), posts, any()]), [(0, 2)], "only POST is refused");
        let listeners = (admin().listener(0), prefix("/admin").listener(0).refuses());
        assert!(falls(vec![listeners.0, listeners.1, any()]).is_empty());
        // the guarded one refuses itself
        assert!(falls(vec![admin().refuses(), any()]).is_empty());
        // the other is for another listener
        assert!(falls(vec![admin().listener(0), any().listener(1)]).is_empty());
    }
}
