//! The promise: a request goes where the most specific route says, by host, path, method, header, query,
//! cookie, client address and listener; and each action does what it is for.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Client, Gate, Request};
use std::collections::BTreeMap;

/// A gate whose routes answer with a word, so that the body of a response names the route.
fn answering(routes: &[&str]) -> Gate {
    let mut config = String::from("listeners: [{ name: web, address: $web }]\nroutes:\n");
    for route in routes {
        let (word, conditions) = route.split_once(": ").expect("a word and the route's conditions");
        config.push_str(&format!("  - {{ name: {word}, {conditions}, respond: {{ body: {word} }} }}\n"));
    }
    Gate::start(&config, &[])
}

#[track_caller]
fn asked(gate: &Gate, request: &Request) -> String {
    let response = gate.ask(request);
    if response.status == 200 { response.text() } else { response.status.to_string() }
}

#[track_caller]
fn assert_routed(gate: &Gate, expected: &[(&str, &str)]) {
    for (target, route) in expected {
        assert_eq!(asked(gate, &Request::get(target)), *route, "the route of {target}");
    }
}

#[test]
fn a_prefix_ends_at_a_segment_boundary() {
    let gate = answering(&["api: path: /api", "slash: path: /slash/"]);
    assert_routed(
        &gate,
        &[
            ("/api", "api"),
            ("/api/", "api"),
            ("/api/x/y", "api"),
            ("/api?x=/apix", "api"),
            ("/apix", "404"),
            ("/ap", "404"),
            ("/", "404"),
            ("/x/api", "404"),
            ("/API", "404"),
            ("/slash/x", "slash"),
        ],
    );
}

#[test]
fn the_longest_prefix_wins_wherever_it_stands() {
    let gate = answering(&["root: path: /", "ab: path: /a/b", "a: path: /a", "abc: path: /a/b/c"]);
    assert_routed(
        &gate,
        &[("/a/b/c/d", "abc"), ("/a/b/x", "ab"), ("/a/bc", "a"), ("/a", "a"), ("/b", "root"), ("/", "root")],
    );
}

#[test]
fn exact_goes_before_prefix_and_prefix_before_regex() {
    let gate = answering(&[
        "root: path: /",
        "first: regex: \"/files/.*[.]png\"",
        "second: regex: \"/files/.*\"",
        "pngs: path: /files/pngs",
        "exact: exact: /files/pngs/one.png",
    ]);
    assert_routed(
        &gate,
        &[
            ("/files/pngs/one.png", "exact"),
            ("/files/pngs/one.png/", "pngs"),
            ("/files/pngs/two.png", "pngs"),
            ("/files/other.png", "first"),
            ("/files/other.gif", "second"),
            ("/x/files/other.gif", "root"),
            ("/files/pngs/one.png?query=counts-not", "exact"),
        ],
    );
}

#[test]
fn regexes_are_tried_in_file_order() {
    let gate =
        answering(&["wide: regex: \"/[a-z]+\"", "narrow: regex: \"/abc\"", "digits: regex: \"/[0-9]+\""]);
    assert_routed(&gate, &[("/abc", "wide"), ("/123", "digits"), ("/abc1", "404"), ("/1/abc", "404")]);
}

#[test]
fn an_exact_host_goes_before_a_wildcard_and_a_wildcard_before_none() {
    let gate = answering(&[
        "any: path: /deep/er",
        "wild: host: \"*.example.com\"",
        "below: host: \"*.b.example.com\"",
        "exact: host: a.example.com",
        "both: host: [x.test, y.test]",
    ]);
    let host = |name: &str| asked(&gate, &Request::get("/deep/er").host(name));
    assert_eq!(host("a.example.com"), "exact", "host counts before the length of the path");
    assert_eq!(host("A.EXAMPLE.com"), "exact");
    assert_eq!(host("a.example.com:8080"), "exact");
    assert_eq!(host("a.example.com."), "exact");
    assert_eq!(host("c.example.com"), "wild");
    assert_eq!(host("a.b.example.com"), "below");
    assert_eq!(host("example.com"), "any", "a wildcard is for names below, not for the name itself");
    assert_eq!(host("notexample.com"), "any");
    assert_eq!(host("x.test"), "both");
    assert_eq!(host("y.test"), "both");
}

