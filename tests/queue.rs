//! The promise: a group with limits is never asked to do more than it may, and who comes then waits for its turn,
//! in order, not too long and not too many.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Backend, Client, Gate, RawServer, RefusedAddress, Reply, Request, ServerAddress, Valve, eventually,
    frame, h2_block, h2_opening, read_head,
};
use std::io::{Read, Write};

/// A backend that holds every request until it is told.
fn held(label: &str) -> (Backend, Valve) {
    let (backend, valve) = (Backend::start(label), Valve::default());
    let (at, label) = (valve.clone(), label.to_owned());
    backend.answers_by(move |_| {
        at.hold();
        Reply::ok(label.clone())
    });
    (backend, valve)
}

/// One thread, so that requests are seen in the order in which they were sent.
fn gate(servers: &[&dyn ServerAddress], limits: &str, more: &str) -> Gate {
    let names: Vec<_> = servers.iter().map(|server| format!("${}", server.label())).collect();
    let config = format!(
        "server: {{ threads: 1 }}
listeners:
  - {{ name: web, address: $web }}
  - {{ name: h2c, address: $h2c, protocols: [h2] }}
routes:
  - {{ path: /, upstream: group }}
  - {{ path: /high, upstream: group, priority_class: high }}
  - {{ path: /low, upstream: group, priority_class: low }}
  - {{ path: /ping, respond: {{ body: pong }} }}
upstreams:
  group: {{ servers: [{}], limits: {{ {limits} }}, {more} }}
",
        names.join(", ")
    );
    Gate::start(&config, servers)
}

/// Sends a request, and sees to it that the gate has taken it in.
fn send(gate: &Gate, request: &Request) -> Client {
    let mut client = gate.connect();
    assert_eq!(client.get("/ping").text(), "pong", "the connection is known");
    client.send(request.bytes());
    ping(gate);
    client
}

/// What the gate was sent before, it has read when it has answered this.
fn ping(gate: &Gate) {
    let mut other = gate.connect();
    for _ in 0..3 {
        assert_eq!(other.get("/ping").text(), "pong");
    }
}

fn get(gate: &Gate, path: &str) -> Client {
    send(gate, &Request::get(path))
}

#[test]
fn who_waits_is_served_by_class_and_then_in_order() {
    let (api, valve) = held("api");
    let gate = gate(&[&api], "requests: 1, queue: 9, queue_timeout: 60s", "");
    let mut clients = vec![get(&gate, "/first")];
    valve.wait_for(1);
    for path in ["/low/1", "/2", "/high/3", "/4", "/low/5", "/high/6"] {
        clients.push(get(&gate, path));
    }
    valve.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "api");
    }
    let order: Vec<String> = api.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(order, ["/first", "/high/3", "/high/6", "/2", "/4", "/low/1", "/low/5"]);
    assert_eq!(valve.most(), 1, "never more than one at once");
    assert!(gate.logged_path("/low/5")["queue_ms"].is_number());
    assert!(gate.logged_path("/first")["queue_ms"].is_null(), "it did not wait");
}

#[test]
fn a_full_queue_is_told_at_once_and_a_long_wait_in_the_end() {
    let (api, valve) = held("api");
    let gate = gate(&[&api], "connections: 1, queue: 1, queue_timeout: 3s", "");
    let mut first = get(&gate, "/first");
    valve.wait_for(1);
    let mut second = get(&gate, "/second");

    let mut third = gate.connect();
    let answer = third.get("/third");
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("3")));
    assert_eq!(third.get("/ping").text(), "pong", "the connection is kept");
    assert_eq!(gate.logged_path("/third")["error"], "queue full");

    let answer = second.response();
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("3")));
    assert_eq!(second.get("/ping").text(), "pong", "the connection is kept");
    let line = gate.logged_path("/second");
    assert_eq!(line["error"], "queued too long");
    assert!(line["queue_ms"].as_f64().is_some_and(|ms| ms >= 3000.0), "{line}");

    valve.open();
    assert_eq!(first.response().text(), "api");
    assert_eq!(gate.get("/fourth").text(), "api", "there is room again");
    let seen: Vec<String> = api.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, ["/first", "/fourth"], "servers do not see those that were refused");
    assert!(gate.stderr().contains("requests are refused (limits)"), "{}", gate.stderr());
}

