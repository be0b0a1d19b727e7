//! The state machine without sockets, then checks of real sockets on loopback. No test measures
//! time: a server that should not answer holds its connection open until the check gives up.

use super::*;
use crate::config::decode::Located;
use crate::config::file::{self, BodyMatch, GrpcCheck, HttpCheck, InitialHealth, OneOrMany, TcpCheck};
use crate::config::words::HostName;
use crate::units::{Size, Time};
use pingora_load_balancing::Backend;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the checker makes of a check that it finds nothing wrong with.
pub(in crate::upstream) fn planned(check: &file::HealthCheck) -> plan::HealthCheck {
    let http = |http: &HttpCheck| plan::HttpCheck {
        method: http.method.value.0.clone(),
        path: http.path.value.clone(),
        host: http.host.clone(),
        headers: http
            .headers
            .iter()
            .map(|(name, value)| (name.value.parse().unwrap(), value.value.parse().unwrap()))
            .collect(),
        status: http.status.0.clone(),
        body: http.body.as_ref().map(|body| match body {
            BodyMatch::Contains(text) => plan::BodyMatch::Contains(text.clone()),
            BodyMatch::Regex(regex) => plan::BodyMatch::Regex(plan::Pattern(regex.value.parse().unwrap())),
        }),
        max_body_bytes: http.max_body_bytes,
    };
    plan::HealthCheck {
        question: match (&check.http, &check.grpc) {
            (None, None) => Question::Tcp,
            (Some(check), _) => Question::Http(http(check)),
            (None, Some(grpc)) => Question::Grpc(grpc.clone()),
        },
        tls: None,
        port: check.port,
        interval: check.interval.0,
        unhealthy_interval: check.unhealthy_interval.unwrap_or(check.interval).0,
        timeout: check.timeout.0,
        healthy_after: check.healthy_after,
        unhealthy_after: check.unhealthy_after,
        initial: check.initial,
        send_proxy: None,
    }
}

fn limits(healthy_after: u16, unhealthy_after: u16) -> Thresholds {
    let nz = |n| NonZeroU16::new(n).unwrap();
    Thresholds { healthy_after: nz(healthy_after), unhealthy_after: nz(unhealthy_after) }
}

/// The changes that results bring: `p`assed and `f`ailed in, `U`p, `D`own and `.` out.
fn changes(limits: Thresholds, results: &str) -> String {
    let mut tally = Tally::default();
    let change = |result| match tally.observe(result == 'p', limits) {
        None => '.',
        Some(Change::Up { passed }) => {
            assert_eq!(passed, limits.healthy_after.get());
            'U'
        }
        Some(Change::Down { failed }) => {
            assert_eq!(failed, limits.unhealthy_after.get());
            'D'
        }
    };
    results.chars().map(change).collect()
}

#[test]
fn so_many_results_in_a_row_change_the_verdict() {
    assert_eq!(changes(limits(2, 3), "pppp"), "....");
    assert_eq!(changes(limits(2, 3), "fffffppp"), "..D...U.");
    assert_eq!(changes(limits(2, 3), "ffpffpfff"), "........D", "one pass begins the count anew");
    assert_eq!(changes(limits(2, 3), "fffpfpfpp"), "..D.....U", "one failure begins the count anew");
    assert_eq!(changes(limits(1, 1), "fpfp"), "DUDU");
}

#[test]
fn the_first_check_of_a_server_that_is_presumed_down_decides_when_it_passes() {
    let mut passes = Tally::presumed_down();
    assert!(!passes.is_up());
    assert_eq!(passes.observe(true, limits(3, 3)), Some(Change::Up { passed: 1 }));
    assert_eq!(passes.observe(false, limits(3, 3)), None, "and then it is a server like any other");

    let mut fails = Tally::presumed_down();
    let change = |fails: &mut Tally, passed| fails.observe(passed, limits(2, 2));
    assert_eq!(change(&mut fails, false), Some(Change::Down { failed: 1 }), "it is known to be");
    assert_eq!(change(&mut fails, false), None);
    assert_eq!(change(&mut fails, true), None);
    assert_eq!(change(&mut fails, true), Some(Change::Up { passed: 2 }));
}

/// A backend on loopback that treats each connection as `serve` does; the number counts them.
async fn backend<F, S>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> S + Send + 'static,
    S: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let served = AtomicUsize::new(0);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, served.fetch_add(1, Ordering::Relaxed)));
        }
    });
    address
}

/// Reads a request head.
pub(super) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A backend that answers everything with this.
async fn answering(answer: &'static str) -> SocketAddr {
    backend(move |mut stream, _| async move {
        head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await
    })
    .await
}

/// An address where nothing listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn probe(tcp: Option<TcpCheck>, http: Option<HttpCheck>, timeout: Time) -> Probe {
    let check = file::HealthCheck { tcp, http, timeout, ..Default::default() };
    Probe::build(&planned(&check), &Registry::new()).unwrap()
}

