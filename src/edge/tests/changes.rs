//! Listeners that open, change and close under their clients.

use super::setup::{Client, Gate, PATIENCE, change, free, listener, millis, threads};
use super::tls::{certificate, connect, files, secure, termination};
use crate::config::file::ListenerLimits;
use crate::config::plan::{self, ListenerId};
use crate::edge::{Changes, Edge};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

fn on(address: SocketAddr) -> plan::Listener {
    plan::Listener { address: address.into(), ..listener() }
}

fn named(name: &str, id: usize, address: SocketAddr) -> plan::Listener {
    plan::Listener { name: name.to_string(), id: ListenerId(id), ..on(address) }
}

async fn dial(address: SocketAddr) -> Client<TcpStream> {
    Client(TcpStream::connect(address).await.unwrap())
}

async fn refused(address: SocketAddr) {
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("nobody listens any more");
}

/// Connects and asks until nobody listens any more; how many answers came.
fn until_refused(address: SocketAddr) -> usize {
    use std::io::{Read, Write};
    let mut answers = 0;
    while let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, PATIENCE) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /here HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and not a reset");
        assert!(answer.ends_with("GET /here "), "{answer}");
        answers += 1;
    }
    answers
}

/// What was opened, changed, closed and kept.
fn counts(changes: &Changes) -> (usize, usize, usize, usize) {
    (changes.opened.len(), changes.changed.len(), changes.closed.len(), changes.kept)
}

#[tokio::test]
async fn a_listener_is_added_and_removed() {
    let gate = Gate::start_all(&[named("first", 0, free())], 3);
    let (first, second) = (gate.plan(), named("second", 1, free()));
    let mut kept = gate.connect().await;
    assert!(kept.get("/").await.contains("x-listener: first"));
    assert_eq!(counts(&gate.change(&[second.clone(), first.clone()]).unwrap()), (1, 0, 0, 1));
    let mut client = dial(second.address.ip().unwrap()).await;
    assert!(client.get("/").await.contains("x-listener: second"));
    let mut busy = dial(second.address.ip().unwrap()).await;
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    gate.app.entered.acquire().await.unwrap().forget();

    assert_eq!(counts(&gate.change(&[first]).unwrap()), (0, 0, 1, 1));
    refused(second.address.ip().unwrap()).await;
    assert_eq!(client.rest().await, "", "idle connections end");
    gate.app.release.add_permits(1);
    assert!(busy.rest().await.ends_with("GET /slow "), "what is in flight is finished");
    assert!(kept.get("/").await.starts_with("HTTP/1.1 200"), "others go on");
    gate.edge.shut_down();
    tokio::time::timeout(PATIENCE, gate.worker).await.expect("drained").unwrap();
}

