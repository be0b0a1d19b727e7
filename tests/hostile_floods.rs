//! The promise: who floods, holds connections or trickles bytes is cut off with a word, and nobody else notices.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::h2_frames::{
    DATA, END_HEADERS, H2Wire, HEADERS, PING, RST_STREAM, Said, WHOLE, WINDOW_UPDATE, block, number, settings,
};
use harness::{Authority, Backend, Client, Gate, H2Client, Reply, Request, eventually, frame, h2_opening};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const GET: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"x")];

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &block(&GET))
}

/// A gate before `api` with these limits, which speaks HTTP/1 and HTTP/2 in plaintext.
fn before(api: &Backend, limits: &str) -> Gate {
    Gate::start(&config(limits), &[api])
}

fn config(limits: &str) -> String {
    format!(
        "listeners: [{{ name: web, address: $web, protocols: [h1, h2], limits: {{ {limits} }} }}]
routes: [{{ path: /, upstream: api }}]
upstreams: {{ api: {{ servers: [$api] }} }}
"
    )
}

fn opened(gate: &Gate) -> H2Wire {
    let mut client = H2Wire::connect(gate.at("web"));
    client.send(h2_opening());
    client
}

const CALM: Said = Said::GoAway(11);

#[test]
fn a_client_that_floods_is_told_and_the_log_says_so_once() {
    let api = Backend::start("api");
    let gate = before(&api, "stream_resets_per_second: 50");
    let mut honest = H2Client::connect_plaintext(gate.at("web"));
    for _ in 0..3 {
        let mut client = opened(&gate);
        client.send(frame(PING, 0, 0, &[0; 8]).repeat(5000));
        assert_eq!(client.said_about(0), CALM);
        assert!(client.until_closed());
        let mut client = opened(&gate);
        let storm: Vec<u8> =
            (0..200).flat_map(|i| [request(2 * i + 1), number(RST_STREAM, 2 * i + 1, 8)].concat()).collect();
        client.send(storm);
        loop {
            match client.said_about(0) {
                Said::Status(_) => {}
                said => break assert_eq!(said, CALM),
            }
        }
        assert_eq!(honest.get("/").text(), "api");
    }
    eventually("a line in the process log", || {
        gate.stderr().contains("is cut off: a flood of HTTP/2 frames")
    });
    assert_eq!(gate.stderr().matches("is cut off").count(), 1, "{}", gate.stderr());
}

#[test]
fn requests_given_up_below_the_limit_are_nobodys_business() {
    let api = Backend::start("api");
    let gate = before(&api, "stream_resets_per_second: 50");
    let mut client = opened(&gate);
    for i in 0..10 {
        client.send([request(2 * i + 1), number(RST_STREAM, 2 * i + 1, 8)].concat());
    }
    assert_eq!(client.send(request(101)).said_about(101), Said::Status(200));
}

#[test]
fn streams_above_the_limit_are_refused_and_the_others_answered() {
    let api = Backend::start("api");
    api.answers(Reply::ok("api").after(Duration::from_millis(300)));
    let gate = before(&api, "max_streams: 4");
    let mut client = opened(&gate);
    client.send((0..6).flat_map(|i| request(2 * i + 1)).collect::<Vec<u8>>());
    // in any order
    assert_eq!(client.said_about(9), Said::Reset(7));
    assert_eq!(client.said_about(11), Said::Reset(7));
    eventually("four answers", || api.requests().len() == 4);
    let mut stream = 11;
    eventually("a place that became free", || {
        stream += 2;
        client.send(request(stream)).said_about(stream) == Said::Status(200)
    });
}

#[test]
fn a_connection_has_so_many_requests() {
    let api = Backend::start("api");
    let gate = before(&api, "requests_per_connection: 3");
    let mut client = gate.connect();
    for last in [false, false, true] {
        let response = client.get("/");
        let closes = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        assert_eq!((response.text().as_str(), closes), ("api", last));
    }
    assert!(client.until_closed().is_empty());
    let mut client = opened(&gate);
    for i in 0..3 {
        client.send(request(2 * i + 1));
        let mut said = client.said_about(2 * i + 1);
        while matches!(said, Said::GoAway(0)) {
            said = client.said_about(2 * i + 1);
        }
        assert_eq!(said, Said::Status(200), "request {i}");
    }
    let mut ended = client.said_about(7);
    while matches!(ended, Said::GoAway(0)) {
        ended = client.said_about(7);
    }
    assert_eq!(ended, Said::Closed);
    // who goes on all the same is cut off
    let mut client = opened(&gate);
    client.send((0..200).flat_map(|i| request(2 * i + 1)).collect::<Vec<u8>>());
    while matches!(client.said_about(999), Said::GoAway(0)) {}
    assert!(api.requests().len() < 3 + 3 + 3 + 140, "{}", api.requests().len());
}

