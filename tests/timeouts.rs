//! The promise: each phase of a request has its deadline, the log says which one has passed, and a client that is gone
//! keeps no server busy.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::websocket::{h2, within};
use harness::{
    Backend, BlackHole, Gate, H2Client, RawServer, Reply, Request, ServerAddress, eventually, read_head,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A gate in front of these servers, with these timeouts and these words of `retry`.
fn gate(servers: &[&dyn ServerAddress], timeouts: &str, retry: &str) -> Gate {
    let names: Vec<_> = servers.iter().map(|server| format!("${}", server.label())).collect();
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [{}], timeouts: {{ {timeouts} }}, retry: {{ {retry} }} }} }}
",
        names.join(", ")
    );
    Gate::start(&config, servers)
}

/// What the log says about the only request for this path: status, tries and error.
fn outcome(gate: &Gate, path: &str) -> (u64, u64, String) {
    let line = gate.logged_path(path);
    let number = |key: &str| line[key].as_u64().unwrap_or_default();
    (number("status"), number("attempts"), line["error"].as_str().unwrap_or_default().to_owned())
}

fn of(status: u64, attempts: u64, error: &str) -> (u64, u64, String) {
    (status, attempts, error.to_owned())
}

/// Reads until nobody is there any more.
fn until_gone(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

/// What is said until the connection ends, however it does.
fn said_by(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("after {said:?}: {error}"),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn mute(label: &str) -> RawServer {
    RawServer::start(label, |mut stream| {
        read_head(&mut stream);
        until_gone(&mut stream);
    })
}

/// Says this, and then an `x` every 20 ms for as long as anybody listens.
fn dripping(label: &str, beginning: &'static str) -> RawServer {
    RawServer::start(label, move |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(beginning.as_bytes());
        let piece = if beginning.contains("chunked") { "1\r\nx\r\n" } else { "x" };
        while stream.write_all(piece.as_bytes()).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

#[test]
fn connecting() {
    let hole = BlackHole::new("hole");
    let gate = gate(&[&hole], "connect: 300ms", "attempts: 3");
    assert_eq!(gate.get("/a").status, 504);
    assert_eq!(outcome(&gate, "/a"), of(504, 1, "connect timed out"));
}

#[test]
fn for_a_client_that_leaves_while_a_connection_is_made_nobody_else_is_asked() {
    for backoff in ["", ", backoff: { base: 10s, max: 10s }"] {
        let (hole, good) = (BlackHole::new("hole"), Backend::start("good"));
        let servers = format!("{}, {{ address: {}, priority: 1 }}", hole.address(), good.address());
        let config = format!(
            "admin: {{ address: $admin }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    servers: [{servers}]
    spill_over: {{ tier: 0% }}
    timeouts: {{ connect: 2s }}
    retry: {{ attempts: 3{backoff} }}
"
        );
        let gate = Gate::start(&config, &[]);
        let mut client = gate.connect();
        client.send(Request::get("/h1").bytes());
        // a request over HTTP/2 is none when its connection was closed before the gate came to read it
        let in_flight = "weirgate_upstream_requests_in_flight{upstream=\"group\"}";
        let both_are_made = || gate.metrics().get(in_flight) == Some(2.0);
        H2Client::connect_plaintext(gate.at("web")).ask_and_leave(&Request::get("/h2"), both_are_made);
        drop(client);
        assert_eq!(outcome(&gate, "/h1"), of(0, 1, "client closed"));
        assert_eq!(outcome(&gate, "/h2"), of(0, 1, "client closed"));
        assert!(good.requests().is_empty());
    }
}

#[test]
fn the_first_byte() {
    let (mute, good) = (mute("mute"), Backend::start("good"));
    let alone = gate(&[&mute], "first_byte: 300ms, response: 30s", "attempts: 3, when: [connect, reset]");
    assert_eq!(alone.get("/a").status, 504);
    assert_eq!(outcome(&alone, "/a"), of(504, 1, "first byte timed out"));
    assert_eq!(alone.ask(&Request::post("/b", "whole")).status, 504);
    assert_eq!(outcome(&alone, "/b"), of(504, 1, "first byte timed out"));
    assert!(
        alone.stderr().contains("no first byte within 300ms (timeouts.first_byte)"),
        "{}",
        alone.stderr()
    );

    let with_another = gate(&[&mute, &good], "first_byte: 300ms, response: 30s", "when: [timeout]");
    assert_eq!(with_another.get("/a").text(), "good");
    assert_eq!(outcome(&with_another, "/a"), of(200, 2, ""));
}

#[test]
fn the_first_byte_may_take_longer_than_silence_within_the_answer() {
    let slow = Backend::start("slow");
    slow.answers(Reply::ok("at last").after(Duration::from_millis(900)));
    let gate = gate(&[&slow], "first_byte: 30s, response: 300ms", "attempts: 1");
    assert_eq!(gate.get("/a").text(), "at last");
    slow.answers(Reply::ok("at last").dripping(Duration::from_secs(3)));
    let mut client = gate.connect();
    client.send(Request::get("/b").bytes());
    client.until_closed();
    assert_eq!(outcome(&gate, "/b"), of(200, 1, "response timed out"));
}

#[test]
fn silence() {
    let mute = mute("mute");
    let gate = gate(&[&mute], "response: 300ms", "attempts: 3, when: [connect, reset]");
    assert_eq!(gate.get("/a").status, 504);
    assert_eq!(outcome(&gate, "/a"), of(504, 1, "response timed out"));
}

/// From five seconds on there are no timers: see `http::patrol`.
const LONG: &str = "response: 5s, idle: 5s";

#[test]
fn a_long_silence_before_the_answer_and_within_it() {
    let mute = mute("mute");
    // would be complete with the end of its connection
    let stops = RawServer::start("stops", |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").unwrap();
        until_gone(&mut stream);
    });
    for server in [&mute, &stops] {
        let gate = gate(&[server], LONG, "attempts: 3, when: [connect, reset]");
        let mut client = TcpStream::connect(gate.at("web")).unwrap();
        client.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let said = said_by(&mut client);
        assert!(!said.ends_with("0\r\n\r\n") || said.starts_with("HTTP/1.1 504"), "{said}");
        let status = if said.starts_with("HTTP/1.1 504") { 504 } else { 200 };
        assert_eq!(status == 200, said.contains("half"), "{said}");
        assert_eq!(outcome(&gate, "/a"), of(status, 1, "response timed out"));
    }
}

#[test]
fn a_long_wait_for_the_rest_of_the_request_is_the_clients() {
    let mute = mute("mute");
    let gate = gate(&[&mute], LONG, "attempts: 3, when: [timeout]");
    let mut client = gate.connect();
    client.send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this");
    assert_eq!(client.response().status, 408);
    assert_eq!(outcome(&gate, "/b"), of(408, 1, "client too slow"));
}

#[test]
fn an_answer_that_comes_now_and_then_is_no_silence() {
    let slow = Backend::start("slow");
    slow.answers(Reply::ok("12345678").dripping(Duration::from_secs(1)));
    let gate = gate(&[&slow], LONG, "attempts: 1");
    assert_eq!(gate.get("/a").text(), "12345678");
}

#[test]
fn a_connection_that_nobody_uses_is_closed_after_long_too() {
    let (gone, closed) = std::sync::mpsc::channel();
    let server = RawServer::start("server", move |mut stream| {
        while !read_head(&mut stream).is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        gone.send(()).ok();
    });
    let gate = gate(&[&server], LONG, "attempts: 1");
    for _ in 0..3 {
        assert_eq!(gate.get("/a").text(), "ok");
    }
    closed.recv_timeout(harness::PATIENCE).expect("the connection is closed");
    assert!(closed.try_recv().is_err(), "there was but one");
    assert_eq!(gate.get("/a").text(), "ok", "and another is made");
}

#[test]
fn one_try() {
    let (endless, good) = (dripping("endless", "HTTP/1.1 200 OK\r\nX-Long: "), Backend::start("good"));
    let alone = gate(&[&endless], "try: 400ms", "attempts: 3");
    assert_eq!(alone.get("/a").status, 504);
    assert_eq!(outcome(&alone, "/a"), of(504, 1, "try timed out"));
    let with_another = gate(&[&endless, &good], "try: 400ms", "when: [timeout]");
    assert_eq!(with_another.get("/a").text(), "good");
    // and what takes long after the head is not meant
    good.answers(Reply::ok("0123456789").dripping(Duration::from_millis(100)));
    let patient = gate(&[&good], "try: 400ms", "attempts: 1");
    assert_eq!(patient.get("/a").text(), "0123456789");
    // connecting counts
    let hole = BlackHole::new("hole");
    let slow = gate(&[&hole], "try: 300ms, connect: 30s", "attempts: 1");
    assert_eq!(slow.get("/a").status, 504);
    assert_eq!(outcome(&slow, "/a"), of(504, 1, "try timed out"));
}

#[test]
fn the_whole_request_before_its_answer() {
    let (one, two) = (mute("one"), mute("two"));
    let gate = gate(&[&one, &two], "response: 2s, request: 3500ms", "attempts: 9, when: [timeout]");
    assert_eq!(gate.get("/a").status, 504);
    assert_eq!(outcome(&gate, "/a"), of(504, 2, "request timed out"), "across tries");
}

#[test]
fn a_server_that_waits_for_the_rest_of_the_request_is_not_to_blame() {
    for timeouts in ["request: 400ms", "response: 400ms", "try: 400ms", "first_byte: 200ms, response: 400ms"]
    {
        let mute = mute("mute");
        let gate = gate(&[&mute], timeouts, "attempts: 3, when: [timeout]");
        let mut client = gate.connect();
        client.send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this");
        assert_eq!(client.response().status, 408, "{timeouts}");
        assert_eq!(outcome(&gate, "/b"), of(408, 1, "client too slow"), "{timeouts}");
    }
}

#[test]
fn the_whole_request_within_its_answer() {
    for beginning in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        // ends with the connection
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let endless = dripping("endless", beginning);
        let gate = gate(&[&endless], "request: 500ms", "attempts: 3");
        let mut client = TcpStream::connect(gate.at("web")).unwrap();
        client.write_all(&Request::get("/a").bytes()).unwrap();
        let said = said_by(&mut client);
        // of an answer whose length is known the beginning may not have left the buffer
        let known = beginning.contains("Length");
        assert!(said.starts_with("HTTP/1.1 200 ") || (known && said.is_empty()), "{said:?}");
        assert!(!said.ends_with("0\r\n\r\n"), "it does not seem complete: {said:?}");
        assert_eq!(outcome(&gate, "/a"), of(200, 1, "request timed out"), "{beginning:?}");

        let mut client = H2Client::connect_plaintext(gate.at("web"));
        assert!(client.try_ask(&Request::get("/b")).is_err(), "a stream that is reset: {beginning:?}");
        assert_eq!(outcome(&gate, "/b"), of(200, 1, "request timed out"), "{beginning:?}");
    }
}

#[test]
fn a_second_try_that_was_quicker_keeps_the_deadline_too() {
    let silent = RawServer::start("silent", |mut stream| {
        read_head(&mut stream);
        until_gone(&mut stream);
    });
    let endless = dripping("endless", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let gate = gate(&[&silent, &endless], "request: 800ms", "hedge: { after: 50ms }, budget: 100%");
    let mut client = TcpStream::connect(gate.at("web")).unwrap();
    client.write_all(&Request::get("/a").bytes()).unwrap();
    let said = said_by(&mut client);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said:?}");
    assert!(!said.ends_with("0\r\n\r\n"), "it does not seem complete: {said:?}");
    assert_eq!(outcome(&gate, "/a"), of(200, 2, "request timed out"));
}

#[test]
fn a_request_that_has_become_something_else_is_left_alone() {
    let chat = RawServer::start("chat", |mut stream| {
        read_head(&mut stream);
        let switching =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.write_all(switching.as_bytes());
        std::thread::sleep(Duration::from_millis(1200));
        let _ = stream.write_all(b"good morning");
        until_gone(&mut stream);
    });
    let all = "request: 500ms, try: 400ms, first_byte: 300ms, response: 300ms";
    let gate = gate(&[&chat], all, "attempts: 1");
    let mut client = gate.connect();
    client.send(
        "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.response().status, 101);
    assert_eq!(client.read_exactly(12).expect("what comes late"), b"good morning");
}

#[test]
fn a_route_has_deadlines_of_its_own() {
    let slow = Backend::start("slow");
    slow.answers(Reply::ok("late").after(Duration::from_millis(700)));
    let config = "listeners: [{ name: web, address: $web }]
routes:
  - { path: /, upstream: group }
  - { path: /first, upstream: group, timeouts: { first_byte: 200ms } }
  - { path: /try, upstream: group, timeouts: { try: 200ms } }
  - { path: /request, upstream: group, timeouts: { request: 200ms } }
upstreams: { group: { servers: [$slow], retry: { attempts: 1 } } }
";
    let gate = Gate::start(config, &[&slow]);
    assert_eq!(gate.get("/").text(), "late");
    for (path, error) in
        [("/first", "first byte timed out"), ("/try", "try timed out"), ("/request", "request timed out")]
    {
        assert_eq!(gate.get(path).status, 504);
        assert_eq!(outcome(&gate, path), of(504, 1, error));
    }
}

/// A server that works on each request until the gate hangs up, and counts both.
fn working() -> (RawServer, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (begun.clone(), ended.clone());
    let server = RawServer::start("working", move |mut stream| {
        let head = read_head(&mut stream);
        if head.is_empty() {
            return;
        }
        counts.0.fetch_add(1, Ordering::SeqCst);
        if head.starts_with(b"GET /begun") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
        }
        until_gone(&mut stream);
        counts.1.fetch_add(1, Ordering::SeqCst);
    });
    (server, begun, ended)
}

async fn reaches(counter: &AtomicUsize, count: usize) {
    while counter.load(Ordering::SeqCst) != count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_client_that_is_gone_keeps_no_server_busy() {
    let (server, begun, ended) = working();
    // the server would be waited for for a minute
    let gate = gate(&[&server], "response: 60s", "attempts: 3");
    for (round, path) in ["/waiting", "/begun"].into_iter().enumerate() {
        let mut client = gate.connect();
        client.send(Request::get(path).bytes());
        eventually("the server to work", || begun.load(Ordering::SeqCst) == 2 * round + 1);
        if path == "/begun" {
            assert_eq!(client.read_exactly(8).unwrap(), b"HTTP/1.1");
        }
        drop(client);
        eventually("the server to be told", || ended.load(Ordering::SeqCst) == 2 * round + 1);
        let status = if path == "/waiting" { 0 } else { 200 };
        assert_eq!(outcome(&gate, path), of(status, 1, "client closed"));

        let both = 2 * round + 2;
        within(async {
            let sender = h2(gate.at("web"), None).await;
            let request = http::Request::get(format!("http://localhost{path}/h2")).body(()).unwrap();
            let (answer, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
            if path == "/begun" {
                assert_eq!(answer.await.unwrap().status(), 200);
            } else {
                reaches(&begun, both).await;
                drop(answer);
            }
            // only that stream is given up
            reaches(&ended, both).await;
            drop(sender);
        });
        assert_eq!(outcome(&gate, &format!("{path}/h2")), of(status, 1, "client closed"));
    }
}
