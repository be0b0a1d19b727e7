//! The promise: a client of HTTP/2 asks for a WebSocket with an extended CONNECT (RFC 8441), and the server sees the
//! upgrade of HTTP/1.1: the same routes, filters, limits, tries and log as for every request, and no other tunnel.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::ext::Protocol;
use harness::websocket::{Event, H2Stream, WebSocketServer, ask, by_h2, connect, h2, open, within};
use harness::{Backend, Gate, RawServer, RefusedAddress, Request, ServerAddress, eventually, read_head};
use serde_json::json;
use std::io::{Read, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

/// A gate on `$web`, with this said of the route and of the group, whose servers these are.
fn start(servers: &[&dyn ServerAddress], route: &str, group: &str) -> Gate {
    let names: Vec<_> = servers.iter().map(|server| format!("${}", server.label())).collect();
    let config = format!(
        "server: {{ threads: 1, grace_period_seconds: 1 }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group, {route} }}]
upstreams: {{ group: {{ servers: [{}], {group} }} }}
",
        names.join(", "),
    );
    Gate::start(&config, servers)
}

/// The status of the answer to this, and the body of one that opens nothing.
fn answer(gate: &Gate, request: http::request::Builder) -> (u16, String) {
    within(async {
        let sender = h2(gate.at("web"), None).await;
        let (head, mut stream) = ask(&sender, request).await.expect("an answer");
        let mut body = Vec::new();
        if head.status != 200 {
            stream.read_to_end(&mut body).await.expect("a body");
        }
        (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
    })
}

/// A server that answers every head with this, `ACCEPT` being what the key asks for, then sends back what it gets.
fn switching(label: &str, answer: &'static str) -> RawServer {
    switching_and(label, answer, b"")
}

/// One that says something first.
fn switching_and(label: &str, answer: &'static str, says: &'static [u8]) -> RawServer {
    RawServer::start(label, move |mut stream| {
        let head = String::from_utf8_lossy(&read_head(&mut stream)).into_owned();
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
        });
        let Some(key) = key else { return };
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let _ = stream.write_all(&[answer.replace("ACCEPT", &accept).as_bytes(), says].concat());
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..count]);
        }
    })
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: ACCEPT\r\nContent-Length: 0\r\nX-From: server\r\n\r\n";

#[test]
fn the_server_sees_an_upgrade_like_any_other() {
    let server = WebSocketServer::start("api");
    let gate = start(
        &[&server],
        "filters: [{ headers: { request: { set: { X-Edge: weirgate } }, response: { set: { X-Back: yes } } } }]",
        "",
    );
    within(async {
        let sender = h2(gate.at("web"), None).await;
        let request = connect("/chat?room=1")
            .header("sec-websocket-protocol", "chat, superchat")
            .header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
            .header("sec-websocket-key", "bm90IHRha2VuIG92ZXIhIQ==")
            .header("te", "trailers")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let (head, _stream) = ask(&sender, request).await.expect("an answer");
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["sec-websocket-protocol"], "chat");
        assert_eq!(head.headers["sec-websocket-extensions"], "permessage-deflate; client_max_window_bits");
        assert_eq!(head.headers["x-back"], "yes", "the filters of the answer");
        for name in ["sec-websocket-accept", "connection", "upgrade", "content-length"] {
            assert!(!head.headers.contains_key(name), "{name} is of HTTP/1.1");
        }
    });
    assert_eq!(server.seen()[0], Event::Opened("GET /chat?room=1".into()));
    let head = server.last_head();
    let all = |name: &str| -> Vec<_> {
        head.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    for (name, value) in [
        ("host", "localhost"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("cookie", "a=1; b=2"),
        ("x-edge", "weirgate"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(all(name).join(" and "), value, "{name}");
    }
    assert!(all("te").is_empty() && all("x-request-id").len() == 1);
    assert!(all("sec-websocket-key").len() == 1 && all("sec-websocket-key")[0].len() == 24, "ours");
    let line = gate.logged_path("/chat?room=1");
    assert_eq!((&line["status"], &line["protocol"]), (&json!(101), &json!("HTTP/2.0")), "{line}");
    assert_eq!((&line["method"], &line["attempts"]), (&json!("GET"), &json!(1)), "{line}");
}

#[test]
fn nothing_but_a_websocket_is_tunnelled() {
    let server = Backend::start("api");
    let gate = start(&[&server], "", "");
    let plain = http::Request::builder().method("CONNECT").uri("smuggled.example:443");
    let other = |name: &'static str| connect("/other").extension(Protocol::from_static(name));
    for (request, status, protocol) in [
        (plain, 405, "CONNECT"),
        (other("connect-udp"), 501, "CONNECT"),
        (other("connect-ip"), 501, "CONNECT"),
        (other("h2c"), 501, "CONNECT"),
        (connect("/length").header("content-length", "5"), 400, "CONNECT"),
        (connect(&format!("/{}", "a".repeat(9000))), 414, "CONNECT"),
    ] {
        let before = server.requests().len();
        let told = format!("{request:?}");
        let (got, body) = answer(&gate, request);
        assert!(got == status && body.starts_with(&format!("{status} ")), "{told}: {got} {body}");
        assert_eq!(server.requests().len(), before, "{told}");
        gate.logged(|line| line["status"] == json!(status) && line["method"] == json!(protocol));
    }
}

/// The name of the protocol is one of HTTP's, which has no case (RFC 9110 §7.8).
#[test]
fn a_websocket_in_capitals_is_one() {
    let server = WebSocketServer::start("api");
    let gate = start(&[&server], "", "");
    let request = connect("/").extension(Protocol::from_static("WebSocket"));
    assert_eq!(answer(&gate, request).0, 200);
}

#[test]
fn routes_filters_and_servers_may_say_no() {
    let server = WebSocketServer::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, protocols: [h1, h2] }]
routes:
  - { path: /denied, upstream: api, filters: [{ ip: { deny: [127.0.0.0/8] } }] }
  - { path: /posted, methods: [POST], upstream: api }
  - { path: /forbidden, upstream: api }
  - { exact: /pong, respond: { status: 200, body: pong } }
  - { exact: /gone, redirect: { to: /new, status: 308 } }
upstreams: { api: { servers: [$api] } }
",
        &[&server],
    );
    assert_eq!(answer(&gate, connect("/denied")).0, 403);
    assert_eq!(answer(&gate, connect("/posted")).0, 404, "it is a GET");
    assert_eq!(answer(&gate, connect("/nowhere")).0, 404);
    assert!(server.seen().is_empty());
    assert_eq!(answer(&gate, connect("/forbidden")), (403, "no".into()), "what the server says");
    assert_eq!(answer(&gate, connect("/gone")).0, 308);
    // a success would be taken for an open WebSocket
    assert_eq!(answer(&gate, connect("/pong")), (501, "pong".into()));
    assert_eq!(gate.logged_path("/pong")["status"], 501);
}

