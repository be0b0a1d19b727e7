//! The promise: the gate learns from live traffic. A server that fails or is far slower than the others gets no requests
//! for a while; a breaker keeps requests away from what is broken and lets a few through to see; and when too few
//! servers are healthy, health is ignored rather than the rest crushed. Each of these says in the log why.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Backend, Client, Gate, RawServer, RefusedAddress, Reply, Request, Response, ServerAddress, eventually,
    read_head,
};
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// These servers in turn, with these words in their group, and no retries to hide what happens.
fn gate(servers: &[&Backend], words: &str) -> Gate {
    gate_that_retries(servers, &format!("    retry: {{ attempts: 1 }}\n{words}"))
}

fn gate_that_retries(servers: &[&Backend], words: &str) -> Gate {
    let names: Vec<String> = servers.iter().map(|server| format!("${}", server.label())).collect();
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    servers: [{}]
{words}
",
        names.join(", ")
    );
    let servers: Vec<&dyn ServerAddress> = servers.iter().map(|server| *server as _).collect();
    Gate::start(&config, &servers)
}

fn servers<const N: usize>(labels: [&str; N]) -> [Backend; N] {
    labels.map(Backend::start)
}

fn statuses(gate: &Gate, requests: usize) -> Vec<u16> {
    let mut client = gate.connect();
    (0..requests).map(|_| client.get("/").status).collect()
}

/// Who answers the next requests, as sorted labels.
fn answering(client: &mut Client) -> Vec<String> {
    let mut labels: Vec<String> = (0..9).map(|_| client.get("/").text()).collect();
    labels.sort();
    labels.dedup();
    labels
}

fn lines(gate: &Gate, part: &str) -> Vec<String> {
    gate.stderr().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

#[track_caller]
fn says(gate: &Gate, part: &str) {
    eventually(&format!("the log to say {part:?}"), || !lines(gate, part).is_empty());
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|it| **it == status).count()
}

#[test]
fn a_server_that_answers_500_is_ejected_and_comes_back() {
    let [a, b] = servers(["a", "b"]);
    a.answers(Reply::status(500));
    let gate = gate(&[&a, &b], "    outlier: { consecutive_failures: 3, ejection: 1s, max_ejection: 10s }");
    let seen = statuses(&gate, 30);
    assert_eq!(count(&seen, 500), 3, "no more than it took to find out: {seen:?}");
    assert_eq!(a.requests().len(), 3);
    let name = a.address();
    says(&gate, &format!("server {name} is ejected for 1s: 3 failures in a row, the last: status 500"));
    says(&gate, &format!("server {name} is no longer ejected"));

    // it fails again: the second time is twice as long
    let seen = statuses(&gate, 30);
    assert_eq!((count(&seen, 500), a.requests().len()), (3, 6), "{seen:?}");
    says(&gate, &format!("server {name} is ejected for 2s"));
    a.answers(Reply::ok("a"));
    eventually("its end", || lines(&gate, "is no longer ejected").len() == 2);
    assert_eq!(answering(&mut gate.connect()), ["a", "b"]);
}

#[test]
fn what_does_not_answer_at_all_is_a_failure_and_a_404_is_none() {
    let (gone, up) = (RefusedAddress::new("gone"), Backend::start("up"));
    up.answers(Reply::status(404));
    let gate = Gate::start(
        "server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$gone, $up], outlier: {} } }
",
        &[&gone, &up],
    );
    assert_eq!(count(&statuses(&gate, 30), 404), 30, "retries hide it meanwhile");
    says(&gate, "is ejected for 30s: 5 failures in a row, the last: connection refused");
    assert_eq!(lines(&gate, "is ejected").len(), 1);
}

#[test]
fn statuses_say_what_a_failure_is() {
    let [a, b] = servers(["a", "b"]);
    a.answers(Reply::status(500));
    let gate = gate(&[&a, &b], "    outlier: { consecutive_failures: 2, statuses: [502, 503] }");
    assert_eq!(count(&statuses(&gate, 20), 500), 10);
    a.answers(Reply::status(503));
    assert_eq!(count(&statuses(&gate, 20), 503), 2);
}

#[test]
fn answers_that_break_off_and_answers_that_do_not_come_are_failures() {
    for (reply, why) in
        [(Reply::ok("broken off").cut_short(), "connection closed"), (Reply::hang(), "no answer within")]
    {
        let [a, b] = servers(["a", "b"]);
        a.answers(reply);
        let gate =
            gate(&[&a, &b], "    outlier: { consecutive_failures: 2 }\n    timeouts: { response: 100ms }");
        for _ in 0..10 {
            let mut client = gate.connect();
            client.send(Request::get("/").bytes());
            let _ = client.try_response_to("GET");
        }
        assert_eq!(a.requests().len(), 2, "{why}");
        says(&gate, &format!("2 failures in a row, the last: {why}"));
    }
}

