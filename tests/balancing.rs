//! The promise: requests are shared among the servers of a group by weight, as the chosen algorithm says, over
//! kept connections; and a request counts as in flight exactly as long as it is.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Backend, Client, Gate, Load, RawServer, Reply, Request, ServerAddress, eventually, frame, h2_block,
    h2_opening, read_head,
};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// One worker, so that one sequence is seen.
fn group(servers: &str, backends: &[&Backend]) -> Gate {
    let named: Vec<_> = backends.iter().map(|&backend| backend as &dyn harness::ServerAddress).collect();
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [{servers}] }} }}
"
    );
    Gate::start(&config, &named)
}

/// A group of servers that is balanced like this.
fn balanced(balance: &str, threads: usize, servers: &str, named: &[&dyn ServerAddress]) -> Gate {
    let config = format!(
        "server: {{ threads: {threads} }}
log: {{ access: {{ to: \"off\" }} }}
listeners: [{{ name: web, address: $web }}, {{ name: h2c, address: $h2c, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ balance: {balance}, servers: [{servers}] }} }}
"
    );
    Gate::start(&config, named)
}

/// A load has a minute. A development build on a machine with other work makes so many requests in that, one by one.
const ROUND: usize = 5_000;

/// Sends so many requests from so many clients at once, of which none may fail, and tells how many each got.
#[track_caller]
fn counts(gate: &Gate, clients: usize, requests: usize, backends: &[&Backend]) -> Vec<usize> {
    let before: Vec<_> = backends.iter().map(|backend| backend.requests().len()).collect();
    assert_eq!(requests % clients, 0);
    let mut left = requests / clients;
    while left > 0 {
        let each = left.min(ROUND / clients);
        let load = Load::start(gate.at("web"), &Request::get("/"), clients, each);
        // `finish` would end it early; the load ends by itself, in bounded time
        load.wait_for_end();
        let outcomes = load.finish();
        assert_eq!(outcomes.len(), clients * each, "not all requests were made in time");
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(200)), "{outcomes:?}");
        left -= each;
    }
    backends.iter().zip(before).map(|(backend, before)| backend.requests().len() - before).collect()
}

/// Each count is within five standard deviations of its share by weight: one run in a million fails.
#[track_caller]
fn assert_shares(counts: &[usize], weights: &[u16]) {
    let (total, sum) = (counts.iter().sum::<usize>() as f64, weights.iter().sum::<u16>());
    for (count, weight) in counts.iter().zip(weights) {
        let share = f64::from(*weight) / f64::from(sum);
        let (expected, deviation) = (total * share, (total * share * (1.0 - share)).sqrt());
        let off = (*count as f64 - expected).abs();
        assert!(off <= 5.0 * deviation, "{counts:?} of weights {weights:?}: {count}, not {expected:.0}");
    }
}

/// Each count is within this part of its share by weight.
#[track_caller]
fn assert_near(counts: &[usize], weights: &[usize], part: usize) {
    assert!(near(counts, weights, part), "{counts:?} of weights {weights:?}");
}

fn near(counts: &[usize], weights: &[usize], part: usize) -> bool {
    let (total, sum) = (counts.iter().sum::<usize>(), weights.iter().sum::<usize>());
    counts.iter().zip(weights).all(|(count, weight)| {
        let share = total * weight / sum;
        count.abs_diff(share) <= share / part
    })
}

fn sequence(client: &mut Client, count: usize) -> String {
    (0..count).map(|_| client.get("/").text()).collect()
}

#[test]
fn weights_5_1_1_give_the_smooth_sequence() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let servers = "{ address: $a, weight: 5 }, $b, { address: $c, weight: 1 }";
    let gate = group(servers, &[&a, &b, &c]);
    assert_eq!(sequence(&mut gate.connect(), 21), "aabacaa".repeat(3));
}

#[test]
fn equal_weights_take_turns() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let gate = group("$a, $b, $c", &[&a, &b, &c]);
    assert_eq!(sequence(&mut gate.connect(), 9), "abcabcabc");
}

#[test]
fn a_single_server_gets_everything() {
    let a = Backend::start("a");
    let gate = group("{ address: $a, weight: 7 }", &[&a]);
    assert_eq!(sequence(&mut gate.connect(), 5), "aaaaa");
}

