//! The promise: backups wait until they are needed, the own zone comes first, a server that is cold is spared,
//! and one that is taken out finishes what it has. In all of that no request fails.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Gate, Load, RefusedAddress, Reply, Request, ServerAddress, eventually};
use std::collections::BTreeMap;
use std::time::Duration;

/// Checks that find out soon.
const CHECK: &str =
    "health_check: { http: { path: /healthz }, interval: 50ms, healthy_after: 1, unhealthy_after: 1 }";
const STICKY: &str = "sticky: { cookie: { name: weirgate, secret: \"an example of 32 bytes, no secret\" } }";

/// A gate before a group with these servers, one worker, so that requests in turn have one sequence.
fn gate(process: &str, servers: &str, settings: &[&str], backends: &[&dyn ServerAddress]) -> Gate {
    Gate::start(&config(process, &format!("servers: [{servers}]"), settings), backends)
}

fn config(process: &str, servers: &str, settings: &[&str]) -> String {
    format!(
        "server: {{ threads: 1 {process} }}
log: {{ access: {{ to: off }} }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    {servers}
    {}
",
        settings.join("\n    ")
    )
}

/// Who answers so many requests, one after the other: label and number of answers.
#[track_caller]
fn answers(gate: &Gate, requests: usize) -> BTreeMap<String, usize> {
    let mut client = gate.connect();
    let mut answers = BTreeMap::new();
    for _ in 0..requests {
        let response = client.get("/");
        assert_eq!(response.status, 200);
        *answers.entry(response.text()).or_default() += 1;
    }
    answers
}

fn told(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect()
}

/// Within five standard deviations of a binomial distribution: one run in a million fails.
#[track_caller]
fn assert_share(count: usize, requests: usize, share: f64) {
    let (expected, deviation) = (requests as f64 * share, (requests as f64 * share * (1.0 - share)).sqrt());
    assert!((count as f64 - expected).abs() <= 5.0 * deviation, "{count} of {requests}, not {expected:.0}");
}

/// What the process log says of this server, in order, without time and target.
fn said(gate: &Gate, server: &Backend) -> Vec<String> {
    let about = format!("server {} ", server.address());
    let said = |line: &str| Some(line.split_once(&about)?.1.to_owned());
    gate.stderr().lines().filter_map(said).collect()
}

#[track_caller]
fn wait_until_said(gate: &Gate, server: &Backend, words: &str, times: usize) {
    eventually(&format!("{words:?} of {}", server.label()), || {
        said(gate, server).iter().filter(|line| line.contains(words)).count() >= times
    });
}

/// Stops it, and waits until the checks have seen that.
#[track_caller]
fn take_down(gate: &Gate, servers: &[&Backend]) {
    servers.iter().for_each(|server| server.stop());
    servers.iter().for_each(|server| wait_until_said(gate, server, "is down", 1));
}

#[track_caller]
fn bring_back(gate: &Gate, servers: &[&Backend]) {
    servers.iter().for_each(|server| server.restart());
    servers.iter().for_each(|server| wait_until_said(gate, server, "is up again", 1));
}

#[track_caller]
fn assert_none_failed(load: Load) {
    let outcomes = load.finish();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(200)).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {failed:?}", failed.len(), outcomes.len());
}

/// Waits until so many requests more have been answered.
#[track_caller]
fn let_pass(load: &Load, requests: usize) {
    load.wait_for(load.answered() + requests);
}

#[test]
fn a_backup_takes_over_when_the_last_of_its_tier_is_down_and_gives_back() {
    let [a, b, spare] = ["a", "b", "spare"].map(Backend::start);
    let servers = "$a, $b, { address: $spare, priority: 1 }";
    let gate = gate("", servers, &[CHECK, "retry: { attempts: 4 }"], &[&a, &b, &spare]);
    let load = Load::start(gate.at("web"), &Request::get("/"), 4, 40_000);
    let_pass(&load, 50);
    take_down(&gate, &[&a]);
    let_pass(&load, 50);
    assert!(spare.requests().is_empty(), "one of two is up");
    take_down(&gate, &[&b]);
    let_pass(&load, 50);
    assert!(!spare.requests().is_empty());
    bring_back(&gate, &[&a]);
    eventually("the first tier to have everything again", || {
        spare.forget();
        let_pass(&load, 50);
        spare.requests().is_empty() && !a.requests().is_empty()
    });
    assert_none_failed(load);
}

