//! One request on a real socket, driven as Pingora drives a session.

use super::begin;
use super::exchange::{Exchange, Home};
use crate::edge::head::{HeadLimits, Scanner};
use crate::edge::tests::setup::{PATIENCE, accepted};
use bytes::{Bytes, BytesMut};
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Scene {
    exchange: Box<Exchange>,
    home: Arc<Home>,
    client: TcpStream,
}

/// What became of a connection: whether it would be kept if it came home, and what the client got.
#[derive(Debug, PartialEq, Eq)]
struct End {
    keep: Option<bool>,
    got: String,
}

impl Scene {
    /// A client that has sent this in one piece: a head and perhaps more.
    async fn new(request: impl AsRef<[u8]>) -> Scene {
        let (conn, client) = accepted().await;
        let limits = HeadLimits { bytes: 8192, headers: 100, uri_bytes: 4096 };
        let head = Scanner::default().advance(request.as_ref(), &limits).unwrap().unwrap();
        let home = Arc::new(Home::default());
        let exchange = begin(conn, BytesMut::from(request.as_ref()), &head, &home);
        Scene { exchange: exchange.map_err(|_| "refused").unwrap(), home, client }
    }

    async fn tasks(&mut self, tasks: Vec<HttpTask>) -> pingora_core::Result<bool> {
        timeout(PATIENCE, self.exchange.response_duplex_vec(tasks)).await.unwrap()
    }

    async fn body(&mut self) -> pingora_core::Result<Option<Bytes>> {
        timeout(PATIENCE, self.exchange.read_body_or_idle(false)).await.unwrap()
    }

    async fn end(self) -> End {
        let Scene { exchange, home, mut client } = self;
        drop(exchange);
        let back = home.take();
        let keep = back.as_ref().map(|back| back.keep);
        drop(back);
        let mut got = Vec::new();
        // a connection that was broken off may be reset
        let _ = timeout(PATIENCE, client.read_to_end(&mut got)).await.unwrap();
        End { keep, got: String::from_utf8(got).unwrap() }
    }
}

impl End {
    fn body(&self) -> &str {
        self.got.split_once("\r\n\r\n").unwrap().1
    }
}

