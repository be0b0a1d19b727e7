//! The promise: a request is tried again when that is safe and allowed, and never otherwise. What is retried, how often
//! and how late is for the configuration to say; no request is carried out twice by chance, and retries do not make an
//! outage worse.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Gate, RawServer, Reply, Request};
use std::time::Duration;

/// Two servers in turn, `bad` first, with these words of `retry` and these timeouts.
fn gate(bad: &Backend, good: &Backend, retry: &str) -> Gate {
    let config = format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ servers: [$bad, $good], timeouts: {{ response: 300ms }}, retry: {{ {retry} }} }} }}
"
    );
    Gate::start(&config, &[bad, good])
}

fn bad(reply: Reply) -> Backend {
    let bad = Backend::start("bad");
    bad.answers(reply);
    bad
}

#[test]
fn a_named_status_is_tried_on_another_server() {
    let (bad, good) = (bad(Reply::status(503)), Backend::start("good"));
    let gate = gate(&bad, &good, "when: [503]");
    let mut client = gate.connect();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(bad.requests().len() >= 3, "it was really asked");
    assert_eq!(good.requests().len(), 6);
}

#[test]
fn an_answer_that_is_not_http_is_tried_on_another_server() {
    // of GET only: the server has had the request
    let (bad, good) =
        (RawServer::saying("bad", b"\x15\x03\x01 what?\r\n\r\n".as_slice()), Backend::start("good"));
    let gate = Gate::start(
        "server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$bad, $good] } }
",
        &[&bad, &good],
    );
    for _ in 0..4 {
        assert_eq!(gate.get("/").text(), "good");
    }
    let statuses: Vec<u16> = (0..4).map(|_| gate.ask(&Request::post("/", "pay 5 euros")).status).collect();
    assert!(statuses.contains(&502), "{statuses:?}");
    let posted = good.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!(posted, statuses.iter().filter(|status| **status == 200).count(), "{statuses:?}");
}

#[test]
fn another_status_is_passed_on() {
    let (bad, good) = (bad(Reply::status(500)), Backend::start("good"));
    let gate = gate(&bad, &good, "when: [502, 503]");
    assert_eq!(gate.get("/").status, 500);
    assert_eq!(good.requests().len(), 0);
}

#[test]
fn when_all_servers_answer_badly_the_client_gets_the_answer() {
    let (one, two) = (bad(Reply::new(503, "one")), Backend::start("good"));
    two.answers(Reply::new(503, "two"));
    let gate = gate(&one, &two, "when: [503], attempts: 5");
    let answer = gate.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (503, "two"), "the server's own, not ours");
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1), "a different server each try");
}

#[test]
fn least_time_does_not_take_a_status_that_is_tried_again_for_a_quick_answer() {
    for request in [Request::get("/"), Request::post("/", "not sent again")] {
        let (bad, good) = (bad(Reply::status(500)), Backend::start("good"));
        let gate = Gate::start(
            "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { balance: least_time, servers: [$bad, $good], retry: { when: [500] } } }
",
            &[&bad, &good],
        );
        let mut client = gate.connect();
        let failed = (0..60).filter(|_| client.ask(&request).status != 200).count();
        assert!(failed <= if request.method == "GET" { 0 } else { 10 }, "{failed} of 60 {}", request.method);
        assert!(bad.requests().len() <= 10, "{} {} of 60", bad.requests().len(), request.method);
    }
}

#[test]
fn a_server_that_is_too_slow_is_given_up_for_another_when_asked() {
    let (bad, good) = (bad(Reply::hang()), Backend::start("good"));
    let gate = gate(&bad, &good, "when: [timeout]");
    assert_eq!(gate.get("/").text(), "good");
    assert_eq!(bad.requests().len(), 1);
}

#[test]
fn a_server_that_is_too_slow_is_not_given_up_unasked() {
    let (bad, good) = (bad(Reply::hang()), Backend::start("good"));
    let gate = gate(&bad, &good, "when: [connect, reset, 503]");
    assert_eq!(gate.get("/").status, 504);
    assert_eq!(good.requests().len(), 0);
}

