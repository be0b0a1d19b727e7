//! The promise: requests are shared among the servers of a group by weight, evenly spread, over kept
//! connections.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Client, Gate, Load, Request};

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