#[test]
fn a_host_without_a_matching_path_falls_back_to_the_next_host() {
    let gate = answering(&[
        "exact: host: a.example.com, path: /only",
        "wild: host: \"*.example.com\", path: /wild",
        "any: path: /",
    ]);
    let ask = |target: &str| asked(&gate, &Request::get(target).host("a.example.com"));
    assert_eq!(ask("/only"), "exact");
    assert_eq!(ask("/wild"), "wild");
    assert_eq!(ask("/other"), "any");
}

#[test]
fn methods_select() {
    let gate = answering(&[
        "read: path: /x, methods: [GET]",
        "write: path: /x, methods: [POST, PUT]",
        "root: path: /",
    ]);
    let ask = |method: &str| asked(&gate, &Request::new(method, "/x"));
    assert_eq!(ask("GET"), "read");
    assert_eq!(ask("POST"), "write");
    assert_eq!(ask("PUT"), "write");
    assert_eq!(ask("DELETE"), "root");
    let head = gate.ask(&Request::new("HEAD", "/x"));
    assert_eq!(
        (head.status, head.header("content-length").as_deref()),
        (200, Some("4")),
        "GET includes HEAD"
    );
}

#[test]
fn headers_select() {
    let gate = answering(&[
        "ops: headers: { x-team: ops }",
        "prefixed: headers: { x-team: { prefix: dev- } }",
        "numbered: headers: { x-team: { regex: \"^[0-9]+$\" } }",
        "absent: headers: { x-team: { present: false } }",
        "root: path: /",
    ]);
    let ask = |value: &str| asked(&gate, &Request::get("/").header("X-Team", value));
    assert_eq!(ask("ops"), "ops");
    assert_eq!(ask("dev-two"), "prefixed");
    assert_eq!(ask("42"), "numbered");
    assert_eq!(ask("sales"), "root");
    assert_eq!(ask("opsx"), "root");
    assert_eq!(asked(&gate, &Request::get("/")), "absent");
}

#[test]
fn query_and_cookies_select() {
    let gate = answering(&[
        "v2: query: { v: 2 }",
        "debug: query: { debug: { present: true } }",
        "beta: cookies: { beta: \"on\" }",
        "root: path: /",
    ]);
    assert_routed(
        &gate,
        &[
            ("/?v=2", "v2"),
            ("/?a=1&v=2&b", "v2"),
            ("/?v=%32", "v2"),
            ("/?v=22", "root"),
            ("/?xv=2", "root"),
            ("/?debug", "debug"),
            ("/?debug=", "debug"),
            ("/x?", "root"),
        ],
    );
    let cookie = |value: &str| asked(&gate, &Request::get("/").header("Cookie", value));
    assert_eq!(cookie("beta=on"), "beta");
    assert_eq!(cookie("a=1; beta=on; b=2"), "beta");
    assert_eq!(cookie("beta=off"), "root");
    assert_eq!(cookie("alphabeta=on"), "root");
}

#[test]
fn client_addresses_select() {
    let gate = answering(&["inside: client: [127.99.0.0/16, 127.98.0.1]", "root: path: /"]);
    let from = |source: &str| {
        let source = source.parse().expect("an address");
        Client::connect_from(source, gate.at("web")).get("/").text()
    };
    assert_eq!(from("127.99.1.2"), "inside");
    assert_eq!(from("127.98.0.1"), "inside");
    assert_eq!(from("127.98.0.2"), "root");
}

#[test]
fn most_conditions_win_among_equal_paths() {
    let gate = answering(&[
        "none: path: /x",
        "two: path: /x, methods: [GET], headers: { x-a: 1 }",
        "one: path: /x, headers: { x-a: 1 }",
        "three: path: /x, methods: [GET], headers: { x-a: 1 }, query: { q: 1 }",
    ]);
    assert_eq!(asked(&gate, &Request::get("/x?q=1").header("x-a", "1")), "three");
    assert_eq!(asked(&gate, &Request::get("/x").header("x-a", "1")), "two");
    assert_eq!(asked(&gate, &Request::new("DELETE", "/x").header("x-a", "1")), "one");
    assert_eq!(asked(&gate, &Request::get("/x")), "none");
}

