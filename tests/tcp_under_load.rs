//! The promise: whatever happens to the gate or to servers behind it while connections are passed on, connections that it does
//! not concern go on, and new ones are made.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "harness/killable.rs"]
mod killable;

use harness::{Client, Gate, PATIENCE, RawServer, ask, connect, eventually};
use killable::KillableBackend;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Sends back what comes.
fn echo(label: &str) -> RawServer {
    RawServer::start(label, |mut stream| {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count) = stream.read(&mut piece) {
            if count == 0 || stream.write_all(&piece[..count]).is_err() {
                return;
            }
        }
    })
}

/// Talks until it is told to stop; how often it was answered.
fn talk(at: SocketAddr, stop: &AtomicBool) -> Result<usize, String> {
    let mut turns = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut stream = TcpStream::connect(at).map_err(|e| format!("connect: {e}"))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..20 {
            let mut answer = [0; 4];
            let talked = stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut answer));
            talked.map_err(|e| format!("turn {turns}: {e}"))?;
            turns += 1;
        }
    }
    Ok(turns)
}

#[test]
fn reloads_and_an_upgrade_under_load_lose_nothing() {
    let db = echo("db");
    let to = |idle: &str| {
        format!(
            "server: {{ threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 10 }}
listeners: [{{ name: web, address: $web, tcp: {{ upstream: db, timeouts: {{ idle: {idle} }} }} }}]
upstreams: {{ db: {{ servers: [$db] }} }}\n"
        )
    };
    let mut gate = Gate::start(&to("1h"), &[&db]);
    let at = gate.at("web");
    let stop = AtomicBool::new(false);
    let turns = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| talk(at, &stop))).collect();
        let mut kept = connect(at);
        assert_eq!(ask(&mut kept, "hello"), "hello");
        for idle in ["2h", "3h", "4h"] {
            let reloaded = gate.reload(&to(idle));
            assert_eq!(reloaded.code, Some(0), "{}", reloaded.text());
            std::thread::sleep(Duration::from_millis(100));
        }
        gate.upgrade();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(ask(&mut kept, "still with the old one"), "still with the old one");
        drop(kept);
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(turns.iter().all(|turns| turns.as_ref().is_ok_and(|turns| *turns > 0)), "{turns:?}");
    assert!(gate.exit().success(), "the old process ends with its last connection");
}

/// As somebody at a terminal: keys, and pauses in which nothing is sent; other connections come and go meanwhile.
#[test]
fn a_long_conversation_with_pauses_outlives_what_happens_around_it() {
    let shell = echo("shell");
    let to = |idle: &str, more: &str| {
        format!(
            "server: {{ threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 20 }}
listeners:
  - {{ name: web, address: $web, tcp: {{ upstream: shell, keepalive: 1s, timeouts: {{ idle: {idle} }} }} }}
{more}upstreams: {{ shell: {{ servers: [$shell], health_check: {{ tcp: {{}}, interval: 200ms }} }} }}
"
        )
    };
    let second = "  - { name: other, address: $other, tcp: { upstream: shell } }\n";
    let mut gate = Gate::start(&to("1h", ""), &[&shell]);
    let mut session = connect(gate.at("web"));
    let mut dice = fastrand::Rng::with_seed(7);
    for (turn, happens) in ["", second, "", "upgrade", ""].into_iter().enumerate() {
        for key in ["l", "s", " ", "-l\n"] {
            assert_eq!(ask(&mut session, key), key, "turn {turn}");
            std::thread::sleep(Duration::from_millis(dice.u64(..300)));
        }
        match happens {
            "upgrade" => {
                gate.upgrade();
            }
            more => {
                let reloaded = gate.reload(&to("1s", more));
                assert_eq!(reloaded.code, Some(0), "{}", reloaded.text());
            }
        }
        let long = format!("{:>60000}", turn);
        assert_eq!(ask(&mut session, &long), long);
    }
    // those that begin now may be silent for a second
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(ask(&mut session, "exit\n"), "exit\n");
    drop(session);
    assert!(gate.exit().success());
}

/// When a connection was begun, and which server it was passed on to, if it came to that.
type Made = (Instant, Option<String>);

/// The body, which is the name of the server.
fn name_in_answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        let count = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&answer);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        match body {
            Some(name) if ["one", "other"].contains(&name.as_str()) => return Ok(name),
            _ if count == 0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

/// Makes one connection after another, each with a question, until it is told to stop.
fn come_and_go(at: SocketAddr, stop: &AtomicBool) -> Vec<Made> {
    let mut made = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        let asked = TcpStream::connect(at).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
            name_in_answer(&mut stream)
        });
        made.push((began, asked.ok()));
    }
    made
}

#[test]
fn a_server_that_is_killed_under_load_costs_no_connection_that_comes_after() {
    let (one, other) = (KillableBackend::start("one"), KillableBackend::start("other"));
    let two = "server: { threads: 2 }
listeners: [{ name: web, address: $web, tcp: { upstream: db } }]
upstreams: { db: { servers: [$one, $other], retry: { attempts: 3 }, outlier: { consecutive_failures: 2 } } }\n";
    let gate = Gate::start(two, &[&one, &other]);
    let at = gate.at("web");
    let stop = AtomicBool::new(false);
    let (made, killed) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(|| come_and_go(at, &stop))).collect();
        let mut kept: Vec<Client> = (0..6).map(|_| Client::connect(at)).collect();
        let at_one: Vec<bool> = kept.iter_mut().map(|client| client.get("/").text() == "one").collect();
        std::thread::sleep(Duration::from_millis(500));
        one.kill();
        let killed = Instant::now();
        for (client, _) in kept.iter_mut().zip(at_one).filter(|(_, at_one)| !at_one) {
            assert_eq!(client.get("/").text(), "other", "it is not concerned");
        }
        std::thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::SeqCst);
        let made: Vec<Made> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (made, killed)
    });
    let (before, after): (Vec<_>, Vec<_>) = made.into_iter().partition(|(began, _)| *began < killed);
    for name in ["one", "other"] {
        let there = before.iter().filter(|(_, at)| at.as_deref() == Some(name)).count();
        assert!(there > 0, "{name} had none before");
    }
    let lost = before.iter().filter(|(_, at)| at.is_none()).count();
    assert!(lost <= 6, "{lost} were open at most when it was killed");
    let strays: Vec<_> = after.iter().filter(|(_, at)| at.as_deref() != Some("other")).collect();
    assert!(strays.is_empty() && after.len() > 20, "{} of {}: {strays:?}", strays.len(), after.len());
    // refused, or reset where one was being accepted
    let said = "is ejected for 30s: 2 failures in a row, the last: connection re";
    eventually("it is said", || gate.stderr().contains(said));
}