/// A client that sends a byte of its body now and then, each before `body_timeout` is over.
#[test]
fn a_trickled_body_is_408_and_a_slow_one_is_not() {
    let api = Backend::start("api");
    let gate = before(&api, "body_timeout: 1s, min_body_rate: 1KB");
    let trickle = |framing: &str, piece: &str| {
        let mut client = gate.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"));
        let body = piece.repeat(1000);
        String::from_utf8_lossy(&client.drip(body.as_bytes(), Duration::from_millis(100))).into_owned()
    };
    for (framing, piece) in [("Content-Length: 100000", "x"), ("Transfer-Encoding: chunked", "1\r\nx\r\n")] {
        let answer = trickle(framing, piece);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{framing}: {answer:?}");
    }
    assert!(api.requests().is_empty(), "no request was whole");
    // longer than a machine stands still
    let gate = before(&api, "body_timeout: 3s, min_body_rate: 1KB");
    let mut slow = gate.connect();
    slow.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10240\r\n\r\n");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(200));
        slow.send([b'x'; 512]);
    }
    assert_eq!(slow.response().text(), "api", "faster than the rate, and longer than the timeout");
    // without a rate any byte is enough
    let gate = before(&api, "body_timeout: 3s, min_body_rate: 0B");
    let mut patient = gate.connect();
    patient.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(500));
        patient.send("x");
    }
    assert_eq!(patient.response().text(), "api");
}

#[test]
fn a_trickled_body_of_h2_is_408_too() {
    let api = Backend::start("api");
    let gate = before(&api, "body_timeout: 1s, min_body_rate: 1KB");
    let mut fields = GET.to_vec();
    fields[0].1 = b"POST";
    let said = |fields: &[(&[u8], &[u8])], pieces: usize| {
        let mut client = opened(&gate);
        client.send(frame(HEADERS, END_HEADERS, 1, &block(fields)));
        for _ in 0..pieces {
            client.send(frame(DATA, 0, 1, b"x"));
            let said = client.said_within(1, Duration::from_millis(100));
            if said != Said::Silence {
                return said;
            }
        }
        Said::Silence
    };
    let ended = said(&fields, 100);
    assert_eq!(ended, Said::Status(408));
    // messages of a stream come when they come
    fields.push((b"content-type", b"application/grpc"));
    assert_eq!(said(&fields, 25), Said::Silence);
}

