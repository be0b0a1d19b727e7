//! The promise: `protocol` says what servers are spoken to: h2 over TLS, h2c without, or what they prefer. Many requests share
//! a connection, and what happens to one of them happens to no other.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use bytes::Bytes;
use harness::{Authority, Gate, H2Client, Origin, Request, ServerAddress, eventually, runtime};
use std::net::SocketAddr;

/// A gate in front of these servers, with this said of the group. `$dir/ca.crt` is the authority.
fn start(authority: &Authority, servers: &[&dyn ServerAddress], group: &str) -> Gate {
    let names: Vec<_> = servers.iter().map(|server| format!("${}", server.label())).collect();
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [{}], {group} }} }}
",
        names.join(", "),
    );
    Gate::with(servers).file("ca.crt", authority.pem()).start(&config)
}

/// An origin that agrees on these protocols.
fn origin(label: &str, authority: &Authority, alpn: &[&str]) -> Origin {
    let builder = Origin::with(label);
    let name = builder.address().ip().to_string();
    builder.tls(authority.issue(&[&name])).alpn(alpn).start()
}

fn h2c() -> Origin {
    Origin::with("one").h2().start()
}

const H2: &str = "tls: { ca: $dir/ca.crt }, protocol: h2";
const H2C: &str = "protocol: h2c";
const AUTO: &str = "tls: { ca: $dir/ca.crt }, protocol: auto";

fn error(gate: &Gate, path: &str) -> String {
    gate.logged_path(path)["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn requests_share_a_connection_over_tls_and_without() {
    let authority = Authority::new();
    let (over_tls, plain) = (origin("one", &authority, &["h2"]), h2c());
    for (origin, group) in [(&over_tls, H2), (&plain, H2C)] {
        let gate = start(&authority, &[origin], group);
        assert_eq!(gate.get("/").text(), "one");
        let mut client = H2Client::connect_plaintext(gate.at("web"));
        let together: Vec<_> = (0..20).map(|number| Request::get(&format!("/slow/{number}"))).collect();
        for answer in client.try_ask_all(&together) {
            assert_eq!(answer.unwrap().text(), "one");
        }
        assert_eq!(gate.ask(&Request::post("/", "a body")).text(), "one");
        assert_eq!(origin.last().body, b"a body");
        assert!(origin.arrived().iter().all(|one| one.protocol == "h2"));
        assert_eq!(origin.connections(), 1, "{group}");
        assert_eq!(origin.last().host, "gate.test", "the client's Host");
    }
}

#[test]
fn what_a_server_prefers_is_spoken() {
    let authority = Authority::new();
    for (alpn, protocol) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "h1"), (&[], "h1")] {
        let origin = origin("one", &authority, alpn);
        let gate = start(&authority, &[&origin], AUTO);
        for _ in 0..3 {
            assert_eq!(gate.get("/").text(), "one");
        }
        assert_eq!(origin.last().protocol, protocol, "{alpn:?}");
        assert_eq!(origin.connections(), 1);
    }
    let plain = Origin::with("one").start();
    let gate = start(&authority, &[&plain], "protocol: auto");
    assert_eq!(gate.get("/").text(), "one");
}

#[test]
fn a_server_that_does_not_speak_what_is_wanted_gets_no_request() {
    let authority = Authority::new();
    let good = origin("good", &authority, &["h2"]);
    // one that says so, and one that does not know the question
    for alpn in [&["http/1.1"][..], &[]] {
        let bad = origin("bad", &authority, alpn);
        let alone = start(&authority, &[&bad], H2);
        assert_eq!(alone.get("/alone").status, 502);
        assert_eq!(error(&alone, "/alone"), "no server answered");
        eventually("the reason", || alone.stderr().contains("the server does not speak"));
        let gate = start(&authority, &[&bad, &good], H2);
        for _ in 0..4 {
            assert_eq!(gate.ask(&Request::post("/", "once")).text(), "good");
        }
        assert!(bad.arrived().is_empty(), "{alpn:?}");
    }
    assert_eq!(good.arrived().len(), 8);
    // and one that speaks another protocol altogether
    let plain = Origin::with("one").start();
    let gate = start(&authority, &[&plain], "protocol: h2c, timeouts: { response: 2s }");
    assert!([502, 504].contains(&gate.get("/").status));
}

#[test]
fn grpc_passes_with_its_trailers() {
    let authority = Authority::new();
    let origin = h2c();
    let gate = start(&authority, &[&origin], H2C);
    let (status, body, trailers) = call(gate.at("web"), "/grpc.test/Echo", b"\0\0\0\0\x02hi");
    assert_eq!((status, body.as_slice()), (200, &b"\0\0\0\0\x02hi"[..]));
    assert_eq!(trailers.expect("trailers").get("grpc-status").expect("a status"), "0");
    let arrived = origin.last();
    assert_eq!(arrived.headers.get("te").expect("te"), "trailers");
    assert_eq!(arrived.headers.get("content-type").expect("a type"), "application/grpc");
}

