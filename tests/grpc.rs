//! The promise: gRPC passes in both directions while a call is open, with its metadata, statuses and cancellations; what
//! the gate itself has to say to a call is a status of gRPC, and its deadline is kept and passed on.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use bytes::Bytes;
use harness::grpc::{
    BOTH_STREAM, CLIENT_STREAM, GrpcServer, Raw, SERVER_STREAM, client, path, run, unary, with,
};
use harness::{Authority, Gate, Origin, Request as HttpRequest, ServerAddress, eventually};
use http::HeaderMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc as Calls;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

/// A gate for h2c in front of these servers over h2c, with this said of the group.
fn start(servers: &[&dyn ServerAddress], group: &str) -> Gate {
    let names: Vec<_> = servers.iter().map(|server| format!("${}", server.label())).collect();
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [{}], protocol: h2c, {group} }} }}
",
        names.join(", "),
    );
    Gate::start(&config, servers)
}

/// TLS on both sides: the gate, its server, and the authority of both.
fn start_tls() -> (Gate, GrpcServer, Authority) {
    let authority = Authority::new();
    let address = SocketAddr::from((harness::own_loopback(), 0));
    let server = GrpcServer::start_tls("one", address, authority.issue(&[&address.ip().to_string()]));
    let (cert, key) = authority.issue(&["gate.test"]);
    let gate = Gate::with(&[&server])
        .file("ca.crt", authority.pem())
        .file("gate.crt", cert)
        .file("gate.key", key)
        .start(
            "server: { threads: 1 }
listeners: [{ name: web, address: $web, tls: { certificates: [{ cert: $dir/gate.crt, key: $dir/gate.key }] } }]
routes: [{ path: /test.Test, upstream: group }]
upstreams: { group: { servers: [$one], protocol: h2, tls: { ca: $dir/ca.crt } } }
",
        );
    (gate, server, authority)
}

fn message(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn all_four_kinds(calls: &mut Calls<Channel>) {
    let answer = unary(calls, Request::new(message("one"))).await.unwrap();
    assert_eq!(answer.get_ref(), "one");
    let answer = unary(calls, Request::new(Bytes::new())).await.unwrap();
    assert_eq!(answer.get_ref(), "");

    calls.ready().await.unwrap();
    let three = Request::new(message("\u{3}"));
    let mut stream = calls.server_streaming(three, path(SERVER_STREAM), Raw).await.unwrap().into_inner();
    for _ in 0..3 {
        assert_eq!(stream.message().await.unwrap().unwrap(), "\u{3}");
    }
    assert_eq!(stream.message().await.unwrap(), None);
    assert!(stream.trailers().await.unwrap().is_some());

    calls.ready().await.unwrap();
    let several = tokio_stream::iter([message("a"), message("b"), message("c")]);
    let answer = calls.client_streaming(Request::new(several), path(CLIENT_STREAM), Raw).await.unwrap();
    assert_eq!(answer.get_ref(), "abc");

    // the next message is sent when the last one has come back: both sides speak while the call is open
    calls.ready().await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let messages = Request::new(ReceiverStream::new(receiver));
    let mut stream = calls.streaming(messages, path(BOTH_STREAM), Raw).await.unwrap().into_inner();
    for text in ["first", "second", "third"] {
        sender.send(message(text)).await.unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap(), text);
    }
    drop(sender);
    assert_eq!(stream.message().await.unwrap(), None);
}

#[test]
fn all_four_kinds_of_calls_pass_over_tls_and_without() {
    let server = GrpcServer::start("one");
    let gate = start(&[&server], "");
    run(async { all_four_kinds(&mut client(gate.at("web"), None).await).await });
    let (gate, _server, authority) = start_tls();
    run(async { all_four_kinds(&mut client(gate.at("web"), Some(authority.pem())).await).await });
    let line = gate.logged_path(BOTH_STREAM);
    assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &0.into()), "{line}");
    assert!(line.get("error").is_none(), "{line}");
}

