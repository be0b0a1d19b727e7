//! The promise: where it is asked for, a request that takes longer than most is sent to a second server as well. The
//! first answer wins, the other server is told that nobody waits, and nothing is sent twice that must not be.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Gate, H2Client, Load, RawServer, Reply, Request, ServerAddress, Valve, eventually,
    read_head,
};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Reads requests and never answers; counts those it was sent and those that were given up.
fn silent(label: &str) -> (RawServer, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (asked, given_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (asked.clone(), given_up.clone());
    let server = RawServer::start(label, move |mut stream| {
        if read_head(&mut stream).is_empty() {
            return;
        }
        counts.0.fetch_add(1, Ordering::SeqCst);
        let mut rest = [0; 1];
        if matches!(stream.read(&mut rest), Ok(0) | Err(_)) {
            counts.1.fetch_add(1, Ordering::SeqCst);
        }
    });
    (server, asked, given_up)
}

fn gate(servers: &[&dyn ServerAddress], retry: &str, more: &str) -> Gate {
    let names: Vec<_> = servers.iter().map(|server| format!("${}", server.label())).collect();
    let config = format!(
        "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group: {{ servers: [{}], retry: {{ {retry} }}, {more} }}
",
        names.join(", ")
    );
    Gate::start(&config, servers)
}

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

const SOON: &str = "hedge: { after: 50ms }, budget: 100%";

#[test]
fn a_server_that_does_not_answer_is_noticed_by_nobody() {
    let (slow, asked, given_up) = silent("slow");
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let gate = gate(&[&slow, &a, &b], SOON, "");
    let mut client = gate.connect();
    for number in 0..15 {
        let answer = client.get(&format!("/{number}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(["a", "b"].contains(&answer.text().as_str()));
        assert_ne!(answer.header("connection").as_deref(), Some("close"), "the client's connection is kept");
    }
    let silent = count(&asked);
    assert!(silent >= 5, "its turn came {silent} times");
    eventually("every one of them to be given up", || count(&given_up) == silent);
    let (a, b) = (a.requests(), b.requests());
    assert_eq!(a.len() + b.len(), 15, "and each was answered once");
    let second =
        a.iter().chain(&b).filter(|r| r.header("x-weirgate-attempts").as_deref() == Some("2")).count();
    assert_eq!(second, silent);
    let line = gate.logged_path("/0");
    assert_eq!((&line["status"], &line["attempts"]), (&200.into(), &2.into()), "{line}");
    assert_ne!(line["server"], slow.address().to_string());
    assert_eq!(gate.logged_path("/1")["attempts"], 1);
}

#[test]
fn whichever_answers_first_the_other_is_given_up() {
    let (slow, valve) = (Backend::start("slow"), Valve::default());
    let at = valve.clone();
    slow.answers_by(move |_| {
        at.hold();
        Reply::ok("slow").chunked()
    });
    let (silent, asked, given_up) = silent("silent");
    let gate = gate(&[&slow, &silent], SOON, "");
    for round in 1..=6 {
        let mut client = gate.connect();
        client.send(Request::get("/").bytes());
        valve.wait_for(1);
        eventually("both to be asked", || count(&asked) == round);
        valve.let_go(1);
        assert_eq!(client.response().text(), "slow");
        eventually("the other to be given up", || count(&given_up) == round);
    }
    assert_eq!(slow.requests().len(), 6);
    gate.logged(|line| line["attempts"] == 2 && line["server"] == slow.address().to_string());
}

#[test]
fn an_answer_is_whole_whoever_gives_it() {
    let (slow, ..) = silent("slow");
    let good = Backend::start("good");
    let body: Vec<u8> = (0..3_000_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let sent = body.clone();
    good.answers_by(move |request| match request.target.as_str() {
        "/empty" => Reply::new(204, ""),
        "/chunked" => Reply::ok(sent.clone()).chunked(),
        _ => Reply::ok(sent.clone()),
    });
    let gate = gate(&[&slow, &good], SOON, "");
    let mut client = gate.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/empty").status, 204);
        assert_eq!(
            client.ask(&Request::new("HEAD", "/long")).header("content-length").as_deref(),
            Some("3000000")
        );
        for path in ["/long", "/chunked", "/long"] {
            assert!(client.get(path).body == body, "{path}");
        }
    }
}

#[test]
fn what_may_not_be_repeated_is_sent_once() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    for backend in [&a, &b] {
        backend.answers(Reply::ok("late").after(Duration::from_millis(200)));
    }
    let gate = gate(&[&a, &b], "hedge: { after: 10ms }, budget: 100%", "");
    let mut client = gate.connect();
    let requests = [
        Request::post("/", "x"),
        Request::new("POST", "/"),
        Request { body: b"x".to_vec(), ..Request::new("PUT", "/") },
    ];
    for request in &requests {
        assert_eq!(client.ask(request).text(), "late");
    }
    assert_eq!(a.requests().len() + b.requests().len(), 3);
    assert_eq!(client.get("/").text(), "late");
    eventually("a GET is sent twice", || a.requests().len() + b.requests().len() == 5);
}

#[test]
fn it_does_not_begin_when_no_further_try_may() {
    let (slow, asked, _) = silent("slow");
    let other = Backend::start("other");
    let gate =
        gate(&[&slow, &other], "hedge: { after: 200ms }, within: 100ms", "timeouts: { response: 600ms }");
    let statuses = [gate.get("/0").status, gate.get("/1").status];
    assert!(statuses.contains(&504) && statuses.contains(&200), "{statuses:?}");
    assert_eq!((count(&asked), other.requests().len()), (1, 1));
}

#[test]
fn the_budget_bounds_it() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    for backend in [&a, &b] {
        backend.answers(Reply::ok("late").after(Duration::from_millis(40)));
    }
    let retry = "hedge: { after: 5ms }, budget: { share: 20%, floor: 0 }";
    let gate = gate(&[&a, &b], retry, "");
    let mut client = gate.connect();
    (0..30).for_each(|_| assert_eq!(client.get("/").status, 200));
    let second = || a.requests().len() + b.requests().len() - 30;
    eventually("some to be sent twice", || second() > 0);
    assert!(second() <= 6, "{} of 30 were sent twice", second());
    assert!(gate.stderr().contains("(retry.budget)"), "{}", gate.stderr());
}

#[test]
fn a_group_that_is_full_is_spared() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let asked = || a.requests().len() + b.requests().len();
    for (limit, tries) in [("connections: 1", 4), ("requests: 2", 8)] {
        for backend in [&a, &b] {
            backend.forget();
            backend.answers(Reply::ok("late").after(Duration::from_millis(200)));
        }
        let gate = gate(&[&a, &b], SOON, &format!("limits: {{ {limit}, queue: 0 }}"));
        let mut client = gate.connect();
        (0..4).for_each(|_| assert_eq!(client.get("/").text(), "late", "{limit}"));
        eventually("every try", || asked() == tries);
        // and no place is lost with a try that was in vain
        [&a, &b].into_iter().for_each(|backend| backend.answers(Reply::ok("quick")));
        (0..10).for_each(|_| assert_eq!(client.get("/").text(), "quick", "{limit}"));
    }
}

