//! The promise: a WebSocket (RFC 6455) passes as it is, whether its client comes by HTTP/1.1 or by HTTP/2 (RFC 8441), with
//! TLS or without: messages of every size, in pieces, pings, and every kind of end from either side.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use futures_util::{SinkExt, StreamExt};
use harness::websocket::{Event, Socket, WebSocketServer, by_h1, by_h2, pieces, within};
use harness::{Authority, Backend, ClientTls, Gate, eventually};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

/// A gate that is reached in four ways.
struct Ways {
    server: WebSocketServer,
    gate: Gate,
    tls: ClientTls,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    H1,
    H1OverTls,
    H2,
    H2OverTls,
}

const ALL: [Way; 4] = [Way::H1, Way::H1OverTls, Way::H2, Way::H2OverTls];

impl Ways {
    fn start() -> Ways {
        let (authority, server) = (Authority::new(), WebSocketServer::start("api"));
        let builder = Gate::with(&[&server]);
        authority.issue_into(builder.dir(), "a", &["localhost"]);
        let gate = builder.start(
            "listeners:
  - { name: web, address: $web, protocols: [h1, h2] }
  - { name: secure, address: $secure, tls: { certificates: [{ cert: $dir/a.crt, key: $dir/a.key }] } }
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        );
        Ways { server, gate, tls: authority.client("localhost") }
    }

    async fn open(&self, way: Way, path: &str) -> Socket {
        let (web, secure) = (self.gate.at("web"), self.gate.at("secure"));
        match way {
            Way::H1 => by_h1(web, None, path).await,
            Way::H1OverTls => by_h1(secure, Some(&self.tls), path).await,
            Way::H2 => by_h2(web, None, path).await,
            Way::H2OverTls => by_h2(secure, Some(&self.tls), path).await,
        }
    }

    /// How the last one ended for the server.
    fn end(&self) -> Event {
        let mut end = None;
        eventually("the server to see the end", || {
            let seen = self.server.seen();
            end = seen.last().filter(|last| !matches!(last, Event::Opened(_))).cloned();
            end.is_some()
        });
        end.expect("an end")
    }
}

async fn said(socket: &mut Socket) -> Message {
    socket.next().await.expect("a message").expect("a message")
}

#[test]
fn messages_of_every_size_come_back_as_they_were() {
    let ways = Ways::start();
    for way in ALL {
        within(async {
            let mut socket = ways.open(way, "/").await;
            for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_003] {
                let text: String = (0..size).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
                let binary: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                for message in [Message::text(text), Message::binary(binary)] {
                    socket.send(message.clone()).await.unwrap();
                    assert!(said(&mut socket).await == message, "{way:?}: {size} bytes came back changed");
                }
            }
        });
    }
}

#[test]
fn messages_in_pieces_keep_their_pings_between_them() {
    let ways = Ways::start();
    for way in ALL {
        within(async {
            let mut socket = ways.open(way, "/").await;
            for frame in pieces(["he", "ll", "o"]) {
                socket.send(Message::Frame(frame)).await.unwrap();
            }
            assert_eq!(said(&mut socket).await, Message::Pong("between".into()), "{way:?}");
            assert_eq!(said(&mut socket).await, Message::text("hello"), "{way:?}");
            let mut socket = ways.open(way, "/pieces").await;
            assert_eq!(said(&mut socket).await, Message::Ping("between".into()), "{way:?}");
            assert_eq!(said(&mut socket).await, Message::text("one, two, three"), "{way:?}");
        });
    }
}

#[test]
fn both_sides_can_ask_whether_the_other_is_there() {
    let ways = Ways::start();
    for way in ALL {
        within(async {
            let mut socket = ways.open(way, "/ping").await;
            assert_eq!(said(&mut socket).await, Message::Ping("are you there".into()));
            assert_eq!(said(&mut socket).await, Message::binary("are you there"), "{way:?}: the pong's");
            socket.send(Message::Ping("and you".into())).await.unwrap();
            assert_eq!(said(&mut socket).await, Message::Pong("and you".into()), "{way:?}");
        });
    }
}