#[test]
fn large_messages_and_many_calls_at_once() {
    let server = GrpcServer::start("one");
    let gate = start(&[&server], "");
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        let large = Bytes::from(vec![7; 8 * 1024 * 1024]);
        let answer = unary(&mut calls, Request::new(large.clone())).await.unwrap();
        assert_eq!(answer.into_inner(), large);
        let together: Vec<_> = (0..300u32)
            .map(|number| {
                let mut calls = calls.clone();
                let text = Bytes::from(number.to_string());
                tokio::spawn(async move {
                    let answer = unary(&mut calls, Request::new(text.clone())).await.unwrap();
                    assert_eq!(answer.into_inner(), text);
                })
            })
            .collect();
        for one in together {
            one.await.unwrap();
        }
    });
    assert_eq!(server.seen().len(), 301);
}

#[test]
fn metadata_and_statuses_are_what_the_other_side_has_said() {
    let server = GrpcServer::start("one");
    let gate = start(&[&server], "");
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        let mut request = with(message("x"), &[("echo-text", "some text"), ("x-other", "1")]);
        let binary = MetadataValue::from_bytes(b"\0\x01\xff");
        request.metadata_mut().insert_bin("echo-some-bin", binary.clone());
        request.metadata_mut().append_bin("echo-some-bin", MetadataValue::from_bytes(b""));
        let answer = unary(&mut calls, request).await.unwrap();
        assert_eq!(answer.metadata().get("echo-text").unwrap(), "some text");
        let values: Vec<_> = answer.metadata().get_all_bin("echo-some-bin").iter().cloned().collect();
        assert_eq!(values, [binary, MetadataValue::from_bytes(b"")]);

        // the status is all there is, as a head (Trailers-Only), or comes after messages, as trailers
        for code in [Code::NotFound, Code::ResourceExhausted, Code::Internal, Code::Unauthenticated] {
            let number = (code as i32).to_string();
            let orders = [("do", "fail"), ("code", number.as_str()), ("echo-why", "because")];
            let failed = unary(&mut calls, with(message("x"), &orders)).await.unwrap_err();
            let late = [("do", "fail-late"), ("code", number.as_str()), ("echo-why", "because")];
            calls.ready().await.unwrap();
            let stream = with(message("\u{2}"), &late);
            let mut stream =
                calls.server_streaming(stream, path(SERVER_STREAM), Raw).await.unwrap().into_inner();
            assert_eq!(stream.message().await.unwrap().unwrap(), "\u{2}");
            for status in [failed, stream.message().await.unwrap_err()] {
                assert_eq!((status.code(), status.message()), (code, "100% \u{2717}"));
                assert_eq!(status.details(), b"\0\xffdetails");
                assert_eq!(status.metadata().get("echo-why").unwrap(), "because");
            }
        }
    });
    assert_eq!(server.seen()[0].get("x-other").unwrap(), "1");
    gate.logged(|line| line["path"] == SERVER_STREAM && line["grpc_status"] == 16);
}

#[test]
fn a_client_that_gives_up_is_given_up_at_the_server() {
    let server = GrpcServer::start("one");
    let gate = start(&[&server], "");
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        let waiting = {
            let mut calls = calls.clone();
            tokio::spawn(async move { unary(&mut calls, with(message("x"), &[("do", "hang")])).await })
        };
        while server.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        waiting.abort();
        let stream = with(message("\u{2}"), &[("do", "hang")]);
        calls.ready().await.unwrap();
        let mut stream = calls.server_streaming(stream, path(SERVER_STREAM), Raw).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        drop(stream);
        while server.cancelled() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(
            unary(&mut calls, Request::new(message("x"))).await.unwrap().get_ref(),
            "x",
            "others go on"
        );
    });
    for called in [harness::grpc::UNARY, SERVER_STREAM] {
        let line = gate.logged(|line| line["path"] == called && line["error"] == "client closed");
        assert!(line.get("grpc_status").is_none(), "nobody was there to be told one: {line}");
    }
}