#[test]
fn a_post_is_repeated_only_by_explicit_choice() {
    for (reply, when) in [(Reply::reset(), "reset"), (Reply::hang(), "timeout"), (Reply::status(503), "503")]
    {
        let (bad_one, good) = (bad(reply.clone()), Backend::start("good"));
        let cautious = gate(&bad_one, &good, &format!("when: [{when}]"));
        let status = cautious.ask(&Request::post("/", "pay 5 euros")).status;
        assert!(status >= 502, "{when}: {status}");
        assert_eq!((bad_one.requests().len(), good.requests().len()), (1, 0), "{when}");

        let (bad_one, good) = (bad(reply), Backend::start("good"));
        let bold = gate(&bad_one, &good, &format!("when: [{when}], non_idempotent: true"));
        assert_eq!(bold.ask(&Request::post("/", "note 5 euros")).text(), "good", "{when}");
        assert_eq!(good.only_request().body, b"note 5 euros", "{when}: with the whole body");
    }
}

#[test]
fn a_body_too_long_to_be_kept_is_not_sent_again() {
    let (bad, good) = (bad(Reply::status(503)), Backend::start("good"));
    let gate = gate(&bad, &good, "when: [503], non_idempotent: true");
    let answer = gate.ask(&Request::post("/", "x".repeat(100_000)));
    assert_eq!(answer.status, 503);
    assert_eq!(good.requests().len(), 0, "64 KiB are kept to be sent again");
}

#[test]
fn the_number_of_tries_is_bounded() {
    let config = "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$a, $b, $c, $d], retry: { attempts: 3, when: [503] } } }
";
    let labelled: Vec<Backend> = ["a", "b", "c", "d"].into_iter().map(Backend::start).collect();
    labelled.iter().for_each(|server| server.answers(Reply::status(503)));
    let servers: Vec<&dyn harness::ServerAddress> = labelled.iter().map(|s| s as _).collect();
    let gate = Gate::start(config, &servers);
    assert_eq!(gate.get("/").status, 503);
    assert_eq!(labelled.iter().map(|server| server.requests().len()).sum::<usize>(), 3);
}

#[test]
fn no_try_begins_after_the_time_for_all_of_them() {
    let (bad, good) = (bad(Reply::status(503).after(Duration::from_millis(120))), Backend::start("good"));
    let gate = gate(&bad, &good, "when: [503], within: 100ms");
    assert_eq!(gate.get("/").status, 503);
    assert_eq!(good.requests().len(), 0);
}

#[test]
fn servers_are_told_which_try_it_is() {
    let (bad, good) = (bad(Reply::status(503)), Backend::start("good"));
    let gate = gate(&bad, &good, "when: [503], backoff: { base: 1ms, max: 2ms }");
    let forged = Request::get("/").header("X-Weirgate-Attempts", "7");
    assert_eq!(gate.ask(&forged).text(), "good");
    assert_eq!(bad.only_request().header("x-weirgate-attempts"), None, "what a client says is not believed");
    assert_eq!(good.only_request().header("x-weirgate-attempts").as_deref(), Some("2"));
}

#[test]
fn retries_stop_when_the_budget_is_spent_and_first_tries_go_on() {
    let (bad, good) = (bad(Reply::status(503)), Backend::start("good"));
    // ten requests, half of which meet the bad server: one retry is 10% of them
    let gate = gate(&bad, &good, "when: [503], budget: { share: 10%, floor: 0 }");
    let mut client = gate.connect();
    let statuses: Vec<u16> = (0..20).map(|_| client.get("/").status).collect();
    let retried = good.requests().iter().filter(|r| r.header("x-weirgate-attempts").is_some()).count();
    let failed = statuses.iter().filter(|status| **status == 503).count();
    assert!((1..=2).contains(&retried), "{retried} of 20 were tried again");
    assert_eq!(failed, bad.requests().len() - retried, "the others got the answer there was");
    assert!(gate.stderr().contains("(retry.budget)"), "{}", gate.stderr());
}

#[test]
fn refused_connections_cost_no_budget() {
    let (gone, good) = (harness::RefusedAddress::new("bad"), Backend::start("good"));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: group }]
upstreams: { group: { servers: [$bad, $good], retry: { budget: { share: 0%, floor: 0 } } } }
",
        &[&gone, &good],
    );
    let mut client = gate.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "good");
    }
}