#[test]
fn several_workers_together_keep_to_the_weights() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let gate = Gate::start(
        "server: { threads: 2 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [{ address: $a, weight: 3 }, { address: $b, weight: 1 }] } }
",
        &[&a, &b],
    );
    let outcomes = Load::start(gate.at("web"), &Request::get("/"), 4, 100);
    outcomes.wait_for(400);
    assert!(outcomes.finish().iter().all(|outcome| *outcome == Ok(200)));
    let (of_a, of_b) = (a.requests().len(), b.requests().len());
    assert_eq!(of_a + of_b, 400);
    // Each worker's own sequence is exact; only the turn that each has just begun can differ.
    assert!((296..=304).contains(&of_a), "{of_a} to a, {of_b} to b");
}

#[test]
fn connections_to_servers_are_kept_and_used_again() {
    let a = Backend::start("a");
    let gate = group("$a", &[&a]);
    let mut client = gate.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    // Other clients use the same connection too.
    for _ in 0..5 {
        assert_eq!(gate.get("/").status, 200);
    }
    assert_eq!(a.requests().len(), 25);
    assert!(a.connections() <= 3, "{} connections for 25 requests in turn", a.connections());
}

/// Answers once so many requests are there at a time, on connections that are left open, and counts those: opened, and closed
/// by the gate.
fn patient(together: usize) -> (RawServer, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (opened, closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (of_server, barrier) = ((opened.clone(), closed.clone()), Barrier::new(together));
    let server = RawServer::start("patient", move |mut stream| {
        of_server.0.fetch_add(1, Ordering::SeqCst);
        while read_head(&mut stream).ends_with(b"\r\n\r\n") {
            barrier.wait();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok();
        }
        of_server.1.fetch_add(1, Ordering::SeqCst);
    });
    (server, opened, closed)
}

#[test]
fn no_more_connections_are_kept_than_there_is_room_for() {
    let (server, opened, closed) = patient(2);
    let gate = Gate::start(
        "server: { threads: 1, upstream_keepalive_pool_size: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$patient] } }
",
        &[&server],
    );
    for round in 1..=3 {
        let (mut one, mut other) = (gate.connect(), gate.connect());
        one.send(Request::get("/").bytes());
        assert_eq!(other.get("/").status, 200);
        assert_eq!(one.response().status, 200);
        eventually("one of two connections to be closed", || closed.load(Ordering::SeqCst) == round);
        // the other one is used in the next round
        assert_eq!(opened.load(Ordering::SeqCst), round + 1);
    }
}

#[test]
fn a_connection_that_nobody_uses_is_closed_after_a_while() {
    let (server, opened, closed) = patient(1);
    let gate = Gate::start(
        "server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$patient], timeouts: { idle: 5s } } }
",
        &[&server],
    );
    for round in 1..=2 {
        for _ in 0..3 {
            assert_eq!(gate.get("/").status, 200);
        }
        assert_eq!(opened.load(Ordering::SeqCst), round);
        eventually("the connection to be closed", || closed.load(Ordering::SeqCst) == round);
    }
}

#[test]
fn a_group_may_be_named_by_several_routes_and_keeps_one_sequence() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let gate = Gate::start(
        "server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /one, upstream: group }, { path: /two, upstream: group }]
upstreams: { group: { servers: [$a, $b] } }
",
        &[&a, &b],
    );
    let mut client = gate.connect();
    let got: String = (0..3).flat_map(|_| ["/one", "/two"]).map(|path| client.get(path).text()).collect();
    assert_eq!(got, "ababab");
}

const WEIGHTS: &str = "{ address: $a, weight: 5 }, $b, $c";

#[test]
fn chance_keeps_to_the_weights_in_20_000_requests() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let gate = balanced("random", 2, WEIGHTS, &[&a, &b, &c]);
    assert_shares(&counts(&gate, 4, 20_000, &[&a, &b, &c]), &[5, 1, 1]);
}

/// With one request at a time nobody is ever busy, so the first of the two drawn is taken.
#[test]
fn power_of_two_keeps_to_the_weights_in_20_000_requests() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let gate = balanced("power_of_two", 1, WEIGHTS, &[&a, &b, &c]);
    assert_shares(&counts(&gate, 1, 20_000, &[&a, &b, &c]), &[5, 1, 1]);
}