#[test]
fn a_request_that_no_server_of_a_tier_takes_goes_on_to_the_next() {
    let (first, second, spare) =
        (RefusedAddress::new("a"), RefusedAddress::new("b"), Backend::start("spare"));
    let servers = "{ address: $spare, priority: 7 }, $a, $b";
    let gate = gate("", servers, &["retry: { attempts: 3 }"], &[&first, &second, &spare]);
    // nobody watches: every request finds out for itself
    assert_eq!(answers(&gate, 20), told(&[("spare", 20)]));
}

#[test]
fn a_tier_that_is_short_spills_in_proportion() {
    let primaries = ["a", "b", "c", "d"].map(Backend::start);
    let spare = Backend::start("spare");
    let [a, b, c, d] = &primaries;
    let servers = "$a, $b, $c, $d, { address: $spare, priority: 1 }";
    let gate = gate("", servers, &[CHECK, "spill_over: { tier: 50% }"], &[a, b, c, d, &spare]);
    take_down(&gate, &[a, b]);
    eventually("two to share", || answers(&gate, 20) == told(&[("c", 10), ("d", 10)]));
    take_down(&gate, &[c]);
    eventually("the spare to be used", || answers(&gate, 20).contains_key("spare"));
    let answers = answers(&gate, 1_000);
    // a quarter of the tier is half of what it needs to keep everything
    assert_share(answers["spare"], 1_000, 0.5);
    assert_eq!(answers.len(), 2, "{answers:?}");
}

#[test]
fn the_own_zone_comes_first_and_shares_when_it_is_short() {
    let [a, b, far, spare] = ["a", "b", "far", "spare"].map(Backend::start);
    let servers = "{ address: $far, zone: there }, { address: $a, zone: here }, { address: $b, zone: here },
      { address: $spare, zone: here, priority: 1 }";
    let gate = gate(", zone: here", servers, &[CHECK], &[&a, &b, &far, &spare]);
    assert_eq!(answers(&gate, 20), told(&[("a", 10), ("b", 10)]));
    take_down(&gate, &[&b]);
    eventually("the other zone to be used", || answers(&gate, 20).contains_key("far"));
    // half is five sevenths of the 70% that would keep everything
    let shared = answers(&gate, 1_000);
    assert_share(shared["a"], 1_000, 5.0 / 7.0);
    assert_eq!(shared["far"], 1_000 - shared["a"]);
    take_down(&gate, &[&a]);
    // the backup is near, and has to wait all the same
    eventually("only the other zone", || answers(&gate, 20) == told(&[("far", 20)]));
}

#[test]
fn keys_move_to_the_next_tier_together_and_come_back() {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Backend::start);
    let servers = "$a, $b, { address: $c, priority: 1 }, { address: $d, priority: 1 }";
    let balance = "balance: { consistent_hash: { key: { header: x-user } } }";
    let gate = gate("", servers, &[CHECK, balance], &[&a, &b, &c, &d]);
    let of_users = || -> Vec<String> {
        let mut client = gate.connect();
        let mut ask = |user: u32| client.ask(&Request::get("/").header("X-User", &format!("user {user}")));
        (0..40).map(|user| ask(user).text()).collect()
    };
    let (first, next) = (["a", "b"], ["c", "d"]);
    let before = of_users();
    assert!(first.iter().all(|label| before.iter().any(|it| it == label)), "{before:?}");
    assert!(before.iter().all(|label| first.contains(&label.as_str())), "{before:?}");
    take_down(&gate, &[&a, &b]);
    let meanwhile = of_users();
    assert!(meanwhile.iter().all(|label| next.contains(&label.as_str())), "{meanwhile:?}");
    assert_eq!(meanwhile, of_users());
    bring_back(&gate, &[&a, &b]);
    eventually("the keys where they were", || of_users() == before);
}

/// The cookie that a first visit gets, and who answered it.
#[track_caller]
fn visit(gate: &Gate) -> (String, Request) {
    let response = gate.get("/");
    assert_eq!(response.status, 200);
    let cookie = response.header("set-cookie").expect("a cookie");
    let pair = cookie.split(';').next().unwrap_or_default();
    (response.text(), Request::get("/").header("Cookie", pair))
}