/// One call, as a gRPC client makes it.
fn call(to: SocketAddr, path: &str, message: &'static [u8]) -> (u16, Vec<u8>, Option<http::HeaderMap>) {
    let runtime = runtime();
    let calling = async {
        let tcp = tokio::net::TcpStream::connect(to).await.unwrap();
        let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let head = http::Request::post(format!("http://{to}{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        let mut sender = sender.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(head.body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from_static(message), true).unwrap();
        let (head, mut stream) = response.await.unwrap().into_parts();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            body.extend_from_slice(&piece.unwrap());
        }
        (head.status.as_u16(), body, stream.trailers().await.unwrap())
    };
    runtime.block_on(async { tokio::time::timeout(harness::PATIENCE, calling).await }).expect("in time")
}

#[test]
fn a_stream_that_is_refused_is_tried_again_whatever_its_method() {
    let authority = Authority::new();
    let origin = h2c();
    let gate = start(&authority, &[&origin], "protocol: h2c, retry: { attempts: 3 }");
    assert_eq!(gate.get("/").status, 200);
    assert_eq!(gate.ask(&Request::post("/refuse", "once")).text(), "one");
    let posts: Vec<_> = origin.arrived().into_iter().filter(|one| one.method == "POST").collect();
    assert_eq!((posts.len(), posts[0].body.as_slice()), (1, &b"once"[..]));
}

#[test]
fn a_stream_that_breaks_is_tried_again_only_when_that_is_safe() {
    let authority = Authority::new();
    let (bad, worse) = (h2c(), Origin::with("two").h2().start());
    let gate = start(&authority, &[&bad, &worse], "protocol: h2c, retry: { attempts: 3 }");
    assert_eq!(gate.get("/break/get").status, 502);
    assert_eq!(gate.ask(&Request::post("/break/post", "once")).status, 502);
    let both = || bad.arrived().into_iter().chain(worse.arrived());
    assert_eq!(both().filter(|one| one.path == "/break/get").count(), 2, "one for each server");
    assert_eq!(both().filter(|one| one.path == "/break/post").count(), 1);
    assert!(gate.stderr().contains("HTTP/2: "), "{}", gate.stderr());
}

#[test]
fn a_status_is_tried_again_on_another_server() {
    let authority = Authority::new();
    let (one, two) = (h2c(), Origin::with("two").h2().start());
    let gate = start(&authority, &[&one, &two], "protocol: h2c, retry: { attempts: 2, when: [503] }");
    for number in 0..4 {
        assert_eq!(gate.get(&format!("/unwell/{number}")).status, 503);
    }
    assert_eq!((one.arrived().len(), two.arrived().len()), (4, 4));
    assert_eq!(
        (one.connections(), two.connections()),
        (1, 1),
        "their streams end, and not their connections"
    );
}

#[test]
fn a_connection_that_is_going_away_is_left_without_loss() {
    let authority = Authority::new();
    let origin = h2c();
    let gate = start(&authority, &[&origin], H2C);
    for _ in 0..10 {
        assert_eq!(gate.get("/bye").text(), "one");
        assert_eq!(gate.ask(&Request::post("/", "once")).text(), "one");
    }
}

#[test]
fn a_deadline_ends_one_request_and_no_other() {
    let authority = Authority::new();
    for (timeouts, why) in [
        ("response: 600ms", "response timed out"),
        ("first_byte: 600ms, response: 60s", "first byte timed out"),
        ("try: 600ms", "try timed out"),
        ("request: 600ms", "request timed out"),
    ] {
        let origin = h2c();
        let gate = start(
            &authority,
            &[&origin],
            &format!("protocol: h2c, timeouts: {{ {timeouts} }}, retry: {{ attempts: 1 }}"),
        );
        assert_eq!(gate.get("/").status, 200);
        let mut client = H2Client::connect_plaintext(gate.at("web"));
        let mut together = vec![Request::get("/hang")];
        together.extend((0..4).map(|number| Request::get(&format!("/slow/{number}"))));
        let answers = client.try_ask_all(&together);
        let status: Vec<_> =
            answers.iter().map(|answer| answer.as_ref().map(|one| one.status).ok()).collect();
        assert_eq!(status, [504, 200, 200, 200, 200].map(Some), "{timeouts}");
        assert_eq!(error(&gate, "/hang"), why);
    }
}

#[test]
fn an_answer_that_falls_silent_is_reset() {
    let authority = Authority::new();
    let origin = h2c();
    let gate = start(&authority, &[&origin], "protocol: h2c, timeouts: { response: 400ms }");
    let mut client = H2Client::connect_plaintext(gate.at("web"));
    let broken = client.try_ask(&Request::get("/drip")).expect_err("half an answer is none");
    let broken = broken.downcast_ref::<h2::Error>().expect("an error of HTTP/2");
    assert!(broken.is_reset() && broken.is_remote(), "{broken}");
    assert_eq!(client.get("/").text(), "one", "the connection goes on");
    assert_eq!(error(&gate, "/drip"), "response timed out");
}

#[test]
fn a_client_that_leaves_ends_its_stream_alone() {
    let authority = Authority::new();
    let origin = h2c();
    let gate = start(&authority, &[&origin], H2C);
    let mut client = H2Client::connect_plaintext(gate.at("web"));
    let there = || origin.arrived().iter().any(|one| one.path == "/hang");
    assert!(client.ask_and_leave(&Request::get("/hang"), there));
    gate.logged_path("/hang");
    assert_eq!(client.get("/").text(), "one");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_websocket_is_asked_for_over_http1() {
    let authority = Authority::new();
    let origin = origin("one", &authority, &["h2", "http/1.1"]);
    for group in [AUTO, H2] {
        let gate = start(&authority, &[&origin], group);
        assert_eq!(gate.get("/").status, 200);
        assert_eq!(origin.last().protocol, "h2");
        let mut client = gate.connect();
        client.send(
            b"GET /ws HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        let mut got = String::new();
        while !got.ends_with("hello") {
            got.push_str(&String::from_utf8_lossy(&client.read_exactly(1).expect("more")));
        }
        assert!(got.starts_with("HTTP/1.1 101 "), "{got}");
        assert_eq!(origin.last().protocol, "h1");
    }
}
