//! A reload changes every setting that it takes: logs, deadlines, limits, TLS on both sides. Each from one value to
//! another, in a process that goes on.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Gate, Origin, Reply, Request, ServerAddress, eventually};
use rustls::version::{TLS12, TLS13};
use std::io::Write;
use std::time::Duration;

const SERVER: &str = "server: { threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 5 }\n";

#[track_caller]
fn reload(gate: &mut Gate, config: &str) {
    let reloaded = gate.reload(config);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert!(reloaded.stdout.contains("reloaded, "), "{}", reloaded.stdout);
}

fn responding(rest: &str) -> String {
    format!(
        "{SERVER}{rest}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, respond: {{ status: 200, body: here }} }}]
"
    )
}

#[test]
fn the_access_log_goes_elsewhere() {
    let to = |file: &str| {
        responding(&format!("log: {{ access: {{ format: json, to: {{ file: $dir/{file} }} }} }}"))
    };
    let mut gate = Gate::start(&to("one.log"), &[]);
    let lines = |gate: &Gate, file: &str| std::fs::read_to_string(gate.dir().join(file)).unwrap_or_default();
    let mut kept = gate.connect();
    kept.get("/first");
    reload(&mut gate, &to("two.log"));
    kept.get("/second");
    eventually("the second line", || lines(&gate, "two.log").contains("/second"));
    eventually("the first line", || lines(&gate, "one.log").contains("/first"));
    assert!(!lines(&gate, "one.log").contains("/second"));
    // and its format
    reload(&mut gate, &to("two.log").replace("json", "combined"));
    kept.get("/third");
    eventually("a line of the other format", || {
        lines(&gate, "two.log").contains("\"GET /third HTTP/1.1\" 200")
    });
    // and none
    reload(&mut gate, &responding("log: { access: { to: \"off\" } }"));
    kept.get("/fourth");
    assert!(!lines(&gate, "two.log").contains("/fourth"));
}

#[test]
fn the_process_log_says_more_and_less() {
    let authority = Authority::new();
    let at = |level: &str| {
        format!(
            "{SERVER}log: {{ level: {level} }}
listeners: [{{ name: secure, address: $secure, tls: {{ certificates: [{{ cert: $dir/a.crt, key: $dir/a.key }}] }} }}]
routes: [{{ path: /, respond: {{ status: 200 }} }}]
"
        )
    };
    let builder = Gate::with(&[]);
    authority.issue_into(builder.dir(), "a", &["localhost"]);
    let mut gate = builder.start(&at("info"));
    let told = |gate: &Gate| gate.stderr().matches("TLS handshake with").count();
    // a handshake that fails is told for `debug` only
    let fail = |gate: &Gate| {
        let mut socket = std::net::TcpStream::connect(gate.at("secure")).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut socket, &mut rest).ok();
    };
    fail(&gate);
    reload(&mut gate, &at("debug"));
    assert_eq!(told(&gate), 0);
    fail(&gate);
    eventually("it is told", || told(&gate) == 1);
    reload(&mut gate, &at("error"));
    fail(&gate);
    reload(&mut gate, &at("debug"));
    assert_eq!(told(&gate), 1);
}

#[test]
fn a_deadline_is_the_new_one_for_the_next_request() {
    let slow = Backend::start("slow");
    slow.answers(Reply::ok("slow").after(Duration::from_millis(700)));
    let within = |time: &str| {
        format!(
            "{SERVER}listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: api }}]
upstreams: {{ api: {{ servers: [$slow], timeouts: {{ response: {time} }}, retry: {{ attempts: 1 }} }} }}
"
        )
    };
    let mut gate = Gate::start(&within("20s"), &[&slow]);
    let mut kept = gate.connect();
    assert_eq!(kept.get("/").text(), "slow");
    reload(&mut gate, &within("100ms"));
    assert_eq!(kept.get("/").status, 504, "on the same connection");
    reload(&mut gate, &within("20s"));
    assert_eq!(gate.get("/").text(), "slow");
}