#[test]
fn least_connections_keeps_to_the_weights_in_20_000_requests() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let gate = balanced("least_connections", 1, WEIGHTS, &[&a, &b, &c]);
    assert_eq!(
        sequence(&mut gate.connect(), 14),
        "aabacaa".repeat(2),
        "in turn while there is nothing to do"
    );
    assert_shares(&counts(&gate, 1, 20_000, &[&a, &b, &c]), &[5, 1, 1]);
}

/// Fourteen requests at once take as long on every server, so each server has as many of them as its weight says.
#[test]
fn requests_in_flight_keep_to_the_weights() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    for backend in [&a, &b, &c] {
        let label = backend.label().to_owned();
        backend.answers_by(move |_| Reply::ok(label.clone()).after(Duration::from_millis(20)));
    }
    let gate = balanced("least_connections", 2, WEIGHTS, &[&a, &b, &c]);
    // a round in which the machine stands still keeps some requests longer than others
    eventually("the weights to be kept to", || {
        near(&counts(&gate, 14, 1_400, &[&a, &b, &c]), &[5, 1, 1], 10)
    });
    let gate = balanced("power_of_two", 2, WEIGHTS, &[&a, &b, &c]);
    assert_near(&counts(&gate, 14, 1_400, &[&a, &b, &c]), &[5, 1, 1], 3);
}

#[test]
fn least_connections_and_power_of_two_spare_a_slow_server() {
    for balance in ["least_connections", "power_of_two"] {
        let (slow, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
        slow.answers(Reply::ok("a").after(Duration::from_millis(60)));
        let gate = balanced(balance, 2, "$a, $b, $c", &[&slow, &b, &c]);
        let counts = counts(&gate, 6, 1_800, &[&slow, &b, &c]);
        // in turn it would get six hundred
        assert!(counts[0] < 200, "{balance}: {counts:?}");
        assert_near(&counts[1..], &[1, 1], 5);
    }
}

#[test]
fn least_time_keeps_to_the_weights_in_20_000_requests() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    for backend in [&a, &b, &c] {
        let label = backend.label().to_owned();
        backend.answers_by(move |_| Reply::ok(label.clone()).after(Duration::from_millis(5)));
    }
    let balance = "{ least_time: { decay: 50ms } }";
    let gate = balanced(balance, 2, "{ address: $a, weight: 2 }, $b, $c", &[&a, &b, &c]);
    // response times of equal servers differ by chance, and shares with them
    assert_near(&counts(&gate, 16, 20_000, &[&a, &b, &c]), &[2, 1, 1], 4);
}

#[test]
fn least_time_avoids_a_server_ten_times_slower_until_it_recovers() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let quick = |label: &str| Reply::ok(label).after(Duration::from_millis(20));
    a.answers(Reply::ok("a").after(Duration::from_millis(200)));
    b.answers(quick("b"));
    c.answers(quick("c"));
    // it is asked again as time goes by, however many requests there are meanwhile: on a busy machine they are few
    let balance = "{ least_time: { decay: 2s } }";
    let gate = balanced(balance, 2, "$a, $b, $c", &[&a, &b, &c]);
    // a machine that stands still for as long as the slow one takes makes all of them look alike: another round then
    eventually("the slow one to be spared", || counts(&gate, 4, 1_000, &[&a, &b, &c])[0] < 50);
    a.answers(quick("a"));
    eventually("the server that recovered to get its share again", || {
        let now = counts(&gate, 4, 400, &[&a, &b, &c]);
        now[0] > 80
    });
}

#[test]
fn least_time_avoids_a_server_that_fails() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    a.answers(Reply::reset());
    let gate = balanced("least_time", 1, "$a, $b", &[&a, &b]);
    let mut client = gate.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/").text(), "b");
    }
    // a reset says nothing about servers of kept connections, but these were new
    assert!(a.requests().len() <= 2, "{} tries on the server that fails", a.requests().len());
    // quick to say no is not quick
    let (c, d) = (Backend::start("c"), Backend::start("d"));
    c.answers(Reply::status(503));
    d.answers(Reply::ok("d").after(Duration::from_millis(10)));
    let gate = balanced("least_time", 1, "$c, $d", &[&c, &d]);
    let mut client = gate.connect();
    (0..50).for_each(|_| drop(client.get("/")));
    assert!(c.requests().len() <= 2, "{} requests to the server that cannot", c.requests().len());
}