#[test]
fn a_server_may_end_a_call_before_its_client() {
    let server = GrpcServer::start("one");
    let gate = start(&[&server], "");
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        for _ in 0..10 {
            calls.ready().await.unwrap();
            let (sender, receiver) = mpsc::channel(1);
            let messages = with(ReceiverStream::new(receiver), &[("do", "fail"), ("code", "9")]);
            let failed = calls.streaming(messages, path(BOTH_STREAM), Raw).await.unwrap_err();
            assert_eq!(failed.code(), Code::FailedPrecondition);
            drop(sender);
        }
    });
    for line in (0..10).map(|_| gate.logged_path(BOTH_STREAM)) {
        assert_eq!((&line["grpc_status"], line.get("error")), (&9.into(), None), "{line}");
    }
}

#[test]
fn a_stream_may_be_silent_for_longer_than_a_body() {
    let server = GrpcServer::start("one");
    let gate = Gate::start(
        "server: { threads: 1 }
listeners: [{ name: web, address: $web, protocols: [h2], limits: { body_timeout: 500ms, idle_timeout: 500ms } }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$one], protocol: h2c, timeouts: { try: 60s } } }
",
        &[&server],
    );
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        calls.ready().await.unwrap();
        let (sender, receiver) = mpsc::channel(1);
        let messages = Request::new(ReceiverStream::new(receiver));
        let mut stream = calls.streaming(messages, path(BOTH_STREAM), Raw).await.unwrap().into_inner();
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            sender.send(message("still there")).await.unwrap();
            assert_eq!(stream.message().await.unwrap().unwrap(), "still there");
        }
    });
}

const REFUSING: &str = "server: { threads: 1 }
listeners: [{ name: web, address: $web, protocols: [h1, h2] }]
error_pages: [{ status: [403, 404], body: a page }]
filters: { id: [{ headers: { response: { set: { X-Edge: gate } } } }] }
routes:
  - { path: /test.Test/Nobody, upstream: nobody, filters: [{ use: id }] }
  - { path: /test.Test/Secret, upstream: group, filters: [{ use: id }, { ip: { deny: [127.0.0.0/8] } }] }
  - { path: /test.Test/Small, upstream: group, filters: [{ use: id }], limits: { max_body_bytes: 10B } }
  - { path: /hang/silent, upstream: group, filters: [{ use: id }], timeouts: { response: 300ms } }
  - { path: /hang/late, upstream: group, filters: [{ use: id }], timeouts: { request: 300ms } }
upstreams:
  group: { servers: [$one], protocol: h2c }
  nobody: { servers: [$nobody], protocol: h2c }
";

#[test]
fn what_the_gate_refuses_is_a_status() {
    let origin = Origin::with("one").h2().start();
    let nobody = harness::RefusedAddress::new("nobody");
    let gate = Gate::start(REFUSING, &[&origin, &nobody]);
    for (at, code, http, error) in [
        ("/test.Test/Nobody", Code::Unavailable, "502 Bad Gateway", "no server answered"),
        ("/test.Test/Secret", Code::PermissionDenied, "403 Forbidden", "address denied"),
        ("/test.Test/Small", Code::ResourceExhausted, "413 Payload Too Large", "body too large"),
        ("/test.Test/NoRoute", Code::Unimplemented, "404 Not Found", "no route"),
        ("/hang/silent", Code::Unavailable, "504 Gateway Timeout", "response timed out"),
        ("/hang/late", Code::DeadlineExceeded, "504 Gateway Timeout", "request timed out"),
    ] {
        // once as a client of gRPC sees it
        let status = run(async {
            let mut calls = client(gate.at("web"), None).await;
            calls.ready().await.unwrap();
            calls.unary(Request::new(message("a longer one")), path(at), Raw).await.unwrap_err()
        });
        assert_eq!(status.code(), code, "{at} {status:?}");
        assert!(status.message().starts_with(&format!("{http}; request id: ")), "{status:?}");
        let edge = status.metadata().get("x-edge").is_some();
        assert_eq!(edge, at != "/test.Test/NoRoute", "the filters of the route");
        let line = gate.logged_path(at);
        assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &(code as i32).into()), "{line}");
        assert_eq!(line["error"], error);
        // and once as it is on the wire
        let answer = call(gate.at("web"), at, &[], b"\0\0\0\0\x0ca longer one");
        assert_eq!((answer.status, answer.ended_with_head), (200, true), "{at}: Trailers-Only");
        assert_eq!(answer.headers["content-type"], "application/grpc");
    }
}

