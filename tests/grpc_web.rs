//! The promise: with the filter `grpc_web` browsers call servers that speak gRPC alone: in binary or as text, over
//! HTTP/1.1 or HTTP/2, and find the end of an answer in its body.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::grpc::{GrpcServer, SERVER_STREAM, UNARY};
use harness::{Backend, Gate, H2Client, Request, Response, ServerAddress};

const WEB: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

fn start(server: &dyn ServerAddress, protocol: &str) -> Gate {
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /test.Test, upstream: group, filters: [{{ grpc_web: {{}} }}] }}, {{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [${}], protocol: {protocol} }} }}
",
        server.label()
    );
    Gate::start(&config, &[server])
}

/// A message with the five bytes in front of it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn call(path: &str, kind: &str, body: Vec<u8>) -> Request {
    Request::post(path, body).header("Content-Type", kind).header("X-Grpc-Web", "1")
}

/// What a body holds: its messages, and its trailers as text.
fn read(mut body: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
    let (mut messages, mut trailers) = (Vec::new(), None);
    while !body.is_empty() {
        assert_eq!(trailers, None, "trailers are the last");
        let (front, rest) = body.split_at(5);
        let (frame, rest) = rest.split_at(u32::from_be_bytes(front[1..].try_into().unwrap()) as usize);
        match front[0] {
            0 => messages.push(frame.to_vec()),
            0x80 => trailers = Some(String::from_utf8(frame.to_vec()).unwrap()),
            other => panic!("a frame with flags {other}"),
        }
        body = rest;
    }
    (messages, trailers)
}

fn header(answer: &Response, name: &str) -> String {
    answer.header(name).unwrap_or_default()
}

/// Several texts of base64, each with its padding.
fn from_text(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|group| STANDARD.decode(group).expect("base64")).collect()
}

fn assert_answered(answer: &Response, kind: &str, messages: &[&[u8]], status: &str) {
    assert_eq!((answer.status, header(answer, "content-type").as_str()), (200, kind), "{}", answer.text());
    let body = if kind == TEXT { from_text(&answer.body) } else { answer.body.clone() };
    let (got, trailers) = read(&body);
    assert_eq!(got, messages);
    let trailers = trailers.expect("trailers");
    assert!(trailers.contains(&format!("grpc-status:{status}\r\n")), "{trailers}");
}

#[test]
fn calls_in_binary_and_as_text_over_both_versions_of_http() {
    let server = GrpcServer::start("one");
    let gate = start(&server, "h2c");
    let (wire, many) = (framed(b"hello"), framed(b"\x03xx"));
    // several texts, of which the first ends with padding
    let texts = [STANDARD.encode(&wire[..1]), STANDARD.encode(&wire[1..])].concat().into_bytes();
    for (kind, body, stream) in [
        (WEB, wire.clone(), many.clone()),
        (TEXT, STANDARD.encode(&wire).into_bytes(), STANDARD.encode(&many).into_bytes()),
        (TEXT, texts, STANDARD.encode(&many).into_bytes()),
    ] {
        let (one, several) = (call(UNARY, kind, body), call(SERVER_STREAM, kind, stream));
        let mut h2 = H2Client::connect_plaintext(gate.at("web"));
        for answer in [gate.ask(&one), h2.ask(&one)] {
            assert_answered(&answer, kind, &[b"hello"], "0");
        }
        for answer in [gate.ask(&several), h2.ask(&several)] {
            assert_answered(&answer, kind, &[&b"\x03xx"[..]; 3], "0");
        }
    }
    for metadata in server.seen() {
        assert_eq!(metadata.get("te").expect("te"), "trailers");
        assert_eq!(metadata.get("content-type").expect("a type"), "application/grpc+proto");
    }
    let line = gate.logged_path(UNARY);
    assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &0.into()));
}

#[test]
fn a_kept_connection_serves_one_call_after_another() {
    let server = GrpcServer::start("one");
    let gate = start(&server, "h2c");
    let mut client = gate.connect();
    for kind in [WEB, TEXT, WEB] {
        let body = framed(b"again");
        let body = if kind == TEXT { STANDARD.encode(body).into_bytes() } else { body };
        assert_answered(&client.ask(&call(UNARY, kind, body)), kind, &[b"again"], "0");
    }
}