/// A client that takes an answer byte by byte, or opens its window so.
#[test]
fn an_answer_that_is_not_taken_ends_the_connection() {
    let api = Backend::start("api");
    api.answers(Reply::ok("x".repeat(8_000_000)));
    let gate = before(&api, "send_timeout: 700ms, min_send_rate: 4KB");
    let mut slow = gate.connect();
    slow.send(Request::get("/").bytes());
    let mut taken = 0;
    while slow.read_exactly(16).is_ok() && taken < 200 {
        taken += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    let line = gate.logged(|line| line["path"] == "/");
    assert!(line["response_bytes"].as_u64().unwrap() < 8_000_000, "{line}");
    // HTTP/2: a window that is never opened
    let mut closed = H2Wire::connect(gate.at("web"));
    closed.send([h2_opening(), settings(&[(4, 0)]), request(1)].concat());
    assert_eq!(closed.said_about(1), Said::Status(200));
    assert!(matches!(closed.said_about(1), Said::Reset(_) | Said::GoAway(_)), "given up");
    // one that is opened a byte at a time
    let mut inching = H2Wire::connect(gate.at("web"));
    inching.send([h2_opening(), settings(&[(4, 0)]), request(1)].concat());
    assert_eq!(inching.said_about(1), Said::Status(200));
    let mut said = Said::Silence;
    for _ in 0..100 {
        inching.send(number(WINDOW_UPDATE, 1, 1));
        said = inching.said_within(1, Duration::from_millis(50));
        if said != Said::Silence {
            break;
        }
    }
    assert!(matches!(said, Said::Reset(_) | Said::GoAway(_)), "{said:?}");
}

fn served(client: &mut Client) -> bool {
    client.is_served("/")
}

#[test]
fn a_client_has_so_many_connections_and_others_have_theirs() {
    let api = Backend::start("api");
    let mut gate = before(&api, "connections_per_client: 3");
    let from = |last: u8| IpAddr::from(Ipv4Addr::new(127, 77, 0, last));
    let connect = |gate: &Gate, last| Client::connect_from(from(last), gate.at("web"));
    let mut held: Vec<_> = (0..3).map(|_| connect(&gate, 1)).collect();
    assert!(held.iter_mut().all(served));
    assert!(!served(&mut connect(&gate, 1)), "a fourth");
    assert!(served(&mut connect(&gate, 2)), "another client");
    assert!(held.iter_mut().all(served), "those inside are not disturbed");
    eventually("the process log says so", || {
        gate.stderr()
            .contains("127.77.0.1 has 3 connections and gets no more (limits.connections_per_client)")
    });
    held.pop();
    eventually("a place that became free", || served(&mut connect(&gate, 1)));
    // a reload may allow more, and trust
    gate.rewrite(&format!("trusted_proxies: [127.77.0.9/32]\n{}", config("connections_per_client: 4")));
    gate.hang_up();
    eventually("the fourth, after a reload", || {
        let mut more = connect(&gate, 1);
        served(&mut more)
    });
    eventually("a trusted proxy speaks for many", || {
        let mut proxied: Vec<_> = (0..8).map(|_| connect(&gate, 9)).collect();
        proxied.iter_mut().all(served)
    });
}

#[test]
fn a_client_connects_so_often_and_others_as_often() {
    let api = Backend::start("api");
    let mut gate = before(&api, "connection_rate_per_client: 3/h");
    let ask = |gate: &Gate, last: u8| {
        let from = IpAddr::from(Ipv4Addr::new(127, 77, 0, last));
        served(&mut Client::connect_from(from, gate.at("web")))
    };
    assert_eq!([1, 1, 1, 1, 2].map(|last| ask(&gate, last)), [true, true, true, false, true]);
    eventually("the process log says so", || {
        gate.stderr().contains(
            "127.77.0.1 connects more often than 3/h and is refused (limits.connection_rate_per_client)",
        )
    });
    // a reload forgets nothing, and may trust
    gate.rewrite(&format!("trusted_proxies: [127.77.0.9/32]\n{}", config("connection_rate_per_client: 4/h")));
    gate.hang_up();
    eventually("a trusted proxy speaks for many, after a reload", || (0..8).all(|_| ask(&gate, 9)));
    assert!((0..6).filter(|_| ask(&gate, 1)).count() <= 1, "4 an hour, of which 3 are gone");
}

#[test]
fn clients_in_all_connect_so_often() {
    let api = Backend::start("api");
    let gate = before(&api, "connection_rate: 20/h");
    let count = (0..40).filter(|_| served(&mut gate.connect())).count();
    assert_eq!(count, 20);
    eventually("the process log says so", || {
        gate.stderr()
            .contains("gets more connections than 20/h and refuses the rest (limits.connection_rate)")
    });
}

/// Before a byte is read: connections without a handshake count, too.
#[test]
fn connections_are_counted_before_tls() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = Gate::secure(&authority, &api, "connections_per_client: 2");
    let from = IpAddr::from(Ipv4Addr::new(127, 77, 0, 1));
    let _held = [(); 2].map(|()| Client::connect_from(from, gate.at("secure")));
    let mut third = Client::connect_from(from, gate.at("secure"));
    assert!(third.until_closed().is_empty(), "closed without a word");
    assert_eq!(authority.client("localhost").connect(gate.at("secure")).get("/").text(), "api");
}

/// As many as a slow client's tool holds, of each kind at once, beside requests that must all succeed; and all of them
/// end by themselves.
#[test]
fn three_hundred_slow_clients_disturb_nobody_and_end() {
    let api = Backend::start("api");
    api.answers_by(|request| match request.target.as_str() {
        "/large" => Reply::ok("x".repeat(4_000_000)),
        _ => Reply::ok("api"),
    });
    let gate = before(
        &api,
        "header_timeout: 3s, body_timeout: 3s, send_timeout: 3s, idle_timeout: 3s, min_body_rate: 10KB, min_send_rate: 10KB",
    );
    let mut slow = Vec::new();
    for i in 0..300 {
        let mut client = gate.connect();
        match i % 3 {
            0 => client.send("GET / HTTP/1.1\r\nHost: x\r\nX-A"),
            1 => client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx"),
            _ => client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"),
        };
        slow.push(client);
    }
    let mut honest = gate.connect();
    for round in 0..200 {
        if round % 10 == 0 {
            // each of them still moves
            slow.iter_mut().enumerate().for_each(|(i, client)| match i % 3 {
                0 | 1 => drop(client.try_send("x")),
                _ => drop(client.read_exactly(1)),
            });
        }
        assert_eq!(honest.get("/").text(), "api");
        assert_eq!(gate.get("/").text(), "api", "a new connection");
    }
    for (i, client) in slow.iter_mut().enumerate().filter(|(i, _)| i % 3 != 2) {
        let said = String::from_utf8_lossy(&client.until_closed()).into_owned();
        assert!(said.starts_with("HTTP/1.1 408 "), "client {i}: {said:?}");
    }
    eventually("a line for each that does not read", || {
        gate.access_log().iter().filter(|line| line["path"] == "/large").count() == 100
    });
}
