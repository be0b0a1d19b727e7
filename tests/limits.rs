//! The promise: sizes and counts are bounded per listener, and each excess has its own status.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Client, Gate, H2Client, Reply, Request, eventually};
use std::time::Duration;

fn limited(limits: &str) -> Gate {
    Gate::start(
        &format!(
            "listeners: [{{ name: web, address: $web, limits: {{ {limits} }} }}]
routes: [{{ path: /, respond: {{ body: here }} }}]
"
        ),
        &[],
    )
}

#[track_caller]
fn assert_refused(gate: &Gate, request: &Request, status: u16) {
    let mut client = gate.connect();
    let response = client.ask(request);
    assert_eq!(response.status, status);
    assert!(
        response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        "{response:?}"
    );
    client.until_closed();
    gate.logged(|line| line["status"] == status);
    assert_eq!(gate.get("/fine").text(), "here");
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let gate = limited("max_header_bytes: 4KB, max_uri_bytes: 1KB");
    assert_eq!(gate.ask(&Request::get("/").header("X-Big", &"x".repeat(3000))).status, 200);
    assert_refused(&gate, &Request::get("/").header("X-Big", &"x".repeat(5000)), 431);
}

#[test]
fn a_head_without_end_is_431_before_it_is_complete() {
    let gate = limited("max_header_bytes: 4KB, max_uri_bytes: 1KB, header_timeout: 60s");
    let mut client = gate.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nX-Big: {}", "x".repeat(20_000)));
    assert_eq!(client.response().status, 431);
    client.until_closed();
}

#[test]
fn too_many_headers_are_431() {
    let gate = limited("max_headers: 20");
    let with = |count: usize| {
        (0..count).fold(Request::get("/"), |request, n| request.header(&format!("X-{n}"), "v"))
    };
    assert_eq!(gate.ask(&with(19)).status, 200, "Host and 19 more");
    assert_refused(&gate, &with(20), 431);
    assert_refused(&gate, &with(300), 431);
}

#[test]
fn a_long_uri_is_414() {
    let gate = limited("max_uri_bytes: 1KB");
    assert_eq!(gate.get(&format!("/{}", "x".repeat(1000))).status, 200);
    assert_refused(&gate, &Request::get(&format!("/{}", "x".repeat(1100))), 414);
    assert_refused(&gate, &Request::get(&format!("/?q={}", "x".repeat(1100))), 414);
}

#[test]
fn a_uri_longer_than_the_whole_head_may_be_is_refused() {
    let gate = limited("max_header_bytes: 2KB, max_uri_bytes: 1KB");
    let response = gate.get(&format!("/{}", "x".repeat(50_000)));
    assert!(matches!(response.status, 414 | 431), "{response:?}");
}

#[test]
fn a_body_that_is_too_large_is_413() {
    let api = Backend::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, limits: { max_body_bytes: 10KB } }]
routes:
  - { path: /, upstream: api }
  - { path: /upload, upstream: api, limits: { max_body_bytes: 1MB } }
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    assert_eq!(gate.ask(&Request::post("/", "x".repeat(10_240))).status, 200);
    api.forget();
    assert_eq!(gate.ask(&Request::post("/", "x".repeat(10_241))).status, 413);
    assert!(api.requests().is_empty(), "an announced excess never reaches a server");
    let mut chunked = gate.connect();
    chunked.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        chunked.send(format!("400\r\n{}\r\n", "x".repeat(1024)));
    }
    chunked.send("0\r\n\r\n");
    assert_eq!(chunked.response().status, 413, "counted as it comes");
    assert_eq!(
        gate.ask(&Request::post("/upload", "x".repeat(100_000))).status,
        200,
        "a route may allow more"
    );
}

#[test]
fn more_connections_than_allowed_are_turned_away() {
    let gate = limited("connections: 3");
    let mut held = gate.hold(3);
    let mut fourth = gate.connect();
    fourth.send(Request::get("/").bytes());
    let turned_away = fourth.try_response_to("GET");
    assert!(!matches!(&turned_away, Ok(response) if response.status == 200), "{turned_away:?}");
    assert_eq!(held[0].get("/").text(), "here", "those inside are not disturbed");
    held.pop();
    eventually("a place that became free", || {
        let mut client = gate.connect();
        client.is_served("/")
    });
}

#[test]
fn the_limits_of_a_listener_are_its_own() {
    let gate = Gate::start(
        "listeners:
  - { name: web, address: $web, limits: { max_uri_bytes: 100B } }
  - { name: wide, address: $wide }
routes: [{ path: /, respond: { body: here } }]
",
        &[],
    );
    let target = format!("/{}", "x".repeat(500));
    assert_eq!(gate.get(&target).status, 414);
    assert_eq!(Client::connect(gate.at("wide")).get(&target).text(), "here");
}

#[test]
fn h2_has_the_same_limits() {
    let authority = Authority::new();
    let gate = Gate::with(&[]).certified(&authority).start(
        "listeners:
  - name: secure
    address: $secure
    $tls
    limits: { max_header_bytes: 4KB, max_headers: 20, max_uri_bytes: 1KB }
routes: [{ path: /, respond: { body: here } }]
",
    );
    let ask = |request: Request| {
        // A connection each: the gate may end it with the refusal.
        let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
        client.try_ask(&request.host("localhost")).map(|response| response.status).unwrap_or(0)
    };
    assert_eq!(ask(Request::get("/")), 200);
    assert_eq!(ask(Request::get(&format!("/{}", "x".repeat(1100)))), 414);
    let many = (0..30).fold(Request::get("/"), |request, n| request.header(&format!("x-{n}"), "v"));
    assert_eq!(ask(many), 431);
    // The h2 library may refuse the stream before we see the head; what may not be is 200.
    let big = ask(Request::get("/").header("x-big", &"x".repeat(6000)));
    assert!(matches!(big, 431 | 0), "{big}");
}

#[test]
fn streams_of_one_h2_connection_are_limited() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    api.answers(Reply::ok("api").after(Duration::from_millis(50)));
    let gate = Gate::secure(&authority, &api, "max_streams: 4");
    let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    let many: Vec<_> = (0..20).map(|_| Request::get("/").host("localhost")).collect();
    // The client library keeps to the limit once the gate's settings have arrived, so all succeed in turn.
    assert_eq!(client.ask(&many[0]).status, 200);
    for answer in client.try_ask_all(&many) {
        assert_eq!(answer.expect("an answer").status, 200);
    }
    assert!(api.connections() <= 5, "{} requests at a time instead of 4", api.connections());
}