fn head(status: u16, headers: &[(&'static str, &str)]) -> Box<ResponseHeader> {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in headers {
        head.append_header(*name, *value).unwrap();
    }
    Box::new(head)
}

fn body(text: &'static str) -> HttpTask {
    HttpTask::Body(Some(Bytes::from_static(text.as_bytes())), false)
}

async fn answered(request: &str, head: Box<ResponseHeader>, pieces: &[&'static str]) -> End {
    let mut scene = Scene::new(request).await;
    let mut tasks = vec![HttpTask::Header(head, false)];
    tasks.extend(pieces.iter().map(|piece| body(piece)));
    tasks.push(HttpTask::Done);
    assert!(scene.tasks(tasks).await.unwrap());
    scene.exchange.finish().await.unwrap();
    scene.end().await
}

#[tokio::test]
async fn a_body_ends_as_its_head_says() {
    const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OLD: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let length = ("Content-Length", "5");
    let chunked = ("Transfer-Encoding", "gzip, Chunked");
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for (request, status, header, expected, keep) in [
        (GET, 200, length, "hello", true),
        (GET, 200, ("Content-Length", "5, 5"), "hello", true),
        (GET, 200, ("Content-Length", "3"), "hel", true),
        (GET, 200, ("Content-Length", "0"), "", true),
        (GET, 200, chunked, chunks, true),
        (GET, 200, ("Content-Length", "5, 6"), "hello", false),
        (GET, 200, ("X", "5"), "hello", false),
        (GET, 204, ("X", "5"), "", true),
        (GET, 304, length, "", true),
        (HEAD, 200, length, "", true),
        (HEAD, 200, chunked, "", true),
        (OLD, 200, length, "hello", true),
        (OLD, 200, ("X", "5"), "hello", false),
        ("GET / HTTP/1.0\r\n\r\n", 200, length, "hello", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, length, "hello", false),
    ] {
        let end = answered(request, head(status, &[header]), &["he", "", "llo"]).await;
        let what = format!("{request:?} {status} {header:?}: {end:?}");
        assert_eq!(end.body(), expected, "{what}");
        assert_eq!(end.keep, Some(keep), "{what}");
        let told = if keep { "\r\nConnection: keep-alive\r\n" } else { "\r\nConnection: close\r\n" };
        assert!(end.got.contains(told), "{what}");
    }
}

#[tokio::test]
async fn pieces_that_are_there_together_are_one_chunk() {
    let mut scene = Scene::new(GET).await;
    let chunked = head(200, &[("Transfer-Encoding", "chunked")]);
    assert!(!scene.tasks(vec![HttpTask::Header(chunked, false)]).await.unwrap());
    assert!(!scene.tasks(vec![body("a"), body("bc")]).await.unwrap());
    assert!(!scene.tasks(["d", "e", "f", "g", "h"].map(body).into()).await.unwrap());
    assert!(scene.tasks(vec![body("0123456789abcdef"), HttpTask::Trailer(None)]).await.unwrap());
    scene.exchange.finish().await.unwrap();
    assert_eq!(scene.exchange.body_bytes_sent(), 24);
    let end = scene.end().await;
    assert_eq!(end.body(), "3\r\nabc\r\n4\r\ndefg\r\n1\r\nh\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
}

#[tokio::test]
async fn what_has_come_of_a_body_goes_on_in_one_piece() {
    let mut scene = Scene::new("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
    for (sent, passed) in [("def", "abcdef"), ("ghi, and the next request", "ghi")] {
        scene.client.write_all(sent.as_bytes()).await.unwrap();
        // for the runtime to learn that the socket is readable
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(scene.body().await.unwrap().unwrap(), passed);
    }
    assert!(scene.exchange.is_body_done());
}

#[tokio::test]
async fn an_answer_may_begin_before_the_end_of_its_request() {
    for (status, rest, told, keep) in
        [(200, "def", "keep-alive", true), (200, "de", "keep-alive", false), (413, "def", "close", false)]
    {
        let mut scene = Scene::new("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
        assert_eq!(scene.body().await.unwrap().unwrap(), "abc");
        let length = head(status, &[("Content-Length", "5")]);
        assert!(!scene.tasks(vec![HttpTask::Header(length, false), body("he")]).await.unwrap());
        scene.client.write_all(rest.as_bytes()).await.unwrap();
        assert_eq!(scene.body().await.unwrap().unwrap(), rest);
        assert!(scene.tasks(vec![body("llo"), HttpTask::Done]).await.unwrap());
        scene.exchange.finish().await.unwrap();
        let end = scene.end().await;
        assert_eq!((end.body(), end.keep), ("hello", Some(keep)), "{status} {rest}");
        assert!(end.got.contains(&format!("\r\nConnection: {told}\r\n")), "{}", end.got);
    }
}

#[tokio::test]
async fn what_the_server_says_of_its_connection_stays_there() {
    let theirs = [("Date", "then"), ("connection", "Keep-Alive"), ("X-Date", "now"), ("Content-Length", "0")];
    let end =
        answered("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", head(200, &theirs), &[]).await;
    let lines: Vec<&str> = end.got.lines().collect();
    assert_eq!(lines[0], "HTTP/1.1 200 OK");
    let named = |name: &str| lines.iter().filter(|line| line.to_lowercase().starts_with(name)).count();
    assert_eq!((named("date:"), named("connection:"), named("x-date: now")), (1, 1, 1), "{lines:?}");
    assert!(!end.got.contains("then") && end.got.contains("Connection: close"), "{lines:?}");
}

#[tokio::test]
async fn an_interim_answer_is_for_who_knows_them() {
    for (request, there) in [(GET, true), ("GET / HTTP/1.0\r\n\r\n", false)] {
        let mut scene = Scene::new(request).await;
        scene.exchange.write_response_header(head(103, &[("Link", "</a>")]), false).await.unwrap();
        scene.exchange.write_response_header(head(200, &[("Content-Length", "2")]), false).await.unwrap();
        // there is one answer
        scene.exchange.write_response_header(head(500, &[]), false).await.unwrap();
        assert_eq!(scene.exchange.response_written().unwrap().status, 200);
        scene.exchange.write_body(Bytes::from_static(b"ok"), true).await.unwrap();
        let end = scene.end().await;
        assert_eq!(end.got.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), there, "{end:?}");
        assert!(end.got.ends_with("\r\n\r\nok") && !end.got.contains(" 500 "), "{end:?}");
    }
}

/// A connection on which an answer is not whole must not have another.
#[tokio::test]
async fn an_answer_that_breaks_off_takes_its_connection_along() {
    let length = || head(200, &[("Content-Length", "5")]);
    let mut short = Scene::new(GET).await;
    let tasks = vec![HttpTask::Header(length(), false), body("hel"), HttpTask::Done];
    let error = short.tasks(tasks).await.unwrap_err();
    assert_eq!(error.etype().as_str(), "PrematureBodyEnd");
    assert_eq!(short.end().await.keep, None);

    let mut failed = Scene::new(GET).await;
    let why = HttpTask::Failed(Error::explain(ErrorType::ReadError, "the server has gone"));
    failed.tasks(vec![HttpTask::Header(length(), false), body("hel"), why]).await.unwrap_err();
    let end = failed.end().await;
    assert_eq!((end.keep, end.body()), (None, "hel"), "what was said before is said");

    let silent = Scene::new(GET).await;
    assert_eq!(silent.end().await, End { keep: None, got: String::new() });

    let mut abandoned = Scene::new(GET).await;
    abandoned.tasks(vec![HttpTask::Header(length(), false), body("hello")]).await.unwrap();
    abandoned.exchange.abandon("a test").await;
    assert_eq!(abandoned.end().await.keep, None);

    // nobody waits for a client that does not read
    let mut stuck = Scene::new(GET).await;
    let megabytes = Bytes::from(vec![b'x'; 64 << 20]);
    let big = head(200, &[("Content-Length", &megabytes.len().to_string())]);
    let tasks = vec![HttpTask::Header(big, false), HttpTask::Body(Some(megabytes), true)];
    let waited =
        timeout(std::time::Duration::from_millis(100), stuck.exchange.response_duplex_vec(tasks)).await;
    assert!(waited.is_err(), "the client has a buffer of 64 MB");
    drop(stuck.exchange);
    assert!(stuck.home.take().is_none());
}

#[tokio::test]
async fn an_answer_before_the_body_has_come_is_the_last() {
    let mut scene = Scene::new("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
    assert_eq!(scene.body().await.unwrap().unwrap(), "abc");
    let tasks = vec![HttpTask::Header(head(413, &[("Content-Length", "0")]), false), HttpTask::Done];
    assert!(scene.tasks(tasks).await.unwrap());
    let end = scene.end().await;
    assert_eq!(end.keep, Some(false));
    assert!(end.got.contains("\r\nConnection: close\r\n"), "{end:?}");
}

/// The body in pieces however it comes, without its framing, and once more for another server.
#[tokio::test]
async fn a_request_body_arrives_whole() {
    let length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "1\r\nh\r\n4;x=y\r\nello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n";
    for (request, wire) in [(length, "hello world"), (chunked, chunks)] {
        for with_head in [0, 1, 6, 7, 20, wire.len()] {
            for size in [1, 3, 100] {
                let (now, later) = wire.split_at(with_head.min(wire.len()));
                let Scene { mut exchange, home: _, mut client } = Scene::new(format!("{request}{now}")).await;
                assert!(!exchange.is_body_done() && !exchange.is_body_empty());
                exchange.enable_retry_buffering();
                let send = async {
                    for piece in later.as_bytes().chunks(size) {
                        client.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                let receive = async {
                    let mut all = Vec::new();
                    while let Some(piece) = exchange.read_body_bytes().await.unwrap() {
                        assert!(!piece.is_empty());
                        all.extend_from_slice(&piece);
                    }
                    all
                };
                let ((), all) = timeout(PATIENCE, async { tokio::join!(send, receive) }).await.unwrap();
                assert_eq!(all, b"hello world");
                assert!(exchange.is_body_done() && exchange.body_bytes_read() == 11);
                assert_eq!(exchange.get_retry_buffer().unwrap(), "hello world");
                assert!(!exchange.retry_buffer_truncated());
            }
        }
    }
}

#[tokio::test]
async fn no_more_is_kept_for_another_try_than_64_kb() {
    let body = "x".repeat(65 * 1024);
    for (size, lost) in [(64 * 1024, false), (64 * 1024 + 1, true)] {
        for chunk in [1, 1000, size] {
            let chunks: String = body.as_bytes()[..size]
                .chunks(chunk)
                .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), "x".repeat(chunk.len())))
                .collect();
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut scene = Scene::new(format!("{head}{chunks}0\r\n\r\n")).await;
            scene.exchange.enable_retry_buffering();
            while scene.body().await.unwrap().is_some() && !scene.exchange.is_body_done() {}
            assert_eq!(scene.exchange.body_bytes_read(), size);
            assert_eq!(scene.exchange.retry_buffer_truncated(), lost, "{size} in {chunk}");
            let kept = scene.exchange.get_retry_buffer().map(|kept| kept.len());
            assert_eq!(kept, (!lost).then_some(size), "{size} in {chunk}");
        }
    }
}

#[tokio::test]
async fn a_body_that_stops_is_no_end() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut scene = Scene::new(request).await;
        assert_eq!(scene.body().await.unwrap().unwrap(), "abc");
        scene.client.shutdown().await.unwrap();
        let error = scene.body().await.unwrap_err();
        assert_eq!(*error.etype(), ErrorType::ConnectionClosed, "{error}");
    }
    let mut gone = Scene::new(GET).await;
    gone.client.shutdown().await.unwrap();
    assert_eq!(*gone.body().await.unwrap_err().etype(), ErrorType::ConnectionClosed);
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn after_a_switch_everything_is_of_the_other_protocol() {
    let mut scene = Scene::new(format!("{UPGRADE}early ")).await;
    assert!(scene.exchange.is_upgrade_req() && scene.exchange.is_body_done());
    let switching = head(101, &[("Upgrade", "websocket"), ("Connection", "Upgrade")]);
    assert!(!scene.tasks(vec![HttpTask::Header(switching, false)]).await.unwrap());
    assert!(scene.exchange.was_upgraded() && !scene.exchange.is_body_done());
    assert_eq!(scene.body().await.unwrap().unwrap(), "early ");
    scene.client.write_all(b"bird").await.unwrap();
    assert_eq!(scene.body().await.unwrap().unwrap(), "bird");
    let worm = HttpTask::UpgradedBody(Some(Bytes::from_static(b"worm")), false);
    assert!(!scene.tasks(vec![worm]).await.unwrap());
    scene.client.shutdown().await.unwrap();
    assert_eq!(scene.body().await.unwrap(), None);
    assert!(scene.tasks(vec![HttpTask::Done]).await.unwrap());
    let end = scene.end().await;
    assert_eq!(end.keep, Some(false));
    assert!(
        end.got.starts_with("HTTP/1.1 101 ") && end.got.ends_with("\r\nConnection: Upgrade\r\n\r\nworm"),
        "{end:?}"
    );
}

#[tokio::test]
async fn without_a_switch_what_follows_is_the_next_request() {
    let mut scene = Scene::new(format!("{UPGRADE}{GET}")).await;
    let tasks = vec![HttpTask::Header(head(200, &[("Content-Length", "0")]), false), HttpTask::Done];
    assert!(scene.tasks(tasks).await.unwrap());
    assert!(!scene.exchange.was_upgraded());
    drop(scene.exchange);
    let mut back = scene.home.take().unwrap();
    assert!(back.keep);
    assert_eq!(back.conn.begin_head(), GET);
}
