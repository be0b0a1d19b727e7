//! The promise: servers come and go while the gate runs. Whoever is added gets requests without a reload, whoever
//! is removed finishes what it has, and a source that fails takes nothing away.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/dns_server.rs"]
mod dns_server;
mod harness;

use dns_server::{DnsServer, Says};
use harness::{Backend, Gate, Load, Reply, Request, ServerAddress, check, eventually, own_loopback};
use hickory_resolver::proto::rr::RecordType;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Asked for again at once: what the TTL allows is not what these tests are about.
const QUICK: &str = "min_interval: 20ms, max_interval: 20ms, timeout: 2s";

/// Backends on one port, as the addresses of one name have to be.
fn backends<const N: usize>(labels: [&str; N]) -> ([Backend; N], u16) {
    let mut port = 0;
    let backends = labels.map(|label| {
        let backend = Backend::start_at(label, SocketAddr::from((own_loopback(), port)));
        port = backend.address().port();
        backend
    });
    (backends, port)
}

fn ip(backend: &Backend) -> IpAddr {
    backend.address().ip()
}

/// A gate in front of a group that is written as `group`.
fn gate(group: &str, dns: &DnsServer) -> Gate {
    Gate::start(&config(group), &[dns])
}

fn config(group: &str) -> String {
    format!(
        "server: {{ threads: 1 }}
log: {{ access: {{ to: off }} }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams: {{ group: {{ {group} }} }}
"
    )
}

fn by_name(name: &str, port: u16) -> String {
    format!("discover: {{ dns: {{ name: {name}, port: {port}, resolvers: [$dns], {QUICK} }} }}")
}

/// Who answers, in `count` requests: label and number of answers.
fn answers(gate: &Gate, count: usize) -> BTreeMap<String, usize> {
    let mut client = gate.connect();
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        *answers.entry(client.get("/").text()).or_default() += 1;
    }
    answers
}

fn who(gate: &Gate) -> BTreeSet<String> {
    answers(gate, 12).into_keys().collect()
}

fn set<const N: usize>(labels: [&str; N]) -> BTreeSet<String> {
    labels.map(str::to_owned).into()
}

/// How many lines of the process log contain all of this.
fn said(gate: &Gate, words: &[&str]) -> usize {
    gate.stderr().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[test]
fn answers_of_dns_change_under_load_and_no_request_fails() {
    let dns = DnsServer::start("dns");
    let ([a, b, c, d], port) = backends(["a", "b", "c", "d"]);
    dns.addresses("api.test", 1, &[ip(&a), ip(&b)]);
    let gate = gate(&by_name("api.test", port), &dns);
    let load = Load::start(gate.at("web"), &Request::get("/"), 4, 40_000);
    let sets = [vec![&b, &c], vec![&a, &d], vec![&c], vec![&a, &b, &c, &d], vec![&d], vec![&a], vec![&b, &c]];
    for now in &sets {
        let ips: Vec<IpAddr> = now.iter().map(|backend| ip(backend)).collect();
        dns.addresses("api.test", 1, &ips);
        [&a, &b, &c, &d].iter().for_each(|backend| backend.forget());
        eventually("the new servers to get requests", || {
            now.iter().all(|server| !server.requests().is_empty())
        });
        eventually("the others to get none", || {
            let others = || [&a, &b, &c, &d].into_iter().filter(|one| now.iter().all(|it| ip(it) != ip(one)));
            let before: usize = others().map(|other| other.requests().len()).sum();
            let answered = load.answered();
            load.wait_for(answered + 40);
            others().map(|other| other.requests().len()).sum::<usize>() == before
        });
    }
    let outcomes = load.finish();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(200)).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {failed:?}", failed.len(), outcomes.len());
    assert!(outcomes.len() >= 240, "{} requests", outcomes.len());
}

#[test]
fn the_first_request_finds_its_servers() {
    let dns = DnsServer::start("dns");
    let ([a, b], port) = backends(["a", "b"]);
    dns.addresses("api.test", 60, &[ip(&a), ip(&b)]);
    let gate =
        gate(&format!("discover: {{ dns: {{ name: api.test, port: {port}, resolvers: [$dns] }} }}"), &dns);
    assert_eq!(who(&gate), set(["a", "b"]));
    assert_eq!(said(&gate, &["weirgate::discovery", "dns api.test:", "has 2 servers"]), 1);
}

