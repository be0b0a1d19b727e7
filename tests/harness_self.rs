//! The harness tells the truth: its client and its backends against each other, without a gate between.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, BlackHole, Client, Load, RefusedAddress, Reply, Request, ServerAddress, eventually};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn a_backend_answers_with_its_label_and_remembers_the_request() {
    let a = Backend::start("a");
    let mut client = Client::connect(a.address());
    assert_eq!(client.get("/x").text(), "a");
    assert_eq!(client.ask(&Request::post("/y", "hello").header("X-One", "1")).status, 200);
    let requests = a.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].body, b"hello");
    assert_eq!(requests[1].header("x-one").as_deref(), Some("1"));
    assert_eq!(requests[1].connection, 0, "one connection was kept");
    assert_eq!(a.connections(), 1);
}

#[test]
fn a_backend_goes_wrong_as_told() {
    let a = Backend::start("a");
    let get = |client: &mut Client| {
        client.send(Request::get("/").bytes());
        client.try_response_to("GET")
    };
    a.answers(Reply::ok("chunked body").chunked().dripping(Duration::from_millis(1)));
    assert_eq!(Client::connect(a.address()).get("/").text(), "chunked body");
    a.answers(Reply::reset());
    assert!(get(&mut Client::connect(a.address())).is_err());
    a.answers(Reply::ok("0123456789").cut_short());
    assert!(get(&mut Client::connect(a.address())).is_err());
    a.answers(Reply::ok("bye").then_close());
    let mut client = Client::connect(a.address());
    assert_eq!(client.get("/").text(), "bye");
    assert!(client.until_closed().is_empty());
    a.answers(Reply::hang());
    assert!(
        Client::connect(a.address()).send(Request::get("/").bytes()).silent_for(Duration::from_millis(50))
    );
}

#[test]
fn health_is_kept_apart() {
    let a = Backend::start("a");
    assert_eq!(Client::connect(a.address()).get("/healthz").status, 200);
    a.health(Reply::status(500));
    assert_eq!(Client::connect(a.address()).get("/healthz").status, 500);
    assert!(a.requests().is_empty());
    assert_eq!(a.probes().len(), 2);
}

#[test]
fn a_backend_stops_and_comes_back() {
    let a = Backend::start("a");
    let mut kept = Client::connect(a.address());
    assert_eq!(kept.get("/").text(), "a");
    a.stop();
    assert!(kept.until_closed().is_empty());
    assert!(TcpStream::connect(a.address()).is_err());
    a.restart();
    eventually("the backend to be back", || TcpStream::connect(a.address()).is_ok());
}

#[test]
fn some_addresses_do_not_answer() {
    let refused = RefusedAddress::new("refused");
    let error = TcpStream::connect(refused.address()).expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let hole = BlackHole::new("hole");
    let error =
        TcpStream::connect_timeout(&hole.address(), Duration::from_millis(100)).expect_err("no answer");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn load_counts_every_request() {
    let a = Backend::start("a");
    let load = Load::start(a.address(), &Request::get("/"), 3, 20);
    load.wait_for(60);
    let outcomes = load.finish();
    assert_eq!(outcomes.len(), 60);
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(200)), "{outcomes:?}");
    assert_eq!(a.requests().len(), 60);
}