async fn tcp(address: SocketAddr) -> Result<(), String> {
    probe(Some(TcpCheck {}), None, Time::secs(10)).check(&Backend::new(&address.to_string()).unwrap()).await
}

async fn http(address: SocketAddr, check: HttpCheck) -> Result<(), String> {
    http_within(address, check, Time::secs(10)).await
}

async fn http_within(address: SocketAddr, check: HttpCheck, timeout: Time) -> Result<(), String> {
    probe(None, Some(check), timeout).check(&Backend::new(&address.to_string()).unwrap()).await
}

fn wanting(body: &str, max_body_bytes: Size) -> HttpCheck {
    HttpCheck { body: Some(BodyMatch::Contains(body.into())), max_body_bytes, ..Default::default() }
}

fn failed(reason: &str) -> Result<(), String> {
    Err(reason.into())
}

#[tokio::test]
async fn tcp_accepted_and_refused() {
    let address = backend(|_, _| async { Ok(()) }).await;
    assert_eq!(tcp(address).await, Ok(()));
    assert_eq!(tcp(nobody().await).await, failed("connection refused"));
}

#[tokio::test]
async fn http_refused() {
    assert_eq!(http(nobody().await, HttpCheck::default()).await, failed("connection refused"));
}

#[tokio::test]
async fn http_follows_the_status() {
    let address = backend(|mut stream, served| async move {
        head(&mut stream).await;
        let status = ["200 OK", "500 Oh", "200 OK"][served % 3];
        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await
    })
    .await;
    let check = || HttpCheck { status: OneOrMany(vec!["200".parse().unwrap()]), ..Default::default() };
    assert_eq!(http(address, check()).await, Ok(()));
    assert_eq!(http(address, check()).await, failed("status 500, expected 200"));
    assert_eq!(http(address, check()).await, Ok(()));
}

#[tokio::test]
async fn http_knows_ranges_and_names_them() {
    let address = answering("HTTP/1.1 304 Not Modified\r\n\r\n").await;
    let check = |statuses: &[&str]| HttpCheck {
        status: OneOrMany(statuses.iter().map(|s| s.parse().unwrap()).collect()),
        ..Default::default()
    };
    assert_eq!(http(address, check(&["2xx", "300-310"])).await, Ok(()));
    assert_eq!(http(address, check(&["2xx", "404"])).await, failed("status 304, expected 2xx, 404"));
}

