//! The promise: a gate starts completely or says in one go why not, with an exit code that scripts can use
//! (0 ended as asked, 1 could not run, 64 bad usage or configuration), and ends without dropping a request.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Checked, Client, Gate, Reply, Request, eventually, free_address, own_loopback,
    weirgate,
};
use std::time::Duration;

const SIMPLE: &str = "
listeners: [{ name: web, address: $web }]
routes: [{ path: /, respond: { body: here } }]
";

#[test]
fn a_second_gate_on_the_same_address_does_not_start() {
    let first = Gate::start(SIMPLE, &[]);
    let address = first.at("web").to_string();
    let second = Gate::with(&[]).set("web", &address).launch(SIMPLE);
    assert_eq!(second.exit().code(), Some(1), "{}", second.stderr());
    let said = second.stderr();
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    for _ in 0..20 {
        assert_eq!(first.get("/").text(), "here", "the first is not disturbed");
    }
}

/// Buffers have more room than is mostly used: in pages of 2 MB all of it would be in memory (decision 040).
#[test]
fn memory_comes_in_small_pages() {
    let gate = Gate::start(SIMPLE, &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.id())).unwrap();
    // a kernel without large pages has no such line
    let line = status.lines().find(|line| line.starts_with("THP_enabled:"));
    assert!(line.is_none_or(|line| line.ends_with('0')), "{line:?}");
}

#[test]
fn one_address_that_cannot_be_had_stops_the_whole_start() {
    let blocker = Backend::start("blocker");
    let gate = Gate::with(&[&blocker]).launch(
        "listeners: [{ name: web, address: $web }, { name: taken, address: $blocker }]
routes: [{ path: /, respond: { body: here } }]
",
    );
    assert_eq!(gate.exit().code(), Some(1), "{}", gate.stderr());
    assert!(gate.stderr().contains("taken"), "the message names the listener: {}", gate.stderr());
}

#[test]
fn an_address_that_is_not_of_this_machine() {
    let gate = Gate::with(&[]).launch(&SIMPLE.replace("$web", "192.0.2.1:8080"));
    assert_eq!(gate.exit().code(), Some(1), "{}", gate.stderr());
    assert!(gate.stderr().contains("192.0.2.1:8080"), "{}", gate.stderr());
}

#[test]
fn a_bad_configuration_is_64_and_the_same_words_as_check() {
    let config = SIMPLE.replace("respond:", "repsond:");
    let builder = Gate::with(&[]);
    let checked = builder.check(&config, &[]);
    assert_eq!(checked.code, Some(64));
    let gate = builder.launch(&config);
    assert_eq!(gate.exit().code(), Some(64), "{}", gate.stderr());
    assert!(gate.stderr().contains("repsond"), "{}", gate.stderr());
    assert!(
        checked.text().contains("did you mean `respond`?") || checked.text().contains("respond"),
        "{checked:?}"
    );
}

#[test]
fn a_bad_certificate_is_64() {
    let authority = Authority::new();
    let (cert, _) = authority.issue(&["localhost"]);
    let gate = Gate::with(&[]).file("a.crt", cert).file("a.key", "no key").launch(
        "listeners: [{ name: secure, address: $secure, tls: { certificates: [{ cert: $dir/a.crt, key: $dir/a.key }] } }]
routes: [{ path: /, respond: { body: here } }]
",
    );
    assert_eq!(gate.exit().code(), Some(64), "{}", gate.stderr());
    assert!(gate.stderr().contains("a.key"), "{}", gate.stderr());
}

