//! The promise: servers are watched in the background; a sick one gets no requests, a recovered one gets them
//! again, and every change is logged once with its reason.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, BlackHole, Gate, Reply, ServerAddress, eventually};
use std::time::Duration;

/// A gate in front of `$sick` and `$well`, which checks with these settings.
fn watching(check: &str, sick: &dyn ServerAddress, well: &Backend) -> Gate {
    let config = format!(
        "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    servers: [$sick, $well]
    retry: {{ attempts: 1 }}
    health_check: {{ {check}, interval: 60ms, timeout: 500ms, healthy_after: 2, unhealthy_after: 2 }}
"
    );
    Gate::start(&config, &[sick, well])
}

const HTTP: &str = "http: { path: /healthz }";

/// What the process log says about the health of this server, in order.
fn changes(gate: &Gate, server: &dyn ServerAddress) -> Vec<String> {
    let address = server.address().to_string();
    let about = |line: &&str| line.contains(&address) && line.contains("health");
    gate.stderr().lines().filter(about).map(str::to_owned).collect()
}

/// Waits until the log tells of `count` changes of this server.
#[track_caller]
fn wait_for_changes(gate: &Gate, server: &dyn ServerAddress, count: usize) -> Vec<String> {
    eventually(&format!("{count} changes of health in the log"), || changes(gate, server).len() >= count);
    changes(gate, server)
}

/// Asks until none of ten requests in a row reaches the server.
#[track_caller]
fn wait_until_avoided(gate: &Gate, sick: &Backend) {
    eventually("the sick server to be avoided", || {
        sick.forget();
        (0..10).for_each(|_| {
            gate.get("/");
        });
        sick.requests().is_empty()
    });
}

#[track_caller]
fn wait_until_used(gate: &Gate, server: &Backend) {
    server.forget();
    eventually("the server to be used", || {
        assert_eq!(gate.get("/").status, 200);
        !server.requests().is_empty()
    });
}

#[test]
fn from_200_to_500_and_back() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    let gate = watching(HTTP, &sick, &well);
    wait_until_used(&gate, &sick);
    sick.health(Reply::status(500));
    wait_until_avoided(&gate, &sick);
    let down = wait_for_changes(&gate, &sick, 1);
    assert!(down[0].contains("500"), "the reason is in the line: {down:?}");
    sick.health(Reply::ok("fine"));
    wait_until_used(&gate, &sick);
    wait_for_changes(&gate, &sick, 2);
    // A few more checks change nothing and so say nothing.
    let probes = sick.probes().len();
    eventually("more checks", || sick.probes().len() >= probes + 5);
    assert_eq!(changes(&gate, &sick).len(), 2, "{:?}", changes(&gate, &sick));
    assert!(changes(&gate, &well).is_empty(), "{:?}", changes(&gate, &well));
}

#[test]
fn a_refused_connection_is_a_reason() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    let gate = watching(HTTP, &sick, &well);
    wait_until_used(&gate, &sick);
    sick.stop();
    let down = wait_for_changes(&gate, &sick, 1);
    assert!(down[0].to_lowercase().contains("refused"), "{down:?}");
    (0..10).for_each(|_| assert_eq!(gate.get("/").text(), "well"));
    sick.restart();
    wait_until_used(&gate, &sick);
    assert_eq!(wait_for_changes(&gate, &sick, 2).len(), 2);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_reason() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    let gate = watching(HTTP, &sick, &well);
    wait_until_used(&gate, &sick);
    sick.health(Reply::hang());
    let down = wait_for_changes(&gate, &sick, 1);
    let reason = down[0].to_lowercase();
    assert!(
        reason.contains("timeout") || reason.contains("timed out") || reason.contains("within"),
        "{down:?}"
    );
    wait_until_avoided(&gate, &sick);
}

#[test]
fn a_dripped_answer_is_too_slow_as_a_whole() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    let gate = watching("http: { path: /healthz, body: END }", &sick, &well);
    well.health(Reply::ok("END"));
    sick.health(Reply::ok(format!("{}END", "x".repeat(200))).dripping(Duration::from_millis(50)));
    let down = wait_for_changes(&gate, &sick, 1);
    assert!(!down.is_empty());
    wait_until_avoided(&gate, &sick);
}

