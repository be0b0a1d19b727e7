//! The promise: programs that speak UDP do not notice that there is a gate between, and it answers from the address that
//! they have asked.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "harness/udp.rs"]
mod udp;

use harness::{Program, ServerAddress, eventually, free_address, need_program, own_loopback, weirgate};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use udp::{UdpServer, UdpTester, start};

/// A name server with a zone of its own.
struct Dnsmasq {
    label: &'static str,
    address: SocketAddr,
    program: Program,
}

impl Dnsmasq {
    fn start(label: &'static str, dir: &Path) -> Dnsmasq {
        let address = free_address(own_loopback());
        let long = "x".repeat(200);
        let program = Program::start(
            Command::new("dnsmasq")
                .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
                .args(["--bind-interfaces", "--log-facility=-", "--user=", "--group=", "--local=/test/"])
                .arg(format!("--listen-address={}", address.ip()))
                .arg(format!("--port={}", address.port()))
                .arg(format!("--pid-file={}", dir.join(format!("{label}.pid")).display()))
                .arg("--host-record=www.example.test,192.0.2.7")
                .arg(format!("--txt-record=who.example.test,{label}"))
                // too long for a datagram: asked for again over TCP
                .arg(format!("--txt-record=long.example.test,{}", [long.as_str(); 20].join(",")))
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let server = Dnsmasq { label, address, program };
        eventually("dnsmasq answers", || dig(address, &["www.example.test"]).contains("192.0.2.7"));
        server
    }
}

impl ServerAddress for Dnsmasq {
    fn label(&self) -> &str {
        self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

fn dig(at: SocketAddr, question: &[&str]) -> String {
    let (host, port) = (format!("@{}", at.ip()), at.port().to_string());
    let asked = Command::new("dig")
        .args([host.as_str(), "-p", &port, "+short", "+time=1", "+tries=3"])
        .args(question)
        .output()
        .unwrap();
    String::from_utf8_lossy(&asked.stdout).into_owned()
}

#[test]
fn names_are_resolved_over_udp_and_tcp_and_the_second_server_takes_over() {
    if ["dnsmasq", "dig"].iter().any(|program| !need_program(program)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut first, second) = (Dnsmasq::start("first", dir.path()), Dnsmasq::start("second", dir.path()));
    let gate = start(
        "log: { access: { format: json, to: stdout } }
listeners:
  - { name: udp, address: $dns, udp: { upstream: dns, responses: 1, timeouts: { idle: 3s } } }
  - { name: tcp, address: $dns, tcp: { upstream: dns } }
upstreams:
  dns: { servers: [$first, { address: $second, priority: 1 }], health_check: { tcp: {}, interval: 200ms, unhealthy_after: 1 } }
",
        &[&first, &second],
    );
    let at = gate.at("dns");
    assert_eq!(dig(at, &["www.example.test"]).trim(), "192.0.2.7");
    assert_eq!(dig(at, &["+tcp", "www.example.test"]).trim(), "192.0.2.7");
    // cut short over UDP, and asked for again over TCP
    assert_eq!(dig(at, &["long.example.test", "TXT"]).matches("xxxx").count() / 50, 20);
    let spoken = |protocol: &str| gate.logged(|line| line["protocol"] == protocol && line["status"] == 200);
    assert_eq!(spoken("UDP")["ended"], "responses_complete");
    assert_eq!(spoken("TCP")["listener"], "tcp");
    assert!(dig(at, &["who.example.test", "TXT"]).contains("first"));
    first.program.kill();
    // at once, by what the network says, and for good by the check
    assert!(dig(at, &["who.example.test", "TXT"]).contains("second"));
    eventually("it is down", || gate.stderr().contains("is down"));
    assert!(dig(at, &["+tcp", "who.example.test", "TXT"]).contains("second"));
}

/// The question for the name servers of the root: an identification, that recursion is desired, one question; `.`, `NS`, `IN`.
const QUESTION: &str = "beef 0100 0001 0000 0000 0000 00 0002 0001";

#[test]
fn a_question_of_dns_finds_out_which_name_server_answers() {
    if ["dnsmasq", "dig"].iter().any(|program| !need_program(program)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut first, second) = (Dnsmasq::start("first", dir.path()), Dnsmasq::start("second", dir.path()));
    // the same identification, and that it is an answer: whatever it says
    let check = format!("udp: {{ send: {{ hex: {QUESTION} }}, expect: {{ hex: be ef 81 }} }}");
    let config = format!(
        "listeners: [{{ name: udp, address: $dns, udp: {{ upstream: dns, responses: 1 }} }}]
upstreams:
  dns:
    servers: [$first, {{ address: $second, priority: 1 }}]
    health_check: {{ {check}, interval: 200ms, timeout: 5s, unhealthy_after: 1, initial: down }}
"
    );
    let gate = start(&config, &[&first, &second]);
    let who = || dig(gate.at("dns"), &["who.example.test", "TXT"]);
    eventually("the first answers its check", || who().contains("first"));
    first.program.kill();
    eventually("it is down", || gate.stderr().contains("is down: nobody takes datagrams at its port (ICMP)"));
    assert!(who().contains("second"));
}

/// A socket on all addresses that only the loopback device leads to, handed to the gate as a service manager does it.
#[test]
fn on_all_addresses_the_one_that_was_asked_answers() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    if socket.bind_device(Some(b"lo")).is_err() {
        println!("SKIPPED: sockets cannot be bound to a device here");
        return;
    }
    socket.bind(&"0.0.0.0:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let one = UdpServer::start("one");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weirgate.yaml");
    let config = format!(
        "server: {{ threads: 2 }}
listeners: [{{ name: dns, address: \"0.0.0.0:{port}\", udp: {{ upstream: dns }} }}]
upstreams: {{ dns: {{ servers: [{}] }} }}
",
        one.address()
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" run -c \"$1\""])
        .arg(weirgate(&[]).get_program())
        .arg(&file)
        .env("LISTEN_FDS", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let descriptor = socket.as_raw_fd();
    // SAFETY: dup2 may be called between fork and exec, and the descriptor is open.
    unsafe {
        command.pre_exec(move || {
            // out of the way first: it may have this number already, and be closed with the start of the program
            match libc::dup2(libc::fcntl(descriptor, libc::F_DUPFD, 100), 3) {
                3 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let _gate = Program::start(&mut command);
    drop(socket);
    for asked in ["127.0.0.1", "127.45.6.7", "127.200.0.1"] {
        // it is connected to what it asks, and hears nobody else
        let client = UdpTester::to(SocketAddr::new(asked.parse::<IpAddr>().unwrap(), port));
        assert_eq!(client.ask("hello"), "one: hello");
    }
    assert_eq!(one.clients(), 3);
}
