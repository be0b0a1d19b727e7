//! A new process takes the place of the old one, and no connection is lost.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Backend, Client, Gate, Load, Program, Reply, Request, Response, ServerAddress, eventually, free_address,
    own_loopback, weirgate,
};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

fn config(body: &str) -> String {
    format!(
        "server: {{ threads: 2, upgrade_sock: $dir/control.sock, pid_file: $dir/pid, grace_period_seconds: 10 }}
listeners: [{{ name: web, address: $web }}, {{ name: second, address: $second }}]
routes:
  - {{ exact: /who, respond: {{ status: 200, body: {body} }} }}
  - {{ path: /, upstream: api }}
upstreams:
  api: {{ servers: [$api, $sick], health_check: {{ http: {{ path: /healthz }}, interval: 3600s, unhealthy_after: 1 }} }}
"
    )
}

fn pid_in_file(gate: &Gate) -> Option<u32> {
    std::fs::read_to_string(gate.dir().join("pid")).ok()?.trim().parse().ok()
}

#[test]
fn upgrades_under_load_lose_nothing() {
    let (api, sick) = (Backend::start("api"), Backend::start("sick"));
    let mut gate = Gate::start(&config("old"), &[&api, &sick]);
    let load = Load::start(gate.at("web"), &Request::get("/x"), 4, 100_000);
    load.wait_for(50);
    let mut ids = vec![gate.id()];
    for turn in 0..3 {
        gate.rewrite(&config(&format!("new{turn}")));
        ids.push(gate.upgrade());
        // who came a moment before is still with the old one
        let new = format!("new{turn}");
        eventually("the new process answers", || gate.get("/who").text() == new);
        let second = gate.at("second");
        eventually("on every listener", || Client::connect(second).get("/who").text() == new);
        assert_eq!(pid_in_file(&gate), ids.last().copied());
        load.wait_for(load.answered() + 100);
    }
    assert!(gate.exit().success(), "the first one ends when its connections have");
    ids.dedup();
    assert_eq!(ids.len(), 4, "each is another process");
    let outcomes = load.finish();
    let lost: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(200)).take(5).collect();
    assert!(lost.is_empty(), "of {}: {lost:?}", outcomes.len());
    let status = gate.command(&["status"]);
    assert!(status.stdout.contains(&format!("process   {}", ids[3])), "{}", status.stdout);
}

#[test]
fn a_request_in_flight_is_finished_by_the_process_it_came_to() {
    let (api, sick) = (Backend::start("api"), Backend::start("sick"));
    for backend in [&api, &sick] {
        backend.answers(Reply::ok("late").after(Duration::from_millis(1500)));
    }
    let gate = Gate::start(&config("old"), &[&api, &sick]);
    let mut client = gate.connect();
    client.send(Request::get("/slow").bytes());
    eventually("it is with a server", || api.requests().len() + sick.requests().len() == 1);
    gate.upgrade();
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "late"));
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert!(gate.exit().success());
}

#[test]
fn what_is_known_of_servers_goes_with_it() {
    let (api, sick) = (Backend::start("api"), Backend::start("sick"));
    sick.health(Reply::status(500));
    let gate = Gate::start(&config("old"), &[&api, &sick]);
    // the first check comes within a second, the next one in an hour
    eventually("it is found sick", || gate.stderr().contains("is down: status 500"));
    gate.upgrade();
    sick.forget();
    for _ in 0..10 {
        assert_eq!(gate.get("/x").text(), "api");
    }
    assert!(sick.requests().is_empty());
    assert_eq!(gate.stderr().matches("is down: status 500").count(), 1, "it was not found out again");
}

/// Two servers, of which the first has the weight 2, and an admin address.
fn by_hand(second: &str) -> String {
    format!(
        "server: {{ threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 5 }}
admin: {{ address: $admin }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ name: all, path: /, upstream: api }}]
upstreams:
  api: {{ servers: [{{ address: $a, weight: 2 }}, {second}, $c], outlier: {{ ejection: 300s }} }}
"
    )
}

const B: &str = "{ address: $b }";

fn change_of(gate: &Gate, server: &Backend, call: &str, body: &str) -> Request {
    let path = format!("/v1/upstreams/api/servers/{}/{call}", server.address());
    let request = Request::post(&path, body).host(&gate.at("admin").to_string());
    request.header("Content-Type", "application/json")
}

fn change(gate: &Gate, server: &Backend, call: &str, body: &str) -> Response {
    Client::connect(gate.at("admin")).ask(&change_of(gate, server, call, body))
}

/// The state, the reasons and the weight of a server.
fn standing(gate: &Gate, server: &Backend) -> (String, Vec<String>, u64) {
    let request = Request::get("/v1/upstreams/api").host(&gate.at("admin").to_string());
    let upstream = Client::connect(gate.at("admin")).ask(&request).json();
    let servers = upstream["servers"].as_array().unwrap();
    let server = servers.iter().find(|one| one["address"] == server.address().to_string()).unwrap();
    let why = server["why"].as_array().unwrap().iter();
    let why = why.map(|why| format!("{} since {}", why["reason"], why["since"])).collect();
    (server["state"].as_str().unwrap().to_owned(), why, server["weight"].as_u64().unwrap())
}

