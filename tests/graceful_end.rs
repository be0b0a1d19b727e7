//! The promise: SIGTERM ends the gate when the last client has what it asked for, and at the latest at the deadline.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Client, Gate, RawServer, Reply, Request, eventually, read_head};
use std::io::{Read, Write};
use std::time::Duration;

const ONE_SECOND: &str = "server: { grace_period_seconds: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn an_answer_under_way_says_that_it_is_the_last() {
    let api = Backend::start("api");
    api.answers(Reply::ok("finished").after(Duration::from_millis(700)));
    let gate = Gate::start(&ONE_SECOND.replace("seconds: 1", "seconds: 10"), &[&api]);
    let mut client = gate.connect();
    client.send(Request::get("/").bytes());
    eventually("the request to reach the server", || !api.requests().is_empty());
    gate.terminate();
    eventually("the gate to have heard", || gate.stderr().contains("no new connections"));
    let answer = client.response();
    assert_eq!(
        (answer.text(), answer.header("connection")),
        ("finished".to_owned(), Some("close".to_owned()))
    );
    assert!(client.until_closed().is_empty());
    assert_eq!(gate.exit().code(), Some(0));
    assert!(!gate.stderr().contains("cut"), "{}", gate.stderr());
}

/// A request that comes on a connection that was in use a moment ago is answered and not reset.
#[test]
fn a_connection_in_use_gets_one_more_answer() {
    let api = Backend::start("api");
    api.answers(Reply::ok("here"));
    let gate = Gate::start(&ONE_SECOND.replace("seconds: 1", "seconds: 10"), &[&api]);
    for _ in 0..5 {
        gate.get("/");
    }
    let mut client = gate.connect();
    assert_eq!(client.get("/").header("connection").as_deref(), Some("keep-alive"));
    gate.terminate();
    eventually("the gate to have heard", || gate.stderr().contains("no new connections"));
    let last = client.get("/");
    assert_eq!((last.text(), last.header("connection")), ("here".to_owned(), Some("close".to_owned())));
    assert!(client.until_closed().is_empty());
    assert_eq!(gate.exit().code(), Some(0));
}

/// A server that switches protocols, says this, and then nothing more.
fn chatty(says: &'static [u8]) -> RawServer {
    RawServer::start("api", move |mut stream| {
        if !read_head(&mut stream).is_empty() {
            let _ = stream.write_all(&[SWITCHING, says].concat());
            let _ = stream.read(&mut [0; 16]);
        }
    })
}

/// What a WebSocket's client reads after the switch until its connection is closed at the deadline.
fn at_the_deadline(says: &'static [u8]) -> Vec<u8> {
    let api = chatty(says);
    let gate = Gate::start(ONE_SECOND, &[&api]);
    let mut client = gate.connect();
    client.send(UPGRADE);
    assert_eq!(client.response().status, 101);
    assert_eq!(client.read_exactly(says.len()).expect("what the server says"), says);
    gate.terminate();
    let rest = client.until_closed();
    assert_eq!(gate.exit().code(), Some(0));
    assert!(gate.stderr().contains("stopped; 1 connection was cut"), "{}", gate.stderr());
    assert_eq!(gate.logged_path("/chat")["status"], 101);
    rest
}

#[test]
fn a_websocket_is_closed_with_1001_at_the_deadline() {
    assert_eq!(at_the_deadline(b"\x81\x05hello"), [0x88, 0x02, 0x03, 0xe9]);
}

#[test]
fn nothing_is_put_into_a_half_sent_frame() {
    assert!(at_the_deadline(b"\x81\x05hel").is_empty());
}

#[test]
fn a_request_that_is_cut_at_the_deadline_is_in_the_access_log() {
    let api = Backend::start("api");
    api.answers(Reply::hang());
    let gate = Gate::start(ONE_SECOND, &[&api]);
    let mut client = gate.connect();
    client.send(Request::get("/endless").bytes());
    eventually("the request to reach the server", || !api.requests().is_empty());
    gate.terminate();
    assert!(client.until_closed().is_empty());
    assert_eq!(gate.exit().code(), Some(0));
    assert!(gate.stderr().contains("stopped; 1 connection was cut"), "{}", gate.stderr());
    gate.logged_path("/endless");
}

#[test]
fn it_serves_on_for_the_shutdown_delay() {
    let api = Backend::start("api");
    api.answers(Reply::ok("here"));
    let config = ONE_SECOND.replace("seconds: 1", "seconds: 10, shutdown_delay: 2s");
    let gate = Gate::start(&config, &[&api]);
    gate.terminate();
    eventually("the gate to have heard", || gate.stderr().contains("the end begins in 2s"));
    for _ in 0..5 {
        let answer = Client::connect(gate.at("web")).get("/");
        assert_eq!(
            (answer.text(), answer.header("connection").as_deref()),
            ("here".to_owned(), Some("keep-alive"))
        );
    }
    assert_eq!(gate.exit().code(), Some(0));
    assert!(gate.stderr().contains("SIGTERM: no new connections"), "{}", gate.stderr());
    let log = gate.stderr();
    assert!(log.find("the end begins") < log.find("no new connections"), "{log}");
}
