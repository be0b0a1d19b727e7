//! The promise: nobody holds a connection by being slow. Handshakes, request heads, silences and bodies each
//! have their deadline, on HTTP/1 and on HTTP/2.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Client, Gate, H2Client, RawServer, Reply, Request, frame, h2_get_headers, h2_opening,
    read_head,
};
use std::io::{Read, Write};
use std::time::Duration;

const DRIP: Duration = Duration::from_millis(100);

fn plain(limits: &str) -> Gate {
    Gate::start(
        &format!(
            "listeners: [{{ name: web, address: $web, limits: {{ {limits} }} }}]
routes: [{{ path: /, respond: {{ body: here }} }}]
"
        ),
        &[],
    )
}

fn secure(authority: &Authority, limits: &str) -> Gate {
    Gate::with(&[]).certified(authority).start(&format!(
        "listeners: [{{ name: secure, address: $secure, $tls, limits: {{ {limits} }} }}]
routes: [{{ path: /, respond: {{ body: here }} }}]
"
    ))
}

/// A head that takes a minute at one byte per `DRIP`.
fn long_head() -> Vec<u8> {
    Request::get("/").header("X-Long", &"x".repeat(600)).bytes()
}

#[test]
fn a_dripped_head_is_gone_at_the_deadline_with_408() {
    let gate = plain("header_timeout: 600ms");
    let answer = String::from_utf8_lossy(&gate.connect().drip(&long_head(), DRIP)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer:?}");
    let line = gate.logged(|line| line["status"] == 408);
    assert_eq!(line["client"].as_str().map(|client| client.starts_with("127.")), Some(true), "{line}");
}

#[test]
fn the_deadline_holds_for_each_head_on_a_kept_connection() {
    let gate = plain("header_timeout: 600ms, idle_timeout: 10s");
    let mut client = gate.connect();
    assert_eq!(client.get("/").text(), "here");
    assert_eq!(client.get("/").text(), "here");
    let answer = String::from_utf8_lossy(&client.drip(&long_head(), DRIP)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
}

#[test]
fn a_head_in_pieces_within_the_deadline_is_fine() {
    let gate = plain("header_timeout: 15s");
    let mut client = gate.connect();
    for piece in Request::get("/").bytes().chunks(7) {
        client.send(piece);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.response().text(), "here");
}

#[test]
fn a_dripped_head_over_tls_is_gone_too() {
    let authority = Authority::new();
    let gate = secure(&authority, "header_timeout: 600ms");
    let mut client = authority.client("localhost").alpn(&["http/1.1"]).connect(gate.at("secure"));
    let answer = String::from_utf8_lossy(&client.drip(&long_head(), DRIP)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
}

#[test]
fn dripped_h2_frames_end_the_connection() {
    let authority = Authority::new();
    let gate = secure(&authority, "header_timeout: 600ms, idle_timeout: 60s");
    let connect = || authority.client("localhost").alpn(&["h2"]).connect(gate.at("secure"));
    let long_headers = frame(1, 0x5, 1, &h2_get_headers(&"x".repeat(120)));

    // The preface itself, byte by byte.
    connect().drip(&h2_opening().repeat(20), DRIP);

    // A HEADERS frame after a good start.
    let mut client = connect();
    client.send(h2_opening());
    client.drip(&long_headers, DRIP);

    // A header block that never ends: CONTINUATION upon CONTINUATION, each frame complete.
    let mut client = connect();
    client.send(h2_opening()).send(frame(1, 0, 1, &h2_get_headers("localhost")));
    let continuations: Vec<u8> = (0..200).flat_map(|_| frame(9, 0, 1, &[])).collect();
    client.drip(&continuations, DRIP);
}

#[test]
fn a_client_that_says_nothing_is_closed_when_idle() {
    let gate = plain("idle_timeout: 400ms");
    let mut silent = gate.connect();
    let mut asked = gate.connect();
    assert_eq!(asked.get("/").text(), "here");
    assert!(asked.until_closed().is_empty(), "an idle connection ends without a word");
    // One that never asked anything may be told 408, or nothing.
    let last = silent.until_closed();
    assert!(last.is_empty() || last.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&last));
}

#[test]
fn an_idle_h2_connection_is_closed() {
    let authority = Authority::new();
    let gate = secure(&authority, "idle_timeout: 400ms");
    let mut client = authority.client("localhost").alpn(&["h2"]).connect(gate.at("secure"));
    client.send(h2_opening());
    client.until_closed();
}

#[test]
fn a_tls_handshake_that_stalls_is_closed() {
    let authority = Authority::new();
    let gate = secure(&authority, "tls_handshake_timeout: 400ms, idle_timeout: 60s, header_timeout: 60s");
    let mut silent = Client::connect(gate.at("secure"));
    assert!(silent.until_closed().is_empty());
    let mut stalled = Client::connect(gate.at("secure"));
    // The start of a ClientHello record that announces 512 bytes.
    stalled.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    stalled.until_closed();
    assert_eq!(authority.client("localhost").connect(gate.at("secure")).get("/").text(), "here");
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let api = Backend::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, limits: { body_timeout: 500ms } }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    let mut client = gate.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this");
    let response = client.response();
    assert_eq!(response.status, 408);
    client.until_closed();
    gate.logged(|line| line["status"] == 408);
}