#[test]
fn who_began_with_a_backup_stays_there() {
    let (a, spare) = (Backend::start("a"), Backend::start("spare"));
    let servers = "$a, { address: $spare, priority: 1 }";
    let gate = gate("", servers, &[CHECK, STICKY], &[&a, &spare]);
    take_down(&gate, &[&a]);
    let (server, again) = visit(&gate);
    assert_eq!(server, "spare");
    bring_back(&gate, &[&a]);
    eventually("new clients with the first tier", || visit(&gate).0 == "a");
    assert_eq!(gate.ask(&again).text(), "spare");
}

/// Longer than any test runs: a server that is warming up is cold all the time.
const COLD: &str = "slow_start: 30m";

#[test]
fn a_server_that_comes_back_under_load_is_spared() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start);
    let gate = gate("", "$a, $b, $c", &[CHECK, COLD], &[&a, &b, &c]);
    let even = told(&[("a", 10), ("b", 10), ("c", 10)]);
    assert_eq!(answers(&gate, 30), even, "nobody is cold when the gate starts");
    let load = Load::start(gate.at("web"), &Request::get("/"), 3, 40_000);
    take_down(&gate, &[&a]);
    let_pass(&load, 30);
    bring_back(&gate, &[&a]);
    [&a, &b, &c].iter().for_each(|backend| backend.forget());
    let_pass(&load, 900);
    let [of_a, of_b, of_c] = [&a, &b, &c].map(|backend| backend.requests().len());
    assert!(of_a < 60, "{of_a} where a third would be 300");
    let ratio = of_b as f64 / of_c as f64;
    assert!((0.8..1.25).contains(&ratio), "{of_b} and {of_c}: the others share what it leaves evenly");
    assert_none_failed(load);
}

#[test]
fn a_server_that_has_warmed_up_has_its_whole_share() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start);
    let gate = gate("", "$a, $b, $c", &[CHECK, "slow_start: 300ms"], &[&a, &b, &c]);
    take_down(&gate, &[&a]);
    assert_eq!(answers(&gate, 20), told(&[("b", 10), ("c", 10)]));
    bring_back(&gate, &[&a]);
    eventually("even shares", || answers(&gate, 30) == told(&[("a", 10), ("b", 10), ("c", 10)]));
}

#[test]
fn servers_that_all_come_back_cold_share_evenly() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start);
    for balance in ["round_robin", "random", "least_connections", "{ hash: { key: { header: x-none } } }"] {
        let settings = [CHECK, COLD, &format!("balance: {balance}")];
        let gate = gate("", "$a, $b, $c", &settings, &[&a, &b, &c]);
        take_down(&gate, &[&a, &b, &c]);
        assert_eq!(gate.get("/").status, 503);
        bring_back(&gate, &[&a, &b, &c]);
        let answers = answers(&gate, 600);
        ["a", "b", "c"].iter().for_each(|label| assert_share(answers[*label], 600, 1.0 / 3.0));
    }
}

/// A gate whose servers are those of `servers.yaml`.
fn of_file(first: &str, settings: &[&str], backends: &[&Backend]) -> Gate {
    let named: Vec<_> = backends.iter().map(|&backend| backend as &dyn ServerAddress).collect();
    let source = "discover: { file: { path: $dir/servers.yaml, interval: 20ms } }";
    Gate::with(&named).file("servers.yaml", first).start(&config("", source, settings))
}

fn write(gate: &Gate, servers: &str) {
    // renamed over it, so that it is never half written
    let (file, beside) = (gate.dir().join("servers.yaml"), gate.dir().join("servers.new"));
    std::fs::write(&beside, servers).unwrap();
    std::fs::rename(&beside, &file).unwrap();
}

#[test]
fn a_server_that_is_new_is_spared() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start);
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|backend| backend.address());
    let gate = of_file(&format!("[\"{at_a}\", \"{at_b}\"]"), &[COLD], &[]);
    assert_eq!(answers(&gate, 20), told(&[("a", 10), ("b", 10)]));
    write(&gate, &format!("[\"{at_a}\", \"{at_b}\", \"{at_c}\"]"));
    wait_until_said(&gate, &c, "is new", 1);
    let answers = answers(&gate, 600);
    assert!(answers.get("c").is_none_or(|count| *count < 40), "{answers:?}, where a third would be 200");
    assert_share(answers["a"], answers["a"] + answers["b"], 0.5);
}