#[test]
fn what_was_done_to_a_server_by_hand_holds_in_the_next_process() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let mut gate = Gate::start(&by_hand(B), &[&a, &b, &c]);
    assert_eq!(change(&gate, &a, "weight", "{\"weight\": 7}").status, 200);
    assert_eq!(change(&gate, &b, "drain", "{}").status, 200);
    assert_eq!(change(&gate, &c, "eject", "{}").status, 200);
    let before = [&a, &b, &c].map(|server| standing(&gate, server));
    assert_eq!(before.clone().map(|(state, _, _)| state), ["up", "draining", "ejected"]);
    // a reload that says other things of their group
    let other = by_hand(B).replace("300s", "200s");
    assert_eq!(gate.reload(&other).code, Some(0));
    assert_eq!([&a, &b, &c].map(|server| standing(&gate, server)), before);
    let load = Load::start(gate.at("web"), &Request::get("/x"), 2, 100_000);
    for _ in 0..2 {
        let id = gate.upgrade();
        eventually("the new process answers", || gate.command(&["status"]).stdout.contains(&id.to_string()));
        assert_eq!([&a, &b, &c].map(|server| standing(&gate, server)), before);
        load.wait_for(load.answered() + 50);
        assert!(b.requests().is_empty(), "a server that was drained gets requests");
        assert!(c.requests().is_empty(), "a server that was ejected gets requests");
    }
    assert!(load.finish().iter().all(|answer| *answer == Ok(200)));
    assert_eq!(change(&gate, &b, "undrain", "{}").json()["state"], "up");
    eventually("it gets requests again", || gate.get("/x").text() == "b");
    // what is written of a server later on counts
    assert_eq!(gate.reload(&by_hand(B).replace("weight: 2", "weight: 3")).code, Some(0));
    assert_eq!(standing(&gate, &a).2, 3);
}

#[test]
fn what_is_done_while_the_next_process_starts_is_not_lost() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let gate = Gate::start(&by_hand(B), &[&a, &b, &c]);
    let (mut weight, mut refused, mut taken) = (2, 0, 2);
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| gate.upgrade());
        while !upgrade.is_finished() {
            weight += 1;
            let asked = change_of(&gate, &a, "weight", &format!("{{\"weight\": {weight}}}"));
            let mut client = Client::connect(gate.at("admin"));
            let answer = client.try_send(asked.bytes()).and_then(|()| client.try_response_to("POST"));
            match answer.as_ref().map(|answer| answer.status) {
                Ok(200) => taken = weight,
                Ok(409) => refused += 1,
                // the old process has closed it before it was read: by then it changes nothing any more
                Err(_) => {}
                Ok(_) => panic!("{answer:?}"),
            }
        }
        upgrade.join().unwrap();
    });
    assert!(refused > 0, "it is told that it is not done");
    assert_eq!(standing(&gate, &a).2, taken);
}

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_running() {
    let (api, sick) = (Backend::start("api"), Backend::start("sick"));
    let mut gate = Gate::start(&config("old"), &[&api, &sick]);
    let good = config("old");
    gate.rewrite(&good.replace("exact: /who", "exakt: /who"));
    let failed = gate.command(&["upgrade"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("did you mean \"exact\"?"), "{}", failed.stderr);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("address: {}", taken.local_addr().unwrap());
    gate.rewrite(&good.replace("address: $second", &busy));
    let failed = gate.command(&["upgrade"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("in use"), "{}", failed.stderr);
    for _ in 0..10 {
        assert_eq!(gate.get("/who").text(), "old");
    }
    assert_eq!(pid_in_file(&gate), Some(gate.id()));
    // and the next one can
    gate.rewrite(&config("new"));
    gate.upgrade();
    eventually("the new process answers", || gate.get("/who").text() == "new");
}

/// A new process, as the old one starts it, and the old one's end of the line to it.
fn successor(gate: &Gate) -> (Program, OwnedFd) {
    let (ours, theirs) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    let mut command = weirgate(&["run", "-c"]);
    command.arg(gate.dir().join("successor.yaml")).stdin(Stdio::from(theirs));
    command.env("WEIRGATE_TAKES_OVER_FROM", std::process::id().to_string());
    let log = std::fs::File::create(gate.dir().join("successor.log")).unwrap();
    (Program::start(command.stdout(Stdio::null()).stderr(log)), ours)
}

#[test]
fn a_new_process_that_nobody_waits_for_ends() {
    let (api, sick) = (Backend::start("api"), Backend::start("sick"));
    let gate = Gate::start(&config("old"), &[&api, &sick]);
    // on other addresses, so that it can start, and beside the same files
    let text = std::fs::read_to_string(gate.dir().join("weirgate.yaml")).unwrap();
    let [web, second] = ["web", "second"].map(|name| gate.at(name).to_string());
    let free = || free_address(own_loopback()).to_string();
    let moved = text.replace(&web, &free()).replace(&second, &free());
    std::fs::write(gate.dir().join("successor.yaml"), moved).unwrap();
    let (mut new, line) = successor(&gate);
    let line = UnixDatagram::from(line);
    line.send(b"\"end\"").unwrap();
    drop(line);
    eventually("it ends", || new.has_ended());
    let log = std::fs::read_to_string(gate.dir().join("successor.log")).unwrap();
    assert!(log.contains("the process before this one goes on"), "{log}");
    assert_eq!(gate.get("/who").text(), "old");
    assert_eq!(pid_in_file(&gate), Some(gate.id()), "the files are still those of the old one");
    assert_eq!(gate.command(&["status"]).code, Some(0));
}