#[test]
fn neither_clients_that_go_away_nor_idle_connections_that_end_are_failures() {
    let [a, b] = servers(["a", "b"]);
    a.answers(Reply::ok("a").after(Duration::from_millis(100)));
    let gate = gate_that_retries(&[&a, &b], "    outlier: { consecutive_failures: 1 }");
    for n in 1..=5 {
        let mut clients = [gate.connect(), gate.connect()];
        for client in &mut clients {
            client.send(Request::get("/").bytes());
        }
        eventually("both were asked", || a.requests().len() >= n && b.requests().len() >= n);
    }
    a.answers(Reply::ok("a"));
    for _ in 0..5 {
        assert_eq!(answering(&mut gate.connect()), ["a", "b"]);
        a.drop_connections();
        b.drop_connections();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(lines(&gate, "is ejected").is_empty(), "{}", gate.stderr());
}

#[test]
fn the_end_of_a_websocket_is_no_failure_however_it_ends() {
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    let chat = RawServer::start("chat", move |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(answer);
        std::thread::sleep(Duration::from_millis(50));
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    });
    let other =
        RawServer::saying("other", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let gate = Gate::start(
        "server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$chat, $other], outlier: { consecutive_failures: 1 } } }
",
        &[&chat, &other],
    );
    let mut switched = 0;
    for _ in 0..6 {
        let mut client = gate.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        if client.read_exactly(12).expect("an answer") == b"HTTP/1.1 101" {
            client.until_closed();
            switched += 1;
        }
    }
    assert_eq!(switched, 3, "{}", gate.stderr());
    assert!(lines(&gate, "is ejected").is_empty(), "{}", gate.stderr());
}

#[test]
fn no_more_servers_are_ejected_than_may_be() {
    let [a, b, c] = servers(["a", "b", "c"]);
    [&a, &b].into_iter().for_each(|server| server.answers(Reply::status(500)));
    let gate = gate(&[&a, &b, &c], "    outlier: { consecutive_failures: 2, max_ejected: 34% }");
    let seen = statuses(&gate, 42);
    let bad = [a.requests().len(), b.requests().len()];
    assert!(bad.contains(&2), "one of them is out: {bad:?}");
    assert!(bad.iter().any(|asked| *asked > 15), "and the other is not: {bad:?}");
    assert_eq!(count(&seen, 500), bad[0] + bad[1]);
    says(
        &gate,
        "is not ejected, as enough others are (outlier.max_ejected): 2 failures in a row, the last: status 500",
    );
    assert_eq!(lines(&gate, "is ejected for").len(), 1);
}

#[test]
fn a_share_of_failures_ejects_a_server_that_also_answers_well() {
    let [a, b, c] = servers(["a", "b", "c"]);
    let turn = AtomicUsize::new(0);
    a.answers_by(move |_| match turn.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Reply::status(500),
        _ => Reply::ok("a"),
    });
    let words =
        "    outlier: { consecutive_failures: off, failure_share: { share: 40%, requests: 10, window: 2s } }";
    let gate = gate(&[&a, &b, &c], words);
    let mut client = gate.connect();
    eventually("it to be ejected", || {
        client.get("/");
        !lines(&gate, "is ejected").is_empty()
    });
    let said = lines(&gate, "is ejected").remove(0);
    assert!(said.contains(&a.address().to_string()) && said.ends_with("requests failed in 2s"), "{said}");
    assert_eq!(answering(&mut client), ["b", "c"]);
}

#[test]
fn a_server_far_slower_than_the_others_is_ejected() {
    let [a, b, c] = servers(["a", "b", "c"]);
    a.answers(Reply::ok("a").after(Duration::from_millis(300)));
    let words = "    outlier:
      consecutive_failures: off
      failure_share: off
      latency: { times: 3, at_least: 200ms, requests: 5, window: 10s }";
    let gate = gate(&[&a, &b, &c], words);
    let mut client = gate.connect();
    eventually("it to be ejected", || {
        client.get("/");
        !lines(&gate, "is ejected").is_empty()
    });
    let said = lines(&gate, "is ejected").remove(0);
    assert!(
        said.contains(&format!("server {} is ejected for 30s: it typically answers in 3", a.address())),
        "{said}"
    );
    assert_eq!(answering(&mut client), ["b", "c"]);
}