#[tokio::test]
async fn who_waits_to_be_accepted_is_served_when_the_listener_goes() {
    let edge = Edge::new(2);
    let (goes, stays) = (on(free()), named("stays", 1, free()));
    change(&edge, &[goes.clone(), stays.clone()]).unwrap();
    let mut waiting = Vec::new();
    for i in 0..20 {
        let mut client = dial(goes.address.ip().unwrap()).await;
        client.send(format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        waiting.push(client);
    }
    // nobody has accepted them: the workers are not started yet
    change(&edge, &[stays]).unwrap();
    let _gate = Gate::serve(edge);
    for (i, mut client) in waiting.into_iter().enumerate() {
        let answer = client.rest().await;
        assert!(answer.contains("onnection: close") && answer.ends_with(&format!("GET /{i} ")), "{answer}");
    }
    refused(goes.address.ip().unwrap()).await;
}

#[tokio::test]
async fn connections_of_a_removed_listener_are_cut_at_the_deadline() {
    let gate = Gate::start_all(&[named("stays", 1, free()), on(free())], 2);
    let goes = gate.edge.listeners()[1].address.ip().unwrap();
    let mut busy = dial(goes).await;
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    gate.app.entered.acquire().await.unwrap().forget();
    let prepared = gate.edge.prepare(&[Arc::new(gate.plan())]).unwrap();
    let changes = gate.edge.commit(prepared, Duration::from_millis(300));
    assert_eq!(changes.closed[0].count.open(), 1);
    assert_eq!(busy.rest().await, "", "never answered");
    let left = async {
        while changes.closed[0].count.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("its place is free");
    assert!(gate.connect().await.get("/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn new_limits_hold_for_new_connections_and_old_ones_end_after_their_request() {
    let gate = Gate::start_all(&[on(free())], 2);
    let mut idle = gate.connect().await;
    assert!(idle.get("/").await.starts_with("HTTP/1.1 200"));
    let mut busy = gate.connect().await;
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    gate.app.entered.acquire().await.unwrap().forget();

    let limits = ListenerLimits { max_headers: 1, ..ListenerLimits::default() };
    let changes = gate.change(&[plan::Listener { limits, ..gate.plan() }]).unwrap();
    assert_eq!(counts(&changes), (0, 1, 0, 0));
    assert!(changes.changed[0].retired && changes.changed[0].before.plan.limits.max_headers == 100);
    let two = "GET /two HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    assert!(gate.exchange(two.as_bytes()).await.starts_with("HTTP/1.1 431"));
    // it has had a request just now: its next one is answered, and is its last
    idle.send(two).await;
    let last = idle.rest().await;
    assert!(last.starts_with("HTTP/1.1 200") && last.contains("onnection: close"), "{last}");
    gate.app.release.add_permits(1);
    assert!(busy.rest().await.ends_with("GET /slow "), "no deadline, and then the end");
}

#[tokio::test]
async fn connections_are_counted_on_under_a_new_limit() {
    let limited = |connections| ListenerLimits { connections, ..ListenerLimits::default() };
    let gate = Gate::start_all(&[on(free())], 2);
    let mut busy = gate.connect().await;
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    gate.app.entered.acquire().await.unwrap().forget();
    let changes = gate.change(&[plan::Listener { limits: limited(1), ..gate.plan() }]).unwrap();
    assert!(counts(&changes) == (0, 1, 0, 0) && !changes.changed[0].retired);
    let count = gate.edge.listeners()[0].count.clone();
    assert_eq!(count.open(), 1);
    let mut second = gate.connect().await;
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut second.0, &mut byte);
    let read = tokio::time::timeout(PATIENCE, read).await.expect("closed");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(count.refused(), 1);
    gate.change(&[plan::Listener { limits: limited(2), ..gate.plan() }]).unwrap();
    assert!(gate.connect().await.get("/").await.starts_with("HTTP/1.1 200"));
    gate.app.release.add_permits(1);
    let answer = busy.response().await;
    assert!(answer.ends_with("GET /slow "), "{answer}");
    assert!(busy.get("/on").await.ends_with("GET /on "), "who is connected stays so");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_open_ones_go_on() {
    let gate = Gate::start(secure(true, true));
    let mut open = Client(connect(&gate, "one.example", &[]).await.unwrap());
    assert!(open.get("/").await.starts_with("HTTP/1.1 200"));
    let mut plan = gate.plan();
    let renewed = certificate(&["one.example"]);
    let chain = files(&renewed).chain[0].clone();
    plan.tls = Some(termination(vec![renewed]));
    let changes = gate.change(&[plan]).unwrap();
    assert!(counts(&changes) == (0, 1, 0, 0) && !changes.changed[0].retired);
    for _ in 0..3 {
        let stream = connect(&gate, "one.example", &[]).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], chain);
        assert!(open.get("/").await.starts_with("HTTP/1.1 200"));
    }
    // what was opened before and after the new certificate is retired together
    let mut plan = gate.plan();
    plan.limits.idle_timeout = millis(30_000);
    gate.change(&[plan]).unwrap();
    assert_eq!(open.rest().await, "");
}

/// Fifty commits that add, change and remove others while a kept listener has requests all the time.
#[tokio::test]
async fn a_kept_listener_notices_nothing() {
    let gate = Gate::start_all(&[named("kept", 0, free())], 3);
    let kept = gate.plan();
    let done = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for i in 0..8 {
        let mut client = gate.connect().await;
        let done = done.clone();
        clients.push(tokio::spawn(async move {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(client.get(&format!("/{i}")).await.ends_with(&format!("GET /{i} ")));
                count += 1;
            }
            count
        }));
    }
    let (a, b) = (free(), free());
    for i in 0..50 {
        let mut listeners = vec![kept.clone()];
        if i % 2 == 0 {
            listeners.insert(0, named("a", 1, a));
        }
        if i % 3 != 0 {
            let limits = ListenerLimits { max_headers: 10 + i, ..ListenerLimits::default() };
            listeners.push(plan::Listener { limits, ..named("b", 2, b) });
        }
        assert_eq!(gate.change(&listeners).unwrap().kept.min(1), 1);
        assert_eq!(gate.edge.listeners().len(), listeners.len());
        let mut new = gate.connect().await;
        assert!(new.get("/new").await.ends_with("GET /new "));
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0, "one connection all the time");
    }
}

