//! The promise: a user never sees an error because one server died. Refused and broken connections are tried
//! on another server; when none is left the answer is quick and says when to come back.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "harness/killable.rs"]
mod killable;

use harness::{Backend, BlackHole, Gate, Load, RefusedAddress, Reply, Request, ServerAddress, eventually};
use killable::KillableBackend;
use std::time::Duration;

const THREE: &str = "
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams:
  group:
    servers: [$a, $b, $c]
    timeouts: { connect: 500ms }
    health_check: { tcp: {}, interval: 100ms, timeout: 500ms, healthy_after: 1, unhealthy_after: 1 }
";

/// A gate with one worker before a group of these servers, written `$label`, with this said of it.
fn before(servers: &[&dyn ServerAddress], written: &str, more: &str) -> Gate {
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [{written}], {more} }} }}
"
    );
    Gate::start(&config, servers)
}

#[test]
fn kill_9_of_one_server_under_load_fails_no_request() {
    let (a, b, c) = (KillableBackend::start("a"), KillableBackend::start("b"), KillableBackend::start("c"));
    let gate = Gate::start(THREE, &[&a, &b, &c]);
    let load = Load::start(gate.at("web"), &Request::get("/"), 4, 20_000);
    load.wait_for(300);
    b.kill();
    let at_the_kill = load.answered();
    load.wait_for(at_the_kill + 600);
    let outcomes = load.finish();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(200)).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {failed:?}", failed.len(), outcomes.len());
    assert!(outcomes.len() >= 900, "{} requests", outcomes.len());
}

#[test]
fn a_refused_connection_is_tried_on_another_server() {
    let (up, down) = (Backend::start("up"), RefusedAddress::new("down"));
    let gate = before(&[&up, &down], "$down, $up", "");
    let mut client = gate.connect();
    for n in 0..10 {
        let response = if n % 2 == 0 { client.get("/") } else { client.ask(&Request::post("/", "posted")) };
        assert_eq!((response.status, response.text().as_str()), (200, "up"));
    }
    let bodies = up.requests().iter().filter(|request| request.body == b"posted").count();
    assert_eq!((up.requests().len(), bodies), (10, 5), "each request arrives once, with its body");
}

#[test]
fn a_server_that_does_not_take_connections_in_time_is_passed_over() {
    let (up, hole) = (Backend::start("up"), BlackHole::new("hole"));
    let gate = before(&[&up, &hole], "$hole, $up", "timeouts: { connect: 200ms }");
    let mut client = gate.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "up");
    }
}

#[test]
fn a_get_whose_connection_breaks_before_the_answer_is_tried_on_another_server() {
    let (up, breaks) = (Backend::start("up"), Backend::start("breaks"));
    breaks.answers(Reply::reset());
    let gate = before(&[&up, &breaks], "$breaks, $up", "");
    let mut client = gate.connect();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "up");
    }
    assert!(!breaks.requests().is_empty(), "the broken server was really asked");
}

#[test]
fn a_post_that_a_server_may_have_acted_on_is_not_sent_twice() {
    let (up, breaks) = (Backend::start("up"), Backend::start("breaks"));
    breaks.answers(Reply::reset());
    let gate = before(&[&up, &breaks], "$breaks, $up", "");
    let statuses: Vec<_> = (0..4).map(|_| gate.ask(&Request::post("/", "pay 5 euros")).status).collect();
    let arrived = breaks.requests().len() + up.requests().len();
    assert_eq!(arrived, 4, "each POST arrived exactly once: {statuses:?}");
    let failed = statuses.iter().filter(|status| **status == 502).count();
    assert_eq!(failed, breaks.requests().len(), "{statuses:?}");
}

#[test]
fn a_kept_connection_that_the_server_has_closed_costs_no_request() {
    let a = Backend::start("a");
    let gate = before(&[&a], "$a", "");
    let mut client = gate.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
        a.drop_connections();
    }
}

#[test]
fn a_broken_answer_is_not_passed_off_as_a_whole_one() {
    let a = Backend::start("a");
    a.answers(Reply::ok("0123456789".repeat(1000)).cut_short());
    let gate = before(&[&a], "$a", "");
    for framed in [Reply::ok("0123456789".repeat(1000)), Reply::ok("0123456789".repeat(1000)).chunked()] {
        a.answers(framed.cut_short());
        let mut client = gate.connect();
        client.send(Request::get("/").bytes());
        let outcome = client.try_response_to("GET");
        assert!(!matches!(&outcome, Ok(response) if response.status == 200), "half an answer: {outcome:?}");
    }
    assert_eq!(a.requests().len(), 2, "an answer that has begun is not tried again");
}

#[test]
fn all_servers_down_is_503_with_retry_after_at_once() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams:
  group:
    servers: [$a, $b]
    health_check: { tcp: {}, interval: 100ms, timeout: 500ms, healthy_after: 1, unhealthy_after: 1 }
",
        &[&a, &b],
    );
    assert_eq!(gate.get("/").status, 200);
    a.stop();
    b.stop();
    eventually("both servers to be known as down", || gate.get("/").status == 503);
    let refused = gate.get("/");
    assert_eq!(refused.status, 503);
    let wait = refused.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(wait.is_some_and(|seconds| seconds >= 1), "Retry-After in seconds: {refused:?}");
    b.restart();
    eventually("the gate to find the server again", || gate.get("/").status == 200);
}

#[test]
fn servers_that_all_refuse_without_health_checks_are_a_quick_error_too() {
    let (a, b) = (RefusedAddress::new("a"), RefusedAddress::new("b"));
    let gate = before(&[&a, &b], "$a, $b", "");
    let response = gate.get("/");
    assert!(matches!(response.status, 502 | 503), "{response:?}");
}

#[test]
fn a_server_that_is_killed_comes_back_into_use() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let gate = Gate::start(THREE, &[&a, &b, &c]);
    b.stop();
    for _ in 0..12 {
        assert_eq!(gate.get("/").status, 200);
    }
    b.restart();
    b.forget();
    eventually("the server to be used again", || {
        assert_eq!(gate.get("/").status, 200);
        std::thread::sleep(Duration::from_millis(5));
        !b.requests().is_empty()
    });
}
