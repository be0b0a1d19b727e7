//! The promise: what a server sends in pieces (server-sent events, interim answers) comes in pieces, whatever frames it
//! and whichever version of HTTP either side speaks; and what one of them has no words for is left out without harm.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use bytes::Bytes;
use harness::websocket::{h2, within};
use harness::{
    Backend, Client, Gate, H2Client, RawServer, Reply, Request, ServerAddress, listen, own_loopback,
    read_head, runtime,
};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

fn before(server: &dyn ServerAddress, group: &str) -> Gate {
    Gate::start(
        &format!(
            "listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [${}], {group} }} }}
",
            server.label()
        ),
        &[server],
    )
}

/// A server that goes on with the next of its pieces when it is told to.
fn piecewise(pieces: &[&'static [u8]]) -> (RawServer, Sender<()>) {
    let (go, told): (_, Receiver<()>) = channel();
    let (told, pieces) = (Mutex::new(told), pieces.to_vec());
    let server = RawServer::start("api", move |mut stream| {
        read_head(&mut stream);
        let told = told.lock().unwrap();
        for piece in &pieces {
            if told.recv().is_err() || stream.write_all(piece).is_err() {
                return;
            }
        }
        // nothing ends before the test has seen the last of them
        let _ = told.recv();
    });
    (server, go)
}

/// Reads until this has come.
fn expect(client: &mut Client, text: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(text.as_bytes()) {
        let byte = client.read_exactly(1).unwrap_or_else(|e| {
            panic!("waiting for {text:?}: {e}; there was {:?}", String::from_utf8_lossy(&seen))
        });
        seen.extend(byte);
    }
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";

/// Heads, and how an event is framed after each.
fn framings() -> [Vec<&'static [u8]>; 3] {
    let head = |rest: &str| -> &'static [u8] { format!("{EVENTS}{rest}\r\n").leak().as_bytes() };
    let chunked = [head("Transfer-Encoding: chunked\r\n"), b"9\r\ndata: 1\n\n\r\n", b"9\r\ndata: 2\n\n\r\n"];
    let closed = [head("Connection: close\r\n"), b"data: 1\n\n", b"data: 2\n\n"];
    let long = [head("Content-Length: 1000\r\n"), b"data: 1\n\n", b"data: 2\n\n"];
    [chunked.to_vec(), closed.to_vec(), long.to_vec()]
}

/// Nobody sends events under a length: such a body is joined to larger writes.
#[test]
fn each_event_comes_before_the_next_is_sent() {
    for pieces in framings().into_iter().filter(|pieces| !pieces[0].ends_with(b"1000\r\n\r\n")) {
        let (server, go) = piecewise(&pieces);
        let gate = before(&server, "");
        let mut client = gate.connect();
        client.send(Request::get("/events").bytes());
        for awaited in ["\r\n\r\n", "data: 1\n\n", "data: 2\n\n"] {
            go.send(()).unwrap();
            expect(&mut client, awaited);
        }
        drop(go);
    }
}

#[test]
fn each_event_comes_before_the_next_is_sent_over_h2() {
    for pieces in framings() {
        let (server, go) = piecewise(&pieces);
        let gate = before(&server, "");
        within(async {
            let sender = h2(gate.at("web"), None).await;
            let request = http::Request::get("http://localhost/events").body(()).unwrap();
            let (answer, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
            go.send(()).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            let mut body = answer.into_body();
            for event in ["data: 1\n\n", "data: 2\n\n"] {
                go.send(()).unwrap();
                assert_eq!(body.data().await.unwrap().unwrap(), event.as_bytes());
            }
            drop(go);
        });
    }
}

/// A server of HTTP/2 that goes on with the next piece when it is told to, and ends with a trailer.
struct H2Server {
    address: SocketAddr,
    go: Sender<Bytes>,
    _runtime: Runtime,
}

impl H2Server {
    fn start() -> H2Server {
        let runtime = runtime();
        let (listener, address) = listen(&runtime, (own_loopback(), 0));
        let (go, told) = channel::<Bytes>();
        let told = Arc::new(Mutex::new(told));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, told.clone()));
            }
        });
        H2Server { address, go, _runtime: runtime }
    }

    /// All of an answer at once.
    fn says(&self, pieces: &[&'static str]) {
        for piece in pieces {
            self.go.send(Bytes::from_static(piece.as_bytes())).unwrap();
        }
        self.go.send(Bytes::new()).unwrap();
    }
}

/// An empty piece is the end.
async fn serve(tcp: tokio::net::TcpStream, told: Arc<Mutex<Receiver<Bytes>>>) {
    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            let _request = request;
            let mut stream = respond.send_response(http::Response::new(()), false).expect("a head");
            loop {
                let told = told.clone();
                let next = tokio::task::spawn_blocking(move || told.lock().unwrap().recv()).await;
                match next {
                    Ok(Ok(piece)) if !piece.is_empty() => stream.send_data(piece, false).expect("a piece"),
                    Ok(_) => break,
                    Err(_) => return,
                }
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-trailer", http::HeaderValue::from_static("last"));
            let _ = stream.send_trailers(trailers);
        });
    }
}