#[test]
fn what_is_sent_ahead_waits_its_turn() {
    let ways = Ways::start();
    for way in ALL {
        within(async {
            let mut socket = ways.open(way, "/push").await;
            for _ in 0..1000 {
                assert_eq!(said(&mut socket).await.len(), 1000, "{way:?}");
            }
            for n in 0..1000 {
                socket.feed(Message::text(n.to_string())).await.unwrap();
            }
            socket.flush().await.unwrap();
            for n in 0..1000 {
                assert_eq!(said(&mut socket).await, Message::text(n.to_string()), "{way:?}");
            }
        });
    }
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

/// A client that does not wait for the switch, in one packet with its request.
#[test]
fn a_frame_behind_the_request_is_passed_on_after_the_switch() {
    let ways = Ways::start();
    let mut client = ways.gate.connect();
    // a text of two bytes, masked with zeros (RFC 6455 §5.2)
    client.send([UPGRADE.as_bytes(), &[0x81, 0x82, 0, 0, 0, 0], b"hi"].concat());
    let mut got = Vec::new();
    while !got.ends_with(&[0x81, 2, b'h', b'i']) {
        let byte = client.read_exactly(1);
        got.extend(byte.unwrap_or_else(|e| panic!("{e} after {}", got.escape_ascii())));
    }
    assert!(got.starts_with(b"HTTP/1.1 101 "), "{}", got.escape_ascii());
}

#[test]
fn a_request_behind_one_for_a_websocket_is_served_when_the_server_does_not_switch() {
    let api = Backend::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    let mut client = gate.connect();
    client.send(format!("{UPGRADE}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!([client.response().status, client.response().status], [200, 200]);
    let targets: Vec<_> = api.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/", "/next"]);
}

#[test]
fn a_client_closes_with_its_code_and_is_answered() {
    let ways = Ways::start();
    for way in ALL {
        let frames = [
            None,
            Some((1000, "")),
            Some((1001, "the tab was closed")),
            Some((3000, "registered")),
            Some((4999, "ours")),
        ];
        for frame in frames {
            let closed =
                frame.map(|(code, reason)| CloseFrame { code: u16::into(code), reason: reason.into() });
            within(async {
                let mut socket = ways.open(way, "/").await;
                socket.close(closed.clone()).await.unwrap();
                assert_eq!(said(&mut socket).await, Message::Close(closed.clone()), "{way:?}: the echo");
                assert!(socket.next().await.is_none(), "{way:?}: an end in order");
            });
            let (code, reason) = frame.unwrap_or((1005, ""));
            assert_eq!(ways.end(), Event::Closed(code, reason.into()), "{way:?}");
        }
    }
}

#[test]
fn a_server_closes_with_its_code() {
    let ways = Ways::start();
    for way in ALL {
        within(async {
            let mut socket = ways.open(way, "/close").await;
            socket.send(Message::text("go on")).await.unwrap();
            let closed = CloseFrame { code: 4001.into(), reason: "enough".into() };
            assert_eq!(said(&mut socket).await, Message::Close(Some(closed)), "{way:?}");
            assert!(socket.next().await.is_none(), "{way:?}: an end in order");
        });
        assert_eq!(ways.end(), Event::Closed(4001, "enough".into()), "{way:?}: the client's echo");
    }
}

#[test]
fn an_end_without_a_word_reaches_the_other_side() {
    let ways = Ways::start();
    for way in ALL {
        within(async {
            let mut socket = ways.open(way, "/abrupt").await;
            socket.send(Message::text("go")).await.unwrap();
            let end = socket.next().await;
            assert!(
                matches!(
                    end,
                    Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)))
                ),
                "{way:?}: {end:?}"
            );
        });
        within(async {
            let mut socket = ways.open(way, "/").await;
            socket.send(Message::text("here")).await.unwrap();
            said(&mut socket).await;
        });
        assert_eq!(ways.end(), Event::Gone, "{way:?}: its client is gone");
    }
}

/// A limit on bodies is none on what comes after the switch.
#[test]
fn no_limit_on_bodies_ends_a_conversation() {
    let server = WebSocketServer::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, protocols: [h1, h2], limits: { max_body_bytes: 10KB } }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&server],
    );
    for by_two in [false, true] {
        within(async {
            let web = gate.at("web");
            let mut socket = if by_two { by_h2(web, None, "/").await } else { by_h1(web, None, "/").await };
            for _ in 0..20 {
                let message = Message::binary(vec![1; 4096]);
                socket.send(message.clone()).await.unwrap();
                assert_eq!(said(&mut socket).await, message);
            }
        });
    }
}
