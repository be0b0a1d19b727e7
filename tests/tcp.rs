//! The promise: a `tcp` listener passes connections on whole, to a server that can be reached, for as long as both sides
//! want, and says how it went.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "harness/killable.rs"]
mod killable;

use harness::{
    Authority, BlackHole, Client, Gate, PATIENCE, RawServer, RefusedAddress, ServerAddress, ask, connect,
    eventually, own_loopback,
};
use killable::KillableBackend;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weirgate::proxy_protocol::{self, Seen};

const LOG: &str = "log: { access: { format: json, to: stdout } }\n";

/// Sends back what comes, and the end of it.
fn echo(label: &str) -> RawServer {
    RawServer::start(label, |stream| pass(&stream, &stream))
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut piece) {
        if count == 0 || to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Says its name to whoever connects, and then sends back what comes.
fn named(label: &str) -> RawServer {
    let name = label.to_owned();
    RawServer::start(label, move |mut stream| {
        if stream.write_all(format!("{name}\n").as_bytes()).is_ok() {
            pass(&stream, &stream);
        }
    })
}

fn config(more: &str) -> String {
    format!(
        "{LOG}listeners: [{{ name: web, address: $web, tcp: {{ upstream: db }} }}]
upstreams: {{ db: {{ servers: [$db]{more} }} }}
"
    )
}

/// The first line.
fn line(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|count| count == 1) && byte != *b"\n" {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn whole(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("read to the end");
    all
}

/// The lines of the access log, at least so many.
fn lines(gate: &Gate, count: usize) -> Vec<serde_json::Value> {
    let read = || -> Vec<serde_json::Value> {
        gate.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    eventually("the access log", || read().len() >= count);
    read()
}

#[test]
fn what_goes_in_comes_out_and_is_written_down() {
    let db = echo("db");
    let gate = Gate::start(&config(""), &[&db]);
    let mut stream = connect(gate.at("web"));
    for text in ["hello", "again"] {
        assert_eq!(ask(&mut stream, text), text);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(whole(&mut stream).is_empty());
    let line = &lines(&gate, 1)[0];
    let expected = [
        ("listener", "web".into()),
        ("client", stream.local_addr().unwrap().ip().to_string().into()),
        ("protocol", "TCP".into()),
        ("status", 200.into()),
        ("upstream", "db".into()),
        ("server", db.address().to_string().into()),
        ("attempts", 1.into()),
        ("request_bytes", 10.into()),
        ("response_bytes", 10.into()),
        ("ended", "client_closed".into()),
    ];
    for (key, value) in expected {
        let value: serde_json::Value = value;
        assert_eq!(line[key], value, "{key} of {line}");
    }
    assert!(line["error"].is_null() && line["upstream_connect_ms"].is_number(), "{line}");
}

#[test]
fn a_client_that_has_said_all_still_reads_the_answer() {
    // the answer is begun only when the question has ended
    let db = RawServer::start("db", |mut stream| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(format!("{} bytes", question.len()).as_bytes()).unwrap();
    });
    let gate = Gate::start(&config(""), &[&db]);
    let mut stream = connect(gate.at("web"));
    stream.write_all(&vec![7; 300_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(whole(&mut stream), b"300000 bytes");
}

#[test]
fn a_server_that_has_said_all_still_reads_the_rest() {
    let (heard, hearing) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    let db = RawServer::start("db", move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        if stream.read_to_end(&mut rest).is_ok() && !rest.is_empty() {
            heard.lock().unwrap().send(rest).unwrap();
        }
    });
    let gate = Gate::start(&config(""), &[&db]);
    let mut stream = connect(gate.at("web"));
    assert_eq!(whole(&mut stream), b"bye");
    stream.write_all(b"and one more thing").unwrap();
    drop(stream);
    assert_eq!(hearing.recv_timeout(PATIENCE).unwrap(), b"and one more thing");
    eventually("its line", || {
        lines(&gate, 1).iter().any(|line| line["ended"] == "server_closed" && line["request_bytes"] == 18)
    });
}

const BULK: usize = 1 << 30;
const BLOCK: usize = 1 << 20;

/// Noise that is the same for the same seed, in blocks that are taken from one stretch of it: no two neighbours are the
/// same, and a gigabyte of it costs no time.
struct Noise {
    stretch: Vec<u8>,
    dice: fastrand::Rng,
}

impl Noise {
    fn new(seed: u64) -> Noise {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut stretch = vec![0; 2 * BLOCK];
        dice.fill(&mut stretch);
        Noise { stretch, dice }
    }

    fn block(&mut self) -> &[u8] {
        let start = self.dice.usize(..BLOCK);
        &self.stretch[start..start + BLOCK]
    }
}

fn send_noise(mut to: &TcpStream, seed: u64) {
    let mut noise = Noise::new(seed);
    for _ in 0..BULK / BLOCK {
        to.write_all(noise.block()).expect("send");
    }
    to.shutdown(Shutdown::Write).expect("shut");
}

/// How many bytes came, and whether all were those of this seed.
fn expect_noise(mut from: impl Read, seed: u64) -> (usize, bool) {
    let mut noise = Noise::new(seed);
    let mut got = vec![0; BLOCK];
    let (mut count, mut same) = (0, true);
    loop {
        let mut filled = 0;
        while filled < got.len() {
            match from.read(&mut got[filled..]).expect("receive") {
                0 => break,
                read => filled += read,
            }
        }
        count += filled;
        if filled == 0 {
            return (count, same);
        }
        same &= got[..filled] == noise.block()[..filled];
    }
}

#[test]
fn a_gigabyte_goes_both_ways_at_once_and_arrives_as_it_was() {
    let (heard, hearing) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    let db = RawServer::start("db", move |stream| {
        if stream.peek(&mut [0]).is_ok_and(|count| count == 1) {
            std::thread::scope(|scope| {
                scope.spawn(|| send_noise(&stream, 2));
                heard.lock().unwrap().send(expect_noise(&stream, 1)).unwrap();
            });
        }
    });
    let gate = Gate::start(&config(""), &[&db]);
    let stream = connect(gate.at("web"));
    let received = std::thread::scope(|scope| {
        scope.spawn(|| send_noise(&stream, 1));
        expect_noise(&stream, 2)
    });
    assert_eq!((received, hearing.recv_timeout(PATIENCE).unwrap()), ((BULK, true), (BULK, true)));
    drop(stream);
    let line = lines(&gate, 1).into_iter().find(|line| line["request_bytes"] == BULK).expect("its line");
    assert_eq!(line["response_bytes"], BULK);
}

#[test]
fn who_does_not_read_is_not_sent_to() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let db = RawServer::start("db", move |mut stream| {
        let piece = vec![1; 64 * 1024];
        for _ in 0..4096 {
            if stream.write_all(&piece).is_err() {
                return;
            }
            counted.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let gate = Gate::start(&config(""), &[&db]);
    let mut stream = connect(gate.at("web"));
    let mut last = 0;
    eventually("the server is held up", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = sent.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now) == now && now > 0
    });
    assert!(last < 200 << 20, "{last} bytes are held somewhere");
    let mut all = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(count) = stream.read(&mut piece) {
        if count == 0 {
            break;
        }
        all += count;
    }
    assert_eq!(all, 4096 * 64 * 1024, "and goes on when it is read");
}

#[test]
fn another_server_is_tried_when_one_cannot_be_reached() {
    let (dead, db) = (RefusedAddress::new("dead"), named("db"));
    let balanced = "listeners: [{ name: web, address: $web, tcp: { upstream: db } }]
upstreams: { db: { servers: [$dead, $db] } }\n";
    let gate = Gate::start(&format!("{LOG}{balanced}"), &[&dead, &db]);
    for _ in 0..6 {
        let mut stream = connect(gate.at("web"));
        assert_eq!(line(&mut stream), "db");
        assert_eq!(ask(&mut stream, "x"), "x");
    }
    assert!(lines(&gate, 6).iter().any(|line| line["attempts"] == 2 && line["status"] == 200));
    assert!(gate.stderr().contains("failed, to be tried elsewhere: connection refused"), "{}", gate.stderr());
}

#[test]
fn a_server_that_cannot_be_reached_is_ejected() {
    let (dead, db) = (RefusedAddress::new("dead"), named("db"));
    let outlier = "listeners: [{ name: web, address: $web, tcp: { upstream: db } }]
upstreams: { db: { servers: [$dead, $db], outlier: { consecutive_failures: 2, ejection: 1h, max_ejection: 2h } } }\n";
    let gate = Gate::start(&format!("{LOG}{outlier}"), &[&dead, &db]);
    let mut made = 0;
    let mut connect_once = || {
        made += 1;
        assert_eq!(line(&mut connect(gate.at("web"))), "db");
    };
    eventually("it is ejected", || {
        connect_once();
        gate.stderr().contains("is ejected for 1h")
    });
    (0..6).for_each(|_| connect_once());
    let twice = lines(&gate, made).iter().filter(|line| line["attempts"] == 2).count();
    assert_eq!(twice, 2);
}

#[test]
fn nobody_to_connect_to_ends_the_connection_and_says_so() {
    let (dead, slow) = (RefusedAddress::new("db"), BlackHole::new("slow"));
    let two = "listeners:
  - { name: web, address: $web, tcp: { upstream: db } }
  - { name: late, address: $late, tcp: { upstream: slow, timeouts: { connect: 200ms } } }
upstreams: { db: { servers: [$db] }, slow: { servers: [$slow], retry: { attempts: 1 } } }\n";
    let gate = Gate::start(&format!("{LOG}{two}"), &[&dead, &slow]);
    for (listener, status, error) in [("web", 502, "no server answered"), ("late", 504, "connect timed out")]
    {
        assert!(whole(&mut connect(gate.at(listener))).is_empty());
        let of_it = || lines(&gate, 1).into_iter().rev().find(|line| line["listener"] == listener);
        eventually("its line", || of_it().is_some());
        let line = of_it().expect("its line");
        assert_eq!((&line["status"], &line["error"]), (&status.into(), &error.into()), "{line}");
        assert!(line["ended"].is_null());
    }
}

#[test]
fn a_server_that_is_killed_loses_its_connections_and_no_others() {
    let (one, other) = (KillableBackend::start("one"), KillableBackend::start("other"));
    let two = "listeners: [{ name: web, address: $web, tcp: { upstream: db } }]
upstreams: { db: { servers: [$one, $other], retry: { attempts: 3 } } }\n";
    let gate = Gate::start(&format!("{LOG}{two}"), &[&one, &other]);
    let mut kept: Vec<Client> = (0..6).map(|_| Client::connect(gate.at("web"))).collect();
    let at_one = kept.iter_mut().map(|client| client.get("/").text() == "one").collect::<Vec<_>>();
    assert!(at_one.contains(&true) && at_one.contains(&false), "{at_one:?}");
    one.kill();
    for (client, was_there) in kept.iter_mut().zip(at_one) {
        if !was_there {
            assert_eq!(client.get("/").text(), "other");
        }
    }
    for _ in 0..10 {
        assert_eq!(Client::connect(gate.at("web")).get("/").text(), "other");
    }
}

#[test]
fn a_reset_is_passed_on_as_one() {
    let db = RawServer::start("db", |mut stream| {
        let mut byte = [0];
        if stream.read(&mut byte).is_ok_and(|count| count == 1) {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    let gate = Gate::start(&config(""), &[&db]);
    let mut stream = connect(gate.at("web"));
    stream.write_all(b"x").unwrap();
    let error = stream.read(&mut [0]).expect_err("not as if all had been said");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(lines(&gate, 1)[0]["ended"], "server_reset");
}

#[test]
fn a_full_group_makes_clients_wait_for_their_turn() {
    let db = named("db");
    let gate = Gate::start(&config(", limits: { connections: 2, queue: 1, queue_timeout: 10s }"), &[&db]);
    let at = gate.at("web");
    let mut first = connect(at);
    assert_eq!(line(&mut first), "db");
    let mut second = connect(at);
    assert_eq!(line(&mut second), "db");
    let waiting = std::thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        // whoever looks whether the queue is full may be in its place for a moment
        while Instant::now() < deadline {
            let name = line(&mut connect(at));
            if !name.is_empty() {
                return name;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        "nobody".to_owned()
    });
    // the queue holds one, and others are refused: whoever comes now, or a moment later
    eventually("the queue is full", || {
        let mut refused = connect(at);
        refused.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        refused.read(&mut [0]).is_ok_and(|count| count == 0)
    });
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.join().unwrap(), "db");
    let waited = |line: &serde_json::Value| line["queue_ms"].is_number() && line["status"] == 200;
    eventually("both kinds are written down", || {
        let all = lines(&gate, 2);
        all.iter().any(|line| line["status"] == 503) && all.iter().any(waited)
    });
}

#[test]
fn a_silent_connection_and_one_that_lasts_too_long_end() {
    let db = echo("db");
    let timed = "listeners:
  - { name: web, address: $web, tcp: { upstream: db, timeouts: { idle: 400ms } } }
  - { name: short, address: $short, tcp: { upstream: db, timeouts: { total: 700ms } } }
upstreams: { db: { servers: [$db] } }\n";
    let gate = Gate::start(&format!("{LOG}{timed}"), &[&db]);
    let mut idle = connect(gate.at("web"));
    for _ in 0..5 {
        assert_eq!(ask(&mut idle, "x"), "x");
        std::thread::sleep(Duration::from_millis(150));
    }
    assert!(whole(&mut idle).is_empty());
    let mut short = connect(gate.at("short"));
    while short.write_all(b"x").is_ok() && short.read(&mut [0]).is_ok_and(|count| count == 1) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let all = lines(&gate, 2);
    let ended = |listener: &str| {
        let line = all.iter().find(|line| line["listener"] == listener && line["request_bytes"] != 0);
        line.unwrap_or_else(|| panic!("{all:?}"))["ended"].clone()
    };
    assert_eq!((ended("web"), ended("short")), ("idle_timeout".into(), "total_timeout".into()));
}

#[test]
fn the_server_is_told_of_the_client() {
    for version in ["v1", "v2"] {
        let db = RawServer::start("db", |mut stream| {
            let mut bytes = Vec::new();
            let mut piece = [0; 256];
            loop {
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
                    _ => return,
                }
                if let Ok(Seen::Header(announced, length)) = proxy_protocol::read(&bytes) {
                    let client = announced.ends.map(|ends| ends.client.to_string()).unwrap_or_default();
                    let rest = String::from_utf8_lossy(&bytes[length..]).into_owned();
                    stream.write_all(format!("{client} {rest}\n").as_bytes()).unwrap();
                    return pass(&stream, &stream);
                }
            }
        });
        let gate = Gate::start(&config(&format!(", send_proxy: {version}")), &[&db]);
        let mut stream = connect(gate.at("web"));
        let own = stream.local_addr().unwrap().to_string();
        let said = line(&mut stream);
        assert_eq!(said.split(' ').next(), Some(own.as_str()), "{version}: {said}");
        assert_eq!(ask(&mut stream, "after it"), "after it");
    }
}

#[test]
fn a_proxy_in_front_names_the_client_and_nothing_behind_its_header_is_lost() {
    let db = echo("db");
    let required =
        "listeners: [{ name: web, address: $web, proxy_protocol: required, ip: { deny: [203.0.113.66] },
  tcp: { upstream: db } }]
upstreams: { db: { servers: [$db] } }\n";
    let gate = Gate::start(&format!("{LOG}{required}"), &[&db]);
    let mut stream = connect(gate.at("web"));
    stream.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 5432\r\nhello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    drop(stream);
    let line = &lines(&gate, 1)[0];
    assert_eq!(line["client"], "203.0.113.9");
    let mut denied = connect(gate.at("web"));
    denied.write_all(b"PROXY TCP4 203.0.113.66 192.0.2.1 5555 5432\r\n").unwrap();
    assert!(whole(&mut denied).is_empty());
    assert!(gate.stderr().contains("203.0.113.66 is refused (ip)"), "{}", gate.stderr());
}

#[test]
fn who_may_not_connect_reaches_nobody() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = reached.clone();
    let db = RawServer::start("db", move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        pass(&stream, &stream);
    });
    let (friend, stranger) = (own_loopback(), own_loopback());
    let guarded = format!(
        "{LOG}listeners:
  - {{ name: web, address: $web, tcp: {{ upstream: db }}, ip: {{ allow: [{friend}] }} }}
  - {{ name: http, address: $http, ip: {{ deny: [{stranger}] }} }}
routes: [{{ path: /, respond: {{ status: 200, body: here }} }}]
upstreams: {{ db: {{ servers: [$db] }} }}\n"
    );
    let gate = Gate::start(&guarded, &[&db]);
    let from = |ip: std::net::Ipv4Addr, listener: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        socket.connect(&gate.at(listener).into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let before = reached.load(Ordering::SeqCst);
    assert!(matches!(from(stranger, "web").read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(reached.load(Ordering::SeqCst), before, "no server has heard of it");
    assert_eq!(ask(&mut from(friend, "web"), "hello"), "hello");
    // and the same for requests
    assert!(matches!(from(stranger, "http").read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(Client::connect_from(friend.into(), gate.at("http")).get("/").text(), "here");
}

#[test]
fn who_connects_too_often_reaches_nobody() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = reached.clone();
    let db = RawServer::start("db", move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        pass(&stream, &stream);
    });
    // the client that a proxy names is counted, not the proxy
    let limited = "listeners:
  - { name: web, address: $web, tcp: { upstream: db }, limits: { connection_rate_per_client: 2/h }, proxy_protocol: required }
upstreams: { db: { servers: [$db] } }\n";
    let gate = Gate::start(limited, &[&db]);
    let before = reached.load(Ordering::SeqCst);
    let from = |client: &str| {
        let mut stream = connect(gate.at("web"));
        stream.write_all(format!("PROXY TCP4 {client} 192.0.2.1 5555 5432\r\nhello").as_bytes()).unwrap();
        stream.read_exact(&mut [0; 5]).is_ok()
    };
    let one = "203.0.113.9";
    assert_eq!([one, one, one, "203.0.113.10"].map(from), [true, true, false, true]);
    assert_eq!(reached.load(Ordering::SeqCst) - before, 3);
}

/// A gate that ends TLS on one listener, and begins it on another on the way to the first, whose certificate is of
/// `authority`; `believed` is the one it believes.
fn to_itself(db: &dyn ServerAddress, authority: &Authority, believed: &Authority) -> Gate {
    let tls = "listeners:
  - { name: secure, address: $secure, tcp: { upstream: plain }, tls: { certificates: [{ cert: $dir/gate.crt, key: $dir/gate.key }] } }
  - { name: web, address: $web, tcp: { upstream: encrypted } }
upstreams:
  plain: { servers: [$db] }
  encrypted: { servers: [$secure], tls: { sni: gate.test, ca: $dir/ca.crt } }\n";
    let builder = Gate::with(&[db]).file("ca.crt", believed.pem());
    authority.issue_into(builder.dir(), "gate", &["gate.test"]);
    builder.start(&format!("{LOG}{tls}"))
}

#[test]
fn tls_ends_here_and_begins_here() {
    let db = echo("db");
    let authority = Authority::new();
    let gate = to_itself(&db, &authority, &authority);
    let mut client = authority.client("gate.test").try_connect(gate.at("secure")).expect("a handshake");
    client.send("hello");
    assert_eq!(client.read_exactly(5).unwrap(), b"hello");
    // in plaintext, over TLS to the other listener, and in plaintext again
    let mut stream = connect(gate.at("web"));
    assert_eq!(ask(&mut stream, "hello"), "hello");
    let big = vec![9; 3_000_000];
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&big).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        whole(&mut stream.try_clone().unwrap())
    });
    assert_eq!(received.len(), big.len());
    let all = lines(&gate, 2);
    let line = all.iter().find(|line| line["tls"].is_string()).unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!((&line["tls"], &line["sni"]), (&"TLSv1.3".into(), &"gate.test".into()));
}

#[test]
fn a_server_whose_certificate_is_not_believed_is_none() {
    let (db, authority, other) = (echo("db"), Authority::new(), Authority::new());
    let gate = to_itself(&db, &authority, &other);
    assert!(whole(&mut connect(gate.at("web"))).is_empty());
    eventually("it is said", || gate.stderr().contains("authority that is not trusted"));
    let all = lines(&gate, 1);
    assert!(all.iter().any(|line| line["upstream"] == "encrypted" && line["status"] == 502), "{all:?}");
}

#[test]
fn clients_stay_with_their_server_by_address() {
    let servers = ["a", "b", "c"].map(named);
    let hashed = "listeners: [{ name: web, address: $web, tcp: { upstream: db } }]
upstreams: { db: { servers: [$a, $b, $c], balance: ip_hash } }\n";
    let gate = Gate::start(hashed, &[&servers[0], &servers[1], &servers[2]]);
    let from = |ip: std::net::Ipv4Addr| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        socket.connect(&gate.at("web").into()).unwrap();
        line(&mut TcpStream::from(socket))
    };
    let clients: Vec<_> = (0..12).map(|_| own_loopback()).collect();
    let first: Vec<String> = clients.iter().map(|ip| from(*ip)).collect();
    let second: Vec<String> = clients.iter().map(|ip| from(*ip)).collect();
    assert_eq!(first, second);
    assert!(first.iter().any(|name| *name != first[0]), "all at one: {first:?}");
}

