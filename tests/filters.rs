//! The promise: filters change and refuse what passes, on routes and on listeners, one by one or as named
//! chains; requests meet them as written and responses in reverse.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Client, Gate, Reply, Request};

fn one_route(api: &Backend, filters: &str) -> Gate {
    let config = format!(
        "listeners: [{{ name: web, address: $web }}]
routes:
  - path: /
    upstream: api
    filters: {filters}
upstreams: {{ api: {{ servers: [$api] }} }}
"
    );
    Gate::start(&config, &[api])
}

#[test]
fn request_headers_are_set_added_and_removed() {
    let api = Backend::start("api");
    let gate = one_route(
        &api,
        "[{ headers: { request: { set: { X-Set: gate }, add: { X-Add: gate }, remove: [X-Remove, cookie] } } }]",
    );
    gate.ask(
        &Request::get("/")
            .header("x-set", "client")
            .header("X-SET", "client again")
            .header("X-Add", "client")
            .header("x-remove", "1")
            .header("X-Remove", "2")
            .header("Cookie", "secret")
            .header("X-Other", "stays"),
    );
    let arrived = api.only_request();
    assert_eq!(arrived.headers_named("x-set"), ["gate"]);
    assert_eq!(arrived.headers_named("x-add"), ["client", "gate"]);
    assert_eq!(arrived.header("x-remove"), None);
    assert_eq!(arrived.header("cookie"), None);
    assert_eq!(arrived.header("x-other").as_deref(), Some("stays"));
}

#[test]
fn response_headers_are_set_added_and_removed() {
    let api = Backend::start("api");
    api.answers(
        Reply::ok("api")
            .header("Server", "secret/1.0")
            .header("X-Set", "server")
            .header("Vary", "Accept")
            .header("X-Other", "1"),
    );
    let gate = one_route(
        &api,
        "[{ headers: { response: { set: { X-Set: gate }, add: { Vary: Origin }, remove: [server] } } }]",
    );
    let response = gate.get("/");
    assert_eq!(response.header("x-set").as_deref(), Some("gate"));
    assert_eq!(response.header("vary").as_deref(), Some("Accept, Origin"));
    assert_eq!(response.header("server"), None);
    assert_eq!(response.header("x-other").as_deref(), Some("1"));
    assert_eq!(response.text(), "api");
}

