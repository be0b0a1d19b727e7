//! What finding a route costs with 10, 1 000, 10 000 and 100 000 routes, and what normalising a
//! path costs. `cargo bench --bench route_lookup`; with `-- --test` each is run once, as a test.

// A benchmark ends with a message like a test does.
#![allow(clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use weirgate::config::plan::{
    Action, ListenerId, Matcher, PathMatch, Pattern, Route, UpstreamId, ValueMatch,
};
use weirgate::config::words::HostPattern;
use weirgate::http::path;
use weirgate::http::route::{RouteQuery, Router};

fn route(name: String, matcher: Matcher) -> Arc<Route> {
    Arc::new(Route {
        name,
        matcher,
        action: Action::Upstream(UpstreamId(0)),
        error_pages: Vec::new(),
        filters: Vec::new(),
        timeouts: None,
        max_body_bytes: None,
        retry: None,
        priority_class: weirgate::config::file::PriorityClass::Normal,
        sampling: Default::default(),
        logged: None,
    })
}

/// A kind of each in turn: prefixes for every host, tenants with a name of their own, wildcards,
/// exact paths, and canaries chosen by a header; and at the end a root and a pattern for the rest.
fn routes(count: usize) -> Vec<Arc<Route>> {
    let kind = |i: usize| match i % 5 {
        0 => Matcher { path: PathMatch::Prefix(format!("/service-{i}/v1")), ..Matcher::default() },
        1 => Matcher {
            hosts: vec![HostPattern::Exact(format!("tenant-{i}.example.com"))],
            ..Matcher::default()
        },
        2 => Matcher {
            hosts: vec![HostPattern::Below(format!("region-{i}.example.com"))],
            path: PathMatch::Prefix("/api".into()),
            ..Matcher::default()
        },
        3 => Matcher { path: PathMatch::Exact(format!("/page/{i}")), ..Matcher::default() },
        _ => Matcher {
            path: PathMatch::Prefix(format!("/service-{}/v1", i - 4)),
            headers: vec![(HeaderName::from_static("x-canary"), ValueMatch::Is("1".into()))],
            ..Matcher::default()
        },
    };
    let mut all: Vec<_> =
        (0..count.saturating_sub(2)).map(|i| route(format!("route-{i}"), kind(i))).collect();
    let pattern = Pattern(regex::Regex::new("^(?:/[a-z]+/[0-9]+[.]html)$").unwrap());
    all.push(route("pattern".into(), Matcher { path: PathMatch::Regex(pattern), ..Matcher::default() }));
    all.push(route("root".into(), Matcher::default()));
    all
}

fn ask<'a>(headers: &'a HeaderMap, host: &'a str, path: &'a str) -> RouteQuery<'a> {
    RouteQuery {
        listener: ListenerId(0),
        host,
        path,
        method: &Method::GET,
        headers,
        query: Some("page=2"),
        client: IpAddr::from([192, 0, 2, 7]),
        certificate: None,
    }
}

fn lookup(c: &mut Criterion) {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("user-agent", HeaderValue::from_static("benchmark"));
    for count in [10usize, 1_000, 10_000, 100_000] {
        let router = Router::build(&routes(count));
        // one of each kind from the middle, with its neighbours
        let middle = (count - 2) / 10 * 5;
        let (prefix, page) = (format!("/service-{middle}/v1/users/42"), format!("/page/{}", middle + 3));
        let tenant = format!("tenant-{}.example.com", middle + 1);
        let below = format!("shop.region-{}.example.com", middle + 2);
        for (kind, request, expected) in [
            ("prefix", ask(&headers, "www.example.com", &prefix), format!("route-{middle}")),
            ("exact", ask(&headers, "www.example.com", &page), format!("route-{}", middle + 3)),
            ("host", ask(&headers, &tenant, "/cart/items/7"), format!("route-{}", middle + 1)),
            ("wildcard", ask(&headers, &below, "/api/items/7"), format!("route-{}", middle + 2)),
            ("pattern", ask(&headers, "www.example.com", "/news/2024.html"), "pattern".into()),
            ("root", ask(&headers, "www.example.com", "/not/found/anywhere"), "root".into()),
        ] {
            assert_eq!(router.find(&request).map(|r| r.name.as_str()), Some(expected.as_str()), "{kind}");
            c.bench_with_input(BenchmarkId::new(format!("route/{kind}"), count), &request, |b, request| {
                b.iter(|| router.position(black_box(request)));
            });
        }
    }
}

fn normalise(c: &mut Criterion) {
    for (name, path) in [
        ("plain", "/service-5000/v1/users/42/avatar.png"),
        ("escaped", "/caf%C3%A9/a%20name"),
        ("disguised", "/x/../%61dmin//users%2f42"),
    ] {
        c.bench_function(&format!("path/{name}"), |b| {
            b.iter(|| path::normalise(black_box(path.as_bytes())).is_ok())
        });
    }
}

criterion_group!(benches, lookup, normalise);
criterion_main!(benches);