#[test]
fn routes_may_be_for_some_listeners() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }, { name: inner, address: $inner }]
routes:
  - { path: /, respond: { body: everywhere } }
  - { path: /, listeners: [inner], respond: { body: inner } }
  - { path: /stats, listeners: [inner], respond: { body: stats } }
",
        &[],
    );
    assert_eq!(gate.get("/").text(), "everywhere");
    assert_eq!(gate.get("/stats").text(), "everywhere");
    let mut inner = Client::connect(gate.at("inner"));
    assert_eq!(inner.get("/").text(), "inner");
    assert_eq!(inner.get("/stats").text(), "stats");
}

#[test]
fn a_request_reaches_the_group_its_route_names() {
    let (api, admin) = (Backend::start("api"), Backend::start("admin"));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { path: /api, upstream: api }
  - { path: /admin, upstream: admin }
upstreams:
  api: { servers: [$api] }
  admin: { servers: [$admin] }
",
        &[&api, &admin],
    );
    let mut client = gate.connect();
    assert_eq!(client.get("/api/users?page=2").text(), "api");
    assert_eq!(client.get("/admin").text(), "admin");
    assert_eq!(client.get("/other").status, 404);
    assert_eq!(client.ask(&Request::post("/api/users", "a new one")).text(), "api");
    assert_eq!(api.requests()[0].target, "/api/users?page=2", "path and query arrive as they were sent");
    assert_eq!(
        (api.requests()[1].method.as_str(), api.requests()[1].body.as_slice()),
        ("POST", &b"a new one"[..])
    );
}

#[test]
fn a_split_shares_requests_by_weight() {
    let (stable, canary) = (Backend::start("stable"), Backend::start("canary"));
    let (never, gate_config) = (Backend::start("never"), "
listeners: [{ name: web, address: $web }]
routes:
  - path: /
    split: [{ upstream: stable, weight: 75 }, { upstream: canary, weight: 25 }, { upstream: never, weight: 0 }]
upstreams: { stable: { servers: [$stable] }, canary: { servers: [$canary] }, never: { servers: [$never] } }
");
    let gate = Gate::start(gate_config, &[&stable, &canary, &never]);
    let mut client = gate.connect();
    for _ in 0..400 {
        assert_eq!(client.get("/").status, 200);
    }
    // 300 and 100 are expected; six standard deviations of a fair draw are 52.
    let shares = (stable.requests().len(), canary.requests().len(), never.requests().len());
    assert!((248..=352).contains(&shares.0) && shares.0 + shares.1 == 400, "{shares:?}");
}

#[test]
fn a_split_with_a_key_keeps_each_user_in_one_group() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - path: /
    split: { key: { cookie: user }, groups: [{ upstream: a, weight: 1 }, { upstream: b, weight: 1 }] }
upstreams: { a: { servers: [$a] }, b: { servers: [$b] } }
",
        &[&a, &b],
    );
    let mut groups = BTreeMap::new();
    for round in 0..3 {
        for user in 0..40 {
            let request = Request::get("/").header("Cookie", &format!("x=y; user=u{user}"));
            let group = gate.ask(&request).text();
            let first = groups.entry(user).or_insert_with(|| group.clone());
            assert_eq!(*first, group, "user {user} in round {round}");
        }
    }
    let in_a = groups.values().filter(|group| *group == "a").count();
    assert!((1..40).contains(&in_a), "{in_a} of 40 users are in group a");
}