#[test]
fn the_breaker_of_a_server_opens_tries_and_closes() {
    let [a, b] = servers(["a", "b"]);
    a.answers(Reply::status(500));
    let words =
        "    breaker: { server: { failure_share: { share: 100%, requests: 4 }, open: 1s, trials: 1 } }";
    let gate = gate(&[&a, &b], words);
    let name = a.address();
    assert_eq!(count(&statuses(&gate, 20), 500), 4);
    says(&gate, &format!("the breaker of server {name} opens for 1s: 4 of 4 requests failed in 10s"));
    says(&gate, &format!("the breaker of server {name} is half-open: 1 trial request may pass"));
    assert_eq!(count(&statuses(&gate, 20), 500), 1, "one trial, which fails");
    says(&gate, &format!("the breaker of server {name} opens for 1s: a trial request failed"));
    a.answers(Reply::ok("a"));
    eventually("its second half-open state", || lines(&gate, "is half-open").len() == 2);
    assert_eq!(count(&statuses(&gate, 20), 200), 20);
    says(&gate, &format!("the breaker of server {name} closes: 1 trial request succeeded"));
    assert_eq!(answering(&mut gate.connect()), ["a", "b"]);
}

fn group_breaker(words: &str) -> String {
    format!("    breaker: {{ server: off, group: {{ {words} }} }}")
}

fn assert_refused(response: &Response, seconds: RangeInclusive<u64>) {
    assert_eq!(response.status, 503, "{response:?}");
    let after = response.header("retry-after").and_then(|after| after.parse().ok());
    assert!(after.is_some_and(|after| seconds.contains(&after)), "{response:?}");
}

#[test]
fn the_breaker_of_a_group_answers_503_at_once_and_recovers() {
    let [a, b] = servers(["a", "b"]);
    [&a, &b].into_iter().for_each(|server| server.answers(Reply::status(502)));
    let words = group_breaker("failure_share: { share: 50%, requests: 10 }, open: 1500ms, trials: 2");
    let gate = gate(&[&a, &b], &words);
    assert_eq!(count(&statuses(&gate, 10), 502), 10);
    let mut client = gate.connect();
    assert_refused(&client.get("/"), 1..=2);
    assert_eq!(client.get("/").status, 503, "on the same connection");
    says(&gate, "upstream \"group\": the breaker opens for 1500ms: 10 of 10 requests failed in 10s");
    eventually("the access log", || gate.stdout().contains("\"error\":\"circuit open\""));
    assert_eq!(a.requests().len() + b.requests().len(), 10, "nobody was asked");

    [&a, &b].into_iter().for_each(|server| server.answers(Reply::ok("fine")));
    eventually("it to let requests through", || client.get("/").status == 200);
    assert_eq!(client.get("/").status, 200);
    says(&gate, "upstream \"group\": the breaker is half-open: 2 trial requests may pass");
    says(&gate, "upstream \"group\": the breaker closes: 2 trial requests succeeded");
    assert_eq!(count(&statuses(&gate, 20), 200), 20);
}

#[test]
fn no_more_trials_are_in_flight_than_there_may_be() {
    let [a] = servers(["a"]);
    a.answers(Reply::status(500));
    let words = group_breaker("failure_share: { share: 50%, requests: 4 }, open: 100ms, trials: 3");
    let gate = gate(&[&a], &words);
    statuses(&gate, 4);
    a.forget();
    a.answers(Reply::ok("a").after(Duration::from_millis(1500)));
    std::thread::sleep(Duration::from_millis(150));
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let mut client = gate.connect();
            std::thread::spawn(move || client.get("/").status)
        })
        .collect();
    let answers: Vec<u16> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!((count(&answers, 200), count(&answers, 503)), (3, 9), "{answers:?}");
    assert_eq!(a.requests().len(), 3);
}

#[test]
fn a_trial_whose_client_goes_away_makes_room_for_another() {
    let [a] = servers(["a"]);
    a.answers(Reply::status(500));
    let words = group_breaker("failure_share: { share: 50%, requests: 4 }, open: 100ms, trials: 1");
    let gate = gate(&[&a], &words);
    statuses(&gate, 4);
    a.forget();
    a.answers(Reply::hang());
    std::thread::sleep(Duration::from_millis(150));
    let mut gone = gate.connect();
    gone.send(Request::get("/").bytes());
    eventually("the trial", || a.requests().len() == 1);
    assert_refused(&gate.get("/"), 1..=1);
    drop(gone);
    a.answers(Reply::ok("a"));
    eventually("another", || gate.get("/").status == 200);
    assert_eq!(count(&statuses(&gate, 10), 200), 10);
}