#[test]
fn a_client_that_goes_makes_room_in_the_queue_at_once() {
    let (api, valve) = held("api");
    let gate = gate(&[&api], "requests: 1, queue: 1, queue_timeout: 60s", "");
    let mut first = get(&gate, "/first");
    valve.wait_for(1);
    let refused = |when: &str| {
        let mut client = gate.connect();
        assert_eq!(client.get("/full").status, 503, "{when}");
    };
    // without a body, with one that nobody has read yet, and on a stream of HTTP/2
    let get = get(&gate, "/gone/get");
    refused("one waits");
    drop(get);
    assert_eq!(gate.logged_path("/gone/get")["error"], "client closed");

    let post = send(&gate, &Request::post("/gone/post", "x".repeat(10_000)));
    refused("another one waits");
    drop(post);
    let line = gate.logged_path("/gone/post");
    assert_eq!((&line["error"], &line["status"]), (&"client closed".into(), &0.into()));

    let mut h2 = Client::connect(gate.at("h2c"));
    let head =
        |path| h2_block(&[(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)]);
    h2.send(h2_opening()).send(frame(1, 5, 1, &head("/ping")));
    let mut read = Vec::new();
    while !read.ends_with(b"pong") {
        read.extend(h2.read_exactly(1).expect("an answer"));
    }
    h2.send(frame(1, 5, 3, &head("/gone/h2")));
    ping(&gate);
    refused("a stream waits");
    h2.send(frame(3, 0, 3, &[0, 0, 0, 8]));
    gate.logged_path("/gone/h2");

    let mut last = self::get(&gate, "/last");
    valve.open();
    assert_eq!((first.response().text(), last.response().text()), ("api".into(), "api".into()));
    let seen: Vec<String> = api.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, ["/first", "/last"], "nothing was asked for those who had gone");
}

#[test]
fn each_server_has_its_own_cap() {
    let (a, at_a) = held("a");
    let (b, at_b) = held("b");
    let gate = gate(&[&a, &b], "per_server: { requests: 2 }, queue_timeout: 60s", "");
    let mut clients: Vec<Client> = (0..7).map(|number| get(&gate, &format!("/{number}"))).collect();
    at_a.wait_for(2);
    at_b.wait_for(2);
    // whatever becomes free gets the next
    at_b.let_go(1);
    eventually("the fifth", || b.requests().len() == 3);
    assert_eq!(b.last_request().target, "/4");
    at_a.open();
    at_b.open();
    let answers = clients.iter_mut().map(|client| client.response().status);
    assert!(answers.into_iter().all(|status| status == 200));
    assert_eq!((at_a.most(), at_b.most()), (2, 2));
}

#[test]
fn a_client_that_stays_with_its_server_waits_for_it() {
    let (a, at_a) = held("a");
    let (b, at_b) = held("b");
    let sticky = "sticky: { learn: { header: x-session } }";
    let gate = gate(&[&a, &b], "per_server: { requests: 1 }, queue_timeout: 60s", sticky);
    for (backend, session) in [(&a, "1"), (&b, "2")] {
        let reply = Reply::ok("hello").header("x-session", session);
        backend.answers_by(move |_| reply.clone());
    }
    let greeted: Vec<_> = (0..2).map(|_| gate.get("/").header("x-session")).collect();
    assert!(greeted.contains(&Some("1".into())) && greeted.contains(&Some("2".into())), "{greeted:?}");
    for (backend, valve) in [(&a, &at_a), (&b, &at_b)] {
        let at = valve.clone();
        backend.answers_by(move |_| {
            at.hold();
            Reply::ok("held")
        });
        backend.forget();
    }
    let of = |session: &str| send(&gate, &Request::get("/").header("x-session", session));
    let (mut first, mut second) = (of("1"), of("1"));
    at_a.wait_for(1);
    let mut third = of("2");
    at_b.wait_for(1);
    at_b.open();
    assert_eq!(third.response().text(), "held");
    at_a.open();
    assert_eq!((first.response().text(), second.response().text()), ("held".into(), "held".into()));
    assert_eq!((a.requests().len(), b.requests().len()), (2, 1));
}

