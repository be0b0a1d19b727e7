//! The promise: the admin address tells what the gate does and does what it is told, by those who may.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Client, Gate, Reply, Request, Response, eventually};
use std::time::Duration;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A gate of this configuration with an admin address, which takes the token for changes.
fn config(rest: &str) -> String {
    format!(
        "admin: {{ address: $admin, token: {TOKEN} }}\nlisteners: [{{ name: web, address: $web }}]\n{rest}"
    )
}

const HELLO: &str = "routes: [{ path: /, respond: { status: 200, body: hello } }]\n";

/// A request for the admin address as a program on this machine sends it.
fn to_admin(gate: &Gate, method: &str, target: &str) -> Request {
    Request::new(method, target).host(&gate.at("admin").to_string())
}

fn ask(gate: &Gate, request: &Request) -> Response {
    Client::connect(gate.at("admin")).ask(request)
}

fn get(gate: &Gate, target: &str) -> Response {
    ask(gate, &to_admin(gate, "GET", target))
}

#[test]
fn health_and_metrics_are_there() {
    let gate = Gate::start(&config(HELLO), &[]);
    let live = get(&gate, "/v1/live");
    assert_eq!((live.status, live.text().as_str()), (200, "{\"live\":true}"));
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    let metrics = get(&gate, "/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{metrics:?}");
    assert!(metrics.text().contains("weirgate_build_info{version="), "{}", metrics.text());
    for (method, target, status) in
        [("GET", "/none", 404), ("DELETE", "/metrics", 405), ("HEAD", "/metrics", 200)]
    {
        let answer = ask(&gate, &to_admin(&gate, method, target));
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
    }
}

#[test]
fn another_host_and_another_origin_are_refused() {
    let gate = Gate::start(&config(HELLO), &[]);
    for target in ["/", "/metrics"] {
        let answer = ask(&gate, &Request::get(target).host("evil.example"));
        assert_eq!(answer.status, 421, "{answer:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains("admin.hosts"), "{answer:?}");
    }
    assert_eq!(ask(&gate, &Request::get("/metrics").host("localhost:1")).status, 200);
    let foreign = to_admin(&gate, "GET", "/metrics").header("Origin", "http://evil.example");
    assert_eq!(ask(&gate, &foreign).status, 403);
    // load balancers name us as they like
    assert_eq!(ask(&gate, &Request::get("/v1/live").host("evil.example")).status, 200);
}

#[test]
fn readiness_goes_before_anything_else_does() {
    let api = Backend::start("api");
    api.answers(Reply::ok("slow").after(Duration::from_millis(600)));
    let rest = "server: { shutdown_delay: 400ms }\nroutes: [{ path: /, upstream: api }]\nupstreams: { api: { servers: [$api] } }\n";
    let gate = Gate::start(&config(rest), &[&api]);
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    let mut client = gate.connect();
    client.send(Request::get("/").bytes());
    eventually("the request to reach the server", || !api.requests().is_empty());
    gate.terminate();
    eventually("not ready", || get(&gate, "/v1/ready").status == 503);
    assert_eq!(get(&gate, "/v1/ready").json()["state"], "draining");
    assert_eq!(get(&gate, "/v1/live").status, 200);
    assert_eq!(client.response().text(), "slow");
    assert_eq!(gate.exit().code(), Some(0));
}

#[test]
fn whoever_has_no_certificate_does_not_come_in() {
    let authority = Authority::new();
    let builder = Gate::with(&[]).file("ca.crt", authority.pem());
    authority.issue_into(builder.dir(), "admin", &["gate.test"]);
    let gate = builder.start(
        "admin:
  address: $admin
  tls: { certificates: [{ cert: $dir/admin.crt, key: $dir/admin.key }], client_auth: { ca: $dir/ca.crt } }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, respond: { status: 200, body: hello } }]
",
    );
    let client = authority.client("gate.test");
    let known = client.clone().showing(authority.issue(&["operator"]));
    let answer = known.connect(gate.at("admin")).ask(&Request::get("/metrics"));
    assert_eq!(answer.status, 200, "the name in the certificate is ours");
    let stranger = client.try_connect(gate.at("admin"));
    let refused = stranger.and_then(|mut stranger| {
        stranger.try_send(Request::get("/metrics").bytes())?;
        stranger.try_response_to("GET")
    });
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_reload_moves_the_address_and_an_upgrade_hands_it_over() {
    let named = "server: { upgrade_sock: $dir/control.sock, grace_period_seconds: 5 }\n";
    let mut gate = Gate::start(&format!("{named}{}", config(HELLO)), &[]);
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    let mut kept = Client::connect(gate.at("admin"));
    let old = gate.at("admin");
    let moved = format!("{named}{}", config(HELLO).replace("$admin", "$other"));
    let reloaded = gate.reload(&moved);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert!(reloaded.stdout.contains("admin.address"), "{}", reloaded.stdout);
    assert_eq!(Client::connect(gate.at("other")).get("/v1/live").status, 200);
    eventually("the old one is closed", || Client::try_connect(old).is_err());
    assert!(kept.try_send(Request::get("/v1/live").bytes()).is_err() || kept.until_closed().is_empty());

    let taken = gate.reload(&moved.replace("$other", "$web"));
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.stderr.contains("admin and a listener are both on"), "{}", taken.stderr);
    assert_eq!(Client::connect(gate.at("other")).get("/v1/live").status, 200);

    gate.rewrite(&moved);
    gate.upgrade();
    eventually("the new process answers", || {
        Client::try_connect(gate.at("other")).is_ok_and(|mut client| {
            client.try_send(Request::get("/v1/ready").bytes()).is_ok()
                && client.try_response_to("GET").is_ok_and(|answer| answer.status == 200)
        })
    });
    assert_eq!(gate.exit().code(), Some(0), "the old one has nobody left");
    assert_eq!(Client::connect(gate.at("other")).get("/v1/ready").status, 200);
    assert!(!gate.stderr().contains("no listener has this address"), "{}", gate.stderr());

    let off = gate.reload(&format!("{named}listeners: [{{ name: web, address: $web }}]\n{HELLO}"));
    assert_eq!(off.code, Some(0), "{}", off.stderr);
    eventually("it is off", || Client::try_connect(gate.at("other")).is_err());
}

#[test]
fn it_may_be_a_unix_socket() {
    let gate = Gate::with(&[]).start(
        "admin: { address: \"unix:$dir/admin.sock\", socket_mode: 0600 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, respond: { status: 200, body: hello } }]
",
    );
    let path = gate.dir().join("admin.sock");
    assert_eq!(Client::connect_unix(&path).ask(&Request::get("/metrics").host("localhost")).status, 200);
    gate.terminate();
    assert_eq!(gate.exit().code(), Some(0));
    assert!(!path.exists());
}
