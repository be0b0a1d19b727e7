//! The promise: a message that two readers could take apart differently is refused with 400 and a line in the
//! log, the connection ends, and nothing of it reaches a server.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Client, Gate, H2Client, Request, frame, h2_block, h2_opening};

fn gate_before(api: &Backend) -> Gate {
    Gate::start(
        "listeners: [{ name: web, address: $web, limits: { header_timeout: 2s } }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[api],
    )
}

/// The request that an attacker hides in the first one's body.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";

/// Heads that are refused, each with a name.
const REFUSED: &[(&str, &str)] = &[
    (
        "both lengths",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both lengths, other order",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ),
    (
        "two different lengths",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\n",
    ),
    ("a list of different lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 36\r\n\r\n"),
    ("a signed length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n"),
    ("a negative length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n"),
    ("an empty length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n"),
    (
        "a length beyond all numbers",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ),
    ("an unknown coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked that is not last",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    ("chunked twice", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked in two headers",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding with a control character",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    ("a quoted coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("bare line feeds", "GET / HTTP/1.1\nHost: x\n\n"),
    ("one bare line feed", "GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n"),
    ("a head that ends in a bare line feed", "GET / HTTP/1.1\r\nHost: x\r\n\n"),
    ("a bare carriage return in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\rX-C: d\r\n\r\n"),
    ("a folded header", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n"),
    ("a header folded with a tab", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\tc\r\n\r\n"),
    ("a first header that begins with a space", "GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    ("a space before the colon", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n"),
    ("a tab before the colon", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("a space within a name", "GET / HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n"),
    ("no name", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n"),
    ("a NUL in a name", "GET / HTTP/1.1\r\nHost: x\r\nX\0A: b\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    ("the same host twice", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    ("a host with a space", "GET / HTTP/1.1\r\nHost: x y\r\n\r\n"),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: x@y\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("two spaces in the request line", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a tab in the request line", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a control character in the target", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a broken version", "GET / HTTP/1.x\r\nHost: x\r\n\r\n"),
    ("no version", "GET /\r\nHost: x\r\n\r\n"),
    ("a method that is no token", "G(ET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("noise", "\x16\x03\x01\x02\x00\x01\r\n\r\n"),
];

#[test]
fn every_ambiguous_head_is_refused_and_ends_the_connection() {
    let api = Backend::start("api");
    let gate = gate_before(&api);
    let mut wrong = Vec::new();
    for (name, head) in REFUSED {
        let mut client = gate.connect();
        client.send(head).send(HIDDEN);
        match client.try_response_to("GET") {
            Ok(response) if response.status == 400 => {
                let rest = client.until_closed();
                if !rest.is_empty() {
                    wrong.push(format!("{name}: a second answer {:?}", String::from_utf8_lossy(&rest)));
                }
            }
            Ok(response) => wrong.push(format!("{name}: {}", response.status)),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "not refused with 400:\n{}", wrong.join("\n"));
    assert!(api.requests().is_empty(), "these reached the server: {:#?}", api.requests());
}

#[test]
fn each_refusal_leaves_a_line_in_the_log() {
    let api = Backend::start("api");
    let gate = gate_before(&api);
    let sent = &REFUSED[..10];
    for (_, head) in sent {
        assert_eq!(gate.raw(head).status, 400);
    }
    harness::eventually("a line for each refusal", || {
        gate.access_log().iter().filter(|line| line["status"] == 400).count() == sent.len()
    });
    for line in gate.access_log().iter().filter(|line| line["status"] == 400) {
        assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.")), "{line}");
        assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
        assert!(line["error"].as_str().is_some_and(|why| !why.is_empty()), "the line says why: {line}");
    }
}

#[test]
fn a_broken_chunked_body_never_becomes_a_second_request() {
    let api = Backend::start("api");
    let gate = gate_before(&api);
    for body in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut client = gate.connect();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))
            .send(HIDDEN);
        while let Ok(response) = client.try_response_to("POST") {
            assert_ne!(response.status, 200, "a body {body:?} was taken: {response:?}");
        }
    }
    let hidden: Vec<_> = api.requests().into_iter().filter(|request| request.target == "/hidden").collect();
    assert!(hidden.is_empty(), "{hidden:#?}");
}

#[test]
fn ordinary_messages_pass() {
    let api = Backend::start("api");
    let gate = gate_before(&api);
    for (head, body) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nhost:x\r\nX-Empty:\r\nX-Spaced:   a b  \r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", ""),
        ("GET / HTTP/1.0\r\n\r\n", ""),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", ""),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
            "abc",
        ),
        ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        ("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", ""),
    ] {
        let response = gate.raw(head);
        assert_eq!((response.status, response.text().as_str()), (200, "api"), "{head:?}");
        assert_eq!(api.last_request().body, body.as_bytes(), "{head:?}");
    }
}

#[test]
fn requests_sent_in_one_go_are_answered_in_turn() {
    let api = Backend::start("api");
    api.answers_by(|request| harness::Reply::ok(request.target.clone()));
    let gate = gate_before(&api);
    let mut client = gate.connect();
    let pipelined: Vec<u8> =
        ["/1", "/2", "/3"].iter().flat_map(|target| Request::get(target).bytes()).collect();
    client.send(pipelined);
    for target in ["/1", "/2", "/3"] {
        assert_eq!(client.response().text(), target);
    }
}

#[test]
fn a_body_waits_for_100_continue() {
    let api = Backend::start("api");
    let gate = gate_before(&api);
    let mut client = gate.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("abc");
    assert_eq!(client.response().text(), "api");
    assert_eq!(api.last_request().body, b"abc");
}

/// Reads frames until the gate has said something about stream 1 or about the whole connection, and says in a
/// word what.
fn verdict(client: &mut Client) -> &'static str {
    while let Ok(head) = client.read_exactly(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        if client.read_exactly(length as usize).is_err() {
            break;
        }
        match head[3] {
            1 => return "answered",
            3 => return "reset",
            7 => return "gone",
            _ => {}
        }
    }
    "closed"
}

#[test]
fn fields_of_h2_cannot_become_lines_of_h1() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = Gate::secure(&authority, &api, "");
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "localhost")];
    let with = |place: usize, name: &'static str, value: &'static str| {
        let mut fields = pseudo.to_vec();
        if place < 4 {
            fields[place] = (name, value);
        } else {
            fields.push((name, value));
        }
        fields
    };
    for fields in [
        with(4, "x-a", "b\r\nX-Smuggled: 1"),
        with(4, "x-a", "b\nX-Smuggled: 1"),
        with(4, "x-a", "b\0smuggled"),
        with(4, "x-a: b\r\nx-smuggled", "1"),
        with(4, "x smuggled", "1"),
        with(4, "X-Smuggled", "1"),
        with(4, "", "smuggled"),
        with(4, "transfer-encoding", "chunked, smuggled"),
        with(4, "connection", "smuggled"),
        with(4, "upgrade", "smuggled"),
        with(4, "content-length", "5"),
        with(4, "host", "smuggled.test"),
        with(0, ":method", "GET /smuggled HTTP/1.1\r\n\r\nGET"),
        with(2, ":path", "/ HTTP/1.1\r\nX-Smuggled: 1\r\n\r\n"),
        with(2, ":path", "/smuggled HTTP/1.1"),
        with(2, ":path", "smuggled"),
        with(2, ":path", ""),
        with(3, ":authority", "localhost\r\nX-Smuggled: 1"),
        with(3, ":authority", "smuggled@localhost"),
        with(3, ":authority", "localhost/smuggled"),
        with(4, ":path", "/smuggled"),
        with(4, ":status", "200"),
    ] {
        let mut client = authority.client("localhost").alpn(&["h2"]).connect(gate.at("secure"));
        client.send(h2_opening()).send(frame(1, 0x5, 1, &h2_block(&fields)));
        let said = verdict(&mut client);
        let reached: Vec<_> = api.requests().into_iter().map(|request| request.raw_head).collect();
        assert!(
            reached.iter().all(|head| !head.to_lowercase().contains("smuggled")),
            "{fields:?} {said}: {reached:#?}"
        );
    }
    let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    assert_eq!(client.ask(&Request::get("/").host("localhost")).text(), "api");
}