#[test]
fn what_becomes_of_a_server_is_said_once_each() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let (at_a, at_b) = (a.address(), b.address());
    let gate = of_file(&format!("[\"{at_a}\"]"), &[], &[]);
    assert_eq!(gate.get("/").text(), "a");
    let mut expected = Vec::new();
    for (servers, line) in [
        (format!("[\"{at_a}\", \"{at_b}\"]"), "is new"),
        (format!("[\"{at_a}\", {{ address: \"{at_b}\", weight: 3 }}]"), "has weight 3 now"),
        (format!("[\"{at_a}\", {{ address: \"{at_b}\", weight: 3, drain: true }}]"), "is draining"),
        (format!("[\"{at_a}\", {{ address: \"{at_b}\", weight: 3 }}]"), "is no longer draining"),
    ] {
        write(&gate, &servers);
        expected.push(line);
        eventually(line, || said(&gate, &b).len() >= expected.len());
        assert_eq!(said(&gate, &b), expected);
    }
    // a request is with it when it is removed
    b.answers(Reply::ok("late, and in full").dripping(Duration::from_millis(50)));
    let mut slow = gate.connect();
    eventually("a request to be with b", || {
        [&a, &b].iter().for_each(|backend| backend.forget());
        slow = gate.connect();
        slow.send(Request::get("/").bytes());
        eventually("it to arrive", || !a.requests().is_empty() || !b.requests().is_empty());
        !b.requests().is_empty()
    });
    write(&gate, &format!("[\"{at_a}\"]"));
    wait_until_said(&gate, &b, "is draining: it is no longer named", 1);
    assert_eq!(answers(&gate, 10), told(&[("a", 10)]));
    let response = slow.response();
    assert_eq!((response.status, response.text().as_str()), (200, "late, and in full"));
    wait_until_said(&gate, &b, "is drained and gone", 1);
    expected.extend(["is draining: it is no longer named", "is drained and gone"]);
    assert_eq!(said(&gate, &b), expected);
    assert!(said(&gate, &a).is_empty(), "{:?}", said(&gate, &a));
}

#[test]
fn clients_stay_with_a_server_that_is_no_longer_named() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let (at_a, at_b) = (a.address(), b.address());
    let gate = of_file(&format!("[\"{at_a}\"]"), &[STICKY], &[]);
    let (_, again) = visit(&gate);
    write(&gate, &format!("[\"{at_b}\"]"));
    eventually("new clients elsewhere", || visit(&gate).0 == "b");
    for _ in 0..5 {
        assert_eq!(gate.ask(&again).text(), "a");
        assert_eq!(visit(&gate).0, "b");
    }
    // named again, it is one of two as before
    write(&gate, &format!("[\"{at_a}\", \"{at_b}\"]"));
    wait_until_said(&gate, &a, "is no longer draining", 1);
    assert_eq!(gate.ask(&again).text(), "a");
    eventually("new clients, too", || visit(&gate).0 == "a");
}

#[test]
fn a_server_that_is_told_to_drain_gets_nothing() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let gate = gate("", "{ address: $a, drain: true }, $b", &[CHECK], &[&a, &b]);
    assert_eq!(answers(&gate, 10), told(&[("b", 10)]));
    assert_eq!(said(&gate, &a), ["is draining"]);
    eventually("checks of both", || !a.probes().is_empty() && !b.probes().is_empty());
}

#[test]
fn all_servers_are_replaced_again_and_again_and_no_request_fails() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let lists = [&b, &a].map(|backend| format!("[\"{}\"]", backend.address()));
    let gate = of_file(&lists[1], &[], &[]);
    let load = Load::start(gate.at("web"), &Request::get("/"), 4, 100_000);
    for round in 0..10 {
        let now = [&b, &a][round % 2];
        now.forget();
        write(&gate, &lists[round % 2]);
        eventually("the other server", || !now.requests().is_empty());
    }
    assert_none_failed(load);
}
