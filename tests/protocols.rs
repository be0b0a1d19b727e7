//! The promise: what HTTP allows passes through whole, in both directions and in every version: bodies of any
//! size and framing, kept and closed connections, HTTP/1.0, HTTP/2 with and without TLS, upgrades.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Client, Gate, H2Client, RawServer, Reply, Request, ServerAddress, read_head,
};
use std::io::{Read, Write};
use std::time::Duration;

fn before(api: &dyn ServerAddress) -> Gate {
    Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[api],
    )
}

fn large() -> String {
    (0..300_000).map(|n| format!("{n:07x} ")).collect()
}

#[test]
fn large_bodies_pass_whole_in_both_directions() {
    let api = Backend::start("api");
    api.answers_by(|request| Reply::ok(request.body.clone()));
    let gate = before(&api);
    let body = large();
    let mut client = gate.connect();
    for _ in 0..2 {
        assert!(
            client.ask(&Request::post("/", body.clone())).body == body.as_bytes(),
            "the body came back changed"
        );
    }
    api.answers_by(|request| Reply::ok(request.body.clone()).chunked());
    assert!(
        client.ask(&Request::post("/", body.clone())).body == body.as_bytes(),
        "the chunked body came back changed"
    );
}

#[test]
fn large_bodies_pass_whole_over_h2() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    api.answers_by(|request| Reply::ok(request.body.clone()));
    let gate = Gate::secure(&authority, &api, "");
    let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    // Within the window that a server grants at first; a test client need not wait for more.
    let body = &large()[..60_000];
    let came_back = client.ask(&Request::post("/", body).host("localhost"));
    assert!(came_back.body == body.as_bytes(), "the body came back changed");
    api.answers(Reply::ok(large()).chunked());
    let answer = client.ask(&Request::get("/").host("localhost"));
    assert!(answer.body == large().as_bytes(), "{} bytes came back", answer.body.len());
    api.answers_by(|request| Reply::new(418, request.method.clone()).header("X-Kept", "yes"));
    let teapot = client.ask(&Request::new("PUT", "/").host("localhost"));
    assert_eq!((teapot.status, teapot.text().as_str()), (418, "PUT"));
    assert_eq!(teapot.header("x-kept").as_deref(), Some("yes"));
    let head = client.ask(&Request::new("HEAD", "/").host("localhost"));
    assert_eq!((head.status, head.body.len()), (418, 0));
}

#[test]
fn h2_without_tls_beside_h1_on_one_listener() {
    let api = Backend::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, protocols: [h1, h2], limits: { header_timeout: 2s } }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    let mut h2 = H2Client::connect_plaintext(gate.at("web"));
    assert_eq!(h2.ask(&Request::get("/over/h2").host("x")).text(), "api");
    assert_eq!(api.last_request().target, "/over/h2");
    assert_eq!(gate.get("/over/h1").text(), "api");
    // Shorter than the preface of HTTP/2, with which it is not to be mistaken.
    assert_eq!(gate.raw("GET / HTTP/1.0\r\n\r\n").status, 200);
    assert_eq!(gate.raw("P / HTTP/1.1\r\nHost: x\r\n\r\n").text(), "api");
    assert_eq!(gate.raw("PRINT / HTTP/1.1\r\nHost: x\r\n\r\n").text(), "api");
}

#[test]
fn a_listener_without_h2_does_not_speak_it() {
    let api = Backend::start("api");
    let gate = before(&api);
    let mut client = gate.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if let Ok(response) = client.try_response_to("GET") {
        assert!(response.status >= 400, "{response:?}");
    }
    assert!(api.requests().is_empty());
}

#[test]
fn connections_are_kept_and_closed_as_the_client_wishes() {
    let api = Backend::start("api");
    let gate = before(&api);
    let mut client = gate.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "api");
    }
    let last = client.ask(&Request::get("/").header("Connection", "close"));
    assert_eq!(last.text(), "api");
    assert!(last.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")), "{last:?}");
    assert!(client.until_closed().is_empty());
    // A server that closes after its answer does not end the client's connection.
    api.answers(Reply::ok("bye").then_close());
    let mut client = gate.connect();
    assert_eq!(client.get("/").text(), "bye");
    assert_eq!(client.get("/").text(), "bye");
}

