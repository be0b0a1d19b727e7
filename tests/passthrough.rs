//! The promise: a name that is passed on unopened reaches its own server, whose certificate the client sees, and other names
//! of the same listener are served here.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Gate, Origin, PATIENCE, Request, eventually, need_program};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

const CONFIG: &str = "
log: { access: { format: json, to: stdout } }
listeners:
  - name: secure
    address: $web
    limits: { tls_handshake_timeout: 3s }
    tls:
      certificates: [{ cert: $dir/gate.crt, key: $dir/gate.key }]
      passthrough: { raw.test: raw, \"*.many.test\": raw }
      unknown_names: refuse
routes: [{ path: /, respond: { status: 200, body: \"opened for {host}\" } }]
upstreams: { raw: { servers: [$raw] } }
";

/// The gate's authority and that of the server behind it.
struct Both {
    gates: Authority,
    servers: Authority,
    raw: Origin,
}

impl Both {
    fn new() -> Both {
        let servers = Authority::new();
        let pair = servers.issue(&["raw.test", "a.many.test", "gate.test"]);
        Both { gates: Authority::new(), raw: Origin::with("raw").tls(pair).start(), servers }
    }

    fn gate(&self, config: &str) -> Gate {
        let builder = Gate::with(&[&self.raw]);
        self.gates.issue_into(builder.dir(), "gate", &["gate.test"]);
        builder.start(config)
    }
}

fn lines(gate: &Gate) -> Vec<serde_json::Value> {
    gate.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn some_names_are_opened_and_others_are_not() {
    let both = Both::new();
    let gate = both.gate(CONFIG);
    for name in ["raw.test", "a.many.test"] {
        let mut client =
            both.servers.client(name).try_connect(gate.at("web")).expect("the server's certificate");
        assert_eq!(client.ask(&Request::get("/x").host(name)).text(), "raw");
    }
    let arrived = both.raw.arrived();
    let sni: Vec<_> = arrived.iter().map(|request| request.sni.clone().unwrap_or_default()).collect();
    assert_eq!(sni, ["raw.test", "a.many.test"]);
    let mut client =
        both.gates.client("gate.test").try_connect(gate.at("web")).expect("the gate's certificate");
    assert_eq!(client.ask(&Request::get("/x").host("gate.test")).text(), "opened for gate.test");
    // what is passed on is not served on a connection that was opened for another name
    let mut client = both.gates.client("gate.test").connect(gate.at("web"));
    assert_eq!(client.ask(&Request::get("/x").host("raw.test")).status, 421);
    let unknown = both.gates.client("other.test").try_connect(gate.at("web"));
    assert!(unknown.is_err(), "it is refused");
    eventually("the access log", || lines(&gate).iter().any(|line| line["sni"] == "raw.test"));
    let all = lines(&gate);
    let line = all.iter().find(|line| line["sni"] == "raw.test").unwrap();
    assert_eq!((&line["protocol"], &line["upstream"]), (&"TCP".into(), &"raw".into()), "{line}");
    assert!(line["tls"].is_null(), "nobody here knows: {line}");
}

#[test]
fn what_clients_offer_decides_before_names_and_certificates() {
    let both = Both::new();
    let by_protocol = CONFIG.replace(
        "{ raw.test: raw, \"*.many.test\": raw }",
        "[{ alpn: [acme-tls/1], upstream: raw }, { names: [gate.test], alpn: [xmpp-client], upstream: raw }]",
    );
    let gate = both.gate(&by_protocol);
    let server_of = |name: &str, alpn: &[&str]| {
        let asks = |authority: &Authority| {
            let connected = authority.client(name).alpn(alpn).try_connect(gate.at("web"));
            connected.is_ok_and(|mut client| client.ask(&Request::get("/x").host(name)).status == 200)
        };
        let (gates, servers) = (asks(&both.gates), asks(&both.servers));
        (gates, servers)
    };
    let (here, there, nowhere) = ((true, false), (false, true), (false, false));
    assert_eq!(server_of("gate.test", &["http/1.1"]), here);
    assert_eq!(server_of("gate.test", &[]), here);
    assert_eq!(server_of("raw.test", &["http/1.1"]), nowhere, "it is for one protocol only");
    assert_eq!(server_of("raw.test", &["acme-tls/1"]), there);
    assert_eq!(server_of("a.many.test", &["http/1.1", "acme-tls/1"]), there, "one of them is enough");
    assert_eq!(server_of("raw.test", &["xmpp-client"]), nowhere, "that is for another name");
    assert_eq!(server_of("gate.test", &["xmpp-client"]), there);
    let table = gate.command(&["routes"]).stdout;
    assert!(table.contains("alpn: [xmpp-client]"), "{table}");
    let asked = gate.command(&["explain", "GET", "https://gate.test/", "--listener", "secure"]);
    assert!(!asked.stdout.contains("passes on"), "{}", asked.text());
    let note = "clients that offer xmpp-client are passed on to raw unopened";
    assert!(asked.stdout.contains(note), "{}", asked.text());
}

#[test]
fn curl_sees_the_servers_own_certificate() {
    if !need_program("curl") {
        return;
    }
    let both = Both::new();
    let gate = both.gate(CONFIG);
    let ask = |name: &str, authority: &Authority| {
        let ca = gate.dir().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let at = gate.at("web");
        let output = Command::new("curl")
            .args(["-s", "--max-time", "20", "--cacert"])
            .arg(&ca)
            .args(["--resolve", &format!("{name}:{}:{}", at.port(), at.ip())])
            .arg(format!("https://{name}:{}/x", at.port()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ask("raw.test", &both.servers), "raw");
    assert_eq!(ask("raw.test", &both.gates), "", "the gate has no certificate for it");
    assert!(ask("gate.test", &both.gates).starts_with("opened for gate.test"));
}

/// Completes a handshake whose hello is sent in these pieces.
fn slowly(both: &Both, at: SocketAddr, pieces: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> String {
    let mut session = both.servers.client("raw.test").session();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for piece in pieces(&hello) {
        socket.write_all(&piece).unwrap();
        std::thread::sleep(Duration::from_micros(500));
    }
    let mut tls = rustls::StreamOwned::new(session, socket);
    tls.write_all(b"GET /x HTTP/1.1\r\nHost: raw.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(count) = tls.read(&mut piece) {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..count]);
        if answer.ends_with(b"raw") {
            break;
        }
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_hello_in_single_bytes_and_over_many_records_is_understood() {
    let both = Both::new();
    let gate = both.gate(CONFIG);
    let bytes = |hello: &[u8]| hello.chunks(1).map(<[u8]>::to_vec).collect();
    assert!(slowly(&both, gate.at("web"), bytes).ends_with("raw"));
    let records = |hello: &[u8]| {
        let record = |piece: &[u8]| {
            [&[22, 3, 1][..], &u16::try_from(piece.len()).unwrap().to_be_bytes(), piece].concat()
        };
        hello[5..].chunks(50).map(record).collect()
    };
    assert!(slowly(&both, gate.at("web"), records).ends_with("raw"));
}

#[test]
fn who_never_says_what_it_wants_is_cut_off() {
    let both = Both::new();
    let gate = both.gate(&CONFIG.replace("tls_handshake_timeout: 3s", "tls_handshake_timeout: 300ms"));
    let hello = both.servers.client("raw.test").hello();
    for beginning in [&b""[..], &hello[..3], &hello[..hello.len() - 1], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut socket = TcpStream::connect(gate.at("web")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(beginning).unwrap();
        let mut rest = Vec::new();
        // at most an alert
        assert!(socket.read_to_end(&mut rest).is_err() || rest.len() <= 7, "{rest:?}");
    }
    assert!(both.raw.arrived().is_empty());
}

#[test]
fn all_other_names_and_none_can_be_passed_on() {
    let both = Both::new();
    let others = "
listeners: [{ name: secure, address: $web, tls: { passthrough: { \"*\": raw } } }]
upstreams: { raw: { servers: [$raw] } }
";
    let gate = both.gate(others);
    let mut client = both.servers.client("raw.test").connect(gate.at("web"));
    assert_eq!(client.ask(&Request::get("/x").host("raw.test")).text(), "raw");
    let asked = gate.command(&["explain", "GET", "https://any.test/", "--listener", "secure"]);
    assert!(asked.stdout.contains("to raw (round_robin"), "{}", asked.text());
    assert!(gate.command(&["routes"]).stdout.contains("tls "), "it is in the table");
}

#[test]
fn tls_is_ended_for_some_names_in_front_of_a_plain_server() {
    let both = Both::new();
    let mixed = "
listeners:
  - name: secure
    address: $web
    tcp: { upstream: plain }
    tls: { certificates: [{ cert: $dir/gate.crt, key: $dir/gate.key }], passthrough: { raw.test: raw } }
  - { name: inner, address: $inner }
routes: [{ path: /, respond: { status: 200, body: inner } }]
upstreams: { raw: { servers: [$raw] }, plain: { servers: [$inner] } }
";
    let gate = both.gate(mixed);
    let mut client = both.servers.client("raw.test").connect(gate.at("web"));
    assert_eq!(client.ask(&Request::get("/x").host("raw.test")).text(), "raw");
    let mut client = both.gates.client("gate.test").connect(gate.at("web"));
    assert_eq!(client.ask(&Request::get("/x").host("gate.test")).text(), "inner");
}