#[test]
fn a_server_that_does_not_switch_opens_nothing() {
    let api = Backend::start("api");
    let gate = start(&[&api], "", "retry: { attempts: 1 }");
    assert_eq!(answer(&gate, connect("/page")), (501, "api".into()));
    let line = gate.logged_path("/page");
    assert_eq!((&line["status"], &line["attempts"]), (&json!(501), &json!(1)));
    // nor is it thought less of
    assert_eq!(gate.get("/").text(), "api");
}

#[test]
fn only_the_answer_to_our_key_is_a_switch() {
    for wrong in [
        SWITCH.replace("Sec-WebSocket-Accept: ACCEPT\r\n", ""),
        SWITCH.replace("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        SWITCH.replace("ACCEPT\r\n", "ACCEPT\r\nSec-WebSocket-Accept: ACCEPT\r\n"),
    ] {
        let liar = switching("liar", wrong.leak());
        let gate = start(&[&liar], "", "retry: { attempts: 1 }");
        assert_eq!(answer(&gate, connect("/chat")).0, 502);
        assert_eq!(gate.logged_path("/chat")["status"], 502);
    }
    let (liar, server) =
        (switching("liar", SWITCH.replace("ACCEPT", "wrong").leak()), switching("api", SWITCH));
    let gate = start(&[&liar, &server], "", "retry: { attempts: 2, when: [connect, reset] }");
    for _ in 0..4 {
        assert_eq!(answer(&gate, connect("/chat")).0, 200, "another server is tried");
    }
}

#[test]
fn a_server_that_is_down_is_not_the_last_one_tried() {
    let (down, server) = (RefusedAddress::new("down"), WebSocketServer::start("api"));
    let gate = start(&[&down, &server], "", "retry: { attempts: 2 }");
    for _ in 0..4 {
        within(async {
            let mut socket = by_h2(gate.at("web"), None, "/").await;
            socket.send(Message::text("here")).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("here"));
        });
    }
}