/// A server that says its name, becomes an echo when asked to, and if it is `a` never answers `/hang` and breaks
/// the connection at `/break`. It counts the requests that reach it.
fn moody(label: &'static str) -> (RawServer, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let server = RawServer::start(label, move |mut stream| {
        loop {
            let head = String::from_utf8_lossy(&read_head(&mut stream)).to_lowercase();
            let target = head.split(' ').nth(1).unwrap_or_default();
            let mut buffer = [0; 64];
            if head.is_empty() {
                return;
            }
            count.fetch_add(1, Ordering::SeqCst);
            if label == "a" && target == "/break" {
                return;
            }
            if label == "a" && target == "/hang" {
                while let Ok(1..) = stream.read(&mut buffer) {}
                return;
            }
            if head.contains("upgrade: websocket") {
                let switching =
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                let _ = stream.write_all(switching);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if buffer.starts_with(b"bye") {
                        return;
                    }
                    let _ = stream.write_all(&buffer[..count]);
                }
                return;
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{label}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (server, requests)
}

/// Nobody is busy, for requests take turns. One that still counts would keep them away from its server for good.
fn settled(gate: &Gate) {
    eventually("requests to take turns again", || {
        let got = sequence(&mut gate.connect(), 20);
        got == "ab".repeat(10) || got == "ba".repeat(10)
    });
}

#[test]
fn a_request_that_its_client_gave_up_is_in_flight_no_more() {
    let ((a, of_a), (b, of_b)) = (moody("a"), moody("b"));
    let gate = balanced("least_connections", 1, "$a, $b", &[&a, &b]);
    let arrived = || of_a.load(Ordering::SeqCst) + of_b.load(Ordering::SeqCst);
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/hang"), (":authority", "x")];
    let h2_request = [h2_opening(), frame(1, 0x5, 1, &h2_block(&fields))].concat();
    for round in 0..60 {
        let before = arrived();
        let (mut client, request) = match round % 3 {
            0 => (gate.connect(), Request::get("/hang").bytes()),
            _ => (Client::connect(gate.at("h2c")), h2_request.clone()),
        };
        client.send(request);
        eventually("the request to arrive", || arrived() > before);
        if round % 3 == 1 {
            // RST_STREAM: CANCEL, and the connection stays open
            client.send(frame(3, 0, 1, &8u32.to_be_bytes()));
            settled(&gate);
        }
        // whoever of the two has it, the next request has to find both idle
        drop(client);
        if round % 5 == 0 {
            settled(&gate);
        }
    }
    settled(&gate);
    let (hung, answered) = (of_a.load(Ordering::SeqCst), of_b.load(Ordering::SeqCst));
    assert!(hung > 20 && answered > 20, "{hung} and {answered} requests arrived");
}

#[test]
fn a_tunnel_is_in_flight_until_either_side_ends_it() {
    let ((a, _), (b, _)) = (moody("a"), moody("b"));
    let gate = balanced("least_connections", 1, "$a, $b", &[&a, &b]);
    for round in 0..5 {
        let open = || {
            let mut client = gate.connect();
            client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            assert_eq!(client.response().status, 101);
            client
        };
        let mut tunnels: Vec<_> = (0..3).map(|_| open()).collect();
        // one server has two of them and the other one, so that one gets all requests
        let now = sequence(&mut gate.connect(), 10);
        assert!(now == "a".repeat(10) || now == "b".repeat(10), "round {round}: {now}");
        let mut ended_there = tunnels.pop().expect("a tunnel");
        ended_there.send("bye");
        ended_there.until_closed();
        drop(tunnels);
        settled(&gate);
    }
}

#[test]
fn a_failed_try_is_in_flight_no_more() {
    let ((a, _), (b, _)) = (moody("a"), moody("b"));
    let gate = balanced("least_connections", 1, "$a, $b", &[&a, &b]);
    let mut client = gate.connect();
    for _ in 0..40 {
        assert_eq!(client.get("/break").text(), "b");
    }
    settled(&gate);
}