impl ServerAddress for H2Server {
    fn label(&self) -> &'static str {
        "api"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

#[test]
fn events_of_an_h2_server_come_one_by_one() {
    let server = H2Server::start();
    let gate = before(&server, "protocol: h2c");
    let mut client = gate.connect();
    client.send(Request::get("/events").bytes());
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        server.go.send(Bytes::from_static(event.as_bytes())).unwrap();
        expect(&mut client, event);
    }
    server.says(&[]);
    expect(&mut client, "0\r\n\r\n");
    within(async {
        let sender = h2(gate.at("web"), None).await;
        let request = http::Request::get("http://localhost/events").body(()).unwrap();
        let (answer, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            server.go.send(Bytes::from_static(event.as_bytes())).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), event.as_bytes());
        }
        server.says(&[]);
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-trailer"], "last");
    });
}

/// A server that says what comes with each read, and answers when what has come ends so.
fn reads(end: &'static str) -> (RawServer, Receiver<String>) {
    let (say, said) = channel();
    let say = Mutex::new(say);
    let server = RawServer::start("api", move |mut stream| {
        let (mut piece, mut all) = ([0; 4096], Vec::new());
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            all.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&piece[..count]).into_owned();
            if say.lock().unwrap().send(text).is_err() {
                return;
            }
            if all.ends_with(end.as_bytes()) {
                all.clear();
                stream.write_all(ANSWER).unwrap();
            }
        }
    });
    (server, said)
}

/// The server is not woken for a head with which it can do nothing yet.
#[test]
fn a_body_that_came_with_its_head_goes_on_with_it() {
    let (server, said) = reads("body\r\n0\r\n\r\n");
    let gate = before(&server, "");
    let mut client = gate.connect();
    for _ in 0..3 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na body\r\n0\r\n\r\n");
        assert_eq!(client.response().text(), "done");
        let first = said.recv().unwrap();
        assert!(first.starts_with("POST / ") && first.contains("\r\n\r\n6\r\na body\r\n"), "{first:?}");
        // which is another piece to the gate
        assert!(first.ends_with("\r\n0\r\n\r\n") || said.recv().unwrap() == "0\r\n\r\n");
    }
    let (server, said) = reads("a body");
    let gate = before(&server, "");
    let (mut one, mut two) = (gate.connect(), H2Client::connect_plaintext(gate.at("web")));
    for _ in 0..3 {
        assert_eq!(one.ask(&Request::post("/", "a body")).text(), "done");
        let only = said.recv().unwrap();
        assert!(only.starts_with("POST / ") && only.ends_with("\r\n\r\na body"), "{only:?}");
        // of HTTP/2 head and body may be read one after the other
        let request = Request::post("/", "a body").header("content-length", "6");
        assert_eq!(two.ask(&request).text(), "done");
        let mut all = String::new();
        while !all.ends_with("a body") {
            all += &said.recv().unwrap();
        }
    }
}

#[test]
fn a_head_does_not_wait_for_a_body_that_is_not_there() {
    for (framing, body) in
        [("Content-Length: 6", "a body"), ("Transfer-Encoding: chunked", "6\r\na body\r\n0\r\n\r\n")]
    {
        let (server, said) = reads(&body[body.len() - 5..]);
        let gate = before(&server, "");
        let mut client = gate.connect();
        for _ in 0..3 {
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
            let head = said.recv().unwrap();
            assert!(head.starts_with("POST / ") && head.ends_with("\r\n\r\n"), "{head:?}");
            client.send(body);
            assert_eq!(client.response().text(), "done");
            while !said.recv().unwrap().ends_with(&body[body.len() - 5..]) {}
        }
    }
}

/// Where both sides speak at once, the connection serves the next request, too.
#[test]
fn a_server_answers_while_it_reads() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = RawServer::start("api", |mut stream| {
        while !read_head(&mut stream).is_empty() {
            let mut echo = || -> std::io::Result<()> {
                stream.write_all(HEAD)?;
                for _ in 0..2 {
                    let mut piece = [0; 3];
                    stream.read_exact(&mut piece)?;
                    stream.write_all(&[b"3\r\n", &piece[..], b"\r\n"].concat())?;
                }
                stream.write_all(b"0\r\n\r\n")
            };
            if echo().is_err() {
                return;
            }
        }
    });
    let gate = before(&server, "");
    let mut client = gate.connect();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
        expect(&mut client, "abc\r\n");
        client.send("def");
        expect(&mut client, "def\r\n");
        expect(&mut client, "0\r\n\r\n");
    }
}