#[test]
fn a_ttl_is_honoured_within_its_bounds() {
    let dns = DnsServer::start("dns");
    let ([a], port) = backends(["a"]);
    for (name, ttl) in [("long.test", 3600), ("none.test", 0), ("bounded.test", 3600)] {
        dns.addresses(name, ttl, &[ip(&a)]);
    }
    let source = |name: &str, pace: &str| {
        format!("{{ dns: {{ name: {name}, port: {port}, type: a, resolvers: [$dns], {pace} }} }}")
    };
    let list = [
        source("long.test", "min_interval: 20ms, max_interval: 1h"),
        source("none.test", "min_interval: 20ms, max_interval: 1h"),
        source("bounded.test", "min_interval: 20ms, max_interval: 40ms"),
    ];
    let gate = gate(&format!("discover: [{}]", list.join(", ")), &dns);
    assert_eq!(who(&gate), set(["a"]));
    let asked = |name| dns.asked(name, RecordType::A);
    eventually("a TTL of 0 to mean min_interval", || asked("none.test") >= 10);
    eventually("a long TTL to mean max_interval", || asked("bounded.test") >= 10);
    assert_eq!(asked("long.test"), 1, "what holds for an hour is asked once");
    assert_eq!(dns.asked("long.test", RecordType::AAAA), 0, "nobody wanted to know");
}

#[test]
fn a_source_that_fails_keeps_its_servers_and_says_so_once() {
    let dns = DnsServer::start("dns");
    let ([a, b], port) = backends(["a", "b"]);
    dns.addresses("api.test", 1, &[ip(&a), ip(&b)]);
    let source = format!("name: api.test, port: {port}, resolvers: [$dns]");
    let gate = gate(
        &format!(
            "discover: {{ dns: {{ {source}, min_interval: 20ms, max_interval: 40ms, timeout: 60ms }} }}"
        ),
        &dns,
    );
    assert_eq!(who(&gate), set(["a", "b"]));
    let mut outages = 0;
    for (failure, words) in [
        (Says::ServFail, "SERVFAIL"),
        (Says::NxDomain, "NXDOMAIN"),
        (Says::Silence, "no answer from"),
        (Says::Records(1, Vec::new()), "no A records"),
    ] {
        dns.says("api.test", failure);
        let asked = dns.asked("api.test", RecordType::A);
        eventually("the source to be asked again", || dns.asked("api.test", RecordType::A) >= asked + 5);
        assert_eq!(who(&gate), set(["a", "b"]), "{words}");
        outages += 1;
        assert_eq!(
            said(&gate, &["dns api.test:", "fails, its last 2 servers stay"]),
            outages,
            "{words}: {}",
            gate.stderr()
        );
        assert_eq!(said(&gate, &["dns api.test:", "fails", words]), 1, "{words}: {}", gate.stderr());
        dns.addresses("api.test", 1, &[ip(&a), ip(&b)]);
        eventually("that it answers again", || said(&gate, &["dns api.test:", "answers again"]) == outages);
    }
}

#[test]
fn without_any_server_known_the_answer_is_503_until_there_is_one() {
    let dns = DnsServer::start("dns");
    let ([a], port) = backends(["a"]);
    let gate = gate(&by_name("api.test", port), &dns);
    let refused = gate.get("/");
    assert_eq!(refused.status, 503);
    let wait = refused.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(wait.is_some_and(|seconds| seconds >= 1), "Retry-After in seconds: {refused:?}");
    assert_eq!(said(&gate, &["no server is known from it", "NXDOMAIN"]), 1, "{}", gate.stderr());
    dns.addresses("api.test", 1, &[ip(&a)]);
    eventually("the server to be found", || gate.get("/").status == 200);
}

