//! The index against a scan of all routes.

use super::*;
use crate::http::route::conditions::{count, hold};

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
        let rank = (host(m)?, path(i, m)?, std::cmp::Reverse(count(m)), i);
        hold(m, &request).then_some(rank)
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
fn a_router_that_follows_another_finds_the_same_and_shares_its_index_only_where_conditions_are_the_same() {
    let drafts = || vec![prefix("/a"), exact("/b").host("b.test"), any()];
    let with = |place: usize, draft: Draft| {
        let mut drafts = drafts();
        drafts[place] = draft;
        plan(drafts)
    };
    let first = Router::build(&plan(drafts()));
    let mut shorter = plan(drafts());
    shorter.pop();
    for (routes, shared) in [
        (plan(drafts()), true),
        (with(0, Draft(prefix("/a").0, respond())), true),
        (with(0, prefix("/c")), false),
        (with(1, exact("/b").host("c.test")), false),
        (with(1, prefix("/b").host("b.test")), false),
        (shorter, false),
        (Vec::new(), false),
    ] {
        let (followed, built) = (first.followed_by(&routes), Router::build(&routes));
        assert_eq!(Arc::ptr_eq(&followed.hosts, &first.hosts), shared, "{routes:?}");
        assert_eq!(followed.routes(), routes, "the actions are those of now");
        for (host, path) in [("b.test", "/b"), ("c.test", "/b/x"), ("", "/a/x"), ("", "/c"), ("", "/")] {
            let ask = Ask::path(path).host(host);
            let position = |router: &Router| router.position(&ask.request());
            assert_eq!(position(&followed), position(&built), "{host} {path} of {routes:?}");
        }
    }
}