#[test]
fn a_second_that_cannot_answer_does_not_win() {
    let (good, bad) = (Backend::start("good"), Backend::start("bad"));
    good.answers(Reply::ok("good").after(Duration::from_millis(250)));
    bad.answers(Reply::status(503));
    let gate = gate(&[&good, &bad], SOON, "");
    let mut client = gate.connect();
    for round in 1..=3 {
        // the second takes a turn too, so that it is the good one's again
        assert_eq!(client.get("/").text(), "good");
        assert_eq!(bad.requests().len(), round, "and was asked");
    }
}

#[test]
fn a_first_that_fails_is_followed_by_the_second_that_is_under_way() {
    for status in [None, Some(503)] {
        let first = RawServer::start("first", move |mut stream| {
            read_head(&mut stream);
            std::thread::sleep(Duration::from_millis(250));
            if let Some(status) = status {
                let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let second = Backend::start("second");
        second.answers(Reply::ok("second").after(Duration::from_millis(500)));
        let gate = gate(&[&first, &second], "when: [503], hedge: { after: 50ms }, budget: 100%", "");
        assert_eq!(gate.get("/").text(), "second", "{status:?}");
        assert_eq!(second.requests().len(), 1, "{status:?}: not asked a third time");
    }
}

#[test]
fn a_second_that_cannot_be_reached_harms_nobody() {
    let gone = harness::RefusedAddress::new("gone");
    let late = Backend::start("late");
    late.answers(Reply::ok("late").after(Duration::from_millis(200)));
    let gate = gate(&[&late, &gone], SOON, "limits: { requests: 2 }");
    let mut client = gate.connect();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "late");
    }
    assert_eq!(late.requests().len(), 6);
}

#[test]
fn most_answers_say_what_is_long() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let (silent, asked, given_up) = silent("silent");
    let gate = gate(&[&a, &b, &silent], "hedge: { after: p95 }, budget: 100%", "timeouts: { response: 60s }");
    // nothing is known at first: those that meet the silent one would wait for ever
    let mut client = gate.connect();
    let mut known = 0;
    while known < 100 {
        let before = count(&asked);
        client.send(Request::get("/").bytes());
        eventually("an answer, or silence", || {
            a.requests().len() + b.requests().len() > known || count(&asked) > before
        });
        if count(&asked) > before {
            client = gate.connect();
        } else {
            assert_eq!(client.response().status, 200);
        }
        known = a.requests().len() + b.requests().len();
    }
    let (mut client, before) = (gate.connect(), count(&asked));
    for _ in 0..9 {
        assert_eq!(client.get("/").status, 200, "from now on nobody waits for it");
    }
    assert!(count(&asked) > before);
    eventually("none to be waited for", || count(&given_up) == count(&asked));
}