#[tokio::test]
async fn a_mistake_changes_nothing_and_closes_what_was_bound() {
    let gate = Gate::start_all(&[on(free())], 2);
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = named("taken", 1, stranger.local_addr().unwrap());
    let new = named("new", 2, free());
    let limits = ListenerLimits { max_headers: 1, ..ListenerLimits::default() };
    let changed = plan::Listener { limits, ..gate.plan() };
    let mut broken = secure(true, true);
    broken.address = free().into();
    broken.tls = Some(termination(Vec::new()));
    let error = gate.change(&[changed, new.clone(), taken.clone(), broken]).err().unwrap();
    assert_eq!(error.0.len(), 2, "{error}");
    assert!(
        error.0[0].contains(&format!("listener `taken`: address {} is in use", taken.address)),
        "{error}"
    );
    assert!(TcpStream::connect(new.address.ip().unwrap()).await.is_err(), "closed again");
    assert_eq!(gate.edge.listeners().len(), 1);
    let two = "GET /two HTTP/1.1\r\nHost: a\r\nX: y\r\nConnection: close\r\n\r\n";
    assert!(gate.exchange(two.as_bytes()).await.starts_with("HTTP/1.1 200"), "the old limits");
}

/// Removed and added again before its sockets are closed: they are taken back.
#[tokio::test]
async fn a_listener_that_goes_may_come_back_at_once() {
    let gate = Gate::start_all(&[named("stays", 0, free()), on(free())], 2);
    let stays = gate.plan();
    let address = gate.edge.listeners()[1].address.ip().unwrap();
    for i in 0..10 {
        let name = format!("again-{i}");
        gate.change(std::slice::from_ref(&stays)).unwrap();
        if i % 2 == 0 {
            // the workers have seen it go
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.change(&[stays.clone(), named(&name, 1, address)]).unwrap();
        for _ in 0..5 {
            let answer = dial(address).await.get("/").await;
            assert!(answer.contains(&format!("x-listener: {name}")), "{answer}");
        }
    }
    gate.change(std::slice::from_ref(&stays)).unwrap();
    refused(address).await;
}

/// Clients on threads of their own connect all the time, workers on theirs accept: whoever has got through to a
/// listener that goes is answered.
#[test]
fn a_socket_that_closes_resets_nobody() {
    let edge = Edge::new(2);
    let (stays, goes) = (on(free()), named("goes", 1, free()));
    let workers = threads(&edge);
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..6 {
        change(&edge, &[stays.clone(), goes.clone()]).unwrap();
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let address = goes.address.ip().unwrap();
                std::thread::spawn(move || until_refused(address))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(30));
        change(&edge, std::slice::from_ref(&stays)).unwrap();
        for client in clients {
            answered += client.join().unwrap();
            refused += 1;
        }
    }
    assert!(answered > refused, "{answered} answers until {refused} refusals");
    edge.shut_down();
    for worker in workers {
        worker.join().unwrap();
    }
}

/// `0.0.0.0:PORT` to `127.0.0.1:PORT` and back, under clients that connect all the time.
#[tokio::test]
async fn an_address_gives_way_to_one_that_covers_it_and_back() {
    let narrow = free();
    let wide: SocketAddr = ([0, 0, 0, 0], narrow.port()).into();
    let gate = Gate::start_all(&[named("stays", 9, free()), named("wide", 0, wide)], 2);
    let stays = gate.plan();
    let done = Arc::new(AtomicBool::new(false));
    let clients = tokio::spawn({
        let done = done.clone();
        async move {
            let mut names = std::collections::BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let mut client = dial(narrow).await;
                client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                let answer = client.rest().await;
                assert!(answer.ends_with("GET / "), "{answer}");
                names.insert(answer.lines().find(|line| line.starts_with("x-listener")).unwrap().to_string());
            }
            names
        }
    });
    for (name, address) in [("narrow", narrow), ("wide", wide)].repeat(5) {
        let changes = gate.change(&[stays.clone(), named(name, 0, address)]).unwrap();
        assert_eq!(counts(&changes), (1, 0, 1, 1));
        let served =
            async { while !dial(narrow).await.get("/").await.contains(&format!("x-listener: {name}")) {} };
        tokio::time::timeout(PATIENCE, served).await.expect("the new one serves");
    }
    done.store(true, Ordering::Relaxed);
    assert_eq!(clients.await.unwrap().len(), 2);
    // beside one that stays it is a mistake
    let error =
        gate.change(&[stays.clone(), named("wide", 0, wide), named("narrow", 1, narrow)]).err().unwrap();
    assert!(error.to_string().contains(&format!("listener `narrow`: address {narrow} is in use")), "{error}");
}

#[tokio::test]
async fn nothing_changes_after_the_end_has_begun() {
    let gate = Gate::start(on(free()));
    let prepared = gate.edge.prepare(&[Arc::new(named("late", 1, free()))]).unwrap();
    gate.edge.shut_down();
    assert_eq!(counts(&gate.edge.commit(prepared, PATIENCE)), (0, 0, 0, 0));
    assert!(gate.edge.prepare(&[]).err().unwrap().to_string().contains("the process is ending"));
    tokio::time::timeout(PATIENCE, gate.worker).await.expect("drained").unwrap();
}