#[test]
fn the_body_must_contain_the_text() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    sick.health(Reply::ok("status: all systems go").chunked());
    well.health(Reply::ok("all systems go"));
    let gate = watching("http: { path: /healthz, body: \"systems go\" }", &sick, &well);
    wait_until_used(&gate, &sick);
    sick.health(Reply::ok("status: trouble"));
    wait_until_avoided(&gate, &sick);
    let down = wait_for_changes(&gate, &sick, 1);
    assert!(down[0].contains("systems go") || down[0].contains("body"), "{down:?}");
    assert!(changes(&gate, &well).is_empty());
}

#[test]
fn a_body_without_end_is_not_read_for_ever() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    sick.health(Reply::ok("x".repeat(2_000_000)));
    well.health(Reply::ok("END"));
    let gate = watching("http: { path: /healthz, body: END, max_body_bytes: 1KB }", &sick, &well);
    wait_until_avoided(&gate, &sick);
    assert_eq!(gate.get("/").text(), "well");
}

#[test]
fn the_expected_statuses_may_be_others_than_200() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    sick.health(Reply::status(401));
    well.health(Reply::status(204));
    let gate = watching("http: { path: /healthz, status: [204, 400-404] }", &sick, &well);
    eventually("some checks", || sick.probes().len() > 5 && well.probes().len() > 5);
    wait_until_used(&gate, &sick);
    assert!(changes(&gate, &sick).is_empty(), "{:?}", changes(&gate, &sick));
    sick.health(Reply::status(200));
    assert!(wait_for_changes(&gate, &sick, 1)[0].contains("200"));
}

#[test]
fn the_check_is_a_plain_get_with_the_host_that_was_asked_for() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    let gate = watching("http: { path: /healthz, host: health.internal }", &sick, &well);
    eventually("a check", || !sick.probes().is_empty());
    let probe = sick.probes()[0].clone();
    assert_eq!((probe.method.as_str(), probe.header("host").as_deref()), ("GET", Some("health.internal")));
    drop(gate);
}

#[test]
fn a_tcp_check_asks_only_for_a_connection() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    let gate = watching("tcp: {}", &sick, &well);
    wait_until_used(&gate, &sick);
    assert!(sick.probes().is_empty());
    sick.stop();
    wait_for_changes(&gate, &sick, 1);
    (0..6).for_each(|_| assert_eq!(gate.get("/").text(), "well"));
    sick.restart();
    wait_until_used(&gate, &sick);
}

#[test]
fn one_failed_check_is_not_yet_sick() {
    let (sick, well) = (Backend::start("sick"), Backend::start("well"));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams:
  group:
    servers: [$sick, $well]
    health_check: { http: { path: /healthz }, interval: 60ms, timeout: 500ms, unhealthy_after: 4 }
",
        &[&sick, &well],
    );
    eventually("a first check", || !sick.probes().is_empty());
    sick.health(Reply::status(500));
    let before = sick.probes().len();
    eventually("a failed check", || sick.probes().len() > before);
    sick.health(Reply::ok("fine"));
    let failed = sick.probes().len() - before;
    eventually("some good checks", || sick.probes().len() > before + failed + 3);
    // On a machine that stalls, several checks may have failed before the server was told to be well again.
    assert!(failed >= 3 || changes(&gate, &sick).is_empty(), "{failed} failed: {:?}", changes(&gate, &sick));
}

#[test]
fn a_slow_server_delays_no_other_check() {
    let (slow, well) = (BlackHole::new("sick"), Backend::start("well"));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams:
  group:
    servers: [$sick, $well]
    health_check: { http: { path: /healthz }, interval: 50ms, timeout: 8s }
",
        &[&slow, &well],
    );
    eventually("checks of the other server", || well.probes().len() >= 20);
    // The slow server's first check is still waiting for its 8 seconds, so nothing is known of it yet.
    assert!(changes(&gate, &slow).is_empty(), "twenty checks took longer than one timeout");
}