/// And what is left of the request then is not taken for another one.
#[test]
fn a_server_that_refuses_while_it_is_sent_to_ends_the_connection() {
    const REST: &[u8] = b"GET /of-the-body HTTP/1.1\r\nHost: a\r\n\r\n";
    for (status, told) in [("200 OK", "keep-alive"), ("413 Content Too Large", "close")] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 6\r\nConnection: close\r\n\r\nenough");
        let server = RawServer::start("api", move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
        });
        let gate = before(&server, "");
        let mut client = gate.connect();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\nabc", 3 + REST.len());
        client.send(head);
        let answer = client.response();
        assert_eq!(answer.text(), "enough", "{status}");
        assert_eq!(answer.header("connection").as_deref(), Some(told), "{status}");
        // who is told so may find that the gate has closed
        if client.try_send(REST).is_ok() {
            client.finish_sending();
        }
        let more = client.until_closed();
        assert!(more.is_empty(), "{status}: {}", more.escape_ascii());
    }
}

/// A client of HTTP/1 gets the body, and its connection is in step afterwards.
#[test]
fn trailers_that_do_not_pass_do_no_harm() {
    let server = H2Server::start();
    let gate = before(&server, "protocol: h2c");
    let mut client = gate.connect();
    for _ in 0..2 {
        server.says(&["a body"]);
        assert_eq!(client.get("/").text(), "a body");
    }
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n6\r\na body\r\n0\r\nX-Trailer: last\r\n\r\n";
    let server = RawServer::start("api", move |mut stream| {
        while !read_head(&mut stream).is_empty() && stream.write_all(answer).is_ok() {}
    });
    let gate = before(&server, "");
    let (mut one, mut two) = (gate.connect(), H2Client::connect_plaintext(gate.at("web")));
    for _ in 0..2 {
        assert_eq!(one.get("/").text(), "a body");
        assert_eq!(two.get("/").text(), "a body");
    }
}

const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n";
const MORE: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </script.js>; rel=preload\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";

#[test]
fn early_hints_come_before_the_answer_is_there() {
    let (server, go) = piecewise(&[HINTS, MORE, ANSWER]);
    let gate = before(&server, "");
    let mut client = gate.connect();
    client.send(Request::get("/").bytes());
    for link in ["</style.css>; rel=preload", "</script.js>; rel=preload"] {
        go.send(()).unwrap();
        let hints = client.response();
        assert_eq!((hints.status, hints.header("link").as_deref()), (103, Some(link)));
        for name in ["connection", "x-hop", "transfer-encoding", "content-length", "x-request-id"] {
            assert_eq!(hints.header(name), None, "{name}");
        }
    }
    go.send(()).unwrap();
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert_eq!(gate.logged_path("/")["status"], 200);
}

#[test]
fn who_knows_no_interim_answers_gets_none() {
    let all: &'static [u8] = [b"HTTP/1.1 100 Continue\r\n\r\n", HINTS, MORE, ANSWER].concat().leak();
    let server = RawServer::saying("api", all);
    let gate = before(&server, "");
    let mut client = gate.connect();
    client.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert!(client.until_closed().is_empty());
    // Pingora has no way to say it in HTTP/2
    let mut two = H2Client::connect_plaintext(gate.at("web"));
    assert_eq!(two.get("/").text(), "done");
}

#[test]
fn a_client_that_waits_is_told_to_go_on_by_the_gate() {
    let api = Backend::start("api");
    api.answers_by(|request| Reply::ok(request.body.clone()));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, protocols: [h1, h2], limits: { max_body_bytes: 1KB } }]
routes: [{ path: /api, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    let head = |path: &str, version: &str, length: usize| {
        format!(
            "POST {path} {version}\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut client = gate.connect();
    for _ in 0..2 {
        client.send(head("/api", "HTTP/1.1", 4));
        assert_eq!(client.response().status, 100);
        client.send("body");
        assert_eq!(client.response().text(), "body");
    }
    assert!(api.requests().iter().all(|request| request.header("expect").is_none()));
    // the answer comes in its place when the body is of no use
    assert_eq!(Client::connect(gate.at("web")).send(head("/nowhere", "HTTP/1.1", 4)).response().status, 404);
    assert_eq!(Client::connect(gate.at("web")).send(head("/api", "HTTP/1.1", 5000)).response().status, 413);
    // HTTP/1.0 knows of no such thing, whatever it says
    let mut old = gate.connect();
    old.send(head("/api", "HTTP/1.0", 4) + "body");
    let answer = old.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
    // nor can it be said in HTTP/2: the client goes on by itself
    let mut two = H2Client::connect_plaintext(gate.at("web"));
    let request = Request::post("/api", "body").header("expect", "100-continue");
    assert_eq!(two.ask(&request).text(), "body");
    assert!(api.requests().iter().all(|request| request.header("expect").is_none()));
}

#[test]
fn an_http_1_0_client_may_keep_its_connection() {
    let api = Backend::start("api");
    let gate = before(&api, "");
    let mut client = gate.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.text(), "api");
        let kept = answer.header("connection").is_some_and(|kept| kept.eq_ignore_ascii_case("keep-alive"));
        assert!(kept, "it has to be said: {answer:?}");
    }
    // without a length the end of the connection is that of the body
    api.answers(Reply::ok("in chunks").chunked());
    client.send("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.response().text(), "in chunks");
    assert!(client.until_closed().is_empty());
}
