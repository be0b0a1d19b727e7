use super::setup::{Gate, PATIENCE, change, listener, millis};
use crate::config::file::ListenerLimits;
use crate::config::plan;
use crate::edge::Edge;
use crate::units::Size;
use std::sync::Arc;

fn with(limits: ListenerLimits) -> plan::Listener {
    plan::Listener { limits, ..listener() }
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_answered_408() {
    let limits = ListenerLimits { header_timeout: millis(300), ..ListenerLimits::default() };
    let gate = Gate::start(with(limits));
    for start in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        let answer = gate.exchange(start.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{start:?}: {answer}");
    }
    // a byte now and then does not help
    let mut client = gate.connect().await;
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().chain(std::iter::repeat_n(&b'y', 1000)) {
            if tokio::io::AsyncWriteExt::write_all(&mut client.0, &[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("never cut off");
    };
    tokio::time::timeout(PATIENCE, drip).await.unwrap();
    // and the deadline of a second request counts from its own first byte
    let mut client = gate.connect().await;
    assert!(client.get("/").await.starts_with("HTTP/1.1 200"));
    client.send("GET").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let limits = ListenerLimits { idle_timeout: millis(300), ..ListenerLimits::default() };
    let gate = Gate::start(with(limits));
    let mut client = gate.connect().await;
    assert_eq!(client.rest().await, "");
    let mut client = gate.connect().await;
    assert!(client.get("/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn heads_above_the_limits_are_refused() {
    let limits = ListenerLimits {
        max_header_bytes: Size(2000),
        max_headers: 5,
        max_uri_bytes: Size(100),
        ..ListenerLimits::default()
    };
    let gate = Gate::start(with(limits));
    let long = "x".repeat(101);
    let big = "x".repeat(2000);
    let many = "X: y\r\n".repeat(5);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET /{}", big.repeat(50)), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {big}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", big.repeat(50)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
    ] {
        let answer = gate.exchange(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{} bytes: {answer}", request.len());
    }
    let mut client = gate.connect().await;
    let many = "X: y\r\n".repeat(4);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await;
    assert!(client.response().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_stops_ends_its_request() {
    let limits = ListenerLimits { body_timeout: millis(300), ..ListenerLimits::default() };
    let gate = Gate::start(with(limits));
    let answer = gate.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab").await;
    assert_eq!(answer, "");
}

/// A client that asks for much and reads nothing.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits = ListenerLimits { send_timeout: millis(300), ..ListenerLimits::default() };
    let gate = Gate::start(with(limits));
    let mut client = gate.connect().await;
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4)).await;
    let gone = async {
        while gate.open.count() == 0 {
            tokio::task::yield_now().await;
        }
        while gate.open.count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("cut off");
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_at_once() {
    let limits = ListenerLimits { connections: 2, ..ListenerLimits::default() };
    let gate = Gate::start(with(limits));
    let (mut first, mut second) = (gate.connect().await, gate.connect().await);
    assert!(first.get("/").await.starts_with("HTTP/1.1 200"));
    assert!(second.get("/").await.starts_with("HTTP/1.1 200"));
    let mut third = gate.connect().await;
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut third.0, &mut byte);
    let read = tokio::time::timeout(PATIENCE, read).await.expect("closed");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(first);
    // its place is free as soon as the gate has seen it leave
    let again = async {
        loop {
            let mut client = gate.connect().await;
            let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, request).await;
            let mut answer = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut client.0, &mut answer).await;
            if answer.starts_with(b"HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place for a new connection");
}

#[test]
fn a_second_gate_on_the_address_is_an_error() {
    let first = Edge::new(3);
    change(&first, &[listener()]).unwrap();
    let address = first.listeners()[0].address.clone();
    let same = plan::Listener { address: address.clone(), name: "again".to_string(), ..listener() };
    for workers in [1, 3] {
        let error = change(&Edge::new(workers), std::slice::from_ref(&same)).err().unwrap().to_string();
        assert!(error.contains(&format!("listener `again`: address {address} is in use")), "{error}");
        assert!(error.contains("choose another port"), "{error}");
    }
    first.shut_down();
    change(&Edge::new(3), &[same]).unwrap();
}

#[test]
fn every_address_that_cannot_be_had_is_reported() {
    let foreign = Arc::new(plan::Listener {
        address: std::net::SocketAddr::from(([192, 0, 2, 1], 80)).into(),
        ..listener()
    });
    let error = Edge::new(1).prepare(&[foreign.clone(), Arc::new(listener()), foreign]).err().unwrap();
    assert_eq!(error.0.len(), 2);
    assert!(error.to_string().contains("192.0.2.1:80 does not belong to this machine"), "{error}");
}

/// The kernel spreads connections over the sockets of all workers.
#[tokio::test]
async fn every_worker_gets_connections() {
    let edge = Edge::new(2);
    change(&edge, &[listener()]).unwrap();
    let address = edge.listeners()[0].address.ip().unwrap();
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let sockets = edge.sockets().unwrap();
    assert_eq!(sockets.len(), 2);
    for crate::edge::Inherited { socket, .. } in sockets {
        let (accepted, _) = std::net::TcpListener::from(socket).accept().unwrap();
        assert!(socket2::SockRef::from(&accepted).tcp_nodelay().unwrap(), "inherited from the listener");
    }
}

#[tokio::test]
async fn an_ipv6_wildcard_takes_ipv4_clients_under_their_own_address() {
    let address = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)).into();
    let gate = Gate::start(plan::Listener { address, ..listener() });
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], gate.address.port()));
    let mut client = super::setup::Client(tokio::net::TcpStream::connect(address).await.unwrap());
    let answer = client.get("/").await;
    assert!(answer.contains("x-peer: 127.0.0.1:"), "{answer}");
}