#[test]
fn ipv6_addresses_are_servers_too() {
    let dns = DnsServer::start("dns");
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        println!("SKIPPED: this machine has no IPv6 loopback");
        return;
    };
    drop(probe);
    let six = Backend::start_at("six", "[::1]:0".parse().unwrap());
    let four = Backend::start_at("four", SocketAddr::from((own_loopback(), six.address().port())));
    dns.addresses("api.test", 1, &[ip(&four), ip(&six)]);
    let source = format!("name: api.test, port: {}, resolvers: [$dns]", six.address().port());
    let both = gate(&format!("discover: {{ dns: {{ {source} }} }}"), &dns);
    assert_eq!(who(&both), set(["four", "six"]));
    let one = gate(&format!("discover: {{ dns: {{ {source}, type: aaaa }} }}"), &dns);
    assert_eq!(who(&one), set(["six"]));
}

#[test]
fn srv_records_bring_port_weight_and_priority() {
    let dns = DnsServer::start("dns");
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let backups = [Backend::start("backup")];
    for (name, backend) in [("a.test", &a), ("b.test", &b), ("c.test", &c), ("backup.test", &backups[0])] {
        dns.addresses(name, 60, &[ip(backend)]);
    }
    let port = |backend: &Backend| backend.address().port();
    let service = "_http._tcp.api.test";
    let first = [
        (10, 5, port(&a), "a.test"),
        (10, 1, port(&b), "b.test"),
        (20, 100, port(&backups[0]), "backup.test"),
    ];
    dns.srv(service, 1, &first);
    let health =
        "health_check: { tcp: {}, interval: 50ms, timeout: 500ms, healthy_after: 1, unhealthy_after: 1 }";
    let gate = gate(
        &format!("discover: {{ dns: {{ name: {service}, resolvers: [$dns], {QUICK} }} }}, {health}"),
        &dns,
    );
    let told = |pairs: &[(&str, usize)]| {
        pairs.iter().map(|(who, n)| ((*who).to_owned(), *n)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(answers(&gate, 60), told(&[("a", 50), ("b", 10)]));

    // a weight of 0 has a very small chance, RFC 2782
    dns.srv(service, 1, &[(10, 0, port(&a), "a.test"), (10, 1, port(&c), "c.test"), first[2]]);
    eventually("the new weights", || answers(&gate, 101) == told(&[("a", 1), ("c", 100)]));

    // the next priority when nobody of the first is left
    a.stop();
    c.stop();
    eventually("the backup to serve", || gate.get("/").text() == "backup");
}

#[test]
fn an_answer_that_is_too_long_for_a_packet_is_asked_for_again() {
    let dns = DnsServer::start("dns");
    let a = Backend::start("a");
    let targets: Vec<String> = (0..60).map(|n| format!("target-{n}.test")).collect();
    for target in &targets {
        dns.addresses(target, 60, &[ip(&a)]);
    }
    let port = a.address().port();
    // one server, and one that nobody needs at each of the other ports
    let ports = (0..60u16).map(|n| if n == 0 { port } else { 1 + n });
    let records: Vec<_> =
        targets.iter().zip(ports).map(|(target, port)| (0, 1, port, target.as_str())).collect();
    dns.srv("_http._tcp.api.test", 60, &records);
    let gate = gate("discover: { dns: { name: _http._tcp.api.test, resolvers: [$dns] } }", &dns);
    eventually("all servers", || said(&gate, &["dns _http._tcp.api.test has 60 servers"]) == 1);
}

#[test]
fn a_name_server_that_says_nothing_does_not_keep_the_gate_from_serving() {
    let dns = DnsServer::start("dns");
    let a = Backend::start("a");
    dns.says("api.test", Says::Silence);
    let patient = "discover: { dns: { name: api.test, port: 80, resolvers: [$dns], timeout: 60s } }";
    let gate = gate(&format!("servers: [\"{}\"], {patient}", a.address()), &dns);
    assert_eq!(gate.get("/").text(), "a");
}

#[test]
fn a_target_that_cannot_be_resolved_costs_the_others_nothing() {
    let dns = DnsServer::start("dns");
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    dns.addresses("a.test", 1, &[ip(&a)]);
    let service = "_http._tcp.api.test";
    let records = [(0, 1, a.address().port(), "a.test"), (0, 1, b.address().port(), "b.test")];
    dns.srv(service, 1, &records);
    let gate = gate(&format!("discover: {{ dns: {{ name: {service}, resolvers: [$dns], {QUICK} }} }}"), &dns);
    assert_eq!(who(&gate), set(["a"]));
    assert_eq!(said(&gate, &["target b.test. cannot be resolved", "NXDOMAIN"]), 1);
    dns.addresses("b.test", 1, &[ip(&b)]);
    eventually("the other target", || who(&gate) == set(["a", "b"]));
    // known once, it stays while it cannot be asked for
    dns.says("b.test", Says::ServFail);
    eventually("that it is missed", || said(&gate, &["target b.test. cannot be resolved", "SERVFAIL"]) == 1);
    assert_eq!(who(&gate), set(["a", "b"]));
}

#[test]
fn a_list_may_name_servers_by_host_name() {
    let dns = DnsServer::start("dns");
    let ([a, b, c], port) = backends(["a", "b", "c"]);
    dns.addresses("api.test", 1, &[ip(&a), ip(&b)]);
    let group = format!("servers: [{{ address: \"api.test:{port}\", weight: 2 }}, $c]");
    let config = format!("dns: {{ resolvers: [$dns], {QUICK} }}\n{}", config(&group));
    let gate = Gate::start(&config, &[&dns, &c]);
    let told = answers(&gate, 50);
    assert_eq!((told["a"], told["b"], told["c"]), (20, 20, 10), "{told:?}");
    dns.addresses("api.test", 1, &[ip(&b)]);
    eventually("one server to be gone", || who(&gate) == set(["b", "c"]));
}

#[test]
fn localhost_is_a_host_name() {
    let a = Backend::start_at("a", "127.0.0.1:0".parse().unwrap());
    let gate = Gate::start(&config(&format!("servers: [\"localhost:{}\"]", a.address().port())), &[]);
    // [::1] may be an address of it too, where nobody listens
    for _ in 0..4 {
        assert_eq!(gate.get("/").text(), "a");
    }
}

#[test]
fn a_server_that_is_removed_finishes_what_it_has() {
    let dns = DnsServer::start("dns");
    let ([a, b], port) = backends(["a", "b"]);
    dns.addresses("api.test", 1, &[ip(&a)]);
    let gate = gate(&by_name("api.test", port), &dns);
    a.answers(Reply::ok("slowly answered").dripping(Duration::from_millis(40)));
    let mut slow = gate.connect();
    slow.send(Request::get("/slow").bytes());
    eventually("the request to be with its server", || a.requests().len() == 1);
    dns.addresses("api.test", 1, &[ip(&b)]);
    eventually("the server to be gone", || gate.get("/").text() == "b");
    let response = slow.response();
    assert_eq!((response.status, response.text().as_str()), (200, "slowly answered"));
    assert_eq!(who(&gate), set(["b"]));
}

#[test]
fn a_watched_file_adds_removes_weighs_and_drains() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|backend| backend.address().to_string());
    let start = Gate::with(&[]).file("servers.yaml", format!("- {at_a}\n"));
    let gate = start.start(&config("discover: { file: { path: $dir/servers.yaml, interval: 20ms } }"));
    assert_eq!(who(&gate), set(["a"]));
    let file = gate.dir().join("servers.yaml");
    // in place, and as JSON
    std::fs::write(&file, format!("[\"{at_a}\", {{ \"address\": \"{at_b}\", \"weight\": 3 }}]")).unwrap();
    let told = |pairs: &[(&str, usize)]| {
        pairs.iter().map(|(who, n)| ((*who).to_owned(), *n)).collect::<BTreeMap<_, _>>()
    };
    eventually("two servers, one with three times the requests", || {
        answers(&gate, 40) == told(&[("a", 10), ("b", 30)])
    });
    // renamed over it
    let beside = gate.dir().join("servers.new");
    std::fs::write(&beside, format!("- {{ address: {at_b}, drain: true }}\n- {at_c}\n")).unwrap();
    std::fs::rename(&beside, &file).unwrap();
    eventually("only the third, as the second drains", || who(&gate) == set(["c"]));
    std::fs::write(&file, format!("- {at_b}\n- {at_c}\n")).unwrap();
    eventually("the second back", || who(&gate) == set(["b", "c"]));
    std::fs::write(&file, "[]").unwrap();
    eventually("no server at all", || gate.get("/").status == 503);
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_says_where_they_are() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let (at_a, at_b) = (a.address().to_string(), b.address().to_string());
    let start = Gate::with(&[]).file("servers.yaml", format!("- {at_a}\n"));
    let gate = start.start(&config("discover: { file: { path: $dir/servers.yaml, interval: 20ms } }"));
    assert_eq!(who(&gate), set(["a"]));
    let file = gate.dir().join("servers.yaml");
    for (mistake, place, words) in [
        (
            format!("- {at_a}\n- {{ address: {at_b}, wieght: 3 }}\n"),
            "servers.yaml:2:",
            "did you mean \"weight\"?",
        ),
        (format!("[\"{at_a}\", \"{}", &at_b[..5]), "servers.yaml:1:", "error["),
        (String::new(), "servers.yaml: ", "write []"),
    ] {
        std::fs::write(&file, mistake).unwrap();
        eventually("the mistake to be said", || {
            let log = gate.stderr();
            log.contains(place) && log.contains(words)
        });
        assert_eq!(who(&gate), set(["a"]));
    }
    std::fs::remove_file(&file).unwrap();
    eventually("that the file is missed", || {
        said(&gate, &["fails, its last server stays: it does not exist"]) == 1
    });
    assert_eq!(who(&gate), set(["a"]));
    assert_eq!(said(&gate, &["fails, its last server stays"]), 4, "each mistake once: {}", gate.stderr());
    std::fs::write(&file, format!("- {at_b}\n")).unwrap();
    eventually("the file to be believed again", || who(&gate) == set(["b"]));
    assert_eq!(said(&gate, &["answers again"]), 1);
}

