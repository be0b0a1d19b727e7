//! The promise: a check asks what the servers of a group can answer: gRPC's health service, over TLS with a name of
//! its own, on a port of its own, for a body like a pattern; and it is said what a server is before it was asked.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::eventually;
use harness::{
    Authority, Backend, Gate, GateBuilder, HealthServer, NOT_SERVING, Reply, SERVING, ServerAddress,
};

/// A gate in front of `$only`, which checks as said.
fn config(check: &str) -> String {
    format!(
        "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    servers: [$only]
    retry: {{ attempts: 1 }}
    health_check: {{ {check} }}
"
    )
}

const OFTEN: &str = "interval: 50ms, timeout: 5s";

fn gate_with(authority: &Authority, server: &Backend) -> GateBuilder {
    Gate::with(&[server]).file("ca.crt", authority.pem())
}

#[track_caller]
fn wait_for_status(gate: &Gate, status: u16) {
    eventually(&format!("status {status}"), || gate.get("/").status == status);
}

/// The lines about health in the process log.
fn said(gate: &Gate) -> Vec<String> {
    gate.stderr().lines().filter(|line| line.contains("health")).map(str::to_owned).collect()
}

#[track_caller]
fn wait_for_reason(gate: &Gate, words: &str) {
    eventually(&format!("the log to say {words:?}"), || said(gate).iter().any(|line| line.contains(words)));
}

#[test]
fn a_grpc_server_says_of_itself_whether_it_serves() {
    let server = Backend::start("only");
    let health = HealthServer::grpc(server.address().ip(), None);
    let check = format!("grpc: {{ service: shop.Cart }}, port: {}, {OFTEN}", health.port());
    let gate = Gate::start(&config(&check), &[&server]);
    eventually("a check", || !health.probes().is_empty());
    assert_eq!(gate.get("/").text(), "only");
    let probe = health.probes()[0].clone();
    assert_eq!(probe.message, b"\x0a\x09shop.Cart");
    assert_eq!(probe.host, format!("{}:{}", server.address().ip(), health.port()));

    health.says(NOT_SERVING);
    wait_for_status(&gate, 503);
    wait_for_reason(&gate, "service \"shop.Cart\" is NOT_SERVING");
    health.says(SERVING);
    wait_for_status(&gate, 200);
    assert_eq!(said(&gate).len(), 2, "one line for each change: {:?}", said(&gate));
}

#[test]
fn a_server_without_the_grpc_service_is_down_and_it_is_said_why() {
    let server = Backend::start("only");
    let gate = Gate::start(&config(&format!("grpc: {{}}, {OFTEN}")), &[&server]);
    wait_for_status(&gate, 503);
    wait_for_reason(&gate, "the answer is not valid HTTP/2");
}

#[test]
fn grpc_is_asked_over_tls_with_the_name_that_was_given() {
    let (authority, server) = (Authority::new(), Backend::start("only"));
    let health = HealthServer::grpc(server.address().ip(), Some(&authority.issue(&["cart.internal"])));
    let check = format!(
        "grpc: {{ authority: 'cart.internal:443' }}, tls: {{ ca: $dir/ca.crt }}, port: {}, initial: down, {OFTEN}",
        health.port()
    );
    let gate = gate_with(&authority, &server).start(&config(&check));
    wait_for_status(&gate, 200);
    let probe = health.probes()[0].clone();
    assert_eq!((probe.sni.as_deref(), probe.host.as_str()), (Some("cart.internal"), "cart.internal:443"));
    assert_eq!(probe.message, b"");
}

#[test]
fn a_check_over_tls_has_a_name_and_a_host_of_its_own() {
    let (authority, server) = (Authority::new(), Backend::start("only"));
    let health = HealthServer::http(server.address().ip(), Some(&authority.issue(&["health.internal"])));
    let check = |tls: &str| {
        format!(
            "http: {{ host: www.example.com, body: {{ regex: '^f.ne$' }} }}, tls: {{ {tls} }}, port: {}, initial: down, {OFTEN}",
            health.port()
        )
    };
    let start = |tls: &str| gate_with(&authority, &server).start(&config(&check(tls)));

    let gate = start("sni: health.internal, ca: $dir/ca.crt");
    wait_for_status(&gate, 200);
    let probe = health.probes()[0].clone();
    assert_eq!((probe.sni.as_deref(), probe.host.as_str()), (Some("health.internal"), "www.example.com"));

    // a certificate for another name, and one of an authority that the system does not know
    let gate = start("ca: $dir/ca.crt");
    wait_for_reason(&gate, "certificate not valid for name \"www.example.com\"");
    assert_eq!(gate.get("/").status, 503);
    let gate = gate_with(&authority, &server)
        // whatever the machine trusts, it is not this one
        .file("other.crt", Authority::new().issue(&["other.internal"]).0);
    let others = gate.dir().join("other.crt").display().to_string();
    let gate = gate.env("SSL_CERT_FILE", &others).start(&config(&check("sni: health.internal")));
    wait_for_reason(&gate, "TLS: the certificate is from an authority that is not trusted");
    assert_eq!(gate.get("/").status, 503);

    let gate = start("verify: false");
    wait_for_status(&gate, 200);
}

