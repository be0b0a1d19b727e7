//! The promise: programs that people have in front of their databases do not notice that there is a gate between.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Gate, Program, ServerAddress, eventually, free_address, need_program, own_loopback};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// A program that listens at an address of its own.
struct Listening {
    label: &'static str,
    address: SocketAddr,
    program: Program,
}

impl ServerAddress for Listening {
    fn label(&self) -> &str {
        self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

fn redis(label: &'static str, dir: &tempfile::TempDir) -> Listening {
    let address = free_address(own_loopback());
    let program = Program::start(
        Command::new("redis-server")
            .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null()),
    );
    eventually("redis listens", || TcpStream::connect(address).is_ok());
    Listening { label, address, program }
}

fn said(program: &str, at: SocketAddr, arguments: &[&str]) -> String {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let output = Command::new(program).args(["-h", &host, "-p", &port]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{complaints}");
    text
}

#[test]
fn redis_is_spoken_to_and_its_second_takes_over() {
    if ["redis-server", "redis-cli", "redis-benchmark"].iter().any(|program| !need_program(program)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut first, second) = (redis("first", &dir), redis("second", &dir));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, tcp: { upstream: redis } }]
upstreams:
  redis: { servers: [$first, { address: $second, priority: 1 }], health_check: { tcp: {}, interval: 200ms, unhealthy_after: 1 } }
",
        &[&first, &second],
    );
    let at = gate.at("web");
    let big = "x".repeat(100_000);
    assert_eq!(said("redis-cli", at, &["SET", "big", &big]).trim(), "OK");
    assert_eq!(said("redis-cli", at, &["GET", "big"]).trim(), big);
    let measured = said(
        "redis-benchmark",
        at,
        &["-n", "3000", "-c", "20", "-P", "4", "-t", "set,get,lrange_100", "--csv"],
    );
    assert!(measured.contains("\"SET\"") && measured.contains("\"GET\""), "{measured}");
    first.program.kill();
    eventually("the second", || {
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        let ask =
            Command::new("redis-cli").args(["-h", &host, "-p", &port, "EXISTS", "big"]).output().unwrap();
        ask.stdout.trim_ascii() == b"0"
    });
}