#[test]
fn an_h2_body_that_stops_coming_is_408_and_only_that_request() {
    let api = Backend::start("api");
    let authority = Authority::new();
    let gate = Gate::secure(&authority, &api, "body_timeout: 500ms");
    let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    let stalled = client.ask_and_stall(&Request::post("/stalled", "only this").host("localhost"));
    assert_eq!(stalled.status, 408);
    assert_eq!(client.ask(&Request::post("/whole", "all of it").host("localhost")).text(), "api");
    let line = gate.logged_path("/stalled");
    assert_eq!(
        (line["status"].as_u64(), line["error"].as_str()),
        (Some(408), Some("client too slow")),
        "{line}"
    );
}

#[test]
fn a_server_that_does_not_answer_in_time_is_504() {
    let api = Backend::start("api");
    api.answers(Reply::hang());
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { path: /, upstream: api }
  - { path: /patient, upstream: api, timeouts: { response: 15s } }
upstreams: { api: { servers: [$api], timeouts: { response: 400ms } } }
",
        &[&api],
    );
    assert_eq!(gate.get("/").status, 504);
    assert_eq!(api.requests().len(), 1, "a request that the server may be working on is not sent again");
    api.answers(Reply::ok("late").after(Duration::from_secs(1)));
    assert_eq!(gate.get("/").status, 504);
    assert_eq!(gate.get("/patient").text(), "late", "a route may wait longer");
}

#[test]
fn a_server_that_keeps_sending_slowly_is_not_cut_off() {
    let api = Backend::start("api");
    api.answers(Reply::ok("0123456789").dripping(Duration::from_millis(150)));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api], timeouts: { response: 1200ms } } }
",
        &[&api],
    );
    assert_eq!(gate.get("/").text(), "0123456789", "the deadline is for silence, not for the whole answer");
}

#[test]
fn a_long_request_is_not_mistaken_for_an_idle_connection() {
    let api = Backend::start("api");
    api.answers(Reply::ok("late").after(Duration::from_millis(1200)));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, limits: { idle_timeout: 300ms, header_timeout: 300ms } }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    assert_eq!(gate.get("/").text(), "late");
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let api = Backend::start("api");
    api.answers(Reply::ok("x".repeat(30_000_000)));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, limits: { send_timeout: 500ms } }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    let mut deaf = gate.connect();
    deaf.send(Request::get("/large").bytes());
    let line = gate.logged_path("/large");
    assert!(line["response_bytes"].as_u64().is_some_and(|bytes| bytes < 30_000_000), "{line}");
    assert!(line["error"].is_string(), "{line}");
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A gate before a server that takes 200 ms for the 101 and is silent for 1.2 s after it.
fn before_a_quiet_chat(timeouts: &str) -> (Gate, RawServer) {
    let chat = RawServer::start("chat", |mut stream| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_millis(200));
        let _ = stream.write_all(SWITCHING);
        std::thread::sleep(Duration::from_millis(1200));
        let _ = stream.write_all(b"good morning");
        // until the client goes
        let _ = stream.read(&mut [0]);
    });
    let yaml = format!(
        "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: chat }}]
upstreams: {{ chat: {{ servers: [$chat], timeouts: {{ {timeouts} }} }} }}
"
    );
    let gate = Gate::start(&yaml, &[&chat]);
    (gate, chat)
}

#[test]
fn a_websocket_may_be_silent_for_longer_than_an_answer_may_take() {
    let (gate, _chat) = before_a_quiet_chat("response: 700ms");
    let mut client = gate.connect();
    client.send(UPGRADE);
    assert_eq!(client.response().status, 101);
    assert_eq!(client.read_exactly(12).expect("what comes late"), b"good morning");
}

#[test]
fn a_websocket_is_closed_when_its_server_is_silent_for_too_long() {
    let (gate, _chat) = before_a_quiet_chat("response: 400ms, tunnel: 600ms");
    let mut client = gate.connect();
    client.send(UPGRADE);
    assert_eq!(client.response().status, 101);
    assert!(client.until_closed().is_empty(), "the server speaks after the end");
}

#[test]
fn an_upgrade_that_is_not_answered_in_time_is_504() {
    let mute = RawServer::start("mute", |mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0]);
    });
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { path: /, upstream: mute }
  - { path: /route, upstream: mute, timeouts: { response: 300ms } }
upstreams: { mute: { servers: [$mute], timeouts: { response: 400ms } } }
",
        &[&mute],
    );
    for path in ["/chat", "/route"] {
        let mut client = gate.connect();
        client.send(UPGRADE.replace("/chat", path));
        assert_eq!(client.response().status, 504);
        let line = gate.logged_path(path);
        assert_eq!(line["attempts"], 1, "{line}");
    }
}

#[test]
fn a_server_that_declines_an_upgrade_must_not_be_silent_either() {
    let slow = RawServer::start("slow", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n");
        let _ = stream.read(&mut [0]);
    });
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: slow }]
upstreams: { slow: { servers: [$slow], timeouts: { response: 400ms } } }
",
        &[&slow],
    );
    let mut client = gate.connect();
    client.send(UPGRADE);
    let said = client.until_closed();
    assert!(said.ends_with(b"some\r\n"), "{:?}", String::from_utf8_lossy(&said));
}