#[test]
fn who_speaks_no_grpc_is_told_in_http() {
    let origin = Origin::with("one").h2().start();
    let nobody = harness::RefusedAddress::new("nobody");
    let gate = Gate::start(REFUSING, &[&origin, &nobody]);
    // over HTTP/1.1 there is no gRPC
    let answer = gate.ask(&HttpRequest::post("/none", "x").header("Content-Type", "application/grpc"));
    assert_eq!((answer.status, answer.text().as_str()), (404, "a page"));
    let mut client = harness::H2Client::connect_plaintext(gate.at("web"));
    assert_eq!(client.ask(&HttpRequest::post("/none", "x")).status, 404);
    let answer = client.ask(&HttpRequest::get("/none").header("content-type", "application/grpc"));
    assert_eq!(answer.status, 404);
    assert!(gate.access_log().iter().all(|line| line.get("grpc_status").is_none()));
}

/// An answer as it came over the wire.
struct Answer {
    status: u16,
    headers: HeaderMap,
    /// The head was all there was.
    ended_with_head: bool,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// One call by hand, by a client that keeps no deadline of its own.
fn call(to: SocketAddr, path: &str, metadata: &[(&str, &str)], body: &'static [u8]) -> Answer {
    run(async {
        let tcp = tokio::net::TcpStream::connect(to).await.unwrap();
        let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let mut head = http::Request::post(format!("http://{to}{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        for (name, value) in metadata {
            head = head.header(*name, *value);
        }
        let mut sender = sender.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(head.body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from_static(body), true).unwrap();
        let (head, mut stream) = response.await.unwrap().into_parts();
        let ended_with_head = stream.is_end_stream();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            body.extend_from_slice(&piece.unwrap());
        }
        let trailers = stream.trailers().await.unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, ended_with_head, body, trailers }
    })
}

/// The deadline that the server was told last, in microseconds.
fn told(origin: &Origin) -> u64 {
    let value = origin.last().headers["grpc-timeout"].to_str().unwrap().to_owned();
    let (number, unit) = value.split_at(value.len() - 1);
    let number: u64 = number.parse().unwrap();
    match unit {
        "n" => number / 1000,
        "u" => number,
        "m" => number * 1000,
        other => panic!("{other}"),
    }
}

#[test]
fn a_deadline_is_passed_on_less_what_is_gone() {
    let origin = Origin::with("one").h2().start();
    let gate = start(&[&origin], "timeouts: { request: 30s }");
    let answer = |timeout| call(gate.at("web"), "/grpc.test/Echo", &[("grpc-timeout", timeout)], b"");
    let answered = answer("20S");
    assert_eq!(answered.trailers.unwrap()["grpc-status"], "0");
    assert!((1_000_000..20_000_000).contains(&told(&origin)), "{}", told(&origin));
    // the gate waits no longer than it is configured to, and says so
    for timeout in ["1H", "soon", "0S"] {
        answer(timeout);
        assert!((1_000_000..30_000_000).contains(&told(&origin)), "{timeout}");
    }
    // without a time of its own it leaves alone what it cannot read
    let gate = start(&[&origin], "");
    call(gate.at("web"), "/grpc.test/Echo", &[("grpc-timeout", "soon")], b"");
    assert_eq!(origin.last().headers["grpc-timeout"], "soon");
    call(gate.at("web"), "/grpc.test/Echo", &[], b"");
    assert!(!origin.last().headers.contains_key("grpc-timeout"));
}

#[test]
fn the_time_in_the_queue_is_taken_off() {
    let origin = Origin::with("one").h2().start();
    let gate = start(&[&origin], "limits: { requests: 1, queue_timeout: 10s }");
    let to = gate.at("web");
    let first = std::thread::spawn(move || call(to, "/slow", &[("grpc-timeout", "10S")], b""));
    eventually("the first call", || !origin.arrived().is_empty());
    // it would have to wait longer than its client does
    let late = call(to, "/grpc.test/Late", &[("grpc-timeout", "20m")], b"");
    assert_eq!((late.headers["grpc-status"].as_bytes(), late.ended_with_head), (&b"4"[..], true));
    assert_eq!(gate.logged_path("/grpc.test/Late")["error"], "deadline exceeded");
    call(to, "/grpc.test/Second", &[("grpc-timeout", "10S")], b"");
    let waited = gate.logged_path("/grpc.test/Second")["queue_ms"].as_f64().expect("it had to wait");
    assert!(told(&origin) <= 10_000_000 - (waited * 1000.0) as u64, "{waited} {}", told(&origin));
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(origin.arrived().len(), 2);
}