#[test]
fn statuses_reach_browsers() {
    let server = GrpcServer::start("one");
    let gate = start(&server, "h2c");
    for kind in [WEB, TEXT] {
        let body = |message: &[u8]| {
            let body = framed(message);
            if kind == TEXT { STANDARD.encode(body).into_bytes() } else { body }
        };
        // after a message
        let late = call(SERVER_STREAM, kind, body(b"\x02")).header("do", "fail-late").header("code", "9");
        assert_answered(&gate.ask(&late), kind, &[b"\x02"], "9");
        // there is nothing but a status: it is in the head, and clients look there first
        let failed = gate.ask(&call(UNARY, kind, body(b"x")).header("do", "fail").header("code", "5"));
        assert_eq!((failed.status, header(&failed, "content-type").as_str()), (200, kind));
        assert_eq!((header(&failed, "grpc-status").as_str(), failed.body.len()), ("5", 0));
    }
}

#[test]
fn what_the_gate_refuses_is_a_status_too() {
    let server = GrpcServer::start("one");
    let config = "server: { threads: 1 }
listeners: [{ name: web, address: $web, protocols: [h1, h2] }]
routes:
  - { path: /test.Test, upstream: group, filters: [{ grpc_web: {} }], timeouts: { response: 400ms } }
  - { path: /secret, upstream: group, filters: [{ grpc_web: {} }, { ip: { deny: [127.0.0.0/8] } }] }
upstreams: { group: { servers: [$one], protocol: h2c } }
";
    let gate = Gate::start(config, &[&server]);
    let mut h2 = H2Client::connect_plaintext(gate.at("web"));
    for (path, kind, status) in
        [("/none", "application/grpc-web", "12"), ("/secret", "application/grpc-web-text", "7")]
    {
        let request = call(path, kind, framed(b"x"));
        for answer in [gate.ask(&request), h2.ask(&request)] {
            assert_eq!((answer.status, header(&answer, "grpc-status").as_str()), (200, status), "{path}");
            assert_eq!((header(&answer, "content-type").as_str(), answer.body.len()), (kind, 0));
        }
    }
    // the answer has begun and breaks off
    for kind in [WEB, TEXT] {
        let body = framed(b"\x02");
        let body = if kind == TEXT { STANDARD.encode(body).into_bytes() } else { body };
        let silent = call(SERVER_STREAM, kind, body).header("do", "hang");
        for answer in [gate.ask(&silent), h2.ask(&silent)] {
            assert_answered(&answer, kind, &[b"\x02"], "14");
        }
    }
    assert_eq!(gate.logged_path(SERVER_STREAM)["error"], "response timed out");
}

#[test]
fn what_is_not_base64_is_refused() {
    let server = GrpcServer::start("one");
    let gate = start(&server, "h2c");
    for body in ["AAAA!!!!", "AAA"] {
        let answer = gate.ask(&call(UNARY, TEXT, body.into()));
        assert_eq!((answer.status, header(&answer, "grpc-status").as_str()), (200, "13"), "{body}");
    }
    let line = gate.logged(|line| line["grpc_status"] == 13);
    assert_eq!(line["error"], "malformed base64 of gRPC-Web");
}

#[test]
fn all_else_passes_as_it_is() {
    let server = GrpcServer::start("one");
    let gate = start(&server, "h2c");
    harness::grpc::run(async {
        let mut calls = harness::grpc::client(gate.at("web"), None).await;
        let request = tonic::Request::new(bytes::Bytes::from_static(b"native"));
        assert_eq!(harness::grpc::unary(&mut calls, request).await.unwrap().get_ref(), "native");
    });
    // a server that is spoken to over HTTP/1.1 gets what the browser has sent
    let api = Backend::start("api");
    let gate = start(&api, "h1");
    assert_eq!(gate.ask(&call("/test.Test/X", TEXT, b"AAAA".to_vec())).text(), "api");
    let arrived = api.only_request();
    assert_eq!(arrived.header("content-type").as_deref(), Some(TEXT));
    assert_eq!(arrived.body, b"AAAA");
    assert!(gate.stderr().contains("grpc_web"), "the start has warned: {}", gate.stderr());
}