#[test]
fn the_fewest_connections_are_counted_while_they_last() {
    let servers = ["a", "b"].map(named);
    let least = "listeners: [{ name: web, address: $web, tcp: { upstream: db } }]
upstreams: { db: { servers: [$a, $b], balance: least_connections } }\n";
    let gate = Gate::start(least, &[&servers[0], &servers[1]]);
    let mut open: Vec<(String, TcpStream)> = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(gate.at("web"));
        open.push((line(&mut stream), stream));
    }
    let at = |open: &[(String, TcpStream)], name: &str| open.iter().filter(|(at, _)| at == name).count();
    assert_eq!((at(&open, "a"), at(&open, "b")), (4, 4));
    open.retain(|(name, _)| name == "b");
    // those of the other have to be seen to be gone
    eventually("the next ones go where nobody is", || line(&mut connect(gate.at("web"))) == "a");
}

#[test]
fn a_reload_leaves_connections_alone() {
    let servers = ["a", "b"].map(named);
    let to = |name: &str| {
        format!(
            "server: {{ threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 2 }}
{LOG}listeners:
  - {{ name: web, address: $web, tcp: {{ upstream: {name} }} }}
upstreams: {{ a: {{ servers: [$a] }}, b: {{ servers: [$b] }} }}\n"
        )
    };
    let mut gate = Gate::start(&to("a"), &[&servers[0], &servers[1]]);
    let mut stream = connect(gate.at("web"));
    assert_eq!(line(&mut stream), "a");
    let reloaded = gate.reload(&to("b"));
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.text());
    assert_eq!(ask(&mut stream, "still here"), "still here");
    assert_eq!(line(&mut connect(gate.at("web"))), "b");
    // a listener that is removed gives its connections the grace period
    let reloaded = gate.reload(
        "server: { threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 2 }
listeners: [{ name: other, address: $other, tcp: { upstream: b } }]
upstreams: { b: { servers: [$b] } }\n",
    );
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.text());
    assert_eq!(ask(&mut stream, "and still"), "and still");
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "until that is over");
}