#[test]
fn limits_are_the_new_ones() {
    let with = |limits: &str| {
        format!(
            "{SERVER}listeners: [{{ name: web, address: $web, limits: {{ {limits} }} }}]
routes: [{{ path: /, respond: {{ status: 200, body: here }} }}]
"
        )
    };
    let long = Request::get("/").header("X-Long", &"x".repeat(20_000));
    let mut gate = Gate::start(&with("max_header_bytes: 64KB, connections: 100"), &[]);
    assert_eq!(gate.ask(&long).status, 200);
    reload(&mut gate, &with("max_header_bytes: 8KB, connections: 100"));
    assert_eq!(gate.ask(&long).status, 431);
    // those that are there are counted
    let mut kept: Vec<_> = (0..3).map(|_| gate.connect()).collect();
    kept.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    reload(&mut gate, &with("max_header_bytes: 8KB, connections: 1"));
    let refused = |gate: &Gate| {
        let mut client = gate.connect();
        client.send(Request::get("/").bytes());
        client.try_response_to("GET").is_err()
    };
    assert!(refused(&gate), "there are more than one");
    kept.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200, "those that are there stay"));
    reload(&mut gate, &with("max_header_bytes: 8KB, connections: 100"));
    assert!(!refused(&gate));
}

#[test]
fn old_versions_of_tls_are_refused_from_then_on() {
    let authority = Authority::new();
    let from = |version: &str| {
        format!(
            "{SERVER}listeners:
  - {{ name: secure, address: $secure, tls: {{ min_version: \"{version}\", certificates: [{{ cert: $dir/a.crt, key: $dir/a.key }}] }} }}
routes: [{{ path: /, respond: {{ status: 200, body: here }} }}]
"
        )
    };
    let builder = Gate::with(&[]);
    authority.issue_into(builder.dir(), "a", &["localhost"]);
    let mut gate = builder.start(&from("1.2"));
    let (old, new) =
        (authority.client("localhost").version(&TLS12), authority.client("localhost").version(&TLS13));
    let mut kept = old.connect(gate.at("secure"));
    assert_eq!(kept.get("/").text(), "here");
    reload(&mut gate, &from("1.3"));
    assert!(old.try_connect(gate.at("secure")).is_err());
    assert_eq!(new.connect(gate.at("secure")).get("/").text(), "here");
    let last = kept.get("/");
    assert_eq!((last.text().as_str(), last.header("connection").as_deref()), ("here", Some("close")));
    reload(&mut gate, &from("1.2"));
    assert_eq!(old.connect(gate.at("secure")).get("/").text(), "here");
}

#[test]
fn a_server_is_trusted_as_the_new_configuration_says() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let builder = Origin::with("one");
    let name = builder.address().ip().to_string();
    let origin = builder.tls(trusted.issue(&[&name])).start();
    let with = |ca: &str| {
        format!(
            "{SERVER}listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [\"{}\"], retry: {{ attempts: 1 }}, tls: {{ ca: $dir/{ca}.crt }} }} }}
",
            origin.address()
        )
    };
    let gate = Gate::with(&[]).file("other.crt", other.pem()).file("trusted.crt", trusted.pem());
    let mut gate = gate.start(&with("other"));
    assert_eq!(gate.get("/").status, 502);
    assert!(origin.arrived().is_empty());
    reload(&mut gate, &with("trusted"));
    assert_eq!(gate.get("/").text(), "one");
    // a connection of before is there, and is not for those who trust somebody else
    reload(&mut gate, &with("other"));
    assert_eq!(gate.get("/").status, 502);
    // nor is it used without TLS
    reload(&mut gate, &with("other").replace(", tls: { ca: $dir/other.crt }", ""));
    assert_ne!(gate.get("/").status, 200);
    reload(&mut gate, &with("trusted"));
    assert_eq!(gate.get("/").text(), "one");
    assert_eq!(origin.arrived().len(), 2);
}