#[test]
fn a_backup_takes_what_full_servers_cannot() {
    let (main, at_main) = held("main");
    let backup = Backend::start("backup");
    let config = "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams:
  group:
    servers: [$main, { address: $backup, priority: 1 }]
    limits: { per_server: { connections: 1 } }
";
    let gate = Gate::start(config, &[&main, &backup]);
    let mut first = gate.connect();
    first.send(Request::get("/").bytes());
    at_main.wait_for(1);
    assert_eq!(gate.get("/").text(), "backup");
    at_main.open();
    assert_eq!(first.response().text(), "main");
}

#[test]
fn a_tunnel_counts_until_it_ends() {
    let echo = RawServer::start("api", |mut stream| {
        if !String::from_utf8_lossy(&read_head(&mut stream)).to_lowercase().contains("upgrade: websocket") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            return;
        }
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..count]);
        }
    });
    let gate = gate(&[&echo], "requests: 1, queue: 0", "");
    let mut tunnel = gate.connect();
    tunnel.send(
        "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(tunnel.response().status, 101);
    tunnel.send("hello");
    assert_eq!(tunnel.read_exactly(5).unwrap(), b"hello");
    assert_eq!(gate.get("/").status, 503);
    drop(tunnel);
    eventually("room after the tunnel", || gate.get("/").status == 200);
}

#[test]
fn retries_keep_their_slot_and_go_to_servers_with_room() {
    let (bad, good) = (Backend::start("bad"), Backend::start("good"));
    bad.answers(Reply::reset());
    let retry = "retry: { budget: { floor: 1000 } }";
    let gate = gate(&[&bad, &good], "requests: 1, per_server: { requests: 1 }, queue: 0", retry);
    let mut client = gate.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(bad.requests().len() >= 5, "{} tries failed", bad.requests().len());
}

#[test]
fn a_retry_waits_for_a_server_that_is_full() {
    let (good, valve) = held("good");
    let gone = RefusedAddress::new("gone");
    let gate = gate(&[&gone, &good], "per_server: { requests: 1 }, queue_timeout: 60s", "");
    let mut clients: Vec<Client> = (0..4).map(|number| get(&gate, &format!("/{number}"))).collect();
    valve.wait_for(1);
    valve.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "good");
    }
    assert_eq!(valve.most(), 1);
}

#[test]
fn every_way_in_which_a_request_ends_makes_room() {
    let api = Backend::start("api");
    let more = "timeouts: { response: 300ms }, retry: { attempts: 1 }";
    let gate = gate(&[&api], "requests: 1, per_server: { requests: 1 }, queue: 0", more);
    for (reply, status) in [
        (Reply::ok("fine"), Some(200)),
        (Reply::reset(), Some(502)),
        (Reply::hang(), Some(504)),
        (Reply::ok("x".repeat(100_000)).cut_short(), None),
        (Reply::ok("x").then_close(), Some(200)),
    ] {
        api.answers(reply.clone());
        let mut client = gate.connect();
        client.send(Request::get("/").bytes());
        let answer = client.try_response_to("GET").ok().map(|answer| answer.status);
        assert_eq!(answer, status, "{reply:?}");
        // a client that leaves in the middle of it
        gate.connect().send(Request::get("/").bytes());
        drop(client);
        api.answers(Reply::ok("fine"));
        eventually("room for the next", || gate.get("/").status == 200);
    }
}