#[tokio::test]
async fn http_asks_as_it_should() {
    let (send, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let address = backend(move |mut stream, _| {
        let send = send.clone();
        async move {
            send.send(head(&mut stream).await).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await
        }
    })
    .await;
    assert_eq!(
        http(address, HttpCheck { path: "/healthz?deep=1".to_string().into(), ..Default::default() }).await,
        Ok(())
    );
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    for line in [
        format!("host: {address}"),
        format!("user-agent: {}", "weirgate-health/"),
        "connection: close".into(),
    ] {
        assert_eq!(lower.matches(&format!("\r\n{line}")).count(), 1, "{line} in {head}");
    }

    let host = Some(HostName("api.internal".into()));
    assert_eq!(http(address, HttpCheck { host, ..Default::default() }).await, Ok(()));
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    assert_eq!(head.matches("\r\nhost: api.internal\r\n").count(), 1, "{head}");
    assert_eq!(head.matches("host:").count(), 1, "{head}");
}

#[tokio::test]
async fn http_passes_over_interim_responses() {
    let address = answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    assert_eq!(http(address, HttpCheck::default()).await, Ok(()));
    assert_eq!(http(address, wanting("ok", Size::kb(64))).await, Ok(()));
}

#[tokio::test]
async fn http_finds_the_body_however_it_is_framed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is fine",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall is fine",
        "HTTP/1.0 200 OK\r\n\r\nall is fine",
        // in two chunks, the text across them
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nall is f\r\n3\r\nine\r\n0\r\n\r\n",
    ] {
        let address = answering(answer).await;
        assert_eq!(http(address, wanting("fine", Size::kb(64))).await, Ok(()), "{answer}");
        assert_eq!(
            http(address, wanting("bad", Size::kb(64))).await,
            failed("body does not contain \"bad\""),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn http_reads_no_more_of_a_body_than_allowed() {
    // a body without end, in which the text never comes
    let endless = backend(|mut stream, _| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await?;
        loop {
            stream.write_all(&[b'x'; 4096]).await?;
        }
    })
    .await;
    let reason = "body does not contain \"ok\" in its first 64KB";
    assert_eq!(http(endless, wanting("ok", Size::kb(64))).await, failed(reason));
    assert_eq!(http(endless, HttpCheck::default()).await, Ok(()), "the body is not read unless asked for");
    // the text comes too late
    let late = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nxxxxok").await;
    assert_eq!(http(late, wanting("ok", Size(6))).await, Ok(()));
    let reason = "body does not contain \"ok\" in its first 5B";
    assert_eq!(http(late, wanting("ok", Size(5))).await, failed(reason));
}

#[tokio::test]
async fn http_gives_up_on_silence_and_on_drips() {
    let silent = backend(|mut stream, _| async move {
        head(&mut stream).await;
        // until the check hangs up
        stream.read_u8().await.map(drop)
    })
    .await;
    let short = Time::millis(100);
    assert_eq!(http_within(silent, HttpCheck::default(), short).await, failed("no answer within 100ms"));
    let drip = backend(|mut stream, _| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nX: ").await?;
        loop {
            stream.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(http_within(drip, HttpCheck::default(), short).await, failed("no answer within 100ms"));
}

#[tokio::test]
async fn http_calls_a_broken_answer_what_it_is() {
    let nonsense = answering("220 mail.example.com ESMTP\r\n\r\n").await;
    assert_eq!(http(nonsense, HttpCheck::default()).await, failed("the answer is not valid HTTP"));
    let closed = answering("").await;
    let reason = "connection closed before the answer was complete";
    assert_eq!(http(closed, HttpCheck::default()).await, failed(reason));
    let cut = answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort").await;
    assert_eq!(http(cut, wanting("ok", Size::kb(64))).await, failed(reason));
}

fn matching(regex: &str, max_body_bytes: Size) -> HttpCheck {
    let body = Some(BodyMatch::Regex(Located::from(regex.to_string())));
    HttpCheck { body, max_body_bytes, ..Default::default() }
}

#[tokio::test]
async fn http_holds_the_body_against_a_pattern() {
    let address = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nload:\r\n4\r\n 0.5\r\n0\r\n\r\n",
    )
    .await;
    for fits in ["load: 0\\.[0-5]", "^load: [0-9.]+$", "LOAD|load"] {
        assert_eq!(http(address, matching(fits, Size::kb(64))).await, Ok(()), "{fits}");
    }
    let reason = "body does not match \"^load$\"";
    assert_eq!(http(address, matching("^load$", Size::kb(64))).await, failed(reason));
    let reason = "body does not match \"0.5\" in its first 8B";
    assert_eq!(http(address, matching("0.5", Size(8))).await, failed(reason));
    let bytes = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(http(bytes, matching("^$", Size::kb(64))).await, Ok(()));
}

#[tokio::test]
async fn http_asks_with_another_method_and_headers() {
    let (send, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let address = backend(move |mut stream, _| {
        let send = send.clone();
        async move {
            send.send(head(&mut stream).await).unwrap();
            // the length of what HEAD does not bring
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await
        }
    })
    .await;
    let header =
        |name: &str, value: &str| (Located::from(name.to_string()), Located::from(value.to_string()));
    let headers = file::Table(vec![header("X-Probe", "1"), header("User-Agent", "mine")]);
    let method = Located::from(crate::config::words::MethodName(::http::Method::HEAD));
    assert_eq!(http(address, HttpCheck { method, headers, ..Default::default() }).await, Ok(()));
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("head / http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nx-probe: 1\r\n") && head.contains("\r\nuser-agent: mine\r\n"), "{head}");
    assert_eq!(head.matches("user-agent").count(), 1, "{head}");
}

#[tokio::test]
async fn a_check_may_have_a_port_of_its_own() {
    let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let elsewhere = Backend::new(&nobody().await.to_string()).unwrap();
    let check = |port| file::HealthCheck {
        http: Some(HttpCheck::default()),
        port: NonZeroU16::new(port),
        timeout: Time::secs(10),
        ..Default::default()
    };
    let probe = |port| Probe::build(&planned(&check(port)), &Registry::new()).unwrap();
    assert_eq!(probe(address.port()).check(&elsewhere).await, Ok(()));
    assert_eq!(probe(0).check(&elsewhere).await, failed("connection refused"));
}

#[test]
fn a_server_that_is_down_may_be_checked_more_often() {
    let interval = Time::secs(9);
    let check = |unhealthy_interval| file::HealthCheck { interval, unhealthy_interval, ..Default::default() };
    let probe = |often| Probe::build(&planned(&check(often)), &Registry::new()).unwrap();
    let both = |probe: Probe| (probe.interval(true).as_secs(), probe.interval(false).as_secs());
    assert_eq!(both(probe(None)), (9, 9));
    assert_eq!(both(probe(Some(Time::secs(2)))), (9, 2));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let build = |check: &file::HealthCheck| Probe::build(&planned(check), &Registry::new()).err();
    let bad = HttpCheck { path: "/a b".to_string().into(), ..Default::default() };
    assert!(build(&file::HealthCheck { http: Some(bad), ..Default::default() }).unwrap().contains("/a b"));
    let bad = GrpcCheck { service: "x".repeat(100_000), authority: None };
    let bad = file::HealthCheck { grpc: Some(bad), initial: InitialHealth::Down, ..Default::default() };
    assert!(build(&bad).unwrap().contains("too long"));
}

mod grpc;