#[test]
fn a_tcp_check_over_tls_wants_a_handshake() {
    let (authority, server) = (Authority::new(), Backend::start("only"));
    let ip = server.address().ip();
    let health = HealthServer::http(ip, Some(&authority.issue(&[&ip.to_string()])));
    let check = |port: u16| {
        let quickly = "unhealthy_after: 1, healthy_after: 1";
        config(&format!(
            "tcp: {{}}, tls: {{ ca: $dir/ca.crt }}, port: {port}, initial: down, {quickly}, {OFTEN}"
        ))
    };
    // no name is given, so the certificate has to be for the address
    let gate = gate_with(&authority, &server).start(&check(health.port()));
    wait_for_status(&gate, 200);
    assert!(health.probes().is_empty(), "nothing was asked");

    // one that does not speak TLS
    let plain = HealthServer::grpc(ip, None);
    let check = check(plain.port()).replace("initial: down", "initial: up");
    let gate = gate_with(&authority, &server).start(&check);
    wait_for_reason(&gate, "TLS: ");
    wait_for_status(&gate, 503);
}

#[test]
fn a_server_may_be_down_until_its_first_check_which_comes_at_once() {
    let (server, silent) = (Backend::start("only"), Backend::start("only"));
    // the first check would come within a second, and the second one in an hour
    let check =
        config("http: { path: /healthz }, initial: down, interval: 1h, timeout: 30s, healthy_after: 9");
    let gate = Gate::start(&check, &[&server]);
    wait_for_status(&gate, 200);
    assert_eq!(server.probes().len(), 1, "the first one decides");

    silent.health(Reply::hang());
    let gate = Gate::start(&check, &[&silent]);
    eventually("the first check", || !silent.probes().is_empty());
    assert_eq!(gate.get("/").status, 503);
    assert!(silent.requests().is_empty());
}

#[test]
fn a_server_that_is_down_is_checked_at_its_own_pace() {
    let server = Backend::start("only");
    server.health(Reply::status(500));
    let check =
        "http: { path: /healthz }, initial: down, interval: 1h, unhealthy_interval: 20ms, healthy_after: 3";
    let gate = Gate::start(&config(check), &[&server]);
    eventually("some checks", || server.probes().len() >= 5);
    assert_eq!(gate.get("/").status, 503);
    server.health(Reply::ok("fine"));
    wait_for_status(&gate, 200);
    // the next one is an hour away
    let probes = server.probes().len();
    (0..50).for_each(|_| assert_eq!(gate.get("/").status, 200));
    assert_eq!(server.probes().len(), probes);
}

#[test]
fn a_server_that_comes_back_is_what_it_was_when_it_left() {
    for (initial, used) in [("last_known", false), ("up", true)] {
        let (sick, well) = (Backend::start("sick"), Backend::start("well"));
        let [at_sick, at_well] = [&sick, &well].map(|backend| backend.address().to_string());
        let both = format!("- {at_sick}\n- {at_well}\n");
        let gate = Gate::with(&[]).file("servers.yaml", &both).start(&format!(
            "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    discover: {{ file: {{ path: $dir/servers.yaml, interval: 20ms }} }}
    health_check: {{ http: {{ path: /healthz }}, interval: 50ms, timeout: 30s, initial: {initial} }}
"
        ));
        sick.health(Reply::status(500));
        wait_for_reason(&gate, "500");
        // from here on nothing new is learned about it
        sick.health(Reply::hang());
        let checks = sick.probes().len();
        eventually("a check that hangs", || sick.probes().len() > checks);
        let (file, beside) = (gate.dir().join("servers.yaml"), gate.dir().join("servers.new"));
        let write = |list: &str| {
            std::fs::write(&beside, list).unwrap();
            std::fs::rename(&beside, &file).unwrap();
        };
        write(&format!("- {at_well}\n"));
        eventually("the server to be gone", || gate.stderr().contains("drained and gone"));
        sick.forget();
        write(&both);
        eventually("the server to be checked again", || !sick.probes().is_empty());
        (0..20).for_each(|_| assert_eq!(gate.get("/").status, 200));
        assert_eq!(!sick.requests().is_empty(), used, "initial: {initial}");
    }
}