#[test]
fn a_redirect_says_where_to_go() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { exact: /old, redirect: { to: /new, status: 301 } }
  - { path: /away, redirect: { to: \"https://{host}/base{path}{query}\" } }
  - { path: /see, redirect: { to: \"https://other.test{uri}\", status: 303 } }
",
        &[],
    );
    let old = gate.get("/old");
    assert_eq!((old.status, old.header("location").as_deref()), (301, Some("/new")));
    let away = gate.ask(&Request::get("/away/x?y=1").host("shop.test:8080"));
    assert_eq!(away.status, 308, "the default keeps the method");
    assert_eq!(away.header("location").as_deref(), Some("https://shop.test/base/away/x?y=1"));
    let see = gate.ask(&Request::post("/see?a=b", "body"));
    assert_eq!((see.status, see.header("location").as_deref()), (303, Some("https://other.test/see?a=b")));
}

#[test]
fn a_redirect_cannot_be_bent_to_another_site_by_its_path() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, redirect: { to: \"{uri}\", status: 302 } }]
",
        &[],
    );
    for target in ["//evil.test/x", "/\\evil.test/x", "/%0d%0aSet-Cookie:x=1"] {
        let response = gate.ask(&Request::get(target));
        let location = response.header("location").unwrap_or_default();
        let leaves = location.starts_with("//") || location.starts_with("/\\") || !location.starts_with('/');
        assert!(response.status != 302 || !leaves, "{target} redirects to {location}");
        assert_eq!(response.header("set-cookie"), None, "{target}");
    }
}

#[test]
fn a_response_of_the_gate_itself() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { exact: /ping, respond: { status: 200, body: pong } }
  - exact: /teapot
    respond:
      status: 418
      body: '{{\"method\": \"{method}\", \"from\": \"{client_ip}\"}}'
      headers: { content-type: application/json, x-path: \"{path}\" }
  - { exact: /nothing, respond: { status: 204 } }
",
        &[],
    );
    let ping = gate.get("/ping");
    assert_eq!((ping.status, ping.text().as_str()), (200, "pong"));
    assert!(ping.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{ping:?}");
    assert_eq!(ping.header("content-length").as_deref(), Some("4"));
    let teapot = gate.ask(&Request::new("DELETE", "/teapot"));
    assert_eq!((teapot.status, teapot.header("content-type").as_deref()), (418, Some("application/json")));
    assert_eq!(teapot.json(), serde_json::json!({ "method": "DELETE", "from": "127.0.0.1" }));
    assert_eq!(teapot.header("x-path").as_deref(), Some("/teapot"));
    let mut client = gate.connect();
    assert_eq!(client.get("/nothing").status, 204);
    assert_eq!(client.get("/ping").text(), "pong", "the connection stays usable");
    let head = client.ask(&Request::new("HEAD", "/ping"));
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("4")));
    assert_eq!(client.get("/ping").text(), "pong", "HEAD has no body");
}

#[test]
fn the_body_of_a_request_that_is_answered_here_is_not_taken_for_the_next_request() {
    let gate = answering(&["ping: exact: /ping", "smuggled: exact: /smuggled"]);
    let mut client = gate.connect();
    let inner = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let response = client.ask(&Request::post("/ping", inner));
    assert_eq!(response.text(), "ping");
    client.send(Request::get("/ping").bytes());
    // Either the body was drained and the connection goes on, or the connection ends.
    if let Ok(next) = client.try_response_to("GET") {
        assert_eq!(next.text(), "ping");
    }
}

#[test]
fn thousands_of_routes_each_find_their_request() {
    let mut config = String::from("listeners: [{ name: web, address: $web }]\nroutes:\n");
    for n in 0..2000 {
        config.push_str(&format!("  - {{ path: /p{n}/x, respond: {{ body: p{n} }} }}\n"));
        config.push_str(&format!("  - {{ host: h{n}.test, respond: {{ body: h{n} }} }}\n"));
    }
    let gate = Gate::start(&config, &[]);
    for n in [0, 1, 999, 1999] {
        assert_eq!(gate.get(&format!("/p{n}/x/y")).text(), format!("p{n}"));
        assert_eq!(gate.ask(&Request::get("/").host(&format!("h{n}.test"))).text(), format!("h{n}"));
    }
    assert_eq!(gate.get("/p2000/x").status, 404);
}