#[test]
fn an_http_1_0_client_is_answered_in_its_own_terms() {
    let api = Backend::start("api");
    let gate = before(&api);
    for reply in [Reply::ok("answer"), Reply::ok("answer").chunked()] {
        api.answers(reply);
        let mut client = gate.connect();
        client.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n");
        let response = client.response();
        assert_eq!(response.header("transfer-encoding"), None, "HTTP/1.0 has no chunks: {response:?}");
        assert_eq!(response.text(), "answer");
        assert!(client.until_closed().is_empty(), "closed unless the client asks otherwise");
    }
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let api = Backend::start("api");
    api.answers_by(|request| match request.target.as_str() {
        "/204" => Reply::new(204, ""),
        "/304" => Reply::new(304, "").header("ETag", "\"x\""),
        _ => Reply::ok("body"),
    });
    let gate = before(&api);
    let mut client = gate.connect();
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/304").header("etag").as_deref(), Some("\"x\""));
    let head = client.ask(&Request::new("HEAD", "/"));
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("4")));
    assert_eq!(client.get("/").text(), "body");
}

#[test]
fn an_answer_that_ends_with_the_connection_passes_whole() {
    let api = RawServer::saying("api", "HTTP/1.1 200 OK\r\nX-Kind: until the end\r\n\r\nall of this");
    let gate = before(&api);
    let mut client = gate.connect();
    assert_eq!(client.get("/").text(), "all of this");
    assert_eq!(client.get("/").text(), "all of this", "the client's own connection goes on");
}

#[test]
fn the_first_bytes_of_an_answer_do_not_wait_for_the_last() {
    let api = RawServer::start("api", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        // Goes on only when the test is over and the gate closes.
        let _ = stream.read(&mut [0; 1]);
    });
    let gate = before(&api);
    let mut client = gate.connect();
    client.send(Request::get("/events").bytes());
    let mut seen = Vec::new();
    while !seen.ends_with(b"first") {
        seen.extend(client.read_exactly(1).expect("the first chunk arrives by itself"));
    }
}

#[test]
fn an_interim_answer_is_not_taken_for_the_final_one() {
    let api = RawServer::saying(
        "api",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone",
    );
    let gate = before(&api);
    let mut client = gate.connect();
    client.send(Request::get("/").bytes());
    let mut response = client.response();
    while response.status < 200 {
        response = client.response();
    }
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
}

#[test]
fn answers_that_are_no_http_are_502() {
    for nonsense in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 twohundred OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        let api = RawServer::saying("api", nonsense);
        let gate = Gate::start(
            "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api], retry: { attempts: 1 } } }
",
            &[&api],
        );
        assert_eq!(gate.get("/").status, 502, "{nonsense:?}");
    }
}

#[test]
fn an_answer_that_comes_before_the_whole_request_is_delivered() {
    let api = RawServer::start("api", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        std::thread::sleep(Duration::from_millis(300));
    });
    let gate = before(&api);
    let mut client = gate.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly a part");
    assert_eq!(client.response().status, 401);
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let echo = RawServer::start("api", |mut stream| {
        let head = String::from_utf8_lossy(&read_head(&mut stream)).to_lowercase();
        if !head.contains("upgrade: websocket") {
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
    let gate = before(&echo);
    let mut client = Client::connect(gate.at("web"));
    client.send(
        "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.response().status, 101);
    for word in ["hello", "again"] {
        client.send(word);
        assert_eq!(client.read_exactly(word.len()).expect("the echo"), word.as_bytes());
    }
}

#[test]
fn an_upgrade_that_breaks_later_is_not_tried_again() {
    let dying = RawServer::start("api", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        // closed with unread bytes in it, the socket is reset
        let _ = stream.peek(&mut [0]);
    });
    let gate = before(&dying);
    let mut client = Client::connect(gate.at("web"));
    client.send(
        "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.response().status, 101);
    client.send("hello");
    assert!(client.until_closed().is_empty(), "nothing of another answer in the tunnel");
    assert_eq!(gate.logged_path("/chat")["attempts"], 1);
}

#[test]
fn a_client_that_goes_away_does_not_disturb_the_next() {
    let api = Backend::start("api");
    api.answers(Reply::ok("answer").after(Duration::from_millis(200)));
    let gate = before(&api);
    for _ in 0..5 {
        let mut client = gate.connect();
        client.send(Request::get("/").bytes());
        drop(client);
    }
    assert_eq!(gate.get("/").text(), "answer");
}