#[test]
fn a_trial_that_goes_on_for_long_has_succeeded() {
    let [a] = servers(["a"]);
    a.answers(Reply::status(500));
    let words =
        "    breaker: { server: { failure_share: { share: 50%, requests: 4 }, open: 200ms, trials: 1 } }";
    let gate = gate(&[&a], words);
    statuses(&gate, 4);
    says(&gate, "is half-open");
    a.answers(Reply::ok("x".repeat(40)).dripping(Duration::from_millis(50)));
    let mut client = gate.connect();
    let stream = std::thread::spawn(move || client.get("/").text().len());
    says(&gate, "closes: 1 trial request succeeded");
    assert!(!stream.is_finished(), "it is still answered");
    a.answers(Reply::ok("a"));
    assert_eq!(gate.get("/").text(), "a");
    assert_eq!(stream.join().unwrap(), 40);
}

#[test]
fn limits_and_breakers_go_together() {
    let [a, b] = servers(["a", "b"]);
    a.answers(Reply::status(500));
    let words = "    limits: { requests: 10, queue: 10, queue_timeout: 5s }
    breaker: { server: { failure_share: { share: 100%, requests: 4 }, open: 1s, trials: 1 } }
    outlier: { consecutive_failures: 6 }";
    let gate = gate(&[&a, &b], words);
    assert_eq!(count(&statuses(&gate, 20), 500), 4);
    says(&gate, "is half-open");
    assert_eq!(count(&statuses(&gate, 20), 500), 1, "the trial");
    eventually("its second half-open state", || lines(&gate, "is half-open").len() == 2);
    assert_eq!(count(&statuses(&gate, 20), 500), 1, "the sixth failure in a row");
    says(&gate, "is ejected for 30s: 6 failures in a row");
}

#[test]
fn a_breaker_opens_on_pending_work() {
    let [a] = servers(["a"]);
    a.answers(Reply::ok("a").after(Duration::from_secs(1)));
    let gate = gate(&[&a], &group_breaker("failure_share: off, pending: 2, open: 5s"));
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut client = gate.connect();
            std::thread::spawn(move || client.get("/").status)
        })
        .collect();
    eventually("both are with the server", || a.requests().len() == 2);
    assert_refused(&gate.get("/"), 5..=5);
    assert!(waiting.iter().all(|client| !client.is_finished()), "it did not wait");
    let answers: Vec<u16> = waiting.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(answers, [200, 200], "those that were in flight end well");
    says(&gate, "the breaker opens for 5s: 2 requests are in flight");
}

#[test]
fn panic_mode_ignores_health_below_its_share() {
    let [a, b, c] = servers(["a", "b", "c"]);
    let words =
        "    health_check: { http: { path: /healthz }, interval: 50ms, healthy_after: 1, unhealthy_after: 1 }
    panic: 50%";
    let gate = gate(&[&a, &b, &c], words);
    let mut client = gate.connect();
    assert_eq!(answering(&mut client), ["a", "b", "c"]);
    a.health(Reply::status(500));
    eventually("a is not asked", || answering(&mut client) == ["b", "c"]);
    assert!(lines(&gate, "panic").is_empty(), "two of three is more than half");
    b.health(Reply::status(500));
    says(&gate, "panic: only 1 of 3 servers is healthy, requests go to all of them (panic: 50%)");
    eventually("all are asked", || answering(&mut client) == ["a", "b", "c"]);
    b.health(Reply::ok("healthy"));
    says(&gate, "the panic is over: 2 of 3 servers are healthy (panic: 50%)");
    eventually("a is not asked", || answering(&mut client) == ["b", "c"]);
}

#[test]
fn without_panic_mode_a_group_that_is_down_is_down() {
    let [a] = servers(["a"]);
    a.health(Reply::status(500));
    let gate = gate(
        &[&a],
        "    health_check: { http: { path: /healthz }, interval: 50ms, healthy_after: 1, unhealthy_after: 1 }",
    );
    eventually("it to be down", || gate.get("/").status == 503);
    assert!(lines(&gate, "panic").is_empty());
}

#[test]
fn sessions_leave_a_server_that_is_ejected() {
    let servers: Arc<[Backend; 2]> = Arc::new(servers(["a", "b"]));
    let words = "    outlier: { consecutive_failures: 2 }
    sticky: { cookie: { secret: a secret of sixteen bytes } }";
    let gate = gate(&[&servers[0], &servers[1]], words);
    let first = gate.get("/");
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mine = servers.iter().find(|server| server.label() == first.text()).unwrap();
    let request = Request::get("/").header("Cookie", &cookie);
    assert_eq!(gate.ask(&request).text(), first.text());
    mine.answers(Reply::status(500));
    let seen: Vec<u16> = (0..6).map(|_| gate.ask(&request).status).collect();
    assert_eq!(seen, [500, 500, 200, 200, 200, 200]);
}
