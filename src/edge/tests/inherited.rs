//! Sockets that come from another process and go to another one.

use super::setup::{Client, Gate, PATIENCE, change, free, listener};
use crate::config::plan;
use crate::edge::{Edge, Inherited};
use std::net::{SocketAddr, TcpListener};
use tokio::net::TcpStream;

/// Twenty connections, each with a request.
async fn all_are_served(address: SocketAddr) {
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client(TcpStream::connect(address).await.unwrap()));
    }
    for client in &mut clients {
        assert!(client.get("/").await.starts_with("HTTP/1.1 200"));
    }
}

/// As systemd opens it: one socket, without `SO_REUSEPORT`.
fn foreign() -> (SocketAddr, Inherited) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (address, Inherited { address: address.into(), udp: false, socket: socket.into(), lent: true })
}

#[tokio::test]
async fn one_socket_is_shared_by_all_workers() {
    let (address, socket) = foreign();
    // it waits there before the gate is started
    let mut early = Client(TcpStream::connect(address).await.unwrap());
    let edge = Edge::with_inherited(3, vec![socket]);
    change(&edge, &[plan::Listener { address: address.into(), ..listener() }]).unwrap();
    assert_eq!(edge.sockets().unwrap().len(), 3);
    let gate = Gate::serve(edge);
    assert!(early.get("/").await.starts_with("HTTP/1.1 200"));
    all_are_served(address).await;
    drop(early);
    // and it is closed as any other
    gate.change(&[plan::Listener { address: free().into(), ..listener() }]).unwrap();
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("closed");
}

/// The sockets of an edge with `before` workers serve one with `after`; who waits in any of them
/// is served by the second.
async fn handed_over(before: usize, after: usize) {
    let first = Edge::new(before);
    let plan = plan::Listener { address: free().into(), ..listener() };
    change(&first, std::slice::from_ref(&plan)).unwrap();
    let old = Gate::serve(first);
    all_are_served(plan.address.ip().unwrap()).await;
    let second = Edge::with_inherited(after, old.edge.sockets().unwrap());
    change(&second, std::slice::from_ref(&plan)).unwrap();
    assert_eq!(second.sockets().unwrap().len(), before.max(after));
    old.edge.hand_over();
    tokio::time::timeout(PATIENCE, old.worker).await.expect("drained").unwrap();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(Client(TcpStream::connect(plan.address.ip().unwrap()).await.unwrap()));
    }
    let new = Gate::serve(second);
    for client in &mut waiting {
        assert!(client.get("/").await.starts_with("HTTP/1.1 200"));
    }
    all_are_served(plan.address.ip().unwrap()).await;
    new.edge.shut_down();
    drop(waiting);
    tokio::time::timeout(PATIENCE, new.worker).await.expect("drained").unwrap();
}

#[tokio::test]
async fn sockets_go_to_a_process_with_more_workers() {
    handed_over(1, 3).await;
    handed_over(2, 3).await;
}

#[tokio::test]
async fn sockets_go_to_a_process_with_fewer_workers() {
    handed_over(4, 1).await;
    handed_over(3, 2).await;
}

#[tokio::test]
async fn sockets_that_no_listener_wants_are_closed_by_the_first_commit() {
    let (address, socket) = foreign();
    let edge = Edge::with_inherited(1, vec![socket]);
    assert!(edge.prepare(&[]).is_ok());
    assert!(TcpStream::connect(address).await.is_ok(), "not before");
    change(&edge, &[listener()]).unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