#[test]
fn the_first_source_that_names_a_server_decides_about_it() {
    let dns = DnsServer::start("dns");
    let ([a, b], port) = backends(["a", "b"]);
    dns.addresses("api.test", 1, &[ip(&a), ip(&b)]);
    let list =
        format!("servers: [{{ address: \"{}\", weight: 4 }}], {}", a.address(), by_name("api.test", port));
    let gate = gate(&list, &dns);
    eventually("the other server", || who(&gate) == set(["a", "b"]));
    let told = answers(&gate, 50);
    assert_eq!((told["a"], told["b"]), (40, 10), "{told:?}");
    dns.addresses("api.test", 1, &[ip(&b)]);
    eventually("the source to be asked again", || said(&gate, &["dns api.test:", "has 1 server"]) == 1);
    assert_eq!(who(&gate), set(["a", "b"]), "the list still names it");
}

#[test]
fn servers_that_were_discovered_are_checked_for_health() {
    let dns = DnsServer::start("dns");
    let ([a, b], port) = backends(["a", "b"]);
    dns.addresses("api.test", 1, &[ip(&a)]);
    let health = "health_check: { http: { path: /healthz }, interval: 40ms, timeout: 1s, healthy_after: 1, unhealthy_after: 1 }";
    let gate = gate(&format!("{}, {health}", by_name("api.test", port)), &dns);
    dns.addresses("api.test", 1, &[ip(&a), ip(&b)]);
    eventually("both servers", || who(&gate) == set(["a", "b"]));
    b.health(Reply::status(500));
    eventually("the sick one to be passed over", || who(&gate) == set(["a"]));
    b.health(Reply::ok("healthy"));
    eventually("the healthy one to be back", || who(&gate) == set(["a", "b"]));
}

#[test]
fn check_asks_no_name_server() {
    let dns = DnsServer::start("dns");
    let text = config(
        "discover: { dns: { name: api.test, port: 80, resolvers: [$dns] } }, servers: [\"b.test:80\"]",
    );
    let text = format!("dns: {{ resolvers: [$dns] }}\n{text}").replace("$dns", &dns.address().to_string());
    let checked = check(&text);
    assert_eq!(checked.code, Some(0), "{}", checked.text());
    assert_eq!(dns.asked("api.test", RecordType::A) + dns.asked("b.test", RecordType::A), 0);
}