#[test]
fn it_counts_as_a_request_in_flight_until_it_ends() {
    let server = WebSocketServer::start("api");
    let gate = start(&[&server], "", "limits: { requests: 1 }");
    within(async {
        let sender = h2(gate.at("web"), None).await;
        let mut first = open(&sender, "/").await;
        let (second, _) = ask(&sender, connect("/")).await.unwrap();
        assert_eq!(second.status, 503);
        first.close(None).await.unwrap();
        while first.next().await.is_some_and(|next| next.is_ok()) {}
        drop(first);
        // its end has to get around
        loop {
            let (third, _) = ask(&sender, connect("/")).await.unwrap();
            if third.status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_silent_server_is_waited_for_as_long_as_the_tunnel_says() {
    let server = WebSocketServer::start("api");
    let gate = start(&[&server], "", "timeouts: { response: 300ms, tunnel: 1500ms }");
    within(async {
        let mut socket = by_h2(gate.at("web"), None, "/quiet").await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        socket.send(Message::text("still here")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
        let end = socket.next().await;
        assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    });
}

async fn raw(gate: &Gate, path: &str) -> H2Stream {
    let sender = h2(gate.at("web"), None).await;
    let (head, stream) = ask(&sender, connect(path)).await.expect("an answer");
    assert_eq!(head.status, 200);
    stream
}

/// What the client reads after the switch until its stream ends, because the gate does.
fn at_the_deadline(says: &'static [u8]) -> Vec<u8> {
    let api = switching_and("api", SWITCH, says);
    let gate = start(&[&api], "", "");
    let rest = within(async {
        let mut stream = raw(&gate, "/chat").await;
        let mut said = vec![0; says.len()];
        stream.read_exact(&mut said).await.expect("what the server says");
        assert_eq!(said, says);
        gate.terminate();
        let mut rest = Vec::new();
        // the end may be one in order or not
        let _ = stream.read_to_end(&mut rest).await;
        rest
    });
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

/// The server does not read: the client is held up, and no other stream is.
#[test]
fn a_tunnel_that_is_full_holds_up_nobody_else() {
    let server = WebSocketServer::start("api");
    let page = Backend::start("page");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, protocols: [h1, h2] }]
routes: [{ path: /, upstream: page }, { path: /deaf, upstream: api }]
upstreams: { api: { servers: [$api] }, page: { servers: [$page] } }
",
        &[&server, &page],
    );
    within(async {
        let sender = h2(gate.at("web"), None).await;
        let (_, mut stream) = ask(&sender, connect("/deaf")).await.unwrap();
        let (mut sent, most) = (0, 64 * 1024 * 1024);
        while sent < most {
            let writing = tokio::time::timeout(Duration::from_secs(1), stream.write(&[0; 16 * 1024]));
            let Ok(wrote) = writing.await else { break };
            sent += wrote.expect("room");
        }
        assert!(sent < most, "everything was taken");
        let request = http::Request::get("http://localhost/page").body(()).unwrap();
        let (answer, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    });
}

/// A client may end its side with its last word, and still hears the server's.
#[test]
fn the_last_word_is_heard_by_a_client_that_has_said_its_own() {
    let server = switching("api", SWITCH);
    let gate = start(&[&server], "", "");
    within(async {
        let mut stream = raw(&gate, "/").await;
        stream.send.send_data(Bytes::from_static(b"goodbye"), true).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.expect("an end in order");
        assert_eq!(heard, b"goodbye");
    });
}

#[test]
fn a_client_that_resets_its_stream_leaves_its_server_too() {
    let server = WebSocketServer::start("api");
    let gate = start(&[&server], "", "");
    within(async {
        let sender = h2(gate.at("web"), None).await;
        let (_, mut stream) = ask(&sender, connect("/")).await.unwrap();
        stream.write_all(&[0x81, 0x84, 0, 0, 0, 0, b'h', b'e', b'r', b'e']).await.unwrap();
        let mut echo = [0; 6];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"\x81\x04here");
        stream.send.send_reset(h2::Reason::CANCEL);
        // the connection and what else is on it goes on
        let mut other = open(&sender, "/").await;
        other.send(Message::text("still")).await.unwrap();
        assert_eq!(other.next().await.unwrap().unwrap(), Message::text("still"));
        eventually("the server to be left", || server.seen().contains(&Event::Gone));
    });
}

/// Servers of HTTP/2 are asked for a WebSocket in HTTP/1.1, which all of them speak.
#[test]
fn a_tls_group_of_h2_is_asked_in_h1() {
    let authority = harness::Authority::new();
    let builder = harness::Origin::with("api");
    let name = builder.address().ip().to_string();
    let origin = builder.tls(authority.issue(&[&name])).alpn(&["h2", "http/1.1"]).start();
    let gate = Gate::with(&[&origin]).file("ca.crt", authority.pem()).start(
        "listeners: [{ name: web, address: $web, protocols: [h1, h2] }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$api], protocol: h2, tls: { ca: $dir/ca.crt } } }
",
    );
    within(async {
        let mut said = [0; 5];
        raw(&gate, "/").await.read_exact(&mut said).await.expect("what the server says");
        assert_eq!(&said, b"hello");
    });
    assert_eq!(origin.last().protocol, "h1");
    assert_eq!(origin.last().headers["upgrade"], "websocket");
    assert_eq!(gate.ask(&Request::get("/")).status, 200);
    assert_eq!(origin.last().protocol, "h2");
}