#[test]
fn the_end_waits_for_connections_and_then_cuts_them() {
    let db = echo("db");
    let short = format!("server: {{ grace_period_seconds: 2 }}\n{}", config(""));
    let gate = Gate::start(&short, &[&db]);
    let mut stream = connect(gate.at("web"));
    assert_eq!(ask(&mut stream, "hello"), "hello");
    gate.terminate();
    eventually("it is told", || gate.stderr().contains("no new connections"));
    assert_eq!(ask(&mut stream, "still"), "still");
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    gate.exit();
    let all = lines(&gate, 1);
    assert!(all.iter().any(|line| line["ended"] == "cut" && line["request_bytes"] == 10), "{all:?}");
}

#[test]
fn unix_sockets_are_as_good_on_either_side() {
    let db = echo("db");
    let local = "listeners:
  - { name: web, address: $web, tcp: { upstream: chain } }
  - { name: local, address: \"unix:$dir/db.sock\", tcp: { upstream: db } }
upstreams: { db: { servers: [$db] }, chain: { servers: [\"unix:$dir/db.sock\"] } }\n";
    let gate = Gate::start(&format!("{LOG}{local}"), &[&db]);
    let mut stream = connect(gate.at("web"));
    assert_eq!(ask(&mut stream, "hello"), "hello", "over the unix socket, and on");
    drop(stream);
    let stream = std::os::unix::net::UnixStream::connect(gate.dir().join("db.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let big = vec![5; 2_000_000];
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&big).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        (&stream).read_to_end(&mut all).unwrap();
        all
    });
    assert_eq!(received, big);
    eventually("their lines", || {
        let all = lines(&gate, 3);
        let to_socket = all.iter().any(|line| {
            line["upstream"] == "chain" && line["server"].as_str().is_some_and(|at| at.starts_with("unix:"))
        });
        to_socket && all.iter().any(|line| line["listener"] == "local" && line["client"].is_null())
    });
}

#[test]
fn what_would_be_done_can_be_asked() {
    let db = echo("db");
    let mixed = "listeners:
  - { name: web, address: $web }
  - { name: db, address: $five, tcp: { upstream: db } }
routes: [{ path: /, respond: { status: 200, body: here } }]
upstreams: { db: { servers: [$db] } }\n";
    let gate = Gate::start(mixed, &[&db]);
    let asked = gate.command(&["explain", "GET", "/", "--listener", "db"]);
    assert_eq!(asked.code, Some(0), "{}", asked.text());
    let expected = format!("to db (round_robin: {})", db.address());
    assert!(asked.stdout.contains(&expected), "{}", asked.stdout);
    let port = format!("http://{}/", gate.at("five"));
    assert!(gate.command(&["explain", "GET", &port]).stdout.contains(&expected));
    let table = gate.command(&["routes"]).stdout;
    assert!(table.contains(&format!("tcp {}", gate.at("five"))), "{table}");
    assert_eq!(gate.get("/").text(), "here", "and routes go on as they are");
}
