//! The promise: routing, choosing a server, filters and the access log do not become dearer unnoticed. The real gate
//! serves requests under callgrind (Debian: valgrind), which counts instructions: unlike time they are the same on a
//! busy machine. The bounds are generous, and those of code that is not optimised, as tests are built: they are there to
//! find what became a multiple, such as a list that is walked through where a table was looked into. What requests
//! cost is measured by `benches/compare`.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Gate, Request, need_program};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What one call may take, in instructions: half as much again as on 2026-11-22 with Rust 1.95.
const BOUNDS: [(&str, u64); 6] = [
    ("weirgate::http::route::Router::position", 6_500),
    ("weirgate::upstream::group::Group::begin_any", 7_000),
    ("weirgate::filter::chain::Chain::upstream_request", 8_000),
    ("weirgate::filter::chain::Chain::response", 21_000),
    ("weirgate::observe::access_log::AccessLog::write", 70_000),
    ("weirgate::http::measure::ended", 16_500),
];
const REQUESTS: u64 = 200;
/// Everything takes fifty times as long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Many routes, so that walking through them would show.
fn config() -> String {
    let mut config = String::from(
        "server: { threads: 1 }
log: { access: { format: json, to: { file: $dir/access.log } } }
admin: { address: $admin }
listeners: [{ name: web, address: $web }]
filters:
  edge:
    - ip: { deny: [192.0.2.0/24] }
    - headers: { request: { set: { X-Edge: test } }, response: { set: { X-Gate: here } } }
upstreams: { api: { servers: [$one, $two, $three], balance: least_connections } }
routes:
  - { path: /, upstream: api, filters: [{ use: edge }] }
",
    );
    for number in 0..200 {
        writeln!(config, "  - {{ host: [h{number}.example.com], path: /a, upstream: api }}").unwrap();
        writeln!(config, "  - {{ path: /service/{number}, upstream: api, filters: [{{ use: edge }}] }}")
            .unwrap();
    }
    config
}

#[test]
fn what_is_done_for_a_request_does_not_become_a_multiple() {
    if !need_program("valgrind") {
        return;
    }
    let servers = ["one", "two", "three"].map(Backend::start);
    let [one, two, three] = &servers;
    let builder = Gate::with(&[one, two, three]);
    let (script, counted) = (builder.dir().join("counted.sh"), builder.dir().join("callgrind.out"));
    let text = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --callgrind-out-file={} --read-inline-info=no {} run -c \"$1\"\n",
        counted.display(),
        env!("CARGO_BIN_EXE_weirgate"),
    );
    let builder = builder.file("counted.sh", text);
    make_executable(&script);
    let gate = builder.program(script).launch(&config());
    wait(&gate, "the gate to listen", || TcpStream::connect(gate.at("web")).is_ok());
    // what is done for the first time takes longer than the harness waits for an answer
    wait(&gate, "an answer", || gate.connect().is_served("/"));
    let mut client = gate.connect();
    for number in 0..REQUESTS {
        let path = format!("/service/{}/users/42", number % 200);
        assert_eq!(client.ask(&Request::get(&path)).header("x-gate").as_deref(), Some("here"));
    }
    drop(client);
    gate.terminate();
    wait(&gate, "the gate to write what was counted", || {
        std::fs::read_to_string(&counted).is_ok_and(|text| text.contains("\ntotals: "))
    });
    let calls = calls(&std::fs::read_to_string(&counted).unwrap());
    let mut report = String::new();
    for (function, bound) in BOUNDS {
        let (count, instructions) = calls.get(function).copied().unwrap_or_default();
        assert!(count >= REQUESTS, "{function} was called {count} times: was it renamed?");
        let each = instructions / count;
        let judged = if each <= bound { "within" } else { "BEYOND" };
        writeln!(report, "{each:>7} instructions, {judged} {bound}: {function}").unwrap();
    }
    println!("{report}");
    assert!(!report.contains("BEYOND"), "\n{report}");
}

/// Waits longer than the harness does.
#[track_caller]
fn wait(gate: &Gate, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited for {what}: {}", gate.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// How often each function was called and what all calls took, with what they called, from a file of callgrind's
/// (Callgrind Format Specification 1.0): `cfn=(ID) NAME` names what is called, the name only the first time;
/// `calls=COUNT ...` is followed by a line that ends with what they took.
fn calls(text: &str) -> HashMap<String, (u64, u64)> {
    let mut names = HashMap::new();
    let mut all = HashMap::<String, (u64, u64)>::new();
    let (mut called, mut count) = (String::new(), None::<u64>);
    for line in text.lines() {
        if let Some(count) = count.take() {
            let took: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            let sum = all.entry(called.clone()).or_default();
            *sum = (sum.0 + count, sum.1 + took);
        } else if let Some(numbers) = line.strip_prefix("calls=") {
            count = numbers.split(' ').next().unwrap().parse().ok();
        } else if let Some((kind, function)) = line.split_once('=')
            && matches!(kind, "fn" | "cfn")
        {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(id.to_owned(), name.to_owned());
            }
            called = names.get(id).cloned().unwrap_or_default();
        }
    }
    all
}