#[test]
fn a_call_ends_with_its_deadline() {
    let origin = Origin::with("one").h2().start();
    // on a connection that calls share, and on one of their own
    for group in ["", "timeouts: { try: 60s }"] {
        let gate = start(&[&origin], group);
        let answer = call(gate.at("web"), "/hang", &[("grpc-timeout", "300m")], b"");
        assert_eq!((answer.status, answer.ended_with_head), (200, true));
        assert_eq!(answer.headers["grpc-status"], "4");
        let message = answer.headers["grpc-message"].to_str().unwrap();
        assert!(message.starts_with("504 Deadline Exceeded; request id: "), "{message}");
        let line = gate.logged_path("/hang");
        assert_eq!((&line["error"], &line["grpc_status"]), (&"deadline exceeded".into(), &4.into()));
        // the answer had begun
        let answer = call(gate.at("web"), "/drip", &[("grpc-timeout", "300m")], b"");
        assert_eq!((answer.status, answer.body.as_slice(), answer.ended_with_head), (200, &b"x"[..], false));
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "4");
        assert_eq!(gate.logged_path("/drip")["error"], "deadline exceeded");
        if group.is_empty() {
            eventually("the server to be told", || {
                origin.arrived().iter().all(|one| one.given_up == Some(h2::Reason::CANCEL))
            });
        }
    }
}

#[test]
fn an_answer_that_breaks_off_ends_with_a_status() {
    let origin = Origin::with("one").h2().start();
    let gate = start(&[&origin], "timeouts: { response: 300ms }");
    let answer = call(gate.at("web"), "/drip", &[], b"");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "14");
    assert_eq!(gate.logged_path("/drip")["grpc_status"], 14);
}

#[test]
fn the_patience_of_clients_says_nothing_about_a_server() {
    let origin = Origin::with("one").h2().start();
    let gate = start(&[&origin], "outlier: { consecutive_failures: 2, max_ejected: 100% }");
    for _ in 0..6 {
        assert_eq!(
            call(gate.at("web"), "/hang", &[("grpc-timeout", "20m")], b"").headers["grpc-status"],
            "4"
        );
    }
    assert!(!gate.stderr().contains("ejected"), "{}", gate.stderr());
}

#[test]
fn servers_are_judged_and_calls_tried_again_by_their_statuses() {
    let (good, bad) = (GrpcServer::start("good"), GrpcServer::start("bad"));
    // UNAVAILABLE is what 503 is in HTTP
    let gate = start(&[&good, &bad], "retry: { attempts: 2, when: [503], non_idempotent: true }");
    let orders = [("do", "fail"), ("code", "14")];
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        let status = unary(&mut calls, with(message("x"), &orders)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    });
    assert_eq!((good.seen().len(), bad.seen().len()), (1, 1), "both were asked");
    let gate = start(&[&good, &bad], "outlier: { consecutive_failures: 3 }");
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        for streamed in [false, true] {
            for _ in 0..12 {
                if streamed {
                    let orders = [("do", "fail-late"), ("code", "14")];
                    let stream = with(message("\u{2}"), &orders);
                    calls.ready().await.unwrap();
                    let stream = calls.server_streaming(stream, path(SERVER_STREAM), Raw).await.unwrap();
                    let mut stream = stream.into_inner();
                    stream.message().await.unwrap();
                    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
                } else {
                    let orders = [("do", "fail"), ("code", "12")];
                    unary(&mut calls, with(message("x"), &orders)).await.unwrap_err();
                }
            }
            let ejected = || gate.stderr().contains("ejected");
            match streamed {
                true => eventually("an ejection", ejected),
                false => assert!(!ejected(), "that a method is not there is not the server's fault"),
            }
        }
    });
}