#[test]
fn close_finishes_harm_nobody() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    for (backend, body) in [(&a, "a"), (&b, "b")] {
        backend.answers_by(move |request| {
            // around the time at which the other one is asked
            let wait = Duration::from_micros(500 * (request.connection as u64 * 7 % 40));
            Reply::ok(body.repeat(20_000)).after(wait)
        });
    }
    let retry = "hedge: { after: 8ms }, budget: { share: 100%, floor: 1000 }";
    let gate = gate(&[&a, &b], retry, "limits: { requests: 8, queue: 100 }");
    let load = Load::start(gate.at("web"), &Request::get("/"), 6, 150);
    load.wait_for_end();
    let outcomes = load.finish();
    assert_eq!(outcomes.len(), 900);
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(200)), "{outcomes:?}");
    let answered = gate.access_log().iter().filter(|line| line["response_bytes"] == 20_000).count();
    assert!(answered > 0 && gate.access_log().iter().all(|line| line["response_bytes"] == 20_000));

    // and every place is free again
    let valve = Valve::default();
    for backend in [&a, &b] {
        let at = valve.clone();
        backend.answers_by(move |_| {
            at.hold();
            Reply::ok("held")
        });
    }
    let mut clients: Vec<_> = (0..8).map(|_| gate.connect()).collect();
    for client in &mut clients {
        client.send(Request::post("/", "x").bytes());
    }
    valve.wait_for(8);
    valve.open();
    assert!(clients.iter_mut().all(|client| client.response().text() == "held"));
}

#[test]
fn over_http2_as_well() {
    let (slow, asked, _) = silent("slow");
    let good = Backend::start("good");
    let authority = Authority::new();
    let gate = Gate::with(&[&slow, &good]).certified(&authority).start(
        "listeners: [{ name: web, address: $web, $tls }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$slow, $good], host: server, retry: { hedge: { after: 30ms }, budget: 100% } } }
",
    );
    let mut client = H2Client::connect(gate.at("web"), &authority.client("localhost"));
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(count(&asked) >= 3);
    let address = good.address().to_string();
    assert!(good.requests().iter().all(|r| r.header("host").as_deref() == Some(address.as_str())));
}