#[test]
fn a_missing_configuration_and_bad_usage_are_64() {
    for arguments in [
        &["run", "-c", "/nonexistent/weirgate.yaml"][..],
        &["check", "-c", "/nonexistent/weirgate.yaml"],
        &["rnu"],
        &["run", "--no-such-option"],
    ] {
        let said = Checked::of(&mut weirgate(arguments));
        assert_eq!(said.code, Some(64), "{arguments:?}: {said:?}");
        assert!(!said.text().is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_0() {
    for argument in ["--help", "--version"] {
        let said = Checked::of(&mut weirgate(&[argument]));
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.stdout.contains("weirgate"), "{said:?}");
    }
}

#[test]
fn sigterm_ends_it_with_0_and_frees_the_address() {
    let gate = Gate::start(SIMPLE, &[]);
    assert_eq!(gate.get("/").status, 200);
    gate.terminate();
    assert_eq!(gate.exit().code(), Some(0), "{}", gate.stderr());
    let again = Gate::with(&[]).set("web", &gate.at("web").to_string()).launch(SIMPLE);
    eventually("the same address served again", || std::net::TcpStream::connect(gate.at("web")).is_ok());
    assert_eq!(Client::connect(gate.at("web")).get("/").text(), "here");
    drop(again);
}

#[test]
fn a_request_under_way_is_finished_after_sigterm() {
    let api = Backend::start("api");
    api.answers(Reply::ok("finished").after(Duration::from_millis(700)));
    let gate = Gate::start(
        "server: { grace_period_seconds: 10 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    let mut client = gate.connect();
    let mut idle = gate.connect();
    assert_eq!(idle.get("/").text(), "finished");
    api.forget();
    client.send(Request::get("/").bytes());
    eventually("the request to reach the server", || !api.requests().is_empty());
    gate.terminate();
    assert_eq!(client.response().text(), "finished");
    assert!(idle.until_closed().is_empty(), "idle connections end");
    assert_eq!(gate.exit().code(), Some(0));
}

/// A gate that may take this long to end, with a request that never does, and its client.
fn with_an_endless_request(seconds: u32) -> (Gate, Client) {
    let api = Backend::start("api");
    api.answers(Reply::hang());
    let gate = Gate::start(
        &format!(
            "server: {{ grace_period_seconds: {seconds}, graceful_shutdown_timeout_seconds: {seconds} }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: api }}]
upstreams: {{ api: {{ servers: [$api] }} }}
"
        ),
        &[&api],
    );
    let mut client = gate.connect();
    client.send(Request::get("/").bytes());
    eventually("the request to reach the server", || !api.requests().is_empty());
    (gate, client)
}

#[test]
fn a_request_that_does_not_end_is_given_up_after_the_grace_period() {
    let (gate, _client) = with_an_endless_request(1);
    gate.terminate();
    assert_eq!(gate.exit().code(), Some(0), "{}", gate.stderr());
}

#[test]
fn sigint_waits_for_nobody() {
    let (gate, _client) = with_an_endless_request(600);
    gate.interrupt();
    assert_eq!(gate.exit().code(), Some(0), "{}", gate.stderr());
}

#[test]
fn a_daemon_serves_and_has_given_up_root_altogether() {
    // SAFETY: asks the kernel, and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let user = if root { ", user: nobody" } else { "" };
    let gate = Gate::with(&[]).launch(&format!(
        "server: {{ threads: 1, daemon: true, pid_file: $dir/gate.pid, error_log: $dir/error.log{user} }}\n\
         log: {{ access: {{ to: off }} }}\n{SIMPLE}"
    ));
    assert_eq!(gate.exit().code(), Some(0), "the process that was started: {}", gate.stderr());
    let file = gate.dir().join("gate.pid");
    let mut daemon = None;
    eventually("the pid file", || {
        daemon = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<i32>().ok());
        daemon.is_some()
    });
    let daemon = daemon.expect("a process id");
    eventually("the daemon to serve", || std::net::TcpStream::connect(gate.at("web")).is_ok());
    let answer = gate.get("/").text();
    let status = std::fs::read_to_string(format!("/proc/{daemon}/status")).unwrap_or_default();
    // SAFETY: the daemon that this test started, named by its own pid file.
    unsafe { libc::kill(daemon, libc::SIGTERM) };
    eventually("the daemon to end", || !std::path::Path::new(&format!("/proc/{daemon}")).exists());
    assert_eq!(answer, "here");
    if root && !status.is_empty() {
        for ids in status.lines().filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:")) {
            assert!(!ids.split_whitespace().skip(1).any(|id| id == "0"), "{ids}");
        }
    }
}

#[test]
fn the_pid_file_names_the_process_and_is_removed_at_the_end() {
    let gate = Gate::start(&format!("server: {{ pid_file: $dir/gate.pid }}\n{SIMPLE}"), &[]);
    let file = gate.dir().join("gate.pid");
    let id = gate.id().to_string();
    eventually("the pid file", || std::fs::read_to_string(&file).is_ok_and(|text| text.trim() == id));
    gate.terminate();
    assert_eq!(gate.exit().code(), Some(0));
    assert!(!file.exists());
}

#[test]
fn an_access_log_that_cannot_be_written_is_found_before_serving() {
    let gate = Gate::with(&[])
        .launch(&format!("log: {{ access: {{ to: {{ file: /nonexistent/dir/access.log }} }} }}\n{SIMPLE}"));
    let code = gate.exit().code();
    assert!(matches!(code, Some(1 | 64)), "{code:?}: {}", gate.stderr());
    assert!(gate.stderr().contains("/nonexistent/dir"), "{}", gate.stderr());
}

#[test]
fn redirect_https_sends_everything_to_tls_but_what_names_the_listener() {
    let authority = Authority::new();
    let gate = Gate::with(&[]).certified(&authority).start(
        "listeners:
  - { name: web, address: $web, redirect_https: true }
  - { name: secure, address: $secure, $tls }
routes:
  - { path: /, respond: { body: here } }
  - { exact: /ping, listeners: [web], respond: { body: pong } }
",
    );
    let sent = gate.ask(&Request::get("/a/b?c=d").host("localhost:8080"));
    assert!(matches!(sent.status, 301 | 308), "{sent:?}");
    let port = gate.at("secure").port();
    assert_eq!(sent.header("location"), Some(format!("https://localhost:{port}/a/b?c=d")));
    let missing = gate.ask(&Request::get("/missing").host("localhost"));
    assert!(missing.header("location").is_some_and(|to| to.starts_with("https://localhost")), "{missing:?}");
    assert_eq!(gate.get("/ping").text(), "pong", "a route that names the listener is exempt");
    assert_eq!(authority.client("localhost").connect(gate.at("secure")).get("/a/b").text(), "here");
}

#[test]
fn redirect_https_names_the_port_that_it_is_told() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, redirect_https: { port: 443, status: 301 } }]
routes: [{ path: /, respond: { body: here } }]
",
        &[],
    );
    let sent = gate.ask(&Request::get("//evil.test/%0d%0aX:y").host("shop.test"));
    if sent.status == 301 {
        let location = sent.header("location").unwrap_or_default();
        assert!(location.starts_with("https://shop.test/"), "{sent:?}");
    }
    assert_eq!(
        gate.ask(&Request::get("/a").host("shop.test:80")).header("location").as_deref(),
        Some("https://shop.test/a")
    );
}

#[test]
fn environment_and_includes_are_read() {
    let address = free_address(own_loopback());
    let gate = Gate::with(&[])
        .env("GATE_WORD", "from the environment")
        .file("more.yaml", "routes: [{ exact: /more, respond: { body: more } }]\n")
        .set("web", &address.to_string())
        .launch(
            "include: more.yaml
listeners: [{ name: web, address: $web }]
routes:
  - { exact: /env, respond: { body: \"${GATE_WORD} ${GATE_MISSING:-and a default} $${{kept}}\" } }
",
        );
    eventually("the gate to listen", || std::net::TcpStream::connect(address).is_ok());
    let body = Client::connect(address).get("/env").text();
    assert_eq!(body, "from the environment and a default ${kept}");
    assert_eq!(Client::connect(address).get("/more").text(), "more");
    drop(gate);
}