#[test]
fn values_may_hold_placeholders() {
    let api = Backend::start("api");
    let gate = one_route(
        &api,
        "[{ headers: { request: { set: { X-Told: \"{method} {scheme}://{host}{uri} from {client_ip} {{x}}\" } },
                       response: { set: { X-Id: \"{request_id}\" } } } }]",
    );
    let response = gate.ask(&Request::get("/a/b?c=d").host("shop.test:81"));
    let told = api.only_request().header("x-told");
    assert_eq!(told.as_deref(), Some("GET http://shop.test/a/b?c=d from 127.0.0.1 {x}"));
    assert_eq!(response.header("x-id"), response.header("x-request-id"));
}

#[test]
fn a_value_that_comes_from_a_request_cannot_end_a_header() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - path: /
    respond: { body: here, headers: { x-path: \"{path}\" } }
    filters: [{ headers: { response: { set: { X-Uri: \"{uri}\" } } } }]
",
        &[],
    );
    let response = gate.get("/%0d%0aX-Injected:%201?a=%0aX-Injected:1");
    assert_eq!(response.header("x-injected"), None, "{response:?}");
}

#[test]
fn ip_allows_and_denies() {
    let api = Backend::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { path: /allow, upstream: api, filters: [{ ip: { allow: [127.1.0.0/16] } }] }
  - { path: /deny, upstream: api, filters: [{ ip: { deny: [127.1.2.0/24] } }] }
  - { path: /both, upstream: api, filters: [{ ip: { allow: [127.1.0.0/16], deny: [127.1.2.3] } }] }
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    let status = |source: &str, target: &str| {
        let source = source.parse().expect("an address");
        Client::connect_from(source, gate.at("web")).get(target).status
    };
    for (target, source, expected) in [
        ("/allow", "127.1.2.3", 200),
        ("/allow", "127.2.0.1", 403),
        ("/deny", "127.1.2.9", 403),
        ("/deny", "127.1.3.1", 200),
        ("/both", "127.1.2.3", 403),
        ("/both", "127.1.2.4", 200),
        ("/both", "127.2.0.1", 403),
    ] {
        assert_eq!(status(source, target), expected, "{target} from {source}");
    }
    assert_eq!(api.requests().len(), 3, "a refused request reaches no server");
}

const CHAINS: &str = "
listeners:
  - name: web
    address: $web
    filters: [{ use: outer }, { headers: { request: { add: { X-Order: listener } }, response: { add: { X-Back: listener } } } }]
filters:
  outer:
    - headers: { request: { add: { X-Order: outer-1 } }, response: { add: { X-Back: outer-1 } } }
    - headers: { request: { add: { X-Order: outer-2 } }, response: { add: { X-Back: outer-2 } } }
  nested:
    - headers: { request: { add: { X-Order: nested } }, response: { add: { X-Back: nested } } }
    - use: inner
  inner:
    - headers: { request: { add: { X-Order: inner } }, response: { add: { X-Back: inner } } }
routes:
  - path: /
    upstream: api
    filters: [{ use: nested }, { headers: { request: { add: { X-Order: route } }, response: { add: { X-Back: route } } } }]
  - { path: /plain, upstream: api }
upstreams: { api: { servers: [$api] } }
";

#[test]
fn requests_meet_filters_as_written_and_responses_in_reverse() {
    let api = Backend::start("api");
    let gate = Gate::start(CHAINS, &[&api]);
    let response = gate.get("/");
    let order = api.last_request().header("x-order");
    assert_eq!(order.as_deref(), Some("outer-1, outer-2, listener, nested, inner, route"));
    assert_eq!(
        response.header("x-back").as_deref(),
        Some("route, inner, nested, listener, outer-2, outer-1")
    );
    gate.get("/plain");
    assert_eq!(api.last_request().header("x-order").as_deref(), Some("outer-1, outer-2, listener"));
}

#[test]
fn the_filters_of_a_listener_are_for_its_requests_only() {
    let gate = Gate::start(
        "listeners:
  - { name: web, address: $web, filters: [{ ip: { deny: [127.0.0.1] } }] }
  - { name: inner, address: $inner }
routes: [{ path: /, respond: { body: here } }]
",
        &[],
    );
    assert_eq!(gate.get("/").status, 403);
    assert_eq!(Client::connect(gate.at("inner")).get("/").text(), "here");
}

#[test]
fn what_the_gate_answers_itself_passes_the_response_filters_too() {
    let gate = Gate::start(
        "listeners:
  - name: web
    address: $web
    filters: [{ headers: { response: { set: { X-Content-Type-Options: nosniff } } } }]
routes:
  - { path: /ping, respond: { body: pong } }
  - { path: /old, redirect: { to: /new } }
  - { path: /closed, respond: { body: never }, filters: [{ ip: { deny: [127.0.0.0/8] } }] }
",
        &[],
    );
    for (target, status) in [("/ping", 200), ("/old", 308), ("/closed", 403), ("/missing", 404)] {
        let response = gate.get(target);
        assert_eq!(response.status, status, "{target}");
        assert_eq!(
            response.header("x-content-type-options").as_deref(),
            Some("nosniff"),
            "{target}: {response:?}"
        );
    }
}

#[test]
fn a_filter_that_refuses_ends_the_chain() {
    let api = Backend::start("api");
    let gate = one_route(
        &api,
        "[{ headers: { response: { set: { X-Before: 1 } } } }, { ip: { deny: [127.0.0.0/8] } }, { headers: { request: { set: { X-After: 1 } } } }]",
    );
    assert_eq!(gate.get("/").status, 403);
    assert!(api.requests().is_empty());
}
